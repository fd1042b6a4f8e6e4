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
  for (let pc = 0; pc < insns.length; pc++) {
    const insn = insns[pc]!;
    const hasSource = isa.BPF_CLASS(insn.code) < isa.BPF_ALU || isa.BPF_SRC(insn.code) === isa.BPF_X;
    const at = pc * FIELDS;
    code[at] = insn.code;
    code[at + 1] = insn.dst * 2;
    code[at + 2] = hasSource ? insn.src * 2 : -1;
    code[at + 3] = insn.off;
    code[at + 4] = insn.imm;
  }
  decoded.set(insns, code);
  return code;
}
