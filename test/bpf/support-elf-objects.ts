/** Small ELF files, made by hand. */

export const PROGBITS = 1;
export const SYMTAB = 2;
export const STRTAB = 3;
export const REL = 9;
const SHDR = 64;

/** Builds small ELF files from parts. */
export function elf(
  sections: {
    name: string;
    type: number;
    flags?: number;
    data: Uint8Array;
    link?: number;
    entsize?: number;
  }[],
): Uint8Array {
  const names = ['', ...sections.map(({ name }) => name), '.shstrtab'];
  const offsets: number[] = [];
  let text = '';
  for (const name of names) {
    offsets.push(text.length);
    text += `${name}\0`;
  }
  const all = [...sections, { name: '.shstrtab', type: STRTAB, data: new TextEncoder().encode(text) }];
  const size = all.reduce((sum, { data }) => sum + data.length, 64);
  const bytes = new Uint8Array(size + SHDR * (all.length + 1));
  const view = new DataView(bytes.buffer);
  bytes.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]);
  view.setUint16(16, 1, true);
  view.setUint16(18, 247, true);
  view.setUint32(20, 1, true);
  view.setBigUint64(40, BigInt(size), true);
  view.setUint16(58, SHDR, true);
  view.setUint16(60, all.length + 1, true);
  view.setUint16(62, all.length, true);
  let end = 64;
  for (const [i, section] of all.entries()) {
    const at = size + SHDR * (i + 1);
    bytes.set(section.data, end);
    view.setUint32(at, offsets[i + 1]!, true);
    view.setUint32(at + 4, section.type, true);
    view.setBigUint64(at + 8, BigInt(('flags' in section ? section.flags : 0) ?? 0), true);
    view.setBigUint64(at + 24, BigInt(end), true);
    view.setBigUint64(at + 32, BigInt(section.data.length), true);
    view.setUint32(at + 40, ('link' in section ? section.link : 0) ?? 0, true);
    view.setBigUint64(at + 56, BigInt(('entsize' in section ? section.entsize : 0) ?? 0), true);
    end += section.data.length;
  }
  return bytes;
}

export interface SymbolSpec {
  name: number;
  info: number;
  section: number;
  value?: number;
  size?: number;
}

export function symbolTable(symbols: SymbolSpec[]): Uint8Array {
  const bytes = new Uint8Array(24 * symbols.length);
  const view = new DataView(bytes.buffer);
  for (const [i, { name, info, section, value = 0, size = 0 }] of symbols.entries()) {
    view.setUint32(24 * i, name, true);
    view.setUint8(24 * i + 4, info);
    view.setUint16(24 * i + 6, section, true);
    view.setBigUint64(24 * i + 8, BigInt(value), true);
    view.setBigUint64(24 * i + 16, BigInt(size), true);
  }
  return bytes;
}

/** st_info of a global function. */
export const GLOBAL_FUNC = 0x12;
/** r0 = 0; exit */
export const EXIT = [0xb7, 0, 0, 0, 0, 0, 0, 0, 0x95, 0, 0, 0, 0, 0, 0, 0];

/** An object of programs in one section, whose symbols are given. Section 1 is the code, 2 the symbols, 3 their names. */
export function programs(
  code: Uint8Array,
  symbols: SymbolSpec[],
  strings: Uint8Array,
  section = 'socket',
): Uint8Array {
  return elf([
    { name: section, type: PROGBITS, flags: 6, data: code },
    {
      name: '.symtab',
      type: SYMTAB,
      data: symbolTable([{ name: 0, info: 0, section: 0 }, ...symbols]),
      link: 3,
      entsize: 24,
    },
    { name: '.strtab', type: STRTAB, data: strings },
  ]);
}
