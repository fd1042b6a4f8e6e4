/** Which events a process has, and the events that a pattern names. */

import { TraplineError } from '../../errors.ts';
import { didYouMean } from '../../similar.ts';
import { globMatch } from '../trace/glob.ts';
import { type EventDescription, type EventField, eventKey, RUNTIME_EVENTS } from './runtime-events.ts';
import { isTracepointType } from './trace-event.ts';

/** The runtime's, as that version of Node has them, then those that the application defines. */
export function eventsOf(
  nodeVersion: string,
  defined: readonly {
    readonly system: string;
    readonly name: string;
    readonly types: Readonly<Record<string, string>>;
  }[],
): EventDescription[] {
  const major = Number(/\d+/.exec(nodeVersion)?.[0] ?? 0);
  const events = RUNTIME_EVENTS.filter(({ since = 0 }) => since <= major);
  const known = new Set(events.map(eventKey));
  for (const { system, name, types } of defined) {
    if (known.has(eventKey({ system, name }))) continue;
    const fields = Object.entries(types).flatMap(([field, type]): EventField[] =>
      isTracepointType(type) ? [{ name: field, type, arg: 0, path: [field] }] : [],
    );
    events.push({ system, name, fields });
  }
  return events;
}

/**
 * The events that `SYSTEM:NAME` names, either part a glob. EINVAL: it is no such pair; ENOENT: nothing matches, the hint has the
 * nearest name.
 */
export function matchEvents(events: readonly EventDescription[], target: string): EventDescription[] {
  const [system, name, more] = target.split(':');
  if (system === undefined || name === undefined || more !== undefined || system === '' || name === '')
    throw new TraplineError('EINVAL', 'tracepoint probe type requires a category and a name', {
      hint: 'such as tracepoint:http:server_request_start',
    });
  const found = events.filter((event) => globMatch(system, event.system) && globMatch(name, event.name));
  if (found.length > 0) return found;
  const hint =
    didYouMean(target, events.map(eventKey)) ??
    didYouMean(
      name,
      events.map((event) => event.name),
    ) ??
    "trapline -l 'tracepoint:*' lists them";
  throw new TraplineError('ENOENT', `no tracepoint matches ${target}`, { hint });
}

/** As a listing shows an event's fields: `string url`. */
export function fieldText({ type, name }: EventField): string {
  return `${type} ${name}`;
}
