/** Constants of the BTF format, under the names of include/uapi/linux/btf.h. */

export const BTF_MAGIC = 0xeb9f;
export const BTF_VERSION = 1;
/** Bytes of struct btf_header. */
export const BTF_HEADER_LENGTH = 24;
export const BTF_MAX_TYPE = 0x000f_ffff;
export const BTF_MAX_NAME_OFFSET = 0x00ff_ffff;
/** How deep one type may refer through others (MAX_RESOLVE_DEPTH of libbpf and of the kernel). */
export const MAX_RESOLVE_DEPTH = 32;

export const BTF_KIND_UNKN = 0;
export const BTF_KIND_INT = 1;
export const BTF_KIND_PTR = 2;
export const BTF_KIND_ARRAY = 3;
export const BTF_KIND_STRUCT = 4;
export const BTF_KIND_UNION = 5;
export const BTF_KIND_ENUM = 6;
export const BTF_KIND_FWD = 7;
export const BTF_KIND_TYPEDEF = 8;
export const BTF_KIND_VOLATILE = 9;
export const BTF_KIND_CONST = 10;
export const BTF_KIND_RESTRICT = 11;
export const BTF_KIND_FUNC = 12;
export const BTF_KIND_FUNC_PROTO = 13;
export const BTF_KIND_VAR = 14;
export const BTF_KIND_DATASEC = 15;
export const BTF_KIND_FLOAT = 16;
export const BTF_KIND_DECL_TAG = 17;
export const BTF_KIND_TYPE_TAG = 18;
export const BTF_KIND_ENUM64 = 19;

/** Bits of BTF_INT_ENCODING(). */
export const BTF_INT_SIGNED = 1;
export const BTF_INT_CHAR = 2;
export const BTF_INT_BOOL = 4;

export const BTF_VAR_STATIC = 0;
export const BTF_VAR_GLOBAL_ALLOCATED = 1;
export const BTF_VAR_GLOBAL_EXTERN = 2;

export const BTF_FUNC_STATIC = 0;
export const BTF_FUNC_GLOBAL = 1;
export const BTF_FUNC_EXTERN = 2;

/** What the kernel's log calls each kind, by its number. */
export const KIND_NAMES = [
  'UNKN',
  'INT',
  'PTR',
  'ARRAY',
  'STRUCT',
  'UNION',
  'ENUM',
  'FWD',
  'TYPEDEF',
  'VOLATILE',
  'CONST',
  'RESTRICT',
  'FUNC',
  'FUNC_PROTO',
  'VAR',
  'DATASEC',
  'FLOAT',
  'DECL_TAG',
  'TYPE_TAG',
  'ENUM64',
] as const;

export type KindName = (typeof KIND_NAMES)[number];

/** How the words after a type's three are laid out: so many once (`fixed`), or so many for each of its `vlen` (`each`). */
export const TRAILING_WORDS: readonly { fixed: number; each: number }[] = KIND_NAMES.map((name) => {
  switch (name) {
    case 'INT':
    case 'VAR':
    case 'DECL_TAG':
      return { fixed: 1, each: 0 };
    case 'ARRAY':
      return { fixed: 3, each: 0 };
    case 'STRUCT':
    case 'UNION':
    case 'DATASEC':
    case 'ENUM64':
      return { fixed: 0, each: 3 };
    case 'ENUM':
    case 'FUNC_PROTO':
      return { fixed: 0, each: 2 };
    default:
      return { fixed: 0, each: 0 };
  }
});

export const infoKind = (info: number): number => (info >>> 24) & 0x1f;
export const infoVlen = (info: number): number => info & 0xffff;
export const infoKindFlag = (info: number): boolean => info >>> 31 === 1;
/** The info word of a type. */
export const makeInfo = (kind: number, vlen = 0, kindFlag = false): number =>
  ((kindFlag ? 0x8000_0000 : 0) | (kind << 24) | vlen) >>> 0;

/** True for the four kinds that only qualify another type, const, volatile, restrict and type tags. */
export const isModifier = (kind: number): boolean =>
  kind === BTF_KIND_CONST ||
  kind === BTF_KIND_VOLATILE ||
  kind === BTF_KIND_RESTRICT ||
  kind === BTF_KIND_TYPE_TAG;

export const isComposite = (kind: number): boolean => kind === BTF_KIND_STRUCT || kind === BTF_KIND_UNION;
export const isAnyEnum = (kind: number): boolean => kind === BTF_KIND_ENUM || kind === BTF_KIND_ENUM64;
