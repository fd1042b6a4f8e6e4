import { TRACE_FN } from '../builtin-events.ts';
import { recordStack } from '../stack-trace.ts';
import type { FunctionCall } from '../trace-arch.ts';
import type { TraceArray } from '../trace-array.ts';
import { recordToBuffer } from '../trace-commit.ts';
import { dataView, writeEntry } from '../trace-entry.ts';
import type { Tracer } from '../tracer.ts';
import { FunctionUse } from './function-use.ts';

const RECORD_SIZE = 24;
/** Frames of the stacks that are asked for. */
export const STACK_DEPTH = 64;
const STACK = 'func_stack_trace';

interface Running {
  readonly use: FunctionUse;
  readonly callers: number;
  /** Whether callers are asked for may have changed with `set_ftrace_filter`. */
  readonly watch: () => void;
}

/**
 * `function`: a record for each call (kernel/trace/trace_functions.c). Who called has to be looked for on the stack, at many times the
 * cost of the call's record: it is asked for where `set_ftrace_filter` names functions and print-parent shows it, else the record's
 * parent is 0.
 */
export function functionTracer(): Tracer {
  const running = new Map<TraceArray, Running>();
  const wanted = (tr: TraceArray): number => {
    if (tr.tracerOption(tracer, STACK)) return STACK_DEPTH;
    return tr.options.has('print-parent') && !tr.functions.filter.empty ? 1 : 0;
  };
  const stop = (tr: TraceArray): void => {
    const old = running.get(tr);
    if (old === undefined) return;
    running.delete(tr);
    tr.functions.filter.watchers.delete(old.watch);
    old.use.stop();
  };
  const start = (tr: TraceArray): void => {
    stop(tr);
    const callers = wanted(tr);
    const stacks = tr.tracerOption(tracer, STACK);
    const use = new FunctionUse(tr, { callers, hit: (call) => record(tr, call, stacks) });
    const watch = (): void => startAnew(tr);
    tr.functions.filter.watchers.add(watch);
    running.set(tr, { use, callers, watch });
  };
  const startAnew = (tr: TraceArray): void => {
    const now = running.get(tr);
    if (now !== undefined && now.callers !== wanted(tr)) start(tr);
  };
  const tracer: Tracer = {
    name: 'function',
    allowInstances: true,
    options: { [STACK]: false },
    init: start,
    reset: stop,
    optionChanged: startAnew,
    flagChanged: startAnew,
  };
  return tracer;
}

/** The record that is being made: the buffer takes a copy. */
const data = new Uint8Array(RECORD_SIZE);
const view = dataView(data);

function record(tr: TraceArray, call: FunctionCall, stacks: boolean): void {
  const { address, cpu, ts, pid, callers = [] } = call;
  writeEntry(data, TRACE_FN, pid);
  view.setBigUint64(8, address, true);
  view.setBigUint64(16, callers[0] ?? 0n, true);
  const entry = { cpu, ts, data };
  if (recordToBuffer(tr, entry) && stacks) recordStack(tr, entry, [address, ...callers]);
}
