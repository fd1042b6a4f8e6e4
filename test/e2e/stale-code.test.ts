import { afterEach, describe, expect, test } from 'vitest';
import { nodeBinaries } from '../support/nodes.ts';
import { fixture, startService, stopAll, trapline } from './support.ts';

afterEach(stopAll);

/** Of 600 numbers, each and one. */
const SUM = (600 * 599) / 2 + 600;

// V8 13.0 to 14.5 ends such a process with SIGSEGV, unless its optimized code goes: src/arch/v8/stale-code.ts.
describe.each(nodeBinaries())(
  'a caller that was optimized while its callee was edited, Node $version',
  ({ path }) => {
    test('finds the callee after the edit was undone and garbage collected', {
      timeout: 120_000,
    }, async () => {
      const file = fixture('stale/caller.mjs');
      const service = await startService({ node: path, flags: ['--expose-gc'], file });
      for (let round = 0; round < 3; round++) {
        const script = 'kretprobe:callee.mjs:long { @ = count(); }';
        const tracer = trapline(
          '--arm',
          'edit',
          '--max-pause',
          '10000',
          '-v',
          '-p',
          String(service.pid),
          script,
        );
        await tracer.attached();
        expect(await service.ask('heat')).toBe(SUM);
        expect(await service.ask('collect')).toBe(true);
        expect(await service.ask('heat')).toBe(SUM);
        const { code, out, err } = await tracer.interrupt();
        expect({ code, out, err }).toMatchObject({ code: 0, out: expect.stringMatching(/^@: [1-9]\d*$/m) });
        expect(await service.ask('collect')).toBe(true);
        expect(await service.ask('heat')).toBe(SUM);
      }
    });
  },
);
