/** One probe (or one group of its attach points) becomes one program. */
import { R0, R1 } from '../../bpf/builder.ts';
import type { ProbeGroup, ProbeInfo } from '../passes/semantics.ts';
import type { ScriptProgram } from '../script.ts';
import { rounds, startBudget } from './budget.ts';
import { emitCondition } from './condition.ts';
import { removeDeadCode } from './dead-code.ts';
import { NeedsScratch } from './frame.ts';
import { CTX, Gen } from './gen.ts';
import type { Module } from './module.ts';
import { loadScratch } from './scratch.ts';
import { emitBlock } from './statements.ts';

/** A program, and which source line each run of instructions came from. */
export interface Generated {
  readonly program: ScriptProgram;
  readonly notes: readonly { at: number; text: string }[];
}

/** Throws TooLarge when the probe needs more memory than a program has. */
export function generateProgram(
  module: Module,
  info: ProbeInfo,
  group: ProbeGroup,
  index: number,
): Generated {
  try {
    return emitProgram(module, info, group, index, false);
  } catch (error) {
    if (!(error instanceof NeedsScratch)) throw error;
    return emitProgram(module, info, group, index, true);
  }
}

function emitProgram(
  module: Module,
  info: ProbeInfo,
  group: ProbeGroup,
  index: number,
  hasScratch: boolean,
): Generated {
  const gen = new Gen(module, group, info.probe, index, hasScratch);
  const { b } = gen;
  b.mov(CTX, R1);
  if (hasScratch) loadScratch(gen, gen.exitLabel);
  startBudget(gen, info.probe);
  if (info.probe.predicate) {
    gen.note(`/${module.semantics.script.source.slice(info.probe.predicate)}/`);
    emitCondition(gen, info.probe.predicate, gen.exitLabel, false);
  }
  emitBlock(gen, info.probe.body);
  gen.note('');
  b.label(gen.exitLabel).mov(R0, 0).exit();
  gen.finish();
  if (hasScratch) module.scratch(gen.frame.scratchBytes);
  const built = b.build();
  if (gen.budget) built[gen.budget.at]!.imm = rounds(info, gen.budget);
  const { insns, moved } = removeDeadCode(built);
  return {
    program: { attach: group.attach, insns, usesAsyncId: gen.usesAsyncId, usesStack: gen.usesStack },
    notes: gen.notes.map(({ at, text }) => ({ at: moved[at] ?? insns.length, text })),
  };
}
