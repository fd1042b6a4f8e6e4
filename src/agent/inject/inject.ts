/**
 * What the injected text does in the traced process, on its main thread: makes the folder, starts the worker, and leaves
 * this half (`MainHalf`) where the worker's inspector session finds it, once. Nothing here may throw into the application,
 * keep its event loop alive, or stay behind.
 */

import type { MemoryLayout } from '../../bpf/index.ts';
import type { AgentMain, CreateAgent } from '../agent-main.ts';
import type { Arming, ArmingOptions, HookNotice } from '../arming/arming.ts';
import { holderAlive } from '../holder.ts';
import type { ProgramImage } from '../protocol.ts';
import type { Part } from '../worker/parts.ts';
import type { TargetInfo, WorkerConfig, WorkerNotice } from '../worker/requests.ts';
import {
  AGENT_FILE,
  agentPrefix,
  type InjectConfig,
  type Injection,
  type InjectResult,
  type InjectStep,
} from './config.ts';

/** A hook waits this long for the worker to post the removal of a breakpoint. */
const ACKNOWLEDGE_MS = 20;
/** Node publishes there whenever a Worker is made. */
const WORKERS_CHANNEL = 'worker_threads';
/** Longest path of a Unix socket, with room for its file name. */
const SOCKET_PATH = 90;
/** Modules that are named in one piece. */
const MODULES_PIECE = 500;
/** Functions after which a piece of what is compiled in ends. */
const FORMS_PIECE = 4000;

type Builtins = {
  fs: typeof import('node:fs');
  os: typeof import('node:os');
  path: typeof import('node:path');
  worker_threads: typeof import('node:worker_threads');
  inspector: typeof import('node:inspector');
  timers: typeof import('node:timers');
  perf_hooks: typeof import('node:perf_hooks');
  stream: typeof import('node:stream');
  'stream/promises': typeof import('node:stream/promises');
  string_decoder: typeof import('node:string_decoder');
  diagnostics_channel: typeof import('node:diagnostics_channel');
  vm: typeof import('node:vm');
  module: typeof import('node:module');
};
type Builtin = <K extends keyof Builtins>(id: K) => Builtins[K];

/** How often an injection looks whether its tracer is still there: killed between two pieces, it is to leave nothing. */
const WATCH_MS = 200;
/** The same for a tracer that cannot be seen from here. */
const ABANDONED_MS = 2000;

/** What the worker runs first: it fetches its own text from the session's folder. */
const BOOTSTRAP = `'use strict';
const { readFileSync, rmSync } = require('node:fs');
const { Script } = require('node:vm');
const data = require('node:worker_threads').workerData;
const file = data.config.folder + '/${AGENT_FILE}';
data.texts = JSON.parse(readFileSync(file, 'utf8'));
rmSync(file);
new Script('(function(require){' + data.texts.worker + '\\n})', { filename: 'trapline' }).runInThisContext()(require);`;

/**
 * Nothing is done by the call itself: `next()` does one piece after the other, none of which takes longer than about a
 * millisecond, so that the event loop turns in between. Each is a message of its own rather than a callback of the event loop: a
 * main thread that never comes back to its loop is served too, by interrupts.
 */
export function inject(config: InjectConfig): Injection {
  const getBuiltin = (process as { getBuiltinModule?: (id: string) => unknown }).getBuiltinModule;
  const { hrtime } = process;
  const builtin = ((id: string) =>
    Reflect.apply(getBuiltin as (id: string) => unknown, process, [id])) as unknown as Builtin;
  let folder = '';
  let done = false;
  let tracerSeen = false;
  let channel: import('node:worker_threads').MessageChannel | undefined;

  function removeFolder(): void {
    if (folder !== '') builtin('fs').rmSync(folder, { recursive: true, force: true });
  }

  function abort(): void {
    if (done) return;
    done = true;
    channel?.port1.close();
    removeFolder();
  }

  function watchTracer(): void {
    const { readFileSync } = builtin('fs');
    tracerSeen = holderAlive(config.tracer, readFileSync) === true;
    let left = ABANDONED_MS / WATCH_MS;
    const watch = builtin('timers').setInterval(() => {
      const gone = tracerSeen ? holderAlive(config.tracer, readFileSync) === false : --left <= 0;
      if (gone) abort();
      if (done) builtin('timers').clearInterval(watch);
    }, WATCH_MS);
    watch.unref();
  }

  const steps: (() => InjectResult | undefined)[] = [
    () => {
      if (typeof getBuiltin === 'function') return permissionDenied();
      const message = `Node ${process.version} is too old to be traced`;
      return { ok: false, code: 'EVERSION', message, hint: 'Node 20.19 or later is needed' };
    },
    () => {
      try {
        const found = makeFolder(builtin, config.tracer);
        if (typeof found !== 'string') return found;
        folder = found;
      } catch (error) {
        return {
          ok: false,
          code: 'EACCES',
          message: `cannot make a folder for the socket: ${String(error)}`,
        };
      }
      return undefined;
    },
    () => void watchTracer(),
    // each of these loads or compiles, the first time in a process, what the next one needs of Node
    () => void builtin('perf_hooks'),
    () => void builtin('string_decoder'),
    () => void builtin('stream/promises'),
    () => void new (builtin('stream').Readable)({ read() {} }),
    () => void builtin('diagnostics_channel'),
    () => void builtin('worker_threads').Worker,
    () => {
      const { MessageChannel } = builtin('worker_threads');
      channel = new MessageChannel();
      channel.port1.unref();
      return undefined;
    },
    () => rehearseWorker(builtin),
    () => startWorker(),
  ];

  function startWorker(): InjectResult {
    const { Worker } = builtin('worker_threads');
    const { port1, port2 } = channel as import('node:worker_threads').MessageChannel;
    const socket = builtin('path').join(folder, 'socket');
    const { token, key, closeInspector, nonce } = config;
    const tracer = tracerSeen ? config.tracer : undefined;
    const workerConfig: WorkerConfig = { folder, socket, token, key, closeInspector, tracer };
    const shared = new SharedArrayBuffer(64);
    const half = new MainHalf(builtin, port1, shared, nonce);
    const workerData = { config: workerConfig, port: port2, shared };
    try {
      const worker = new Worker(BOOTSTRAP, { ...WORKER_OPTIONS, workerData, transferList: [port2] });
      // an error nobody listens to would end the application
      worker.on('error', () => {});
      worker.on('message', () => half.farewell(() => worker.postMessage(0)));
      worker.on('exit', () => half.workerGone(folder));
      worker.unref();
      half.watchWorkers();
    } catch (error) {
      return {
        ok: false,
        code: 'EWORKER',
        message: `cannot start a worker in the process: ${String(error)}`,
      };
    }
    Object.defineProperty(globalThis, key, { value: half, configurable: true, enumerable: false });
    return { ok: true, folder, socket, nodeVersion: process.version };
  }

  let at = 0;
  return {
    next(): InjectStep {
      const before = Reflect.apply(hrtime, process, []);
      let result: InjectResult | undefined;
      if (done) result = { ok: false, code: 'ETIMEDOUT', message: 'the tracer took too long' };
      else {
        const ticks = holdTicks(builtin);
        try {
          result = steps[at++]?.();
        } finally {
          ticks.release();
        }
        if (result?.ok === false) abort();
        else if (result !== undefined) done = true;
      }
      const [s, ns] = Reflect.apply(hrtime, process, [before]);
      return { ms: s * 1e3 + ns / 1e6, folder: folder === '' ? undefined : folder, result };
    },
    abort,
  };
}

const WORKER_OPTIONS: import('node:worker_threads').WorkerOptions = {
  eval: true,
  name: 'trapline',
  // neither the application's preloads and options nor its environment
  execArgv: [],
  env: {},
  stdin: false,
  // false would have Node open process.stdout and process.stderr, if nobody has yet, and pipe into them; nothing is written
  stdout: true,
  stderr: true,
  trackUnmanagedFds: false,
};

/** A worker that is refused before it is one: what its making needs is compiled by then. */
function rehearseWorker(builtin: Builtin): undefined {
  const { Worker } = builtin('worker_threads');
  try {
    new Worker('', { ...WORKER_OPTIONS, execArgv: ['--trapline-no-such-option'] });
  } catch {
    // as it should
  }
}

/**
 * Keeps `process.nextTick` from being called until release(), and makes up for it in a turn of the event loop.
 *
 * This code runs at an interrupt, which may have come between the moment where Node found its queue of ticks empty and the
 * one where it notes that none are scheduled. A tick that is queued right there is never run, nor is any behind it: the
 * process would serve no stream and no message any more. (lib/internal/process/task_queues.js, processTicksAndRejections;
 * the constructor of Worker queues some.)
 */
function holdTicks(builtin: Builtin): { release(): void } {
  const held: unknown[][] = [];
  const before = Object.getOwnPropertyDescriptor(process, 'nextTick');
  const nextTick = (...args: unknown[]): void => {
    held.push(args);
  };
  if (
    before?.writable !== true ||
    !Reflect.defineProperty(process, 'nextTick', { ...before, value: nextTick })
  )
    return { release: () => {} };
  return {
    release: () => {
      Reflect.defineProperty(process, 'nextTick', before);
      if (held.length === 0) return;
      builtin('timers').setImmediate(() => {
        for (const args of held) Reflect.apply(process.nextTick, process, args);
      });
    },
  };
}

function permissionDenied(): InjectResult | undefined {
  const { permission } = process as { permission?: { has(scope: string): boolean } };
  if (permission === undefined || permission.has('worker')) return undefined;
  const message = 'the process runs with --permission and may not start the worker that serves a tracer';
  return { ok: false, code: 'EPERMISSION', message, hint: 'start it with --allow-worker too' };
}

/** A 0700 folder named after the process; a second one for the same process means that another tracer is here. */
function makeFolder(builtin: Builtin, tracer: number): string | InjectResult {
  const { mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } = builtin('fs');
  const { join } = builtin('path');
  const { timeOrigin } = performance;
  let base = builtin('os').tmpdir();
  if (base.length > SOCKET_PATH - 30) base = '/tmp';
  const prefix = `trapline-${process.pid}-`;
  for (const name of readdirSync(base)) {
    if (!name.startsWith(prefix)) continue;
    const other = join(base, name);
    // older than this process: left by a killed one that had the same number
    if (statSync(other).ctimeMs < timeOrigin) rmSync(other, { recursive: true, force: true });
    else return heldBy(join(other, 'tracer'), builtin);
  }
  const folder = mkdtempSync(join(base, prefix));
  writeFileSync(join(folder, 'tracer'), String(tracer), { mode: 0o600 });
  return folder;
}

function heldBy(file: string, builtin: Builtin): InjectResult {
  const message = `process ${process.pid} is being traced already`;
  const busy = { ok: false, code: 'EBUSY', message } as const;
  try {
    const holder = Number(builtin('fs').readFileSync(file, 'utf8'));
    return { ...busy, message: `${message}, by process ${holder}`, holder };
  } catch {
    // on its way out
    return busy;
  }
}

/** The main thread's half of the agent. The worker calls its methods through its inspector session. */
export class MainHalf {
  readonly #builtin: Builtin;
  readonly #port: import('node:worker_threads').MessagePort;
  readonly #stamps: Float64Array;
  /** [acknowledgements of hooks, turns of the event loop] */
  readonly #acknowledged: Int32Array;
  readonly #nonce: string;
  readonly #now: () => number;
  #agent: AgentMain | undefined;
  #arming: Arming | undefined;
  /** What has come of the agent until it is made. */
  #parts: { agent?: unknown; arming?: unknown; memory?: unknown } = {};

  constructor(builtin: Builtin, port: MainHalf['port'], shared: SharedArrayBuffer, nonce: string) {
    this.#builtin = builtin;
    this.#port = port;
    this.#stamps = new Float64Array(shared, 0, 2);
    this.#acknowledged = new Int32Array(shared, 16, 2);
    this.#nonce = nonce;
    const { performance } = builtin('perf_hooks');
    const { now } = performance;
    this.#now = () => Reflect.apply(now, performance, []);
  }

  get port(): import('node:worker_threads').MessagePort {
    return this.#port;
  }

  /** The main thread's clock, for the worker to see how long an operation held it up. */
  stamp(index: number): void {
    this.#stamps[index] = this.#now();
  }

  info(): TargetInfo {
    const { performance } = this.#builtin('perf_hooks');
    const realtime = BigInt(Math.round((performance.timeOrigin + this.#now()) * 1e6));
    return {
      pid: process.pid,
      nodeVersion: process.version,
      v8Version: process.versions.v8,
      title: process.title,
      argv: [...process.argv],
      cwd: process.cwd(),
      heapUsedBytes: this.heapUsed(),
      prepared: Object.hasOwn(globalThis, Symbol.for('trapline.register')),
      monotonicToRealtimeNs: String(realtime - process.hrtime.bigint()),
    };
  }

  /**
   * What trapline/register has compiled in (src/register/README.md): scripts from the n-th on, some of them; undefined behind the
   * last. Forms are digits: by value, an inspector's answer takes its time for each element of an array.
   */
  compiledIn(from: number): { url: string; forms: string }[] | undefined {
    const registry = (globalThis as Record<symbol, unknown>)[Symbol.for('trapline.sites')] as
      | { scripts: ReadonlyMap<string, { url: string; forms: readonly number[] }> }
      | undefined;
    if (registry === undefined || from >= registry.scripts.size) return undefined;
    const piece: { url: string; forms: string }[] = [];
    let at = 0;
    let functions = 0;
    for (const { url, forms } of registry.scripts.values()) {
      if (at++ < from) continue;
      piece.push({ url, forms: forms.join('') });
      functions += forms.length;
      if (functions >= FORMS_PIECE || piece.length >= MODULES_PIECE) break;
    }
    return piece;
  }

  /** The files of CommonJS modules from the n-th on, some of them; undefined behind the last. */
  modules(from: number): string[] | undefined {
    const { _cache } = this.#builtin('module') as unknown as { _cache: object };
    const files = Reflect.ownKeys(_cache).slice(from, from + MODULES_PIECE);
    return files.length === 0 ? undefined : files.map(String);
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

  /**
   * From an empty stack: closing waits until the io thread has ended. The second turn is for a loop that was held up: SIGUSR1
   * asks Node for the inspector in two ways, and the one that its event loop has still to see would open it once more.
   */
  closeInspector(): boolean {
    const { close } = this.#builtin('inspector');
    const { setImmediate } = this.#builtin('timers');
    setImmediate(() =>
      setImmediate(() => {
        const before = this.#now();
        close();
        this.#closingMs = this.#now() - before;
      }),
    );
    return true;
  }

  #closingMs = 0;

  /** How long closing the inspector held this thread up. */
  closingMs(): number {
    return this.#closingMs;
  }

  /** What the worker sent by the port before it made this call. */
  #receive<T>(): T {
    const { receiveMessageOnPort } = this.#builtin('worker_threads');
    const received = receiveMessageOnPort(this.#port) as { message: T } | undefined;
    if (received === undefined) throw new Error('what was sent has not arrived');
    return received.message;
  }

  /** Takes a part's text and what V8 made of it on the worker's thread; true when V8 took that. */
  readPart(name: 'agent' | 'arming'): boolean {
    const { text, code } = this.#receive<Part>();
    const { Script } = this.#builtin('vm');
    const script = new Script(text, { filename: '', cachedData: code });
    this.#parts[name] = script.runInThisContext();
    return script.cachedDataRejected !== true;
  }

  readMemory(): void {
    this.#parts.memory = this.#receive();
  }

  makeAgent(): void {
    const { memory, layout } = this.#parts.memory as { memory: WebAssembly.Memory; layout: MemoryLayout };
    const createAgent = this.#parts.agent as CreateAgent;
    const builtin = this.#builtin as (id: string) => unknown;
    this.#agent = createAgent({ memory, layout, prefix: agentPrefix(this.#nonce), require: builtin });
  }

  makeArming(): void {
    const createArming = this.#parts.arming as (options: ArmingOptions) => Arming;
    const agent = this.#agent as AgentMain;
    const builtin = this.#builtin as (id: string) => unknown;
    const notify = (notice: HookNotice, wait: boolean): void => this.#notify(notice, wait);
    this.#arming = createArming({ agent, require: builtin, notify });
    this.#parts = {};
    // since Node 25 the inspector edits scripts only with this flag; older ones complain of it on stderr
    if (Number(process.versions.node.split('.')[0]) >= 25) {
      (builtin('v8') as { setFlagsFromString(flag: string): void }).setFlagsFromString(
        '--inspector-live-edit',
      );
    }
  }

  /** The programs' modules have come by the port. */
  loadPrograms(programs: readonly Omit<ProgramImage, 'wasm'>[]): void {
    const modules = this.#receive<WebAssembly.Module[]>();
    this.#agent?.load(programs.map((program, index) => ({ ...program, wasm: modules[index]! })));
  }

  /** Counts the event loop's next turn where the worker sees it. */
  turn(): void {
    const { setImmediate } = this.#builtin('timers');
    setImmediate(() => Atomics.add(this.#acknowledged, 1, 1));
  }

  getAgent(): AgentMain | undefined {
    return this.#agent;
  }

  getArming(): Arming | undefined {
    return this.#arming;
  }

  #notify(notice: HookNotice, wait: boolean): void {
    const before = Atomics.load(this.#acknowledged, 0);
    this.#port.postMessage(notice);
    if (wait) Atomics.wait(this.#acknowledged, 0, before, ACKNOWLEDGE_MS);
  }

  /** One profile sample, when JavaScript of the application is running below. */
  sample(program: number): boolean {
    if (!this.#busy()) return false;
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
    this.#agent?.dispose();
    this.#agent = undefined;
    this.#arming = undefined;
    this.#port.close();
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
    const fs = this.#builtin('fs');
    try {
      if (fs.existsSync(folder)) fs.rmSync(folder, { recursive: true, force: true });
    } catch {
      // not ours any more
    }
  }
}
