/** What the worker has the main thread do in a turn of its event loop: `MainHalf.later()`. */

/** What an errand is of. */
export type ErrandOf = 'half' | 'agent' | 'arming' | 'events';

/** Shared with the worker: it is done; and there is something to fetch. */
export const ERRAND_DONE = 1;
export const ERRAND_ANSWERS = 2;

export interface Errand {
  readonly of: ErrandOf;
  readonly method: string;
  readonly args: readonly unknown[];
  state: 'asked' | 'begun' | 'done';
  value: unknown;
  error: { readonly error: unknown } | undefined;
}
