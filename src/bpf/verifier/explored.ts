/**
 * Checkpoints by instruction and function call that led there (explored_state of kernel/bpf/verifier.c), the newest last. Some share a
 * bucket in the kernel, and count as missed together, which decides when they are forgotten.
 */
import type { VerifierState } from './state.ts';

export class Explored {
  readonly #lists = new Map<number, VerifierState[]>();
  readonly #insns: number;

  constructor(insns: number) {
    this.#insns = insns;
  }

  #key(insn: number, callsite: number): number {
    return insn * this.#insns + (((insn ^ callsite) >>> 0) % this.#insns);
  }

  /** Of an instruction, as the current function was called in `state`. */
  at(insn: number, state: VerifierState): VerifierState[] | undefined {
    return this.#lists.get(this.#key(insn, state.frame.callsite));
  }

  add(checkpoint: VerifierState): void {
    const key = this.#key(checkpoint.insn, checkpoint.frame.callsite);
    const list = this.#lists.get(key);
    if (list === undefined) this.#lists.set(key, [checkpoint]);
    else list.push(checkpoint);
  }

  clear(): void {
    this.#lists.clear();
  }
}
