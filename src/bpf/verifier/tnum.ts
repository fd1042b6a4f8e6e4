/**
 * Tracked numbers (kernel/bpf/tnum.c): 64-bit values of which some bits are known. Bits set in `mask` are unknown; `value` has
 * the others and zeros there. Both are unsigned.
 */
export interface Tnum {
  readonly value: bigint;
  readonly mask: bigint;
}

export const U64_MAX = 0xffff_ffff_ffff_ffffn;
const LOW32 = 0xffff_ffffn;
const HIGH32 = U64_MAX ^ LOW32;

export const u64 = (value: bigint): bigint => BigInt.asUintN(64, value);
export const s64 = (value: bigint): bigint => BigInt.asIntN(64, value);

export const TNUM_UNKNOWN: Tnum = { value: 0n, mask: U64_MAX };
export const TNUM_ZERO: Tnum = { value: 0n, mask: 0n };

const tnum = (value: bigint, mask: bigint): Tnum => ({ value, mask });

export const tnumConst = (value: bigint): Tnum => tnum(u64(value), 0n);
export const tnumIsConst = (a: Tnum): boolean => a.mask === 0n;

/** Bits that a u64 needs. */
export function bitLength(value: bigint): number {
  const high = Number(value >> 32n);
  return high !== 0 ? 64 - Math.clz32(high) : 32 - Math.clz32(Number(value & LOW32));
}

/** `LOW_BITS[n]` has the low n bits set. */
const LOW_BITS: readonly bigint[] = Array.from({ length: 65 }, (_, n) => (1n << BigInt(n)) - 1n);

/** The smallest tnum that has all of [min, max]. */
export function tnumRange(min: bigint, max: bigint): Tnum {
  const bits = bitLength(min ^ max);
  if (bits > 63) return TNUM_UNKNOWN;
  const delta = LOW_BITS[bits]!;
  return tnum(min & ~delta, delta);
}

export const tnumLshift = (a: Tnum, shift: number): Tnum =>
  tnum(u64(a.value << BigInt(shift)), u64(a.mask << BigInt(shift)));
export const tnumRshift = (a: Tnum, shift: number): Tnum =>
  tnum(a.value >> BigInt(shift), a.mask >> BigInt(shift));

/** The sign bit is bit `bits - 1`; the result of a 32-bit shift has its upper half clear. */
export function tnumArshift(a: Tnum, shift: number, bits: 32 | 64): Tnum {
  const by = BigInt(shift);
  return tnum(
    BigInt.asUintN(bits, BigInt.asIntN(bits, a.value) >> by),
    BigInt.asUintN(bits, BigInt.asIntN(bits, a.mask) >> by),
  );
}

export function tnumAdd(a: Tnum, b: Tnum): Tnum {
  const masks = a.mask + b.mask;
  const values = a.value + b.value;
  const changed = (masks + values) ^ values;
  const mask = u64(changed | a.mask | b.mask);
  return tnum(u64(values) & ~mask, mask);
}

export function tnumSub(a: Tnum, b: Tnum): Tnum {
  const difference = a.value - b.value;
  const changed = (difference + a.mask) ^ (difference - b.mask);
  const mask = u64(changed | a.mask | b.mask);
  return tnum(u64(difference) & ~mask, mask);
}

export function tnumAnd(a: Tnum, b: Tnum): Tnum {
  const value = a.value & b.value;
  return tnum(value, (a.value | a.mask) & (b.value | b.mask) & ~value);
}

export function tnumOr(a: Tnum, b: Tnum): Tnum {
  const value = a.value | b.value;
  return tnum(value, (a.mask | b.mask) & ~value);
}

export function tnumXor(a: Tnum, b: Tnum): Tnum {
  const mask = a.mask | b.mask;
  return tnum((a.value ^ b.value) & ~mask, mask);
}

/** How many of the highest bits are all set. */
function leadingOnes(value: bigint): number {
  return 64 - bitLength(~value & U64_MAX);
}

/** Long multiplication: a product of the known bits, and the uncertain partial products added up as masks. */
export function tnumMul(a: Tnum, b: Tnum): Tnum {
  const product = tnum(u64(a.value * b.value), 0n);
  // Where all bits of `a` from some bit on are unknown, their partial products make every bit from there on unknown, times `b`'s lowest.
  const known = 64 - leadingOnes(a.mask);
  let sum = TNUM_ZERO;
  for (let bit = 0, one = 1n; bit < known; bit++, one <<= 1n) {
    if ((a.value & one) !== 0n) sum = tnumAdd(sum, tnum(0n, u64(b.mask << BigInt(bit))));
    else if ((a.mask & one) !== 0n) sum = tnumAdd(sum, tnum(0n, u64((b.value | b.mask) << BigInt(bit))));
  }
  const most = b.value | b.mask;
  const lowest = (most & -most) << BigInt(known);
  sum = tnum(0n, sum.mask | u64(-lowest));
  return tnumAdd(product, sum);
}

/** What both know, for values that are in both. */
export function tnumIntersect(a: Tnum, b: Tnum): Tnum {
  const mask = a.mask & b.mask;
  return tnum((a.value | b.value) & ~mask, mask);
}

/** True when every value of `b` is one of `a`. */
export function tnumIn(a: Tnum, b: Tnum): boolean {
  if ((b.mask & ~a.mask) !== 0n) return false;
  return a.value === (b.value & ~a.mask);
}

export const tnumIsAligned = (a: Tnum, size: number): boolean =>
  ((a.value | a.mask) & BigInt(size - 1)) === 0n;

export const tnumSubreg = (a: Tnum): Tnum => tnum(a.value & LOW32, a.mask & LOW32);
export const tnumClearSubreg = (a: Tnum): Tnum => tnum(a.value & HIGH32, a.mask & HIGH32);
export const tnumWithSubreg = (a: Tnum, sub: Tnum): Tnum => tnumOr(tnumClearSubreg(a), tnumSubreg(sub));

/** `(0x8; 0x7)`, or the number alone when all bits are known (tnum_strn). */
export function tnumString(a: Tnum): string {
  if (a.mask === 0n) return a.value <= 0xffffn ? `${a.value}` : `0x${a.value.toString(16)}`;
  return `(0x${a.value.toString(16)}; 0x${a.mask.toString(16)})`;
}
