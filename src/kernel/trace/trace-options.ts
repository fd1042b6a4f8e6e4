/** The options of an instance (TRACE_FLAGS, kernel/trace/trace.h), in the order of their bits. */
export const TRACE_OPTIONS = [
  'print-parent',
  'sym-offset',
  'sym-addr',
  'verbose',
  'raw',
  'hex',
  'bin',
  'block',
  'fields',
  'trace_printk',
  'annotate',
  'userstacktrace',
  'sym-userobj',
  'printk-msg-only',
  'context-info',
  'latency-format',
  'record-cmd',
  'record-tgid',
  'overwrite',
  'disable_on_free',
  'irq-info',
  'markers',
  'event-fork',
  'trace_printk_dest',
  'pause-on-trace',
  'hash-ptr',
  'function-trace',
  'function-fork',
  'display-graph',
  'stacktrace',
] as const;

export type TraceOption = (typeof TRACE_OPTIONS)[number];

const DEFAULT_ON: ReadonlySet<TraceOption> = new Set<TraceOption>([
  'print-parent',
  'trace_printk',
  'annotate',
  'context-info',
  'record-cmd',
  'overwrite',
  'irq-info',
  'markers',
  'trace_printk_dest',
  'hash-ptr',
  'function-trace',
]);

/** Options that an instance does not take over (ZEROED_TRACE_FLAGS). */
const ZEROED: ReadonlySet<TraceOption> = new Set<TraceOption>([
  'event-fork',
  'function-fork',
  'trace_printk_dest',
]);

/** Options that only the global trace has files for (TOP_LEVEL_TRACE_FLAGS). */
export const TOP_LEVEL_OPTIONS: ReadonlySet<TraceOption> = new Set<TraceOption>([
  'trace_printk',
  'printk-msg-only',
  'record-cmd',
]);

export function defaultOptions(): Set<TraceOption> {
  return new Set(DEFAULT_ON);
}

/** What a new instance begins with. */
export function inheritedOptions(global: ReadonlySet<TraceOption>): Set<TraceOption> {
  return new Set([...global].filter((option) => !ZEROED.has(option)));
}

export function isTraceOption(name: string): name is TraceOption {
  return (TRACE_OPTIONS as readonly string[]).includes(name);
}
