/** The snapshot that a hist takes when a variable changes (tracing_snapshot_cond(), kernel/trace/trace.c): one an instance. */
import { KernelError } from '../../errno.ts';
import { allocSnapshot, takeSnapshot } from '../snapshot.ts';
import type { TraceArray } from '../trace-array.ts';
import type { HistAction } from './action-data.ts';
import type { HistData } from './hist-data.ts';
import type { TracingMapElt } from './tracing-map.ts';

/** `struct track_data` */
export interface CondSnapshot {
  readonly histData: HistData;
  readonly action: HistAction;
  value: bigint;
  updated: boolean;
  /** The entry that led to the snapshot. */
  elt: TracingMapElt | undefined;
}

const snapshots = new WeakMap<TraceArray, CondSnapshot>();

/** EBUSY: another hist takes the instance's snapshots. */
export function enableCondSnapshot(histData: HistData, action: HistAction): void {
  const { tr } = histData.file;
  allocSnapshot(tr);
  if (snapshots.has(tr)) throw new KernelError('EBUSY', 'another hist takes snapshots of the instance');
  snapshots.set(tr, { histData, action, value: 0n, updated: false, elt: undefined });
}

export function disableCondSnapshot(histData: HistData): void {
  const { tr } = histData.file;
  if (snapshots.get(tr)?.histData === histData) snapshots.delete(tr);
}

export function condSnapshotOf(tr: TraceArray): CondSnapshot | undefined {
  return snapshots.get(tr);
}

/** cond_snapshot_update(): takes one where the entry's value stands out among those of all entries. */
export function condSnapshot(
  tr: TraceArray,
  elt: TracingMapElt,
  value: bigint,
  stands: (tracked: bigint, value: bigint) => boolean,
): void {
  const snapshot = snapshots.get(tr);
  if (snapshot === undefined || !stands(snapshot.value, value)) return;
  snapshot.value = value;
  snapshot.elt = elt;
  snapshot.updated = true;
  takeSnapshot(tr);
}
