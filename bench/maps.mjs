// Maps of a machine: operations inside programs, ten million entries, four threads on one map. Contents are checked exactly; as root the
// same tables in the kernel give its memory per entry.
//
//   node bench/maps.mjs [--quick]            needs dist/ (npm run build)

import { readFileSync } from 'node:fs';
import { isMainThread, Worker, workerData } from 'node:worker_threads';
import { quick, row } from './lib/report.mjs';

const bpf = await import(new URL('../dist/bpf/index.js', import.meta.url));
const { assemble, createMachine, jitProgram, openMap, percpuBlock } = bpf;

const ROUNDS = 9;
const ROUND_MS = quick ? 10 : 40;
const ENTRIES = quick ? 500_000 : 10_000_000;
const THREADS = 4;
const PER_THREAD = quick ? 20_000 : 500_000;
const SHARED_KEYS = 97;

const LOOKUP_ADD = (key) => `
  r2 = ${key}
  *(u64 *)(r10 -8) = r2
  r1 = map[idx:0]
  r2 = r10
  r2 += -8
  call bpf_map_lookup_elem
  if r0 == 0 goto none
  r1 = *(u64 *)(r0 +0)
  r1 += 1
  *(u64 *)(r0 +0) = r1
  r0 = 2
  exit
none: r0 = 1
  exit`;

const LOOKUP_UPDATE = `
  r1 = *(u64 *)(r1 +0)
  *(u64 *)(r10 -8) = r1
  r7 = 1
  r1 = map[idx:0]
  r2 = r10
  r2 += -8
  call bpf_map_lookup_elem
  if r0 == 0 goto set
  r7 = *(u64 *)(r0 +0)
  r7 += 1
set: *(u64 *)(r10 -16) = r7
  r1 = map[idx:0]
  r2 = r10
  r2 += -8
  r3 = r10
  r3 += -16
  r4 = 0
  call bpf_map_update_elem
  r0 += 2
  exit`;

/** Looks a key up and adds 1 atomically, or makes it with 1. */
const COUNT = `
  r6 = *(u64 *)(r1 +0)
again: *(u64 *)(r10 -8) = r6
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
  r2 = *(u64 *)(r6 +0)
  *(u64 *)(r10 -8) = r2
  r2 = *(u64 *)(r6 +8)
  *(u64 *)(r10 -16) = r2
  r1 = map[idx:0]
  r2 = r10
  r2 += -8
  r3 = r10
  r3 += -16
  r4 = 0
  call bpf_map_update_elem
  exit`;

const GET = `
  r2 = *(u64 *)(r1 +0)
  *(u64 *)(r10 -8) = r2
  r1 = map[idx:0]
  r2 = r10
  r2 += -8
  call bpf_map_lookup_elem
  if r0 == 0 goto none
  r0 = *(u64 *)(r0 +0)
  exit
none: r0 = -1
  exit`;

function load(machine, map, text) {
  const program = machine.loadProgram({
    name: 'bench',
    type: 'raw_tracepoint',
    insns: assemble(text),
    maps: [map.spec],
    loadedMaps: [map],
  });
  return { program, run: program.entry(0) };
}

let loops = 0;

/** Nanoseconds a call: the lowest of the rounds, and their median; each function has a loop with a text of its own. */
function measure(run, ctx) {
  const text = `let r = ${loops++}; for (let i = 0; i < n; i++) r = run(c); return r;`;
  const loop = new Function('run', 'n', 'c', text);
  let n = 64;
  const elapsed = () => {
    const start = performance.now();
    loop(run, n, ctx);
    return performance.now() - start;
  };
  while (elapsed() < ROUND_MS) n *= 2;
  const rounds = Array.from({ length: ROUNDS }, () => (elapsed() / n) * 1e6).sort((a, b) => a - b);
  return { best: rounds[0], median: rounds[ROUNDS >> 1] };
}

const u64 = (value) => new Uint8Array(BigUint64Array.of(BigInt(value)).buffer);

function operations() {
  const targets = [
    ['array: lookup, add', { type: 'array', keySize: 4, valueSize: 8, maxEntries: 256 }, LOOKUP_ADD('2'), 10],
    [
      'hash: lookup, add',
      { type: 'hash', keySize: 8, valueSize: 8, maxEntries: 1024 },
      LOOKUP_ADD('*(u64 *)(r1 +0)'),
      20,
    ],
    ['hash: lookup, update', { type: 'hash', keySize: 8, valueSize: 8, maxEntries: 1024 }, LOOKUP_UPDATE, 40],
    [
      'hash without preallocation: lookup, update',
      { type: 'hash', keySize: 8, valueSize: 8, maxEntries: 1024, flags: 1 },
      LOOKUP_UPDATE,
    ],
    [
      'lru_hash: lookup, add',
      { type: 'lru_hash', keySize: 8, valueSize: 8, maxEntries: 1024 },
      LOOKUP_ADD('*(u64 *)(r1 +0)'),
    ],
    [
      'lru_hash: lookup, update',
      { type: 'lru_hash', keySize: 8, valueSize: 8, maxEntries: 1024 },
      LOOKUP_UPDATE,
    ],
  ];
  const empty = createMachine();
  const any = empty.createMap({ name: 'm', type: 'array', keySize: 4, valueSize: 8, maxEntries: 1 });
  const call = measure(load(empty, any, 'r0 = 0\n exit').run, 0);
  console.log(`an empty program: ${call.best.toFixed(1)} ns (median ${call.median.toFixed(1)})`);
  for (const [name, spec, text, limit] of targets) {
    const machine = createMachine();
    const map = machine.createMap({ name: 'm', ...spec });
    const ctx = machine.alloc(64);
    new Uint8Array(machine.memory.buffer).set(u64(0x10002), ctx);
    if (spec.keySize === 8) {
      for (let k = 1; k <= 512; k++) map.update(u64(k * 0x10001), u64(0));
      map.update(u64(0x10002), u64(0));
    }
    const { run } = load(machine, map, text);
    const { best, median } = measure(run, ctx);
    // Exactly as many increments as runs.
    const key = spec.keySize === 8 ? u64(0x10002) : Uint8Array.of(2, 0, 0, 0);
    const count = () => new DataView(map.lookup(key).buffer).getBigUint64(0, true);
    const before = count();
    for (let i = 0; i < 10_000; i++) run(ctx);
    row({
      name,
      value: best,
      unit: 'ns',
      ...(limit === undefined ? {} : { limit }),
      spread: [best, median],
      exact: count() - before === 10_000n,
      note: 'best of the rounds, and their median; with the call from JavaScript',
    });
  }
}

/** RSS, in bytes. */
const rss = () => Number(readFileSync('/proc/self/statm', 'latin1').split(' ')[1]) * 4096;

function millions(name, flags) {
  globalThis.gc?.();
  const rssBefore = rss();
  const machine = createMachine();
  const usedBefore = machine.memory.buffer.byteLength;
  const map = machine.createMap({
    name: 'large',
    type: 'hash',
    keySize: 8,
    valueSize: 8,
    maxEntries: ENTRIES,
    flags,
  });
  const created = machine.memory.buffer.byteLength - usedBefore;
  const rssCreated = rss() - rssBefore;
  const ctx = machine.alloc(64);
  let view = new DataView(machine.memory.buffer);
  const put = load(machine, map, PUT).run;
  const get = load(machine, map, GET).run;
  const keyOf = (i) => Math.imul(i, 0x9e3779b1) >>> 0;
  const timed = (action) => {
    const start = performance.now();
    action();
    return ((performance.now() - start) * 1e6) / ENTRIES;
  };
  let wrong = 0;
  const build = timed(() => {
    for (let i = 0; i < ENTRIES; i++) {
      view.setUint32(ctx, keyOf(i), true);
      view.setUint32(ctx + 4, i, true);
      view.setUint32(ctx + 8, i, true);
      if (put(ctx) !== 0) wrong++;
    }
  });
  view = new DataView(machine.memory.buffer);
  const lookup = timed(() => {
    for (let i = 0; i < ENTRIES; i++) {
      view.setUint32(ctx, keyOf(i), true);
      view.setUint32(ctx + 4, i, true);
      if (get(ctx) !== i) wrong++;
    }
  });
  const rssFull = rss() - rssBefore;
  let seen = 0;
  let sum = 0;
  const iterate = timed(() => {
    for (const { values } of map.entries()) {
      seen++;
      sum += values[0][0] | (values[0][1] << 8) | (values[0][2] << 16) | (values[0][3] << 24);
    }
  });
  let batched = 0;
  const batch = timed(() => {
    let inBatch;
    for (;;) {
      const result = map.lookupBatch(4096, { inBatch });
      batched += result.count;
      if (result.error !== 0) break;
      inBatch = result.outBatch;
    }
  });
  const exact =
    wrong === 0 &&
    seen === ENTRIES &&
    batched === ENTRIES &&
    sum === ((ENTRIES - 1) * ENTRIES) / 2 &&
    map.size === ENTRIES;
  const print = (what, value, unit = 'ns', note) =>
    row({
      name: `${name}, ${ENTRIES / 1e6} million: ${what}`,
      value,
      unit,
      exact,
      ...(note === undefined ? {} : { note }),
    });
  print('insert', build);
  print('look up', lookup);
  print('iterate', iterate);
  print('batches of 4096', batch);
  const reserved = machine.memory.buffer.byteLength - usedBefore;
  print(
    'memory an entry',
    rssFull / ENTRIES,
    'bytes',
    `resident; ${(reserved / ENTRIES).toFixed(1)} of address space; empty ${(created / 1e6).toFixed(0)} MB of address space, ${(rssCreated / 1e6).toFixed(0)} MB resident`,
  );
}

async function threads() {
  const machine = createMachine({ ncpu: THREADS });
  const map = machine.createMap({ name: 'shared', type: 'hash', keySize: 8, valueSize: 8, maxEntries: 4096 });
  const { program } = load(machine, map, COUNT);
  const gate = new SharedArrayBuffer(8);
  const layout = { ...machine.layout, maps: [map.placed] };
  const { wasm } = jitProgram(program.verified, layout);
  const start = performance.now();
  const results = await Promise.all(
    Array.from({ length: THREADS }, (_, cpu) => {
      const data = { memory: machine.memory, layout, cpu, wasm, gate, count: PER_THREAD };
      const worker = new Worker(new URL(import.meta.url), { workerData: data });
      return new Promise((resolve, reject) => {
        worker.on('message', resolve);
        worker.on('error', reject);
      });
    }),
  );
  const elapsed = performance.now() - start;
  let total = 0n;
  for (const { values } of map.entries()) total += new DataView(values[0].buffer).getBigUint64(0, true);
  const failed = results.reduce((sum, one) => sum + one.retried, 0);
  row({
    name: `${THREADS} threads, one hash, ${SHARED_KEYS} keys: lost updates`,
    value: THREADS * PER_THREAD - Number(total),
    unit: '',
    limit: 0,
    exact: Number(total) === THREADS * PER_THREAD && map.size === SHARED_KEYS,
    note: `${THREADS * PER_THREAD} increments, ${failed} inserts that another thread made first; ${((Math.max(...results.map((one) => one.ms)) * 1e6) / PER_THREAD).toFixed(0)} ns each, ${elapsed.toFixed(0)} ms with the start of the threads`,
  });
}

async function thread() {
  const { parentPort } = await import('node:worker_threads');
  const { memory, layout, cpu, wasm, gate, count } = workerData;
  openMap(memory, layout, 0);
  const { ctx } = percpuBlock(layout, cpu);
  const refuse = () => 0n;
  const { exports } = new WebAssembly.Instance(new WebAssembly.Module(wasm), {
    env: { memory, cpu: new WebAssembly.Global({ value: 'i32' }, cpu) },
    helper: { map_lookup_elem_dyn: () => 0, map_update_elem_dyn: refuse, map_delete_elem_dyn: refuse },
  });
  const view = new DataView(memory.buffer);
  const words = new Int32Array(gate);
  Atomics.add(words, 0, 1);
  while (Atomics.load(words, 0) < THREADS);
  const start = performance.now();
  let retried = 0;
  const argument = BigInt(ctx);
  for (let i = 0; i < count; i++) {
    view.setUint32(ctx, i % SHARED_KEYS, true);
    view.setUint32(ctx + 4, 0, true);
    // Another thread may make the key first: then it is there.
    while (exports.run64(argument, 0n) !== 0n) retried++;
  }
  parentPort.postMessage({ retried, ms: performance.now() - start });
}

if (isMainThread) {
  operations();
  millions('hash', 0);
  millions('hash without preallocation', 1);
  await threads();
} else await thread();
