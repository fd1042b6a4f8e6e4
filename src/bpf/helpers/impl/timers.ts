/** Timers and workqueues in map values (kernel/bpf/helpers.c): the field holds a number, which finds what the machine keeps. */

import { ERRNO } from '../../errors.ts';
import { HASH_ELEM } from '../../maps/map-layout.ts';
import type { RecordFieldKind } from '../../maps/map-spec.ts';
import type { BpfMap } from '../../maps/map-types.ts';
import { type Callback, fail, type HelperContext, type HelperImpl, mapOf, u64, view } from './context.ts';
import type { HelperRuntime } from './runtime.ts';

const BPF_F_TIMER_ABS = 1n;
const BPF_F_TIMER_CPU_PIN = 2n;
/** CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_BOOTTIME */
const CLOCKS: readonly bigint[] = [0n, 1n, 7n];
const CLOCK_REALTIME = 0n;

interface Timer {
  readonly map: BpfMap;
  readonly value: number;
  readonly clock: bigint;
  callback: { readonly fn: number; readonly call: Callback } | undefined;
}

const all = new WeakMap<HelperRuntime, Map<number, Timer>>();

function timersOf(runtime: HelperRuntime): Map<number, Timer> {
  let timers = all.get(runtime);
  if (timers === undefined) {
    timers = new Map();
    all.set(runtime, timers);
  }
  return timers;
}

/** The address of the field is its number: it is 0 while there is no timer. */
function timerAt(c: HelperContext, field: number): Timer | undefined {
  const at = field >>> 0;
  return view(c).data.getUint32(at, true) === 0 ? undefined : timersOf(c.runtime).get(at);
}

/** BPF_MAP_FREE, or a value that goes away (bpf_timer_cancel_and_free). */
export function freeTimer(runtime: HelperRuntime, memory: HelperContext['memory'], field: number): void {
  const timer = timersOf(runtime).get(field);
  if (timer === undefined) return;
  runtime.timers.cancel(timer);
  timersOf(runtime).delete(field);
  new DataView(memory.buffer).setUint32(field, 0, true);
}

function init(
  c: HelperContext,
  field: number,
  address: number,
  clock: bigint,
  kind: RecordFieldKind,
): bigint {
  const map = mapOf(c, address);
  const at = field >>> 0;
  if (view(c).data.getUint32(at, true) !== 0) return fail('EBUSY');
  const offset = map.spec.record?.fields.find((one) => one.kind === kind)?.offset ?? 0;
  timersOf(c.runtime).set(at, { map, value: at - offset, clock, callback: undefined });
  view(c).data.setUint32(at, 1, true);
  return 0n;
}

function setCallback(c: HelperContext, field: number, fn: number): bigint {
  const timer = timerAt(c, field);
  if (timer === undefined) return fail('EINVAL');
  timer.callback = { fn, call: c.later() };
  return 0n;
}

/** The key of a value: of hashes before it, of arrays its index, for which there is room in `scratch`. */
function keyOf(c: HelperContext, { map, value }: Timer, scratch: number): number {
  const { geometry } = map.placed;
  if (map.spec.type.includes('array')) {
    const index = (value - map.address - geometry.data) / geometry.stride;
    view(c).data.setUint32(scratch, index, true);
    return scratch;
  }
  return value - geometry.value + HASH_ELEM.key;
}

function start(c: HelperContext, field: number, delay: bigint, absolute: boolean): bigint {
  const timer = timerAt(c, field);
  const callback = timer?.callback;
  if (timer === undefined || callback === undefined) return fail('EINVAL');
  const { timers } = c.runtime;
  const ns = u64(delay);
  const offset = timer.clock === CLOCK_REALTIME ? c.runtime.real() - timers.now : 0n;
  timers.schedule(timer, absolute ? ns - offset : timers.now + ns, () => {
    const scratch = c.heap.alloc(16);
    if (scratch === 0) return;
    try {
      callback.call(callback.fn, timer.map.address, keyOf(c, timer, scratch), timer.value);
    } finally {
      c.heap.free(scratch, 16);
    }
  });
  return 0n;
}

export const TIMER_HELPERS: Readonly<Record<string, HelperImpl>> = {
  timer_init: (c, field: number, map: number, flags: bigint) =>
    CLOCKS.includes(u64(flags)) ? init(c, field, map, u64(flags), 'timer') : fail('EINVAL'),
  timer_set_callback: setCallback,
  timer_start(c, field: number, delay: bigint, flags: bigint) {
    if ((u64(flags) & ~(BPF_F_TIMER_ABS | BPF_F_TIMER_CPU_PIN)) !== 0n) return fail('EINVAL');
    return start(c, field, delay, (flags & BPF_F_TIMER_ABS) !== 0n);
  },
  /** 1 where it waited; -EDEADLK from its own callback. */
  timer_cancel(c, field: number) {
    const timer = timerAt(c, field);
    if (timer === undefined) return fail('EINVAL');
    const { timers } = c.runtime;
    if (timers.running === timer) return fail('EDEADLK');
    const waited = timers.cancel(timer);
    timer.callback = undefined;
    return waited ? 1n : 0n;
  },
};

export const WORKQUEUE_KFUNCS: Readonly<Record<string, HelperImpl>> = {
  bpf_wq_init: (c, field: number, map: number, flags: bigint) =>
    flags === 0n ? Number(init(c, field, map, 1n, 'wq')) : -ERRNO.EINVAL,
  bpf_wq_set_callback_impl: (c, field: number, fn: number, flags: bigint) =>
    flags === 0n ? Number(setCallback(c, field, fn)) : -ERRNO.EINVAL,
  bpf_wq_start: (c, field: number, flags: bigint) =>
    flags === 0n ? Number(start(c, field, 0n, false)) : -ERRNO.EINVAL,
};
