import type { Insn } from '../isa.ts';
import * as isa from '../isa.ts';

/** Fields of a decoded slot. */
export const FIELDS = 5;
/** Programs by their instructions, decoded once: code, dst and src as indexes of low words (src -1: the immediate), off, imm. */
const decoded = new WeakMap<readonly Insn[], Int32Array>();

export function decode(insns: readonly Insn[]): Int32Array {
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
