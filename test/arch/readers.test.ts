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
    expect(readers(field, 10, '13.6.233')).toEqual(['make']);
    const inside = 'function f() {}\nclass C { m() { return f(); } a = () => f(); static b = 2; }';
    expect(readers(inside, 10, '12.4.254.21-node.33')).toEqual(['C.m', 'C.a']);
  });
});
