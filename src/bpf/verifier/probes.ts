import * as isa from '../isa.ts';
import type { VerifiedProgram } from './types.ts';

/** Loads that have to give 0 where the address is bad: those through pointers to typed objects (convert_ctx_accesses, BPF_PROBE_MEM). */
export function probedLoads({ insns, memoryKinds }: VerifiedProgram): ReadonlySet<number> | undefined {
  let probes: Set<number> | undefined;
  for (const [at, kind] of memoryKinds) {
    if ((kind !== 'ptr_' && kind !== 'untrusted') || isa.BPF_CLASS(insns[at]!.code) !== isa.BPF_LDX) continue;
    probes ??= new Set();
    probes.add(at);
  }
  return probes;
}

/** Loads, stores and atomics through pointers to the program's arena (BPF_PROBE_MEM32, BPF_PROBE_ATOMIC). */
export function arenaAccesses({ memoryKinds }: VerifiedProgram): ReadonlySet<number> {
  const slots = new Set<number>();
  for (const [at, kind] of memoryKinds) if (kind === 'arena') slots.add(at);
  return slots;
}
