import { KernelError } from '../errno.ts';
import { TRACE_PRINT, TRACE_RAW_DATA } from './builtin-events.ts';
import type { FileOps } from './file-operations.ts';
import { TRACING_MARK_WRITE } from './symbols.ts';
import type { TraceArray } from './trace-array.ts';
import { runTriggers } from './trace-commit.ts';
import { dataView, writeEntry } from './trace-entry.ts';
import { recordToBuffer } from './trace-record.ts';

/** Bytes of `struct print_entry` in front of its text, and room for a newline and a NUL behind it. */
const PRINT_HEAD = 16;
const PRINT_META = PRINT_HEAD + 2;
const TRACE_MARKER_MAX_SIZE = 4096;
/** Shorter texts get as much room, as the kernel keeps it for `<faulted>`. */
const FAULTED_SIZE = 9;
const RAW_HEAD = 12;
const NEWLINE = 10;

function requireMarkers(tr: TraceArray): void {
  if (!tr.options.has('markers')) throw new KernelError('EINVAL', 'the option markers is off');
}

/** tracing_mark_write(): a record `print` with the text; a text too long for one is taken in part. EBADF while nothing is recorded. */
export function traceMarker(tr: TraceArray, text: Uint8Array): number {
  requireMarkers(tr);
  let count = Math.min(text.length, TRACE_MARKER_MAX_SIZE);
  if (count + PRINT_META > tr.buffer.maxEventSize) count = tr.buffer.maxEventSize - PRINT_META;
  const task = tr.tracing.arch.current();
  const data = new Uint8Array(PRINT_META + Math.max(count, FAULTED_SIZE));
  writeEntry(data, TRACE_PRINT, task.pid);
  dataView(data).setBigUint64(8, TRACING_MARK_WRITE, true);
  data.set(text.subarray(0, count), PRINT_HEAD);
  const file = tr.file('ftrace', 'print');
  const record = { cpu: task.cpu, ts: tr.tracing.arch.now('local') ?? 0n, data };
  const post = file === undefined || file.triggers.length === 0 ? [] : runTriggers(file, record);
  if (count === 0 || data[PRINT_HEAD + count - 1] !== NEWLINE) data[PRINT_HEAD + count] = NEWLINE;
  if (!recordToBuffer(tr, record)) throw new KernelError('EBADF', 'tracing is off');
  for (const trigger of post) trigger.trigger(record, file!);
  return count;
}

export function markerFile(tr: TraceArray): FileOps {
  return { mode: 0o220, open: () => ({ write: (data) => traceMarker(tr, data) }) };
}

/** tracing_mark_raw_write(): a number and bytes. EINVAL: shorter than the number, or too long. */
export function rawMarkerFile(tr: TraceArray): FileOps {
  return {
    mode: 0o220,
    open: () => ({
      write(bytes) {
        requireMarkers(tr);
        if (bytes.length < 4) throw new KernelError('EINVAL', 'a raw marker begins with a 32-bit number');
        const size = RAW_HEAD + Math.max(bytes.length, FAULTED_SIZE + 4);
        if (size > tr.buffer.maxEventSize) throw new KernelError('EINVAL', 'the marker is too long');
        const task = tr.tracing.arch.current();
        const data = new Uint8Array(size);
        writeEntry(data, TRACE_RAW_DATA, task.pid);
        data.set(bytes, 8);
        const record = { cpu: task.cpu, ts: tr.tracing.arch.now('local') ?? 0n, data };
        if (!recordToBuffer(tr, record)) throw new KernelError('EBADF', 'tracing is off');
        return bytes.length;
      },
    }),
  };
}
