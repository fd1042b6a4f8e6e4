/** What `trace()` takes, tells on the way and gives back. */

import type { ArmReport } from '../arch/v8/types.ts';
import {
  aBoolean,
  anInteger,
  anObject,
  aRecord,
  aString,
  atLeast,
  having,
  listOf,
  oneOf,
  optional,
  stringOf,
} from '../arguments.ts';
import { TraplineError } from '../errors.ts';
import type { Printer } from '../output/index.ts';
import type { ArmOptions, DetachReport, ProcessInfo } from '../target/session.ts';
import type { Tracee } from './tracee.ts';

/** Which processes to trace: running ones, a command to start, or the own one. */
export type Target =
  | { readonly pids: readonly number[] }
  | { readonly command: string }
  | { readonly self: true };

export interface TraceOptions {
  /** The program, in bpftrace's language. */
  readonly script: string;
  /** How the script is called in messages; default `stdin`. */
  readonly file?: string;
  /** `$1`, `$2`, … */
  readonly params?: readonly string[];
  /** Process ids, or a command to start. */
  readonly target: Target;
  readonly arm?: ArmOptions['way'];
  /** Longest stop of the process that arming may cause, in ms; default 100. */
  readonly maxPauseMs?: number;
  /** The script may call system(); default false. */
  readonly unsafe?: boolean;
  /** Calls followed at once by a return probe; default 0, unlimited. */
  readonly maxactive?: number;
  /** Compile and verify only; a command is ended in front of its program's first line. */
  readonly dryRun?: boolean;
  readonly printer: Printer;
  readonly observer?: TraceObserver;
}

const TARGETS = '{ pids: [4711] }, { command: "node app.js" } or { self: true }';

export const TRACE_OPTIONS = aRecord<TraceOptions>(
  {
    script: stringOf('a string: a program'),
    file: optional(aString),
    params: optional(listOf(aString)),
    // what is in it is told later, as of a target that is empty
    target: having(TARGETS),
    arm: optional(oneOf('auto', 'nop', 'property', 'bind', 'edit', 'break')),
    maxPauseMs: optional(atLeast(0)),
    unsafe: optional(aBoolean),
    maxactive: optional(anInteger()),
    dryRun: optional(aBoolean),
    printer: having('a printer: new TextPrinter({ data, progress })', 'printf', 'map', 'end'),
    observer: optional(anObject),
  },
  'an object with script, target and printer',
);

/** What happens on the way; every method is optional. */
export interface TraceObserver {
  /** Symbols resolved, script compiled and verified, before anything is loaded. */
  compiled?(tracee: Tracee): void;
  armed?(pid: number, report: ArmReport): void;
  /** Everything is attached and counting: `ms` after `attached_probes` was printed. */
  attached?(ms: number): void;
  warning?(text: string): void;
  detached?(pid: number, report: DetachReport): void;
  gone?(pid: number, reason: string): void;
}

export interface TraceResult {
  /** What `exit(n)` gave, else 0; 1 where a process could not be put back as it was (`detached` says what). */
  readonly exitCode: number;
  readonly processes: readonly ProcessInfo[];
  readonly probes: number;
  readonly lostEvents: number;
  readonly detached: readonly DetachReport[];
}

/** Tracing under way. */
export interface Tracing {
  /** Resolves when everything is attached, rejects with the set-up's error. */
  readonly attached: Promise<void>;
  /** Resolves when tracing has ended and everything is restored. */
  readonly finished: Promise<TraceResult>;
  /** Ends as Ctrl-C does: END probes, maps, detach. Before anything counts, it interrupts: `finished` rejects with EINTR. */
  stop(): void;
  /** Detaches at once: no END probes and no maps. */
  leave(): void;
}

/** Of callers in JavaScript. Whether there is such a process is seen later. */
export function checkTarget(target: Target): void {
  const { pids, command, self } = target as { pids?: unknown; command?: unknown; self?: unknown };
  if (Array.isArray(pids) && pids.length > 0) return;
  if (typeof command === 'string' || self === true) return;
  throw new TraplineError('EINVAL', 'no process to trace', { hint: `target is ${TARGETS}` });
}
