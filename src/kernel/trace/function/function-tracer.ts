import { TRACE_FN, TRACE_FUNC_REPEATS } from '../builtin-events.ts';
import { recordStack } from '../stack-trace.ts';
import type { FunctionCall } from '../trace-arch.ts';
import type { TraceArray } from '../trace-array.ts';
import { dataView, writeEntry } from '../trace-entry.ts';
import { recordToBuffer } from '../trace-record.ts';
import type { Tracer } from '../tracer.ts';
import { FunctionUse } from './function-use.ts';

const RECORD_SIZE = 24;
/** Frames of the stacks that are asked for. */
export const STACK_DEPTH = 64;
const STACK = 'func_stack_trace';
const NO_REPEATS = 'func-no-repeats';
const REPEATS_SIZE = 32;
const U16_MAX = 0xffff;

interface Running {
  readonly use: FunctionUse;
  readonly callers: number;
  /** Whether callers are asked for may have changed with `set_ftrace_filter`. */
  readonly watch: () => void;
  /** With func-no-repeats. */
  repeats: Repeats | undefined;
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
  // What was counted outlasts the tracer, as in the kernel (last_func_repeats).
  const counted = new WeakMap<TraceArray, Repeats>();
  const repeatsOf = (tr: TraceArray): Repeats | undefined => {
    if (!tr.tracerOption(tracer, NO_REPEATS)) return undefined;
    const repeats = counted.get(tr) ?? new Repeats(tr);
    counted.set(tr, repeats);
    return repeats;
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
    const hit = (call: FunctionCall): void => {
      if (running.get(tr)?.repeats?.isRepeat(call) !== true) record(tr, call, stacks);
    };
    const use = new FunctionUse(tr, { callers, hit });
    const watch = (): void => startAnew(tr);
    tr.functions.filter.watchers.add(watch);
    running.set(tr, { use, callers, watch, repeats: repeatsOf(tr) });
  };
  const startAnew = (tr: TraceArray): void => {
    const now = running.get(tr);
    if (now !== undefined && now.callers !== wanted(tr)) start(tr);
  };
  const tracer: Tracer = {
    name: 'function',
    allowInstances: true,
    options: { [STACK]: false, [NO_REPEATS]: false },
    init: start,
    reset: stop,
    optionChanged(tr) {
      startAnew(tr);
      const now = running.get(tr);
      if (now !== undefined) now.repeats = repeatsOf(tr);
    },
    flagChanged: startAnew,
  };
  return tracer;
}

/** struct trace_func_repeats */
interface Last {
  address: bigint;
  parent: bigint;
  count: number;
  ts: bigint;
}

/** Calls that are like the one before are counted, and told in front of the next other one (func-no-repeats). */
class Repeats {
  readonly #tr: TraceArray;
  readonly #last = new Map<number, Last>();
  readonly #data = new Uint8Array(REPEATS_SIZE);
  readonly #view = dataView(this.#data);

  constructor(tr: TraceArray) {
    this.#tr = tr;
  }

  /** is_repeat_check(), process_repeats() */
  isRepeat({ address, cpu, ts, pid, callers = [] }: FunctionCall): boolean {
    const parent = callers[0] ?? 0n;
    const last = this.#last.get(cpu);
    if (last === undefined) {
      this.#last.set(cpu, { address, parent, count: 0, ts });
      return false;
    }
    if (last.address === address && last.parent === parent && last.count < U16_MAX) {
      last.count++;
      last.ts = ts;
      return true;
    }
    if (last.count > 0) this.#tell(last, cpu, ts, pid);
    last.address = address;
    last.parent = parent;
    last.count = 0;
    return false;
  }

  /** trace_last_func_repeats() */
  #tell({ address, parent, count, ts: last }: Last, cpu: number, ts: bigint, pid: number): void {
    const since = ts - last;
    writeEntry(this.#data, TRACE_FUNC_REPEATS, pid);
    this.#view.setBigUint64(8, address, true);
    this.#view.setBigUint64(16, parent, true);
    this.#view.setUint16(24, count, true);
    this.#view.setUint16(26, Number(BigInt.asUintN(16, since >> 32n)), true);
    this.#view.setUint32(28, Number(BigInt.asUintN(32, since)), true);
    recordToBuffer(this.#tr, { cpu, ts, data: this.#data });
  }
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
