/**
 * The hash of a key, as README.md defines it. Wasm computes it with 64-bit words; here each is two 32-bit halves, which
 * is several times faster than BigInt.
 */
import { HASH_LANES, HASH_LIVE, HASH_MULTIPLIER } from './map-layout.ts';

const low = (value: bigint): number => Number(value & 0xffff_ffffn);
const high = (value: bigint): number => Number(value >> 32n);

const M_LO = low(HASH_MULTIPLIER);
const M_HI = high(HASH_MULTIPLIER);
const M_LO0 = M_LO & 0xffff;
const M_LO1 = M_LO >>> 16;
const LANES_LO = HASH_LANES.map(low);
const LANES_HI = HASH_LANES.map(high);

/** One u64 state; `step` is `L = (L ^ word) * M; L = L ^ (L >> 32)`. */
interface Lane {
  lo: number;
  hi: number;
}

function multiply(lane: Lane): void {
  const a0 = lane.lo & 0xffff;
  const a1 = lane.lo >>> 16;
  const p00 = a0 * M_LO0;
  const mid = a1 * M_LO0 + (p00 >>> 16);
  const mid2 = a0 * M_LO1 + (mid & 0xffff);
  const hi = a1 * M_LO1 + (mid >>> 16) + (mid2 >>> 16);
  lane.hi = (hi + Math.imul(lane.lo, M_HI) + Math.imul(lane.hi, M_LO)) | 0;
  lane.lo = (mid2 << 16) | (p00 & 0xffff);
}

function step(lane: Lane, lo: number, hi: number): void {
  lane.lo ^= lo;
  lane.hi ^= hi;
  multiply(lane);
  lane.lo ^= lane.hi;
}

const lanes: readonly Lane[] = Array.from({ length: 4 }, () => ({ lo: 0, hi: 0 }));

/** Little-endian u32 at `at`; bytes at `end` and behind count as zero. */
function word(bytes: Uint8Array, at: number, end: number): number {
  if (at + 4 <= end)
    return bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24);
  let value = 0;
  for (let i = at; i < end; i++) value |= bytes[i]! << ((i - at) * 8);
  return value;
}

/** Hash with HASH_LIVE set, as a u32, of `size` key bytes at `bytes[at]`. */
export function hashKey(bytes: Uint8Array, at: number, size: number, seedLo: number, seedHi: number): number {
  const first = lanes[0]!;
  first.lo = seedLo;
  first.hi = seedHi;
  for (let i = 1; i < 4; i++) {
    lanes[i]!.lo = LANES_LO[i - 1]!;
    lanes[i]!.hi = LANES_HI[i - 1]!;
  }
  const end = at + size;
  let n = 0;
  for (let p = at; p < end; p += 8) step(lanes[n++ & 3]!, word(bytes, p, end), word(bytes, p + 4, end));
  for (let i = 1; i < n && i < 4; i++) step(first, lanes[i]!.lo, lanes[i]!.hi);
  multiply(first);
  return (first.hi | HASH_LIVE) >>> 0;
}
