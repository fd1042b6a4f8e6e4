import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import { startTarget, targetFile } from '../fixtures/targets/client.ts';
import { nodeBinaries } from '../support/nodes.ts';
import { entryOf, functionAround, openSession, readCounts, until } from '../support/target.ts';

/** What no binding reaches: classes, private members, fields, closures, callbacks, what has no name. */
const NO_BINDING = [
  'callback',
  'closure',
  'computed',
  'constructor',
  'default',
  'derivedConstructor',
  'field',
  'private',
  'prototypeMethod',
  'staticPrivate',
];

interface Outcome {
  readonly kind: string;
  readonly way: string | undefined;
  readonly armed: boolean;
  readonly escaped: number | undefined;
  readonly counted: number;
  readonly ran: number;
}

type Way = 'auto' | 'bind' | 'edit' | 'break';

/** Probes every kind at once, calls each, and compares the program's counts with what the bodies counted themselves. */
async function probeAll(node: string, file: string, way: Way, flags: string[] = []): Promise<Outcome[]> {
  const target = await startTarget(file, { node, execArgv: ['--inspect-port=0', ...flags] });
  try {
    const before = await target.observeAll();
    const environment = await target.request('environment');
    const { session, events } = await openSession(target.pid);
    const symbols = await session.functions();
    const kinds = (await target.list()).map(({ kind }) => kind).filter((kind) => kind !== 'hot');
    const path = targetFile(file);
    const requests = kinds.map((kind, index) =>
      entryOf(functionAround(symbols, path, `/* ${kind} */`), index),
    );
    const start = await target.hits();
    // breakpoints share a budget: some 25 ms in a quarter of a second
    const callAll = async (times: number): Promise<void> => {
      for (const kind of kinds) {
        await target.call(kind, times);
        if (way === 'break') await sleep(40);
      }
    };
    const reports = await session.attach(requests, {
      way,
      maxPauseMs: 60_000,
      maxactive: 0,
      unsafe: true,
    });
    const names = reports.map(({ name }) => name);
    const latest = new Map(reports.map((report) => [report.name, report]));
    await callAll(3);
    // the first calls replace bindings; each says when nothing of that is still to come
    await until('every binding is settled', async () => {
      // where a call has escaped, more have to show whether they still do
      if (way !== 'break') await callAll(1);
      for (const report of events.armed) latest.set(report.name, report);
      return [...latest.values()].every(({ way: by, escaped }) => by !== 'bind' || escaped !== undefined);
    });
    await callAll(way === 'break' ? 5 : 100);
    const counts = await readCounts(session);
    const now = await target.hits();
    const outcomes = kinds.map((kind, index): Outcome => {
      const { way: by, escaped } = latest.get(names[index]!)!;
      const armed = by !== undefined;
      const ran = (now[kind] ?? 0) - (start[kind] ?? 0);
      return { kind, way: by, armed, escaped, counted: counts[index] ?? 0, ran };
    });
    const edited = new Set(outcomes.filter(({ way: by }) => by === 'edit').map(({ kind }) => kind));
    await session.detach();
    expect(events.warnings.filter((warning) => !warning.includes('would mix up'))).toEqual([]);
    expect(observed(await target.observeAll(), edited)).toEqual(observed(before, edited));
    expect(await target.request('environment')).toEqual(environment);
    return outcomes;
  } finally {
    await target.stop();
  }
}

/**
 * V8 forgets the name it inferred for `module.exports.f = function () {}` when it compiles an edited script: stack traces
 * say `Function.f` from then on. Everything else is as before.
 */
function observed(all: Record<string, Record<string, unknown>>, edited: ReadonlySet<string>): unknown {
  const renamed = ['default', 'exported'];
  return Object.entries(all).map(([kind, observation]) => {
    if (!edited.has(kind) || !renamed.includes(kind)) return observation;
    const { error, ...rest } = observation;
    const { stack, ...outcome } = error as { stack: { name: string }[] };
    return { ...rest, error: { ...outcome, stack: stack.map((frame) => ({ ...frame, name: '' })) } };
  });
}

const wrong = (outcomes: readonly Outcome[]): Outcome[] =>
  outcomes.filter(({ armed, counted, ran }) => armed && (counted !== ran || ran === 0));
const missing = (outcomes: readonly Outcome[]): string[] =>
  outcomes
    .filter(({ armed }) => !armed)
    .map(({ kind }) => kind)
    .sort();

describe.each(nodeBinaries())('every kind of function on Node $version', ({ path }) => {
  test.each(['kinds.cjs', 'kinds.mjs'])('%s, as the cost model chooses', async (file) => {
    const outcomes = await probeAll(path, file, 'auto');
    expect(missing(outcomes)).toEqual([]);
    expect(wrong(outcomes)).toEqual([]);
  });

  test('by rebinding', async () => {
    const outcomes = await probeAll(path, 'kinds.mjs', 'bind');
    expect(missing(outcomes)).toEqual(NO_BINDING);
    // one is called through a reference from before only: that is seen, and told
    const escaped = outcomes.filter((outcome) => (outcome.escaped ?? 0) > 0);
    expect(escaped.map(({ kind }) => kind)).toEqual(['escaped']);
    expect(wrong(outcomes).map(({ kind }) => kind)).toEqual(['escaped']);
  });

  test('by breakpoints', async () => {
    const outcomes = await probeAll(path, 'kinds.cjs', 'break');
    expect(missing(outcomes)).toEqual([]);
    expect(wrong(outcomes)).toEqual([]);
  });

  test('by compiled-in sites', async () => {
    const register = new URL('../../dist/register/index.js', import.meta.url).href;
    const outcomes = await probeAll(path, 'kinds.mjs', 'auto', [`--import=${register}`]);
    expect(missing(outcomes)).toEqual([]);
    expect(wrong(outcomes)).toEqual([]);
    // the smallest functions have none
    expect(outcomes.filter(({ way }) => way !== 'nop').map(({ kind }) => kind)).toEqual(['concise']);
  });
});
