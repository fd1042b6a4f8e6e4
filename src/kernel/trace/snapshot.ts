import type { TraceArray } from './trace-array.ts';

/** tracing_alloc_snapshot_instance(): a second buffer of the same sizes. */
export function allocSnapshot(tr: TraceArray): void {
  if (tr.snapshotBuffer !== undefined) return;
  const { buffer, tracing } = tr;
  const other = tracing.createBuffer(() => tr, buffer.sizeKb(0));
  other.subbufSizeKb = buffer.subbufSizeKb;
  other.overwrite = buffer.overwrite;
  tr.snapshotBuffer = other;
  matchSizes(tr);
}

function matchSizes(tr: TraceArray): void {
  const { buffer, snapshotBuffer } = tr;
  if (snapshotBuffer === undefined) return;
  if (snapshotBuffer.subbufSizeKb !== buffer.subbufSizeKb) snapshotBuffer.subbufSizeKb = buffer.subbufSizeKb;
  for (let cpu = 0; cpu < buffer.ncpu; cpu++)
    if (snapshotBuffer.sizeBytes(cpu) !== buffer.sizeBytes(cpu))
      snapshotBuffer.resize(buffer.sizeBytes(cpu) / 1024, cpu);
}

export function freeSnapshot(tr: TraceArray): void {
  tr.snapshotBuffer = undefined;
}

/** tracing_snapshot_instance(): what was recorded goes into the snapshot, and recording goes on in what was there. */
export function takeSnapshot(tr: TraceArray): void {
  allocSnapshot(tr);
  matchSizes(tr);
  tr.buffer.swap(tr.snapshotBuffer!);
  tr.mayHoldOlder = true;
  tr.snapshots++;
}
