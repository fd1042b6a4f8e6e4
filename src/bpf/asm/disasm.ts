/** The disassembler. The kernel's syntax is that of print_bpf_insn (kernel/bpf/disasm.c). */

import { anInsn, insnList } from '../argument-shapes.ts';
import { aBoolean, aFunction, checkArgument, optional, someOptions } from '../arguments.ts';
import { HELPER_NAMES } from '../helpers/names.ts';
import type { Insn } from '../isa.ts';
import * as isa from '../isa.ts';
import {
  ALU_MNEMONICS,
  ALU_OPERATORS,
  ATOMIC_MNEMONICS,
  FETCH_NAMES,
  invertNames,
  JUMP_MNEMONICS,
  JUMP_OPERATORS,
  PSEUDO_NAMES,
  SIGNED_OPERATORS,
  SIGNED_SIZE_NAMES,
  SIZE_NAMES,
  SIZE_SUFFIXES,
} from './names.ts';

const DISASM_OPTIONS = someOptions<DisasmOptions>({
  kfuncName: optional(aFunction),
  bpftool: optional(aBoolean),
});

const signed = (value: number): string => (value < 0 ? String(value) : `+${value}`);
const hex = (value: number): string => `0x${(value >>> 0).toString(16)}`;
const memory = (size: string, reg: number, off: number): string => `(${size} *)(r${reg} ${signed(off)})`;

export interface DisasmOptions {
  /** Names of kfuncs by id. */
  readonly kfuncName?: (id: number) => string | undefined;
  /**
   * As `bpftool prog dump xlated` prints programs: numbers of 64 bits without ` ll` (the code before them says what they are), slots in
   * four columns. Default: what the assembler reads line by line, LLVM's form.
   */
  readonly bpftool?: boolean;
}

/** One instruction in the kernel's syntax, without its code. `next` is the second slot of an lddw. */
export function printInsn(insn: Insn, next?: Insn, options: DisasmOptions = {}): string {
  checkArgument('printInsn()', 'insn', insn, anInsn);
  checkArgument('printInsn()', 'next', next, optional(anInsn));
  switch (isa.BPF_CLASS(insn.code)) {
    case isa.BPF_ALU:
    case isa.BPF_ALU64:
      return printAlu(insn);
    case isa.BPF_LDX: {
      const mode = isa.BPF_MODE(insn.code);
      const names = mode === isa.BPF_MEM ? SIZE_NAMES : mode === isa.BPF_MEMSX ? SIGNED_SIZE_NAMES : {};
      const size = names[isa.BPF_SIZE(insn.code)];
      if (size === undefined) return bug(insn);
      return `r${insn.dst} = *${memory(size, insn.src, insn.off)}`;
    }
    case isa.BPF_ST:
      if (isa.BPF_MODE(insn.code) !== isa.BPF_MEM) return bug(insn);
      return `*${memory(SIZE_NAMES[isa.BPF_SIZE(insn.code)]!, insn.dst, insn.off)} = ${insn.imm}`;
    case isa.BPF_STX:
      return printStx(insn);
    case isa.BPF_LD:
      return printLd(insn, next, options);
    default:
      return printJump(insn, options);
  }
}

const bug = (insn: Insn): string => `BUG_${insn.code.toString(16).padStart(2, '0')}`;

function printAlu(insn: Insn): string {
  const { code, dst, src, off, imm } = insn;
  const op = isa.BPF_OP(code);
  const letter = isa.BPF_CLASS(code) === isa.BPF_ALU64 ? 'r' : 'w';
  const isReg = isa.BPF_SRC(code) === isa.BPF_X;
  if (op === isa.BPF_END) {
    const name = letter === 'r' ? 'bswap' : isReg ? 'be' : 'le';
    return `r${dst} = ${name}${imm} r${dst}`;
  }
  if (op === isa.BPF_NEG) return `${letter}${dst} = -${letter}${dst}`;
  if (op === isa.BPF_MOV && isReg && letter === 'r') {
    if (off === isa.BPF_ADDR_SPACE_CAST) {
      return `r${dst} = addr_space_cast(r${src}, ${imm >>> 16}, ${imm & 0xffff})`;
    }
    if (off === isa.BPF_ADDR_PERCPU) return `r${dst} = &(void __percpu *)(r${src})`;
  }
  const operator = off === 1 ? SIGNED_OPERATORS[op] : ALU_OPERATORS[op];
  if (operator === undefined && !(op === isa.BPF_MOV && isReg)) return bug(insn);
  if (!isReg) return `${letter}${dst} ${operator} ${imm}`;
  const cast = op === isa.BPF_MOV && off !== 0 ? `(s${off})` : '';
  return `${letter}${dst} ${operator ?? '='} ${cast}${letter}${src}`;
}

function printStx(insn: Insn): string {
  const { code, dst, src, off, imm } = insn;
  const size = isa.BPF_SIZE(code);
  const at = memory(SIZE_NAMES[size]!, dst, off);
  const mode = isa.BPF_MODE(code);
  if (mode === isa.BPF_MEM) return `*${at} = r${src}`;
  if (mode !== isa.BPF_ATOMIC) return bug(insn);
  if (imm === isa.BPF_LOAD_ACQ) return `r${dst} = load_acquire(${memory(SIZE_NAMES[size]!, src, off)})`;
  if (imm === isa.BPF_STORE_REL) return `store_release(${at}, r${src})`;
  const prefix = size === isa.BPF_DW ? 'atomic64' : 'atomic';
  if (imm === isa.BPF_CMPXCHG) return `r0 = ${prefix}_cmpxchg(${at}, r0, r${src})`;
  if (imm === isa.BPF_XCHG) return `r${src} = ${prefix}_xchg(${at}, r${src})`;
  const name = FETCH_NAMES[imm & ~isa.BPF_FETCH];
  if (name === undefined) return bug(insn);
  if ((imm & isa.BPF_FETCH) !== 0) return `r${src} = ${prefix}_fetch_${name}(${at}, r${src})`;
  return `lock *${at} ${ALU_OPERATORS[imm]} r${src}`;
}

function printLd(insn: Insn, next: Insn | undefined, options: DisasmOptions): string {
  const { code, dst, src, imm } = insn;
  const mode = isa.BPF_MODE(code);
  const size = SIZE_NAMES[isa.BPF_SIZE(code)]!;
  if (mode === isa.BPF_ABS) return `r0 = *(${size} *)skb[${imm}]`;
  if (mode === isa.BPF_IND) return `r0 = *(${size} *)skb[r${src} + ${imm}]`;
  if (!isa.isLdImm64(insn)) return bug(insn);
  switch (src) {
    case isa.BPF_PSEUDO_MAP_FD:
      return `r${dst} = map[id:${imm}]`;
    case isa.BPF_PSEUDO_MAP_VALUE:
      return `r${dst} = map[id:${imm}][0]+${next?.imm ?? 0}`;
    case isa.BPF_PSEUDO_BTF_ID:
      return `r${dst} = btf_id[${imm}]+${next?.imm ?? 0}`;
    case isa.BPF_PSEUDO_MAP_IDX:
      return `r${dst} = map[idx:${imm}]`;
    case isa.BPF_PSEUDO_MAP_IDX_VALUE:
      return `r${dst} = map[idx:${imm}][0]+${next?.imm ?? 0}`;
    case isa.BPF_PSEUDO_FUNC:
      return `r${dst} = subprog[${signed(imm)}]`;
    default:
      return `r${dst} = 0x${isa.ldImm64Value(insn, next ?? insn).toString(16)}${options.bpftool === true ? '' : ' ll'}`;
  }
}

/** Which BTF of `fd_array` a function of a kernel module is in; the kernel does not print it. */
const moduleOf = (off: number): string => (off === 0 ? '' : `@${off}`);

function printJump(insn: Insn, options: DisasmOptions): string {
  const { code, dst, src, off, imm } = insn;
  const op = isa.BPF_OP(code);
  const is32 = isa.BPF_CLASS(code) === isa.BPF_JMP32;
  if (op === isa.BPF_JA) return is32 ? `gotol pc${signed(imm)}` : `goto pc${signed(off)}`;
  if (!is32 && op === isa.BPF_EXIT) return 'exit';
  if (!is32 && op === isa.BPF_JCOND) return `may_goto pc${signed(off)}`;
  if (!is32 && op === isa.BPF_CALL) {
    if (isa.BPF_SRC(code) === isa.BPF_X) return `callx r${dst === 0 ? imm : dst}`;
    if (src === isa.BPF_PSEUDO_CALL) return `call pc${signed(imm)}`;
    if (src === isa.BPF_PSEUDO_KFUNC_CALL) {
      return `call ${options.kfuncName?.(imm) ?? 'kernel-function'}#${imm}${moduleOf(off)}`;
    }
    const helper = imm < 0 ? undefined : HELPER_NAMES[imm];
    return `call ${helper === undefined ? 'unknown' : `bpf_${helper}`}#${imm}`;
  }
  const operator = JUMP_OPERATORS[op];
  if (operator === undefined) return bug(insn);
  const letter = is32 ? 'w' : 'r';
  const operand = isa.BPF_SRC(code) === isa.BPF_X ? `${letter}${src}` : hex(imm);
  return `if ${letter}${dst} ${operator} ${operand} goto pc${signed(off)}`;
}

/** A whole program in the kernel's syntax, a line an instruction: `slot: (code) text`. */
export function disassemble(insns: readonly Insn[], options: DisasmOptions = {}): string {
  checkArgument('disassemble()', 'insns', insns, insnList);
  checkArgument('disassemble()', 'options', options, DISASM_OPTIONS);
  const lines: string[] = [];
  for (let pc = 0; pc < insns.length; pc++) {
    const insn = insns[pc]!;
    const code = insn.code.toString(16).padStart(2, '0');
    const slot = options.bpftool === true ? String(pc).padStart(4) : pc;
    lines.push(`${slot}: (${code}) ${printInsn(insn, insns[pc + 1], options)}`);
    if (isa.isLdImm64(insn)) pc++;
  }
  return lines.join('\n');
}

const ALU_NAMES = invertNames(ALU_MNEMONICS);
const JUMP_NAMES = invertNames(JUMP_MNEMONICS);
const SUFFIXES = invertNames(SIZE_SUFFIXES);
const ATOMIC_NAMES = invertNames(ATOMIC_MNEMONICS);

/** One instruction in the conformance suite's syntax; jumps are written `+N`. */
export function printConformanceInsn(insn: Insn, next?: Insn): string {
  checkArgument('printConformanceInsn()', 'insn', insn, anInsn);
  checkArgument('printConformanceInsn()', 'next', next, optional(anInsn));
  const { code, dst, src, off, imm } = insn;
  const size = SUFFIXES.get(isa.BPF_SIZE(code))!;
  const at = (reg: number): string => `[%r${reg}${off === 0 ? '' : signed(off)}]`;
  const operand = isa.BPF_SRC(code) === isa.BPF_X ? `%r${src}` : String(imm);
  const op = isa.BPF_OP(code);
  const unknown = `unknown ${code.toString(16).padStart(2, '0')}`;
  switch (isa.BPF_CLASS(code)) {
    case isa.BPF_ALU:
    case isa.BPF_ALU64: {
      const wide = isa.BPF_CLASS(code) === isa.BPF_ALU64;
      if (op === isa.BPF_END) {
        const name = wide ? 'bswap' : isa.BPF_SRC(code) === isa.BPF_X ? 'be' : 'le';
        return `${name}${imm} %r${dst}`;
      }
      const name = ALU_NAMES.get(op);
      if (name === undefined) return unknown;
      const suffix = wide ? '' : '32';
      if (op === isa.BPF_NEG) return `neg${suffix} %r${dst}`;
      if (op === isa.BPF_MOV && off === isa.BPF_ADDR_SPACE_CAST) {
        return `addr_space_cast %r${dst}, %r${src}, ${imm >>> 16}, ${imm & 0xffff}`;
      }
      if (op === isa.BPF_MOV && off === isa.BPF_ADDR_PERCPU) return `percpu %r${dst}, %r${src}`;
      if (op === isa.BPF_MOV && off !== 0) return `movsx${off}${wide ? 64 : 32} %r${dst}, %r${src}`;
      return `${off === 1 ? 's' : ''}${name}${suffix} %r${dst}, ${operand}`;
    }
    case isa.BPF_LDX:
      return `ldx${isa.BPF_MODE(code) === isa.BPF_MEMSX ? 's' : ''}${size} %r${dst}, ${at(src)}`;
    case isa.BPF_ST:
      return `st${size} ${at(dst)}, ${imm}`;
    case isa.BPF_STX: {
      if (isa.BPF_MODE(code) === isa.BPF_MEM) return `stx${size} ${at(dst)}, %r${src}`;
      if (imm === isa.BPF_LOAD_ACQ) return `ldacq${size} %r${dst}, ${at(src)}`;
      if (imm === isa.BPF_STORE_REL) return `strel${size} ${at(dst)}, %r${src}`;
      const [first, second] = (ATOMIC_NAMES.get(imm) ?? 'unknown').split(' ');
      const suffix = isa.BPF_SIZE(code) === isa.BPF_W ? '32' : '';
      return `lock ${second === undefined ? first : `${first} ${second}`}${suffix} ${at(dst)}, %r${src}`;
    }
    case isa.BPF_LD:
      if (isa.BPF_MODE(code) === isa.BPF_ABS) return `ldabs${size} ${imm}`;
      if (isa.BPF_MODE(code) === isa.BPF_IND) return `ldind${size} %r${src}, ${imm}`;
      if (PSEUDO_NAMES[src] !== undefined) {
        const { name, offset } = PSEUDO_NAMES[src];
        return `lddw %r${dst}, ${name} ${imm}${offset ? ` + ${next?.imm ?? 0}` : ''}`;
      }
      return `lddw %r${dst}, 0x${isa.ldImm64Value(insn, next ?? insn).toString(16)}`;
    default: {
      const is32 = isa.BPF_CLASS(code) === isa.BPF_JMP32;
      if (op === isa.BPF_JA) return is32 ? `ja32 ${signed(imm)}` : `ja ${signed(off)}`;
      if (!is32 && op === isa.BPF_EXIT) return 'exit';
      if (!is32 && op === isa.BPF_JCOND) return `maygoto ${signed(off)}`;
      if (!is32 && op === isa.BPF_CALL) {
        if (isa.BPF_SRC(code) === isa.BPF_X) return `call %r${dst === 0 ? imm : dst}`;
        if (src === isa.BPF_PSEUDO_KFUNC_CALL) return `call runtime ${imm}${moduleOf(off)}`;
        return src === isa.BPF_PSEUDO_CALL ? `call local ${signed(imm)}` : `call ${imm}`;
      }
      const name = JUMP_NAMES.get(op);
      return name === undefined ? unknown : `${name}${is32 ? '32' : ''} %r${dst}, ${operand}, ${signed(off)}`;
    }
  }
}
