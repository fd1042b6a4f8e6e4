import { KernelError } from '../errno.ts';
import { ErrorLog } from './error-log.ts';
import { FunctionFilters } from './function/function-filter.ts';
import type { TraceBuffer } from './trace-buffer.ts';
import { clockInNs } from './trace-clock.ts';
import type { TraceEventCall } from './trace-event.ts';
import { TraceEventFile } from './trace-event-file.ts';
import { defaultOptions, inheritedOptions, isTraceOption, type TraceOption } from './trace-options.ts';
import { NOP_TRACER, type Tracer } from './tracer.ts';
import type { Tracing } from './tracing.ts';
import { clearEventTriggers } from './trigger/trigger-command.ts';

/** An instance (`struct trace_array`): a buffer, its options, and a file for each event. The first one is the global trace. */
export class TraceArray {
  readonly tracing: Tracing;
  /** Empty for the global trace. */
  readonly name: string;
  readonly buffer: TraceBuffer;
  readonly errorLog = new ErrorLog();
  /** In the order in which they were added; files list them the other way round. */
  readonly files: TraceEventFile[] = [];
  /** What is on, of TRACE_OPTIONS. Change it with setOption(). */
  readonly options: Set<TraceOption>;
  clock = 'local';
  tracer: Tracer = NOP_TRACER;
  #cpumask = 0n;
  /** The same, a byte for each CPU. */
  readonly #traced: Uint8Array;
  /** Open files that keep the instance (rmdir refuses with EBUSY while there are any). */
  references = 0;
  /** `set_event_pid` and `set_event_notrace_pid`; undefined when every task is traced. */
  get pids(): ReadonlySet<number> | undefined {
    return this.#pids;
  }

  set pids(pids: ReadonlySet<number> | undefined) {
    this.#pids = pids;
    for (const { call } of this.files) call.consumersChanged();
  }

  get notracePids(): ReadonlySet<number> | undefined {
    return this.#notracePids;
  }

  set notracePids(pids: ReadonlySet<number> | undefined) {
    this.#notracePids = pids;
    for (const { call } of this.files) call.consumersChanged();
  }

  #pids: ReadonlySet<number> | undefined;
  #notracePids: ReadonlySet<number> | undefined;
  /** The snapshot's buffer; undefined while it is freed. */
  snapshotBuffer: TraceBuffer | undefined;
  /** How many snapshots were taken: a record whose trigger takes one belongs into it. */
  snapshots = 0;
  /** `buffer_percent`: how full a buffer has to be before a waiting reader wakes. */
  bufferPercent = 50;
  /** Nanoseconds: `tracing_thresh` and `tracing_max_latency`. */
  maxLatency = 0n;
  /** Whose the longest latency was, and where it began and ended, of a latency tracer. */
  longest: { readonly pid: number; readonly start: bigint; readonly end: bigint } | undefined;
  /** Readers of trace_pipe that wait, called once when there is something new. */
  readonly waiters = new Set<() => void>();
  /** The same of readers of `hist`: called once when a hist has counted. */
  readonly histWaiters = new Set<() => void>();
  /** What function tracers look at. */
  readonly functions: FunctionFilters;
  /** CPUs whose trace_pipe is open. */
  readonly pipeCpus = new Set<number>();
  /** When `trace` was last emptied (array_buffer.time_start): the latency format counts from there. */
  timeStart = 0n;
  /** The same of the snapshot: where the longest latency began (max_buffer.time_start). */
  snapshotTimeStart = 0n;
  /** The buffer has come back from the snapshot since `trace` was emptied: it may hold what is older than that. */
  mayHoldOlder = false;
  readonly #byName = new Map<string, TraceEventFile>();
  readonly #systems = new Map<string, number>();
  readonly #tracerOptions = new Map<string, boolean>();

  constructor(tracing: Tracing, name: string, buffer: TraceBuffer) {
    this.tracing = tracing;
    this.name = name;
    this.buffer = buffer;
    this.functions = new FunctionFilters(this);
    this.#traced = new Uint8Array(buffer.ncpu);
    this.cpumask = (1n << BigInt(buffer.ncpu)) - 1n;
    this.options = name === '' ? defaultOptions() : inheritedOptions(tracing.globalTrace.options);
  }

  /** The `tracing_on` file: whether anything is recorded. */
  get tracingOn(): boolean {
    return this.buffer.recording;
  }

  set tracingOn(on: boolean) {
    this.buffer.recording = on;
  }

  /** Bit mask of CPUs that record. */
  get cpumask(): bigint {
    return this.#cpumask;
  }

  set cpumask(mask: bigint) {
    this.#cpumask = mask;
    for (let cpu = 0; cpu < this.#traced.length; cpu++)
      this.#traced[cpu] = Number((mask >> BigInt(cpu)) & 1n);
  }

  traces(cpu: number): boolean {
    return this.#traced[cpu] === 1;
  }

  /** tracing_stop_tr(), tracing_start_tr(): as often started as stopped. What `tracing_on` shows stays. */
  stop(): void {
    this.#stops++;
    this.#applyStops();
  }

  start(): void {
    if (this.#stops > 0) this.#stops--;
    this.#applyStops();
  }

  #stops = 0;

  #applyStops(): void {
    for (const buffer of [this.buffer, this.snapshotBuffer])
      if (buffer !== undefined) buffer.recordDisabled = this.#stops;
  }

  get currentTracer(): string {
    return this.tracer.name;
  }

  addEvent(call: TraceEventCall): TraceEventFile {
    const file = new TraceEventFile(call, this);
    this.files.push(file);
    this.#byName.set(`${call.system}:${call.name}`, file);
    this.#systems.set(call.system, (this.#systems.get(call.system) ?? 0) + 1);
    call.files.push(file);
    return file;
  }

  removeEvent(call: TraceEventCall): void {
    const at = this.files.findIndex((file) => file.call === call);
    if (at < 0) return;
    const [file] = this.files.splice(at, 1) as [TraceEventFile];
    clearEventTriggers(file);
    file.enable(false);
    this.#byName.delete(`${call.system}:${call.name}`);
    const left = (this.#systems.get(call.system) ?? 1) - 1;
    if (left > 0) this.#systems.set(call.system, left);
    else this.#systems.delete(call.system);
    const among = call.files.indexOf(file);
    if (among >= 0) call.files.splice(among, 1);
  }

  file(system: string, name: string): TraceEventFile | undefined {
    return this.#byName.get(`${system}:${name}`);
  }

  hasSystem(system: string): boolean {
    return this.#systems.has(system);
  }

  /** The time of the instance's clock, as its buffer counts it. */
  now(): bigint {
    if (this.clock === 'counter') return this.tracing.count();
    return this.tracing.arch.now(this.clock) ?? 0n;
  }

  /** The time of the instance's clock at one of the clock `local`. */
  timeAt(ts: bigint): bigint {
    if (this.clock === 'local') return ts;
    return this.tracing.arch.clockAt?.(this.clock, ts) ?? this.now();
  }

  get clockInNs(): boolean {
    return clockInNs(this.clock);
  }

  /** set_tracer_flag() and set_tracer_option(): EINVAL where there is no such option, or it may not be changed. */
  setOption(name: string, on: boolean): void {
    if (!isTraceOption(name)) {
      const options = this.tracer.options ?? {};
      if (!Object.hasOwn(options, name)) throw new KernelError('EINVAL', `there is no option ${name}`);
      this.setTracerOption(this.tracer, name, on);
      return;
    }
    if (this.options.has(name) === on) return;
    if (name === 'trace_printk_dest') this.tracing.setPrintkDestination(this, on);
    if (on) this.options.add(name);
    else this.options.delete(name);
    if (name === 'overwrite') {
      this.buffer.overwrite = on;
      if (this.snapshotBuffer !== undefined) this.snapshotBuffer.overwrite = on;
    }
    if (name === 'stacktrace') for (const { call } of this.files) call.consumersChanged();
    this.tracer.flagChanged?.(this, name);
  }

  tracerOption(tracer: Tracer, name: string): boolean {
    return this.#tracerOptions.get(`${tracer.name}/${name}`) ?? tracer.options?.[name] ?? false;
  }

  setTracerOption(tracer: Tracer, name: string, on: boolean): void {
    tracer.setFlag?.(this, name, on);
    this.#tracerOptions.set(`${tracer.name}/${name}`, on);
    tracer.optionChanged?.(this, name);
  }

  /** tracing_set_tracer(): EINVAL: there is none of this name, or instances may not have it. */
  setTracer(name: string): void {
    const tracer = this.tracing.tracers.find((one) => one.name === name);
    if (tracer === undefined || (this.name !== '' && tracer.allowInstances !== true))
      throw new KernelError('EINVAL', `there is no tracer ${name}`);
    if (tracer === this.tracer) return;
    this.tracer.reset?.(this);
    this.tracer = NOP_TRACER;
    // tracer_init(): what another one recorded is gone.
    this.resetBuffer();
    tracer.init?.(this);
    this.tracer = tracer;
  }

  /** tracing_set_clock(): the buffers are emptied, as times of two clocks cannot be compared. EINVAL. */
  setClock(name: string): void {
    if (!this.tracing.hasClock(name)) {
      const why = this.tracing.arch.clockObstacle?.(name);
      if (why !== undefined)
        this.errorLog.log(this.tracing.arch.now('local') ?? 0n, 'trace_clock', why, name, 0);
      throw new KernelError('EINVAL', `there is no clock ${name}${why === undefined ? '' : `: ${why}`}`);
    }
    this.clock = name;
    this.resetBuffer();
    this.snapshotBuffer?.reset();
  }

  /** tracing_reset_online_cpus(), or of one CPU. */
  resetBuffer(cpu?: number): void {
    this.buffer.reset(cpu);
    this.timeStart = this.now();
    if (cpu === undefined) this.mayHoldOlder = false;
  }

  /** Somebody may be waiting for records. */
  wake(): void {
    if (this.waiters.size > 0) wakeAll(this.waiters);
  }

  /** A hist has counted. */
  wakeHists(): void {
    if (this.histWaiters.size > 0) wakeAll(this.histWaiters);
  }
}

function wakeAll(waiting: Set<() => void>): void {
  const waiters = [...waiting];
  waiting.clear();
  for (const waiter of waiters) waiter();
}
