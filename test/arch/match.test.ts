import { describe, expect, test } from 'vitest';
import { fileFilter, listFunctions, parseTarget, SymbolIndex, shownPath } from '../../src/arch/v8/match.ts';
import type { TraplineError } from '../../src/errors.ts';
import { editDistance } from '../../src/similar.ts';
import { symbolsOf } from './support.ts';

const SERVER = `'use strict';
function handleRequest(req, res) {
  const n = [1, 2].map((x) => x + 1);
  if (req.url === '/') return home(req, res);

  res.end(n.join());
}
function home(req, { status }) { return 1; }
class Cart {
  constructor(id) { this.id = id; }
  total() { return this.items.reduce((a, b) => a + b, 0); }
  get size() { return 1; }
}
const api = {
  list() { return [1].map((x) => x); },
  total: () => 2,
};
`;
const index = new SymbolIndex(
  [
    ...symbolsOf(SERVER, 'file:///app/src/server.js'),
    ...symbolsOf('function handleRequest() {}', 'file:///app/node_modules/web/lib/server.js'),
    ...symbolsOf('function query(sql) {}\nfunction close() {}', 'file:///app/src/db.ts'),
    ...symbolsOf('function query() {}', 'file:///app/src/userdb.ts'),
    ...symbolsOf('function f() {}', 'evalmachine.<anonymous>'),
    ...symbolsOf('function read() {}', 'node:internal/fs/utils'),
    ...symbolsOf('function outside() {}', '/elsewhere/x.js'),
  ],
  { cwd: '/app' },
);
const names = (target: string) => index.match(target).map((m) => m.name);
const failure = (target: string) => {
  try {
    index.match(target);
  } catch (error) {
    const { code, message, hint } = error as TraplineError;
    return { code, message, hint };
  }
  throw new Error('it matched');
};

describe('targets', () => {
  test('are split into file and function or line', () => {
    expect(parseTarget('server.js:handle')).toEqual({ file: 'server.js', func: 'handle' });
    expect(parseTarget('handle')).toEqual({ file: undefined, func: 'handle' });
    expect(parseTarget('a.js:42')).toEqual({ file: 'a.js', line: 42, column: undefined });
    expect(parseTarget('a.js:42:7')).toEqual({ file: 'a.js', line: 42, column: 7 });
    expect(parseTarget('node:fs:get x')).toEqual({ file: 'node:fs', func: 'get x' });
    expect(parseTarget('a.js:"new Cart"')).toEqual({ file: 'a.js', func: 'new Cart' });
    expect(parseTarget('"new Cart"')).toEqual({ file: undefined, func: 'new Cart' });
    expect(parseTarget('"my file.js":f')).toEqual({ file: 'my file.js', func: 'f' });
  });

  test('FILE is the end of a path, on component boundaries', () => {
    expect(names('db.ts:query')).toEqual(['src/db.ts:query']);
    expect(names('src/db.ts:query')).toEqual(['src/db.ts:query']);
    expect(names('/app/src/db.ts:query')).toEqual(['src/db.ts:query']);
    expect(names('./src/db.ts:query')).toEqual(['src/db.ts:query']);
    expect(names('*db.ts:query')).toEqual(['src/db.ts:query', 'src/userdb.ts:query']);
    expect(names('evalmachine.<anonymous>:f')).toEqual(['evalmachine.<anonymous>:f']);
  });

  test('node_modules is reached by name, by wildcard, or when nothing else matches', () => {
    expect(names('server.js:handleRequest')).toEqual(['src/server.js:handleRequest']);
    expect(names('node_modules/web/lib/server.js:*')).toEqual([
      'node_modules/web/lib/server.js:handleRequest',
    ]);
    expect(names('*server.js:handleRequest')).toHaveLength(2);
    expect(names('lib/server.js:handleRequest')).toEqual(['node_modules/web/lib/server.js:handleRequest']);
    expect(names('handleRequest')).toEqual(['src/server.js:handleRequest']);
  });

  test('FUNC is a name or its last part, wildcards match names whole', () => {
    expect(names('server.js:total')).toEqual(['src/server.js:Cart.total', 'src/server.js:total']);
    expect(names('server.js:Cart.total')).toEqual(['src/server.js:Cart.total']);
    expect(names('server.js:api.total')).toEqual(['src/server.js:total']);
    expect(names('server.js:Object.list')).toEqual(['src/server.js:list']);
    for (const size of ['size', 'get size', 'Cart.size']) {
      expect(names(`server.js:${size}`)).toEqual(['src/server.js:get size']);
    }
    for (const cart of ['Cart', 'new Cart', 'Cart.constructor']) {
      expect(names(`server.js:${cart}`)).toEqual(['src/server.js:new Cart']);
    }
    expect(names('server.js:h*')).toEqual(['src/server.js:handleRequest', 'src/server.js:home']);
    expect(names('server.js:hom[a-f]')).toEqual(['src/server.js:home']);
    expect(names('server.js:hom[!a-d]')).toEqual(['src/server.js:home']);
    expect(names('server.js:?ome')).toEqual(['src/server.js:home']);
    expect(names('server.js:*')).toHaveLength(10);
    expect(names('server.js:<anonymous>')).toHaveLength(3);
    expect(index.match('server.js:home')[0]!.params).toEqual(['req', undefined]);
  });

  test('a line is the innermost function around its beginning', () => {
    const at = (target: string) => {
      const [match, ...more] = index.match(target);
      expect(more).toEqual([]);
      return [match!.symbol.name, match!.name, match!.at];
    };
    expect(at('server.js:3')).toEqual(['handleRequest', 'src/server.js:3', { line: 3, column: 1 }]);
    expect(at('server.js:5')).toEqual(['handleRequest', 'src/server.js:5', { line: 5, column: 1 }]);
    expect(at('server.js:3:32')[0]).toBe('');
    expect(at('server.js:8')[0]).toBe('home');
    expect(at('server.js:11')[0]).toBe('Cart.total');
    expect(failure('server.js:9')).toEqual({
      code: 'ENOENT',
      message: 'src/server.js:9 is not inside a function',
      hint: 'the next function is new Cart, line 10',
    });
    expect(failure('*server.js:3').message).toMatch(/is 2 files/);
  });

  test('what is not there is answered with the nearest name', () => {
    expect(failure('server.js:handelRequest').hint).toBe('did you mean src/server.js:handleRequest?');
    expect(failure('server.js:handle').hint).toBe('did you mean src/server.js:handleRequest?');
    expect(failure('server.js:totl').hint).toBe('did you mean src/server.js:Cart.total?');
    expect(failure('Cart.prototype.total').hint).toBe('did you mean src/server.js:Cart.total?');
    expect(failure('db.ts:hmoe').hint).toBe('did you mean src/server.js:home?');
    expect(failure('sever.js:home')).toEqual({
      code: 'ENOENT',
      message: 'no loaded script matches sever.js',
      hint: 'did you mean src/server.js?',
    });
    expect(failure('zzz').hint).toBeUndefined();
    // the same name of another class, or in another file, is nearer than any misspelling
    expect(failure('server.js:Carts.total').hint).toBe('did you mean src/server.js:Cart.total?');
    expect(failure('userdb.ts:home').hint).toBe('did you mean src/server.js:home?');
    expect(failure('server.js')).toEqual({
      code: 'ENOENT',
      message: 'server.js is a file, and no function is called so',
      hint: 'src/server.js:* names its functions',
    });
    expect(failure('*.ts').hint).toBe('*.ts:* names its functions');
  });

  test("Node's internals are refused with a reason, and left out of lists", () => {
    expect(failure('node:internal/fs/utils:read')).toMatchObject({ code: 'EINVAL' });
    expect(failure('node:internal/fs/utils:read').message).toMatch(/internal to Node/);
    expect(listFunctions(index, 'node:internal/fs/utils:*')).toEqual([]);
  });

  test('so is what a process does not even list', () => {
    expect(failure('node:http:*')).toMatchObject({
      code: 'EINVAL',
      message: expect.stringMatching(/^node:http cannot be probed: it is Node's own module/),
    });
    expect(failure('node_modules/trapline/dist/index.js:trace').message).toMatch(/Trapline's own code/);
  });
});

test('lists print one line a probe', () => {
  expect(listFunctions(index, 'server.js:h*')).toEqual([
    'kprobe:src/server.js:handleRequest',
    'kprobe:src/server.js:home',
  ]);
  expect(listFunctions(index, 'server.js:home', 'kretprobe', true)).toEqual([
    'kretprobe:src/server.js:home  src/server.js:8  (req, arg1)',
  ]);
  expect(listFunctions(index, 'server.js:11', 'kprobe', true)).toEqual([
    'kprobe:src/server.js:11  in Cart.total  ()',
  ]);
  expect(listFunctions(index, 'nothing.js:*')).toEqual([]);
});

test('a filter tells which files a target can name', () => {
  expect(['/a/db.ts', '/a/userdb.ts', '/b/db.ts'].filter(fileFilter('db.ts:query'))).toEqual([
    '/a/db.ts',
    '/b/db.ts',
  ]);
  expect(['/a/x.js', 'y'].filter(fileFilter('query'))).toEqual(['/a/x.js', 'y']);
  expect(['/a/x.js', '/a/y.js'].filter(fileFilter('x.js:4'))).toEqual(['/a/x.js']);
});

test('paths are relative to the working directory or to node_modules', () => {
  expect(shownPath('/app/src/a.js', '/app')).toBe('src/a.js');
  expect(shownPath('/application/a.js', '/app')).toBe('/application/a.js');
  expect(shownPath('/app/node_modules/a/node_modules/b/c.js', '/app')).toBe('node_modules/b/c.js');
  expect(shownPath('webpack://x/./a.ts', '/app')).toBe('webpack://x/./a.ts');
});

test('distances', () => {
  expect(editDistance('kitten', 'sitting', 9)).toBe(3);
  expect(editDistance('ab', 'ba', 9)).toBe(1);
  expect(editDistance('abc', 'abc', 9)).toBe(0);
  expect(editDistance('a', 'abcdef', 3)).toBe(3);
});
