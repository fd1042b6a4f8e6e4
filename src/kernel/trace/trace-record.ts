/** A record into an instance's ring buffer, stamped by its clock (trace_buffer_lock_reserve, tracing_record_taskinfo of kernel/trace/trace.c). */
import type { TraceArray } from './trace-array.ts';
import { entryPid, type TraceRecord } from './trace-entry.ts';
import type { Tracing } from './tracing.ts';

/**
 * The record into the instance's buffer, with the name of its task. False when the buffer takes none. With `snapshot` it had its place
 * in the buffer that has become the snapshot since.
 */
export function recordToBuffer(tr: TraceArray, record: TraceRecord, snapshot = false): boolean {
  const { tracing } = tr;
  if (!tr.traces(record.cpu)) return false;
  const buffer = (snapshot ? tr.snapshotBuffer : undefined) ?? tr.buffer;
  if (!buffer.write(record.cpu, tr.timeAt(record.ts), record.data)) return false;
  if (tr.options.has('record-cmd') || tr.options.has('record-tgid'))
    recordTask(tracing, entryPid(record.data));
  tracing.recordCommit?.(tr, record);
  tr.wake();
  return true;
}

/** tracing_record_taskinfo() */
function recordTask(tracing: Tracing, pid: number): void {
  const current = tracing.arch.current();
  if (current.pid !== pid) return;
  tracing.savedCmdlines.save(pid, current.comm);
  tracing.savedCmdlines.saveTgid(pid, current.tgid);
}
