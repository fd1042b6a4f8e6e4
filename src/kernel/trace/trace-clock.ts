import type { TraceArray } from './trace-array.ts';

/** The clocks of `trace_clock` (trace_clocks, kernel/trace/trace.c), and whether they count nanoseconds. */
export const TRACE_CLOCKS: readonly { readonly name: string; readonly inNs: boolean }[] = [
  { name: 'local', inNs: true },
  { name: 'global', inNs: true },
  { name: 'counter', inNs: false },
  { name: 'uptime', inNs: false },
  { name: 'perf', inNs: true },
  { name: 'mono', inNs: true },
  { name: 'mono_raw', inNs: true },
  { name: 'boot', inNs: true },
  { name: 'tai', inNs: true },
  { name: 'x86-tsc', inNs: false },
];

export function clockInNs(name: string): boolean {
  return TRACE_CLOCKS.find((clock) => clock.name === name)?.inNs ?? true;
}

/** trace_print_time() */
export function timeText(tr: Pick<TraceArray, 'clockInNs'>, ts: bigint): string {
  if (!tr.clockInNs) return ` ${String(ts).padStart(12)}`;
  const micros = (ts + 500n) / 1000n;
  return ` ${String(micros / 1_000_000n).padStart(5)}.${String(micros % 1_000_000n).padStart(6, '0')}`;
}
