import { execFileSync, spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, describe, expect, test } from 'vitest';
import type { FunctionSymbol } from '../../src/arch/v8/types.ts';
import type { AttachRequest } from '../../src/target/session.ts';
import { nodeBinaries } from '../support/nodes.ts';
import { entryOf, functionAround, openSession, readCounts, until } from '../support/target.ts';

/** Calls what its parent asks for, and answers with how often and with the event loop's longest gap since. */
const TARGET = `
const { createContext, runInContext } = require('node:vm');
const keep = [];
const other = createContext({});
runInContext('function inner(a) { /* foreign */ return a + 1; } var go = () => inner(1);', other, { filename: 'plugin.js' });
const classes = '\\n\\nfunction beside() { return 1; }\\nconst make = () => {\\n  const C = class { a = beside(); static b = 2; };\\n'
  + '  const D = class { a = 3; };\\n  return [new C().a, C.b, new D().a];\\n};\\nmake;';
const make = require('node:vm').runInThisContext(classes, { filename: '/classes.js' });
function inside(a) {
  return a + 1;
}
function literal(a) {
  return { a: inside(a), later: () => a, toString() { return super.toString(); } }.a;
}
function given(arguments) { /* named */
  return arguments;
}
function declared(a) { /* let */
  let arguments = a;
  return arguments;
}
function second(a) { /* second of a let */
  let x = a, arguments = a;
  return x === 3 ? arguments : 0;
}
function unreached(a) { /* unreached */
  return a * 2;
}
module.exports = { unreached };
// taken out of the exports: its property is not for sure the only way to it
void module.exports.unreached;
const one = [1];
function hot(a) { /* hot */
  const of = { a, list: [a, 1] };
  return a > 5 ? of.list.map((x) => x + a) : JSON.stringify(of);
}
class Base {}
class Derived extends Base {
  constructor(a) { /* derived */
    super();
    this.later = () => this.a;
    this.a = a; // behind super
  }
}
class Plain extends Base {
  constructor(a) { /* plain */
    super();
    this.a = a;
  }
}
const run = (f) => f();
class Arrows extends Base {
  constructor(a, given = () => { /* given */ return a; }) {
    const early = () => { /* early */
      try {
        return this; // early line
      } catch ({ name }) {
        return name;
      }
    };
    const names = [early()];
    const bound = () => { /* bound */ super(); };
    function inner() { return run(() => { /* nested */ return new.target; }); }
    names.push(inner(), given());
    if (a > 0) bound();
    else super();
    this.later = () => this.names;
    this.names = [...names, early() === this]; // perhaps behind super
  }
}
class Fields extends Base {
  constructor(a) {
    class Part { constructor() {} [(() => { /* key */ return 'part'; })()] = (() => { /* field */ return 1; })(); }
    class Block { static { run(() => { /* static */ }); } }
    void Block;
    const { part } = new Part();
    super();
    this.later = () => this.part;
    this.part = part;
  }
}
const Evaluated = require('./evaluated.cjs').of(Base);
const mixin = (Of) => /* mixin */class extends Of {
  constructor(a) {
    const later = () => this.a;
    super();
    this.a = a;
    this.later = later;
  }
};
function local(a) {
  keep[0] = a;
  class Of extends Base { constructor() { const later = () => a; super(); this.later = later; } } // local
  for (let i = 0; i < 3; i++) if (new Of().later() !== a) throw new Error('not a');
}
function slipped(a) { /* slipped */
  return a + 1;
}
function places(a) {
  if (a === 1) {
    let unset; // place: let
    unset; // no place: variable
    7; // no place: number
    var early; // no place: var
  }
  const of = a && [a, inside(a)]; // place: const
  if (a === 2) { inside(a); } // place: if
  for (let i = 0; i < a; i++) keep[1] = i; // place: for
  label: { early = of; } // place: label
  switch (a) { case 2: keep[1] = a; } // place: switch
  try { keep[1] = a; } finally { early = 1; } // place: try
  early = () => a; // place: arrow
  do { early = a--; } while (a > 2); // place: do
  return early; // place: return
}
const kept = [1, 2, 3].map((n) => function kept() { return n; });
for (const of of kept) of();
const others = new WeakMap([[other, slipped]]);
const captured = () => slipped;
const calls = {
  unreached: () => module.exports.unreached(1),
  concise: () => one.map((x) => /* concise */ x + 1),
  assigned: () => one.map((x) => /* assigned */ keep[0] = x ? x : 0),
  listed: () => one.map((x) => (/* listed */ keep[0], x)),
  callback: () => one.forEach((x) => { /* callback */ keep[0] = x; }),
  foreign: () => other.go(),
  hot: () => hot(7),
  derived: () => { keep[0] = new Derived(1).later(); },
  made: () => { if (String(make()) !== '1,2,3') throw new Error(String(make())); },
  plain: () => { keep[0] = new Plain(1).a; },
  evaluated: () => { keep[0] = new Evaluated(1).a; },
  fields: () => { if (new Fields().later() !== 1) throw new Error('no part'); },
  arrows: () => {
    for (const a of [0, 1]) {
      const seen = JSON.stringify(new Arrows(a).later());
      if (seen !== '["ReferenceError",null,' + a + ',true]') throw new Error(seen);
    }
  },
  literal: () => { if (literal(1) !== 2) throw new Error('not 2'); },
  named: () => { if (given(3) !== 3) throw new Error('not 3'); },
  let: () => { if (declared(3) !== 3) throw new Error('not 3'); },
  second: () => { if (second(3) !== 3) throw new Error('not 3'); },
  mixin: () => { if (new (mixin(Base))(3).later() !== 3) throw new Error('not 3'); },
  local: () => local(3),
  kept: () => { if (kept.map((f) => f()).join() !== '1,2,3') throw new Error('not 1,2,3'); },
  places: () => { for (const a of [1, 2, 3, 4]) places(a); },
  slipped: () => others.get(other)(1),
};
let last = performance.now();
let longest = 0;
setInterval(() => {
  const now = performance.now();
  longest = Math.max(longest, now - last);
  last = now;
}, 1);
process.on('message', async ({ name, times, ms }) => {
  const end = performance.now() + ms;
  longest = 0;
  let done = 0;
  for (; done < times || performance.now() < end; done++) {
    calls[name]();
    if (ms > 0 && done % 20 === 0) await new Promise(setImmediate);
  }
  process.send({ done, longest });
});
process.send('up');
`;

/** A script of its own: in which versions of V8 it may be edited is another matter. */
const EVALUATED = `
exports.of = (Base) => class Evaluated extends Base {
  constructor(a) { /* evaluated */
    eval('');
    super();
    this.a = a;
    aside(a);
  }
};
function aside(a) { /* aside */ return a + 1; }
exports.aside = aside;
`;

/** A request for the line of TARGET that holds a text. */
function lineRequest(symbol: FunctionSymbol, place: string, cookie = 0): AttachRequest {
  const line = TARGET.slice(0, TARGET.indexOf(place)).split('\n').length;
  return { ...entryOf(symbol, cookie), at: { kind: 'line', symbol, line, column: 1 } };
}

const started: (() => void)[] = [];
afterEach(() => {
  for (const stop of started.splice(0)) stop();
});

async function start(node: string) {
  const folder = mkdtempSync(path.join(tmpdir(), 'arming-test-'));
  const file = path.join(folder, 'target.cjs');
  writeFileSync(file, TARGET);
  const evaluated = path.join(folder, 'evaluated.cjs');
  writeFileSync(evaluated, EVALUATED);
  const child = spawn(node, ['--inspect-port=0', file], { stdio: ['ignore', 'ignore', 'ignore', 'ipc'] });
  started.push(() => {
    child.kill('SIGKILL');
    rmSync(folder, { recursive: true, force: true });
  });
  const answer = () => new Promise<unknown>((resolve) => child.once('message', resolve));
  await answer();
  const call = (name: string, times: number, ms = 0) => {
    const done = answer();
    child.send({ name, times, ms });
    return done as Promise<{ done: number; longest: number }>;
  };
  return { pid: child.pid!, file, evaluated, call };
}

/** How edits do is looked at in every version of V8; that `auto` leaves them where they do harm has a test of its own. */
const ARM = { way: 'auto', maxPauseMs: 60_000, maxactive: 0, unsafe: true } as const;

describe.each(nodeBinaries())('arming on Node $version', ({ path: node }) => {
  test.each(['concise', 'assigned', 'listed', 'callback'])(
    '%s: a live edit reaches an inline arrow function',
    async (kind) => {
      const { pid, file, call } = await start(node);
      await call(kind, 10);
      const { session } = await openSession(pid);
      const symbol = functionAround(await session.functions(), file, `/* ${kind} */`);
      const [report] = await session.attach([entryOf(symbol)], ARM);
      await call(kind, 100);
      expect((await readCounts(session))[0] ?? 0).toBe(
        report?.way === 'edit' || report?.way === 'break' ? 100 : -1,
      );
      expect(report?.way).toBe('edit');
      await session.detach();
    },
  );

  test('calls are counted while a binding turns out not to be reached', async () => {
    const { pid, file, call } = await start(node);
    await call('unreached', 10);
    const { session, events } = await openSession(pid);
    const symbol = functionAround(await session.functions(), file, '/* unreached */');
    await session.attach([entryOf(symbol)], ARM);
    await call('unreached', 300);
    await until('it is armed', () =>
      events.armed.some(({ way, escaped }) => way === 'edit' || escaped !== undefined),
    );
    await call('unreached', 300);
    expect((await readCounts(session))[0]).toBe(600);
    await session.detach();
  });

  test('breakpoints on busy callbacks share a budget: the event loop turns, and what is missed is told', async () => {
    const { pid, file, call } = await start(node);
    await call('callback', 10);
    const { session, events } = await openSession(pid);
    const symbols = await session.functions();
    const kinds = ['callback', 'concise', 'listed', 'assigned'];
    const requests = kinds.map((kind, i) => entryOf(functionAround(symbols, file, `/* ${kind} */`), i));
    await session.attach(requests, { ...ARM, way: 'break' });
    const before = await Promise.resolve(readCounts(session));
    expect(before.every((count) => count === 0)).toBe(true);
    let ran = 0;
    for (const kind of kinds) ran += (await call(kind, 0, 400)).done;
    await until('it is told', () => events.armed.some(({ note }) => note?.includes('hits missed')));
    const counted = (await readCounts(session)).reduce((sum, count) => sum + count, 0);
    // some 830 a second; without a limit all of them
    expect(counted).toBeGreaterThan(100);
    expect(counted).toBeLessThan(4000);
    expect(ran).toBeGreaterThan(2 * counted);
    await session.detach();
  });

  test('optimized code that has the function as a constant: its calls are counted, then it is thrown away', async () => {
    const { pid, file, call } = await start(node);
    await call('hot', 20_000, 300);
    const { session, events } = await openSession(pid);
    const symbol = functionAround(await session.functions(), file, '/* hot */');
    await session.attach([entryOf(symbol)], ARM);
    let { done } = await call('hot', 0, 600);
    const settled = () => events.armed.filter(({ escaped }) => escaped !== undefined);
    await until('it is settled', () => settled().length > 0);
    done += (await call('hot', 100, 1000)).done;
    // once more, when the code is hot again
    await until('it has been looked at twice', async () => {
      done += (await call('hot', 100, 20)).done;
      return settled().length > 1;
    });
    done += (await call('hot', 100, 300)).done;
    expect(settled().map(({ way, escaped }) => ({ way, escaped }))).toEqual([
      { way: 'bind', escaped: 0 },
      { way: 'bind', escaped: 0 },
    ]);
    expect((await readCounts(session))[0]).toBe(done);
    expect((await session.siteStats()).map(({ nmissed }) => nmissed)).toEqual([0]);
    await session.detach();
  });

  test('calls that all come by another reference: what is not seen of them is told as missed', async () => {
    const { pid, file, call } = await start(node);
    await call('slipped', 10);
    const { session, events } = await openSession(pid);
    const symbol = functionAround(await session.functions(), file, '/* slipped */');
    await session.attach([entryOf(symbol)], { ...ARM, way: 'bind' });
    let done = 0;
    await until('it is told', async () => {
      done += (await call('slipped', 100)).done;
      return events.armed.some(({ escaped = 0 }) => escaped > 0);
    });
    const counted = (await readCounts(session))[0]!;
    expect(counted).toBeGreaterThan(1);
    expect(counted).toBeLessThanOrEqual(done);
    await call('slipped', 1000, 100);
    expect((await session.siteStats())[0]!.nmissed).toBeGreaterThan(0);
    await session.detach();
  });

  test.each([
    ['derived', undefined],
    ['evaluated', undefined],
    ['arrows', '// perhaps behind super'],
  ] as const)('no breakpoint where super() would throw: %s %s', async (name, place) => {
    const { pid, file, evaluated, call } = await start(node);
    await call(name, 1);
    const { session } = await openSession(pid);
    const symbols = await session.functions();
    const at = name === 'evaluated' ? evaluated : file;
    const symbol = functionAround(symbols, at, place ?? `/* ${name} */`);
    const request = place === undefined ? entryOf(symbol) : lineRequest(symbol, place);
    await expect(session.attach([request], { ...ARM, way: 'break' })).rejects.toThrow(
      /before super\(\) in a constructor whose this/,
    );
    expect((await call(name, 20)).done).toBe(20);
    const arming = session.attach([request], ARM);
    if (name === 'evaluated' && session.info.v8Version.startsWith('13.'))
      await expect(arming).rejects.toThrow(/would end the process by a live edit of its script/);
    else expect((await arming)[0]?.way).toBe('edit');
    expect((await call(name, 20)).done).toBe(20);
    await session.detach();
  });

  test('no live edit of a script whose functions call eval(), where it would end the process', async () => {
    const { pid, evaluated, call } = await start(node);
    await call('evaluated', 3);
    const { session } = await openSession(pid);
    const request = entryOf(functionAround(await session.functions(), evaluated, '/* aside */'));
    const edit = session.attach([request], { ...ARM, way: 'edit' });
    if (session.info.v8Version.startsWith('13.')) {
      await expect(edit).rejects.toThrow(/line 4$/);
      const [report] = await session.attach([request], ARM);
      expect(report?.way).toBe('bind');
    } else expect((await edit)[0]?.way).toBe('edit');
    expect((await call('evaluated', 20)).done).toBe(20);
    expect((await readCounts(session))[0]).toBe(20);
    await session.detach();
    expect((await call('evaluated', 20)).done).toBe(20);
  });

  test('closures keep their variables: no live edit where V8 would mix them up', async () => {
    const { pid, file, call } = await start(node);
    const { session } = await openSession(pid);
    const symbols = await session.functions();
    const isMixed = Number.parseInt(session.info.v8Version, 10) >= 13;
    const safe = { ...ARM, unsafe: false };
    // what only an edit reaches, and a binding that calls come past
    const inline = session.attach(
      [{ ...entryOf(functionAround(symbols, file, '/* concise */')), event: 'return' }],
      safe,
    );
    if (isMixed)
      await expect(inline).rejects.toThrow(
        /would mix up the variables of its script's closures \(line \d+\)/,
      );
    else await expect(inline).rejects.toThrow(/at the end of an arrow's expression/);
    const [report] = await session.attach(
      [entryOf(functionAround(symbols, file, '/* assigned */'), 1)],
      safe,
    );
    expect(report?.way).toBe(isMixed ? 'break' : 'edit');
    await session.attach([entryOf(functionAround(symbols, file, '/* slipped */'), 2)], safe);
    for (let i = 0; i < 5; i++) await call('slipped', 20);
    // hot enough for all of V8's compilers
    expect((await call('kept', 60_000)).done).toBe(60_000);
    await session.detach();
    expect((await call('kept', 60_000)).done).toBe(60_000);
  });

  test.each([
    ['named', 'named'],
    ['let', 'let'],
    ['second', 'second of a let'],
  ])('edited where a breakpoint would change a variable: %s', async (name, mark) => {
    const { pid, file, call } = await start(node);
    await call(name, 1);
    const { session } = await openSession(pid);
    const request = entryOf(functionAround(await session.functions(), file, `/* ${mark} */`));
    for (const way of ['break', 'bind'] as const)
      await expect(session.attach([request], { ...ARM, way })).rejects.toThrow(/variable named arguments/);
    const [report] = await session.attach([request], ARM);
    expect(report?.way).toBe('edit');
    expect((await call(name, 20)).done).toBe(20);
    await session.detach();
  });

  test('a breakpoint on a line counts what its statement does, or is refused', async () => {
    const { pid, file, call } = await start(node);
    await call('places', 5);
    const { session } = await openSession(pid);
    const symbols = await session.functions();
    const symbol = symbols.find((one) => one.file === file && one.name === 'places')!;
    const named = (what: string): string[] => TARGET.match(new RegExp(`// ${what}: .*`, 'g')) as string[];
    for (const place of named('no place')) {
      const broken = session.attach([lineRequest(symbol, place)], { ...ARM, way: 'break' });
      await expect(broken, place).rejects.toThrow(/no place for a breakpoint in that statement/);
    }
    const wanted = [...named('place'), ...named('no place')];
    const requests = wanted.map((place, i) => lineRequest(symbol, place, i));
    await session.attach(requests.slice(0, named('place').length), { ...ARM, way: 'break' });
    await session.attach(requests.slice(named('place').length), { ...ARM, way: 'edit' });
    expect((await call('places', 10)).done).toBe(10);
    const inIf = (place: string): boolean => /(let|variable|number|var)$/.test(place);
    expect((await readCounts(session)).slice(0, wanted.length)).toEqual(
      wanted.map((place) => (inIf(place) ? 10 : 40)),
    );
    await session.detach();
  });

  test.each(['mixin', 'local'] as const)(
    'no breakpoint on a class, which V8 would put into its constructor: %s',
    async (name) => {
      const { pid, file, call } = await start(node);
      await call(name, 1);
      const { session } = await openSession(pid);
      const symbols = await session.functions();
      const request =
        name === 'local'
          ? lineRequest(symbols.find((symbol) => symbol.file === file && symbol.name === name)!, '// local')
          : entryOf(functionAround(symbols, file, `/* ${name} */`));
      const broken = session.attach([request], { ...ARM, way: 'break' });
      await expect(broken).rejects.toThrow(/into the class's constructor/);
      const [report] = await session.attach([request], ARM);
      expect(report?.way).toBe('edit');
      expect((await call(name, 20)).done).toBe(20);
      expect((await readCounts(session))[0]).toBe(20);
      await session.detach();
      expect((await call(name, 20)).done).toBe(20);
    },
  );

  test('breakpoints where super() is not concerned: behind it, without closures, in functions inside', async () => {
    const { pid, file, call } = await start(node);
    for (const name of ['derived', 'plain', 'arrows', 'fields']) await call(name, 1);
    const { session } = await openSession(pid);
    const symbols = await session.functions();
    const inside = ['plain', 'given', 'early', 'bound', 'nested', 'key', 'field', 'static'];
    const requests = inside.map((name, i) => entryOf(functionAround(symbols, file, `/* ${name} */`), i));
    for (const place of ['// behind super', '// early line']) {
      requests.push(lineRequest(functionAround(symbols, file, place), place, requests.length));
    }
    const reports = await session.attach(requests, { ...ARM, way: 'break' });
    expect(reports.map(({ way }) => way)).toEqual(requests.map(() => 'break'));
    for (const name of ['derived', 'plain', 'arrows', 'fields']) expect((await call(name, 2)).done).toBe(2);
    expect((await readCounts(session)).slice(0, requests.length)).toEqual([2, 4, 8, 2, 4, 2, 2, 2, 2, 8]);
    await session.detach();
  });

  test('no live edit that would break a class of the script', async () => {
    const { pid, call } = await start(node);
    await call('made', 3);
    const { session } = await openSession(pid);
    const symbol = (await session.functions()).find(({ name }) => name === 'beside');
    const request = entryOf(symbol!);
    const broken = Number(session.info.v8Version.split('.')[0]) < 13;
    const edit = session.attach([request], { ...ARM, way: 'edit' });
    if (broken) await expect(edit).rejects.toThrow(/would break the class in line 5 by a live edit/);
    else expect((await edit)[0]?.way).toBe('edit');
    if (broken) await session.attach([request], ARM);
    // throws where an instance is not what it was
    expect((await call('made', 20)).done).toBe(20);
    expect((await readCounts(session))[0]).toBe(20);
    await session.detach();
    expect((await call('made', 20)).done).toBe(20);
  });

  test.each([
    ['instances are made whose fields call it, beside static ones', 'made', 'beside'],
    ['objects are made with what it returns, and with a method that uses super', 'literal', 'inside'],
  ] as const)('bound while %s', async (_, calls, name) => {
    const { pid, call } = await start(node);
    // what is posted by two messages has calls in between
    execFileSync('taskset', ['-a', '-p', '-c', '0', `${pid}`]);
    let over = false;
    const calling = async (): Promise<void> => {
      while (!over) await call(calls, 0, 50);
    };
    const running = calling();
    for (let i = 0; i < 8; i++) {
      const { session, events } = await openSession(pid);
      const symbol = (await session.functions()).find((found) => found.name === name);
      await session.attach([entryOf(symbol!)], { ...ARM, way: 'bind' });
      await until('calls are counted', async () => (await readCounts(session))[0]! > 100);
      await session.detach();
      expect(events.gone).toEqual([]);
    }
    over = true;
    await running;
  });

  test('functions of another vm context', async () => {
    const { pid, call } = await start(node);
    await call('foreign', 1);
    const { session } = await openSession(pid);
    const symbol = (await session.functions()).find(
      ({ name, file }) => name === 'inner' && file.endsWith('plugin.js'),
    );
    expect(symbol).toBeDefined();
    await session.attach([entryOf(symbol!)], ARM);
    expect((await call('foreign', 500)).done).toBe(500);
    expect((await readCounts(session))[0]).toBe(500);
    await session.detach();
    expect((await call('foreign', 5)).done).toBe(5);
  });
});
