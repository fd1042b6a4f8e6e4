/**
 * Ranges through scalar arithmetic (adjust_scalar_min_max_vals and scalar*_min_max_* of kernel/bpf/verifier.c). All functions change
 * `dst`, a fresh copy.
 */
import * as isa from '../isa.ts';
import type { Reg } from './reg.ts';
import { S32_MAX, S32_MIN, S64_MAX, S64_MIN, U32_MAX } from './reg-bounds.ts';
import {
  TNUM_UNKNOWN,
  type Tnum,
  tnumAdd,
  tnumAnd,
  tnumArshift,
  tnumLshift,
  tnumMul,
  tnumOr,
  tnumRshift,
  tnumSub,
  tnumSubreg,
  tnumXor,
  U64_MAX,
  u64,
} from './tnum.ts';

/** Sets a 32-bit range, unbounded where it does not fit. */
function setS32(dst: Reg, min: number, max: number): void {
  const fits = min >= S32_MIN && max <= S32_MAX && min <= max;
  dst.s32min = fits ? min : S32_MIN;
  dst.s32max = fits ? max : S32_MAX;
}

function setU32(dst: Reg, min: number, max: number): void {
  const fits = min >= 0 && max <= U32_MAX && min <= max;
  dst.u32min = fits ? min : 0;
  dst.u32max = fits ? max : U32_MAX;
}

function setS64(dst: Reg, min: bigint, max: bigint): void {
  const fits = min >= S64_MIN && max <= S64_MAX && min <= max;
  dst.smin = fits ? min : S64_MIN;
  dst.smax = fits ? max : S64_MAX;
}

function setU64(dst: Reg, min: bigint, max: bigint): void {
  const fits = min >= 0n && max <= U64_MAX && min <= max;
  dst.umin = fits ? min : 0n;
  dst.umax = fits ? max : U64_MAX;
}

export function addRanges32(dst: Reg, src: Reg): void {
  setS32(dst, dst.s32min + src.s32min, dst.s32max + src.s32max);
  setU32(dst, dst.u32min + src.u32min, dst.u32max + src.u32max);
}

export function addRanges64(dst: Reg, src: Reg): void {
  setS64(dst, dst.smin + src.smin, dst.smax + src.smax);
  setU64(dst, dst.umin + src.umin, dst.umax + src.umax);
}

function subRanges32(dst: Reg, src: Reg): void {
  setS32(dst, dst.s32min - src.s32max, dst.s32max - src.s32min);
  setU32(dst, dst.u32min - src.u32max, dst.u32max - src.u32min);
}

export function subRanges64(dst: Reg, src: Reg): void {
  setS64(dst, dst.smin - src.smax, dst.smax - src.smin);
  setU64(dst, dst.umin - src.umax, dst.umax - src.umin);
}

function mulRanges32(dst: Reg, src: Reg): void {
  const small = dst.s32min >= 0 && src.s32min >= 0 && dst.u32max <= 0xffff && src.u32max <= 0xffff;
  if (!small) {
    dst.unbounded32();
    return;
  }
  setU32(dst, dst.u32min * src.u32min, dst.u32max * src.u32max);
  setS32(dst, dst.u32min, dst.u32max);
}

function mulRanges64(dst: Reg, src: Reg): void {
  const most = BigInt(U32_MAX);
  const small = dst.smin >= 0n && src.smin >= 0n && dst.umax <= most && src.umax <= most;
  if (!small) {
    dst.unbounded64();
    return;
  }
  setU64(dst, dst.umin * src.umin, dst.umax * src.umax);
  setS64(dst, dst.umin, dst.umax);
}

/** Signed ranges of a result whose unsigned ones are known: the same, unless they cross the sign boundary. */
function signedFromUnsigned(dst: Reg): void {
  const crosses32 = (dst.u32min | 0) > (dst.u32max | 0);
  dst.s32min = crosses32 ? S32_MIN : dst.u32min | 0;
  dst.s32max = crosses32 ? S32_MAX : dst.u32max | 0;
  const min = BigInt.asIntN(64, dst.umin);
  const max = BigInt.asIntN(64, dst.umax);
  dst.smin = min > max ? S64_MIN : min;
  dst.smax = min > max ? S64_MAX : max;
}

const least = (a: bigint, b: bigint): bigint => (a < b ? a : b);
const most = (a: bigint, b: bigint): bigint => (a > b ? a : b);

/** and, or, xor: `varOff` is the result's already. */
function bitwiseRanges(dst: Reg, src: Reg, op: number): void {
  const known = dst.varOff;
  const sub = tnumSubreg(known);
  const lowValue = Number(sub.value);
  const lowMost = Number(sub.value | sub.mask);
  if (op === isa.BPF_AND) {
    dst.u32max = Math.min(dst.u32max, src.u32max);
    dst.u32min = lowValue;
    dst.umax = least(dst.umax, src.umax);
    dst.umin = known.value;
  } else if (op === isa.BPF_OR) {
    dst.u32min = Math.max(dst.u32min, src.u32min);
    dst.u32max = lowMost;
    dst.umin = most(dst.umin, src.umin);
    dst.umax = known.value | known.mask;
  } else {
    dst.u32min = lowValue;
    dst.u32max = lowMost;
    dst.umin = known.value;
    dst.umax = known.value | known.mask;
  }
  signedFromUnsigned(dst);
}

/** A left shift by a known amount (scalar32_min_max_lsh, scalar_min_max_lsh). */
function shiftLeft(dst: Reg, shift: number, is32: boolean): void {
  if (is32) {
    dst.s32min = S32_MIN;
    dst.s32max = S32_MAX;
    const max = dst.u32max * 2 ** shift;
    const fits = max <= U32_MAX;
    dst.u32min = fits ? dst.u32min * 2 ** shift : 0;
    dst.u32max = fits ? max : U32_MAX;
    dst.varOff = tnumSubreg(tnumLshift(tnumSubreg(dst.varOff), shift));
    return;
  }
  // Shifting by 32 and back is how compilers extend the sign: keep the signed range.
  if (shift === 32) setS64(dst, BigInt(dst.s32min) << 32n, BigInt(dst.s32max) << 32n);
  else setS64(dst, 1n, 0n);
  const by = BigInt(shift);
  setU64(dst, dst.umin << by, dst.umax << by);
  dst.varOff = tnumLshift(dst.varOff, shift);
  dst.unbounded32();
}

function shiftRight(dst: Reg, shift: number, is32: boolean): void {
  if (is32) {
    dst.s32min = S32_MIN;
    dst.s32max = S32_MAX;
    dst.u32min >>>= shift;
    dst.u32max >>>= shift;
    dst.varOff = tnumRshift(tnumSubreg(dst.varOff), shift);
    return;
  }
  const by = BigInt(shift);
  dst.smin = S64_MIN;
  dst.smax = S64_MAX;
  dst.umin >>= by;
  dst.umax >>= by;
  dst.varOff = tnumRshift(dst.varOff, shift);
  dst.unbounded32();
}

function shiftRightSigned(dst: Reg, shift: number, is32: boolean): void {
  if (is32) {
    dst.s32min >>= shift;
    dst.s32max >>= shift;
    dst.u32min = 0;
    dst.u32max = U32_MAX;
    dst.varOff = tnumArshift(tnumSubreg(dst.varOff), shift, 32);
    return;
  }
  const by = BigInt(shift);
  dst.smin >>= by;
  dst.smax >>= by;
  dst.umin = 0n;
  dst.umax = U64_MAX;
  dst.varOff = tnumArshift(dst.varOff, shift, 64);
  dst.unbounded32();
}

function unknown(dst: Reg): void {
  dst.varOff = TNUM_UNKNOWN;
  dst.unbounded();
}

/** Both operands are known: the result is. */
function constant(op: number, a: bigint, b: bigint): bigint | undefined {
  switch (op) {
    case isa.BPF_ADD:
      return a + b;
    case isa.BPF_SUB:
      return a - b;
    case isa.BPF_MUL:
      return a * b;
    case isa.BPF_AND:
      return a & b;
    case isa.BPF_OR:
      return a | b;
    case isa.BPF_XOR:
      return a ^ b;
    default:
      return undefined;
  }
}

/** The amount of a shift that the verifier can follow: known and below the operand's width. */
function knownShift(src: Reg, is32: boolean): number | undefined {
  const bits = is32 ? 32n : 64n;
  const amount = is32 ? tnumSubreg(src.varOff) : src.varOff;
  return amount.mask === 0n && src.umax < bits ? Number(amount.value) : undefined;
}

/**
 * `dst = dst op src` (adjust_scalar_min_max_vals); `is32` zero-extends. Operations that are not followed give a scalar of which nothing is
 * known, the upper half of a 32-bit one's included.
 */
export function scalarOp(dst: Reg, src: Reg, op: number, is32: boolean): void {
  if (dst.varOff.mask === 0n && src.varOff.mask === 0n) {
    const value = constant(op, dst.varOff.value, src.varOff.value);
    if (value !== undefined) {
      dst.known(is32 ? BigInt.asUintN(32, value) : u64(value));
      return;
    }
  }
  let combine: ((a: Tnum, b: Tnum) => Tnum) | undefined;
  switch (op) {
    case isa.BPF_ADD:
      addRanges32(dst, src);
      if (!is32) addRanges64(dst, src);
      combine = tnumAdd;
      break;
    case isa.BPF_SUB:
      subRanges32(dst, src);
      if (!is32) subRanges64(dst, src);
      combine = tnumSub;
      break;
    case isa.BPF_MUL:
      combine = tnumMul;
      mulRanges32(dst, src);
      if (!is32) mulRanges64(dst, src);
      break;
    case isa.BPF_AND:
    case isa.BPF_OR:
    case isa.BPF_XOR:
      dst.varOff = (op === isa.BPF_AND ? tnumAnd : op === isa.BPF_OR ? tnumOr : tnumXor)(
        dst.varOff,
        src.varOff,
      );
      bitwiseRanges(dst, src, op);
      break;
    case isa.BPF_LSH:
    case isa.BPF_RSH:
    case isa.BPF_ARSH: {
      const shift = knownShift(src, is32);
      if (shift === undefined) {
        unknown(dst);
        return;
      }
      (op === isa.BPF_LSH ? shiftLeft : op === isa.BPF_RSH ? shiftRight : shiftRightSigned)(dst, shift, is32);
      break;
    }
    default:
      unknown(dst);
      return;
  }
  if (combine !== undefined) dst.varOff = combine(dst.varOff, src.varOff);
  if (is32) dst.zext32();
  dst.sync();
}
