/**
 * What is known about one register or spilled stack slot (`struct bpf_reg_state`, include/linux/bpf_verifier.h).
 * A Reg that is part of a state is never changed: states share them. Change a `copy()` and put it in its place.
 */
import type { Btf } from '../btf/btf.ts';
import {
  bitLength,
  s64,
  TNUM_UNKNOWN,
  TNUM_ZERO,
  type Tnum,
  tnumClearSubreg,
  tnumConst,
  tnumIntersect,
  tnumIsConst,
  tnumOr,
  tnumRange,
  tnumSubreg,
  U64_MAX,
  u64,
} from './tnum.ts';

/** enum bpf_reg_type. */
export type RegType =
  | 'not_init'
  | 'scalar'
  | 'ctx'
  | 'map_ptr'
  | 'map_key'
  | 'map_value'
  | 'fp'
  | 'mem'
  | 'func'
  | 'pkt'
  | 'pkt_meta'
  | 'pkt_end'
  | 'flow_keys'
  | 'sock'
  | 'sock_common'
  | 'tcp_sock'
  | 'xdp_sock'
  | 'tp_buffer'
  | 'ptr_'
  | 'buf'
  | 'arena'
  | 'dynptr_ptr';

/** Type flags (enum bpf_type_flag), `Reg.flags`. */
export const F_RDONLY = 1;
/** Memory of bpf_obj_new (MEM_ALLOC). */
export const F_ALLOC = 2;
export const F_USER = 4;
export const F_PERCPU = 8;
export const F_UNTRUSTED = 16;
export const F_TRUSTED = 32;
export const F_RCU = 64;
/** Valid as long as the lock is held (NON_OWN_REF). */
export const F_NON_OWN = 128;

/** The verifier's view of a BTF that types come from. */
export interface StructRef {
  readonly btf: Btf;
  /** The program's own types (bpf_obj_new), not the target's. */
  readonly isLocal: boolean;
}

/** Kinds of dynptr (enum bpf_dynptr_type). */
export type DynptrKind = 'local' | 'ringbuf' | 'skb' | 'xdp';

/** `Reg.range` of a packet pointer that is behind or at the packet's end. */
export const BEYOND_PKT_END = -2;
export const AT_PKT_END = -1;

export const S64_MIN = -(1n << 63n);
export const S64_MAX = (1n << 63n) - 1n;
export const S32_MIN = -0x8000_0000;
export const S32_MAX = 0x7fff_ffff;
export const U32_MAX = 0xffff_ffff;
const LOW32 = 0xffff_ffffn;
const SIGN = 1n << 63n;
const BELOW_SIGN = SIGN - 1n;

const low = (value: bigint): number => Number(value & LOW32);
const high = (value: bigint): number => Number((value >> 32n) & LOW32);

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

export class Reg {
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

  /** __update_reg_bounds: what the known bits say about the ranges. */
  private updateBounds(): void {
    const { value, mask } = this.varOff;
    const lowValue = low(value);
    const lowMask = low(mask);
    this.s32min = Math.max(this.s32min, lowValue | (lowMask & S32_MIN));
    this.s32max = Math.min(this.s32max, lowValue | (lowMask & S32_MAX));
    this.u32min = Math.max(this.u32min, lowValue);
    this.u32max = Math.min(this.u32max, (lowValue | lowMask) >>> 0);
    const smin = s64(value | (mask & SIGN));
    const smax = s64(value | (mask & BELOW_SIGN));
    const most = value | mask;
    if (smin > this.smin) this.smin = smin;
    if (smax < this.smax) this.smax = smax;
    if (value > this.umin) this.umin = value;
    if (most < this.umax) this.umax = most;
  }

  private narrowU32(min: number, max: number): void {
    this.u32min = Math.max(this.u32min, min);
    this.u32max = Math.min(this.u32max, max);
  }

  private narrowS32(min: number, max: number): void {
    this.s32min = Math.max(this.s32min, min);
    this.s32max = Math.min(this.s32max, max);
  }

  private narrowU64(min: bigint, max: bigint): void {
    if (min > this.umin) this.umin = min;
    if (max < this.umax) this.umax = max;
  }

  private narrowS64(min: bigint, max: bigint): void {
    if (min > this.smin) this.smin = min;
    if (max < this.smax) this.smax = max;
  }

  /** What a 64-bit range says about the lower half. */
  private deduceLow(min: bigint, max: bigint): void {
    const lowMin = low(min);
    const lowMax = low(max);
    const highMin = high(min);
    const highMax = high(max);
    if (highMin === highMax) {
      if (lowMin <= lowMax) this.narrowU32(lowMin, lowMax);
      if ((lowMin | 0) <= (lowMax | 0)) this.narrowS32(lowMin | 0, lowMax | 0);
    } else if ((highMin + 1) >>> 0 === highMax && (lowMin | 0) < 0 && (lowMax | 0) >= 0) {
      // From the end of one 2^32 block to the start of the next: a range around zero when taken as signed.
      this.narrowS32(lowMin | 0, lowMax | 0);
    }
  }

  /** __reg32_deduce_bounds */
  private deduce32(): void {
    this.deduceLow(this.umin, this.umax);
    if (this.smin !== this.umin || this.smax !== this.umax) this.deduceLow(u64(this.smin), u64(this.smax));
    if ((this.u32min | 0) <= (this.u32max | 0)) this.narrowS32(this.u32min | 0, this.u32max | 0);
    const min = this.s32min >>> 0;
    const max = this.s32max >>> 0;
    if (min <= max) this.narrowU32(min, max);
    else if (this.u32max < min) {
      // The signed range goes across zero, and the unsigned one has only its part from zero on.
      this.s32min = this.u32min | 0;
      this.u32max = Math.min(this.u32max, max);
    } else if (max < this.u32min) {
      this.s32max = this.u32max | 0;
      this.u32min = Math.max(this.u32min, min);
    }
  }

  /** __reg64_deduce_bounds */
  private deduce64(): void {
    if (this.smin === this.umin && this.smax === this.umax) return;
    if (s64(this.umin) <= s64(this.umax)) this.narrowS64(s64(this.umin), s64(this.umax));
    const min = u64(this.smin);
    const max = u64(this.smax);
    if (min <= max) this.narrowU64(min, max);
    else if (this.umax < min) {
      this.smin = s64(this.umin);
      if (max < this.umax) this.umax = max;
    } else if (max < this.umin) {
      this.smax = s64(this.umax);
      if (min > this.umin) this.umin = min;
    }
  }

  /** The whole, where its lower half is between `low32` and `high32` (unsigned). */
  private narrowByLow(low32: number, high32: number): void {
    if (low32 === 0 && high32 === U32_MAX) return;
    const min = BigInt(low32);
    const max = BigInt(high32);
    this.narrowU64((this.umin & ~LOW32) | min, (this.umax & ~LOW32) | max);
    this.narrowS64((this.smin & ~LOW32) | min, (this.smax & ~LOW32) | max);
  }

  /** __reg_deduce_mixed_bounds: what the lower half says about the whole. */
  private deduceMixed(): void {
    this.narrowByLow(this.u32min, this.u32max);
    const isSame = this.s32min >>> 0 === this.u32min && this.s32max >>> 0 === this.u32max;
    if (!isSame && this.s32min >>> 0 <= this.s32max >>> 0)
      this.narrowByLow(this.s32min >>> 0, this.s32max >>> 0);
    if (this.s32min >= 0 && this.smin >= BigInt(S32_MIN) && this.smax <= BigInt(S32_MAX)) {
      this.smin = BigInt(this.s32min);
      this.smax = BigInt(this.s32max);
      this.umin = this.smin;
      this.umax = this.smax;
      this.varOff = tnumIntersect(this.varOff, tnumRange(this.smin, this.smax));
    }
  }

  private get isInconsistent(): boolean {
    return (
      this.umin > this.umax || this.smin > this.smax || this.u32min > this.u32max || this.s32min > this.s32max
    );
  }

  /** Nothing is known: there is nothing to learn either. */
  private get isUnbounded(): boolean {
    return (
      this.u32min === 0 &&
      this.u32max === U32_MAX &&
      this.s32min === S32_MIN &&
      this.s32max === S32_MAX &&
      this.umin === 0n &&
      this.umax === U64_MAX &&
      this.smin === S64_MIN &&
      this.smax === S64_MAX &&
      this.varOff.mask === U64_MAX
    );
  }

  /** reg_bounds_sync: bits and ranges learn from each other. */
  sync(): this {
    if (this.varOff.mask === 0n) {
      // A constant has nothing to learn.
      if (this.smin <= s64(this.varOff.value) && s64(this.varOff.value) <= this.smax)
        return this.known(this.varOff.value);
    }
    if (this.isUnbounded) return this;
    this.updateBounds();
    for (let round = 0; round < 3; round++) {
      const { umin, umax, smin, smax, u32min, u32max, s32min, s32max } = this;
      this.deduce32();
      this.deduce64();
      this.deduceMixed();
      const isSame32 =
        u32min === this.u32min && u32max === this.u32max && s32min === this.s32min && s32max === this.s32max;
      // What taught nothing once teaches nothing again.
      if (isSame32 && umin === this.umin && umax === this.umax && smin === this.smin && smax === this.smax)
        break;
    }
    if (this.isInconsistent) return this.unbounded();
    // __reg_bound_offset
    const whole = tnumIntersect(this.varOff, tnumRange(this.umin, this.umax));
    const sub = tnumIntersect(tnumSubreg(whole), tnumRange(BigInt(this.u32min), BigInt(this.u32max)));
    this.varOff = tnumOr(tnumClearSubreg(whole), sub);
    this.updateBounds();
    if (this.isInconsistent) {
      // reg_bounds_sanity_check: a branch that cannot be taken; know nothing rather than something wrong.
      this.varOff = TNUM_UNKNOWN;
      return this.unbounded();
    }
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

/** reg_type_str */
export function typeString(type: RegType, flags: number, nullable: boolean, ringbuf = false): string {
  const base = type === 'not_init' ? '?' : type;
  if (flags === 0 && !ringbuf && !nullable) return base;
  let prefix = '';
  if ((flags & F_RDONLY) !== 0) prefix += 'rdonly_';
  if (ringbuf) prefix += 'ringbuf_';
  if ((flags & F_USER) !== 0) prefix += 'user_';
  if ((flags & F_PERCPU) !== 0) prefix += 'percpu_';
  if ((flags & F_RCU) !== 0) prefix += 'rcu_';
  if ((flags & F_UNTRUSTED) !== 0) prefix += 'untrusted_';
  if ((flags & F_TRUSTED) !== 0) prefix += 'trusted_';
  return `${prefix}${base}${nullable ? (type === 'ptr_' ? 'or_null_' : '_or_null') : ''}`;
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
