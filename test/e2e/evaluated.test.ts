import { afterEach, describe, expect, test } from 'vitest';
import { nodeBinaries } from '../support/nodes.ts';
import { fixture, mapsOf, missedOf, type Service, startService, stopAll, trapline } from './support.ts';

afterEach(stopAll);

const K = 400;

async function trace(
  service: Service,
  script: string,
  work: () => Promise<unknown>,
  way = 'auto',
): Promise<Record<string, number>> {
  const tracer = trapline(
    '-v',
    '--unsafe',
    '--max-pause',
    '1000',
    '--arm',
    way,
    '-p',
    String(service.pid),
    script,
  );
  await tracer.attached();
  await work();
  const { code, out, err } = await tracer.interrupt();
  expect({ code, err }).toEqual({ code: 0, err: expect.not.stringMatching(/ERROR|Lost|not restored/) });
  expect(err).not.toMatch(/[1-9]\d* calls? (escaped|came)/);
  expect(missedOf(err)).toBe(0);
  return mapsOf(out);
}

describe.each(nodeBinaries())('evaluated texts, Node $version', ({ path }) => {
  const start = () => startService({ node: path, file: fixture('evaluated.cjs') });

  test.each(['bind', 'edit'])('functions of another context: --arm %s', async (way) => {
    const service = await start();
    const before = await service.ask('state');
    const maps = await trace(
      service,
      `kprobe:box.js:inBox, kprobe:box.js:through, kprobe:box.js:Counter.count { @[func] = count(); @sum[func] = sum(arg0); }
       kretprobe:box.js:fails { @fails = count(); }`,
      async () => {
        await service.call('through', K);
        await service.call('fails', K);
      },
      way,
    );
    // the call that replaces the binding of a function whose ends are wanted counts for none of its programs
    const { '@fails': fails, ...entries } = maps;
    expect(K - (fails ?? 0)).toBe(way === 'bind' ? 1 : 0);
    const sum = (K * (K - 1)) / 2;
    expect(entries).toEqual({
      '@[inBox]': K,
      '@[through]': K,
      '@[Counter.count]': K,
      '@sum[inBox]': sum,
      '@sum[through]': sum,
      '@sum[Counter.count]': sum,
    });
    expect(await service.ask('state')).toEqual(before);
  });

  test('errors of another context', async () => {
    const service = await start();
    const maps = await trace(
      service,
      'throw:box.js:failing { @[str(error.message)] = count(); }',
      () => service.call('fails', K),
      'edit',
    );
    expect(maps).toEqual({ '@[no 0]': K / 2, '@[no 1]': K / 2 });
  });

  test('eval, new Function, and a vm script without a name', async () => {
    const service = await start();
    const before = await service.ask('state');
    const maps = await trace(
      service,
      'kprobe:<anonymous>:*, kprobe:evalmachine.<anonymous>:* { @[func] = count(); }',
      async () => {
        for (const name of ['evaled', 'made', 'declared', 'unnamed']) await service.call(name, K);
      },
    );
    expect(maps).toEqual({ '@[evaled]': K, '@[anonymous]': K, '@[declared]': K, '@[unnamed]': K });
    expect(await service.ask('state')).toEqual(before);
    // nothing that the tracer evaluated is listed, nor what its edits left behind
    const listed = await trapline('-lv', '<anonymous>:*', '-p', String(service.pid)).finished;
    expect(listed.out.trim().split('\n').sort()).toEqual([
      'kprobe:<anonymous>:anonymous  <anonymous>:1  (a, b)',
      'kprobe:<anonymous>:declared  <anonymous>:1  (q)',
      'kprobe:<anonymous>:evaled  <anonymous>:1  (x)',
    ]);
  });

  test('a context with a frozen sandbox', async () => {
    const service = await start();
    const maps = await trace(service, 'kprobe:ice.js:frozen { @ = sum(arg0); }', () =>
      service.call('frozen', K),
    );
    expect(maps).toEqual({ '@': (K * (K - 1)) / 2 });
  });
});
