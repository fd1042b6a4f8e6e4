/** Trace events of Chrome (chrome://tracing, Perfetto): the JSON object format. */
import { aFunction, checkArgument, optional } from '../../arguments.ts';
import type { TraceEvent, TraceEvents } from '../events.ts';
import { aTraceEvents } from '../events.ts';
import { jsonFields } from './json.ts';
import { slices } from './slices.ts';
import { textOf } from './text.ts';

/** Microseconds with all places, which JSON.stringify() of a double would lose for times since 1970. */
function micros(ns: bigint): string {
  const sign = ns < 0n ? '-' : '';
  const size = ns < 0n ? -ns : ns;
  return `${sign}${size / 1000n}.${String(size % 1000n).padStart(3, '0')}`;
}

export function* exportChrome(
  events: TraceEvents,
  filter?: (event: TraceEvent) => boolean,
): IterableIterator<Uint8Array> {
  checkArgument('exportChrome()', 'events', events, aTraceEvents);
  checkArgument('exportChrome()', 'filter', filter, optional(aFunction));
  const encoder = new TextEncoder();
  const named = new Set<number>();
  let first = true;
  const put = (ts: bigint | undefined, rest: Record<string, unknown>): Uint8Array => {
    const text = JSON.stringify(rest);
    const line = ts === undefined ? text : `{"ts":${micros(ts)},${text.slice(1)}`;
    const begin = first ? '{"displayTimeUnit":"ns","traceEvents":[\n' : ',\n';
    first = false;
    return encoder.encode(begin + line);
  };
  const task = function* (pid: number): IterableIterator<Uint8Array> {
    if (named.has(pid)) return;
    named.add(pid);
    const name = textOf(events.comm(pid));
    for (const kind of ['process_name', 'thread_name'])
      yield put(undefined, { name: kind, ph: 'M', pid, tid: pid, args: { name } });
  };
  for (const item of slices(events)) {
    if (item.kind === 'end') {
      const args = item.event === undefined ? {} : jsonFields(item.event);
      yield put(item.ts, { ph: 'E', name: textOf(item.name), pid: item.pid, tid: item.pid, args });
      continue;
    }
    const { event } = item;
    if (filter !== undefined && item.kind === 'instant' && !filter(event)) continue;
    const { pid, cpu, ts, lost } = event;
    yield* task(pid);
    const place = { pid, tid: pid };
    if (lost !== 0)
      yield put(ts, { ph: 'i', name: 'lost events', cat: 'lost', s: 'g', ...place, args: { lost, cpu } });
    const cat = textOf(event.event?.system ?? 'unknown');
    const args = { ...jsonFields(event), cpu };
    if (item.kind === 'begin') yield put(ts, { ph: 'B', name: textOf(item.name), cat, ...place, args });
    else
      yield put(ts, { ph: 'i', name: textOf(event.event?.name ?? 'unknown'), cat, s: 't', ...place, args });
  }
  yield encoder.encode(first ? '{"displayTimeUnit":"ns","traceEvents":[]}\n' : '\n]}\n');
}
