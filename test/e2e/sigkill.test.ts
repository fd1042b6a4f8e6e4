import { setTimeout as sleep } from 'node:timers/promises';
import { isDeepStrictEqual } from 'node:util';
import { afterEach, describe, expect, test } from 'vitest';
import { nodeBinaries } from '../support/nodes.ts';
import { OwnTime, processesOf } from '../support/own-time.ts';
import { folders, full, listeners, startLoad, startService, stopAll, threads, trapline } from './support.ts';

afterEach(stopAll);

const KILLS = full ? 50 : 5;
/** The whole life of a command on this machine: from its start over attaching to counting. */
const SPAN_MS = 1200;

/** Nothing of a tracer may be older than this. */
const RESTORED_MS = 2000;

/** What there is of a tracer in a process, as seen from outside. */
interface Traces {
  readonly folders: number;
  readonly threads: number;
  /** Ports and sockets. */
  readonly listeners: readonly string[];
}

/** `known`: threads that the process had. A young one may end some of Node's own, which is not what is looked for. */
const traces = (pid: number, known = 0): Traces => ({
  folders: folders(pid).length,
  threads: Math.max(known, threads(pid)),
  listeners: listeners(pid),
});

describe.each(nodeBinaries())('SIGKILL of the tracer, Node $version', ({ path }) => {
  test(`${KILLS} times at random moments`, { timeout: full ? 600_000 : 120_000 }, async () => {
    const service = await startService({ node: path });
    const load = startLoad(service.port, 2);
    const clean = traces(service.pid);
    const before = await service.ask('environment');
    for (let i = 0; i < KILLS; i++) {
      // Spread over the whole life, random within each part; told when it fails.
      const moment = (SPAN_MS / KILLS) * (i + Math.random());
      const tracer = trapline(
        '-v',
        '--max-pause',
        '1000',
        '-p',
        String(service.pid),
        `kprobe:work.mjs:route { @[str(arg0.url)] = count(); printf("%s\\n", str(arg0.url)); }
         kretprobe:work.mjs:add { @sum = hist(retval); } settle:work.mjs:later { @s = count(); }`,
      );
      // However slow the machine is, one of them has everything in place.
      if (i === KILLS - 1) await tracer.attached();
      await sleep(moment);
      tracer.child.kill('SIGKILL');
      const time = new OwnTime(() => [service.pid, ...processesOf('guard-main.js', String(service.pid))]);
      const { code, err } = await tracer.finished;
      // killed, not ended by itself
      expect({ code, err }, `kill ${i}`).toEqual({ code: null, err: expect.not.stringMatching(/ERROR/) });
      const stage = / \(estimated/.test(err) ? 'armed' : /Attaching/.test(err) ? 'attaching' : 'early';
      const where = `kill ${i} after ${moment.toFixed(0)} ms, ${stage}`;
      // A kill at the very signal: the inspector opens after it, and the guard of src/target/guard.ts closes it then.
      const restored = await time.within(
        RESTORED_MS,
        async () =>
          isDeepStrictEqual(traces(service.pid, clean.threads), clean) &&
          isDeepStrictEqual(await service.ask('environment'), before),
      );
      expect(traces(service.pid, clean.threads), where).toEqual(clean);
      expect(await service.ask('environment'), where).toEqual(before);
      expect(restored, `${where}: after ${time.ms.toFixed(0)} ms`).toBe(true);
      expect(await service.get('/alive'), where).toBe('/alive 7');
    }
    const { ok, failed, errors } = await load.stop();
    expect({ failed, errors }).toEqual({ failed: 0, errors: [] });
    expect(ok).toBeGreaterThan(0);
    // Somebody can trace it again.
    const again = trapline('-v', '-p', String(service.pid), 'kprobe:work.mjs:add { @ = count(); }');
    await again.attached();
    await service.call('add', 7);
    expect(await again.interrupt()).toMatchObject({ code: 0, out: expect.stringMatching(/^@: 7$/m) });
  });
});
