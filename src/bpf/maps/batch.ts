/** Batch operations: generic_map_{lookup,update,delete}_batch (kernel/bpf/syscall.c), for types that have them. */
import { ERRNO } from '../errors.ts';
import { BPF_F_LOCK } from './map-spec.ts';
import type { BatchOptions, BatchResult, BpfMap } from './map-types.ts';

export type Batch = 'lookup' | 'lookup_and_delete' | 'update' | 'delete';

const NONE = new Uint8Array(0);

export const batchError = (error: number): BatchResult => ({
  error,
  count: 0,
  keys: NONE,
  values: NONE,
  outBatch: undefined,
});

interface Locked extends BpfMap {
  readonly lockOffset: number | undefined;
}

/** 0, or why the command is refused before it looks at any element. */
export function checkBatch(
  map: Locked,
  batches: readonly Batch[],
  batch: Batch,
  { elemFlags = 0, flags = 0 }: BatchOptions,
  isHash = false,
): number {
  if (!batches.includes(batch)) return -ERRNO.ENOTSUPP;
  if ((elemFlags & ~BPF_F_LOCK) !== 0) return -ERRNO.EINVAL;
  if ((elemFlags & BPF_F_LOCK) !== 0 && map.lockOffset === undefined) return -ERRNO.EINVAL;
  return isHash && flags !== 0 ? -ERRNO.EINVAL : 0;
}

/** Keys and values that a lookup collects. */
export class BatchOutput {
  readonly #keys: Uint8Array[] = [];
  readonly #values: Uint8Array[] = [];

  get count(): number {
    return this.#keys.length;
  }

  add(key: Uint8Array, value: Uint8Array): void {
    this.#keys.push(key);
    this.#values.push(value);
  }

  result(error: number, outBatch: Uint8Array | undefined): BatchResult {
    return { error, count: this.count, keys: concat(this.#keys), values: concat(this.#values), outBatch };
  }
}

function concat(parts: readonly Uint8Array[]): Uint8Array {
  const bytes = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}

export function lookupBatch(
  map: Locked,
  batches: readonly Batch[],
  count: number,
  options: BatchOptions & { remove?: boolean },
): BatchResult {
  const batch = options.remove === true ? 'lookup_and_delete' : 'lookup';
  const refused = checkBatch(map, batches, batch, options);
  if (refused !== 0) return batchError(refused);
  const output = new BatchOutput();
  let previous = options.inBatch;
  let error = 0;
  while (output.count < count) {
    const key = map.sysNextKey(previous);
    if (typeof key === 'number') {
      error = key;
      break;
    }
    const value = map.sysLookup(key, options.elemFlags);
    if (typeof value !== 'number') output.add(key, value);
    else if (value !== -ERRNO.ENOENT) return batchError(value);
    previous = key;
  }
  return output.result(error, output.count > 0 ? previous : undefined);
}

export function updateBatch(
  map: Locked,
  batches: readonly Batch[],
  keys: Uint8Array,
  values: Uint8Array,
  count: number,
  options: BatchOptions,
): BatchResult {
  const refused = checkBatch(map, batches, 'update', options);
  if (refused !== 0) return batchError(refused);
  const { keySize } = map.spec;
  const size = map.sysValueSize;
  return each(count, (n) =>
    map.sysUpdate(
      keys.slice(n * keySize, (n + 1) * keySize),
      values.slice(n * size, (n + 1) * size),
      options.elemFlags ?? 0,
    ),
  );
}

export function deleteBatch(
  map: Locked,
  batches: readonly Batch[],
  keys: Uint8Array,
  count: number,
  options: BatchOptions,
): BatchResult {
  const refused = checkBatch(map, batches, 'delete', options);
  if (refused !== 0) return batchError(refused);
  const { keySize } = map.spec;
  return each(count, (n) => map.sysDelete(keys.slice(n * keySize, (n + 1) * keySize)));
}

/** Up to the first that fails. */
function each(count: number, action: (n: number) => number): BatchResult {
  let n = 0;
  let error = 0;
  for (; n < count; n++) {
    error = action(n);
    if (error !== 0) break;
  }
  return { ...batchError(error), count: n };
}
