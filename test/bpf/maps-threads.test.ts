/**
 * Maps used by several threads at once: nothing is lost and everything is counted. The threads run this folder's own code,
 * bundled as the agent's worker bundles it.
 */
import { Worker } from 'node:worker_threads';
import { build } from 'esbuild';
import { beforeAll, describe, expect, it } from 'vitest';
import {
  createMemory,
  initMemory,
  layoutMemory,
  type MapSpec,
  openMap,
  RingBufferConsumer,
} from '../../src/bpf/index.ts';

const THREADS = 4;

const WORKER = `
import { parentPort, workerData } from 'node:worker_threads';
import { openMap } from './src/bpf/maps/map.ts';
import { percpuBlock } from './src/bpf/layout.ts';
import { viewMemory } from './src/bpf/maps/memory-view.ts';

const { memory, layout, cpu, job, rounds } = workerData;
const { i64, data, u8 } = viewMemory(memory);
const { scratch } = percpuBlock(layout, cpu);
const map = openMap(memory, layout, 0);
const value = scratch + 64;
const result = { ok: 0, full: 0, busy: 0, missing: 0, wrong: 0 };
// Everybody starts together.
const gate = new Int32Array(workerData.gate);
Atomics.add(gate, 0, 1);
while (Atomics.load(gate, 0) < workerData.threads) Atomics.wait(gate, 1, 0, 1);

const JOBS = {
  // Look up or insert one of a few shared keys, then add to its value atomically, as '@[key] = count()' does.
  count() {
    for (let i = 0; i < rounds; i++) {
      data.setBigUint64(scratch, BigInt(i % 97), true);
      let found = map.lookupElem(scratch, cpu);
      if (found === 0) {
        i64[value >> 3] = 0n;
        map.updateElem(scratch, value, 1, cpu);
        found = map.lookupElem(scratch, cpu);
      }
      if (found === 0) result.missing++;
      else Atomics.add(i64, found >> 3, 1n);
    }
  },
  // Keys of this thread only, inserted, checked and deleted while the others do the same.
  churn() {
    for (let i = 0; i < rounds; i++) {
      data.setBigUint64(scratch, (BigInt(cpu) << 32n) | BigInt(i % 50), true);
      i64[value >> 3] = BigInt(i) * 4n + BigInt(cpu);
      const error = map.updateElem(scratch, value, 0, cpu);
      if (error === -7) result.full++;
      else if (error === -16) result.busy++;
      const found = map.lookupElem(scratch, cpu);
      if (error === 0 && found === 0) result.missing++;
      else if (found !== 0 && i64[found >> 3] !== BigInt(i) * 4n + BigInt(cpu)) result.wrong++;
      if (i % 3 === 0 && map.deleteElem(scratch, cpu) === 0) result.ok++;
    }
  },
  // Records that say who wrote them and in which order, of changing sizes; every seventh is discarded.
  produce() {
    for (let i = 0; i < rounds; i++) {
      const size = 16 + (i % 13) * 9;
      const payload = map.reserve(size, cpu);
      if (payload === 0) { result.full++; continue; }
      data.setUint32(payload, cpu, true);
      data.setUint32(payload + 4, i, true);
      u8.fill((cpu * 31 + i) & 255, payload + 8, payload + size);
      if (i % 7 === 0) { map.discard(payload); result.missing++; }
      else { map.submit(payload); result.ok++; }
    }
  },
};
JOBS[job]();
parentPort.postMessage(result);
`;

let source = '';
beforeAll(async () => {
  const root = new URL('../..', import.meta.url).pathname;
  const result = await build({
    stdin: { contents: WORKER, resolveDir: root, loader: 'js' },
    bundle: true,
    write: false,
    format: 'cjs',
    platform: 'node',
    target: 'node20',
  });
  source = result.outputFiles[0]!.text;
});

interface Counts {
  ok: number;
  full: number;
  busy: number;
  missing: number;
  wrong: number;
}

function start(spec: MapSpec) {
  const layout = layoutMemory([spec], { ncpu: THREADS });
  const memory = createMemory(layout);
  initMemory(memory, layout);
  const gate = new SharedArrayBuffer(8);
  const run = (job: string, rounds: number): Promise<Counts>[] =>
    Array.from({ length: THREADS }, (_, cpu) => {
      const workerData = { memory, layout, cpu, job, rounds, gate, threads: THREADS };
      const worker = new Worker(source, { eval: true, workerData });
      return new Promise<Counts>((resolve, reject) => {
        worker.on('message', resolve);
        worker.on('error', reject);
      });
    });
  return { layout, memory, run, map: openMap(memory, layout, 0) };
}

const number = (bytes: Uint8Array): bigint => new DataView(bytes.buffer).getBigUint64(0, true);

describe('four threads on one hash', () => {
  it('lose no update of a shared counter, and make every key once', async () => {
    const rounds = 30_000;
    const { run, map } = start({ name: 'counts', type: 'hash', keySize: 8, valueSize: 8, maxEntries: 128 });
    const results = await Promise.all(run('count', rounds));
    expect(results.every(({ missing }) => missing === 0)).toBe(true);
    const entries = [...map.entries()];
    expect(entries.map(({ key }) => number(key)).sort((a, b) => Number(a - b))).toEqual(
      Array.from({ length: 97 }, (_, i) => BigInt(i)),
    );
    const total = entries.reduce((sum, { values }) => sum + number(values[0]!), 0n);
    expect(total).toBe(BigInt(rounds * THREADS));
    for (const { key, values } of entries) {
      const each = Math.ceil((rounds - Number(number(key))) / 97);
      expect(number(values[0]!)).toBe(BigInt(each * THREADS));
    }
  });

  it('keep each its own keys while all insert and delete, and lose no element', async () => {
    // Four times 50 keys fit exactly.
    const { run, map } = start({ name: 'churn', type: 'hash', keySize: 8, valueSize: 8, maxEntries: 200 });
    const running = run('churn', 20_000);
    let isDone = false;
    const done = Promise.all(running).then((results) => {
      isDone = true;
      return results;
    });
    // Meanwhile reading gives whole entries only.
    while (!isDone) {
      const seen = new Set<bigint>();
      for (const { key, values } of map.entries()) {
        expect(Number(number(values[0]!) % 4n)).toBe(Number(number(key) >> 32n));
        seen.add(number(key));
      }
      expect(seen.size).toBeLessThanOrEqual(200);
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
    for (const { full, busy, missing, wrong } of await done) {
      expect({ full, busy, missing, wrong }).toEqual({ full: 0, busy: 0, missing: 0, wrong: 0 });
    }
    // What is left is what the last rounds left, and all other elements are free: they can be filled again.
    const left = [...map.entries()].length;
    expect(left).toBe(map.size);
    map.clear();
    for (let i = 0; i < 200; i++) {
      const key = new Uint8Array(BigUint64Array.of(BigInt(1000 + i)).buffer);
      expect(map.update(key, new Uint8Array(8))).toBe(0);
    }
    expect(map.update(new Uint8Array(8).fill(9), new Uint8Array(8))).toBe(-7);
  });
});

describe('a ring buffer with four producers', () => {
  it('delivers every submitted record once and in order, and counts every other exactly', async () => {
    const rounds = 30_000;
    const { layout, memory, run } = start({
      name: 'ring',
      type: 'ringbuf',
      keySize: 0,
      valueSize: 0,
      maxEntries: 4096,
    });
    const consumer = new RingBufferConsumer(memory, layout.maps[0]!);
    const last = new Array<number>(THREADS).fill(-1);
    const delivered = new Array<number>(THREADS).fill(0);
    const drain = (): number =>
      consumer.drain((view, offset, length) => {
        const cpu = view.getUint32(offset, true);
        const i = view.getUint32(offset + 4, true);
        const isRight = i > last[cpu]! && length === 16 + (i % 13) * 9 && i % 7 !== 0;
        let isFilled = true;
        for (let at = 8; at < length; at++)
          isFilled &&= view.getUint8(offset + at) === ((cpu * 31 + i) & 255);
        if (!isRight || !isFilled) throw new Error(`record ${i} of ${cpu}`);
        last[cpu] = i;
        delivered[cpu]!++;
      });
    let isDone = false;
    const done = Promise.all(run('produce', rounds)).then((results) => {
      isDone = true;
      return results;
    });
    while (!isDone) {
      drain();
      await new Promise((resolve) => setImmediate(resolve));
    }
    const results = await done;
    drain();
    expect(consumer.available).toBe(0);
    expect(delivered).toEqual(results.map(({ ok }) => ok));
    const lost = results.reduce((sum, { full }) => sum + full, 0);
    expect(consumer.lost).toBe(lost);
    for (const { ok, full, missing } of results) expect(ok + full + missing).toBe(rounds);
  });
});
