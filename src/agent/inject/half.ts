/**
 * The main thread's half of the agent: what the worker has done here. Nothing here may throw into the
 * application, keep its event loop alive, or stay behind.
 */

import type { TypesMode } from '../../arch/v8/typescript.ts';
import type { MemoryLayout } from '../../bpf/index.ts';
import type { AgentMain, CreateAgent } from '../agent-main.ts';
import type { Arming, ArmingOptions } from '../arming/arming.ts';
import type { HookNotice } from '../arming/notice.ts';
import type { Errand, ErrandAnswer, ErrandOf } from '../errand.ts';
import type { Events, EventsOptions } from '../events/events.ts';
import type { PrintkCall, ProgramImage } from '../protocol.ts';
import type { Part } from '../worker/parts.ts';
import type { EventInfo, PrintNotice, TargetInfo, WorkerNotice } from '../worker/requests.ts';
import type { Builtin } from './builtins.ts';
import { agentPrefix } from './config.ts';

/** A hook waits this long for the worker to post the removal of a breakpoint. */
const ACKNOWLEDGE_MS = 20;
/** A worker that is to say what comes next has been stopped itself after so long. */
const HOLD_MS = 500;
/** Node publishes there whenever a Worker is made. */
const WORKERS_CHANNEL = 'worker_threads';
/** Lines of trace_printk() in a tenth of a second. */
const PRINTED_MOST = 5000;
/** Modules that are named in one piece. */
const MODULES_PIECE = 250;
/** Functions after which a piece of what is compiled in ends. */
const FORMS_PIECE = 2000;

/** Scripts with their functions' forms; the first may go on one that the piece before began. */
export interface CompiledInScript {
  readonly url: string;
  readonly forms: string;
  readonly types?: TypesMode | undefined;
}

export interface CompiledInPiece {
  readonly scripts: readonly CompiledInScript[];
  /** Where to go on. */
  readonly next: readonly [script: number, index: number];
}

/** The main thread's half of the agent. The worker has its methods called by errands, or calls them through its inspector session. */
export class MainHalf {
  readonly #builtin: Builtin;
  readonly #port: import('node:worker_threads').MessagePort;
  readonly #stamps: Float64Array;
  /** [acknowledgements of hooks, times that hold() was let go on] */
  readonly #acknowledged: Int32Array;
  readonly #nonce: string;
  /** Another tracer may come from then on. */
  readonly #release: () => void;
  readonly #now: () => number;
  #agent: AgentMain | undefined;
  #arming: Arming | undefined;
  #events: Events | undefined;
  #script: import('node:vm').Script | undefined;
  /** What has come of the agent until it is made. */
  #parts: { agent?: unknown; arming?: unknown; events?: unknown } = {};

  constructor(
    builtin: Builtin,
    port: MainHalf['port'],
    shared: SharedArrayBuffer,
    nonce: string,
    release: () => void,
  ) {
    this.#release = release;
    this.#builtin = builtin;
    this.#port = port;
    this.#stamps = new Float64Array(shared, 0, 2);
    this.#acknowledged = new Int32Array(shared, 16, 2);
    this.#nonce = nonce;
    // not performance.now(): what it stands in may not be loaded, and takes more than a millisecond
    const { hrtime } = process;
    this.#now = () => {
      const [s, ns] = Reflect.apply(hrtime, process, []) as [number, number];
      return s * 1e3 + ns / 1e6;
    };
  }

  /** Takes errands from now on. */
  listen(): void {
    this.#port.on('message', this.#onErrand);
    this.#port.unref();
  }

  get port(): import('node:worker_threads').MessagePort {
    return this.#port;
  }

  /** The main thread's clock, for the worker to see how long an operation held it up. */
  stamp(index: number): void {
    this.#stamps[index] = this.#now();
  }

  info(): Omit<TargetInfo, 'monotonicToRealtimeNs'> {
    return {
      pid: process.pid,
      nodeVersion: process.version,
      v8Version: process.versions.v8,
      title: process.title,
      argv: [...process.argv],
      cwd: process.cwd(),
      heapUsedBytes: this.heapUsed(),
      prepared: Object.hasOwn(globalThis, Symbol.for('trapline.register')),
    };
  }

  /**
   * What trapline/register has compiled in (src/register/README.md), some of it: from a function of the n-th script on; undefined
   * behind the last. Forms are digits: by value, an inspector's answer takes its time for each element of an array.
   */
  compiledIn(script: number, index: number): CompiledInPiece | undefined {
    const registry = (globalThis as Record<symbol, unknown>)[Symbol.for('trapline.sites')] as
      | { scripts: ReadonlyMap<string, { url: string; forms: readonly number[]; types?: TypesMode }> }
      | undefined;
    if (registry === undefined || script >= registry.scripts.size) return undefined;
    const scripts: CompiledInScript[] = [];
    let at = 0;
    let from = index;
    let left = FORMS_PIECE;
    for (const { url, forms, types } of registry.scripts.values()) {
      if (at++ < script) continue;
      const to = Math.min(forms.length, from + left);
      scripts.push({ url, forms: forms.slice(from, to).join(''), types });
      if (to < forms.length) return { scripts, next: [at - 1, to] };
      left -= to - from;
      from = 0;
      if (left <= 0 || scripts.length >= MODULES_PIECE) break;
    }
    return { scripts, next: [at, 0] };
  }

  /** Files that trapline/register has prepared and that have not been loaded as they were. */
  unloaded(): readonly string[] {
    const registry = (globalThis as Record<symbol, unknown>)[Symbol.for('trapline.sites')] as
      | { unloaded?(): string[] }
      | undefined;
    return registry?.unloaded?.() ?? [];
  }

  /** The files of CommonJS modules from the n-th on, some of them; undefined behind the last. */
  modules(from: number): string[] | undefined {
    const { _cache } = this.#builtin('module') as unknown as { _cache: object };
    const files = Reflect.ownKeys(_cache).slice(from, from + MODULES_PIECE);
    return files.length === 0 ? undefined : files.map(String);
  }

  /** Events that the application defines (src/kernel/tracepoint/trace-event.ts). */
  definedEvents(): EventInfo[] {
    const registry = (globalThis as Record<symbol, unknown>)[Symbol.for('trapline.tracepoints')];
    if (!Array.isArray(registry)) return [];
    return (registry as Map<string, EventInfo>[]).flatMap((events) =>
      [...events.values()].map(({ system, name, types }) => ({ system, name, types })),
    );
  }

  /** That of channels without (0) or with (1) subscribers; ours has one. */
  channelPrototype(kind: number): object {
    const { channel, Channel } = this.#builtin('diagnostics_channel');
    return kind === 0 ? Channel.prototype : Object.getPrototypeOf(channel(WORKERS_CHANNEL));
  }

  channelNames(channels: readonly object[]): string[] {
    const names = channels.map((one) => Object.getOwnPropertyDescriptor(one, 'name')?.value as unknown);
    return names.filter((name) => typeof name === 'string') as string[];
  }

  /** The first worker thread that the application starts from now on is told, others are not. */
  watchWorkers(): void {
    const { subscribe } = this.#builtin('diagnostics_channel');
    subscribe(WORKERS_CHANNEL, this.#onWorker);
  }

  readonly #onWorker = (): void => {
    this.#ignoreWorkers();
    const notice: WorkerNotice = { worker: true };
    this.#port.postMessage(notice);
  };

  #ignoreWorkers(): void {
    const { unsubscribe } = this.#builtin('diagnostics_channel');
    unsubscribe(WORKERS_CHANNEL, this.#onWorker);
  }

  heapUsed(): number {
    return process.memoryUsage().heapUsed;
  }

  /** In bytes, without the youngest objects, most of which are garbage. Loads a module of Node's, so not for nothing. */
  oldHeapUsed(): number {
    const { getHeapSpaceStatistics } = this.#builtin('v8');
    let bytes = this.heapUsed();
    for (const { space_name, space_used_size } of getHeapSpaceStatistics()) {
      if (space_name === 'new_space') bytes -= space_used_size;
    }
    return bytes;
  }

  /**
   * From an empty stack: closing waits until the io thread has ended. The second turn is for a loop that was held up: SIGUSR1
   * asks Node for the inspector in two ways, and the one that its event loop has still to see would open it once more.
   */
  closeInspector(): boolean {
    const { setImmediate } = this.#builtin('timers');
    setImmediate(() => setImmediate(() => this.#close()));
    return true;
  }

  /**
   * Where the event loop does not turn (an endless loop), from wherever the main thread is: the port would be open for as long
   * as that lasts. Should SIGUSR1 open it once more afterwards, closeInspector()'s own turn comes behind that.
   */
  closeHeldUp(): void {
    if (!this.#closed) this.#close();
  }

  isClosed(): boolean {
    return this.#closed;
  }

  #closed = false;

  #close(): void {
    const { close } = this.#builtin('inspector');
    const before = this.#now();
    close();
    this.#closed = true;
    this.#closingMs += this.#now() - before;
  }

  #closingMs = 0;

  /** How long closing the inspector held this thread up. */
  closingMs(): number {
    return this.#closingMs;
  }

  /** Takes a part's text and what V8 made of it on the worker's thread; true when V8 took that. */
  readPart({ text, code }: Part): boolean {
    const { Script } = this.#builtin('vm');
    this.#script = new Script(text, { filename: '', cachedData: code });
    return this.#script.cachedDataRejected !== true;
  }

  /** Runs what was read last. */
  runPart(name: 'agent' | 'arming' | 'events'): void {
    this.#parts[name] = this.#script?.runInThisContext();
    this.#script = undefined;
  }

  makeAgent(memory: WebAssembly.Memory, layout: MemoryLayout): void {
    const createAgent = this.#parts.agent as CreateAgent;
    const builtin = this.#builtin as (id: string) => unknown;
    const print = (call: PrintkCall): void => this.#print(call);
    this.#agent = createAgent({ memory, layout, prefix: agentPrefix(this.#nonce), require: builtin, print });
  }

  /** Beginning of the period in which lines are counted, and how many there were. */
  #printSince = 0;
  #printed = 0;

  /** A line of trace_printk(). Those that nobody could read are left out: the worker's queue has no bound. */
  #print(print: PrintkCall): void {
    const now = this.#now();
    if (now - this.#printSince > 100) {
      this.#printSince = now;
      this.#printed = 0;
    }
    const over = this.#printed++ - PRINTED_MOST;
    const notice: PrintNotice = over < 0 ? { print } : { print: undefined };
    if (over <= 0) this.#port.postMessage(notice);
  }

  makeArming(): void {
    const createArming = this.#parts.arming as (options: ArmingOptions) => Arming;
    const agent = this.#agent as AgentMain;
    const builtin = this.#builtin as (id: string) => unknown;
    const notify = (notice: HookNotice, wait: boolean): void => this.#notify(notice, wait);
    this.#arming = createArming({ agent, require: builtin, notify });
    this.#parts = {};
    // since Node 26 the inspector edits scripts only with this flag; older ones complain of it on stderr
    if (Number(process.versions.node.split('.')[0]) >= 26) {
      (builtin('v8') as { setFlagsFromString(flag: string): void }).setFlagsFromString(
        '--inspector-live-edit',
      );
    }
  }

  makeEvents(): void {
    const createEvents = this.#parts.events as (options: EventsOptions) => Events;
    this.#parts = {};
    const agent = this.#agent as AgentMain;
    this.#events = createEvents({ agent, require: this.#builtin as (id: string) => unknown });
  }

  loadPrograms(
    programs: readonly Omit<ProgramImage, 'wasm'>[],
    modules: readonly WebAssembly.Module[],
  ): void {
    this.#agent?.load(programs.map((program, index) => ({ ...program, wasm: modules[index]! })));
  }

  /** What the worker asked for, until it is begun. */
  #errand: Errand | undefined;

  readonly #onErrand = (errand: Errand): void => {
    this.#errand = errand;
    // in a turn that has nothing else of ours
    this.#immediate(() => this.#immediate(() => this.#do()));
  };

  #immediate(callback: () => void): void {
    const { setImmediate } = this.#builtin('timers');
    const make = (): NodeJS.Immediate => setImmediate(callback);
    if (this.#events === undefined) make();
    else this.#events.own(make);
  }

  /** Does it, unless that was begun, and answers; how long it took is without the answer. */
  #do(): void {
    const errand = this.#errand;
    if (errand === undefined) return;
    this.#errand = undefined;
    this.#isBusy = true;
    const before = this.#now();
    let value: unknown;
    let error: string | undefined;
    try {
      const target = this.part(errand.of) as unknown as Record<string, (...args: unknown[]) => unknown>;
      value = target[errand.method]?.(...errand.args);
    } catch (thrown) {
      error = String(thrown);
    }
    const answer: ErrandAnswer = { answer: errand.errand, ms: this.#now() - before, value, error };
    this.#isBusy = false;
    this.#port.postMessage(answer);
  }

  /** Something of ours is being done. */
  #isBusy = false;

  /**
   * The event loop does not turn, and the worker has had no answer: by an interrupt, wherever this thread is just now. Where that
   * is in the middle of an errand nothing is begun.
   */
  catchUp(): void {
    const { receiveMessageOnPort } = this.#builtin('worker_threads');
    const received = receiveMessageOnPort(this.#port) as { message: Errand } | undefined;
    if (received !== undefined) this.#errand = received.message;
    this.#do();
  }

  /** Nothing else runs here until the worker has posted what is to come next: `turn` says which time it is. */
  hold(turn: number): void {
    for (;;) {
      const released = Atomics.load(this.#acknowledged, 1);
      if (released >= turn || Atomics.wait(this.#acknowledged, 1, released, HOLD_MS) === 'timed-out') return;
    }
  }

  /** A part that is there: the worker calls its methods. */
  part(of: ErrandOf): MainHalf | AgentMain | Arming | Events | undefined {
    const parts = { half: this, agent: this.#agent, arming: this.#arming, events: this.#events };
    return parts[of];
  }

  #notify(notice: HookNotice, wait: boolean): void {
    const before = Atomics.load(this.#acknowledged, 0);
    this.#port.postMessage(notice);
    if (wait) Atomics.wait(this.#acknowledged, 0, before, ACKNOWLEDGE_MS);
  }

  /** One profile sample, when JavaScript of the application is running below. */
  sample(program: number): boolean {
    // what runs just now is ours
    if (this.#isBusy || !this.#busy()) return false;
    this.#agent?.run(program);
    return true;
  }

  #busy(): boolean {
    const limit = Error.stackTraceLimit;
    const { prepareStackTrace } = Error;
    try {
      // our own three frames and one more
      Error.stackTraceLimit = 8;
      Error.prepareStackTrace = (_error, sites) =>
        sites.filter((site) => site.getFileName()).length as unknown as string;
      const holder: { stack?: unknown } = {};
      Error.captureStackTrace(holder);
      return Number(holder.stack) > 0;
    } finally {
      Error.stackTraceLimit = limit;
      if (prepareStackTrace === undefined) Reflect.deleteProperty(Error, 'prepareStackTrace');
      else Error.prepareStackTrace = prepareStackTrace;
    }
  }

  dispose(): void {
    this.#ignoreWorkers();
    this.#events?.dispose();
    this.#events = undefined;
    this.#agent?.dispose();
    this.#agent = undefined;
    this.#arming = undefined;
    this.#release();
  }

  /**
   * The worker has left its inspector session and must not end before this thread has let go of it: V8's side of the
   * session reports to the worker when it goes, and Node aborts when nobody is there any more. Two turns of the event
   * loop later all of the inspector's messages have been dispatched.
   */
  farewell(answer: () => void): void {
    const { setImmediate } = this.#builtin('timers');
    setImmediate(() => setImmediate(answer));
  }

  /** The worker ends by itself; when it was ended by something else, its folder is still there. */
  workerGone(folder: string): void {
    this.dispose();
    this.#port.close();
    const { setImmediate } = this.#builtin('timers');
    // not in the turn that has ended the thread
    setImmediate(() => {
      const fs = this.#builtin('fs');
      try {
        if (fs.existsSync(folder)) fs.rmSync(folder, { recursive: true, force: true });
      } catch {
        // not ours any more
      }
    }).unref();
  }
}
