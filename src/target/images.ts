/** Programs as the agent takes them: Wasm, and what of the context each reads. */

import type { ProgramImage } from '../agent/protocol.ts';
import { jitProgram, type MemoryLayout } from '../bpf/index.ts';
import { TraplineError } from '../errors.ts';
import { helperReads, readsOf, registersOf } from '../kernel/trace/bpf-trace.ts';
import type { LoadedProgram } from './session.ts';

export function programImages(
  programs: readonly LoadedProgram[],
  layout: MemoryLayout,
  first = 0,
): ProgramImage[] {
  return programs.map((program, index): ProgramImage => {
    const { context } = program;
    // What is read of the registers is what the program in front of it reads.
    const maker = context === undefined ? program : programs[context.by - first];
    if (maker === undefined) throw new TraplineError('EINVAL', `${program.name}: nothing makes its context`);
    // And what programs read that it may call in its place.
    const running = program.helpersUsed.includes('tail_call')
      ? programs.filter(({ type }) => type === program.type)
      : [program];
    const readers = context === undefined ? running : [maker];
    return {
      index: first + index,
      wasm: Buffer.from(jitProgram(program, layout, { entries: ['run'], programs: true }).wasm).toString(
        'base64',
      ),
      reads:
        readers.reduce((mask, reader) => mask | readsOf(reader), 0) |
        running.reduce((mask, one) => mask | helperReads(one), 0),
      converts: readers.reduce((mask, reader) => mask | registersOf(reader), 0),
      ...(context === undefined ? {} : { context: { by: context.by, at: firstValue(layout, context.map) } }),
    };
  });
}

/** Where the first value of an array is. */
function firstValue(layout: MemoryLayout, index: number): number {
  const map = layout.maps[index];
  if (map?.spec.type !== 'array') throw new TraplineError('EINVAL', `map ${index} is no array`);
  return map.address + map.geometry.data;
}
