/**
 * Types of parameters, return values and members, from their C declarations: what BTF tells kernel/trace/trace_probe.c.
 */
import type { TraceArch, TypeMember } from '../trace-arch.ts';

export type CType =
  | { readonly kind: 'int'; readonly bits: number; readonly isSigned: boolean }
  | { readonly kind: 'enum'; readonly bits: number }
  /** `target` is a declaration, resolved when it is needed. */
  | { readonly kind: 'ptr'; readonly target: string }
  | { readonly kind: 'array'; readonly element: string }
  | { readonly kind: 'struct'; readonly members: readonly TypeMember[]; readonly size?: number }
  /** A JavaScript value: its members are properties. `fetchType` is what shows it, `s64` otherwise. */
  | { readonly kind: 'js'; readonly fetchType?: string }
  | { readonly kind: 'void' }
  | { readonly kind: 'unknown' };

function int(bits: number, isSigned: boolean): CType {
  return { kind: 'int', bits, isSigned };
}

/** Arithmetic types and the kernel's common names for them. The kernel's char is unsigned (-funsigned-char). */
const BASE_TYPES: ReadonlyMap<string, CType> = new Map<string, CType>([
  ...['char', 'unsigned char', 'bool', '_Bool', 'u8', '__u8', 'uint8_t'].map((n): [string, CType] => [
    n,
    int(8, false),
  ]),
  ...['signed char', 's8', '__s8', 'int8_t'].map((n): [string, CType] => [n, int(8, true)]),
  ...['short', 'short int', 's16', '__s16', 'int16_t'].map((n): [string, CType] => [n, int(16, true)]),
  ...['unsigned short', 'short unsigned int', 'u16', '__u16', 'uint16_t', 'umode_t'].map(
    (n): [string, CType] => [n, int(16, false)],
  ),
  ...['int', 'signed int', 's32', '__s32', 'int32_t', 'pid_t'].map((n): [string, CType] => [
    n,
    int(32, true),
  ]),
  ...['unsigned', 'unsigned int', 'u32', '__u32', 'uint32_t', 'gfp_t', 'fmode_t', 'dev_t'].map(
    (n): [string, CType] => [n, int(32, false)],
  ),
  ...['long', 'long int', 'long long', 's64', '__s64', 'int64_t', 'ssize_t', 'loff_t', 'ktime_t'].map(
    (n): [string, CType] => [n, int(64, true)],
  ),
  ...[
    'unsigned long',
    'long unsigned int',
    'unsigned long long',
    'u64',
    '__u64',
    'uint64_t',
    'size_t',
    'sector_t',
  ].map((n): [string, CType] => [n, int(64, false)]),
  ['void', { kind: 'void' }],
  ...['any', 'unknown', 'value', 'string', 'number', 'boolean', 'bigint', 'object', 'function', 'symbol'].map(
    (n): [string, CType] => [n, { kind: 'js' }],
  ),
]);

const QUALIFIERS = /\b(?:const|volatile|restrict|__restrict|__user|__iomem|__percpu|__rcu|__force)\b/g;
/** Aliases of aliases end somewhere. */
const MAX_ALIASES = 32;

/** A declaration's type behind qualifiers and names (btf_type_skip_modifiers()). */
export function resolveCType(arch: Pick<TraceArch, 'lookupType'>, declared: string, depth = 0): CType {
  const type = declared.replace(QUALIFIERS, ' ').replace(/\s+/g, ' ').trim();
  if (type.endsWith('*')) return { kind: 'ptr', target: type.slice(0, -1) };
  const array = /^(.*?)\s*\[[^\]]*\]$/.exec(type);
  if (array !== null) return { kind: 'array', element: array[1] as string };
  const description = arch.lookupType?.(type);
  if (description?.kind === 'struct') return description;
  if (description !== undefined && depth < MAX_ALIASES)
    return resolveCType(arch, description.type, depth + 1);
  if (type.startsWith('enum ')) return { kind: 'enum', bits: 32 };
  if (/^(?:struct|union) /.test(type)) return { kind: 'struct', members: [] };
  return BASE_TYPES.get(type) ?? { kind: 'unknown' };
}

/** btf_find_struct_member(): a member by its name, also inside of members that have none; its offset counts from the outermost. */
export function findMember(
  members: readonly TypeMember[],
  name: string,
): { readonly member: TypeMember; readonly bitOffset: number } | undefined {
  for (const member of members) {
    if (member.name !== '') {
      if (member.name === name) return { member, bitOffset: member.bitOffset };
      continue;
    }
    const inner = findMember(member.members ?? [], name);
    if (inner !== undefined) return { member: inner.member, bitOffset: inner.bitOffset + member.bitOffset };
  }
  return undefined;
}

function isChar(type: CType): boolean {
  return type.kind === 'int' && type.bits === 8 && !type.isSigned;
}

/** btf_type_is_char_array() */
export function isCharArray(arch: TraceArch, type: CType): boolean {
  return type.kind === 'array' && isChar(resolveCType(arch, type.element));
}

/**
 * btf_type_is_char_ptr(). The kernel looks at the type whose number stands where a pointer has its target's: for an
 * integer or a struct that is its size, and type 8 of a kernel built by gcc is `const char`. So one of eight bytes passes.
 */
export function isCharPointer(arch: TraceArch, type: CType): boolean {
  if (type.kind === 'int' || type.kind === 'enum') return type.bits === 64;
  if (type.kind === 'struct') return type.size === 8;
  return type.kind === 'ptr' && isChar(resolveCType(arch, type.target));
}

/** fetch_type_from_btf_type(): the fetch type that shows such a value; undefined is the default one. */
export function fetchTypeOfCType(type: CType): string | undefined {
  switch (type.kind) {
    case 'int':
      return `${type.isSigned ? 's' : 'u'}${type.bits}`;
    case 'enum':
      return `s${type.bits}`;
    case 'ptr':
      return 'x64';
    case 'js':
      return type.fetchType ?? 's64';
    default:
      return undefined;
  }
}
