import { aBtf } from '../argument-shapes.ts';
import { anObject, checkArgument, optional } from '../arguments.ts';
import type { Btf } from './btf.ts';
import { BTF_HEADER_LENGTH, BTF_MAGIC, BTF_VERSION } from './kinds.ts';
import { hostIsLittleEndian } from './parse.ts';

/** Header, types and strings as one .BTF section. `words` are in this machine's byte order. */
export function encodeBtf(words: Uint32Array, strings: Uint8Array, littleEndian: boolean): Uint8Array {
  const bytes = new Uint8Array(BTF_HEADER_LENGTH + words.length * 4 + strings.length);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, BTF_MAGIC, littleEndian);
  view.setUint8(2, BTF_VERSION);
  view.setUint32(4, BTF_HEADER_LENGTH, littleEndian);
  view.setUint32(8, 0, littleEndian);
  view.setUint32(12, words.length * 4, littleEndian);
  view.setUint32(16, words.length * 4, littleEndian);
  view.setUint32(20, strings.length, littleEndian);
  if (littleEndian === hostIsLittleEndian()) {
    bytes.set(new Uint8Array(words.buffer, words.byteOffset, words.byteLength), BTF_HEADER_LENGTH);
  } else {
    for (let i = 0; i < words.length; i++) view.setUint32(BTF_HEADER_LENGTH + 4 * i, words[i]!, littleEndian);
  }
  bytes.set(strings, BTF_HEADER_LENGTH + words.length * 4);
  return bytes;
}

/** The bytes of a .BTF section, in the byte order that it was read in or in another. Split BTF is written without its base. */
export function writeBtf(btf: Btf, options: { littleEndian?: boolean } = {}): Uint8Array {
  checkArgument('writeBtf()', 'btf', btf, aBtf);
  checkArgument('writeBtf()', 'options', options, optional(anObject));
  return encodeBtf(btf.typeWords, btf.strings, options.littleEndian ?? btf.littleEndian);
}
