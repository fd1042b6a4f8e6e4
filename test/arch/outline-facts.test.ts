import { readdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { expect, test } from 'vitest';
import { compileNops, stripNops } from '../../src/arch/v8/instrument-nop.ts';
import { bodyFacts } from '../../src/arch/v8/instrument-scan.ts';
import { outlineFacts } from '../../src/arch/v8/outline.ts';
import type { SiteFacts } from '../../src/arch/v8/outline-facts.ts';
import {
  type FunctionNode,
  forEachChild,
  isFunction,
  type Node,
  parseScript,
} from '../../src/arch/v8/symbols-parse.ts';

const modules = path.join(path.dirname(createRequire(import.meta.url).resolve('acorn/package.json')), '..');

const texts = ['fastify', 'undici', 'acorn', 'express', 'pino', 'semver', 'ws'].flatMap((name) => {
  const folder = path.join(modules, name);
  return readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .filter((file) => /\.[cm]?js$/.test(file))
    .map((file) => ({ file: path.join(name, file), source: readFileSync(path.join(folder, file), 'utf8') }))
    .map(({ file, source }) => ({
      file,
      source,
      isModule: file.endsWith('.mjs') || /^(?:import|export)\b/m.test(source),
    }));
});

/** By where their bodies begin. */
function functionsOf(program: Node): Map<number, FunctionNode> {
  const found = new Map<number, FunctionNode>();
  const look = (node: Node): void => {
    if (isFunction(node)) found.set(node.body.start, node);
    forEachChild(node, look);
  };
  look(program);
  return found;
}

const names = (set: ReadonlySet<string>): string[] => [...set].sort();

/** Whether `arguments` is read, and not only a property's name. */
const readsArguments = (text: string): boolean => /(?<!\.\s*)\barguments\b(?!\s*:)/.test(text);

function compare(source: string, isModule: boolean, file: string): number {
  let full: Map<number, FunctionNode>;
  try {
    full = functionsOf(parseScript(source, isModule).program);
  } catch {
    return 0;
  }
  const program = outlineFacts(source, isModule);
  if (program === undefined) return 0;
  const outlined = functionsOf(program);
  for (const [at, node] of full) {
    // `a => b => c`: bodyFacts takes what the inner one declares for the outer one's
    if (isFunction(node.body)) continue;
    const place = `${file}:${source.slice(0, node.start).split('\n').length}`;
    const expected = bodyFacts(node);
    const facts = outlined.get(at)?.['facts'] as SiteFacts | undefined;
    expect(facts, place).toBeDefined();
    const { functions, declared, varClash, directEval, declaresArguments } = facts!;
    expect(
      { functions: names(functions), declared: names(declared), varClash, directEval, declaresArguments },
      place,
    ).toEqual({
      functions: names(expected.functions),
      declared: names(expected.declared),
      varClash: expected.varClash,
      directEval: expected.directEval,
      declaresArguments: expected.declaresArguments,
    });
    const text = source.slice(node.start, node.end);
    // of arrow functions nobody asks
    if (node.type === 'ArrowFunctionExpression') continue;
    if (!text.includes('import.meta')) expect(facts!.usesThis, place).toBe(expected.usesThis);
    if (readsArguments(text)) expect(facts!.usesArguments, place).toBe(expected.usesArguments);
  }
  return full.size;
}

test('facts of functions are those that the whole tree gives, in real packages', () => {
  let functions = 0;
  for (const { file, source, isModule } of texts) functions += compare(source, isModule, file);
  expect(functions).toBeGreaterThan(4000);
}, 60_000);

test.each([
  'function f(a) { var b, { c, d: [e = () => { var x }], ...g } = h, i; let j; const [k] = l; class M { n() { var o } } }',
  'function f() { { function g() {} } function h() {} l: function i() {} if (a) { var h; } for (var j of k) ; for (let m = 0; ;) { } }',
  'function f() { return () => this } function g() { return function () { this } } function h() { return () => () => arguments[0] }',
  'function f() { class A { x = this.y; static { var z; this.w } m() { super.v() } } } function g() { new.target } function h() { eval("a") }',
  'function f() { return { m() { this }, arguments } } function g() { a.arguments; ({ arguments: 1 }) } function h() { var arguments; }',
  'class A extends B { constructor() { super(); } static x = eval("y") } async function f() { await g; return h, i }',
  'function f() { try { let a } catch ({ b }) { var c } switch (d) { case e: let f; function g() {} } with (h) { var i } } var z = function (x = eval("y")) {}',
  'function f() { (() => eval("this"))(); (() => { var a; function b() {} })() }',
])('facts of %s', (source) => {
  expect(compare(source, false, '')).toBeGreaterThan(0);
});

test('rewritten texts parse, and give the original back', () => {
  let sites = 0;
  for (const { file, source, isModule } of texts) {
    let made: ReturnType<typeof compileNops>;
    try {
      made = compileNops(source, isModule, { gate: '$tl0123456789ab', minLength: 0, ends: 'named' });
    } catch {
      continue;
    }
    if (made === undefined) continue;
    expect(stripNops(made.source), file).toBe(source);
    parseScript(made.source, isModule);
    sites += made.forms.filter((form) => form > 0).length;
  }
  expect(sites).toBeGreaterThan(4000);
}, 60_000);

test.each([
  ['async (a, b) => (a, b)', /=\(\/\*tl}\*\/ \(a, b\)\/\*{tl\*\/\)/],
  ['(a, b) => (c(a), d(b))', /<0\?0:\(\/\*tl}\*\/c\(a\), d\(b\)/],
  ['async function f() { return a, b; }', /=\(\/\*tl}\*\/a, b\/\*{tl\*\/\)/],
  ['async function f() { await (a, b); }', /=\(\/\*tl}\*\/a, b\/\*{tl\*\/\)/],
  ['async ({ a }, [b]) => c', /\(\{ a \}, \[b\]\) =>\/\*{tl\*\/\{/],
  [
    'async function f() { for await (const a of b) c; return; }',
    /of \/\*{tl\*\/\(\S+=\/\*tl}\*\/b\/\*{tl\*\//,
  ],
])('values of %s stay whole', (source, expected) => {
  const made = compileNops(source, false, { gate: '$tl0123456789ab', minLength: 0, ends: 'named' });
  expect(made?.source).toMatch(expected);
  parseScript(made!.source, false);
});
