import type { FileOps } from './file-operations.ts';
import type { TraceArray } from './trace-array.ts';
import type { TraceEventFile } from './trace-event-file.ts';
import type { Tracing } from './tracing.ts';

/** Files by their paths below the folder they are for. */
export type Files = Readonly<Record<string, FileOps>>;

/** What a part of the tracing core adds to the tracing folder. Later parts win where names are the same. */
export interface FilesPart {
  /** Of the tracing folder only. */
  top?(tracing: Tracing): Files;
  /** Of the tracing folder and of every instance. */
  instance?(tr: TraceArray): Files;
  /** Of `events/SYSTEM`. */
  system?(tr: TraceArray, system: string): Files;
  /** Of `events/SYSTEM/EVENT`. */
  event?(file: TraceEventFile): Files;
}
