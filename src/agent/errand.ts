/**
 * What the worker has the main thread do in a turn of its event loop, and what came of it: messages of the port between the two.
 * `MainHalf` does them, one at a time, in their order.
 */

/** What an errand is of. */
export type ErrandOf = 'half' | 'agent' | 'arming' | 'events';

export interface Errand {
  /** Counts up. */
  readonly errand: number;
  readonly of: ErrandOf;
  readonly method: string;
  readonly args: readonly unknown[];
}

export interface ErrandAnswer {
  readonly answer: number;
  /** How long the main thread was at it. */
  readonly ms: number;
  readonly value: unknown;
  /** What it threw. */
  readonly error: string | undefined;
}
