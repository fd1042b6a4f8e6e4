/** A thousand functions of a real package at once, under load. */

import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, describe, expect, test } from 'vitest';
import { nodeBinaries } from '../support/nodes.ts';
import {
  fixture,
  folders,
  type Service,
  startLoad,
  startService,
  stopAll,
  threads,
  trapline,
  until,
} from './support.ts';

afterEach(stopAll);

const ALL = 'kprobe:*undici*:*';
const EARLY = 'tracing ended while probes were being armed';
const CONNECTIONS = 2;

const startProxy = (node: string): Promise<Service> =>
  startService({ node, file: fixture('proxy.mjs'), flags: ['--no-warnings'] });

/** Nothing of the tracer's is left, and the load went through. */
async function expectUnharmed(
  service: Service,
  before: { readonly globals: unknown; readonly threads: number },
  load: ReturnType<typeof startLoad>,
): Promise<void> {
  const { pid } = service;
  const at = (await load.counts()).ok;
  await until('requests go on', async () => (await load.counts()).ok > at + 10, 20_000);
  const { ok, failed, errors } = await load.stop();
  expect({ failed, errors }).toEqual({ failed: 0, errors: [] });
  expect(ok).toBeGreaterThan(0);
  await until(
    'folder and worker are gone',
    () => folders(pid).length === 0 && threads(pid) <= before.threads,
  );
  expect(await service.ask('globals')).toEqual(before.globals);
}

describe.each(nodeBinaries())('all functions of undici, Node $version', ({ path }) => {
  const begin = async () => {
    const service = await startProxy(path);
    await service.get('/warm');
    const before = { globals: await service.ask('globals'), threads: threads(service.pid) };
    const load = startLoad(service.port, CONNECTIONS);
    return { service, before, load, pid: String(service.pid) };
  };

  test('are armed in far fewer stops than there are functions', { timeout: 120_000 }, async () => {
    const { service, before, load, pid } = await begin();
    const tracer = trapline('-v', '-p', pid, `${ALL} { @[func] = count(); }`);
    await tracer.saw('All probes count');
    const { ok } = await load.counts();
    await until('requests are counted', async () => (await load.counts()).ok > ok + 50, 20_000);
    const { code, out, err } = await tracer.interrupt();
    const called = expect.stringMatching(/^@\[request\]: \d+$/m);
    const whole = expect.not.stringMatching(/ERROR|tracing ended while/);
    expect({ code, out, err }).toEqual({ code: 0, out: called, err: whole });
    const [, probes] = /^Attaching (\d+) probes/m.exec(err) ?? [];
    const [, stops] = /; (\d+) pauses: /.exec(err) ?? [];
    expect(Number(probes)).toBeGreaterThan(1000);
    // by each function one there were two thousand
    expect(Number(stops)).toBeGreaterThan(0);
    expect(Number(stops)).toBeLessThan(Number(probes) / 2);
    await expectUnharmed(service, before, load);
  });

  test('exit() is heard while they are armed', { timeout: 60_000 }, async () => {
    const { service, before, load, pid } = await begin();
    // the first of them that is called: a thousand are to come
    const tracer = trapline('-p', pid, `${ALL} { @ = 1; exit(); } END { printf("end\\n"); }`);
    const { code, out, err } = await tracer.finished;
    expect({ code, out, err }).toEqual({
      code: 0,
      out: expect.stringMatching(/^end\n+@: 1$/m),
      err: expect.stringContaining(EARLY),
    });
    await expectUnharmed(service, before, load);
  });

  test('Ctrl-C is heard while they are armed', { timeout: 60_000 }, async () => {
    const { service, before, load, pid } = await begin();
    const tracer = trapline(
      '-p',
      pid,
      `BEGIN { printf("begin\\n"); } ${ALL} { @ = count(); } END { @x = 7; }`,
    );
    await tracer.saw('begin');
    const { code, out, err } = await tracer.interrupt();
    expect({ code, out, err }).toEqual({
      code: 0,
      out: expect.stringMatching(/^@x: 7$/m),
      err: expect.not.stringContaining('ERROR'),
    });
    await expectUnharmed(service, before, load);
  });

  test('the tracer is killed while they are armed', { timeout: 60_000 }, async () => {
    const { service, before, load, pid } = await begin();
    const tracer = trapline('-p', pid, `BEGIN { printf("begin\\n"); } ${ALL} { @ = count(); }`);
    await tracer.saw('begin');
    await sleep(300 + 900 * Math.random());
    tracer.child.kill('SIGKILL');
    await tracer.finished;
    await expectUnharmed(service, before, load);
  });

  test('the process ends while they are armed: exit 0', { timeout: 60_000 }, async () => {
    const { service, pid } = await begin();
    const tracer = trapline('-p', pid, `BEGIN { printf("begin\\n"); } ${ALL} { @ = count(); }`);
    await tracer.saw('begin');
    service.child.kill('SIGKILL');
    const { code, err } = await tracer.finished;
    expect({ code, err }).toEqual({ code: 0, err: expect.stringContaining(`process ${pid}: `) });
    await until('its folder is gone', () => folders(service.pid).length === 0);
  });
});
