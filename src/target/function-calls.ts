/**
 * Calls of many functions at once, for the function tracers: programs that put which function it was, and when, into the ring, on
 * every function that somebody wants.
 */

import { ProgramBuilder, R0, R1, R2, R3, R6, R7, R8 } from '../bpf/builder.ts';
import { type MapSpec, verifyProgram } from '../bpf/index.ts';
import * as isa from '../bpf/isa.ts';
import { TraplineError } from '../errors.ts';
import { kprobeProgram } from '../kernel/trace/bpf-trace.ts';
import { JS_KFUNCS, type PropertyPath } from '../kernel/trace/js-kfuncs.ts';
import { HANDLE_TAG_HI16, PT_REGS } from '../kernel/trace/pt-regs.ts';
import type {
  FunctionCall,
  FunctionProbe,
  FunctionWants,
  KallsymsSymbol,
} from '../kernel/trace/trace-arch.ts';
import { AddressSet } from './address-set.ts';
import type { ArmOptions, AttachedSite, AttachRequest, TraceSession } from './session.ts';
import type { StackSymbols } from './stack-symbols.ts';
import type { ProcessSymbol } from './trace-arch-symbols.ts';

/** What its records carry where those of events have the number of their probe. */
const FIRST = 0xffff_fff0;
const EVENTS = ['entry', 'return', 'settle'] as const;
type Event = (typeof EVENTS)[number];

/** What a program tells beside the function and the time. */
interface Kind {
  readonly event: Event;
  /** Frames of the stack, the function's own among them. */
  readonly frames?: number;
  readonly retval?: boolean;
}
/** Frames are as many as a stack has at most. */
const STACK_FRAMES = 127;
const KINDS = {
  entry: { event: 'entry' },
  caller: { event: 'entry', frames: 2 },
  stack: { event: 'entry', frames: STACK_FRAMES },
  return: { event: 'return' },
  retval: { event: 'return', retval: true },
  settle: { event: 'settle' },
} as const satisfies Record<string, Kind>;
type KindName = keyof typeof KINDS;
const KIND_NAMES = Object.keys(KINDS) as KindName[];

/** u32 number, u32 cpu, u64 ns, u64 address, u64 not 0 where it failed or the number of the stack; u64 return value */
const RECORD_SIZE = 32;
const RETVAL = 32;

export interface FunctionCallsOptions {
  readonly session: TraceSession;
  readonly maps: readonly MapSpec[];
  /** Index of the ring among the maps. */
  readonly ring: number;
  readonly paths: readonly PropertyPath[];
  readonly arm: ArmOptions;
  readonly at: (address: bigint) => ProcessSymbol | undefined;
  readonly stacks: StackSymbols;
  /** One change of the process after the other. */
  readonly queue: (what: string, change: () => Promise<void>) => void;
  readonly onRefused: (symbol: ProcessSymbol, why: string) => void;
}

interface Use {
  readonly wants: FunctionWants;
  readonly hit: (call: FunctionCall) => void;
  functions: AddressSet;
}

/** A function that is, or was, traced. */
interface Armed {
  readonly site: AttachedSite;
  readonly symbol: ProcessSymbol;
  /** The kinds of the programs that run now. */
  on: string;
}

export class FunctionCalls {
  readonly #options: FunctionCallsOptions;
  readonly #uses = new Set<Use>();
  readonly #armed = new Map<bigint, Armed[]>();
  /** Functions that cannot be armed: they are not tried again. */
  readonly #refused = new Set<bigint>();
  readonly #programs = new Map<KindName, number>();
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
    const use: Use = { wants, hit, functions: new AddressSet([]) };
    this.#uses.add(use);
    return {
      set: (functions: readonly KallsymsSymbol[]) => {
        use.functions = new AddressSet(functions);
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
    const all = new Map<bigint, Use['wants'][]>();
    for (const { functions, wants } of this.#uses)
      for (const address of functions) all.set(address, [...(all.get(address) ?? []), wants]);
    const wanted = new Map<bigint, readonly KindName[]>();
    for (const [address, wants] of all)
      wanted.set(address, kindsOf(wants, this.#options.at(address)?.function.isAsync === true));
    await this.#load(new Set([...wanted.values()].flat()));
    const changes: Promise<void>[] = [];
    for (const [address, sites] of this.#armed) {
      let kinds = wanted.get(address) ?? [];
      for (const armed of sites) {
        const fits =
          kinds.length > 0 &&
          kinds.every((kind) => armed.site.events.includes(KINDS[kind].event)) &&
          armed.site.covers(kinds.map((kind) => this.#programs.get(kind) as number));
        changes.push(this.#switch(armed, fits ? kinds : []));
        if (!fits) continue;
        wanted.delete(address);
        kinds = [];
      }
    }
    await Promise.all(changes);
    await this.#arm(wanted);
  }

  async #switch(armed: Armed, kinds: readonly KindName[]): Promise<void> {
    const on = kinds.join();
    if (on === armed.on) return;
    armed.on = on;
    await armed.site.setPrograms(kinds.map((kind) => this.#request(kind)));
  }

  #request(kind: KindName) {
    return { program: this.#programs.get(kind) as number, event: KINDS[kind].event, cookie: 0 };
  }

  async #arm(wanted: ReadonlyMap<bigint, readonly KindName[]>): Promise<void> {
    const { session, arm, at, onRefused } = this.#options;
    const symbols: ProcessSymbol[] = [];
    const requests: AttachRequest[] = [];
    for (const [address, kinds] of wanted) {
      const symbol = at(address);
      if (symbol === undefined || this.#refused.has(address)) continue;
      symbols.push(symbol);
      for (const kind of kinds)
        requests.push({ ...this.#request(kind), at: { kind: 'function', symbol: symbol.function } });
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
      const on = (wanted.get(symbol.address) ?? []).join();
      // A compiled-in function has one site.
      const known = (this.#armed.get(symbol.address) ?? []).filter((one) => one.site.report.way !== 'nop');
      this.#armed.set(symbol.address, [...known, { site, symbol, on }]);
    }
  }

  /** Sees to it that the process has the programs of these kinds. */
  async #load(kinds: ReadonlySet<KindName>): Promise<void> {
    const missing = [...kinds].filter((kind) => !this.#programs.has(kind));
    if (missing.length === 0) return;
    const { session, maps, ring, paths } = this.#options;
    if (session.addPrograms === undefined || session.attachSites === undefined)
      throw new TraplineError('ENOTSUP', 'this session takes no programs later');
    const programs = missing.map((kind) =>
      verifyProgram(kprobeProgram(`function_${kind}`, program(kind, ring), maps)),
    );
    const first = await session.addPrograms(programs, paths);
    for (const [index, kind] of missing.entries()) this.#programs.set(kind, first + index);
  }

  /** Whether a record names a stack that is not here yet. */
  needsStack(record: DataView): boolean {
    const number = record.getUint32(0, true);
    if (number < FIRST) return false;
    const kind: Kind = KINDS[KIND_NAMES[number - FIRST] ?? 'entry'];
    const stack = record.getUint32(24, true);
    return kind.frames !== undefined && stack !== 0 && !this.#options.stacks.knows(stack);
  }

  /** False for a record that is not of these programs. */
  onRecord(record: DataView, pid: number): boolean {
    const number = record.getUint32(0, true);
    if (number < FIRST) return false;
    const kind: Kind = KINDS[KIND_NAMES[number - FIRST] ?? 'entry'];
    const { event } = kind;
    const low = record.getInt32(16, true);
    const high = record.getInt32(20, true);
    const stack = kind.frames === undefined ? 0 : record.getUint32(24, true);
    let call: FunctionCall | undefined;
    for (const { functions, wants, hit } of this.#uses) {
      if (event === 'return' && !wants.returns) continue;
      if (event === 'settle' && !wants.settles) continue;
      const address = functions.find(low, high);
      if (address === undefined) continue;
      call ??= {
        what: event,
        cpu: record.getUint32(4, true),
        ts: record.getBigUint64(8, true),
        address,
        pid,
        failed: event !== 'entry' && (record.getInt32(24, true) !== 0 || record.getInt32(28, true) !== 0),
        ...(kind.retval === true ? { retval: record.getBigUint64(RETVAL, true) } : undefined),
      };
      hit(stack === 0 ? call : this.#withCallers(call, stack, wants.callers));
    }
    return true;
  }

  #withCallers(call: FunctionCall, stack: number, depth: number): FunctionCall {
    return depth === 0 ? call : { ...call, callers: this.#options.stacks.callers(stack, depth) };
  }
}

/** What has to be told of a function's calls so that everybody knows what they want. */
function kindsOf(wants: readonly FunctionWants[], isAsync: boolean): readonly KindName[] {
  const callers = Math.max(...wants.map((one) => one.callers));
  const kinds: KindName[] = [callers === 0 ? 'entry' : callers === 1 ? 'caller' : 'stack'];
  if (wants.some(({ returns }) => returns))
    kinds.push(wants.some(({ retvals }) => retvals) ? 'retval' : 'return');
  if (isAsync && wants.some(({ settles }) => settles)) kinds.push('settle');
  return kinds;
}

function program(name: KindName, ring: number) {
  const { event, frames, retval = false }: Kind = KINDS[name];
  const b = new ProgramBuilder();
  const full = b.newLabel('full');
  b.mov(R6, R1);
  if (frames !== undefined) {
    const known = b.newLabel('known');
    b.mov(R1, frames).kcall(JS_KFUNCS.js_stackid.id).mov(R8, R0);
    b.jcond('s>', R8, 0, known).mov(R8, 0).label(known);
  }
  b.ldMap(R1, ring)
    .mov(R2, retval ? RETVAL + 8 : RECORD_SIZE)
    .mov(R3, 0)
    .call(isa.BPF_FUNC_ringbuf_reserve);
  b.jcond('==', R0, 0, full).mov(R7, R0);
  b.call(isa.BPF_FUNC_ktime_get_ns).stx(8, R7, 8, R0);
  b.call(isa.BPF_FUNC_get_smp_processor_id)
    .stx(4, R7, 4, R0)
    .st(4, R7, 0, (FIRST + KIND_NAMES.indexOf(name)) | 0);
  b.ldx(8, R1, R6, PT_REGS.ip).stx(8, R7, 16, R1);
  if (event !== 'entry') b.ldx(8, R1, R6, PT_REGS.r11).stx(8, R7, 24, R1);
  else if (frames !== undefined) b.stx(8, R7, 24, R8);
  else b.st(8, R7, 24, 0);
  if (retval) {
    const plain = b.newLabel('plain');
    b.ldx(8, R1, R6, PT_REGS.ax).mov(R2, R1).rsh(R2, 48).jcond('!=', R2, HANDLE_TAG_HI16, plain);
    b.kcall(JS_KFUNCS.js_id.id).mov(R1, R0).label(plain).stx(8, R7, RETVAL, R1);
  }
  b.mov(R1, R7).mov(R2, 0).call(isa.BPF_FUNC_ringbuf_submit);
  return b.label(full).mov(R0, 0).exit().build();
}
