/** Part of the third pass: operators, casts, and what is behind a dot or in brackets. */
import type * as ast from '../ast.ts';
import * as t from '../types.ts';
import { type LType, typeName, UNKNOWN } from '../types.ts';
import { inferKey, mapOf, setMapValue } from './infer-maps.ts';
import type { Inference } from './inference.ts';

export function inferEither(inference: Inference, expr: ast.Ternary, yes: LType, no: LType): LType {
  if (yes.kind === 'none' && no.kind === 'none') return t.NONE;
  // A live value next to a number is read as a number, next to a string as a string.
  for (const [value, other] of [
    [yes, no],
    [no, yes],
  ] as const) {
    if (t.isValue(value) && other.kind === 'int') return t.INT64;
    if (t.isValue(value) && other.kind === 'string')
      return { kind: 'string', size: inference.config.maxStrlen };
  }
  const merged = t.mergeTypes(yes, no);
  if (merged === undefined || merged.kind === 'agg') {
    return inference.error(
      expr,
      `Ternary operator must return the same type: have '${typeName(yes)}' and '${typeName(no)}'`,
    );
  }
  return merged;
}

export function inferBinary(inference: Inference, expr: ast.Binary): LType {
  const { op } = expr;
  if (op === '&&' || op === '||') {
    inference.condition(expr.left);
    inference.condition(expr.right);
    return t.BOOL;
  }
  const left = inference.infer(expr.left);
  const right = inference.infer(expr.right);
  if (left.kind === 'unknown' || right.kind === 'unknown') return UNKNOWN;
  const equality = op === '==' || op === '!=';
  if (equality || ['<', '>', '<=', '>='].includes(op)) {
    if (t.isIntLike(left) && t.isIntLike(right)) return t.BOOL;
    if (equality) {
      const text = (type: LType): boolean => type.kind === 'string' || t.isValue(type);
      if (text(left) && text(right)) return t.BOOL;
      if (left.kind === right.kind && ['func', 'stack', 'probe'].includes(left.kind)) return t.BOOL;
    }
    return inference.error(
      expr.opSpan,
      left.kind === right.kind
        ? `The ${op} operator can not be used on expressions of type '${typeName(left)}'`
        : `Type mismatch for '${op}': comparing '${typeName(left)}' with '${typeName(right)}'`,
      left.kind === 'func' || right.kind === 'func'
        ? 'name the function in the probe: kprobe:FILE:FUNC'
        : undefined,
    );
  }
  if (!t.isIntLike(left) || !t.isIntLike(right)) {
    return inference.error(
      expr.opSpan,
      `The ${op} operator can not be used on expressions of types '${typeName(left)}', '${typeName(right)}'`,
    );
  }
  const merged = t.mergeInts(t.intTypeOf(left), t.intTypeOf(right));
  return { ...merged, size: 8 };
}

export function inferCast(inference: Inference, expr: ast.Cast): LType {
  const type = inference.infer(expr.operand);
  const wanted = t.intTypeNamed(expr.type);
  if (wanted === undefined) {
    if (type.kind !== 'unknown' && type.kind !== 'string' && !t.isValue(type)) {
      return inference.error(expr, `Cannot cast from '${typeName(type)}' to 'string'`);
    }
    return { kind: 'string', size: inference.config.maxStrlen };
  }
  const fine = t.isIntLike(type) || ['unknown', 'func', 'stack', 'probe'].includes(type.kind);
  if (!fine) {
    const hint = type.kind === 'string' ? 'a value is read as a number without str()' : undefined;
    return inference.error(expr, `Cannot cast from '${typeName(type)}' to '${typeName(wanted)}'`, hint);
  }
  return wanted;
}

export function inferMember(inference: Inference, expr: ast.Member): LType {
  if (expr.object.kind === 'ident' && expr.object.name === 'args') {
    inference.checkProbes(expr.object, 'args');
    return t.VALUE;
  }
  const object = inference.infer(expr.object);
  if (object.kind === 'unknown' || object.kind === 'value') return object;
  if (object.kind === 'tuple') {
    const field = /^[0-9]+$/.test(expr.name) ? object.fields[Number(expr.name)] : undefined;
    if (field !== undefined) return field;
    return inference.error(
      expr.nameSpan,
      `Invalid tuple index: ${expr.name}. Found ${object.fields.length} elements in tuple.`,
    );
  }
  return noProperties(inference, expr, object);
}

function noProperties(inference: Inference, expr: ast.Member | ast.Index, object: LType): LType {
  const hint =
    object.kind === 'stored'
      ? 'what is kept in a map is a copy: take the property before, @x = arg0.name'
      : expr.object.kind === 'call' && expr.object.name === 'str'
        ? 'take the property first: str(arg0.name)'
        : undefined;
  if (expr.kind === 'member' && expr.object.kind === 'int' && /^\d+$/.test(expr.name)) {
    const use = 'take a smaller unit: 1500us instead of 1.5ms';
    return inference.error(expr, 'Numbers with a decimal point are not supported', use);
  }
  return inference.error(expr, `Can not access a property of type '${typeName(object)}'`, hint);
}

export function inferIndex(inference: Inference, expr: ast.Index): LType {
  const object = inference.infer(expr.object);
  const index = inference.infer(expr.index);
  if (object.kind === 'unknown' || index.kind === 'unknown')
    return object.kind === 'value' ? object : UNKNOWN;
  if (object.kind !== 'value') return noProperties(inference, expr, object);
  const { index: key } = expr;
  if (key.kind === 'string') return object;
  if (key.kind === 'int' && key.value >= 0n && key.value < 2n ** 32n) return object;
  if (key.kind !== 'int' && t.isIntLike(index)) return object;
  return inference.error(
    key,
    `A property can not be named by ${key.kind === 'int' ? 'this number' : `'${typeName(index)}'`}`,
    'a constant, a number or a value of the application: arg0["content-type"], arg0[$i], arg0[arg1]',
  );
}

export function inferIncDec(inference: Inference, expr: ast.IncDec): LType {
  const { target } = expr;
  if (target.kind === 'var') {
    const type = inference.infer(target);
    if (type.kind !== 'int' && type.kind !== 'unknown') {
      return inference.error(
        target,
        `The ${expr.op} operator can not be used on expressions of type '${typeName(type)}'`,
      );
    }
    return type;
  }
  const info = mapOf(inference, target);
  inferKey(inference, target, info);
  if (info.value.kind === 'unknown') setMapValue(inference, info, target, t.INT64);
  inference.types.set(target, info.value);
  if (info.value.kind !== 'int') {
    return inference.error(
      target,
      `The ${expr.op} operator can not be used on expressions of type '${typeName(info.value)}'`,
    );
  }
  return info.value;
}
