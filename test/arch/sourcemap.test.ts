import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { lineSite } from '../../src/arch/v8/instrument-line.ts';
import { loadScriptMap, originalSymbols } from '../../src/arch/v8/sourcemap.ts';
import { scanFunctions } from '../../src/arch/v8/symbols.ts';
import { scriptOf } from './support.ts';

let folder: string;
const A = `import { handle as other, Cart, once, twice } from './b.ts';
interface Request {
  url: string;
}
export function handle(req: Request): string {
  // one
  const cart = new Cart<string>();
  cart.add(req.url, 2);
  void twice([once(1)]);
  return other(req.url) + cart.total();
}
console.log(handle({ url: '/' }));
`;
const B = `export const handle = (url: string): string => url;
export const twice = async function (list: number[], { by } = { by: 2 }, scale = 1, ...rest: number[]) {
  return list.map((element) => element * by * scale + rest.length);
};
export class Cart<T> {
  items: T[] = [];
  add(item: T, amount: number): void {
    for (let i = 0; i < amount; i++) this.items.push(item);
  }
  total(): number {
    return this.items.length;
  }
  again = (item: T): void => this.add(item, 1);
}
export const once = (n: number): number => n;
`;

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'trapline-map-'));
  writeFileSync(join(folder, 'a.ts'), A);
  writeFileSync(join(folder, 'b.ts'), B);
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const read = (path: string) => {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return undefined;
  }
};

function originals(file: string) {
  const source = readFileSync(file, 'utf8');
  const script = scriptOf(`file://${file}`, source, /\bexport\b/.test(source));
  const map = loadScriptMap(script, source, read);
  expect(map).toBeDefined();
  return {
    source,
    map: map!,
    script,
    symbols: originalSymbols(scanFunctions(script, source, 0n), source, map!),
  };
}

describe.each(['inline', 'linked'] as const)('an esbuild bundle with an %s map', (sourcemap) => {
  test.each([
    [false, false],
    [true, false],
    [false, true],
    [true, true],
  ])('minified: %s, names kept: %s', async (minify, keepNames) => {
    const out = join(folder, `out-${sourcemap}-${minify}-${keepNames}.js`);
    await build({
      entryPoints: [join(folder, 'a.ts')],
      bundle: true,
      outfile: out,
      sourcemap,
      minify,
      keepNames,
      platform: 'node',
      logLevel: 'error',
    });
    const { source, map, symbols } = originals(out);
    const own = symbols.filter((s) => s.file.endsWith('.ts'));
    const rows = own.map((s) => [s.name, s.file, s.line]).sort();
    expect(rows).toContainEqual(['handle', join(folder, 'a.ts'), 5]);
    expect(rows).toContainEqual(['handle', join(folder, 'b.ts'), 1]);
    expect(rows).toContainEqual(['Cart.total', join(folder, 'b.ts'), 10]);
    expect(rows).toContainEqual(['Cart.again', join(folder, 'b.ts'), 13]);
    expect(rows).toContainEqual(['once', join(folder, 'b.ts'), 15]);
    const handle = own.find((s) => s.file === join(folder, 'a.ts') && s.name === 'handle')!;
    expect(handle.endLine).toBeGreaterThanOrEqual(10);
    const params = Object.fromEntries(own.map((s) => [s.name, s.originalParams]));
    expect(params).toMatchObject({
      'Cart.add': ['item', 'amount'],
      'Cart.total': [],
      twice: ['list', undefined, 'scale', undefined],
    });
    expect(handle.originalParams).toEqual(['req']);
    const callback = own.find((s) => s.name === '' && s.file.endsWith('b.ts'));
    expect(callback?.originalParams).toEqual(['element']);
    // what V8 runs is named as before: texts that are compiled into it use these
    const renamed = own.find((s) => s.name === 'Cart.add')!.params;
    expect(renamed[0] === 'item').toBe(!minify);
    // A line of the original file leads to a statement of the bundle
    const site = lineSite(source, false, handle, 6, 1, map);
    expect(site).toMatchObject({ line: 7 });
    expect(source.slice(site!.offset)).toMatch(/^(const|let|var) /);
  });
});

test("tsc's output", () => {
  const tsc = fileURLToPath(new URL('../../node_modules/typescript/bin/tsc', import.meta.url));
  const out = join(folder, 'dist');
  execFileSync(
    process.execPath,
    [
      tsc,
      ...['--outDir', out, '--sourceMap', '--target', 'es2022', '--module', 'nodenext', '--skipLibCheck'],
      ...['--rewriteRelativeImportExtensions', '--types', '', '--ignoreConfig', join(folder, 'a.ts')],
    ].filter((arg) => arg !== ''),
    { stdio: 'pipe' },
  );
  const { symbols } = originals(join(out, 'a.js'));
  expect(symbols.map((s) => [s.name, s.file, s.line, s.column, s.originalParams])).toEqual([
    ['handle', join(folder, 'a.ts'), 5, 1, ['req']],
  ]);
});

test('no map, an unreadable one or a broken one: none, and no error', () => {
  const none = (comment: string) => {
    const source = `function f() {}\n${comment}`;
    return loadScriptMap(scriptOf('file:///nowhere/x.js', source), source, read);
  };
  expect(none('')).toBeUndefined();
  expect(none('//# sourceMappingURL=x.js.map')).toBeUndefined();
  expect(none('//# sourceMappingURL=data:application/json;base64,e30=')).toBeUndefined();
  expect(none('//# sourceMappingURL=data:application/json,%')).toBeUndefined();
  expect(none('//# sourceMappingURL=http://[')).toBeUndefined();
});
