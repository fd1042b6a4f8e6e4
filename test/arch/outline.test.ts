import { readdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { describe, expect, test } from 'vitest';
import { outline } from '../../src/arch/v8/outline.ts';
import { type ScriptSymbols, scanProgram } from '../../src/arch/v8/symbols.ts';
import { parseScript } from '../../src/arch/v8/symbols-parse.ts';
import { root } from '../e2e/support.ts';
import { scriptOf } from './support.ts';

const full = (source: string, isModule: boolean): ScriptSymbols =>
  scanProgram(parseScript(source, isModule).program, scriptOf('file:///x.js', source, isModule), source, 0n);

function outlined(source: string, isModule: boolean): ScriptSymbols | undefined {
  const program = outline(source, isModule);
  return program && scanProgram(program, scriptOf('file:///x.js', source, isModule), source, 0n);
}

const resolve = createRequire(import.meta.url).resolve;

/** Scripts of real packages: written by hand, compiled, bundled and minified. */
const PACKAGES = ['fastify', 'undici', 'acorn', 'express', 'iconv-lite', 'pino', 'qs', 'semver'];

function* scripts(): Generator<{ file: string; source: string; isModule: boolean }> {
  for (const name of PACKAGES) {
    const folder = path.join(path.dirname(resolve('acorn/package.json')), '..', name);
    for (const entry of readdirSync(folder, { recursive: true, encoding: 'utf8' })) {
      if (!/\.[cm]?js$/.test(entry)) continue;
      const file = path.join(folder, entry);
      const source = readFileSync(file, 'utf8');
      const isModule = file.endsWith('.mjs') || /^(?:import|export)\b/m.test(source);
      yield { file, source, isModule };
    }
  }
}

test('gives the symbols that the whole syntax tree gives, for every script of real packages', () => {
  let functions = 0;
  const unsure: string[] = [];
  for (const { file, source, isModule } of scripts()) {
    let expected: ScriptSymbols;
    try {
      expected = full(source, isModule);
    } catch {
      continue;
    }
    const found = outlined(source, isModule);
    if (found === undefined) unsure.push(path.relative(root, file));
    else {
      if (!isDeepStrictEqual(found, expected)) expect(found, file).toEqual(expected);
      functions += found.symbols.length;
    }
  }
  expect(unsure).toEqual([]);
  expect(functions).toBeGreaterThan(5000);
}, 60_000);

// biome-ignore-start lint/suspicious/noTemplateCurlyInString: templates of the texts
/** Syntax whose functions a shorter way could miss, misname or misplace. */
const SNIPPETS: readonly string[] = [
  // slashes
  'a = b / c / function () {}; x = y\n/f/g.h(() => 1)',
  'if (a) /re}/.test(() => 1); (a) / b / (() => 2)',
  'x = {}\n/ (() => 1) / 2; y = /[/\\]]/.source + (() => 3); z = [/a/, () => 4]',
  'a++ / (() => 1) / 2; ++/x/.lastIndex, () => 2',
  'function f() { return /re/g.exec(() => 1) } x /= (() => 2)',
  // templates
  'x = `a${() => `b${function n() {}}`}c`; t`${() => 1}`.u(() => 2); o[`k`] = () => 3; o[`k${1}`] = () => 4',
  '`${{ a: () => 1 }.a}}` + (() => 2)',
  // arrows and what looks like them
  'a = (b, c) => d; e = (f = () => 1, { g = () => 2, h: [i = () => 3] }, ...[j = () => 4]) => 5',
  'k = ((l)); m = (n, () => 1); o = () => ({ p: () => 2 }); q = r => s => t; u = () => (v, () => 3)',
  'async (a) => 1; async(a, () => 2); async\n(b, () => 3); c = async d => () => 4; async => 5; e = async ({ f = () => 6 }, ...g) => 7',
  'x = () => {}\n/re/.test(() => 1)',
  'x = a ? (b) : c => d; y = a ? (b) => (c) : d => e; z = a ? (b, () => 1) : 2',
  'f(x => 1) + 2 ? () => 3 : () => 4; [x => 1][0] = () => 5',
  'var a = async function () {}, b = async () => { await (() => 1)(); for await (const c of d(() => 2)) ; }',
  // names through operators
  'a = b || function () {}; a = b && c || (() => 1); a = b ?? (() => 2); a = (b + c) || (() => 3); a = b || c + (() => 4)',
  'a = b ? () => 1 : function () {}; a = (() => 1) ? 2 : 3; a = !(() => 1); a = (() => 1)(); a = (() => 1).b; a = new (class { c() {} })',
  'a.b.c = () => 1; this.d = () => 2; a[1] = () => 3; a["b c"] = () => 4; a[Symbol.iterator] = () => 5; a[b] = () => 6; f().g = () => 7; f(() => 8).h = () => 9',
  'a = b.c = () => 1; A.prototype = { m() {}, n: () => 2, get o() { return 1 }, set o(v) {}, async *p() {}, async q() {}, *r() {} }',
  'a += () => 1; a ||= () => 2; a.b ??= () => 3; (a) = () => 4; (a.b) = () => 5; [a = () => 6] = b; ({ a = () => 7, b: { c = () => 8 } = () => 9 } = d)',
  'a = [() => 1, [() => 2], ...(() => 3), { b: () => 4 }]; a = { ...(() => 5), [() => 6]: () => 7, "q r": () => 8, 0x10: () => 9, 1n() {}, .5: () => 10 }',
  'a = { get, set, async, static: () => 1, get: () => 2, async: () => 3, get() {}, set() {}, async() {}, get get() {}, async async() {}, "constructor"() {} }',
  'a = { async\n: () => 1 }; a = { get [b]() {}, set "c"(v) {}, async [d]() {}, *[e]() {}, *"f"() {} }',
  // classes
  'class A { constructor(a = () => 1) {} m() {} get g() {} set g(v) {} static s() {} static async *t() {} #p() {} static #q = () => 2; f = () => 3; [k]() {} "n m"() {} 5() {} }',
  'class B extends (class C { m() {} }) { constructor() { super(() => 1); } static { this.x = () => 2; class D { y() {} } } static() {} get() {} set() {} async() {} static static() {} }',
  'class E { get\na() {} static\nb = () => 1\nasync\nc() {} get\n*d() {} static async = () => 2; set = () => 3; static = 4; static get; async }',
  'x = class { m() {} }; y = class Z { constructor() {} }; z = class extends A { constructor() { super() } n() {} }; class F { "constructor"() {} static constructor() {} }',
  'class G { #a; m() { return #a in this && (() => 1); } static async\n(){} } class H { a = 1\nb() {} }',
  // declarations
  'const a = () => 1, { b = () => 2, c: { d = () => 3 }, [e(() => 4)]: f, ...g } = h(() => 5), [i = () => 6, , ...j] = k; let l = function () {}; var m',
  'let\nn = () => 1; let [o] = p(() => 2); let { q } = r(() => 3); { function s() {} let t = () => 4; } switch (u(() => 1)) { case (() => 2)(): v = () => 3; default: function w() {} }',
  'for (var x = () => 1; x(() => 2); x++) () => 3; for (const y of z(() => 4)) ; for (let w in { v: () => 5 }) ; for (a.b of c) () => 6; for (;;) break',
  'for (let i = 0, n = (a in b); i < n; i++) f(() => 1); for (x = ("a" in b); ; ) () => 1; for (x = y => { a in b }; ; ) ; for (let of = () => 1; ; ) ; for (let in {}) ; for (async of => {}; ; ) ;',
  'a: b: for (;;) { continue a; } c: function d() {} if (e) function g() {} else () => 1; do f(() => 2); while (g(() => 3)) h(() => 4)',
  'try { () => 1 } catch ({ a = () => 2 }) { () => 3 } finally { () => 4 } try {} catch { () => 5 } with (a) () => 6; throw () => 7',
  'function f() { "use strict"; "and"\n; () => 1 } function g() { "a" + (() => 2) } function h() { ("no"); } function i() { "x".y(() => 3); } function j() { "use asm" }',
  'function* a() { yield\n() => 1; yield* (() => 2); const b = yield () => 3; yield /re/; return yield; } yield /2/ (() => 4)',
  'var let_ = let => 1; var of = () => 1, get = () => 2; yield = () => 3; await = () => 4; async = () => 5; await\n(() => 6)',
  // blanks, comments, numbers, line ends
  '#!/usr/bin/env node\n// () => 1\n/* function x() {} */ () => 2 // <- \n;\u2028() => 3 /* a\nb */ ;\ufeff\u00a0() => 4',
  'a = 1..toString(() => 1); b = 0xfF + 1_000n + .5e-3 + 0b1 + 0o7 + 1e5; c?.5:() => 2; d?.e(() => 3); d?.[() => 4]; d?.(() => 5)?.f',
  'a\n++b\n;() => 1',
  'import(() => 1); import("x").then(() => 2); new.target; new a.b(() => 3).c(() => 4); new (d(() => 5))(); new new E(() => 6)(); new f',
  'x = "\\\n() => 1"; y = \'"\'; z = "\\"" + (() => 1); \'\\\\\'.a(() => 2)',
  'var ä = () => 1, $ = function () {}, _ = { ü: () => 2, 中() {} }; class Ö { ß() {} }',
  'delete (() => 1); typeof function () {}; void (() => 2)(); -(() => 3); a = b, c = () => 4; a = (b, c = () => 5)',
  'return () => 1',
  // functions that a bundler's helper names
  'var d = Object.defineProperty, n = (t, v) => d(t, "name", { value: v, configurable: !0 }); const a = n(() => 1, "b"), c = { e: n(async () => 2, "f") }; class G { h = n(() => 3, "h"); i() { const j = n((k) => 4, "l"); new n(() => 5, "m"); n(() => 6, "o", 1); n(() => 7, 2); n(...p(() => 8), "q"); n(a, "r") } }',
  'a < b, c > (() => 1); a << 2 >>> (() => 2); a <= (() => 3); a >>>= () => 4; a **= () => 5; a ** (() => 6); a != (() => 7); a % (() => 8)',
  'debugger; ;;; {} if (a) ; else { } (() => 1)',
  'function a(b, { c, d: [e = () => 1] }, f = () => 2, ...g) { var h = function i() { return () => 3 } } export_ = function () {}',
];
// biome-ignore-end lint/suspicious/noTemplateCurlyInString: templates of the texts

const MODULES: readonly string[] = [
  'import a, { b as c, default as d } from "e" with { type: "json" }; import * as f from "g"; import "h"; export default () => 1',
  'export default function () {} export function a() {} export class B { m() {} } export const c = () => 1, d = { e() {} }; export { c as f, d as "g h" }; export * from "i"; export * as j from "k"',
  'export default class { m() {} static s = () => 1 }',
  'export default async function () { await (() => 1)() }',
  'export default (function () {}, class { m() {} }); export let a = async () => 1; export async function b() {}',
  'await (() => 1)(); for await (const a of b(() => 2)) ; import.meta.c(() => 3); const d = await import("e"), f = () => 4',
  'export default async\n(() => 1)',
  'export { a } from "b" with { type: "json" }\nexport default { c() {}, d: () => 1 }',
];

describe('gives the same as the whole tree for', () => {
  const cases = [
    ...SNIPPETS.map((source) => ({ source, isModule: false })),
    ...MODULES.map((source) => ({ source, isModule: true })),
    // what was taken for a script
    ...MODULES.slice(0, 3).map((source) => ({ source, isModule: false })),
  ];
  test.each(cases)('$source', ({ source, isModule }) => {
    const expected = full(source, isModule);
    const found = outlined(source, isModule);
    expect(found).toEqual(expected);
    expect(expected.symbols.length).toBeGreaterThan(0);
  });
});

// biome-ignore-start lint/suspicious/noTemplateCurlyInString: as above
test.each([
  'var \\u0061 = () => 1',
  'a <!-- b\n() => 1',
  '--> comment\n() => 1',
  '{ using a = b(() => 1); }',
  'for (using a of b) () => 1',
  'for ([a = () => 1] of b) ;',
  '@decorated class A { m() {} }',
  'function broken( {',
  'a b c',
  '"unterminated',
  '`unterminated ${a',
  'x = {',
  'x = [1, ',
  '/unterminated',
  '/* unterminated',
  '<div>() => 1</div>',
  '}',
  `${'('.repeat(200_000)}1`,
  // biome-ignore-end lint/suspicious/noTemplateCurlyInString: as above
])('leaves %s to the whole tree', (source) => {
  expect(outline(source, false)).toBeUndefined();
});

test('what is cut off anywhere ends, and never with another error', () => {
  const source = SNIPPETS.join('\n');
  for (let end = 0; end < source.length; end += 7) outline(source.slice(0, end), end % 2 === 0);
});
