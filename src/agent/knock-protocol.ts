/**
 * How a tracer comes to a process that was prepared (`trapline/register`): no inspector is opened. It puts a folder, owned by the process's
 * user and closed to others, at a place that both know, and knocks: a signal that does nothing to who does not listen for it. The
 * process takes the folder to the name that it has in the order, evaluates the texts in it, and writes what has come of it.
 */

import type { InjectConfig, InjectResult } from './inject/config.ts';

/** Ignored by default, and sent by the kernel to nobody who has not asked for it. */
export const KNOCK_SIGNAL = 'SIGURG';

/** Files in the folder. */
export const ORDER_FILE = 'order.json';
export const HALF_FILE = 'half.js';
export const INJECT_FILE = 'inject.js';
export const ANSWER_FILE = 'answer.json';

export interface KnockOrder {
  readonly config: InjectConfig & { readonly folder: string };
}

export interface KnockAnswer {
  readonly result: InjectResult;
  /** How long each piece held the main thread up, in ms. */
  readonly stops: readonly number[];
  /** Worker threads of the application. */
  readonly workers: number;
}

/** On the agent's own Worker: it is none of the application's. */
export const OWN_WORKER = Symbol.for('trapline.worker');

/** Longest path of a Unix socket, with room for its file name. */
const SOCKET_PATH = 90;

/** Where sessions' folders are made, in the process: what os.tmpdir() answers, unless it is too long. */
export function sessionBase({ TMPDIR, TMP, TEMP }: Readonly<Record<string, string | undefined>>): string {
  const named = TMPDIR || TMP || TEMP || '/tmp';
  const base = named.length > 1 && named.endsWith('/') ? named.slice(0, -1) : named;
  return base.length > SOCKET_PATH - 30 ? '/tmp' : base;
}

/** Of the process `pid`; sweep() of src/target/attach.ts knows such names. */
export const knockFolder = (base: string, pid: number): string => `${base}/trapline-${pid}-attach`;
