import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, describe, expect, test } from 'vitest';
import type { FunctionSymbol } from '../../src/arch/v8/types.ts';
import type { AttachRequest } from '../../src/target/session.ts';
import { type NodeBinary, nodeBinaries } from '../support/nodes.ts';
import { entryOf, openSession, readCounts } from '../support/target.ts';

/** Functions that make closures; those of every round live on and are called in each later one. */
const TARGET = `
function letting(a) {
  let own = a;
  const other = { a };
  const inner = function lettingInner() {
    own++;
    return own + other.a;
  };
  return inner;
}
function declaring(a) {
  return declaringInner;
  function declaringInner() {
    return a++;
  }
}
function shared(a) {
  const list = [a];
  const first = () => {
    list.push(a);
    return () => {
      return list.length;
    };
  };
  return first();
}
function plain(a) {
  var own = a;
  var inner = function plainInner() {
    return own++;
  };
  return inner;
}
function mapping(a, b) {
  var inner = function mappingInner() {
    return [a++, b];
  };
  return inner;
}
function* stepping(a) {
  var own = a;
  const next = function steppingInner() {
    return own++;
  };
  for (;;) {
    yield next;
  }
}
class Kept {
  constructor(a) {
    const own = a;
    this.own = function keptInner() {
      return own + a++;
    };
  }
}
const makers = [MAKERS];
const kept = [];
process.on('message', (round) => {
  try {
    for (const make of makers) kept.push(make(round, 1));
    kept.push(stepping(round).next().value, new Kept(round).own);
    process.send({ result: kept.map((f) => f()), texts: kept.map(String) });
  } catch (error) {
    process.send({ result: String(error) });
  }
});
process.send('up');
`;

/** In which versions of V8 its script may be edited is another matter. */
const EVALUATING = `
function evaluating(a) {
  var inner = function evaluatingInner() {
    return [a++, eval('a')];
  };
  return inner;
}
`;

const MAKERS = ['letting', 'declaring', 'shared', 'plain', 'mapping'];
/** Those around whose closures there are other scopes when they are enclosed. */
const CHANGING = ['letting', 'declaring', 'shared', 'evaluating', 'new Kept'];
const ARM = { way: 'edit', maxPauseMs: 60_000, maxactive: 0 } as const;

const started: (() => void)[] = [];
afterEach(() => {
  for (const stop of started.splice(0)) stop();
});

/** Starts a script that is told of rounds, and attaches to it. */
async function start(node: string, text: string) {
  const folder = mkdtempSync(path.join(tmpdir(), 'live-edits-test-'));
  const file = path.join(folder, 'edited.cjs');
  writeFileSync(file, text);
  const child = spawn(node, ['--inspect-port=0', file], { stdio: ['ignore', 'ignore', 'inherit', 'ipc'] });
  started.push(() => {
    child.kill('SIGKILL');
    rmSync(folder, { recursive: true, force: true });
  });
  const answer = () => new Promise<unknown>((resolve) => child.once('message', resolve));
  await answer();
  let rounds = 0;
  const round = () => {
    const done = answer();
    child.send(++rounds);
    return done;
  };
  const { session } = await openSession(child.pid!);
  const symbols = (await session.functions()).filter((symbol) => symbol.file === file);
  const named = (name: string) => symbols.find((symbol) => symbol.name === name)!;
  return { session, symbols, named, round };
}

function closures({ major }: NodeBinary): string {
  const makers = major === 24 ? MAKERS : [...MAKERS, 'evaluating'];
  return (major === 24 ? '' : EVALUATING) + TARGET.replace('MAKERS', makers.join());
}

/** What each round says in a process of which no text is edited. */
async function untraced(node: NodeBinary, text: string, rounds: number): Promise<unknown[]> {
  const { session, round } = await start(node.path, text);
  await session.detach();
  const said: unknown[] = [];
  for (let n = 0; n < rounds; n++) said.push(await round());
  return said;
}

/** The entry and, of what is no generator, the ends of a function. */
function bothOf(symbol: FunctionSymbol, cookie: number): AttachRequest[] {
  const entry = entryOf(symbol, cookie);
  return symbol.isGenerator ? [entry] : [entry, { ...entry, event: 'return', cookie: cookie + 32 }];
}

describe.each(nodeBinaries())('live edits and closures on Node $version', (node) => {
  test('made before, during and after a live edit of all functions', async () => {
    const expected = await untraced(node, closures(node), 5);
    const { session, symbols, round } = await start(node.path, closures(node));
    const said = [await round()];
    const reports = await session.attach(symbols.flatMap(bothOf), ARM);
    const ways = new Map(symbols.map(({ name }, i) => [name, reports[i]?.way]));
    const notes = new Map(symbols.map(({ name }, i) => [name, reports[i]?.note]));
    said.push(await round(), await round());
    const counts = await readCounts(session);
    const { failures } = await session.detach();
    said.push(await round(), await round());
    expect(said).toEqual(expected);
    expect(failures).toEqual([]);
    // that the text of some is too much like another's, or looked at for too long, is another matter
    const elsewise = /cannot follow the change|does not see an edit at the end/;
    const edited = symbols.filter(({ name }) => ways.get(name) === 'edit');
    for (const { name } of symbols.filter((symbol) => !edited.includes(symbol)))
      expect(notes.get(name), name).toMatch(
        // where closures have other scopes around them once the function that makes them is edited
        CHANGING.includes(name)
          ? /V8 would lose closures of functions in it|cannot follow the change/
          : elsewise,
      );
    expect(edited.filter(({ name }) => CHANGING.includes(name))).toEqual([]);
    const inner = edited.filter(({ name }) => name.endsWith('Inner'));
    expect(inner.length).toBeGreaterThan(0);
    for (const { name, index } of inner)
      expect([name, counts[index], counts[index + 32]]).toEqual([name, 5, 5]);
  });

  test.each(['letting', 'stepping', 'mapping'])(
    'of %s, which is edited alone; the functions in it are not, then',
    async (name) => {
      const expected = await untraced(node, closures(node), 4);
      const { session, named, round } = await start(node.path, closures(node));
      const said = [await round()];
      const [report] = await session.attach(bothOf(named(name), 0), ARM);
      expect(report?.way).toBe('edit');
      said.push(await round());
      const inner = session.attach([entryOf(named(`${name}Inner`), 1)], ARM);
      if (name === 'mapping') await inner;
      else {
        await expect(inner).rejects.toThrow(/V8 would lose its closures/);
        const other = session.attach([entryOf(named(`${name}Inner`), 1)], { ...ARM, way: 'auto' });
        await expect(other).rejects.toThrow(/V8 would not stop in closures that are older/);
      }
      said.push(await round());
      expect((await readCounts(session))[0]).toBe(2);
      await session.detach();
      said.push(await round());
      expect(said).toEqual(expected);
    },
  );
});

/** A tag that tells templates by their strings, and fields of instances that are made in each round. */
const KINDS = {
  templates: `
const seen = [];
const tag = (strings) => (seen.includes(strings) || seen.push(strings), seen.indexOf(strings));
function tagged(a) {
  return tag\`a\${a}\` + String.raw\`b\`;
}
function beside(a) {
  return a + 1;
}
const rounds = (round) => [tagged(round), beside(round)];
`,
  raw: `
function beside(a) {
  return String.raw\`a\${a}\`;
}
const rounds = (round) => beside(round);
`,
  fields: `
class Made {
  static made = 0;
  own = Made.made++;
  told = () => {
    return this.own;
  };
}
function beside() {
  return new Made();
}
const all = [];
const rounds = () => (all.push(beside()), all.map(({ told }) => told()));
`,
} as const;
const SERVE = `
process.on('message', (round) => process.send(rounds(round)));
process.send('up');
`;

describe.each(nodeBinaries())('live edits of scripts on Node $version', (node) => {
  test.each([
    ['templates', 'beside', /another array of strings by a live edit of its script/],
    ['raw', 'beside', undefined],
    ['fields', 'Made.told', node.major === 22 ? /would not reach it in new instances/ : undefined],
    ['fields', 'beside', undefined],
  ] as const)('with %s: %s', async (kind, name, refused) => {
    const text = KINDS[kind] + SERVE;
    const expected = await untraced(node, text, 4);
    const { session, symbols, named, round } = await start(node.path, text);
    const said = [await round()];
    const edit = session.attach([entryOf(named(name))], ARM);
    if (refused === undefined) expect((await edit)[0]?.way).toBe('edit');
    else await expect(edit).rejects.toThrow(refused);
    // by whatever way there is
    const others = symbols.filter((symbol) => symbol.name !== name);
    await session.attach(
      others.map((symbol) => entryOf(symbol, 1)),
      { ...ARM, way: 'auto' },
    );
    said.push(await round(), await round());
    const calls = name === 'Made.told' ? 5 : 2;
    if (refused === undefined) expect((await readCounts(session))[0]).toBe(calls);
    await session.detach();
    said.push(await round());
    expect(said).toEqual(expected);
  });
});
