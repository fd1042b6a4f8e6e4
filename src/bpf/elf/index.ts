export * from './constants.ts';
export {
  type ElfFile,
  type ElfRelocation,
  type ElfSection,
  type ElfSymbol,
  isElf,
  parseElf,
  readRelocations,
  symbolName,
} from './elf.ts';
export { type ElfPlace, ObjectError } from './error.ts';
export { type ElfOutputSection, type ElfOutputSymbol, writeElf } from './write.ts';
