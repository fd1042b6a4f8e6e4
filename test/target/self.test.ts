import { execFile } from 'node:child_process';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { describe, expect, test } from 'vitest';
import { nodeBinaries } from '../support/nodes.ts';

const root = path.dirname(path.dirname(path.dirname(fileURLToPath(import.meta.url))));
const program = path.join(root, 'test/fixtures/self/script.mjs');
const library = path.join(root, 'dist/index.js');
const run = promisify(execFile);

interface Told {
  readonly data: string;
  readonly sum: number;
  readonly lostEvents: number;
  readonly warnings: readonly string[];
  readonly pid: number;
  readonly restored: number;
  readonly same: boolean;
  readonly globals: readonly string[];
  readonly way: string;
}

describe.each(nodeBinaries().map(({ version, path: binary }) => [version, binary]))('%s', (_, node) => {
  // A rebound function is followed from its second call on where ends are wanted.
  test.each([
    ['bind', 1],
    ['edit', 0],
  ])('a process traces itself by a script: %s', async (way, first) => {
    const { stdout } = await run(node!, [program, library, way]);
    const told = JSON.parse(stdout) as Told;
    const calls = 1000 - first;
    const total = (1000 * 999) / 2;
    expect(told.data).toBe(
      [
        `${told.pid}\n\n`,
        `@calls: ${calls}`,
        '@later: 45',
        `@returned: ${total + calls}`,
        `@sum: ${total}`,
        '@us:',
        `[0]${String(calls).padStart(21)} |${'@'.repeat(52)}|\n\n`,
      ].join('\n'),
    );
    expect(told).toMatchObject({
      sum: 1_001_045,
      lostEvents: 0,
      warnings: [],
      restored: 2,
      same: true,
      globals: [],
      way,
    });
  });
});
