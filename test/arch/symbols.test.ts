import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { scanFunctions } from '../../src/arch/v8/symbols.ts';
import { nodeBinaries } from '../support/nodes.ts';
import { functionAt, run, scriptOf, symbolsOf, symbolsOfFile } from './support.ts';

interface Shown {
  label: string;
  shown: string;
  file?: string;
  line: number;
  column: number;
}

const fixture = (name: string) => fileURLToPath(new URL(`fixtures/${name}`, import.meta.url));

/** What V8 shows, without the receiver's type where it is a plain object's or array's. */
const withoutReceiver = (shown: string, name: string) =>
  shown === `Object.${name}` || shown === `Array.${name}` ? name : shown;

describe.each(nodeBinaries())('names on Node $version', ({ path: node }) => {
  test('are those of its stack traces: CommonJS', () => {
    const file = fixture('names.cjs');
    const frames = JSON.parse(run(node, [file])) as Shown[];
    expect(frames.length).toBeGreaterThan(80);
    const source = readFileSync(file, 'utf8');
    const symbols = symbolsOfFile(file);
    const wrong: string[] = [];
    for (const { label, shown, line, column } of frames) {
      const name = functionAt(symbols, source, line, column)?.name ?? 'no function';
      // A class shows the subclass that inherits it; a detached method shows no class
      const detached = name.endsWith(`.${shown}`) && shown !== '';
      const inherited = shown.replace(/^(new )?Sub/, '$1Cart') === name;
      const constructed = shown === `new ${name}`;
      if (withoutReceiver(shown, name) !== name && !detached && !inherited && !constructed) {
        wrong.push(`${label}: V8 ${shown}, here ${name}`);
      }
    }
    expect(wrong).toEqual([]);
  });

  test('are those of its stack traces: ES modules', () => {
    const frames = JSON.parse(run(node, [fixture('names.mjs')])) as Shown[];
    expect(frames).toHaveLength(7);
    for (const { shown, file, line, column } of frames) {
      const path = fixture(file!);
      const symbol = functionAt(symbolsOfFile(path, true), readFileSync(path, 'utf8'), line, column);
      expect(symbol?.name).toBe(shown);
    }
  });
});

describe('functionSymbols', () => {
  test('kinds, parameters, places', () => {
    const source = [
      'function plain(a, { b }, c = 1, ...d) { "more" }',
      'class A extends Object {',
      '  constructor(x) { super(); }',
      '  static async *gen() {}',
      '  get g() { return 1; }',
      '  field = async (y) => y;',
      '}',
      'const f = async function* () {};',
    ].join('\n');
    const symbols = symbolsOf(source);
    expect(symbols.map((s) => [s.name, s.kind, s.line, s.column, s.isStatic])).toEqual([
      ['plain', 'function', 1, 1, false],
      ['new A', 'derived-constructor', 3, 3, false],
      ['A.gen', 'async-generator', 4, 3, true],
      ['get g', 'getter', 5, 3, false],
      ['A.field', 'async-arrow', 6, 11, false],
      ['f', 'async-generator', 8, 11, false],
    ]);
    const [plain, , , getter, field] = symbols;
    expect(plain!.params).toEqual(['a', undefined, 'c', undefined]);
    expect(plain!.simpleParams).toBe(false);
    expect(source.slice(plain!.entry)).toMatch(/^ }/);
    expect(source.slice(plain!.start, plain!.end)).toMatch(/^function plain.*}$/);
    expect(source.slice(getter!.bodyStart, getter!.bodyEnd)).toBe('{ return 1; }');
    expect(field!.expressionBody).toBe(true);
    expect(source.slice(field!.bodyStart, field!.bodyEnd)).toBe('y');
    expect(plain!.address).toBe(0x1000n + BigInt(plain!.start));
  });

  test('the entry is behind all directives', () => {
    const [f] = symbolsOf("function f() { 'use strict'\n'x'; 1 }");
    expect(f!.entry).toBe("function f() { 'use strict'\n'x';".length);
  });

  test('bindings: how a function can be reached', () => {
    const source = `
      function top() { function inner() {} }
      { const nested = () => 1; }
      const arrow = () => 1;
      class Cart { total() {} static make() {} #secret() {} get size() { return 0; } }
      exports.a = function () {};
      Old.prototype.b = function () {};
      const api = { list() {}, deep: { get() {} } };
      list.forEach(() => 1);
      this.queue.drain = () => 1;
      make().key.of = () => 1;
      this.own = { method() {} };
      x.y = x.z = { both() {} };`;
    expect(symbolsOf(source).map((s) => [s.name, s.binding, s.parent])).toEqual([
      ['top', { via: 'variable', name: 'top', constant: false, topLevel: true }, -1],
      ['inner', { via: 'variable', name: 'inner', constant: false, topLevel: false }, 0],
      ['nested', { via: 'variable', name: 'nested', constant: true, topLevel: false }, -1],
      ['arrow', { via: 'variable', name: 'arrow', constant: true, topLevel: true }, -1],
      ['Cart.total', property('total', 'Cart', false), -1],
      ['Cart.make', property('make', 'Cart', true), -1],
      ['#secret', { ...property('#secret', 'Cart', false), private: true }, -1],
      ['get size', { ...property('size', 'Cart', false), accessor: 'get' }, -1],
      ['exports.a', property('a', 'exports', true), -1],
      ['Old.b', property('b', 'Old', false), -1],
      ['list', property('list', 'api', true), -1],
      ['get', property('get', 'api.deep', true), -1],
      ['', { via: 'none' }, -1],
      ['queue.drain', { via: 'none' }, -1],
      ['key.of', { via: 'none' }, -1],
      ['method', { ...property('method', 'x', false), className: undefined }, -1],
      ['both', property('both', 'x.z', true), -1],
    ]);
  });

  test('texts that V8 runs and a plain parser refuses', () => {
    const names = (source: string, isModule = false) =>
      symbolsOf(source, 'file:///x', isModule).map((s) => s.name);
    expect(names('#!/usr/bin/env node\nreturn function f() {}')).toEqual(['f']);
    expect(names('await 1; function f() {}')).toEqual(['f']);
    expect(names('with (a) { function f() {} }')).toEqual(['f']);
    expect(names('import x from "y" with { type: "json" }; export function f() {}', true)).toEqual(['f']);
    expect(names('const { a, a: b } = new.target ?? {}; function f() {}')).toEqual(['f']);
  });

  test('a text that cannot be parsed has no functions, and says why', () => {
    const bad = 'function f( {';
    expect(scanFunctions(scriptOf('x', bad), bad, 0n)).toMatchObject({ symbols: [], failure: /./ });
    const deep = '('.repeat(200_000);
    expect(scanFunctions(scriptOf('x', deep), deep, 0n)).toMatchObject({ symbols: [], failure: /./ });
  });
});

function property(key: string, className: string, isStatic: boolean) {
  return { via: 'property', key, isStatic, className, private: false, accessor: undefined };
}
