import { chmodSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { scanFunctions } from '../../src/arch/v8/symbols.ts';
import type { ScriptInfo } from '../../src/arch/v8/types.ts';

const file = createRequire(import.meta.url).resolve('fastify');
const source = readFileSync(file, 'utf8');
const info = (scriptId: string, url: string): ScriptInfo => ({
  scriptId,
  url,
  isModule: false,
  length: source.length,
  sourceMapURL: '',
  executionContextId: 1,
  hash: '',
});

let folder = '';
beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'trapline-symbols-'));
  vi.stubEnv('TRAPLINE_SYMBOL_CACHE', folder);
  vi.resetModules();
});
afterEach(() => {
  vi.unstubAllEnvs();
  rmSync(folder, { recursive: true, force: true });
});

const load = async () => (await import('../../src/arch/v8/symbols-cache.ts')).scanCached;

test('a second scan is what the first was, for another script of the same text too', async () => {
  const scanCached = await load();
  const expected = scanFunctions(info('7', file), source, 0x1000n);
  expect(expected.symbols.length).toBeGreaterThan(20);
  expect(scanCached(info('7', file), source, 0x1000n)).toEqual(expected);
  expect(readdirSync(folder)).toHaveLength(1);
  expect(scanCached(info('7', file), source, 0x1000n)).toEqual(expected);
  const other = info('8', 'file:///elsewhere/a.js');
  expect(scanCached(other, source, 0x5000n)).toEqual(scanFunctions(other, source, 0x5000n));
  expect(readdirSync(folder)).toHaveLength(1);
});

test('what is kept is what is read, and belongs to its user', async () => {
  const scanCached = await load();
  const found = scanCached(info('1', file), source, 0n);
  const [name = ''] = readdirSync(folder);
  expect(statSync(path.join(folder, name)).mode & 0o777).toBe(0o600);
  const kept = readFileSync(path.join(folder, name));
  const renamed = Buffer.from(kept.toString('latin1').replace('"fastify"', '"altered"'), 'latin1');
  expect(renamed.equals(kept)).toBe(false);
  writeFileSync(path.join(folder, name), renamed);
  const names = scanCached(info('1', file), source, 0n).symbols.map((symbol) => symbol.name);
  expect(names).toContain('altered');
  for (const damaged of ['damaged', '', kept.subarray(0, 100), kept.subarray(0, kept.length - 3)]) {
    writeFileSync(path.join(folder, name), damaged);
    expect(scanCached(info('1', file), source, 0n)).toEqual(found);
  }
});

test('a folder that others may write to is not used', async () => {
  chmodSync(folder, 0o777);
  const scanCached = await load();
  expect(scanCached(info('1', file), source, 0n).symbols.length).toBeGreaterThan(20);
  expect(readdirSync(folder)).toEqual([]);
});
