/** Strings into shared memory as UTF-8. */
import { charCodeAt } from './intrinsics.ts';

/**
 * A rope (a string built by `+`) has to be flattened before its first character can be read. Up to this length that is
 * cheap enough (below a millisecond); above it, only strings known to be flat already are read.
 */
export const MAX_ROPE = 1 << 18;

export interface StringWriter {
  /**
   * Writes `text` at `dst` as UTF-8 with a NUL, cut at a NUL of its own and at a whole character to fit `size`, and zero-fills the rest.
   * Lone surrogates become U+FFFD. Returns bytes written with the NUL.
   */
  writeString(dst: number, size: number, text: string): number;
  /** As writeString() without the NUL; those of the text are kept. */
  writeBytes(dst: number, size: number, text: string): number;
  zero(dst: number, size: number): void;
}

/** Views of one memory. */
interface Words {
  readonly i32: Int32Array;
  readonly u8: Uint8Array;
  readonly f64: Float64Array;
}

/** Bytes of `text` in UTF-8. */
export function utf8Length(text: string): number {
  let bytes = 0;
  for (let i = 0; i < text.length; i++) {
    const code = charCodeAt(text, i);
    if (code < 0x80) bytes++;
    else if (code < 0x800) bytes += 2;
    else {
      bytes += 3;
      if (code >= 0xd800 && code < 0xdc00 && i + 1 < text.length) {
        const next = charCodeAt(text, i + 1);
        if (next >= 0xdc00 && next < 0xe000) {
          bytes++;
          i++;
        }
      }
    }
  }
  return bytes;
}

export function createStringWriter({ i32, u8, f64 }: Words): StringWriter {
  function zero(dst: number, size: number): void {
    let at = dst;
    const end = dst + size;
    while ((at & 3) !== 0 && at < end) u8[at++] = 0;
    // most of what is written is half empty: eight bytes a store
    if ((at & 7) !== 0 && at + 4 <= end) {
      i32[at >> 2] = 0;
      at += 4;
    }
    let d = at >> 3;
    const doubles = end >> 3;
    while (d < doubles) f64[d++] = 0;
    if (d << 3 > at) at = d << 3;
    while (at < end) u8[at++] = 0;
  }

  /** From unit `from` on and byte `at` on; returns the byte after the last. */
  function writeTail(at: number, end: number, text: string, from: number, isString: boolean): number {
    const length = text.length;
    for (let i = from; i < length; i++) {
      let code = charCodeAt(text, i);
      if (code < 0x80) {
        if (at >= end || (code === 0 && isString)) return at;
        u8[at++] = code;
      } else if (code < 0x800) {
        if (at + 2 > end) return at;
        u8[at++] = 0xc0 | (code >> 6);
        u8[at++] = 0x80 | (code & 63);
      } else {
        if (code >= 0xd800 && code < 0xe000) {
          const next = code < 0xdc00 && i + 1 < length ? charCodeAt(text, i + 1) : 0;
          if (next >= 0xdc00 && next < 0xe000) {
            if (at + 4 > end) return at;
            code = 0x10000 + ((code - 0xd800) << 10) + (next - 0xdc00);
            u8[at++] = 0xf0 | (code >> 18);
            u8[at++] = 0x80 | ((code >> 12) & 63);
            u8[at++] = 0x80 | ((code >> 6) & 63);
            u8[at++] = 0x80 | (code & 63);
            i++;
            continue;
          }
          code = 0xfffd;
        }
        if (at + 3 > end) return at;
        u8[at++] = 0xe0 | (code >> 12);
        u8[at++] = 0x80 | ((code >> 6) & 63);
        u8[at++] = 0x80 | (code & 63);
      }
    }
    return at;
  }

  /** Room is `limit - dst` bytes; everything up to `end` is zeroed behind the text. Four ASCII characters a store. */
  function write(dst: number, limit: number, end: number, text: string, isString: boolean): number {
    const length = text.length;
    const room = limit - dst;
    const n = length < room ? length : room;
    let i = 0;
    if ((dst & 3) === 0) {
      let w = dst >> 2;
      const whole = n & ~3;
      while (i < whole) {
        const a = charCodeAt(text, i);
        const b = charCodeAt(text, i + 1);
        const c = charCodeAt(text, i + 2);
        const d = charCodeAt(text, i + 3);
        if ((a | b | c | d) >= 0x80) break;
        const four = a | (b << 8) | (c << 16) | (d << 24);
        // Borrows from a byte that is 0.
        if (((four - 0x01010101) & 0x80808080) !== 0) break;
        i32[w++] = four;
        i += 4;
      }
    }
    let at = dst + i;
    while (i < n) {
      const code = charCodeAt(text, i);
      if (code >= 0x80) {
        at = writeTail(at, limit, text, i, isString);
        break;
      }
      if (code === 0 && isString) break;
      u8[at++] = code;
      i++;
    }
    zero(at, end - at);
    return at - dst;
  }

  return {
    writeString: (dst, size, text) => write(dst, dst + size - 1, dst + size, text, true) + 1,
    writeBytes: (dst, size, text) => write(dst, dst + size, dst + size, text, false),
    zero,
  };
}
