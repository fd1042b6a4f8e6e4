import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, describe, expect, test } from 'vitest';
import { nodeBinaries } from '../support/nodes.ts';
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

/**
 * The one thing that a kill may leave, and that docs/limits.md has to say: the inspector, when the tracer dies in the
 * milliseconds between SIGUSR1 and the agent's injection. Its thread and its port on the loopback address, nothing else.
 */
function isInspectorAlone(clean: Traces, now: Traces): boolean {
  const fresh = now.listeners.filter((listener) => !clean.listeners.includes(listener));
  return (
    now.folders === 0 &&
    now.threads === clean.threads + 1 &&
    fresh.length === 1 &&
    /^tcp 0100007F:/.test(fresh[0]!)
  );
}

describe.each(nodeBinaries())('SIGKILL of the tracer, Node $version', ({ path, major }) => {
  test(`${KILLS} times at random moments`, { timeout: full ? 600_000 : 120_000 }, async () => {
    let service = await startService({ node: path });
    let load = startLoad(service.port, 2);
    let clean = traces(service.pid);
    let before = await service.ask('environment');
    let inspectors = 0;
    const moments: string[] = [];
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
      moments.push(where);
      const now = await settled(service.pid, clean);
      expect(await service.get('/alive'), where).toBe('/alive 7');
      if (stage === 'early' && isInspectorAlone(clean, now)) {
        // Nothing but the inspector. A process of its own for what comes.
        inspectors++;
        const { failed, errors } = await load.stop();
        expect({ failed, errors }, where).toEqual({ failed: 0, errors: [] });
        await stopAll();
        service = await startService({ node: path });
        load = startLoad(service.port, 2);
        clean = traces(service.pid);
        before = await service.ask('environment');
        continue;
      }
      expect(now, where).toEqual(clean);
      // A kill at the very signal: the inspector opens after it, and the guard of src/target/guard.ts closes it then.
      await expect.poll(() => service.ask('environment'), { timeout: 5000, message: where }).toEqual(before);
    }
    if (inspectors > 0)
      console.log(
        `Node ${major}: ${inspectors} of ${KILLS} kills left the inspector open: ${moments.join('; ')}`,
      );
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
