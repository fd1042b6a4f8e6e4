import type { Bucket } from './model.ts';

const SUFFIXES = ['', 'K', 'M', 'G', 'T', 'P', 'E'] as const;

/** Lower bound of bucket `index` (from 1) of a logarithmic histogram with `bits` bits of detail below the top one. */
export function histLowerBound(index: number, bits: number): bigint {
  const { mantissa, power } = parts(index, bits);
  return BigInt(mantissa) << BigInt(power);
}

function parts(index: number, bits: number): { mantissa: number; power: number } {
  const n = index - 1;
  const size = 1 << bits;
  if (n < size) return { mantissa: n, power: 0 };
  return { mantissa: size + (n & (size - 1)), power: (n >> bits) - 1 };
}

function histLabel(index: number, bits: number): string {
  const { mantissa, power } = parts(index, bits);
  return `${mantissa * 2 ** (power % 10)}${SUFFIXES[Math.floor(power / 10)]}`;
}

/**
 * The buckets of hist(n, bits) from the first to the last that counted something. Bucket 0 is negative numbers; labels as
 * bpftrace's: `[0]`, `[2, 4)`, `[1K, 2K)`.
 */
export function histBuckets(counts: readonly bigint[], bits: number): Bucket[] {
  return trimmed(counts, (index, count) => {
    if (index === 0) return { low: undefined, high: 0n, label: '(..., 0)', count };
    const low = histLowerBound(index, bits);
    const high = histLowerBound(index + 1, bits);
    const label =
      high === low + 1n
        ? `[${histLabel(index, bits)}]`
        : `[${histLabel(index, bits)}, ${histLabel(index + 1, bits)})`;
    return { low, high, label, count };
  });
}

/** The buckets of lhist(n, min, max, step): below, one a step, above. */
export function lhistBuckets(counts: readonly bigint[], min: number, max: number, step: number): Bucket[] {
  const last = counts.length - 1;
  return trimmed(counts, (index, count) => {
    if (index === 0) return { low: undefined, high: BigInt(min), label: `(..., ${lhistLabel(min)})`, count };
    if (index === last)
      return { low: BigInt(max), high: undefined, label: `[${lhistLabel(max)}, ...)`, count };
    const low = (index - 1) * step + min;
    const high = low + step;
    return {
      low: BigInt(low),
      high: BigInt(high),
      label: `[${lhistLabel(low)}, ${lhistLabel(high)})`,
      count,
    };
  });
}

function lhistLabel(value: number): string {
  if (value !== 0 && value % 1048576 === 0) return `${value / 1048576}M`;
  if (value !== 0 && value % 1024 === 0) return `${value / 1024}K`;
  return String(value);
}

function trimmed(counts: readonly bigint[], bucket: (index: number, count: bigint) => Bucket): Bucket[] {
  const first = counts.findIndex((count) => count !== 0n);
  if (first === -1) return [];
  const last = counts.findLastIndex((count) => count !== 0n);
  return counts.slice(first, last + 1).map((count, index) => bucket(first + index, count));
}

const BAR_WIDTH = 52;

/** One line a bucket: label, count, a bar of up to 52 `@`. Ends with a newline, or is empty. */
export function drawBuckets(buckets: readonly Bucket[]): string {
  let most = 0n;
  for (const { count } of buckets) if (count > most) most = count;
  let text = '';
  for (const { label, count } of buckets) {
    const bar = '@'.repeat(most === 0n ? 0 : Math.floor((Number(count) / Number(most)) * BAR_WIDTH));
    text += `${label.padEnd(16)}${String(count).padStart(8)} |${bar.padEnd(BAR_WIDTH)}|\n`;
  }
  return text;
}
