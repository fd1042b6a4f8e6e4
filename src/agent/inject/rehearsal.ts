/**
 * Making a Worker takes the main thread a millisecond and more, the first time in a process: most of that is Node's own code being
 * compiled. It is made in stages instead, each as a piece of its own: workers that are refused before they are any, each a little
 * further on the way. None of them gets a thread, and nothing of them stays.
 */

import { OWN_WORKER } from '../knock-protocol.ts';
import type { Builtin } from './builtins.ts';

export const WORKER_OPTIONS: import('node:worker_threads').WorkerOptions = {
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

type Worker = import('node:worker_threads').Worker;
type Options = import('node:worker_threads').WorkerOptions;

/** Node's half of a Worker. */
interface Handle {
  startThread(): void;
  /** Called when its thread has ended. */
  onexit?(code: number): void;
}

/** What each stage makes a worker with. */
const REFUSED: readonly Options[] = [
  Object.defineProperty({ ...WORKER_OPTIONS }, 'name', {
    get() {
      throw undefined;
    },
  }),
  { ...WORKER_OPTIONS, execArgv: ['--trapline-no-such-option'] },
  { ...WORKER_OPTIONS, workerData: () => {} },
  { ...WORKER_OPTIONS, workerData: () => {} },
];

/**
 * Stage 0 is stopped when its name is read, stage 1 refused for its options. Stage 2 gets its port and the streams behind it, and is stopped
 * at the next property that its constructor sets. Stage 3 is refused for data that cannot be cloned, the last thing before its thread would
 * be started; what it leaves is for rehearseExit().
 */
export function rehearseWorker(builtin: Builtin, stage: number): Handle | undefined {
  let handle: Handle | undefined;
  try {
    new UnstartedWorker(builtin, '', REFUSED[stage] as Options, stage === 2, (made) => {
      handle = made;
    });
  } catch {
    // as it should
  }
  return handle;
}

/** As if the thread had ended: nobody listens. */
export function rehearseExit(handle: Handle | undefined): void {
  try {
    handle?.onexit?.(0);
  } catch {
    // nor does anybody care
  }
}

/** A Worker whose thread is not started by its constructor, as that takes its time, too. */
export class UnstartedWorker {
  readonly worker: Worker;
  readonly #builtin: Builtin;
  /** Node's, with our own way to start it in front of the prototype's. */
  #handle: Handle | undefined;

  /** `stop`: at the first property that is set behind its port. `onHandle` is told, also where there will be no Worker. */
  constructor(
    builtin: Builtin,
    text: string,
    options: Options,
    stop = false,
    onHandle: (handle: Handle) => void = () => {},
  ) {
    this.#builtin = builtin;
    const { Worker, MessagePort } = builtin('worker_threads');
    let made: object | undefined;
    let ports = 0;
    const prototype = new Proxy(Worker.prototype, {
      // properties that the constructor adds come by here
      set: (_, key, value, worker) => {
        if (stop && ports > 0) return false;
        if (made === undefined) Reflect.defineProperty(worker, OWN_WORKER, { value: true });
        made = worker;
        if (value instanceof MessagePort) ports++;
        else if (typeof value?.startThread === 'function') {
          this.#handle = value;
          onHandle(value);
          define(value, 'startThread', () => {});
          // all that follows is set as in any Worker
          if (!stop) Reflect.setPrototypeOf(worker, Worker.prototype);
        }
        return define(worker, key, value);
      },
    });
    // a function that constructs, as an arrow does not
    const target = Object.assign(function unstarted() {}, { prototype });
    try {
      this.worker = Reflect.construct(Worker, [text, options], target as never);
    } catch (error) {
      if (made !== undefined) this.#closePorts(made);
      throw error;
    }
    Reflect.setPrototypeOf(this.worker, Worker.prototype);
  }

  start(): void {
    const handle = this.#handle;
    if (handle !== undefined) {
      Reflect.deleteProperty(handle, 'startThread');
      handle.startThread();
      this.#handle = undefined;
    }
    // a thread that is not there yet cannot be let go of
    this.worker.unref();
  }

  /** It is not to be started any more. */
  drop(): void {
    if (this.#handle !== undefined) this.#closePorts(this.worker);
  }

  /** Open ones would keep the process alive. */
  #closePorts(worker: object): void {
    const { MessagePort } = this.#builtin('worker_threads');
    for (const key of Reflect.ownKeys(worker)) {
      const value: unknown = Reflect.getOwnPropertyDescriptor(worker, key)?.value;
      if (value instanceof MessagePort) value.close();
    }
  }
}

function define(holder: object, key: PropertyKey, value: unknown): boolean {
  return Reflect.defineProperty(holder, key, { value, writable: true, enumerable: true, configurable: true });
}
