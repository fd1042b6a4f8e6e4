/**
 * Stores to the stack that nothing reads from memory, because every load of these bytes has the value in a local (forwarding.ts), and no
 * pointer to them is given away. They are left out.
 */
import { helperById } from '../helpers/helpers.ts';
import { kernelProto } from '../helpers/kernel-protos.ts';
import type { Insn } from '../isa.ts';
import * as isa from '../isa.ts';
import type { Cfg } from './cfg.ts';
import type { Forwards } from './forwarding.ts';
import { type RegState, sameValue, step } from './values.ts';

const { MAX_BPF_STACK } = isa;

/** Bytes of a frame that may be read: by themselves, and all from an offset on. */
class ReadBytes {
  readonly #bytes = new Uint8Array(MAX_BPF_STACK);
  #from = 0;

  add(at: number, size: number): void {
    for (let n = at; n < at + size; n++) if (n >= -MAX_BPF_STACK && n < 0) this.#bytes[n + MAX_BPF_STACK] = 1;
  }

  /** A pointer to `at` is given to somebody who reads from there upwards. */
  addFrom(at: number): void {
    this.#from = Math.min(this.#from, at);
  }

  addAll(): void {
    this.#from = -MAX_BPF_STACK;
  }

  has(at: number, size: number): boolean {
    if (at + size > this.#from) return true;
    for (let n = at; n < at + size; n++) if (this.#bytes[n + MAX_BPF_STACK] !== 0) return true;
    return false;
  }
}

/** The stores, by instruction. For verified programs: others may read their stack through any number. */
export function findDeadStores(
  insns: readonly Insn[],
  cfg: Cfg,
  entries: readonly RegState[],
  { uses }: Forwards,
): ReadonlySet<number> {
  const read = new ReadBytes();
  const stores: { pc: number; at: number; size: number }[] = [];
  for (const index of cfg.order) {
    const block = cfg.blocks[index]!;
    const state = entries[index]!.slice();
    for (let pc = block.start; pc < block.end; pc++) {
      const insn = insns[pc]!;
      const store = visit(insn, state, uses.has(pc), read);
      if (store !== undefined) stores.push({ pc, ...store });
      step(state, insns, pc);
      if (isa.isLdImm64(insn)) pc++;
    }
    for (const succ of block.succs) {
      // Where two pointers into the frame meet, there is one of which nothing is known.
      for (let reg = 0; reg < isa.BPF_REG_FP; reg++) {
        if (state[reg]?.kind === 'frame' && !sameValue(state[reg], entries[succ]![reg])) read.addAll();
      }
    }
  }
  return new Set(stores.filter(({ at, size }) => !read.has(at, size)).map(({ pc }) => pc));
}

/** Notes what an instruction reads of the frame, or makes readable; gives the bytes that it stores. */
function visit(
  insn: Insn,
  state: RegState,
  isForwarded: boolean,
  read: ReadBytes,
): { at: number; size: number } | undefined {
  const { code, dst, src, off } = insn;
  const size = isa.sizeBytes(code);
  switch (isa.BPF_CLASS(code)) {
    case isa.BPF_LDX: {
      const base = state[src];
      if (base?.kind === 'frame' && !isForwarded) read.add(base.off + off, size);
      return undefined;
    }
    case isa.BPF_ST:
    case isa.BPF_STX: {
      const base = state[dst];
      if (isa.BPF_CLASS(code) === isa.BPF_STX && state[src]?.kind === 'frame') read.addAll();
      if (base?.kind !== 'frame') return undefined;
      if (isa.BPF_MODE(code) === isa.BPF_MEM) return { at: base.off + off, size };
      read.add(base.off + off, size);
      return undefined;
    }
    case isa.BPF_ALU:
    case isa.BPF_ALU64:
      if (!movesPointer(insn)) {
        const usesSource = isa.BPF_SRC(code) === isa.BPF_X && state[src]?.kind === 'frame';
        if (usesSource || (isa.BPF_OP(code) !== isa.BPF_MOV && state[dst]?.kind === 'frame')) read.addAll();
      }
      return undefined;
    case isa.BPF_JMP:
      if (isa.BPF_OP(code) === isa.BPF_CALL) visitCall(insn, state, isForwarded, read);
      return undefined;
    default:
      return undefined;
  }
}

/** A copy of a whole register, or a constant added: values.ts follows it. */
function movesPointer({ code, off }: Insn): boolean {
  if (isa.BPF_CLASS(code) !== isa.BPF_ALU64) return false;
  const op = isa.BPF_OP(code);
  if (op === isa.BPF_MOV) return off === 0;
  return (op === isa.BPF_ADD || op === isa.BPF_SUB) && isa.BPF_SRC(code) === isa.BPF_K;
}

function visitCall(insn: Insn, state: RegState, isForwarded: boolean, read: ReadBytes): void {
  const proto = insn.src === 0 ? (helperById(insn.imm) ?? kernelProto(insn.imm)) : undefined;
  for (let reg = 1; reg <= 5; reg++) {
    const value = state[reg];
    // An array lookup that has its index in a local reads nothing.
    if (value?.kind !== 'frame' || (reg === 2 && isForwarded)) continue;
    // Functions of the program may go down from a pointer, too.
    if (proto === undefined || proto.args.includes('func')) read.addAll();
    else read.addFrom(value.off);
  }
}
