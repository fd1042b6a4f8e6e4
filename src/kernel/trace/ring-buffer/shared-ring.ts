/** A CPU's ring for a thread that has not made it: for the one that writes it, or for readers. */
import type { TraceRecord } from '../trace-entry.ts';
import { RingMemory } from './ring-memory.ts';
import { RingReader } from './ring-reader.ts';
import { RingWriter } from './ring-writer.ts';

/** What RingBuffer.share() gives, for postMessage() or workerData. */
export interface SharedRing {
  readonly cpu: number;
  /** The memories that the ring may have: its own, and the snapshot's. */
  readonly memories: readonly SharedArrayBuffer[];
  /** An i32: which of them it has now. */
  readonly current: SharedArrayBuffer;
}

/** Writes a shared ring; one thread at a time, and nobody else. A swap takes effect with the next event. */
export class SharedRingWriter {
  readonly #writers: readonly RingWriter[];
  readonly #memories: readonly RingMemory[];
  readonly #current: Int32Array;
  #open = 0;

  constructor({ memories, current }: SharedRing) {
    this.#memories = memories.map((memory) => new RingMemory(memory));
    this.#writers = this.#memories.map((memory) => new RingWriter(memory));
    this.#current = new Int32Array(current);
  }

  /** As RingWriter.write(). */
  write(low: number, high: number, data: Uint8Array): boolean {
    return this.#writer().write(low, high, data);
  }

  /** As RingWriter.reserve(): where in `bytes` the data goes. */
  reserve(low: number, high: number, length: number): number {
    return this.#writer().reserve(low, high, length);
  }

  /** Of the event that was reserved last. */
  get bytes(): Uint8Array {
    return (this.#memories[this.#open] as RingMemory).bytes;
  }

  commit(): void {
    (this.#writers[this.#open] as RingWriter).commit();
  }

  discard(): void {
    (this.#writers[this.#open] as RingWriter).discard();
  }

  /** What interrupts an event goes where that is. */
  #writer(): RingWriter {
    const open = this.#writers[this.#open] as RingWriter;
    if (open.depth > 0) return open;
    this.#open = Atomics.load(this.#current, 0);
    return this.#writers[this.#open] as RingWriter;
  }
}

/** Reads a shared ring: each event goes to one reader of all. */
export class SharedRingReader {
  readonly #readers: readonly RingReader[];
  readonly #current: Int32Array;

  constructor({ cpu, memories, current }: SharedRing) {
    this.#readers = memories.map((memory) => new RingReader(new RingMemory(memory), cpu));
    this.#current = new Int32Array(current);
  }

  get #reader(): RingReader {
    return this.#readers[Atomics.load(this.#current, 0)] as RingReader;
  }

  consume(): TraceRecord | undefined {
    return this.#reader.consume();
  }

  /** A page as trace_pipe_raw gives it. */
  readPage(full = false): Uint8Array | undefined {
    return this.#reader.readPage(full);
  }

  iterate(): IterableIterator<TraceRecord> {
    return this.#reader.iterate();
  }
}
