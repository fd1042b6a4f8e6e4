/**
 * user_ringbuf (kernel/bpf/ringbuf.c, libbpf's user_ring_buffer): outside of programs one producer, inside
 * bpf_user_ringbuf_drain is the consumer. Positions and record headers are those of the ring buffer.
 */
import { ERRNO } from '../errors.ts';
import { USER_CPU } from './map-base.ts';
import { BPF_RINGBUF_BUSY_BIT, BPF_RINGBUF_DISCARD_BIT, RING_HEADER, RING_RECORD } from './map-layout.ts';
import { RingBuffer } from './ringbuf.ts';

const BITS = BPF_RINGBUF_BUSY_BIT | BPF_RINGBUF_DISCARD_BIT;

export interface UserSample {
  /** Byte address of the payload. */
  readonly address: number;
  readonly size: number;
}

export class UserRingBuffer extends RingBuffer {
  /** user_ring_buffer__reserve: address of `size` bytes to fill, or 0 where there is no room. */
  reserveSample(size: number): number {
    return this.reserve(size, USER_CPU);
  }

  /** Reserves, copies and submits; 0, -ENOSPC, or -E2BIG for a sample that never fits. */
  write(bytes: Uint8Array): number {
    if (bytes.length + RING_RECORD.size > this.spec.maxEntries) return -ERRNO.E2BIG;
    const payload = this.reserveSample(bytes.length);
    if (payload === 0) return -ERRNO.ENOSPC;
    this.view.u8.set(bytes, payload);
    this.submit(payload);
    return 0;
  }

  /** __bpf_user_ringbuf_peek: the next sample; -ENODATA, -EAGAIN for a discarded one (now gone), -EINVAL or -E2BIG for a bad one. */
  peek(): UserSample | number {
    const consumer = this.load(this.address + RING_HEADER.consumerPos);
    const producer = this.load(this.address + RING_HEADER.producerPos);
    const available = (producer - consumer) >>> 0;
    if ((producer & 7) !== 0) return -ERRNO.EINVAL;
    if (available === 0) return -ERRNO.ENODATA;
    const header = this.address + this.geometry.data + (consumer & this.geometry.mask);
    const len = this.load(header + RING_RECORD.len);
    const size = (len & ~BITS) >>> 0;
    const total = Math.ceil((size + RING_RECORD.size) / 8) * 8;
    if (total > available) return -ERRNO.EINVAL;
    if (total > this.spec.maxEntries) return -ERRNO.E2BIG;
    if ((len & BPF_RINGBUF_DISCARD_BIT) !== 0) {
      this.advance(total);
      return -ERRNO.EAGAIN;
    }
    if ((len & BPF_RINGBUF_BUSY_BIT) !== 0) return -ERRNO.ENODATA;
    return { address: header + RING_RECORD.size, size };
  }

  /** __bpf_user_ringbuf_sample_release */
  consume(sample: UserSample): void {
    this.advance(Math.ceil((sample.size + RING_RECORD.size) / 8) * 8);
  }

  private advance(bytes: number): void {
    const at = this.address + RING_HEADER.consumerPos;
    this.store(at, (this.load(at) + bytes) | 0);
  }

  /** One drain at a time: gives -EBUSY while another one runs (`busy` of struct bpf_ringbuf). */
  draining<T>(action: () => T): T | number {
    const busy = (this.address + RING_HEADER.waiting) >>> 2;
    if (Atomics.compareExchange(this.view.i32, busy, 0, 1) !== 0) return -ERRNO.EBUSY;
    try {
      return action();
    } finally {
      Atomics.store(this.view.i32, busy, 0);
    }
  }
}
