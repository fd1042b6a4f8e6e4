/**
 * Calls of many functions at once, for the function tracers: three programs that put which function it was, and when, into the
 * ring, on every function that somebody wants.
 */

import { ProgramBuilder, R0, R1, R2, R3, R6, R7 } from '../bpf/builder.ts';
import { type MapSpec, verifyProgram } from '../bpf/index.ts';
import * as isa from '../bpf/isa.ts';
import { TraplineError } from '../errors.ts';
import { kprobeProgram } from '../kernel/trace/bpf-trace.ts';
import type { PropertyPath } from '../kernel/trace/js-kfuncs.ts';
import { PT_REGS } from '../kernel/trace/pt-regs.ts';
import type { FunctionCall, FunctionProbe, KallsymsSymbol } from '../kernel/trace/trace-arch.ts';
import type { ArmOptions, AttachedSite, AttachRequest, TraceSession } from './session.ts';
import type { ProcessSymbol } from './trace-arch-symbols.ts';

/** What its records carry where those of events have the number of their probe. */
const FIRST = 0xffff_fff0;
const EVENTS = ['entry', 'return', 'settle'] as const;
/** u32 number, u32 cpu, u64 ns, u64 address, u64 not 0 where it failed */
const RECORD_SIZE = 32;

export interface FunctionCallsOptions {
  readonly session: TraceSession;
  readonly maps: readonly MapSpec[];
  /** Index of the ring among the maps. */
  readonly ring: number;
  readonly paths: readonly PropertyPath[];
  readonly arm: ArmOptions;
  readonly at: (address: bigint) => ProcessSymbol | undefined;
  /** One change of the process after the other. */
  readonly queue: (what: string, change: () => Promise<void>) => void;
  readonly onRefused: (symbol: ProcessSymbol, why: string) => void;
}

interface Use {
  readonly wants: { readonly returns: boolean; readonly settles: boolean };
  readonly hit: (call: FunctionCall) => void;
  functions: ReadonlySet<bigint>;
}

/** A function that is, or was, traced. */
interface Armed {
  readonly site: AttachedSite;
  readonly symbol: ProcessSymbol;
  /** The events whose programs run now. */
  on: string;
}

type Event = (typeof EVENTS)[number];

export class FunctionCalls {
  readonly #options: FunctionCallsOptions;
  readonly #uses = new Set<Use>();
  readonly #armed = new Map<bigint, Armed[]>();
  /** Functions that cannot be armed: they are not tried again. */
  readonly #refused = new Set<bigint>();
  #programs: readonly number[] | undefined;
  #queued = false;

  constructor(options: FunctionCallsOptions) {
    this.#options = options;
  }

  /** Functions that are traced, each with how many want it. */
  *enabled(): Iterable<readonly [ProcessSymbol, number]> {
    for (const [address, [armed]] of this.#armed) {
      let users = 0;
      for (const { functions } of this.#uses) if (functions.has(address)) users++;
      if (users > 0 && armed !== undefined) yield [armed.symbol, users];
    }
  }

  trace(wants: Use['wants'], hit: Use['hit']): FunctionProbe {
    const use: Use = { wants, hit, functions: new Set() };
    this.#uses.add(use);
    return {
      set: (functions: readonly KallsymsSymbol[]) => {
        use.functions = new Set(functions.map(({ address }) => address));
        this.#change();
      },
      stop: () => {
        this.#uses.delete(use);
        this.#change();
      },
    };
  }

  #change(): void {
    if (this.#queued) return;
    this.#queued = true;
    this.#options.queue('function tracer', async () => {
      this.#queued = false;
      await this.#update();
    });
  }

  async #update(): Promise<void> {
    const programs = await this.#load();
    const wanted = new Map<bigint, Set<Event>>();
    for (const { functions, wants } of this.#uses) {
      for (const address of functions) {
        const events = wanted.get(address) ?? new Set<Event>(['entry']);
        if (wants.returns) events.add('return');
        if (wants.settles && this.#options.at(address)?.function.isAsync === true) events.add('settle');
        wanted.set(address, events);
      }
    }
    const changes: Promise<void>[] = [];
    for (const [address, sites] of this.#armed) {
      let events = wanted.get(address) ?? new Set<Event>();
      for (const armed of sites) {
        const fits = events.size > 0 && [...events].every((event) => armed.site.events.includes(event));
        changes.push(this.#switch(armed, fits ? events : new Set(), programs));
        if (!fits) continue;
        wanted.delete(address);
        events = new Set();
      }
    }
    await Promise.all(changes);
    await this.#arm(wanted, programs);
  }

  async #switch(armed: Armed, events: ReadonlySet<Event>, programs: readonly number[]): Promise<void> {
    const on = EVENTS.filter((event) => events.has(event)).join();
    if (on === armed.on) return;
    armed.on = on;
    await armed.site.setPrograms([...events].map((event) => request(event, programs)));
  }

  async #arm(wanted: ReadonlyMap<bigint, ReadonlySet<Event>>, programs: readonly number[]): Promise<void> {
    const { session, arm, at, onRefused } = this.#options;
    const symbols: ProcessSymbol[] = [];
    const requests: AttachRequest[] = [];
    for (const [address, events] of wanted) {
      const symbol = at(address);
      if (symbol === undefined || this.#refused.has(address)) continue;
      symbols.push(symbol);
      for (const event of EVENTS)
        if (events.has(event))
          requests.push({ ...request(event, programs), at: { kind: 'function', symbol: symbol.function } });
    }
    if (requests.length === 0) return;
    const sites = await session
      .attachSites?.(requests, { ...arm, breakpoints: false })
      .catch((error: unknown) => {
        // None of them can be armed.
        for (const { address } of symbols) this.#refused.add(address);
        throw error;
      });
    for (const [index, symbol] of symbols.entries()) {
      const site = sites?.[index];
      if (site === undefined) continue;
      if (site.report.way === undefined) {
        this.#refused.add(symbol.address);
        onRefused(symbol, site.report.note ?? 'it cannot be armed');
        continue;
      }
      const on = EVENTS.filter((event) => site.events.includes(event)).join();
      // A compiled-in function has one site.
      const known = (this.#armed.get(symbol.address) ?? []).filter((one) => one.site.report.way !== 'nop');
      this.#armed.set(symbol.address, [...known, { site, symbol, on }]);
    }
  }

  async #load(): Promise<readonly number[]> {
    if (this.#programs !== undefined) return this.#programs;
    const { session, maps, ring, paths } = this.#options;
    if (session.addPrograms === undefined || session.attachSites === undefined)
      throw new TraplineError('ENOTSUP', 'this session takes no programs later');
    const programs = EVENTS.map((event, index) =>
      verifyProgram(kprobeProgram(`function_${event}`, program(FIRST + index, ring, index > 0), maps)),
    );
    const first = await session.addPrograms(programs, paths);
    this.#programs = EVENTS.map((_, index) => first + index);
    return this.#programs;
  }

  /** False for a record that is not of these programs. */
  onRecord(record: DataView, pid: number): boolean {
    const number = record.getUint32(0, true);
    if (number < FIRST) return false;
    const call: FunctionCall = {
      what: EVENTS[number - FIRST] ?? 'entry',
      cpu: record.getUint32(4, true),
      ts: record.getBigUint64(8, true),
      address: record.getBigUint64(16, true),
      pid,
      failed: record.getBigUint64(24, true) !== 0n,
    };
    for (const { functions, wants, hit } of this.#uses) {
      if (call.what === 'return' && !wants.returns) continue;
      if (call.what === 'settle' && !wants.settles) continue;
      if (functions.has(call.address)) hit(call);
    }
    return true;
  }
}

function request(event: Event, programs: readonly number[]) {
  return { program: programs[EVENTS.indexOf(event)] as number, event, cookie: 0 };
}

function program(number: number, ring: number, ends: boolean) {
  const b = new ProgramBuilder();
  const full = b.newLabel('full');
  b.mov(R6, R1);
  b.ldMap(R1, ring).mov(R2, RECORD_SIZE).mov(R3, 0).call(isa.BPF_FUNC_ringbuf_reserve);
  b.jcond('==', R0, 0, full).mov(R7, R0);
  b.call(isa.BPF_FUNC_ktime_get_ns).stx(8, R7, 8, R0);
  b.call(isa.BPF_FUNC_get_smp_processor_id)
    .stx(4, R7, 4, R0)
    .st(4, R7, 0, number | 0);
  b.ldx(8, R1, R6, PT_REGS.ip).stx(8, R7, 16, R1);
  if (ends) b.ldx(8, R1, R6, PT_REGS.r11).stx(8, R7, 24, R1);
  else b.st(8, R7, 24, 0);
  b.mov(R1, R7).mov(R2, 0).call(isa.BPF_FUNC_ringbuf_submit);
  return b.label(full).mov(R0, 0).exit().build();
}
