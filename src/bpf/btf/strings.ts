/** The string section of BTF: bytes, decoded only when a name is asked for. */

const decoder = new TextDecoder();
const encoder = new TextEncoder();

export function encodeName(name: string): Uint8Array {
  return encoder.encode(name);
}

/** Bytes up to the next NUL; the section is known to end in one. */
export function stringLength(strings: Uint8Array, at: number): number {
  return strings.indexOf(0, at) - at;
}

/** The NUL-terminated UTF-8 string at an offset. */
export function decodeString(strings: Uint8Array, at: number): string {
  let text = '';
  for (let i = at; ; i++) {
    const byte = strings[i]!;
    if (byte === 0) return text;
    if (byte >= 0x80 || i - at >= 64) return decoder.decode(strings.subarray(at, strings.indexOf(0, i)));
    text += String.fromCharCode(byte);
  }
}

/** FNV-1a of a run of bytes. */
export function hashBytes(bytes: Uint8Array, from: number, length: number): number {
  let hash = 0x811c9dc5;
  for (let i = from; i < from + length; i++) hash = Math.imul(hash ^ bytes[i]!, 0x01000193);
  return hash >>> 0;
}

/**
 * The length of a name without its flavour: `task_struct___v2` is `task_struct` (bpf_core_essential_name_len of
 * tools/lib/bpf/libbpf.c: three underscores between characters that are none).
 */
export function essentialLength(bytes: Uint8Array, from: number, length: number): number {
  for (let i = length - 5; i >= 0; i--) {
    const at = from + i;
    if (
      bytes[at] !== 0x5f &&
      bytes[at + 1] === 0x5f &&
      bytes[at + 2] === 0x5f &&
      bytes[at + 3] === 0x5f &&
      bytes[at + 4] !== 0x5f
    ) {
      return i + 1;
    }
  }
  return length;
}
