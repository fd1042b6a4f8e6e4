/** The agent's worker: one tracer on a Unix socket, one inspector session with the main thread, and the way back. */

import { readFileSync, rmSync } from 'node:fs';
import { availableParallelism, loadavg } from 'node:os';
import { type MessagePort, parentPort, workerData } from 'node:worker_threads';
import { stripTypes } from '../../arch/v8/typescript.ts';
import type { HookNotice } from '../arming/notice.ts';
import type { ErrandAnswer } from '../errand.ts';
import { holderAlive } from '../holder.ts';
import type { AgentFile } from '../inject/config.ts';
import { reasonOf } from './arm-context.ts';
import { WorkerArming } from './arming.ts';
import { WorkerContexts } from './contexts.ts';
import { DataPlane } from './data.ts';
import { EventSources } from './events.ts';
import { compiledIn, inPieces } from './lists.ts';
import { Loader } from './loader.ts';
import { OpenInspector } from './open-inspector.ts';
import type {
  ArmedNotice,
  LoadParams,
  Method,
  Methods,
  PrintNotice,
  RestoreFailure,
  RestoreReport,
  TargetInfo,
  WorkerConfig,
  WorkerNotice,
} from './requests.ts';
import { Scripts } from './scripts.ts';
import { AgentServer } from './server.ts';
import { MainSession } from './session.ts';

/** A tracer connects within milliseconds of the socket being there; one that has not by now was killed or is stuck. */
const HELLO_MS = 10_000;
/** The same for one that cannot be seen from here. */
const HELLO_UNSEEN_MS = 1500;
/** How often a tracer that has not connected yet is looked for. */
const WATCH_MS = 100;

/** How long a busy main thread may take to let go of this one's inspector session. */
const FAREWELL_MS = 60_000;

/** Sites whose programs are set in one stop. */
const SITES_AT_ONCE = 64;

type Handlers = { [M in Method]: (params: Methods[M][0]) => Promise<Methods[M][1]> };

class AgentWorker {
  readonly #config: WorkerConfig;
  readonly #texts: AgentFile;
  readonly #port: MessagePort;
  /** [f64 ×2 stamps][i32 acknowledgements of hooks][i32 errand][i32 times it was let go on][f64 ×2 of errands, at 32] */
  readonly #shared: SharedArrayBuffer;
  readonly #server: AgentServer;
  readonly #session: MainSession;
  readonly #inspector: OpenInspector;
  readonly #scripts: Scripts;
  readonly #events: EventSources;
  #data: DataPlane | undefined;
  #arming: WorkerArming | undefined;
  #contexts: WorkerContexts | undefined;
  #ending = false;
  #prepared = false;
  readonly #hello: NodeJS.Timeout;

  constructor(config: WorkerConfig, texts: AgentFile, port: MessagePort, shared: SharedArrayBuffer) {
    this.#config = config;
    this.#texts = texts;
    this.#port = port;
    this.#shared = shared;
    const key = JSON.stringify(config.key);
    this.#session = new MainSession(port, shared, `globalThis[Symbol.for('trapline.session')].half(${key})`);
    this.#inspector = new OpenInspector(this.#session);
    this.#scripts = new Scripts(this.#session);
    this.#events = new EventSources({ session: this.#session, text: texts.events });
    port.on('message', (notice: ErrandAnswer | HookNotice | WorkerNotice | PrintNotice) => {
      if ('answer' in notice) this.#session.answered(notice);
      else if ('print' in notice) this.#server.json({ event: 'print', params: notice });
      else if ('worker' in notice) this.#server.json({ event: 'worker', params: {} });
      else this.#onHook(notice);
    });
    this.#server = new AgentServer(config.socket, config.token, {
      onRequest: (id, method, params) => void this.#request(id, method, params),
      onGone: () => void this.end(),
    });
    const { tracer } = config;
    const since = performance.now();
    this.#hello = setInterval(() => {
      const waited = performance.now() - since;
      const gone =
        tracer === undefined
          ? waited > HELLO_UNSEEN_MS
          : waited > HELLO_MS || holderAlive(tracer, readFileSync) === false;
      if (gone) void this.end();
    }, WATCH_MS);
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
      clearInterval(this.#hello);
      const { value } = await this.#session.errand<TargetInfo>('info', 'half', 'info');
      const realtime = BigInt(Math.round((performance.timeOrigin + performance.now()) * 1e6));
      const info = { ...value, monotonicToRealtimeNs: String(realtime - process.hrtime.bigint()) };
      this.#prepared = info.prepared;
      await this.#session.errand('watch workers', 'half', 'watchWorkers');
      return info;
    },
    closeInspector: () => this.#inspector.close(),
    scripts: () => this.#scripts.list(),
    modules: () => inPieces<string>(this.#session, 'modules'),
    source: async ({ scriptId }) => ({ source: await this.#scripts.source(scriptId) }),
    definedEvents: () => this.#events.defined(),
    channels: () => this.#events.channels(),
    evaluate: ({ expression }) => this.#session.evaluate(expression),
    compiledIn: async () => {
      if (!this.#prepared) return undefined;
      const scripts = await compiledIn(this.#session);
      return scripts.map((script) => ({ ...script, forms: Array.from(script.forms, Number) }));
    },
    withoutTypes: async ({ path, types }) => {
      try {
        return stripTypes(readFileSync(path, 'utf8'), path, types);
      } catch {
        return undefined;
      }
    },
    unloaded: async () =>
      (await this.#session.errand<readonly string[]>('unloaded', 'half', 'unloaded')).value,
    load: (params) => this.#load(params),
    addPrograms: (params) => this.#addPrograms(params),
    addMaps: async ({ maps }) => {
      this.#plane().addMaps(maps);
      return undefined;
    },
    setSites: async ({ sites }) => {
      for (let from = 0; from < sites.length; from += SITES_AT_ONCE) {
        const some = sites.slice(from, from + SITES_AT_ONCE);
        await this.#session.errand('set sites', 'agent', 'setSites', some);
      }
      return undefined;
    },
    enable: ({ sites }) => this.#armed().enable(sites, true),
    disable: ({ sites }) => this.#armed().enable(sites, false),
    stopTimers: async () => {
      this.#plane().stopTimers();
      return undefined;
    },
    reach: async ({ contextId }) => (await this.#contexts?.reach(contextId)) ?? false,
    arm: ({ items, limits }) => this.#armed().arm(items, limits),
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
    updateMap: async ({ index, key, value, flags }) =>
      this.#plane().map(index).update(fromBase64(key), fromBase64(value), flags),
    deleteKey: async ({ index, key }) => this.#plane().map(index).delete(fromBase64(key)),
    clearMap: async ({ index }) => {
      this.#plane().map(index).clear();
      return undefined;
    },
    zeroMap: async ({ index }) => {
      this.#plane().map(index).zero();
      return undefined;
    },
    faults: async () => (await this.#session.errand<Methods['faults'][1]>('faults', 'agent', 'faults')).value,
    siteStats: async () => {
      await this.#arming?.beforeStats();
      return (await this.#session.errand<Methods['siteStats'][1]>('site stats', 'agent', 'siteStats')).value;
    },
    stacks: async ({ after }) =>
      (await this.#session.errand<Methods['stacks'][1]>('stacks', 'agent', 'stacks', after)).value,
    flush: async () => {
      const { rings } = this.#plane();
      await rings.drainAll();
      rings.reportLost();
      return undefined;
    },
    cost: async ({ walk }) => {
      if (walk) await this.#arming?.measureWalk();
      return {
        heapBytes: await this.#heapBytes(walk ? 'oldHeapUsed' : 'heapUsed'),
        debuggerEnabled: this.#scripts.enabled,
        enableMs: this.#session.longest.get('enable debugger'),
        walkMs: this.#arming?.walkMs,
        busy: (loadavg()[0] ?? 0) / availableParallelism(),
      };
    },
    detach: () => this.#restore(),
  };

  async #heapBytes(method: 'heapUsed' | 'oldHeapUsed'): Promise<number> {
    return (await this.#session.errand<number>('heap size', 'half', method)).value;
  }

  #sampling = false;

  /** One sample at a time: when the main thread is busy in native code, periods are skipped. */
  #sample(program: number, _cookie: number): void {
    if (this.#sampling) return;
    this.#sampling = true;
    void this.#session
      .call('half', 'sample', program)
      .catch(() => undefined)
      .finally(() => {
        this.#sampling = false;
      });
  }

  async #load(params: LoadParams): Promise<undefined> {
    if (this.#data !== undefined)
      throw Object.assign(new Error('a program is loaded already'), { code: 'EBUSY' });
    if (typeof WebAssembly === 'undefined') {
      const why =
        'the process has no WebAssembly, and nothing else runs programs: --jitless and --no-expose-wasm take it away';
      throw Object.assign(new Error(why), { code: 'ENOWASM' });
    }
    const data = new DataPlane(params, this.#server);
    try {
      await this.#loader().load(data, params);
      this.#contexts = new WorkerContexts(this.#session);
      const events = {
        onArmed: (notice: ArmedNotice) => this.#server.json({ event: 'armed', params: notice }),
        onWarning: (message: string) => this.#server.json({ event: 'warning', params: { message } }),
      };
      this.#arming = new WorkerArming(this.#session, this.#scripts, events, this.#events);
    } catch (error) {
      data.stop();
      throw error;
    }
    this.#data = data;
    return undefined;
  }

  #loader(): Loader {
    return new Loader(this.#session, this.#texts);
  }

  async #addPrograms(params: Pick<LoadParams, 'programs' | 'paths'>): Promise<undefined> {
    const modules = this.#plane().add(params.programs);
    await this.#loader().loadPrograms(modules, params);
    return undefined;
  }

  #restored: Promise<RestoreReport> | undefined;

  /** Everything back as it was; the first call counts. */
  #restore(): Promise<RestoreReport> {
    this.#restored ??= (async () => {
      const nothing: RestoreReport = { functionsRestored: 0, bytesRestored: 0, pausesMs: [], failures: [] };
      let report = nothing;
      const failures: RestoreFailure[] = [];
      const attempt = async (what: string, operation: () => unknown): Promise<void> => {
        try {
          await operation();
        } catch (error) {
          failures.push({ what, sites: [], reason: reasonOf(error) });
        }
      };
      // each step on its own: one that fails keeps none of the others
      await attempt('what was armed', async () => {
        report = (await this.#arming?.restore()) ?? nothing;
      });
      await attempt('shared memory', () => this.#data?.end());
      await attempt('the debugger', () => this.#scripts.disable());
      if (this.#config.closeInspector) await attempt("the inspector's port", () => this.#inspector.close());
      await attempt("the inspector's port", async () => {
        await this.#inspector.closed;
        const { value: closing } = await this.#session.errand<number>('closing time', 'half', 'closingMs');
        if (closing > 0) this.#session.note('close inspector', closing);
      });
      await attempt('the agent', () => this.#session.errand('dispose', 'half', 'dispose'));
      return {
        ...report,
        pausesMs: [...this.#session.pauses],
        failures: [...report.failures, ...failures],
      };
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
    clearInterval(this.#hello);
    await this.#restore();
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

const fromBase64 = (text: string): Uint8Array => new Uint8Array(Buffer.from(text, 'base64'));

const base64 = (bytes: Uint8Array): string =>
  Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('base64');

const { config, texts, port, shared } = workerData as {
  config: WorkerConfig;
  texts: AgentFile;
  port: MessagePort;
  shared: SharedArrayBuffer;
};
const worker = new AgentWorker(config, texts, port, shared);
// nothing here may reach the application as an error of a worker; everything is put back instead
process.on('uncaughtException', () => void worker.end());
process.on('unhandledRejection', () => void worker.end());
