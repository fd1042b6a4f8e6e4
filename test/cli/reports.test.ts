import { expect, test } from 'vitest';
import { ArmWarnings } from '../../src/cli/reports.ts';

const unarmed = (name: string) => ({ name, way: undefined, estimateMs: 0, pauseMs: 0, note: 'no reason' });

test('a wildcard says the first warnings, and the number of the others once', () => {
  const warnings = new ArmWarnings();
  const said = ['a', 'b', 'c', 'd', 'e'].map((name) => warnings.of(unarmed(name))?.slice(0, 10));
  expect(said).toEqual(['WARNING: a', 'WARNING: b', 'WARNING: c', undefined, undefined]);
  expect(warnings.of({ name: 'f', way: 'edit', estimateMs: 1, pauseMs: 1 })).toBeUndefined();
  expect(warnings.more()).toBe('WARNING: 2 more warnings of how probes are armed: -v shows all');
  expect(warnings.more()).toBeUndefined();
});
