import { describe, expect, test } from 'vitest';
import { readersOf } from '../../src/arch/v8/readers.ts';
import { functionSymbols } from '../../src/arch/v8/symbols.ts';

const INFO = {
  scriptId: '1',
  url: 'file:///app/a.js',
  isModule: true,
  length: 0,
  sourceMapURL: '',
  executionContextId: 1,
  hash: '',
};

/** Names of the functions that read `f`; each offset has to be one of the word, in that function and no deeper one. */
function readers(source: string, most = 10, v8 = '14.1'): string[] | undefined {
  const symbols = functionSymbols({ ...INFO, length: source.length }, source, 0n);
  const held = symbols.find(({ name }) => name === 'f');
  if (held === undefined) throw new Error('no f');
  return readersOf(source, symbols, held, 'f', true, v8, most)?.map(({ symbol, offset }) => {
    expect(source.slice(offset, offset + 1)).toBe('f');
    const innermost = symbols.findLast(({ start, end }) => start <= offset && offset < end);
    expect(innermost).toBe(symbol);
    return symbol.name;
  });
}

describe('functions that read a variable', () => {
  test('each once, in the order of the text', () => {
    const text =
      'function f() {}\nfunction g() { f(); f(); }\nconst h = () => f;\nclass C { m() { return f(1); } }\n';
    expect(readers(text)).toEqual(['g', 'h', 'C.m']);
  });

  test('the innermost one that has the word', () => {
    expect(readers('function f() {}\nfunction g() { return () => [1].map((x) => f(x)); }')).toHaveLength(1);
    const both = 'function f() {}\nfunction g() { function inner() { f(); } return f(inner); }';
    expect(readers(both)).toEqual(['inner', 'g']);
  });

  test('not the function itself, nor what the module does by itself', () => {
    expect(readers('function f(n) { return n && f(n - 1); }\nf(3);\nexport { f };')).toEqual([]);
  });

  test('whole words that are no properties', () => {
    const text =
      'function f() {}\nfunction a(o) { o.f(); o?.f(); }\nfunction b(ff, f$, $f, éf) { return ff + f$ + $f + éf; }\nfunction c(...x) { c(...f); }';
    expect(readers(text)).toEqual(['c']);
  });

  test('undefined for more than asked for', () => {
    const text = 'function f() {}\nconst a = () => f(), b = () => f(), c = () => f();';
    expect(readers(text, 3)).toEqual(['a', 'b', 'c']);
    expect(readers(text, 2)).toBeUndefined();
  });

  test('undefined where a breakpoint would break super()', () => {
    const text =
      'function f() {}\nclass A {}\nclass B extends A { constructor() { const g = () => this; f(g); super(); } }';
    expect(readers(text)).toBeUndefined();
  });

  test('undefined where a breakpoint would end the process: fields beside static ones, on V8 12', () => {
    const field = 'function f() {}\nconst make = () => class { a = f(); static b = 2; };';
    expect(readers(field, 10, '12.4.254.21-node.33')).toBeUndefined();
    const inside = 'function f() {}\nclass C { m() { return f(); } a = () => f(); static b = 2; }';
    expect(readers(inside, 10, '12.4.254.21-node.33')).toEqual(['C.m', 'C.a']);
  });

  test('undefined where a breakpoint would end the process: object literals with super, on V8 before 13', () => {
    const literal = 'function f() {}\nconst make = () => ({ a: f(), m() { return super.a; } });';
    const key = 'function f() {}\nconst make = () => ({ [f()]() {}, m() { return super.a; } });';
    const given = 'function f() {}\nconst make = () => ({ m(a = f()) {}, n() { return super.a; } });';
    for (const v8 of ['11.3.244.8-node.38', '12.4.254.21-node.57']) {
      expect(readers(literal, 10, v8)).toBeUndefined();
      expect(readers(literal.replace('super.a', "eval('super.a')"), 10, v8)).toBeUndefined();
      expect(readers(key, 10, v8)).toBeUndefined();
      expect(readers(given, 10, v8)).toBeUndefined();
      expect(readers(literal.replace('super', 'this'), 10, v8)).toEqual(['make']);
    }
    expect(readers(literal, 10, '13.6.233')).toEqual(['make']);
    const inside = 'function f() {}\nconst make = () => ({ a() { return f(); }, m() { return super.a; } });';
    expect(readers(inside, 10, '11.3.244.8-node.38')).toEqual(['a']);
  });

  test('undefined where V8 would put a breakpoint into the constructor: the text of a class that a function makes', () => {
    for (const text of [
      'const make = () => class extends f {};',
      'function make() { const a = 1; class C extends f { constructor() { super(); } } return C; }',
      'const make = () => class { a = f(); static b = 2; };',
      'const make = () => class { static { f(); } };',
    ])
      expect(readers(`function f() {}\n${text}`)).toBeUndefined();
    const apart =
      'function f() {}\nfunction make() { class C { m() { return f(); } } return f(C); }\nclass D extends f {}';
    expect(readers(apart)).toEqual(['C.m', 'make']);
  });

  test('undefined where a breakpoint would end the process: beside a class with private and static fields, on V8 before 13', () => {
    const text =
      'function f() {}\nfunction* g() { class P { static n = 0; #x = 1; run() { return this.#x; } } yield f(); yield new P().run(); }';
    for (const v8 of ['11.3.244.8-node.38', '12.4.254.21-node.57'])
      expect(readers(text, 10, v8)).toBeUndefined();
    expect(readers(text)).toEqual(['g']);
    const before = text.replace('function* g() {', 'function* g() { f();').replace('yield f();', '');
    expect(readers(before, 10, '11.3.244.8-node.38')).toEqual(['g']);
  });
});
