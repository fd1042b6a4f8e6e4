/** Ring buffers: what programs put into them goes to the tracer, as fast as it takes it. */

import { type PlacedMap, RingBufferConsumer } from '../../bpf/index.ts';
import { RING_RECORD } from '../../bpf/maps/map-layout.ts';
import type { AgentServer } from './server.ts';

/** A ring is looked at every so many ms: as often as the first while it is busy, up to the second while it is not. */
const DRAIN_MIN_MS = 1;
const DRAIN_MAX_MS = 25;
/** Records go out in frames of about this size. */
const BATCH_BYTES = 256 << 10;
/** Records that are taken out of one ring before the next is looked at. */
const AT_ONCE = 512;

interface Ring {
  readonly index: number;
  readonly consumer: RingBufferConsumer;
  /** Bytes of it that were moved. */
  consumed: number;
}

export class Rings {
  readonly #server: AgentServer;
  readonly #rings: readonly Ring[];
  readonly #batch = Buffer.alloc(BATCH_BYTES);
  #timer: NodeJS.Timeout | undefined;
  #drainEvery = DRAIN_MIN_MS;
  #lost = 0;

  /** Those among the maps. */
  constructor(memory: WebAssembly.Memory, maps: readonly PlacedMap[], server: AgentServer) {
    this.#server = server;
    this.#rings = maps
      .filter(({ spec }) => spec.type === 'ringbuf')
      .map((map) => ({ index: map.index, consumer: new RingBufferConsumer(memory, map), consumed: 0 }));
    if (this.#rings.length > 0) this.#schedule();
  }

  #schedule(): void {
    this.#timer = setTimeout(() => {
      const moved = this.#server.congested ? 0 : this.#drain();
      this.#drainEvery = moved > 0 ? DRAIN_MIN_MS : Math.min(DRAIN_MAX_MS, this.#drainEvery * 2);
      this.reportLost();
      this.#schedule();
    }, this.#drainEvery);
  }

  /** Moves what is in the rings to the socket; stops when the socket is full. */
  #drain(): number {
    let moved = 0;
    for (;;) {
      let count = 0;
      for (const ring of this.#rings) count += this.#drainOne(ring);
      moved += count;
      if (count === 0 || this.#server.congested) return moved;
    }
  }

  #drainOne(ring: Ring): number {
    let used = 0;
    // one frame's worth at a time: a record longer than the rest of the batch leaves for the next one
    const count = ring.consumer.drain((view, offset, length) => {
      used = this.#append(ring.index, view, offset, length, used);
      ring.consumed += Math.ceil((length + RING_RECORD.size) / 8) * 8;
    }, AT_ONCE);
    if (used > 0) this.#server.ring(ring.index, Buffer.from(this.#batch.subarray(0, used)));
    return count;
  }

  /** Moves everything that was in the rings when it was called, at the pace of the tracer. */
  async drainAll(): Promise<void> {
    const ends = this.#rings.map(({ consumer, consumed }) => consumed + consumer.available);
    for (;;) {
      this.#drain();
      // Otherwise a process that fills a ring as fast would keep this going.
      if (!this.#server.congested || this.#rings.every(({ consumed }, i) => consumed >= ends[i]!)) return;
      await this.#server.relieved();
    }
  }

  #append(index: number, view: DataView, offset: number, length: number, used: number): number {
    const size = Math.ceil((4 + length) / 8) * 8;
    const record = new Uint8Array(view.buffer, view.byteOffset + offset, length);
    if (size > BATCH_BYTES) {
      const single = Buffer.alloc(size);
      single.writeUInt32LE(length);
      single.set(record, 4);
      if (used > 0) this.#server.ring(index, Buffer.from(this.#batch.subarray(0, used)));
      this.#server.ring(index, single);
      return 0;
    }
    if (used + size > BATCH_BYTES) {
      this.#server.ring(index, Buffer.from(this.#batch.subarray(0, used)));
      used = 0;
    }
    this.#batch.writeUInt32LE(length, used);
    this.#batch.set(record, used + 4);
    this.#batch.fill(0, used + 4 + length, used + size);
    return used + size;
  }

  reportLost(): void {
    const lost = this.#rings.reduce((sum, { consumer }) => sum + consumer.lost, 0);
    if (lost === this.#lost) return;
    this.#server.json({ event: 'lost', params: { count: lost - this.#lost } });
    this.#lost = lost;
  }

  stop(): void {
    clearTimeout(this.#timer);
  }

  /** Stops, and sends what there is still. */
  end(): void {
    this.stop();
    this.#drain();
    this.reportLost();
  }
}
