/** Programs as the agent takes them: Wasm, and what of the context each reads. */

import type { ProgramImage } from '../agent/protocol.ts';
import { jitProgram, type MemoryLayout, type VerifiedProgram } from '../bpf/index.ts';
import { readsOf, registersOf } from '../kernel/trace/bpf-trace.ts';

export function programImages(
  programs: readonly VerifiedProgram[],
  layout: MemoryLayout,
  first = 0,
): ProgramImage[] {
  return programs.map((program, index) => ({
    index: first + index,
    wasm: Buffer.from(jitProgram(program, layout).wasm).toString('base64'),
    reads: readsOf(program),
    converts: registersOf(program),
  }));
}
