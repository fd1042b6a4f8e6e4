/**
 * 64-bit arithmetic on registers that are pairs of 32-bit words (`words[2 r]` is the low one), for operations that JavaScript's numbers
 * have no short form of.
 */

/** High word of the product of two unsigned words. */
export function mulHigh(a: number, b: number): number {
  const a0 = a & 0xffff;
  const a1 = a >>> 16;
  const b0 = b & 0xffff;
  const b1 = b >>> 16;
  const middle = a1 * b0 + ((a0 * b0) >>> 16);
  const other = a0 * b1 + (middle & 0xffff);
  return (a1 * b1 + ((middle / 0x10000) | 0) + (other >>> 16)) | 0;
}

/** Division and remainder of 64 bits; by zero: 0, and the dividend. INT64_MIN / -1 is INT64_MIN. */
export function divide64(dst: bigint, src: bigint, isSigned: boolean, isMod: boolean): bigint {
  if (src === 0n) return isMod ? dst : 0n;
  const a = isSigned ? BigInt.asIntN(64, dst) : dst;
  const b = isSigned ? BigInt.asIntN(64, src) : src;
  return isMod ? a % b : a / b;
}

/** The same of 32 bits. The result's low word counts. */
export function divide32(dst: number, src: number, isSigned: boolean, isMod: boolean): number {
  if (src === 0) return isMod ? dst : 0;
  if (isSigned) return (isMod ? (dst | 0) % (src | 0) : (dst | 0) / (src | 0)) | 0;
  return (isMod ? (dst >>> 0) % (src >>> 0) : Math.floor((dst >>> 0) / (src >>> 0))) | 0;
}

/** A word with its bytes reversed. */
export function swapBytes(word: number): number {
  return (word >>> 24) | ((word >>> 8) & 0xff00) | ((word << 8) & 0xff0000) | (word << 24) | 0;
}

/** A 32-bit operation by the upper four bits of its code; undefined where there is none. */
export function alu32(operation: number, dst: number, src: number, off: number): number | undefined {
  switch (operation) {
    case 0x0:
      return dst + src;
    case 0x1:
      return dst - src;
    case 0x2:
      return Math.imul(dst, src);
    case 0x3:
      return divide32(dst, src, off === 1, false);
    case 0x4:
      return dst | src;
    case 0x5:
      return dst & src;
    case 0x6:
      return dst << src;
    case 0x7:
      return dst >>> src;
    case 0x8:
      return -dst;
    case 0x9:
      return divide32(dst, src, off === 1, true);
    case 0xa:
      return dst ^ src;
    case 0xc:
      return dst >> src;
    default:
      return undefined;
  }
}

/** Whether a jump on 64 bits is taken, by the upper four bits of its code. */
export function isTaken64(
  operation: number,
  aLow: number,
  aHigh: number,
  bLow: number,
  bHigh: number,
): boolean | undefined {
  switch (operation) {
    case 0x1:
      return aLow === bLow && aHigh === bHigh;
    case 0x2:
      return aHigh === bHigh ? aLow >>> 0 > bLow >>> 0 : aHigh >>> 0 > bHigh >>> 0;
    case 0x3:
      return aHigh === bHigh ? aLow >>> 0 >= bLow >>> 0 : aHigh >>> 0 > bHigh >>> 0;
    case 0x4:
      return ((aLow & bLow) | (aHigh & bHigh)) !== 0;
    case 0x5:
      return aLow !== bLow || aHigh !== bHigh;
    case 0x6:
      return aHigh === bHigh ? aLow >>> 0 > bLow >>> 0 : aHigh > bHigh;
    case 0x7:
      return aHigh === bHigh ? aLow >>> 0 >= bLow >>> 0 : aHigh > bHigh;
    case 0xa:
      return aHigh === bHigh ? aLow >>> 0 < bLow >>> 0 : aHigh >>> 0 < bHigh >>> 0;
    case 0xb:
      return aHigh === bHigh ? aLow >>> 0 <= bLow >>> 0 : aHigh >>> 0 < bHigh >>> 0;
    case 0xc:
      return aHigh === bHigh ? aLow >>> 0 < bLow >>> 0 : aHigh < bHigh;
    case 0xd:
      return aHigh === bHigh ? aLow >>> 0 <= bLow >>> 0 : aHigh < bHigh;
    default:
      return undefined;
  }
}

/** The same on 32 bits. */
export function isTaken32(operation: number, a: number, b: number): boolean | undefined {
  switch (operation) {
    case 0x1:
      return a === b;
    case 0x2:
      return a >>> 0 > b >>> 0;
    case 0x3:
      return a >>> 0 >= b >>> 0;
    case 0x4:
      return (a & b) !== 0;
    case 0x5:
      return a !== b;
    case 0x6:
      return a > b;
    case 0x7:
      return a >= b;
    case 0xa:
      return a >>> 0 < b >>> 0;
    case 0xb:
      return a >>> 0 <= b >>> 0;
    case 0xc:
      return a < b;
    case 0xd:
      return a <= b;
    default:
      return undefined;
  }
}
