import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { commonJsEntry } from '../../src/register/entry.ts';
import { root } from '../e2e/support.ts';
import { nodeBinaries, typesFeature } from '../support/nodes.ts';
import { unless } from '../support/skip.ts';

const register = pathToFileURL(path.join(root, 'dist/register/index.js')).href;
let folder = '';

const ABOUT = `
  const sites = globalThis[Symbol.for('trapline.sites')];
  if (process.argv.includes('prepared') && !sites?.scripts.has(__filename)) throw new Error('not prepared');
  console.log(JSON.stringify({
    main: require.main === module, id: module.id, file: __filename, parent: module.parent === null || module.parent === undefined,
    process: process.mainModule === module, argv: process.argv.slice(1).filter((a) => a !== 'prepared'),
    cached: require.cache[__filename] === module, loaded: module.loaded, children: module.children.length,
    self: this === module.exports }));
  function long(a) { /* long enough for a site, as all functions are that have got a hundred characters or more */ return a; }
  exports.long = long;
  import(require('url').pathToFileURL(__filename)).then((ns) => console.log(ns.default === module.exports, module.loaded));
`;

const FILES: Record<string, string> = {
  'plain/main.js': ABOUT,
  'plain/index.js': ABOUT,
  'plain/bin': ABOUT,
  'plain/main.cjs': ABOUT,
  'plain/throws.js':
    "process.on('exit', (code) => console.log('exit', code)); throw new TypeError('from main');",
  'plain/rejects.js': "Promise.reject(new TypeError('rejected'));",
  'plain/exits.js': 'process.exit(7);',
  'plain/syntax.js': 'this is no program',
  'plain/module-text.js':
    "import path from 'node:path'; export const x = 1; console.log(typeof path.join, import.meta.url, typeof require);",
  'plain/awaits.js': "import path from 'node:path'; await null; console.log('awaited', typeof path.join);",
  'typed/package.json': '{"type":"module"}',
  'typed/main.js': 'console.log(typeof require, import.meta.url);',
  'plain/main.mjs': 'console.log(typeof require, import.meta.url);',
  ...typed(),
};

/** What Node runs of TypeScript, and refuses. */
function typed(): Record<string, string> {
  const about = ABOUT.replace('function long(a)', 'interface Gone {}\n  function long(a: number): number');
  const place = "const at = (e: Error): string => e.stack!.split('\\n')[1]!.replace(/^.*\\/|\\)$/g, '');";
  const module = `export type A = number; ${place}\nconsole.log(import.meta.url, typeof require,
    at(new Error('x')).replace(/:\\d+$/, ''));`;
  return {
    'types/main.cts': about,
    'types/main.ts': about,
    'types/module-text.ts': module,
    'types/main.mts': module,
    'types/imports.mts':
      "import main from './main.cts'; import './module-text.ts'; console.log(Object.keys(main));",
    'types/throws.cts': "const a: number = 1;\nthrow new TypeError('from main');",
    'types/enum.ts': 'enum Color { Red }\nconsole.log(Color);',
    'types/syntax.cts': 'function f(a: number {',
    'types/refused.mts': "import './node_modules/pkg/index.ts';",
    'types/node_modules/pkg/index.ts': 'export const a: number = 1; console.log(a);',
    'types/package/package.json': '{"type":"commonjs"}',
    'types/package/main.ts': about,
  };
}

beforeAll(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'trapline-entry-'));
  for (const [name, text] of Object.entries(FILES)) {
    mkdirSync(path.dirname(path.join(folder, name)), { recursive: true });
    writeFileSync(path.join(folder, name), text);
  }
  symlinkSync(path.join(folder, 'plain/main.js'), path.join(folder, 'link.js'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe.each(nodeBinaries())('entries, Node $version', ({ path: node }) => {
  const run = (file: string, flags: string[], args: string[]) => {
    const { status, stdout, stderr } = spawnSync(node, [...flags, path.join(folder, file), ...args], {
      encoding: 'utf8',
      env: { ...process.env, NODE_OPTIONS: '', TRAPLINE_CACHE: '0' },
    });
    return { status, stdout, error: /^\w*Error: .*/m.exec(stderr)?.[0] };
  };

  const same = (file: string, about: boolean) => {
    const with_ = run(file, ['--import', register], about ? ['x', 'prepared'] : ['x']);
    expect(with_).toEqual(run(file, [], ['x']));
  };

  test.each([
    ['plain/main.js', true],
    ['plain/main', true],
    ['plain/main.cjs', true],
    ['link.js', true],
    ['plain', true],
    ['plain/bin', true],
    ['plain/throws.js', false],
    ['plain/rejects.js', false],
    ['plain/exits.js', false],
    ['plain/syntax.js', false],
    ['plain/module-text.js', false],
    ['plain/awaits.js', false],
    ['typed/main.js', false],
    ['plain/main.mjs', false],
  ])('%s is what it is without trapline/register', same);

  const strips = typesFeature(node) === 'strip';
  test.each([
    ['types/main.cts', true],
    ['types/main.ts', true],
    ['types/package/main.ts', true],
    ['types/module-text.ts', false],
    ['types/main.mts', false],
    ['types/imports.mts', false],
    ['types/throws.cts', false],
    ['types/enum.ts', false],
    ['types/syntax.cts', false],
    ['types/refused.mts', false],
  ])(
    '%s is what it is without trapline/register',
    unless(strips ? undefined : 'this Node runs no TypeScript'),
    same,
  );
});

test('who may take the short way', () => {
  const main = path.join(folder, 'plain/main.js');
  const entry = (options: string[], nodeOptions = '', file = main) =>
    commonJsEntry(['node', file], options, nodeOptions) !== undefined;
  expect(entry(['--import', 'a'])).toBe(true);
  expect(entry(['--import=a', '--inspect', '--max-old-space-size=100', '--enable-source-maps'])).toBe(true);
  expect(entry(['--import', 'a'], '--import b')).toBe(false);
  expect(entry(['--import', 'a', '--loader', 'b'])).toBe(false);
  expect(entry(['--import', 'a', '--experimental-loader=b'])).toBe(false);
  expect(entry(['--import', 'a', '--preserve-symlinks-main'])).toBe(false);
  expect(entry(['--import', 'a', '-e'])).toBe(false);
  expect(entry([], '', path.join(folder, 'typed/main.js'))).toBe(false);
  expect(entry([], '', path.join(folder, 'plain/main.mjs'))).toBe(false);
  expect(entry([], '', path.join(folder, 'nowhere.js'))).toBe(false);
  expect(commonJsEntry(['node'], [])).toBeUndefined();
});
