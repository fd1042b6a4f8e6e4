/** Random programs for differential tests: every instruction is defined, every program ends. */
import fc from 'fast-check';
import { type Condition, ProgramBuilder, R0, R8, R9, R10, type Reg } from '../../src/bpf/builder.ts';
import type { Insn } from '../../src/bpf/isa.ts';
import * as isa from '../../src/bpf/isa.ts';

/** Writes one instruction (or a few) into a builder. */
export type Emit = (b: ProgramBuilder) => void;

/** Registers that hold data: r0 to r7. r8 is kept, r9 counts blocks. */
const reg: fc.Arbitrary<Reg> = fc.integer({ min: 0, max: 7 }).map((n) => ({ reg: n }));
const imm = fc.oneof(
  fc.integer({ min: -0x80000000, max: 0x7fffffff }),
  fc.constantFrom(0, 1, -1, 2, 8, 31, 32, 63, 64, 0x7fffffff, -0x80000000),
);
const operand: fc.Arbitrary<Reg | number> = fc.oneof(reg, imm);
const slot = (size: number): fc.Arbitrary<number> =>
  fc
    .integer({ min: 0, max: 63 })
    .map((n) => -8 - ((n * 8) % 256) + (size === 8 ? 0 : (n % (8 / size)) * size));

const ALU = [
  'add',
  'sub',
  'mul',
  'div',
  'sdiv',
  'mod',
  'smod',
  'or',
  'and',
  'xor',
  'lsh',
  'rsh',
  'arsh',
  'mov',
] as const;
const CONDITIONS: readonly Condition[] = ['==', '!=', '>', '>=', '<', '<=', 's>', 's>=', 's<', 's<=', '&'];

const alu: fc.Arbitrary<Emit> = fc
  .tuple(fc.constantFrom(...ALU), fc.boolean(), reg, operand)
  .map(([op, wide, dst, value]) => (b) => {
    b[wide ? op : (`${op}32` as const)](dst, value);
  });
const unary: fc.Arbitrary<Emit> = fc
  .tuple(reg, reg, fc.integer({ min: 0, max: 11 }), fc.constantFrom<16 | 32 | 64>(16, 32, 64))
  .map(([dst, src, kind, bits]) => (b) => {
    if (kind === 0) b.neg(dst);
    else if (kind === 1) b.neg32(dst);
    else if (kind === 2) b.bswap(dst, bits);
    else if (kind === 3) b.be(dst, bits);
    else if (kind === 4) b.le(dst, bits);
    else if (kind < 8) b.movsx(dst, src, ([8, 16, 32] as const)[kind - 5]!);
    else if (kind < 10) b.movsx32(dst, src, ([8, 16] as const)[kind - 8]!);
    else if (kind === 10) b.lsh(dst, bits - 1).rsh(dst, bits - 1);
    else b.lsh(dst, bits / 2).arsh(dst, bits / 2);
  });
const wideImmediate: fc.Arbitrary<Emit> = fc
  .tuple(reg, fc.bigInt({ min: 0n, max: (1n << 64n) - 1n }))
  .map(([dst, value]) => (b) => {
    b.lddw(dst, value);
  });
/** x << k | x >> (size - k), in the ways compilers write it, and near misses. */
const rotation: fc.Arbitrary<Emit> = fc
  .tuple(
    reg,
    reg,
    fc.integer({ min: 1, max: 63 }),
    fc.boolean(),
    fc.constantFrom('or', 'add', 'xor'),
    fc.integer({ min: 0, max: 3 }),
  )
  .filter(([a, c]) => a.reg !== c.reg)
  .map(([a, c, k, wide, join, variant]) => (b) => {
    const bits = wide ? 64 : 32;
    const left = wide ? k : ((k - 1) % 31) + 1;
    const right = variant === 3 ? (bits - left + 1) % bits : bits - left;
    if (wide) b.mov(c, a);
    else b.mov32(c, a);
    const shift = (dst: Reg, by: number, toLeft: boolean): void => {
      if (wide) b[toLeft ? 'lsh' : 'rsh'](dst, by);
      else b[toLeft ? 'lsh32' : 'rsh32'](dst, by);
    };
    shift(a, left, variant !== 1);
    if (variant === 2) b.add(R0, 1);
    shift(c, right, variant === 1);
    b[(wide ? join : `${join}32`) as 'or'](a, c);
  });
const memory: fc.Arbitrary<Emit> = fc
  .constantFrom<1 | 2 | 4 | 8>(1, 2, 4, 8)
  .chain((size) => fc.tuple(fc.constant(size), fc.integer({ min: 0, max: 3 }), reg, slot(size), imm))
  .map(([size, kind, data, off, value]) => (b) => {
    if (kind === 0) b.st(size, R10, off, value);
    else if (kind === 1) b.stx(size, R10, off, data);
    else if (kind === 2 && size !== 8) b.ldsx(size, data, R10, off);
    else b.ldx(size, data, R10, off);
  });
const copiedFrame: fc.Arbitrary<Emit> = fc
  .tuple(reg, reg, slot(8), fc.integer({ min: -64, max: 64 }))
  .map(([pointer, data, off, shift]) => (b) => {
    b.mov(pointer, R10)
      .add(pointer, shift)
      .ldx(8, data, pointer, off - shift);
  });
const ATOMICS = [isa.BPF_ADD, isa.BPF_OR, isa.BPF_AND, isa.BPF_XOR].flatMap((op) => [op, op | isa.BPF_FETCH]);
const atomic: fc.Arbitrary<Emit> = fc
  .tuple(
    fc.constantFrom(...ATOMICS, isa.BPF_XCHG, isa.BPF_CMPXCHG),
    fc.constantFrom<4 | 8>(4, 8),
    reg,
    fc.integer({ min: 1, max: 32 }),
    fc.boolean(),
  )
  .map(([op, size, data, n, aligned]) => (b) => {
    b.atomic(op, size, R10, -8 * n + (aligned ? 0 : 1), data);
  });

export const instruction: fc.Arbitrary<Emit> = fc.oneof(
  { arbitrary: alu, weight: 6 },
  { arbitrary: unary, weight: 2 },
  { arbitrary: wideImmediate, weight: 1 },
  { arbitrary: rotation, weight: 1 },
  { arbitrary: memory, weight: 3 },
  { arbitrary: copiedFrame, weight: 1 },
  { arbitrary: atomic, weight: 1 },
);

interface Block {
  readonly body: readonly Emit[];
  readonly end: { readonly kind: number; readonly a: number; readonly b: number };
  readonly condition: {
    readonly op: Condition;
    readonly wide: boolean;
    readonly dst: Reg;
    readonly operand: Reg | number;
  };
}

const block = fc.record({
  body: fc.array(instruction, { maxLength: 6 }),
  end: fc.record({ kind: fc.nat(5), a: fc.nat(), b: fc.nat() }),
  condition: fc.record({ op: fc.constantFrom(...CONDITIONS), wide: fc.boolean(), dst: reg, operand }),
});

const MAX_BLOCKS_RUN = 60;

/** Any graph of blocks, reducible or not; a counter in r9 ends it. */
export const program: fc.Arbitrary<Insn[]> = fc.array(block, { minLength: 1, maxLength: 12 }).map(build);

function build(blocks: readonly Block[]): Insn[] {
  const b = new ProgramBuilder();
  b.mov(R9, 0).mov(R8, { reg: 1 }).mov(R0, 0);
  for (let reg = 2; reg <= 7; reg++)
    b.lddw({ reg }, (BigInt(reg) * 0x0123_4567_89ab_cdefn) & ((1n << 64n) - 1n));
  const name = (n: number): string => `b${n % blocks.length}`;
  for (const [n, { body, end, condition }] of blocks.entries()) {
    b.label(`b${n}`).add(R9, 1).jcond('>', R9, MAX_BLOCKS_RUN, 'out');
    for (const emit of body) emit(b);
    if (end.kind === 0) b.jump(name(end.a));
    else if (end.kind < 4) {
      const { op, wide, dst, operand } = condition;
      if (wide) b.jcond(op, dst, operand, name(end.a));
      else b.jcond32(op, dst, operand, name(end.a));
      if (end.kind === 1) b.jump(name(end.b));
    } else if (end.kind === 4) b.mayGoto(name(end.a));
    // Else on to the next block.
  }
  b.label('out').exit();
  return b.build();
}
