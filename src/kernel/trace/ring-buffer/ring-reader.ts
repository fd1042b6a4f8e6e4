/** The reading side of a CPU's ring (ring_buffer_consume(), ring_buffer_read_page(), ring_buffer_iter_peek(), kernel/trace/ring_buffer.c). */
import type { TraceRecord } from '../trace-entry.ts';
import { EventCursor, joinTime, MISSED_EVENTS, MISSED_STORED, PAGE_HEADER_SIZE } from './page.ts';
import { COUNT, CTRL, type RingMemory, SLOT } from './ring-memory.ts';

/**
 * For any thread; several may read, and each event goes to one of them. The reader takes the head by putting its own empty page in its
 * place; that may be the page the writer is on.
 */
export class RingReader {
  readonly #memory: RingMemory;
  readonly #cpu: number;
  readonly #cursor = new EventCursor();
  /** What peek() has found: where it was, and the record. */
  #peeked: { readonly sequence: number; readonly read: number; readonly record: TraceRecord } | undefined;

  constructor(memory: RingMemory, cpu: number) {
    this.#memory = memory;
    this.#cpu = cpu;
  }

  /**
   * rb_get_reader_page(): the slot of the page with the oldest event that was not read, which the cursor is at; -1. Under the lock.
   */
  #readerPage(): number {
    const memory = this.#memory;
    const { words, counters, unsigned } = memory;
    for (;;) {
      const reader = words[CTRL.READER] as number;
      const read = memory.get(reader, SLOT.READ);
      if (read < memory.committed(reader)) {
        const cursor = this.#cursor;
        cursor.setTime(unsigned[CTRL.READ_LOW] as number, unsigned[CTRL.READ_HIGH] as number);
        cursor.next(unsigned, memory.data(reader) + read);
        if (cursor.size > 0) return reader;
        memory.set(reader, SLOT.READ, memory.committed(reader));
      }
      const commit = words[CTRL.COMMIT] as number;
      if (reader === commit) return -1;
      const head = words[CTRL.HEAD] as number;
      if (head === commit && memory.committed(head) === 0) return -1;
      memory.clear(reader);
      const next = memory.get(head, SLOT.NEXT);
      if (words[CTRL.IN_RING] === 1) {
        memory.set(reader, SLOT.NEXT, reader);
        memory.set(reader, SLOT.PREV, reader);
      } else {
        const prev = memory.get(head, SLOT.PREV);
        memory.set(reader, SLOT.NEXT, next);
        memory.set(reader, SLOT.PREV, prev);
        memory.set(prev, SLOT.NEXT, reader);
        memory.set(next, SLOT.PREV, reader);
      }
      const newHead = memory.get(reader, SLOT.NEXT);
      words[CTRL.HEAD] = newHead;
      // Where the writer stays on the page that was taken, it goes on with the ring's next page.
      memory.set(head, SLOT.NEXT, newHead);
      words[CTRL.READER] = head;
      memory.set(head, SLOT.READ, 0);
      const page = memory.page(head) >> 2;
      unsigned[CTRL.READ_LOW] = unsigned[page] as number;
      unsigned[CTRL.READ_HIGH] = unsigned[page + 1] as number;
      const overrun = counters[COUNT.OVERRUN] as number;
      const last = counters[COUNT.LAST_OVERRUN] as number;
      if (overrun !== last) {
        counters[COUNT.LOST] = overrun - last;
        counters[COUNT.LAST_OVERRUN] = overrun;
      }
    }
  }

  /** Steps to the next event with data; its slot, or -1. The cursor is at it, the page's read mark in front of it. */
  #step(): number {
    for (;;) {
      const page = this.#readerPage();
      if (page < 0 || this.#cursor.start > 0) return page;
      this.#advance(page);
    }
  }

  /** rb_advance_reader(): behind the cursor's event. */
  #advance(page: number): void {
    const memory = this.#memory;
    const { unsigned, counters } = memory;
    const { size, low, high } = this.#cursor;
    unsigned[CTRL.READ_LOW] = low;
    unsigned[CTRL.READ_HIGH] = high;
    memory.set(page, SLOT.READ, memory.get(page, SLOT.READ) + size);
    counters[COUNT.READ_BYTES] = (counters[COUNT.READ_BYTES] as number) + size;
  }

  #record(): TraceRecord {
    const { start, length, low, high } = this.#cursor;
    const { bytes, counters } = this.#memory;
    const lost = counters[COUNT.LOST] as number;
    const data = bytes.slice(start, start + length);
    const ts = joinTime(low, high);
    return lost > 0 ? { cpu: this.#cpu, ts, data, lost } : { cpu: this.#cpu, ts, data };
  }

  /** The record that consume() would take. */
  peek(): TraceRecord | undefined {
    const memory = this.#memory;
    memory.lock();
    try {
      const page = this.#step();
      if (page < 0) {
        this.#peeked = undefined;
        return undefined;
      }
      return this.#peekedAt(page)?.record ?? this.#remember(page);
    } finally {
      memory.unlock();
    }
  }

  #peekedAt(page: number): { readonly record: TraceRecord } | undefined {
    const memory = this.#memory;
    const peeked = this.#peeked;
    return peeked?.sequence === memory.get(page, SLOT.SEQUENCE) && peeked.read === memory.get(page, SLOT.READ)
      ? peeked
      : undefined;
  }

  #remember(page: number): TraceRecord {
    const memory = this.#memory;
    const record = this.#record();
    this.#peeked = {
      sequence: memory.get(page, SLOT.SEQUENCE),
      read: memory.get(page, SLOT.READ),
      record,
    };
    return record;
  }

  /** ring_buffer_consume() */
  consume(): TraceRecord | undefined {
    const memory = this.#memory;
    const { counters } = memory;
    memory.lock();
    try {
      const page = this.#step();
      if (page < 0) return undefined;
      const record = this.#peekedAt(page)?.record ?? this.#record();
      this.#peeked = undefined;
      counters[COUNT.LOST] = 0;
      counters[COUNT.READ] = (counters[COUNT.READ] as number) + 1;
      this.#advance(page);
      return record;
    } finally {
      memory.unlock();
    }
  }

  /**
   * Consumes up to `max` events, of one page: `visit` gets where each is in the memory's bytes, its length, its time's words, and how many
   * were lost in front of it. The bytes are there until it returns. Answers with the number of events.
   */
  consumeEach(
    visit: (start: number, length: number, low: number, high: number, lost: number) => void,
    max = Number.POSITIVE_INFINITY,
  ): number {
    const memory = this.#memory;
    const { counters, unsigned } = memory;
    const cursor = this.#cursor;
    memory.lock();
    try {
      let count = 0;
      const page = this.#step();
      if (page < 0) return 0;
      this.#peeked = undefined;
      const data = memory.data(page);
      const end = memory.committed(page);
      const begin = memory.get(page, SLOT.READ);
      let read = begin;
      cursor.setTime(unsigned[CTRL.READ_LOW] as number, unsigned[CTRL.READ_HIGH] as number);
      while (read < end && count < max) {
        cursor.next(unsigned, data + read);
        if (cursor.size === 0) break;
        read += cursor.size;
        if (cursor.start === 0) continue;
        const lost = counters[COUNT.LOST] as number;
        counters[COUNT.LOST] = 0;
        count++;
        visit(cursor.start, cursor.length, cursor.low, cursor.high, lost);
      }
      unsigned[CTRL.READ_LOW] = cursor.low;
      unsigned[CTRL.READ_HIGH] = cursor.high;
      memory.set(page, SLOT.READ, read);
      counters[COUNT.READ] = (counters[COUNT.READ] as number) + count;
      counters[COUNT.READ_BYTES] = (counters[COUNT.READ_BYTES] as number) + read - begin;
      return count;
    } finally {
      memory.unlock();
    }
  }

  /** ring_buffer_read_page(): the events of a page that were not read, as a page. */
  readPage(full: boolean): Uint8Array | undefined {
    const memory = this.#memory;
    memory.lock();
    try {
      const page = this.#readerPage();
      if (page < 0 || (full && page === memory.words[CTRL.COMMIT])) return undefined;
      return this.#takePage(page);
    } finally {
      memory.unlock();
    }
  }

  #takePage(page: number): Uint8Array {
    const memory = this.#memory;
    const { bytes, counters, unsigned, dataSize, pageSize } = memory;
    const read = memory.get(page, SLOT.READ);
    const written = memory.committed(page);
    const realEnd = memory.get(page, SLOT.REAL_END);
    // A page may be closed while an event in it is open: what is committed ends before that.
    const end = realEnd > 0 && realEnd <= written ? realEnd : written;
    const result = new Uint8Array(pageSize);
    const view = new DataView(result.buffer);
    const data = memory.data(page);
    result.set(bytes.subarray(data + read, data + end), PAGE_HEADER_SIZE);
    view.setUint32(0, unsigned[CTRL.READ_LOW] as number, true);
    view.setUint32(4, unsigned[CTRL.READ_HIGH] as number, true);
    const commit = end - read;
    const unread = this.#countUnread(page, read, end);
    const lost = counters[COUNT.LOST] as number;
    let flags = 0;
    if (lost > 0) {
      flags = MISSED_EVENTS;
      if (dataSize - commit >= 8) {
        view.setBigUint64(PAGE_HEADER_SIZE + commit, BigInt(lost), true);
        flags |= MISSED_STORED;
      }
    }
    view.setUint32(8, (commit | flags) >>> 0, true);
    counters[COUNT.LOST] = 0;
    counters[COUNT.READ_BYTES] = (counters[COUNT.READ_BYTES] as number) + written - read;
    counters[COUNT.READ] = (counters[COUNT.READ] as number) + unread;
    memory.set(page, SLOT.READ, written);
    this.#peeked = undefined;
    return result;
  }

  #countUnread(page: number, read: number, end: number): number {
    const memory = this.#memory;
    const { unsigned, words } = memory;
    // A whole page that nobody writes to: what was counted when it was written, and nothing comes behind its last stamp.
    if (read === 0 && page !== words[CTRL.COMMIT]) return memory.get(page, SLOT.ENTRIES);
    const cursor = this.#cursor;
    cursor.setTime(unsigned[CTRL.READ_LOW] as number, unsigned[CTRL.READ_HIGH] as number);
    const data = memory.data(page);
    let count = 0;
    for (let at = read; at < end; at += cursor.size) {
      cursor.next(unsigned, data + at);
      if (cursor.size === 0) break;
      if (cursor.start > 0) count++;
    }
    unsigned[CTRL.READ_LOW] = cursor.low;
    unsigned[CTRL.READ_HIGH] = cursor.high;
    return count;
  }

  /** Events from the reader's page on, in order; nothing is taken. Pages that the writer takes meanwhile are left out. */
  *iterate(): IterableIterator<TraceRecord> {
    const cursor = new EventCursor();
    for (let snapshot = this.#firstPage(); snapshot !== undefined; snapshot = this.#nextPage(snapshot)) {
      const { bytes, words, from, end } = snapshot;
      cursor.setTime(snapshot.low, snapshot.high);
      for (let at = from; at < end; at += cursor.size) {
        cursor.next(words, at);
        if (cursor.size === 0) break;
        if (cursor.start > 0)
          yield {
            cpu: this.#cpu,
            ts: joinTime(cursor.low, cursor.high),
            data: bytes.slice(cursor.start, cursor.start + cursor.length),
          };
      }
    }
  }

  #firstPage(): Snapshot | undefined {
    const memory = this.#memory;
    const { words, unsigned } = memory;
    memory.lock();
    try {
      const reader = words[CTRL.READER] as number;
      const read = memory.get(reader, SLOT.READ);
      if (read >= memory.committed(reader) && reader !== words[CTRL.COMMIT])
        return this.#snapshot(words[CTRL.HEAD] as number, 0);
      const snapshot = this.#snapshot(reader, read);
      if (read === 0) return snapshot;
      return {
        ...snapshot,
        low: unsigned[CTRL.READ_LOW] as number,
        high: unsigned[CTRL.READ_HIGH] as number,
      };
    } finally {
      memory.unlock();
    }
  }

  /** The page behind one that was copied: the next that was begun, or the oldest where that has gone. */
  #nextPage({ slot, sequence, last }: Snapshot): Snapshot | undefined {
    const memory = this.#memory;
    const { words } = memory;
    if (last) return undefined;
    memory.lock();
    try {
      let page = slot;
      if (memory.get(slot, SLOT.SEQUENCE) !== sequence || slot === words[CTRL.READER])
        page = words[CTRL.HEAD] as number;
      else page = memory.get(slot, SLOT.NEXT);
      // Those that were seen, as the ring went round.
      if (((memory.get(page, SLOT.SEQUENCE) - sequence) | 0) <= 0) return undefined;
      return this.#snapshot(page, 0);
    } finally {
      memory.unlock();
    }
  }

  #snapshot(slot: number, from: number): Snapshot {
    const memory = this.#memory;
    const { words, unsigned, pageSize } = memory;
    const page = memory.page(slot);
    const end = memory.committed(slot);
    const bytes = new Uint8Array(pageSize);
    bytes.set(memory.bytes.subarray(page, page + PAGE_HEADER_SIZE + end));
    return {
      slot,
      sequence: memory.get(slot, SLOT.SEQUENCE),
      bytes,
      words: new Uint32Array(bytes.buffer),
      from: PAGE_HEADER_SIZE + from,
      end: PAGE_HEADER_SIZE + end,
      low: unsigned[page >> 2] as number,
      high: unsigned[(page >> 2) + 1] as number,
      last: slot === words[CTRL.COMMIT],
    };
  }
}

/** A page as it was. */
interface Snapshot {
  readonly slot: number;
  readonly sequence: number;
  readonly bytes: Uint8Array;
  readonly words: Uint32Array;
  readonly from: number;
  readonly end: number;
  readonly low: number;
  readonly high: number;
  /** It was the one that is written to. */
  readonly last: boolean;
}
