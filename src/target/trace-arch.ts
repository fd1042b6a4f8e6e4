/**
 * A process as a system that is traced: the TraceArch of the tracing core over a session. Its probes are eBPF programs in the
 * process, one for each probe event, that put what the event fetches into the ring (src/kernel/trace/probe/fetch-program.ts).
 *
 * Files are written and read at once, and a process answers later: armProbe() begins to arm, and settled() tells the end.
 */

import type { MapSpec } from '../bpf/index.ts';
import { TraplineError } from '../errors.ts';
import { KernelError } from '../kernel/errno.ts';
import type { PropertyPath } from '../kernel/trace/js-kfuncs.ts';
import type {
  ArmedProbe,
  FunctionProbe,
  KallsymsSymbol,
  ProbeHit,
  ProbeTracepoint,
  TraceArch,
} from '../kernel/trace/trace-arch.ts';
import { isTracepointName } from '../kernel/tracepoint/event-list.ts';
import type { EventDescription } from '../kernel/tracepoint/runtime-events.ts';
import { FunctionCalls } from './function-calls.ts';
import { COUNTERS_MAP, HitCounts } from './hit-counts.ts';
import type { ArmOptions, TraceSession } from './session.ts';
import { StackSymbols } from './stack-symbols.ts';
import { SystemClocks } from './system-clocks.ts';
import { ProcessTracepoints } from './trace-arch-events.ts';
import { ProbePlaces } from './trace-arch-places.ts';
import { COUNTERS, ProbePrograms, RING } from './trace-arch-programs.ts';
import { HitRecords } from './trace-arch-records.ts';
import { ProcessSymbols } from './trace-arch-symbols.ts';
import { WorkQueue } from './work-queue.ts';

/** The longest string that a record holds, with its NUL. */
const MAX_STRING = 256;
/** Bytes of the process's memory that hists may use; they are touched as they are. */
const RESERVE = 16 << 20;

export interface ProcessArchOptions {
  readonly session: TraceSession;
  readonly comm: string;
  readonly arm: ArmOptions;
  /** Bytes of the ring between the process and the tracer: a power of two, 4 MiB by default. */
  readonly ringBytes?: number;
  /** Bytes of a fetched string, NUL included: a multiple of 8, 256 by default. */
  readonly maxString?: number;
  /** Hits are filtered and counted in the process where that can be; with false all are sent. True by default. */
  readonly inTarget?: boolean;
  /** CPUs that the folder has: records are of the first. 1 by default. */
  readonly cpus?: number;
  /** Functions are listed when loadFunctions() asks for them, not before. */
  readonly lazy?: boolean;
  /** A probe could not be armed. */
  readonly onRefused: (symbol: string, error: TraplineError) => void;
}

export class ProcessTraceArch implements TraceArch {
  readonly ncpu: number;
  readonly #options: ProcessArchOptions;
  readonly #session: TraceSession;
  #symbols: ProcessSymbols;
  readonly #maps: MapSpec[];
  readonly #counts: HitCounts;
  readonly #paths: PropertyPath[] = [{ keys: [], position: 0 }];
  readonly #tracepoints = new ProcessTracepoints((at, hit) => this.armProbe(at, hit));
  readonly #stacks: StackSymbols;
  readonly #calls: FunctionCalls;
  readonly #places: ProbePlaces;
  readonly #queue: WorkQueue;
  readonly #clocks = new SystemClocks();
  readonly #records: HitRecords;
  #lost = 0;

  private constructor(options: ProcessArchOptions, symbols: ProcessSymbols) {
    this.ncpu = options.cpus ?? 1;
    this.#options = options;
    this.#session = options.session;
    this.#symbols = symbols;
    const { session, comm, arm } = options;
    const maxEntries = options.ringBytes ?? 4 << 20;
    const maxString = options.maxString ?? MAX_STRING;
    this.#queue = new WorkQueue(options.onRefused);
    this.#maps = [{ name: 'ring', type: 'ringbuf', keySize: 0, valueSize: 0, maxEntries }, COUNTERS_MAP];
    this.#counts = new HitCounts({ session, maps: this.#maps, counters: COUNTERS, maxString });
    this.#stacks = new StackSymbols({
      stack: (id) => session.stack(id),
      symbols: () => this.#symbols,
      cwd: session.info.cwd,
    });
    this.#calls = this.#functionCalls();
    const programs = new ProbePrograms({
      session,
      maps: this.#maps,
      paths: this.#paths,
      counts: this.#counts,
      maxString,
    });
    this.#places = new ProbePlaces({ session, arm, programs, counts: this.#counts, queue: this.#queue });
    this.#records = new HitRecords({ session, comm, programs, calls: this.#calls, stacks: this.#stacks });
  }

  #functionCalls(): FunctionCalls {
    const { session, arm, onRefused } = this.#options;
    return new FunctionCalls({
      session,
      maps: this.#maps,
      ring: RING,
      paths: this.#paths,
      arm,
      at: (address) => this.#symbols.at(address),
      stacks: this.#stacks,
      queue: (what, change) => this.#queue.add(what, change),
      onRefused: ({ module, name }, why) => onRefused(`${module}:${name}`, new TraplineError('EARM', why)),
    });
  }

  /** Which functions are traced: ftrace_set_filter_ip() and register_ftrace_function() for as many as there are. */
  traceFunctions(...[wants, hit]: Parameters<FunctionCalls['trace']>): FunctionProbe {
    return this.#calls.trace(wants, hit);
  }

  /** Asks for the process's functions, unless that is to wait, and sets up the ring. Errors of TraceSession.functions() and load(). */
  static async open(options: ProcessArchOptions): Promise<ProcessTraceArch> {
    const { session } = options;
    const arch = new ProcessTraceArch(options, new ProcessSymbols([], session.info.cwd));
    if (options.lazy !== true) await arch.loadFunctions();
    await session.load({
      maps: arch.#maps,
      programs: [],
      paths: arch.#paths,
      usesAsyncId: false,
      reserve: RESERVE,
    });
    return arch;
  }

  #loaded: Promise<void> | undefined;

  /** The process's functions are known from then on. Once; errors of TraceSession.functions(), and then it may be tried again. */
  loadFunctions(): Promise<void> {
    this.#loaded ??= (async () => {
      const { maxPauseMs } = this.#options.arm;
      const functions = await this.#session.functions(undefined, { maxPauseMs });
      this.#symbols = new ProcessSymbols(functions, this.#session.info.cwd);
    })().catch((error) => {
      this.#loaded = undefined;
      throw error;
    });
    return this.#loaded;
  }

  now(clock: string): bigint | undefined {
    return this.#clocks.now(clock);
  }

  clockAt(clock: string, ts: bigint): bigint | undefined {
    return this.#clocks.at(clock, ts);
  }

  clockObstacle(clock: string): string | undefined {
    return this.#clocks.obstacle(clock);
  }

  current(): { pid: number; tgid: number; comm: string; cpu: number } {
    const { pid } = this.#session.info;
    return { pid, tgid: pid, comm: this.#options.comm, cpu: 0 };
  }

  lookupSymbol(name: string, module?: string): readonly KallsymsSymbol[] {
    return this.#symbols.find(name, module);
  }

  lookupAddress(address: bigint): KallsymsSymbol | undefined {
    return (
      this.#symbols.around(address) ?? this.#tracepoints.symbolAt(address) ?? this.#stacks.lookup(address)
    );
  }

  hasModule(name: string): boolean {
    return this.#symbols.hasModule(name);
  }

  *functions(): Iterable<KallsymsSymbol> {
    for (const symbol of this.#symbols.all) if (symbol.blacklisted !== true) yield symbol;
  }

  *enabledFunctions(): Iterable<readonly [KallsymsSymbol, number]> {
    yield* this.#places.probed();
    yield* this.#calls.enabled();
  }

  /** Only a function's entry, and its return, can be probed. */
  adjustProbeAddress(symbol: KallsymsSymbol, offset: bigint): { address: bigint; entry: boolean } {
    return { address: symbol.address + offset, entry: offset === 0n };
  }

  armProbe(at: Parameters<TraceArch['armProbe']>[0], hit: ProbeHit): ArmedProbe {
    const symbol = this.#tracepoints.at(at.address) ?? this.#symbols.at(at.address);
    if (symbol === undefined) throw new KernelError('ENOENT', 'no function begins at this address');
    return this.#places.arm(symbol, at, hit, this.#options.inTarget !== false);
  }

  /** An event that probes may sit on, by the address of the answer. */
  addEvent(event: EventDescription): bigint {
    return this.#tracepoints.add(event);
  }

  removeEvent(event: EventDescription): void {
    this.#tracepoints.remove(event);
  }

  lookupTracepoint(name: string): ProbeTracepoint | undefined {
    return this.#tracepoints.find(name);
  }

  isTracepointName(name: string): boolean {
    return isTracepointName(name);
  }

  /** What was counted in the process is in the hists, and in the probes' profiles. */
  sync(): Promise<void> {
    return this.#counts.sync();
  }

  /** Hists, and filters, are at work in the process. */
  get counting(): boolean {
    return this.#counts.used;
  }

  /** The process has gone. */
  close(): void {
    this.#counts.close();
  }

  /** A record of the ring; the view is valid for the call only. */
  onRecord(record: DataView): void {
    this.#records.onRecord(record);
  }

  /** Every record that came is taken. */
  released(): Promise<void> {
    return this.#records.released();
  }

  /** Records that came. */
  get received(): number {
    return this.#records.received;
  }

  onLost(count: number): void {
    this.#lost += count;
  }

  /** Hits that found no room in the ring. */
  get lost(): number {
    return this.#lost;
  }

  /** Everything that was asked for is armed or disarmed, or was refused: the refusals since the last call. */
  settled(): Promise<readonly TraplineError[]> {
    return this.#queue.settled();
  }

  /** Looks for functions of modules that have been loaded since: the names of those modules, in all their lengths. */
  async refresh(): Promise<readonly string[]> {
    const { arm } = this.#options;
    // Nobody has asked for any: nobody waits for one.
    if (this.#loaded === undefined) return [];
    await this.#loaded;
    const known = this.#symbols;
    const functions = await this.#session.functions(() => true, { maxPauseMs: arm.maxPauseMs });
    this.#symbols = new ProcessSymbols(functions, this.#session.info.cwd);
    return [...this.#symbols.modules].filter((name) => !known.hasModule(name));
  }
}
