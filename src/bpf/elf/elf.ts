/**
 * Reads ELF64 relocatable files of BPF, as clang and `bpftool gen object` write them. Made for hostile input: every offset and
 * count is checked against the file's size before it is used, sections are views into the file (nothing is copied), and names
 * are cut off at a length and a total, so that work and memory are bounded by the size of the file.
 */
import {
  EHDR_SIZE,
  ELFCLASS64,
  ELFDATA2LSB,
  ELFDATA2MSB,
  EM_BPF,
  EM_NONE,
  ET_REL,
  EV_CURRENT,
  REL_SIZE,
  RELA_SIZE,
  SHDR_SIZE,
  SHN_LORESERVE,
  SHN_UNDEF,
  SHN_XINDEX,
  SHT_NOBITS,
  SHT_NULL,
  SHT_REL,
  SHT_RELA,
  SHT_STRTAB,
  SHT_SYMTAB,
  SYM_SIZE,
} from './constants.ts';
import { ObjectError } from './error.ts';

export interface ElfSection {
  readonly index: number;
  readonly name: string;
  /** SHT_* */
  readonly type: number;
  /** SHF_* */
  readonly flags: number;
  /** Bytes in the file; for SHT_NOBITS the bytes it stands for. */
  readonly size: number;
  readonly offset: number;
  readonly link: number;
  readonly info: number;
  readonly entsize: number;
  /** What its address is a multiple of; 0 and 1 mean nothing. */
  readonly align: number;
  /** A view into the file; empty for SHT_NOBITS. */
  readonly data: Uint8Array;
}

export interface ElfSymbol {
  readonly index: number;
  /** Empty for section symbols. */
  readonly name: string;
  /** Offset in its section. */
  readonly value: number;
  readonly size: number;
  /** STB_* */
  readonly bind: number;
  /** STT_* */
  readonly type: number;
  /** STV_* */
  readonly visibility: number;
  /** Section index, or SHN_UNDEF, SHN_ABS, SHN_COMMON. */
  readonly section: number;
}

export interface ElfRelocation {
  /** Byte offset in the section that is relocated. */
  readonly offset: number;
  /** R_BPF_* */
  readonly type: number;
  readonly symbol: ElfSymbol;
  /** SHT_RELA only; otherwise the addend stands in the relocated place. */
  readonly addend?: number;
}

export interface ElfFile {
  /** By index; [0] is the null section. */
  readonly sections: readonly ElfSection[];
  readonly symbols: readonly ElfSymbol[];
  /** Relocation sections by the section they relocate. */
  readonly relocationSections: ReadonlyMap<number, readonly ElfSection[]>;
}

/** Longest name of a section or symbol, in bytes. The kernel's own limit of a symbol is 512 (KSYM_NAME_LEN). */
const MAX_NAME = 4096;

const utf8 = new TextDecoder('utf-8', { fatal: false });

/** Numbers and strings of the file, with checks. */
class Reader {
  readonly bytes: Uint8Array;
  private readonly view: DataView;
  private nameBudget: number;

  constructor(bytes: Uint8Array) {
    this.bytes = bytes;
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    // Names may share their tails, so their sum may be above the table's size; a hostile file could make it its square.
    this.nameBudget = bytes.length * 8 + 65536;
  }

  u8(at: number): number {
    return this.view.getUint8(at);
  }

  u16(at: number): number {
    return this.view.getUint16(at, true);
  }

  u32(at: number): number {
    return this.view.getUint32(at, true);
  }

  /** A u64 that must be a safe integer; larger ones become Infinity, which no check of bounds passes. */
  u64(at: number): number {
    const high = this.u32(at + 4);
    return high >= 0x200000 ? Number.POSITIVE_INFINITY : high * 2 ** 32 + this.u32(at);
  }

  /** The string at `at` of a string table. */
  name(table: ElfRange, at: number, what: string): string {
    if (at >= table.size) {
      throw new ObjectError('ELF_BAD_STRING', `name of ${what} lies outside of the string table`, {
        section: table.name,
        offset: at,
      });
    }
    const start = table.offset + at;
    const limit = Math.min(table.offset + table.size, start + MAX_NAME);
    let end = start;
    while (end < limit && this.bytes[end] !== 0) end++;
    if (end === limit) {
      throw new ObjectError('ELF_BAD_STRING', `name of ${what} has no end`, {
        section: table.name,
        offset: at,
      });
    }
    this.nameBudget -= end - start;
    if (this.nameBudget < 0) {
      throw new ObjectError('ELF_BAD_STRING', 'the names of sections and symbols overlap too much', {
        section: table.name,
        offset: at,
      });
    }
    return utf8.decode(this.bytes.subarray(start, end));
  }
}

interface ElfRange {
  readonly name: string;
  readonly offset: number;
  readonly size: number;
}

interface SectionHeader extends ElfRange {
  readonly index: number;
  readonly nameAt: number;
  readonly type: number;
  readonly flags: number;
  readonly link: number;
  readonly info: number;
  readonly entsize: number;
  readonly align: number;
}

/** True where the bytes begin like an ELF file. */
export function isElf(bytes: Uint8Array): boolean {
  return (
    bytes.length >= 4 && bytes[0] === 0x7f && bytes[1] === 0x45 && bytes[2] === 0x4c && bytes[3] === 0x46
  );
}

/** Throws ObjectError `ELF_…`. */
export function parseElf(file: Uint8Array): ElfFile {
  // A Buffer of Node has another slice().
  const bytes = new Uint8Array(file.buffer, file.byteOffset, file.byteLength);
  const reader = new Reader(bytes);
  const headers = readSectionHeaders(reader);
  const names = sectionNameTable(reader, headers);
  const sections = headers.map((header): ElfSection => {
    const name =
      names === undefined || header.type === SHT_NULL
        ? ''
        : reader.name(names, header.nameAt, `section ${header.index}`);
    const { index, type, flags, size, offset, link, info, entsize, align } = header;
    const inFile = type !== SHT_NULL && type !== SHT_NOBITS;
    if (inFile && offset + size > bytes.length) {
      throw new ObjectError(
        'ELF_TRUNCATED',
        `section of ${sizeText(size)} reaches beyond the end of the file`,
        {
          section: name,
          offset,
        },
      );
    }
    if (!Number.isSafeInteger(size)) {
      throw new ObjectError('ELF_BAD_SIZE', 'section has an impossible size', { section: name });
    }
    const data = inFile ? bytes.subarray(offset, offset + size) : bytes.subarray(0, 0);
    return { index, name, type, flags, size, offset, link, info, entsize, align, data };
  });
  const symbols = readSymbols(reader, sections);
  const relocationSections = new Map<number, ElfSection[]>();
  for (const section of sections) {
    if (section.type !== SHT_REL && section.type !== SHT_RELA) continue;
    if (section.info === 0 || section.info >= sections.length) {
      throw new ObjectError(
        'ELF_BAD_SECTION',
        `relocations for section ${section.info}, which does not exist`,
        {
          section: section.name,
        },
      );
    }
    const size = section.type === SHT_REL ? REL_SIZE : RELA_SIZE;
    if (section.entsize !== size || section.size % size !== 0) {
      throw new ObjectError('ELF_BAD_ENTSIZE', `relocations are not ${size} bytes each`, {
        section: section.name,
      });
    }
    const list = relocationSections.get(section.info);
    if (list === undefined) relocationSections.set(section.info, [section]);
    else list.push(section);
  }
  return { sections, symbols, relocationSections };
}

function sizeText(size: number): string {
  return Number.isSafeInteger(size) ? `${size} bytes` : '2^53 bytes or more';
}

/** Checks e_ident and the rest of the file's header, and reads the section headers. */
function readSectionHeaders(reader: Reader): SectionHeader[] {
  const { bytes } = reader;
  if (!isElf(bytes)) {
    throw new ObjectError(
      'ELF_NOT_ELF',
      bytes.length < 4 ? 'file is too short to be ELF' : 'not an ELF file',
    );
  }
  if (bytes.length < EHDR_SIZE) {
    throw new ObjectError('ELF_TRUNCATED', `file of ${bytes.length} bytes ends within the ELF header`);
  }
  if (reader.u8(4) !== ELFCLASS64) throw new ObjectError('ELF_CLASS', 'not a 64-bit ELF file');
  if (reader.u8(5) === ELFDATA2MSB) {
    throw new ObjectError(
      'ELF_BIG_ENDIAN',
      'big-endian object: this machine is little-endian',
      {},
      {
        hint: 'compile with -target bpfel (or -target bpf on a little-endian system)',
      },
    );
  }
  if (reader.u8(5) !== ELFDATA2LSB)
    throw new ObjectError('ELF_CLASS', `unknown data encoding ${reader.u8(5)}`);
  if (reader.u8(6) !== EV_CURRENT || reader.u32(20) !== EV_CURRENT) {
    throw new ObjectError('ELF_VERSION', 'unknown version of ELF');
  }
  const type = reader.u16(16);
  if (type !== ET_REL) {
    throw new ObjectError(
      'ELF_TYPE',
      `not a relocatable object: its type is ${type}, not ${ET_REL}`,
      {},
      {
        hint: 'compile with -c',
      },
    );
  }
  const machine = reader.u16(18);
  if (machine !== EM_BPF && machine !== EM_NONE) {
    throw new ObjectError(
      'ELF_MACHINE',
      `object is for machine ${machine}, not for BPF (${EM_BPF})`,
      {},
      {
        hint: 'compile with clang -target bpf',
      },
    );
  }
  const start = reader.u64(40);
  const entsize = reader.u16(58);
  if (start === 0) throw new ObjectError('ELF_BAD_SECTION', 'file has no section headers');
  if (entsize !== SHDR_SIZE) {
    throw new ObjectError('ELF_BAD_ENTSIZE', `section headers of ${entsize} bytes, not ${SHDR_SIZE}`);
  }
  if (start + SHDR_SIZE > bytes.length) {
    throw new ObjectError('ELF_TRUNCATED', 'section headers lie beyond the end of the file', {
      offset: Number.isFinite(start) ? start : undefined,
    });
  }
  // With 0xff00 sections and more the number stands in the first section header.
  const count = reader.u16(60) || reader.u64(start + 32);
  if (count === 0) throw new ObjectError('ELF_BAD_SECTION', 'file has no section headers');
  if (start + count * SHDR_SIZE > bytes.length) {
    throw new ObjectError('ELF_TRUNCATED', `${count} section headers reach beyond the end of the file`, {
      offset: start,
    });
  }
  return Array.from({ length: count }, (_, index) => {
    const at = start + index * SHDR_SIZE;
    return {
      index,
      name: `#${index}`,
      nameAt: reader.u32(at),
      type: reader.u32(at + 4),
      // Only the lower flags matter here.
      flags: reader.u32(at + 8),
      offset: reader.u64(at + 24),
      size: reader.u64(at + 32),
      link: reader.u32(at + 40),
      info: reader.u32(at + 44),
      entsize: reader.u64(at + 56),
      align: reader.u64(at + 48),
    };
  });
}

function sectionNameTable(reader: Reader, headers: readonly SectionHeader[]): ElfRange | undefined {
  const index = reader.u16(62);
  if (index === SHN_UNDEF) return undefined;
  return stringTable(
    reader,
    headers,
    index === SHN_XINDEX ? headers[0]!.link : index,
    'the names of sections',
  );
}

function stringTable(
  reader: Reader,
  headers: readonly (ElfRange & { type: number })[],
  index: number,
  use: string,
): ElfRange {
  const header = headers[index];
  if (header === undefined || header.type !== SHT_STRTAB) {
    throw new ObjectError('ELF_BAD_SECTION', `section ${index} has ${use} and is no string table`);
  }
  if (header.offset + header.size > reader.bytes.length) {
    throw new ObjectError(
      'ELF_TRUNCATED',
      `string table of ${sizeText(header.size)} reaches beyond the end of the file`,
      { section: header.name },
    );
  }
  return header;
}

function readSymbols(reader: Reader, sections: readonly ElfSection[]): ElfSymbol[] {
  const tables = sections.filter((section) => section.type === SHT_SYMTAB);
  if (tables.length === 0) {
    throw new ObjectError('ELF_NO_SYMBOLS', 'no symbol table: the object was stripped');
  }
  if (tables.length > 1) {
    throw new ObjectError('ELF_BAD_SECTION', 'more than one symbol table', { section: tables[1]!.name });
  }
  const table = tables[0]!;
  if (table.entsize !== SYM_SIZE || table.size % SYM_SIZE !== 0) {
    throw new ObjectError('ELF_BAD_ENTSIZE', `symbols are not ${SYM_SIZE} bytes each`, {
      section: table.name,
    });
  }
  const strings = stringTable(reader, sections, table.link, 'the names of symbols');
  return Array.from({ length: table.size / SYM_SIZE }, (_, index): ElfSymbol => {
    const at = table.offset + index * SYM_SIZE;
    const nameAt = reader.u32(at);
    const info = reader.u8(at + 4);
    const section = reader.u16(at + 6);
    const name = nameAt === 0 ? '' : reader.name(strings, nameAt, `symbol ${index}`);
    if (section === SHN_XINDEX || (section < SHN_LORESERVE && section >= sections.length)) {
      throw new ObjectError('ELF_BAD_SYMBOL', `symbol is in section ${section}, which does not exist`, {
        section: table.name,
        symbol: name === '' ? `#${index}` : name,
      });
    }
    const value = reader.u64(at + 8);
    const size = reader.u64(at + 16);
    if (!Number.isFinite(value) || !Number.isFinite(size)) {
      throw new ObjectError('ELF_BAD_SYMBOL', 'symbol has an impossible value or size', {
        section: table.name,
        symbol: name === '' ? `#${index}` : name,
      });
    }
    return {
      index,
      name,
      value,
      size,
      bind: info >> 4,
      type: info & 15,
      visibility: reader.u8(at + 5) & 3,
      section,
    };
  });
}

/** The entries of a relocation section, checked: places lie within the relocated section, symbols exist. */
export function readRelocations(elf: ElfFile, section: ElfSection): ElfRelocation[] {
  const rela = section.type === SHT_RELA;
  const size = rela ? RELA_SIZE : REL_SIZE;
  const target = elf.sections[section.info]!;
  const view = new DataView(section.data.buffer, section.data.byteOffset, section.data.byteLength);
  return Array.from({ length: section.size / size }, (_, index): ElfRelocation => {
    const at = index * size;
    const offset = view.getBigUint64(at, true);
    const type = view.getUint32(at + 8, true);
    const symbolIndex = view.getUint32(at + 12, true);
    const symbol = elf.symbols[symbolIndex];
    if (symbol === undefined) {
      throw new ObjectError(
        'ELF_BAD_RELOCATION',
        `relocation ${index} names symbol ${symbolIndex} of ${elf.symbols.length}`,
        {
          section: section.name,
          offset: at,
        },
      );
    }
    if (offset >= BigInt(target.data.length)) {
      throw new ObjectError(
        'ELF_BAD_RELOCATION',
        `relocation ${index} is for offset 0x${offset.toString(16)}, outside of section ${target.name}`,
        { section: section.name, offset: at },
      );
    }
    return {
      offset: Number(offset),
      type,
      symbol,
      ...(rela ? { addend: Number(view.getBigInt64(at + 16, true)) } : {}),
    };
  });
}

/** How messages call a symbol: section symbols by their section. */
export function symbolName(elf: ElfFile, symbol: ElfSymbol): string {
  if (symbol.name !== '') return symbol.name;
  return elf.sections[symbol.section]?.name ?? `#${symbol.index}`;
}
