/** Removes what no path reaches (behind `exit()`, `return`, a constant condition): the verifier refuses such instructions. */
import type { Insn } from '../../bpf/index.ts';
import * as isa from '../../bpf/isa.ts';

/** The instructions that can be reached, and where each old one went (removed ones: where the next kept one is). */
export function removeDeadCode(insns: readonly Insn[]): { insns: Insn[]; moved: readonly number[] } {
  let code = insns;
  let moved = insns.map((_, at) => at);
  // Taking code away makes jumps to the next instruction, and those make nothing else dead.
  for (const keepOf of [reachable, withoutEmptyJumps]) {
    const step = compact(code, keepOf(code));
    moved = moved.map((at) => step.moved[at] ?? step.insns.length);
    code = step.insns;
  }
  return { insns: [...code], moved };
}

function isJump(insn: Insn): boolean {
  const cls = isa.BPF_CLASS(insn.code);
  if (cls !== isa.BPF_JMP && cls !== isa.BPF_JMP32) return false;
  const op = isa.BPF_OP(insn.code);
  return op !== isa.BPF_CALL && op !== isa.BPF_EXIT;
}

/** The address of a callback. */
const isFunction = (insn: Insn): boolean => isa.isLdImm64(insn) && insn.src === isa.BPF_PSEUDO_FUNC;

const isGoto = (insn: Insn): boolean => isJump(insn) && isa.BPF_OP(insn.code) === isa.BPF_JA;

function reachable(insns: readonly Insn[]): boolean[] {
  const seen: boolean[] = insns.map(() => false);
  const work = [0];
  for (let at = work.pop(); at !== undefined; at = work.pop()) {
    const insn = insns[at];
    if (insn === undefined || seen[at]) continue;
    seen[at] = true;
    if (isa.isLdImm64(insn)) {
      seen[at + 1] = true;
      if (isFunction(insn)) work.push(at + 1 + insn.imm);
      work.push(at + 2);
      continue;
    }
    if (isJump(insn)) work.push(at + 1 + isa.jumpOffset(insn));
    const ends = isGoto(insn) || insn.code === (isa.BPF_JMP | isa.BPF_EXIT);
    if (!ends) work.push(at + 1);
  }
  return seen;
}

function withoutEmptyJumps(insns: readonly Insn[]): boolean[] {
  return insns.map((insn) => !(isGoto(insn) && isa.jumpOffset(insn) === 0));
}

function compact(insns: readonly Insn[], keep: readonly boolean[]): { insns: Insn[]; moved: number[] } {
  let next = 0;
  const moved = insns.map((_, at) => (keep[at] ? next++ : next));
  moved.push(next);
  const kept = insns.flatMap((insn, at): Insn[] => {
    if (!keep[at]) return [];
    // The second slot of an lddw looks like an instruction of class 0 and is none.
    if (isFunction(insn)) return [{ ...insn, imm: moved[at + 1 + insn.imm]! - moved[at]! - 1 }];
    if (!isJump(insn)) return [{ ...insn }];
    const distance = moved[at + 1 + isa.jumpOffset(insn)]! - moved[at]! - 1;
    const far = insn.code === (isa.BPF_JMP32 | isa.BPF_JA);
    return [far ? { ...insn, imm: distance } : { ...insn, off: distance }];
  });
  return { insns: kept, moved };
}
