import type { TraceRecord } from './trace-entry.ts';

/** Counters of one CPU's buffer, as in `per_cpu/cpuN/stats`. */
export interface TraceBufferStats {
  readonly entries: number;
  readonly overrun: number;
  readonly commitOverrun: number;
  readonly bytes: number;
  readonly oldestEventTs: bigint;
  readonly nowTs: bigint;
  readonly droppedEvents: number;
  readonly readEvents: number;
}

/** What the tracing core needs of a trace buffer (include/linux/ring_buffer.h). `ring-buffer/` implements it. */
export interface TraceBuffer {
  readonly ncpu: number;
  overwrite: boolean;
  /** ring_buffer_record_off() and on(). */
  recording: boolean;
  /** Reserve and commit in one step; false when the record was dropped. `ts` in ns of the buffer's clock. */
  write(cpu: number, ts: bigint, data: Uint8Array): boolean;
  /** Empties one CPU's buffer, or all. */
  reset(cpu?: number): void;
  /** KiB a CPU; throws KernelError ENOMEM or EINVAL and changes nothing. */
  resize(sizeKb: number, cpu?: number): void;
  /** What the last resize has made of it (trace_array_cpu.entries): another size of sub-buffers does not show here. */
  sizeKb(cpu: number): number;
  /** Bytes of a CPU's buffer (ring_buffer_size()). */
  sizeBytes(cpu: number): number;
  /** Bytes of the largest record (ring_buffer_max_event_size()). */
  readonly maxEventSize: number;
  /** Records carry absolute stamps (`timestamp_mode`). */
  timeStampAbs: boolean;
  /** KiB of a sub-buffer (a page). */
  subbufSizeKb: number;
  stats(cpu: number): TraceBufferStats;
  /** Records of all CPUs (or one) in the order of their times, without consuming them. */
  iterate(cpu?: number): IterableIterator<TraceRecord>;
  /** Whether a CPU's buffer has something to read, and is so full, in per cent; without a CPU anything counts. */
  watermarkHit(percent: number, cpu?: number): boolean;
  /** ring_buffer_record_disable() and enable(): nothing is recorded while there are more of those; `recording` stays as it is. */
  recordDisabled: number;
  /** The record that consume() would take. */
  peek(cpu?: number): TraceRecord | undefined;
  /** Takes the oldest record (ring_buffer_consume()); undefined when empty. */
  consume(cpu?: number): TraceRecord | undefined;
  /** Takes a page as it is (ring_buffer_read_page()); with `full`, undefined unless it is full. */
  readPage(cpu: number, full: boolean): Uint8Array | undefined;
  /**
   * Called by the write that has filled a page, behind its commit: a reader that takes full pages here loses nothing, whatever the
   * buffer's size (what rb_wakeups() and `buffer_percent` are for).
   */
  onFullPage: ((cpu: number) => void) | undefined;
  /** Exchanges the contents with another buffer of the same sizes (ring_buffer_swap_cpu()). */
  swap(other: TraceBuffer, cpu?: number): void;
}
