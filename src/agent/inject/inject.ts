/**
 * What the one evaluation in the traced process does, on its main thread: makes the folder, starts the worker, and leaves
 * this half (`MainHalf`) where the worker's inspector session finds it, once. Nothing here may throw into the application,
 * keep its event loop alive, or stay behind.
 */

import type { MemoryLayout } from '../../bpf/index.ts';
import type { AgentMain, CreateAgent } from '../agent-main.ts';
import type { Arming, ArmingOptions, HookNotice } from '../arming/arming.ts';
import type { TargetInfo, WorkerConfig } from '../worker/requests.ts';
import { agentPrefix, type InjectConfig, type InjectResult } from './config.ts';

/** A hook waits this long for the worker to post the removal of a breakpoint. */
const ACKNOWLEDGE_MS = 20;
/** Longest path of a Unix socket, with room for its file name. */
const SOCKET_PATH = 90;

type Builtins = {
  fs: typeof import('node:fs');
  os: typeof import('node:os');
  path: typeof import('node:path');
  worker_threads: typeof import('node:worker_threads');
  inspector: typeof import('node:inspector');
  timers: typeof import('node:timers');
  perf_hooks: typeof import('node:perf_hooks');
};
type Builtin = <K extends keyof Builtins>(id: K) => Builtins[K];

export function inject(config: InjectConfig): InjectResult {
  const getBuiltin = (process as { getBuiltinModule?: (id: string) => unknown }).getBuiltinModule;
  if (typeof getBuiltin !== 'function') {
    const message = `Node ${process.version} is too old to be traced`;
    return { ok: false, code: 'EVERSION', message, hint: 'Node 20.19 or later is needed' };
  }
  const builtin = ((id: string) => Reflect.apply(getBuiltin, process, [id])) as unknown as Builtin;
  const denied = permissionDenied();
  if (denied !== undefined) return denied;
  let folder: string;
  try {
    const found = makeFolder(builtin);
    if (typeof found !== 'string') return found;
    folder = found;
  } catch (error) {
    return { ok: false, code: 'EACCES', message: `cannot make a folder for the socket: ${String(error)}` };
  }
  const socket = builtin('path').join(folder, 'socket');
  const { Worker, MessageChannel } = builtin('worker_threads');
  const channel = new MessageChannel();
  const shared = new SharedArrayBuffer(64);
  const { token, key, closeInspector, agentText, armingText } = config;
  const workerConfig: WorkerConfig = { folder, socket, token, key, closeInspector, agentText, armingText };
  const half = new MainHalf(builtin, channel.port1, shared, config.nonce);
  try {
    const worker = new Worker(config.workerText, {
      eval: true,
      name: 'trapline',
      // neither the application's preloads and options nor its environment
      execArgv: [],
      env: {},
      stdin: false,
      stdout: false,
      stderr: false,
      trackUnmanagedFds: false,
      workerData: { config: workerConfig, port: channel.port2, shared },
      transferList: [channel.port2],
    });
    // an error nobody listens to would end the application
    worker.on('error', () => {});
    worker.on('message', () => half.farewell(() => worker.postMessage(0)));
    worker.on('exit', () => half.workerGone(folder));
    worker.unref();
    channel.port1.unref();
  } catch (error) {
    builtin('fs').rmSync(folder, { recursive: true, force: true });
    return { ok: false, code: 'EWORKER', message: `cannot start a worker in the process: ${String(error)}` };
  }
  Object.defineProperty(globalThis, key, { value: half, configurable: true, enumerable: false });
  return { ok: true, folder, socket, nodeVersion: process.version };
}

function permissionDenied(): InjectResult | undefined {
  const { permission } = process as { permission?: { has(scope: string): boolean } };
  if (permission === undefined || permission.has('worker')) return undefined;
  const message = 'the process runs with --permission and may not start the worker that serves a tracer';
  return { ok: false, code: 'EPERMISSION', message, hint: 'start it with --allow-worker too' };
}

/** A 0700 folder named after the process; a second one for the same process means that another tracer is here. */
function makeFolder(builtin: Builtin): string | InjectResult {
  const { mkdtempSync, readdirSync, rmSync, statSync } = builtin('fs');
  const { join } = builtin('path');
  const { performance } = builtin('perf_hooks');
  let base = builtin('os').tmpdir();
  if (base.length > SOCKET_PATH - 30) base = '/tmp';
  const prefix = `trapline-${process.pid}-`;
  for (const name of readdirSync(base)) {
    if (!name.startsWith(prefix)) continue;
    const other = join(base, name);
    // older than this process: left by a killed one that had the same number
    if (statSync(other).ctimeMs < performance.timeOrigin) rmSync(other, { recursive: true, force: true });
    else return { ok: false, code: 'EBUSY', message: `process ${process.pid} is being traced already` };
  }
  return mkdtempSync(join(base, prefix));
}

/** The main thread's half of the agent. The worker calls its methods through its inspector session. */
export class MainHalf {
  readonly #builtin: Builtin;
  readonly #port: import('node:worker_threads').MessagePort;
  readonly #stamps: Float64Array;
  readonly #acknowledged: Int32Array;
  readonly #nonce: string;
  readonly #now: () => number;
  #agent: AgentMain | undefined;
  #arming: Arming | undefined;

  constructor(builtin: Builtin, port: MainHalf['port'], shared: SharedArrayBuffer, nonce: string) {
    this.#builtin = builtin;
    this.#port = port;
    this.#stamps = new Float64Array(shared, 0, 2);
    this.#acknowledged = new Int32Array(shared, 16, 1);
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
      workers: workerCount(),
      monotonicToRealtimeNs: String(realtime - process.hrtime.bigint()),
    };
  }

  /** What trapline/register has compiled in (src/register/README.md). */
  compiledIn(): { url: string; forms: readonly number[] }[] | undefined {
    const registry = (globalThis as Record<symbol, unknown>)[Symbol.for('trapline.sites')] as
      | { scripts: ReadonlyMap<string, { url: string; forms: readonly number[] }> }
      | undefined;
    return registry && [...registry.scripts.values()].map(({ url, forms }) => ({ url, forms }));
  }

  heapUsed(): number {
    return process.memoryUsage().heapUsed;
  }

  /** From an empty stack: closing waits until the io thread has ended. */
  closeInspector(): boolean {
    const { close } = this.#builtin('inspector');
    this.#builtin('timers').setImmediate(() => close());
    return true;
  }

  /** The memory comes by the port, sent before this call was. */
  make(createAgent: CreateAgent, createArming: (options: ArmingOptions) => Arming): void {
    const { receiveMessageOnPort } = this.#builtin('worker_threads');
    const received = receiveMessageOnPort(this.#port) as
      | { message: { memory: WebAssembly.Memory; layout: MemoryLayout } }
      | undefined;
    if (received === undefined) throw new Error('the memory has not arrived');
    const { memory, layout } = received.message;
    const builtin = this.#builtin as (id: string) => unknown;
    const prefix = agentPrefix(this.#nonce);
    const agent = createAgent({ memory, layout, prefix, require: builtin });
    const notify = (notice: HookNotice, wait: boolean): void => this.#notify(notice, wait);
    this.#arming = createArming({ agent, require: builtin, notify });
    this.#agent = agent;
    // since Node 25 the inspector edits scripts only with this flag; older ones complain of it on stderr
    if (Number(process.versions.node.split('.')[0]) >= 25) {
      (builtin('v8') as { setFlagsFromString(flag: string): void }).setFlagsFromString(
        '--inspector-live-edit',
      );
    }
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
    try {
      this.#builtin('fs').rmSync(folder, { recursive: true, force: true });
    } catch {
      // not ours any more
    }
  }
}

/** Workers of the application that keep its event loop alive, each by two ports; ours does not. */
function workerCount(): number {
  const resources = (process as { getActiveResourcesInfo?(): string[] }).getActiveResourcesInfo?.() ?? [];
  return Math.floor(resources.filter((name) => name === 'MessagePort').length / 2);
}
