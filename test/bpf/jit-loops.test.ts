/** Loops of one block: unrolled where their iterations are known, and the same as in the interpreter either way. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { assemble } from '../../src/bpf/asm/assemble.ts';
import { Interpreter } from '../../src/bpf/interpreter/interpreter.ts';
import type { Insn } from '../../src/bpf/isa.ts';
import { buildCfg } from '../../src/bpf/jit/cfg.ts';
import { planUnrolling, type UnrollPlan } from '../../src/bpf/jit/loops.ts';
import { jitRaw } from '../../src/bpf/jit/raw.ts';
import { analyse } from '../../src/bpf/jit/values.ts';

const STACK = 1024;
const BUFFER = 16384;
const memory = new WebAssembly.Memory({ initial: 1, maximum: 1, shared: true });
const bytes = new Uint8Array(memory.buffer);
/** As a string: vitest compares those quickly. */
const contents = (): string => Buffer.from(bytes).toString('base64');
const fill = (): void => {
  for (let n = 0; n < bytes.length; n++) bytes[n] = (n * 31 + 7) & 255;
};

/** What is done with the first loop of one block that a program has. */
function plan(text: string): UnrollPlan | undefined {
  const insns = assemble(text);
  const cfg = buildCfg(insns, 0);
  const entries = analyse(insns, cfg);
  const plans = cfg.blocks.map((_, index) => planUnrolling(insns, cfg, entries, index));
  return plans.find((found) => found !== undefined);
}

function both(insns: readonly Insn[]): { jit: unknown; interpreter: unknown } {
  fill();
  const vm = new Interpreter({ insns, memory: memory.buffer, stack: STACK }, BigInt(BUFFER));
  const interpreter = { r0: vm.run(1_000_000), memory: contents() };
  fill();
  const wasm = jitRaw(insns, { memory: { min: 1, max: 1, shared: true }, stack: STACK });
  expect(WebAssembly.validate(wasm)).toBe(true);
  const { exports } = new WebAssembly.Instance(new WebAssembly.Module(wasm), { env: { memory } });
  const run = exports['run64'] as (a: bigint, b: bigint) => bigint;
  const jit = { r0: BigInt.asUintN(64, run(BigInt(BUFFER), 0n)), memory: contents() };
  return { jit, interpreter };
}

describe('loops of one block', () => {
  test.each([
    ['r2 = 0\nl: r0 += r2\nr2 += 1\nif r2 != 64 goto l\nexit', { copies: 16, peeled: 0 }],
    // clang's form: the way back is a jump of its own.
    ['r2 = 0\nl: r0 += r2\nr2 += 8\nif r2 == 4096 goto out\ngoto l\nout: exit', { copies: 16, peeled: 0 }],
    ['r2 = 5\nl: r0 += r2\nw2 += 3\nif w2 < 100 goto l\nexit', { copies: 16, peeled: 0 }],
    ['r2 = 5\nl: r0 += r2\nw2 += 3\nif w2 <= 100 goto l\nexit', { copies: 16, peeled: 0 }],
    ['r2 = 0\nl: r0 += r2\nr2 += 1\nif r2 s< 20 goto l\nexit', { copies: 16, peeled: 4 }],
    ['r2 = 0\nr3 = 12\nl: r0 += r2\nr2 += 1\nif r2 < r3 goto l\nexit', { copies: 8, peeled: 4 }],
  ])('%s', (text, expected) => {
    expect(plan(text)).toEqual(expected);
    const insns = assemble(`r0 = 0\n${text}`);
    const { jit, interpreter } = both(insns);
    expect(jit).toEqual(interpreter);
  });

  test.each([
    ['a counter from outside', 'l: r0 += r2\nr2 += 1\nif r2 != 64 goto l\nexit'],
    ['a limit that is passed by', 'r2 = 0\nl: r0 += r2\nr2 += 3\nif r2 != 64 goto l\nexit'],
    ['a counter that moves otherwise too', 'r2 = 0\nl: r2 ^= r0\nr2 += 1\nif r2 < 64 goto l\nexit'],
    ['a counter that goes down', 'r2 = 9\nl: r0 += r2\nr2 += -1\nif r2 != 0 goto l\nexit'],
    ['a limit that changes', 'r2 = 0\nr3 = 9\nl: r3 += 1\nr2 += 2\nif r2 < r3 goto l\nexit'],
    ['a call', 'r2 = 0\nl: call 7\nr2 += 1\nif r2 < 64 goto l\nexit'],
    ['one iteration', 'r2 = 0\nl: r0 += r2\nr2 += 1\nif r2 < 1 goto l\nexit'],
    [
      'two ways in, with two values',
      'r2 = 0\nif r1 == 0 goto l\nr2 = 1\nl: r0 += 1\nr2 += 1\nif r2 < 64 goto l\nexit',
    ],
    ['numbers near 2^31', 'r2 = 0x3fffffff\nl: r0 += 1\nw2 += 0x3fffffff\nif w2 s< 0x7fffffff goto l\nexit'],
    ['may_goto', 'l: r0 += 1\nmay_goto l\nexit'],
  ])('not unrolled: %s', (_name, text) => {
    expect(plan(text)).toBeUndefined();
  });

  test('any body, start, step, limit and comparison: as the interpreter', () => {
    const line = fc.constantFrom(
      'r3 = r1\nr3 += r2\nr4 = *(u8 *)(r3 +0)\nr0 += r4',
      'r3 = r1\nr3 += r2\n*(u8 *)(r3 +3) = r0',
      'r3 = r1\nr3 += r2\nr3 += -7\nr4 = *(u16 *)(r3 +7)\n*(u16 *)(r3 +2000) = r4',
      'r5 = r2\nr5 <<= 3\nr5 += r1\nr4 = *(u64 *)(r5 +0)\nr0 ^= r4',
      'r6 = r0\nr0 <<= 13\nr6 >>= 51\nr0 |= r6',
      'r7 += 4\nr8 = r7\nr8 += r10\nr0 += r8',
      'w0 *= 31\nr0 += r2',
      '*(u64 *)(r10 -8) = r0\nr4 = *(u32 *)(r10 -6)\nr0 += r4',
    );
    const loop = fc.record({
      lines: fc.array(line, { minLength: 1, maxLength: 4 }),
      start: fc.integer({ min: 0, max: 20 }),
      step: fc.integer({ min: 1, max: 5 }),
      iterations: fc.integer({ min: 1, max: 70 }),
      op: fc.constantFrom('!=', '<', '<=', 's<', 's<='),
      wide: fc.boolean(),
      atEnd: fc.boolean(),
      extra: fc.integer({ min: 0, max: 4 }),
    });
    let unrolled = 0;
    fc.assert(
      fc.property(loop, ({ lines, start, step, iterations, op, wide, atEnd, extra }) => {
        const limit = start + step * iterations + (op === '!=' ? 0 : Math.min(extra, step - 1));
        const letter = wide ? 'r' : 'w';
        const test = atEnd
          ? `if ${letter}2 ${op} ${limit} goto l`
          : op === '!='
            ? `if ${letter}2 == ${limit} goto out\ngoto l`
            : `if ${letter}2 >= ${limit} goto out\ngoto l`;
        const text = `r0 = 0\nr7 = 0\nr2 = ${start}\nl: ${lines.join('\n')}\n${letter}2 += ${step}\n${test}\nout: exit`;
        if (plan(text) !== undefined) unrolled++;
        const { jit, interpreter } = both(assemble(text));
        expect(jit).toEqual(interpreter);
      }),
      { numRuns: 200, seed: 11 },
    );
    expect(unrolled).toBeGreaterThan(100);
  });
});
