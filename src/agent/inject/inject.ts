/**
 * What the injected text does in the traced process, on its main thread: makes the folder, this thread's half (`MainHalf`), and
 * starts the worker. Nothing here may throw into the application,
 * keep its event loop alive, or stay behind.
 */

import { holderAlive } from '../holder.ts';
import { sessionBase } from '../knock-protocol.ts';
import type { WorkerConfig } from '../worker/requests.ts';
import type { Builtin } from './builtins.ts';
import {
  AGENT_FILE,
  type InjectConfig,
  type Injection,
  type InjectResult,
  type InjectStep,
} from './config.ts';
import type { MainHalf } from './half.ts';
import { rehearseExit, rehearseWorker, UnstartedWorker, WORKER_OPTIONS } from './rehearsal.ts';

/** How often an injection looks whether its tracer is still there: killed between two pieces, it is to leave nothing. */
const WATCH_MS = 200;
/** The same for a tracer that cannot be seen from here. */
const ABANDONED_MS = 2000;
/** An event loop that has not turned for so long is not waited for: the piece is done at the interrupt. */
const TURN_MS = 20;

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
 * Nothing is done by the call itself: it is done piece by piece, none of which takes longer than about half a millisecond, in turns
 * of the event loop that `later()` asks for: dispatching an inspector's message takes as long as a piece, and the two together would be
 * one stop. A main thread that does not come back to its loop is served too, by interrupts. `Half` comes as a text of its own:
 * parsing both at once would take as long as the two together.
 */
export function inject(config: InjectConfig, Half: typeof MainHalf): Injection {
  const getBuiltin = (process as { getBuiltinModule?: (id: string) => unknown }).getBuiltinModule;
  const { hrtime } = process;
  const builtin = ((id: string) =>
    Reflect.apply(getBuiltin as (id: string) => unknown, process, [id])) as unknown as Builtin;
  let folder = config.folder ?? '';
  let done = false;
  let tracerSeen = false;
  let channel: import('node:worker_threads').MessageChannel | undefined;
  const shared = new SharedArrayBuffer(64);
  let half: MainHalf | undefined;
  let options: import('node:worker_threads').WorkerOptions = WORKER_OPTIONS;
  let worker: UnstartedWorker | undefined;
  let unstarted: ReturnType<typeof rehearseWorker>;
  const claim: Claim = { tracer: config.tracer, half: () => undefined };

  function removeFolder(): void {
    if (folder !== '') builtin('fs').rmSync(folder, { recursive: true, force: true });
  }

  /** `refused`: a tracer that made the folder finds the answer there. */
  function abort(refused = false): void {
    unwatch();
    if (done) return;
    done = true;
    channel?.port1.close();
    worker?.drop();
    releaseClaim(claim);
    if (!refused || config.folder === undefined) removeFolder();
  }

  let watching: NodeJS.Timeout | undefined;

  function unwatch(): void {
    if (watching !== undefined) builtin('timers').clearInterval(watching);
    watching = undefined;
  }

  function watchTracer(): void {
    const { readFileSync } = builtin('fs');
    let left = ABANDONED_MS / WATCH_MS;
    watching = builtin('timers').setInterval(() => {
      const gone = tracerSeen ? holderAlive(config.tracer, readFileSync) === false : --left <= 0;
      if (gone) abort();
    }, WATCH_MS);
    watching.unref();
  }

  const rehearse = (stage: number) => () => void rehearseWorker(builtin, stage);

  const steps: (() => InjectResult | undefined)[] = [
    () => {
      if (typeof getBuiltin === 'function') return permissionDenied();
      const message = `Node ${process.version} is too old to be traced`;
      return { ok: false, code: 'EVERSION', message, hint: 'Node 20.19 or later is needed' };
    },
    // what is called here for the first time in a process is compiled, and a later piece is shorter by that
    () => {
      tracerSeen = holderAlive(config.tracer, builtin('fs').readFileSync) === true;
      return undefined;
    },
    () => {
      const busy = takeClaim(claim);
      // one that is taken is given back, whatever becomes of the tracer
      if (busy === undefined) watchTracer();
      return busy;
    },
    () => {
      if (config.folder !== undefined) return undefined;
      try {
        const base = sessionBase(process.env);
        folder = builtin('fs').mkdtempSync(builtin('path').join(base, `trapline-${process.pid}-`));
        return undefined;
      } catch (error) {
        const message = `cannot make a folder for the socket: ${String(error)}`;
        return { ok: false, code: 'EACCES', message };
      }
    },
    // each of these loads or compiles, the first time in a process, what the next one needs of Node
    () => void builtin('string_decoder'),
    () => void builtin('stream/promises'),
    () => void new (builtin('stream').Readable)({ read() {} }),
    () => void builtin('diagnostics_channel'),
    () => void builtin('vm'),
    () => void new (builtin('vm').Script)('0').runInThisContext(),
    () => void builtin('module'),
    loadMessaging,
    () => void builtin('worker_threads').Worker,
    () => {
      const { MessageChannel } = builtin('worker_threads');
      channel = new MessageChannel();
      channel.port1.unref();
      return undefined;
    },
    makeHalf,
    () => void half?.listen(),
    rehearse(0),
    rehearse(1),
    rehearse(2),
    () => {
      unstarted = rehearseWorker(builtin, 3);
      return undefined;
    },
    () => void rehearseExit(unstarted),
    prepareWorker,
    makeWorker,
    listen,
    startWorker,
  ];

  function makeHalf(): undefined {
    const { port1 } = channel as import('node:worker_threads').MessageChannel;
    const made = new Half(builtin, port1, shared, config.nonce, () => releaseClaim(claim));
    half = made;
    claim.half = (key) => (key === config.key ? made : undefined);
  }

  function prepareWorker(): undefined {
    const { port2 } = channel as import('node:worker_threads').MessageChannel;
    const socket = builtin('path').join(folder, 'socket');
    const { token, key, closeInspector } = config;
    const tracer = tracerSeen ? config.tracer : undefined;
    const workerConfig: WorkerConfig = { folder, socket, token, key, closeInspector, tracer };
    const workerData = { config: workerConfig, port: port2, shared };
    options = { ...WORKER_OPTIONS, workerData, transferList: [port2] };
  }

  function makeWorker(): InjectResult | undefined {
    try {
      worker = new UnstartedWorker(builtin, BOOTSTRAP, options);
      return undefined;
    } catch (error) {
      return workerFailed(error);
    }
  }

  function listen(): undefined {
    const { worker: made } = worker as UnstartedWorker;
    // an error nobody listens to would end the application
    made.on('error', () => {});
    made.on('message', () => half?.farewell(() => made.postMessage(0)));
    made.on('exit', () => half?.workerGone(folder));
  }

  function startWorker(): InjectResult {
    try {
      worker?.start();
    } catch (error) {
      return workerFailed(error);
    }
    return { ok: true, folder, socket: options.workerData.config.socket, nodeVersion: process.version };
  }

  let at = 0;

  function next(): InjectStep {
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
      if (result?.ok === false) abort(true);
      else if (result !== undefined) {
        unwatch();
        done = true;
      }
    }
    const [s, ns] = Reflect.apply(hrtime, process, [before]);
    return { ms: s * 1e3 + ns / 1e6, folder: folder === '' ? undefined : folder, result };
  }

  function clock(): number {
    const [s, ns] = Reflect.apply(hrtime, process, []);
    return s * 1e3 + ns / 1e6;
  }

  /** The piece that a turn of the event loop is to do, and what came of it. */
  let piece: { readonly asked: number; begun: boolean; run(): void; outcome?: () => InjectStep } | undefined;

  function ask(): void {
    const mine: NonNullable<typeof piece> = {
      asked: clock(),
      begun: false,
      run() {
        if (mine.begun) return;
        mine.begun = true;
        try {
          const step = next();
          mine.outcome = () => step;
        } catch (error) {
          mine.outcome = () => {
            throw error;
          };
        }
      },
    };
    piece = mine;
    if (typeof getBuiltin !== 'function') return;
    const { setImmediate } = builtin('timers');
    // the first one may come before the loop has looked for events
    setImmediate(() => setImmediate(() => mine.run()));
  }

  return {
    next,
    later(): InjectStep | null {
      if (piece === undefined) {
        ask();
        return null;
      }
      // it may be this very one that the message has come in the middle of
      if (!piece.begun && clock() - piece.asked > TURN_MS) piece.run();
      const step = piece.outcome?.();
      if (step === undefined) return null;
      piece = undefined;
      if (step.result === undefined) ask();
      return step;
    },
    abort: () => abort(),
  };
}

function workerFailed(error: unknown): InjectResult {
  return {
    ok: false,
    code: 'EWORKER',
    message: `cannot start a worker in the process: ${String(error)}`,
  };
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

/** What the global MessageChannel needs is a part of what Node's worker_threads need. Older Node loads it at the first reading. */
function loadMessaging(): undefined {
  const textOf = Function.prototype.toString;
  const get = Object.getOwnPropertyDescriptor(globalThis, 'MessageChannel')?.get;
  // an accessor of the application's own is not asked
  if (get === undefined || !Reflect.apply(textOf, get, []).includes('mod ??= require(id)')) return;
  Reflect.apply(get, globalThis, []);
}

/** A session's mark on the process: one at a time. Nothing of the file system has to be looked through for it. */
interface Claim {
  readonly tracer: number;
  /** The main thread's half, for who knows the session's key: the worker, through its inspector session. */
  half(key: unknown): MainHalf | undefined;
}

const CLAIM = Symbol.for('trapline.session');

function takeClaim(claim: Claim): InjectResult | undefined {
  const held = Object.getOwnPropertyDescriptor(globalThis, CLAIM)?.value as Claim | undefined;
  if (held === undefined) {
    Object.defineProperty(globalThis, CLAIM, { value: claim, configurable: true, enumerable: false });
    return undefined;
  }
  const message = `process ${process.pid} is being traced already, by process ${held.tracer}`;
  return { ok: false, code: 'EBUSY', message, holder: held.tracer };
}

function releaseClaim(claim: Claim): void {
  if (Object.getOwnPropertyDescriptor(globalThis, CLAIM)?.value === claim)
    Reflect.deleteProperty(globalThis, CLAIM);
}
