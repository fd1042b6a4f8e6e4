/** Events of a process as attach points and as lines of a listing. */

import type { ProbeTarget, TargetField } from '../lang/script.ts';
import {
  type EventDescription,
  type EventPlace,
  fieldText,
  matchEvents,
  type ProcessEvents,
  RUNTIME_EVENTS,
} from '../target/events.ts';

/** What an attach point on an event matched: the compiler hands it back. */
export interface EventMatch extends ProbeTarget {
  readonly event: EventPlace;
}

/** Any version's: what a script is checked against where there is no process. */
export const ANY_EVENTS: ProcessEvents = { events: RUNTIME_EVENTS, channels: [] };

/** `tracepoint:http:*` or `rawtracepoint:CHANNEL`. Errors of matchEvents(). */
export function matchPoint(
  type: 'tracepoint' | 'rawtracepoint',
  target: string,
  { events }: ProcessEvents,
): EventMatch[] {
  // Any name is a channel: who publishes there may come later.
  if (type === 'rawtracepoint')
    return [
      { name: target, params: [], event: { name: `rawtracepoint:${target}`, source: `raw:${target}` } },
    ];
  return matchEvents(events, target).map((event) => {
    const name = `${event.system}:${event.name}`;
    return {
      name,
      params: event.fields.map((field) => field.name),
      fields: event.fields.map(({ type: kind, arg, path }): TargetField => {
        return {
          type: kind === 'string' ? 'string' : kind.startsWith('s') ? 'signed' : 'unsigned',
          arg,
          path,
        };
      }),
      event: { name: `tracepoint:${name}`, source: name },
    };
  });
}

/** With `verbose`, its fields below each, as bpftrace shows them. */
export function eventLines(events: readonly EventDescription[], verbose: boolean): string[] {
  return events.map((event) => {
    const name = `tracepoint:${event.system}:${event.name}`;
    if (!verbose) return name;
    const fields = event.fields.map((field) => `    ${fieldText(field)}`);
    return [name, ...fields, ...(event.cost === undefined ? [] : [`    // ${event.cost}`])].join('\n');
  });
}
