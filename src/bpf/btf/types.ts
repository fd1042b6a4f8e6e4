/** The types of BTF as plain objects, decoded when asked for. Ids are those of the `Btf` they come from. */

/** A member of a struct or a union. Offsets count bits from the start of the struct. */
export interface BtfMember {
  /** Empty for an anonymous struct or union. */
  readonly name: string;
  readonly type: number;
  readonly bitOffset: number;
  /** Width of a bitfield; 0 for an ordinary member. */
  readonly bitSize: number;
}

export interface BtfEnumerator {
  readonly name: string;
  /** Signed where the enum is; 32 bits in an ENUM, 64 in an ENUM64. */
  readonly value: bigint;
}

export interface BtfParam {
  readonly name: string;
  /** 0 with an empty name as the last parameter is `...`. */
  readonly type: number;
}

/** Where a variable lies in its section. Bytes. */
export interface BtfSecVar {
  readonly type: number;
  readonly offset: number;
  readonly size: number;
}

export type BtfLinkage = 'static' | 'global' | 'extern';

interface Named {
  readonly id: number;
  readonly name: string;
}

export interface BtfVoid extends Named {
  readonly kind: 'UNKN';
}
export interface BtfInt extends Named {
  readonly kind: 'INT';
  /** Bytes. */
  readonly size: number;
  readonly signed: boolean;
  readonly char: boolean;
  readonly bool: boolean;
  /** Bits that hold the value, from `bitOffset` on (both only matter for bitfields of the oldest compilers). */
  readonly bits: number;
  readonly bitOffset: number;
}
export interface BtfRef extends Named {
  readonly kind: 'PTR' | 'TYPEDEF' | 'VOLATILE' | 'CONST' | 'RESTRICT';
  readonly type: number;
}
export interface BtfTypeTag extends Named {
  readonly kind: 'TYPE_TAG';
  readonly type: number;
  /** The name is a whole attribute, not the argument of btf_type_tag (kind_flag, Linux 6.15). */
  readonly attribute: boolean;
}
export interface BtfArray extends Named {
  readonly kind: 'ARRAY';
  readonly type: number;
  readonly indexType: number;
  readonly nelems: number;
}
export interface BtfComposite extends Named {
  readonly kind: 'STRUCT' | 'UNION';
  readonly size: number;
  readonly members: readonly BtfMember[];
}
export interface BtfEnum extends Named {
  readonly kind: 'ENUM' | 'ENUM64';
  readonly size: number;
  readonly signed: boolean;
  readonly values: readonly BtfEnumerator[];
}
export interface BtfFwd extends Named {
  readonly kind: 'FWD';
  readonly union: boolean;
}
export interface BtfFunc extends Named {
  readonly kind: 'FUNC';
  /** Its FUNC_PROTO. */
  readonly type: number;
  readonly linkage: BtfLinkage;
}
export interface BtfFuncProto extends Named {
  readonly kind: 'FUNC_PROTO';
  /** The type of the result; 0 is void. */
  readonly type: number;
  readonly params: readonly BtfParam[];
}
export interface BtfVar extends Named {
  readonly kind: 'VAR';
  readonly type: number;
  readonly linkage: BtfLinkage;
}
export interface BtfDatasec extends Named {
  readonly kind: 'DATASEC';
  readonly size: number;
  readonly vars: readonly BtfSecVar[];
}
export interface BtfFloat extends Named {
  readonly kind: 'FLOAT';
  readonly size: number;
}
export interface BtfDeclTag extends Named {
  readonly kind: 'DECL_TAG';
  readonly type: number;
  /** Which member or parameter is tagged; -1 is the type itself. */
  readonly componentIndex: number;
  readonly attribute: boolean;
}

export type BtfType =
  | BtfVoid
  | BtfInt
  | BtfRef
  | BtfTypeTag
  | BtfArray
  | BtfComposite
  | BtfEnum
  | BtfFwd
  | BtfFunc
  | BtfFuncProto
  | BtfVar
  | BtfDatasec
  | BtfFloat
  | BtfDeclTag;
