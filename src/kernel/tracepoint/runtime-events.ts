/**
 * The static events of a Node process, as data: what a tracer lists and checks without asking the process, and what the sources in
 * the process (src/agent/events) give. A source calls with positional values; a field is one of them, or a property behind it
 * that is read without running the application's code.
 */

import type { TracepointFieldType } from './trace-event.ts';

/** A field of an event: a property (`path`, the value itself where it is empty) of the source's value number `arg`. */
export interface EventField {
  readonly name: string;
  readonly type: TracepointFieldType;
  readonly arg: number;
  readonly path: readonly string[];
}

/** An event that a process has. */
export interface EventDescription {
  readonly system: string;
  readonly name: string;
  readonly fields: readonly EventField[];
  /** What it costs the process beside its hits, where that is worth knowing. */
  readonly cost?: string;
  /** Node's first major version that has it, where the oldest one does not. */
  readonly since?: number;
}

/** Type, then the value's number (that of the field itself by default) and the property behind it. */
type FieldText = TracepointFieldType | readonly [TracepointFieldType, number, ...string[]];

function event(
  system: string,
  name: string,
  fields: Readonly<Record<string, FieldText>>,
  more: Pick<EventDescription, 'cost' | 'since'> = {},
): EventDescription {
  const made = Object.entries(fields).map(([field, text], index): EventField => {
    const [type, arg, ...path] = typeof text === 'string' ? ([text, index] as const) : text;
    return { name: field, type, arg, path };
  });
  return { system, name, fields: made, ...more };
}

const LATER = 'told by Node after it has happened: the time of the record is that of the telling';
const HOOKS = 'async_hooks: every asynchronous resource of the process costs about a microsecond more';
const PROMISES = "V8's promise hooks: every promise of the process costs more";
const EMIT = 'every event that such an object emits takes some 30 ns more';

/** A request of an HTTP client: what every event of it has. */
const CLIENT = { id: ['u64', 0], method: ['string', 1], host: ['string', 2], path: ['string', 3] } as const;
const FILE = { op: 'string', api: 'string', path: 'string', fd: 's32' } as const;

/**
 * In the order in which they are listed. Durations are in nanoseconds, sizes in bytes; an `id` is the same in every event of one
 * request, promise or timer.
 */
export const RUNTIME_EVENTS: readonly EventDescription[] = [
  event('http', 'server_request_start', {
    id: ['u64', 0],
    method: ['string', 1, 'method'],
    url: ['string', 1, 'url'],
    remote_address: ['string', 2, 'remoteAddress'],
  }),
  event('http', 'server_request_headers', {
    id: ['u64', 0],
    method: ['string', 1, 'method'],
    url: ['string', 1, 'url'],
    status: ['u16', 2],
    duration: ['u64', 3],
  }),
  event('http', 'server_request_end', {
    id: ['u64', 0],
    method: ['string', 1, 'method'],
    url: ['string', 1, 'url'],
    status: ['u16', 2],
    bytes: ['u64', 3],
    duration: ['u64', 4],
  }),
  event('http', 'client_request_start', CLIENT),
  event('http', 'client_request_headers', { ...CLIENT, status: ['u16', 4], duration: ['u64', 5] }),
  event(
    'http',
    'client_request_end',
    { ...CLIENT, status: ['u16', 4], bytes: ['u64', 5], duration: ['u64', 6] },
    { cost: EMIT },
  ),
  event('http', 'client_request_error', { ...CLIENT, message: ['string', 4, 'message'] }),
  event('net', 'server_connection', {
    id: ['u64', 0],
    remote_address: ['string', 1, 'remoteAddress'],
    remote_port: ['u16', 1, 'remotePort'],
  }),
  event('net', 'client_connect', { host: 'string', port: 'u16', duration: 'u64' }, { cost: LATER }),
  event('dns', 'lookup', { op: 'string', hostname: 'string', duration: 'u64' }, { cost: LATER }),
  event('fs', 'op_start', FILE),
  event('fs', 'op_end', { ...FILE, error: 'string', duration: 'u64' }),
  event('module', 'load', { request: 'string', parent: 'string', error: 'string', duration: 'u64' }),
  event('module', 'import', { url: 'string', parent: 'string' }, { since: 22 }),
  event(
    'gc',
    'gc',
    { kind: 'u32', type: 'string', flags: 'u32', pause: 'u64', before: 'u64', after: 'u64' },
    { cost: LATER },
  ),
  event('loop', 'turn', { active: 'u64', idle: 'u64' }, { cost: 'about a microsecond a turn' }),
  event(
    'loop',
    'delay',
    { count: 'u64', min: 'u64', mean: 'u64', p50: 'u64', p99: 'u64', max: 'u64' },
    { cost: 'a timer of 10 ms in the event loop; one record a second' },
  ),
  event(
    'timer',
    'timer_start',
    { id: 'u64', delay: 'u64', repeat: 'u64', immediate: 'bool' },
    { cost: HOOKS },
  ),
  event('timer', 'timer_expire_entry', { id: 'u64', immediate: 'bool' }, { cost: HOOKS }),
  event('timer', 'timer_expire_exit', { id: 'u64', immediate: 'bool', duration: 'u64' }, { cost: HOOKS }),
  event('promise', 'init', { id: 'u64', parent: 'u64' }, { cost: PROMISES }),
  event('promise', 'settle', { id: 'u64' }, { cost: PROMISES }),
  event('promise', 'unhandled_rejection', {
    id: ['u64', 1],
    name: ['string', 0, 'name'],
    message: ['string', 0, 'message'],
  }),
  event('process', 'uncaught_exception', {
    name: ['string', 0, 'name'],
    message: ['string', 0, 'message'],
    origin: ['string', 1],
  }),
  event('process', 'warning', {
    name: ['string', 0, 'name'],
    code: ['string', 0, 'code'],
    message: ['string', 0, 'message'],
  }),
  event(
    'process',
    'resources',
    {
      rss: 'u64',
      heap_total: 'u64',
      heap_used: 'u64',
      external: 'u64',
      array_buffers: 'u64',
      user_us: 'u64',
      system_us: 'u64',
      minor_faults: 'u64',
      major_faults: 'u64',
      voluntary_switches: 'u64',
      involuntary_switches: 'u64',
    },
    { cost: 'a timer; one record a second, about 50 µs each' },
  ),
  event('worker', 'start', { thread_id: 'u32' }, { cost: EMIT }),
  event('worker', 'exit', { thread_id: 'u32', code: 's32' }, { cost: EMIT }),
  event('child_process', 'spawn', { pid: 'u32', file: 'string', error: 's32' }),
  event('child_process', 'exit', { pid: 'u32', code: 's32', signal: 'string' }, { cost: EMIT }),
];

/** What names an event: `http:server_request_start`. */
export function eventKey({ system, name }: Pick<EventDescription, 'system' | 'name'>): string {
  return `${system}:${name}`;
}
