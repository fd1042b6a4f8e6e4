/**
 * Loops of one block whose number of iterations is known: how many copies of the body may follow each other without a test.
 * The kernel's JITs do no such thing; clang leaves these loops to them where it was told not to unroll.
 */
import type { Insn } from '../isa.ts';
import * as isa from '../isa.ts';
import type { Cfg } from './cfg.ts';
import { type RegState, step } from './values.ts';

/** The body is emitted `peeled` times before the loop and `copies` times in it; the test comes after the last copy. */
export interface UnrollPlan {
  readonly copies: number;
  readonly peeled: number;
}

/** Most instructions in the copies of a body. */
const MAX_UNROLLED_INSNS = 96;
const MAX_COPIES = 16;
/** Counters, limits and strides below this stay below 2^31: signed, unsigned and 32-bit comparisons are alike. */
const MAX_COUNTER = 1n << 30n;

const OPPOSITE: Readonly<Record<number, number>> = {
  [isa.BPF_JEQ]: isa.BPF_JNE,
  [isa.BPF_JNE]: isa.BPF_JEQ,
  [isa.BPF_JGT]: isa.BPF_JLE,
  [isa.BPF_JGE]: isa.BPF_JLT,
  [isa.BPF_JLT]: isa.BPF_JGE,
  [isa.BPF_JLE]: isa.BPF_JGT,
  [isa.BPF_JSGT]: isa.BPF_JSLE,
  [isa.BPF_JSGE]: isa.BPF_JSLT,
  [isa.BPF_JSLT]: isa.BPF_JSGE,
  [isa.BPF_JSLE]: isa.BPF_JSGT,
};

/** What a loop of one block may be unrolled to; undefined where it is none, or its iterations are not known. */
export function planUnrolling(
  insns: readonly Insn[],
  cfg: Cfg,
  entries: readonly RegState[],
  index: number,
): UnrollPlan | undefined {
  const block = cfg.blocks[index]!;
  if (block.terminator < 0 || block.succs.length !== 2 || !block.succs.includes(index)) return undefined;
  const iterations = countIterations(insns, cfg, entries, index);
  if (iterations === undefined || iterations < 2n) return undefined;
  const length = block.end - block.start;
  let copies = MAX_COPIES;
  while (copies > 1 && (copies * length > MAX_UNROLLED_INSNS || BigInt(copies) > iterations)) copies >>= 1;
  if (copies < 2) return undefined;
  const peeled = Number(iterations % BigInt(copies));
  // A rest is emitted before the loop; where that would be much, fewer copies are as good.
  if (peeled > 0 && (copies + peeled) * length > MAX_UNROLLED_INSNS) {
    while (copies > 1 && iterations % BigInt(copies) !== 0n) copies >>= 1;
    return copies < 2 ? undefined : { copies, peeled: 0 };
  }
  return { copies, peeled };
}

/** How often the body runs, from a counter that starts at a constant and moves by one. */
function countIterations(
  insns: readonly Insn[],
  cfg: Cfg,
  entries: readonly RegState[],
  index: number,
): bigint | undefined {
  const block = cfg.blocks[index]!;
  const jump = insns[block.terminator]!;
  const cls = isa.BPF_CLASS(jump.code);
  const taken = isa.BPF_OP(jump.code);
  if (cls !== isa.BPF_JMP && cls !== isa.BPF_JMP32) return undefined;
  // The comparison under which the loop goes on.
  const op = block.succs[0] === index ? taken : OPPOSITE[taken];
  if (op === undefined || taken === isa.BPF_JSET || taken === isa.BPF_JCOND) return undefined;
  const counter = jump.dst;
  const stride = strideOf(insns, block.start, block.terminator, counter);
  if (stride === undefined || stride <= 0n || stride >= MAX_COUNTER) return undefined;

  let limit = BigInt(jump.imm);
  if (isa.BPF_SRC(jump.code) === isa.BPF_X) {
    const known = entries[index]![jump.src];
    if (known?.kind !== 'const' || strideOf(insns, block.start, block.terminator, jump.src) !== 0n) {
      return undefined;
    }
    limit = known.value;
  }
  const initial = initialValue(insns, cfg, entries, index, counter);
  if (initial === undefined || initial >= MAX_COUNTER || limit < 0n || limit >= MAX_COUNTER) return undefined;

  const distance = limit - initial;
  switch (op) {
    case isa.BPF_JNE:
      return distance > 0n && distance % stride === 0n ? distance / stride : undefined;
    case isa.BPF_JLT:
    case isa.BPF_JSLT:
      return distance <= 0n ? 1n : (distance + stride - 1n) / stride;
    case isa.BPF_JLE:
    case isa.BPF_JSLE:
      return distance < 0n ? 1n : distance / stride + 1n;
    default:
      return undefined;
  }
}

/** What each run of the block adds to a register, if it does nothing else to it. No calls: their bodies are larger than any test. */
function strideOf(insns: readonly Insn[], start: number, end: number, reg: number): bigint | undefined {
  let stride = 0n;
  for (let pc = start; pc < end; pc++) {
    const insn = insns[pc]!;
    switch (isa.BPF_CLASS(insn.code)) {
      case isa.BPF_ALU64:
        if (insn.dst !== reg) break;
        if (insn.code !== (isa.BPF_ALU64 | isa.BPF_ADD | isa.BPF_K) || insn.imm < 0) return undefined;
        stride += BigInt(insn.imm);
        break;
      case isa.BPF_ALU:
        if (insn.dst !== reg) break;
        if (insn.code !== (isa.BPF_ALU | isa.BPF_ADD | isa.BPF_K) || insn.imm < 0) return undefined;
        stride += BigInt(insn.imm);
        break;
      case isa.BPF_LDX:
        if (insn.dst === reg) return undefined;
        break;
      case isa.BPF_LD:
        if (!isa.isLdImm64(insn) || insn.dst === reg) return undefined;
        pc++;
        break;
      case isa.BPF_ST:
        break;
      case isa.BPF_STX:
        if (isa.BPF_MODE(insn.code) !== isa.BPF_MEM) return undefined;
        break;
      default:
        return undefined;
    }
  }
  return stride;
}

/** The register's value where the loop is entered, if it is one constant. */
function initialValue(
  insns: readonly Insn[],
  cfg: Cfg,
  entries: readonly RegState[],
  index: number,
  reg: number,
): bigint | undefined {
  let initial: bigint | undefined;
  const { predecessors, predecessorsAt } = cfg;
  for (const pred of predecessors.subarray(predecessorsAt[index]!, predecessorsAt[index + 1]!)) {
    if (pred === index) continue;
    const { start, end } = cfg.blocks[pred]!;
    const state = entries[pred]!.slice();
    for (let pc = start; pc < end; pc += isa.isLdImm64(insns[pc]!) ? 2 : 1) step(state, insns, pc);
    const known = state[reg];
    if (known?.kind !== 'const' || (initial !== undefined && initial !== known.value)) return undefined;
    initial = known.value;
  }
  return index === 0 ? undefined : initial;
}
