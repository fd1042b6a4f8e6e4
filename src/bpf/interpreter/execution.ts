/** The state of an execution, and the instructions that are no arithmetic, load, store or jump. */
import { BpfError } from '../errors.ts';
import type { Insn } from '../isa.ts';
import * as isa from '../isa.ts';
import { decode } from './decode.ts';
import { execute, type LoopState } from './loop.ts';
import { ProgramMemory } from './memory.ts';
import type { InterpreterOptions } from './options.ts';

const HELPER_CALL = isa.BPF_JMP | isa.BPF_CALL;
const s32 = (value: bigint): bigint => BigInt.asIntN(32, value);

interface Thrown {
  readonly cookie: bigint;
  readonly callback: number | undefined;
}

interface Frame {
  readonly returnTo: number;
  /** r6 to r9, as words. */
  readonly saved: Int32Array;
  readonly budget: number;
}

const READ_MODIFY_WRITE: Record<number, (old: bigint, value: bigint) => bigint> = {
  [isa.BPF_ADD]: (old, value) => old + value,
  [isa.BPF_OR]: (old, value) => old | value,
  [isa.BPF_AND]: (old, value) => old & value,
  [isa.BPF_XOR]: (old, value) => old ^ value,
  [isa.BPF_XCHG & ~isa.BPF_FETCH]: (_, value) => value,
};

/** A value on its way to or from an arena. */
const SCRATCH = new Uint8Array(8);
const SCRATCH_U64 = new DataView(SCRATCH.buffer);

/** One execution; `Interpreter` is what users see of it. */
export class Execution implements LoopState {
  readonly options: InterpreterOptions;
  readonly memory: ProgramMemory;
  /** Registers as words, low first. Numbers that do not exist (11 to 15) read and write words behind. */
  readonly words: Int32Array = new Int32Array(32);
  readonly regs: BigUint64Array;
  readonly frames: Frame[] = [];
  insns: readonly Insn[];
  code: Int32Array;
  pc = 0;
  steps = 0;
  exited = false;
  /** What may_goto has left in this frame. */
  budget = isa.BPF_MAX_LOOPS;
  limit = Number.POSITIVE_INFINITY;
  beforeCallbackStep: (() => void) | undefined;
  #tailCalls = 0;
  #thrown: Thrown | undefined;

  constructor(options: InterpreterOptions) {
    this.options = options;
    this.memory = new ProgramMemory(options.memory, options.bigEndian !== true);
    this.insns = options.insns;
    this.code = decode(options.insns);
    this.regs = new BigUint64Array(this.words.buffer, 0, isa.MAX_BPF_REG);
  }

  reset(r1: bigint, r2: bigint): void {
    this.words.fill(0);
    this.regs[1] = r1;
    this.regs[2] = r2;
    this.pc = 0;
    this.steps = 0;
    this.exited = false;
    this.frames.length = 0;
    if (this.insns !== this.options.insns) {
      this.insns = this.options.insns;
      this.code = decode(this.insns);
    }
    this.budget = isa.BPF_MAX_LOOPS;
    this.#tailCalls = 0;
    this.#setFrame();
  }

  #setFrame(): void {
    const fp = isa.BPF_REG_FP * 2;
    this.words[fp] = this.options.stack + isa.MAX_BPF_STACK * (this.frames.length + 1);
    this.words[fp + 1] = 0;
  }

  unknown(pc: number): never {
    const { code } = this.insns[pc]!;
    this.pc = pc;
    throw new BpfError('EINVAL', `unknown opcode ${code.toString(16).padStart(2, '0')} at ${pc}`);
  }

  atomic(insn: Insn, bytes: number): void {
    const { dst, src, off, imm } = insn;
    if (imm === isa.BPF_LOAD_ACQ) {
      this.regs[dst] = this.memory.read(this.memory.address(this.regs[src]!, off, bytes, this.pc), bytes);
      return;
    }
    const address = this.memory.address(this.regs[dst]!, off, bytes, this.pc);
    if (imm === isa.BPF_STORE_REL) {
      this.memory.write(address, bytes, this.regs[src]!);
      return;
    }
    this.#exchange(insn, bytes, (modify) => this.memory.exchange(address, bytes, modify));
  }

  /** A read-modify-write: `exchange` gives what was there, or undefined where nothing is, which changes nothing. */
  #exchange(
    { src, imm }: Insn,
    bytes: number,
    exchange: (modify: (old: bigint) => bigint) => bigint | undefined,
  ): void {
    if (bytes < 4) this.unknown(this.pc);
    if (imm === isa.BPF_CMPXCHG) {
      const expected = BigInt.asUintN(bytes * 8, this.regs[0]!);
      this.regs[0] = exchange((old) => (old === expected ? this.regs[src]! : old)) ?? this.regs[0]!;
      return;
    }
    const modify = READ_MODIFY_WRITE[imm & ~isa.BPF_FETCH];
    if (modify === undefined || imm === (isa.BPF_XCHG & ~isa.BPF_FETCH)) this.unknown(this.pc);
    const value = this.regs[src]!;
    const old = exchange((content) => modify(content, value));
    if (old !== undefined && (imm & isa.BPF_FETCH) !== 0) this.regs[src] = old;
  }

  /** A load, store or atomic in the arena: where there is no page, loads give 0 and all else is left out (ex_handler_bpf of arch/x86). */
  arena(insn: Insn): void {
    const arena = this.options.arena!;
    const { code, dst, src, off, imm } = insn;
    const bytes = isa.sizeBytes(code);
    const isAtomic = isa.BPF_MODE(code) === isa.BPF_ATOMIC;
    const isLoad = isa.BPF_CLASS(code) === isa.BPF_LDX || (isAtomic && imm === isa.BPF_LOAD_ACQ);
    const address = Number(BigInt.asUintN(32, this.regs[isLoad ? src : dst]!)) + off;
    const read = (): bigint | undefined => {
      const found = arena.read(address, bytes);
      if (found === undefined) return undefined;
      SCRATCH.fill(0).set(found);
      return SCRATCH_U64.getBigUint64(0, true);
    };
    const write = (value: bigint): void => {
      SCRATCH_U64.setBigUint64(0, BigInt.asUintN(64, value), true);
      arena.write(address, SCRATCH.subarray(0, bytes));
    };
    if (isLoad) this.regs[dst] = read() ?? 0n;
    else if (isa.BPF_CLASS(code) === isa.BPF_ST) write(BigInt(imm));
    else if (!isAtomic || imm === isa.BPF_STORE_REL) write(this.regs[src]!);
    else
      this.#exchange(insn, bytes, (modify) => {
        const old = read();
        if (old === undefined) return undefined;
        const at = arena.whole(address, bytes);
        // Within one page it is an exchange in memory.
        if (at !== 0)
          return this.memory.exchange(this.memory.address(BigInt(at), 0, bytes, this.pc), bytes, modify);
        write(modify(old));
        return old;
      });
  }

  wide(insn: Insn): void {
    const high = this.insns[this.pc + 1];
    if (high === undefined) this.unknown(this.pc);
    const { mapAddress } = this.options;
    if (insn.src === 0) {
      this.words[insn.dst * 2] = insn.imm;
      this.words[insn.dst * 2 + 1] = high.imm;
    } else if (insn.src === isa.BPF_PSEUDO_MAP_IDX && mapAddress !== undefined) {
      this.regs[insn.dst] = BigInt(mapAddress(insn.imm));
    } else if (insn.src === isa.BPF_PSEUDO_MAP_IDX_VALUE && mapAddress !== undefined) {
      this.regs[insn.dst] = BigInt(mapAddress(insn.imm, high.imm));
    } else if (insn.src === isa.BPF_PSEUDO_FUNC) {
      // A callback is known by its first slot; 0 is never one, because a program starts there.
      this.regs[insn.dst] = BigInt(this.pc + 1 + insn.imm);
    } else this.unknown(this.pc);
  }

  packetLoad(insn: Insn): void {
    const mode = isa.BPF_MODE(insn.code);
    const size = isa.sizeBytes(insn.code);
    const load = this.options.packetLoad;
    if (size === 8 || load === undefined) this.unknown(this.pc);
    const index = mode === isa.BPF_IND ? Number(s32(this.regs[insn.src]!)) : 0;
    const value = load(this.regs[6]!, (index + insn.imm) | 0, size);
    this.regs[0] = value ?? 0n;
    if (value === undefined) this.exit();
    else this.pc++;
  }

  call(insn: Insn): void {
    const { quickHelper } = this.options;
    if (insn.code === HELPER_CALL && insn.src === 0 && quickHelper?.(insn.imm, this.words) === true) {
      this.pc++;
      return;
    }
    const { regs } = this;
    const args = [regs[1]!, regs[2]!, regs[3]!, regs[4]!, regs[5]!];
    if (insn.code === isa.BPF_TAIL_CALL) {
      this.#helper(isa.BPF_FUNC_tail_call, args);
      return;
    }
    if (isa.BPF_SRC(insn.code) === isa.BPF_X) {
      // callx: the register holds a helper's id.
      const reg = insn.dst === 0 ? insn.imm : insn.dst;
      this.#helper(Number(s32(this.regs[reg] ?? this.unknown(this.pc))), args);
      return;
    }
    switch (insn.src) {
      case 0:
        this.#helper(insn.imm, args);
        break;
      case isa.BPF_PSEUDO_CALL:
        this.#enter(this.pc + 1 + insn.imm, this.pc + 1);
        break;
      case isa.BPF_PSEUDO_KFUNC_CALL: {
        const { kfunc } = this.options;
        if (kfunc === undefined) this.unknown(this.pc);
        this.regs[0] = kfunc(insn.imm, args);
        this.pc++;
        if (this.#thrown !== undefined) this.#unwind(this.#thrown);
        break;
      }
      default:
        this.unknown(this.pc);
    }
  }

  #helper(id: number, args: readonly bigint[]): void {
    const { helper, tailCall, unwindHelper } = this.options;
    if (id === isa.BPF_FUNC_tail_call && tailCall !== undefined) {
      const target = this.#tailCalls < isa.MAX_TAIL_CALL_CNT ? tailCall(args) : undefined;
      if (target === undefined) this.pc++;
      else if (typeof target === 'bigint') {
        this.regs[0] = target;
        this.exit();
      } else {
        this.#tailCalls++;
        this.insns = target;
        this.code = decode(target);
        this.pc = 0;
      }
      return;
    }
    if (helper === undefined) throw new BpfError('EINVAL', `unknown helper ${id} at ${this.pc}`);
    this.regs[0] = helper(id, args);
    if (id === unwindHelper && this.regs[0] === 0n) this.exited = true;
    else this.pc++;
  }

  #enter(entry: number, returnTo: number): void {
    if (this.frames.length + 1 >= (this.options.maxFrames ?? isa.MAX_CALL_FRAMES)) {
      throw new BpfError('ELOOP', `calls nest too deep at ${this.pc}`);
    }
    this.frames.push({ returnTo, saved: this.words.slice(12, 20), budget: this.budget });
    this.budget = isa.BPF_MAX_LOOPS;
    this.#setFrame();
    this.pc = entry;
  }

  exit(): void {
    const frame = this.frames.pop();
    if (frame === undefined) {
      this.exited = true;
      return;
    }
    this.words.set(frame.saved, 12);
    this.budget = frame.budget;
    this.#setFrame();
    this.pc = frame.returnTo;
  }

  /** bpf_throw, see Interpreter. */
  throw(cookie: bigint, callback?: number): void {
    this.#thrown = { cookie, callback };
  }

  #unwind({ cookie, callback }: Thrown): void {
    this.#thrown = undefined;
    this.frames.length = 0;
    this.#setFrame();
    if (callback === undefined) {
      this.regs[0] = cookie;
      this.exited = true;
    } else {
      this.regs[1] = cookie;
      this.pc = callback;
    }
  }

  callback(entry: number, args: readonly bigint[]): bigint {
    const { pc } = this;
    const kept = this.regs.slice();
    const depth = this.frames.length;
    this.#enter(entry, pc);
    for (let n = 0; n < 5; n++) this.regs[n + 1] = args[n] ?? 0n;
    const insns = this.insns;
    if (this.beforeCallbackStep === undefined) execute(this, this.limit, depth);
    else {
      while (!this.exited && this.frames.length > depth) {
        this.beforeCallbackStep();
        execute(this, this.steps + 1, depth);
      }
    }
    if (!this.exited && this.frames.length > depth) {
      throw new BpfError('ELOOP', `${this.limit} instructions were run without an exit`);
    }
    this.insns = insns;
    this.code = decode(insns);
    const result = this.regs[0]!;
    this.regs.set(kept);
    this.pc = pc;
    return result;
  }
}
