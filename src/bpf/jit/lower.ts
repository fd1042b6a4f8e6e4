/**
 * One BPF function → one Wasm function body. Registers r0 to r9 are i64 locals, addresses are wrapped to i32 at each access;
 * V8's optimizing compiler turns the locals into SSA values, so every instruction simply reads and writes them.
 */
import { BpfError } from '../errors.ts';
import type { Insn } from '../isa.ts';
import * as isa from '../isa.ts';
import { AddressForms } from './addresses.ts';
import type { ArenaAccesses } from './arena.ts';
import { emitAlu32, emitAlu64, emitComparison, extension } from './arithmetic.ts';
import { emitAtomic } from './atomics.ts';
import { buildCfg, type Cfg } from './cfg.ts';
import { findDeadStores } from './dead-stores.ts';
import { type EmitterContext, type EntryKind, FunctionEmitter } from './emitter.ts';
import { type Forwards, findForwards } from './forwarding.ts';
import { planUnrolling, type UnrollPlan } from './loops.ts';
import { LOADS, STORES } from './memory.ts';
import { type BlockEmitter, emitStructured } from './structure.ts';
import { analyse, ELEMENT, findRotations, type RegState, type Rotations, step } from './values.ts';
import { type Code, I32, I64, OP } from './wasm.ts';

/** What a function body needs from the program around it. */
export interface LowerContext extends EmitterContext {
  /** By instruction: false where no execution comes by, if a verifier knows. */
  readonly reachable?: readonly boolean[] | undefined;
  /** Otherwise atomics may hit addresses that are not aligned, and loads any memory. */
  readonly isVerified: boolean;
  /** Loads that give 0 where the address is bad (BPF_PROBE_MEM): pointers that no verifier has followed to their end. */
  readonly probes?: ReadonlySet<number> | undefined;
  /** Loads, stores, atomics and casts of an arena. */
  readonly arena?: ArenaAccesses | undefined;
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

/** Addresses below this are never valid: NULL, and fields of a structure at NULL. */
const NULL_PAGE = 1024;

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

/** Emits one function: its whole body. `prologue` sets the frame local of an entry function. */
export function lowerFunction(
  context: LowerContext,
  entry: number,
  kind: EntryKind,
  prologue: (code: Code, frame: number) => void,
): Code {
  return new Lowering(context, entry, kind).emit(prologue);
}

/** Calls and packet loads go through the context. */
class Lowering implements BlockEmitter {
  readonly insns: readonly Insn[];
  readonly #fn: FunctionEmitter;
  readonly #context: LowerContext;
  readonly #cfg: Cfg;
  readonly #entries: RegState[];
  readonly #forwards: Forwards | undefined;
  readonly #dead: ReadonlySet<number>;
  #budget: number | undefined;
  readonly #saved: number[] = [];

  constructor(context: LowerContext, entry: number, kind: EntryKind) {
    this.#context = context;
    this.insns = context.insns;
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
    this.#fn = new FunctionEmitter(context, kind, this.#forwards);
  }

  emit(prologue: (code: Code, frame: number) => void): Code {
    const { code, frame, kind, regs } = this.#fn;
    if (kind !== 'sub') prologue(code, frame);
    if (kind === 'run') code.get(0).op(OP.i64ExtendI32U).set(regs[1]!);
    code.get(frame).i32(isa.MAX_BPF_STACK).op(OP.i32Add, OP.i64ExtendI32U).set(regs[10]!);
    if (this.insns.some((insn) => insn.code === (isa.BPF_JMP | isa.BPF_JCOND))) {
      this.#budget = code.local(I32);
      code.i32(isa.BPF_MAX_LOOPS).set(this.#budget);
    }
    emitStructured(this.#cfg, code, this);
    return code;
  }

  unrolling(index: number): UnrollPlan | undefined {
    return planUnrolling(this.insns, this.#cfg, this.#entries, index);
  }

  bodies(index: number, copies: number): void {
    this.#fn.forms = new AddressForms();
    for (let n = 0; n < copies; n++) this.body(index);
    this.#fn.forms = undefined;
  }

  body(index: number): void {
    const block = this.#cfg.blocks[index]!;
    const { insns } = this;
    const state = this.#entries[index]!.slice();
    this.#fn.state = state;
    const rotations = findRotations(insns, block);
    const saved = this.#saved;
    while (saved.length < (rotations?.saves.length ?? 0)) saved.push(this.#fn.code.local(I64));
    this.#save(rotations, saved, -1);
    for (let pc = block.start; pc < block.end; pc++) {
      const insn = insns[pc]!;
      if (pc === block.terminator) {
        if (insn.code === (isa.BPF_JMP | isa.BPF_EXIT)) {
          this.#fn.get(0);
          this.#fn.emitReturn();
        }
        break;
      }
      const rotation = rotations?.at.get(pc);
      const pair =
        rotations === undefined && pc + 1 < block.end ? extension(insn, insns[pc + 1]!) : undefined;
      if (rotation !== undefined) {
        this.#fn.code.get(saved[rotation.saved]!);
        if (rotation.wide) this.#fn.code.i64(rotation.count).op(OP.i64Rotl);
        else this.#fn.code.op(OP.i32WrapI64).i32(rotation.count).op(OP.i32Rotl, OP.i64ExtendI32U);
        this.#fn.set(insn.dst);
      } else if (pair !== undefined) {
        this.#fn.get(insn.dst);
        if (typeof pair === 'number') this.#fn.code.op(pair);
        else this.#fn.code.i64(pair).op(OP.i64And);
        this.#fn.set(insn.dst);
        step(state, insns, pc);
        this.#fn.forms?.step(insn);
        pc++;
      } else this.#insn(pc);
      const finds = this.#context.findsElement?.(this.#fn, pc) === true;
      step(state, insns, pc);
      if (finds) state[0] = ELEMENT;
      this.#fn.forms?.step(insns[pc]!);
      this.#save(rotations, saved, pc);
      if (isa.isLdImm64(insn)) pc++;
    }
  }

  #save(rotations: Rotations | undefined, locals: readonly number[], after: number): void {
    if (rotations === undefined) return;
    for (const [index, save] of rotations.saves.entries()) {
      if (save.after === after) this.#fn.get(save.reg).set(locals[index]!);
    }
  }

  condition(index: number): void {
    const { terminator } = this.#cfg.blocks[index]!;
    const insn = this.insns[terminator]!;
    const { code } = this.#fn;
    if (isa.BPF_OP(insn.code) === isa.BPF_JCOND) {
      // may_goto: jumps once the budget is spent, else takes one from it.
      const budget = this.#budget!;
      code.get(budget).op(OP.i32Eqz);
      code.get(budget).get(budget).i32(0).op(OP.i32Ne, OP.i32Sub).set(budget);
      return;
    }
    const decided = this.#comparesElement(insn);
    if (decided !== undefined) code.i32(decided ? 1 : 0);
    else if (!emitComparison(this.#fn, insn)) this.#unknown(terminator);
  }

  /** Whether a jump is taken that asks if an element was found, where it always is. */
  #comparesElement({ code, dst, imm }: Insn): boolean | undefined {
    if (isa.BPF_SRC(code) !== isa.BPF_K || imm !== 0 || this.#fn.state[dst]?.kind !== 'element')
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
    this.#fn.pc = pc;
    const { code, dst, src, off, imm } = insn;
    if (this.#context.arena?.emit(this.#fn, insn, pc) === true) return;
    switch (isa.BPF_CLASS(code)) {
      case isa.BPF_ALU64:
        if (!emitAlu64(this.#fn, insn)) this.#unknown(pc);
        return;
      case isa.BPF_ALU:
        if (!emitAlu32(this.#fn, insn)) this.#unknown(pc);
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
        if (forwarded !== undefined) this.#fn.loadForwarded(forwarded);
        else this.#fn.code.mem(opcode, this.#fn.address(src, off));
        this.#fn.set(dst);
        return;
      }
      case isa.BPF_ST:
      case isa.BPF_STX: {
        const isStx = isa.BPF_CLASS(code) === isa.BPF_STX;
        const mode = isa.BPF_MODE(code);
        if (isStx && mode === isa.BPF_ATOMIC) {
          if (!emitAtomic(this.#fn, insn, !this.#context.isVerified)) this.#unknown(pc);
          return;
        }
        if (mode !== isa.BPF_MEM) this.#unknown(pc);
        const saved = this.#forwards?.saves.get(pc);
        if (this.#dead.has(pc)) {
          if (saved !== undefined) this.#fn.get(src).set(this.#fn.stored[saved]!);
          return;
        }
        const offset = this.#fn.address(dst, off);
        if (isStx) this.#fn.get(src);
        else this.#fn.code.i64(imm);
        if (saved !== undefined) this.#fn.code.tee(this.#fn.stored[saved]!);
        this.#fn.code.mem(STORES[isa.BPF_SIZE(code)]!, offset);
        return;
      }
      case isa.BPF_LD:
        this.#ld(pc);
        return;
      default:
        if (!CALLS.has(code)) this.#unknown(pc);
        this.#context.emitCall(this.#fn, pc);
    }
  }

  /** A load at a 64-bit address that may be any: 0 in the first kilobyte and outside of the memory. */
  #probeLoad(opcode: number, { code: bpfCode, dst, src, off }: Insn): void {
    const { code } = this.#fn;
    const from = this.#fn.scratch(I64);
    this.#fn
      .get(src)
      .i64(off - NULL_PAGE)
      .op(OP.i64Add)
      .tee(from);
    code.memorySize().op(OP.i64ExtendI32U).i64(16).op(OP.i64Shl);
    code.i64(NULL_PAGE + isa.sizeBytes(bpfCode)).op(OP.i64Sub, OP.i64LeU);
    code.if(I64);
    code.get(from).op(OP.i32WrapI64).mem(opcode, NULL_PAGE);
    code.else().i64(0).end();
    this.#fn.set(dst);
  }

  #ld(pc: number): void {
    const insn = this.insns[pc]!;
    const mode = isa.BPF_MODE(insn.code);
    if (mode === isa.BPF_ABS || mode === isa.BPF_IND) {
      this.#context.emitPacketLoad(this.#fn, insn);
      return;
    }
    if (!isa.isLdImm64(insn)) this.#unknown(pc);
    const high = this.insns[pc + 1];
    if (high === undefined) throw new BpfError('EINVAL', `lddw at ${pc} has no second slot`);
    switch (insn.src) {
      case 0:
        this.#fn.code.i64(isa.ldImm64Value(insn, high));
        break;
      case isa.BPF_PSEUDO_MAP_IDX:
        this.#fn.code.i64(this.#context.mapAddress(insn.imm));
        break;
      case isa.BPF_PSEUDO_MAP_IDX_VALUE:
        this.#fn.code.i64(this.#context.mapAddress(insn.imm, high.imm));
        break;
      case isa.BPF_PSEUDO_FUNC:
        this.#fn.code.i64(this.#context.functionPointer(pc + 1 + insn.imm));
        break;
      default:
        throw new BpfError('EINVAL', `lddw at ${pc} has the unknown pseudo source ${insn.src}`);
    }
    this.#fn.set(insn.dst);
  }
}
