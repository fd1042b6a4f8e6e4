/**
 * What is known about one register or spilled stack slot (`struct bpf_reg_state`, include/linux/bpf_verifier.h).
 * A Reg that is part of a state is never changed: states share them. Change a `copy()` and put it in its place.
 */
import {
  type Bounds,
  LOW32,
  low,
  S32_MAX,
  S32_MIN,
  S64_MAX,
  S64_MIN,
  syncBounds,
  U32_MAX,
} from './reg-bounds.ts';
import { type DynptrKind, type RegType, type StructRef, typeString } from './reg-type.ts';
import {
  bitLength,
  s64,
  TNUM_UNKNOWN,
  TNUM_ZERO,
  type Tnum,
  tnumConst,
  tnumIsConst,
  tnumSubreg,
  U64_MAX,
  u64,
} from './tnum.ts';

/** `Reg.range` of a packet pointer that is behind or at the packet's end. */
export const BEYOND_PKT_END = -2;
export const AT_PKT_END = -1;

/** What a register has of data. */
type Fields = Pick<
  Reg,
  | 'type'
  | 'nullable'
  | 'ringbuf'
  | 'off'
  | 'map'
  | 'memSize'
  | 'frame'
  | 'id'
  | 'addConst'
  | 'refObjId'
  | 'flags'
  | 'range'
  | 'btf'
  | 'btfId'
  | 'mapUid'
  | 'dynptr'
  | 'dynptrId'
  | 'varOff'
  | 'smin'
  | 'smax'
  | 'umin'
  | 'umax'
  | 's32min'
  | 's32max'
  | 'u32min'
  | 'u32max'
>;

const BLANK: Fields = {
  type: 'not_init',
  nullable: false,
  ringbuf: false,
  off: 0,
  map: -1,
  memSize: 0,
  frame: 0,
  id: 0,
  addConst: false,
  refObjId: 0,
  flags: 0,
  range: 0,
  btf: undefined,
  btfId: 0,
  mapUid: 0,
  dynptr: undefined,
  dynptrId: 0,
  varOff: TNUM_UNKNOWN,
  smin: S64_MIN,
  smax: S64_MAX,
  umin: 0n,
  umax: U64_MAX,
  s32min: S32_MIN,
  s32max: S32_MAX,
  u32min: 0,
  u32max: U32_MAX,
};

export class Reg implements Bounds {
  declare type: RegType;
  /** PTR_MAYBE_NULL */
  declare nullable: boolean;
  /** Memory of a ring buffer record (MEM_RINGBUF). */
  declare ringbuf: boolean;
  /** Pointers: fixed offset. Scalars linked by `id`: what was added (with `addConst`). */
  declare off: number;
  /** Pointers: map_key, map_value and map_ptr. Index into the program's maps; -1 for none. */
  declare map: number;
  /** mem: bytes. func: index of the function. */
  declare memSize: number;
  /** fp: number of the frame it points into. */
  declare frame: number;
  /** Registers with one id have one value (scalars, plus `off`), or become non-NULL together (pointers). */
  declare id: number;
  /** The register is its id's value plus `off` (BPF_ADD_CONST). */
  declare addConst: boolean;
  declare refObjId: number;
  /** `F_*` */
  declare flags: number;
  /** pkt, pkt_meta: bytes that were found to be inside of the packet. */
  declare range: number;
  /** ptr_: its type. */
  declare btf: StructRef | undefined;
  declare btfId: number;
  /** map_ptr, map_value of an inner map: which lookup it came from. */
  declare mapUid: number;
  /** dynptr_ptr: what it is. mem: a slice of such a dynptr. */
  declare dynptr: DynptrKind | undefined;
  /** mem, dynptr_ptr: the dynptr it belongs to. */
  declare dynptrId: number;

  // Scalars: the value. Pointers: the variable part of the offset.
  declare varOff: Tnum;
  declare smin: bigint;
  declare smax: bigint;
  declare umin: bigint;
  declare umax: bigint;
  declare s32min: number;
  declare s32max: number;
  declare u32min: number;
  declare u32max: number;

  /** As `from`, or as a register that was never written. Assigned one by one: class fields cost several times as much. */
  constructor(from: Fields = BLANK) {
    this.type = from.type;
    this.nullable = from.nullable;
    this.ringbuf = from.ringbuf;
    this.off = from.off;
    this.map = from.map;
    this.memSize = from.memSize;
    this.frame = from.frame;
    this.id = from.id;
    this.addConst = from.addConst;
    this.refObjId = from.refObjId;
    this.flags = from.flags;
    this.range = from.range;
    this.btf = from.btf;
    this.btfId = from.btfId;
    this.mapUid = from.mapUid;
    this.dynptr = from.dynptr;
    this.dynptrId = from.dynptrId;
    this.varOff = from.varOff;
    this.smin = from.smin;
    this.smax = from.smax;
    this.umin = from.umin;
    this.umax = from.umax;
    this.s32min = from.s32min;
    this.s32max = from.s32max;
    this.u32min = from.u32min;
    this.u32max = from.u32max;
  }

  copy(): Reg {
    return new Reg(this);
  }

  get isConst(): boolean {
    return this.varOff.mask === 0n;
  }

  /** register_is_null: the scalar 0. */
  get isNull(): boolean {
    return this.type === 'scalar' && this.varOff.mask === 0n && this.varOff.value === 0n;
  }

  get isPointer(): boolean {
    return this.type !== 'scalar' && this.type !== 'not_init';
  }

  unbounded(): this {
    this.smin = S64_MIN;
    this.smax = S64_MAX;
    this.umin = 0n;
    this.umax = U64_MAX;
    return this.unbounded32();
  }

  unbounded64(): void {
    this.smin = S64_MIN;
    this.smax = S64_MAX;
    this.umin = 0n;
    this.umax = U64_MAX;
  }

  unbounded32(): this {
    this.s32min = S32_MIN;
    this.s32max = S32_MAX;
    this.u32min = 0;
    this.u32max = U32_MAX;
    return this;
  }

  /** The bits and ranges of a constant; what kind of register it is stays. */
  known(value: bigint): this {
    const unsigned = u64(value);
    this.varOff = tnumConst(unsigned);
    this.umin = unsigned;
    this.umax = unsigned;
    this.smin = s64(unsigned);
    this.smax = this.smin;
    this.u32min = low(unsigned);
    this.u32max = this.u32min;
    this.s32min = this.u32min | 0;
    this.s32max = this.s32min;
    return this;
  }

  /** reg_bounds_sync: bits and ranges learn from each other. */
  sync(): this {
    syncBounds(this);
    return this;
  }

  /** zext_32_to_64: the upper half becomes zero. */
  zext32(): this {
    this.varOff = tnumSubreg(this.varOff);
    this.umin = BigInt(this.u32min);
    this.umax = BigInt(this.u32max);
    if (this.s32min >= 0 && this.s32max >= 0) {
      this.smin = BigInt(this.s32min);
      this.smax = BigInt(this.s32max);
    } else {
      this.smin = 0n;
      this.smax = LOW32;
    }
    return this;
  }

  /** coerce_reg_to_size: after a zero-extending load or store of fewer bytes. */
  coerce(bytes: number): this {
    const bits = BigInt(bytes * 8);
    const mask = (1n << bits) - 1n;
    this.varOff = { value: this.varOff.value & mask, mask: this.varOff.mask & mask };
    if ((this.umin & ~mask) === (this.umax & ~mask)) {
      this.umin &= mask;
      this.umax &= mask;
    } else {
      this.umin = 0n;
      this.umax = mask;
    }
    this.smin = this.umin;
    this.smax = this.umax;
    if (bytes < 4) this.unbounded32();
    return this.sync();
  }

  /** coerce_reg_to_size_sx: sign extension from `bytes` to 64 bits. */
  signExtend(bytes: number): this {
    const bits = bytes * 8;
    if (this.isConst) return this.known(BigInt.asIntN(bits, this.varOff.value));
    const shift = BigInt(bits);
    const min = this.smin >> shift === this.smax >> shift ? BigInt.asIntN(bits, this.smin) : 1n;
    const max = this.smin >> shift === this.smax >> shift ? BigInt.asIntN(bits, this.smax) : 0n;
    const sign = 1n << (shift - 1n);
    const known = this.varOff;
    this.unbounded();
    // The bits that the sign is copied to are known where the sign is.
    const lowMask = (1n << shift) - 1n;
    let value = known.value & lowMask;
    let mask = known.mask & lowMask;
    if ((mask & sign) !== 0n) mask |= U64_MAX & ~lowMask;
    else if ((value & sign) !== 0n) value |= U64_MAX & ~lowMask;
    this.varOff = { value, mask };
    if (min <= max) {
      this.smin = min;
      this.smax = max;
    } else {
      this.smin = -sign;
      this.smax = sign - 1n;
    }
    return this.sync();
  }

  /** coerce_subreg_to_size_sx: sign extension from `bytes` to 32 bits, and then zero extension. */
  signExtend32(bytes: number): this {
    this.signExtend(bytes);
    // The low half of the 64-bit extension is the 32-bit one.
    this.varOff = tnumSubreg(this.varOff);
    const { s32min, s32max, u32min, u32max } = this;
    this.unbounded64();
    this.s32min = s32min;
    this.s32max = s32max;
    this.u32min = u32min;
    this.u32max = u32max;
    return this.zext32().sync();
  }

  /** get_reg_width: bits that the value may need. */
  get width(): number {
    return bitLength(this.umax);
  }

  /** reg_type_str */
  get typeName(): string {
    return typeString(this.type, this.flags, this.nullable, this.ringbuf);
  }
}

export const NOT_INIT: Reg = new Reg();
export const UNKNOWN: Reg = (() => {
  const reg = new Reg();
  reg.type = 'scalar';
  return reg;
})();

/** A scalar constant. */
export function scalarConst(value: bigint): Reg {
  const reg = new Reg();
  reg.type = 'scalar';
  return reg.known(value);
}
export const ZERO: Reg = scalarConst(0n);

/** A pointer with no variable offset. */
export function pointer(type: RegType): Reg {
  const reg = new Reg();
  reg.type = type;
  reg.varOff = TNUM_ZERO;
  return reg.known(0n);
}

export const isPacket = (reg: Reg): boolean => reg.type === 'pkt' || reg.type === 'pkt_meta';
export const isPacketAny = (reg: Reg): boolean => isPacket(reg) || reg.type === 'pkt_end';

/** The unknown scalar that a load of `bytes` gives. */
export const LOADED: Readonly<Record<1 | 2 | 4 | 8, Reg>> = {
  1: UNKNOWN.copy().coerce(1),
  2: UNKNOWN.copy().coerce(2),
  4: UNKNOWN.copy().coerce(4),
  8: UNKNOWN,
};

export const regIsConst = (reg: Reg, is32: boolean): boolean =>
  reg.type === 'scalar' && (is32 ? (reg.varOff.mask & LOW32) === 0n : tnumIsConst(reg.varOff));
export const regConstValue = (reg: Reg, is32: boolean): bigint =>
  is32 ? reg.varOff.value & LOW32 : reg.varOff.value;
