// Arenas: a list of 16,384 nodes on 64 pages built, walked and counted by programs, in JIT, interpreter and, as root, in the machine's kernel.
// Every sum is checked. Interleaved rounds, the least of each.
//
//   node bench/arena.mjs [--quick]            needs dist/ (npm run build)

import { readFileSync } from 'node:fs';
import { kernelOracle } from './lib/kernel.mjs';
import { quick, row } from './lib/report.mjs';

const bpf = await import(new URL('../dist/bpf/index.js', import.meta.url));
const { assemble, createMachine, decodeInsns, encodeInsns, isa, MACHINE_KFUNCS, parseBtf } = bpf;
const kernel = await kernelOracle();

const NODES = 16_384;
const PAGES = NODES / 256;
const START = (1n << 44n) + 0x1000_0000n;
const ROUNDS = quick ? 20 : 200;
const [ARENA, SYSCALL, MMAPABLE, SLEEPABLE] = [33, 31, 1 << 10, 1 << 4];
const SPEC = {
  name: 'arena',
  type: 'arena',
  keySize: 0,
  valueSize: 0,
  maxEntries: PAGES,
  flags: MMAPABLE,
  mapExtra: START,
};

const alloc = MACHINE_KFUNCS.find(({ name }) => name === 'bpf_arena_alloc_pages');
const ALLOCATE = `r1 = map[idx:0]
  r2 = 0
  r3 = ${PAGES}
  r4 = -1
  r5 = 0
  call kernel-function#${alloc.id}
  r0 >>= 28
  exit`;
/** `body` for each node, which r7 points to; r6 is its address in user space, r8 counts them. */
const each = (body) => `r1 = map[idx:0]
  r6 = 0x${START.toString(16)} ll
  r0 = 0
  r8 = 0
loop: r7 = addr_space_cast(r6, 0, 1)
  ${body}
  r8 += 1
  if r8 < ${NODES} goto loop
  exit`;
const SUM = ((NODES - 1) * NODES) / 2;
const WORKLOADS = [
  [
    'a node built: two stores',
    each('r6 += 16\n *(u64 *)(r7 +0) = r6\n *(u64 *)(r7 +8) = r8\n r0 += r8'),
    SUM,
  ],
  ['a node walked: two loads', each('r6 = *(u64 *)(r7 +0)\n r1 = *(u64 *)(r7 +8)\n r0 += r1'), SUM],
  [
    'a node counted: an atomic add of 0',
    each('r6 += 16\n r1 = 0\n r1 = atomic64_fetch_add((u64 *)(r7 +8), r1)\n r0 += r1'),
    SUM,
  ],
];

function ours(engine) {
  const machine = createMachine();
  const map = machine.createMap(SPEC);
  return (text) => {
    const insns = assemble(text);
    const input = {
      name: 'p',
      type: 'syscall',
      insns,
      maps: [map.spec],
      loadedMaps: [map],
      kfuncs: MACHINE_KFUNCS,
    };
    const program = machine.loadProgram({ ...input, engine });
    const run = program.entry(0);
    const ctx = machine.alloc(64);
    return () => run(ctx) >>> 0;
  };
}

function theirs() {
  const map = kernel.mapCreate({ ...SPEC, type: ARENA });
  const types = parseBtf(readFileSync('/sys/kernel/btf/vmlinux'));
  return (text) => {
    const insns = decodeInsns(encodeInsns(assemble(text)));
    for (const insn of insns) {
      if (isa.isLdImm64(insn) && insn.src === isa.BPF_PSEUDO_MAP_IDX) {
        insn.src = isa.BPF_PSEUDO_MAP_FD;
        insn.imm = map;
      } else if (insn.imm === alloc.id) insn.imm = types.byName(alloc.name, 'FUNC');
    }
    const { fd } = kernel.progLoad({ type: SYSCALL, insns, flags: SLEEPABLE });
    if (fd < 0) throw new Error(`the kernel refuses (${fd}):\n${text}`);
    return () => kernel.progTestRun(fd).retval;
  };
}

const engines = [
  ['JIT', ours('jit')],
  ['interpreter', ours('interpreter')],
  ...(kernel.reason === undefined ? [['kernel', theirs()]] : []),
];
let exact = engines.every(([, load]) => load(ALLOCATE)() === Number(START >> 28n) % 2 ** 32);
for (const [name, text, sum] of WORKLOADS) {
  const runs = engines.map(([engine, load]) => ({
    engine,
    run: load(text),
    least: Number.POSITIVE_INFINITY,
  }));
  for (let round = 0; round < ROUNDS; round++) {
    for (const one of runs) {
      if (one.engine === 'interpreter' && round % 10 !== 0) continue;
      const start = performance.now();
      const result = one.run();
      one.least = Math.min(one.least, performance.now() - start);
      exact &&= result === sum;
    }
  }
  const nanoseconds = (engine) => {
    const found = runs.find((one) => one.engine === engine);
    return found && (found.least * 1e6) / NODES;
  };
  const [jit, slow, native] = ['JIT', 'interpreter', 'kernel'].map(nanoseconds);
  const compared =
    native === undefined ? 'no kernel' : `kernel ${native.toFixed(2)} ns, ${(jit / native).toFixed(2)} times`;
  row({ name, value: jit, unit: 'ns', exact, note: `${compared}; interpreter ${slow.toFixed(0)} ns` });
}
kernel.closeAll();
