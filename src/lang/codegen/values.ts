/** Live JavaScript values: where they come from, and how their properties are named. */
import { R0, R1, R2, R3, type Reg } from '../../bpf/builder.ts';
import { ARG_REGS, argumentRef, PT_REGS, registerRef } from '../../kernel/trace/pt-regs.ts';
import type * as ast from '../ast.ts';
import { argNumber } from '../builtins.ts';
import { emitCondition } from './condition.ts';
import { emitInt } from './expr.ts';
import type { Place } from './frame.ts';
import { CTX, type Gen } from './gen.ts';

/** A value as `js_*` kfuncs take it: where the path starts, and the path's number. */
export interface ValuePath {
  readonly root: ast.Expr;
  readonly path: number;
}

/** Splits `arg0.headers["host"]` into `arg0` and its path. */
export function valuePath(gen: Gen, expr: ast.Expr): ValuePath {
  const keys: (string | number)[] = [];
  let root = expr;
  // Copies of the path's parts may be at hand already; then the path starts there.
  while ((root.kind === 'member' || (root.kind === 'index' && !isComputed(root))) && !isArgsMember(root)) {
    // (Not all of it: what is at hand is a register, and 1.5 is more than that.)
    if (root !== expr && gen.available.find(root) !== undefined) break;
    keys.unshift(keyOf(root));
    root = root.object;
  }
  const field = fieldOf(gen, root);
  if (field !== undefined) {
    keys.unshift(...field.path);
    root = { kind: 'ident', start: root.start, end: root.end, name: `arg${field.arg}` };
  }
  return { root, path: gen.module.path(keys, expr) };
}

/** `arg0.items[$i]`: a property whose name is known when the program runs. */
function isComputed(expr: ast.Expr): expr is ast.Index {
  return expr.kind === 'index' && expr.index.kind !== 'string' && expr.index.kind !== 'int';
}

/** R0 = what a computed name leads to, to be read by js_* only: as it is, where a register would hold a number. */
function emitComputed(gen: Gen, expr: ast.Index): void {
  const { root, path } = valuePath(gen, expr.object);
  const emitKey = (): void => {
    // a string is a name; what else is no number is 0, as everywhere
    if (gen.type(expr.index).kind === 'value') emitHandle(gen, expr.index);
    else emitInt(gen, expr.index);
    gen.b.mov(R2, R0);
  };
  const load = valueLoader(gen, root);
  if (load !== undefined) {
    emitKey();
    load(R1);
  } else {
    emitRoot(gen, root, R0);
    const held = gen.hold();
    emitKey();
    held.load(R1);
    held.free();
  }
  gen.b.mov(R3, path === 0 ? gen.module.barePath(expr) : path);
  gen.kcall('js_at');
}

function keyOf(expr: ast.Member | ast.Index): string | number {
  // `.0` is a member too; arrays take numbers.
  if (expr.kind === 'member') return /^(0|[1-9][0-9]{0,9})$/.test(expr.name) ? Number(expr.name) : expr.name;
  return expr.index.kind === 'string' ? expr.index.value : Number((expr.index as ast.IntLiteral).value);
}

export function isArgsMember(expr: ast.Expr): boolean {
  return expr.kind === 'member' && expr.object.kind === 'ident' && expr.object.name === 'args';
}

/** The argument's number behind argN or args.NAME. */
function argumentOf(gen: Gen, expr: ast.Expr): number | undefined {
  if (expr.kind === 'ident') return argNumber(expr.name);
  if (expr.kind !== 'member' || !isArgsMember(expr) || fieldOf(gen, expr) !== undefined) return undefined;
  return gen.group.params.get(expr.name);
}

/** The argument and its property that an event's field is; undefined where it is the argument itself. */
function fieldOf(gen: Gen, expr: ast.Expr): { arg: number; path: readonly (string | number)[] } | undefined {
  if (expr.kind !== 'member' || !isArgsMember(expr)) return undefined;
  const path = gen.group.paths?.get(expr.name);
  const arg = gen.group.params.get(expr.name);
  return path === undefined || arg === undefined ? undefined : { arg, path };
}

/** How to load a value that is in the context or in memory without touching another register. */
export function valueLoader(gen: Gen, expr: ast.Expr): ((into: Reg) => void) | undefined {
  const kept = gen.available.find(expr);
  if (kept !== undefined) return loadFrom(gen, kept);
  const argument = argumentOf(gen, expr);
  if (argument !== undefined) {
    const name = ARG_REGS[argument];
    return name && fromContext(gen, PT_REGS[name]);
  }
  if (expr.kind === 'var') return loadFrom(gen, gen.vars.get(gen.module.semantics.vars.get(expr)!)!);
  if (expr.kind !== 'ident') return undefined;
  switch (expr.name) {
    case 'this':
      return fromContext(gen, PT_REGS.r10);
    case 'retval':
      return fromContext(gen, PT_REGS.ax);
    case 'error':
      return fromContext(gen, PT_REGS.r11);
    default:
      return undefined;
  }
}

export function fromContext(gen: Gen, off: number): (into: Reg) => void {
  return (into) => void gen.b.ldx(8, into, CTX, off);
}

function loadFrom(gen: Gen, place: Place): (into: Reg) => void {
  return (into) => void gen.b.ldx(8, into, place.reg, place.off);
}

/** R0 = the value as registers hold it: a number, or a handle. */
export function emitHandle(gen: Gen, expr: ast.Expr): void {
  const load = valueLoader(gen, expr);
  if (load !== undefined) {
    load(R0);
    return;
  }
  if (expr.kind === 'ternary') {
    const no = gen.label('no');
    const end = gen.label('end');
    emitCondition(gen, expr.condition, no, false);
    gen.available.branch(() => emitHandle(gen, expr.yes));
    gen.b.jump(end).label(no);
    gen.available.branch(() => emitHandle(gen, expr.no));
    gen.b.label(end);
    return;
  }
  const argument = argumentOf(gen, expr);
  if (argument !== undefined) {
    gen.b.mov(R1, argument);
    gen.kcall('js_arg');
  } else if (isComputed(expr)) {
    emitComputed(gen, expr);
    gen.b.mov(R1, R0).mov(R2, gen.module.barePath(expr));
    gen.kcall('js_path');
  } else {
    const { root, path } = valuePath(gen, expr);
    emitRoot(gen, root, R1);
    gen.b.mov(R2, path);
    gen.kcall('js_path');
  }
  if (gen.available.wants(expr)) {
    const place = gen.frame.alloc(8);
    gen.b.stx(8, place.reg, place.off, R0);
    gen.available.keep(expr, place);
  }
}

/** Puts the root of a path into an argument register; the others may be overwritten. */
export function emitRoot(gen: Gen, root: ast.Expr, into: Reg): void {
  const load = valueLoader(gen, root);
  if (load !== undefined) {
    load(into);
    return;
  }
  if (isComputed(root)) emitComputed(gen, root);
  else emitHandle(gen, root);
  if (into !== R0) gen.b.mov(into, R0);
}

/** The reference of a bare argument, `this`, `retval` or `error`: kfuncs read the value itself by it, not what a register holds. */
function referenceTo(gen: Gen, expr: ast.Expr): bigint | undefined {
  const argument = argumentOf(gen, expr);
  if (argument !== undefined) return argumentRef(argument);
  if (expr.kind !== 'ident') return undefined;
  switch (expr.name) {
    case 'this':
      return registerRef('r10');
    case 'retval':
      return registerRef('ax');
    case 'error':
      return registerRef('r11');
    default:
      return undefined;
  }
}

/** Puts a value for a js_* kfunc into a register; the others may be overwritten. Returns the path that leads on from there. */
export function emitValue(gen: Gen, expr: ast.Expr, into: Reg, mayFail = true): number {
  const { root, path } = valuePath(gen, expr);
  const reference = path === 0 ? referenceTo(gen, root) : undefined;
  if (reference === undefined) emitRoot(gen, root, into);
  else gen.b.lddw(into, reference);
  return path === 0 && mayFail ? gen.module.barePath(expr) : path;
}
