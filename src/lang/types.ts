/**
 * The types that expressions have while a script is checked. `value` is a live JavaScript value (a register plus a property
 * path); `stored` is one that was copied into bytes (struct js_value). Integers are 64 bits wide wherever they are kept;
 * `size` is only what a cast cut them to.
 */
import type { MapValueType, ScriptConfig, ScriptType } from './script.ts';

export type IntType = {
  readonly kind: 'int';
  readonly size: 1 | 2 | 4 | 8;
  readonly signed: boolean;
  /** A literal takes the signedness of what it meets. */
  readonly literal?: boolean;
};

export type LType =
  | { readonly kind: 'none' }
  /** Not known in this round of inference. */
  | { readonly kind: 'unknown' }
  | IntType
  | { readonly kind: 'string'; readonly size: number }
  | { readonly kind: 'value' }
  | { readonly kind: 'stored' }
  | { readonly kind: 'buf'; readonly size: number }
  | { readonly kind: 'stack'; readonly depth: number }
  | { readonly kind: 'func' }
  | { readonly kind: 'probe' }
  | { readonly kind: 'strftime' }
  | { readonly kind: 'tuple'; readonly fields: readonly LType[] }
  /** The result of count() and friends: only a map takes it. */
  | { readonly kind: 'agg'; readonly agg: Exclude<MapValueType, { kind: 'plain' }> };

export const NONE: LType = { kind: 'none' };
export const UNKNOWN: LType = { kind: 'unknown' };
export const INT64: IntType = { kind: 'int', size: 8, signed: true };
export const UINT64: IntType = { kind: 'int', size: 8, signed: false };
export const BOOL: IntType = { kind: 'int', size: 8, signed: true, literal: true };
export const VALUE: LType = { kind: 'value' };
export const STORED: LType = { kind: 'stored' };

const INT_NAMES: Record<string, IntType> = {
  int8: { kind: 'int', size: 1, signed: true },
  int16: { kind: 'int', size: 2, signed: true },
  int32: { kind: 'int', size: 4, signed: true },
  int64: INT64,
  uint8: { kind: 'int', size: 1, signed: false },
  uint16: { kind: 'int', size: 2, signed: false },
  uint32: { kind: 'int', size: 4, signed: false },
  uint64: UINT64,
};
const ALIASES: Record<string, string> = {
  bool: 'uint8', char: 'int8', short: 'int16', int: 'int32', long: 'int64', size_t: 'uint64',
  u8: 'uint8', u16: 'uint16', u32: 'uint32', u64: 'uint64', s8: 'int8', s16: 'int16', s32: 'int32', s64: 'int64',
}; // biome-ignore format: a table

/** The integer type a name means; undefined for `string`. */
export function intTypeNamed(name: string): IntType | undefined {
  return INT_NAMES[ALIASES[name] ?? name];
}

export function roundUp8(size: number): number {
  return (size + 7) & ~7;
}

/** The name in diagnostics, as bpftrace writes it. */
export function typeName(type: LType): string {
  switch (type.kind) {
    case 'int':
      return `${type.signed ? '' : 'u'}int${type.size * 8}`;
    case 'string':
      return 'string';
    case 'stored':
      return 'value';
    case 'tuple':
      return `(${type.fields.map(typeName).join(',')})`;
    case 'agg':
      return `${type.agg.kind}_t`;
    default:
      return type.kind;
  }
}

/** Whether a number can be read from it: everything with an int64 in a register. */
export function isIntLike(type: LType): boolean {
  return type.kind === 'int' || type.kind === 'value' || type.kind === 'stored' || isReadableAgg(type);
}

/** Aggregations that read as one number. */
export function isReadableAgg(type: LType): boolean {
  return type.kind === 'agg' && ['count', 'sum', 'min', 'max', 'avg'].includes(type.agg.kind);
}

/** What `signed` a register has when the type is read as a number. */
export function intTypeOf(type: LType): IntType {
  if (type.kind === 'int') return type;
  if (type.kind === 'agg') {
    const { agg } = type;
    return agg.kind === 'count' || ('signed' in agg && !agg.signed) ? UINT64 : INT64;
  }
  return INT64;
}

/** The type two integers have together; unsigned wins over signed, literals do not count. */
export function mergeInts(a: IntType, b: IntType): IntType {
  const size = Math.max(a.size, b.size) as IntType['size'];
  if (a.literal && b.literal) return { kind: 'int', size, signed: a.signed && b.signed, literal: true };
  const signed = a.literal ? b.signed : b.literal ? a.signed : a.signed && b.signed;
  return { kind: 'int', size: a.literal ? b.size : b.literal ? a.size : size, signed };
}

/**
 * The type that holds both, or undefined. A JavaScript value takes integers and strings in; strings and buffers take the
 * longer size.
 */
export function mergeTypes(a: LType, b: LType): LType | undefined {
  if (a.kind === 'unknown') return b;
  if (b.kind === 'unknown') return a;
  if (a.kind === 'int' && b.kind === 'int') return mergeInts(a, b);
  if (a.kind === 'string' && b.kind === 'string') return a.size >= b.size ? a : b;
  if (a.kind === 'buf' && b.kind === 'buf') return a.size >= b.size ? a : b;
  if (a.kind === 'stack' && b.kind === 'stack') return a.depth >= b.depth ? a : b;
  if (isValue(a) || isValue(b)) {
    const fits = (type: LType): boolean => isValue(type) || type.kind === 'int' || type.kind === 'string';
    if (!fits(a) || !fits(b)) return undefined;
    return a.kind === 'value' && b.kind === 'value' ? VALUE : STORED;
  }
  if (a.kind === 'tuple' && b.kind === 'tuple') {
    if (a.fields.length !== b.fields.length) return undefined;
    const fields = a.fields.map((field, i) => mergeTypes(field, b.fields[i]!));
    return fields.every((field) => field !== undefined) ? { kind: 'tuple', fields } : undefined;
  }
  if (a.kind === 'agg' && b.kind === 'agg') return sameAgg(a.agg, b.agg) ? a : undefined;
  return a.kind === b.kind && a.kind !== 'agg' ? a : undefined;
}

function sameAgg(a: MapValueType, b: MapValueType): boolean {
  const { signed: sa, ...ra } = a as { signed?: boolean };
  const { signed: sb, ...rb } = b as { signed?: boolean };
  void sa;
  void sb;
  return JSON.stringify(ra) === JSON.stringify(rb);
}

export function isValue(type: LType): boolean {
  return type.kind === 'value' || type.kind === 'stored';
}

/** What a type becomes when it is kept in a map, a key, a tuple or a record: live values become bytes. */
export function storedType(type: LType): LType {
  if (type.kind === 'value') return STORED;
  if (type.kind === 'int' && type.literal) return { kind: 'int', size: type.size, signed: type.signed };
  if (type.kind === 'tuple') return { kind: 'tuple', fields: type.fields.map(storedType) };
  return type;
}

/** Bytes of a stored type; always a multiple of 8, all of them written. */
export function storageSize(type: LType, config: ScriptConfig): number {
  switch (type.kind) {
    case 'string':
    case 'buf':
      return roundUp8(type.size);
    case 'value':
    case 'stored':
      return roundUp8(8 + config.maxStrlen);
    case 'strftime':
      return 16;
    case 'tuple':
      return type.fields.reduce((sum, field) => sum + storageSize(field, config), 0);
    default:
      return 8;
  }
}

/** Fields of a tuple (or of a key of several parts) one after the other. */
export function layout(
  fields: readonly LType[],
  config: ScriptConfig,
): { fields: { offset: number; type: LType }[]; size: number } {
  let size = 0;
  const placed = fields.map((type) => {
    const offset = size;
    size += storageSize(type, config);
    return { offset, type };
  });
  return { fields: placed, size };
}

/** The type as readers of maps and records see it. */
export function toScriptType(type: LType, config: ScriptConfig): ScriptType {
  switch (type.kind) {
    case 'int':
      return { kind: 'int', size: 8, signed: type.signed };
    case 'string':
      return { kind: 'string', size: roundUp8(type.size) };
    case 'value':
    case 'stored':
      return { kind: 'value', size: storageSize(STORED, config) };
    case 'buf':
      return { kind: 'buf', size: roundUp8(type.size) };
    case 'stack':
      return { kind: 'stack', size: 8, depth: type.depth };
    case 'func':
    case 'probe':
      return { kind: type.kind, size: 8 };
    case 'strftime':
      return { kind: 'strftime', size: 16 };
    case 'tuple': {
      const { fields, size } = layout(type.fields, config);
      return {
        kind: 'tuple',
        size,
        fields: fields.map((field) => ({ offset: field.offset, type: toScriptType(field.type, config) })),
      };
    }
    case 'agg':
      return { kind: 'int', size: 8, signed: intTypeOf(type).signed };
    default:
      return { kind: 'int', size: 8, signed: true };
  }
}

const encoder = new TextEncoder();

/** Bytes of a text in UTF-8. */
export function utf8Length(text: string): number {
  return encoder.encode(text).length;
}
