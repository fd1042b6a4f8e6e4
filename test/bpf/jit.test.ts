import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { ProgramBuilder, R0, R1, R2, R3, R4, R6, R10 } from '../../src/bpf/builder.ts';
import { Interpreter } from '../../src/bpf/interpreter/interpreter.ts';
import type { Insn } from '../../src/bpf/isa.ts';
import * as isa from '../../src/bpf/isa.ts';
import { buildCfg } from '../../src/bpf/jit/cfg.ts';
import { jitRaw } from '../../src/bpf/jit/raw.ts';
import { findRotations } from '../../src/bpf/jit/values.ts';
import { program } from './random-programs.ts';

const STACK = 1024;
const memory = new WebAssembly.Memory({ initial: 1, maximum: 1, shared: true });
const bytes = new Uint8Array(memory.buffer);
const LIMITS = { min: 1, max: 1, shared: true };

function runJit(
  insns: readonly Insn[],
  r1 = 0n,
  helpers: Record<number, (...args: bigint[]) => bigint> = {},
) {
  bytes.fill(0);
  const wasm = jitRaw(insns, { memory: LIMITS, stack: STACK, helpers: Object.keys(helpers).map(Number) });
  expect(WebAssembly.validate(wasm)).toBe(true);
  const { exports } = new WebAssembly.Instance(new WebAssembly.Module(wasm), {
    env: { memory },
    helper: helpers as unknown as Record<string, WebAssembly.ImportValue>,
  });
  const run64 = exports['run64'] as (r1: bigint, r2: bigint) => bigint;
  return { result: BigInt.asUintN(64, run64(r1, 0n)), stack: bytes.slice(STACK, STACK + 4096) };
}

function runInterpreter(insns: readonly Insn[], r1 = 0n) {
  bytes.fill(0);
  const vm = new Interpreter({ insns, memory: memory.buffer, stack: STACK }, r1);
  return { result: vm.run(1_000_000), stack: bytes.slice(STACK, STACK + 4096) };
}

const build = (emit: (b: ProgramBuilder) => void): Insn[] => {
  const b = new ProgramBuilder();
  emit(b);
  return b.build();
};

describe('the JIT agrees with the interpreter', () => {
  test('on random programs with any control flow: r0 and the whole stack', () => {
    let irreducible = 0;
    fc.assert(
      fc.property(program, fc.bigInt({ min: 0n, max: (1n << 64n) - 1n }), (insns, r1) => {
        if (!buildCfg(insns, 0).reducible) irreducible++;
        expect(runJit(insns, BigInt.asIntN(64, r1))).toEqual(runInterpreter(insns, r1));
      }),
      { numRuns: 300, seed: 20240607 },
    );
    expect(irreducible).toBeGreaterThan(5);
  });

  test('on calls between BPF functions: arguments, kept registers, frames of their own', () => {
    const insns = build((b) =>
      b
        .mov(R6, 7)
        .st(8, R10, -8, 5)
        .mov(R1, 40)
        .mov(R2, R10)
        .add(R2, -8)
        .callLabel('f')
        .ldx(8, R1, R10, -8)
        .add(R0, R1)
        .add(R0, R6)
        .exit()
        .label('f')
        .mov(R6, 1000)
        .st(8, R10, -8, 2)
        .ldx(8, R3, R2, 0)
        .add(R3, 1)
        .stx(8, R2, 0, R3)
        .mov(R0, R1)
        .jcond('==', R1, 0, 'done')
        .sub(R1, 8)
        .callLabel('f')
        .label('done')
        .exit(),
    );
    const expected = runInterpreter(insns);
    expect(expected.result).toBe(0n + 11n + 7n);
    expect(runJit(insns)).toEqual(expected);
  });

  test('on programs of a hundred thousand instructions, nested and in a row', () => {
    const row = build((b) => {
      b.mov(R0, 0);
      for (let n = 0; n < 20_000; n++) {
        const skip = b.newLabel();
        b.jcond('==', R0, n * 2, skip)
          .add(R0, 1)
          .label(skip)
          .add(R0, 1);
      }
      b.exit();
    });
    expect(runJit(row).result).toBe(runInterpreter(row).result);
    const nested = build((b) => {
      b.mov(R0, 0).mov(R2, 9000);
      for (let n = 0; n < 9000; n++) b.jcond('==', R2, n, `after${n}`);
      for (let n = 8999; n >= 0; n--) b.add(R0, 1).label(`after${n}`);
      b.exit();
    });
    expect(runJit(nested).result).toBe(9000n);
  });
});

describe('the JIT', () => {
  test('finds rotations, and nothing that only looks like one', () => {
    const rotations = (emit: (b: ProgramBuilder) => void) => {
      const insns = build((b) => {
        emit(b);
        b.exit();
      });
      return [...(findRotations(insns, buildCfg(insns, 0).blocks[0]!)?.at.values() ?? [])].map(
        (r) => r.count,
      );
    };
    expect(rotations((b) => b.mov(R3, R1).lsh(R3, 13).rsh(R1, 51).or(R3, R1))).toEqual([13]);
    expect(rotations((b) => b.mov32(R3, R1).rsh32(R3, 7).lsh32(R1, 25).or32(R1, R3))).toEqual([25]);
    expect(rotations((b) => b.mov(R3, R1).lsh(R3, 13).add(R1, 1).rsh(R1, 51).or(R3, R1))).toEqual([]);
    expect(rotations((b) => b.mov(R3, R1).lsh(R3, 13).rsh(R1, 50).or(R3, R1))).toEqual([]);
    expect(rotations((b) => b.mov(R3, R1).lsh(R3, 13).arsh(R1, 51).or(R3, R1))).toEqual([]);
  });

  test('ends a loop of may_goto after BPF_MAX_LOOPS rounds', () => {
    const insns = build((b) =>
      b.mov(R0, 0).label('again').add(R0, 1).mayGoto('out').jump('again').label('out').exit(),
    );
    expect(runJit(insns).result).toBe(BigInt(isa.BPF_MAX_LOOPS) + 1n);
  });

  test('passes five arguments to a helper and takes 64 bits back', () => {
    const insns = build((b) => {
      b.lddw(R1, 0xffff_ffff_ffff_fffen).mov(R2, 2).mov(R3, -3).mov(R4, 4).mov({ reg: 5 }, 5).call(77).exit();
    });
    const seen: bigint[][] = [];
    const { result } = runJit(insns, 0n, {
      77: (...args) => {
        seen.push(args);
        return -2n;
      },
    });
    expect(seen).toEqual([[-2n, 2n, -3n, 4n, 5n]]);
    expect(result).toBe(0xffff_ffff_ffff_fffen);
  });

  test('traps outside of the memory and on calls that nest too deep, and refuses what is no program', () => {
    expect(() => runJit(build((b) => b.mov(R1, -8).ldx(8, R0, R1, 0).exit()))).toThrow(
      WebAssembly.RuntimeError,
    );
    const endless = build((b) => b.label('f').callLabel('f').exit());
    expect(() => runJit(endless)).toThrow(WebAssembly.RuntimeError);
    expect(() => runInterpreter(endless)).toThrow('calls nest too deep');
    expect(() => runJit([{ code: 0x05, dst: 0, src: 0, off: 5, imm: 0 }])).toThrow(
      'control leaves the program',
    );
    expect(() =>
      runJit([
        { code: 0xff, dst: 0, src: 0, off: 0, imm: 0 },
        { code: 0x95, dst: 0, src: 0, off: 0, imm: 0 },
      ]),
    ).toThrow('unknown opcode ff');
  });
});
