import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, describe, expect, test } from 'vitest';
import { nodeBinaries } from '../support/nodes.ts';
import {
  folders,
  full,
  listeners,
  startLoad,
  startService,
  stopAll,
  threads,
  trapline,
  until,
} from './support.ts';

afterEach(stopAll);

/** Of each way of arming. */
const CYCLES = full ? 100 : 10;
const WARM_UP = 3;
const MB = 1 << 20;

interface Memory {
  readonly heapUsed: number;
  readonly rss: number;
  /** The resident size without V8's young generation. */
  readonly lasting: number;
  readonly external: number;
  readonly arrayBuffers: number;
}

/** Entry and return of functions that requests run through. */
const SYNC = `kprobe:work.mjs:route { @[str(arg0.method)] = count(); } kretprobe:work.mjs:add { @sum = hist(retval); }`;
/** And the end of an async function's promise. */
const ASYNC = `${SYNC} kprobe:work.mjs:later { @t[asyncid] = nsecs; } settle:work.mjs:later { delete(@t[asyncid]); }`;

const WAYS = [
  ['auto', ASYNC],
  ['edit', SYNC],
] as const;

// A hundred cycles are for one version a run; the ordinary number is for all.
describe.each(nodeBinaries())('attach and detach cycles under load, Node $version', ({ path, major }) => {
  // One way after the other, in one process: what either leaves behind adds up.
  test(`${CYCLES} times by each way of arming`, { timeout: full ? 1_800_000 : 300_000 }, async () => {
    const service = await startService({ node: path, flags: ['--expose-gc'] });
    await service.call('later', 10);
    const before = await service.ask('environment');
    const ports = listeners(service.pid);
    const count = threads(service.pid);
    const load = startLoad(service.port, 4);
    const seen: Memory[] = [];
    const turns = WAYS.length * CYCLES;
    for (let turn = -WARM_UP; turn < turns; turn++) {
      const [way, script] = WAYS[(turn + WARM_UP) % WAYS.length]!;
      const tracer = trapline('--arm', way, '--max-pause', '1000', '-v', '-p', String(service.pid), script);
      await tracer.attached();
      await service.call('later', 5);
      // a request that is certain to come, on a machine where the load may stand still for a while
      expect(await service.get('/alive')).toBe('/alive 7');
      await sleep(50);
      const { code, out, err } = await tracer.interrupt();
      const counted = expect.stringMatching(/^@\[GET\]: [1-9]\d*$/m);
      expect({ code, out, err }).toEqual({ code: 0, out: counted, err: expect.not.stringMatching(/ERROR/) });
      await until(
        'the worker and the folder are gone',
        () => folders(service.pid).length === 0 && threads(service.pid) <= count,
      );
      if (turn >= 0) seen.push(await service.ask<Memory>('memory'));
    }
    const counts = await load.stop();
    expect({ failed: counts.failed, errors: counts.errors }).toEqual({ failed: 0, errors: [] });
    expect(counts.ok).toBeGreaterThan(turns * 10);
    expect(await service.ask('environment')).toEqual(before);
    await until('no port and no socket is open', () => String(listeners(service.pid)) === String(ports));

    // Growth a turn, from the medians of the first and the last third; one-off caches of V8 are behind the warm-up.
    const third = Math.floor(turns / 3);
    const growth = (key: keyof Memory): number =>
      (median(seen.slice(-third).map((memory) => memory[key])) -
        median(seen.slice(0, third).map((memory) => memory[key]))) /
      (turns - third);
    const perTurn = {
      heap: growth('heapUsed'),
      buffers: growth('arrayBuffers'),
      rss: growth('rss'),
      lasting: growth('lasting'),
    };
    console.log(
      `Node ${major}: ${counts.ok} requests, longest ${counts.longestMs.toFixed(0)} ms; growth a turn`,
      perTurn,
    );
    expect(perTurn.buffers).toBeLessThan((full ? 0.05 : 0.1) * MB);
    expect(perTurn.heap).toBeLessThan((full ? 0.05 : 0.1) * MB);
    expect(perTurn.rss).toBeLessThan((full ? 0.5 : 4) * MB);
    expect(perTurn.lasting).toBeLessThan((full ? 0.25 : 2) * MB);
  });
});

function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)]!;
}
