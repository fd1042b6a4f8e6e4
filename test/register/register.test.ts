import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { nodeBinaries } from '../support/nodes.ts';

const root = fileURLToPath(new URL('../../', import.meta.url));
const fixture = (name: string) => join(root, 'test/register/fixtures', name);
const KINDS = join(root, 'test/arch/fixtures/kinds.cjs');

let folder: string;
let register: string;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'trapline-register-'));
  await build({
    entryPoints: { index: join(root, 'src/register/index.ts'), loader: join(root, 'src/register/loader.ts') },
    bundle: true,
    format: 'esm',
    platform: 'node',
    target: 'node20',
    outdir: join(folder, 'built'),
    outExtension: { '.js': '.mjs' },
    logLevel: 'error',
  });
  register = join(folder, 'built/index.mjs');
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function run(node: string, args: string[], env: Record<string, string> = {}) {
  const { status, stdout, stderr } = spawnSync(node, ['--import', register, ...args], {
    encoding: 'utf8',
    cwd: folder,
    env: { ...process.env, TRAPLINE_CACHE: '0', ...env },
  });
  if (status !== 0) throw new Error(`exit ${status}\n${stdout}\n${stderr}`);
  return { stdout, stderr };
}

const LONG =
  "const text = 'long enough for a site of its own, which takes about a hundred characters, or more';";
const write = (name: string, text: string) => {
  const path = join(folder, name);
  mkdirSync(join(path, '..'), { recursive: true });
  writeFileSync(path, text);
  return path;
};
const SHOW = `const registry = globalThis[Symbol.for('trapline.sites')];
const known = () => [...registry.scripts.keys()].map((u) => u.replace(/.*\\//, '')).sort().join();`;

describe.each(nodeBinaries())('on Node $version', ({ path: node }) => {
  test('every kind of function behaves as before: off, and armed', () => {
    const plain = spawnSync(node, [KINDS], { encoding: 'utf8' }).stdout;
    const all = { TRAPLINE_MIN_LENGTH: '0' };
    expect(run(node, [KINDS], all).stdout).toBe(plain);
    expect(run(node, [KINDS], { ...all, TRAPLINE_ENDS: 'all' }).stdout).toBe(plain);
    const armed = write(
      'kinds.cjs',
      readFileSync(KINDS, 'utf8').replace('const out = []', 'globalThis.armAll(__filename); const out = []'),
    );
    for (const ends of ['', 'all', 'body']) {
      const env = { ...all, TRAPLINE_ENDS: ends, COUNTS: '1' };
      const { stdout, stderr } = run(node, ['-r', fixture('arm-all.cjs'), armed], env);
      // what is at the top of a followed call's stack is the gate, but for `body`
      const shown = (text: string) => (ends === 'body' ? text : text.replace(/^at .*$/m, ''));
      expect(shown(stdout)).toBe(shown(plain));
      const counts = JSON.parse(stderr) as {
        entries: number;
        ends: number;
        ended: number;
        suspended: number;
        live: number;
      };
      expect(counts.entries).toBeGreaterThan(140);
      expect(counts.suspended).toBeGreaterThan(10);
      expect(counts.live).toBe(0);
      expect(counts.ended).toBe(counts.ends);
      expect(counts.ends).toBeGreaterThan(ends !== '' ? counts.entries * 0.9 : counts.entries * 0.5);
    }
  });

  test('TRAPLINE_ENDS=body: a call that is followed has no frame of ours below it', () => {
    const program = (arm: string) => `${arm}
      function named(n) { return n > 0 ? inner(n) : new Error('told').stack; }
      const inner = (n) => [n].map(function (m) { return named(m - 1); })[0];
      class Held {
        constructor(n) { this.told = inner(n); }
        get own() { return named(1); }
        async later(n) { await null; return inner(n); }
      }
      // what loads a module, or turns the event loop, is not the program's
      const frames = (stack) => stack.split('\\n').filter((line) => !/node:internal|index\\.mjs|data:/.test(line))
        .map((line) => line.trim().replace(/:\\d+\\)?$/, '').replace(/(plain|armed)\\.cjs/, 'x'));
      Error.stackTraceLimit = 30;
      const held = new Held(2);
      console.log(JSON.stringify([frames(held.told), frames(held.own)]));
      held.later(1).then((stack) => console.log(JSON.stringify(frames(stack))));`;
    const plain = spawnSync(node, [write('frames/plain.cjs', program('//'))], { encoding: 'utf8' }).stdout;
    const armed = write('frames/armed.cjs', program('globalThis.armAll(__filename);'));
    const env = { TRAPLINE_MIN_LENGTH: '0', TRAPLINE_ENDS: 'body', COUNTS: '1' };
    const { stdout, stderr } = run(node, ['-r', fixture('arm-all.cjs'), armed], env);
    expect(plain).toContain('at named (');
    expect(stdout).toBe(plain);
    const { ends, ended } = JSON.parse(stderr) as { ends: number; ended: number };
    expect(ends).toBeGreaterThan(20);
    expect(ended).toBe(ends);
  });

  test('CommonJS, ES modules, cycles, import of CommonJS', () => {
    write('c1.mjs', `import { f2 } from './c2.mjs'; export function f1() { ${LONG} return 1 } f2();`);
    write('c2.mjs', `import { f1 } from './c1.mjs'; export function f2() { ${LONG} return f1() }  f1();`);
    write('dep.cjs', `exports.dep = function () { ${LONG} return 5 };`);
    const main = write(
      'main.mjs',
      `import './c1.mjs'; import { dep } from './dep.cjs'; ${SHOW}
       export function own(a) { ${LONG} return a + dep() }
       const before = own(1);
       const told = [];
       const hooks = { e: (self, ...args) => (told.push(['e', ...args]), 1), r: (i, v) => (told.push(['r', v]), v), t() {}, s() {} };
       const armed = registry.arm(import.meta.url, 2, hooks, true);
       const during = own(2);
       registry.disarm(import.meta.url, 2);
       console.log(JSON.stringify([known(), before, armed, during, own(3), told, own.toString().length]));`,
    );
    const [known, ...rest] = JSON.parse(run(node, [main]).stdout) as unknown[];
    expect(known).toBe('c1.mjs,c2.mjs,dep.cjs,main.mjs');
    const text = `function own(a) { ${LONG} return a + dep() }`;
    expect(rest).toEqual([
      6,
      true,
      7,
      8,
      [
        ['e', 2],
        ['r', 7],
      ],
      text.length,
    ]);
  });

  test('texts, names, positions and errors are those of the file', () => {
    const file = write(
      'texts.cjs',
      `#!/usr/bin/env node
'use strict'
function own(a) { ${LONG}
  throw new Error('here')
}
class A { method() { ${LONG} return 1 } }
const lines = [];
try { own() } catch (e) { lines.push(/:(\\d+):\\d+\\)?$/.exec(e.stack.split('\\n')[1])[1]) }
lines.push(own.toString() === require('fs').readFileSync(__filename, 'utf8').split('\\n').slice(2, 5).join('\\n'));
lines.push(A.toString(), own.name, own.length, Object.keys(globalThis).some((k) => k.startsWith('$tl')));
lines.push(Function.prototype.toString.toString(), Function.prototype.toString.name, 'prototype' in Function.prototype.toString);
console.log(JSON.stringify(lines));`,
    );
    expect(JSON.parse(run(node, [file]).stdout)).toEqual([
      '4',
      true,
      `class A { method() { ${LONG} return 1 } }`,
      'own',
      1,
      false,
      'function toString() { [native code] }',
      'toString',
      false,
    ]);
  });

  test('a function that was replaced under its name is not called twice, but counted as missed', () => {
    const file = write(
      'replaced.cjs',
      `${SHOW}
       let calls = 0;
       class A { method() { ${LONG} calls++; return 1 } }
       const original = A.prototype.method;
       let wrapped = 0;
       A.prototype.method = function () { wrapped++; return original.call(this) };
       function renamed(a) { ${LONG} calls++; return a }
       const kept = renamed;
       renamed = () => 0;
       const hooks = { e: () => 1, r: (i, v) => v, t() {}, s() {} };
       const script = registry.scripts.get(__filename);
       script.forms.forEach((form, i) => { if (form === 2) registry.arm(__filename, i, hooks, true) });
       const result = [new A().method(), kept(7)];
       console.log(JSON.stringify([result, calls, wrapped, script.missed.reduce((a, b) => a + b)]));`,
    );
    expect(JSON.parse(run(node, [file]).stdout)).toEqual([[1, 7], 2, 1, 2]);
  });

  test('recursion, new, a full stack, silence by flag', () => {
    const file = write(
      'calls.cjs',
      `${SHOW}
       function fib(n) { ${LONG} return n < 2 ? n : fib(n - 1) + fib(n - 2) }
       function Point(x) { ${LONG} this.x = x }
       function deep(n) { ${LONG} return deep(n + 1) }
       let e = 0, r = 0, t = 0;
       const hooks = { e: () => { e++; return 1 }, r: (i, v) => { r++; return v }, t() { t++ }, s() {} };
       const script = registry.scripts.get(__filename);
       script.forms.forEach((form, i) => { if (form === 2) registry.arm(__filename, i, hooks, true) });
       const value = fib(10);
       const counts = [e, r, t];
       const p = new Point(3);
       class Sub extends Point {}
       hooks.t();
       t = 0;
       let overflow;
       try { deep(0) } catch (error) { overflow = error instanceof RangeError }
       fib(3);
       // V8 may end a hook itself where the stack is full: the count is exact but for that
       const balanced = Math.abs(e - r - t) < 5;
       e = 0;
       script.flags.fill(0);
       fib(5);
       console.log(JSON.stringify([value, counts, p instanceof Point, p.x, new Sub(4).x, new Sub(1) instanceof Sub, overflow, balanced, e]));`,
    );
    expect(JSON.parse(run(node, [file]).stdout)).toEqual([
      55,
      [177, 177, 0],
      true,
      3,
      4,
      true,
      true,
      true,
      0,
    ]);
  });
});

const node = nodeBinaries().at(-1)!.path;

test('acorn, fastify and express with every site armed: same answers, every call that began ended', () => {
  const modules = join(root, 'node_modules');
  const program = (arm: string) => `
    const [acorn, fastify, express] = ['acorn', 'fastify', 'express'].map((n) => require(${JSON.stringify(modules)} + '/' + n));
    const counts = { armed: 0, entries: 0, live: 0 };
    ${arm}
    const text = require('fs').readFileSync(${JSON.stringify(join(modules, 'acorn/dist/acorn.js'))}, 'utf8');
    const tree = JSON.stringify(acorn.parse(text, { ecmaVersion: 'latest' }));
    (async () => {
      const app = fastify();
      app.get('/a/:id', async (req) => ({ id: req.params.id }));
      app.get('/fail', async () => { throw new Error('no'); });
      const replies = [tree.length];
      for (const url of ['/a/1', '/fail', '/missing']) { const r = await app.inject(url); replies.push(r.statusCode, r.body); }
      const web = express();
      web.get('/x', (req, res) => res.json({ q: req.query.q }));
      const server = web.listen(0, async () => {
        const r = await fetch('http://127.0.0.1:' + server.address().port + '/x?q=1');
        console.log(replies.join(), await r.text());
        server.close(() => process.stderr.write(JSON.stringify(counts)));
      });
    })();`;
  const arm = `
    const registry = globalThis[Symbol.for('trapline.sites')];
    const all = { e() { counts.entries++; counts.live++; return 1; }, r(i, v) { counts.live--; return v; }, t() { counts.live--; }, s() {} };
    const some = { ...all, e() { counts.entries++; return 0; } };
    for (const [url, script] of registry.scripts) {
      if (url === __filename) continue;
      script.forms.forEach((form, i) => { if (registry.arm(url, i, all, true) || registry.arm(url, i, some, false)) counts.armed++; });
    }`;
  const plain = spawnSync(node, [write('real-plain.cjs', program(''))], { encoding: 'utf8' });
  const armed = run(node, [write('real-armed.cjs', program(arm))], {
    TRAPLINE_MIN_LENGTH: '0',
    TRAPLINE_ENDS: 'all',
  });
  expect(plain.stdout).toContain('"message":"no"');
  expect(armed.stdout).toBe(plain.stdout);
  const counts = JSON.parse(armed.stderr) as { armed: number; entries: number; live: number };
  expect(counts.armed).toBeGreaterThan(2000);
  expect(counts.entries).toBeGreaterThan(500_000);
  expect(counts.live).toBe(0);
});

describe('options', () => {
  const app = () => {
    write('node_modules/pkg/index.js', `module.exports = function inPackage() { ${LONG} return 1 };`);
    return write('opt.cjs', `require('pkg'); ${SHOW} function own() { ${LONG} } console.log(known())`);
  };

  test('include and exclude', () => {
    const main = app();
    const known = (env: Record<string, string>) => run(node, [main], env).stdout.trim();
    expect(known({})).toBe('index.js,opt.cjs');
    expect(known({ TRAPLINE_EXCLUDE: 'node_modules' })).toBe('opt.cjs');
    expect(known({ TRAPLINE_INCLUDE: 'node_modules/pkg, nothing.js' })).toBe('index.js');
    expect(known({ TRAPLINE_INCLUDE: 'o*.cjs' })).toBe('opt.cjs');
  });

  test('short functions have no site, unless they are asked for', () => {
    const file = write(
      'short.cjs',
      `${SHOW} function f() {} console.log([...registry.scripts.get(__filename)?.forms ?? []].join(''))`,
    );
    expect(run(node, [file]).stdout.trim()).toBe('000');
    expect(run(node, [file], { TRAPLINE_MIN_LENGTH: '0' }).stdout.trim()).toBe('212');
  });

  test('rewritten texts are cached by content; a damaged cache is ignored', () => {
    const cache = join(folder, 'cache');
    const filler = `// ${'x'.repeat(17_000)}\n`;
    const file = write(
      'cached.cjs',
      `${filler}${SHOW} function f() { ${LONG} return 1 } console.log(f(), known())`,
    );
    const first = run(node, [file], { TRAPLINE_CACHE: cache }).stdout;
    const [name, ...more] = readdirSync(cache);
    expect(more).toEqual([]);
    const text = readFileSync(join(cache, name!), 'utf8');
    // The second run takes what is there
    writeFileSync(join(cache, name!), text.replace('return 1 }', 'return 2 }'));
    expect(run(node, [file], { TRAPLINE_CACHE: cache }).stdout).toBe(first.replace('1 ', '2 '));
    writeFileSync(join(cache, name!), text.slice(0, 100));
    expect(run(node, [file], { TRAPLINE_CACHE: cache }).stdout).toBe(first);
  });

  test('loaded twice it does nothing more; a syntax error is reported by Node', () => {
    const file = write(
      'twice.cjs',
      `${SHOW} function f() { ${LONG} return 1 } console.log(f(), known(), String(f).length)`,
    );
    const once = run(node, [file]).stdout;
    expect(run(node, ['--import', register, file]).stdout).toBe(once);
    const bad = write('bad.cjs', 'function f( {');
    expect(() => run(node, [bad])).toThrow(/SyntaxError/);
  });
});
