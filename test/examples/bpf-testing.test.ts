import { spawn } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, test } from 'vitest';

const root = path.join(path.dirname(fileURLToPath(import.meta.url)), '../..');
const folder = mkdtempSync(path.join(tmpdir(), 'trapline-example-'));

/** The example as a user has it: in a folder of its own, with the built package installed. */
beforeAll(() => {
  cpSync(path.join(root, 'examples/bpf-testing'), folder, { recursive: true });
  mkdirSync(path.join(folder, 'node_modules'));
  symlinkSync(root, path.join(folder, 'node_modules/trapline'));
  symlinkSync(path.join(root, 'node_modules/vitest'), path.join(folder, 'node_modules/vitest'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function node(...args: string[]): Promise<{ code: number | null; text: string }> {
  return new Promise((resolve, reject) => {
    const { VITEST: _vitest, VITEST_WORKER_ID: _id, NODE_TEST_CONTEXT: _context, ...env } = process.env;
    const child = spawn(process.execPath, args, { cwd: folder, env: { ...env, NO_COLOR: '1' } });
    let text = '';
    child.stdout.on('data', (data) => {
      text += data;
    });
    child.stderr.on('data', (data) => {
      text += data;
    });
    child.once('error', reject);
    child.once('close', (code) => resolve({ code, text }));
  });
}

test('installs the package of the repository', () => {
  const example = path.join(root, 'examples/bpf-testing');
  const { devDependencies } = JSON.parse(readFileSync(path.join(example, 'package.json'), 'utf8'));
  const place = (devDependencies.trapline as string).replace(/^file:/, '');
  const { name } = JSON.parse(readFileSync(path.join(example, place, 'package.json'), 'utf8'));
  expect(name).toBe('trapline');
  // a link would have the matchers extend the repository's vitest, not the example's
  expect(readFileSync(path.join(example, '.npmrc'), 'utf8')).toContain('install-links=true');
});

test('the firewall, with vitest', async () => {
  const { code, text } = await node('node_modules/vitest/vitest.mjs', 'run', '--maxWorkers=1');
  expect(text).toMatch(/Tests +11 passed \(11\)/);
  expect(code).toBe(0);
}, 120_000);

test('the tracing program, with node:test', async () => {
  const { code, text } = await node('--test', '--test-reporter=tap', 'test/slowread.test.mjs');
  expect(text).toMatch(/^# pass 6$/m);
  expect(text).toMatch(/^# fail 0$/m);
  expect(code).toBe(0);
}, 120_000);
