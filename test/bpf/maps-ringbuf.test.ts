import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  createMemory,
  initMemory,
  layoutMemory,
  openMap,
  type RingBuffer,
  RingBufferConsumer,
} from '../../src/bpf/index.ts';
import { viewMemory } from '../../src/bpf/maps/memory-view.ts';

const SIZE = 4096;

function make() {
  const guard = { name: 'guard', type: 'array', keySize: 4, valueSize: 8, maxEntries: 8 } as const;
  const spec = { name: 'ring', type: 'ringbuf', keySize: 0, valueSize: 0, maxEntries: SIZE } as const;
  const layout = layoutMemory([spec, guard], { ncpu: 1 });
  const memory = createMemory(layout);
  initMemory(memory, layout);
  const ring = openMap(memory, layout, 0) as RingBuffer;
  return {
    ring,
    guard: openMap(memory, layout, 1),
    consumer: new RingBufferConsumer(memory, layout.maps[0]!),
    ...viewMemory(memory),
  };
}

describe('ring buffer', () => {
  it('behaves as a queue of bounded bytes', () => {
    const operation = fc.oneof(
      fc.record({ op: fc.constant('output' as const), size: fc.nat({ max: 700 }), discard: fc.boolean() }),
      fc.record({ op: fc.constant('drain' as const), limit: fc.integer({ min: 1, max: 9 }) }),
    );
    const property = fc.property(fc.array(operation, { maxLength: 120 }), (ops) => {
      const { ring, guard, consumer, u8 } = make();
      let queue: { bytes: number; size: number; fill: number; discard: boolean }[] = [];
      let used = 0;
      let lost = 0;
      for (const [n, one] of ops.entries()) {
        if (one.op === 'output') {
          const bytes = Math.ceil((one.size + 8) / 8) * 8;
          const payload = ring.reserve(one.size, 0);
          if (used + bytes > SIZE - 1) {
            expect(payload).toBe(0);
            lost++;
          } else {
            expect(payload % 8).toBe(0);
            u8.fill(n & 255, payload, payload + one.size);
            if (one.discard) ring.discard(payload);
            else ring.submit(payload);
            used += bytes;
            queue.push({ bytes, size: one.size, fill: n & 255, discard: one.discard });
          }
        } else {
          const expected: typeof queue = [];
          let taken = 0;
          while (expected.length < one.limit && taken < queue.length) {
            const record = queue[taken++]!;
            used -= record.bytes;
            if (!record.discard) expected.push(record);
          }
          queue = queue.slice(taken);
          const got: { size: number; fill: number }[] = [];
          consumer.drain((view, offset, length) => {
            const bytes = new Uint8Array(view.buffer, offset, length);
            got.push({ size: length, fill: length > 0 ? bytes[0]! : -1 });
            expect(bytes.every((byte) => byte === bytes[0])).toBe(true);
          }, one.limit);
          expect(got).toEqual(expected.map(({ size, fill }) => ({ size, fill: size > 0 ? fill : -1 })));
        }
        expect(consumer.lost).toBe(lost);
        expect(consumer.available).toBe(used);
        expect(ring.query(0)).toBe(used);
      }
      for (const { values } of guard.entries()) expect(values[0]!.every((byte) => byte === 0)).toBe(true);
    });
    fc.assert(property, { numRuns: 150, seed: 3 });
  });

  it('stops at a record that is still being written, and takes it up again', () => {
    const { ring, consumer, u8 } = make();
    const first = ring.reserve(8, 0);
    expect(ring.output(first, 8, 0)).toBe(0);
    expect(consumer.drain(() => {})).toBe(0);
    u8[first] = 1;
    ring.submit(first);
    const seen: number[] = [];
    expect(consumer.drain((view, offset) => seen.push(view.getUint8(offset)))).toBe(2);
    expect(seen).toEqual([1, 0]);
  });

  it('consumes a record whose callback throws', () => {
    const { ring, consumer } = make();
    for (let i = 0; i < 2; i++) ring.submit(ring.reserve(8, 0));
    expect(() =>
      consumer.drain(() => {
        throw new Error('boom');
      }),
    ).toThrow('boom');
    expect(consumer.drain(() => {})).toBe(1);
  });

  it('goes on when its positions pass 2^32', () => {
    const { ring, consumer, i32 } = make();
    const layoutAddress = (ring as unknown as { address: number }).address;
    // As after 4 GiB of records but for the last 64 bytes.
    i32[(layoutAddress + 64) >> 2] = -64;
    i32[(layoutAddress + 128) >> 2] = -64;
    let count = 0;
    for (let i = 0; i < 10; i++) {
      const payload = ring.reserve(24, 0);
      expect(payload).not.toBe(0);
      ring.submit(payload);
      count += consumer.drain(() => {});
    }
    expect(count).toBe(10);
    expect(consumer.lost).toBe(0);
  });

  it('refuses and counts a record larger than itself', () => {
    const { ring, consumer } = make();
    expect(ring.reserve(SIZE, 0)).toBe(0);
    expect(ring.reserve(2 ** 30, 0)).toBe(0);
    expect(consumer.lost).toBe(2);
  });
});
