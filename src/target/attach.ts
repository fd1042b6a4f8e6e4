/**
 * Attaching by PID: identify, and knock at the door of a prepared process. Of any other, open the inspector, inject the agent piece by
 * piece, leave the inspector and close its port again. From then on there is only the agent's Unix socket.
 */

import { randomBytes } from 'node:crypto';
import { existsSync, readdirSync, rmSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  agentPrefix,
  type InjectConfig,
  type InjectResult,
  type InjectStep,
} from '../agent/inject/config.ts';
import { OWN_MARK } from '../agent/protocol.ts';
import { aFunction, aRecord, checkArgument, optional, shape, someOptions } from '../arguments.ts';
import { TraplineError } from '../errors.ts';
import { writeAgent } from './agent-file.ts';
import { agentTexts } from './agent-text.ts';
import { CdpClient } from './cdp.ts';
import { AgentConnection } from './connection.ts';
import { guardInspector } from './guard.ts';
import { closePort, type OpenInspector, openInspector } from './inspector-port.ts';
import { knock } from './knock.ts';
import { type Identity, identify, isAlive } from './process.ts';
import { RemoteSession } from './remote-session.ts';
import type { SessionEvents, TraceSession } from './session.ts';

/** One that no process can have is ESRCH, as any that is not there. */
export const aPid = shape(`a whole number, from 1 to ${2 ** 31 - 1}`, Number.isSafeInteger);
/** Of an object with methods: it may be of any class. */
export const SESSION_EVENTS = aRecord<SessionEvents>(
  {
    onRecord: optional(aFunction),
    onArmed: optional(aFunction),
    onLost: optional(aFunction),
    onWarning: optional(aFunction),
    onPrint: optional(aFunction),
    onGone: optional(aFunction),
  },
  'an object, with onRecord, onArmed, onLost, onWarning or onGone',
);
const ATTACH_OPTIONS = someOptions<AttachOptions>({ onStep: optional(aFunction) });

const AGENT_START_MS = 15_000;
/** So long the agent of a tracer that was killed may take to put everything back. */
const LEFT_MS = 3000;
const RETRY_MS = 100;
/** A process that ends while it is being attached to has lost its inspector so long before it is gone. */
const EXIT_MS = 500;
/** What requests to an inspector, or to an agent, fail with when the process ends. */
const CUT_OFF: ReadonlySet<unknown> = new Set([
  'EINSPECTOR',
  'EINJECT',
  'ECONNREFUSED',
  'ECONNRESET',
  'EGONE',
  'ENOENT',
]);

/** Another tracer has the process. */
class HeldError extends TraplineError {
  /** Undefined: it is just leaving. */
  readonly holder: number | undefined;

  constructor(message: string, holder: number | undefined) {
    const hint =
      holder === undefined || holder === process.pid ? undefined : `kill -INT ${holder} ends that one`;
    super('EBUSY', message, { hint });
    this.holder = holder;
  }
}

/** Between two pieces of the injection: an event loop that is not held up by something else has turned by then. */
const BETWEEN_MS = 2;

export interface AttachOptions {
  /** Told of each step and how long it took, in ms. */
  readonly onStep?: (step: string, ms: number) => void;
}

/** A session with a running process. Rejects with a TraplineError; then nothing of the process was changed. */
export async function attach(
  pid: number,
  events: SessionEvents,
  options: AttachOptions = {},
): Promise<TraceSession> {
  checkArgument('attach()', 'pid', pid, aPid);
  checkArgument('attach()', 'events', events, SESSION_EVENTS);
  checkArgument('attach()', 'options', options, ATTACH_OPTIONS);
  const until = Date.now() + LEFT_MS;
  for (;;) {
    try {
      return await attachOnce(pid, events, options);
    } catch (error) {
      // What a tracer that was killed has left is put back by its agent within moments.
      const left = error instanceof HeldError && (error.holder === undefined || !isAlive(error.holder));
      const again = left && Date.now() <= until;
      if (!again && (await hasLeft(pid, error)))
        throw new TraplineError('ESRCH', `process ${pid} has exited`, { cause: error });
      if (!again) throw error;
    }
    await sleep(RETRY_MS);
  }
}

/** Whether an error is of a process that has exited meanwhile. */
async function hasLeft(pid: number, error: unknown): Promise<boolean> {
  if (!CUT_OFF.has((error as { code?: unknown }).code)) return false;
  const until = Date.now() + EXIT_MS;
  while (isAlive(pid)) {
    if (Date.now() > until) return false;
    await sleep(5);
  }
  return true;
}

async function attachOnce(pid: number, events: SessionEvents, options: AttachOptions): Promise<TraceSession> {
  let last = performance.now();
  const step = (name: string): void => {
    const now = performance.now();
    options.onStep?.(name, now - last);
    last = now;
  };
  const identity = await identify(pid);
  step('identify');
  const config = makeConfig(false);
  const answer = await knock(identity, config);
  let way: WayIn;
  if (answer === undefined) way = await byInspector(identity, step);
  else
    way = { config, injected: { ...checked(answer.result), stops: answer.stops }, workers: answer.workers };
  step('inject');
  const session = await openSession(pid, way.injected, way.config, way.workers, events);
  step('connect');
  return session;
}

/** What is known once the agent is in the process. */
interface WayIn {
  readonly config: InjectConfig;
  readonly injected: Injected;
  /** Worker threads of the application. */
  readonly workers: number;
}

async function byInspector(identity: Identity, step: (name: string) => void): Promise<WayIn> {
  const { pid } = identity;
  const guard = guardInspector(pid);
  let inspector: OpenInspector;
  try {
    inspector = await openInspector(identity, (seen) => guard.begin(seen));
    step('open inspector');
    const client = await CdpClient.connect(inspector.url);
    const config = makeConfig(!inspector.wasOpen);
    try {
      // before the agent adds one of its own
      const workers = await countWorkers(client);
      return { config, injected: await injectThrough(client, config, pid), workers };
    } catch (error) {
      if (!inspector.wasOpen) await closePort(client);
      throw error;
    } finally {
      await client.close();
    }
  } catch (error) {
    if ((error as { code?: unknown }).code === 'ESIGUSR1') guard.late();
    throw error;
  } finally {
    // the agent closes the port itself from here on
    guard.end();
  }
}

/** The session of an agent that has just been injected. */
export async function openSession(
  pid: number,
  injected: Injected,
  config: InjectConfig,
  workers: number,
  events: SessionEvents,
): Promise<TraceSession> {
  // by its folder, which is there: the socket is made by a thread that has just been started
  const socket = path.join(reach(pid, injected.folder), path.basename(injected.socket));
  const connection = await AgentConnection.open(socket, AGENT_START_MS, () => isAlive(pid));
  try {
    const info = await connection.request('hello', { token: config.token });
    // only after leaving: closing waits for every client
    if (config.closeInspector) await connection.request('closeInspector');
    // not through /proc/PID/root: PIDs of another namespace mean other processes
    if (process.platform === 'linux' && existsSync(injected.folder)) sweep(injected.folder);
    const cleanUp = (): void => rmSync(injected.folder, { recursive: true, force: true });
    return new RemoteSession(
      connection,
      { ...info, workers },
      agentPrefix(config.nonce),
      events,
      cleanUp,
      injected.stops,
    );
  } catch (error) {
    connection.close();
    throw error;
  }
}

export function makeConfig(closeInspector: boolean): InjectConfig {
  return {
    token: randomBytes(16).toString('hex'),
    tracer: process.pid,
    key: `trapline.${randomBytes(16).toString('hex')}`,
    nonce: randomBytes(6).toString('hex'),
    closeInspector,
  };
}

export type Accepted = Extract<InjectResult, { ok: true }>;
export type Injected = Accepted & {
  /** How long each piece held the main thread up, in ms. */
  readonly stops: readonly number[];
};

interface Evaluated {
  readonly result: { readonly value?: unknown; readonly objectId?: string };
  readonly exceptionDetails?: {
    readonly text: string;
    readonly exception?: { readonly description?: string };
  };
}

/** Piece by piece, the main thread's event loop turning in between. */
async function injectThrough(client: CdpClient, config: InjectConfig, pid: number): Promise<Injected> {
  const answer = async (method: string, params: object): Promise<Evaluated['result']> => {
    const { result, exceptionDetails } = (await client.send(method, {
      ...params,
      silent: true,
    })) as Evaluated;
    if (exceptionDetails === undefined) return result;
    const { text, exception } = exceptionDetails;
    const why = exception?.description ?? text;
    throw new TraplineError('EINJECT', `cannot start the agent in process ${pid}: ${why}`);
  };
  const stops: number[] = [];
  // the first evaluation of a session is dear, whatever it is of: it is one by itself, and nothing measures it
  const first = await answer('Runtime.evaluate', {
    expression: `${OWN_MARK}process.argv===undefined`,
    returnByValue: true,
  });
  if (first.value === true) {
    throw new TraplineError('EWAITING', `process ${pid} waits for a debugger before its first line runs`, {
      hint: 'it was started with --inspect-brk or --inspect-wait: let a debugger continue it, or use --inspect',
    });
  }
  await sleep(BETWEEN_MS);
  const begun: number[] = [];
  /** Objects with `value` and the time when it was there, `done`; when its message began is read by another one in front of it. */
  const made = async (method: string, params: object): Promise<string | undefined> => {
    const [before, { objectId }] = await Promise.all([client.clock(), answer(method, params)]);
    begun.push(before);
    await sleep(BETWEEN_MS);
    return objectId;
  };
  const evaluate = (text: string): Promise<string | undefined> =>
    made('Runtime.evaluate', { expression: `${OWN_MARK}({value:${text},done:process.hrtime()})` });
  const { half, inject } = agentTexts();
  const halfId = await evaluate(half);
  const injectId = await evaluate(inject);
  const objectId = await made('Runtime.callFunctionOn', {
    objectId: injectId,
    functionDeclaration: `function(config,half){${OWN_MARK}const value=this.value(config,half.value);return {value,done:process.hrtime(),before:[half.done,this.done]}}`,
    arguments: [{ value: config }, { objectId: halfId }],
  });
  const ends = await answer('Runtime.callFunctionOn', {
    objectId,
    functionDeclaration: `function(){${OWN_MARK}return [...this.before,this.done].map(t=>t[0]*1e3+t[1]/1e6)}`,
    returnByValue: true,
  });
  for (const [at, end] of (ends.value as number[]).entries())
    stops.push(Math.max(0, end - (begun[at] ?? end)) || 0);
  await sleep(BETWEEN_MS);
  let written = false;
  for (;;) {
    const functionDeclaration = `function(){${OWN_MARK}return this.value.later()}`;
    const { value } = await answer('Runtime.callFunctionOn', {
      objectId,
      functionDeclaration,
      returnByValue: true,
    });
    if (value === undefined) throw new TraplineError('EINJECT', `process ${pid} did not answer`);
    const step = value as InjectStep | null;
    if (step === null) {
      await sleep(BETWEEN_MS);
      continue;
    }
    const { ms, folder, result } = step;
    stops.push(ms);
    if (result !== undefined) return { ...checked(result), stops };
    if (folder !== undefined && !written) {
      try {
        writeAgent(pid, reach(pid, folder));
      } catch (error) {
        await answer('Runtime.callFunctionOn', {
          objectId,
          functionDeclaration: `function(){${OWN_MARK}this.value.abort()}`,
        });
        const message = `cannot write the agent's text into ${folder}: ${(error as Error).message}`;
        throw new TraplineError('EACCES', message, { cause: error });
      }
      written = true;
    }
    await sleep(BETWEEN_MS);
  }
}

/** Throws for a refusal. */
export function checked(result: InjectResult): Accepted {
  if (!result.ok && result.code === 'EBUSY') throw new HeldError(result.message, result.holder);
  if (!result.ok) throw new TraplineError(result.code, result.message, { hint: result.hint });
  return result;
}

async function countWorkers(client: CdpClient): Promise<number> {
  const counter = new WorkerCounter();
  client.onEvent = (method, params) => counter.event(method, params);
  await client.send('NodeWorker.enable', { waitForDebuggerOnStart: false });
  await sleep(BETWEEN_MS);
  await client.send('NodeWorker.disable');
  await sleep(BETWEEN_MS);
  client.onEvent = undefined;
  return counter.count;
}

/** `name` of WORKER_OPTIONS in src/agent/inject/rehearsal.ts. */
const AGENT_TITLE = /^\[worker \d+\] trapline$/;

/**
 * Worker threads of the application, those that its workers started included; the threads that Node runs module hooks on
 * are not its own, nor is an agent's that ends as soon as a main thread that is held up lets it. Node tells of each that exists before it answers `NodeWorker.enable`; none is paused or held.
 */
export class WorkerCounter {
  count = 0;

  event(method: string, params: unknown): void {
    if (method !== 'NodeWorker.attachedToWorker') return;
    const { url = '', title = '' } =
      (params as { workerInfo?: { url?: string; title?: string } }).workerInfo ?? {};
    if (!url.startsWith('node:internal/') && !AGENT_TITLE.test(title)) this.count++;
  }
}

/** Folders of processes that were killed together with their tracer, beside the one that was just made. */
function sweep(folder: string): void {
  const base = path.dirname(folder);
  for (const name of readdirSync(base)) {
    const pid = Number(/^trapline-(\d+)-\w{6}$/.exec(name)?.[1]);
    if (!Number.isInteger(pid) || existsSync(`/proc/${pid}`)) continue;
    try {
      rmSync(path.join(base, name), { recursive: true, force: true });
    } catch {
      // another user's
    }
  }
}

/** In another mount namespace the folder is reached through the process's root. */
function reach(pid: number, folder: string): string {
  const through = `/proc/${pid}/root${folder}`;
  return process.platform === 'linux' && !existsSync(folder) && existsSync(through) ? through : folder;
}
