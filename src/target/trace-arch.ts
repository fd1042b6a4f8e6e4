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
import type { PropertyPath } from '../kernel/trace/js-kfuncs.ts';
import { type FetchProgram, fetchProgram } from '../kernel/trace/probe/fetch-program.ts';
import type { ArmedProbe, KallsymsSymbol, ProbeHit, TraceArch } from '../kernel/trace/trace-arch.ts';
import type { ArmOptions, AttachedSite, AttachRequest, TraceSession } from './session.ts';
import { type ProcessSymbol, ProcessSymbols } from './trace-arch-symbols.ts';

/** The main thread, and the agent's worker: where a session's programs run. */
const NCPU = 1;
const RING = 0;
/** The longest string that a record holds, with its NUL. */
const MAX_STRING = 256;
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
  /** A probe could not be armed. */
  readonly onRefused: (symbol: string, error: TraplineError) => void;
}

/** An armed event probe. */
interface Probe {
  readonly program: FetchProgram;
  readonly hit: ProbeHit;
  /** Its number among the session's programs; undefined while it is not loaded. */
  index: number | undefined;
  active: boolean;
}

/** A function that has, or had, probes. */
interface Place {
  readonly symbol: ProcessSymbol;
  readonly probes: { readonly probe: Probe; readonly event: 'entry' | 'return' }[];
  readonly sites: AttachedSite[];
}

export class ProcessTraceArch implements TraceArch {
  readonly ncpu = NCPU;
  readonly #options: ProcessArchOptions;
  readonly #session: TraceSession;
  #symbols: ProcessSymbols;
  readonly #maps: readonly MapSpec[];
  readonly #paths: PropertyPath[] = [{ keys: [], position: 0 }];
  readonly #pathNumbers = new Map<string, number>([['[]', 0]]);
  readonly #probes: Probe[] = [];
  readonly #places = new Map<bigint, Place>();
  /** Loaded programs of probes that are no more, by what they do: enabling an event again loads nothing. */
  #work: Promise<void> = Promise.resolve();
  #refusals: TraplineError[] = [];
  #lost = 0;

  private constructor(options: ProcessArchOptions, symbols: ProcessSymbols) {
    this.#options = options;
    this.#session = options.session;
    this.#symbols = symbols;
    const maxEntries = options.ringBytes ?? 4 << 20;
    this.#maps = [{ name: 'ring', type: 'ringbuf', keySize: 0, valueSize: 0, maxEntries }];
  }

  /** Asks for the process's functions, and sets up the ring. Errors of TraceSession.functions() and load(). */
  static async open(options: ProcessArchOptions): Promise<ProcessTraceArch> {
    const { session } = options;
    const functions = await session.functions(undefined, { maxPauseMs: options.arm.maxPauseMs });
    const arch = new ProcessTraceArch(options, new ProcessSymbols(functions, session.info.cwd));
    await session.load({
      maps: arch.#maps,
      ring: RING,
      programs: [],
      paths: arch.#paths,
      usesAsyncId: false,
    });
    return arch;
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
    return this.#symbols.around(address);
  }

  hasModule(name: string): boolean {
    return this.#symbols.hasModule(name);
  }

  *functions(): Iterable<KallsymsSymbol> {
    for (const symbol of this.#symbols.all) if (symbol.blacklisted !== true) yield symbol;
  }

  *enabledFunctions(): Iterable<readonly [KallsymsSymbol, number]> {
    for (const { symbol, probes } of this.#places.values())
      if (probes.length > 0) yield [symbol, probes.length];
  }

  /** Only a function's entry, and its return, can be probed. */
  adjustProbeAddress(symbol: KallsymsSymbol, offset: bigint): { address: bigint; entry: boolean } {
    return { address: symbol.address + offset, entry: offset === 0n };
  }

  armProbe(at: Parameters<TraceArch['armProbe']>[0], hit: ProbeHit): ArmedProbe {
    const symbol = this.#symbols.at(at.address);
    if (symbol === undefined) throw new KernelError('ENOENT', 'no function begins at this address');
    const number = this.#probes.length;
    const program = fetchProgram({
      probe: number,
      code: at.code ?? [],
      ring: RING,
      maxString: this.#options.maxString ?? MAX_STRING,
      path: (keys) => this.#path(keys),
    });
    const verified = this.#verify(`${symbol.module}:${symbol.name}`, program);
    const probe: Probe = { program, hit, index: undefined, active: true };
    this.#probes.push(probe);
    const place = this.#place(symbol);
    const entry = { probe, event: at.ret ? ('return' as const) : ('entry' as const) };
    place.probes.push(entry);
    this.#queue(symbol, () => this.#update(place, probe, verified, at.maxactive));
    const disarm = (): void => {
      if (!probe.active) return;
      probe.active = false;
      place.probes.splice(place.probes.indexOf(entry), 1);
      this.#queue(symbol, () => this.#update(place, undefined, undefined, 0));
    };
    return disarm;
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

  #place(symbol: ProcessSymbol): Place {
    let place = this.#places.get(symbol.address);
    if (place === undefined) {
      place = { symbol, probes: [], sites: [] };
      this.#places.set(symbol.address, place);
    }
    return place;
  }

  /** One change after the other, in the order of the writes. */
  #queue(symbol: ProcessSymbol, change: () => Promise<void>): void {
    this.#work = this.#work.then(change).catch((reason: unknown) => {
      const error =
        reason instanceof TraplineError
          ? reason
          : new TraplineError('EARM', reason instanceof Error ? reason.message : String(reason));
      this.#refusals.push(error);
      this.#options.onRefused(`${symbol.module}:${symbol.name}`, error);
    });
  }

  /** Brings a function's sites to what its probes want now. */
  async #update(
    place: Place,
    added: Probe | undefined,
    verified: VerifiedProgram | undefined,
    maxactive: number,
  ): Promise<void> {
    if (added !== undefined && verified !== undefined) {
      if (!added.active) return;
      if (this.#session.addPrograms === undefined || this.#session.attachSite === undefined)
        throw new TraplineError('ENOTSUP', 'this session takes no programs later');
      added.index = await this.#session.addPrograms([verified], this.#paths);
    }
    const left = new Set(
      place.probes.flatMap(({ probe: { index }, event }) => (index === undefined ? [] : [{ index, event }])),
    );
    for (const site of place.sites) {
      const mine = [...left].filter(
        ({ index, event }) => site.events.includes(event) && site.covers([index]),
      );
      for (const one of mine) left.delete(one);
      await site.setPrograms(mine.map(({ index, event }) => ({ program: index, event, cookie: 0 })));
    }
    if (left.size === 0) return;
    const requests = [...left].map(
      ({ index, event }): AttachRequest => ({
        program: index,
        event,
        cookie: 0,
        at: { kind: 'function', symbol: place.symbol.function },
      }),
    );
    const arm = { ...this.#options.arm, maxactive };
    place.sites.push((await this.#session.attachSite?.(requests, arm)) as AttachedSite);
  }

  /** A record of the ring. */
  onRecord(record: DataView): void {
    const probe = this.#probes[record.getUint32(0, true)];
    if (probe === undefined || !probe.active) return;
    const { comm } = this.#options;
    const context = probe.program.context(record, comm);
    probe.hit(context, record.getUint32(4, true), record.getBigUint64(8, true), this.#session.info.pid);
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
    const known = this.#symbols;
    const functions = await this.#session.functions(() => true, { maxPauseMs: arm.maxPauseMs });
    this.#symbols = new ProcessSymbols(functions, this.#session.info.cwd);
    return [...this.#symbols.modules].filter((name) => !known.hasModule(name));
  }
}
