/** The names of operations, shared by assembler and disassembler. */
import * as isa from '../isa.ts';

/** Operators of the kernel's syntax (bpf_alu_string of kernel/bpf/disasm.c). */
export const ALU_OPERATORS: Readonly<Record<number, string>> = {
  [isa.BPF_ADD]: '+=',
  [isa.BPF_SUB]: '-=',
  [isa.BPF_MUL]: '*=',
  [isa.BPF_DIV]: '/=',
  [isa.BPF_OR]: '|=',
  [isa.BPF_AND]: '&=',
  [isa.BPF_LSH]: '<<=',
  [isa.BPF_RSH]: '>>=',
  [isa.BPF_MOD]: '%=',
  [isa.BPF_XOR]: '^=',
  [isa.BPF_MOV]: '=',
  [isa.BPF_ARSH]: 's>>=',
};
/** Signed division and remainder (off = 1). */
export const SIGNED_OPERATORS: Readonly<Record<number, string>> = {
  [isa.BPF_DIV]: 's/=',
  [isa.BPF_MOD]: 's%=',
};
export const JUMP_OPERATORS: Readonly<Record<number, string>> = {
  [isa.BPF_JEQ]: '==',
  [isa.BPF_JGT]: '>',
  [isa.BPF_JLT]: '<',
  [isa.BPF_JGE]: '>=',
  [isa.BPF_JLE]: '<=',
  [isa.BPF_JSET]: '&',
  [isa.BPF_JNE]: '!=',
  [isa.BPF_JSGT]: 's>',
  [isa.BPF_JSLT]: 's<',
  [isa.BPF_JSGE]: 's>=',
  [isa.BPF_JSLE]: 's<=',
};
export const SIZE_NAMES: Readonly<Record<number, string>> = {
  [isa.BPF_B]: 'u8',
  [isa.BPF_H]: 'u16',
  [isa.BPF_W]: 'u32',
  [isa.BPF_DW]: 'u64',
};
export const SIGNED_SIZE_NAMES: Readonly<Record<number, string>> = {
  [isa.BPF_B]: 's8',
  [isa.BPF_H]: 's16',
  [isa.BPF_W]: 's32',
};
/** Atomic operations that return the old value. */
export const FETCH_NAMES: Readonly<Record<number, string>> = {
  [isa.BPF_ADD]: 'add',
  [isa.BPF_AND]: 'and',
  [isa.BPF_OR]: 'or',
  [isa.BPF_XOR]: 'xor',
};

/** Mnemonics of the conformance suite's syntax, without size suffixes. */
export const ALU_MNEMONICS: Readonly<Record<string, number>> = {
  add: isa.BPF_ADD,
  sub: isa.BPF_SUB,
  mul: isa.BPF_MUL,
  div: isa.BPF_DIV,
  or: isa.BPF_OR,
  and: isa.BPF_AND,
  lsh: isa.BPF_LSH,
  rsh: isa.BPF_RSH,
  mod: isa.BPF_MOD,
  xor: isa.BPF_XOR,
  mov: isa.BPF_MOV,
  arsh: isa.BPF_ARSH,
  neg: isa.BPF_NEG,
  sdiv: isa.BPF_DIV,
  smod: isa.BPF_MOD,
};
export const JUMP_MNEMONICS: Readonly<Record<string, number>> = {
  jeq: isa.BPF_JEQ,
  jgt: isa.BPF_JGT,
  jge: isa.BPF_JGE,
  jset: isa.BPF_JSET,
  jne: isa.BPF_JNE,
  jsgt: isa.BPF_JSGT,
  jsge: isa.BPF_JSGE,
  jlt: isa.BPF_JLT,
  jle: isa.BPF_JLE,
  jslt: isa.BPF_JSLT,
  jsle: isa.BPF_JSLE,
};
/** What an lddw loads besides numbers, by its source register, in the conformance suite's syntax. */
export const PSEUDO_NAMES: Readonly<Record<number, { readonly name: string; readonly offset: boolean }>> = {
  [isa.BPF_PSEUDO_MAP_FD]: { name: 'map_fd', offset: false },
  [isa.BPF_PSEUDO_MAP_VALUE]: { name: 'map_fd', offset: true },
  [isa.BPF_PSEUDO_BTF_ID]: { name: 'btf_id', offset: true },
  [isa.BPF_PSEUDO_FUNC]: { name: 'func', offset: false },
  [isa.BPF_PSEUDO_MAP_IDX]: { name: 'map', offset: false },
  [isa.BPF_PSEUDO_MAP_IDX_VALUE]: { name: 'map', offset: true },
};
export const SIZE_SUFFIXES: Readonly<Record<string, number>> = {
  b: isa.BPF_B,
  h: isa.BPF_H,
  w: isa.BPF_W,
  dw: isa.BPF_DW,
};
export const ATOMIC_MNEMONICS: Readonly<Record<string, number>> = {
  add: isa.BPF_ADD,
  and: isa.BPF_AND,
  or: isa.BPF_OR,
  xor: isa.BPF_XOR,
  'fetch add': isa.BPF_ADD | isa.BPF_FETCH,
  'fetch and': isa.BPF_AND | isa.BPF_FETCH,
  'fetch or': isa.BPF_OR | isa.BPF_FETCH,
  'fetch xor': isa.BPF_XOR | isa.BPF_FETCH,
  xchg: isa.BPF_XCHG,
  cmpxchg: isa.BPF_CMPXCHG,
};

export function invert<T extends string | number>(table: Readonly<Record<T, string>>): Map<string, number> {
  return new Map(Object.entries(table).map(([key, name]) => [name as string, Number(key)]));
}
export function invertNames(table: Readonly<Record<string, number>>): Map<number, string> {
  // The first name of a number wins.
  return new Map(
    Object.entries(table)
      .map(([name, key]): [number, string] => [key, name])
      .reverse(),
  );
}
