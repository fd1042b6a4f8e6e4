/** Expressions with a number as result. The result is in R0; R1 to R5 are overwritten. */
import { R0, R1, R2, R3, R4, type Reg } from '../../bpf/builder.ts';
import * as isa from '../../bpf/isa.ts';
import { HANDLE_TAG_HI16, PT_REGS, type PtReg } from '../../kernel/trace/pt-regs.ts';
import type * as ast from '../ast.ts';
import { literalText } from '../passes/infer-call.ts';
import { intTypeNamed, intTypeOf } from '../types.ts';
import { COMPARISONS, emitConditionScoped, emitTruth } from './condition.ts';
import { CTX, fitsImm, type Gen, type Held } from './gen.ts';
import { emitDelete, emitHasKey, emitIncDecMap, emitMapInt } from './maps.ts';
import { placeOf } from './memory.ts';
import { emitStoredInt } from './stored.ts';
import { emitContains, emitStringsEqual, emitStrlen } from './strings.ts';
import { emitHandle, emitRoot, emitValue, fromContext, isArgsMember, valueLoader } from './values.ts';

/** How to load a number without a call and without touching another register. */
export function loader(gen: Gen, expr: ast.Expr): ((into: Reg) => void) | undefined {
  switch (expr.kind) {
    case 'int':
      return (into) => gen.imm(into, expr.value);
    case 'ident':
      if (expr.name === 'func') return fromContext(gen, PT_REGS.ip);
      break;
    case 'var': {
      const info = gen.module.semantics.vars.get(expr)!;
      if (['string', 'stored', 'buf', 'tuple', 'strftime'].includes(info.type.kind)) return undefined;
      break;
    }
    case 'cast':
      if (intTypeNamed(expr.type)?.size === 8 && gen.type(expr.operand).kind !== 'agg')
        return loader(gen, expr.operand);
      return undefined;
    case 'call':
      if (expr.name === 'reg') {
        const [name] = expr.args;
        return name?.kind === 'string' ? fromContext(gen, PT_REGS[name.value as PtReg]) : undefined;
      }
      return undefined;
  }
  // A live value may be no number: emitInt() looks.
  return gen.type(expr)?.kind === 'value' ? undefined : valueLoader(gen, expr);
}

/** R0 = the number that a live value is; 0 where its register holds a handle, for strings and objects are none. */
function emitNumber(gen: Gen, expr: ast.Expr): void {
  const { b } = gen;
  const number = gen.label('number');
  emitHandle(gen, expr);
  b.mov(R1, R0).rsh(R1, 48).jcond('!=', R1, HANDLE_TAG_HI16, number).mov(R0, 0).label(number);
}

/** R0 = the number. */
export function emitInt(gen: Gen, expr: ast.Expr): void {
  if (gen.type(expr)?.kind === 'value') {
    emitNumber(gen, expr);
    return;
  }
  const load = loader(gen, expr);
  if (load !== undefined) {
    load(R0);
    return;
  }
  switch (expr.kind) {
    case 'ident':
      emitIdentifier(gen, expr);
      return;
    case 'var': {
      const place = gen.vars.get(gen.module.semantics.vars.get(expr)!)!;
      emitStoredInt(gen, place);
      return;
    }
    case 'map':
      emitMapInt(gen, expr);
      return;
    case 'call':
      emitCall(gen, expr);
      return;
    case 'unary':
      emitUnary(gen, expr);
      return;
    case 'incdec':
      emitIncDec(gen, expr);
      return;
    case 'binary':
      emitBinary(gen, expr);
      return;
    case 'ternary':
      emitTernary(gen, expr);
      return;
    case 'cast':
      emitCast(gen, expr);
      return;
    case 'sizeof':
      gen.b.mov(R0, gen.sizeOf(gen.type(expr.operand as ast.Expr)));
      return;
    case 'member':
    case 'index':
      if (!isArgsMember(expr) && gen.type(expr.object).kind === 'tuple') {
        emitField(gen, expr);
        return;
      }
      emitHandle(gen, expr);
      return;
    default:
      throw new Error(`no number: ${expr.kind}`);
  }
}

/** A number in a register of choice, by a short way where there is one. */
export function emitIntTo(gen: Gen, expr: ast.Expr, into: Reg): void {
  const load = loader(gen, expr);
  if (load !== undefined) {
    load(into);
    return;
  }
  emitInt(gen, expr);
  if (into !== R0) gen.b.mov(into, R0);
}

/** Computes a number now, to be loaded later: nothing happens yet where loading is free of side effects anyway. */
export function prepare(gen: Gen, expr: ast.Expr): Pick<Held, 'load' | 'free'> {
  const load = loader(gen, expr);
  if (load !== undefined) return { load, free: () => undefined };
  emitInt(gen, expr);
  return gen.hold();
}

function emitField(gen: Gen, expr: ast.Member | ast.Index): void {
  placeOf(gen, expr, (place) => {
    if (gen.type(expr).kind === 'stored') emitStoredInt(gen, place);
    else gen.b.ldx(8, R0, place.reg, place.off);
  });
}

function emitIdentifier(gen: Gen, expr: ast.Identifier): void {
  const { b } = gen;
  switch (expr.name) {
    case 'nsecs':
      b.call(isa.BPF_FUNC_ktime_get_ns);
      return;
    case 'elapsed':
      b.call(isa.BPF_FUNC_ktime_get_ns);
      b.ldMapValue(R1, gen.module.start(), 0);
      b.ldx(8, R1, R1, 0).sub(R0, R1);
      return;
    case 'pid':
      b.call(isa.BPF_FUNC_get_current_pid_tgid).rsh(R0, 32);
      break;
    case 'tid':
      b.call(isa.BPF_FUNC_get_current_pid_tgid).mov32(R0, R0);
      break;
    case 'uid':
      b.call(isa.BPF_FUNC_get_current_uid_gid).mov32(R0, R0);
      break;
    case 'gid':
      b.call(isa.BPF_FUNC_get_current_uid_gid).rsh(R0, 32);
      break;
    case 'cpu':
      b.call(isa.BPF_FUNC_get_smp_processor_id);
      break;
    case 'rand':
      b.call(isa.BPF_FUNC_get_prandom_u32).mov32(R0, R0);
      return;
    case 'asyncid':
      gen.usesAsyncId = true;
      gen.kcall('js_asyncid');
      break;
    case 'probe':
      b.ldx(8, R0, CTX, PT_REGS.bx);
      if (gen.index > 0) b.lddw(R1, BigInt(gen.index) << 32n).or(R0, R1);
      return;
    case 'kstack':
    case 'ustack':
      emitStack(gen, gen.module.config.stackDepth);
      return;
    default:
      emitHandle(gen, expr);
      return;
  }
  keep(gen, expr);
}

/** Keeps R0 for later occurrences of the same expression. */
export function keep(gen: Gen, expr: ast.Expr): void {
  if (!gen.available.wants(expr)) return;
  const place = gen.frame.alloc(8);
  gen.b.stx(8, place.reg, place.off, R0);
  gen.available.keep(expr, place);
}

function emitStack(gen: Gen, depth: number): void {
  gen.usesStack = true;
  gen.b.mov(R1, depth);
  gen.kcall('js_stackid');
}

function emitCall(gen: Gen, call: ast.Call): void {
  const { b } = gen;
  const [first] = call.args;
  switch (call.name) {
    case 'nsecs': {
      const boot = first?.kind === 'ident' && first.name === 'boot';
      b.call(boot ? isa.BPF_FUNC_ktime_get_boot_ns : isa.BPF_FUNC_ktime_get_ns);
      return;
    }
    case 'len': {
      if (first!.kind === 'map' && first!.key === undefined) {
        // The helper gives the number of entries it went through.
        b.ldMap(R1, gen.module.map(first!.name).index).ldFunc(R2, gen.counter());
        b.mov(R3, 0).mov(R4, 0).call(isa.BPF_FUNC_for_each_map_elem);
        if (gen.budget) gen.budget.lens++;
        return;
      }
      const type = gen.type(first!);
      if (type.kind === 'string') {
        emitStrlen(gen, first!);
        return;
      }
      const path = emitValue(gen, first!, R1);
      b.mov(R2, path);
      gen.kcall('js_len');
      // A fault is counted there; here it is a length of 0.
      const fine = gen.label('fine');
      b.jcond('s>=', R0, 0, fine).mov(R0, 0).label(fine);
      return;
    }
    case 'id':
      emitRoot(gen, first!, R1);
      gen.kcall('js_id');
      return;
    case 'kstack':
    case 'ustack': {
      const type = gen.type(call);
      emitStack(gen, type.kind === 'stack' ? type.depth : 1);
      return;
    }
    case 'strcontains':
      emitContains(gen, first!, literalText(call.args[1]!) ?? '');
      return;
    case 'strncmp':
    case 'has_key':
    case 'delete':
      break;
    default:
      throw new Error(`no number: ${call.name}()`);
  }
  if (call.name === 'has_key') {
    emitHasKey(gen, call);
    return;
  }
  if (call.name === 'delete') {
    emitDelete(gen, call, true);
    return;
  }
  const differ = gen.label('differ');
  const end = gen.label('end');
  emitStringsEqual(gen, first!, call.args[1]!, differ, Number((call.args[2] as ast.IntLiteral).value));
  b.mov(R0, 0).jump(end).label(differ).mov(R0, 1).label(end);
}

function emitUnary(gen: Gen, expr: ast.Unary): void {
  if (expr.op === '!') {
    emitTruth(gen, expr);
    return;
  }
  emitInt(gen, expr.operand);
  if (expr.op === '-') gen.b.neg(R0);
  else if (expr.op === '~') gen.b.xor(R0, -1);
}

function emitIncDec(gen: Gen, expr: ast.IncDec): void {
  const step = expr.op === '++' ? 1 : -1;
  if (expr.target.kind === 'map') {
    emitIncDecMap(gen, expr.target, step, expr.prefix);
    return;
  }
  const place = gen.vars.get(gen.module.semantics.vars.get(expr.target)!)!;
  const { b } = gen;
  b.ldx(8, R0, place.reg, place.off);
  if (expr.prefix) b.add(R0, step).stx(8, place.reg, place.off, R0);
  else b.mov(R1, R0).add(R1, step).stx(8, place.reg, place.off, R1);
}

function emitCast(gen: Gen, expr: ast.Cast): void {
  if (expr.type === 'bool') {
    emitTruth(gen, expr.operand);
    return;
  }
  emitInt(gen, expr.operand);
  const type = intTypeNamed(expr.type)!;
  if (type.size === 8) return;
  if (type.signed) gen.b.movsx(R0, R0, (type.size * 8) as 8 | 16 | 32);
  else if (type.size === 4) gen.b.mov32(R0, R0);
  else gen.b.and(R0, type.size === 1 ? 0xff : 0xffff);
}

function emitTernary(gen: Gen, expr: ast.Ternary): void {
  const no = gen.label('no');
  const end = gen.label('end');
  emitConditionScoped(gen, expr.condition, no);
  gen.available.branch(() => emitInt(gen, expr.yes));
  gen.b.jump(end).label(no);
  gen.available.branch(() => emitInt(gen, expr.no));
  gen.b.label(end);
}

function emitBinary(gen: Gen, expr: ast.Binary): void {
  if (COMPARISONS.has(expr.op)) {
    emitTruth(gen, expr);
    return;
  }
  const { signed } = intTypeOf(gen.type(expr));
  emitOperands(gen, expr.left, expr.right);
  const constant = immediate(expr.right);
  emitAlu(gen, expr.op, R0, constant ?? R1, signed);
}

/** A constant that fits an instruction. */
export function immediate(expr: ast.Expr): number | undefined {
  return expr.kind === 'int' && fitsImm(expr.value) ? Number(BigInt.asIntN(64, expr.value)) : undefined;
}

/**
 * Left operand to R0, right one to R1 (unless it is an immediate). For `==` and `!=` (`exact`) a live value that is no number keeps its
 * handle, which equals no number: `error != 0` is true.
 */
export function emitOperands(gen: Gen, left: ast.Expr, right: ast.Expr, exact = false): void {
  const isHandle = (expr: ast.Expr): boolean => exact && gen.type(expr)?.kind === 'value';
  const emit = (expr: ast.Expr): void => (isHandle(expr) ? emitHandle(gen, expr) : emitInt(gen, expr));
  const load = (expr: ast.Expr) => (isHandle(expr) ? valueLoader(gen, expr) : loader(gen, expr));
  if (immediate(right) !== undefined) {
    emit(left);
    return;
  }
  if (load(right) === undefined && left.kind !== 'var') {
    const loadLeft = load(left);
    if (loadLeft !== undefined) {
      emit(right);
      gen.b.mov(R1, R0);
      loadLeft(R0);
      return;
    }
  }
  emit(left);
  // Asked again: the left side may have changed a map entry that was at hand.
  const loadRight = load(right);
  if (loadRight !== undefined) {
    loadRight(R1);
    return;
  }
  const held = gen.hold();
  emit(right);
  gen.b.mov(R1, R0);
  held.load(R0);
  held.free();
}

/** dst = dst op operand */
export function emitAlu(gen: Gen, op: ast.BinaryOp, dst: Reg, operand: Reg | number, signed: boolean): void {
  const { b } = gen;
  switch (op) {
    case '+':
      b.add(dst, operand);
      return;
    case '-':
      b.sub(dst, operand);
      return;
    case '*':
      b.mul(dst, operand);
      return;
    case '/':
      if (signed) b.sdiv(dst, operand);
      else b.div(dst, operand);
      return;
    case '%':
      if (signed) b.smod(dst, operand);
      else b.mod(dst, operand);
      return;
    case '&':
      b.and(dst, operand);
      return;
    case '|':
      b.or(dst, operand);
      return;
    case '^':
      b.xor(dst, operand);
      return;
    case '<<':
      b.lsh(dst, typeof operand === 'number' ? operand & 63 : operand);
      return;
    case '>>': {
      const by = typeof operand === 'number' ? operand & 63 : operand;
      if (signed) b.arsh(dst, by);
      else b.rsh(dst, by);
      return;
    }
    default:
      throw new Error(`no arithmetic: ${op}`);
  }
}
