/** Perf events and stacks (kernel/trace/bpf_trace.c, kernel/bpf/stackmap.c): there are no counters, and stacks are what the machine's option gives. */
import { ERRNO } from '../../errors.ts';
import { StackTraceMap } from '../../maps/stack-trace.ts';
import { fail, type HelperContext, type HelperImpl, mapOf, u32, u64, view } from './context.ts';

const INDEX_MASK = 0xffff_ffffn;
const BPF_F_SKIP_FIELD_MASK = 0xffn;
const BPF_F_USER_STACK = 1n << 8n;
const BPF_F_FAST_STACK_CMP = 1n << 9n;
const BPF_F_REUSE_STACKID = 1n << 10n;
const BPF_F_USER_BUILD_ID = 1n << 11n;
/** struct bpf_perf_event_value */
const EVENT_VALUE_SIZE = 24;
const BUILD_ID_SIZE = 32;

/** get_map_perf_counter: no slot holds an event. */
function readCounter(c: HelperContext, map: number, flags: bigint): bigint {
  const wanted = u64(flags);
  if ((wanted & ~INDEX_MASK) !== 0n) return fail('EINVAL');
  const index = wanted === INDEX_MASK ? c.cpu : Number(wanted);
  return index >= mapOf(c, map).spec.maxEntries ? fail('E2BIG') : fail('ENOENT');
}

function framesOf(c: HelperContext, flags: bigint): readonly bigint[] {
  const frames = c.runtime.options.stack?.((flags & BPF_F_USER_STACK) !== 0n) ?? [];
  return frames.slice(Number(flags & BPF_F_SKIP_FIELD_MASK));
}

function getStack(c: HelperContext, buffer: number, size: number, flags: bigint): bigint {
  const wanted = u64(flags);
  const start = buffer >>> 0;
  const length = size >>> 0;
  const { u8, data } = view(c);
  const refuse = (name: 'EINVAL' | 'EFAULT'): bigint => {
    u8.fill(0, start, start + length);
    return fail(name);
  };
  const known = BPF_F_SKIP_FIELD_MASK | BPF_F_USER_STACK | BPF_F_USER_BUILD_ID;
  const byBuildId = (wanted & BPF_F_USER_BUILD_ID) !== 0n;
  if ((wanted & ~known) !== 0n || (byBuildId && (wanted & BPF_F_USER_STACK) === 0n)) return refuse('EINVAL');
  const elementSize = byBuildId ? BUILD_ID_SIZE : 8;
  if (length % elementSize !== 0) return refuse('EINVAL');
  const frames = framesOf(c, wanted).slice(0, length / elementSize);
  if (frames.length === 0) return refuse('EFAULT');
  u8.fill(0, start, start + length);
  for (const [n, frame] of frames.entries()) {
    // struct bpf_stack_build_id: BPF_STACK_BUILD_ID_IP, and the address.
    if (byBuildId) data.setInt32(start + n * BUILD_ID_SIZE, 2, true);
    data.setBigUint64(start + n * elementSize + (byBuildId ? 24 : 0), u64(frame), true);
  }
  return BigInt(frames.length * elementSize);
}

export const PERF_HELPERS: Readonly<Record<string, HelperImpl>> = {
  perf_event_read: readCounter,
  perf_event_read_value(c, map: number, flags: bigint, buffer: number, size: number) {
    view(c).u8.fill(0, buffer >>> 0, (buffer >>> 0) + (size >>> 0));
    return size === EVENT_VALUE_SIZE ? readCounter(c, map, flags) : fail('EINVAL');
  },
  get_stackid(c, _ctx: number, map: number, flags: bigint) {
    const wanted = u64(flags);
    const known = BPF_F_SKIP_FIELD_MASK | BPF_F_USER_STACK | BPF_F_FAST_STACK_CMP | BPF_F_REUSE_STACKID;
    if ((wanted & ~known) !== 0n) return fail('EINVAL');
    const frames = framesOf(c, wanted);
    const stacks = mapOf(c, map);
    if (frames.length === 0 || !(stacks instanceof StackTraceMap)) return BigInt(-ERRNO.EFAULT);
    return BigInt(stacks.store64(BigUint64Array.from(frames.map(u64)), u32(wanted)));
  },
  get_stack: (c, _ctx: number, buffer: number, size: number, flags: bigint) =>
    getStack(c, buffer, size, flags),
  get_task_stack: (c, _task: number, buffer: number, size: number, flags: bigint) =>
    getStack(c, buffer, size, flags),
  /** No last branch records. */
  get_branch_snapshot: (_c, _buffer: number, _size: number, flags: bigint) =>
    flags === 0n ? fail('ENOENT') : fail('EINVAL'),
  read_branch_records: (_c, _ctx: number, _buffer: number, _size: number, flags: bigint) =>
    (u64(flags) & ~1n) === 0n ? fail('ENOENT') : fail('EINVAL'),
};
