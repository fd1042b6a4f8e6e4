/**
 * The Wasm function that a BPF function becomes, as who emits an instruction sees it: where its registers are, what is known of them, and
 * how they are pushed, popped and used as addresses.
 */
import type { Insn } from '../isa.ts';
import * as isa from '../isa.ts';
import type { AddressForms } from './addresses.ts';
import type { Forwarded, Forwards } from './forwarding.ts';
import type { RegState, Value } from './values.ts';
import { Code, I32, I64, OP, type ValType } from './wasm.ts';

/** How a function is entered and left. */
export type EntryKind =
  /** run(ctx: i32) → i32 */
  | 'run'
  /** run64(r1: i64, r2: i64) → i64 */
  | 'run64'
  /** (r1 to r5: i64, frame: i32) → i64 */
  | 'sub';

export const ENTRY_TYPES: Record<EntryKind, { params: readonly ValType[]; results: readonly ValType[] }> = {
  run: { params: [I32], results: [I32] },
  run64: { params: [I64, I64], results: [I64] },
  sub: { params: [I64, I64, I64, I64, I64, I32], results: [I64] },
};

/** Static offsets up to this never carry a valid address below 0 around: the first kilobyte of memory is never accessed. */
const MAX_STATIC_OFFSET = 1024;

/** Addresses that the copies of a loop body keep in locals. */
const MAX_BASES = 8;

/** What the function needs from the program around it. */
export interface EmitterContext {
  readonly insns: readonly Insn[];
  /** Address of a map (`off` undefined), or of byte `off` of its values. */
  mapAddress(index: number, off?: number): number;
}

export class FunctionEmitter {
  readonly code: Code;
  readonly insns: readonly Insn[];
  readonly kind: EntryKind;
  /** Locals of r0 to r10. */
  readonly regs: readonly number[];
  /** i32: first byte of this function's stack frame. */
  readonly frame: number;
  /** Locals of stores that are forwarded. */
  readonly stored: readonly number[];
  /** What is known of the registers before the current instruction. */
  state: RegState = [];
  /** The current instruction, where loads are forwarded to. */
  pc = 0;
  /** While copies of a loop body are emitted. */
  forms: AddressForms | undefined;
  readonly #context: EmitterContext;
  readonly #forwards: Forwards | undefined;
  readonly #bases: number[] = [];
  readonly #scratch32: number[] = [];
  readonly #scratch64: number[] = [];

  constructor(context: EmitterContext, kind: EntryKind, forwards: Forwards | undefined) {
    this.#context = context;
    this.#forwards = forwards;
    this.insns = context.insns;
    this.kind = kind;
    const { params } = ENTRY_TYPES[kind];
    this.code = new Code(params.length);
    const regs: number[] = [];
    const given = kind === 'run64' ? 2 : kind === 'sub' ? 5 : 0;
    for (let reg = 0; reg <= 10; reg++) {
      regs.push(reg >= 1 && reg <= given ? reg - 1 : this.code.local(I64));
    }
    this.regs = regs;
    this.frame = kind === 'sub' ? 5 : this.code.local(I32);
    const stored: number[] = [];
    for (let n = 0; n < (forwards?.saves.size ?? 0); n++) stored.push(this.code.local(I64));
    this.stored = stored;
  }

  /** What is known of a register before the current instruction. */
  value(reg: number): Value | undefined {
    return this.state[reg];
  }

  /** Pushes a register as i64. */
  get(reg: number): Code {
    const known = this.state[reg];
    return known?.kind === 'const' ? this.code.i64(known.value) : this.code.get(this.regs[reg]!);
  }

  /** Pushes the low half of a register as i32; of a pointer this is the address. */
  get32(reg: number): Code {
    const known = this.state[reg];
    if (known?.kind === 'const') return this.code.i32(Number(BigInt.asIntN(32, known.value)));
    if (known?.kind === 'frame') {
      return this.code
        .get(this.frame)
        .i32(isa.MAX_BPF_STACK + known.off)
        .op(OP.i32Add);
    }
    if (known?.kind === 'map') return this.code.i32(this.#context.mapAddress(known.index));
    if (known?.kind === 'mapValue') {
      return this.code.i32(this.#context.mapAddress(known.index, known.off));
    }
    return this.code.get(this.regs[reg]!).op(OP.i32WrapI64);
  }

  /** Scratch local `n` of a type, for use within one instruction: functions with very many locals compile slowly. */
  scratch(type: ValType, n = 0): number {
    const pool = type === I32 ? this.#scratch32 : this.#scratch64;
    for (let next = pool.length; next <= n; next++) pool.push(this.code.local(type));
    return pool[n]!;
  }

  /** Pops an i64 into a register. */
  set(reg: number): Code {
    return this.code.set(this.regs[reg]!);
  }

  /** Pushes the i32 base of `register + off`; returns the static offset to go with it. */
  address(reg: number, off: number): number {
    const known = this.state[reg];
    if (known?.kind === 'frame') {
      const at = isa.MAX_BPF_STACK + known.off + off;
      if (at >= 0 && at <= MAX_STATIC_OFFSET) {
        this.code.get(this.frame);
        return at;
      }
    }
    if (known?.kind === 'mapValue') {
      this.code.i32(this.#context.mapAddress(known.index, known.off + off));
      return 0;
    }
    const forms = this.forms;
    const base = forms?.base(reg);
    if (base !== undefined) {
      const distance = base.distance + off;
      if (distance >= 0 && distance <= MAX_STATIC_OFFSET) {
        this.code.get(base.local);
        return distance;
      }
    }
    this.code.get(this.regs[reg]!).op(OP.i32WrapI64);
    if (forms !== undefined) {
      const n = forms.held;
      if (n < MAX_BASES && base === undefined) {
        if (this.#bases.length === n) this.#bases.push(this.code.local(I32));
        forms.hold(reg, this.#bases[n]!);
        this.code.tee(this.#bases[n]!);
      }
    }
    if (off >= 0 && off <= MAX_STATIC_OFFSET) return off;
    this.code.i32(off).op(OP.i32Add);
    return 0;
  }

  /** Pushes the u32 at the address in a register, as i32. */
  load32(reg: number): Code {
    const forwarded = this.#forwards?.uses.get(this.pc);
    if (forwarded === undefined) return this.code.mem(OP.i32Load, this.address(reg, 0));
    if (forwarded.kind === 'imm') return this.code.i32(forwarded.value);
    return this.code.get(this.stored[forwarded.index]!).op(OP.i32WrapI64);
  }

  /** The largest u32 that load32() may push here. */
  largest32(): number {
    const forwarded = this.#forwards?.uses.get(this.pc);
    if (forwarded === undefined) return 0xffffffff;
    return forwarded.kind === 'imm' ? forwarded.value >>> 0 : (forwarded.max ?? 0xffffffff);
  }

  /** Pushes what a load of `size` bytes finds, as i64. */
  loadForwarded(forwarded: Forwarded): void {
    const bits = 8 * forwarded.size;
    if (forwarded.kind === 'imm') {
      this.code.i64(BigInt.asIntN(64, BigInt.asUintN(bits, BigInt(forwarded.value))));
      return;
    }
    this.code.get(this.stored[forwarded.index]!);
    if (bits < 64) this.code.i64((1n << BigInt(bits)) - 1n).op(OP.i64And);
  }

  /** Leaves the function with the i64 on the stack as r0. */
  emitReturn(): void {
    if (this.kind === 'run') this.code.op(OP.i32WrapI64);
    this.code.op(OP.return);
  }
}
