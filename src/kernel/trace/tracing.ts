import { aFunction, anInteger, aRecord, checkArgument, having, optional } from '../../arguments.ts';
import { KernelError } from '../errno.ts';
import { builtinEvents } from './builtin-events.ts';
import { EventRegistry } from './event-registry.ts';
import { functionTracer } from './function/function-tracer.ts';
import { graphTracer } from './function/graph-tracer.ts';
import { loopstallTracer } from './function/loopstall-tracer.ts';
import { followFork, forgetTask, type PidLists } from './pid-file.ts';
import { SavedCmdlines } from './saved-cmdlines.ts';
import type { TraceArch } from './trace-arch.ts';
import { TraceArray } from './trace-array.ts';
import type { TraceBuffer } from './trace-buffer.ts';
import { TRACE_CLOCKS } from './trace-clock.ts';
import { type Counted, commitEvent } from './trace-commit.ts';
import type { TraceRecord } from './trace-entry.ts';
import type { TraceEventCall } from './trace-event.ts';
import { EVENT_FILE_FL_WAS_ENABLED } from './trace-event-file.ts';
import { NOP_TRACER, type Tracer } from './tracer.ts';

const TRACING_OPTIONS = aRecord<TracingOptions>(
  {
    arch: having('a TraceArch', 'ncpu', 'now', 'current'),
    createBuffer: aFunction,
    bufferSizeKb: optional(anInteger(1)),
  },
  'options with arch and createBuffer',
);

/** TRACE_BUF_SIZE_DEFAULT */
const TRACE_BUF_SIZE_KB = 1408;

export interface TracingOptions {
  readonly arch: TraceArch;
  /** Makes a buffer for an instance (`ring-buffer/`): KiB a CPU, and the clock that `stats` shows. */
  readonly createBuffer: (ncpu: number, sizeKb: number, now: () => bigint) => TraceBuffer;
  /** KiB a CPU that buffers begin with; 1408 as on Linux. */
  readonly bufferSizeKb?: number;
}

/** The tracing system of one traced system: events, instances, buffers (what kernel/trace keeps in global variables). */
export class Tracing {
  readonly arch: TraceArch;
  readonly events = new EventRegistry();
  readonly globalTrace: TraceArray;
  readonly instances = new Map<string, TraceArray>();
  /** Called behind every record that went into a buffer: saved_cmdlines, readers that wait. */
  recordCommit: ((tr: TraceArray, record: TraceRecord) => void) | undefined;
  readonly savedCmdlines = new SavedCmdlines();
  /** What `current_tracer` may name, the latest first. */
  readonly tracers: Tracer[] = [NOP_TRACER];
  /** Nanoseconds: the file `tracing_thresh`. */
  tracingThresh = 0n;
  /** Formats of trace_printk(), by the addresses that their records name. */
  readonly printkFormats = new Map<bigint, string>();
  readonly printkAddresses = new Map<string, bigint>();
  /** The instance that trace_printk() writes to. */
  printkTrace: TraceArray;
  readonly #options: TracingOptions;
  #counter = 0n;

  constructor(options: TracingOptions) {
    checkArgument('new Tracing()', 'options', options, TRACING_OPTIONS);
    this.arch = options.arch;
    this.#options = options;
    this.globalTrace = new TraceArray(
      this,
      '',
      this.createBuffer(() => this.globalTrace),
    );
    this.printkTrace = this.globalTrace;
    if (this.arch.traceFunctions !== undefined)
      this.tracers.unshift(loopstallTracer(), graphTracer(), functionTracer());
    for (const call of builtinEvents(this.arch.traceFunctions !== undefined)) this.addEvent(call);
  }

  /** The names of the clocks that the system has. */
  get clocks(): readonly string[] {
    return TRACE_CLOCKS.map(({ name }) => name).filter((name) => this.hasClock(name));
  }

  hasClock(name: string): boolean {
    if (name === 'counter') return true;
    return TRACE_CLOCKS.some((clock) => clock.name === name) && this.arch.now(name) !== undefined;
  }

  /** trace_clock_counter(): every look at it is another time, in whatever instance. */
  count(): bigint {
    return ++this.#counter;
  }

  /** A buffer for an instance that may not be there yet. */
  createBuffer(tr: () => TraceArray, sizeKb = this.#options.bufferSizeKb ?? TRACE_BUF_SIZE_KB): TraceBuffer {
    return this.#options.createBuffer(this.arch.ncpu, sizeKb, () => tr().now());
  }

  /** register_tracer() */
  registerTracer(tracer: Tracer): void {
    this.tracers.unshift(tracer);
  }

  /** update_printk_trace(): one instance has it; the global trace cannot give it away. */
  setPrintkDestination(tr: TraceArray, on: boolean): void {
    if (!on && this.printkTrace === this.globalTrace)
      throw new KernelError('EINVAL', 'the global trace cannot give up trace_printk');
    const next = on ? tr : this.globalTrace;
    this.printkTrace.options.delete('trace_printk_dest');
    next.options.add('trace_printk_dest');
    this.printkTrace = next;
  }

  /** trace_add_event_call(): the event and its file in every instance. */
  addEvent(call: TraceEventCall): void {
    this.events.add(call);
    for (const tr of this.arrays()) tr.addEvent(call);
  }

  /** trace_remove_event_call(): EBUSY while it is in use. Buffers that saw it are emptied, as in the kernel. */
  removeEvent(call: TraceEventCall): void {
    if (call.users > 0) throw new KernelError('EBUSY', `the event ${call.system}:${call.name} is in use`);
    for (const tr of this.arrays()) {
      const file = tr.file(call.system, call.name);
      if (file === undefined) continue;
      const seen = (file.flags & EVENT_FILE_FL_WAS_ENABLED) !== 0;
      tr.removeEvent(call);
      if (seen) tr.buffer.reset();
    }
    this.events.remove(call);
  }

  /** An event has happened; `counted`: triggers that have seen it already. */
  commit(call: TraceEventCall, record: TraceRecord, counted?: Counted): void {
    commitEvent(call, record, counted);
  }

  /** A task has started another: lists of pids follow it where `event-fork` and `function-fork` say so. */
  taskForked(parent: number, child: number): void {
    for (const lists of this.#following()) followFork(lists, parent, child);
  }

  /** A task has ended. */
  taskExited(pid: number): void {
    for (const lists of this.#following()) forgetTask(lists, pid);
  }

  *#following(): IterableIterator<PidLists> {
    for (const tr of this.arrays()) {
      if (tr.options.has('event-fork')) yield tr;
      if (tr.options.has('function-fork')) yield tr.functions;
    }
  }

  *arrays(): IterableIterator<TraceArray> {
    yield this.globalTrace;
    yield* this.instances.values();
  }

  /** `mkdir instances/NAME`: EEXIST. */
  createInstance(name: string): TraceArray {
    if (this.instances.has(name)) throw new KernelError('EEXIST', `the instance ${name} exists`);
    const tr: TraceArray = new TraceArray(
      this,
      name,
      this.createBuffer(() => tr),
    );
    for (const call of this.events) tr.addEvent(call);
    this.instances.set(name, tr);
    return tr;
  }

  /** `rmdir instances/NAME`: ENODEV, EBUSY. */
  removeInstance(name: string): void {
    const tr = this.instances.get(name);
    if (tr === undefined) throw new KernelError('ENODEV', `there is no instance ${name}`);
    if (tr.references > 0) throw new KernelError('EBUSY', `the instance ${name} is in use`);
    for (const file of [...tr.files]) tr.removeEvent(file.call);
    tr.tracer.reset?.(tr);
    tr.functions.commands.clear();
    if (this.printkTrace === tr) this.setPrintkDestination(tr, false);
    this.instances.delete(name);
  }
}
