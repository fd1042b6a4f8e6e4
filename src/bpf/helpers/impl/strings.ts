/** Numbers in text (kernel/bpf/helpers.c: __bpf_strtoull and its callers; lib/kstrtox.c). */
import { ERRNO } from '../../errors.ts';
import { fail, type HelperContext, type HelperImpl, u64, view } from './context.ts';

const BASE_MASK = 0x1fn;
/** Digits that are looked at: `char str[64]`. */
const MAX_DIGITS = 63;
const U64_MAX = 2n ** 64n - 1n;
const S64_MAX = 2n ** 63n - 1n;

const isSpace = (byte: number): boolean => (byte >= 9 && byte <= 13) || byte === 32 || byte === 0xa0;

function digit(byte: number): number {
  if (byte >= 48 && byte <= 57) return byte - 48;
  const lower = byte | 0x20;
  return lower >= 97 && lower <= 102 ? lower - 97 + 10 : 99;
}

interface Parsed {
  readonly value: bigint;
  readonly negative: boolean;
  readonly consumed: number;
}

/** A number or -errno. */
function parse(bytes: Uint8Array, flags: bigint): Parsed | number {
  let base = Number(flags & BASE_MASK);
  if (bytes.length === 0 || ![0, 8, 10, 16].includes(base) || (flags & ~BASE_MASK) !== 0n) {
    return -ERRNO.EINVAL;
  }
  let at = 0;
  while (at < bytes.length && isSpace(bytes[at]!)) at++;
  const negative = bytes[at] === 0x2d;
  if (negative) at++;
  const end = Math.min(bytes.length, at + MAX_DIGITS);
  if (at >= end) return -ERRNO.EINVAL;
  const isHex = bytes[at] === 48 && (bytes[at + 1]! | 0x20) === 0x78 && at + 1 < end;
  if (base === 0) {
    base = 10;
    if (bytes[at] === 48) base = isHex && at + 2 < end && digit(bytes[at + 2]!) < 16 ? 16 : 8;
  }
  if (base === 16 && isHex) at += 2;
  let value = 0n;
  let digits = 0;
  let overflow = false;
  for (; at < end; at++) {
    const next = digit(bytes[at]!);
    if (next >= base) break;
    value = value * BigInt(base) + BigInt(next);
    if (value > U64_MAX) overflow = true;
    digits++;
  }
  if (overflow) return -ERRNO.ERANGE;
  if (digits === 0) return -ERRNO.EINVAL;
  return { value, negative, consumed: at };
}

function strto(c: HelperContext, args: readonly [number, number, bigint, number], signed: boolean): bigint {
  const [buffer, size, flags, result] = args;
  const { u8, data } = view(c);
  const start = buffer >>> 0;
  const parsed = parse(u8.subarray(start, start + (size >>> 0)), u64(flags));
  data.setBigInt64(result >>> 0, 0n, true);
  if (typeof parsed === 'number') return BigInt(parsed);
  const { value, negative, consumed } = parsed;
  if (!signed) {
    if (negative) return fail('EINVAL');
    data.setBigUint64(result >>> 0, value, true);
  } else {
    if (negative ? value > S64_MAX + 1n : value > S64_MAX) return fail('ERANGE');
    data.setBigInt64(result >>> 0, BigInt.asIntN(64, negative ? -value : value), true);
  }
  return BigInt(consumed);
}

export const STRING_HELPERS: Readonly<Record<string, HelperImpl>> = {
  strtol: (c, buffer: number, size: number, flags: bigint, result: number) =>
    strto(c, [buffer, size, flags, result], true),
  strtoul: (c, buffer: number, size: number, flags: bigint, result: number) =>
    strto(c, [buffer, size, flags, result], false),
};
