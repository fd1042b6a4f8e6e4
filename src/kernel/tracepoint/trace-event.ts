/** TRACE_EVENT() for applications: a tracepoint with typed fields, and the event that records them (include/trace/trace_events.h). */
import { aFunction, anObject, aString, checkArgument, optional, someOptions } from '../../arguments.ts';
import { TraplineError } from '../../errors.ts';
import { KernelError } from '../errno.ts';
import { TRACE_ENTRY_SIZE, writeEntry } from '../trace/trace-entry.ts';
import { TRACE_EVENT_FL_TRACEPOINT, TraceEventCall } from '../trace/trace-event.ts';
import { filterTypeOf, type TraceField } from '../trace/trace-field.ts';
import type { Tracing } from '../trace/tracing.ts';
import { getRawEvent, type RawEventMap, registerRawEvent, unregisterRawEvent } from './raw-event.ts';
import { staticKey } from './static-key.ts';
import { Tracepoint, tracepointProbeRegister, tracepointProbeUnregister } from './tracepoint.ts';

const DEFINE_OPTIONS = someOptions<DefineTracepointOptions>({
  regfunc: optional(aFunction),
  unregfunc: optional(aFunction),
});

/** C type, bytes, signedness and printf conversion of what a field may be. */
const FIELD_TYPES = {
  u8: ['u8', 1, false, '%u'],
  u16: ['u16', 2, false, '%u'],
  u32: ['u32', 4, false, '%u'],
  u64: ['u64', 8, false, '%llu'],
  s8: ['s8', 1, true, '%d'],
  s16: ['s16', 2, true, '%d'],
  s32: ['s32', 4, true, '%d'],
  s64: ['s64', 8, true, '%lld'],
  bool: ['bool', 1, false, '%d'],
  string: ['__data_loc char[]', 4, false, '%s'],
} as const;

export type TracepointFieldType = keyof typeof FIELD_TYPES;
/** Whether a field may have this type. */
export function isTracepointType(type: string): type is TracepointFieldType {
  return Object.hasOwn(FIELD_TYPES, type);
}

export type TracepointFields = Readonly<Record<string, TracepointFieldType>>;

/** What the application gives for a field. Numbers are cut to the field's size; a fraction is lost. */
type FieldValue<T extends TracepointFieldType> = T extends 'string'
  ? string
  : T extends 'bool'
    ? boolean
    : T extends 'u64' | 's64'
      ? number | bigint
      : number;

export type TracepointArgs<F extends TracepointFields> = { readonly [K in keyof F]: FieldValue<F[K]> };

/** A tracepoint of an application: call it where the event happens. */
export interface TracepointFunction<F extends TracepointFields> {
  /** The event happens. Costs next to nothing while nobody wants it. */
  (values: TracepointArgs<F>): void;
  /** trace_EVENT_enabled(): whether anybody wants it, where the values alone cost something to make. */
  readonly enabled: boolean;
  readonly tracepoint: Tracepoint<readonly [TracepointArgs<F>]>;
}

export interface DefineTracepointOptions {
  readonly regfunc?: () => void;
  readonly unregfunc?: () => void;
}

/** An event of an application, as tracing systems of this process add it. */
export interface DefinedEvent {
  readonly system: string;
  readonly name: string;
  readonly tracepoint: Tracepoint<readonly [Record<string, unknown>]>;
  readonly raw: RawEventMap;
  readonly key: { dispose(): void };
  readonly layout: RecordLayout;
  readonly types: TracepointFields;
}

const defined = new Map<string, DefinedEvent>();

/** Where a tracer from outside finds the events of a process: one Map for each copy of this module. */
const REGISTRY = Symbol.for('trapline.tracepoints');

function publish(): void {
  const globals = globalThis as Record<symbol, unknown>;
  const known = globals[REGISTRY];
  if (!Array.isArray(known))
    Reflect.defineProperty(globals, REGISTRY, { value: [defined], configurable: true });
  else if (!known.includes(defined)) known.push(defined);
}

/** The events of this process's code, by `SYSTEM:NAME`. */
export function definedEvents(): ReadonlyMap<string, DefinedEvent> {
  return defined;
}

const systems = new Set<(event: DefinedEvent, added: boolean) => void>();

/** Bytes that strings of one record may have together: a record does not outgrow a page of the ring buffer. */
const MAX_STRINGS = 3072;

/** How values become a record. */
export class RecordLayout {
  readonly fields: readonly TraceField[];
  readonly printFmt: string;
  readonly size: number;
  readonly #types: readonly TracepointFieldType[];
  readonly #placed: readonly PlacedField[];
  readonly #strings: boolean;
  readonly #scratch: Uint8Array;
  readonly #view: DataView;
  #busy = false;

  constructor(fields: TracepointFields) {
    const made: TraceField[] = [];
    let size = TRACE_ENTRY_SIZE;
    for (const [name, kind] of Object.entries(fields)) {
      const [type, bytes, isSigned] = FIELD_TYPES[kind];
      size = Math.ceil(size / bytes) * bytes;
      made.push({ name, type, offset: size, size: bytes, isSigned, filterType: filterTypeOf(type) });
      size += bytes;
    }
    this.fields = made;
    this.size = size;
    this.#types = Object.values(fields);
    this.#placed = made.map(({ name, offset, size: bytes }, i) => ({
      name,
      offset,
      size: bytes,
      type: this.#types[i] as TracepointFieldType,
    }));
    this.#strings = this.#types.includes('string');
    this.#scratch = new Uint8Array(size);
    this.#view = new DataView(this.#scratch.buffer);
    const format = made.map(({ name }, i) => `${name}=${FIELD_TYPES[this.#types[i]!][3]}`).join(' ');
    const values = made.map(({ name }, i) =>
      this.#types[i] === 'string' ? `, __get_str(${name})` : `, REC->${name}`,
    );
    this.printFmt = `"${format}"${values.join('')}`;
  }

  /** A record without its head. What is no number counts as 0. Valid until the next one, where it has no strings. */
  record(values: Readonly<Record<string, unknown>>): Uint8Array {
    // A getter of the values may have come here again.
    if (this.#strings || this.#busy) return this.#fresh(values);
    this.#busy = true;
    try {
      this.#numbers(this.#view, values);
      return this.#scratch;
    } finally {
      this.#busy = false;
    }
  }

  #numbers(view: DataView, values: Readonly<Record<string, unknown>>): void {
    const fields = this.#placed;
    for (let i = 0; i < fields.length; i++) {
      const field = fields[i] as PlacedField;
      if (field.type !== 'string') putNumber(view, field, values[field.name]);
    }
  }

  #fresh(values: Readonly<Record<string, unknown>>): Uint8Array {
    const strings: Uint8Array[] = [];
    let end = this.size;
    for (const { type, name } of this.#placed) {
      if (type !== 'string') continue;
      const bytes = cString(values[name], MAX_STRINGS - (end - this.size));
      strings.push(bytes);
      end += bytes.length;
    }
    const data = new Uint8Array(end);
    const view = new DataView(data.buffer);
    this.#numbers(view, values);
    let at = this.size;
    let string = 0;
    for (const { type, offset } of this.#placed) {
      if (type !== 'string') continue;
      const bytes = strings[string++] as Uint8Array;
      view.setUint32(offset, ((bytes.length << 16) | at) >>> 0, true);
      data.set(bytes, at);
      at += bytes.length;
    }
    return data;
  }
}

interface PlacedField {
  readonly name: string;
  readonly type: TracepointFieldType;
  readonly offset: number;
  readonly size: number;
}

const encoder = new TextEncoder();

function cString(value: unknown, room: number): Uint8Array {
  const text = typeof value === 'string' ? value : '';
  const nul = text.indexOf('\0');
  const bytes = encoder.encode(`${nul < 0 ? text : text.slice(0, nul)}\0`);
  if (bytes.length <= room) return bytes;
  const cut = bytes.slice(0, Math.max(1, room));
  cut[cut.length - 1] = 0;
  return cut;
}

function putNumber(view: DataView, { type, offset, size }: PlacedField, value: unknown): void {
  if (size === 8) {
    if (typeof value === 'number' && Number.isSafeInteger(value)) {
      view.setInt32(offset, value, true);
      view.setInt32(offset + 4, Math.floor(value / 2 ** 32), true);
    } else view.setBigUint64(offset, toBigInt(value), true);
    return;
  }
  const number = typeof value === 'bigint' ? Number(BigInt.asIntN(32, value)) : Number(value);
  if (size === 4) view.setInt32(offset, number, true);
  else if (size === 2) view.setInt16(offset, number, true);
  else view.setInt8(offset, type === 'bool' ? Number(Boolean(value)) : number);
}

function toBigInt(value: unknown): bigint {
  if (typeof value === 'bigint') return BigInt.asUintN(64, value);
  const number = Math.trunc(Number(value));
  return Number.isFinite(number) ? BigInt.asUintN(64, BigInt(number)) : 0n;
}

/**
 * Defines an event of the application: `const checkout = defineTracepoint('shop', 'checkout', { id: 'u64', sku: 'string' })`, then
 * `checkout({ id, sku })`. It is the event shop:checkout of every tracing system of this process, and the raw tracepoint `checkout`.
 * Throws a TraplineError: EINVAL for a name or type that cannot be, EEXIST where the system has an event of that name.
 */
export function defineTracepoint<const F extends TracepointFields>(
  system: string,
  name: string,
  fields: F,
  options: DefineTracepointOptions = {},
): TracepointFunction<F> {
  checkArgument('defineTracepoint()', 'system', system, aString);
  checkArgument('defineTracepoint()', 'name', name, aString);
  checkArgument('defineTracepoint()', 'fields', fields, anObject);
  checkArgument('defineTracepoint()', 'options', options, DEFINE_OPTIONS);
  check(system, name, fields);
  const id = `${system}:${name}`;
  if (defined.has(id)) throw new KernelError('EEXIST', `there is an event ${id}`);
  type Args = TracepointArgs<F>;
  const key = staticKey((values: Args) => tracepoint.call(values));
  const tracepoint: Tracepoint<readonly [Args]> = new Tracepoint<readonly [Args]>(name, {
    regfunc: () => {
      options.regfunc?.();
      key.set(true);
    },
    unregfunc: () => {
      key.set(false);
      options.unregfunc?.();
    },
  });
  // the raw tracepoint's name is the first one's that asks, as tracepoints have no systems
  const raw = getRawEvent(name) ?? registerRawEvent(tracepoint as unknown as Tracepoint, 1);
  const event: DefinedEvent = {
    system,
    name,
    tracepoint: tracepoint as unknown as DefinedEvent['tracepoint'],
    raw,
    key,
    layout: new RecordLayout(fields),
    types: { ...fields },
  };
  defined.set(id, event);
  publish();
  for (const change of systems) change(event, true);
  return Object.defineProperties(key.branch, {
    enabled: { get: key.isOn },
    tracepoint: { value: tracepoint },
  }) as TracepointFunction<F>;
}

/** Takes an event back, as its module goes. EBUSY while it is enabled somewhere; ENOENT. */
export function undefineTracepoint(system: string, name: string): void {
  checkArgument('undefineTracepoint()', 'system', system, aString);
  checkArgument('undefineTracepoint()', 'name', name, aString);
  const key = `${system}:${name}`;
  const event = defined.get(key);
  if (event === undefined) throw new KernelError('ENOENT', `there is no event ${key}`);
  if (event.tracepoint.users > 0) throw new KernelError('EBUSY', `the event ${key} is in use`);
  defined.delete(key);
  event.key.dispose();
  if ((event.raw.tp as unknown) === event.tracepoint) unregisterRawEvent(event.raw);
  for (const change of systems) change(event, false);
}

function check(system: string, name: string, fields: TracepointFields): void {
  const bad = [system, name, ...Object.keys(fields)].find(
    (word) => !/^[A-Za-z_][A-Za-z0-9_]{0,63}$/.test(word),
  );
  if (bad !== undefined)
    throw new TraplineError('EINVAL', `${JSON.stringify(bad)} is no name`, {
      hint: 'names of systems, events and fields are letters, digits and _',
    });
  for (const [field, type] of Object.entries(fields)) {
    if (!Object.hasOwn(FIELD_TYPES, type))
      throw new TraplineError('EINVAL', `${field} has an unknown type: ${JSON.stringify(type)}`, {
        hint: `types are ${Object.keys(FIELD_TYPES).join(', ')}`,
      });
    if (field.startsWith('common_'))
      throw new TraplineError('EINVAL', `${field}: every record has that field`);
  }
}

/**
 * Adds the application's events to a tracing system, those to come too. The answer ends that. `changed` is told of each that comes or goes
 * later.
 */
export function addDefinedEvents(
  tracing: Tracing,
  changed: (event: DefinedEvent, added: boolean) => void = () => undefined,
): () => void {
  const calls = new Map<DefinedEvent, TraceEventCall>();
  const change = (event: DefinedEvent, added: boolean): void => {
    const call = calls.get(event);
    if (added && call === undefined) {
      const made = eventCall(tracing, event);
      tracing.addEvent(made);
      calls.set(event, made);
    } else if (!added && call !== undefined) {
      tracing.removeEvent(call);
      calls.delete(event);
    }
  };
  const onChange = (event: DefinedEvent, added: boolean): void => {
    change(event, added);
    changed(event, added);
  };
  for (const event of defined.values()) change(event, true);
  systems.add(onChange);
  return () => {
    systems.delete(onChange);
    for (const call of calls.values()) for (const file of call.files) file.stop();
  };
}

/** The event's call: its probe makes the record (trace_event_raw_event_EVENT()). */
function eventCall(tracing: Tracing, { system, name, tracepoint, layout }: DefinedEvent): TraceEventCall {
  const probe = (call: TraceEventCall, values: Record<string, unknown>): void => {
    const { arch } = tracing;
    const data = layout.record(values);
    const { pid, cpu } = arch.current();
    writeEntry(data, call.id, pid);
    tracing.commit(call, { cpu, ts: arch.now('local') ?? 0n, data });
  };
  return new TraceEventCall({
    name,
    class: {
      system,
      reg: (call, on) => {
        if (on) tracepointProbeRegister(tracepoint, probe, call);
        else tracepointProbeUnregister(tracepoint, probe, call);
      },
    },
    fields: layout.fields,
    printFmt: layout.printFmt,
    flags: TRACE_EVENT_FL_TRACEPOINT,
  });
}
