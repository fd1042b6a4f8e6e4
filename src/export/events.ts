/** The events of a trace.dat file in the order of their times, with what their formats say about them. */

import { checkArgument, having, someBytes } from '../arguments.ts';
import { cStringOf } from '../kernel/trace/byte-string.ts';
import { dataView, entryPid, entryType, TRACE_ENTRY_SIZE } from '../kernel/trace/trace-entry.ts';
import { type FileEvent, type FileField, parseEventFormat } from './trace-dat/event-format.ts';
import { OPTION } from './trace-dat/layout.ts';
import { type PageShape, pageRecords } from './trace-dat/page-records.ts';
import type { TraceDat, TraceDatBuffer, TraceDatCpu } from './trace-dat/reader.ts';
import { parseCmdlines, parsePrintkFormats, SymbolTable } from './trace-dat/symbols.ts';

export const aTraceEvents = having('events: new TraceEvents(dat)', 'dat', 'symbols', 'events');
const aField = having('a field of an event', 'type', 'offset', 'size');
export const aTraceEvent = having('an event of TraceEvents', 'event', 'data', 'cpu');

/** One event. `data` is its record, a view that stays valid. */
export interface TraceEvent {
  /** The instance's buffer. */
  readonly buffer: TraceDatBuffer;
  readonly cpu: number;
  /** Nanoseconds, or counts of a clock that has others; the file's offset is in it. */
  readonly ts: bigint;
  readonly pid: number;
  readonly comm: string;
  /** Undefined where the file has no format of its number. */
  readonly event: FileEvent | undefined;
  readonly data: Uint8Array;
  /** Events that were lost in front of it on this CPU; -1 where their number is not known. */
  readonly lost: number;
}

export type FieldValue = bigint | string | readonly bigint[];

/** Clocks that count nanoseconds, as trace-cmd takes them. */
const NS_CLOCKS = /^(?:local|global|uptime|perf|mono.*|tsc2nsec|tai)$/;

/** A file's events and what is needed to show them. */
export class TraceEvents {
  readonly dat: TraceDat;
  readonly symbols: SymbolTable;
  readonly printkFormats: ReadonlyMap<bigint, string>;
  readonly events: ReadonlyMap<number, FileEvent>;
  readonly #comms: ReadonlyMap<number, string>;

  /** ETRACEDAT: a format makes no sense. */
  constructor(dat: TraceDat) {
    checkArgument(
      'new TraceEvents()',
      'dat',
      dat,
      having('a TraceDat, as readTraceDat() gives it', 'kallsyms', 'buffers'),
    );
    this.dat = dat;
    this.symbols = new SymbolTable(dat.kallsyms);
    this.printkFormats = parsePrintkFormats(dat.printkFormats);
    this.#comms = parseCmdlines(dat.savedCmdlines);
    const events = new Map<number, FileEvent>();
    for (const format of dat.ftraceFormats) add(events, parseEventFormat('ftrace', format));
    for (const { system, format } of dat.eventFormats) add(events, parseEventFormat(system, format));
    this.events = events;
  }

  /** Whether stamps are nanoseconds. */
  get clockInNs(): boolean {
    return NS_CLOCKS.test(this.dat.clock) || this.dat.option(OPTION.tsc2nsec) !== undefined;
  }

  comm(pid: number): string {
    return pid === 0 ? '<idle>' : (this.#comms.get(pid) ?? '<...>');
  }

  /** All events, the oldest first; of equally old ones that of the first buffer and CPU. ETRACEDAT where pages are broken. */
  *[Symbol.iterator](): IterableIterator<TraceEvent> {
    const heads: { records: Iterator<TraceEvent>; event: TraceEvent }[] = [];
    for (const buffer of this.dat.buffers) {
      for (const cpu of buffer.cpus) {
        const records = this.#ofCpu(buffer, cpu, this.dat.shape);
        const first = records.next();
        if (first.done !== true) heads.push({ records, event: first.value });
      }
    }
    while (heads.length > 0) {
      let oldest = heads[0] as (typeof heads)[0];
      for (const head of heads) if (head.event.ts < oldest.event.ts) oldest = head;
      yield oldest.event;
      const next = oldest.records.next();
      if (next.done === true) heads.splice(heads.indexOf(oldest), 1);
      else oldest.event = next.value;
    }
  }

  *#ofCpu(
    buffer: TraceDatBuffer,
    { cpu, pages }: TraceDatCpu,
    shape: PageShape,
  ): IterableIterator<TraceEvent> {
    const offset = this.dat.tsOffset;
    for (const page of pages()) {
      for (const { ts, data, lost = 0 } of pageRecords(page, shape)) {
        const whole = data.length >= TRACE_ENTRY_SIZE;
        const pid = whole ? entryPid(data) : 0;
        const event = whole ? this.events.get(entryType(data)) : undefined;
        yield { buffer, cpu, ts: ts + offset, pid, comm: this.comm(pid), event, data, lost };
      }
    }
  }
}

function add(events: Map<number, FileEvent>, event: FileEvent): void {
  if (!events.has(event.id)) events.set(event.id, event);
}

/** Where a field's bytes are in a record: a dynamic one's where its word says. Cut to the record. */
export function fieldBytes({ type, offset, size }: FileField, data: Uint8Array): Uint8Array {
  if (/__data_loc|__rel_loc/.test(type)) {
    if (offset + 4 > data.length) return new Uint8Array();
    const word = dataView(data).getUint32(offset, true);
    const at = (word & 0xffff) + (type.includes('__rel_loc') ? offset + 4 : 0);
    return data.subarray(Math.min(at, data.length), Math.min(at + (word >>> 16), data.length));
  }
  // A field without a size is the rest of the record.
  const end = size === 0 ? data.length : offset + size;
  return data.subarray(Math.min(offset, data.length), Math.min(end, data.length));
}

const ELEMENT_SIZES: readonly (readonly [RegExp, number])[] = [
  [/\b(?:char|u8|s8|__u8|__s8|u?int8_t|bool|_Bool)\b/, 1],
  [/\b(?:short|u16|s16|__u16|__s16|u?int16_t)\b/, 2],
  [/\b(?:long|u64|s64|__u64|__s64|u?int64_t|size_t)\b|\*/, 8],
  [/./, 4],
];

/** Whether the field is an array, and not a text. */
export function isArray({ type }: FileField): boolean {
  return type.includes('[');
}

export function isText({ type, filterType }: FileField): boolean {
  return (
    /string|comm/.test(filterType) &&
    !filterType.startsWith('ptr') &&
    /\bchar\b|string|comm/.test(type + filterType)
  );
}

/** A field's value: a number, a text (byte string), or numbers of an array. */
export function fieldValue(field: FileField, data: Uint8Array): FieldValue {
  checkArgument('fieldValue()', 'field', field, aField);
  checkArgument('fieldValue()', 'data', data, someBytes);
  const bytes = fieldBytes(field, data);
  if (isText(field)) return cStringOf(bytes);
  if (!isArray(field)) return number(bytes, 0, bytes.length, field.isSigned);
  const size = ELEMENT_SIZES.find(([pattern]) => pattern.test(field.type))?.[1] ?? 4;
  const values: bigint[] = [];
  for (let at = 0; at + size <= bytes.length; at += size)
    values.push(number(bytes, at, size, field.isSigned));
  return values;
}

function number(bytes: Uint8Array, at: number, size: number, signed: boolean): bigint {
  let value = 0n;
  const count = Math.min(size, 8);
  for (let n = count - 1; n >= 0; n--) value = (value << 8n) | BigInt(bytes[at + n] ?? 0);
  return signed ? BigInt.asIntN(count * 8, value) : value;
}

/** A record's own fields with their values, in the order of the format. */
export function* eventFields(record: TraceEvent): IterableIterator<readonly [FileField, FieldValue]> {
  checkArgument('eventFields()', 'record', record, aTraceEvent);
  const { event, data } = record;
  if (event === undefined) return;
  for (const field of event.fields) if (!field.common) yield [field, fieldValue(field, data)];
}
