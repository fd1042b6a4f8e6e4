/** Clocks, random numbers and processors (kernel/bpf/helpers.c). */
import type { HelperImpl } from './context.ts';

/** Jiffies of a kernel with CONFIG_HZ=1000, from INITIAL_JIFFIES on. */
const NS_PER_JIFFY = 1_000_000n;
const INITIAL_JIFFIES = 0xfffb_6c20n;
/** A coarse clock is one of whole ticks. */
const TICK = 1_000_000n;
/** CLOCK_TAI - CLOCK_REALTIME. */
const TAI_OFFSET = 37_000_000_000n;

export const CLOCK_HELPERS: Readonly<Record<string, HelperImpl>> = {
  ktime_get_coarse_ns: ({ runtime }) => (runtime.monotonic() / TICK) * TICK,
  ktime_get_tai_ns: ({ runtime }) => runtime.real() + TAI_OFFSET,
  jiffies64: ({ runtime }) => runtime.monotonic() / NS_PER_JIFFY + INITIAL_JIFFIES,
  get_numa_node_id: () => 0n,
};
