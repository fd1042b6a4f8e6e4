/**
 * A session with the own process: the agent is started by a call instead of an evaluation, and nothing of the inspector is opened. Its
 * worker does what it does for any process; this thread is tracer and traced in turns, which the worker's waiting allows.
 */

import { Session } from 'node:inspector';
import { runInThisContext } from 'node:vm';
import type { InjectConfig, Injection } from '../agent/inject/config.ts';
import { checkArgument } from '../arguments.ts';
import { writeAgent } from './agent-file.ts';
import { agentTexts } from './agent-text.ts';
import { checked, type Injected, makeConfig, openSession, SESSION_EVENTS, WorkerCounter } from './attach.ts';
import type { SessionEvents, TraceSession } from './session.ts';

/** Errors: EBUSY somebody traces this process already, EPERMISSION, EWORKER, EACCES. Call it on the main thread. */
export async function selfSession(events: SessionEvents): Promise<TraceSession> {
  checkArgument('selfSession()', 'events', events, SESSION_EVENTS);
  const config = makeConfig(false);
  const workers = countOwnWorkers();
  // the text that other processes evaluate
  const { inject: text, half } = agentTexts();
  const inject = runInThisContext(text) as (config: InjectConfig, half: unknown) => Injection;
  const injection = inject(config, runInThisContext(half));
  return await openSession(process.pid, injectHere(injection), config, workers, events);
}

/** All pieces at once: who traces himself waits anyway. */
function injectHere(injection: Injection): Injected {
  const stops: number[] = [];
  for (let written = false; ; ) {
    const { ms, folder, result } = injection.next();
    stops.push(ms);
    if (result !== undefined) return { ...checked(result), stops };
    if (folder === undefined || written) continue;
    try {
      writeAgent(process.pid, folder);
    } catch (error) {
      injection.abort();
      throw error;
    }
    written = true;
  }
}

function countOwnWorkers(): number {
  const session = new Session();
  const counter = new WorkerCounter();
  session.connect();
  session.on('inspectorNotification', ({ method, params }: { method: string; params?: unknown }) =>
    counter.event(method, params),
  );
  session.post('NodeWorker.enable', { waitForDebuggerOnStart: false });
  session.post('NodeWorker.disable');
  session.disconnect();
  return counter.count;
}
