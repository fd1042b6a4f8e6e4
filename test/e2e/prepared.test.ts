import { afterEach, describe, expect, test } from 'vitest';
import { nodeBinaries } from '../support/nodes.ts';
import { fixture, mapsOf, root, startService, stopAll, trapline } from './support.ts';

// A process with compiled-in sites whose probes are armed by other ways, too: one session after the other.

afterEach(stopAll);

const CALLS = 50;
const prepared = {
  flags: ['--import', `${root}/dist/register/index.js`],
  env: { TRAPLINE_MIN_LENGTH: '0' },
};

interface Environment {
  readonly globals: readonly string[];
  readonly texts: Readonly<Record<string, unknown>>;
}

const armed = (way: string, pid: number, script: string) =>
  trapline('-v', '--arm', way, '--max-pause', '10000', '-p', String(pid), script);

describe.each(nodeBinaries())('prepared by trapline/register, Node $version', ({ path: node }) => {
  // V8 goes on listing the texts that an edit has replaced, in front of the script that has taken their place.
  test('each way counts each call, again after an edit was undone', { timeout: 120_000 }, async () => {
    const service = await startService({ node, ...prepared });
    const before = await service.ask<Environment>('environment');
    // of a CommonJS and of an ES module
    const script =
      'kprobe:legacy.cjs:price { @price = count(); } kprobe:work.mjs:outer { @outer = count(); }';
    for (const way of ['nop', 'bind', 'edit', 'nop', 'bind', 'edit']) {
      const tracer = armed(way, service.pid, script);
      await tracer.saw('All probes count');
      await service.call('price', CALLS);
      await service.call('outer', CALLS);
      // toString() tells neither sites nor hooks
      const { price, outer } = (await service.ask<Environment>('environment')).texts;
      expect([price, outer]).toEqual([before.texts['price'], before.texts['outer']]);
      const { code, out, err } = await tracer.interrupt();
      expect({ way, code, maps: mapsOf(out), err }).toEqual({
        way,
        code: 0,
        maps: { '@price': CALLS, '@outer': CALLS },
        err: expect.not.stringMatching(/WARNING|ERROR/),
      });
      for (const name of ['price', 'outer']) expect(err).toContain(`:${name}: ${way} (`);
    }
    // the gate is made anew when its last site is disarmed, and so is the last of the globals
    const sorted = (environment: Environment) => ({
      ...environment,
      globals: environment.globals.toSorted(),
    });
    expect(sorted(await service.ask('environment'))).toEqual(sorted(before));
  });

  test('a module that was loaded again and compiled anew: its sites count all, of other ways it is told', async () => {
    const service = await startService({
      node,
      file: fixture('reloaded.cjs'),
      ...prepared,
      flags: ['--no-compilation-cache', ...prepared.flags],
    });
    for (const [way, counted] of [
      ['nop', 2 * CALLS],
      ['bind', CALLS],
    ] as const) {
      const tracer = armed(way, service.pid, 'kprobe:legacy.cjs:price { @ = count(); }');
      await tracer.attached();
      await service.ask('call', { times: CALLS });
      const { code, out, err } = await tracer.interrupt();
      expect({ code, maps: mapsOf(out) }).toEqual({ code: 0, maps: { '@': counted } });
      const told = err.includes(
        'V8 has 2 scripts of its file, which may have been loaded again: the calls of one count',
      );
      expect(told).toBe(counted === CALLS);
    }
  });
});
