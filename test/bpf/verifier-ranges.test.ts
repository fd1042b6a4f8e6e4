/**
 * What the verifier believes about a number is true: whatever concrete values two registers may hold, results and branches
 * agree with what it computed from their ranges.
 */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import * as isa from '../../src/bpf/isa.ts';
import { scalarOp } from '../../src/bpf/verifier/alu.ts';
import { isScalarBranchTaken, refineBranch } from '../../src/bpf/verifier/jumps.ts';
import { type Reg, UNKNOWN } from '../../src/bpf/verifier/reg.ts';
import { s64, tnumIn, tnumRange, tnumString, u64 } from '../../src/bpf/verifier/tnum.ts';

const u32 = (value: bigint): bigint => BigInt.asUintN(32, value);
const s32 = (value: bigint): bigint => BigInt.asIntN(32, value);

const word = fc.oneof(
  fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
  fc.bigInt({ min: 0n, max: 300n }),
  fc.bigInt({ min: -300n, max: -1n }).map(u64),
  fc.nat({ max: 63 }).map((bit) => 1n << BigInt(bit)),
  fc.nat({ max: 63 }).map((bit) => u64((1n << BigInt(bit)) - 1n)),
  fc.constantFrom(
    0x7fff_ffffn,
    0x8000_0000n,
    0xffff_ffffn,
    0x1_0000_0000n,
    2n ** 63n,
    2n ** 63n - 1n,
    2n ** 64n - 1n,
  ),
);

/** A register, and a value that it may hold. */
const known: fc.Arbitrary<{ reg: Reg; value: bigint }> = fc
  .tuple(
    word,
    word,
    word,
    fc.constantFrom('const', 'bits', 'unsigned', 'signed', 'u32', 's32', 'any', 'mixed'),
  )
  .map(([value, other, mask, shape]) => {
    const reg = UNKNOWN.copy();
    const limit = (kind: string): void => {
      if (kind === 'const') reg.known(value);
      if (kind === 'bits' || kind === 'mixed') reg.varOff = { value: value & ~mask, mask };
      if (kind === 'unsigned' || kind === 'mixed') {
        reg.umin = value < other ? value : other;
        reg.umax = value < other ? other : value;
      }
      if (kind === 'signed') {
        reg.smin = s64(value) < s64(other) ? s64(value) : s64(other);
        reg.smax = s64(value) < s64(other) ? s64(other) : s64(value);
      }
      if (kind === 'u32') {
        reg.u32min = Number(u32(value) < u32(other) ? u32(value) : u32(other));
        reg.u32max = Number(u32(value) < u32(other) ? u32(other) : u32(value));
      }
      if (kind === 's32' || kind === 'mixed') {
        reg.s32min = Number(s32(value) < s32(mask) ? s32(value) : s32(mask));
        reg.s32max = Number(s32(value) < s32(mask) ? s32(mask) : s32(value));
      }
    };
    limit(shape);
    reg.sync();
    return { reg, value };
  });

function show(reg: Reg): string {
  const { smin, smax, umin, umax, s32min, s32max, u32min, u32max } = reg;
  return `s[${smin},${smax}] u[${umin},${umax}] s32[${s32min},${s32max}] u32[${u32min},${u32max}] ${tnumString(reg.varOff)}`;
}

function expectHolds(reg: Reg, value: bigint, what: string): void {
  const low = Number(u32(value));
  const holds =
    tnumIn(reg.varOff, { value, mask: 0n }) &&
    reg.umin <= value &&
    value <= reg.umax &&
    reg.smin <= s64(value) &&
    s64(value) <= reg.smax &&
    reg.u32min <= low &&
    low <= reg.u32max &&
    reg.s32min <= (low | 0) &&
    (low | 0) <= reg.s32max;
  if (!holds) throw new Error(`${what}: ${value} is not in ${show(reg)}`);
}

const ALU: Record<string, [number, (a: bigint, b: bigint, bits: 32 | 64) => bigint]> = {
  add: [isa.BPF_ADD, (a, b) => a + b],
  sub: [isa.BPF_SUB, (a, b) => a - b],
  mul: [isa.BPF_MUL, (a, b) => a * b],
  and: [isa.BPF_AND, (a, b) => a & b],
  or: [isa.BPF_OR, (a, b) => a | b],
  xor: [isa.BPF_XOR, (a, b) => a ^ b],
  lsh: [isa.BPF_LSH, (a, b, bits) => a << (b & BigInt(bits - 1))],
  rsh: [isa.BPF_RSH, (a, b, bits) => BigInt.asUintN(bits, a) >> (b & BigInt(bits - 1))],
  arsh: [isa.BPF_ARSH, (a, b, bits) => BigInt.asIntN(bits, a) >> (b & BigInt(bits - 1))],
  div: [
    isa.BPF_DIV,
    (a, b, bits) => (BigInt.asUintN(bits, b) === 0n ? 0n : BigInt.asUintN(bits, a) / BigInt.asUintN(bits, b)),
  ],
};

describe.each(Object.entries(ALU))('%s', (_, [op, compute]) => {
  it.each([64, 32] as const)('keeps every possible result, of %d bits', (bits) => {
    const property = fc.property(known, known, fc.boolean(), (a, b, isSmall) => {
      // Shifts are followed for known amounts only: see that they come.
      const shift = isSmall
        ? { reg: UNKNOWN.copy().known(b.value % BigInt(bits)), value: b.value % BigInt(bits) }
        : b;
      const right = op === isa.BPF_LSH || op === isa.BPF_RSH || op === isa.BPF_ARSH ? shift : b;
      const result = a.reg.copy();
      scalarOp(result, right.reg, op, bits === 32);
      const value = BigInt.asUintN(bits, compute(a.value, right.value, bits));
      expectHolds(result, value, `${show(a.reg)} with ${show(right.reg)}`);
    });
    fc.assert(property, { numRuns: 1500, seed: 11 });
  });
});

const JUMPS: Record<string, [number, (a: bigint, b: bigint, bits: 32 | 64) => boolean]> = {
  '==': [isa.BPF_JEQ, (a, b) => a === b],
  '!=': [isa.BPF_JNE, (a, b) => a !== b],
  '&': [isa.BPF_JSET, (a, b) => (a & b) !== 0n],
  '>': [isa.BPF_JGT, (a, b) => a > b],
  '>=': [isa.BPF_JGE, (a, b) => a >= b],
  '<': [isa.BPF_JLT, (a, b) => a < b],
  '<=': [isa.BPF_JLE, (a, b) => a <= b],
  's>': [isa.BPF_JSGT, (a, b, bits) => BigInt.asIntN(bits, a) > BigInt.asIntN(bits, b)],
  's>=': [isa.BPF_JSGE, (a, b, bits) => BigInt.asIntN(bits, a) >= BigInt.asIntN(bits, b)],
  's<': [isa.BPF_JSLT, (a, b, bits) => BigInt.asIntN(bits, a) < BigInt.asIntN(bits, b)],
  's<=': [isa.BPF_JSLE, (a, b, bits) => BigInt.asIntN(bits, a) <= BigInt.asIntN(bits, b)],
};

describe.each(Object.entries(JUMPS))('if a %s b', (_, [op, holds]) => {
  it.each([64, 32] as const)('decides and narrows rightly, of %d bits', (bits) => {
    const property = fc.property(known, known, fc.boolean(), (a, b, isSame) => {
      const value = isSame ? a.value : b.value;
      const right = isSame ? { reg: UNKNOWN.copy().known(value), value } : b;
      const taken = holds(BigInt.asUintN(bits, a.value), BigInt.asUintN(bits, right.value), bits);
      const decided = isScalarBranchTaken(a.reg, right.reg, op, bits === 32);
      if (decided !== undefined) expect(decided).toBe(taken);
      const [left, other] = refineBranch(a.reg, right.reg, op, bits === 32, taken);
      expectHolds(left, a.value, `left of ${show(a.reg)} ${show(right.reg)}`);
      expectHolds(other, right.value, `right of ${show(a.reg)} ${show(right.reg)}`);
    });
    fc.assert(property, { numRuns: 1500, seed: 12 });
  });
});

describe('extension', () => {
  it.each([1, 2, 4])('of %d bytes keeps every possible value', (bytes) => {
    const bits = bytes * 8;
    const property = fc.property(known, ({ reg, value }) => {
      expectHolds(reg.copy().coerce(bytes), BigInt.asUintN(bits, value), 'zero');
      expectHolds(reg.copy().signExtend(bytes), u64(BigInt.asIntN(bits, value)), 'sign');
      if (bytes < 4) expectHolds(reg.copy().signExtend32(bytes), u32(BigInt.asIntN(bits, value)), 'sign 32');
      expectHolds(reg.copy().zext32().sync(), u32(value), 'zext');
    });
    fc.assert(property, { numRuns: 1500, seed: 13 });
  });
});

describe('ranges', () => {
  it('are as narrow as masks and comparisons make them', () => {
    const masked = UNKNOWN.copy();
    scalarOp(masked, UNKNOWN.copy().known(0xffn), isa.BPF_AND, false);
    expect(show(masked)).toBe('s[0,255] u[0,255] s32[0,255] u32[0,255] (0x0; 0xff)');
    scalarOp(masked, UNKNOWN.copy().known(3n), isa.BPF_LSH, false);
    expect(show(masked)).toBe('s[0,2040] u[0,2040] s32[0,2040] u32[0,2040] (0x0; 0x7f8)');
    const [below] = refineBranch(UNKNOWN, UNKNOWN.copy().known(64n), isa.BPF_JLT, false, true);
    expect(show(below)).toBe('s[0,63] u[0,63] s32[0,63] u32[0,63] (0x0; 0x3f)');
    const [, above] = refineBranch(UNKNOWN.copy().known(64n), UNKNOWN, isa.BPF_JGE, false, true);
    expect(show(above)).toBe('s[0,64] u[0,64] s32[0,64] u32[0,64] (0x0; 0x7f)');
    expect(tnumRange(0x10n, 0x1fn)).toEqual({ value: 0x10n, mask: 0xfn });
  });
});
