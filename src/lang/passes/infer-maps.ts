/** Part of the third pass: maps, their keys and values. */

import { didYouMean } from '../../similar.ts';
import type * as ast from '../ast.ts';
import type { Span } from '../position.ts';
import * as t from '../types.ts';
import { type LType, typeName, UNKNOWN } from '../types.ts';
import { checkCompound } from './infer-assign.ts';
import type { Inference } from './inference.ts';
import type { MapInfo } from './semantics.ts';

export function inferMapAssign(inference: Inference, statement: ast.Assign, target: ast.MapAccess): void {
  const info = mapOf(inference, target);
  inferKey(inference, target, info);
  if (statement.op !== undefined) {
    // A map that is only ever counted up starts at 0.
    const value = inference.infer(statement.value);
    setMapValue(inference, info, target, info.value.kind === 'unknown' ? t.INT64 : info.value);
    checkCompound(inference, statement, info.value, value);
    inference.types.set(target, info.value);
    return;
  }
  const { value } = statement;
  const isAggregate = value.kind === 'call';
  let type = isAggregate ? inference.call(value, 'assign') : inference.infer(value);
  if (isAggregate) inference.types.set(value, type);
  if (type.kind === 'none') {
    inference.error(value, 'this has no value that can be assigned');
    type = UNKNOWN;
  }
  if (type.kind === 'agg' && !isAggregate) {
    if (t.isReadableAgg(type)) {
      inference.error(
        value,
        `Map value '${typeName(type)}' cannot be assigned from one map to another. The function that returns this type must be called directly e.g. \`@${target.name} = ${type.agg.kind}(…);\`.`,
        `a copy of the number is (int64)@${value.kind === 'map' ? value.name : ''}`,
      );
    } else
      inference.error(value, `Map value '${typeName(type)}' cannot be assigned from one map to another.`);
    return;
  }
  setMapValue(inference, info, target, t.storedType(type));
  inference.types.set(target, info.value);
}

export function mapOf(inference: Inference, access: ast.MapAccess): MapInfo {
  let info = inference.maps.get(access.name);
  if (info === undefined) {
    info = { name: access.name, first: access, key: undefined, value: UNKNOWN };
    inference.maps.set(access.name, info);
    inference.changed = true;
  }
  return info;
}

export function setMapValue(inference: Inference, info: MapInfo, at: ast.MapAccess, type: LType): void {
  const merged = t.mergeTypes(info.value, type);
  if (merged === undefined) {
    inference.mismatch(at, `@${info.name}`, info.value, type, 'map');
    return;
  }
  let wanted = t.storedType(merged);
  if (wanted.kind === 'agg' && type.kind === 'agg' && 'signed' in type.agg && 'signed' in wanted.agg) {
    // Signed once anybody puts a signed number in.
    if (type.agg.signed && !wanted.agg.signed) wanted = type;
  }
  if (JSON.stringify(wanted) !== JSON.stringify(info.value)) {
    info.value = wanted;
    inference.changed = true;
  }
}

/** Checks and widens the key of one access. */
export function inferKey(inference: Inference, access: ast.MapAccess, info: MapInfo): void {
  const given = keyParts(access).map((part) => inferKeyPart(inference, part));
  mergeKey(inference, access, info, given);
}

/** `@[a, b]` and `@[(a, b)]` are the same. */
function keyParts(access: ast.MapAccess): readonly ast.Expr[] {
  const { key } = access;
  if (key === undefined) return [];
  return key.length === 1 && key[0]!.kind === 'tuple' ? key[0]!.elements : key;
}

export function inferKeyPart(inference: Inference, part: ast.Expr): LType {
  const type = inference.infer(part);
  if (type.kind === 'agg' && t.isReadableAgg(type)) return t.intTypeOf(type);
  if (type.kind === 'none' || type.kind === 'agg') {
    return inference.error(part, `'${typeName(type)}' cannot be used as a map key`);
  }
  return t.storedType(type);
}

/** A key given as an expression: `has_key(@m, k)`. */
export function inferKeyArgument(inference: Inference, access: ast.MapAccess, key: ast.Expr): void {
  const info = mapOf(inference, access);
  const parts = key.kind === 'tuple' ? key.elements : [key];
  mergeKey(
    inference,
    key,
    info,
    parts.map((part) => inferKeyPart(inference, part)),
  );
}

function mergeKey(inference: Inference, span: Span, info: MapInfo, given: readonly LType[]): void {
  if (info.key === undefined) {
    info.key = given;
    inference.changed = true;
    return;
  }
  const has = info.key;
  const merged = given.length === has.length ? given.map((type, i) => t.mergeTypes(has[i]!, type)) : [];
  const show = (types: readonly LType[]): string =>
    types.length === 0 ? 'no key' : `'${types.map(typeName).join(', ')}'`;
  if (given.length !== has.length || merged.includes(undefined)) {
    inference.error(
      span,
      has.length === 0
        ? `@${info.name} used as a map with an explicit key (non-scalar map), previously used without an explicit key (scalar map)`
        : given.length === 0
          ? `@${info.name} used as a map without an explicit key (scalar map), previously used with an explicit key (non-scalar map)`
          : `Argument mismatch for @${info.name}: trying to access with arguments: ${show(given)} when map expects arguments: ${show(has)}`,
    );
    return;
  }
  const wanted = merged.map((type) => t.storedType(type!));
  if (JSON.stringify(wanted) !== JSON.stringify(has)) {
    info.key = wanted;
    inference.changed = true;
  }
}

export function inferMapRead(inference: Inference, expr: ast.MapAccess): LType {
  const known = inference.maps.get(expr.name);
  if (known === undefined || (inference.final && known.value.kind === 'unknown')) {
    const info = mapOf(inference, expr);
    inferKey(inference, expr, info);
    return undefinedMap(inference, expr);
  }
  inferKey(inference, expr, known);
  return known.value;
}

function undefinedMap(inference: Inference, expr: ast.MapAccess): LType {
  const others = [...inference.maps.values()]
    .filter((map) => map.value.kind !== 'unknown')
    .map((map) => map.name);
  return inference.error(expr, `Undefined map: @${expr.name}`, didYouMean(expr.name, others, '@'));
}

/** A map given to a function as a whole: print(@m), clear(@m). */
export function inferWholeMap(inference: Inference, expr: ast.MapAccess): MapInfo {
  const info = mapOf(inference, expr);
  if (inference.final && info.value.kind === 'unknown') undefinedMap(inference, expr);
  inference.types.set(expr, info.value);
  return info;
}
