/** Programs of one machine in several threads at once: no update is lost, tables grow, nothing is seen twice. */
import { Worker } from 'node:worker_threads';
import { build } from 'esbuild';
import { beforeAll, describe, expect, it } from 'vitest';
import {
  type Arena,
  assemble,
  createMachine,
  type LoadedMap,
  MACHINE_KFUNCS,
  MAP_FLAG,
  type MapSpec,
} from '../../src/bpf/index.ts';

const THREADS = 4;
const kfunc = (name: string): string =>
  `call kernel-function#${MACHINE_KFUNCS.find((one) => one.name === name)!.id}`;

const WORKER = `
import { parentPort, workerData } from 'node:worker_threads';
import { attachMachine } from './src/bpf/machine/attach.ts';
import { percpuBlock } from './src/bpf/layout.ts';
import { viewMemory } from './src/bpf/maps/memory-view.ts';

const { shared, cpu, program, rounds, keys, own } = workerData;
const machine = attachMachine(shared, { cpu });
const { ctx } = percpuBlock(machine.layout, cpu);
const gate = new Int32Array(workerData.gate);
Atomics.add(gate, 0, 1);
while (Atomics.load(gate, 0) < workerData.threads) Atomics.wait(gate, 1, 0, 1);
const results = {};
for (let i = 0; i < rounds; i++) {
  const { data } = viewMemory(machine.memory);
  data.setUint32(ctx, own ? i : i % keys, true);
  data.setUint32(ctx + 4, own ? cpu : 0, true);
  data.setUint32(ctx + 8, i, true);
  data.setUint32(ctx + 12, cpu, true);
  let result = String(BigInt.asIntN(32, machine.run(program, ctx)));
  // On a loaded machine the holder of a lock may not run for long: -EBUSY, nothing was done.
  while (result === '-16') result = String(BigInt.asIntN(32, machine.run(program, ctx)));
  results[result] = (results[result] ?? 0) + 1;
}
parentPort.postMessage(results);
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

/** Adds 1 to the key's value, or makes it; -17 where another thread made it first. */
const COUNT = `
  r6 = *(u64 *)(r1 +0)
  *(u64 *)(r10 -8) = r6
  r1 = map[idx:0]
  r2 = r10
  r2 += -8
  call bpf_map_lookup_elem
  if r0 == 0 goto make
  r1 = 1
  lock *(u64 *)(r0 +0) += r1
  r0 = 0
  exit
make: r1 = 1
  *(u64 *)(r10 -16) = r1
  r1 = map[idx:0]
  r2 = r10
  r2 += -8
  r3 = r10
  r3 += -16
  r4 = 1
  call bpf_map_update_elem
  exit`;

const PUT = `
  r6 = r1
  r1 = *(u64 *)(r6 +0)
  *(u64 *)(r10 -8) = r1
  r1 = *(u64 *)(r6 +8)
  *(u64 *)(r10 -16) = r1
  r1 = map[idx:0]
  r2 = r10
  r2 += -8
  r3 = r10
  r3 += -16
  r4 = 0
  call bpf_map_update_elem
  exit`;

const PUSH = `
  r2 = *(u64 *)(r1 +8)
  *(u64 *)(r10 -8) = r2
  r1 = map[idx:0]
  r2 = r10
  r2 += -8
  r3 = 0
  call 87
  exit`;

/** Two pages, with the thread's number across both; one more in the arena's first page; 1 where the number is not found again. */
const PAGES = `
  r6 = *(u64 *)(r1 +8)
  r1 = map[idx:0]
  r2 = 0
  r3 = 2
  r4 = -1
  r5 = 0
  ${kfunc('bpf_arena_alloc_pages')}
  if r0 == 0 goto none
  r8 = r0
  r7 = addr_space_cast(r0, 0, 1)
  *(u64 *)(r7 +4092) = r6
  r1 = map[idx:0][0]+0
  r1 = addr_space_cast(r1, 0, 1)
  r2 = 1
  lock *(u64 *)(r1 +0) += r2
  r9 = *(u64 *)(r7 +4092)
  r1 = map[idx:0]
  r2 = r8
  r3 = 2
  ${kfunc('bpf_arena_free_pages')}
  r0 = 1
  if r9 != r6 goto out
  r0 = 0
out: exit
none: r0 = 2
  exit`;

async function run(
  spec: MapSpec,
  text: string,
  options: { rounds: number; keys?: number; own?: boolean },
  meanwhile: (map: LoadedMap) => void = () => {},
  before: (map: LoadedMap) => void = () => {},
) {
  const machine = createMachine({ ncpu: THREADS });
  const map = machine.createMap(spec);
  before(map);
  const program = machine.loadProgram({
    name: 'thread',
    type: spec.type === 'arena' ? 'syscall' : 'raw_tracepoint',
    insns: assemble(text),
    maps: [spec],
    kfuncs: MACHINE_KFUNCS,
    loadedMaps: [map],
  });
  const shared = machine.share();
  const gate = new SharedArrayBuffer(8);
  let isDone = false;
  const done = Promise.all(
    Array.from({ length: THREADS }, (_, cpu) => {
      const workerData = {
        shared,
        cpu,
        program: program.id,
        gate,
        threads: THREADS,
        keys: 1,
        own: false,
        ...options,
      };
      const worker = new Worker(source, { eval: true, workerData });
      return new Promise<Record<string, number>>((resolve, reject) => {
        worker.on('message', resolve);
        worker.on('error', reject);
      });
    }),
  ).finally(() => {
    isDone = true;
  });
  while (!isDone) {
    meanwhile(map);
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
  const results: Record<string, number> = {};
  for (const one of await done) {
    for (const [result, count] of Object.entries(one)) results[result] = (results[result] ?? 0) + count;
  }
  return { machine, map, results };
}

const number = (bytes: Uint8Array): number =>
  Number(new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(0, true));
const hash: MapSpec = { name: 'h', type: 'hash', keySize: 8, valueSize: 8, maxEntries: 100_000 };

describe('four threads on one map', () => {
  it.each([
    ['preallocated', 0],
    ['not preallocated', MAP_FLAG.BPF_F_NO_PREALLOC],
  ])('lose no update: a hash that is %s', async (_, flags) => {
    const rounds = 20_000;
    const keys = 97;
    const { map, results } = await run({ ...hash, flags }, COUNT, { rounds, keys });
    // Every call added 1, but for those that were too late to make a key.
    expect(Object.keys(results).every((result) => result === '0' || result === '-17')).toBe(true);
    const late = results['-17'] ?? 0;
    const total = [...map.entries()].reduce((sum, { values }) => sum + number(values[0]!), 0);
    expect(total + late).toBe(rounds * THREADS);
    expect(map.size).toBe(keys);
  });

  it('grow a table together, while others go through it', async () => {
    const rounds = 15_000;
    const { map, machine, results } = await run(
      { ...hash, flags: MAP_FLAG.BPF_F_NO_PREALLOC },
      PUT,
      { rounds, own: true },
      (table) => {
        const seen = new Set<string>();
        for (const { key, values } of table.entries()) {
          const text = key.join();
          if (seen.has(text)) throw new Error(`${text} twice`);
          seen.add(text);
          // Whole entries only: the value has the key's thread.
          if (values[0]![4] !== key[4]) throw new Error(`${text}: ${values[0]!.join()}`);
        }
      },
    );
    expect(results).toEqual({ 0: rounds * THREADS });
    expect(map.size).toBe(rounds * THREADS);
    const keys = new Set<string>();
    for (const { key, values } of map.entries()) {
      expect(number(values[0]!)).toBe(number(key));
      keys.add(key.join());
    }
    expect(keys.size).toBe(rounds * THREADS);
    expect(machine.memory.buffer.byteLength).toBeGreaterThan(rounds * THREADS * 24);
  });

  it('have pages of an arena for themselves', async () => {
    const rounds = 5_000;
    const { map, results } = await run(
      { name: 'a', type: 'arena', keySize: 0, valueSize: 0, maxEntries: 9, flags: MAP_FLAG.BPF_F_MMAPABLE },
      PAGES,
      { rounds },
      () => {},
      (arena) => (arena as Arena).write((arena as Arena).userStart, new Uint8Array(8)),
    );
    const arena = map as Arena;
    expect(results).toEqual({ 0: rounds * THREADS });
    expect(number(arena.read(arena.userStart, 8))).toBe(rounds * THREADS);
    expect(arena.pages).toBe(1);
  });

  it('never fill an LRU', async () => {
    const rounds = 5_000;
    const { map, results } = await run({ ...hash, type: 'lru_hash', maxEntries: 64 }, PUT, {
      rounds,
      own: true,
    });
    expect(results).toEqual({ 0: rounds * THREADS });
    expect([...map.entries()].length).toBe(map.size);
    expect(map.size).toBeLessThanOrEqual(64);
    expect(map.size).toBeGreaterThan(32);
    for (const { key, values } of map.entries()) expect(number(values[0]!)).toBe(number(key));
  });

  it('build one trie', async () => {
    const rounds = 1_500;
    const trie: MapSpec = {
      name: 't',
      type: 'lpm_trie',
      keySize: 8,
      valueSize: 8,
      maxEntries: 10_000,
      flags: MAP_FLAG.BPF_F_NO_PREALLOC,
    };
    // The key's first word is the prefix length here, of which there are 33.
    const { map, results } = await run(trie, PUT, { rounds, keys: 33 });
    expect(results).toEqual({ 0: rounds * THREADS });
    expect(map.size).toBe(33);
    expect([...map.entries()].length).toBe(33);
  });

  it('push to one queue, each in its order', async () => {
    const rounds = 3_000;
    const queue: MapSpec = {
      name: 'q',
      type: 'queue',
      keySize: 0,
      valueSize: 8,
      maxEntries: rounds * THREADS,
    };
    const { map, results } = await run(queue, PUSH, { rounds });
    expect(results).toEqual({ 0: rounds * THREADS });
    const last = new Array<number>(THREADS).fill(-1);
    for (const { values } of map.entries()) {
      const view = new DataView(values[0]!.buffer);
      const cpu = view.getUint32(4, true);
      expect(view.getUint32(0, true)).toBe(last[cpu]! + 1);
      last[cpu]!++;
    }
    expect(last).toEqual(new Array(THREADS).fill(rounds - 1));
  });
});
