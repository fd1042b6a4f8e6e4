/** Statements. */
import { R0, R1, R2, R3, R4, R7, R8 } from '../../bpf/builder.ts';
import * as isa from '../../bpf/isa.ts';
import * as ast from '../ast.ts';
import type { VarInfo } from '../passes/semantics.ts';
import { intTypeOf, type LType, layout } from '../types.ts';
import { emitAggregate, emitAggregateRead } from './aggregates.ts';
import { emitAction } from './async.ts';
import { emitSpent, measureRound, takeRound } from './budget.ts';
import { emitConditionScoped } from './condition.ts';
import { emitAlu, emitInt, prepare } from './expr.ts';
import type { Place } from './frame.ts';
import { CTX, type Gen, offset } from './gen.ts';
import { emitDelete, emitMapAssign, emitMapCompound } from './maps.ts';
import { emitTo } from './memory.ts';
import type { MapRef } from './module.ts';
import { loadScratch } from './scratch.ts';
import { emitHandle } from './values.ts';

/** A block's variables live as long as the block. */
export function emitBlock(gen: Gen, block: ast.Block): void {
  const before = new Set(gen.vars.keys());
  for (const statement of block.body) {
    gen.note(gen.module.semantics.script.source.slice(statement).split('\n', 1)[0]!);
    emitStatement(gen, statement);
  }
  for (const [info, place] of gen.vars) {
    if (before.has(info)) continue;
    gen.frame.free(place, variableSize(gen, info));
    gen.vars.delete(info);
  }
}

/** A live value stays a handle in a variable. */
function variableSize(gen: Gen, info: VarInfo): number {
  return info.type.kind === 'value' ? 8 : gen.sizeOf(info.type);
}

function emitStatement(gen: Gen, statement: ast.Statement): void {
  const { b } = gen;
  switch (statement.kind) {
    case 'expr':
      emitExpression(gen, statement.expr);
      return;
    case 'let': {
      const place = declare(gen, statement.target);
      const info = gen.module.semantics.vars.get(statement.target)!;
      if (statement.value) emitVariable(gen, place, info.type, statement.value);
      else gen.zero(place, variableSize(gen, info));
      return;
    }
    case 'assign':
      emitAssign(gen, statement);
      return;
    case 'if': {
      const otherwise = gen.label('else');
      const end = gen.label('endif');
      emitConditionScoped(gen, statement.condition, otherwise);
      gen.available.branch(() => emitBlock(gen, statement.body));
      if (statement.otherwise) b.jump(end);
      b.label(otherwise);
      if (statement.otherwise) {
        const block = statement.otherwise;
        gen.available.branch(() => emitBlock(gen, block));
      }
      b.label(end);
      return;
    }
    case 'while':
      emitLoop(gen, statement, (end) => emitConditionScoped(gen, statement.condition, end));
      return;
    case 'unroll':
      emitUnroll(gen, statement);
      return;
    case 'for-range':
      emitRange(gen, statement);
      return;
    case 'break':
      b.jump(gen.loops.at(-1)!.breakTo);
      return;
    case 'continue':
      b.jump(gen.loops.at(-1)!.continueTo);
      return;
    case 'return':
      if (statement.value) emitInt(gen, statement.value);
      b.jump(gen.exitLabel);
      return;
    case 'block':
      emitBlock(gen, statement);
      return;
    case 'for-map':
      emitForMap(gen, statement);
      return;
  }
}

function emitExpression(gen: Gen, expr: ast.Expr): void {
  if (expr.kind === 'call' && emitAction(gen, expr)) return;
  if (expr.kind === 'call' && expr.name === 'delete') {
    emitDelete(gen, expr, false);
    return;
  }
  const type = gen.type(expr);
  if (expr.kind === 'ternary' && type.kind === 'none') {
    const no = gen.label('no');
    const end = gen.label('end');
    emitConditionScoped(gen, expr.condition, no);
    gen.available.branch(() => emitExpression(gen, expr.yes));
    gen.b.jump(end).label(no);
    gen.available.branch(() => emitExpression(gen, expr.no));
    gen.b.label(end);
    return;
  }
  if (['string', 'stored', 'buf', 'tuple', 'strftime'].includes(type.kind)) {
    const size = gen.sizeOf(type);
    gen.temp(size, (place) => emitTo(gen, expr, type, place));
    return;
  }
  if (type.kind !== 'agg' || expr.kind === 'map') emitInt(gen, expr);
}

function declare(gen: Gen, variable: ast.Variable): Place {
  const info = gen.module.semantics.vars.get(variable)!;
  let place = gen.vars.get(info);
  if (place === undefined) {
    const size = variableSize(gen, info);
    place = gen.loopVars.has(info) ? gen.frame.allocOpaque(size) : gen.frame.alloc(size);
    gen.vars.set(info, place);
  }
  return place;
}

function emitVariable(gen: Gen, place: Place, type: LType, value: ast.Expr): void {
  if (type.kind === 'value') {
    emitHandle(gen, value);
    gen.b.stx(8, place.reg, place.off, R0);
    return;
  }
  const overlaps = !['int', 'func', 'probe', 'stack'].includes(type.kind) && mentionsVariable(value);
  if (!overlaps) {
    emitTo(gen, value, type, place);
    return;
  }
  // `$t = ($t.1, $t.0)`: the old value is read while the new one is written.
  const size = gen.sizeOf(type);
  gen.temp(size, (fresh) => {
    emitTo(gen, value, type, fresh);
    gen.copy(fresh, place, size);
  });
}

function mentionsVariable(expr: ast.Expr): boolean {
  if (expr.kind === 'var') return true;
  if (expr.kind === 'index') return mentionsVariable(expr.object) || mentionsVariable(expr.index);
  if (expr.kind === 'member') return mentionsVariable(expr.object);
  if (expr.kind === 'tuple') return expr.elements.some(mentionsVariable);
  if (expr.kind === 'ternary') return mentionsVariable(expr.yes) || mentionsVariable(expr.no);
  if (expr.kind === 'call') return expr.args.some(mentionsVariable);
  return expr.kind === 'cast' && mentionsVariable(expr.operand);
}

function emitAssign(gen: Gen, statement: ast.Assign): void {
  const { target, value, op } = statement;
  if (target.kind === 'map') {
    if (op !== undefined) emitMapCompound(gen, target, op, value);
    else if (gen.module.map(target.name).info.value.kind === 'agg')
      emitAggregate(gen, target, value as ast.Call);
    else emitMapAssign(gen, target, value);
    return;
  }
  const info = gen.module.semantics.vars.get(target)!;
  if (op === undefined) {
    const fresh = !gen.vars.has(info);
    // The value may not see its own variable's memory before it is written.
    const place = declare(gen, target);
    if (fresh) emitTo2(gen, place, info.type, value);
    else emitVariable(gen, place, info.type, value);
    return;
  }
  const operand = prepare(gen, value);
  const place = gen.vars.get(info)!;
  operand.load(R1);
  gen.b.ldx(8, R0, place.reg, place.off);
  emitAlu(gen, op, R0, R1, intTypeOf(info.type).signed);
  gen.b.stx(8, place.reg, place.off, R0);
  operand.free();
}

function emitTo2(gen: Gen, place: Place, type: LType, value: ast.Expr): void {
  if (type.kind === 'value') {
    emitHandle(gen, value);
    gen.b.stx(8, place.reg, place.off, R0);
  } else emitTo(gen, value, type, place);
}

/**
 * A loop of unknown length. bpftrace leaves such loops to the kernel's loop detection; here may_goto proves that they end, and every
 * round takes one from the program's own budget: a loop that spends it ends, with a warning.
 */
function emitLoop(
  gen: Gen,
  loop: ast.While | ast.ForRange,
  test: (end: string) => void,
  step?: () => void,
): void {
  const { b } = gen;
  const endOfRound = measureRound(gen);
  const spent = gen.label('spent');
  const head = gen.label('loop');
  const next = gen.label('next');
  const end = gen.label('endloop');
  gen.available.invalidateMaps();
  b.label(head).mayGoto(end);
  takeRound(gen, spent);
  test(end);
  gen.loops.push({ breakTo: end, continueTo: step ? next : head });
  gen.available.branch(() => emitBlock(gen, loop.body));
  gen.loops.pop();
  b.label(next);
  step?.();
  endOfRound();
  b.jump(head).label(spent);
  emitSpent(gen, loop);
  b.label(end);
  gen.available.invalidateMaps();
}

/**
 * A loop over a map: the body is a callback of bpf_for_each_map_elem(). It shares the scratch memory with what is around it, where
 * every variable it uses is; the context comes by way of the stack. A break makes it return 1, a return or an exit() leaves word.
 */
function emitForMap(gen: Gen, statement: ast.ForMap): void {
  const { b } = gen;
  const map = gen.module.map(statement.map.name);
  const info = gen.module.semantics.vars.get(statement.variable)!;
  const size = gen.sizeOf(info.type);
  const pair = gen.frame.allocOpaque(size);
  const context = gen.frame.allocStack(8);
  const left = leaves(statement.body) ? gen.frame.allocOpaque(8) : undefined;
  if (left) gen.zero(left, 8);
  b.stx(8, context.reg, context.off, CTX);
  const callback = gen.callback(() => emitRound(gen, statement, map, info, pair, left));
  b.ldMap(R1, map.index).ldFunc(R2, callback);
  gen.addr(R3, context);
  b.mov(R4, 0).call(isa.BPF_FUNC_for_each_map_elem);
  if (left) {
    b.ldx(8, R0, left.reg, left.off).jcond('!=', R0, 0, gen.exitLabel);
    gen.frame.free(left, 8);
  }
  gen.frame.free(context, 8);
  gen.frame.free(pair, size);
  gen.available.invalidateMaps();
}

/** The callback (map, key, value, address of the kept context). */
function emitRound(
  gen: Gen,
  statement: ast.ForMap,
  map: MapRef,
  info: VarInfo,
  pair: Place,
  left: Place | undefined,
): void {
  const { b } = gen;
  const next = gen.label('next');
  const stop = gen.label('stop');
  gen.exitLabel = gen.label('leave');
  const endOfRound = measureRound(gen);
  b.mov(R7, R2).mov(R8, R3).ldx(8, CTX, R4, 0);
  loadScratch(gen, stop);
  const spent = gen.label('spent');
  takeRound(gen, spent);
  const [key, value] = layout(
    (info.type as Extract<LType, { kind: 'tuple' }>).fields,
    gen.module.config,
  ).fields;
  const keyPlace = offset(pair, key!.offset);
  const valuePlace = offset(pair, value!.offset);
  gen.copy({ reg: R7, off: 0 }, keyPlace, gen.sizeOf(key!.type));
  if (map.info.value.kind === 'agg') {
    emitAggregateRead(gen, map, map.info.value.agg, keyPlace);
    b.stx(8, valuePlace.reg, valuePlace.off, R0);
  } else gen.copy({ reg: R8, off: 0 }, valuePlace, gen.sizeOf(value!.type));
  gen.vars.set(info, pair);
  gen.loops.push({ breakTo: stop, continueTo: next });
  emitBlock(gen, statement.body);
  gen.vars.delete(info);
  endOfRound();
  b.label(next).mov(R0, 0).exit();
  b.label(spent);
  emitSpent(gen, statement);
  b.jump(stop);
  b.label(gen.exitLabel);
  if (left) b.st(8, left.reg, left.off, 1);
  b.label(stop).mov(R0, 1).exit();
}

/** Whether a loop's body may end the whole program. */
function leaves(body: ast.Block): boolean {
  let found = false;
  ast.walkStatement(
    body,
    (expr) => {
      if (expr.kind === 'call' && expr.name === 'exit') found = true;
    },
    (statement) => {
      if (statement.kind === 'return') found = true;
    },
  );
  return found;
}

function emitRange(gen: Gen, statement: ast.ForRange): void {
  const { b } = gen;
  const counter = gen.frame.allocOpaque(8);
  const limit = gen.frame.allocOpaque(8);
  emitTo(gen, statement.from, { kind: 'int', size: 8, signed: true }, counter);
  emitTo(gen, statement.to, { kind: 'int', size: 8, signed: true }, limit);
  const info = gen.module.semantics.vars.get(statement.variable)!;
  // The script sees a copy: what it does to $i does not change the loop, as in bpftrace.
  const copy = gen.frame.allocOpaque(8);
  gen.vars.set(info, copy);
  emitLoop(
    gen,
    statement,
    (end) => {
      b.ldx(8, R0, counter.reg, counter.off).ldx(8, R1, limit.reg, limit.off);
      b.jcond('s>=', R0, R1, end);
      b.stx(8, copy.reg, copy.off, R0);
    },
    () => {
      b.ldx(8, R0, counter.reg, counter.off).add(R0, 1).stx(8, counter.reg, counter.off, R0);
    },
  );
  gen.vars.delete(info);
  for (const place of [counter, limit, copy]) gen.frame.free(place, 8);
}

function emitUnroll(gen: Gen, statement: ast.Unroll): void {
  const end = gen.label('unrolled');
  const count = statement.count.kind === 'int' ? Number(statement.count.value) : 0;
  for (let i = 0; i < count; i++) {
    const next = gen.label('round');
    gen.loops.push({ breakTo: end, continueTo: next });
    gen.available.branch(() => emitBlock(gen, statement.body));
    gen.loops.pop();
    gen.b.label(next);
  }
  gen.b.label(end);
}
