import { describe, expect, test } from 'vitest';
import {
  breakpointMs,
  calibrate,
  deoptimizeMs,
  ENABLING,
  editMs,
  enableMs,
  hitMs,
  longestOf,
  stopsOf,
} from '../../src/arch/v8/arm-cost.ts';
import { scopesMs } from '../../src/arch/v8/scope-cost.ts';
import { symbolsOf } from './support.ts';

const HEAP = { heapBytes: 100e6, debuggerEnabled: true };
const SCRIPT = { length: 10_000, scopesMs: () => 0 };

describe('the cost model', () => {
  test('a heap of few large objects is walked sooner, and edited sooner, than one of many small ones', () => {
    const small = calibrate({ ...HEAP, enableMs: 40, walkMs: 25 });
    const large = calibrate({ ...HEAP, enableMs: 25, walkMs: 5 });
    expect(editMs(large, SCRIPT)).toBeLessThan(editMs(small, SCRIPT) / 2);
    expect(deoptimizeMs(large)).toBeLessThan(deoptimizeMs(small) / 2);
  });

  test('a chance delay of a small process does not make a large heap of it', () => {
    const quiet = calibrate({ heapBytes: 10e6, debuggerEnabled: true, enableMs: 20, walkMs: 5 });
    const late = calibrate({ heapBytes: 10e6, debuggerEnabled: true, enableMs: 60, walkMs: 60 });
    expect(editMs(late, SCRIPT)).toBeLessThan(2 * editMs(quiet, SCRIPT));
  });

  test('without the debugger, enabling it is part of each way that needs it', () => {
    const target = calibrate({ ...HEAP, debuggerEnabled: false });
    expect(enableMs(target)).toBeGreaterThan(17);
    for (const way of ['bind', 'edit', 'break'] as const)
      expect(stopsOf(way, target, SCRIPT)).toContainEqual({ what: ENABLING, ms: enableMs(target) });
    expect(longestOf(stopsOf('property', target, SCRIPT))).toMatchObject({ ms: 1 });
  });

  test('the longest stop of a binding is the debugger in a small heap, a walk or the text in a large one', () => {
    const plan = (heapMb: number, length = 10_000, debuggerEnabled = false) => {
      const target = calibrate({ heapBytes: heapMb * 1e6, debuggerEnabled });
      return { target, stop: longestOf(stopsOf('bind', target, { ...SCRIPT, length })) };
    };
    // 17 ms for telling of the scripts, and a walk of 0.22 ms for each MB
    expect(plan(10).stop).toEqual({ what: ENABLING, ms: 17 + 2.2 });
    expect(plan(10, 10_000, true).stop.ms).toBeCloseTo(1.5 + 1.3 * 2.2);
    const large = plan(400);
    expect(large.stop).toEqual({ what: 'setting a breakpoint', ms: breakpointMs(large.target) });
    expect(plan(10, 2_500_000).stop).toEqual({
      what: "a breakpoint's first hit",
      ms: hitMs({ length: 2_500_000 }),
    });
  });
});

describe('comparing scopes', () => {
  const module = (functions: number, body: (i: number) => string): string =>
    Array.from({ length: functions }, (_, i) => `function f${i}(a) { ${body(i)} }\n`).join('');
  const cost = (text: string): number => scopesMs(text, symbolsOf(text));

  test('grows with the square of a module’s functions, more where they call each other', () => {
    const alone = cost(module(2000, () => 'return a;'));
    const calling = cost(module(2000, (i) => `return f${(i + 1) % 2000}(a);`));
    expect(cost(module(4000, () => 'return a;'))).toBeGreaterThan(3.5 * alone);
    expect(calling).toBeGreaterThan(3 * alone);
    // measured: 1.6 s for 4000, 8 s for 8000
    expect(calling).toBeGreaterThan(200);
    expect(calling).toBeLessThan(600);
  });

  test('as many functions in modules of their own, as a bundler puts them, cost next to nothing', () => {
    const wrapped = Array.from(
      { length: 200 },
      (_, m) =>
        `var require_${m} = wrap((exports) => {\n${module(20, (i) => `return f${(i + 1) % 20}(a);`)}});\n`,
    ).join('');
    expect(cost(wrapped)).toBeLessThan(cost(module(4200, (i) => `return f${(i + 1) % 4200}(a);`)) / 5);
  });

  test('a small script is not looked through', () => {
    expect(cost(module(100, () => 'return a;'))).toBe(0);
  });
});
