import { KernelError } from '../errno.ts';

const U64_MAX = (1n << 64n) - 1n;

/**
 * kstrtoull() (lib/kstrtox.c): the whole text is a number, with at most one newline behind it. Base 0 knows 0x and a leading 0.
 * EINVAL: no number; ERANGE: more than 64 bits.
 */
export function kstrtoull(text: string, base: 0 | 10 | 16): bigint {
  let rest = text.startsWith('+') ? text.slice(1) : text;
  let radix: number = base;
  if (base === 0) {
    if (/^0x[0-9a-f]/i.test(rest)) radix = 16;
    else radix = rest.startsWith('0') && rest.length > 1 ? 8 : 10;
  }
  if (radix === 16 && /^0x/i.test(rest)) rest = rest.slice(2);
  if (rest.endsWith('\n')) rest = rest.slice(0, -1);
  const digits = radix === 16 ? /^[0-9a-f]+$/i : radix === 8 ? /^[0-7]+$/ : /^[0-9]+$/;
  if (!digits.test(rest)) throw new KernelError('EINVAL', `not a number: ${text}`);
  const value = BigInt((radix === 16 ? '0x' : radix === 8 ? '0o' : '') + rest);
  if (value > U64_MAX) throw new KernelError('ERANGE', `the number is too large: ${text}`);
  return value;
}

/** What `*_from_user()` looks at: as many characters as a number in base 2 could have. */
const FROM_USER_MAX = 66;

/** kstrtoul_from_user() */
export function numberFromUser(text: string, base: 0 | 10 | 16 = 10): bigint {
  return kstrtoull(text.slice(0, FROM_USER_MAX), base);
}

/**
 * bitmap_parse() (lib/bitmap-str.c): hexadecimal words of 32 bits, read from the last, between them commas or blanks, up to a newline.
 * No words are an empty mask. EINVAL; EOVERFLOW: more words than the mask has, more than 32 bits in one, or bits that it has not.
 */
export function parseBitmap(text: string, nbits: number): bigint {
  const newline = text.indexOf('\n');
  const words = (newline < 0 ? text : text.slice(0, newline)).split(/[\s,]+/).filter((word) => word !== '');
  const limit = Math.ceil(nbits / 32);
  let mask = 0n;
  for (const [n, word] of words.reverse().entries()) {
    if (n === limit) throw new KernelError('EOVERFLOW', `the mask has more than ${nbits} bits`);
    const [, digits = ''] = /([0-9a-f]*)$/i.exec(word) ?? [];
    if (digits.length > 8) throw new KernelError('EOVERFLOW', 'a word of the mask has more than 32 bits');
    if (digits.length < word.length) throw new KernelError('EINVAL', 'not a bit mask');
    mask |= BigInt(`0x${word}`) << BigInt(32 * n);
  }
  if (mask >> BigInt(nbits) !== 0n)
    throw new KernelError('EOVERFLOW', `the mask has more than ${nbits} bits`);
  return mask;
}

/** `%*pb`: a mask of nbits bits. */
export function formatBitmap(mask: bigint, nbits: number): string {
  const words: string[] = [];
  for (let bit = 0; bit < nbits; bit += 32) {
    const bits = Math.min(32, nbits - bit);
    const word = (mask >> BigInt(bit)) & ((1n << BigInt(bits)) - 1n);
    words.unshift(word.toString(16).padStart(Math.ceil(bits / 4), '0'));
  }
  return words.join(',');
}
