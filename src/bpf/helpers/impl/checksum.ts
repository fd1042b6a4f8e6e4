/** One's complement sums (lib/checksum.c, include/net/checksum.h). Words are as they lie in memory, little-endian. */
import { fail, type HelperImpl, u32, view } from './context.ts';

/** csum_add */
export const add = (a: number, b: number): number => {
  const sum = (a >>> 0) + (b >>> 0);
  return (sum > 0xffff_ffff ? sum - 0x1_0000_0000 + 1 : sum) >>> 0;
};
/** csum_fold: the 16-bit complement. */
export function fold(sum: number): number {
  let folded = ((sum >>> 16) + (sum & 0xffff)) >>> 0;
  folded = (folded >>> 16) + (folded & 0xffff);
  return ~folded & 0xffff;
}

/** csum_replace_by_diff */
export const replaceByDiff = (checksum: number, difference: number): number =>
  fold(add(difference, ~checksum & 0xffff_ffff));
/** csum_replace4 */
export const replace4 = (checksum: number, from: number, to: number): number =>
  fold(add(add(~checksum >>> 0, ~from >>> 0), to));
/** csum_replace2: csum16_add(csum16_sub(~sum, old), new) */
export function replace2(checksum: number, from: number, to: number): number {
  const add16 = (a: number, b: number): number => {
    const sum = (a & 0xffff) + (b & 0xffff);
    return (sum + (sum >>> 16)) & 0xffff;
  };
  return ~add16(add16(~checksum, ~from), to) & 0xffff;
}

/** Room for the difference on a CPU (struct bpf_scratchpad). */
const MAX_DIFF = 512;

export const CHECKSUM_HELPERS: Readonly<Record<string, HelperImpl>> = {
  csum_diff(c, from: number, fromSize: number, to: number, toSize: number, seed: bigint) {
    const [removed, added] = [fromSize >>> 0, toSize >>> 0];
    if (((removed | added) & 3) !== 0 || removed + added > MAX_DIFF) return fail('EINVAL');
    const { data } = view(c);
    let sum = u32(seed);
    for (let i = 0; i < removed; i += 4) sum = add(sum, ~data.getUint32((from >>> 0) + i, true) >>> 0);
    for (let i = 0; i < added; i += 4) sum = add(sum, data.getUint32((to >>> 0) + i, true));
    return BigInt(sum);
  },
};
