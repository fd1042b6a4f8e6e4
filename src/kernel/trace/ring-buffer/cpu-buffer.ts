import { KernelError } from '../../errno.ts';
import type { TraceBufferStats } from '../trace-buffer.ts';
import type { TraceRecord } from '../trace-entry.ts';
import { joinTime } from './page.ts';
import { COUNT, CTRL, RingMemory, SLOT } from './ring-memory.ts';
import { RingReader } from './ring-reader.ts';
import { RingWriter } from './ring-writer.ts';

/**
 * One CPU's ring (`struct ring_buffer_per_cpu`): pages in a circle from the head to the tail, and one outside of it that belongs to the
 * reader, in shared memory. What changes the memory itself (rebuild(), reset(), growing beyond its capacity) is for the thread that
 * writes, while no event is open.
 */
export class CpuBuffer {
  readonly cpu: number;
  #memory: RingMemory;
  #writer!: RingWriter;
  #reader!: RingReader;

  constructor(cpu: number, npages: number, pageSize: number) {
    this.cpu = cpu;
    this.#memory = made(npages, pageSize);
    this.#open();
    this.#init(npages);
  }

  #open(): void {
    this.#writer = new RingWriter(this.#memory);
    this.#reader = new RingReader(this.#memory, this.cpu);
  }

  get memory(): RingMemory {
    return this.#memory;
  }

  get writer(): RingWriter {
    return this.#writer;
  }

  get reader(): RingReader {
    return this.#reader;
  }

  get npages(): number {
    return this.#memory.words[CTRL.NPAGES] as number;
  }

  get dataSize(): number {
    return this.#memory.dataSize;
  }

  /** Whether other threads have the memory. */
  get shared(): boolean {
    return this.#memory.words[CTRL.SHARED] !== 0;
  }

  set shared(on: boolean) {
    this.#memory.words[CTRL.SHARED] = on ? 1 : 0;
  }

  set recording(on: boolean) {
    Atomics.store(this.#memory.words, CTRL.RECORDING, on ? 1 : 0);
  }

  set overwrite(on: boolean) {
    this.#memory.words[CTRL.OVERWRITE] = on ? 1 : 0;
  }

  set timeStampAbs(on: boolean) {
    this.#memory.words[CTRL.ABSOLUTE] = on ? 1 : 0;
  }

  /** New pages; the contents are lost. EBUSY while other threads have them. */
  rebuild(npages: number, pageSize: number): void {
    if (this.shared) throw new KernelError('EBUSY', 'other threads use the buffer');
    const { words } = this.#memory;
    this.#memory = made(npages, pageSize);
    for (const flag of [CTRL.RECORDING, CTRL.OVERWRITE, CTRL.ABSOLUTE])
      this.#memory.words[flag] = words[flag] as number;
    this.#open();
    this.#init(npages);
  }

  /** An empty ring. Pages are made when the writer comes to them: most rings stay small. */
  #init(npages: number): void {
    const memory = this.#memory;
    const { words } = memory;
    words[CTRL.NPAGES] = npages;
    words[CTRL.FREE] = 0;
    words[CTRL.ALLOCATED] = 0;
    const first = memory.allocate();
    const reader = memory.allocate();
    for (const slot of [first, reader]) {
      memory.set(slot, SLOT.NEXT, first);
      memory.set(slot, SLOT.PREV, first);
    }
    words[CTRL.IN_RING] = 1;
    words[CTRL.HEAD] = first;
    words[CTRL.TAIL] = first;
    words[CTRL.COMMIT] = first;
    words[CTRL.READER] = reader;
  }

  /**
   * ring_buffer_resize(): events stay where the new size has room for them; the oldest go. ENOMEM where there is no memory; EBUSY where it
   * would have to move and other threads have it.
   */
  resize(npages: number): void {
    this.prepareResize(npages)();
  }

  /** What may be refused of a resize; the answer does the rest. */
  prepareResize(npages: number): () => void {
    const fits = npages + 1 <= this.#memory.capacity;
    if (!fits && (this.shared || this.#writer.depth > 0))
      throw new KernelError('EBUSY', 'the buffer cannot move while it is in use');
    const memory = fits ? undefined : made(npages, this.#memory.pageSize);
    return () => {
      if (memory !== undefined) this.#move(memory);
      this.#setPages(npages);
    };
  }

  #setPages(npages: number): void {
    const memory = this.#memory;
    const { words } = memory;
    memory.lock();
    while ((words[CTRL.IN_RING] as number) > npages && this.#mayDropHead()) this.#dropHead();
    while ((words[CTRL.IN_RING] as number) > npages) {
      const next = memory.get(words[CTRL.TAIL] as number, SLOT.NEXT);
      // Nested events fill the ring: it shrinks no further.
      if (next === words[CTRL.COMMIT] || next === words[CTRL.TAIL]) break;
      this.#unlink(next);
    }
    words[CTRL.NPAGES] = npages;
    memory.unlock();
  }

  #mayDropHead(): boolean {
    const { words } = this.#memory;
    const head = words[CTRL.HEAD];
    // With an event open on the reader's page, all that is in the ring is open too.
    if (words[CTRL.COMMIT] === words[CTRL.READER] && words[CTRL.TAIL] !== words[CTRL.READER]) return false;
    return head !== words[CTRL.TAIL] && head !== words[CTRL.COMMIT];
  }

  /** Takes what is in its memory to another. */
  #move(memory: RingMemory): void {
    const old = this.#memory;
    const slots = old.words[CTRL.ALLOCATED] as number;
    const table = old.slot(0, 0);
    const { capacity } = memory;
    memory.words.set(old.words.subarray(0, table + slots * SLOT.SIZE));
    memory.words[CTRL.CAPACITY] = capacity;
    memory.bytes.set(old.bytes.subarray(old.page(0), old.page(slots)), memory.page(0));
    this.#memory = memory;
    this.#open();
  }

  #dropHead(): void {
    const memory = this.#memory;
    const { words, counters } = memory;
    const page = words[CTRL.HEAD] as number;
    counters[COUNT.OVERRUN] = (counters[COUNT.OVERRUN] as number) + memory.get(page, SLOT.ENTRIES);
    counters[COUNT.OVERRUN_BYTES] = (counters[COUNT.OVERRUN_BYTES] as number) + memory.get(page, SLOT.WRITE);
    words[CTRL.HEAD] = memory.get(page, SLOT.NEXT);
    this.#unlink(page);
  }

  #unlink(page: number): void {
    const memory = this.#memory;
    const { words } = memory;
    const next = memory.get(page, SLOT.NEXT);
    const prev = memory.get(page, SLOT.PREV);
    memory.set(prev, SLOT.NEXT, next);
    memory.set(next, SLOT.PREV, prev);
    const reader = words[CTRL.READER] as number;
    if (memory.get(reader, SLOT.NEXT) === page) memory.set(reader, SLOT.NEXT, next);
    if (words[CTRL.HEAD] === page) words[CTRL.HEAD] = next;
    words[CTRL.IN_RING] = (words[CTRL.IN_RING] as number) - 1;
    memory.free(page);
  }

  /** EBUSY while other threads have it, as they may write. */
  reset(): void {
    if (this.shared) throw new KernelError('EBUSY', 'other threads use the buffer');
    const memory = this.#memory;
    const { words, counters } = memory;
    memory.lock();
    const head = words[CTRL.HEAD] as number;
    let page = head;
    do {
      memory.clear(page);
      page = memory.get(page, SLOT.NEXT);
    } while (page !== head);
    memory.clear(words[CTRL.READER] as number);
    words[CTRL.COMMIT] = head;
    Atomics.store(words, CTRL.TAIL, head);
    for (const word of [CTRL.WRITE_LOW, CTRL.WRITE_HIGH, CTRL.READ_LOW, CTRL.READ_HIGH]) words[word] = 0;
    counters.fill(0);
    memory.unlock();
  }

  write(low: number, high: number, data: Uint8Array): boolean {
    return this.#writer.write(low, high, data);
  }

  /** Whether a page has been filled since the last call. */
  takeClosed(): boolean {
    const closed = this.#writer.filled > 0;
    this.#writer.filled = 0;
    return closed;
  }

  stats(now: () => bigint): TraceBufferStats {
    const memory = this.#memory;
    const { words, unsigned, counters } = memory;
    memory.lock();
    const count = (index: number): number => counters[index] as number;
    const reader = words[CTRL.READER] as number;
    const oldest = memory.page(words[CTRL.TAIL] === reader ? reader : (words[CTRL.HEAD] as number)) >> 2;
    // A writer holds no lock: what is taken away is read first, or events of meanwhile would make the rest too small.
    const overrun = count(COUNT.OVERRUN);
    const gone = overrun + count(COUNT.READ);
    const bytesGone = count(COUNT.OVERRUN_BYTES) + count(COUNT.READ_BYTES);
    const stats = {
      entries: count(COUNT.ENTRIES) - gone,
      overrun,
      commitOverrun: count(COUNT.COMMIT_OVERRUN),
      bytes: count(COUNT.BYTES) - bytesGone,
      oldestEventTs: joinTime(unsigned[oldest] as number, unsigned[oldest + 1] as number),
      // Asked for when it is read: a clock that counts goes on with every question.
      get nowTs() {
        return now();
      },
      droppedEvents: count(COUNT.DROPPED),
      readEvents: count(COUNT.READ),
    };
    memory.unlock();
    return stats;
  }

  /** ring_buffer_nr_dirty_pages(): pages that were filled and not read. */
  dirtyPages(): number {
    const memory = this.#memory;
    const { words } = memory;
    memory.lock();
    let count = 0;
    const tail = words[CTRL.TAIL] as number;
    if (tail !== words[CTRL.READER])
      for (let page = words[CTRL.HEAD] as number; page !== tail; page = memory.get(page, SLOT.NEXT)) count++;
    memory.unlock();
    return count;
  }

  /** The reader's page is not the one that is written. */
  readerIsBehind(): boolean {
    const { words } = this.#memory;
    return words[CTRL.READER] !== words[CTRL.COMMIT];
  }

  iterate(): IterableIterator<TraceRecord> {
    return this.#reader.iterate();
  }

  peek(): TraceRecord | undefined {
    return this.#reader.peek();
  }

  consume(): TraceRecord | undefined {
    return this.#reader.consume();
  }

  readPage(full: boolean): Uint8Array | undefined {
    return this.#reader.readPage(full);
  }
}

/** Memory for so many pages in the ring and one of the reader. ENOMEM where there is none. */
function made(npages: number, pageSize: number): RingMemory {
  try {
    return RingMemory.create(npages + 1, pageSize);
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    throw new KernelError('ENOMEM', 'the buffer would not fit into memory', { cause: error });
  }
}
