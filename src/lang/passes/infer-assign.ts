/** Part of the third pass: what is assigned to variables, and by operators such as `+=`. */
import type * as ast from '../ast.ts';
import * as t from '../types.ts';
import { type LType, typeName, UNKNOWN } from '../types.ts';
import type { Inference } from './inference.ts';

/** `let $x = …` */
export function inferLet(inference: Inference, statement: ast.Let): void {
  let type: LType = UNKNOWN;
  if (statement.type !== undefined) {
    type = t.intTypeNamed(statement.type) ?? { kind: 'string', size: inference.config.maxStrlen };
  }
  if (statement.value) {
    const value = assignable(inference, statement.value);
    if (type === UNKNOWN) type = value;
    else checkAssign(inference, statement.target, statement.value, type, value);
  }
  if (inference.hasInScope(statement.target.name)) {
    inference.error(
      statement.target,
      `Variable $${statement.target.name} was already declared. Variable shadowing is not allowed.`,
    );
  }
  inference.declare(statement.target, type);
}

/** The type of something that a variable can take. */
function assignable(inference: Inference, expr: ast.Expr): LType {
  const type = inference.infer(expr);
  if (type.kind === 'agg' && expr.kind !== 'map') {
    return inference.error(
      expr,
      `Map value '${typeName(type)}' cannot be assigned from one place to another.`,
    );
  }
  if (type.kind === 'agg') {
    if (t.isReadableAgg(type)) return t.intTypeOf(type);
    return inference.error(
      expr,
      `Map value '${typeName(type)}' cannot be read as a number`,
      'print() shows it',
    );
  }
  if (type.kind === 'none') return inference.error(expr, 'this has no value that can be assigned');
  return type;
}

/** `$x = …`, `$x += …` */
export function inferVariableAssign(inference: Inference, statement: ast.Assign, target: ast.Variable): void {
  const info = inference.lookup(target.name);
  if (statement.op !== undefined) {
    const type = inference.infer(target);
    const value = inference.infer(statement.value);
    checkCompound(inference, statement, type, value);
    return;
  }
  const type = assignable(inference, statement.value);
  if (info === undefined) {
    inference.types.set(target, inference.declare(target, type).type);
    return;
  }
  inference.vars.set(target, info);
  const before = info.type;
  if (!inference.widen(info, type)) inference.mismatch(target, `$${target.name}`, before, type, 'variable');
  inference.types.set(target, info.type);
}

function checkAssign(
  inference: Inference,
  target: ast.Variable,
  expr: ast.Expr,
  wanted: LType,
  found: LType,
): void {
  if (t.mergeTypes(wanted, found) === undefined) {
    inference.mismatch(expr, `$${target.name}`, wanted, found, 'variable');
  }
}

/** `+=` and the like: integers only. */
export function checkCompound(inference: Inference, statement: ast.Assign, type: LType, value: LType): void {
  for (const [each, span] of [
    [type, statement.target],
    [value, statement.value],
  ] as const) {
    if (each.kind !== 'unknown' && !t.isIntLike(each)) {
      inference.error(
        span,
        `The ${statement.op}= operator can not be used on expressions of type '${typeName(each)}'`,
      );
      return;
    }
  }
  if (type.kind === 'agg') {
    inference.error(
      statement.target,
      `Map value '${typeName(type)}' can only be changed by ${type.agg.kind}()`,
      `such as @${statement.target.name} = ${type.agg.kind}(…)`,
    );
  }
  if (type.kind === 'stored' || type.kind === 'value') {
    inference.error(
      statement.target,
      `The ${statement.op}= operator can not be used on expressions of type 'value'`,
      'keep a number: (int64)value',
    );
  }
}
