import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, describe, expect, test } from 'vitest';
import { nodeBinaries } from '../support/nodes.ts';
import { folders, full, listeners, startLoad, startService, stopAll, threads, trapline } from './support.ts';

afterEach(stopAll);

const KILLS = full ? 50 : 5;
/** The whole life of a command on this machine: from its start over attaching to counting. */
const SPAN_MS = 1200;

/** Nothing of a tracer may be older than this. Two seconds are promised; an ordinary run shares its processors with others. */
const RESTORED_MS = full ? 2000 : 10_000;

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
         kretprobe:work.mjs:add { @ = hist(retval); } settle:work.mjs:later { @s = count(); }`,
      );
      await sleep(moment);
      tracer.child.kill('SIGKILL');
      const { err } = await tracer.finished;
      const stage = / \(estimated/.test(err) ? 'armed' : /Attaching/.test(err) ? 'attaching' : 'early';
      const where = `kill ${i} after ${moment.toFixed(0)} ms, ${stage}`;
      const now = await settled(service.pid, clean);
      expect(await service.get('/alive'), where).toBe('/alive 7');
      expect(now, where).toEqual(clean);
      // A kill at the very signal: the inspector opens after it, and the guard of src/target/guard.ts closes it then.
      await expect
        .poll(() => service.ask('environment'), { timeout: RESTORED_MS, message: where })
        .toEqual(before);
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

/** The traces as soon as there are none, or after RESTORED_MS. */
async function settled(pid: number, clean: Traces): Promise<Traces> {
  const deadline = performance.now() + RESTORED_MS;
  for (;;) {
    const now = traces(pid, clean.threads);
    if (JSON.stringify(now) === JSON.stringify(clean) || performance.now() > deadline) return now;
    await sleep(10);
  }
}
