/**
 * Byte strings: a character is a byte, as in the records. What `trace` prints is built of these, so that bytes of a record come out as
 * they are, whether they are UTF-8 or not.
 */
const encoder = new TextEncoder();
const CHUNK = 8192;

export function bytesToString(bytes: Uint8Array): string {
  if (bytes.length <= CHUNK) return String.fromCharCode(...bytes);
  let text = '';
  for (let at = 0; at < bytes.length; at += CHUNK)
    text += String.fromCharCode(...bytes.subarray(at, at + CHUNK));
  return text;
}

/** The bytes of a byte string. */
export function stringToBytes(text: string): Uint8Array {
  const bytes = new Uint8Array(text.length);
  for (let n = 0; n < text.length; n++) bytes[n] = text.charCodeAt(n);
  return bytes;
}

/** The text up to its NUL. */
export function cStringOf(bytes: Uint8Array): string {
  const end = bytes.indexOf(0);
  return bytesToString(end < 0 ? bytes : bytes.subarray(0, end));
}

/** JavaScript's text as a byte string of its UTF-8. */
export function utf8String(text: string): string {
  for (let n = 0; n < text.length; n++)
    if (text.charCodeAt(n) > 0x7f) return bytesToString(encoder.encode(text));
  return text;
}

const decoder = new TextDecoder();

/** A byte string as it reads: UTF-8 decoded. */
export function readable(text: string): string {
  return decoder.decode(stringToBytes(text));
}

/** JavaScript's text as a byte string of its UTF-8, up to the first NUL. */
export function toByteString(text: string): string {
  const nul = text.indexOf('\0');
  return utf8String(nul < 0 ? text : text.slice(0, nul));
}

/** The string that begins at an offset and ends before a NUL, or after `max` bytes. */
export function stringAt(data: Uint8Array, offset: number, max = data.length): string {
  return cStringOf(data.subarray(offset, Math.min(data.length, offset + max)));
}
