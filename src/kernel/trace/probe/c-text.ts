/**
 * Texts as the kernel takes them apart. A command is a *byte string*: one character (0 to 255) a byte, so that limits,
 * positions and character classes count bytes as in C.
 */
import { stringToBytes } from '../byte-string.ts';

/** lib/ctype.c: classes of Latin-1. */
function isUpperOrLower(c: number): boolean {
  if (c < 128) return (c >= 0x41 && c <= 0x5a) || (c >= 0x61 && c <= 0x7a);
  return c >= 0xc0 && c !== 0xd7 && c !== 0xf7;
}

export function isAlpha(text: string, at = 0): boolean {
  return at < text.length && isUpperOrLower(text.charCodeAt(at));
}

export function isDigit(text: string, at = 0): boolean {
  const c = text.charCodeAt(at);
  return c >= 0x30 && c <= 0x39;
}

export function isAlnum(text: string, at = 0): boolean {
  return isAlpha(text, at) || isDigit(text, at);
}

export function isSpace(c: number): boolean {
  return (c >= 9 && c <= 13) || c === 0x20 || c === 0xa0;
}

function isXdigit(c: number): boolean {
  return (c >= 0x30 && c <= 0x39) || (c >= 0x41 && c <= 0x46) || (c >= 0x61 && c <= 0x66);
}

/** argv_split(): words between white space. */
export function argvSplit(text: string): string[] {
  const words: string[] = [];
  let start = -1;
  for (let i = 0; i <= text.length; i++) {
    if (i === text.length || isSpace(text.charCodeAt(i))) {
      if (start >= 0) words.push(text.slice(start, i));
      start = -1;
    } else if (start < 0) start = i;
  }
  return words;
}

/** skip_spaces() */
export function skipSpaces(text: string): string {
  let i = 0;
  while (i < text.length && isSpace(text.charCodeAt(i))) i++;
  return text.slice(i);
}

/** is_good_name(), and is_good_system_name() with `dash`: what may name an event, a field, a group. */
export function isGoodName(name: string, dash = false): boolean {
  if (!isAlpha(name) && name[0] !== '_' && !(dash && name[0] === '-')) return false;
  for (let i = 1; i < name.length; i++) {
    if (!isAlnum(name, i) && name[i] !== '_' && !(dash && name[i] === '-')) return false;
  }
  return true;
}

/** sanitize_event_name(): a made-up name; its first character is never looked at. */
export function sanitizeEventName(name: string): string {
  return name.slice(0, 1) + name.slice(1).replace(/[:.*]/g, '_');
}

const U64 = 1n << 64n;

/** Digits of `base` (0: by prefix) at the start: how many characters in all, and the value, which may exceed 64 bits. */
function parseInteger(text: string, base: number): { length: number; digits: number; value: bigint } {
  let at = 0;
  let radix = base;
  const hexPrefix = text[0] === '0' && (text[1] === 'x' || text[1] === 'X');
  if (radix === 0) {
    if (text[0] !== '0') radix = 10;
    else radix = hexPrefix && isXdigit(text.charCodeAt(2)) ? 16 : 8;
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

function unsignedAfterSign(text: string, base: number): bigint | undefined {
  const { length, digits, value } = parseInteger(text, base);
  if (digits === 0 || value >= U64) return undefined;
  const rest = text.slice(length);
  return rest === '' || rest === '\n' ? value : undefined;
}

/** kstrtoul(): a whole text as an unsigned 64-bit number; undefined where the kernel answers EINVAL or ERANGE. */
export function kstrtoul(text: string, base = 0): bigint | undefined {
  return unsignedAfterSign(text[0] === '+' ? text.slice(1) : text, base);
}

/** kstrtol() */
export function kstrtol(text: string, base = 0): bigint | undefined {
  if (text[0] === '-') {
    const value = unsignedAfterSign(text.slice(1), base);
    return value === undefined || value > 1n << 63n ? undefined : -value;
  }
  const value = kstrtoul(text, base);
  return value === undefined || value >= 1n << 63n ? undefined : value;
}

/** kstrtouint() */
export function kstrtouint(text: string, base = 0): number | undefined {
  const value = kstrtoul(text, base);
  return value === undefined || value > 0xffff_ffffn ? undefined : Number(value);
}

/** The errno of kstrtoul() or kstrtol() for a text that neither takes: a number that is too big, or no number. */
export function kstrtoErrno(text: string, base = 0): 'EINVAL' | 'ERANGE' {
  const unsigned = /^[+-]/.test(text) ? text.slice(1) : text;
  const { length, digits, value } = parseInteger(unsigned, base);
  // More than 64 bits are noticed before what follows the digits.
  if (value >= U64) return 'ERANGE';
  const rest = unsigned.slice(length);
  return digits > 0 && (rest === '' || rest === '\n') ? 'ERANGE' : 'EINVAL';
}

/** simple_strtoul(): the number at the start, and what follows it. */
export function simpleStrtoul(text: string, base = 0): { value: bigint; tail: string } {
  const { length, value } = parseInteger(text, base);
  return { value: BigInt.asUintN(64, value), tail: text.slice(length) };
}

const decoder = new TextDecoder();

/** A byte string as it reads: UTF-8 decoded. */
export function readable(text: string): string {
  return decoder.decode(stringToBytes(text));
}
