/** `trapline/tracefs`: the tracing folder as an API. */
import type { Tracing } from '../kernel/trace/tracing.ts';
import { Tracefs, type TracefsOptions } from './tracefs.ts';

export { ERRNO, KernelError } from '../kernel/errno.ts';
export type { FileHandle, FileOps, OpenFlags } from '../kernel/trace/file-operations.ts';
export { RingBuffer } from '../kernel/trace/ring-buffer/ring-buffer.ts';
export type { KallsymsSymbol, ProbeContext, ProbeHit, TraceArch } from '../kernel/trace/trace-arch.ts';
export type { TraceRecord } from '../kernel/trace/trace-entry.ts';
export { TraceEventCall, type TraceEventClass } from '../kernel/trace/trace-event.ts';
export { filterTypeOf, type TraceField } from '../kernel/trace/trace-field.ts';
export type { Files, FilesPart } from '../kernel/trace/trace-files.ts';
export { tracePrintk, tracePuts } from '../kernel/trace/trace-printk.ts';
export { Tracing, type TracingOptions } from '../kernel/trace/tracing.ts';
export { OpenFile } from './open-file.ts';
export { type OpenMode, type Stat, Tracefs, type TracefsOptions } from './tracefs.ts';

/** The tracing folder of a system. */
export function openTracefs(tracing: Tracing, options: TracefsOptions = {}): Tracefs {
  return new Tracefs(tracing, options);
}
