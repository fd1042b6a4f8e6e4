/**
 * The reference interpreter (___bpf_prog_run of kernel/bpf/core.c): small and plain rather than fast. Registers are unsigned
 * 64-bit BigInts, addresses are offsets into the memory, as in compiled programs.
 */
import { BpfError } from './errors.ts';
import type { Insn } from './isa.ts';
import * as isa from './isa.ts';

const MASK64 = 0xffff_ffff_ffff_ffffn;
const u64 = (value: bigint): bigint => BigInt.asUintN(64, value);
const s64 = (value: bigint): bigint => BigInt.asIntN(64, value);
const u32 = (value: bigint): bigint => BigInt.asUintN(32, value);
const s32 = (value: bigint): bigint => BigInt.asIntN(32, value);

/** What a program's environment answers. */
export interface InterpreterOptions {
  readonly insns: readonly Insn[];
  readonly memory: ArrayBufferLike;
  /** Address of the stack area: frame n is [stack + 512 n, stack + 512 (n + 1)). */
  readonly stack: number;
  /** How deep BPF functions may nest, the program included. Default MAX_CALL_FRAMES. */
  readonly maxFrames?: number;
  /** Address of a map (`off` undefined), or of byte `off` of its values. */
  mapAddress?(index: number, off?: number): number;
  /** A helper: gets r1 to r5, gives r0. Undefined refuses. */
  helper?(id: number, args: readonly bigint[]): bigint;
  kfunc?(id: number, args: readonly bigint[]): bigint;
  /** bpf_tail_call: the program to go on with, or undefined to return from the call. */
  tailCall?(args: readonly bigint[]): readonly Insn[] | undefined;
  /** BPF_LD | BPF_ABS and BPF_IND: the value at a packet offset, or undefined where the packet has none (r0 = 0, exit). */
  packetLoad?(skb: bigint, offset: number, size: 1 | 2 | 4): bigint | undefined;
  /** Memory is read and written in big-endian order, as on another machine: tells which machine a program was made for. */
  readonly bigEndian?: boolean;
  /** The program ends when this helper gives 0. */
  readonly unwindHelper?: number | undefined;
}

interface Frame {
  readonly returnTo: number;
  readonly saved: readonly bigint[];
  readonly budget: number;
}

const READ_MODIFY_WRITE: Record<number, (old: bigint, value: bigint) => bigint> = {
  [isa.BPF_ADD]: (old, value) => old + value,
  [isa.BPF_OR]: (old, value) => old | value,
  [isa.BPF_AND]: (old, value) => old & value,
  [isa.BPF_XOR]: (old, value) => old ^ value,
  [isa.BPF_XCHG & ~isa.BPF_FETCH]: (_, value) => value,
};

/**
 * One execution. `step()` runs one instruction; `pc` and `regs` may be read and changed in between. Errors are BpfError:
 * EINVAL for an instruction that does not exist, EFAULT for memory outside of the memory, and what the environment throws.
 */
export class Interpreter {
  /** r0 to r10, unsigned. */
  readonly regs: bigint[] = new Array(isa.MAX_BPF_REG).fill(0n);
  /** Slot of the next instruction. */
  pc = 0;
  /** Instructions run so far. */
  steps = 0;
  exited = false;
  readonly #options: InterpreterOptions;
  readonly #view: DataView;
  readonly #frames: Frame[] = [];
  #insns: readonly Insn[];
  readonly #little: boolean;
  #budget = isa.BPF_MAX_LOOPS;
  #tailCalls = 0;

  constructor(options: InterpreterOptions, r1: bigint = 0n, r2: bigint = 0n) {
    this.#options = options;
    this.#insns = options.insns;
    this.#view = new DataView(options.memory);
    this.#little = options.bigEndian !== true;
    this.regs[1] = u64(r1);
    this.regs[2] = u64(r2);
    this.#setFrame();
  }

  /** Depth of calls between BPF functions. */
  get depth(): number {
    return this.#frames.length;
  }

  /** The instruction that step() would run. */
  get insn(): Insn | undefined {
    return this.#insns[this.pc];
  }

  /** Runs until exit and returns r0; throws BpfError ELOOP after `limit` instructions. */
  run(limit = Number.POSITIVE_INFINITY): bigint {
    while (this.step()) {
      if (this.steps >= limit) throw new BpfError('ELOOP', `${limit} instructions were run without an exit`);
    }
    return this.regs[0]!;
  }

  /** One instruction; false once the program has ended. */
  step(): boolean {
    if (this.exited) return false;
    const insn = this.#insns[this.pc];
    if (insn === undefined) throw new BpfError('EINVAL', `control left the program to ${this.pc}`);
    this.steps++;
    switch (isa.BPF_CLASS(insn.code)) {
      case isa.BPF_ALU64:
      case isa.BPF_ALU:
        this.#alu(insn);
        this.pc++;
        break;
      case isa.BPF_LDX:
        this.#ldx(insn);
        this.pc++;
        break;
      case isa.BPF_ST:
      case isa.BPF_STX:
        this.#store(insn);
        this.pc++;
        break;
      case isa.BPF_LD:
        this.#ld(insn);
        break;
      default:
        this.#jump(insn);
    }
    return !this.exited;
  }

  #setFrame(): void {
    this.regs[isa.BPF_REG_FP] = BigInt(this.#options.stack + isa.MAX_BPF_STACK * (this.#frames.length + 1));
  }

  #unknown(insn: Insn): never {
    throw new BpfError('EINVAL', `unknown opcode ${insn.code.toString(16).padStart(2, '0')} at ${this.pc}`);
  }

  #alu(insn: Insn): void {
    const wide = isa.BPF_CLASS(insn.code) === isa.BPF_ALU64;
    const op = isa.BPF_OP(insn.code);
    const isReg = isa.BPF_SRC(insn.code) === isa.BPF_X;
    const bits = wide ? 64 : 32;
    const unsigned = wide ? u64 : u32;
    const signed = wide ? s64 : s32;
    if (op === isa.BPF_END) {
      this.regs[insn.dst] = this.#end(insn, wide || isReg);
      return;
    }
    const dst = unsigned(this.regs[insn.dst]!);
    const src = unsigned(isReg ? this.regs[insn.src]! : BigInt(insn.imm));
    const count = src & BigInt(bits - 1);
    let result: bigint;
    switch (op) {
      case isa.BPF_ADD:
        result = dst + src;
        break;
      case isa.BPF_SUB:
        result = dst - src;
        break;
      case isa.BPF_MUL:
        result = dst * src;
        break;
      case isa.BPF_DIV:
        if (src === 0n) result = 0n;
        else result = insn.off === 1 ? signed(dst) / signed(src) : dst / src;
        break;
      case isa.BPF_MOD:
        if (src === 0n) result = dst;
        else result = insn.off === 1 ? signed(dst) % signed(src) : dst % src;
        break;
      case isa.BPF_OR:
        result = dst | src;
        break;
      case isa.BPF_AND:
        result = dst & src;
        break;
      case isa.BPF_XOR:
        result = dst ^ src;
        break;
      case isa.BPF_LSH:
        result = dst << count;
        break;
      case isa.BPF_RSH:
        result = dst >> count;
        break;
      case isa.BPF_ARSH:
        result = signed(dst) >> count;
        break;
      case isa.BPF_NEG:
        result = -dst;
        break;
      case isa.BPF_MOV:
        if (insn.off === 0) result = src;
        else if (isReg && (insn.off === 8 || insn.off === 16 || (wide && insn.off === 32))) {
          result = BigInt.asIntN(insn.off, src);
        } else this.#unknown(insn);
        break;
      default:
        this.#unknown(insn);
    }
    this.regs[insn.dst] = unsigned(result);
  }

  #end(insn: Insn, swap: boolean): bigint {
    const bits = insn.imm;
    if (bits !== 16 && bits !== 32 && bits !== 64) this.#unknown(insn);
    const value = BigInt.asUintN(bits, this.regs[insn.dst]!);
    if (!swap) return value;
    let result = 0n;
    for (let shift = 0; shift < bits; shift += 8)
      result = (result << 8n) | ((value >> BigInt(shift)) & 0xffn);
    return result;
  }

  /** Checks an address and returns it as a number. */
  #address(base: bigint, off: number, bytes: number): number {
    // Addresses are 32 bits wide, as everywhere in this machine.
    const address = Number(u32(base + BigInt(off)));
    if (address + bytes > this.#view.byteLength) {
      throw new BpfError(
        'EFAULT',
        `access of ${bytes} bytes at ${address}, outside of the memory, at ${this.pc}`,
      );
    }
    return address;
  }

  #read(address: number, bytes: number): bigint {
    switch (bytes) {
      case 1:
        return BigInt(this.#view.getUint8(address));
      case 2:
        return BigInt(this.#view.getUint16(address, this.#little));
      case 4:
        return BigInt(this.#view.getUint32(address, this.#little));
      default:
        return this.#view.getBigUint64(address, this.#little);
    }
  }

  #write(address: number, bytes: number, value: bigint): void {
    switch (bytes) {
      case 1:
        this.#view.setUint8(address, Number(value & 0xffn));
        break;
      case 2:
        this.#view.setUint16(address, Number(value & 0xffffn), this.#little);
        break;
      case 4:
        this.#view.setUint32(address, Number(u32(value)), this.#little);
        break;
      default:
        this.#view.setBigUint64(address, u64(value), this.#little);
    }
  }

  #ldx(insn: Insn): void {
    const mode = isa.BPF_MODE(insn.code);
    const bytes = isa.sizeBytes(insn.code);
    if (mode !== isa.BPF_MEM && (mode !== isa.BPF_MEMSX || bytes === 8)) this.#unknown(insn);
    const value = this.#read(this.#address(this.regs[insn.src]!, insn.off, bytes), bytes);
    this.regs[insn.dst] = mode === isa.BPF_MEM ? value : u64(BigInt.asIntN(bytes * 8, value));
  }

  #store(insn: Insn): void {
    const isStx = isa.BPF_CLASS(insn.code) === isa.BPF_STX;
    const mode = isa.BPF_MODE(insn.code);
    const bytes = isa.sizeBytes(insn.code);
    if (isStx && mode === isa.BPF_ATOMIC) {
      this.#atomic(insn, bytes);
      return;
    }
    if (mode !== isa.BPF_MEM) this.#unknown(insn);
    const value = isStx ? this.regs[insn.src]! : BigInt(insn.imm);
    this.#write(this.#address(this.regs[insn.dst]!, insn.off, bytes), bytes, value);
  }

  #atomic(insn: Insn, bytes: number): void {
    const { dst, src, off, imm } = insn;
    if (imm === isa.BPF_LOAD_ACQ) {
      this.regs[dst] = this.#read(this.#address(this.regs[src]!, off, bytes), bytes);
      return;
    }
    const address = this.#address(this.regs[dst]!, off, bytes);
    if (imm === isa.BPF_STORE_REL) {
      this.#write(address, bytes, this.regs[src]!);
      return;
    }
    if (bytes < 4) this.#unknown(insn);
    if (imm === isa.BPF_CMPXCHG) {
      const expected = BigInt.asUintN(bytes * 8, this.regs[0]!);
      this.regs[0] = this.#exchange(address, bytes, (old) => (old === expected ? this.regs[src]! : old));
      return;
    }
    const modify = READ_MODIFY_WRITE[imm & ~isa.BPF_FETCH];
    if (modify === undefined || imm === (isa.BPF_XCHG & ~isa.BPF_FETCH)) this.#unknown(insn);
    const value = this.regs[src]!;
    const old = this.#exchange(address, bytes, (content) => modify(content, value));
    if ((imm & isa.BPF_FETCH) !== 0) this.regs[src] = old;
  }

  /** Replaces what is at an address, atomically where it is aligned; returns the old value. */
  #exchange(address: number, bytes: number, modify: (old: bigint) => bigint): bigint {
    if (address % bytes !== 0 || !this.#little) {
      const old = this.#read(address, bytes);
      this.#write(address, bytes, modify(old));
      return old;
    }
    for (;;) {
      const old = this.#read(address, bytes);
      const value = modify(old);
      if (bytes === 8) {
        const cells = new BigUint64Array(this.#view.buffer, address, 1);
        if (Atomics.compareExchange(cells, 0, old, u64(value)) === old) return old;
      } else {
        const cells = new Uint32Array(this.#view.buffer, address, 1);
        if (Atomics.compareExchange(cells, 0, Number(old), Number(u32(value))) === Number(old)) return old;
      }
    }
  }

  #ld(insn: Insn): void {
    const mode = isa.BPF_MODE(insn.code);
    if (mode === isa.BPF_ABS || mode === isa.BPF_IND) {
      this.#packetLoad(insn, mode);
      return;
    }
    const high = this.#insns[this.pc + 1];
    if (!isa.isLdImm64(insn) || high === undefined) this.#unknown(insn);
    const { mapAddress } = this.#options;
    if (insn.src === 0) this.regs[insn.dst] = isa.ldImm64Value(insn, high);
    else if (insn.src === isa.BPF_PSEUDO_MAP_IDX && mapAddress !== undefined) {
      this.regs[insn.dst] = BigInt(mapAddress(insn.imm));
    } else if (insn.src === isa.BPF_PSEUDO_MAP_IDX_VALUE && mapAddress !== undefined) {
      this.regs[insn.dst] = BigInt(mapAddress(insn.imm, high.imm));
    } else if (insn.src === isa.BPF_PSEUDO_FUNC) {
      // A callback is known by its first slot; 0 is never one, because a program starts there.
      this.regs[insn.dst] = BigInt(this.pc + 1 + insn.imm);
    } else this.#unknown(insn);
    this.pc += 2;
  }

  #packetLoad(insn: Insn, mode: number): void {
    const size = isa.sizeBytes(insn.code);
    const load = this.#options.packetLoad;
    if (size === 8 || load === undefined) this.#unknown(insn);
    const index = mode === isa.BPF_IND ? Number(s32(this.regs[insn.src]!)) : 0;
    const value = load(this.regs[6]!, (index + insn.imm) | 0, size);
    this.regs[0] = value ?? 0n;
    if (value === undefined) this.#exit();
    else this.pc++;
  }

  /** Ends the whole program. */
  #unwind(): void {
    this.exited = true;
  }

  #jump(insn: Insn): void {
    const cls = isa.BPF_CLASS(insn.code);
    const op = isa.BPF_OP(insn.code);
    if (op === isa.BPF_JA) {
      this.pc += 1 + isa.jumpOffset(insn);
      return;
    }
    if (cls === isa.BPF_JMP) {
      if (insn.code === isa.BPF_TAIL_CALL) {
        this.#helper(isa.BPF_FUNC_tail_call, this.regs.slice(1, 6));
        return;
      }
      if (op === isa.BPF_CALL) {
        this.#call(insn);
        return;
      }
      if (op === isa.BPF_EXIT) {
        this.#exit();
        return;
      }
      if (op === isa.BPF_JCOND) {
        if (this.#budget === 0) this.pc += 1 + insn.off;
        else {
          this.#budget--;
          this.pc++;
        }
        return;
      }
    }
    this.pc += this.#condition(insn, cls === isa.BPF_JMP, op) ? 1 + insn.off : 1;
  }

  #condition(insn: Insn, wide: boolean, op: number): boolean {
    const unsigned = wide ? u64 : u32;
    const signed = wide ? s64 : s32;
    const isReg = isa.BPF_SRC(insn.code) === isa.BPF_X;
    const a = unsigned(this.regs[insn.dst]!);
    const b = unsigned(isReg ? this.regs[insn.src]! : BigInt(insn.imm));
    switch (op) {
      case isa.BPF_JEQ:
        return a === b;
      case isa.BPF_JNE:
        return a !== b;
      case isa.BPF_JGT:
        return a > b;
      case isa.BPF_JGE:
        return a >= b;
      case isa.BPF_JLT:
        return a < b;
      case isa.BPF_JLE:
        return a <= b;
      case isa.BPF_JSGT:
        return signed(a) > signed(b);
      case isa.BPF_JSGE:
        return signed(a) >= signed(b);
      case isa.BPF_JSLT:
        return signed(a) < signed(b);
      case isa.BPF_JSLE:
        return signed(a) <= signed(b);
      case isa.BPF_JSET:
        return (a & b) !== 0n;
      default:
        return this.#unknown(insn);
    }
  }

  #call(insn: Insn): void {
    const args = this.regs.slice(1, 6);
    if (isa.BPF_SRC(insn.code) === isa.BPF_X) {
      // callx: the register holds a helper's id.
      const reg = insn.dst === 0 ? insn.imm : insn.dst;
      this.#helper(Number(s32(this.regs[reg] ?? this.#unknown(insn))), args);
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
        const { kfunc } = this.#options;
        if (kfunc === undefined) this.#unknown(insn);
        this.regs[0] = u64(kfunc(insn.imm, args));
        this.pc++;
        break;
      }
      default:
        this.#unknown(insn);
    }
  }

  #helper(id: number, args: readonly bigint[]): void {
    const { helper, tailCall, unwindHelper } = this.#options;
    if (id === isa.BPF_FUNC_tail_call && tailCall !== undefined) {
      const MAX_TAIL_CALL_CNT = 33;
      const target = this.#tailCalls < MAX_TAIL_CALL_CNT ? tailCall(args) : undefined;
      if (target === undefined) this.pc++;
      else {
        this.#tailCalls++;
        this.#insns = target;
        this.pc = 0;
      }
      return;
    }
    if (helper === undefined) throw new BpfError('EINVAL', `unknown helper ${id} at ${this.pc}`);
    this.regs[0] = u64(helper(id, args));
    if (id === unwindHelper && this.regs[0] === 0n) this.#unwind();
    else this.pc++;
  }

  #enter(entry: number, returnTo: number): void {
    if (this.#frames.length + 1 >= (this.#options.maxFrames ?? isa.MAX_CALL_FRAMES)) {
      throw new BpfError('ELOOP', `calls nest too deep at ${this.pc}`);
    }
    this.#frames.push({ returnTo, saved: this.regs.slice(6, 10), budget: this.#budget });
    this.#budget = isa.BPF_MAX_LOOPS;
    this.#setFrame();
    this.pc = entry;
  }

  #exit(): void {
    const frame = this.#frames.pop();
    if (frame === undefined) {
      this.exited = true;
      return;
    }
    for (const [n, value] of frame.saved.entries()) this.regs[6 + n] = value;
    this.#budget = frame.budget;
    this.#setFrame();
    this.pc = frame.returnTo;
  }

  /** Runs a BPF function of this program as a helper's callback, to its end, and returns its r0. Registers are kept. */
  callback(entry: number, args: readonly bigint[]): bigint {
    const { pc } = this;
    const kept = this.regs.slice();
    const depth = this.#frames.length;
    this.#enter(entry, pc);
    for (let n = 0; n < 5; n++) this.regs[n + 1] = u64(args[n] ?? 0n);
    while (this.#frames.length > depth && !this.exited) this.step();
    const result = this.regs[0]! & MASK64;
    for (const [n, value] of kept.entries()) this.regs[n] = value;
    this.pc = pc;
    return result;
  }
}
