/**
 * One BPF function → one Wasm function body. Registers r0 to r9 are i64 locals, addresses are wrapped to i32 at each access;
 * V8's optimizing compiler turns the locals into SSA values, so every instruction simply reads and writes them.
 */
import { BpfError } from '../errors.ts';
import type { Insn } from '../isa.ts';
import * as isa from '../isa.ts';
import { AddressForms } from './addresses.ts';
import { emitAtomic } from './atomics.ts';
import { buildCfg, type Cfg } from './cfg.ts';
import { type Forwarded, type Forwards, findForwards } from './forwarding.ts';
import { planUnrolling, type UnrollPlan } from './loops.ts';
import { type BlockEmitter, emitStructured } from './structure.ts';
import { analyse, findRotations, type RegState, type Rotations, step, type Value } from './values.ts';
import { Code, I32, I64, OP, type ValType } from './wasm.ts';

/** What a function body needs from the program around it. */
export interface LowerContext {
  readonly insns: readonly Insn[];
  /** By instruction: false where no execution comes by, if a verifier knows. */
  readonly reachable?: readonly boolean[] | undefined;
  /** True where atomics may hit addresses that are not aligned (a program that no verifier has seen). */
  readonly unalignedAtomics: boolean;
  /** Loads that give 0 where the address is bad (BPF_PROBE_MEM): pointers that no verifier has followed to their end. */
  readonly probes?: ReadonlySet<number> | undefined;
  /** Address of a map (`off` undefined), or of byte `off` of its values. */
  mapAddress(index: number, off?: number): number;
  /** What an lddw of BPF_PSEUDO_FUNC loads. */
  functionPointer(entry: number): number;
  /** Whether a call reads an array's index through r2. */
  readsIndex?(insn: Insn, state: RegState): boolean;
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

const LOADS: Record<number, number> = {
  [isa.BPF_B]: OP.i64Load8U,
  [isa.BPF_H]: OP.i64Load16U,
  [isa.BPF_W]: OP.i64Load32U,
  [isa.BPF_DW]: OP.i64Load,
};
const SIGNED_LOADS: Record<number, number> = {
  [isa.BPF_B]: OP.i64Load8S,
  [isa.BPF_H]: OP.i64Load16S,
  [isa.BPF_W]: OP.i64Load32S,
};
const STORES: Record<number, number> = {
  [isa.BPF_B]: OP.i64Store8,
  [isa.BPF_H]: OP.i64Store16,
  [isa.BPF_W]: OP.i64Store32,
  [isa.BPF_DW]: OP.i64Store,
};
const COMPARE64: Record<number, number> = {
  [isa.BPF_JEQ]: OP.i64Eq,
  [isa.BPF_JNE]: OP.i64Ne,
  [isa.BPF_JGT]: OP.i64GtU,
  [isa.BPF_JGE]: OP.i64GeU,
  [isa.BPF_JLT]: OP.i64LtU,
  [isa.BPF_JLE]: OP.i64LeU,
  [isa.BPF_JSGT]: OP.i64GtS,
  [isa.BPF_JSGE]: OP.i64GeS,
  [isa.BPF_JSLT]: OP.i64LtS,
  [isa.BPF_JSLE]: OP.i64LeS,
};
const COMPARE32: Record<number, number> = {
  [isa.BPF_JEQ]: OP.i32Eq,
  [isa.BPF_JNE]: OP.i32Ne,
  [isa.BPF_JGT]: OP.i32GtU,
  [isa.BPF_JGE]: OP.i32GeU,
  [isa.BPF_JLT]: OP.i32LtU,
  [isa.BPF_JLE]: OP.i32LeU,
  [isa.BPF_JSGT]: OP.i32GtS,
  [isa.BPF_JSGE]: OP.i32GeS,
  [isa.BPF_JSLT]: OP.i32LtS,
  [isa.BPF_JSLE]: OP.i32LeS,
};
/** Operations that Wasm has alike, for 64 and 32 bits. */
const SIMPLE: Record<number, readonly [number, number]> = {
  [isa.BPF_ADD]: [OP.i64Add, OP.i32Add],
  [isa.BPF_SUB]: [OP.i64Sub, OP.i32Sub],
  [isa.BPF_MUL]: [OP.i64Mul, OP.i32Mul],
  [isa.BPF_OR]: [OP.i64Or, OP.i32Or],
  [isa.BPF_AND]: [OP.i64And, OP.i32And],
  [isa.BPF_XOR]: [OP.i64Xor, OP.i32Xor],
  [isa.BPF_LSH]: [OP.i64Shl, OP.i32Shl],
  [isa.BPF_RSH]: [OP.i64ShrU, OP.i32ShrU],
  [isa.BPF_ARSH]: [OP.i64ShrS, OP.i32ShrS],
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
    const state = [...this.#entries[index]!];
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
      step(state, insns, pc);
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
    const cls = isa.BPF_CLASS(insn.code);
    const op = isa.BPF_OP(insn.code);
    if (op === isa.BPF_JCOND) {
      // may_goto: jumps once the budget is spent, else takes one from it.
      const budget = this.#budget!;
      code.get(budget).op(OP.i32Eqz);
      code.get(budget).get(budget).i32(0).op(OP.i32Ne, OP.i32Sub).set(budget);
      return;
    }
    const isReg = isa.BPF_SRC(insn.code) === isa.BPF_X;
    if (cls === isa.BPF_JMP32) {
      this.get32(insn.dst);
      if (isReg) this.get32(insn.src);
      else code.i32(insn.imm);
      if (op === isa.BPF_JSET) code.op(OP.i32And);
      else code.op(COMPARE32[op] ?? this.#unknown(terminator));
      return;
    }
    this.get(insn.dst);
    if (!isReg && insn.imm === 0 && op === isa.BPF_JEQ) {
      code.op(OP.i64Eqz);
      return;
    }
    if (isReg) this.get(insn.src);
    else code.i64(insn.imm);
    if (op === isa.BPF_JSET) code.op(OP.i64And).i64(0).op(OP.i64Ne);
    else code.op(COMPARE64[op] ?? this.#unknown(terminator));
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
        this.#alu64(pc);
        return;
      case isa.BPF_ALU:
        this.#alu32(pc);
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
          if (!emitAtomic(this, insn, this.#context.unalignedAtomics)) this.#unknown(pc);
          return;
        }
        if (mode !== isa.BPF_MEM) this.#unknown(pc);
        const offset = this.address(dst, off);
        const saved = this.#forwards?.saves.get(pc);
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

  #alu64(pc: number): void {
    const insn = this.insns[pc]!;
    const { dst, src, imm, off } = insn;
    const op = isa.BPF_OP(insn.code);
    const isReg = isa.BPF_SRC(insn.code) === isa.BPF_X;
    const { code } = this;
    const simple = SIMPLE[op];
    if (simple !== undefined) {
      this.get(dst);
      if (isReg) this.get(src);
      else code.i64(imm);
      code.op(simple[0]);
    } else if (op === isa.BPF_MOV) {
      if (!isReg) code.i64(imm);
      else {
        this.get(src);
        if (off === 8) code.op(OP.i64Extend8S);
        else if (off === 16) code.op(OP.i64Extend16S);
        else if (off === 32) code.op(OP.i64Extend32S);
        // Arenas lie in the same memory: an address is its low half, wherever it is for.
        else if (off === isa.BPF_ADDR_SPACE_CAST) code.i64(0xffffffff).op(OP.i64And);
        else if (off !== 0) this.#unknown(pc);
      }
    } else if (op === isa.BPF_NEG) {
      code.i64(0);
      this.get(dst);
      code.op(OP.i64Sub);
    } else if (op === isa.BPF_DIV || op === isa.BPF_MOD) this.#divide64(insn, op === isa.BPF_MOD);
    else if (op === isa.BPF_END) this.#swap(pc, imm);
    else this.#unknown(pc);
    this.set(dst);
  }

  /** Division by zero gives 0, remainder by zero the dividend; INT64_MIN / -1 is INT64_MIN, its remainder 0. */
  #divide64({ code: opcode, dst, src, imm, off }: Insn, isMod: boolean): void {
    const { code } = this;
    const signed = off === 1;
    const divide = isMod ? (signed ? OP.i64RemS : OP.i64RemU) : signed ? OP.i64DivS : OP.i64DivU;
    const known = this.#state[src];
    const isReg = isa.BPF_SRC(opcode) === isa.BPF_X;
    if (!isReg || known?.kind === 'const') {
      const divisor = isReg && known?.kind === 'const' ? BigInt.asIntN(64, known.value) : BigInt(imm);
      if (divisor === 0n) {
        if (isMod) this.get(dst);
        else code.i64(0);
      } else if (divisor === -1n && signed) {
        code.i64(0);
        if (!isMod) {
          this.get(dst);
          code.op(OP.i64Sub);
        }
      } else {
        this.get(dst);
        code.i64(divisor).op(divide);
      }
      return;
    }
    this.get(src).op(OP.i64Eqz);
    code.if(I64);
    if (isMod) this.get(dst);
    else code.i64(0);
    code.else();
    if (signed && !isMod) {
      this.get(src).i64(-1).op(OP.i64Eq);
      code.if(I64);
      code.i64(0);
      this.get(dst).op(OP.i64Sub);
      code.else();
      this.get(dst);
      this.get(src).op(divide);
      code.end();
    } else {
      this.get(dst);
      this.get(src).op(divide);
    }
    code.end();
  }

  #alu32(pc: number): void {
    const insn = this.insns[pc]!;
    const { dst, src, imm, off } = insn;
    const op = isa.BPF_OP(insn.code);
    const isReg = isa.BPF_SRC(insn.code) === isa.BPF_X;
    const { code } = this;
    const simple = SIMPLE[op];
    if (simple !== undefined) {
      this.get32(dst);
      if (isReg) this.get32(src);
      else code.i32(imm);
      code.op(simple[1]);
    } else if (op === isa.BPF_MOV) {
      if (!isReg) {
        code.i64(imm >>> 0);
        this.set(dst);
        return;
      }
      this.get32(src);
      if (off === 8) code.op(OP.i32Extend8S);
      else if (off === 16) code.op(OP.i32Extend16S);
      else if (off !== 0) this.#unknown(pc);
    } else if (op === isa.BPF_NEG) {
      code.i32(0);
      this.get32(dst);
      code.op(OP.i32Sub);
    } else if (op === isa.BPF_DIV || op === isa.BPF_MOD) this.#divide32(insn, op === isa.BPF_MOD);
    else if (op === isa.BPF_END) {
      if (isReg) this.#swap(pc, imm);
      else this.#truncate(pc, imm);
      this.set(dst);
      return;
    } else this.#unknown(pc);
    code.op(OP.i64ExtendI32U);
    this.set(dst);
  }

  #divide32({ code: opcode, dst, src, imm, off }: Insn, isMod: boolean): void {
    const { code } = this;
    const signed = off === 1;
    const divide = isMod ? (signed ? OP.i32RemS : OP.i32RemU) : signed ? OP.i32DivS : OP.i32DivU;
    if (isa.BPF_SRC(opcode) === isa.BPF_K) {
      if (imm === 0) {
        if (isMod) this.get32(dst);
        else code.i32(0);
      } else if (imm === -1 && signed) {
        code.i32(0);
        if (!isMod) {
          this.get32(dst);
          code.op(OP.i32Sub);
        }
      } else {
        this.get32(dst);
        code.i32(imm).op(divide);
      }
      return;
    }
    this.get32(src).op(OP.i32Eqz);
    code.if(I32);
    if (isMod) this.get32(dst);
    else code.i32(0);
    code.else();
    if (signed && !isMod) {
      this.get32(src).i32(-1).op(OP.i32Eq);
      code.if(I32);
      code.i32(0);
      this.get32(dst).op(OP.i32Sub);
      code.else();
      this.get32(dst);
      this.get32(src).op(divide);
      code.end();
    } else {
      this.get32(dst);
      this.get32(src).op(divide);
    }
    code.end();
  }

  /** Host order (little endian) to little endian: keeps the low bits. Pushes an i64. */
  #truncate(pc: number, bits: number): void {
    const { dst } = this.insns[pc]!;
    if (bits === 16) this.get(dst).i64(0xffff).op(OP.i64And);
    else if (bits === 32) this.get(dst).i64(0xffffffff).op(OP.i64And);
    else if (bits === 64) this.get(dst);
    else this.#unknown(pc);
  }

  /** Pushes the low `bits` with their bytes reversed, as an i64. */
  #swap(pc: number, bits: number): void {
    const { code } = this;
    const { dst } = this.insns[pc]!;
    const local = this.regs[dst]!;
    if (bits === 16) {
      code.get(local).op(OP.i32WrapI64).i32(8).op(OP.i32ShrU).i32(0xff).op(OP.i32And);
      code.get(local).op(OP.i32WrapI64).i32(0xff).op(OP.i32And).i32(8).op(OP.i32Shl);
      code.op(OP.i32Or, OP.i64ExtendI32U);
    } else if (bits === 32) {
      code.get(local).op(OP.i32WrapI64).i32(8).op(OP.i32Rotl).i32(0x00ff00ff).op(OP.i32And);
      code.get(local).op(OP.i32WrapI64).i32(24).op(OP.i32Rotl).i32(0xff00ff00).op(OP.i32And);
      code.op(OP.i32Or, OP.i64ExtendI32U);
    } else if (bits === 64) {
      for (const [shift, mask] of [
        [8, 0x00ff_00ff_00ff_00ffn],
        [16, 0x0000_ffff_0000_ffffn],
      ] as const) {
        code.get(local).i64(mask).op(OP.i64And).i64(shift).op(OP.i64Shl);
        code.get(local).i64(shift).op(OP.i64ShrU).i64(mask).op(OP.i64And);
        code.op(OP.i64Or).set(local);
      }
      code.get(local).i64(32).op(OP.i64Rotl);
    } else this.#unknown(pc);
  }
}

/**
 * A left shift and a right shift by the same constant are an extension: the Wasm opcode of a sign extension, the mask of
 * a zero extension, or undefined.
 */
function extension(first: Insn, second: Insn): number | bigint | undefined {
  if (first.code !== (isa.BPF_ALU64 | isa.BPF_LSH | isa.BPF_K)) return undefined;
  if (second.dst !== first.dst || second.imm !== first.imm || first.imm <= 0 || first.imm > 63)
    return undefined;
  if (second.code === (isa.BPF_ALU64 | isa.BPF_RSH | isa.BPF_K)) return (1n << BigInt(64 - first.imm)) - 1n;
  if (second.code !== (isa.BPF_ALU64 | isa.BPF_ARSH | isa.BPF_K)) return undefined;
  if (first.imm === 32) return OP.i64Extend32S;
  if (first.imm === 48) return OP.i64Extend16S;
  return first.imm === 56 ? OP.i64Extend8S : undefined;
}
