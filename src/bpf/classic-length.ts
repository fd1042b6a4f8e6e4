/**
 * Which classic filters are too long to jump in. The kernel converts a filter to eBPF whose jumps reach 32767 instructions, and each
 * classic instruction becomes several: bpf_convert_filter (net/core/filter.c) refuses with EINVAL what does not fit. This engine has
 * packet loads as instructions, so its own conversion is shorter; it refuses the same filters by the kernel's lengths (as on x86-64
 * and arm64, where unaligned loads are fast).
 */

import * as isa from './isa.ts';
import type { SockFilter } from './sock-filter.ts';

const S16_MIN = -0x8000;
const S16_MAX = 0x7fff;
const BPF_MSH = 0xa0;
const BPF_RET = 0x06;

/** A call of a load helper with its arguments, and the end of the program where it failed. */
const SLOW_LOAD = 8;
const PROLOGUE = 3;
/** The packet's data and the length of its head are kept in registers where there are packet loads. */
const PACKET_PROLOGUE = 7;

/** convert_bpf_ld_abs */
function packetLoadLength(size: number, isIndirect: boolean, k: number): number {
  const offset = k | 0;
  if (isIndirect) return SLOW_LOAD + (offset === 0 ? 0 : 1);
  if (offset < 0) return SLOW_LOAD;
  const check = offset === 0 ? 2 : 3;
  const load = offset <= S16_MAX ? 1 : 3;
  const swap = size === isa.BPF_B ? 0 : 1;
  return check + load + swap + 1 + SLOW_LOAD;
}

const isMsh = (code: number): boolean => code === (isa.BPF_LDX | isa.BPF_B | BPF_MSH);

function isPacketLoad(code: number): boolean {
  const mode = isa.BPF_MODE(code);
  return isa.BPF_CLASS(code) === isa.BPF_LD && (mode === isa.BPF_ABS || mode === isa.BPF_IND);
}

/** A conditional jump's instructions: the constant's move, the jump, and the jump of the other branch. */
function jumpShape({ code, jt, jf, k }: SockFilter): { before: number; inverted: boolean; both: boolean } {
  const before = isa.BPF_SRC(code) === isa.BPF_K && (k | 0) < 0 ? 1 : 0;
  const inverted = jf !== 0 && jt === 0 && isa.BPF_OP(code) !== isa.BPF_JSET;
  return { before, inverted, both: jf !== 0 && !inverted };
}

/** Instructions that one classic instruction becomes. `ancillary` are the lengths of loads of ancillary data, by `k`. */
function convertedLength(filter: SockFilter, ancillary: ReadonlyMap<number, number>): number {
  const { code, k } = filter;
  switch (isa.BPF_CLASS(code)) {
    case isa.BPF_LD:
      if (!isPacketLoad(code)) return 1;
      return (
        (isa.BPF_MODE(code) === isa.BPF_ABS ? ancillary.get(k) : undefined) ??
        packetLoadLength(isa.BPF_SIZE(code), isa.BPF_MODE(code) === isa.BPF_IND, k)
      );
    case isa.BPF_LDX:
      return isMsh(code) ? 6 + packetLoadLength(isa.BPF_B, false, k) : 1;
    case isa.BPF_ALU: {
      const divides = isa.BPF_OP(code) === isa.BPF_DIV || isa.BPF_OP(code) === isa.BPF_MOD;
      return divides && isa.BPF_SRC(code) === isa.BPF_X ? 5 : 1;
    }
    case isa.BPF_JMP: {
      if (isa.BPF_OP(code) === isa.BPF_JA) return 1;
      const { before, both } = jumpShape(filter);
      return before + (both ? 2 : 1);
    }
    case BPF_RET:
      return (code & 0x18) === isa.BPF_K ? 2 : 1;
    default:
      return 1;
  }
}

/** Index of the first jump that the kernel's conversion cannot express; undefined where all fit. The filter has been checked. */
export function findFarJump(
  filters: readonly SockFilter[],
  ancillary: ReadonlyMap<number, number>,
): number | undefined {
  const loadsPacket = filters.some(
    ({ code, k }) =>
      isMsh(code) || (isPacketLoad(code) && !(isa.BPF_MODE(code) === isa.BPF_ABS && ancillary.has(k))),
  );
  const starts: number[] = [];
  let at = loadsPacket ? PACKET_PROLOGUE : PROLOGUE;
  for (const filter of filters) {
    starts.push(at);
    at += convertedLength(filter, ancillary);
  }
  /** `position` is the jump's own place among the instructions of filter `pc`. */
  const fits = (pc: number, target: number, position: number): boolean => {
    // The kernel's first pass does not know where the target is and takes 0, which must fit too.
    const unknown = -starts[pc]! - 1 - position;
    return unknown >= S16_MIN && starts[target]! + unknown <= S16_MAX;
  };
  for (const [pc, filter] of filters.entries()) {
    const { code, jt, jf, k } = filter;
    if (isa.BPF_CLASS(code) !== isa.BPF_JMP) continue;
    if (isa.BPF_OP(code) === isa.BPF_JA) {
      if (!fits(pc, pc + 1 + k, 0)) return pc;
      continue;
    }
    const { before, inverted, both } = jumpShape(filter);
    if (!fits(pc, pc + 1 + (inverted ? jf : jt), before)) return pc;
    if (both && !fits(pc, pc + 1 + jf, before + 1)) return pc;
  }
  return undefined;
}
