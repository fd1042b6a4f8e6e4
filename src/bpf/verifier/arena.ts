/** The arena of a program (resolve_pseudo_ldimm64 of kernel/bpf/verifier.c). */
import { ARENA_PAGE } from '../maps/map-layout.ts';
import type { MapSpec } from '../maps/map-spec.ts';
import type { Env } from './env.ts';
import { reject } from './error.ts';

/** A reference to an arena makes it the program's. */
export function useArena(env: Env, index: number): void {
  if (env.arena === index) return;
  if (env.arena >= 0) reject('EBUSY', 'Only one arena per program');
  if (!env.allowPtrLeaks || !env.isBpfCapable)
    reject('EPERM', 'CAP_BPF and CAP_PERFMON are required to use arena');
  env.arena = index;
}

/** arena_map_direct_value_addr: the end is an address too. */
export function checkArenaValue(spec: MapSpec, off: number): void {
  if (off <= spec.maxEntries * ARENA_PAGE) return;
  reject('ERANGE', `invalid access to map value pointer, value_size=${spec.valueSize} off=${off}`);
}
