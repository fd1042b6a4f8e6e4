/** Functions of an object: every STT_FUNC symbol of an executable section (bpf_object__add_programs of libbpf). */
import {
  type ElfFile,
  type ElfRelocation,
  type ElfSection,
  type ElfSymbol,
  ObjectError,
  readRelocations,
  SHF_EXECINSTR,
  SHT_PROGBITS,
  STB_LOCAL,
  STT_FUNC,
  STV_HIDDEN,
  STV_INTERNAL,
} from '../elf/index.ts';
import { decodeInsns, type Insn } from '../isa.ts';

export interface ObjectFunction {
  readonly name: string;
  readonly section: ElfSection;
  /** First instruction and number of instructions, within the section. */
  readonly start: number;
  readonly length: number;
  readonly global: boolean;
  /** Global in C, but verified like a static function: its symbol is not visible outside. */
  readonly hidden: boolean;
  readonly weak: boolean;
}

/** An executable section, decoded once. */
export interface CodeSection {
  readonly section: ElfSection;
  readonly insns: readonly Insn[];
  /** By start; no two overlap, but several names may stand for the same one. */
  readonly functions: readonly ObjectFunction[];
  /** By instruction. */
  readonly relocations: ReadonlyMap<number, ElfRelocation>;
}

const INSN_SIZE = 8;

/** Executable sections by index. Throws ObjectError. */
export function collectCode(elf: ElfFile): Map<number, CodeSection> {
  const symbols = new Map<number, ElfSymbol[]>();
  for (const symbol of elf.symbols) {
    if (symbol.type !== STT_FUNC) continue;
    const list = symbols.get(symbol.section);
    if (list === undefined) symbols.set(symbol.section, [symbol]);
    else list.push(symbol);
  }
  const code = new Map<number, CodeSection>();
  for (const section of elf.sections) {
    if (section.type !== SHT_PROGBITS || (section.flags & SHF_EXECINSTR) === 0 || section.size === 0)
      continue;
    if (section.size % INSN_SIZE !== 0) {
      throw new ObjectError('ELF_BAD_SIZE', `${section.size} bytes are not whole instructions`, {
        section: section.name,
      });
    }
    code.set(section.index, {
      section,
      insns: decodeInsns(section.data),
      functions: functionsOf(section, symbols.get(section.index) ?? []),
      relocations: relocationsOf(elf, section),
    });
  }
  return code;
}

function functionsOf(section: ElfSection, symbols: readonly ElfSymbol[]): ObjectFunction[] {
  const functions = symbols.map((symbol): ObjectFunction => {
    const place = { section: section.name, symbol: symbol.name, offset: symbol.value };
    if (symbol.name === '') throw new ObjectError('ELF_BAD_SYMBOL', 'function without a name', place);
    if (symbol.size === 0 || symbol.size % INSN_SIZE !== 0 || symbol.value % INSN_SIZE !== 0) {
      throw new ObjectError(
        'ELF_BAD_SYMBOL',
        `function of ${symbol.size} bytes is not whole instructions`,
        place,
      );
    }
    if (symbol.value + symbol.size > section.size) {
      throw new ObjectError('ELF_BAD_SYMBOL', 'function reaches beyond the end of its section', place);
    }
    return {
      name: symbol.name,
      section,
      start: symbol.value / INSN_SIZE,
      length: symbol.size / INSN_SIZE,
      global: symbol.bind !== STB_LOCAL,
      hidden: symbol.visibility === STV_HIDDEN || symbol.visibility === STV_INTERNAL,
      weak: symbol.bind === 2,
    };
  });
  functions.sort((a, b) => a.start - b.start);
  for (const [index, next] of functions.entries()) {
    const before = functions[index - 1];
    if (before === undefined || before.start + before.length <= next.start) continue;
    if (before.start === next.start && before.length === next.length) continue;
    throw new ObjectError('ELF_BAD_SYMBOL', `function overlaps ${before.name}`, {
      section: section.name,
      symbol: next.name,
      offset: next.start * INSN_SIZE,
    });
  }
  return functions;
}

function relocationsOf(elf: ElfFile, section: ElfSection): Map<number, ElfRelocation> {
  const relocations = new Map<number, ElfRelocation>();
  for (const table of elf.relocationSections.get(section.index) ?? []) {
    for (const relocation of readRelocations(elf, table)) {
      const { offset } = relocation;
      if (offset % INSN_SIZE !== 0) {
        throw new ObjectError('ELF_BAD_RELOCATION', 'relocation is not at an instruction', {
          section: table.name,
          offset,
        });
      }
      if (relocations.has(offset / INSN_SIZE)) {
        throw new ObjectError('ELF_BAD_RELOCATION', 'two relocations of one instruction', {
          section: table.name,
          offset,
        });
      }
      relocations.set(offset / INSN_SIZE, relocation);
    }
  }
  return relocations;
}

/** The function that an instruction of a section belongs to. */
export function functionAt(code: CodeSection, insn: number): ObjectFunction | undefined {
  let low = 0;
  let high = code.functions.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (code.functions[middle]!.start <= insn) low = middle + 1;
    else high = middle;
  }
  const found = code.functions[low - 1];
  if (found === undefined || insn >= found.start + found.length) return undefined;
  return found;
}
