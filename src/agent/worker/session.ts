/**
 * What the worker has the main thread do. By errands: messages on a port, each of which is done in a turn of the event loop. And by
 * an in-process inspector session, for what V8's debugger does and where the loop does not turn: every message of it is dispatched
 * on the main thread, by an interrupt when JavaScript runs there, so every message stops it for a moment, and the first ones for a
 * millisecond. It is connected when it is needed.
 *
 * `stopping()` measures that: a mark before the operation and one behind it are posted with it in one go and dispatched
 * in the same batch; each mark has the main thread store its own clock in shared memory. The difference is the time the
 * event loop stood still (or, at worst, a little more: JavaScript that ran between the messages).
 */

import { readFileSync } from 'node:fs';
import { Session } from 'node:inspector';
import type { MessagePort } from 'node:worker_threads';
import type { Errand, ErrandAnswer, ErrandOf } from '../errand.ts';
import { OWN_MARK } from '../protocol.ts';

export interface RemoteObject {
  readonly type: string;
  readonly objectId?: string;
  readonly value?: unknown;
  readonly description?: string;
}

export interface EvaluateResult {
  readonly result: RemoteObject;
  readonly exceptionDetails?: { readonly text: string; readonly exception?: RemoteObject };
}

const TURN_MS = 5;
/** An event loop that has not turned for so long is not waited for: first, and once it was found not to. */
const PATIENCE_MS = 100;
const HELD_UP_MS = 10;

/** How long the main thread has waited for a processor that others used, in ms; 0 where the kernel does not tell. */
function runQueueMs(): number {
  try {
    const text = readFileSync(`/proc/self/task/${process.pid}/schedstat`, 'latin1');
    return Number(text.split(' ')[1]) / 1e6 || 0;
  } catch {
    return 0;
  }
}

export const NO_STOP = { ms: 0, waitedMs: 0 } as const;

export class InspectorError extends Error {
  readonly code = 'EINSPECTOR';
}

/** An argument of a call on the main thread: by value, or an object of the main thread. */
export type CallArgument = { readonly value: unknown } | { readonly objectId: string };

/** What came of operations, and the time that the main thread stood still, in ms; `waitedMs` of it waiting for a processor. */
export interface Stopped<T> {
  readonly value: T;
  readonly ms: number;
  readonly waitedMs: number;
}

/** What is still to come of an errand. */
type Awaited = (answer: ErrandAnswer) => void;

export class MainSession {
  readonly #session = new Session();
  readonly #port: MessagePort;
  /** Where the main thread's half is found: an expression. */
  readonly #where: string;
  /** Clock stamps of the main thread, in ms: [before, behind]. */
  readonly #stamps: Float64Array;
  /** How many times the main thread was let go on: MainHalf.hold(). */
  readonly #released: Int32Array;
  #errands: Promise<unknown> = Promise.resolve();
  #last = 0;
  #awaited: Awaited | undefined;
  #patienceMs = PATIENCE_MS;
  #holds = 0;
  /** The main thread's half, once the inspector is connected. */
  #half: string | undefined;
  #connected: Promise<void> | undefined;
  readonly pauses: number[] = [];
  readonly #operations = new Map<string, number>();

  constructor(port: MessagePort, stamps: SharedArrayBuffer, where: string) {
    this.#port = port;
    this.#where = where;
    this.#stamps = new Float64Array(stamps, 0, 2);
    this.#released = new Int32Array(stamps, 20, 1);
  }

  /** The inspector, for what errands cannot do. */
  #connect(): Promise<void> {
    this.#connected ??= (async () => {
      this.#session.connectToMainThread();
      const expression = OWN_MARK + this.#where;
      const reply = await this.#send('Runtime.evaluate', { expression, silent: true });
      const { objectId } = unwrap('connect', reply as EvaluateResult);
      if (objectId === undefined) throw new InspectorError('connect: the agent is not there');
      this.#half = objectId;
    })();
    return this.#connected;
  }

  on(event: string, listener: (message: { params: unknown }) => void): void {
    this.#session.on(event, listener);
  }

  #pending = 0;
  #turning: NodeJS.Timeout | undefined;

  /**
   * The session does not keep this thread's event loop alive, and on Node 26 an answer now and then does not wake it: so
   * it turns by itself while an answer is missing.
   */
  #expect(change: 1 | -1): void {
    this.#pending += change;
    if (this.#pending > 0) this.#turning ??= setInterval(() => {}, TURN_MS);
    else {
      clearInterval(this.#turning);
      this.#turning = undefined;
    }
  }

  /** At once where the inspector is connected: what is posted in one go is dispatched so. */
  post(method: string, params: object = {}): Promise<unknown> {
    if (this.#half !== undefined) return this.#send(method, params);
    return this.#connect().then(() => this.#send(method, params));
  }

  #send(method: string, params: object): Promise<unknown> {
    return new Promise((resolve, reject) => {
      this.#expect(1);
      this.#session.post(method, params, (error, result) => {
        this.#expect(-1);
        if (error === null) resolve(result);
        else
          reject(
            new InspectorError(`${method}: ${(error as { message?: string }).message ?? String(error)}`),
          );
      });
    });
  }

  /** Posts operations between two marks and notes how long the main thread stood still. */
  async stopping<T>(what: string, operations: () => Promise<T>): Promise<Stopped<T>> {
    if (this.#half === undefined) await this.#connect();
    const queued = runQueueMs();
    const before = this.#mark(0);
    const pending = operations();
    const behind = this.#mark(1);
    const [first, outcome] = await Promise.allSettled([before, pending, behind]);
    if (first.status === 'rejected') throw first.reason;
    const ms = Math.max(0, (this.#stamps[1] ?? 0) - (this.#stamps[0] ?? 0));
    const waitedMs = Math.min(ms, runQueueMs() - queued);
    this.note(what, ms, waitedMs);
    if (outcome.status === 'rejected') throw outcome.reason;
    return { value: outcome.value, ms, waitedMs };
  }

  /** As `stopping`, and nothing of the application runs between the first operation and the last: the main thread waits until all are posted. */
  async stoppingTogether<T>(what: string, operations: () => Promise<T>): Promise<Stopped<T>> {
    if (this.#half === undefined) await this.#connect();
    const turn = ++this.#holds;
    let held: Promise<unknown> | undefined;
    const stopped = this.stopping(what, () => {
      held = this.call('half', 'hold', turn);
      return operations();
    });
    // everything has been posted
    Atomics.store(this.#released, 0, turn);
    Atomics.notify(this.#released, 0);
    const [, outcome] = await Promise.allSettled([held, stopped]);
    if (outcome.status === 'rejected') throw outcome.reason;
    return outcome.value;
  }

  /**
   * Calls a method of the main thread's half, or of a part of it, in a turn of the event loop of its own, one after the other; `args` are
   * cloned, or moved where they are in `transfer`.
   */
  errand<T = unknown>(what: string, of: ErrandOf, method: string, ...args: unknown[]): Promise<Stopped<T>> {
    return this.errandWith(what, { of, method, args }, []);
  }

  errandWith<T = unknown>(
    what: string,
    errand: Omit<Errand, 'errand'>,
    transfer: readonly ArrayBuffer[],
  ): Promise<Stopped<T>> {
    const done = this.#errands.then(() => this.#runErrand<T>(what, errand, transfer));
    this.#errands = done.catch(() => undefined);
    return done;
  }

  /** The port's message to an errand. */
  answered(answer: ErrandAnswer): void {
    if (answer.answer === this.#last) this.#awaited?.(answer);
  }

  async #runErrand<T>(
    what: string,
    errand: Omit<Errand, 'errand'>,
    transfer: readonly ArrayBuffer[],
  ): Promise<Stopped<T>> {
    const number = ++this.#last;
    let answer: ErrandAnswer | undefined;
    let wake: () => void = () => undefined;
    this.#awaited = (given) => {
      answer = given;
      wake();
    };
    this.#port.postMessage({ ...errand, errand: number } satisfies Errand, [...transfer]);
    const answeredWithin = (ms: number): Promise<void> =>
      new Promise((resolve) => {
        const timer = setTimeout(resolve, ms);
        wake = () => {
          clearTimeout(timer);
          resolve();
        };
        if (answer !== undefined) wake();
      });
    await answeredWithin(this.#patienceMs);
    this.#patienceMs = answer === undefined ? HELD_UP_MS : PATIENCE_MS;
    while (answer === undefined) {
      await this.call('half', 'catchUp');
      await answeredWithin(HELD_UP_MS);
    }
    const { ms, value, error } = answer as ErrandAnswer;
    this.note(what, ms);
    if (error !== undefined) throw new InspectorError(`${errand.method}: ${error}`);
    return { value: value as T, ms, waitedMs: 0 };
  }

  /** `waitedMs` of the stop were spent waiting for a processor. */
  note(what: string, ms: number, waitedMs = 0): void {
    this.pauses.push(ms);
    if (ms > this.longestNow.ms) this.longestNow = { ms, waitedMs };
    const own = ms - waitedMs;
    this.#operations.set(what, Math.max(own, this.#operations.get(what) ?? 0));
  }

  /** The longest stop since this was last set to nothing. */
  longestNow: { readonly ms: number; readonly waitedMs: number } = NO_STOP;

  /** Longest stop of each kind of operation, what it waited for a processor left out: what the model estimates. */
  get longest(): ReadonlyMap<string, number> {
    return this.#operations;
  }

  #mark(index: number): Promise<unknown> {
    return this.post('Runtime.callFunctionOn', {
      objectId: this.#half,
      functionDeclaration: `function(i){${OWN_MARK}this.stamp(i)}`,
      arguments: [{ value: index }],
      silent: true,
    });
  }

  /** Calls a method of a part on the main thread with JSON arguments, by an interrupt; the result comes back by value. */
  async call(of: ErrandOf, method: string, ...args: unknown[]): Promise<unknown> {
    return (
      await this.callRaw(
        of,
        method,
        args.map((value) => ({ value })),
        true,
      )
    ).value;
  }

  async callRaw(
    of: ErrandOf,
    method: string,
    args: readonly CallArgument[],
    returnByValue: boolean,
  ): Promise<RemoteObject> {
    if (this.#half === undefined) await this.#connect();
    const reply = (await this.post('Runtime.callFunctionOn', {
      objectId: this.#half,
      functionDeclaration: `function(...a){${OWN_MARK}return this.part('${of}').${method}(...a)}`,
      arguments: args,
      returnByValue,
      silent: true,
    })) as EvaluateResult;
    return unwrap(method, reply);
  }

  async evaluate(text: string): Promise<unknown> {
    const expression = OWN_MARK + text;
    const reply = await this.post('Runtime.evaluate', { expression, returnByValue: true, silent: true });
    return unwrap('evaluate', reply as EvaluateResult).value;
  }

  disconnect(): void {
    if (this.#connected !== undefined) this.#session.disconnect();
  }
}

function unwrap(what: string, { result, exceptionDetails }: EvaluateResult): RemoteObject {
  if (exceptionDetails === undefined) return result;
  const { exception, text } = exceptionDetails;
  throw new InspectorError(`${what}: ${exception?.description ?? text}`);
}
