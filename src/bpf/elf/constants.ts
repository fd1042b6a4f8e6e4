/** Numbers of the ELF format (System V gABI) and of its BPF supplement, under the names of elf.h. */

export const ELFCLASS64 = 2;
export const ELFDATA2LSB = 1;
export const ELFDATA2MSB = 2;
export const EV_CURRENT = 1;

/** e_type of a relocatable file. */
export const ET_REL = 1;
/** e_machine: 0 is what the first BPF compilers wrote. */
export const EM_NONE = 0;
export const EM_BPF = 247;

export const EHDR_SIZE = 64;
export const SHDR_SIZE = 64;
export const SYM_SIZE = 24;
export const REL_SIZE = 16;
export const RELA_SIZE = 24;

// sh_type
export const SHT_NULL = 0;
export const SHT_PROGBITS = 1;
export const SHT_SYMTAB = 2;
export const SHT_STRTAB = 3;
export const SHT_RELA = 4;
export const SHT_NOBITS = 8;
export const SHT_REL = 9;
/** Symbols whose addresses matter: for a linker that folds functions. */
export const SHT_LLVM_ADDRSIG = 0x6fff4c03;

// sh_flags
export const SHF_WRITE = 1;
export const SHF_ALLOC = 2;
export const SHF_EXECINSTR = 4;
/** sh_info is the number of a section. */
export const SHF_INFO_LINK = 0x40;

// st_shndx
export const SHN_UNDEF = 0;
export const SHN_LORESERVE = 0xff00;
export const SHN_ABS = 0xfff1;
export const SHN_COMMON = 0xfff2;
export const SHN_XINDEX = 0xffff;

// Binding, upper half of st_info.
export const STB_LOCAL = 0;
export const STB_GLOBAL = 1;
export const STB_WEAK = 2;

// Type, lower half of st_info.
export const STT_NOTYPE = 0;
export const STT_OBJECT = 1;
export const STT_FUNC = 2;
export const STT_SECTION = 3;
export const STT_FILE = 4;

// Visibility, lower two bits of st_other.
export const STV_DEFAULT = 0;
export const STV_INTERNAL = 1;
export const STV_HIDDEN = 2;

// Relocation types of BPF (llvm/docs, "BPF relocations"; Documentation/bpf/llvm_reloc.rst).
/** The 64-bit immediate of an lddw. */
export const R_BPF_64_64 = 1;
/** A 64-bit word of data. */
export const R_BPF_64_ABS64 = 2;
/** A 32-bit word of data. */
export const R_BPF_64_ABS32 = 3;
/** A 32-bit word of .BTF and .BTF.ext. */
export const R_BPF_64_NODYLD32 = 4;
/** The immediate of a call. */
export const R_BPF_64_32 = 10;
