import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { nodeBinaries } from '../support/nodes.ts';

// Real packages that look at functions (an assertion library, a plugin container, a property test framework) do the same
// when every function of them has a site and every site is probed. Each
// fixture is a self-check of what they show of functions; suites.test.ts runs the tests that packages ship themselves.

const root = fileURLToPath(new URL('../..', import.meta.url));
let folder: string;
let register: string;

beforeAll(async () => {
  folder = mkdtempSync(path.join(tmpdir(), 'trapline-packages-'));
  await build({
    entryPoints: {
      index: path.join(root, 'src/register/index.ts'),
      loader: path.join(root, 'src/register/loader.ts'),
    },
    bundle: true,
    format: 'esm',
    platform: 'node',
    target: 'node20',
    outdir: folder,
    outExtension: { '.js': '.mjs' },
    logLevel: 'error',
  });
  register = path.join(folder, 'index.mjs');
});

afterAll(() => rmSync(folder, { recursive: true, force: true }));

interface Told {
  readonly entries: number;
  readonly ends: number;
  readonly sites: number;
}

function run(node: string, args: readonly string[]): { output: string; told: Told } {
  const { status, stdout, stderr } = spawnSync(node, args, {
    encoding: 'utf8',
    env: { ...process.env, TRAPLINE_CACHE: '0', TRAPLINE_MIN_LENGTH: '0', TRAPLINE_ENDS: 'all' },
  });
  expect(status, stderr).toBe(0);
  return { output: stdout, told: JSON.parse(stderr.trim().split('\n').at(-1)!) as Told };
}

const nodes = nodeBinaries();
const versions = new Map([nodes[0]!, nodes.at(-1)!].map((node) => [node.version, node.path]));

describe.each([...versions])('%s', (_version, node) => {
  it.each([
    ['chai', 300, 2000],
    ['avvio', 100, 300],
    ['fast-check', 1000, 20_000],
  ])('%s', (name, sites, entries) => {
    const file = path.join(root, 'test/fixtures/packages', `${name}.mjs`);
    const plain = run(node, [file]);
    expect(plain.told.sites).toBe(0);
    expect(plain.output.split('\n').length).toBeGreaterThan(10);
    const probed = run(node, ['--import', register, file]);
    expect(probed.output).toBe(plain.output);
    expect(probed.told.sites).toBeGreaterThan(sites);
    expect(probed.told.entries).toBeGreaterThan(entries);
    expect(probed.told.ends).toBeGreaterThan(entries / 2);
  });
});
