import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { runInNewContext } from 'node:vm';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { SiteEvent } from '../../src/agent/protocol.ts';
import { changedTexts, instrument } from '../../src/arch/v8/instrument.ts';
import { lineSite } from '../../src/arch/v8/instrument-line.ts';
import { READS } from '../../src/kernel/trace/pt-regs.ts';
import { nodeBinaries } from '../support/nodes.ts';
import { run, symbolsOf } from './support.ts';

const ALL: readonly SiteEvent[] = ['entry', 'return', 'throw', 'settle'];
const ENTRY: readonly SiteEvent[] = ['entry'];
const PREFIX = '$tl_';
const KINDS = fileURLToPath(new URL('fixtures/kinds.cjs', import.meta.url));
const MODULES = fileURLToPath(new URL('../../node_modules', import.meta.url));

/** Hooks that count, as globals; at exit every call that was entered must have ended exactly once. */
const HOOKS = (sites: number, check: boolean) => `
const live = new Map(); let last = 0; const wrong = []; const hits = {};
for (let n = 0; n < ${sites}; n++) {
  const define = (hook, value) => Object.defineProperty(globalThis, '${PREFIX}' + n + hook, { value, configurable: true });
  define('e', (...args) => { hits[n] = (hits[n] ?? 0) + 1; last++; live.set(last, n); return last; });
  const end = (i) => { if (!live.delete(i)) wrong.push('site ' + n + ' ended twice'); };
  define('r', (i, v) => { end(i); return v; });
  define('t', (i) => end(i));
  define('s', (i) => { if (!live.has(i)) wrong.push('site ' + n + ' suspended behind its end'); });
}
process.on('exit', () => {
  if (!${check}) return;
  if (live.size > 0) wrong.push('never ended: ' + [...new Set(live.values())]);
  if (wrong.length > 0) { console.log(wrong.join('\\n')); process.exitCode = 3; }
});`;

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'trapline-edit-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function editAll(source: string, events: readonly SiteEvent[], reads: number, isModule = false) {
  const symbols = symbolsOf(source, 'file:///x.js', isModule);
  const edits = symbols.map((symbol, site) => ({ symbol, site, events, reads }));
  return { symbols, result: instrument(source, edits, { prefix: PREFIX }, isModule) };
}

/** A note taken, and the value that is asked for. */
const noted = <T>(_calls: number, value: T): T => value;

const READ_VARIANTS = [0, 0b11 | READS.this, READS.allArgs | READS.this];

describe('a program with every kind of function behaves as before', () => {
  const source = readFileSync(KINDS, 'utf8');
  for (const events of [ENTRY, ALL]) {
    for (const reads of READ_VARIANTS) {
      test(`${events.length === 1 ? 'entry' : 'all events'}, reads ${reads}`, () => {
        const { symbols, result } = editAll(source, events, reads);
        const generators = symbols.filter((s) => s.isGenerator).length;
        expect(result.refused).toHaveLength(events === ALL ? generators : 0);
        expect(result.sites).toHaveLength(symbols.length - result.refused.length);
        expect(result.source.split('\n')).toHaveLength(source.split('\n').length);
        const name = `kinds-${events.length}-${reads}`;
        writeFileSync(join(folder, `${name}-hooks.cjs`), HOOKS(symbols.length, events === ALL));
        writeFileSync(join(folder, `${name}.cjs`), result.source);
        for (const { path: node } of nodeBinaries()) {
          const expected = run(node, [KINDS]);
          expect(expected.split('\n').length).toBeGreaterThan(20);
          expect(run(node, ['-r', join(folder, `${name}-hooks.cjs`), join(folder, `${name}.cjs`)])).toBe(
            expected,
          );
        }
      });
    }
  }
});

test('the texts that toString() has to answer are exact', () => {
  const source = readFileSync(KINDS, 'utf8');
  const { result } = editAll(source, ALL, READS.this);
  const originals = new Map(changedTexts(result, source).map((t) => [t.edited, t.original]));
  const probe = (text: string) => `${text.replace('console.log(out.join', 'globalThis.done(out.join')}
    ;globalThis.texts = [plain, defaults, arrow, curried, generator, asyncPlain, Base, Derived, Base.make, literal.method,
      Base.prototype.method, Object.getOwnPropertyDescriptor(Base.prototype, 'value').get, new Base(1).field,
      Object.getOwnPropertyDescriptor(literal, 'g').set, literal.gen, asyncArrow, patterns].map(String)`;
  const texts = (text: string, hooks: string) => {
    const context: Record<string, unknown> = {
      console,
      process: { on() {} },
      done() {},
      require: () => ({}),
    };
    runInNewContext(`${hooks}${probe(text)}`, context, 'kinds.cjs');
    return context['texts'] as string[];
  };
  const before = texts(source, '');
  const after = texts(
    result.source,
    HOOKS(200, false)
      .replace(/\bconst live/, ';const live')
      .replace(/process\.on[\s\S]*$/, ''),
  );
  expect(before).toHaveLength(17);
  expect(after.map((text) => originals.get(text) ?? text)).toEqual(before);
  expect(after.filter((text) => originals.has(text)).length).toBeGreaterThan(14);
});

describe('what hooks are told', () => {
  const record = (source: string, reads: number, call: string, events: readonly SiteEvent[] = ALL) => {
    const { result } = editAll(source, events, reads);
    const calls: unknown[] = [];
    const context: Record<string, unknown> = {};
    for (let n = 0; n < 10; n++) {
      context[`${PREFIX}${n}e`] = (...args: unknown[]) => noted(calls.push(['e', n, ...args]), n + 1);
      context[`${PREFIX}${n}r`] = (i: number, v: unknown) => noted(calls.push(['r', n, i, v]), v);
      context[`${PREFIX}${n}t`] = (i: number, e: unknown) => calls.push(['t', n, i, String(e)]);
      context[`${PREFIX}${n}s`] = (i: number) => calls.push(['s', n, i]);
    }
    runInNewContext(`${result.source};${call}`, context);
    return { calls, result };
  };

  test('nothing that is not read', () => {
    expect(record('function f(a, b) { return 1 }', 0, 'f(1, 2)', ENTRY)).toMatchObject({
      calls: [['e', 0]],
      result: { source: `function f(a, b) {${PREFIX}0e(); return 1 }` },
    });
    const { result } = record('function f(a, b) {}', READS.this | 1, 'f.call(7, 1)', ENTRY);
    expect(result.source).toBe(`function f(a, b) {${PREFIX}0e(this,a);}`);
    expect(record('function f(a, b) {}', 2, 'f(1, 2)', ENTRY).calls).toEqual([
      ['e', 0, undefined, undefined, 2],
    ]);
  });

  test('arguments as they were passed', () => {
    const all = READS.allArgs;
    expect(record('function f(a) {}', all, 'f(1, 2, 3)', ENTRY).calls).toEqual([
      ['e', 0, undefined, 1, 2, 3],
    ]);
    expect(record('function f(a = 5, {b}) {}', 3, 'f(undefined, 6)', ENTRY).calls).toEqual([
      ['e', 0, undefined, undefined, 6],
    ]);
    expect(record("function f(a) { 'use strict'; function a() {} }", 1, 'f(1)', ENTRY).calls).toEqual([
      ['e', 0, undefined, 1],
    ]);
    expect(record('function f(arguments) {}', 3, 'f(1, 2)', ENTRY).calls).toEqual([
      ['e', 0, undefined, 1, undefined],
    ]);
    expect(record('var f = (a, ...b) => 1', 7, 'f(1, 2, 3)', ENTRY).calls).toEqual([
      ['e', 0, undefined, 1, 2, 3],
    ]);
    expect(record('function* f(a, b,) {}', 3, 'f(1, 2)', ENTRY).calls).toEqual([['e', 0, undefined, 1, 2]]);
    const destructured = record('var f = ({ a }) => a', 1, 'f(1)', ENTRY);
    expect(destructured.result.notes).toEqual([
      { site: 0, note: 'argument 0 is destructured, and an arrow function has no other way to it' },
    ]);
  });

  test('results and errors, each once', () => {
    expect(record('function f(a) { return a }', 0, 'f(1)').calls).toEqual([
      ['e', 0],
      ['r', 0, 1, 1],
    ]);
    expect(record('function f(a) { if (a) return }', 0, 'f(1);f(0)').calls).toEqual([
      ['e', 0],
      ['r', 0, 1, undefined],
      ['e', 0],
      ['r', 0, 1, undefined],
    ]);
    expect(record('function f() { throw 1 }', 0, 'try { f() } catch {}').calls).toEqual([
      ['e', 0],
      ['t', 0, 1, '1'],
    ]);
    expect(record('function f() { try { return 1 } finally { return 2 } }', 0, 'f()').calls).toEqual([
      ['e', 0],
      ['r', 0, 1, 2],
    ]);
    expect(record('function f() { for (;;) try { return 1 } finally { break } }', 0, 'f()').calls).toEqual([
      ['e', 0],
      ['r', 0, 1, undefined],
    ]);
    expect(record('var f = () => (1, 2)', 0, 'f()').calls).toEqual([
      ['e', 0],
      ['r', 0, 1, 2],
    ]);
    const made = record('class A { constructor() { this.x = 1 } }', 0, 'new A()').calls;
    expect(made[1]).toMatchObject(['r', 0, 1, { x: 1 }]);
  });

  test('several sites of one function', () => {
    const source = 'function f(a) { return a }';
    const [symbol] = symbolsOf(source);
    const edits = [0, 1].map((site) => ({ symbol: symbol!, site, events: ALL, reads: site }));
    const { source: text, sites } = instrument(source, edits, { prefix: PREFIX });
    expect(sites).toEqual([0, 1]);
    const calls: unknown[] = [];
    const context: Record<string, unknown> = {};
    for (const n of sites) {
      context[`${PREFIX}${n}e`] = (...args: unknown[]) => noted(calls.push(['e', n, ...args]), n + 1);
      context[`${PREFIX}${n}r`] = (i: number, v: unknown) => noted(calls.push(['r', n, i, v]), v);
      context[`${PREFIX}${n}t`] = () => calls.push('t');
    }
    expect(runInNewContext(`${text};f(5)`, context)).toBe(5);
    expect(calls).toEqual([
      ['e', 0],
      ['e', 1, undefined, 5],
      ['r', 0, 1, 5],
      ['r', 1, 2, 5],
    ]);
  });

  test('an async function suspends in between', async () => {
    const { result } = record('async function f(a) { return await a }', 0, '');
    const calls: unknown[] = [];
    const hooks = {
      [`${PREFIX}0e`]: () => noted(calls.push('e'), 1),
      [`${PREFIX}0s`]: () => calls.push('s'),
      [`${PREFIX}0r`]: (_: number, v: unknown) => noted(calls.push(`r ${v}`), v),
      [`${PREFIX}0t`]: () => calls.push('t'),
    };
    const promise = runInNewContext(`${result.source};f(4)`, hooks) as Promise<number>;
    expect(calls).toEqual(['e', 's']);
    expect(await promise).toBe(4);
    expect(calls).toEqual(['e', 's', 'r 4']);
  });
});

describe('lines inside a function', () => {
  const source = `function f(a) {
  let n = 0
  if (a) n = 1
  else n = 2
  for (const x of [1, 2])
    n += x
  label: for (;;) { break label }
  switch (a) {
    case 1:
      n++
  }
  do n++; while (n < 3)
  const g = () => {
    return n
  }
  return g()
}`;
  const [symbol] = symbolsOf(source);
  test.each([
    [2, 1, 1],
    [3, 1, 3],
    [3, 10, 3],
    [4, 8, 4],
    [6, 1, 6],
    [7, 1, 7],
    [9, 1, 10],
    [12, 6, 12],
    [13, 1, 13],
    [14, 1, 16],
    [16, 1, 16],
  ])('line %i:%i', (line, column, found) => {
    const site = lineSite(source, false, symbol!, line, column)!;
    expect(site.line).toBe(line === 2 ? 2 : found);
    const result = instrument(
      source,
      [{ symbol: symbol!, site: 7, events: ENTRY, reads: 0, at: site.offset }],
      { prefix: PREFIX },
    );
    expect(result.refused).toEqual([]);
    let hits = 0;
    const context = { [`${PREFIX}7e`]: () => void hits++ };
    for (const a of [0, 1]) {
      const expected = runInNewContext(`${source};f(${a})`);
      expect(runInNewContext(`${result.source};f(${a})`, context)).toBe(expected);
    }
    expect(hits).toBeGreaterThan(0);
    expect(result.source.split('\n')).toHaveLength(source.split('\n').length);
  });

  test('behind the last statement there is nothing', () => {
    expect(lineSite(source, false, symbol!, 17, 1)).toBeUndefined();
  });
});

describe('refusals', () => {
  const refused = (source: string, events: readonly SiteEvent[] = ALL) => editAll(source, events, 0).result;
  test('leave the text as it is, with a reason', () => {
    const generator = refused('function* g() {}');
    expect(generator.refused).toEqual([{ site: 0, reason: expect.stringMatching(/generator/) as string }]);
    expect(generator.source).toBe('function* g() {}');
    expect(refused('function f() { var a; function a() {} }').refused).toEqual([
      expect.objectContaining({ site: 0, reason: expect.stringMatching(/^a is declared both/) as string }),
      // its inner function is fine
    ]);
    const inBlock = 'function f() { function a() {} { function a() {} } return a; }';
    expect(refused(inBlock).refused[0]!.reason).toMatch(/^a is declared both/);
    const evaluates = 'function f(x) { eval(x); function a() {} return a; }';
    expect(refused(evaluates).refused[0]!.reason).toMatch(/^a is declared both/);
    expect(refused(evaluates, ['entry']).refused).toEqual([]);
    expect(refused('with (o) { var f = function () {} }').refused[0]!.reason).toMatch(/with statement/);
    expect(refused(`function f() { ${PREFIX}x }`).refused[0]!.reason).toMatch(/begin with/);
  });

  test('of `this` in an arrow function that only has new.target: its closures would have another scope', () => {
    const arrow = (held: string) =>
      editAll(`function f() { return () => ${held}; }`, ['entry'], READS.this, true).result;
    for (const held of ['new.target', 'import.meta'])
      expect(arrow(held).notes).toEqual([expect.objectContaining({ site: 1 })]);
    for (const held of ['this', 'eval(1)']) expect(arrow(held).notes).toEqual([]);
  });

  test('a text that is another one', () => {
    const [symbol] = symbolsOf('function f() { return 1 }');
    const edit = { symbol: symbol!, site: 3, events: ALL, reads: 0 };
    expect(instrument('let x = 1', [edit], { prefix: PREFIX }).refused[0]).toMatchObject({ site: 3 });
    expect(instrument('let x = ', [edit], { prefix: PREFIX }).refused[0]!.reason).toMatch(/parsed/);
  });
});

describe('real packages', () => {
  /** A copy of packages with every function of every file instrumented. */
  function mirror(packages: readonly string[], to: string): number {
    let sites = 0;
    const copy = (from: string, target: string) => {
      mkdirSync(target, { recursive: true });
      for (const entry of readdirSync(from, { withFileTypes: true })) {
        const [a, b] = [join(from, entry.name), join(target, entry.name)];
        if (entry.isDirectory()) {
          if (!/^(test|tests|docs|benchmarks?|examples?)$/.test(entry.name)) copy(a, b);
        } else if (/\.c?js$/.test(entry.name)) {
          const source = readFileSync(a, 'utf8');
          let symbols: ReturnType<typeof symbolsOf>;
          try {
            symbols = symbolsOf(source);
          } catch {
            continue;
          }
          const edits = symbols.map((symbol) => ({
            symbol,
            site: sites++,
            events: ALL,
            reads: 3 | READS.this,
          }));
          writeFileSync(b, instrument(source, edits, { prefix: PREFIX }).source);
        } else if (/\.(json|mjs)$/.test(entry.name)) cpSync(a, b);
      }
    };
    for (const name of packages) copy(join(MODULES, name), join(to, name));
    return sites;
  }

  function withDependencies(name: string, into = new Set<string>()): Set<string> {
    if (into.has(name)) return into;
    into.add(name);
    const json = JSON.parse(readFileSync(join(MODULES, name, 'package.json'), 'utf8')) as {
      dependencies?: object;
    };
    for (const dependency of Object.keys(json.dependencies ?? {})) withDependencies(dependency, into);
    return into;
  }

  const PROGRAM = `
    const acorn = require('acorn'); const fastify = require('fastify'); const express = require('express');
    const text = require('fs').readFileSync(process.argv[2], 'utf8');
    const hash = require('crypto').createHash('sha256').update(JSON.stringify(acorn.parse(text, { ecmaVersion: 'latest' }))).digest('hex');
    (async () => {
      const app = fastify();
      app.get('/a/:id', { schema: { response: { 200: { type: 'object', properties: { id: { type: 'string' } } } } } }, async (req) => ({ id: req.params.id }));
      app.get('/fail', async () => { throw new Error('no'); });
      const replies = [];
      for (const url of ['/a/1', '/fail', '/missing']) { const r = await app.inject(url); replies.push(r.statusCode, r.body); }
      const web = express(); web.get('/x', (req, res) => res.json({ q: req.query.q }));
      const server = web.listen(0, async () => {
        const r = await fetch('http://127.0.0.1:' + server.address().port + '/x?q=1');
        console.log(hash, replies.join(), await r.text());
        server.close();
      });
    })();`;

  test('acorn, fastify and express work with every function told of entry and ends', () => {
    const home = join(folder, 'app');
    const packages = new Set([...withDependencies('fastify'), ...withDependencies('express'), 'acorn']);
    const sites = mirror([...packages], join(home, 'node_modules'));
    expect(sites).toBeGreaterThan(3000);
    mkdirSync(dirname(join(home, 'app.cjs')), { recursive: true });
    writeFileSync(join(home, 'app.cjs'), PROGRAM);
    writeFileSync(join(home, 'hooks.cjs'), HOOKS(sites, false));
    const plain = join(MODULES, '..', 'node_modules', 'acorn', 'dist', 'acorn.js');
    const node = nodeBinaries().at(-1)!.path;
    const at = (cwd: string, args: string[]) => run(node, [...args, plain], { cwd });
    const original = join(folder, 'original.cjs');
    writeFileSync(
      original,
      PROGRAM.replace(
        /require\('(acorn|fastify|express)'\)/g,
        (_, m) => `require(${JSON.stringify(join(MODULES, m))})`,
      ),
    );
    const expected = at(folder, [original]);
    expect(expected).toContain('{"id":"1"}');
    expect(at(home, ['-r', './hooks.cjs', 'app.cjs'])).toBe(expected);
  });
});
