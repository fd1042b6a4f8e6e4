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
  for (const event of defined) if (!known.has(eventKey(event))) events.push(definedEvent(event));
  return events;
}

/** An event that an application defines: its one argument has the values. */
export function definedEvent({
  system,
  name,
  types,
}: {
  readonly system: string;
  readonly name: string;
  readonly types: Readonly<Record<string, string>>;
}): EventDescription {
  const fields = Object.entries(types).flatMap(([field, type]): EventField[] =>
    isTracepointType(type) ? [{ name: field, type, arg: 0, path: [field] }] : [],
  );
  return { system, name, fields };
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

/** Names a channel whatever it looks like. */
const RAW = 'rawtracepoint:';
/** A channel's name, as far as it is told from others by itself. */
const CHANNEL = /\.|:.*:/;

/** Whether rawTracepoint() may find something by a name, now or later. */
export function isTracepointName(name: string): boolean {
  return (
    /^\w+(?::\w+)?$/.test(name) || (name.startsWith(RAW) && name.length > RAW.length) || CHANNEL.test(name)
  );
}

/**
 * The tracepoint that a raw name stands for: an event by `SYSTEM:NAME`, or by `NAME` where one system has it; a channel by a name with a
 * dot or more than one colon, or with `rawtracepoint:` in front. Any name is a channel's, as who publishes there may come later.
 */
export function rawTracepoint(
  events: readonly EventDescription[],
  name: string,
): EventDescription | { readonly channel: string } | undefined {
  if (name.startsWith(RAW)) return name === RAW ? undefined : { channel: name.slice(RAW.length) };
  const event = events.find((one) => eventKey(one) === name);
  if (event !== undefined) return event;
  const named = events.filter((one) => one.name === name);
  if (named.length > 0) return named.length === 1 ? named[0] : undefined;
  return CHANNEL.test(name) ? { channel: name } : undefined;
}

/** What a channel gives: the message, and its own name. */
export const CHANNEL_FIELDS: readonly EventField[] = [
  { name: 'message', type: 'u64', arg: 0, path: [] },
  { name: 'name', type: 'string', arg: 1, path: [] },
];

/** As a listing shows an event's fields: `string url`. */
export function fieldText({ type, name }: EventField): string {
  return `${type} ${name}`;
}
