/**
 * What the known bits of a value and its four ranges, signed and unsigned, of the whole and of its lower half, tell each other
 * (reg_bounds_sync of kernel/bpf/verifier.c).
 */
import {
  s64,
  TNUM_UNKNOWN,
  type Tnum,
  tnumClearSubreg,
  tnumIntersect,
  tnumOr,
  tnumRange,
  tnumSubreg,
  U64_MAX,
  u64,
} from './tnum.ts';

export const S64_MIN = -(1n << 63n);
export const S64_MAX = (1n << 63n) - 1n;
export const S32_MIN = -0x8000_0000;
export const S32_MAX = 0x7fff_ffff;
export const U32_MAX = 0xffff_ffff;
export const LOW32 = 0xffff_ffffn;
const SIGN = 1n << 63n;
const BELOW_SIGN = SIGN - 1n;

export const low = (value: bigint): number => Number(value & LOW32);
const high = (value: bigint): number => Number((value >> 32n) & LOW32);

/** The bits and ranges of a register. */
export interface Bounds {
  varOff: Tnum;
  smin: bigint;
  smax: bigint;
  umin: bigint;
  umax: bigint;
  s32min: number;
  s32max: number;
  u32min: number;
  u32max: number;
  /** Makes it a constant. */
  known(value: bigint): unknown;
  /** Forgets the ranges, and keeps the bits. */
  unbounded(): unknown;
}

/** __update_reg_bounds: what the known bits say about the ranges. */
function updateBounds(reg: Bounds): void {
  const { value, mask } = reg.varOff;
  const lowValue = low(value);
  const lowMask = low(mask);
  reg.s32min = Math.max(reg.s32min, lowValue | (lowMask & S32_MIN));
  reg.s32max = Math.min(reg.s32max, lowValue | (lowMask & S32_MAX));
  reg.u32min = Math.max(reg.u32min, lowValue);
  reg.u32max = Math.min(reg.u32max, (lowValue | lowMask) >>> 0);
  const smin = s64(value | (mask & SIGN));
  const smax = s64(value | (mask & BELOW_SIGN));
  const most = value | mask;
  if (smin > reg.smin) reg.smin = smin;
  if (smax < reg.smax) reg.smax = smax;
  if (value > reg.umin) reg.umin = value;
  if (most < reg.umax) reg.umax = most;
}

function narrowU32(reg: Bounds, min: number, max: number): void {
  reg.u32min = Math.max(reg.u32min, min);
  reg.u32max = Math.min(reg.u32max, max);
}

function narrowS32(reg: Bounds, min: number, max: number): void {
  reg.s32min = Math.max(reg.s32min, min);
  reg.s32max = Math.min(reg.s32max, max);
}

function narrowU64(reg: Bounds, min: bigint, max: bigint): void {
  if (min > reg.umin) reg.umin = min;
  if (max < reg.umax) reg.umax = max;
}

function narrowS64(reg: Bounds, min: bigint, max: bigint): void {
  if (min > reg.smin) reg.smin = min;
  if (max < reg.smax) reg.smax = max;
}

/** What a 64-bit range says about the lower half. */
function deduceLow(reg: Bounds, min: bigint, max: bigint): void {
  const lowMin = low(min);
  const lowMax = low(max);
  const highMin = high(min);
  const highMax = high(max);
  if (highMin === highMax) {
    if (lowMin <= lowMax) narrowU32(reg, lowMin, lowMax);
    if ((lowMin | 0) <= (lowMax | 0)) narrowS32(reg, lowMin | 0, lowMax | 0);
  } else if ((highMin + 1) >>> 0 === highMax && (lowMin | 0) < 0 && (lowMax | 0) >= 0) {
    // From the end of one 2^32 block to the start of the next: a range around zero when taken as signed.
    narrowS32(reg, lowMin | 0, lowMax | 0);
  }
}

/** __reg32_deduce_bounds */
function deduce32(reg: Bounds): void {
  deduceLow(reg, reg.umin, reg.umax);
  if (reg.smin !== reg.umin || reg.smax !== reg.umax) deduceLow(reg, u64(reg.smin), u64(reg.smax));
  if ((reg.u32min | 0) <= (reg.u32max | 0)) narrowS32(reg, reg.u32min | 0, reg.u32max | 0);
  const min = reg.s32min >>> 0;
  const max = reg.s32max >>> 0;
  if (min <= max) narrowU32(reg, min, max);
  else if (reg.u32max < min) {
    // The signed range goes across zero, and the unsigned one has only its part from zero on.
    reg.s32min = reg.u32min | 0;
    reg.u32max = Math.min(reg.u32max, max);
  } else if (max < reg.u32min) {
    reg.s32max = reg.u32max | 0;
    reg.u32min = Math.max(reg.u32min, min);
  }
}

/** __reg64_deduce_bounds */
function deduce64(reg: Bounds): void {
  if (reg.smin === reg.umin && reg.smax === reg.umax) return;
  if (s64(reg.umin) <= s64(reg.umax)) narrowS64(reg, s64(reg.umin), s64(reg.umax));
  const min = u64(reg.smin);
  const max = u64(reg.smax);
  if (min <= max) narrowU64(reg, min, max);
  else if (reg.umax < min) {
    reg.smin = s64(reg.umin);
    if (max < reg.umax) reg.umax = max;
  } else if (max < reg.umin) {
    reg.smax = s64(reg.umax);
    if (min > reg.umin) reg.umin = min;
  }
}

/** The whole, where its lower half is between `low32` and `high32` (unsigned). */
function narrowByLow(reg: Bounds, low32: number, high32: number): void {
  if (low32 === 0 && high32 === U32_MAX) return;
  const min = BigInt(low32);
  const max = BigInt(high32);
  narrowU64(reg, (reg.umin & ~LOW32) | min, (reg.umax & ~LOW32) | max);
  narrowS64(reg, (reg.smin & ~LOW32) | min, (reg.smax & ~LOW32) | max);
}

/** __reg_deduce_mixed_bounds: what the lower half says about the whole. */
function deduceMixed(reg: Bounds): void {
  narrowByLow(reg, reg.u32min, reg.u32max);
  const isSame = reg.s32min >>> 0 === reg.u32min && reg.s32max >>> 0 === reg.u32max;
  if (!isSame && reg.s32min >>> 0 <= reg.s32max >>> 0) narrowByLow(reg, reg.s32min >>> 0, reg.s32max >>> 0);
  if (reg.s32min >= 0 && reg.smin >= BigInt(S32_MIN) && reg.smax <= BigInt(S32_MAX)) {
    reg.smin = BigInt(reg.s32min);
    reg.smax = BigInt(reg.s32max);
    reg.umin = reg.smin;
    reg.umax = reg.smax;
    reg.varOff = tnumIntersect(reg.varOff, tnumRange(reg.smin, reg.smax));
  }
}

function isInconsistent(reg: Bounds): boolean {
  return reg.umin > reg.umax || reg.smin > reg.smax || reg.u32min > reg.u32max || reg.s32min > reg.s32max;
}

/** Nothing is known: there is nothing to learn either. */
function isUnbounded(reg: Bounds): boolean {
  return (
    reg.u32min === 0 &&
    reg.u32max === U32_MAX &&
    reg.s32min === S32_MIN &&
    reg.s32max === S32_MAX &&
    reg.umin === 0n &&
    reg.umax === U64_MAX &&
    reg.smin === S64_MIN &&
    reg.smax === S64_MAX &&
    reg.varOff.mask === U64_MAX
  );
}

/** reg_bounds_sync: bits and ranges learn from each other. */
export function syncBounds(reg: Bounds): void {
  if (reg.varOff.mask === 0n) {
    // A constant has nothing to learn.
    if (reg.smin <= s64(reg.varOff.value) && s64(reg.varOff.value) <= reg.smax) {
      reg.known(reg.varOff.value);
      return;
    }
  }
  if (isUnbounded(reg)) return;
  updateBounds(reg);
  for (let round = 0; round < 3; round++) {
    const { umin, umax, smin, smax, u32min, u32max, s32min, s32max } = reg;
    deduce32(reg);
    deduce64(reg);
    deduceMixed(reg);
    const isSame32 =
      u32min === reg.u32min && u32max === reg.u32max && s32min === reg.s32min && s32max === reg.s32max;
    // What taught nothing once teaches nothing again.
    if (isSame32 && umin === reg.umin && umax === reg.umax && smin === reg.smin && smax === reg.smax) break;
  }
  if (isInconsistent(reg)) {
    reg.unbounded();
    return;
  }
  // __reg_bound_offset
  const whole = tnumIntersect(reg.varOff, tnumRange(reg.umin, reg.umax));
  const sub = tnumIntersect(tnumSubreg(whole), tnumRange(BigInt(reg.u32min), BigInt(reg.u32max)));
  reg.varOff = tnumOr(tnumClearSubreg(whole), sub);
  updateBounds(reg);
  if (isInconsistent(reg)) {
    // reg_bounds_sanity_check: a branch that cannot be taken; know nothing rather than something wrong.
    reg.varOff = TNUM_UNKNOWN;
    reg.unbounded();
  }
}
