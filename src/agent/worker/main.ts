/** The agent's worker: one tracer on a Unix socket, one inspector session with the main thread, and the way back. */

import { rmSync } from 'node:fs';
import { type MessagePort, parentPort, workerData } from 'node:worker_threads';
import type { HookNotice } from '../arming/arming.ts';
import { WorkerArming } from './arming.ts';
import { DataPlane } from './data.ts';
import type {
  ArmItem,
  LoadParams,
  Method,
  Methods,
  RestoreReport,
  TargetInfo,
  WorkerConfig,
} from './requests.ts';
import { Scripts } from './scripts.ts';
import { AgentServer } from './server.ts';
import { MainSession } from './session.ts';

/** A tracer connects within milliseconds of the socket being there; one that has not by now was killed. */
const HELLO_MS = 1500;

/** How long a busy main thread may take to let go of this one's inspector session. */
const FAREWELL_MS = 60_000;

type Handlers = { [M in Method]: (params: Methods[M][0]) => Promise<Methods[M][1]> };

class AgentWorker {
  readonly #config: WorkerConfig;
  readonly #port: MessagePort;
  /** [unused ×2 of the stamps][i32 acknowledgements of hooks] */
  readonly #shared: SharedArrayBuffer;
  readonly #server: AgentServer;
  readonly #session: MainSession;
  readonly #scripts: Scripts;
  /** The main thread's half, made by the injected text. */
  #state = '';
  #agent = '';
  #data: DataPlane | undefined;
  #arming: WorkerArming | undefined;
  #ending = false;
  readonly #hello: NodeJS.Timeout;
  readonly #connected: Promise<void>;

  constructor(config: WorkerConfig, port: MessagePort, shared: SharedArrayBuffer) {
    this.#config = config;
    this.#port = port;
    this.#shared = shared;
    this.#session = new MainSession(shared);
    this.#scripts = new Scripts(this.#session);
    port.on('message', (notice: HookNotice) => this.#onHook(notice));
    this.#server = new AgentServer(config.socket, config.token, {
      onRequest: (id, method, params) => void this.#request(id, method, params),
      onGone: () => void this.end(),
    });
    this.#hello = setTimeout(() => void this.end(), HELLO_MS);
    this.#connected = this.#connect();
    // told to whoever says hello
    this.#connected.catch(() => undefined);
  }

  async #connect(): Promise<void> {
    const key = JSON.stringify(this.#config.key);
    // the main thread's half was left at a global for a moment: taken, and gone
    this.#state = await this.#session.connect(
      `(()=>{const s=globalThis[${key}];delete globalThis[${key}];return s})()`,
    );
  }

  #onHook(notice: HookNotice): void {
    const acknowledge = (): void => {
      const flags = new Int32Array(this.#shared, 16, 1);
      Atomics.add(flags, 0, 1);
      Atomics.notify(flags, 0);
    };
    if (this.#arming === undefined) acknowledge();
    else this.#arming.onHook(notice, acknowledge);
  }

  async #request(id: number, method: string, params: unknown): Promise<void> {
    try {
      if (!Object.hasOwn(this.#handlers, method))
        throw Object.assign(new Error(`no method ${method}`), { code: 'EINVAL' });
      const handler = this.#handlers[method as Method] as (params: unknown) => Promise<unknown>;
      const result = await handler(params);
      this.#server.json({ id, result: result ?? null });
      if (method === 'detach') await this.end();
    } catch (error) {
      const { code, message } = error as { code?: unknown; message?: unknown };
      this.#server.json({
        id,
        error: { code: typeof code === 'string' ? code : 'EAGENT', message: String(message) },
      });
    }
  }

  #plane(): DataPlane {
    if (this.#data === undefined) throw Object.assign(new Error('nothing is loaded'), { code: 'EINVAL' });
    return this.#data;
  }

  #armed(): WorkerArming {
    if (this.#arming === undefined) throw Object.assign(new Error('nothing is loaded'), { code: 'EINVAL' });
    return this.#arming;
  }

  readonly #handlers: Handlers = {
    hello: async () => {
      clearTimeout(this.#hello);
      await this.#connected;
      return (await this.#session.call(this.#state, 'info')) as TargetInfo;
    },
    closeInspector: () => this.#closeInspector(),
    scripts: () => this.#scripts.list(),
    source: async ({ scriptId }) => ({ source: await this.#scripts.source(scriptId) }),
    evaluate: ({ expression }) => this.#session.evaluate(expression),
    compiledIn: async () => (await this.#session.call(this.#state, 'compiledIn')) as Methods['compiledIn'][1],
    load: (params) => this.#load(params),
    setSites: async ({ sites }) => {
      await this.#session.call(this.#agent, 'setSites', sites);
      return undefined;
    },
    enable: async ({ sites }) => {
      await this.#session.call(this.#agent, 'enable', sites);
      return undefined;
    },
    disable: async ({ sites }) => {
      await this.#session.call(this.#agent, 'disable', sites);
      return undefined;
    },
    stopTimers: async () => {
      this.#plane().stopTimers();
      return undefined;
    },
    arm: ({ items }: { items: readonly ArmItem[] }) => this.#armed().arm(items),
    closeWindow: async ({ sites }) => {
      await this.#armed().closeWindow(sites);
      return undefined;
    },
    disarm: async ({ sites }) => {
      await this.#armed().disarm(sites);
      return undefined;
    },
    runOnce: async ({ program }) => {
      this.#plane().run(program);
      return undefined;
    },
    startInterval: async ({ program, periodNs, cookie }) => {
      const plane = this.#plane();
      plane.interval(periodNs, () => plane.run(program, cookie));
      return undefined;
    },
    startProfile: async ({ program, periodNs, cookie }) => {
      this.#plane().interval(periodNs, () => this.#sample(program, cookie));
      return undefined;
    },
    readMap: async ({ index }) => {
      const entries: { key: string; values: string[] }[] = [];
      for (const { key, values } of this.#plane().map(index).entries()) {
        entries.push({ key: base64(key), values: values.map(base64) });
      }
      return entries;
    },
    clearMap: async ({ index }) => {
      this.#plane().map(index).clear();
      return undefined;
    },
    zeroMap: async ({ index }) => {
      this.#plane().map(index).zero();
      return undefined;
    },
    faults: async () => (await this.#session.call(this.#agent, 'faults')) as [number, number, number][],
    siteStats: async () => (await this.#session.call(this.#agent, 'siteStats')) as Methods['siteStats'][1],
    stacks: async ({ after }) =>
      (await this.#session.call(this.#agent, 'stacks', after)) as Methods['stacks'][1],
    flush: async () => {
      const plane = this.#plane();
      plane.drain();
      plane.reportLost();
      return undefined;
    },
    cost: async () => ({
      heapBytes: (await this.#session.call(this.#state, 'heapUsed')) as number,
      debuggerEnabled: this.#scripts.enabled,
      enableMs: this.#session.longest.get('enable debugger'),
    }),
    detach: () => this.#restore(),
  };

  #sampling = false;

  /** One sample at a time: when the main thread is busy in native code, periods are skipped. */
  #sample(program: number, _cookie: number): void {
    if (this.#sampling) return;
    this.#sampling = true;
    void this.#session
      .call(this.#state, 'sample', program)
      .catch(() => undefined)
      .finally(() => {
        this.#sampling = false;
      });
  }

  async #load(params: LoadParams): Promise<undefined> {
    if (this.#data !== undefined)
      throw Object.assign(new Error('a program is loaded already'), { code: 'EBUSY' });
    const data = new DataPlane(params, this.#server);
    this.#port.postMessage({ memory: data.memory, layout: params.layout });
    const { agentText, armingText } = this.#config;
    try {
      const agent = await this.#session.evaluateHandle(agentText);
      const arming = await this.#session.evaluateHandle(armingText);
      await this.#session.stopping('make agent', () =>
        this.#session.callRaw(this.#state, 'make', [{ objectId: agent }, { objectId: arming }], true),
      );
      this.#agent = (await this.#session.callRaw(this.#state, 'getAgent', [], false)).objectId ?? '';
      const main = (await this.#session.callRaw(this.#state, 'getArming', [], false)).objectId ?? '';
      await this.#session.call(this.#agent, 'setPaths', params.paths);
      await this.#session.call(this.#agent, 'load', params.programs);
      if (params.usesAsyncId) await this.#session.call(this.#agent, 'trackAsync', true);
      this.#arming = new WorkerArming(this.#session, this.#scripts, this.#agent, main, {
        onArmed: (notice) => this.#server.json({ event: 'armed', params: notice }),
        onWarning: (message) => this.#server.json({ event: 'warning', params: { message } }),
      });
    } catch (error) {
      data.stop();
      throw error;
    }
    this.#data = data;
    return undefined;
  }

  #restored: Promise<RestoreReport> | undefined;

  #inspectorClosed = false;

  async #closeInspector(): Promise<boolean> {
    if (this.#inspectorClosed) return false;
    this.#inspectorClosed = true;
    return (await this.#session.call(this.#state, 'closeInspector')) as boolean;
  }

  /** Everything back as it was; the first call counts. */
  #restore(): Promise<RestoreReport> {
    this.#restored ??= (async () => {
      const nothing: RestoreReport = { functionsRestored: 0, bytesRestored: 0, pausesMs: [], failures: [] };
      const report = (await this.#arming?.restore()) ?? nothing;
      this.#data?.stop();
      if (this.#data !== undefined) {
        this.#data.drain();
        this.#data.reportLost();
      }
      await this.#scripts.disable();
      if (this.#config.closeInspector) await this.#closeInspector();
      await this.#session.call(this.#state, 'dispose');
      return { ...report, pausesMs: [...this.#session.pauses] };
    })();
    return this.#restored;
  }

  /** Until the main thread has let go of the session; one that never turns its event loop is not waited for. */
  #farewell(): Promise<void> {
    return new Promise((resolve) => {
      parentPort?.once('message', () => resolve());
      parentPort?.postMessage(0);
      setTimeout(resolve, FAREWELL_MS);
    });
  }

  /** The tracer has gone, or says it goes. Ends this thread, whatever fails on the way. */
  async end(): Promise<void> {
    if (this.#ending) return;
    this.#ending = true;
    clearTimeout(this.#hello);
    try {
      await this.#restore();
    } catch {
      // the main thread is gone, or no longer answers; there is nobody to tell
    }
    // a detach request that waited for the same restoring answers first
    await new Promise((resolve) => setImmediate(resolve));
    await this.#server.drained();
    this.#server.close();
    try {
      rmSync(this.#config.folder, { recursive: true, force: true });
    } catch {
      // somebody else's by now
    }
    this.#session.disconnect();
    this.#port.close();
    // an end before that aborts the process: the main thread's side of the session posts to a thread being torn down
    await this.#farewell();
    process.exit(0);
  }
}

const base64 = (bytes: Uint8Array): string =>
  Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('base64');

const { config, port, shared } = workerData as {
  config: WorkerConfig;
  port: MessagePort;
  shared: SharedArrayBuffer;
};
const worker = new AgentWorker(config, port, shared);
// nothing here may reach the application as an error of a worker; everything is put back instead
process.on('uncaughtException', () => void worker.end());
process.on('unhandledRejection', () => void worker.end());
