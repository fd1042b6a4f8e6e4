/** `-c` with TypeScript that Node runs itself. */
import { execFile } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import { nodeBinaries, typesFeature } from '../support/nodes.ts';
import { unless } from '../support/skip.ts';
import { environment, launchFolder, root } from './launch-support.ts';

const CALLS = 'for (let i = 0; i < 5; i++) { main(i); plain(i); c(i); m(i); either(i); }';

const FILES: Record<string, string> = {
  'esm.ts': `import { plain } from './plain.ts';
import { c } from './c.cts';
import type { Held } from './m.mts';
import { m } from './m.mts';
import { either } from './either.ts';

interface Many {
  readonly a: number;
}
function main(first: number, many?: Many): number { return first; }
class Box<T> { kept?: T; put(value: T): T { this.kept = value; return value; } }
async function later(n: number): Promise<number> { await null; return n; }
${CALLS}
new Box<Held>().put(7 as Held);
await later(3);
process.on('exit', (): void => void main(9));
`,
  'cjs.cts': `const { plain } = require('./plain.ts'), { c } = require('./c.cts');
const { m } = require('./m.mts'), { either } = require('./either.ts');
function main(first: number): number { return first; }
${CALLS}
process.on('exit', () => void main(9));
`,
  'plain.ts': 'export function plain(n: number): number { return n; }\n',
  'c.cts': 'exports.c = function c(n: number): number { return n; };\n',
  'm.mts': 'export type Held = number;\nexport function m(n: Held): number { return n; }\n',
  'either.ts': 'exports.either = function either(n: number): number { return n; };\n',
  'plain.d.ts': 'export declare function plain(n: number): number;\n',
  'typed/package.json': '{"type":"module"}',
  'typed/own.ts': `import { inner } from './inner.ts';
export function own(n: number): number { return inner(n); }
for (let i = 0; i < 5; i++) own(i);
`,
  'typed/inner.ts': 'export const inner = (n: number): number => { return n + 1; };\n',
  'enums.ts': `interface Gone {
  a: number;
}

enum Color { Red, Green }

class Named { constructor(private x: number) {}
  get(gone: Gone): number { return this.x; } }
function mixed(first: number, color: Color): number { return first + color; }
for (let i = 0; i < 5; i++) { mixed(i, Color.Green); new Named(i).get({ a: 1 }); }
`,
  'unasked.mjs': `import { createRequire } from 'node:module';
const { asked } = createRequire(import.meta.url)('./asked.js');
for (let i = 0; i < 5; i++) asked(i);
`,
  'asked.js': 'export function asked(n) { return n; }\n',
  // as ts-node and Babel do it: what is compiled is not what the file has
  'hook.cjs': `const Module = require('node:module');
const { readFileSync } = require('node:fs');
Module._extensions['.js'] = (module, file) => module._compile(readFileSync(file, 'utf8') + '// rewritten', file);
`,
  'rewritten.js': 'function changed(n) { return n; }\nfor (let i = 0; i < 5; i++) changed(i);\n',
};

const { folder, run } = launchFolder(FILES);

/** The lines that are printed. */
async function trace(command: string, script: string) {
  const { out, ...rest } = await run(['-c', command, script]);
  return { ...rest, out: out.trim().split('\n') };
}

const EVERY = `kprobe:plain.ts:plain { @plain = count(); } kretprobe:plain.ts:plain { @sum = sum(retval); }
  kprobe:c.cts:c { @c = count(); } kretprobe:c.cts:c { @csum = sum(retval); }
  kprobe:m.mts:m { @m = sum(args.n); } kprobe:either.ts:either { @either = count(); }`;
const COUNTS = ['@c: 5', '@csum: 10', '@either: 5', '@m: 10', '@main: 6', '@plain: 5', '@sum: 10'];

describe.each(nodeBinaries())('-c and TypeScript, Node $version', ({ path: node }) => {
  const strips = typesFeature(node) === 'strip';
  const ifStrips = unless(strips ? undefined : 'this Node runs no TypeScript');
  const ifNot = unless(strips ? 'this Node runs TypeScript' : undefined);
  const transforms = typesFeature(node, '--experimental-transform-types') === 'transform';
  const ifTransforms = unless(transforms ? undefined : 'this Node has no --experimental-transform-types');

  test('an ES module and what it imports: every call from the first to the last', ifStrips, async () => {
    const { code, out, err } = await trace(
      `'${node}' esm.ts`,
      `${EVERY} kprobe:esm.ts:main { @main = count(); @name[probe] = count(); } settle:esm.ts:later { @settled = sum(retval); }
       kretprobe:esm.ts:Box.put { @put = sum(retval); } kprobe:esm.ts:main /@stacks < 1/ { @stacks++; @stack[ustack(1)] = count(); }`,
    );
    expect(err).not.toContain('WARNING');
    expect(code).toBe(0);
    expect(out.filter((line) => /^@\w+: /.test(line))).toEqual(
      [...COUNTS, '@put: 7', '@settled: 3', '@stacks: 1'].sort(),
    );
    expect(out).toContain('@name[kprobe:esm.ts:main]: 6');
    // lines are the file's
    expect(out.join('\n')).toMatch(/main \(esm\.ts:10:\d+\)/);
  });

  test('CommonJS and what it requires', ifStrips, async () => {
    const { code, out, err } = await trace(
      `'${node}' cjs.cts`,
      `${EVERY} kprobe:cjs.cts:main { @main = count(); }`,
    );
    expect(err).not.toMatch(/WARNING|ExperimentalWarning: strip/);
    expect({ code, out }).toEqual({ code: 0, out: COUNTS });
  });

  test('a package of ES modules, a probe that names no file', ifStrips, async () => {
    const { code, out, err } = await trace(
      `'${node}' typed/own.ts`,
      'kprobe:own { @own = count(); } kretprobe:inner { @inner = sum(retval); }',
    );
    expect(err).not.toContain('WARNING');
    expect({ code, out }).toEqual({ code: 0, out: ['@inner: 15', '@own: 5'] });
  });

  test('--experimental-transform-types: names and lines of the file', ifTransforms, async () => {
    const { code, out, err } = await trace(
      `'${node}' --experimental-transform-types enums.ts`,
      `kprobe:enums.ts:mixed { @mixed[args.first] = count(); } kretprobe:enums.ts:mixed { @sum = sum(retval); }
       kprobe:enums.ts:Named.get { @get = count(); }`,
    );
    expect(err).not.toContain('WARNING:');
    expect(code).toBe(0);
    expect(out.sort()).toEqual(['@get: 5', ...[0, 1, 2, 3, 4].map((n) => `@mixed[${n}]: 1`), '@sum: 15']);
  });

  test(
    'with other preloaded modules, which may compile it: armed when it is loaded, and told',
    ifStrips,
    async () => {
      const { err } = await trace(
        `'${node}' --import 'data:text/javascript,1' typed/own.ts`,
        'kprobe:own.ts:own { @own = count(); }',
      );
      expect(err).toContain('calls until then are not counted');
    },
  );

  test('prepared by trapline/register: the debugger is not needed', ifStrips, async () => {
    const file = path.join(folder, 'served.ts');
    const long =
      '/* long enough for a site, as all functions are that have got a hundred characters or more of text */';
    writeFileSync(
      file,
      `function served(n: number): number { ${long} return n; }\nsetInterval(() => served(2), 5);\nconsole.error('up');\n`,
    );
    const register = path.join(root, 'dist/register/index.js');
    const child = execFile(node, ['--import', register, file], {
      cwd: folder,
      env: environment(folder),
    });
    let told = '';
    await new Promise<void>((resolve) => {
      child.stderr?.on('data', (text: string) => {
        told += text;
        if (told.includes('up')) resolve();
      });
    });
    try {
      const script = 'kretprobe:served.ts:served { @[retval] = count(); @n++; if (@n > 3) { exit(); } }';
      const { code, out, err } = await run(['-v', '-p', String(child.pid), script]);
      expect(code).toBe(0);
      expect(err).toContain('served.ts:served: nop (');
      expect(out).toMatch(/@\[2\]: \d+/);
    } finally {
      child.kill();
    }
    expect(told).not.toContain('stripTypeScriptTypes');
  });

  test('a Node that does not run it says so itself', ifNot, async () => {
    const { err } = await trace(`'${node}' esm.ts`, 'kprobe:esm.ts:main { @main = count(); }');
    expect(err).toMatch(/calls until then are not counted[\s\S]*ERR_UNKNOWN_FILE_EXTENSION/);
  });

  test('an ES module in a .js file that require() loads', async () => {
    const { code, out, err } = await trace(
      `'${node}' unasked.mjs`,
      'kprobe:asked.js:asked { @asked = count(); }',
    );
    expect(err).not.toContain('WARNING');
    expect({ code, out }).toEqual({ code: 0, out: ['@asked: 5'] });
  });

  test('a file that is loaded with another text, or not at all, is told', async () => {
    const { code, out, err } = await trace(
      `'${node}' -r ./hook.cjs rewritten.js`,
      'kprobe:rewritten.js:changed { @changed = count(); } kprobe:asked.js:asked { @asked = count(); }',
    );
    expect({ code, out }).toEqual({ code: 0, out: ['@asked: 0', '@changed: 0'] });
    const told = [...err.matchAll(/has not loaded what (\S+) names/g)].map(([, name]) => name);
    expect(told).toEqual(['kprobe:rewritten.js:changed', 'kprobe:asked.js:asked']);
    expect(err).toMatch(/process \d+ \(.*rewritten\.js\), the first of Node\.js/);
    expect(err.match(/^HINT: only that process is traced: /gm)).toHaveLength(1);
  });
});
