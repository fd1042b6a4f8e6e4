// Ten small XDP programs in C, from one source each: compiled here and by the kernel's JIT from the same object, by gcc -O2 as native
// code, and in the interpreter. Interleaved rounds, the least of each; every result is checked.
//
//   node bench/bpf-kernel.mjs [SOURCES]     default $TRAPLINE_SHARED/bench/bpf, else ../shared/bench/bpf beside the project
//
// Needs dist/, clang with the bpf target and, for the other columns, gcc and root on Linux (what is missing is left out). A source
// includes common.h, which with -DKERNEL makes an XDP program of it and with -DNATIVE a function `u64 prog(u8 *data, u64 length)`.
// TRAPLINE_UBPF names a folder with ubpf's include/ubpf.h and lib/libubpf.a: its JIT is then a further column (-DUSER: the same function
// as eBPF, helpers 1 and 2 being lookup and update).

import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { kernelOracle } from './lib/kernel.mjs';
import { quick, row } from './lib/report.mjs';

const root = path.dirname(path.dirname(fileURLToPath(import.meta.url)));
const shared = process.env.TRAPLINE_SHARED ?? path.join(root, '..', 'shared');
const given = process.argv.slice(2).find((argument) => !argument.startsWith('-'));
const sources = path.resolve(given ?? path.join(shared, 'bench/bpf'));
const bpf = await import(new URL('../dist/bpf/index.js', import.meta.url));

const WORKLOADS = [
  ['a_empty', 0],
  ['b1_xorshift', 518022890],
  ['b2_sip', 4142376153],
  ['c_parse', 3380191976],
  ['d1_array', 2],
  ['d2_hash_lookup', 2],
  ['d3_hash_update', 2],
  ['e_sum_u64', 4193908993],
  ['e_sum_u8', 522240],
  ['f_hist', 65],
];
const ROUNDS = quick ? 3 : 9;
const ROUND_MS = quick ? 5 : 25;
const KERNEL_ROUND_MS = quick ? 60 : 250;
const KERNEL_LOADS = 5;
const XDP = 6;
const MAP_TYPES = { hash: 1, array: 2 };

// A TCP segment in an Ethernet frame, as the sources' input.h has it; sums go over 4 KiB of i * 31 + 7.
const FRAME = Uint8Array.from([
  0x02, 0x11, 0x22, 0x33, 0x44, 0x55, 0x02, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0x08, 0x00, 0x45, 0, 0, 50, 0x12,
  0x34, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 0xc0, 0x01, 0x01, 0xbb, 1, 2, 3, 4, 5, 6, 7, 8, 0x50,
  0x18, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
]);
const BUFFER = Uint8Array.from({ length: 4096 }, (_, i) => i * 31 + 7);
const u64 = (value) => new Uint8Array(BigUint64Array.of(value).buffer);

/** What a workload's map holds. */
function* contents({ type, valueSize }) {
  if (type === 'hash') {
    for (let k = 1n; k <= 512n; k++) yield [u64(k * 0x10001n), u64(1n)];
    yield [FRAME.slice(0, 8), u64(1n)];
  } else if (valueSize === BUFFER.length) yield [new Uint8Array(4), BUFFER];
}

const tool = (...names) => names.find((name) => spawnSync(name, ['--version']).status === 0);
const clang = tool('clang-19', 'clang', 'clang-18', 'clang-17', 'clang-16', 'clang-14');
const gcc = tool('gcc');
const ubpf = process.env.TRAPLINE_UBPF;
if (!existsSync(sources) || clang === undefined) {
  console.log(
    `skipped: ${clang === undefined ? 'no clang' : `no sources in ${path.relative(root, sources)}`}`,
  );
  process.exit(0);
}
const work = mkdtempSync(path.join(os.tmpdir(), 'trapline-bench-'));

/** Milliseconds of processor time: the machine may have other things to do. */
const now = () => {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
};

/** A run of `n` times in nanoseconds a run: the function gives milliseconds in all. */
function timed(elapsed) {
  let n = 16;
  while (elapsed(n) < ROUND_MS) n *= 2;
  return () => (elapsed(n) / n) * 1e6;
}

let loops = 0;

/** A loop with a text of its own: one text would share its type feedback, and V8 calls WebAssembly directly only from a place that has seen one function. */
function loopOf(run, ctx) {
  const loop = new Function(
    'run',
    'ctx',
    'n',
    `let r = ${loops++}; for (let i = 0; i < n; i++) r = run(ctx); return r;`,
  );
  return (n) => {
    const start = now();
    loop(run, ctx, n);
    return now() - start;
  };
}

function ours(objectFile, name, engine) {
  const loaded = bpf.openObject(readFileSync(objectFile), name).load({ engine });
  const { machine } = loaded;
  const [program] = loaded.programs.values();
  for (const map of loaded.maps.values())
    for (const [key, value] of contents(map.spec)) map.update(key, value);
  const { retval: result } = program.testRun({ dataIn: FRAME });
  const at = machine.alloc(FRAME.length);
  const ctx = machine.alloc(64);
  new Uint8Array(machine.memory.buffer).set(FRAME, at);
  new Uint32Array(machine.memory.buffer).set([at, at + FRAME.length, at], ctx >>> 2);
  if (engine === 'interpreter')
    return { loaded, program, ctx, result, measure: timed(loopOf((at) => program.run(at), ctx)) };
  return { loaded, program, ctx, result, measure: timed(loopOf(program.entry(0), ctx)) };
}

function kernelTimer(run) {
  let n = 1000;
  while (n < 2 ** 31 && run(n).duration * n < KERNEL_ROUND_MS * 1e6) n *= 2;
  let fixed = Number.POSITIVE_INFINITY;
  return () => {
    for (let i = 0; i < 3; i++) fixed = Math.min(fixed, run(1).wall);
    return ((run(n).wall - fixed) / n) * 1e6;
  };
}

/** The same instructions in the kernel. */
function inKernel(kernel, { loaded, program }) {
  const fds = program.maps.map(({ spec }) => {
    const { type, keySize, valueSize, maxEntries } = spec;
    const fd = kernel.mapCreate({ type: MAP_TYPES[type], keySize, valueSize, maxEntries });
    for (const [key, value] of contents(spec)) kernel.mapUpdate(fd, key, value);
    return fd;
  });
  const insns = program.verified.insns.map((insn) =>
    insn.code === 0x18 && insn.src === 5 ? { ...insn, src: 1, imm: fds[insn.imm] } : insn,
  );
  // The kernel puts its code anywhere, and how fast a loop is depends on how it is aligned: several loads, of which the best counts.
  const programs = Array.from({ length: KERNEL_LOADS }, () => {
    const { fd, log } = kernel.progLoad({ type: XDP, insns });
    if (fd < 0) throw new Error(`${loaded.spec.name}: errno ${-fd} ${log}`);
    return fd;
  });
  let turn = 0;
  return {
    result: kernel.progTestRun(programs[0], { dataIn: FRAME }).retval,
    // Every test run of XDP switches a dispatcher, which takes milliseconds: each round is much longer, and that part is taken off.
    measure: kernelTimer((repeat) => {
      const start = now();
      const { duration } = kernel.progTestRun(programs[turn++ % programs.length], { dataIn: FRAME, repeat });
      return { wall: now() - start, duration };
    }),
  };
}

const HARNESS = `#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "input.h"
typedef unsigned char u8; typedef unsigned int u32; typedef unsigned long long u64;
/* What native code would use: an open table and an array. */
static struct { u64 key, value; int used; } table[2048];
static u64 array[256];
static unsigned slot(u64 key) { unsigned at = (key * 0x9e3779b97f4a7c15ull) >> 53; while (table[at].used && table[at].key != key) at = (at + 1) & 2047; return at; }
void *map_lookup(void *map, const void *key) {
  if ((u64)map == 2) { u32 at = *(const u32 *)key; return at < 256 ? &array[at] : 0; }
  unsigned at = slot(*(const u64 *)key); return table[at].used ? &table[at].value : 0;
}
long map_update(void *map, const void *key, const void *value, u64 flags) {
  if ((u64)map == 2) { array[*(const u32 *)key & 255] = *(const u64 *)value; return 0; }
  unsigned at = slot(*(const u64 *)key); table[at].used = 1; table[at].key = *(const u64 *)key; table[at].value = *(const u64 *)value; return 0;
}
#ifdef UBPF
#include <ubpf.h>
static ubpf_jit_fn compiled(const char *file) {
  static char elf[1 << 16]; char *why = 0;
  FILE *in = fopen(file, "r"); size_t length = fread(elf, 1, sizeof elf, in);
  struct ubpf_vm *vm = ubpf_create(); ubpf_jit_fn fn = 0;
  ubpf_register(vm, 1, "map_lookup", as_external_function_t((void *)map_lookup));
  ubpf_register(vm, 2, "map_update", as_external_function_t((void *)map_update));
  if (ubpf_load_elf(vm, elf, length, &why) == 0) fn = ubpf_compile(vm, &why);
  if (!fn) { fprintf(stderr, "ubpf: %s\\n", why); exit(1); }
  return fn;
}
#else
u64 prog(u8 *, u64);
#endif
int main(int argc, char **argv) {
  static u8 data[4096]; int big = atoi(argv[1]); u64 one = 1, n, i, r = 0;
  if (big) { FILL(data); } else { FILLPKT(data); }
  for (u64 k = 1; k <= 512; k++) { u64 key = k * 0x10001; map_update((void *)1, &key, &one, 0); }
  map_update((void *)1, data, &one, 0);
#ifdef UBPF
  ubpf_jit_fn run = compiled(argv[2]);
#else
  u64 (*volatile run)(u8 *, u64) = prog;
#endif
  while (scanf("%llu", &n) == 1) {
    struct timespec a, b; clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &a);
    for (i = 0; i < n; i++) r = run(data, big ? 4096 : 64);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &b);
    printf("%u %f\\n", (u32)r, (b.tv_sec - a.tv_sec) * 1e3 + (b.tv_nsec - a.tv_nsec) / 1e6); fflush(stdout);
  }
}
`;

/** The same source as a program of its own: compiled by gcc, or to eBPF for ubpf's JIT. */
function native(name, ubpf) {
  const harness = path.join(work, 'harness.c');
  const source = path.join(sources, `${name}.c`);
  const binary = path.join(work, `${name}.${ubpf === undefined ? 'native' : 'ubpf'}`);
  const object = `${binary}.o`;
  writeFileSync(harness, HARNESS);
  const rest =
    ubpf === undefined
      ? ['-DNATIVE', source]
      : ['-DUBPF', `-I${ubpf}/include`, path.join(ubpf, 'lib/libubpf.a'), '-lm', '-lpthread'];
  execFileSync(gcc, ['-O2', '-w', `-I${sources}`, '-o', binary, harness, ...rest]);
  if (ubpf !== undefined)
    execFileSync(clang, ['-O2', '-mcpu=v3', '-target', 'bpf', '-DUSER', '-c', source, '-o', object]);
  const run = (n) => {
    const out = execFileSync(binary, [name.startsWith('e_') ? '1' : '0', object], { input: `${n}\n` })
      .toString()
      .split(' ');
    return { result: Number(out[0]), elapsed: Number(out[1]) };
  };
  return { result: run(1).result, measure: timed((n) => run(n).elapsed) };
}

const kernel = await kernelOracle();
if (kernel.reason !== undefined) console.log(`without the kernel: ${kernel.reason}`);
let exact = true;
const rows = [];
for (const [name, expected] of WORKLOADS) {
  const object = path.join(work, `${name}.o`);
  const source = path.join(sources, `${name}.c`);
  execFileSync(clang, ['-O2', '-mcpu=v3', '-target', 'bpf', '-DKERNEL', '-c', source, '-o', object]);
  const jit = ours(object, name, 'jit');
  const engines = { jit, interpreter: ours(object, name, 'interpreter') };
  if (kernel.reason === undefined) engines.kernel = inKernel(kernel, jit);
  if (gcc !== undefined) engines.gcc = native(name);
  if (gcc !== undefined && ubpf !== undefined) engines.ubpf = native(name, ubpf);
  for (const [engine, { result }] of Object.entries(engines)) {
    if (result === expected) continue;
    exact = false;
    console.log(`${name}: ${engine} gave ${result}, expected ${expected}`);
  }
  const { machine } = jit.loaded;
  const vm = bpf.interpretProgram(
    jit.program.verified,
    machine.layoutOf(jit.program.maps),
    machine.memory,
    BigInt(jit.ctx),
    {
      mapAt: (address) => machine.mapAt(address),
    },
  );
  vm.run();
  rows.push({ name, engines, insns: vm.steps, least: {} });
}
for (let round = 0; round < ROUNDS; round++) {
  for (const { engines, least } of rows) {
    for (const [engine, { measure }] of Object.entries(engines)) {
      const ns = measure();
      least[engine] = Math.min(least[engine] ?? Number.POSITIVE_INFINITY, ns);
    }
  }
}
kernel.closeAll?.();
rmSync(work, { recursive: true, force: true });

const mean = (list) => Math.exp(list.reduce((sum, value) => sum + Math.log(value), 0) / list.length);
const cell = (value, width = 9) =>
  (value === undefined ? '-' : value.toFixed(value < 100 ? 1 : 0)).padStart(width);
const empty = rows[0].least;
/** Without the loop and the call, which the empty program has too; not less than what a clock tells apart. */
const body = ({ least }, engine) => Math.max(1, least[engine] - empty[engine]);
console.log(
  `${process.version}; ns a run, least of ${ROUNDS} interleaved rounds, processor time; body: without what the empty program takes\n`,
);
console.log(
  'workload             JIT    kernel  JIT body   kernel b.  ratio   gcc -O2      ubpf  interpreter  insns  ns an insn',
);
for (const one of rows) {
  const { name, least, insns } = one;
  const ratio =
    least.kernel === undefined || name === 'a_empty' ? undefined : body(one, 'jit') / body(one, 'kernel');
  console.log(
    `${name.padEnd(15)}${cell(least.jit)}${cell(least.kernel)}${cell(body(one, 'jit'))}${cell(least.kernel && body(one, 'kernel'))}${(ratio?.toFixed(2) ?? '-').padStart(9)}${cell(least.gcc)}${cell(least.ubpf)}${cell(least.interpreter, 12)}${String(insns).padStart(8)}${cell(least.interpreter / insns)}`,
  );
}
const find = (name) => rows.find((one) => one.name === name);
if (kernel.reason === undefined) {
  const ratios = rows.slice(1).map((one) => body(one, 'jit') / body(one, 'kernel'));
  const wholes = rows.map(({ least }) => least.jit / least.kernel);
  row({
    name: 'eBPF: JIT against the kernel’s JIT, body time, geometric mean of nine',
    value: mean(ratios),
    unit: '×',
    limit: 1,
    exact,
  });
  row({
    name: 'eBPF: the same, the worst of nine',
    value: Math.max(...ratios),
    unit: '×',
    limit: 1.3,
    exact,
  });
  row({
    name: 'eBPF: a whole run against the kernel’s, geometric mean of ten',
    value: mean(wholes),
    unit: '×',
    exact,
  });
  const sip = find('b2_sip');
  row({
    name: 'eBPF: SipRound, kernel against JIT',
    value: body(sip, 'kernel') / body(sip, 'jit'),
    unit: '×',
    limit: 1.5,
    atLeast: true,
    exact,
  });
}
if (ubpf !== undefined && gcc !== undefined) {
  const ratios = rows.slice(1).map((one) => body(one, 'jit') / body(one, 'ubpf'));
  row({
    name: 'eBPF: JIT against ubpf’s JIT, body time, geometric mean of nine',
    value: mean(ratios),
    unit: '×',
    exact,
  });
}
row({ name: 'eBPF: array lookup and add', value: find('d1_array').least.jit, unit: 'ns', limit: 10, exact });
row({ name: 'eBPF: hash lookup', value: find('d2_hash_lookup').least.jit, unit: 'ns', limit: 20, exact });
row({
  name: 'eBPF: hash lookup and update',
  value: find('d3_hash_update').least.jit,
  unit: 'ns',
  limit: 40,
  exact,
});
const longRuns = rows.filter(({ insns }) => insns > 1000);
row({
  name: 'eBPF: interpreter, an instruction of the four longest programs',
  value: mean(longRuns.map(({ least, insns }) => least.interpreter / insns)),
  unit: 'ns',
  limit: 15,
  exact,
});
row({
  name: 'eBPF: interpreter, an instruction of all ten, calls and start included',
  value: mean(rows.map(({ least, insns }) => least.interpreter / insns)),
  unit: 'ns',
  exact,
});
