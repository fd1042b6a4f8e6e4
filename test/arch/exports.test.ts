import { expect, test } from 'vitest';
import { exportKey, mayHold } from '../../src/arch/v8/exports.ts';
import { symbolsOf } from './support.ts';

const keyOf = (source: string, name: string): string | undefined =>
  exportKey(source, symbolsOf(source).find((symbol) => symbol.name === name)!);

test.each([
  ['function f() {}\nmodule.exports = { f };', 'f', 'f'],
  ['function f() {}\nmodule.exports = { g: f, h };', 'f', 'g'],
  ['const f = () => 1;\nexports.f = f;', 'f', 'f'],
  ['async function f() {}\nmodule.exports.f = f;', 'f', 'f'],
  ['exports = module.exports = { f }; function f() {}', 'f', 'f'],
  ['exports.f = function () {};', 'exports.f', 'f'],
  ['module.exports = { f: () => 1, g() {} };', 'f', 'f'],
  // as TypeScript's compiler writes it
  [
    'exports.g = exports.f = void 0;\nconst f = () => 1;\nexports.f = f;\nconst g = () => 2;\nexports.g = g;',
    'f',
    'f',
  ],
  [
    'exports.g = exports.f = void 0;\nconst f = () => 1;\nexports.f = f;\nconst g = () => 2;\nexports.g = g;',
    'g',
    'g',
  ],
  ['const api = { f: async () => 1 };\nmodule.exports = api; api.f();', 'f', 'f'],
  // f is a key, a property and a string elsewhere, which lead nowhere
  ['function f() {}\nconst o = { f: 1 }; o.f = 2; "f"; exports.f = f; // f', 'f', 'f'],
])('%s: %s by %s', (source, name, key) => {
  expect(keyOf(source, name)).toBe(key);
});

test.each([
  ['called inside', 'function f() {}\nmodule.exports = { f }; f();', 'f'],
  ['recursive', 'function f(n) { return n && f(n - 1) }\nexports.f = f;', 'f'],
  ['recursive by its own name', 'exports.f = function f(n) { return n && f(n - 1) };', 'f'],
  ['exported twice', 'function f() {}\nmodule.exports = { f, g: f };', 'f'],
  ['kept besides', 'const kept = exports.f = function () {};', 'exports.f'],
  ['in a chain', 'exports.g = exports.f = function () {};', 'exports.g.exports.f'],
  ['the exports themselves', 'function f() {}\nmodule.exports = f;', 'f'],
  ['not exported', 'function f() {}', 'f'],
  ['taken out of the exports', 'function f() {}\nexports.f = f; const g = exports.f;', 'f'],
  ['handed over', 'function f() {}\nexports.f = f; setTimeout(exports.f, 1);', 'f'],
  ['eval', 'function f() {}\nexports.f = f; eval("f()");', 'f'],
  ['shadowed', 'function f() {}\nexports.f = f; function g(f) { f() }', 'f'],
  ['assigned', 'let f = () => 1; f = wrap(f); exports.f = f;', 'f'],
  ['declared twice', 'function f() {}\nfunction f(a) {}\nexports.f = f;', 'f'],
  ['in a block', 'if (x) { function f() {} }\nexports.f = f;', 'f'],
  ['a class', 'class C { constructor() {} }\nexports.C = C;', 'new C'],
])('%s: by no property', (_, source, name) => {
  expect(symbolsOf(source).map((symbol) => symbol.name)).toContain(name);
  expect(keyOf(source, name)).toBeUndefined();
});

test.each([
  [false, false, "const api = require('./api'); api.f(1); new api.f(); api?.f();"],
  [false, false, 'const o = { f() {} }; function f() {} f();'],
  [true, false, "import api from './api.cjs'; api.f();"],
  [false, false, "const api_1 = require('./api'); (0, api_1.f)(1);"],
  [false, true, "const api_1 = require('./api'); (0, g(), api_1.f)(1);"],
  [false, true, 'exports.g = api_1.f;'],
  [false, true, 'exports.g = exports.f = h;'],
  [false, true, "const { f } = require('./api');"],
  [false, true, "const { f: g } = require('./api');"],
  [false, true, "const g = require('./api').f;"],
  [false, true, "app.get('/', api.f);"],
  [false, true, "const g = api['f'];"],
  [false, true, 'api.f.call(null);'],
  [true, true, "import { f } from './api.cjs';"],
  [true, true, "import { f as g } from './api.cjs';"],
  [true, true, "export { f } from './api.cjs';"],
  [true, true, "import * as api from './api.cjs'; api.f();"],
  [false, true, "import('./api.cjs').then((api) => api.f());"],
  [true, true, 'not a text that f parses {'],
] as const)('module %s, may hold it: %s: %s', (isModule, held, source) => {
  expect(mayHold(source, isModule, 'f')).toBe(held);
});
