import { aBtf } from '../argument-shapes.ts';
import { bytesOf, checkArgument } from '../arguments.ts';
import type { Btf } from './btf.ts';
import { BtfError } from './error.ts';
import { byteOrder } from './parse.ts';

/** Which function starts at an instruction. */
export interface FuncInfo {
  /** Bytes from the start of the program's section. */
  readonly insnOff: number;
  /** A FUNC. */
  readonly typeId: number;
}

/** The line of source of an instruction. The texts are looked up in the BTF when asked for. */
export interface LineInfo {
  /** Bytes from the start of the program's section. */
  readonly insnOff: number;
  readonly fileNameOff: number;
  readonly lineOff: number;
  /** From 1; 0 is unknown. */
  readonly line: number;
  readonly column: number;
  readonly fileName: string;
  /** The text of the line, '' where the compiler left it out. */
  readonly text: string;
}

/** One CO-RE relocation (struct bpf_core_relo). */
export interface CoreRelo {
  /** Bytes from the start of the program's section. */
  readonly insnOff: number;
  /** The root type, in the object's own BTF. */
  readonly typeId: number;
  readonly accessStrOff: number;
  /** BPF_CORE_FIELD_BYTE_OFFSET (0) to BPF_CORE_TYPE_MATCHES (12). */
  readonly kind: number;
  /** `0:1:2`: the indices from the root type to the field, or of the enumerator. */
  readonly accessString: string;
}

/** What .BTF.ext holds, by the name of the ELF section that the instructions lie in. */
export interface BtfExt {
  readonly funcInfo: ReadonlyMap<string, readonly FuncInfo[]>;
  readonly lineInfo: ReadonlyMap<string, readonly LineInfo[]>;
  readonly coreRelos: ReadonlyMap<string, readonly CoreRelo[]>;
}

class Line implements LineInfo {
  readonly insnOff: number;
  readonly fileNameOff: number;
  readonly lineOff: number;
  readonly line: number;
  readonly column: number;
  readonly #btf: Btf;

  constructor(btf: Btf, view: DataView, at: number, littleEndian: boolean) {
    this.#btf = btf;
    this.insnOff = view.getUint32(at, littleEndian);
    this.fileNameOff = view.getUint32(at + 4, littleEndian);
    this.lineOff = view.getUint32(at + 8, littleEndian);
    const packed = view.getUint32(at + 12, littleEndian);
    this.line = packed >>> 10;
    this.column = packed & 0x3ff;
  }

  get fileName(): string {
    return this.#btf.string(this.fileNameOff);
  }

  get text(): string {
    return this.#btf.string(this.lineOff);
  }
}

class Relo implements CoreRelo {
  readonly insnOff: number;
  readonly typeId: number;
  readonly accessStrOff: number;
  readonly kind: number;
  readonly #btf: Btf;

  constructor(btf: Btf, view: DataView, at: number, littleEndian: boolean) {
    this.#btf = btf;
    this.insnOff = view.getUint32(at, littleEndian);
    this.typeId = view.getUint32(at + 4, littleEndian);
    this.accessStrOff = view.getUint32(at + 8, littleEndian);
    this.kind = view.getUint32(at + 12, littleEndian);
  }

  get accessString(): string {
    return this.#btf.string(this.accessStrOff);
  }
}

/** One of the three tables: a record size, then per ELF section its name, a count and so many records. */
function parseTable<T>(
  view: DataView,
  start: number,
  length: number,
  littleEndian: boolean,
  what: string,
  minRecord: number,
  btf: Btf,
  read: (at: number) => T,
): Map<string, T[]> {
  const sections = new Map<string, T[]>();
  if (length === 0) return sections;
  if (start % 4 !== 0) throw new BtfError(`.BTF.ext ${what} section is not aligned to 4 bytes`);
  if (start + length > view.byteLength) {
    throw new BtfError(`.BTF.ext ${what} section (off:${start} len:${length}) is beyond the end of .BTF.ext`);
  }
  if (length < 4) throw new BtfError(`.BTF.ext ${what} record size not found`);
  const recordSize = view.getUint32(start, littleEndian);
  if (recordSize < minRecord || recordSize % 4 !== 0) {
    throw new BtfError(`.BTF.ext ${what} section has invalid record size ${recordSize}`);
  }
  const end = start + length;
  let at = start + 4;
  if (at === end) throw new BtfError(`.BTF.ext ${what} section has no records`);
  while (at < end) {
    if (at + 8 > end) throw new BtfError(`.BTF.ext ${what} section header is cut short`);
    const name = btf.string(view.getUint32(at, littleEndian));
    const count = view.getUint32(at + 4, littleEndian);
    at += 8;
    if (count === 0) throw new BtfError(`.BTF.ext ${what} section ${name} has no records`);
    if (at + count * recordSize > end) {
      throw new BtfError(`.BTF.ext ${what} section ${name} has an incorrect number of records: ${count}`);
    }
    const records = sections.get(name) ?? [];
    sections.set(name, records);
    for (let i = 0; i < count; i++, at += recordSize) records.push(read(at));
  }
  return sections;
}

/**
 * Reads the contents of a .BTF.ext section (btf_ext__new of libbpf). `btf` is the object's own BTF: names lie in it, and
 * ids are checked against it. Throws BtfError.
 */
export function parseBtfExt(bytes: Uint8Array, btf: Btf): BtfExt {
  checkArgument('parseBtfExt()', 'bytes', bytes, bytesOf('a Uint8Array: a section .BTF.ext'));
  checkArgument('parseBtfExt()', 'btf', btf, aBtf);
  const littleEndian = byteOrder(bytes, '.BTF.ext', 24);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (view.getUint8(2) !== 1) throw new BtfError('unsupported .BTF.ext version', { errno: 'ENOTSUPP' });
  if (view.getUint8(3) !== 0) throw new BtfError('unsupported .BTF.ext flags', { errno: 'ENOTSUPP' });
  const headerLength = view.getUint32(4, littleEndian);
  if (headerLength < 24 || headerLength > bytes.length) throw new BtfError('.BTF.ext header not found');
  if (headerLength === bytes.length) throw new BtfError('.BTF.ext has no data');
  const table = <T>(
    field: number,
    what: string,
    minRecord: number,
    read: (at: number) => T,
  ): Map<string, T[]> => {
    if (field + 8 > headerLength) return new Map();
    const start = headerLength + view.getUint32(field, littleEndian);
    return parseTable(
      view,
      start,
      view.getUint32(field + 4, littleEndian),
      littleEndian,
      what,
      minRecord,
      btf,
      read,
    );
  };
  const checkType = (typeId: number, what: string): void => {
    if (!btf.has(typeId)) throw new BtfError(`.BTF.ext ${what} has invalid type_id ${typeId}`, { typeId });
  };
  const funcInfo = table(8, 'func_info', 8, (at) => {
    const typeId = view.getUint32(at + 4, littleEndian);
    checkType(typeId, 'func_info');
    return { insnOff: view.getUint32(at, littleEndian), typeId };
  });
  const checkString = (offset: number, what: string): void => {
    if (offset >= btf.stringsEnd) throw new BtfError(`.BTF.ext ${what} has invalid string offset ${offset}`);
  };
  const lineInfo = table(16, 'line_info', 16, (at) => {
    const line = new Line(btf, view, at, littleEndian);
    checkString(line.fileNameOff, 'line_info');
    checkString(line.lineOff, 'line_info');
    return line;
  });
  const coreRelos = table(24, 'core_relo', 16, (at) => {
    const relo = new Relo(btf, view, at, littleEndian);
    checkType(relo.typeId, 'core_relo');
    checkString(relo.accessStrOff, 'core_relo');
    return relo;
  });
  return { funcInfo, lineInfo, coreRelos };
}
