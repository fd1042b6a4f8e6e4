/** Bit masks as texts (lib/bitmap-str.c). */
import { KernelError } from '../errno.ts';

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
