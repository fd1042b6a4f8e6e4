/** Ring buffer (kernel/bpf/ringbuf.c): any number of producers, one consumer. README.md has the rules. */

import { aMemory, aPlacedMap } from '../argument-shapes.ts';
import { checkArgument } from '../arguments.ts';
import { ERRNO } from '../errors.ts';
import type { PlacedMap } from '../layout.ts';
import { MapBase } from './map-base.ts';
import {
  BPF_RINGBUF_BUSY_BIT,
  BPF_RINGBUF_DISCARD_BIT,
  type MapGeometry,
  RING_HEADER,
  RING_RECORD,
} from './map-layout.ts';
import type { BytesOrErrno, MapEntry } from './map-types.ts';
import { type MemoryView, viewMemory } from './memory-view.ts';
import { lock, unlock } from './spinlock.ts';

/** Flags of bpf_ringbuf_query. */
export const BPF_RB_AVAIL_DATA = 0;
export const BPF_RB_RING_SIZE = 1;
export const BPF_RB_CONS_POS = 2;
export const BPF_RB_PROD_POS = 3;

/** Flags of bpf_ringbuf_submit, _discard and _output. */
export const BPF_RB_NO_WAKEUP = 1;
export const BPF_RB_FORCE_WAKEUP = 2;

/** RINGBUF_MAX_RECORD_SZ */
const MAX_RECORD = 0x3fff_ffff;

const LENGTH_MASK = ~(BPF_RINGBUF_BUSY_BIT | BPF_RINGBUF_DISCARD_BIT);

/** bpf_ringbuf_commit: the record needs no map, every ring commits alike. */
export function commitRecord(
  memory: WebAssembly.Memory,
  payload: number,
  isDiscarded: boolean,
  flags = 0,
): void {
  const { i32 } = viewMemory(memory);
  const index = (payload - RING_RECORD.size + RING_RECORD.len) >>> 2;
  const length = i32[index]! & ~BPF_RINGBUF_BUSY_BIT;
  // Once it is committed the record may be consumed, and another one written over it.
  const header = payload - RING_RECORD.size;
  const ring = header - i32[(header + RING_RECORD.offset) >>> 2]! - RING_HEADER.size;
  Atomics.store(i32, index, isDiscarded ? length | BPF_RINGBUF_DISCARD_BIT : length);
  if (flags === BPF_RB_NO_WAKEUP) return;
  wakeConsumer(i32, ring);
}

function wakeConsumer(i32: Int32Array, ring: number): void {
  const waiting = (ring + RING_HEADER.waiting) >>> 2;
  if (Atomics.load(i32, waiting) === 0) return;
  Atomics.store(i32, waiting, 0);
  Atomics.notify(i32, waiting);
}

export class RingBuffer extends MapBase {
  override get size(): number {
    return 0;
  }

  private at(field: number): number {
    return (this.address + field) >>> 2;
  }

  /** Address of a record's payload of `size` bytes, or 0: no room, which is counted. */
  reserve(size: number, cpu: number): number {
    const { i32 } = this.view;
    const { mask, data } = this.geometry;
    const length = Math.ceil((size + RING_RECORD.size) / 8) * 8;
    if (size > MAX_RECORD || length > this.spec.maxEntries || !lock(i32, this.at(RING_HEADER.lock), cpu))
      return this.drop();
    const producer = i32[this.at(RING_HEADER.producerPos)]!;
    const consumer = Atomics.load(i32, this.at(RING_HEADER.consumerPos));
    const next = (producer + length) | 0;
    if ((next - consumer) >>> 0 > mask) {
      unlock(i32, this.at(RING_HEADER.lock));
      return this.drop();
    }
    const offset = producer & mask;
    const header = this.address + data + offset;
    i32[(header + RING_RECORD.len) >>> 2] = size | BPF_RINGBUF_BUSY_BIT;
    i32[(header + RING_RECORD.offset) >>> 2] = offset;
    Atomics.store(i32, this.at(RING_HEADER.producerPos), next);
    unlock(i32, this.at(RING_HEADER.lock));
    return header + RING_RECORD.size;
  }

  private drop(): number {
    Atomics.add(this.view.i64, (this.address + RING_HEADER.dropped) >>> 3, 1n);
    return 0;
  }

  /** bpf_ringbuf_submit: `payload` is what reserve() returned. */
  submit(payload: number, flags = 0): void {
    commitRecord(this.memory, payload, false, flags);
  }

  discard(payload: number, flags = 0): void {
    commitRecord(this.memory, payload, true, flags);
  }

  /** bpf_ringbuf_output: 0 or -EAGAIN. */
  output(from: number, size: number, cpu: number, flags = 0): number {
    const payload = this.reserve(size, cpu);
    if (payload === 0) return -ERRNO.EAGAIN;
    this.view.u8.copyWithin(payload, from, from + size);
    this.submit(payload, flags);
    return 0;
  }

  /** bpf_ringbuf_query; positions are modulo 2^32. */
  query(flags: number): number {
    const { i32 } = this.view;
    const consumer = Atomics.load(i32, this.at(RING_HEADER.consumerPos)) >>> 0;
    const producer = Atomics.load(i32, this.at(RING_HEADER.producerPos)) >>> 0;
    switch (flags) {
      case BPF_RB_AVAIL_DATA:
        return (producer - consumer) >>> 0;
      case BPF_RB_RING_SIZE:
        return this.spec.maxEntries;
      case BPF_RB_CONS_POS:
        return consumer;
      case BPF_RB_PROD_POS:
        return producer;
      default:
        return 0;
    }
  }

  lookupElem(): number {
    return 0;
  }

  updateElem(): number {
    return -ERRNO.ENOTSUPP;
  }

  deleteElem(): number {
    return -ERRNO.ENOTSUPP;
  }

  override sysLookup(): BytesOrErrno {
    return -ERRNO.ENOTSUPP;
  }

  sysUpdate(): number {
    return -ERRNO.ENOTSUPP;
  }

  sysDelete(): number {
    return -ERRNO.ENOTSUPP;
  }

  sysNextKey(): BytesOrErrno {
    return -ERRNO.ENOTSUPP;
  }

  override update(): number {
    return -ERRNO.ENOTSUPP;
  }

  override *entries(): IterableIterator<MapEntry> {}

  /** Records belong to the consumer; nothing to clear here. */
  override clear(): void {}

  override zero(): void {}
}

/** Called with the payload at `view.byteOffset`-relative `offset`; the bytes are valid during the call only. */
export type RecordCallback = (view: DataView, offset: number, length: number) => void;

/** The one consumer of a ring (ring_buffer__poll of libbpf). */
export class RingBufferConsumer {
  private readonly view: MemoryView;
  private readonly address: number;
  private readonly geometry: MapGeometry;

  constructor(memory: WebAssembly.Memory, placed: PlacedMap) {
    checkArgument('new RingBufferConsumer()', 'memory', memory, aMemory);
    checkArgument('new RingBufferConsumer()', 'placed', placed, aPlacedMap);
    this.view = viewMemory(memory);
    this.address = placed.address;
    this.geometry = placed.geometry;
  }

  /**
   * Gives every finished record to `callback`, oldest first, at most `limit`; returns how many. Stops at a record that is still
   * being written. A record counts as consumed once the callback has returned; when it throws, it is consumed too.
   */
  drain(callback: RecordCallback, limit = Number.POSITIVE_INFINITY): number {
    const { i32, data } = this.view;
    const consumerIndex = (this.address + RING_HEADER.consumerPos) >>> 2;
    const producerIndex = (this.address + RING_HEADER.producerPos) >>> 2;
    const base = this.address + this.geometry.data;
    let consumer = i32[consumerIndex]!;
    let count = 0;
    while (count < limit && consumer !== Atomics.load(i32, producerIndex)) {
      const header = base + (consumer & this.geometry.mask);
      const len = Atomics.load(i32, (header + RING_RECORD.len) >>> 2);
      if (len < 0) break; // the busy bit is the sign bit
      const length = len & LENGTH_MASK;
      consumer = (consumer + Math.ceil((length + RING_RECORD.size) / 8) * 8) | 0;
      try {
        if ((len & BPF_RINGBUF_DISCARD_BIT) === 0) {
          count++;
          callback(data, header + RING_RECORD.size, length);
        }
      } finally {
        Atomics.store(i32, consumerIndex, consumer);
      }
    }
    return count;
  }

  /**
   * Sleeps until a record is committed, or `timeoutMs` have passed: true where there is one now. Not on a thread that must not
   * block (a browser's main thread). Records that programs commit without a wakeup (BPF_RB_NO_WAKEUP) do not end it.
   */
  wait(timeoutMs: number): boolean {
    const { i32 } = this.view;
    const waiting = (this.address + RING_HEADER.waiting) >>> 2;
    Atomics.store(i32, waiting, 1);
    if (!this.isReady()) Atomics.wait(i32, waiting, 1, timeoutMs);
    Atomics.store(i32, waiting, 0);
    return this.isReady();
  }

  private isReady(): boolean {
    const { i32 } = this.view;
    const consumer = i32[(this.address + RING_HEADER.consumerPos) >>> 2]!;
    if (consumer === Atomics.load(i32, (this.address + RING_HEADER.producerPos) >>> 2)) return false;
    const header = this.address + this.geometry.data + (consumer & this.geometry.mask);
    return Atomics.load(i32, (header + RING_RECORD.len) >>> 2) >= 0;
  }

  /** Reserves that found no room since the memory was made. */
  get lost(): number {
    return Number(Atomics.load(this.view.i64, (this.address + RING_HEADER.dropped) >>> 3));
  }

  /** Bytes between producer and consumer. */
  get available(): number {
    const { i32 } = this.view;
    const producer = Atomics.load(i32, (this.address + RING_HEADER.producerPos) >>> 2);
    return (producer - Atomics.load(i32, (this.address + RING_HEADER.consumerPos) >>> 2)) >>> 0;
  }
}
