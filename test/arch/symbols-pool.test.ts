import { readdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { expect, test } from 'vitest';
import { scanFunctions } from '../../src/arch/v8/symbols.ts';
import { packSymbols, unpackSymbols } from '../../src/arch/v8/symbols-pack.ts';
import { threadsFor } from '../../src/arch/v8/symbols-pool.ts';
import { root } from '../e2e/support.ts';
import { scriptOf } from './support.ts';

const built = (await import(
  path.join(root, 'dist/arch/v8/symbols-pool.js')
)) as typeof import('../../src/arch/v8/symbols-pool.ts');

/** Every script of two large packages. */
const texts = ['fastify', 'undici'].flatMap((name) => {
  const folder = path.dirname(createRequire(import.meta.url).resolve(`${name}/package.json`));
  return readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .filter((file) => /\.[cm]?js$/.test(file))
    .map((file) => ({
      source: readFileSync(path.join(folder, file), 'utf8'),
      isModule: file.endsWith('.mjs'),
    }));
});

test('packed and unpacked, symbols are what they were', () => {
  let functions = 0;
  for (const { source, isModule } of texts) {
    const script = scriptOf('file:///a%20b/x.js', source, isModule);
    const scanned = scanFunctions(script, source, 0x123456789000n);
    expect(unpackSymbols(packSymbols(scanned), script, 0x123456789000n)).toEqual(scanned);
    functions += scanned.symbols.length;
  }
  expect(functions).toBeGreaterThan(3000);
});

test('names of any kind survive', () => {
  const source =
    '({ "a\\0b"() {}, "\\ud800"() {}, [x]() {}, get "": () => 1, set s(v) {} }); class A extends B { static #p() {} }';
  const script = scriptOf('file:///x.js', source);
  const scanned = scanFunctions(script, source, 0n);
  expect(unpackSymbols(packSymbols(scanned), script, 0n)).toEqual(scanned);
});

test('what is not packed symbols is refused', () => {
  const script = scriptOf('file:///x.js', 'function f(a, b) {}');
  const packed = packSymbols(scanFunctions(script, 'function f(a, b) {}', 0n));
  const cut = { ...packed, numbers: packed.numbers.slice(0, -1) };
  expect(() => unpackSymbols(cut, script, 0n)).toThrow(RangeError);
  expect(() => unpackSymbols({ ...packed, strings: [] }, script, 0n)).toThrow(RangeError);
});

test('threads give what one thread gives, in the same order', async () => {
  const more = [...texts, { source: 'function broken( {', isModule: false }, { source: '', isModule: true }];
  const found = await built.scanInThreads(more, 2);
  const expected = more.map(({ source, isModule }) =>
    packSymbols(scanFunctions(scriptOf('', source, isModule), source, 0n)),
  );
  expect(found).toEqual(expected);
  expect(found.at(-2)?.failure).toBeDefined();
});

test('few texts need no threads, and no machine gets more than it has cores', () => {
  expect(threadsFor(1000, 8)).toBe(0);
  expect(threadsFor(1e9, 1)).toBe(0);
  expect(threadsFor(1e9, -20)).toBe(0);
  expect(threadsFor(1e9, 2)).toBe(2);
  expect(threadsFor(1e9, 64)).toBe(4);
});
