/** The writing side of a CPU's ring (ring_buffer_lock_reserve(), ring_buffer_unlock_commit(), kernel/trace/ring_buffer.c). */
import {
  DELTA_BITS,
  DELTA_MAX,
  EVENT_HEADER_SIZE,
  EVENT_MIN_SIZE,
  eventSize,
  PAGE_HEADER_SIZE,
  TIME_EXTEND_SIZE,
  TYPE_LEN_MAX,
  TYPE_PADDING,
  TYPE_TIME_EXTEND,
  TYPE_TIME_STAMP,
} from './page.ts';
import { COUNT, CTRL, type RingMemory, SLOT } from './ring-memory.ts';

/** Data that is written word by word. */
const SMALL = 64;
/** Reserves that may be open at once: a record, and what interrupts it. */
const NESTED_MAX = 16;

/** An event that is reserved and not committed. */
interface Open {
  page: number;
  /** Bytes within the page's data: of the event with its time, of the event, behind it. */
  begin: number;
  at: number;
  end: number;
  /** The time of the event before. */
  low: number;
  high: number;
}

/**
 * For one thread only. reserve() gives room for an event's data in the memory, and commit() or discard() ends the latest one that is
 * open: events that come in between are reserved behind it, and all become visible when the outermost is committed.
 */
export class RingWriter {
  readonly #memory: RingMemory;
  readonly #open: Open[] = Array.from({ length: NESTED_MAX }, () => ({
    page: 0,
    begin: 0,
    at: 0,
    end: 0,
    low: 0,
    high: 0,
  }));
  #depth = 0;
  /** Pages that were filled. */
  filled = 0;

  constructor(memory: RingMemory) {
    this.#memory = memory;
  }

  /** Events that are open. */
  get depth(): number {
    return this.#depth;
  }

  /** ring_buffer_write(): reserve and commit in one step. */
  write(low: number, high: number, data: Uint8Array): boolean {
    const { length } = data;
    if (length > 0 && length <= SMALL && this.#depth === 0 && this.#writeSmall(low, high, data)) return true;
    const at = this.reserve(low, high, length);
    if (at < 0) return false;
    this.#memory.bytes.set(data, at);
    this.commit();
    return true;
  }

  /** The same where it fits the page and takes nothing special. False, and nothing done, where not. */
  #writeSmall(low: number, high: number, data: Uint8Array): boolean {
    const memory = this.#memory;
    const { words, unsigned, counters } = memory;
    const page = words[CTRL.TAIL] as number;
    const slot = memory.slot(page, 0);
    const write = words[slot + SLOT.WRITE] as number;
    const { length } = data;
    const size = eventSize(length);
    const delta = low - (unsigned[CTRL.WRITE_LOW] as number);
    if (
      write === 0 ||
      write + size > memory.dataSize ||
      high !== unsigned[CTRL.WRITE_HIGH] ||
      delta < 0 ||
      delta > DELTA_MAX ||
      words[CTRL.RECORDING] === 0 ||
      words[CTRL.ABSOLUTE] !== 0
    )
      return false;
    let word = (memory.data(page) + write) >> 2;
    words[word++] = ((size - EVENT_HEADER_SIZE) >> 2) | (delta << 5);
    const whole = length & ~3;
    let i = 0;
    for (; i < whole; i += 4)
      words[word++] =
        (data[i] as number) |
        ((data[i + 1] as number) << 8) |
        ((data[i + 2] as number) << 16) |
        ((data[i + 3] as number) << 24);
    if (i < length) {
      let last = 0;
      for (let n = length - 1; n >= i; n--) last = (last << 8) | (data[n] as number);
      words[word++] = last;
    }
    // An event has a least size.
    if (length <= 4) words[word] = 0;
    words[slot + SLOT.WRITE] = write + size;
    words[slot + SLOT.ENTRIES] = (words[slot + SLOT.ENTRIES] as number) + 1;
    words[CTRL.WRITE_LOW] = low;
    counters[COUNT.ENTRIES] = (counters[COUNT.ENTRIES] as number) + 1;
    counters[COUNT.BYTES] = (counters[COUNT.BYTES] as number) + size;
    Atomics.store(words, slot + SLOT.COMMIT, write + size);
    return true;
  }

  /**
   * Byte of the memory at which `length` bytes of data may be written, a multiple of 4; -1 where there is no room, which is
   * counted. Bytes that fill up the last word are 0.
   */
  reserve(low: number, high: number, length: number): number {
    const memory = this.#memory;
    const { words, unsigned } = memory;
    if (words[CTRL.RECORDING] === 0 || this.#depth === NESTED_MAX) return -1;
    const absolute = words[CTRL.ABSOLUTE] !== 0;
    const size = eventSize(length);
    let page = words[CTRL.TAIL] as number;
    let write = memory.get(page, SLOT.WRITE);
    const lastLow = unsigned[CTRL.WRITE_LOW] as number;
    const lastHigh = unsigned[CTRL.WRITE_HIGH] as number;
    let deltaLow = 0;
    let deltaHigh = 0;
    // A time that runs backwards counts as the same.
    if (write > 0 && (high > lastHigh || (high === lastHigh && low > lastLow))) {
      deltaLow = (low - lastLow) >>> 0;
      deltaHigh = high - lastHigh - (low < lastLow ? 1 : 0);
    }
    let extend = absolute || deltaHigh > 0 || deltaLow > DELTA_MAX;
    if (write + size + (extend ? TIME_EXTEND_SIZE : 0) > memory.dataSize) {
      if (!this.#moveTail()) return -1;
      page = words[CTRL.TAIL] as number;
      write = 0;
      deltaLow = 0;
      deltaHigh = 0;
      extend = absolute;
    }
    const data = memory.data(page);
    if (write === 0) {
      const head = (data - PAGE_HEADER_SIZE) >> 2;
      unsigned[head] = low;
      unsigned[head + 1] = high;
    }
    const open = this.#open[this.#depth++] as Open;
    open.page = page;
    open.begin = write;
    open.low = lastLow;
    open.high = lastHigh;
    if (extend) {
      const at = (data + write) >> 2;
      const l = absolute ? low : deltaLow;
      const h = absolute ? high : deltaHigh;
      unsigned[at] = (absolute ? TYPE_TIME_STAMP : TYPE_TIME_EXTEND) | (l << 5);
      unsigned[at + 1] = (l >>> DELTA_BITS) | (h << (32 - DELTA_BITS));
      write += TIME_EXTEND_SIZE;
      deltaLow = 0;
    }
    const at = (data + write) >> 2;
    const count = (size - EVENT_HEADER_SIZE) >> 2;
    open.at = write;
    open.end = write + size;
    memory.set(page, SLOT.WRITE, open.end);
    memory.set(page, SLOT.ENTRIES, memory.get(page, SLOT.ENTRIES) + 1);
    words[CTRL.WRITE_LOW] = low;
    words[CTRL.WRITE_HIGH] = high;
    // What is behind the data, up to the next word or beyond where an event has a least size.
    words[at + (size >> 2) - 1] = 0;
    if (size === TIME_EXTEND_SIZE + 4) words[at + 1] = 0;
    if (count > TYPE_LEN_MAX) {
      unsigned[at] = deltaLow << 5;
      unsigned[at + 1] = size - EVENT_HEADER_SIZE;
      return (at << 2) + 8;
    }
    unsigned[at] = count | (deltaLow << 5);
    return (at << 2) + EVENT_HEADER_SIZE;
  }

  /** rb_commit(): the event that was reserved last is written. */
  commit(): void {
    const { counters } = this.#memory;
    const { begin, end } = this.#open[--this.#depth] as Open;
    counters[COUNT.ENTRIES] = (counters[COUNT.ENTRIES] as number) + 1;
    counters[COUNT.BYTES] = (counters[COUNT.BYTES] as number) + end - begin;
    if (this.#depth === 0) this.#publish();
  }

  /** ring_buffer_discard_commit(): the event that was reserved last is none. */
  discard(): void {
    const memory = this.#memory;
    const { words, unsigned, counters } = memory;
    const { page, begin, at, end, low, high } = this.#open[--this.#depth] as Open;
    memory.set(page, SLOT.ENTRIES, memory.get(page, SLOT.ENTRIES) - 1);
    if (page === words[CTRL.TAIL] && memory.get(page, SLOT.WRITE) === end) {
      memory.set(page, SLOT.WRITE, begin);
      unsigned[CTRL.WRITE_LOW] = low;
      unsigned[CTRL.WRITE_HIGH] = high;
    } else {
      // Others stand behind it: it becomes padding, which has a delta where it is not the end of a page.
      const word = (memory.data(page) + at) >> 2;
      const delta = (unsigned[word] as number) >>> 5;
      unsigned[word] = TYPE_PADDING | ((delta === 0 ? 1 : delta) << 5);
      unsigned[word + 1] = end - at - EVENT_HEADER_SIZE;
      counters[COUNT.BYTES] = (counters[COUNT.BYTES] as number) + end - begin;
    }
    if (this.#depth === 0) this.#publish();
  }

  /** rb_set_commit_to_write() */
  #publish(): void {
    const memory = this.#memory;
    const { words } = memory;
    const tail = words[CTRL.TAIL] as number;
    let commit = words[CTRL.COMMIT] as number;
    if (commit !== tail) {
      memory.lock();
      while (commit !== tail) {
        Atomics.store(words, memory.slot(commit, SLOT.COMMIT), memory.get(commit, SLOT.WRITE));
        commit = this.#nextOf(commit);
      }
      words[CTRL.COMMIT] = tail;
      memory.unlock();
    }
    Atomics.store(words, memory.slot(tail, SLOT.COMMIT), memory.get(tail, SLOT.WRITE));
  }

  /** The page behind one that was written to: the reader's is followed by the head. */
  #nextOf(page: number): number {
    return this.#memory.get(page, SLOT.NEXT);
  }

  /** rb_move_tail(): false when the ring is full and may not be overwritten. */
  #moveTail(): boolean {
    const memory = this.#memory;
    memory.lock();
    const moved = this.#nextPage();
    memory.unlock();
    if (moved) this.filled++;
    return moved;
  }

  #nextPage(): boolean {
    const memory = this.#memory;
    const { words, counters } = memory;
    const tail = words[CTRL.TAIL] as number;
    const reader = words[CTRL.READER] as number;
    const commit = words[CTRL.COMMIT] as number;
    let next = this.#nextOf(tail);
    if (tail !== reader && next === words[CTRL.HEAD]) {
      const made = (words[CTRL.IN_RING] as number) < (words[CTRL.NPAGES] as number) ? memory.allocate() : -1;
      if (made >= 0) {
        memory.set(made, SLOT.PREV, tail);
        memory.set(made, SLOT.NEXT, next);
        memory.set(tail, SLOT.NEXT, made);
        memory.set(next, SLOT.PREV, made);
        words[CTRL.IN_RING] = (words[CTRL.IN_RING] as number) + 1;
        next = made;
      } else if (next === commit || commit === reader) {
        // What is not committed yet is in the way.
        counters[COUNT.COMMIT_OVERRUN] = (counters[COUNT.COMMIT_OVERRUN] as number) + 1;
        return false;
      } else if (words[CTRL.OVERWRITE] === 0) {
        counters[COUNT.DROPPED] = (counters[COUNT.DROPPED] as number) + 1;
        // The rest of the page is closed all the same, as the kernel does before it finds the next page taken.
        this.#pad(tail);
        if (this.#depth === 0) this.#publish();
        return false;
      } else {
        counters[COUNT.OVERRUN] = (counters[COUNT.OVERRUN] as number) + memory.get(next, SLOT.ENTRIES);
        counters[COUNT.OVERRUN_BYTES] =
          (counters[COUNT.OVERRUN_BYTES] as number) + memory.get(next, SLOT.WRITE);
        words[CTRL.HEAD] = this.#nextOf(next);
      }
    } else if (next === commit && tail !== commit) {
      counters[COUNT.COMMIT_OVERRUN] = (counters[COUNT.COMMIT_OVERRUN] as number) + 1;
      return false;
    }
    this.#pad(tail);
    memory.clear(next);
    this.#begin(next);
    if (this.#depth === 0) {
      Atomics.store(words, memory.slot(tail, SLOT.COMMIT), memory.get(tail, SLOT.WRITE));
      words[CTRL.COMMIT] = next;
    }
    Atomics.store(words, CTRL.TAIL, next);
    return true;
  }

  /** A page is written to from now on. */
  #begin(page: number): void {
    const { words } = this.#memory;
    const sequence = ((words[CTRL.SEQUENCE] as number) + 1) | 0;
    words[CTRL.SEQUENCE] = sequence;
    this.#memory.set(page, SLOT.SEQUENCE, sequence);
  }

  /** rb_reset_tail(): closes a page whose rest is too small. */
  #pad(page: number): void {
    const memory = this.#memory;
    const { unsigned, counters, dataSize } = memory;
    const end = memory.get(page, SLOT.WRITE);
    if (end >= dataSize) return;
    memory.set(page, SLOT.REAL_END, end);
    const at = (memory.data(page) + end) >> 2;
    if (end > dataSize - EVENT_MIN_SIZE) {
      unsigned[at] = TYPE_PADDING;
      return;
    }
    unsigned[at] = TYPE_PADDING | (1 << 5);
    unsigned[at + 1] = dataSize - end - EVENT_HEADER_SIZE;
    counters[COUNT.BYTES] = (counters[COUNT.BYTES] as number) + dataSize - end;
    memory.set(page, SLOT.WRITE, dataSize);
  }
}
