/** A JSON object a line. */
import { aFunction, checkArgument, optional } from '../../arguments.ts';
import { aTraceEvents, eventFields, type TraceEvent, type TraceEvents } from '../events.ts';
import { jsonNumber, jsonValue, textOf } from './text.ts';

/** Fields by their names, as JSON has them. */
export function jsonFields(event: TraceEvent): Record<string, unknown> {
  return Object.fromEntries(
    [...eventFields(event)].map(([{ name }, value]) => [textOf(name), jsonValue(value)]),
  );
}

/** `{"ts", "cpu", "pid", "comm", "instance"?, "system", "event", "fields", "lost"?}`: `lost` events are missing in front, -1 is some. */
export function* exportJson(
  events: TraceEvents,
  filter?: (event: TraceEvent) => boolean,
): IterableIterator<Uint8Array> {
  checkArgument('exportJson()', 'events', events, aTraceEvents);
  checkArgument('exportJson()', 'filter', filter, optional(aFunction));
  const encoder = new TextEncoder();
  for (const event of events) {
    if (filter !== undefined && !filter(event)) continue;
    const { ts, cpu, pid, comm, buffer, lost, data } = event;
    const line = {
      ts: jsonNumber(ts),
      cpu,
      pid,
      comm: textOf(comm),
      ...(buffer.name === '' ? {} : { instance: textOf(buffer.name) }),
      ...(event.event === undefined
        ? { system: null, event: null, data: Buffer.from(data).toString('hex') }
        : { system: textOf(event.event.system), event: textOf(event.event.name), fields: jsonFields(event) }),
      ...(lost === 0 ? {} : { lost }),
    };
    yield encoder.encode(`${JSON.stringify(line)}\n`);
  }
}
