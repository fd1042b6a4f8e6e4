/**
 * Random programs: those that the verifier accepts are run with random contexts, and every access they make is inside of the
 * memory they may use. Programs of all kinds of branches, bounds, spills and pointer arithmetic; most are refused.
 */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  createMemory,
  Interpreter,
  initMemory,
  isa,
  layoutMemory,
  type MapSpec,
  openMap,
  percpuBlock,
  VerifierError,
  verifyProgram,
} from '../../src/bpf/index.ts';
import type { Insn } from '../../src/bpf/isa.ts';
import { kprobeContext } from '../../src/kernel/trace/bpf-trace.ts';

const MAPS: readonly MapSpec[] = [
  { name: 'array', type: 'array', keySize: 4, valueSize: 64, maxEntries: 2 },
  { name: 'hash', type: 'hash', keySize: 8, valueSize: 16, maxEntries: 2 },
];
const layout = layoutMemory(MAPS, { ncpu: 1 });
const memory = createMemory(layout);
initMemory(memory, layout);
const maps = MAPS.map((_, n) => openMap(memory, layout, n));
const block = percpuBlock(layout, 0);
const data = new DataView(memory.buffer);

const op = (code: number, dst: number, src: number, off: number, imm: number): Insn => ({
  code,
  dst,
  src,
  off,
  imm,
});
const K = isa.BPF_ALU64;
const X = isa.BPF_ALU64 | isa.BPF_X;

const scalar = fc.constantFrom(6, 7);
const anyReg = fc.constantFrom(0, 2, 6, 7, 8, 9);
const address = fc.constantFrom(8, 8, 8, 9, 10);
const small = fc.constantFrom(
  0,
  1,
  2,
  3,
  4,
  7,
  8,
  16,
  31,
  32,
  48,
  56,
  63,
  64,
  -1,
  -8,
  255,
  0x7fffffff,
  -0x80000000,
);
const size = fc.constantFrom(isa.BPF_B, isa.BPF_H, isa.BPF_W, isa.BPF_DW);
const stackOff = fc.constantFrom(-8, -16, -24, -32, -4, -12, -64);
const memOff = fc.constantFrom(0, 0, 0, 8, 16, 32, 56, 60, -8);
const alu = fc.constantFrom(
  isa.BPF_ADD,
  isa.BPF_SUB,
  isa.BPF_AND,
  isa.BPF_OR,
  isa.BPF_XOR,
  isa.BPF_LSH,
  isa.BPF_RSH,
  isa.BPF_ARSH,
  isa.BPF_MUL,
  isa.BPF_MOV,
);
const jump = fc.constantFrom(
  ...[isa.BPF_JEQ, isa.BPF_JNE, isa.BPF_JGT, isa.BPF_JGE, isa.BPF_JLT, isa.BPF_JLE, isa.BPF_JSET],
  ...[isa.BPF_JSGT, isa.BPF_JSGE, isa.BPF_JSLT, isa.BPF_JSLE],
);
const wide = fc.constantFrom(isa.BPF_JMP, isa.BPF_JMP, isa.BPF_JMP32);
const cls = fc.constantFrom(isa.BPF_ALU64, isa.BPF_ALU64, isa.BPF_ALU);

/** A step of a program: one or more instructions that belong together. Jumps are given as a number of steps to skip. */
type Step = { insns: Insn[]; skip?: number };

const step: fc.Arbitrary<Step> = fc.oneof(
  // Values.
  {
    weight: 4,
    arbitrary: fc
      .tuple(cls, alu, scalar, small)
      .map(([c, o, r, imm]) => ({ insns: [op(c | o, r, 0, 0, shiftable(c, o, imm))] })),
  },
  {
    weight: 3,
    arbitrary: fc
      .tuple(cls, alu, scalar, scalar)
      .map(([c, o, a, b]) => ({ insns: [op(c | o | isa.BPF_X, a, b, 0, 0)] })),
  },
  {
    weight: 2,
    arbitrary: fc
      .tuple(scalar, scalar, fc.constantFrom(8, 16, 32))
      .map(([a, b, bits]) => ({ insns: [op(X | isa.BPF_MOV, a, b, bits, 0)] })),
  },
  // Masks, so that some offsets become good.
  {
    weight: 4,
    arbitrary: fc
      .tuple(scalar, fc.constantFrom(7, 8, 15, 31, 56, 63))
      .map(([r, imm]) => ({ insns: [op(K | isa.BPF_AND, r, 0, 0, imm)] })),
  },
  // Comparisons.
  {
    weight: 5,
    arbitrary: fc
      .tuple(wide, jump, scalar, small, fc.integer({ min: 1, max: 4 }))
      .map(([c, o, r, imm, skip]) => ({ insns: [op(c | o, r, 0, 0, imm)], skip })),
  },
  {
    weight: 2,
    arbitrary: fc
      .tuple(wide, jump, scalar, scalar, fc.integer({ min: 1, max: 4 }))
      .map(([c, o, a, b, skip]) => ({ insns: [op(c | o | isa.BPF_X, a, b, 0, 0)], skip })),
  },
  // Pointers.
  { weight: 3, arbitrary: scalar.map((r) => ({ insns: [op(X | isa.BPF_ADD, 8, r, 0, 0)] })) },
  { weight: 1, arbitrary: scalar.map((r) => ({ insns: [op(X | isa.BPF_SUB, 8, r, 0, 0)] })) },
  { weight: 1, arbitrary: memOff.map((imm) => ({ insns: [op(K | isa.BPF_ADD, 8, 0, 0, imm)] })) },
  { weight: 1, arbitrary: fc.constantFrom(9, 10).map((r) => ({ insns: [op(X | isa.BPF_MOV, 8, r, 0, 0)] })) },
  {
    weight: 1,
    arbitrary: stackOff.map((imm) => ({
      insns: [op(X | isa.BPF_MOV, 8, 10, 0, 0), op(K | isa.BPF_ADD, 8, 0, 0, imm)],
    })),
  },
  // Memory.
  {
    weight: 3,
    arbitrary: fc.tuple(size, scalar, address, memOff).map(([s, r, a, off]) => ({
      insns: [op(isa.BPF_LDX | isa.BPF_MEM | s, r, a, a === 10 ? -8 - Math.abs(off) : off, 0)],
    })),
  },
  {
    weight: 3,
    arbitrary: fc.tuple(size, scalar, address, memOff).map(([s, r, a, off]) => ({
      insns: [op(isa.BPF_STX | isa.BPF_MEM | s, a, r, a === 10 ? -8 - Math.abs(off) : off, 0)],
    })),
  },
  {
    weight: 3,
    arbitrary: fc
      .tuple(anyReg, stackOff)
      .map(([r, off]) => ({ insns: [op(isa.BPF_STX | isa.BPF_MEM | isa.BPF_DW, 10, r, off & ~7, 0)] })),
  },
  {
    weight: 3,
    arbitrary: fc
      .tuple(anyReg, stackOff)
      .map(([r, off]) => ({ insns: [op(isa.BPF_LDX | isa.BPF_MEM | isa.BPF_DW, r, 10, off & ~7, 0)] })),
  },
  // A fresh value pointer in r8.
  {
    weight: 1,
    arbitrary: fc.nat({ max: 1 }).map((map) => ({
      insns: [
        op(isa.BPF_ST | isa.BPF_MEM | isa.BPF_DW, 10, 0, -40, 0),
        op(isa.BPF_LD_IMM64, 1, isa.BPF_PSEUDO_MAP_IDX, 0, map),
        op(0, 0, 0, 0, 0),
        op(X | isa.BPF_MOV, 2, 10, 0, 0),
        op(K | isa.BPF_ADD, 2, 0, 0, -40),
        op(isa.BPF_JMP | isa.BPF_CALL, 0, 0, 0, 1),
        op(isa.BPF_JMP | isa.BPF_JEQ, 0, 0, 1, 0),
        op(X | isa.BPF_MOV, 8, 0, 0, 0),
      ],
    })),
  },
);

function shiftable(c: number, o: number, imm: number): number {
  if (o !== isa.BPF_LSH && o !== isa.BPF_RSH && o !== isa.BPF_ARSH) return imm;
  return Math.abs(imm) % (c === isa.BPF_ALU ? 32 : 64);
}

/** r6, r7: unknown; r8, r9: value of the array; jumps resolved; then exit. */
function link(steps: readonly Step[]): Insn[] {
  const insns: Insn[] = [
    op(isa.BPF_LDX | isa.BPF_MEM | isa.BPF_DW, 6, 1, 112, 0),
    op(isa.BPF_LDX | isa.BPF_MEM | isa.BPF_DW, 7, 1, 104, 0),
    op(isa.BPF_ST | isa.BPF_MEM | isa.BPF_DW, 10, 0, -8, 0),
    op(isa.BPF_LD_IMM64, 1, isa.BPF_PSEUDO_MAP_IDX, 0, 0),
    op(0, 0, 0, 0, 0),
    op(X | isa.BPF_MOV, 2, 10, 0, 0),
    op(K | isa.BPF_ADD, 2, 0, 0, -8),
    op(isa.BPF_JMP | isa.BPF_CALL, 0, 0, 0, 1),
    op(isa.BPF_JMP | isa.BPF_JNE, 0, 0, 2, 0),
    op(K | isa.BPF_MOV, 0, 0, 0, 0),
    op(isa.BPF_JMP | isa.BPF_EXIT, 0, 0, 0, 0),
    op(X | isa.BPF_MOV, 8, 0, 0, 0),
    op(X | isa.BPF_MOV, 9, 0, 0, 0),
    op(K | isa.BPF_MOV, 0, 0, 0, 0),
    op(K | isa.BPF_MOV, 2, 0, 0, 0),
  ];
  const starts: number[] = [];
  for (const one of steps) {
    starts.push(insns.length);
    for (const insn of one.insns) insns.push({ ...insn });
  }
  starts.push(insns.length);
  for (const [n, { skip, insns: own }] of steps.entries()) {
    if (skip === undefined) continue;
    const at = starts[n]! + own.length - 1;
    insns[at]!.off = starts[Math.min(n + 1 + skip, steps.length)]! - at - 1;
  }
  insns.push(op(K | isa.BPF_MOV, 0, 0, 0, 0), op(isa.BPF_JMP | isa.BPF_EXIT, 0, 0, 0, 0));
  return insns;
}

const isInside = (at: number, bytes: number, [start, length]: readonly [number, number]): boolean =>
  at >= start && at + bytes <= start + length;

/** Runs a program step by step; throws at the first access that is not allowed. */
function run(insns: readonly Insn[], args: readonly [bigint, bigint]): number {
  data.setBigUint64(block.ctx + 112, args[0], true);
  data.setBigUint64(block.ctx + 104, args[1], true);
  for (const map of maps) map.clear();
  maps[1]!.update(new Uint8Array(8), new Uint8Array(16));
  const { address: arrayAt, geometry } = layout.maps[0]!;
  const hashValue = maps[1]!.lookupElem(block.scratch, 0);
  const allowed: [number, number][] = [
    [block.ctx, 168],
    [block.stack, 512],
    [arrayAt + geometry.data, 64],
    [hashValue, 16],
  ];
  const cpu = new Interpreter(
    {
      insns,
      memory: memory.buffer,
      stack: block.stack,
      mapAddress: (index) => layout.maps[index]!.address,
      helper: (_, [map, key]) => {
        const index = layout.maps.findIndex(({ address }) => BigInt(address) === map);
        return BigInt(maps[index]!.lookupElem(Number(key), 0));
      },
    },
    BigInt(block.ctx),
  );
  let accesses = 0;
  do {
    const { insn } = cpu;
    const kind = insn === undefined ? -1 : isa.BPF_CLASS(insn.code);
    if (insn !== undefined && (kind === isa.BPF_LDX || kind === isa.BPF_ST || kind === isa.BPF_STX)) {
      const base = cpu.regs[kind === isa.BPF_LDX ? insn.src : insn.dst]!;
      const at = Number(BigInt.asUintN(64, base + BigInt(insn.off)));
      const bytes = isa.sizeBytes(insn.code);
      if (!allowed.some((range) => isInside(at, bytes, range))) {
        throw new Error(`instruction ${cpu.pc} reaches ${at} (${bytes} bytes) with ${args}`);
      }
      accesses++;
    }
  } while (cpu.step());
  return accesses;
}

const EDGES = [
  0n,
  1n,
  8n,
  56n,
  63n,
  64n,
  0x7fff_ffffn,
  0x8000_0000n,
  0xffff_ffffn,
  2n ** 32n,
  2n ** 63n,
  2n ** 64n - 1n,
  2n ** 64n - 8n,
];

describe('programs that the verifier accepts', () => {
  it('touch only memory that they may use, whatever the context', () => {
    let accepted = 0;
    let accesses = 0;
    const property = fc.property(fc.array(step, { minLength: 3, maxLength: 24 }), (steps) => {
      const insns = link(steps);
      try {
        verifyProgram({ name: 'random', type: 'kprobe', insns, maps: MAPS, ctx: kprobeContext });
      } catch (error) {
        if (error instanceof VerifierError) return;
        throw error;
      }
      accepted++;
      for (const a of EDGES)
        for (const b of [EDGES[accepted % EDGES.length]!, a, 33n]) accesses += run(insns, [a, b]);
    });
    fc.assert(property, { numRuns: 2500, seed: 21, endOnFailure: false });
    // The programs say something: a good part is accepted and reaches memory.
    expect(accepted).toBeGreaterThan(100);
    expect(accesses).toBeGreaterThan(accepted * 39 * 2);
  });
});
