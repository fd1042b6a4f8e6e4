/** What kprobe and fprobe events have in common: probes on functions that build records from registers and memory. */
import { type ErrnoCode, KernelError } from '../../errno.ts';
import { utf8String } from '../byte-string.ts';
import { type HitConsumers, hitPlan } from '../hit-plan.ts';
import { ipText } from '../symbols.ts';
import type { ArmedProbe, ProbeContext, ProbeHit } from '../trace-arch.ts';
import type { TraceArray } from '../trace-array.ts';
import type { Counted } from '../trace-commit.ts';
import { dataView, type TraceRecord, writeHead } from '../trace-entry.ts';
import { TRACE_EVENT_FL_DYNAMIC, TraceEventCall } from '../trace-event.ts';
import type { Tracing } from '../tracing.ts';
import { busyError, type DynEvent, type DynEventOps, type DynEvents } from './dynevent.ts';
import { ContextSource, FetchProgram } from './fetch.ts';
import type { FetchInsn } from './fetch-insn.ts';
import { decidePredicate, fieldSource } from './field-source.ts';
import { MAX_ARGSTR_LEN, type ProbeArg } from './parse-arg.ts';
import { printProbeArgs } from './print-args.ts';
import type { ProbeLog } from './probe-log.ts';
import {
  compareArgTypes,
  headSize,
  matchArgs,
  ProbeEvent,
  printFmt,
  probeFields,
  sameComms,
  type TraceProbe,
} from './trace-probe.ts';

/** A place where a probe sits once it is registered. */
export interface ProbePlace {
  /** What its records give as where they come from. */
  readonly address: bigint;
  arm(hit: ProbeHit): ArmedProbe;
}

export interface FunctionProbeOptions {
  readonly dynEvents: DynEvents;
  readonly ops: DynEventOps;
  readonly group: string;
  readonly name: string;
  readonly ret: boolean;
  readonly args: readonly ProbeArg[];
  readonly size: number;
  /** Arguments (from 0) that a return probe keeps at entry. */
  readonly entryArgs: readonly number[];
  /** TRACE_EVENT_FL_* of its event. */
  readonly flags: number;
}

export abstract class FunctionProbe implements DynEvent, TraceProbe {
  readonly dynEvents: DynEvents;
  readonly ops: DynEventOps;
  readonly ret: boolean;
  readonly args: readonly ProbeArg[];
  readonly size: number;
  readonly entryArgs: readonly number[];
  event: ProbeEvent<FunctionProbe>;
  /** Hits that came here. */
  #nhit = 0;
  readonly #program: FetchProgram;
  readonly #source: ContextSource;
  #places: readonly ProbePlace[] = [];
  #armed: ArmedProbe[] = [];
  /** Of those that are disarmed. */
  #missed = 0;
  #unsent = 0;

  constructor(options: FunctionProbeOptions) {
    this.dynEvents = options.dynEvents;
    this.ops = options.ops;
    this.ret = options.ret;
    this.args = options.args;
    this.size = options.size;
    this.entryArgs = options.entryArgs;
    this.#program = new FetchProgram(this.args, this.size, headSize(this.ret ? 'return' : 'normal'));
    this.#source = new ContextSource(this.tracing);
    this.event = new ProbeEvent(this.#makeCall(options));
    this.event.probes.push(this);
  }

  get call(): TraceEventCall {
    return this.event.call;
  }

  get tracing(): Tracing {
    return this.dynEvents.tracing;
  }

  /** What its arguments fetch. */
  protected get code(): readonly (readonly FetchInsn[])[] {
    return this.args.map(({ code }) => code);
  }

  /** Hits that were lost. */
  get missed(): number {
    return this.#armed.reduce((sum, armed) => sum + (armed.missed ?? 0), this.#missed);
  }

  get nhit(): number {
    return this.#nhit + this.#unsentHits;
  }

  get #unsentHits(): number {
    return this.#armed.reduce((sum, armed) => sum + (armed.unsent ?? 0), this.#unsent);
  }

  /** What becomes of the hits at a place. */
  protected consumers(address: bigint): HitConsumers {
    const { call, tracing } = this;
    const { arch } = tracing;
    return {
      call,
      plan: () => hitPlan(call),
      field: (field) => fieldSource(this, field, address),
      decide: (predicate) => decidePredicate(tracing, predicate, arch.ncpu),
    };
  }

  abstract show(): string;
  /** Looks the place up; the errno of a refusal. No places: it may come later. */
  protected abstract findPlaces(): readonly ProbePlace[] | ErrnoCode;
  /** The probe's place as a definition names it. */
  protected abstract readonly location: string;
  /** What tells two probes of one event apart besides their arguments. */
  protected abstract readonly identity: string;
  /** Whether both are of one kind, so that they can be on one event. */
  abstract sameKind(other: FunctionProbe): boolean;

  isBusy(): boolean {
    return this.event.enabled;
  }

  match(system: string | undefined, event: string, args: readonly string[]): boolean {
    if (event !== '' && event !== this.call.name) return false;
    if (system !== undefined && system !== this.call.system) return false;
    const [location, ...rest] = args;
    if (location === undefined) return true;
    return location === this.location.slice(0, MAX_ARGSTR_LEN) && matchArgs(this.args, rest);
  }

  /** register_trace_kprobe(): a new event, or one more probe on the event of this name. */
  register(log: ProbeLog): void {
    const { list } = this.dynEvents;
    const old = list.find(
      (each): each is FunctionProbe =>
        each.ops === this.ops && each.call.name === this.call.name && each.call.system === this.call.system,
    );
    if (old instanceof FunctionProbe) this.#append(old.event, log);
    else {
      if (this.tracing.events.byName(this.call.system, this.call.name) !== undefined) {
        log.index = 0;
        log.reject(0, 'EVENT_EXIST', 'EEXIST');
      }
      this.tracing.addEvent(this.call);
      const errno = this.#attach();
      if (errno !== undefined) {
        this.tracing.removeEvent(this.call);
        this.#refuse(errno, log);
      }
    }
    list.push(this);
  }

  #append(event: ProbeEvent<FunctionProbe>, log: ProbeLog): void {
    const first = event.probes[0] as FunctionProbe;
    log.index = 0;
    if (!this.sameKind(first)) log.reject(0, 'DIFF_PROBE_TYPE', 'EEXIST');
    const differs = compareArgTypes(this.args, first.args);
    if (differs > 0) {
      log.index = differs + 1;
      log.reject(0, 'DIFF_ARG_TYPE', 'EEXIST');
    }
    const same = event.probes.some(
      (probe) => probe.identity === this.identity && sameComms(probe.args, this.args),
    );
    if (same) log.reject(0, 'SAME_PROBE', 'EEXIST');
    const errno = this.#attach();
    if (errno !== undefined) this.#refuse(errno, log);
    this.event = event;
    if (event.enabled) {
      try {
        this.#arm();
      } catch (error) {
        this.#refuse(error instanceof KernelError ? (error.code as ErrnoCode) : 'EINVAL', log);
      }
    }
    event.probes.push(this);
  }

  #refuse(errno: ErrnoCode, log: ProbeLog): never {
    log.index = 1;
    if (errno === 'EILSEQ') log.reject(0, 'BAD_INSN_BNDRY', errno);
    if (errno === 'ENOENT') log.reject(0, 'BAD_PROBE_ADDR', errno);
    if (errno !== 'ENOMEM' && errno !== 'EEXIST') log.err(0, 'FAIL_REG_PROBE');
    log.fail(errno);
  }

  #attach(): ErrnoCode | undefined {
    const found = this.findPlaces();
    if (typeof found === 'string') return found;
    this.#places = found;
    return undefined;
  }

  get isWaiting(): boolean {
    return this.#places.length === 0;
  }

  abstract moduleChanged(module: string): void;

  /** Looks the place up again; where that is refused, the probe has none. What is where it was goes on. */
  protected reattach(): void {
    const found = this.findPlaces();
    const places = typeof found === 'string' ? [] : found;
    const before = this.#places;
    if (places.length === before.length && places.every(({ address }, i) => address === before[i]?.address))
      return;
    this.#disarm();
    this.#places = places;
    if (this.event.enabled) this.#arm();
  }

  release(): void {
    const { event, call } = this;
    if (event.probes.length <= 1) {
      if (event.enabled || call.refs > 0 || call.users > 0) throw busyError(call);
      this.tracing.removeEvent(call);
    }
    this.#disarm();
    event.probes.splice(event.probes.indexOf(this), 1);
    this.dynEvents.remove(this);
  }

  #arm(): void {
    try {
      for (const place of this.#places) {
        this.#armed.push(
          place.arm((context, cpu, ts, pid, counted) => this.#hit(place, context, { cpu, ts, pid, counted })),
        );
      }
    } catch (error) {
      this.#disarm();
      throw error;
    }
  }

  #disarm(): void {
    const armed = this.#armed;
    this.#missed = this.missed;
    this.#unsent = this.#unsentHits;
    this.#armed = [];
    for (const disarm of armed) disarm();
  }

  /** kprobe_trace_func(), kretprobe_trace_func() */
  #hit(
    place: ProbePlace,
    context: ProbeContext,
    { cpu, ts, pid, counted }: { cpu: number; ts: bigint; pid: number; counted: Counted | undefined },
  ): void {
    this.#nhit++;
    const { head } = this.#program;
    writeHead(head, this.call.id, pid);
    head.setBigUint64(8, place.address, true);
    if (this.ret) head.setBigUint64(16, context.register('ip'), true);
    this.#source.context = context;
    const data = this.#program.run(this.#source);
    this.#source.context = undefined;
    const { stack } = context;
    this.tracing.commit(
      this.call,
      stack === undefined ? { cpu, ts, data } : { cpu, ts, data, stack },
      counted,
    );
  }

  #makeCall({ group, name, ret, args, flags }: FunctionProbeOptions): TraceEventCall {
    const head = ret ? 'return' : 'normal';
    return new TraceEventCall({
      name,
      class: { system: group, reg: (_, on) => this.event.probes[0]?.enable(on) },
      fields: probeFields(args, head),
      printFmt: printFmt(args, head),
      flags: flags | TRACE_EVENT_FL_DYNAMIC,
      print: (record, tracing, tr) => this.#print(record, tracing, tr),
      data: this,
    });
  }

  /** Starts or stops all probes of the event. */
  enable(on: boolean): void {
    const { event } = this;
    if (on) {
      try {
        for (const probe of event.probes) probe.#arm();
      } catch (error) {
        for (const probe of event.probes) probe.#disarm();
        throw error;
      }
    } else for (const probe of event.probes) probe.#disarm();
    event.enabled = on;
  }

  /** print_kprobe_event(), print_kretprobe_event() */
  #print({ data }: TraceRecord, tracing: Tracing, tr: TraceArray): string {
    const view = dataView(data);
    const at = (offset: number): bigint => (data.length >= offset + 8 ? view.getBigUint64(offset, true) : 0n);
    const from = this.ret
      ? `${ipText(tr, at(16), true)} <- ${functionText(tr, at(8))}`
      : ipText(tr, at(8), true);
    return `(${from})${printProbeArgs(tracing, this.args, data, headSize(this.ret ? 'return' : 'normal'))}`;
  }
}

/** The probed function: its name alone, whatever the option sym-offset says. */
function functionText(tr: TraceArray, address: bigint): string {
  const name = tr.tracing.arch.lookupAddress(address)?.name;
  if (name === undefined) return ipText(tr, address);
  const text = utf8String(name);
  return tr.options.has('sym-addr') ? `${text} <${address.toString(16).padStart(16, '0')}>` : text;
}
