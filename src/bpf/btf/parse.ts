import { aBtf } from '../argument-shapes.ts';
import { bytesOf, checkArgument, optional } from '../arguments.ts';
import { Btf } from './btf.ts';
import { BtfError } from './error.ts';
import { forEachNameWord, forEachTypeWord, wordCount } from './fields.ts';
import {
  BTF_HEADER_LENGTH,
  BTF_MAGIC,
  BTF_MAX_NAME_OFFSET,
  BTF_MAX_TYPE,
  BTF_VERSION,
  infoKind,
  infoVlen,
  KIND_NAMES,
} from './kinds.ts';

/** Names longer than this are refused: no compiler writes them. */
const MAX_NAME_LENGTH = 4096;
/** How many bytes of names the types may refer to for each byte that they have themselves. */
const NAMES_PER_BYTE = 16;

interface Sections {
  readonly types: Uint8Array;
  readonly strings: Uint8Array;
  readonly littleEndian: boolean;
}

/** The byte order of a header, by its magic number. Throws BtfError where it is neither. */
export function byteOrder(bytes: Uint8Array, what: string, minLength: number): boolean {
  if (bytes.length < minLength) throw new BtfError(`${what} header not found: ${bytes.length} bytes`);
  const low = bytes[0]! | (bytes[1]! << 8);
  if (low === BTF_MAGIC) return true;
  if (low === 0x9feb) return false;
  throw new BtfError(`Invalid magic of ${what}: 0x${low.toString(16)}`);
}

/** The header (btf_parse_hdr of kernel/bpf/btf.c). */
function parseHeader(bytes: Uint8Array, hasBase: boolean): Sections {
  const littleEndian = byteOrder(bytes, 'BTF', BTF_HEADER_LENGTH);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (view.getUint8(2) !== BTF_VERSION) {
    throw new BtfError('Unsupported version', { errno: 'ENOTSUPP' });
  }
  if (view.getUint8(3) !== 0) throw new BtfError('Unsupported flags', { errno: 'ENOTSUPP' });
  const headerLength = view.getUint32(4, littleEndian);
  if (headerLength < BTF_HEADER_LENGTH || headerLength > bytes.length)
    throw new BtfError('BTF header not found');
  if (bytes.subarray(BTF_HEADER_LENGTH, headerLength).some((byte) => byte !== 0)) {
    throw new BtfError('Unsupported btf_header', { errno: 'E2BIG' });
  }
  const section = (at: number, what: string): Uint8Array => {
    const offset = view.getUint32(at, littleEndian);
    const length = view.getUint32(at + 4, littleEndian);
    if (headerLength + offset + length > bytes.length) {
      throw new BtfError(
        `Total section length too long: ${what} ends at ${headerLength + offset + length} of ${bytes.length} bytes`,
      );
    }
    return bytes.subarray(headerLength + offset, headerLength + offset + length);
  };
  if (view.getUint32(8, littleEndian) % 4 !== 0) throw new BtfError('Unaligned type_off');
  const types = section(8, 'type section');
  const strings = section(16, 'string section');
  if (types.length === 0 && !hasBase) throw new BtfError('No type found');
  if (types.length % 4 !== 0) throw new BtfError('Invalid type section');
  const stringsOk =
    strings.length === 0
      ? hasBase
      : strings.length - 1 <= BTF_MAX_NAME_OFFSET &&
        strings[strings.length - 1] === 0 &&
        (hasBase || strings[0] === 0);
  if (!stringsOk) throw new BtfError('Invalid string section');
  return { types, strings, littleEndian };
}

/** Bytes to 32-bit words of this machine. `lead` zero words come first. */
function toWords(bytes: Uint8Array, littleEndian: boolean, lead: number): Uint32Array {
  const words = new Uint32Array(lead + bytes.length / 4);
  const target = new Uint8Array(words.buffer, lead * 4);
  target.set(bytes);
  if (littleEndian !== hostIsLittleEndian()) {
    for (let i = lead; i < words.length; i++) {
      const word = words[i]!;
      words[i] = (word >>> 24) | ((word >>> 8) & 0xff00) | ((word & 0xff00) << 8) | (word << 24);
    }
  }
  return words;
}

export function hostIsLittleEndian(): boolean {
  return new Uint8Array(new Uint16Array([1]).buffer)[0] === 1;
}

/** Where each type starts. Throws where one has an unknown kind or ends past the section. */
function findTypes(words: Uint32Array, firstWord: number, startId: number): Uint32Array {
  const found: Uint32Array = new Uint32Array(Math.floor((words.length - firstWord) / 3) + 1);
  let count = 0;
  if (startId === 0) found[count++] = 0;
  for (let at = firstWord; at < words.length; ) {
    const id = startId + count;
    if (id > BTF_MAX_TYPE)
      throw new BtfError(`Too many types: more than ${BTF_MAX_TYPE}`, { typeId: id, errno: 'E2BIG' });
    const info = at + 3 <= words.length ? words[at + 1]! : 0;
    const kind = infoKind(info);
    if (at + 3 > words.length) throw new BtfError(`type [${id}] is cut short`, { typeId: id });
    if (kind === 0 || kind >= KIND_NAMES.length) {
      throw new BtfError(`type [${id}] has invalid kind ${kind}`, { typeId: id });
    }
    const end = at + wordCount(kind, infoVlen(info));
    if (end > words.length) {
      throw new BtfError(
        `type [${id}] ${KIND_NAMES[kind]} is cut short: ${infoVlen(info)} entries do not fit`,
        { typeId: id },
      );
    }
    found[count++] = at;
    at = end;
  }
  return found.slice(0, count);
}

/** Checks that every id and every string offset in the types exists, so that nothing later reads past an end. */
function checkReferences(words: Uint32Array, offsets: Uint32Array, btf: Btf): void {
  const { startId, typeCount, stringsEnd } = btf;
  // Names may overlap; a compiler's add up to about as much as the whole BTF has.
  let left = NAMES_PER_BYTE * 4 * words.length + (1 << 20);
  const checkName = (id: number, offset: number): void => {
    if (offset >= stringsEnd) {
      throw new BtfError(`type [${id}] has invalid name_offset ${offset}`, { typeId: id });
    }
    if (offset === 0) return;
    const { bytes, at } = btf.nameAt(offset);
    let end = at;
    while (bytes[end] !== 0) end++;
    if (end - at > MAX_NAME_LENGTH) {
      throw new BtfError(`type [${id}] has a name longer than ${MAX_NAME_LENGTH} bytes`, { typeId: id });
    }
    left -= end - at;
    if (left < 0)
      throw new BtfError(`type [${id}]: the names are too many and too long`, { typeId: id, errno: 'E2BIG' });
  };
  const checkType = (id: number, type: number): void => {
    if (type >= typeCount) throw new BtfError(`type [${id}] has invalid type_id ${type}`, { typeId: id });
  };
  for (let i = startId === 0 ? 1 : 0; i < offsets.length; i++) {
    const at = offsets[i]!;
    const id = startId + i;
    const info = words[at + 1]!;
    const vlen = infoVlen(info);
    const kind = infoKind(info);
    forEachNameWord(kind, vlen, (word) => checkName(id, words[at + word]!));
    forEachTypeWord(kind, vlen, (word) => checkType(id, words[at + word]!));
  }
}

/**
 * Reads the contents of a .BTF section or of /sys/kernel/btf/*, of either byte order. The bytes of strings are kept, not
 * copied. With a `base` they are split BTF, as a kernel module's.
 *
 * Throws BtfError for anything that is not whole: sections, types, ids and string offsets that are out of range. What
 * the kernel demands beyond that (names, sizes, no loops) is validateBtf()'s, since compilers' output needs fixing up
 * before it meets that.
 */
export function parseBtf(bytes: Uint8Array, base?: Btf): Btf {
  checkArgument('parseBtf()', 'bytes', bytes, bytesOf('a Uint8Array: a section .BTF'));
  checkArgument('parseBtf()', 'base', base, optional(aBtf));
  const { types, strings, littleEndian } = parseHeader(bytes, base !== undefined);
  const lead = base === undefined ? 3 : 0;
  const words = toWords(types, littleEndian, lead);
  const offsets = findTypes(words, lead, base?.typeCount ?? 0);
  const btf = new Btf({ base, words, offsets, strings, littleEndian });
  checkReferences(words, offsets, btf);
  return btf;
}
