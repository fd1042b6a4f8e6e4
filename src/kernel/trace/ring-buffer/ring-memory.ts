/**
 * One CPU's ring in shared memory, so that the thread that writes and those that read need not be one:
 *
 *     0     control words, i32 (CTRL)
 *     128   counters, f64 (COUNT)
 *     256   a table of pages, 8 i32 each (SLOT): what a page is to the ring
 *     ...   the pages, each as page.ts describes
 *
 * Whoever changes which page is where holds the lock: readers, and the writer when it leaves a page. Within a page the writer needs no
 * lock: what is behind SLOT.COMMIT is not looked at by others.
 */
import { PAGE_HEADER_SIZE } from './page.ts';

export const CTRL = {
  /** 0 free, 1 held, 2 held and waited for. */
  LOCK: 0,
  PAGE_SIZE: 1,
  /** Slots there is room for. */
  CAPACITY: 2,
  /** Slots that were in use ever; those given back are a list from FREE (slot + 1, 0 is the end). */
  ALLOCATED: 3,
  FREE: 4,
  /** Pages that the ring may have, and has, without the reader's. */
  NPAGES: 5,
  IN_RING: 6,
  /** Slots: the oldest page, those that are written and committed to, and the reader's. */
  HEAD: 7,
  TAIL: 8,
  COMMIT: 9,
  READER: 10,
  /** Time of the last event written, and read. */
  WRITE_LOW: 11,
  WRITE_HIGH: 12,
  READ_LOW: 13,
  READ_HIGH: 14,
  /** Counts the pages that were begun. */
  SEQUENCE: 15,
  /** Other threads have the memory: it can neither move nor be made anew. */
  SHARED: 16,
  /** Bits: overwrite, absolute stamps. Recording is off where RECORDING is 0. */
  RECORDING: 17,
  OVERWRITE: 18,
  ABSOLUTE: 19,
} as const;

const COUNTERS_AT = 128;
const SLOTS_AT = 256;

/** Each is changed by the writer only, by readers only, or under the lock only, as it says. */
export const COUNT = {
  /** Writer: events committed, bytes of events and padding. */
  ENTRIES: 0,
  BYTES: 1,
  /** Writer: events that found no room; those of them that found what is not committed yet in their way. */
  DROPPED: 2,
  COMMIT_OVERRUN: 3,
  /** Lock: events that were overwritten, and bytes. */
  OVERRUN: 4,
  OVERRUN_BYTES: 5,
  /** Readers, under the lock. */
  READ: 6,
  READ_BYTES: 7,
  LAST_OVERRUN: 8,
  LOST: 9,
} as const;
const COUNTERS = 10;

/** Of a page. */
export const SLOT = {
  NEXT: 0,
  PREV: 1,
  /** Bytes of data reserved, committed, read. */
  WRITE: 2,
  COMMIT: 3,
  READ: 4,
  ENTRIES: 5,
  /** Where the events end in front of a padding; 0 when nothing was padded. */
  REAL_END: 6,
  SEQUENCE: 7,
  SIZE: 8,
} as const;

const SPINS = 200;
/** In ms: then it is looked at again, whatever happened to who should have told. */
const LOOK_AGAIN = 100;

export class RingMemory {
  readonly buffer: SharedArrayBuffer;
  readonly words: Int32Array;
  readonly unsigned: Uint32Array;
  readonly bytes: Uint8Array;
  readonly counters: Float64Array;
  readonly pageSize: number;
  /** Bytes of data of a page. */
  readonly dataSize: number;
  readonly capacity: number;
  readonly #pages: number;
  #depth = 0;

  /** A view of a ring that is there. */
  constructor(buffer: SharedArrayBuffer) {
    this.buffer = buffer;
    this.words = new Int32Array(buffer);
    this.unsigned = new Uint32Array(buffer);
    this.bytes = new Uint8Array(buffer);
    this.counters = new Float64Array(buffer, COUNTERS_AT, COUNTERS);
    this.pageSize = this.words[CTRL.PAGE_SIZE] as number;
    this.dataSize = this.pageSize - PAGE_HEADER_SIZE;
    this.capacity = this.words[CTRL.CAPACITY] as number;
    this.#pages = pagesAt(this.capacity);
  }

  /** An empty ring with room for so many pages. RangeError where there is not so much memory. */
  static create(capacity: number, pageSize: number): RingMemory {
    const buffer = new SharedArrayBuffer(pagesAt(capacity) + capacity * pageSize);
    const words = new Int32Array(buffer);
    words[CTRL.PAGE_SIZE] = pageSize;
    words[CTRL.CAPACITY] = capacity;
    words[CTRL.RECORDING] = 1;
    words[CTRL.OVERWRITE] = 1;
    return new RingMemory(buffer);
  }

  /** Index of a slot's field among the words. */
  slot(slot: number, field: number): number {
    return (SLOTS_AT >> 2) + slot * SLOT.SIZE + field;
  }

  get(slot: number, field: number): number {
    return this.words[(SLOTS_AT >> 2) + slot * SLOT.SIZE + field] as number;
  }

  set(slot: number, field: number, value: number): void {
    this.words[(SLOTS_AT >> 2) + slot * SLOT.SIZE + field] = value;
  }

  committed(slot: number): number {
    return Atomics.load(this.words, (SLOTS_AT >> 2) + slot * SLOT.SIZE + SLOT.COMMIT);
  }

  /** Byte at which a slot's page begins, with its head. */
  page(slot: number): number {
    return this.#pages + slot * this.pageSize;
  }

  /** Byte at which its events begin. */
  data(slot: number): number {
    return this.#pages + slot * this.pageSize + PAGE_HEADER_SIZE;
  }

  /** A slot that nobody uses; -1 where there is none. Under the lock. */
  allocate(): number {
    const { words } = this;
    const free = words[CTRL.FREE] as number;
    if (free > 0) {
      words[CTRL.FREE] = this.get(free - 1, SLOT.NEXT);
      this.clear(free - 1);
      return free - 1;
    }
    const next = words[CTRL.ALLOCATED] as number;
    if (next >= this.capacity) return -1;
    words[CTRL.ALLOCATED] = next + 1;
    this.clear(next);
    return next;
  }

  /** Under the lock. */
  free(slot: number): void {
    this.set(slot, SLOT.NEXT, this.words[CTRL.FREE] as number);
    this.words[CTRL.FREE] = slot + 1;
  }

  /** Empties a page. */
  clear(slot: number): void {
    const { words } = this;
    const at = this.slot(slot, 0);
    words[at + SLOT.WRITE] = 0;
    words[at + SLOT.READ] = 0;
    words[at + SLOT.ENTRIES] = 0;
    words[at + SLOT.REAL_END] = 0;
    Atomics.store(words, at + SLOT.COMMIT, 0);
    const page = this.page(slot) >> 2;
    for (let i = 0; i < PAGE_HEADER_SIZE >> 2; i++) words[page + i] = 0;
  }

  /** May be taken again by the thread that holds it. */
  lock(): void {
    if (this.#depth++ > 0) return;
    const { words } = this;
    for (let i = 0; i < SPINS; i++) if (Atomics.compareExchange(words, CTRL.LOCK, 0, 1) === 0) return;
    while (Atomics.exchange(words, CTRL.LOCK, 2) !== 0) Atomics.wait(words, CTRL.LOCK, 2, LOOK_AGAIN);
  }

  unlock(): void {
    if (--this.#depth > 0) return;
    if (Atomics.exchange(this.words, CTRL.LOCK, 0) === 2) Atomics.notify(this.words, CTRL.LOCK, 1);
  }
}

function pagesAt(capacity: number): number {
  return Math.ceil((SLOTS_AT + capacity * SLOT.SIZE * 4) / 64) * 64;
}
