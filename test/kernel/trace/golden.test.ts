import { expect, test } from 'vitest';
import * as modules from '../../../src/tracefs/index.ts';
import { RECORDINGS, runGolden } from '../../support/golden/golden.mjs';

test('recordings of a real kernel', () => {
  const problems: string[] = [];
  const counts = runGolden(modules, RECORDINGS, (name: string, found: string[]) => {
    for (const problem of found) problems.push(`${name}: ${problem}`);
  });
  expect(counts.passed).toBeGreaterThan(1000);
  expect(problems).toEqual([]);
});
