import { describe, expect, test } from 'vitest';
import type { SiteEvent } from '../../src/agent/protocol.ts';
import { startTarget, type TargetKind, targetFile } from '../fixtures/targets/client.ts';
import { nodeBinaries } from '../support/nodes.ts';
import { entryOf, functionAround, openSession, readCounts, until } from '../support/target.ts';

/** What no binding reaches: classes, private members, fields, closures, callbacks, what has no name, what is called by an older reference. */
const NO_BINDING = [
  'callback',
  'closure',
  'computed',
  'constructor',
  'default',
  'derivedConstructor',
  'escaped',
  'field',
  'private',
  'prototypeMethod',
  'staticPrivate',
];
/** The end of a generator's work is no event, but its call returns. */
const GENERATORS = ['generator', 'asyncGenerator'];
/** V8 follows no edit behind an arrow's expression. */
const NO_EDITED_END = ['concise', ...GENERATORS];

type Way = 'auto' | 'bind' | 'edit';

interface Counts {
  readonly kind: string;
  readonly entry: number;
  readonly return: number;
  readonly throw: number;
  readonly settle: number;
}

const EVENTS: readonly SiteEvent[] = ['entry', 'return', 'throw', 'settle'];
const OK = 50;
const THROWN = 20;

/** Every event of each kind at once: what programs count, and what the bodies counted themselves. */
async function probeEnds(
  node: string,
  file: string,
  way: Way,
  without: readonly string[],
  flags: readonly string[] = [],
) {
  const target = await startTarget(file, { node, execArgv: ['--inspect-port=0', ...flags] });
  try {
    // V8 13 and later end the process where closures that were never called are called behind an edit of their script (docs/limits.md)
    await target.callAll(1);
    const environment = await target.request('environment');
    const { session, events } = await openSession(target.pid);
    const symbols = await session.functions();
    const kinds = (await target.list()).filter(({ kind }) => kind !== 'hot' && !without.includes(kind));
    const requests = kinds.flatMap(({ kind }, index) => {
      const symbol = functionAround(symbols, targetFile(file), `/* ${kind} */`);
      return EVENTS.map((event, at) => ({ ...entryOf(symbol, index * EVENTS.length + at), event }));
    });
    const reports = await session.attach(requests, {
      way,
      maxPauseMs: 60_000,
      maxactive: 0,
      unsafe: true,
    });
    const unarmed = kinds.filter((_, index) => reports[index]?.way === undefined).map(({ kind }) => kind);
    const latest = new Map(reports.map((report) => [report.name, report]));
    await until('every binding is settled', async () => {
      for (const { kind } of kinds) await target.call(kind, 3);
      for (const report of events.armed) latest.set(report.name, report);
      return [...latest.values()].every(({ way: by, escaped }) => by !== 'bind' || escaped !== undefined);
    });
    const missedOf = async (): Promise<number> =>
      (await session.siteStats()).reduce((sum, { nmissed }) => sum + nmissed, 0);
    const missedBefore = await missedOf();
    const [counts, hits] = [await readCounts(session), await target.hits()];
    for (const { kind } of kinds) await target.call(kind, OK);
    const between = await target.hits();
    for (const { kind } of kinds) await target.call(kind, THROWN, 'throw');
    const [seen, after] = [await readCounts(session), await target.hits()];
    const told = (kind: TargetKind): Counts => {
      const index = kinds.indexOf(kind) * EVENTS.length;
      const [entry = 0, returned = 0, thrown = 0, settled = 0] = EVENTS.map(
        (_, at) => (seen[index + at] ?? 0) - (counts[index + at] ?? 0),
      );
      return { kind: kind.kind, entry, return: returned, throw: thrown, settle: settled };
    };
    const ranOf = ({ kind, isAsync, settles }: TargetKind): Counts => {
      const calls = (after[kind] ?? 0) - (hits[kind] ?? 0);
      const thrown = (after[kind] ?? 0) - (between[kind] ?? 0);
      return {
        kind,
        entry: calls,
        return: calls,
        throw: isAsync || kind === 'generator' ? 0 : thrown,
        settle: isAsync && settles ? calls : 0,
      };
    };
    const missed = (await missedOf()) - missedBefore;
    await session.detach();
    expect(events.warnings.filter((warning) => !warning.includes('would mix up'))).toEqual([]);
    expect(await target.request('environment')).toEqual(environment);
    const armed = kinds.filter(({ kind }) => !unarmed.includes(kind));
    return { unarmed, missed, told: armed.map(told), ran: armed.map(ranOf) };
  } finally {
    await target.stop();
  }
}

describe.each(nodeBinaries())(
  'entries and ends of every kind of function on Node $version',
  ({ path, major }) => {
    // V8 12 gives fields' functions beside static members to old instances only; what it cannot follow without that edit is told
    const unedited = major === 22 ? ['field', 'promise'] : [];
    // what only an edit reaches may be refused where V8 cannot follow so many changes of one text: it is told, and not counted
    test.each([
      ['kinds.mjs', 'auto', [], NO_BINDING],
      ['kinds.cjs', 'auto', [], NO_BINDING],
      ['kinds.mjs', 'bind', NO_BINDING, []],
      ['kinds.cjs', 'edit', NO_EDITED_END, []],
    ] as const)('%s: --arm %s', async (file, way, without, refusable) => {
      const { told, ran, missed, unarmed } = await probeEnds(path, file, way, without);
      const told12 = way === 'edit' ? unedited : [];
      expect(unarmed.filter((kind) => ![...refusable, ...told12].includes(kind as never))).toEqual([]);
      expect(told.length).toBeGreaterThan(20);
      expect(told).toEqual(ran);
      expect(missed).toBe(0);
    });

    test('compiled in', async () => {
      const register = new URL('../../dist/register/index.js', import.meta.url).href;
      const { told, ran, missed, unarmed } = await probeEnds(
        path,
        'kinds.mjs',
        'auto',
        [],
        [`--import=${register}`],
      );
      expect(unarmed.filter((kind) => !unedited.includes(kind))).toEqual([]);
      expect(told).toEqual(ran);
      expect(missed).toBe(0);
    });
  },
);
