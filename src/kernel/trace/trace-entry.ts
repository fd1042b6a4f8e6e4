/**
 * `struct trace_entry` (include/linux/trace_events.h): the head of every record in a trace buffer, little-endian.
 *
 *     0  u16 type            id of the event
 *     2  u8  flags           TRACE_FLAG_*
 *     3  u8  preempt_count
 *     4  s32 pid
 */
export const TRACE_ENTRY_SIZE = 8;

export const TRACE_FLAG_IRQS_OFF = 0x01;
export const TRACE_FLAG_NEED_RESCHED = 0x04;
export const TRACE_FLAG_HARDIRQ = 0x08;
export const TRACE_FLAG_SOFTIRQ = 0x10;

/** Ids below this one are built in: `ftrace:*` events (enum trace_type, kernel/trace/trace.h). */
export const TRACE_LAST_TYPE = 20;

/** A record as somebody reads it from a buffer. `data` begins with the trace entry and is a copy or valid for the call only. */
export interface TraceRecord {
  readonly cpu: number;
  /** Nanoseconds of the buffer's clock. */
  readonly ts: bigint;
  readonly data: Uint8Array;
  /** Records that were lost in front of this one, as known to the reader. */
  readonly lost?: number;
  /** Addresses of the stack at the hit, the innermost first, where they came with it. */
  readonly stack?: readonly bigint[];
}

export function dataView(data: Uint8Array): DataView {
  return new DataView(data.buffer, data.byteOffset, data.byteLength);
}

export function entryType(data: Uint8Array): number {
  return (data[0] as number) | ((data[1] as number) << 8);
}

export function entryPid(data: Uint8Array): number {
  return (
    (data[4] as number) |
    ((data[5] as number) << 8) |
    ((data[6] as number) << 16) |
    ((data[7] as number) << 24)
  );
}

/** tracing_generic_entry_update(): writes the head of a record. */
export function writeEntry(data: Uint8Array, type: number, pid: number, flags = 0, preemptCount = 0): void {
  data[0] = type;
  data[1] = type >> 8;
  data[2] = flags;
  data[3] = preemptCount;
  data[4] = pid;
  data[5] = pid >> 8;
  data[6] = pid >> 16;
  data[7] = pid >> 24;
}

/** The same of a record that is being built in a view. */
export function writeHead(view: DataView, type: number, pid: number, flags = 0, preemptCount = 0): void {
  view.setUint16(0, type, true);
  view.setUint8(2, flags);
  view.setUint8(3, preemptCount);
  view.setInt32(4, pid, true);
}
