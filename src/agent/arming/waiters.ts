/**
 * Promises that V8 may have notes on. While a debugger is enabled, V8 notes on a promise which call waits for it, and the
 * note outlives the call: a promise that lives long, such as that of a connection, keeps the object of the last async call
 * that awaited it, and a live edit takes that call for one under way, since nothing marks it as ended. Who awaits the promise
 * next takes the note over. That is done for promises which are fulfilled and of the plain kind only: to await those runs
 * nothing of the application and changes nothing that it could see.
 */

import { apply, getOwnPropertyDescriptor, getPrototypeOf } from './intrinsics.ts';

/** Most promises that are looked at; to ask V8 for the state of one takes some microseconds. */
const MOST = 20_000;
/** How long a step may hold the main thread up. */
const STEP_MS = 5;

const PlainPromise = Promise;
const { prototype } = PlainPromise;

export interface WaiterTools {
  isPromise(value: unknown): boolean;
  inspect(value: unknown, options: object): string;
  now(): number;
}

/** What node:util says of a promise that is neither pending nor rejected; strings are quoted there. */
const NOT_FULFILLED = /^Promise \{\s*<(pending|rejected)>/;
const SHORT = {
  depth: 0,
  customInspect: false,
  showProxy: false,
  getters: false,
  maxArrayLength: 0,
  maxStringLength: 0,
  breakLength: Number.POSITIVE_INFINITY,
} as const;

export class Waiters {
  readonly #tools: WaiterTools;
  #fulfilled: unknown[] = [];

  constructor(tools: WaiterTools) {
    this.#tools = tools;
  }

  /** What all native promises have in their chain of prototypes. */
  prototype(): object {
    return prototype;
  }

  /** Looks at some of `promises` from `from` on; where to go on, or undefined at the end. */
  look(promises: readonly unknown[], from: number): number | undefined {
    const { now } = this.#tools;
    const until = now() + STEP_MS;
    const end = Math.min(promises.length, MOST);
    // the application may have its own idea of what await asks a promise for
    if (getOwnPropertyDescriptor(prototype, 'constructor')?.value !== PlainPromise) return undefined;
    for (let i = from; i < end; i++) {
      if ((i & 15) === 15 && now() > until) return i;
      if (this.#isPlain(promises[i])) this.#fulfilled.push(promises[i]);
    }
    return undefined;
  }

  /** What was found; forgotten here. */
  take(): unknown[] {
    const found = this.#fulfilled;
    this.#fulfilled = [];
    return found;
  }

  #isPlain(value: unknown): boolean {
    const { isPromise, inspect } = this.#tools;
    if (!isPromise(value)) return false;
    const promise = value as object;
    if (getPrototypeOf(promise) !== prototype) return false;
    if (getOwnPropertyDescriptor(promise, 'constructor') !== undefined) return false;
    try {
      const text = apply(inspect, undefined, [promise, SHORT]) as string;
      return text.startsWith('Promise {') && !NOT_FULFILLED.test(text);
    } catch {
      return false;
    }
  }
}
