/** Writes ELF64 little-endian relocatable files of BPF: sections one after the other, then their headers. */
import {
  EHDR_SIZE,
  ELFCLASS64,
  ELFDATA2LSB,
  EM_BPF,
  ET_REL,
  EV_CURRENT,
  REL_SIZE,
  SHDR_SIZE,
  SHF_INFO_LINK,
  SHN_LORESERVE,
  SHT_NOBITS,
  SHT_REL,
  SHT_STRTAB,
  SHT_SYMTAB,
  STB_LOCAL,
  SYM_SIZE,
} from './constants.ts';
import { ObjectError } from './error.ts';

export interface ElfOutputSection {
  readonly name: string;
  /** SHT_* */
  readonly type: number;
  /** SHF_* */
  readonly flags: number;
  /** A power of two, at most 64 KiB. */
  readonly align: number;
  readonly entsize: number;
  /** Bytes that a section without contents (SHT_NOBITS) stands for; otherwise those of `data`. */
  readonly size: number;
  readonly data: Uint8Array;
  readonly relocations: readonly { offset: number; type: number; symbol: ElfOutputSymbol }[];
}

export interface ElfOutputSymbol {
  readonly name: string;
  /** STB_* */
  readonly bind: number;
  /** STT_* */
  readonly type: number;
  /** STV_* */
  readonly visibility: number;
  /** A section of the file, or SHN_UNDEF, SHN_ABS, SHN_COMMON. */
  readonly section: ElfOutputSection | number;
  readonly value: number;
  readonly size: number;
}

/** A section with what its header says of others. */
interface Header extends Omit<ElfOutputSection, 'relocations'> {
  readonly link: number;
  readonly info: number;
}

const utf8 = new TextEncoder();

/** Names, each once, by their offsets. */
class Names {
  readonly #offsets = new Map<string, number>([['', 0]]);
  readonly #parts: Uint8Array[] = [new Uint8Array(1)];
  #length = 1;

  add(name: string): number {
    const known = this.#offsets.get(name);
    if (known !== undefined) return known;
    const offset = this.#length;
    const bytes = utf8.encode(`${name}\0`);
    this.#offsets.set(name, offset);
    this.#parts.push(bytes);
    this.#length += bytes.length;
    return offset;
  }

  get bytes(): Uint8Array {
    const bytes = new Uint8Array(this.#length);
    let at = 0;
    for (const part of this.#parts) {
      bytes.set(part, at);
      at += part.length;
    }
    return bytes;
  }
}

/** Sections get their numbers in the order given; those of names, symbols and relocations are added. */
export function writeElf(
  sections: readonly ElfOutputSection[],
  symbols: readonly ElfOutputSymbol[],
): Uint8Array {
  const FIRST = 3;
  const STRTAB = 1;
  const SYMTAB = 2;
  const numbers = new Map(sections.map((section, index) => [section, FIRST + index]));
  const relocated = sections.filter(({ relocations }) => relocations.length > 0);
  if (FIRST + sections.length + relocated.length >= SHN_LORESERVE) {
    throw new ObjectError('ELF_BAD_SECTION', `${sections.length} sections do not fit into one file`);
  }
  // Local symbols come first.
  const ordered = [
    ...symbols.filter(({ bind }) => bind === STB_LOCAL),
    ...symbols.filter(({ bind }) => bind !== STB_LOCAL),
  ];
  const locals = symbols.reduce((sum, { bind }) => sum + (bind === STB_LOCAL ? 1 : 0), 1);
  const indexes = new Map(ordered.map((symbol, index) => [symbol, index + 1]));
  const names = new Names();
  const table = symbolTable(ordered, names, numbers);
  const none = { flags: 0, entsize: 0, link: 0, info: 0 };
  const headers: Header[] = [
    {
      ...none,
      name: '.symtab',
      type: SHT_SYMTAB,
      align: 8,
      entsize: SYM_SIZE,
      size: table.length,
      data: table,
      link: STRTAB,
      info: locals,
    },
    ...sections.map((section) => ({ ...section, link: 0, info: 0 })),
    ...relocated.map((section): Header => {
      const data = relocationTable(section, indexes);
      const info = numbers.get(section)!;
      const name = `.rel${section.name}`;
      return {
        ...none,
        name,
        type: SHT_REL,
        flags: SHF_INFO_LINK,
        align: 8,
        entsize: REL_SIZE,
        size: data.length,
        data,
        link: SYMTAB,
        info,
      };
    }),
  ];
  const nameOffsets = headers.map(({ name }) => names.add(name));
  const strtabName = names.add('.strtab');
  const strings = names.bytes;
  headers.unshift({
    ...none,
    name: '.strtab',
    type: SHT_STRTAB,
    align: 1,
    size: strings.length,
    data: strings,
  });
  nameOffsets.unshift(strtabName);
  return writeFile(headers, nameOffsets, STRTAB);
}

function symbolTable(
  symbols: readonly ElfOutputSymbol[],
  names: Names,
  numbers: ReadonlyMap<ElfOutputSection, number>,
): Uint8Array {
  const bytes = new Uint8Array((symbols.length + 1) * SYM_SIZE);
  const view = new DataView(bytes.buffer);
  for (const [index, symbol] of symbols.entries()) {
    const at = (index + 1) * SYM_SIZE;
    const { section } = symbol;
    view.setUint32(at, names.add(symbol.name), true);
    view.setUint8(at + 4, (symbol.bind << 4) | symbol.type);
    view.setUint8(at + 5, symbol.visibility);
    view.setUint16(at + 6, typeof section === 'number' ? section : numbers.get(section)!, true);
    view.setBigUint64(at + 8, BigInt(symbol.value), true);
    view.setBigUint64(at + 16, BigInt(symbol.size), true);
  }
  return bytes;
}

function relocationTable(
  { relocations }: ElfOutputSection,
  indexes: ReadonlyMap<ElfOutputSymbol, number>,
): Uint8Array {
  const bytes = new Uint8Array(relocations.length * REL_SIZE);
  const view = new DataView(bytes.buffer);
  for (const [index, { offset, type, symbol }] of relocations.entries()) {
    view.setBigUint64(index * REL_SIZE, BigInt(offset), true);
    view.setUint32(index * REL_SIZE + 8, type, true);
    view.setUint32(index * REL_SIZE + 12, indexes.get(symbol)!, true);
  }
  return bytes;
}

/** The file's header, the contents of the sections, the section headers behind an empty one. */
function writeFile(headers: readonly Header[], nameOffsets: readonly number[], names: number): Uint8Array {
  let end = EHDR_SIZE;
  const offsets = headers.map(({ align, data }) => {
    const offset = alignUp(end, Math.max(1, align));
    end = offset + data.length;
    return offset;
  });
  const table = alignUp(end, 8);
  const bytes = new Uint8Array(table + (headers.length + 1) * SHDR_SIZE);
  const view = new DataView(bytes.buffer);
  bytes.set([0x7f, 0x45, 0x4c, 0x46, ELFCLASS64, ELFDATA2LSB, EV_CURRENT]);
  view.setUint16(16, ET_REL, true);
  view.setUint16(18, EM_BPF, true);
  view.setUint32(20, EV_CURRENT, true);
  view.setBigUint64(40, BigInt(table), true);
  view.setUint16(52, EHDR_SIZE, true);
  view.setUint16(58, SHDR_SIZE, true);
  view.setUint16(60, headers.length + 1, true);
  view.setUint16(62, names, true);
  for (const [index, header] of headers.entries()) {
    const at = table + (index + 1) * SHDR_SIZE;
    bytes.set(header.data, offsets[index]!);
    view.setUint32(at, nameOffsets[index]!, true);
    view.setUint32(at + 4, header.type, true);
    view.setBigUint64(at + 8, BigInt(header.flags), true);
    view.setBigUint64(at + 24, BigInt(offsets[index]!), true);
    view.setBigUint64(at + 32, BigInt(header.type === SHT_NOBITS ? header.size : header.data.length), true);
    view.setUint32(at + 40, header.link, true);
    view.setUint32(at + 44, header.info, true);
    view.setBigUint64(at + 48, BigInt(header.align), true);
    view.setBigUint64(at + 56, BigInt(header.entsize), true);
  }
  return bytes;
}

export function alignUp(value: number, align: number): number {
  return Math.ceil(value / align) * align;
}
