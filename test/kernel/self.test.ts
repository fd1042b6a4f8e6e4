import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { build } from 'esbuild';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { nodeBinaries } from '../support/nodes.ts';

// kprobes with JavaScript handlers in the own process, on every kind of function, against what the functions count
// themselves: by trap, rewritten, with return and settle probes, with post handlers, and after all of it.

const run = promisify(execFile);
const root = fileURLToPath(new URL('../..', import.meta.url));
let folder: string;
let library: string;

beforeAll(async () => {
  folder = mkdtempSync(path.join(tmpdir(), 'trapline-self-'));
  // As deep as in the package, for the library must know its own folder.
  library = path.join(folder, 'dist/arch/v8/self.mjs');
  await build({
    stdin: {
      contents: "export * from './src/arch/v8/self.ts'; export * from './src/kernel/kprobes/index.ts';",
      resolveDir: root,
    },
    bundle: true,
    platform: 'node',
    format: 'esm',
    outfile: library,
    logLevel: 'error',
  });
});

afterAll(() => rmSync(folder, { recursive: true, force: true }));

const nodes = nodeBinaries().map((node) => node.path);
const [first, last] = [nodes[0]!, nodes.at(-1)!];
const cases =
  process.env['TRAPLINE_TEST_ALL'] === undefined
    ? [[first, 'kinds.cjs'] as const, [last, 'kinds.mjs'] as const]
    : nodes.flatMap((node) => ['kinds.cjs', 'kinds.mjs'].map((file) => [node, file] as const));

it.each(cases)('%s %s', async (node, file) => {
  const { stdout } = await run(node, [
    path.join(root, 'test/fixtures/self/run.mjs'),
    library,
    path.join(root, 'test/fixtures/targets', file),
  ]);
  const report = JSON.parse(stdout.trim().split('\n').at(-1)!) as {
    phases: Record<string, { wrong: string[]; changed: string[]; probes: number }>;
    optimized: number;
    counted: boolean;
    environment: boolean;
    list: string;
  };
  expect(Object.fromEntries(Object.entries(report.phases).map(([name, { wrong }]) => [name, wrong]))).toEqual(
    {
      trap: [],
      optimized: [],
      return: [],
      post: [],
      after: [],
    },
  );
  expect(Object.values(report.phases).map(({ probes }) => probes)).toEqual([38, 38, 55, 46, 0]);
  // V8 13 and later are not given edits that nobody asked for: src/arch/v8/closures-hazard.ts
  const { stdout: v8 } = await run(node, ['-p', 'parseInt(process.versions.v8)']);
  const isOptimized = Number(v8) < 13;
  // A breakpoint in a function makes V8 word a temporal dead zone's error differently; nothing else may change.
  const trapped = isOptimized ? ['trap'] : ['trap', 'optimized'];
  for (const [name, { changed }] of Object.entries(report.phases))
    expect(changed, name).toEqual(trapped.includes(name) ? ['deadZone'] : []);
  // where V8 cannot stop, a probe is an edit from the start
  expect(report.optimized).toBe(isOptimized ? 38 : 2);
  expect(report).toMatchObject({ counted: false, environment: true, list: '' });
});

// V8 13.0 to 14.5 ends such a process with SIGSEGV, unless its optimized code goes: src/arch/v8/stale-code.ts.
it.each(nodes)('%s: a caller that was optimized while its callee was rewritten', async (node) => {
  const { stdout } = await run(node, [
    '--expose-gc',
    path.join(root, 'test/fixtures/self/stale.mjs'),
    library,
    path.join(root, 'test/e2e/fixtures/stale/callee.mjs'),
  ]);
  expect(stdout).toBe('9000');
});

it.each(nodes)('%s: probes where a breakpoint would change the function', async (node) => {
  const { stdout } = await run(node, [path.join(root, 'test/fixtures/self/hazards.mjs'), library]);
  const names = ['new Derived', '5', 'given', 'declared', '20'];
  expect(JSON.parse(stdout)).toEqual(
    Object.fromEntries(
      names.flatMap((name) => [
        [name, [6, true]],
        [`${name} post`, [12, true]],
      ]),
    ),
  );
});
