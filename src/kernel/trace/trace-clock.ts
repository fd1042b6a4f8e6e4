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
