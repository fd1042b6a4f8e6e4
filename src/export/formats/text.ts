/** Byte strings as JavaScript's texts. What is no UTF-8 becomes U+FFFD. */
import { stringToBytes } from '../../kernel/trace/byte-string.ts';
import type { FieldValue } from '../events.ts';

const decoder = new TextDecoder();

export function textOf(bytes: string): string {
  for (let n = 0; n < bytes.length; n++)
    if (bytes.charCodeAt(n) > 0x7f) return decoder.decode(stringToBytes(bytes));
  return bytes;
}

/** A value for JSON: whole numbers that a double cannot hold are strings. */
export function jsonValue(value: FieldValue): unknown {
  if (typeof value === 'string') return textOf(value);
  if (typeof value === 'bigint') return jsonNumber(value);
  return value.map(jsonNumber);
}

export function jsonNumber(value: bigint): number | string {
  const number = Number(value);
  return Number.isSafeInteger(number) ? number : String(value);
}
