import type { TraceBufferStats } from '../trace-buffer.ts';
import type { TraceRecord } from '../trace-entry.ts';
import {
  EVENT_HEADER_SIZE,
  EVENT_MIN_SIZE,
  eventAt,
  MISSED_EVENTS,
  MISSED_STORED,
  PAGE_HEADER_SIZE,
  Page,
  TIME_EXTEND_SIZE,
  TS_MASK,
  TS_SHIFT,
  TYPE_LEN_MAX,
  TYPE_PADDING,
  TYPE_TIME_EXTEND,
  TYPE_TIME_STAMP,
} from './page.ts';

/**
 * One CPU's ring (`struct ring_buffer_per_cpu`): pages in a circle from `head` to `tail`, and one outside of it that belongs to the
 * reader. The reader takes the head by putting its own empty page in its place; that may be the page the writer is on.
 */
export class CpuBuffer {
  readonly cpu: number;
  npages: number;
  /** Bytes of data of a page. */
  dataSize: number;
  #pageSize: number;
  #head!: Page;
  #tail!: Page;
  #reader!: Page;
  #writeStamp = 0n;
  #readStamp = 0n;
  #entries = 0;
  #entriesBytes = 0;
  #overrun = 0;
  #lastOverrun = 0;
  #lostEvents = 0;
  #dropped = 0;
  #read = 0;
  #readBytes = 0;

  constructor(cpu: number, npages: number, pageSize: number) {
    this.cpu = cpu;
    this.npages = npages;
    this.#pageSize = pageSize;
    this.dataSize = pageSize - PAGE_HEADER_SIZE;
    this.rebuild(npages, pageSize);
  }

  /** New pages; the contents are lost. */
  rebuild(npages: number, pageSize: number): void {
    this.npages = npages;
    this.#pageSize = pageSize;
    this.dataSize = pageSize - PAGE_HEADER_SIZE;
    // Pages are made when the writer comes to them: most rings stay small.
    const first = new Page(pageSize);
    first.next = first;
    first.prev = first;
    this.#inRing = 1;
    this.#head = first;
    this.#tail = first;
    this.#reader = new Page(pageSize);
    this.#reader.next = first;
    this.#reader.prev = first;
    this.reset();
  }

  #inRing = 1;

  /** ring_buffer_resize(): events stay where the new size has room for them; the oldest go. */
  resize(npages: number): void {
    while (this.#inRing > npages && this.#head !== this.#tail) this.#dropHead();
    while (this.#inRing > npages) this.#unlink(this.#tail.next);
    this.npages = npages;
  }

  #dropHead(): void {
    const page = this.#head;
    this.#overrun += page.entries;
    this.#entriesBytes -= page.write;
    this.#head = page.next;
    this.#unlink(page);
  }

  #unlink(page: Page): void {
    page.prev.next = page.next;
    page.next.prev = page.prev;
    if (this.#reader.next === page) this.#reader.next = page.next;
    if (this.#head === page) this.#head = page.next;
    this.#inRing--;
  }

  reset(): void {
    let page = this.#head;
    do {
      page.clear();
      page = page.next;
    } while (page !== this.#head);
    this.#reader.clear();
    this.#tail = this.#head;
    this.#writeStamp = 0n;
    this.#readStamp = 0n;
    this.#entries = 0;
    this.#entriesBytes = 0;
    this.#overrun = 0;
    this.#lastOverrun = 0;
    this.#lostEvents = 0;
    this.#dropped = 0;
    this.#read = 0;
    this.#readBytes = 0;
  }

  /** ring_buffer_write() */
  write(ts: bigint, data: Uint8Array, overwrite: boolean, absolute: boolean): boolean {
    let length = data.length === 0 ? 1 : data.length;
    if (length > TYPE_LEN_MAX * 4) length += 4;
    length = (length + EVENT_HEADER_SIZE + 3) & ~3;
    if (length === TIME_EXTEND_SIZE) length += 4;

    let tail = this.#tail;
    let delta = tail.write === 0 ? 0n : ts - this.#writeStamp;
    if (delta < 0n) delta = 0n;
    let extend = absolute || delta > TS_MASK;
    const needed = length + (extend ? TIME_EXTEND_SIZE : 0);
    if (tail.write + needed > this.dataSize) {
      if (!this.#moveTail(overwrite)) return false;
      tail = this.#tail;
      delta = 0n;
      extend = absolute;
    }
    if (tail.write === 0) tail.timeStamp = ts;
    const start = tail.write;
    if (extend) {
      const at = PAGE_HEADER_SIZE + tail.write;
      const value = absolute ? ts : delta;
      const type = absolute ? TYPE_TIME_STAMP : TYPE_TIME_EXTEND;
      tail.view.setUint32(at, (type | (Number(value & TS_MASK) << 5)) >>> 0, true);
      tail.view.setUint32(at + 4, Number((value >> TS_SHIFT) & 0xffffffffn), true);
      tail.write += TIME_EXTEND_SIZE;
      delta = 0n;
    }
    const at = PAGE_HEADER_SIZE + tail.write;
    const words = (length - EVENT_HEADER_SIZE) >> 2;
    const small = words <= TYPE_LEN_MAX;
    tail.view.setUint32(at, ((small ? words : 0) | (Number(delta) << 5)) >>> 0, true);
    if (!small) tail.view.setUint32(at + 4, length - EVENT_HEADER_SIZE, true);
    const begin = at + (small ? 4 : 8);
    tail.bytes.set(data, begin);
    tail.bytes.fill(0, begin + data.length, at + length);
    tail.write += length;
    tail.entries++;
    this.#writeStamp = ts;
    this.#entries++;
    this.#entriesBytes += tail.write - start;
    return true;
  }

  /** rb_move_tail(): false when the ring is full and may not be overwritten. */
  #moveTail(overwrite: boolean): boolean {
    const tail = this.#tail;
    let next = tail.next;
    if (tail !== this.#reader && next === this.#head) {
      if (this.#inRing < this.npages) {
        const page = new Page(this.#pageSize);
        page.prev = tail;
        page.next = next;
        tail.next = page;
        next.prev = page;
        this.#inRing++;
        next = page;
      } else if (!overwrite) {
        this.#dropped++;
        // The rest of the page is closed all the same, as the kernel does before it finds the next page taken.
        this.#pad(tail);
        return false;
      } else {
        this.#overrun += next.entries;
        this.#entriesBytes -= next.write;
        this.#head = next.next;
      }
    }
    this.#pad(tail);
    next.clear();
    this.#tail = next;
    return true;
  }

  /** rb_reset_tail(): closes a page whose rest is too small. */
  #pad(page: Page): void {
    const tail = page.write;
    if (tail >= this.dataSize) return;
    page.realEnd = tail;
    const at = PAGE_HEADER_SIZE + tail;
    if (tail > this.dataSize - EVENT_MIN_SIZE) {
      page.view.setUint32(at, TYPE_PADDING, true);
      return;
    }
    page.view.setUint32(at, TYPE_PADDING | (1 << 5), true);
    page.view.setUint32(at + 4, this.dataSize - tail - EVENT_HEADER_SIZE, true);
    this.#entriesBytes += this.dataSize - tail;
    page.write = this.dataSize;
  }

  stats(now: () => bigint): TraceBufferStats {
    const oldest = this.#tail === this.#reader ? this.#reader : this.#head;
    return {
      entries: this.#entries - this.#overrun - this.#read,
      overrun: this.#overrun,
      commitOverrun: 0,
      bytes: this.#entriesBytes - this.#readBytes,
      oldestEventTs: oldest.timeStamp,
      // Asked for when it is read: a clock that counts goes on with every question.
      get nowTs() {
        return now();
      },
      droppedEvents: this.#dropped,
      readEvents: this.#read,
    };
  }

  /** Events from the reader's page on, in order; nothing is taken. */
  *iterate(): IterableIterator<TraceRecord> {
    let page = this.#reader;
    let offset = page.read;
    let ts = offset === 0 ? page.timeStamp : this.#readStamp;
    if (offset >= page.write && page !== this.#tail) {
      page = this.#head;
      offset = 0;
      ts = page.timeStamp;
    }
    for (;;) {
      while (offset < page.write) {
        const event = eventAt(page.view, offset, ts);
        if (event.size === 0) break;
        offset += event.size;
        ts = event.ts;
        if (event.start > 0)
          yield { cpu: this.cpu, ts, data: page.bytes.slice(event.start, event.start + event.length) };
      }
      if (page === this.#tail) return;
      page = page === this.#reader ? this.#head : page.next;
      offset = 0;
      ts = page.timeStamp;
    }
  }

  /** rb_get_reader_page(): the page with the oldest event that was not read. */
  #readerPage(): Page | undefined {
    for (;;) {
      const reader = this.#reader;
      if (reader.read < reader.write) {
        const event = eventAt(reader.view, reader.read, this.#readStamp);
        if (event.size > 0) return reader;
        reader.read = reader.write;
      }
      if (reader === this.#tail) return undefined;
      const head = this.#head;
      if (head === this.#tail && head.write === 0) return undefined;
      reader.clear();
      if (this.#inRing === 1) {
        reader.next = reader;
        reader.prev = reader;
      } else {
        reader.next = head.next;
        reader.prev = head.prev;
        head.prev.next = reader;
        head.next.prev = reader;
      }
      this.#head = reader.next;
      // Where the writer stays on the page that was taken, it goes on with the ring's next page.
      head.next = this.#head;
      this.#reader = head;
      head.read = 0;
      this.#readStamp = head.timeStamp;
      if (this.#overrun !== this.#lastOverrun) {
        this.#lostEvents = this.#overrun - this.#lastOverrun;
        this.#lastOverrun = this.#overrun;
      }
    }
  }

  peek(): TraceRecord | undefined {
    for (;;) {
      const page = this.#readerPage();
      if (page === undefined) return undefined;
      const event = eventAt(page.view, page.read, this.#readStamp);
      if (event.start > 0) {
        const data = page.bytes.slice(event.start, event.start + event.length);
        const record = { cpu: this.cpu, ts: event.ts, data };
        return this.#lostEvents > 0 ? { ...record, lost: this.#lostEvents } : record;
      }
      this.#advance(page);
    }
  }

  /** ring_buffer_consume() */
  consume(): TraceRecord | undefined {
    const record = this.peek();
    if (record === undefined) return undefined;
    this.#lostEvents = 0;
    this.#advance(this.#reader);
    this.#read++;
    return record;
  }

  #advance(page: Page): void {
    const event = eventAt(page.view, page.read, this.#readStamp);
    this.#readStamp = event.ts;
    page.read += event.size;
    this.#readBytes += event.size;
  }

  /** ring_buffer_read_page(): the events of a page that were not read, as a page. */
  readPage(full: boolean): Uint8Array | undefined {
    const page = this.#readerPage();
    if (page === undefined) return undefined;
    if (full && page === this.#tail) return undefined;
    const end = page.realEnd > 0 ? page.realEnd : page.write;
    const result = new Uint8Array(this.#pageSize);
    const view = new DataView(result.buffer);
    result.set(page.bytes.subarray(PAGE_HEADER_SIZE + page.read, PAGE_HEADER_SIZE + end), PAGE_HEADER_SIZE);
    view.setBigUint64(0, this.#readStamp, true);
    const commit = end - page.read;
    const unread = this.#countUnread(page, end);
    if (this.#lostEvents > 0) {
      let flags = MISSED_EVENTS;
      if (this.dataSize - commit >= 8) {
        view.setBigUint64(PAGE_HEADER_SIZE + commit, BigInt(this.#lostEvents), true);
        flags |= MISSED_STORED;
      }
      view.setBigUint64(8, BigInt((commit | flags) >>> 0), true);
    } else view.setBigUint64(8, BigInt(commit), true);
    this.#lostEvents = 0;
    this.#readBytes += page.write - page.read;
    this.#read += unread;
    page.read = page.write;
    return result;
  }

  #countUnread(page: Page, end: number): number {
    let count = 0;
    let offset = page.read;
    let ts = this.#readStamp;
    while (offset < end) {
      const event = eventAt(page.view, offset, ts);
      if (event.size === 0) break;
      if (event.start > 0) count++;
      offset += event.size;
      ts = event.ts;
    }
    this.#readStamp = ts;
    return count;
  }
}
