/**
 * ProgramBuilder: a fluent emitter of eBPF for code generators. Registers are written `{ reg: 3 }` or by the constants
 * R0 to R10, immediates as numbers; labels are names.
 */
import { BpfError } from './errors.ts';
import type { Insn } from './isa.ts';
import * as isa from './isa.ts';

/** A register operand; destinations accept it too. */
export interface Reg {
  readonly reg: number;
}
export const R0: Reg = { reg: 0 };
export const R1: Reg = { reg: 1 };
export const R2: Reg = { reg: 2 };
export const R3: Reg = { reg: 3 };
export const R4: Reg = { reg: 4 };
export const R5: Reg = { reg: 5 };
export const R6: Reg = { reg: 6 };
export const R7: Reg = { reg: 7 };
export const R8: Reg = { reg: 8 };
export const R9: Reg = { reg: 9 };
/** The frame pointer. */
export const R10: Reg = { reg: 10 };

/** A register, or an immediate of 32 bits (sign-extended; 0 to 0xffffffff is accepted for 32-bit operations). */
export type Operand = Reg | number;
/** Bytes of a memory access. */
export type AccessSize = 1 | 2 | 4 | 8;
export type Condition = '==' | '!=' | '>' | '>=' | '<' | '<=' | 's>' | 's>=' | 's<' | 's<=' | '&';

const CONDITIONS: Record<Condition, number> = {
  '==': isa.BPF_JEQ,
  '!=': isa.BPF_JNE,
  '>': isa.BPF_JGT,
  '>=': isa.BPF_JGE,
  '<': isa.BPF_JLT,
  '<=': isa.BPF_JLE,
  's>': isa.BPF_JSGT,
  's>=': isa.BPF_JSGE,
  's<': isa.BPF_JSLT,
  's<=': isa.BPF_JSLE,
  '&': isa.BPF_JSET,
};

interface Fixup {
  readonly at: number;
  readonly label: string;
  /** Which field takes the distance. */
  readonly field: 'off' | 'imm';
}

/** Emits one program. Every method returns the builder. Errors (BpfError, code EINVAL) are the generator's faults. */
export class ProgramBuilder {
  readonly #insns: Insn[] = [];
  readonly #labels = new Map<string, number>();
  readonly #fixups: Fixup[] = [];
  #counter = { last: 0 };

  /** Slots emitted so far: the address of the next instruction. */
  get length(): number {
    return this.#insns.length;
  }

  /** A label name nobody else has; place it with `label()`. */
  newLabel(prefix = 'L'): string {
    this.#counter.last++;
    return `${prefix}.${this.#counter.last}`;
  }

  /** What was emitted from a slot on; jumps are not resolved. */
  emitted(from: number): readonly Insn[] {
    return this.#insns.slice(from);
  }

  /** Emits one slot as it is. */
  raw(code: number, dst: number, src: number, off: number, imm: number): this {
    if (!Number.isInteger(imm) || imm < -0x80000000 || imm > 0xffffffff) {
      throw new BpfError('EINVAL', `immediate ${imm} does not fit in 32 bits`);
    }
    if (!Number.isInteger(off) || off < -0x8000 || off > 0x7fff) {
      throw new BpfError('EINVAL', `offset ${off} does not fit in 16 bits`);
    }
    this.#insns.push({ code, dst, src, off, imm: imm | 0 });
    return this;
  }

  /** Emits instructions made elsewhere. */
  insns(list: readonly Insn[]): this {
    for (const i of list) this.raw(i.code, i.dst, i.src, i.off, i.imm);
    return this;
  }

  // 64-bit arithmetic: dst = dst op operand.
  mov(dst: Reg, operand: Operand): this {
    if (typeof operand === 'number' && (operand < -0x80000000 || operand > 0x7fffffff)) {
      return this.lddw(dst, operand);
    }
    return this.#alu64(isa.BPF_MOV, dst, operand);
  }
  add(dst: Reg, operand: Operand): this {
    return this.#alu64(isa.BPF_ADD, dst, operand);
  }
  sub(dst: Reg, operand: Operand): this {
    return this.#alu64(isa.BPF_SUB, dst, operand);
  }
  mul(dst: Reg, operand: Operand): this {
    return this.#alu64(isa.BPF_MUL, dst, operand);
  }
  /** Unsigned division; by zero gives 0. */
  div(dst: Reg, operand: Operand): this {
    return this.#alu64(isa.BPF_DIV, dst, operand);
  }
  /** Signed division (ISA v4). */
  sdiv(dst: Reg, operand: Operand): this {
    return this.#alu64(isa.BPF_DIV, dst, operand, 1);
  }
  /** Unsigned remainder; by zero gives dst. */
  mod(dst: Reg, operand: Operand): this {
    return this.#alu64(isa.BPF_MOD, dst, operand);
  }
  /** Signed remainder (ISA v4). */
  smod(dst: Reg, operand: Operand): this {
    return this.#alu64(isa.BPF_MOD, dst, operand, 1);
  }
  or(dst: Reg, operand: Operand): this {
    return this.#alu64(isa.BPF_OR, dst, operand);
  }
  and(dst: Reg, operand: Operand): this {
    return this.#alu64(isa.BPF_AND, dst, operand);
  }
  xor(dst: Reg, operand: Operand): this {
    return this.#alu64(isa.BPF_XOR, dst, operand);
  }
  lsh(dst: Reg, operand: Operand): this {
    return this.#alu64(isa.BPF_LSH, dst, operand);
  }
  rsh(dst: Reg, operand: Operand): this {
    return this.#alu64(isa.BPF_RSH, dst, operand);
  }
  arsh(dst: Reg, operand: Operand): this {
    return this.#alu64(isa.BPF_ARSH, dst, operand);
  }
  neg(dst: Reg): this {
    return this.raw(isa.BPF_ALU64 | isa.BPF_NEG, dst.reg, 0, 0, 0);
  }
  /** dst = the low `bits` of src, sign-extended to 64 (ISA v4). */
  movsx(dst: Reg, src: Reg, bits: 8 | 16 | 32): this {
    return this.raw(isa.BPF_ALU64 | isa.BPF_MOV | isa.BPF_X, dst.reg, src.reg, bits, 0);
  }

  // 32-bit arithmetic: the upper half of dst becomes zero.
  mov32(dst: Reg, operand: Operand): this {
    return this.#alu32(isa.BPF_MOV, dst, operand);
  }
  add32(dst: Reg, operand: Operand): this {
    return this.#alu32(isa.BPF_ADD, dst, operand);
  }
  sub32(dst: Reg, operand: Operand): this {
    return this.#alu32(isa.BPF_SUB, dst, operand);
  }
  mul32(dst: Reg, operand: Operand): this {
    return this.#alu32(isa.BPF_MUL, dst, operand);
  }
  div32(dst: Reg, operand: Operand): this {
    return this.#alu32(isa.BPF_DIV, dst, operand);
  }
  sdiv32(dst: Reg, operand: Operand): this {
    return this.#alu32(isa.BPF_DIV, dst, operand, 1);
  }
  mod32(dst: Reg, operand: Operand): this {
    return this.#alu32(isa.BPF_MOD, dst, operand);
  }
  smod32(dst: Reg, operand: Operand): this {
    return this.#alu32(isa.BPF_MOD, dst, operand, 1);
  }
  or32(dst: Reg, operand: Operand): this {
    return this.#alu32(isa.BPF_OR, dst, operand);
  }
  and32(dst: Reg, operand: Operand): this {
    return this.#alu32(isa.BPF_AND, dst, operand);
  }
  xor32(dst: Reg, operand: Operand): this {
    return this.#alu32(isa.BPF_XOR, dst, operand);
  }
  lsh32(dst: Reg, operand: Operand): this {
    return this.#alu32(isa.BPF_LSH, dst, operand);
  }
  rsh32(dst: Reg, operand: Operand): this {
    return this.#alu32(isa.BPF_RSH, dst, operand);
  }
  arsh32(dst: Reg, operand: Operand): this {
    return this.#alu32(isa.BPF_ARSH, dst, operand);
  }
  neg32(dst: Reg): this {
    return this.raw(isa.BPF_ALU | isa.BPF_NEG, dst.reg, 0, 0, 0);
  }
  movsx32(dst: Reg, src: Reg, bits: 8 | 16): this {
    return this.raw(isa.BPF_ALU | isa.BPF_MOV | isa.BPF_X, dst.reg, src.reg, bits, 0);
  }

  /** Unconditional byte swap of the low `bits`, the rest becomes zero (ISA v4). */
  bswap(dst: Reg, bits: 16 | 32 | 64): this {
    return this.raw(isa.BPF_ALU64 | isa.BPF_END, dst.reg, 0, 0, bits);
  }
  /** Host order to big endian. */
  be(dst: Reg, bits: 16 | 32 | 64): this {
    return this.raw(isa.BPF_ALU | isa.BPF_END | isa.BPF_TO_BE, dst.reg, 0, 0, bits);
  }
  /** Host order to little endian: keeps the low `bits`. */
  le(dst: Reg, bits: 16 | 32 | 64): this {
    return this.raw(isa.BPF_ALU | isa.BPF_END | isa.BPF_TO_LE, dst.reg, 0, 0, bits);
  }

  /** dst = *(u<size> *)(src + off), zero-extended. */
  ldx(size: AccessSize, dst: Reg, src: Reg, off: number): this {
    return this.raw(isa.BPF_LDX | isa.BPF_MEM | isa.bytesToSize(size), dst.reg, src.reg, off, 0);
  }
  /** dst = *(s<size> *)(src + off), sign-extended (ISA v4). */
  ldsx(size: 1 | 2 | 4, dst: Reg, src: Reg, off: number): this {
    return this.raw(isa.BPF_LDX | isa.BPF_MEMSX | isa.bytesToSize(size), dst.reg, src.reg, off, 0);
  }
  /** *(u<size> *)(dst + off) = immediate, sign-extended for 8 bytes. */
  st(size: AccessSize, dst: Reg, off: number, imm: number): this {
    return this.raw(isa.BPF_ST | isa.BPF_MEM | isa.bytesToSize(size), dst.reg, 0, off, imm);
  }
  /** *(u<size> *)(dst + off) = src. */
  stx(size: AccessSize, dst: Reg, off: number, src: Reg): this {
    return this.raw(isa.BPF_STX | isa.BPF_MEM | isa.bytesToSize(size), dst.reg, src.reg, off, 0);
  }
  /** An atomic read-modify-write: `op` is BPF_ADD, BPF_OR, BPF_AND, BPF_XOR (| BPF_FETCH), BPF_XCHG or BPF_CMPXCHG. */
  atomic(op: number, size: 4 | 8, dst: Reg, off: number, src: Reg): this {
    return this.raw(isa.BPF_STX | isa.BPF_ATOMIC | isa.bytesToSize(size), dst.reg, src.reg, off, op);
  }
  /** Atomically *(u<size> *)(dst + off) += src. */
  atomicAdd(size: 4 | 8, dst: Reg, off: number, src: Reg): this {
    return this.atomic(isa.BPF_ADD, size, dst, off, src);
  }

  /** dst = a 64-bit constant; a number has to be a safe integer. */
  lddw(dst: Reg, value: bigint | number): this {
    if (typeof value === 'number' && !Number.isSafeInteger(value)) {
      throw new BpfError('EINVAL', `${value} is not an exact integer`);
    }
    const bits = BigInt.asUintN(64, BigInt(value));
    this.raw(isa.BPF_LD_IMM64, dst.reg, 0, 0, Number(bits & 0xffffffffn));
    return this.raw(0, 0, 0, 0, Number(bits >> 32n));
  }
  /** dst = map `index` of the program's maps. */
  ldMap(dst: Reg, index: number): this {
    this.raw(isa.BPF_LD_IMM64, dst.reg, isa.BPF_PSEUDO_MAP_IDX, 0, index);
    return this.raw(0, 0, 0, 0, 0);
  }
  /** dst = address of byte `off` in the value of a one-entry array map. */
  ldMapValue(dst: Reg, index: number, off: number): this {
    this.raw(isa.BPF_LD_IMM64, dst.reg, isa.BPF_PSEUDO_MAP_IDX_VALUE, 0, index);
    return this.raw(0, 0, 0, 0, off);
  }

  /** dst = the BPF function at a label, for helpers that take a callback. */
  ldFunc(dst: Reg, label: string): this {
    this.#fixups.push({ at: this.#insns.length, label, field: 'imm' });
    this.raw(isa.BPF_LD_IMM64, dst.reg, isa.BPF_PSEUDO_FUNC, 0, 0);
    return this.raw(0, 0, 0, 0, 0);
  }

  /** Calls a helper (BPF_FUNC_*): arguments in r1 to r5, result in r0; r1 to r5 are gone afterwards. */
  call(helperId: number): this {
    return this.raw(isa.BPF_JMP | isa.BPF_CALL, 0, 0, 0, helperId);
  }
  /** Calls a kfunc by its id. */
  kcall(kfuncId: number): this {
    return this.raw(isa.BPF_JMP | isa.BPF_CALL, 0, isa.BPF_PSEUDO_KFUNC_CALL, 0, kfuncId);
  }
  /** Calls the BPF function that starts at a label. */
  callLabel(label: string): this {
    this.#fixups.push({ at: this.#insns.length, label, field: 'imm' });
    return this.raw(isa.BPF_JMP | isa.BPF_CALL, 0, isa.BPF_PSEUDO_CALL, 0, 0);
  }
  exit(): this {
    return this.raw(isa.BPF_JMP | isa.BPF_EXIT, 0, 0, 0, 0);
  }

  /** The next instruction is at this label. */
  label(name: string): this {
    if (this.#labels.has(name)) throw new BpfError('EINVAL', `label ${name} is placed twice`);
    this.#labels.set(name, this.#insns.length);
    return this;
  }
  /** goto label */
  jump(label: string): this {
    this.#fixups.push({ at: this.#insns.length, label, field: 'off' });
    return this.raw(isa.BPF_JMP | isa.BPF_JA, 0, 0, 0, 0);
  }
  /** if (dst condition operand) goto label, on 64 bits. */
  jcond(condition: Condition, dst: Reg, operand: Operand, label: string): this {
    return this.#jump(isa.BPF_JMP, condition, dst, operand, label);
  }
  /** The same on the low 32 bits. */
  jcond32(condition: Condition, dst: Reg, operand: Operand, label: string): this {
    return this.#jump(isa.BPF_JMP32, condition, dst, operand, label);
  }
  /** Goes to the label once the loop budget is spent, else on to the next instruction. */
  mayGoto(label: string): this {
    this.#fixups.push({ at: this.#insns.length, label, field: 'off' });
    return this.raw(isa.BPF_JMP | isa.BPF_JCOND, 0, isa.BPF_MAY_GOTO, 0, 0);
  }

  /** A builder of other functions of the same program, for `append()`: its labels are never those of this one. */
  child(): ProgramBuilder {
    const child = new ProgramBuilder();
    child.#counter = this.#counter;
    return child;
  }

  /** Puts what a child emitted behind what is here. */
  append(child: ProgramBuilder): this {
    const at = this.length;
    for (const [name, offset] of child.#labels) this.#labels.set(name, at + offset);
    for (const fixup of child.#fixups) this.#fixups.push({ ...fixup, at: at + fixup.at });
    this.#insns.push(...child.#insns);
    return this;
  }

  /** The finished program. An unconditional jump of more than 32767 slots becomes gotol. */
  build(): Insn[] {
    const insns = this.#insns.map((insn) => ({ ...insn }));
    for (const { at, label, field } of this.#fixups) {
      const target = this.#labels.get(label);
      if (target === undefined) throw new BpfError('EINVAL', `label ${label} is nowhere`);
      const distance = target - at - 1;
      const insn = insns[at]!;
      if (field === 'imm') insn.imm = distance;
      else if (distance >= -0x8000 && distance <= 0x7fff) insn.off = distance;
      else if (insn.code === (isa.BPF_JMP | isa.BPF_JA)) {
        insn.code = isa.BPF_JMP32 | isa.BPF_JA;
        insn.imm = distance;
      } else {
        throw new BpfError('EINVAL', `label ${label} is too far away for a conditional jump`);
      }
    }
    return insns;
  }

  #alu64(op: number, dst: Reg, operand: Operand, off = 0): this {
    if (typeof operand !== 'number') {
      return this.raw(isa.BPF_ALU64 | op | isa.BPF_X, dst.reg, operand.reg, off, 0);
    }
    if (operand > 0x7fffffff) {
      throw new BpfError('EINVAL', `immediate ${operand} would be sign-extended: load it with lddw`);
    }
    return this.raw(isa.BPF_ALU64 | op | isa.BPF_K, dst.reg, 0, off, operand);
  }

  #alu32(op: number, dst: Reg, operand: Operand, off = 0): this {
    return typeof operand === 'number'
      ? this.raw(isa.BPF_ALU | op | isa.BPF_K, dst.reg, 0, off, operand)
      : this.raw(isa.BPF_ALU | op | isa.BPF_X, dst.reg, operand.reg, off, 0);
  }

  #jump(cls: number, condition: Condition, dst: Reg, operand: Operand, label: string): this {
    if (typeof operand === 'number' && cls === isa.BPF_JMP && operand > 0x7fffffff) {
      throw new BpfError('EINVAL', `immediate ${operand} would be sign-extended: load it with lddw`);
    }
    this.#fixups.push({ at: this.#insns.length, label, field: 'off' });
    const op = CONDITIONS[condition];
    return typeof operand === 'number'
      ? this.raw(cls | op | isa.BPF_K, dst.reg, 0, 0, operand)
      : this.raw(cls | op | isa.BPF_X, dst.reg, operand.reg, 0, 0);
  }
}
