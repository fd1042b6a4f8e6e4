/** One object of those that are linked: what of it is taken over, and checked to be of the kind that can be. */
import { type Btf, BtfError, type BtfExt, btfKinds, parseBtf, parseBtfExt } from '../btf/index.ts';
import {
  type ElfFile,
  type ElfSection,
  type ElfSymbol,
  ObjectError,
  parseElf,
  R_BPF_64_32,
  R_BPF_64_64,
  R_BPF_64_ABS32,
  R_BPF_64_ABS64,
  SHN_LORESERVE,
  SHN_UNDEF,
  SHT_LLVM_ADDRSIG,
  SHT_NOBITS,
  SHT_NULL,
  SHT_PROGBITS,
  SHT_REL,
  SHT_STRTAB,
  SHT_SYMTAB,
  STB_GLOBAL,
  STB_LOCAL,
  STB_WEAK,
  STT_NOTYPE,
  STT_OBJECT,
  STV_DEFAULT,
  STV_HIDDEN,
} from '../elf/index.ts';

/** An object file and what messages call it. */
export interface LinkInput {
  readonly name: string;
  readonly bytes: Uint8Array;
}

/** A variable, or a function, within a section's types. */
export interface SectionVariable {
  /** Of its VAR or FUNC. */
  readonly type: number;
  readonly offset: number;
  readonly size: number;
}

/** The type of a symbol: its VAR or FUNC, and the section that the types have it in. */
export interface SymbolType {
  readonly id: number;
  /** Undefined for functions, and for variables of unknown sections. */
  readonly section: string | undefined;
}

export interface InputObject {
  readonly name: string;
  readonly elf: ElfFile;
  readonly btf: Btf | undefined;
  readonly ext: BtfExt | undefined;
  /** Sections of data and instructions, in the file's order. */
  readonly sections: readonly ElfSection[];
  /** The variables of each section, also of those that are not in the file (`.kconfig`, `.ksyms`). */
  readonly variables: ReadonlyMap<string, readonly SectionVariable[]>;
  /** Of what is not static. */
  readonly symbolTypes: ReadonlyMap<string, SymbolType>;
}

/** Where clang puts external variables of which nothing else is said. */
const EXTERN_SECTION = '.extern';
const MAX_ALIGN = 1 << 16;
const RELOCATIONS = new Set([R_BPF_64_64, R_BPF_64_32, R_BPF_64_ABS64, R_BPF_64_ABS32]);
const INSN_SIZE = 8;

const isDwarf = (name: string): boolean => name.startsWith('.debug_');

/** Left out: tables that are written anew, debug information, and what has no contents. */
function isIgnored({ type, name, size }: ElfSection): boolean {
  if ([SHT_NULL, SHT_STRTAB, SHT_SYMTAB, SHT_LLVM_ADDRSIG].includes(type)) return true;
  if (name === '.BTF' || name === '.BTF.ext' || isDwarf(name)) return true;
  return type === SHT_PROGBITS && name === '.text' && size === 0;
}

/** Reads and checks one object. Throws ObjectError, with the object's name before the message. */
export function readInput({ name, bytes }: LinkInput): InputObject {
  return naming(name, () => read(name, bytes));
}

/** Does something with an object: errors get its name before their message. */
export function naming<T>(name: string, work: () => T): T {
  try {
    return work();
  } catch (error) {
    if (error instanceof BtfError) {
      throw new ObjectError(
        'OBJ_BAD_BTF',
        `${name}: ${error.message}`,
        { section: '.BTF' },
        { cause: error },
      );
    }
    if (!(error instanceof ObjectError) || error.message.startsWith(`${name}: `)) throw error;
    const { code, message, hint } = error;
    throw new ObjectError(code, `${name}: ${message}`, {}, hint === undefined ? {} : { hint });
  }
}

function read(name: string, bytes: Uint8Array): InputObject {
  const elf = parseElf(bytes);
  const sections = elf.sections.filter((section) => !isIgnored(section) && section.type !== SHT_REL);
  for (const section of sections) checkSection(section);
  for (const symbol of elf.symbols) checkSymbol(symbol);
  const btf = types(elf);
  const ext = btf === undefined ? undefined : extendedTypes(elf, btf);
  const variables = btf === undefined ? new Map() : sectionVariables(elf, btf);
  const symbolTypes = btf === undefined ? new Map() : findSymbolTypes(btf, variables);
  return { name, elf, btf, ext, sections, variables, symbolTypes };
}

function checkSection(section: ElfSection): void {
  const { name, type, align, size, flags, entsize } = section;
  const refuse = (message: string): never => {
    throw new ObjectError('OBJ_LINK_SECTION', message, { section: name });
  };
  if (name === '') refuse(`section ${section.index} has no name`);
  if (type !== SHT_PROGBITS && type !== SHT_NOBITS) refuse(`sections of type ${type} cannot be linked`);
  if (align > MAX_ALIGN || !Number.isInteger(Math.log2(Math.max(1, align)))) refuse(`alignment of ${align}`);
  if (entsize > MAX_ALIGN) refuse(`entries of ${entsize} bytes`);
  if (size > 0xffff_ffff) refuse(`${size} bytes`);
  if ((flags & 4) !== 0 && size % INSN_SIZE !== 0) refuse(`${size} bytes are no whole instructions`);
}

function checkSymbol(symbol: ElfSymbol): void {
  if (symbol.index === 0) return;
  const { bind, visibility, section, type } = symbol;
  const refuse = (message: string): never => {
    const name = symbol.name === '' ? `#${symbol.index}` : symbol.name;
    throw new ObjectError('ELF_BAD_SYMBOL', message, { symbol: name });
  };
  if (![STB_LOCAL, STB_GLOBAL, STB_WEAK].includes(bind)) refuse(`unknown binding ${bind}`);
  if (visibility !== STV_DEFAULT && visibility !== STV_HIDDEN) refuse(`unknown visibility ${visibility}`);
  if (section === SHN_UNDEF && (type !== STT_NOTYPE || bind === STB_LOCAL)) {
    refuse('an external symbol is local, or of a type');
  }
}

/** Whether a relocation is of a kind that stands in objects. */
export function checkRelocation(section: ElfSection, type: number, offset: number): void {
  const wrong = !RELOCATIONS.has(type)
    ? `unknown relocation type ${type}`
    : (section.flags & 4) !== 0 && offset % INSN_SIZE !== 0
      ? 'relocation within an instruction'
      : undefined;
  if (wrong === undefined) return;
  throw new ObjectError('OBJ_BAD_RELOCATION', wrong, { section: section.name, offset });
}

function types(elf: ElfFile): Btf | undefined {
  const section = elf.sections.find(({ name, type }) => name === '.BTF' && type === SHT_PROGBITS);
  return section === undefined ? undefined : parseBtf(section.data);
}

function extendedTypes(elf: ElfFile, btf: Btf): BtfExt | undefined {
  const section = elf.sections.find(({ name, type }) => name === '.BTF.ext' && type === SHT_PROGBITS);
  return section === undefined ? undefined : parseBtfExt(section.data, btf);
}

/** Variables by section. clang leaves the offsets of global ones to the symbol table. */
function sectionVariables(elf: ElfFile, btf: Btf): Map<string, SectionVariable[]> {
  const found = new Map<string, SectionVariable[]>();
  const symbols = new Map<string, number>();
  for (const { name, type, section, value } of elf.symbols) {
    if (type === STT_OBJECT && section !== SHN_UNDEF && section < SHN_LORESERVE)
      symbols.set(`${section} ${name}`, value);
  }
  const indexes = new Map(elf.sections.map(({ name, index }) => [name, index]));
  for (let id = 1; id < btf.typeCount; id++) {
    if (btf.kind(id) !== btfKinds.BTF_KIND_DATASEC) continue;
    const name = btf.name(id);
    if (name === EXTERN_SECTION) continue;
    if (found.has(name)) {
      throw new ObjectError('OBJ_BAD_BTF', `two sections of variables are called ${name}`, {
        section: '.BTF',
      });
    }
    const index = indexes.get(name);
    const variables = Array.from({ length: btf.vlen(id) }, (_, i): SectionVariable => {
      const type = btf.word(id, 3 + 3 * i);
      let offset = btf.word(id, 4 + 3 * i);
      if (
        btf.kind(type) === btfKinds.BTF_KIND_VAR &&
        btf.word(type, 3) === btfKinds.BTF_VAR_GLOBAL_ALLOCATED
      ) {
        const value = symbols.get(`${index} ${btf.name(type)}`);
        if (value === undefined) {
          throw new ObjectError(
            'OBJ_BAD_BTF',
            `variable ${btf.name(type)} of section ${name} has no symbol`,
            {
              section: '.BTF',
            },
          );
        }
        offset = value;
      }
      return { type, offset, size: btf.word(id, 5 + 3 * i) };
    });
    found.set(name, variables);
  }
  return found;
}

/** Whether a type describes a variable or function that other files can see. */
export function isNonStatic(btf: Btf, id: number): boolean {
  const kind = btf.kind(id);
  if (kind === btfKinds.BTF_KIND_VAR) return btf.word(id, 3) !== btfKinds.BTF_VAR_STATIC;
  return kind === btfKinds.BTF_KIND_FUNC && btf.vlen(id) !== btfKinds.BTF_FUNC_STATIC;
}

function findSymbolTypes(
  btf: Btf,
  variables: ReadonlyMap<string, readonly SectionVariable[]>,
): Map<string, SymbolType> {
  const found = new Map<string, SymbolType>();
  for (const [section, list] of variables) {
    for (const { type } of list) if (isNonStatic(btf, type)) found.set(btf.name(type), { id: type, section });
  }
  for (let id = 1; id < btf.typeCount; id++) {
    if (!isNonStatic(btf, id)) continue;
    const name = btf.name(id);
    const known = found.get(name);
    if (known === undefined) found.set(name, { id, section: undefined });
    else if (known.id !== id) {
      throw new ObjectError('OBJ_BAD_BTF', `${btf.label(known.id)} and ${btf.label(id)} are one symbol`, {
        section: '.BTF',
        symbol: name,
      });
    }
  }
  return found;
}
