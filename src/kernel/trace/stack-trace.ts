import { TRACE_STACK, TRACE_USER_STACK } from './builtin-events.ts';
import type { TraceArray } from './trace-array.ts';
import { dataView, entryPid, type TraceRecord, writeEntry } from './trace-entry.ts';
import { recordToBuffer } from './trace-record.ts';

/** Where the addresses begin in a stack's record, behind their number (or the thread group's id). */
const CALLERS = 16;
const USER_ENTRIES = 8;
/** Deeper stacks are cut. */
const STACK_MAX = 1024;

function stackRecord(
  record: TraceRecord,
  type: number,
  word: number,
  callers: readonly bigint[],
  room: number,
): TraceRecord {
  const data = new Uint8Array(CALLERS + room * 8);
  writeEntry(data, type, entryPid(record.data), record.data[2]!, record.data[3]!);
  const view = dataView(data);
  view.setUint32(8, word, true);
  for (let n = 0; n < Math.min(room, callers.length); n++)
    view.setBigUint64(CALLERS + n * 8, callers[n]!, true);
  return { cpu: record.cpu, ts: record.ts, data };
}

/**
 * __ftrace_trace_stack(): the stack at a record's hit, as a record of its own behind it. Nothing where the system knows none. `known`:
 * the stack, where it came with the hit.
 */
export function recordStack(tr: TraceArray, record: TraceRecord, known?: readonly bigint[]): void {
  const callers = (known ?? record.stack ?? tr.tracing.arch.stackTrace?.(record) ?? []).slice(0, STACK_MAX);
  if (callers.length === 0) return;
  recordToBuffer(tr, stackRecord(record, TRACE_STACK, callers.length, callers, callers.length));
}

/** ftrace_trace_userstack() */
export function recordUserStack(tr: TraceArray, record: TraceRecord): void {
  const callers = tr.tracing.arch.userStackTrace?.(record) ?? [];
  if (callers.length === 0) return;
  const { tgid } = tr.tracing.arch.current();
  recordToBuffer(tr, stackRecord(record, TRACE_USER_STACK, tgid, callers, USER_ENTRIES));
}
