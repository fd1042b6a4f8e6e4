/** The worker threads that the main thread of a prepared process has started: who traces it says that they are not traced. */

import { subscribe } from 'node:diagnostics_channel';
import type { Worker } from 'node:worker_threads';
import { OWN_WORKER } from '../agent/knock-protocol.ts';

/** Node publishes there whenever a Worker is made. */
const CHANNEL = 'worker_threads';
/** Node's own, for module hooks. */
const INTERNAL = 'InternalWorker';

/** Begins to note them; the result counts those that run. */
export function noteThreads(): () => number {
  let threads: WeakRef<Worker>[] = [];
  subscribe(CHANNEL, (message) => {
    const { worker } = message as { worker: Worker };
    if (Object.getPrototypeOf(worker)?.constructor?.name === INTERNAL) return;
    if (!Object.hasOwn(worker, OWN_WORKER)) threads.push(new WeakRef(worker));
  });
  return () => {
    // one that has ended has no number any more
    threads = threads.filter((thread) => (thread.deref()?.threadId ?? -1) > 0);
    return threads.length;
  };
}
