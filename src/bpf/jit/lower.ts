/**
 * One BPF function → one Wasm function body. Registers r0 to r9 are i64 locals, addresses are wrapped to i32 at each access;
 * V8's optimizing compiler turns the locals into SSA values, so every instruction simply reads and writes them.
 */
import { BpfError } from '../errors.ts';
import type { Insn } from '../isa.ts';
import * as isa from '../isa.ts';
import { AddressForms } from './addresses.ts';
import { emitAlu32, emitAlu64, emitComparison, extension } from './arithmetic.ts';
import { emitAtomic } from './atomics.ts';
import { buildCfg, type Cfg } from './cfg.ts';
import { findDeadStores } from './dead-stores.ts';
import { type Forwarded, type Forwards, findForwards } from './forwarding.ts';
import { planUnrolling, type UnrollPlan } from './loops.ts';
import { LOADS, STORES } from './memory.ts';
import { type BlockEmitter, emitStructured } from './structure.ts';
import {
  analyse,
  ELEMENT,
  findRotations,
  type RegState,
  type Rotations,
  step,
  type Value,
} from './values.ts';
import { Code, I32, I64, OP, type ValType } from './wasm.ts';

/** What a function body needs from the program around it. */
export interface LowerContext {
  readonly insns: readonly Insn[];
  /** By instruction: false where no execution comes by, if a verifier knows. */
  readonly reachable?: readonly boolean[] | undefined;
  /** Otherwise atomics may hit addresses that are not aligned, and loads any memory. */
  readonly isVerified: boolean;
  /** Loads that give 0 where the address is bad (BPF_PROBE_MEM): pointers that no verifier has followed to their end. */
  readonly probes?: ReadonlySet<number> | undefined;
  /** Address of a map (`off` undefined), or of byte `off` of its values. */
  mapAddress(index: number, off?: number): number;
  /** What an lddw of BPF_PSEUDO_FUNC loads. */
  functionPointer(entry: number): number;
  /** Whether a call reads an array's index through r2. */
  readsIndex?(insn: Insn, state: RegState): boolean;
  /** Whether the call at `pc` is a lookup that always finds an element. */
  findsElement?(fn: FunctionEmitter, pc: number): boolean;
  /** Emits the call at `pc`: takes r1 to r5, leaves the result in r0. */
  emitCall(fn: FunctionEmitter, pc: number): void;
  /** Emits a BPF_LD | BPF_ABS or BPF_IND. */
  emitPacketLoad(fn: FunctionEmitter, insn: Insn): void;
}

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

/** Addresses below this are never valid: NULL, and fields of a structure at NULL. */
const NULL_PAGE = 1024;

/** Addresses that the copies of a loop body keep in locals. */
const MAX_BASES = 8;

const SIGNED_LOADS: Record<number, number> = {
  [isa.BPF_B]: OP.i64Load8S,
  [isa.BPF_H]: OP.i64Load16S,
  [isa.BPF_W]: OP.i64Load32S,
};
/** Calls, calls through a register, and the kernel's internal tail call: the context refuses what it does not have. */
const CALLS = new Set([
  isa.BPF_JMP | isa.BPF_CALL,
  isa.BPF_JMP | isa.BPF_CALL | isa.BPF_X,
  isa.BPF_TAIL_CALL,
]);

/** Emits one function. Calls and packet loads go through the context, which uses the methods below. */
export class FunctionEmitter implements BlockEmitter {
  readonly code: Code;
  readonly insns: readonly Insn[];
  readonly kind: EntryKind;
  /** Locals of r0 to r10. */
  readonly regs: readonly number[];
  /** i32: first byte of this function's stack frame. */
  readonly frame: number;
  readonly #context: LowerContext;
  readonly #cfg: Cfg;
  readonly #entries: RegState[];
  #state: RegState = [];
  /** While copies of a loop body are emitted. */
  #forms: AddressForms | undefined;
  readonly #bases: number[] = [];
  readonly #forwards: Forwards | undefined;
  readonly #stored: number[] = [];
  readonly #dead: ReadonlySet<number>;
  #pc = 0;
  #budget: number | undefined;
  readonly #scratch32: number[] = [];
  readonly #scratch64: number[] = [];
  readonly #saved: number[] = [];

  constructor(context: LowerContext, entry: number, kind: EntryKind) {
    this.#context = context;
    this.insns = context.insns;
    this.kind = kind;
    this.#cfg = buildCfg(context.insns, entry, context.reachable);
    this.#entries = analyse(context.insns, this.#cfg);
    this.#forwards = findForwards(
      context.insns,
      this.#cfg,
      this.#entries,
      (insn, state) => context.readsIndex?.(insn, state) === true,
    );
    this.#dead =
      this.#forwards === undefined || !context.isVerified
        ? new Set()
        : findDeadStores(context.insns, this.#cfg, this.#entries, this.#forwards);
    const { params } = ENTRY_TYPES[kind];
    this.code = new Code(params.length);
    const regs: number[] = [];
    const given = kind === 'run64' ? 2 : kind === 'sub' ? 5 : 0;
    for (let reg = 0; reg <= 10; reg++) {
      regs.push(reg >= 1 && reg <= given ? reg - 1 : this.code.local(I64));
    }
    this.regs = regs;
    this.frame = kind === 'sub' ? 5 : this.code.local(I32);
    for (let n = 0; n < (this.#forwards?.saves.size ?? 0); n++) this.#stored.push(this.code.local(I64));
  }

  /** Emits the whole body. `prologue` sets the frame local of an entry function. */
  emit(prologue: (code: Code, frame: number) => void): Code {
    const { code } = this;
    if (this.kind !== 'sub') prologue(code, this.frame);
    if (this.kind === 'run') code.get(0).op(OP.i64ExtendI32U).set(this.regs[1]!);
    code.get(this.frame).i32(isa.MAX_BPF_STACK).op(OP.i32Add, OP.i64ExtendI32U).set(this.regs[10]!);
    if (this.insns.some((insn) => insn.code === (isa.BPF_JMP | isa.BPF_JCOND))) {
      this.#budget = code.local(I32);
      code.i32(isa.BPF_MAX_LOOPS).set(this.#budget);
    }
    emitStructured(this.#cfg, code, this);
    return code;
  }

  // What the context's emitters use.

  /** What is known of a register before the current instruction. */
  value(reg: number): Value | undefined {
    return this.#state[reg];
  }

  /** Pushes a register as i64. */
  get(reg: number): Code {
    const known = this.#state[reg];
    return known?.kind === 'const' ? this.code.i64(known.value) : this.code.get(this.regs[reg]!);
  }

  /** Pushes the low half of a register as i32; of a pointer this is the address. */
  get32(reg: number): Code {
    const known = this.#state[reg];
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
    const known = this.#state[reg];
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
    const forms = this.#forms;
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
    const forwarded = this.#forwards?.uses.get(this.#pc);
    if (forwarded === undefined) return this.code.mem(OP.i32Load, this.address(reg, 0));
    if (forwarded.kind === 'imm') return this.code.i32(forwarded.value);
    return this.code.get(this.#stored[forwarded.index]!).op(OP.i32WrapI64);
  }

  /** The largest u32 that load32() may push here. */
  largest32(): number {
    const forwarded = this.#forwards?.uses.get(this.#pc);
    if (forwarded === undefined) return 0xffffffff;
    return forwarded.kind === 'imm' ? forwarded.value >>> 0 : (forwarded.max ?? 0xffffffff);
  }

  /** Pushes what a load of `size` bytes finds, as i64. */
  #loaded(forwarded: Forwarded): void {
    const bits = 8 * forwarded.size;
    if (forwarded.kind === 'imm') {
      this.code.i64(BigInt.asIntN(64, BigInt.asUintN(bits, BigInt(forwarded.value))));
      return;
    }
    this.code.get(this.#stored[forwarded.index]!);
    if (bits < 64) this.code.i64((1n << BigInt(bits)) - 1n).op(OP.i64And);
  }

  /** Leaves the function with the i64 on the stack as r0. */
  emitReturn(): void {
    if (this.kind === 'run') this.code.op(OP.i32WrapI64);
    this.code.op(OP.return);
  }

  // BlockEmitter

  unrolling(index: number): UnrollPlan | undefined {
    return planUnrolling(this.insns, this.#cfg, this.#entries, index);
  }

  bodies(index: number, copies: number): void {
    this.#forms = new AddressForms();
    for (let n = 0; n < copies; n++) this.body(index);
    this.#forms = undefined;
  }

  body(index: number): void {
    const block = this.#cfg.blocks[index]!;
    const { insns } = this;
    const state = this.#entries[index]!.slice();
    this.#state = state;
    const rotations = findRotations(insns, block);
    const saved = this.#saved;
    while (saved.length < (rotations?.saves.length ?? 0)) saved.push(this.code.local(I64));
    this.#save(rotations, saved, -1);
    for (let pc = block.start; pc < block.end; pc++) {
      const insn = insns[pc]!;
      if (pc === block.terminator) {
        if (insn.code === (isa.BPF_JMP | isa.BPF_EXIT)) {
          this.get(0);
          this.emitReturn();
        }
        break;
      }
      const rotation = rotations?.at.get(pc);
      const pair =
        rotations === undefined && pc + 1 < block.end ? extension(insn, insns[pc + 1]!) : undefined;
      if (rotation !== undefined) {
        this.code.get(saved[rotation.saved]!);
        if (rotation.wide) this.code.i64(rotation.count).op(OP.i64Rotl);
        else this.code.op(OP.i32WrapI64).i32(rotation.count).op(OP.i32Rotl, OP.i64ExtendI32U);
        this.set(insn.dst);
      } else if (pair !== undefined) {
        this.get(insn.dst);
        if (typeof pair === 'number') this.code.op(pair);
        else this.code.i64(pair).op(OP.i64And);
        this.set(insn.dst);
        step(state, insns, pc);
        this.#forms?.step(insn);
        pc++;
      } else this.#insn(pc);
      const finds = this.#context.findsElement?.(this, pc) === true;
      step(state, insns, pc);
      if (finds) state[0] = ELEMENT;
      this.#forms?.step(insns[pc]!);
      this.#save(rotations, saved, pc);
      if (isa.isLdImm64(insn)) pc++;
    }
  }

  #save(rotations: Rotations | undefined, locals: readonly number[], after: number): void {
    if (rotations === undefined) return;
    for (const [index, save] of rotations.saves.entries()) {
      if (save.after === after) this.get(save.reg).set(locals[index]!);
    }
  }

  condition(index: number): void {
    const { terminator } = this.#cfg.blocks[index]!;
    const insn = this.insns[terminator]!;
    const { code } = this;
    if (isa.BPF_OP(insn.code) === isa.BPF_JCOND) {
      // may_goto: jumps once the budget is spent, else takes one from it.
      const budget = this.#budget!;
      code.get(budget).op(OP.i32Eqz);
      code.get(budget).get(budget).i32(0).op(OP.i32Ne, OP.i32Sub).set(budget);
      return;
    }
    const decided = this.#comparesElement(insn);
    if (decided !== undefined) code.i32(decided ? 1 : 0);
    else if (!emitComparison(this, insn)) this.#unknown(terminator);
  }

  /** Whether a jump is taken that asks if an element was found, where it always is. */
  #comparesElement({ code, dst, imm }: Insn): boolean | undefined {
    if (isa.BPF_SRC(code) !== isa.BPF_K || imm !== 0 || this.#state[dst]?.kind !== 'element')
      return undefined;
    const op = isa.BPF_OP(code);
    return op === isa.BPF_JEQ ? false : op === isa.BPF_JNE ? true : undefined;
  }

  #unknown(pc: number): never {
    const insn = this.insns[pc]!;
    throw new BpfError('EINVAL', `unknown opcode ${insn.code.toString(16).padStart(2, '0')} at ${pc}`);
  }

  #insn(pc: number): void {
    const insn = this.insns[pc]!;
    this.#pc = pc;
    const { code, dst, src, off, imm } = insn;
    switch (isa.BPF_CLASS(code)) {
      case isa.BPF_ALU64:
        if (!emitAlu64(this, insn)) this.#unknown(pc);
        return;
      case isa.BPF_ALU:
        if (!emitAlu32(this, insn)) this.#unknown(pc);
        return;
      case isa.BPF_LDX: {
        const mode = isa.BPF_MODE(code);
        const table = mode === isa.BPF_MEM ? LOADS : mode === isa.BPF_MEMSX ? SIGNED_LOADS : {};
        const opcode = table[isa.BPF_SIZE(code)] ?? this.#unknown(pc);
        if (this.#context.probes?.has(pc) === true) {
          this.#probeLoad(opcode, insn);
          return;
        }
        const forwarded = this.#forwards?.uses.get(pc);
        if (forwarded !== undefined) this.#loaded(forwarded);
        else this.code.mem(opcode, this.address(src, off));
        this.set(dst);
        return;
      }
      case isa.BPF_ST:
      case isa.BPF_STX: {
        const isStx = isa.BPF_CLASS(code) === isa.BPF_STX;
        const mode = isa.BPF_MODE(code);
        if (isStx && mode === isa.BPF_ATOMIC) {
          if (!emitAtomic(this, insn, !this.#context.isVerified)) this.#unknown(pc);
          return;
        }
        if (mode !== isa.BPF_MEM) this.#unknown(pc);
        const saved = this.#forwards?.saves.get(pc);
        if (this.#dead.has(pc)) {
          if (saved !== undefined) this.get(src).set(this.#stored[saved]!);
          return;
        }
        const offset = this.address(dst, off);
        if (isStx) this.get(src);
        else this.code.i64(imm);
        if (saved !== undefined) this.code.tee(this.#stored[saved]!);
        this.code.mem(STORES[isa.BPF_SIZE(code)]!, offset);
        return;
      }
      case isa.BPF_LD:
        this.#ld(pc);
        return;
      default:
        if (!CALLS.has(code)) this.#unknown(pc);
        this.#context.emitCall(this, pc);
    }
  }

  /** A load at a 64-bit address that may be any: 0 in the first kilobyte and outside of the memory. */
  #probeLoad(opcode: number, { code: bpfCode, dst, src, off }: Insn): void {
    const { code } = this;
    const from = this.scratch(I64);
    this.get(src)
      .i64(off - NULL_PAGE)
      .op(OP.i64Add)
      .tee(from);
    code.memorySize().op(OP.i64ExtendI32U).i64(16).op(OP.i64Shl);
    code.i64(NULL_PAGE + isa.sizeBytes(bpfCode)).op(OP.i64Sub, OP.i64LeU);
    code.if(I64);
    code.get(from).op(OP.i32WrapI64).mem(opcode, NULL_PAGE);
    code.else().i64(0).end();
    this.set(dst);
  }

  #ld(pc: number): void {
    const insn = this.insns[pc]!;
    const mode = isa.BPF_MODE(insn.code);
    if (mode === isa.BPF_ABS || mode === isa.BPF_IND) {
      this.#context.emitPacketLoad(this, insn);
      return;
    }
    if (!isa.isLdImm64(insn)) this.#unknown(pc);
    const high = this.insns[pc + 1];
    if (high === undefined) throw new BpfError('EINVAL', `lddw at ${pc} has no second slot`);
    switch (insn.src) {
      case 0:
        this.code.i64(isa.ldImm64Value(insn, high));
        break;
      case isa.BPF_PSEUDO_MAP_IDX:
        this.code.i64(this.#context.mapAddress(insn.imm));
        break;
      case isa.BPF_PSEUDO_MAP_IDX_VALUE:
        this.code.i64(this.#context.mapAddress(insn.imm, high.imm));
        break;
      case isa.BPF_PSEUDO_FUNC:
        this.code.i64(this.#context.functionPointer(pc + 1 + insn.imm));
        break;
      default:
        throw new BpfError('EINVAL', `lddw at ${pc} has the unknown pseudo source ${insn.src}`);
    }
    this.set(insn.dst);
  }
}
