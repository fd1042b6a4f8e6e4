/**
 * Text as the kernel's parsers see it: bytes. A byte string is a JavaScript string of which every character stands for one
 * byte, so that positions in messages count bytes as the kernel does.
 */
const encoder = new TextEncoder();
const decoder = new TextDecoder();

/** The bytes of a text up to the first NUL, one character each. */
export function toByteString(text: string): string {
  let bytes = '';
  for (const byte of encoder.encode(text)) {
    if (byte === 0) break;
    bytes += String.fromCharCode(byte);
  }
  return bytes;
}

/** The text whose bytes these are. */
export function fromByteString(bytes: string): string {
  return decoder.decode(bytesOf(bytes));
}

export function bytesOf(byteString: string): Uint8Array {
  return Uint8Array.from(byteString, (char) => char.charCodeAt(0));
}

/** The string that begins at an offset and ends before a NUL, or after `max` bytes. */
export function stringAt(data: Uint8Array, offset: number, max = data.length): string {
  let text = '';
  const end = Math.min(data.length, offset + max);
  for (let i = offset; i < end && data[i] !== 0; i++) text += String.fromCharCode(data[i] as number);
  return text;
}

/** isspace() of lib/ctype.c: Latin 1, with the no-break space. */
export function isSpace(char: string | undefined): boolean {
  return char !== undefined && char !== '' && ' \t\n\v\f\r\u00a0'.includes(char);
}

export function isDigit(char: string | undefined): boolean {
  return char !== undefined && char >= '0' && char <= '9';
}

/** isalnum() of lib/ctype.c: Latin 1. */
export function isAlnum(char: string | undefined): boolean {
  return char !== undefined && /^[0-9A-Za-z\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u00ff]$/.test(char);
}

export function skipSpaces(text: string): string {
  let i = 0;
  while (isSpace(text[i])) i++;
  return text.slice(i);
}

export function trimEnd(text: string): string {
  let end = text.length;
  while (end > 0 && isSpace(text[end - 1])) end--;
  return text.slice(0, end);
}

/** strstrip() */
export function strip(text: string): string {
  return skipSpaces(trimEnd(text));
}

/** A string that strsep() takes tokens from. */
export class Tokens {
  /** What is left; undefined when the last token was taken. */
  rest: string | undefined;

  constructor(text: string | undefined) {
    this.rest = text;
  }

  /** strsep(): up to one of the delimiters, which goes too. */
  next(delimiters: string): string | undefined {
    const { rest } = this;
    if (rest === undefined) return undefined;
    for (let i = 0; i < rest.length; i++) {
      if (!delimiters.includes(rest[i] as string)) continue;
      this.rest = rest.slice(i + 1);
      return rest.slice(0, i);
    }
    this.rest = undefined;
    return rest;
  }
}

const U64_MAX = 0xffff_ffff_ffff_ffffn;

/**
 * kstrtoull() with base 0: decimal, 0x, or octal behind a 0; one newline may follow. EINVAL where it is no number, ERANGE
 * where it does not fit.
 */
export function kstrtoull(text: string): bigint | 'EINVAL' | 'ERANGE' {
  const match = /^\+?(0[xX](?=[0-9a-fA-F])|0(?=[0-9])|)([0-9a-fA-F]+)\n?$/.exec(text);
  if (match === null) return 'EINVAL';
  const [, prefix, digits] = match as unknown as [string, string, string];
  let value: bigint;
  if (prefix === '') {
    if (!/^[0-9]+$/.test(digits)) return 'EINVAL';
    value = BigInt(digits);
  } else if (prefix === '0') {
    if (!/^[0-7]+$/.test(digits)) return 'EINVAL';
    value = BigInt(`0o${digits}`);
  } else {
    value = BigInt(`0x${digits}`);
  }
  return value > U64_MAX ? 'ERANGE' : value;
}

/** kstrtoll() with base 0. */
export function kstrtoll(text: string): bigint | 'EINVAL' | 'ERANGE' {
  if (text.startsWith('-')) {
    if (text[1] === '+') return 'EINVAL';
    const value = kstrtoull(text.slice(1));
    if (typeof value === 'string') return value;
    return value > 1n << 63n ? 'ERANGE' : -value;
  }
  const value = kstrtoull(text);
  if (typeof value === 'string') return value;
  return value >= 1n << 63n ? 'ERANGE' : value;
}
