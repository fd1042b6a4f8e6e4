import { TRACE_FN } from '../builtin-events.ts';
import { allocSnapshot, freeSnapshot, takeSnapshot } from '../snapshot.ts';
import type { FunctionCall } from '../trace-arch.ts';
import type { TraceArray } from '../trace-array.ts';
import { dataView, writeEntry } from '../trace-entry.ts';
import type { TraceOption } from '../trace-options.ts';
import { recordToBuffer } from '../trace-record.ts';
import type { Tracer } from '../tracer.ts';
import { CallStack } from './call-stack.ts';
import { FunctionUse } from './function-use.ts';

const RECORD_SIZE = 24;
/** Options that it needs, and puts back. */
const NEEDED: readonly TraceOption[] = ['overwrite', 'latency-format'];

/** What one instance's event loop does. */
class StallTrace {
  readonly #tr: TraceArray;
  readonly #stacks = new Map<number, CallStack<undefined>>();
  readonly #use: FunctionUse;
  readonly #before: ReadonlyMap<TraceOption, boolean>;
  readonly #hadSnapshot: boolean;

  constructor(tr: TraceArray) {
    this.#tr = tr;
    this.#hadSnapshot = tr.snapshotBuffer !== undefined;
    allocSnapshot(tr);
    this.#before = new Map(NEEDED.map((option) => [option, tr.options.has(option)]));
    for (const option of NEEDED) tr.setOption(option, true);
    tr.maxLatency = 0n;
    tr.longest = undefined;
    // Callers are those among the traced functions: to look for them on the stack would make stalls longer.
    this.#use = new FunctionUse(tr, { returns: true, hit: (call) => this.#hit(call) });
  }

  stop(): void {
    this.#use.stop();
    for (const [option, on] of this.#before) this.#tr.setOption(option, on);
    this.#tr.longest = undefined;
    if (!this.#hadSnapshot) freeSnapshot(this.#tr);
  }

  #hit(call: FunctionCall): void {
    let stack = this.#stacks.get(call.cpu);
    if (stack === undefined) {
      stack = new CallStack();
      this.#stacks.set(call.cpu, stack);
    }
    if (call.what === 'entry') {
      // What was before has kept the loop no longer than another time.
      if (stack.depth === 0) this.#tr.buffer.reset(call.cpu);
      this.#record(call, stack.top ?? 0n);
      stack.begin(call, undefined);
      return;
    }
    const ended = stack.end(call);
    if (ended?.depth === 0) this.#ended(call, ended.frame.calltime);
  }

  /** check_critical_timing(): the loop gets its thread back. */
  #ended(call: FunctionCall, began: bigint): void {
    const tr = this.#tr;
    const { tracingThresh } = tr.tracing;
    const took = call.ts - began;
    if (tracingThresh > 0n ? took < tracingThresh : took <= tr.maxLatency) return;
    if (!tr.tracingOn) return;
    this.#record(call, 0n);
    tr.maxLatency = took;
    tr.longest = { pid: call.pid, start: call.address, end: call.address };
    takeSnapshot(tr);
    tr.snapshotTimeStart = tr.timeAt(began);
  }

  #record({ address, cpu, ts, pid }: FunctionCall, parent: bigint): void {
    const data = new Uint8Array(RECORD_SIZE);
    writeEntry(data, TRACE_FN, pid);
    const view = dataView(data);
    view.setBigUint64(8, address, true);
    view.setBigUint64(16, parent, true);
    recordToBuffer(this.#tr, { cpu, ts, data });
  }
}

/**
 * `loopstall`: the longest time that one callback has kept the event loop, with the calls that were made in it. It is to the event loop
 * what `irqsoff` is to interrupts (kernel/trace/trace_irqsoff.c): `tracing_max_latency` tells the time, `trace` shows that
 * callback alone, and with `tracing_thresh` the latest one that took so long. A callback is a call that none of the traced functions
 * has made.
 */
export function loopstallTracer(): Tracer {
  const traces = new Map<TraceArray, StallTrace>();
  return {
    name: 'loopstall',
    usesSnapshot: true,
    init(tr) {
      traces.set(tr, new StallTrace(tr));
    },
    reset(tr) {
      traces.get(tr)?.stop();
      traces.delete(tr);
    },
  };
}
