/** Iterators on the stack, and functions without effect in user space (kernel/bpf/bpf_iter.c, kernel/bpf/helpers.c). */
import { ERRNO } from '../../errors.ts';
import { fail, type HelperContext, type HelperImpl, isMemory, s32, u32, view } from './context.ts';

const MAX_LOOPS = 8 * 1024 * 1024;
const MAX_BIT_WORDS = 511;
/** struct bpf_iter_num_kern */
const NUM = { cur: 0, end: 4 } as const;
/** struct bpf_iter_bits_kern: the bits, or the address of a copy. */
const BITS = { bits: 0, count: 8, bit: 12 } as const;

const NOTHING = (): undefined => undefined;

function clear(c: HelperContext, at: number, error: 'EINVAL' | 'E2BIG'): number {
  view(c).data.setBigUint64(at, 0n, true);
  return Number(fail(error));
}

const isSet = (c: HelperContext, words: number, bit: number): boolean =>
  ((view(c).u8[words + (bit >> 3)]! >> (bit & 7)) & 1) !== 0;

export const ITERATOR_KFUNCS: Readonly<Record<string, HelperImpl>> = {
  bpf_iter_num_new(c, it: number, from: bigint, to: bigint) {
    const at = it >>> 0;
    const [start, end] = [s32(from), s32(to)];
    if (start > end) return clear(c, at, 'EINVAL');
    if (end - start > MAX_LOOPS) return clear(c, at, 'E2BIG');
    const { data } = view(c);
    data.setInt32(at + NUM.cur, start - 1, true);
    data.setInt32(at + NUM.end, end, true);
    return 0;
  },
  bpf_iter_num_next(c, it: number) {
    const at = it >>> 0;
    const { data } = view(c);
    const next = (data.getInt32(at + NUM.cur, true) + 1) | 0;
    if (next >= data.getInt32(at + NUM.end, true)) {
      data.setBigUint64(at, 0n, true);
      return 0;
    }
    data.setInt32(at + NUM.cur, next, true);
    return at;
  },
  bpf_iter_num_destroy(c, it: number) {
    view(c).data.setBigUint64(it >>> 0, 0n, true);
    return undefined;
  },
  bpf_iter_bits_new(c, it: number, source: number, words: bigint) {
    const at = it >>> 0;
    const count = u32(words);
    const { data, u8 } = view(c);
    data.setBigUint64(at + BITS.bits, 0n, true);
    data.setUint32(at + BITS.count, 0, true);
    data.setInt32(at + BITS.bit, -1, true);
    if (source === 0 || count === 0) return -ERRNO.EINVAL;
    if (count > MAX_BIT_WORDS) return -ERRNO.E2BIG;
    if (!isMemory(c, BigInt(source >>> 0), count * 8)) return -ERRNO.EFAULT;
    if (count === 1) u8.copyWithin(at, source >>> 0, (source >>> 0) + 8);
    else {
      const copy = c.heap.alloc(count * 8);
      if (copy === 0) return -ERRNO.ENOMEM;
      const now = view(c);
      now.u8.copyWithin(copy, source >>> 0, (source >>> 0) + count * 8);
      now.data.setBigUint64(at + BITS.bits, BigInt(copy), true);
    }
    view(c).data.setUint32(at + BITS.count, count * 64, true);
    return 0;
  },
  bpf_iter_bits_next(c, it: number) {
    const at = it >>> 0;
    const { data } = view(c);
    const count = data.getUint32(at + BITS.count, true);
    const words = count === 64 ? at : data.getUint32(at + BITS.bits, true);
    let bit = data.getInt32(at + BITS.bit, true);
    if (count === 0 || bit >= count) return 0;
    do bit++;
    while (bit < count && !isSet(c, words, bit));
    data.setInt32(at + BITS.bit, bit, true);
    return bit >= count ? 0 : at + BITS.bit;
  },
  bpf_iter_bits_destroy(c, it: number) {
    const at = it >>> 0;
    const { data } = view(c);
    const count = data.getUint32(at + BITS.count, true);
    if (count > 64) c.heap.free(data.getUint32(at + BITS.bits, true), count / 8);
    return undefined;
  },
  // Nothing is freed behind a program's back, and nothing else runs on its thread.
  bpf_rcu_read_lock: NOTHING,
  bpf_rcu_read_unlock: NOTHING,
  bpf_preempt_disable: NOTHING,
  bpf_preempt_enable: NOTHING,
  bpf_cast_to_kern_ctx: (_c, ctx: number) => ctx >>> 0,
  bpf_map_sum_elem_count(c, map: number) {
    view(c).data.setBigUint64(c.block.resultSlot, BigInt(c.mapAt(map >>> 0)?.size ?? 0), true);
    return undefined;
  },
};
