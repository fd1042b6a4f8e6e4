/** Numbers in texts (lib/kstrtox.c). A whole text is a number, with at most one newline behind it; base 0 knows 0x and a leading 0. */
import { KernelError } from '../errno.ts';

const U64 = 1n << 64n;
const S64 = 1n << 63n;

/** EINVAL: no number; ERANGE: one that does not fit. */
export type KstrtoError = 'EINVAL' | 'ERANGE';

/** Digits of `base` (0: by prefix) at the start: how many characters in all, and the value, which may exceed 64 bits. */
function parseInteger(text: string, base: number): { length: number; digits: number; value: bigint } {
  let at = 0;
  let radix = base;
  const hexPrefix = text[0] === '0' && (text[1] === 'x' || text[1] === 'X');
  if (radix === 0) {
    if (text[0] !== '0') radix = 10;
    else radix = hexPrefix && /[0-9a-f]/i.test(text[2] ?? '') ? 16 : 8;
  }
  if (radix === 16 && hexPrefix) at = 2;
  const start = at;
  let value = 0n;
  for (; at < text.length; at++) {
    const digit = Number.parseInt(text[at] as string, 16);
    if (Number.isNaN(digit) || digit >= radix) break;
    value = value * BigInt(radix) + BigInt(digit);
    // What is too big stays too big, and does not grow with the text.
    if (value >= U64) value = U64 | BigInt.asUintN(64, value);
  }
  return { length: at, digits: at - start, value };
}

function unsignedAfterSign(text: string, base: number): bigint | KstrtoError {
  const { length, digits, value } = parseInteger(text, base);
  // More than 64 bits are noticed before what follows the digits.
  if (value >= U64) return 'ERANGE';
  const rest = text.slice(length);
  return digits > 0 && (rest === '' || rest === '\n') ? value : 'EINVAL';
}

/** An unsigned 64-bit number. */
export function kstrtoull(text: string, base = 0): bigint | KstrtoError {
  return unsignedAfterSign(text[0] === '+' ? text.slice(1) : text, base);
}

/** A signed 64-bit number. */
export function kstrtoll(text: string, base = 0): bigint | KstrtoError {
  const isNegative = text[0] === '-';
  const value = isNegative ? unsignedAfterSign(text.slice(1), base) : kstrtoull(text, base);
  if (typeof value === 'string') return value;
  if (isNegative) return value > S64 ? 'ERANGE' : -value;
  return value >= S64 ? 'ERANGE' : value;
}

const unlessRefused = (result: bigint | KstrtoError): bigint | undefined =>
  typeof result === 'string' ? undefined : result;

/** As kstrtoull(), where it does not matter why there is none. */
export function kstrtoul(text: string, base = 0): bigint | undefined {
  return unlessRefused(kstrtoull(text, base));
}

export function kstrtol(text: string, base = 0): bigint | undefined {
  return unlessRefused(kstrtoll(text, base));
}

export function kstrtouint(text: string, base = 0): number | undefined {
  const value = kstrtoul(text, base);
  return value === undefined || value > 0xffff_ffffn ? undefined : Number(value);
}

/** The errno of a text that is no number of 64 bits, signed or not. */
export function kstrtoErrno(text: string, base = 0): KstrtoError {
  const value = unsignedAfterSign(/^[+-]/.test(text) ? text.slice(1) : text, base);
  return typeof value === 'string' ? value : 'ERANGE';
}

/** As kstrtoull(); throws the KernelError. */
export function numberOf(text: string, base: 0 | 10 | 16): bigint {
  const value = kstrtoull(text, base);
  if (value === 'EINVAL') throw new KernelError(value, `not a number: ${text}`);
  if (value === 'ERANGE') throw new KernelError(value, `the number is too large: ${text}`);
  return value;
}

/** What `*_from_user()` looks at: as many characters as a number in base 2 could have. */
const FROM_USER_MAX = 66;

/** kstrtoul_from_user() */
export function numberFromUser(text: string, base: 0 | 10 | 16 = 10): bigint {
  return numberOf(text.slice(0, FROM_USER_MAX), base);
}

/** simple_strtoul(): the number at the start, and what follows it. */
export function simpleStrtoul(text: string, base = 0): { value: bigint; tail: string } {
  const { length, value } = parseInteger(text, base);
  return { value: BigInt.asUintN(64, value), tail: text.slice(length) };
}
