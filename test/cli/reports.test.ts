import { expect, test } from 'vitest';
import { ArmWarnings, armLine } from '../../src/cli/reports.ts';

const unarmed = (name: string) => ({ name, way: undefined, estimateMs: 0, pauseMs: 0, note: 'no reason' });

test('a wildcard says the first warnings, and the number of the others once', () => {
  const warnings = new ArmWarnings();
  const said = ['a', 'b', 'c', 'd', 'e'].map((name) => warnings.of(unarmed(name))?.slice(0, 10));
  expect(said).toEqual(['WARNING: a', 'WARNING: b', 'WARNING: c', undefined, undefined]);
  expect(warnings.of({ name: 'f', way: 'edit', estimateMs: 1, pauseMs: 1 })).toBeUndefined();
  expect(warnings.more()).toBe('WARNING: 2 more warnings of how probes are armed: -v shows all');
  expect(warnings.more()).toBeUndefined();
});

test('a breakpoint is told once, what it missed at the end', () => {
  const warnings = new ArmWarnings();
  const report = { way: 'break', estimateMs: 1, pauseMs: 1, rateLimit: 833 } as const;
  const texts = [
    warnings.of({ ...report, name: 'a' }),
    warnings.of({ ...report, name: 'a', missed: 100 }),
    warnings.of({ ...report, name: 'a', missed: 20 }),
    warnings.of({ ...report, name: 'b', missed: 5 }),
  ];
  const told = (name: string) =>
    `WARNING: ${name}: armed by a breakpoint, each hit costs the process about 0.1 ms`;
  expect(texts).toEqual([told('a'), undefined, undefined, told('b')]);
  expect(warnings.more()).toBeUndefined();
  const by = 'by the rate of those that were counted: breakpoints together are limited to 833 hits a second';
  expect(warnings.missed()).toEqual([
    `WARNING: a: hits were missed, about 120 ${by}`,
    `WARNING: b: hits were missed, about 5 ${by}`,
  ]);
  expect(warnings.missed()).toEqual([]);
  for (const [index, name] of ['a', 'b', 'c', 'd', 'e'].entries())
    warnings.of({ ...report, name, missed: 100 - index });
  expect(warnings.missed().at(-1)).toBe(
    'WARNING: of 2 more probes hits were missed, about 193 by the rate of those that were counted',
  );
});

test('calls that escape: how to have them counted, where that is known', () => {
  const warnings = new ArmWarnings();
  const report = { way: 'bind', estimateMs: 1, pauseMs: 1 } as const;
  expect(warnings.of({ ...report, name: 'a', escaped: 0 })).toBeUndefined();
  expect(warnings.of({ ...report, name: 'a', escaped: 1 })).toBe(
    'WARNING: a: 1 call came by a reference that is not probed',
  );
  expect(warnings.of({ ...report, name: 'a', escaped: 2, editMs: 123.4 })).toBe(
    'WARNING: a: 2 calls came by a reference that is not probed: --max-pause 124 allows an edit, which counts them',
  );
});

test('a file that was loaded again: told with and without -v', () => {
  const report = { name: 'a', way: 'bind', estimateMs: 1, pauseMs: 1, copies: 2 } as const;
  const told = 'V8 has 2 scripts of its file, which may have been loaded again: the calls of one count';
  expect(new ArmWarnings().of(report)).toBe(`WARNING: a: ${told}`);
  expect(armLine(report)).toBe(`a: bind (estimated 1.00 ms, paused 1.00 ms, ${told})`);
  expect(new ArmWarnings().of({ ...report, copies: 1 })).toBeUndefined();
});

test('a limit on hits is a breakpoint’s only', () => {
  const report = { name: 'a', estimateMs: 0.5, pauseMs: 1, rateLimit: 833 };
  expect(armLine({ ...report, way: 'break' })).toContain('at most 833 hits a second');
  // it was a breakpoint before
  expect(armLine({ ...report, way: 'edit' })).not.toContain('hits a second');
});
