/** Helpers of maps that call back, and locks in values (kernel/bpf/arraymap.c, hashtab.c, ringbuf.c, helpers.c). */
import { ERRNO } from '../../errors.ts';
import { MAX_CALL_FRAMES } from '../../isa.ts';
import { lock, unlock } from '../../maps/spinlock.ts';
import { UserRingBuffer } from '../../maps/user-ringbuf.ts';
import { fail, type HelperContext, type HelperImpl, mapOf, u64, view } from './context.ts';
import { DYNPTR_TYPE, writeDynptr } from './dynptr.ts';

const EACH: ReadonlySet<string> = new Set([
  'array',
  'percpu_array',
  'hash',
  'percpu_hash',
  'lru_hash',
  'lru_percpu_hash',
]);
/** BPF_MAX_USER_RINGBUF_SAMPLES */
const MAX_SAMPLES = 128 * 1024;
const WAKEUP_FLAGS = 3n;
/** Keys of nested loops over arrays, at the end of the scratch area. */
const depths = new WeakMap<WebAssembly.Memory, number[]>();

function forEach(c: HelperContext, address: number, fn: number, ctx: bigint, flags: bigint): bigint {
  const call = c.callbacks();
  if (flags !== 0n) return fail('EINVAL');
  const map = mapOf(c, address);
  if (!EACH.has(map.spec.type)) return fail('EINVAL');
  const all = depths.get(c.memory) ?? [];
  depths.set(c.memory, all);
  const depth = all[c.cpu] ?? 0;
  all[c.cpu] = depth + 1;
  const scratch = c.block.scratch + c.block.scratchSize - 8 * (MAX_CALL_FRAMES + 1) + 8 * Math.min(depth, 8);
  let count = 0n;
  try {
    for (const { key, value } of map.elements(c.cpu, scratch)) {
      count++;
      if (call(fn, address >>> 0, key, value, u64(ctx)) !== 0n) break;
    }
  } finally {
    all[c.cpu] = depth;
  }
  return count;
}

/** bpf_user_ringbuf_drain: how many samples the callback saw, or -errno. */
function drain(c: HelperContext, address: number, fn: number, ctx: number, flags: bigint): bigint {
  const call = c.callbacks();
  if ((u64(flags) & ~WAKEUP_FLAGS) !== 0n) return fail('EINVAL');
  const ring = mapOf(c, address);
  if (!(ring instanceof UserRingBuffer)) return fail('EINVAL');
  const dynptr = c.heap.alloc(16);
  if (dynptr === 0) return fail('ENOMEM');
  try {
    const result = ring.draining(() => {
      let samples = 0;
      for (let i = 0; i < MAX_SAMPLES; i++) {
        const sample = ring.peek();
        if (typeof sample === 'number') {
          // -ENODATA: empty; -EAGAIN: one that its producer gave up.
          if (sample === -ERRNO.ENODATA) break;
          if (sample === -ERRNO.EAGAIN) continue;
          return sample;
        }
        writeDynptr(c, dynptr, sample.address, DYNPTR_TYPE.local, sample.size);
        const stop = call(fn, dynptr, ctx >>> 0);
        ring.consume(sample);
        samples++;
        if (stop !== 0n) break;
      }
      return samples;
    });
    return BigInt(result);
  } finally {
    c.heap.free(dynptr, 16);
  }
}

export const MAP_HELPERS: Readonly<Record<string, HelperImpl>> = {
  for_each_map_elem_dyn: (c, map: number, fn: number, ctx: number | bigint, flags: bigint) =>
    forEach(c, map, fn, BigInt(ctx), flags),
  user_ringbuf_drain: drain,
  spin_lock(c, address: number) {
    lock(view(c).i32, (address >>> 0) >>> 2, c.cpu);
    return undefined;
  },
  spin_unlock(c, address: number) {
    unlock(view(c).i32, (address >>> 0) >>> 2);
    return undefined;
  },
};
