import { existsSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import * as modules from '../../../src/tracefs/index.ts';
import { runGolden } from '../../support/golden/golden.mjs';

const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '../../..');
const folder = path.join(process.env['TRAPLINE_SHARED'] ?? path.join(root, '../shared'), 'golden');

test.skipIf(!existsSync(folder))('recordings of a real kernel (skipped without shared/golden)', () => {
  const problems: string[] = [];
  const counts = runGolden(modules, folder, (name: string, found: string[]) => {
    for (const problem of found) problems.push(`${name}: ${problem}`);
  });
  expect(counts.passed).toBeGreaterThan(0);
  expect(problems).toEqual([]);
});
