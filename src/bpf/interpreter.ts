/**
 * The reference interpreter (___bpf_prog_run of kernel/bpf/core.c): one loop over the opcodes of RFC 9669's table. Registers are pairs of
 * 32-bit words, so that nothing is allocated; addresses are offsets into the memory, as in compiled programs.
 */
import { BpfError } from './errors.ts';
import { alu32, divide64, isTaken32, isTaken64, mulHigh, swapBytes } from './interpreter-alu.ts';
import type { Insn } from './isa.ts';
import * as isa from './isa.ts';

const SIZES = [4, 2, 1, 8] as const;
const NULL_PAGE = 1024;
const HELPER_CALL = isa.BPF_JMP | isa.BPF_CALL;

const viewOf = (memory: ArrayBufferLike | WebAssembly.Memory): DataView =>
  new DataView(memory instanceof WebAssembly.Memory ? memory.buffer : memory);

const u64 = (value: bigint): bigint => BigInt.asUintN(64, value);
const u32 = (value: bigint): bigint => BigInt.asUintN(32, value);
const s32 = (value: bigint): bigint => BigInt.asIntN(32, value);

/** What a program's environment answers. */
export interface InterpreterOptions {
  readonly insns: readonly Insn[];
  /** Given as a WebAssembly.Memory, it may grow while a program runs. */
  readonly memory: ArrayBufferLike | WebAssembly.Memory;
  /** Address of the stack area: frame n is [stack + 512 n, stack + 512 (n + 1)). */
  readonly stack: number;
  /** How deep BPF functions may nest, the program included. Default MAX_CALL_FRAMES. */
  readonly maxFrames?: number;
  /** Address of a map (`off` undefined), or of byte `off` of its values. */
  mapAddress?(index: number, off?: number): number;
  /** A helper: gets r1 to r5, gives r0. Undefined refuses. */
  helper?(id: number, args: readonly bigint[]): bigint;
  /**
   * A helper that needs no numbers above 2^53: `words` are the registers, two words each, low first. It sets r0 and gives true, or does
   * nothing and gives false, and `helper` is asked.
   */
  quickHelper?(id: number, words: Int32Array): boolean;
  kfunc?(id: number, args: readonly bigint[]): bigint;
  /** bpf_tail_call: the program to go on with, or r0 of one that ran elsewhere, or undefined to return from the call. */
  tailCall?(args: readonly bigint[]): readonly Insn[] | bigint | undefined;
  /** BPF_LD | BPF_ABS and BPF_IND: the value at a packet offset, or undefined where the packet has none (r0 = 0, exit). */
  packetLoad?(skb: bigint, offset: number, size: 1 | 2 | 4): bigint | undefined;
  /** Memory is read and written in big-endian order, as on another machine: tells which machine a program was made for. */
  readonly bigEndian?: boolean;
  /** Loads at these slots give 0 where the address is bad (BPF_PROBE_MEM). */
  readonly probes?: ReadonlySet<number> | undefined;
  /** The program ends when this helper gives 0. */
  readonly unwindHelper?: number | undefined;
}

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

/** Fields of a decoded slot. */
const FIELDS = 5;
/** Programs by their instructions, decoded once: code, dst and src as indexes of low words (src -1: the immediate), off, imm. */
const decoded = new WeakMap<readonly Insn[], Int32Array>();

function decode(insns: readonly Insn[]): Int32Array {
  let code = decoded.get(insns);
  if (code !== undefined) return code;
  code = new Int32Array(insns.length * FIELDS);
  for (const [pc, insn] of insns.entries()) {
    const hasSource = isa.BPF_CLASS(insn.code) < isa.BPF_ALU || isa.BPF_SRC(insn.code) === isa.BPF_X;
    code.set([insn.code, insn.dst * 2, hasSource ? insn.src * 2 : -1, insn.off, insn.imm], pc * FIELDS);
  }
  decoded.set(insns, code);
  return code;
}

/**
 * One execution. `step()` runs one instruction; `pc` and `regs` may be read and changed in between. Errors are BpfError:
 * EINVAL for an instruction that does not exist, EFAULT for memory outside of the memory, and what the environment throws.
 * Instructions must not be changed while a program runs.
 */
export class Interpreter {
  /** r0 to r10, unsigned. */
  readonly regs: BigUint64Array;
  /** Slot of the next instruction. */
  pc = 0;
  /** Instructions run so far. */
  steps = 0;
  exited = false;
  /** Called before each instruction of a callback, which runs within the step of its helper. May throw, which ends the execution. */
  beforeCallbackStep: (() => void) | undefined;
  readonly #words: Int32Array;
  readonly #options: InterpreterOptions;
  #view: DataView;
  /** The memory for atomics. */
  #cells: { view: DataView; u64: BigUint64Array; u32: Uint32Array } | undefined;
  readonly #frames: Frame[] = [];
  #insns: readonly Insn[];
  #code: Int32Array;
  readonly #little: boolean;
  #budget = isa.BPF_MAX_LOOPS;
  #tailCalls = 0;
  #thrown: Thrown | undefined;
  #limit = Number.POSITIVE_INFINITY;

  constructor(options: InterpreterOptions, r1: bigint = 0n, r2: bigint = 0n) {
    this.#options = options;
    this.#insns = options.insns;
    this.#code = decode(options.insns);
    this.#view = viewOf(options.memory);
    this.#little = options.bigEndian !== true;
    // Register numbers that do not exist (11 to 15) read and write words behind.
    this.#words = new Int32Array(32);
    this.regs = new BigUint64Array(this.#words.buffer, 0, isa.MAX_BPF_REG);
    this.regs[1] = r1;
    this.regs[2] = r2;
    this.#setFrame();
  }

  /** Back to the start, for another execution. */
  reset(r1: bigint = 0n, r2: bigint = 0n): void {
    this.#words.fill(0);
    this.regs[1] = r1;
    this.regs[2] = r2;
    this.pc = 0;
    this.steps = 0;
    this.exited = false;
    this.#frames.length = 0;
    if (this.#insns !== this.#options.insns) {
      this.#insns = this.#options.insns;
      this.#code = decode(this.#insns);
    }
    this.#budget = isa.BPF_MAX_LOOPS;
    this.#tailCalls = 0;
    this.#setFrame();
  }

  /** Depth of calls between BPF functions. */
  get depth(): number {
    return this.#frames.length;
  }

  /** Slots that the callers go on at, the program's own first. */
  get returnSlots(): number[] {
    return this.#frames.map(({ returnTo }) => returnTo);
  }

  /** The instruction that step() would run. */
  get insn(): Insn | undefined {
    return this.#insns[this.pc];
  }

  /** Runs until exit and returns r0; throws BpfError ELOOP after `limit` instructions. */
  run(limit = Number.POSITIVE_INFINITY): bigint {
    this.#limit = limit;
    if (!this.exited) this.#execute(limit, -1);
    if (!this.exited) throw new BpfError('ELOOP', `${limit} instructions were run without an exit`);
    return this.regs[0]!;
  }

  /** One instruction; false once the program has ended. */
  step(): boolean {
    if (this.exited) return false;
    this.#execute(this.steps + 1, -1);
    return !this.exited;
  }

  #setFrame(): void {
    const fp = isa.BPF_REG_FP * 2;
    this.#words[fp] = this.#options.stack + isa.MAX_BPF_STACK * (this.#frames.length + 1);
    this.#words[fp + 1] = 0;
  }

  #unknown(pc: number): never {
    const { code } = this.#insns[pc]!;
    this.pc = pc;
    throw new BpfError('EINVAL', `unknown opcode ${code.toString(16).padStart(2, '0')} at ${pc}`);
  }

  /** Runs until `steps` is `limit`, the program exits, or it is back in frame `depth`. */
  #execute(limit: number, depth: number): void {
    const words = this.#words;
    const little = this.#little;
    const { probes } = this.#options;
    let code = this.#code;
    let view = this.#view;
    let length = view.byteLength;
    let { pc, steps } = this;
    try {
      for (;;) {
        if (steps >= limit) {
          this.pc = pc;
          return;
        }
        const at = pc * FIELDS;
        if (pc < 0 || at >= code.length) {
          this.pc = pc;
          throw new BpfError('EINVAL', `control left the program to ${pc}`);
        }
        steps++;
        const opcode = code[at]!;
        const dst = code[at + 1]!;
        const src = code[at + 2]!;
        const off = code[at + 3]!;
        const imm = code[at + 4]!;
        const aLow = words[dst]!;
        const aHigh = words[dst + 1]!;
        const bLow = src < 0 ? imm : words[src]!;
        const bHigh = src < 0 ? imm >> 31 : words[src + 1]!;
        pc++;
        switch (opcode) {
          // ALU64
          case 0x07:
          case 0x0f: {
            const low = (aLow + bLow) | 0;
            words[dst] = low;
            words[dst + 1] = aHigh + bHigh + (low >>> 0 < aLow >>> 0 ? 1 : 0);
            break;
          }
          case 0x17:
          case 0x1f:
            words[dst] = aLow - bLow;
            words[dst + 1] = aHigh - bHigh - (aLow >>> 0 < bLow >>> 0 ? 1 : 0);
            break;
          case 0x27:
          case 0x2f:
            words[dst] = Math.imul(aLow, bLow);
            words[dst + 1] = mulHigh(aLow, bLow) + Math.imul(aLow, bHigh) + Math.imul(aHigh, bLow);
            break;
          case 0x37:
          case 0x3f:
          case 0x97:
          case 0x9f: {
            const isMod = opcode >= 0x90;
            if ((aHigh | bHigh) === 0 && aLow >= 0 && bLow > 0) {
              // As small numbers, signed or not.
              words[dst] = isMod ? aLow % bLow : aLow / bLow;
            } else {
              const { regs } = this;
              const divisor = src < 0 ? BigInt.asUintN(64, BigInt(imm)) : regs[src >> 1]!;
              regs[dst >> 1] = divide64(regs[dst >> 1]!, divisor, off === 1, isMod);
            }
            break;
          }
          case 0x47:
          case 0x4f:
            words[dst] = aLow | bLow;
            words[dst + 1] = aHigh | bHigh;
            break;
          case 0x57:
          case 0x5f:
            words[dst] = aLow & bLow;
            words[dst + 1] = aHigh & bHigh;
            break;
          case 0x67:
          case 0x6f: {
            const count = bLow & 63;
            if (count >= 32) {
              words[dst] = 0;
              words[dst + 1] = aLow << count;
            } else if (count > 0) {
              words[dst] = aLow << count;
              words[dst + 1] = (aHigh << count) | (aLow >>> (32 - count));
            }
            break;
          }
          case 0x77:
          case 0x7f:
          case 0xc7:
          case 0xcf: {
            const count = bLow & 63;
            const sign = opcode >= 0xc0 ? aHigh >> 31 : 0;
            if (count >= 32) {
              words[dst] = opcode >= 0xc0 ? aHigh >> count : aHigh >>> count;
              words[dst + 1] = sign;
            } else if (count > 0) {
              words[dst] = (aLow >>> count) | (aHigh << (32 - count));
              words[dst + 1] = opcode >= 0xc0 ? aHigh >> count : aHigh >>> count;
            }
            break;
          }
          case 0x87:
            words[dst] = -aLow;
            words[dst + 1] = aLow === 0 ? -aHigh : ~aHigh;
            break;
          case 0xa7:
          case 0xaf:
            words[dst] = aLow ^ bLow;
            words[dst + 1] = aHigh ^ bHigh;
            break;
          case 0xb7:
          case 0xbf:
            if (off === 0) {
              words[dst] = bLow;
              words[dst + 1] = bHigh;
            } else if (off === isa.BPF_ADDR_SPACE_CAST && src >= 0) {
              // Arenas lie in the same memory.
              words[dst] = bLow;
              words[dst + 1] = 0;
            } else if (src >= 0 && (off === 8 || off === 16 || off === 32)) {
              const low = (bLow << (32 - off)) >> (32 - off);
              words[dst] = low;
              words[dst + 1] = low >> 31;
            } else this.#unknown(pc - 1);
            break;
          // ALU: the high half becomes 0.
          case 0xb4:
          case 0xbc:
            if (off === 0) words[dst] = bLow;
            else if (src >= 0 && (off === 8 || off === 16)) {
              words[dst] = (bLow << (32 - off)) >> (32 - off);
            } else this.#unknown(pc - 1);
            words[dst + 1] = 0;
            break;
          case 0x04:
          case 0x0c:
          case 0x14:
          case 0x1c:
          case 0x24:
          case 0x2c:
          case 0x34:
          case 0x3c:
          case 0x44:
          case 0x4c:
          case 0x54:
          case 0x5c:
          case 0x64:
          case 0x6c:
          case 0x74:
          case 0x7c:
          case 0x94:
          case 0x9c:
          case 0xa4:
          case 0xac:
          case 0xc4:
          case 0xcc:
          case 0x84:
            words[dst] = alu32(opcode >> 4, aLow, bLow, off)!;
            words[dst + 1] = 0;
            break;
          // Byte order: le, be, bswap.
          case 0xd4:
          case 0xdc:
          case 0xd7:
            if (imm === 16) {
              words[dst] = opcode === 0xd4 ? aLow & 0xffff : ((aLow & 0xff) << 8) | ((aLow >>> 8) & 0xff);
              words[dst + 1] = 0;
            } else if (imm === 32) {
              if (opcode !== 0xd4) words[dst] = swapBytes(aLow);
              words[dst + 1] = 0;
            } else if (imm !== 64) this.#unknown(pc - 1);
            else if (opcode !== 0xd4) {
              words[dst] = swapBytes(aHigh);
              words[dst + 1] = swapBytes(aLow);
            }
            break;
          // Loads: u32, u16, u8, u64, then s32, s16, s8.
          case 0x61:
          case 0x69:
          case 0x71:
          case 0x79:
          case 0x81:
          case 0x89:
          case 0x91: {
            const address = (bLow + off) >>> 0;
            const bytes = SIZES[(opcode >> 3) & 3]!;
            if (probes?.has(pc - 1) === true && this.#isBad(bLow, bHigh, off, bytes)) {
              words[dst] = 0;
              words[dst + 1] = 0;
              break;
            }
            if (address + bytes > length) {
              this.pc = pc - 1;
              view = this.#grown(address, bytes);
              length = view.byteLength;
            }
            let low: number;
            let high = 0;
            switch (opcode) {
              case 0x61:
                low = view.getInt32(address, little);
                break;
              case 0x69:
                low = view.getUint16(address, little);
                break;
              case 0x71:
                low = view.getUint8(address);
                break;
              case 0x79:
                low = view.getInt32(little ? address : address + 4, little);
                high = view.getInt32(little ? address + 4 : address, little);
                break;
              case 0x81:
                low = view.getInt32(address, little);
                high = low >> 31;
                break;
              case 0x89:
                low = view.getInt16(address, little);
                high = low >> 31;
                break;
              default:
                low = view.getInt8(address);
                high = low >> 31;
            }
            words[dst] = low;
            words[dst + 1] = high;
            break;
          }
          // Stores of an immediate and of a register.
          case 0x62:
          case 0x6a:
          case 0x72:
          case 0x7a:
          case 0x63:
          case 0x6b:
          case 0x73:
          case 0x7b: {
            const address = (aLow + off) >>> 0;
            const bytes = SIZES[(opcode >> 3) & 3]!;
            if (address + bytes > length) {
              this.pc = pc - 1;
              view = this.#grown(address, bytes);
              length = view.byteLength;
            }
            const isImmediate = (opcode & 1) === 0;
            const low = isImmediate ? imm : bLow;
            if (bytes === 8) {
              view.setInt32(little ? address : address + 4, low, little);
              view.setInt32(little ? address + 4 : address, isImmediate ? imm >> 31 : bHigh, little);
            } else if (bytes === 4) view.setInt32(address, low, little);
            else if (bytes === 2) view.setInt16(address, low, little);
            else view.setInt8(address, low);
            break;
          }
          case 0xc3:
          case 0xcb:
          case 0xd3:
          case 0xdb:
            this.pc = pc - 1;
            this.#atomic(this.#insns[pc - 1]!, SIZES[(opcode >> 3) & 3]!);
            break;
          // lddw, and the packet loads.
          case 0x18:
            this.pc = pc - 1;
            this.#wide(this.#insns[pc - 1]!);
            pc++;
            break;
          case 0x20:
          case 0x28:
          case 0x30:
          case 0x40:
          case 0x48:
          case 0x50:
            this.pc = pc - 1;
            this.#packetLoad(this.#insns[pc - 1]!);
            if (this.exited || this.#frames.length === depth) return;
            pc = this.pc;
            break;
          // Jumps.
          case 0x05:
            pc += off;
            break;
          case 0x06:
            pc += imm;
            break;
          case 0x15:
          case 0x1d:
          case 0x25:
          case 0x2d:
          case 0x35:
          case 0x3d:
          case 0x45:
          case 0x4d:
          case 0x55:
          case 0x5d:
          case 0x65:
          case 0x6d:
          case 0x75:
          case 0x7d:
          case 0xa5:
          case 0xad:
          case 0xb5:
          case 0xbd:
          case 0xc5:
          case 0xcd:
          case 0xd5:
          case 0xdd:
            if (isTaken64(opcode >> 4, aLow, aHigh, bLow, bHigh)!) pc += off;
            break;
          case 0x16:
          case 0x1e:
          case 0x26:
          case 0x2e:
          case 0x36:
          case 0x3e:
          case 0x46:
          case 0x4e:
          case 0x56:
          case 0x5e:
          case 0x66:
          case 0x6e:
          case 0x76:
          case 0x7e:
          case 0xa6:
          case 0xae:
          case 0xb6:
          case 0xbe:
          case 0xc6:
          case 0xce:
          case 0xd6:
          case 0xde:
            if (isTaken32(opcode >> 4, aLow, bLow)!) pc += off;
            break;
          // may_goto
          case 0xe5:
            if (this.#budget === 0) pc += off;
            else this.#budget--;
            break;
          // Calls, callx, the kernel's own tail call, exit.
          case 0x85:
          case 0x8d:
          case 0xf5:
          case 0x95:
            this.pc = pc - 1;
            this.steps = steps;
            if (opcode === 0x95) this.#exit();
            else this.#call(this.#insns[pc - 1]!);
            pc = this.pc;
            code = this.#code;
            steps = this.steps;
            view = this.#view;
            length = view.byteLength;
            if (this.exited || this.#frames.length === depth) return;
            break;
          default:
            this.#unknown(pc - 1);
        }
      }
    } finally {
      // Callbacks count on.
      if (steps > this.steps) this.steps = steps;
    }
  }

  /** Whether a load that may be anywhere is in the first kilobyte or outside of the memory. */
  #isBad(low: number, high: number, off: number, bytes: number): boolean {
    const address = high * 2 ** 32 + (low >>> 0) + off;
    return address < NULL_PAGE || address + bytes > viewOf(this.#options.memory).byteLength;
  }

  /** The memory as it is now, where it has these bytes. */
  #grown(address: number, bytes: number): DataView {
    const now = viewOf(this.#options.memory);
    if (address + bytes > now.byteLength) {
      throw new BpfError(
        'EFAULT',
        `access of ${bytes} bytes at ${address}, outside of the memory, at ${this.pc}`,
      );
    }
    this.#view = now;
    return now;
  }

  /** Checks an address and returns it as a number. */
  #address(base: bigint, off: number, bytes: number): number {
    // Addresses are 32 bits wide, as everywhere in this machine.
    const address = Number(u32(base + BigInt(off)));
    if (address + bytes > this.#view.byteLength) this.#grown(address, bytes);
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
    if (bytes < 4) this.#unknown(this.pc);
    if (imm === isa.BPF_CMPXCHG) {
      const expected = BigInt.asUintN(bytes * 8, this.regs[0]!);
      this.regs[0] = this.#exchange(address, bytes, (old) => (old === expected ? this.regs[src]! : old));
      return;
    }
    const modify = READ_MODIFY_WRITE[imm & ~isa.BPF_FETCH];
    if (modify === undefined || imm === (isa.BPF_XCHG & ~isa.BPF_FETCH)) this.#unknown(this.pc);
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
    let cells = this.#cells;
    if (cells?.view !== this.#view) {
      const { buffer } = this.#view;
      cells = {
        view: this.#view,
        u64: new BigUint64Array(buffer, 0, Math.floor(buffer.byteLength / 8)),
        u32: new Uint32Array(buffer, 0, Math.floor(buffer.byteLength / 4)),
      };
      this.#cells = cells;
    }
    for (;;) {
      const old = this.#read(address, bytes);
      const value = modify(old);
      if (bytes === 8) {
        const at = address >>> 3;
        if (Atomics.compareExchange(cells.u64, at, old, u64(value)) === old) return old;
      } else {
        const at = address >>> 2;
        if (Atomics.compareExchange(cells.u32, at, Number(old), Number(u32(value))) === Number(old))
          return old;
      }
    }
  }

  #wide(insn: Insn): void {
    const high = this.#insns[this.pc + 1];
    if (high === undefined) this.#unknown(this.pc);
    const { mapAddress } = this.#options;
    if (insn.src === 0) {
      this.#words[insn.dst * 2] = insn.imm;
      this.#words[insn.dst * 2 + 1] = high.imm;
    } else if (insn.src === isa.BPF_PSEUDO_MAP_IDX && mapAddress !== undefined) {
      this.regs[insn.dst] = BigInt(mapAddress(insn.imm));
    } else if (insn.src === isa.BPF_PSEUDO_MAP_IDX_VALUE && mapAddress !== undefined) {
      this.regs[insn.dst] = BigInt(mapAddress(insn.imm, high.imm));
    } else if (insn.src === isa.BPF_PSEUDO_FUNC) {
      // A callback is known by its first slot; 0 is never one, because a program starts there.
      this.regs[insn.dst] = BigInt(this.pc + 1 + insn.imm);
    } else this.#unknown(this.pc);
  }

  #packetLoad(insn: Insn): void {
    const mode = isa.BPF_MODE(insn.code);
    const size = isa.sizeBytes(insn.code);
    const load = this.#options.packetLoad;
    if (size === 8 || load === undefined) this.#unknown(this.pc);
    const index = mode === isa.BPF_IND ? Number(s32(this.regs[insn.src]!)) : 0;
    const value = load(this.regs[6]!, (index + insn.imm) | 0, size);
    this.regs[0] = value ?? 0n;
    if (value === undefined) this.#exit();
    else this.pc++;
  }

  #call(insn: Insn): void {
    const { quickHelper } = this.#options;
    if (insn.code === HELPER_CALL && insn.src === 0 && quickHelper?.(insn.imm, this.#words) === true) {
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
      this.#helper(Number(s32(this.regs[reg] ?? this.#unknown(this.pc))), args);
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
        if (kfunc === undefined) this.#unknown(this.pc);
        this.regs[0] = kfunc(insn.imm, args);
        this.pc++;
        if (this.#thrown !== undefined) this.#unwind(this.#thrown);
        break;
      }
      default:
        this.#unknown(this.pc);
    }
  }

  #helper(id: number, args: readonly bigint[]): void {
    const { helper, tailCall, unwindHelper } = this.#options;
    if (id === isa.BPF_FUNC_tail_call && tailCall !== undefined) {
      const MAX_TAIL_CALL_CNT = 33;
      const target = this.#tailCalls < MAX_TAIL_CALL_CNT ? tailCall(args) : undefined;
      if (target === undefined) this.pc++;
      else if (typeof target === 'bigint') {
        this.regs[0] = target;
        this.#exit();
      } else {
        this.#tailCalls++;
        this.#insns = target;
        this.#code = decode(target);
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
    if (this.#frames.length + 1 >= (this.#options.maxFrames ?? isa.MAX_CALL_FRAMES)) {
      throw new BpfError('ELOOP', `calls nest too deep at ${this.pc}`);
    }
    this.#frames.push({ returnTo, saved: this.#words.slice(12, 20), budget: this.#budget });
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
    this.#words.set(frame.saved, 12);
    this.#budget = frame.budget;
    this.#setFrame();
    this.pc = frame.returnTo;
  }

  /**
   * bpf_throw: for a kfunc to call. All frames end, and the program's result is `cookie`, or that of its function at `callback`, which
   * gets the cookie.
   */
  throw(cookie: bigint, callback?: number): void {
    this.#thrown = { cookie, callback };
  }

  #unwind({ cookie, callback }: Thrown): void {
    this.#thrown = undefined;
    this.#frames.length = 0;
    this.#setFrame();
    if (callback === undefined) {
      this.regs[0] = cookie;
      this.exited = true;
    } else {
      this.regs[1] = cookie;
      this.pc = callback;
    }
  }

  /** Runs a BPF function of this program as a helper's callback, to its end, and returns its r0. Registers are kept. */
  callback(entry: number, args: readonly bigint[]): bigint {
    const { pc } = this;
    const kept = this.regs.slice();
    const depth = this.#frames.length;
    this.#enter(entry, pc);
    for (let n = 0; n < 5; n++) this.regs[n + 1] = args[n] ?? 0n;
    const insns = this.#insns;
    if (this.beforeCallbackStep === undefined) this.#execute(this.#limit, depth);
    else {
      while (!this.exited && this.#frames.length > depth) {
        this.beforeCallbackStep();
        this.#execute(this.steps + 1, depth);
      }
    }
    if (!this.exited && this.#frames.length > depth) {
      throw new BpfError('ELOOP', `${this.#limit} instructions were run without an exit`);
    }
    this.#insns = insns;
    this.#code = decode(insns);
    const result = this.regs[0]!;
    this.regs.set(kept);
    this.pc = pc;
    return result;
  }
}
