/**
 * Making a Worker takes the main thread a millisecond and more, the first time in a process: most of that is Node's own code being
 * compiled. It is made in stages instead, each as a piece of its own: workers that are refused before they are any, each a little
 * further on the way. None of them gets a thread, and nothing of them stays.
 */

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

/**
 * Stage 0 is refused for its options. Stage 1 gets its port and the streams behind it, and is stopped at the next property that its
 * constructor sets. Stage 2 is refused for data that cannot be cloned, the last thing before its thread is started.
 */
export function rehearseWorker(builtin: Builtin, stage: number): void {
  const { Worker, MessagePort } = builtin('worker_threads');
  const ports: import('node:worker_threads').MessagePort[] = [];
  const prototype = new Proxy(Worker.prototype, {
    // properties that the constructor adds come by here
    set(_, key, value, worker) {
      if (stage === 1 && ports.length > 0) return false;
      if (value instanceof MessagePort) ports.push(value);
      return Reflect.defineProperty(worker, key, {
        value,
        writable: true,
        enumerable: true,
        configurable: true,
      });
    },
  });
  const options =
    stage === 0
      ? { ...WORKER_OPTIONS, execArgv: ['--trapline-no-such-option'] }
      : { ...WORKER_OPTIONS, workerData: () => {} };
  try {
    // a function that constructs, as an arrow does not
    const target = Object.assign(function rehearsal() {}, { prototype });
    Reflect.construct(Worker, ['', options], target as never);
  } catch {
    // as it should
  }
  // an open one would keep the process alive
  for (const port of ports) port.close();
}
