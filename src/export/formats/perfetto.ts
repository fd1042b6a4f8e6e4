/**
 * Traces of Perfetto: TracePackets with track events, a track a task (protos/perfetto/trace/trace_packet.proto). Names are interned: a packet
 * that needs one that is new brings it.
 */
import { aFunction, checkArgument, optional } from '../../arguments.ts';
import { utf8String } from '../../kernel/trace/byte-string.ts';
import { aTraceEvents, eventFields, type FieldValue, type TraceEvent, type TraceEvents } from '../events.ts';
import type { FileField } from '../trace-dat/event-format.ts';
import { Message } from './protobuf.ts';
import { slices } from './slices.ts';
import { textOf } from './text.ts';

const TRACE = { packet: 1 };
const PACKET = {
  clockSnapshot: 6,
  timestamp: 8,
  sequenceId: 10,
  trackEvent: 11,
  internedData: 12,
  sequenceFlags: 13,
  timestampClockId: 58,
  defaults: 59,
  trackDescriptor: 60,
  firstOnSequence: 87,
};
const SNAPSHOT = { clocks: 1, primary: 2, clockId: 1, timestamp: 2 };
const DESCRIPTOR = { uuid: 1, process: 3, thread: 4 };
const PROCESS = { pid: 1, name: 6 };
const THREAD = { pid: 1, tid: 2, name: 5 };
const EVENT = { categoryIids: 3, annotations: 4, type: 9, nameIid: 10, trackUuid: 11 };
const ANNOTATION = { nameIid: 1, uint: 3, int: 4, text: 6, pointer: 7, name: 10 };
const INTERNED = { categories: 1, eventNames: 2, annotationNames: 3, iid: 1, name: 2 };
const TYPE = { begin: 1, end: 2, instant: 3 };
const SEQ_CLEARED = 1;
const SEQ_NEEDS_STATE = 2;
const SEQUENCE = 1;
const CLOCKS = { realtime: 1, monotonic: 3, monotonicRaw: 5, boottime: 6 };

/** One index of interned texts. */
class Interner {
  readonly #field: number;
  readonly #iids = new Map<string, number>();
  #fresh: Message[] = [];

  constructor(field: number) {
    this.#field = field;
  }

  iid(text: string): number {
    let iid = this.#iids.get(text);
    if (iid === undefined) {
      iid = this.#iids.size + 1;
      this.#iids.set(text, iid);
      this.#fresh.push(new Message().number(INTERNED.iid, iid).text(INTERNED.name, validUtf8(text)));
    }
    return iid;
  }

  /** Puts what is new into a packet's interned data. */
  flush(data: Message): boolean {
    for (const one of this.#fresh) data.message(this.#field, one);
    const any = this.#fresh.length > 0;
    if (any) this.#fresh = [];
    return any;
  }
}

/** A byte string that is UTF-8. */
function validUtf8(text: string): string {
  return utf8String(textOf(text));
}

/** The builtin clock that a trace's clock is. Times of day have CLOCK_REALTIME; counts are taken for nanoseconds. */
function clockId({ dat }: TraceEvents): number {
  if (dat.option(1) !== undefined || dat.clock === 'tai') return CLOCKS.realtime;
  if (dat.clock === 'boot') return CLOCKS.boottime;
  return dat.clock === 'mono_raw' ? CLOCKS.monotonicRaw : CLOCKS.monotonic;
}

export function* exportPerfetto(
  events: TraceEvents,
  filter?: (event: TraceEvent) => boolean,
): IterableIterator<Uint8Array> {
  checkArgument('exportPerfetto()', 'events', events, aTraceEvents);
  checkArgument('exportPerfetto()', 'filter', filter, optional(aFunction));
  const writer = new PacketWriter(events);
  for (const item of slices(events)) {
    if (item.kind === 'end') {
      yield* writer.event(item.pid, item.ts, TYPE.end, undefined, item.event);
      continue;
    }
    const { event } = item;
    if (item.kind === 'instant' && filter !== undefined && !filter(event)) continue;
    if (event.lost !== 0) yield* writer.lost(event);
    const [type, name] =
      item.kind === 'begin' ? [TYPE.begin, item.name] : [TYPE.instant, event.event?.name ?? 'unknown'];
    yield* writer.event(event.pid, event.ts, type, name, event);
  }
  yield* writer.end();
}

class PacketWriter {
  readonly #events: TraceEvents;
  readonly #clock: number;
  readonly #tracks = new Set<number>();
  readonly #names = new Interner(INTERNED.eventNames);
  readonly #categories = new Interner(INTERNED.categories);
  readonly #fields = new Interner(INTERNED.annotationNames);
  #begun = false;

  constructor(events: TraceEvents) {
    this.#events = events;
    this.#clock = clockId(events);
  }

  #packet(packet: Message): Uint8Array {
    return new Message().message(TRACE.packet, packet).bytes().slice();
  }

  *#begin(ts: bigint): IterableIterator<Uint8Array> {
    if (this.#begun) return;
    this.#begun = true;
    const clock = new Message().number(SNAPSHOT.clockId, this.#clock).number(SNAPSHOT.timestamp, ts);
    const snapshot = new Message().message(SNAPSHOT.clocks, clock).number(SNAPSHOT.primary, this.#clock);
    yield this.#packet(
      new Message()
        .message(PACKET.clockSnapshot, snapshot)
        .number(PACKET.sequenceId, SEQUENCE)
        .number(PACKET.sequenceFlags, SEQ_CLEARED)
        .message(PACKET.defaults, new Message().number(PACKET.timestampClockId, this.#clock))
        .number(PACKET.firstOnSequence, 1),
    );
  }

  /** A task's track, which has to be there before its events. */
  *#track(pid: number): IterableIterator<Uint8Array> {
    if (this.#tracks.has(pid)) return;
    this.#tracks.add(pid);
    const name = validUtf8(this.#events.comm(pid));
    const thread = new Message().number(THREAD.pid, pid).number(THREAD.tid, pid).text(THREAD.name, name);
    const process = new Message().number(PROCESS.pid, pid).text(PROCESS.name, name);
    for (const [uuid, field, message] of [
      [processUuid(pid), DESCRIPTOR.process, process],
      [threadUuid(pid), DESCRIPTOR.thread, thread],
    ] as const) {
      const descriptor = new Message().number(DESCRIPTOR.uuid, uuid).message(field, message);
      yield this.#packet(
        new Message().number(PACKET.sequenceId, SEQUENCE).message(PACKET.trackDescriptor, descriptor),
      );
    }
  }

  *event(
    pid: number,
    ts: bigint,
    type: number,
    name: string | undefined,
    event: TraceEvent | undefined,
  ): IterableIterator<Uint8Array> {
    const message = this.#message(pid, type, name, event?.event?.system);
    if (event !== undefined) {
      message.message(EVENT.annotations, this.#number('cpu', BigInt(event.cpu)));
      for (const [field, value] of eventFields(event))
        message.message(EVENT.annotations, this.#annotation(field, value));
    }
    yield* this.#put(pid, ts, message);
  }

  *lost({ pid, ts, cpu, lost }: TraceEvent): IterableIterator<Uint8Array> {
    const message = this.#message(pid, TYPE.instant, 'lost events', 'lost');
    message.message(EVENT.annotations, this.#number('cpu', BigInt(cpu)));
    message.message(EVENT.annotations, this.#number('lost', BigInt(lost)));
    yield* this.#put(pid, ts, message);
  }

  *end(): IterableIterator<Uint8Array> {
    yield* this.#begin(0n);
  }

  #message(pid: number, type: number, name: string | undefined, category: string | undefined): Message {
    const message = new Message().number(EVENT.type, type).number(EVENT.trackUuid, threadUuid(pid));
    if (name !== undefined) message.number(EVENT.nameIid, this.#names.iid(name));
    // an end has the category of its begin
    if (name !== undefined && category !== undefined)
      message.number(EVENT.categoryIids, this.#categories.iid(category));
    return message;
  }

  *#put(pid: number, ts: bigint, message: Message): IterableIterator<Uint8Array> {
    yield* this.#begin(ts);
    yield* this.#track(pid);
    const packet = new Message()
      .number(PACKET.timestamp, ts)
      .number(PACKET.sequenceId, SEQUENCE)
      .number(PACKET.sequenceFlags, SEQ_NEEDS_STATE);
    const data = new Message();
    const fresh = [this.#names, this.#categories, this.#fields].map((interner) => interner.flush(data));
    if (fresh.includes(true)) packet.message(PACKET.internedData, data);
    yield this.#packet(packet.message(PACKET.trackEvent, message));
  }

  #number(name: string, value: bigint): Message {
    return new Message()
      .number(ANNOTATION.nameIid, this.#fields.iid(name))
      .number(value < 0n ? ANNOTATION.int : ANNOTATION.uint, value);
  }

  #annotation({ name, type, isSigned }: FileField, value: FieldValue): Message {
    const message = new Message().number(ANNOTATION.nameIid, this.#fields.iid(name));
    if (typeof value === 'string') return message.text(ANNOTATION.text, validUtf8(value));
    if (typeof value !== 'bigint') return message.text(ANNOTATION.text, `{${value.join(',')}}`);
    if (type.includes('*')) return message.number(ANNOTATION.pointer, value);
    return message.number(isSigned ? ANNOTATION.int : ANNOTATION.uint, value);
  }
}

/** Tracks have numbers of their own, none of them 0. */
const threadUuid = (pid: number): bigint => (BigInt(pid >>> 0) << 1n) + 0x1000_0000_0001n;
const processUuid = (pid: number): bigint => (BigInt(pid >>> 0) << 1n) + 0x1000_0000_0000n;
