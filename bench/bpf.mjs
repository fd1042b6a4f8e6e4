// The eBPF engine on ten small workloads: the compiled program, the interpreter, and the same thing written in JavaScript
// (a Map, typed arrays, BigInt where 64 bits are needed). Every engine's result is checked against the known one.
//
//   node bench/bpf.mjs            needs dist/ (npm run build)

import { row } from './lib/report.mjs';

const bpf = await import(new URL('../dist/bpf/index.js', import.meta.url));
const {
  assemble,
  createMemory,
  initMemory,
  interpretProgram,
  jitProgram,
  layoutMemory,
  openMap,
  verifyProgram,
} = bpf;

const ROUNDS = 7;
const ROUND_MS = 40;

// A TCP segment in an Ethernet frame; in the sums, the buffer is 4 KiB of i * 31 + 7.
const FRAME = Uint8Array.from([
  0x02, 0x11, 0x22, 0x33, 0x44, 0x55, 0x02, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0x08, 0x00, 0x45, 0, 0, 50, 0x12,
  0x34, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 0xc0, 0x01, 0x01, 0xbb, 1, 2, 3, 4, 5, 6, 7, 8, 0x50,
  0x18, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
]);
const SUMS = Uint8Array.from({ length: 4096 }, (_, i) => i * 31 + 7);

const MAPS = [
  { name: 'buffer', type: 'array', keySize: 4, valueSize: 4096, maxEntries: 1 },
  { name: 'hash', type: 'hash', keySize: 8, valueSize: 8, maxEntries: 1024 },
  { name: 'array', type: 'array', keySize: 4, valueSize: 8, maxEntries: 256 },
  { name: 'log2', type: 'array', keySize: 4, valueSize: 8, maxEntries: 64 },
];

const INPUT = 'r6 = map[idx:0][0]+0\n';
const FOLD = 'r1 = r0\n r1 >>= 32\n r0 ^= r1\n r0 <<= 32\n r0 >>= 32\n exit';
/** rN = rotl(rN, count), as compilers write it. */
const rotl = (reg, count) => `r9 = ${reg}\n r9 <<= ${count}\n ${reg} >>= ${64 - count}\n ${reg} |= r9\n`;
const sum = (bytes, step) => `${INPUT}
  r0 = 0
  r2 = 0
loop: r3 = r6
  r3 += r2
  r4 = *(u${bytes * 8} *)(r3 +0)
  r0 += r4
  r2 += ${step}
  if r2 < 4096 goto loop
  ${FOLD}`;

const mask = (1n << 64n) - 1n;
const view = (bytes) => new DataView(bytes.buffer);
const fold = (x) => Number((x ^ (x >> 32n)) & 0xffffffffn);
const rot = (x, n) => ((x << n) | (x >> (64n - n))) & mask;

const jsHash = new Map();
const jsArray = new BigUint64Array(256);
const jsLog2 = new BigUint64Array(64);

const WORKLOADS = [
  { name: 'empty', result: 0, asm: 'r0 = 0\n exit', js: () => 0 },
  {
    name: 'xorshift × 64',
    result: 518022890,
    asm: `${INPUT}
      r0 = *(u64 *)(r6 +0)
      r2 = 0
      r3 = 0x2545F4914F6CDD1D ll
loop: r1 = r0
      r1 >>= 12
      r0 ^= r1
      r1 = r0
      r1 <<= 25
      r0 ^= r1
      r1 = r0
      r1 >>= 27
      r0 ^= r1
      r0 *= r3
      r0 += r2
      r2 += 1
      if r2 != 64 goto loop
      ${FOLD}`,
    js() {
      let x = view(FRAME).getBigUint64(0, true);
      for (let i = 0n; i < 64n; i++) {
        x ^= x >> 12n;
        x = (x ^ (x << 25n)) & mask;
        x ^= x >> 27n;
        x = (x * 0x2545f4914f6cdd1dn + i) & mask;
      }
      return fold(x);
    },
  },
  {
    name: 'SipRound × 64',
    result: 4142376153,
    asm: `${INPUT}
      r1 = *(u64 *)(r6 +0)
      r2 = *(u64 *)(r6 +8)
      r3 = 0x736f6d6570736575 ll
      r3 ^= r1
      r4 = 0x646f72616e646f6d ll
      r4 ^= r2
      r5 = 0x6c7967656e657261 ll
      r5 ^= r1
      r7 = 0x7465646279746573 ll
      r7 ^= r2
      r8 = 0
loop: r3 += r4
      ${rotl('r4', 13)} r4 ^= r3
      ${rotl('r3', 32)} r5 += r7
      ${rotl('r7', 16)} r7 ^= r5
      r3 += r7
      ${rotl('r7', 21)} r7 ^= r3
      r5 += r4
      ${rotl('r4', 17)} r4 ^= r5
      ${rotl('r5', 32)} r8 += 1
      if r8 != 64 goto loop
      r0 = r3
      r0 ^= r4
      r0 ^= r5
      r0 ^= r7
      ${FOLD}`,
    js() {
      const k0 = view(FRAME).getBigUint64(0, true);
      const k1 = view(FRAME).getBigUint64(8, true);
      let v0 = 0x736f6d6570736575n ^ k0;
      let v1 = 0x646f72616e646f6dn ^ k1;
      let v2 = 0x6c7967656e657261n ^ k0;
      let v3 = 0x7465646279746573n ^ k1;
      for (let i = 0; i < 64; i++) {
        v0 = (v0 + v1) & mask;
        v1 = rot(v1, 13n) ^ v0;
        v0 = rot(v0, 32n);
        v2 = (v2 + v3) & mask;
        v3 = rot(v3, 16n) ^ v2;
        v0 = (v0 + v3) & mask;
        v3 = rot(v3, 21n) ^ v0;
        v2 = (v2 + v1) & mask;
        v1 = rot(v1, 17n) ^ v2;
        v2 = rot(v2, 32n);
      }
      return fold(v0 ^ v1 ^ v2 ^ v3);
    },
  },
  {
    name: 'parse a frame',
    result: 3380191976,
    asm: `${INPUT}
      r0 = 2
      r1 = *(u16 *)(r6 +12)
      if r1 != 8 goto out
      r1 = *(u8 *)(r6 +14)
      r2 = r1
      r2 >>= 4
      r0 = 4
      if r2 != 4 goto out
      r1 &= 15
      r1 <<= 2
      r0 = 5
      if r1 < 20 goto out
      r2 = *(u16 *)(r6 +20)
      r2 &= 0xff3f
      r0 = 6
      if r2 != 0 goto out
      r7 = r6
      r7 += r1
      r1 = *(u8 *)(r6 +23)
      *(u8 *)(r10 -4) = r1
      r2 = *(u32 *)(r6 +26)
      *(u32 *)(r10 -16) = r2
      r2 = *(u32 *)(r6 +30)
      *(u32 *)(r10 -12) = r2
      if r1 == 6 goto ports
      r0 = 8
      if r1 != 17 goto out
ports: r2 = *(u16 *)(r7 +14)
      r2 = be16 r2
      *(u16 *)(r10 -8) = r2
      r2 = *(u16 *)(r7 +16)
      r2 = be16 r2
      *(u16 *)(r10 -6) = r2
      r0 = *(u32 *)(r10 -16)
      w0 *= 0x9E3779B1
      r1 = *(u32 *)(r10 -12)
      w0 ^= w1
      w0 *= 0x85EBCA6B
      r1 = *(u16 *)(r10 -8)
      w1 <<= 16
      r2 = *(u16 *)(r10 -6)
      w1 |= w2
      w0 ^= w1
      w0 *= 0xC2B2AE35
      r1 = *(u8 *)(r10 -4)
      w0 ^= w1
      w1 = w0
      w1 >>= 16
      w0 ^= w1
out:  exit`,
    js() {
      const data = view(FRAME);
      if (data.getUint16(12) !== 0x0800) return 2;
      if (FRAME[14] >> 4 !== 4) return 4;
      const header = (FRAME[14] & 15) * 4;
      if (header < 20) return 5;
      if ((data.getUint16(20) & 0x3fff) !== 0) return 6;
      const protocol = FRAME[23];
      if (protocol !== 6 && protocol !== 17) return 8;
      let h = Math.imul(data.getUint32(26, true), 0x9e3779b1) ^ data.getUint32(30, true);
      h = Math.imul(h, 0x85ebca6b) ^ ((data.getUint16(14 + header) << 16) | data.getUint16(16 + header));
      h = Math.imul(h, 0xc2b2ae35) ^ protocol;
      return (h ^ (h >>> 16)) >>> 0;
    },
  },
  {
    name: 'array: lookup, increment',
    result: 2,
    asm: `${INPUT}
      r1 = *(u32 *)(r6 +0)
      r1 &= 255
      *(u32 *)(r10 -4) = r1
      r1 = map[idx:2]
      r2 = r10
      r2 += -4
      call bpf_map_lookup_elem
      if r0 == 0 goto none
      r1 = *(u64 *)(r0 +0)
      r1 += 1
      *(u64 *)(r0 +0) = r1
      r0 = 2
      exit
none: r0 = 1
      exit`,
    js() {
      jsArray[view(FRAME).getUint32(0, true) & 255]++;
      return 2;
    },
    count: ({ map }) => map(2).lookup(Uint8Array.of(2, 0, 0, 0)),
  },
  {
    name: 'array: lookup, atomic add',
    result: 2,
    asm: `${INPUT}
      r1 = *(u32 *)(r6 +0)
      r1 &= 127
      *(u32 *)(r10 -4) = r1
      r1 = map[idx:2]
      r2 = r10
      r2 += -4
      call bpf_map_lookup_elem
      if r0 == 0 goto none
      r1 = 1
      lock *(u64 *)(r0 +0) += r1
      r0 = 2
      exit
none: r0 = 1
      exit`,
    js() {
      Atomics.add(jsArray, view(FRAME).getUint32(0, true) & 127, 1n);
      return 2;
    },
  },
  {
    name: 'hash: lookup, increment',
    result: 2,
    asm: `${INPUT}
      r1 = *(u64 *)(r6 +0)
      *(u64 *)(r10 -8) = r1
      r1 = map[idx:1]
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
      exit`,
    js() {
      const value = jsHash.get(view(FRAME).getBigUint64(0, true));
      if (value === undefined) return 1;
      value.n++;
      return 2;
    },
    count: ({ map }) => map(1).lookup(FRAME.slice(0, 8)),
  },
  {
    name: 'hash: lookup, update',
    result: 2,
    asm: `${INPUT}
      r1 = *(u64 *)(r6 +0)
      *(u64 *)(r10 -8) = r1
      r7 = 1
      r1 = map[idx:1]
      r2 = r10
      r2 += -8
      call bpf_map_lookup_elem
      if r0 == 0 goto set
      r7 = *(u64 *)(r0 +0)
      r7 += 1
set:  *(u64 *)(r10 -16) = r7
      r1 = map[idx:1]
      r2 = r10
      r2 += -8
      r3 = r10
      r3 += -16
      r4 = 0
      call bpf_map_update_elem
      r0 += 2
      exit`,
    js() {
      const key = view(FRAME).getBigUint64(0, true);
      const value = jsHash.get(key);
      jsHash.set(key, { n: (value?.n ?? 0) + 1 });
      return 2;
    },
    count: ({ map }) => map(1).lookup(FRAME.slice(0, 8)),
  },
  {
    name: 'sum of 512 u64',
    input: SUMS,
    result: 4193908993,
    asm: sum(8, 8),
    js() {
      let s = 0n;
      const words = new BigUint64Array(SUMS.buffer);
      for (let i = 0; i < 512; i++) s += words[i];
      return fold(s & mask);
    },
  },
  {
    name: 'sum of 4096 u8',
    input: SUMS,
    result: 522240,
    asm: sum(1, 1),
    js() {
      let s = 0;
      for (let i = 0; i < 4096; i++) s += SUMS[i];
      return s;
    },
  },
  {
    name: 'log2 histogram',
    result: 65,
    asm: `${INPUT}
      r1 = *(u64 *)(r6 +0)
      r7 = 0
      r2 = r1
      r2 >>= 32
      if r2 == 0 goto low
      r1 = r2
      r7 = 32
low:  w1 = w1
      ${[16, 8, 4, 2, 1]
        .map((s) => `r2 = r1\n r2 >>= ${s}\n if r2 == 0 goto under${s}\n r1 = r2\n r7 += ${s}\nunder${s}:`)
        .join('\n')}
      r7 &= 63
      *(u32 *)(r10 -4) = r7
      r1 = map[idx:3]
      r2 = r10
      r2 += -4
      call bpf_map_lookup_elem
      if r0 == 0 goto none
      r1 = 1
      lock *(u64 *)(r0 +0) += r1
      r0 = r7
      r0 += 2
      exit
none: r0 = 1
      exit`,
    js() {
      const data = view(FRAME);
      const high = data.getUint32(4, true);
      const k = high === 0 ? 31 - Math.clz32(data.getUint32(0, true)) : 63 - Math.clz32(high);
      jsLog2[k]++;
      return 2 + k;
    },
  },
];

const layout = layoutMemory(MAPS, { ncpu: 1 });
const memory = createMemory(layout);
initMemory(memory, layout);
const map = (index) => openMap(memory, layout, index);
const bytes = new Uint8Array(memory.buffer);
const bufferAt = layout.maps[0].address + layout.maps[0].geometry.data;

const u64 = (value) => new Uint8Array(BigUint64Array.of(value).buffer);
for (let k = 1n; k <= 512n; k++) {
  map(1).update(u64(k * 0x10001n), u64(1n));
  jsHash.set(k * 0x10001n, { n: 1 });
}
map(1).update(FRAME.slice(0, 8), u64(1n));
jsHash.set(view(FRAME).getBigUint64(0, true), { n: 1 });

function compile(workload) {
  const program = verifyProgram({
    name: 'bench',
    type: 'kprobe',
    insns: assemble(workload.asm),
    maps: MAPS,
    ctx: { size: 8, access: () => 'scalar' },
  });
  const { wasm } = jitProgram(program, layout);
  const { exports } = new WebAssembly.Instance(new WebAssembly.Module(wasm), {
    env: { memory, cpu: new WebAssembly.Global({ value: 'i32' }, 0) },
  });
  return {
    run: exports.run,
    interpret: () => Number(interpretProgram(program, layout, memory, 0n).run() & 0xffffffffn),
  };
}

let loops = 0;

/**
 * Nanoseconds a call, the median of the rounds. Each function is called from a loop with a text of its own: one text would share
 * its type feedback, and V8 calls a Wasm export directly only from a place that has seen no other.
 */
function measure(run) {
  const text = `let r = ${loops++}; for (let i = 0; i < n; i++) r ^= run(0); return r;`;
  const loop = new Function('run', 'n', text);
  let n = 16;
  const elapsed = () => {
    const start = performance.now();
    loop(run, n);
    return performance.now() - start;
  };
  while (elapsed() < ROUND_MS) n *= 2;
  const rounds = Array.from({ length: ROUNDS }, () => (elapsed() / n) * 1e6);
  return rounds.sort((a, b) => a - b)[ROUNDS >> 1];
}

let failed = 0;
const measured = [];
console.log(`${process.version}; ns a run, median of ${ROUNDS} rounds, including the call from JavaScript\n`);
console.log('workload                      JIT   JavaScript    ratio  interpreter');
for (const workload of WORKLOADS) {
  bytes.fill(0, bufferAt, bufferAt + 4096);
  bytes.set(workload.input ?? FRAME, bufferAt);
  const { run, interpret } = compile(workload);
  for (const [engine, result] of [
    ['JIT', run(0) >>> 0],
    ['interpreter', interpret()],
    ['JavaScript', workload.js()],
  ]) {
    if (result === workload.result) continue;
    failed++;
    console.log(`${workload.name}: ${engine} gave ${result}, expected ${workload.result}`);
  }
  if (workload.count !== undefined) {
    // Exactly as many increments as runs.
    const before = new BigUint64Array(workload.count({ map }).slice().buffer)[0];
    for (let i = 0; i < 100_000; i++) run(0);
    const after = new BigUint64Array(workload.count({ map }).slice().buffer)[0];
    if (after - before !== 100_000n) {
      failed++;
      console.log(`${workload.name}: ${after - before} increments in 100000 runs`);
    }
  }
  const jit = measure(run);
  const js = measure(workload.js);
  const interpreted = measure(interpret);
  measured.push({ jit, js, interpreted });
  const cell = (value, width) => value.toFixed(value < 100 ? 1 : 0).padStart(width);
  console.log(
    `${workload.name.padEnd(26)}${cell(jit, 7)}${cell(js, 13)}${`${(js / jit).toFixed(1)}×`.padStart(9)}${cell(interpreted, 13)}`,
  );
}
const mean = (get) => Math.exp(measured.reduce((sum, one) => sum + Math.log(get(one)), 0) / measured.length);
row({
  name: `eBPF engine: ${WORKLOADS.length} standard workloads, geometric mean`,
  value: mean(({ jit }) => jit),
  unit: 'ns',
  exact: failed === 0,
  note: `the same in JavaScript takes ${mean(({ jit, js }) => js / jit).toFixed(1)} times as long, the interpreter ${mean(({ jit, interpreted }) => interpreted / jit).toFixed(0)} times; every result checked`,
});
if (failed > 0) process.exitCode = 1;
