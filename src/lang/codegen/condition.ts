/** Conditions: jumps instead of numbers. R0 to R5 are overwritten. */
import { type Condition, R0, R1, R2 } from '../../bpf/builder.ts';
import type * as ast from '../ast.ts';
import { intTypeOf } from '../types.ts';
import { emitInt, emitOperands, immediate } from './expr.ts';
import type { Gen } from './gen.ts';
import { placeOf } from './memory.ts';
import { emitStoredTruth } from './stored.ts';
import { emitStringsEqual, stringTest } from './strings.ts';
import { emitHandle, emitRoot, emitValue } from './values.ts';

/** Operators whose result is true or false. */
export const COMPARISONS: ReadonlySet<ast.BinaryOp> = new Set<ast.BinaryOp>([
  '==',
  '!=',
  '<',
  '>',
  '<=',
  '>=',
  '&&',
  '||',
]);

/** A condition of which parts may be skipped: what it computes is not kept. */
export function emitConditionScoped(gen: Gen, expr: ast.Expr, falseLabel: string): void {
  gen.available.branch(() => emitCondition(gen, expr, falseLabel, false));
}

/** R0 = 1 where the condition holds, else 0. */
export function emitTruth(gen: Gen, expr: ast.Expr): void {
  const no = gen.label('no');
  const end = gen.label('end');
  emitConditionScoped(gen, expr, no);
  gen.b.mov(R0, 1).jump(end).label(no).mov(R0, 0).label(end);
}

const JUMPS: Record<string, [unsigned: Condition, signed: Condition, inverse: string]> = {
  '==': ['==', '==', '!='],
  '!=': ['!=', '!=', '=='],
  '<': ['<', 's<', '>='],
  '>': ['>', 's>', '<='],
  '<=': ['<=', 's<=', '>'],
  '>=': ['>=', 's>=', '<'],
};

/** Jumps to the label if the condition is `when`, else falls through. */
export function emitCondition(gen: Gen, expr: ast.Expr, label: string, when: boolean): void {
  const { b } = gen;
  if (expr.kind === 'int') {
    if ((expr.value !== 0n) === when) b.jump(label);
    return;
  }
  if (expr.kind === 'unary' && expr.op === '!') {
    emitCondition(gen, expr.operand, label, !when);
    return;
  }
  if (expr.kind === 'binary' && (expr.op === '&&' || expr.op === '||')) {
    // `a && b` jumping when false, and `a || b` jumping when true, evaluate both before they fall through.
    if ((expr.op === '&&') === !when) {
      emitCondition(gen, expr.left, label, when);
      emitCondition(gen, expr.right, label, when);
    } else {
      const past = gen.label('past');
      emitCondition(gen, expr.left, past, !when);
      gen.available.branch(() => emitCondition(gen, expr.right, label, when));
      b.label(past);
    }
    return;
  }
  if (expr.kind === 'binary' && COMPARISONS.has(expr.op)) {
    emitComparison(gen, expr, label, when);
    return;
  }
  const type = gen.type(expr);
  switch (type.kind) {
    case 'value': {
      if (expr.kind === 'ident' && expr.name === 'error') {
        // Whether there is one: a thrown 0 or undefined is an error too, and its register is not 0.
        emitHandle(gen, expr);
        break;
      }
      const path = emitValue(gen, expr, R1, false);
      b.mov(R2, path);
      gen.kcall('js_truthy');
      break;
    }
    case 'stored':
      placeOf(gen, expr, (place) => emitStoredTruth(gen, place));
      break;
    case 'string':
      placeOf(gen, expr, (place) => b.ldx(1, R0, place.reg, place.off));
      break;
    default:
      emitInt(gen, expr);
  }
  b.jcond(when ? '!=' : '==', R0, 0, label);
}

function emitComparison(gen: Gen, expr: ast.Binary, label: string, when: boolean): void {
  const { left, right } = expr;
  const leftType = gen.type(left);
  const rightType = gen.type(right);
  const text = stringTest(leftType, rightType);
  if (text) {
    // Falls through when they are equal.
    if ((expr.op === '==') === !when) {
      emitStringsEqual(gen, left, right, label);
      return;
    }
    const differ = gen.label('differ');
    emitStringsEqual(gen, left, right, differ);
    gen.b.jump(label).label(differ);
    return;
  }
  if (leftType.kind === 'value' && rightType.kind === 'value' && (expr.op === '==' || expr.op === '!=')) {
    emitIdentities(gen, left, right);
  } else {
    emitOperands(gen, left, right, expr.op === '==' || expr.op === '!=');
  }
  const leftInt = intTypeOf(leftType);
  const rightInt = intTypeOf(rightType);
  const signed = (leftInt.literal || leftInt.signed) && (rightInt.literal || rightInt.signed);
  const op = when ? expr.op : JUMPS[expr.op]![2];
  const [unsigned, signedJump] = JUMPS[op]!;
  gen.b.jcond(signed ? signedJump : unsigned, R0, immediate(right) ?? R1, label);
}

/** Two live values are equal when they are the same object or the same integer. */
function emitIdentities(gen: Gen, left: ast.Expr, right: ast.Expr): void {
  emitRoot(gen, left, R1);
  gen.kcall('js_id');
  const held = gen.hold();
  emitRoot(gen, right, R1);
  gen.kcall('js_id');
  gen.b.mov(R1, R0);
  held.load(R0);
  held.free();
}
