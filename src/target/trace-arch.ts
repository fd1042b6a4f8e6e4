/**
 * A process as a system that is traced: the TraceArch of the tracing core over a session. Its probes are eBPF programs in the
 * process, one for each probe event, that put what the event fetches into the ring (src/kernel/trace/probe/fetch-program.ts).
 *
 * Files are written and read at once, and a process answers later: armProbe() begins to arm, and settled() tells the end.
 */

import { BpfError, type MapSpec, type VerifiedProgram, verifyProgram } from '../bpf/index.ts';
import { TraplineError } from '../errors.ts';
import { KernelError } from '../kernel/errno.ts';
import { kprobeProgram } from '../kernel/trace/bpf-trace.ts';
import type { FilterPredicate } from '../kernel/trace/filter/predicate.ts';
import type { HitConsumers } from '../kernel/trace/hit-plan.ts';
import type { PropertyPath } from '../kernel/trace/js-kfuncs.ts';
import type { FetchInsn } from '../kernel/trace/probe/fetch-insn.ts';
import { type FetchProgram, fetchProgram } from '../kernel/trace/probe/fetch-program.ts';
import type { HitStageOptions, StagedHist } from '../kernel/trace/probe/hit-stage.ts';
import type {
  ArmedProbe,
  FunctionProbe,
  KallsymsSymbol,
  ProbeHit,
  ProbeTracepoint,
  TraceArch,
} from '../kernel/trace/trace-arch.ts';
import type { EventTrigger } from '../kernel/trace/trace-event-file.ts';
import type { TraceField } from '../kernel/trace/trace-field.ts';
import { isTracepointName } from '../kernel/tracepoint/event-list.ts';
import type { EventDescription } from '../kernel/tracepoint/runtime-events.ts';
import { FunctionCalls } from './function-calls.ts';
import { COUNTERS_MAP, HitCounts } from './hit-counts.ts';
import type { ArmOptions, AttachedSite, AttachRequest, TraceSession } from './session.ts';
import { StackSymbols } from './stack-symbols.ts';
import { type EventSymbol, ProcessTracepoints } from './trace-arch-events.ts';
import { type ProcessSymbol, ProcessSymbols } from './trace-arch-symbols.ts';

/** The main thread, and the agent's worker: where a session's programs run. */
const NCPU = 1;
const RING = 0;
/** The longest string that a record holds, with its NUL. */
const MAX_STRING = 256;
/** Frames of a stack. */
const STACK_FRAMES = 64;
/** The map of counters. */
const COUNTERS = 1;
/** Programs that a probe may have, one for each set of filters and hists. */
const MAX_VERSIONS = 64;
/** Bytes of the process's memory that hists may use; they are touched as they are. */
const RESERVE = 16 << 20;
/** Clocks that are CLOCK_MONOTONIC here. */
const MONOTONIC: ReadonlySet<string> = new Set(['local', 'global', 'perf', 'mono']);

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
  /** Functions are listed when loadFunctions() asks for them, not before. */
  readonly lazy?: boolean;
  /** A probe could not be armed. */
  readonly onRefused: (symbol: string, error: TraplineError) => void;
}

/** A program of a probe: with other consumers of its hits it is another one. */
interface Version {
  readonly probe: Probe;
  readonly program: FetchProgram;
  /** Hists that it counts. */
  readonly counted: ReadonlySet<EventTrigger>;
  /** Its number among the session's programs. */
  readonly index: number;
}

/** An armed event probe. */
interface Probe {
  readonly name: string;
  readonly hit: ProbeHit;
  readonly code: readonly (readonly FetchInsn[])[];
  readonly consumers: HitConsumers | undefined;
  /** Whether somebody wants its stacks now. */
  readonly wantsStack: () => boolean;
  /** The function that it is on; undefined of an event. */
  readonly address: bigint | undefined;
  /** Counts hits that made no record; undefined where there was none of that, or no room. */
  unsent: number | undefined;
  readonly maxactive: number;
  /** What it may run, by its instructions. */
  readonly versions: Map<string, Version>;
  current: Version | undefined;
  /** It was told of a change that is not made yet. */
  changing: boolean;
  /** It could not be armed. */
  refused: boolean;
  active: boolean;
}

/** A program that a place is to run. */
interface WantedProgram {
  readonly index: number;
  readonly event: 'entry' | 'return';
  readonly probe: Probe;
}

/** A function, or an event of the process, that has, or had, probes. */
interface Place {
  readonly symbol: ProcessSymbol | EventSymbol;
  readonly probes: { readonly probe: Probe; readonly event: 'entry' | 'return' }[];
  readonly sites: { readonly site: AttachedSite; programs: string }[];
}

const nameOf = (symbol: Place['symbol']): string =>
  'event' in symbol ? symbol.event.name : `${symbol.module}:${symbol.name}`;

export class ProcessTraceArch implements TraceArch {
  readonly ncpu = NCPU;
  readonly #options: ProcessArchOptions;
  readonly #session: TraceSession;
  #symbols: ProcessSymbols;
  readonly #maps: MapSpec[];
  readonly #counts: HitCounts;
  readonly #paths: PropertyPath[] = [{ keys: [], position: 0 }];
  readonly #pathNumbers = new Map<string, number>([['[]', 0]]);
  /** By the number in their records. */
  readonly #versions: Version[] = [];
  readonly #places = new Map<bigint, Place>();
  readonly #tracepoints = new ProcessTracepoints((at, hit) => this.armProbe(at, hit));
  readonly #stacks: StackSymbols;
  readonly #calls: FunctionCalls;
  #work: Promise<void> = Promise.resolve();
  #refusals: TraplineError[] = [];
  #held: DataView[] = [];
  #release: Promise<void> = Promise.resolve();
  #stacksGone = false;
  #lost = 0;
  #received = 0;

  private constructor(options: ProcessArchOptions, symbols: ProcessSymbols) {
    this.#options = options;
    this.#session = options.session;
    this.#symbols = symbols;
    const maxEntries = options.ringBytes ?? 4 << 20;
    this.#maps = [{ name: 'ring', type: 'ringbuf', keySize: 0, valueSize: 0, maxEntries }, COUNTERS_MAP];
    this.#counts = new HitCounts({
      session: options.session,
      maps: this.#maps,
      counters: COUNTERS,
      maxString: this.#maxString,
    });
    this.#stacks = new StackSymbols({
      stack: (id) => options.session.stack(id),
      symbols: () => this.#symbols,
      cwd: options.session.info.cwd,
    });
    this.#calls = this.#functionCalls();
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
      queue: (what, change) => this.#queue(what, change),
      onRefused: ({ module, name }, why) => onRefused(`${module}:${name}`, new TraplineError('EARM', why)),
    });
  }

  /** Which functions are traced: ftrace_set_filter_ip() and register_ftrace_function() for as many as there are. */
  traceFunctions(...[wants, hit]: Parameters<FunctionCalls['trace']>): FunctionProbe {
    return this.#calls.trace(wants, hit);
  }

  get #maxString(): number {
    return this.#options.maxString ?? MAX_STRING;
  }

  /** Asks for the process's functions, unless that is to wait, and sets up the ring. Errors of TraceSession.functions() and load(). */
  static async open(options: ProcessArchOptions): Promise<ProcessTraceArch> {
    const { session } = options;
    const arch = new ProcessTraceArch(options, new ProcessSymbols([], session.info.cwd));
    if (options.lazy !== true) await arch.loadFunctions();
    await session.load({
      maps: arch.#maps,
      ring: RING,
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
    if (MONOTONIC.has(clock)) return process.hrtime.bigint();
    return clock === 'tai' ? BigInt(Date.now()) * 1_000_000n : undefined;
  }

  clockAt(clock: string, ts: bigint): bigint | undefined {
    if (MONOTONIC.has(clock)) return ts;
    return clock === 'tai' ? ts + this.#session.info.monotonicToRealtimeNs : undefined;
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
    for (const { symbol, probes } of this.#places.values())
      if (probes.length > 0 && !('event' in symbol)) yield [symbol, probes.length];
    yield* this.#calls.enabled();
  }

  /** Only a function's entry, and its return, can be probed. */
  adjustProbeAddress(symbol: KallsymsSymbol, offset: bigint): { address: bigint; entry: boolean } {
    return { address: symbol.address + offset, entry: offset === 0n };
  }

  armProbe(at: Parameters<TraceArch['armProbe']>[0], hit: ProbeHit): ArmedProbe {
    const symbol = this.#tracepoints.at(at.address) ?? this.#symbols.at(at.address);
    if (symbol === undefined) throw new KernelError('ENOENT', 'no function begins at this address');
    const name = nameOf(symbol);
    const probe: Probe = {
      name,
      hit,
      code: at.code ?? [],
      consumers: this.#options.inTarget === false ? undefined : at.consumers,
      wantsStack: () => at.consumers?.plan().stack ?? false,
      address: 'event' in symbol ? undefined : symbol.address,
      unsent: undefined,
      maxactive: at.maxactive,
      versions: new Map(),
      current: undefined,
      changing: false,
      refused: false,
      active: true,
    };
    // Refused at once where it is too much.
    this.#verify(name, this.#program(probe, 0, undefined));
    const place = this.#place(symbol);
    const entry = { probe, event: at.ret ? ('return' as const) : ('entry' as const) };
    place.probes.push(entry);
    const changed = (): void => {
      if (probe.changing) return;
      probe.changing = true;
      this.#queue(name, () => this.#update(place));
    };
    changed();
    at.consumers?.call.watchers.add(changed);
    const counts = this.#counts;
    const disarm = (): void => {
      if (!probe.active) return;
      probe.active = false;
      at.consumers?.call.watchers.delete(changed);
      place.probes.splice(place.probes.indexOf(entry), 1);
      this.#queue(name, async () => {
        await this.#update(place);
        counts.retire(probe.unsent);
      });
    };
    return Object.defineProperty(disarm, 'unsent', { get: () => counts.value(probe.unsent) }) as ArmedProbe;
  }

  #program(probe: Probe, number: number, stage: HitStageOptions | undefined, stack = false): FetchProgram {
    return fetchProgram({
      probe: number,
      code: probe.code,
      ring: RING,
      maxString: this.#maxString,
      path: (keys) => this.#path(keys),
      ...(stage === undefined ? {} : { stage }),
      ...(stack ? { stack: STACK_FRAMES } : {}),
    });
  }

  /** The program that serves those who want the probe's hits now, loaded. */
  async #version(probe: Probe): Promise<Version> {
    // Programs stay in the process: after so many changes the tracer does it.
    const stage = probe.versions.size < MAX_VERSIONS ? await this.#stage(probe) : undefined;
    const stack = probe.wantsStack();
    let draft = this.#program(probe, 0, stage, stack);
    let key = keyOf(draft);
    const known = probe.versions.get(key);
    if (known !== undefined) return known;
    const number = this.#versions.length;
    let program = this.#program(probe, number, stage, stack);
    let verified: VerifiedProgram;
    try {
      verified = this.#verify(probe.name, program);
    } catch (error) {
      if (!(error instanceof KernelError) || stage === undefined) throw error;
      // Too much to do at the hit: it is done with the record.
      draft = this.#program(probe, 0, undefined, stack);
      key = keyOf(draft);
      const plain = probe.versions.get(key);
      if (plain !== undefined) return plain;
      program = this.#program(probe, number, undefined, stack);
      verified = this.#verify(probe.name, program);
    }
    if (this.#session.addPrograms === undefined || this.#session.attachSite === undefined)
      throw new TraplineError('ENOTSUP', 'this session takes no programs later');
    const counted = new Set([...program.counted].map(({ hist: { trigger } }) => trigger));
    // Its number is taken before anybody else may ask for one.
    const version = { probe, program, counted, index: -1 };
    this.#versions.push(version);
    version.index = await this.#session.addPrograms([verified], this.#paths);
    probe.versions.set(key, version);
    return version;
  }

  /** What is done in front of a record; undefined where every hit makes one and no more. */
  async #stage(probe: Probe): Promise<HitStageOptions | undefined> {
    const { consumers } = probe;
    const plan = consumers?.plan();
    if (consumers === undefined || plan === undefined) return undefined;
    if (plan.wanted === undefined && plan.hists.length === 0) return undefined;
    probe.unsent ??= this.#counts.counter();
    const { unsent } = probe;
    if (unsent === undefined) return undefined;
    const hists: StagedHist[] = [];
    let wanted = plan.wanted;
    for (const hist of plan.hists) {
      const staged = await this.#counts.hist(hist);
      if (staged !== undefined) hists.push(staged);
      else if (hist.filter === undefined || wanted === undefined) wanted = undefined;
      else wanted = [...wanted, hist.filter];
    }
    if (wanted === undefined && hists.length === 0) return undefined;
    const field = (one: TraceField) => consumers.field(one);
    const decide = (predicate: FilterPredicate) => consumers.decide(predicate);
    return { wanted, hists, counters: COUNTERS, unsent, field, decide };
  }

  #verify(name: string, { insns }: FetchProgram): VerifiedProgram {
    try {
      return verifyProgram(kprobeProgram(name, insns, this.#maps));
    } catch (error) {
      if (!(error instanceof BpfError)) throw error;
      throw new KernelError('E2BIG', `the event fetches too much: ${error.message}`, { cause: error });
    }
  }

  #path(keys: readonly (string | number)[]): number {
    const key = JSON.stringify(keys);
    let number = this.#pathNumbers.get(key);
    if (number === undefined) {
      number = this.#paths.push({ keys, position: 0 }) - 1;
      this.#pathNumbers.set(key, number);
    }
    return number;
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

  #place(symbol: Place['symbol']): Place {
    let place = this.#places.get(symbol.address);
    if (place === undefined) {
      place = { symbol, probes: [], sites: [] };
      this.#places.set(symbol.address, place);
    }
    return place;
  }

  /** One change after the other, in the order of the writes. */
  #queue(what: string, change: () => Promise<void>): void {
    this.#work = this.#work.then(change).catch((reason: unknown) => {
      const error =
        reason instanceof TraplineError
          ? reason
          : new TraplineError('EARM', reason instanceof Error ? reason.message : String(reason));
      this.#refusals.push(error);
      this.#options.onRefused(what, error);
    });
  }

  /** Brings a function's sites to what its probes want now. */
  async #update(place: Place): Promise<void> {
    const wanted: WantedProgram[] = [];
    let maxactive = 0;
    for (const { probe, event } of [...place.probes]) {
      probe.changing = false;
      // It was said once that it cannot be armed.
      if (probe.refused) continue;
      probe.current = await this.#version(probe);
      wanted.push({ index: probe.current.index, event, probe });
      maxactive = Math.max(maxactive, probe.maxactive);
    }
    const left = new Set(wanted);
    for (const armed of place.sites) {
      const { site } = armed;
      const mine = [...left].filter(
        ({ index, event }) => site.events.includes(event) && site.covers([index]),
      );
      for (const one of mine) left.delete(one);
      const programs = mine.map(({ index, event }) => ({ program: index, event, cookie: 0 }));
      const text = JSON.stringify(programs);
      if (text === armed.programs) continue;
      armed.programs = '';
      await site.setPrograms(programs);
      armed.programs = text;
    }
    // A compiled-in function has one site; otherwise one by one: a site for entries alone sees the very call that replaces a
    // function's binding.
    const compiledIn = left.size > 0 && place.sites.some(({ site }) => site.report.way === 'nop');
    if (compiledIn) place.sites.length = 0;
    const together = compiledIn ? [wanted] : [...left].map((one) => [one]);
    for (const programs of together) {
      try {
        await this.#attach(place, programs, maxactive);
      } catch (error) {
        for (const { probe } of programs) probe.refused = true;
        throw error;
      }
    }
    await this.#counts.release((trigger) => this.#isCounted(trigger));
  }

  async #attach(
    { symbol, sites }: Place,
    wanted: readonly WantedProgram[],
    maxactive: number,
  ): Promise<void> {
    const programs = wanted.map(({ index, event }) => ({ program: index, event, cookie: 0 }));
    const at: AttachRequest['at'] =
      'event' in symbol
        ? { kind: 'event', event: symbol.event }
        : { kind: 'function', symbol: symbol.function };
    const requests = programs.map((program): AttachRequest => ({ ...program, at }));
    const site = await this.#session.attachSite?.(requests, { ...this.#options.arm, maxactive });
    if (site !== undefined) sites.push({ site, programs: JSON.stringify(programs) });
  }

  #isCounted(trigger: EventTrigger): boolean {
    for (const { probes } of this.#places.values())
      if (probes.some(({ probe }) => probe.current?.counted.has(trigger))) return true;
    return false;
  }

  /** A record of the ring. What comes behind one whose stack has to be fetched waits with it. */
  onRecord(record: DataView): void {
    if (this.#held.length === 0 && (this.#stacksGone || !this.#needsStack(record))) {
      this.#take(record);
      return;
    }
    const bytes = new Uint8Array(record.buffer, record.byteOffset, record.byteLength).slice();
    if (this.#held.push(new DataView(bytes.buffer)) === 1) this.#release = this.#fetchStacks();
  }

  /** Whether a record names a stack that is not here yet. */
  #needsStack(record: DataView): boolean {
    if (this.#calls.needsStack(record)) return true;
    const stack = this.#versions[record.getUint32(0, true)]?.program.stack(record) ?? 0;
    return stack !== 0 && !this.#stacks.knows(stack);
  }

  async #fetchStacks(): Promise<void> {
    try {
      await this.#session.flush();
    } catch {
      this.#stacksGone = true;
    }
    for (const record of this.#held.splice(0)) this.onRecord(record);
  }

  /** Every record that came is taken. */
  async released(): Promise<void> {
    while (this.#held.length > 0) await this.#release;
  }

  #take(record: DataView): void {
    if (this.#calls.onRecord(record, this.#session.info.pid)) {
      this.#received++;
      return;
    }
    const version = this.#versions[record.getUint32(0, true)];
    if (version === undefined || !version.probe.active) return;
    this.#received++;
    const { comm } = this.#options;
    const { program, probe, counted } = version;
    const id = program.stack(record);
    const values = program.context(record, comm);
    const context = id === 0 ? values : { ...values, stack: this.#stackOf(probe, id) };
    const { pid } = this.#session.info;
    probe.hit(context, record.getUint32(4, true), record.getBigUint64(8, true), pid, counted);
  }

  /** A function's own frame may lack its position, or be one of a wrapper. */
  #stackOf({ address }: Probe, id: number): readonly bigint[] {
    if (address === undefined) return this.#stacks.addresses(id);
    return [address, ...this.#stacks.callers(id, STACK_FRAMES)];
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

  /** Records that came. */
  get received(): number {
    return this.#received;
  }

  onLost(count: number): void {
    this.#lost += count;
  }

  /** Hits that found no room in the ring. */
  get lost(): number {
    return this.#lost;
  }

  /** Everything that was asked for is armed or disarmed, or was refused: the refusals since the last call. */
  async settled(): Promise<readonly TraplineError[]> {
    for (let work: Promise<void> | undefined; work !== this.#work; ) {
      work = this.#work;
      await work;
    }
    const refusals = this.#refusals;
    this.#refusals = [];
    return refusals;
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

/** What a program does, its number aside. */
function keyOf({ insns, counted }: FetchProgram): string {
  const hists = [...counted].map(({ hits }) => hits);
  return JSON.stringify([hists, insns.map(({ code, dst, src, off, imm }) => [code, dst, src, off, imm])]);
}
