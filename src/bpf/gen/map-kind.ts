/** Which class of a generated module a map gets. */
import type { ObjectMapSpec } from '../object/index.ts';

/**
 * `queue` is a stack too, `maps` a map of maps whose inner one is known, `raw` a LoadedMap of bytes: what only a kernel fills, and maps
 * without sizes.
 */
export type SkeletonMapKind =
  | 'typed'
  | 'percpu'
  | 'queue'
  | 'bloom'
  | 'ring'
  | 'user-ring'
  | 'perf'
  | 'stacks'
  | 'maps'
  | 'programs'
  | 'arena'
  | 'raw';

/** What of a map's definition counts. */
export type TypedMapSpec = Pick<ObjectMapSpec, 'type' | 'keySize' | 'valueSize'> & {
  readonly keyTypeId?: number | undefined;
  readonly valueTypeId?: number | undefined;
  readonly innerMap?: TypedMapSpec | undefined;
};

const KINDS: Partial<Record<ObjectMapSpec['type'], SkeletonMapKind>> = {
  hash: 'typed',
  array: 'typed',
  lru_hash: 'typed',
  lpm_trie: 'typed',
  devmap: 'typed',
  devmap_hash: 'typed',
  cpumap: 'typed',
  percpu_hash: 'percpu',
  percpu_array: 'percpu',
  lru_percpu_hash: 'percpu',
  queue: 'queue',
  stack: 'queue',
  bloom_filter: 'bloom',
  ringbuf: 'ring',
  user_ringbuf: 'user-ring',
  perf_event_array: 'perf',
  stack_trace: 'stacks',
  array_of_maps: 'maps',
  hash_of_maps: 'maps',
  prog_array: 'programs',
  arena: 'arena',
};

export function mapKind({ type, keySize, valueSize, innerMap }: TypedMapSpec): SkeletonMapKind {
  const kind = KINDS[type] ?? 'raw';
  if ((kind === 'typed' || kind === 'percpu') && (keySize === 0 || valueSize === 0)) return 'raw';
  return kind === 'maps' && innerMap === undefined ? 'raw' : kind;
}
