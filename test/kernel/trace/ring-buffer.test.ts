/** The ring buffer: what is written is read, in order and counted, however events nest, pages fill and threads interleave. */
import { Worker } from 'node:worker_threads';
import { build } from 'esbuild';
import { beforeAll, describe, expect, test } from 'vitest';
import { RingBuffer } from '../../../src/kernel/trace/ring-buffer/ring-buffer.ts';
import type { SharedRing } from '../../../src/kernel/trace/ring-buffer/shared-ring.ts';

/** The same numbers in every run. */
function numbers(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (Math.imul(state, 1103515245) + 12345) >>> 0;
    return (state >>> 8) % below;
  };
}

const low = (ts: bigint): number => Number(ts & 0xffff_ffffn);
const high = (ts: bigint): number => Number(ts >> 32n);

function accounted(buffer: RingBuffer, cpu = 0): number {
  const { entries, overrun, readEvents } = buffer.stats(cpu);
  return entries + overrun + readEvents;
}

/** Writes a number as a record of `length` bytes, at least 4. */
function put(buffer: RingBuffer, ts: bigint, value: number, length: number): boolean {
  const at = buffer.reserve(0, low(ts), high(ts), length);
  if (at < 0) return false;
  fill(buffer.bytes(0), at, value, length);
  buffer.commit(0);
  return true;
}

function fill(bytes: Uint8Array, at: number, value: number, length: number): void {
  for (let i = 0; i < length; i++) bytes[at + i] = (value >>> (8 * (i & 3))) & 255;
}

function numberOf(data: Uint8Array): number {
  return new DataView(data.buffer, data.byteOffset).getUint32(0, true);
}

describe('one thread', () => {
  test('times and data of all sizes come back, across words, extends and pages', () => {
    const buffer = new RingBuffer(1, 64, () => 0n);
    const random = numbers(7);
    const written: { ts: bigint; data: Uint8Array }[] = [];
    let ts = (1n << 40n) - 5000n;
    for (let i = 0; i < 900; i++) {
      ts += [0n, 1n, 100n, 1n << 20n, (1n << 27n) - 1n, 1n << 27n, (1n << 27n) + 1n, 1n << 33n, 3n << 50n][
        random(i % 50 === 0 ? 9 : 7)
      ] as bigint;
      const data = Uint8Array.from({ length: 1 + random(i % 20 === 0 ? 400 : 40) }, () => random(256));
      expect(buffer.write(0, ts, data)).toBe(true);
      written.push({ ts, data });
    }
    const { overrun } = buffer.stats(0);
    const left = written.slice(overrun);
    const check = ({ ts: time, data }: { ts: bigint; data: Uint8Array }, i: number): void => {
      const expected = left[i] as (typeof left)[number];
      expect(time, `event ${i}`).toBe(expected.ts);
      const padded = new Uint8Array(Math.max(8, Math.ceil(expected.data.length / 4) * 4));
      padded.set(expected.data);
      expect([...data], `event ${i}`).toEqual([...padded.subarray(0, data.length)]);
      expect(data.length).toBeGreaterThanOrEqual(expected.data.length);
    };
    const seen = [...buffer.iterate()];
    expect(seen).toHaveLength(left.length);
    for (const [i, record] of seen.entries()) check(record, i);
    for (let i = 0; i < left.length; i++) check(buffer.consume() as (typeof seen)[number], i);
    expect(buffer.consume()).toBeUndefined();
    expect(accounted(buffer)).toBe(written.length);
  });

  test('absolute stamps', () => {
    const buffer = new RingBuffer(1, 8, () => 0n);
    buffer.timeStampAbs = true;
    const times = [0xf123_4567_89ab_cdefn, 0xf123_4567_89ab_cdefn + 5n, 0xf7ff_ffff_ffff_fff0n];
    for (const [i, ts] of times.entries()) put(buffer, ts, i, 12);
    expect([...buffer.iterate()].map(({ ts, data }) => [ts, numberOf(data)])).toEqual(
      times.map((ts, i) => [ts, i]),
    );
  });

  test('events nest: nothing is seen before the outermost is committed, and order is that of reserving', () => {
    const buffer = new RingBuffer(1, 16, () => 0n);
    const outer = buffer.reserve(0, 100, 0, 8);
    expect(put(buffer, 150n, 2, 16)).toBe(true);
    const inner = buffer.reserve(0, 160, 0, 8);
    expect(put(buffer, 170n, 4, 8)).toBe(true);
    expect(buffer.peek()).toBeUndefined();
    expect([...buffer.iterate()]).toEqual([]);
    fill(buffer.bytes(0), inner, 3, 8);
    buffer.commit(0);
    expect(buffer.consume()).toBeUndefined();
    expect(buffer.readPage(0, false)).toBeUndefined();
    fill(buffer.bytes(0), outer, 1, 8);
    buffer.commit(0);
    const all = [...buffer.iterate()].map(({ ts, data }) => [Number(ts), numberOf(data)]);
    expect(all).toEqual([
      [100, 1],
      [150, 2],
      [160, 3],
      [170, 4],
    ]);
    expect(buffer.stats(0).entries).toBe(4);
  });

  test('an open event stays out of a page that is read, also when those in it have closed the page', () => {
    const buffer = new RingBuffer(1, 64, () => 0n);
    put(buffer, 1n, 1, 8);
    const outer = buffer.reserve(0, 2, 0, 8);
    // as much as a page holds: each goes on another one
    for (const value of [3, 4]) put(buffer, BigInt(value), value, 3000);
    const page = buffer.readPage(0, false) as Uint8Array;
    expect(new DataView(page.buffer).getUint32(8, true)).toBe(12);
    expect(buffer.stats(0)).toMatchObject({ readEvents: 1, entries: 2 });
    expect(buffer.readPage(0, false)).toBeUndefined();
    fill(buffer.bytes(0), outer, 2, 8);
    buffer.commit(0);
    const rest = [...buffer.iterate()].map(({ data }) => numberOf(data));
    expect(rest).toEqual([2, 3, 4]);
    expect(buffer.stats(0)).toMatchObject({ readEvents: 1, entries: 3 });
  });

  test('a discarded event leaves nothing; with others behind it, padding', () => {
    const buffer = new RingBuffer(1, 16, () => 0n);
    put(buffer, 10n, 1, 8);
    const { bytes } = buffer.stats(0);
    buffer.reserve(0, 20, 0, 100);
    buffer.discard(0);
    expect(buffer.stats(0)).toMatchObject({ bytes, entries: 1 });
    // its time is forgotten too
    put(buffer, 15n, 2, 8);
    buffer.reserve(0, 20, 0, 12);
    put(buffer, 30n, 3, 8);
    buffer.discard(0);
    expect([...buffer.iterate()].map(({ data }) => numberOf(data))).toEqual([1, 2, 3]);
    expect(buffer.stats(0).entries).toBe(3);
    const read: number[] = [];
    for (;;) {
      const record = buffer.consume();
      if (record === undefined) break;
      read.push(numberOf(record.data));
    }
    expect(read).toEqual([1, 2, 3]);
    expect(accounted(buffer)).toBe(3);
  });

  test('what is open is not overwritten: events that find it in their way are dropped and counted', () => {
    const buffer = new RingBuffer(1, 8, () => 0n);
    const outer = buffer.reserve(0, 1, 0, 8);
    let taken = 0;
    let refused = 0;
    for (let i = 0; i < 1000; i++)
      if (put(buffer, BigInt(2 + i), 100 + i, 100)) taken++;
      else refused++;
    expect(refused).toBeGreaterThan(0);
    fill(buffer.bytes(0), outer, 7, 8);
    buffer.commit(0);
    const all = [...buffer.iterate()].map(({ data }) => numberOf(data));
    expect(all).toHaveLength(taken + 1);
    expect(all[0]).toBe(7);
    expect(buffer.stats(0)).toMatchObject({ entries: taken + 1, commitOverrun: refused, overrun: 0 });
    // and the ring goes on
    for (let i = 0; i < 1000; i++) expect(put(buffer, BigInt(5000 + i), i, 100)).toBe(true);
    expect(accounted(buffer)).toBe(taken + 1 + 1000);
  });

  test('reading, writing, sizes and swaps interleaved: each event is read once, in order, or counted', () => {
    for (let seed = 1; seed <= 12; seed++) {
      const random = numbers(seed);
      const sizeKb = 8 + random(40);
      const buffer = new RingBuffer(1, sizeKb, () => 0n);
      const snapshot = new RingBuffer(1, sizeKb, () => 0n);
      buffer.overwrite = seed % 3 !== 0;
      let next = 1;
      let ts = 1000n;
      let refused = 0;
      /** Highest number that was read of each of the two memories; `memories[0]` is the buffer's. */
      const memories = [
        { buffer, last: 0, read: 0 },
        { buffer: snapshot, last: 0, read: 0 },
      ];
      const took = (n: number, value: number): void => {
        const memory = memories[n] as (typeof memories)[number];
        expect(value, `seed ${seed}`).toBeGreaterThan(memory.last);
        memory.last = value;
        memory.read++;
      };
      const write = (depth: number): void => {
        ts += BigInt(random(2000));
        const value = next++;
        const length = 4 + random(200);
        const at = buffer.reserve(0, low(ts), high(ts), length);
        if (at < 0) {
          refused++;
          return;
        }
        const bytes = buffer.bytes(0);
        while (depth < 6 && random(10) === 0) write(depth + 1);
        fill(bytes, at, value, length);
        buffer.commit(0);
      };
      for (let step = 0; step < 600; step++) {
        const what = random(100);
        if (what < 70) for (let i = random(30); i >= 0; i--) write(0);
        else if (what < 80)
          for (let i = random(40); i > 0; i--) {
            const record = buffer.consume();
            if (record === undefined) break;
            took(0, numberOf(record.data));
          }
        else if (what < 85) {
          const bytes = buffer.bytes(0);
          while (
            buffer.consumeEach(0, (start) => took(0, numberOf(bytes.subarray(start, start + 4)))) > 0 &&
            random(3) > 0
          );
        } else if (what < 90) {
          const before = buffer.stats(0).readEvents;
          buffer.readPage(0, random(2) === 0);
          (memories[0] as (typeof memories)[number]).read += buffer.stats(0).readEvents - before;
        } else if (what < 94) {
          const size = 8 + random(60);
          buffer.resize(size);
          snapshot.resize(size);
        } else if (what < 96) {
          let last = 0;
          for (const { data } of buffer.iterate()) {
            expect(numberOf(data)).toBeGreaterThan(last);
            last = numberOf(data);
          }
        } else if (what < 98) {
          buffer.swap(snapshot);
          const [a, b] = memories as [(typeof memories)[number], (typeof memories)[number]];
          [a.last, b.last] = [b.last, a.last];
          [a.read, b.read] = [b.read, a.read];
        } else {
          const { droppedEvents, commitOverrun } = buffer.stats(0);
          const other = snapshot.stats(0);
          expect(droppedEvents + commitOverrun + other.droppedEvents + other.commitOverrun).toBe(refused);
        }
      }
      expect(accounted(buffer) + accounted(snapshot), `seed ${seed}`).toBe(next - 1 - refused);
      for (const { buffer: one, read } of memories) {
        expect(one.stats(0).readEvents).toBe(read);
        expect([...one.iterate()]).toHaveLength(one.stats(0).entries);
      }
    }
  });

  test('a size that cannot be had changes nothing', () => {
    const buffer = new RingBuffer(2, 64, () => 0n);
    for (let i = 0; i < 100; i++) buffer.write(i & 1, BigInt(i), new Uint8Array(20));
    const sizes = [buffer.sizeKb(0), buffer.sizeKb(1)];
    expect(() => buffer.resize(2 ** 40)).toThrow(expect.objectContaining({ code: 'ENOMEM' }));
    expect([buffer.sizeKb(0), buffer.sizeKb(1)]).toEqual(sizes);
    expect([...buffer.iterate()]).toHaveLength(100);
  });
});

const WRITER = `
import { workerData, parentPort } from 'node:worker_threads';
import { SharedRingReader, SharedRingWriter } from './src/kernel/trace/ring-buffer/shared-ring.ts';
const { ring, rounds, role, cpu } = workerData;
const stop = new Int32Array(workerData.stop);
if (role === 'write') {
  const writer = new SharedRingWriter(ring);
  let written = 0;
  let refused = 0;
  let discarded = 0;
  let value = 0;
  let state = cpu + 1;
  const random = (below) => {
    state = (Math.imul(state, 1103515245) + 12345) >>> 0;
    return (state >>> 8) % below;
  };
  const write = (depth) => {
    value++;
    const mine = value;
    const length = 8 + random(60);
    const at = writer.reserve(value * 50, 0, length);
    if (at < 0) {
      refused++;
      return;
    }
    const { bytes } = writer;
    while (depth < 4 && random(12) === 0) write(depth + 1);
    for (let i = 0; i < length; i++) bytes[at + i] = i < 4 ? (mine >>> (8 * i)) & 255 : (mine + cpu) & 255;
    if (random(50) === 0) {
      writer.discard();
      discarded++;
    } else {
      writer.commit();
      written++;
    }
  };
  for (let i = 0; i < rounds; i++) write(0);
  parentPort.postMessage({ written, refused, discarded });
} else {
  const reader = new SharedRingReader(ring);
  let read = 0;
  let wrong = 0;
  const check = (data) => {
    const value = data[0] | (data[1] << 8) | (data[2] << 16) | (data[3] << 24);
    // behind the data are zeros up to a word
    for (let i = 4; i < data.length - 3; i++) if (data[i] !== ((value + cpu) & 255)) wrong++;
  };
  for (let round = 0; Atomics.load(stop, 0) === 0; round++) {
    if (round % 64 === 0) for (const { data } of reader.iterate()) check(data);
    const record = reader.consume();
    if (record === undefined) {
      Atomics.wait(stop, 0, 0, 1);
      continue;
    }
    check(record.data);
    read++;
  }
  parentPort.postMessage({ read, wrong });
}
`;

describe('several threads', () => {
  let code = '';
  beforeAll(async () => {
    const built = await build({
      stdin: { contents: WRITER, resolveDir: process.cwd(), loader: 'js' },
      bundle: true,
      write: false,
      format: 'cjs',
      platform: 'node',
    });
    code = built.outputFiles[0]?.text ?? '';
  });

  function run<T>(role: 'write' | 'read', ring: SharedRing, more: Record<string, unknown>): Promise<T> {
    const { cpu } = ring;
    const worker = new Worker(code, { eval: true, workerData: { role, ring, cpu, ...more } });
    return new Promise((resolve, reject) => {
      worker.once('message', resolve);
      worker.once('error', reject);
    });
  }

  test.each([true, false])(
    'writers, readers, sizes, snapshots and pages at once: every event is accounted for (overwrite %s)',
    { timeout: 120_000 },
    async (overwrite) => {
      const ncpu = 2;
      const rounds = 60_000;
      const buffer = new RingBuffer(ncpu, 512, () => 0n);
      const snapshot = new RingBuffer(ncpu, 512, () => 0n);
      for (const one of [buffer, snapshot]) {
        one.overwrite = overwrite;
        one.resize(64);
      }
      const stop = new SharedArrayBuffer(4);
      const rings = Array.from({ length: ncpu }, (_, cpu) => buffer.share(cpu, snapshot));
      const writers = rings.map((ring) =>
        run<{ written: number; refused: number; discarded: number }>('write', ring, { rounds, stop }),
      );
      const readers = rings.map((ring) => run<{ read: number; wrong: number }>('read', ring, { stop }));
      let running = true;
      const done = Promise.all(writers).finally(() => {
        running = false;
      });
      const random = numbers(99);
      let here = 0;
      let steps = 0;
      while (running) {
        const cpu = random(ncpu);
        switch (random(6)) {
          case 0: {
            const size = 8 + random(400);
            for (const one of [buffer, snapshot]) one.resize(size);
            break;
          }
          case 1:
            buffer.swap(snapshot);
            break;
          case 2:
            if (snapshot.consume(cpu) !== undefined) here++;
            break;
          case 3: {
            const page = snapshot.readPage(cpu, random(2) === 0);
            if (page !== undefined) here += eventsOf(page);
            break;
          }
          case 4:
            here += buffer.consumeEach(cpu, () => undefined, random(20));
            break;
          default:
            for (const one of [buffer, snapshot]) {
              const { entries, bytes } = one.stats(cpu);
              expect(entries).toBeGreaterThanOrEqual(0);
              expect(bytes).toBeGreaterThanOrEqual(0);
            }
        }
        if (++steps % 16 === 0) await new Promise((resolve) => setImmediate(resolve));
      }
      const wrote = await done;
      Atomics.store(new Int32Array(stop), 0, 1);
      Atomics.notify(new Int32Array(stop), 0);
      const readBy = await Promise.all(readers);
      expect(readBy.map(({ wrong }) => wrong)).toEqual([0, 0]);
      const sum = (pick: (stats: ReturnType<RingBuffer['stats']>) => number): number =>
        [buffer, snapshot].reduce((all, one) => all + pick(one.stats(0)) + pick(one.stats(1)), 0);
      const written = wrote.reduce((all, one) => all + one.written, 0);
      const refused = wrote.reduce((all, one) => all + one.refused, 0);
      const read = readBy.reduce((all, one) => all + one.read, here);
      expect(sum(({ readEvents }) => readEvents)).toBe(read);
      expect(sum(({ droppedEvents, commitOverrun }) => droppedEvents + commitOverrun)).toBe(refused);
      expect(sum(({ entries, overrun }) => entries + overrun) + read).toBe(written);
      // What is left is there, and whole.
      let left = 0;
      for (const one of [buffer, snapshot]) for (const _ of one.iterate()) left++;
      expect(left).toBe(sum(({ entries }) => entries));
      expect(() => buffer.reset()).toThrow(expect.objectContaining({ code: 'EBUSY' }));
      if (!overwrite) expect(sum(({ overrun }) => overrun)).toBeGreaterThanOrEqual(0);
    },
  );
});

/** Events with data in a raw page. */
function eventsOf(page: Uint8Array): number {
  const view = new DataView(page.buffer, page.byteOffset, page.byteLength);
  const end = 16 + (view.getUint32(8, true) & 0xfffff);
  let count = 0;
  for (let at = 16; at < end; ) {
    const word = view.getUint32(at, true);
    const type = word & 31;
    if (type === 29 && word >>> 5 === 0) break;
    if (type === 0 || type === 29) at += 4 + view.getUint32(at + 4, true);
    else at += type >= 30 ? 8 : 4 + 4 * type;
    if (type < 29) count++;
  }
  return count;
}
