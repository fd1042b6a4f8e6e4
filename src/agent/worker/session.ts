/**
 * The in-process inspector session with the main thread. Every message is dispatched on the main thread, by an
 * interrupt when JavaScript runs there, so every message stops it for a moment.
 *
 * `stopping()` measures that: a mark before the operation and one behind it are posted with it in one go and dispatched
 * in the same batch; each mark has the main thread store its own clock in shared memory. The difference is the time the
 * event loop stood still (or, at worst, a little more: JavaScript that ran between the messages).
 */

import { readFileSync } from 'node:fs';
import { Session } from 'node:inspector';
import { ERRAND_DONE, type ErrandOf } from '../errand.ts';
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
/** An event loop that has not turned for so long is not waited for. */
const ERRAND_MS = 20;

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

const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

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

export class MainSession {
  readonly #session = new Session();
  /** Clock stamps of the main thread, in ms: [before, behind]. */
  readonly #stamps: Float64Array;
  /** How many times the main thread was let go on: MainHalf.hold(). */
  readonly #released: Int32Array;
  /** What has come of the errand: MainHalf.later(). */
  readonly #errand: Int32Array;
  readonly #errandStamps: Float64Array;
  #errands: Promise<unknown> = Promise.resolve();
  #holds = 0;
  /** The main thread's half: `{ stamp(i), … }`. */
  #state: string | undefined;
  readonly pauses: number[] = [];
  readonly #operations = new Map<string, number>();

  constructor(stamps: SharedArrayBuffer) {
    this.#stamps = new Float64Array(stamps, 0, 2);
    this.#released = new Int32Array(stamps, 24, 1);
    this.#errand = new Int32Array(stamps, 20, 1);
    this.#errandStamps = new Float64Array(stamps, 32, 2);
  }

  /** Connects; `state` is an expression whose value is the main thread's half. */
  async connect(state: string): Promise<string> {
    this.#session.connectToMainThread();
    this.#state = await this.evaluateHandle(state);
    return this.#state;
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

  post(method: string, params: object = {}): Promise<unknown> {
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
    const turn = ++this.#holds;
    let held: Promise<unknown> | undefined;
    const stopped = this.stopping(what, () => {
      held = this.call(this.#state as string, 'hold', turn);
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
   * Calls a method of the main thread's half, or of a part of it, with JSON arguments, in a turn of the event loop of its own: dispatching
   * the message that asks for it takes about as long as what it does, and is no part of that stop.
   */
  errand<T = unknown>(what: string, of: ErrandOf, method: string, ...args: unknown[]): Promise<Stopped<T>> {
    const done = this.#errands.then(() => this.#runErrand<T>(what, of, method, args));
    this.#errands = done.catch(() => undefined);
    return done;
  }

  async #runErrand<T>(
    what: string,
    of: ErrandOf,
    method: string,
    args: readonly unknown[],
  ): Promise<Stopped<T>> {
    const state = this.#state as string;
    await this.call(state, 'later', of, method, args);
    const since = performance.now();
    const isOver = (): boolean => Atomics.load(this.#errand, 0) !== 0;
    while (!isOver() && performance.now() - since < ERRAND_MS) await sleep(1);
    try {
      let value: unknown;
      if (Atomics.load(this.#errand, 0) !== ERRAND_DONE) {
        let outcome = await this.call(state, 'outcome');
        // while it is being done
        for (; outcome === null; outcome = await this.call(state, 'outcome')) await sleep(1);
        [value] = outcome as unknown[];
      }
      return { value: value as T, ...this.#errandStop() };
    } finally {
      this.note(what, this.#errandStop().ms);
    }
  }

  #errandStop(): { ms: number; waitedMs: number } {
    return { ms: Math.max(0, (this.#errandStamps[1] ?? 0) - (this.#errandStamps[0] ?? 0)), waitedMs: 0 };
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
      objectId: this.#state,
      functionDeclaration: `function(i){${OWN_MARK}this.stamp(i)}`,
      arguments: [{ value: index }],
      silent: true,
    });
  }

  /** Calls a method of an object on the main thread with JSON arguments; the result comes back by value. */
  async call(objectId: string, method: string, ...args: unknown[]): Promise<unknown> {
    return (
      await this.callRaw(
        objectId,
        method,
        args.map((value) => ({ value })),
        true,
      )
    ).value;
  }

  async callRaw(
    objectId: string,
    method: string,
    args: readonly CallArgument[],
    returnByValue: boolean,
  ): Promise<RemoteObject> {
    const reply = (await this.post('Runtime.callFunctionOn', {
      objectId,
      functionDeclaration: `function(...a){${OWN_MARK}return this.${method}(...a)}`,
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

  async evaluateHandle(text: string): Promise<string> {
    const expression = OWN_MARK + text;
    const reply = await this.post('Runtime.evaluate', { expression, silent: true });
    const { objectId } = unwrap('evaluate', reply as EvaluateResult);
    if (objectId === undefined) throw new InspectorError('evaluate: the value is not an object');
    return objectId;
  }

  disconnect(): void {
    this.#session.disconnect();
  }
}

function unwrap(what: string, { result, exceptionDetails }: EvaluateResult): RemoteObject {
  if (exceptionDetails === undefined) return result;
  const { exception, text } = exceptionDetails;
  throw new InspectorError(`${what}: ${exception?.description ?? text}`);
}
