import { spawn } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, describe, expect, test } from 'vitest';
import { nodeBinaries } from '../support/nodes.ts';
import {
  fixture,
  folders,
  listeners,
  mapsOf,
  own,
  root,
  run,
  startService,
  stopAll,
  threads,
  trapline,
  until,
} from './support.ts';

afterEach(stopAll);

const K = 500;
/** Maps are copied twice a second, for a target that ends. */
const KEPT_MS = 1200;

describe.each(nodeBinaries())('ends, Node $version', ({ path }) => {
  test('the target is killed: what it had is printed, exit 0', async () => {
    const service = await startService({ node: path });
    const tracer = trapline(
      '-v',
      '-p',
      String(service.pid),
      'kprobe:work.mjs:look { @ = count(); printf("%d\\n", arg0); }',
    );
    await tracer.attached();
    await service.call('look', K);
    await sleep(KEPT_MS);
    service.child.kill('SIGKILL');
    const { code, out, err } = await tracer.finished;
    expect({ code, maps: mapsOf(out) }).toEqual({ code: 0, maps: { '@': K } });
    expect(out.split('\n').filter((line) => /^\d+$/.test(line))).toEqual(
      Array.from({ length: K }, (_, i) => String(i)),
    );
    expect(err).toContain(`process ${service.pid}: `);
    await until('its folder is gone', () => folders(service.pid).length === 0);
  });

  test('the target exits by itself while traced: its exit code is its own', async () => {
    const service = await startService({ node: path });
    const tracer = trapline('-v', '-p', String(service.pid), 'kprobe:work.mjs:look { @ = count(); }');
    await tracer.attached();
    await service.call('look', 3);
    service.child.disconnect();
    expect(await service.exited).toBe(0);
    expect((await tracer.finished).code).toBe(0);
    await until('its folder is gone', () => folders(service.pid).length === 0);
  });

  test('a main thread that never comes to its event loop is traced like any other', async () => {
    const file = fixture('blocked.cjs');
    const child = spawn(path, ['--inspect-port=0', file], { stdio: ['ignore', 'pipe', 'ignore'] });
    own(child);
    await new Promise((resolve) => child.stdout.once('data', resolve));
    // by property and by a binding: what lists the functions of the two is different
    for (const name of ['exported', 'bound']) {
      const { code, out, err } = await run(
        '--max-pause',
        '60000',
        '-p',
        String(child.pid),
        `kprobe:blocked.cjs:${name} { @ = count(); } interval:ms:10 { if (@ > 1000) { exit(); } }`,
      );
      // it may have counted so many before the tracer knows that all is armed, and says so
      expect({ code, err }).toEqual({ code: 0, err: expect.not.stringContaining('ERROR') });
      expect(mapsOf(out)['@']).toBeGreaterThan(1000);
    }
    const { code, out } = await run(
      '-p',
      String(child.pid),
      'profile:hz:99 { @[ustack(1)] = count(); @n = count(); } interval:ms:10 { if (@n > 5) { exit(); } }',
    );
    expect(code).toBe(0);
    expect(out).toContain('blocked.cjs:');
    await until('its folder is gone', () => folders(child.pid!).length === 0);
  });

  test('attaching queues no tick where Node could lose it, and all behind it', async () => {
    const service = await startService({ node: path, flags: ['--import', fixture('ticks.mjs')] });
    const tracer = trapline('-v', '-p', String(service.pid), 'kprobe:work.mjs:look { @ = count(); }');
    await tracer.attached();
    // what is said of workers is said all the same
    await until('the application is told', () => service.stderr().includes('TOLD of a worker'));
    expect(await service.call('look', 3)).toBe(3);
    expect(await tracer.interrupt()).toMatchObject({ code: 0, out: expect.stringMatching(/^@: 3$/m) });
    expect(service.stderr()).not.toContain('TICK');
  });

  test('| head -1: the reader goes, everything is restored', async () => {
    const service = await startService({ node: path });
    const before = await service.ask('environment');
    const ports = String(listeners(service.pid));
    const count = threads(service.pid);
    const shell = spawn(
      'sh',
      [
        '-c',
        `'${process.execPath}' '${root}/dist/cli/main.js' -p ${service.pid} -e 'kprobe:work.mjs:look { printf("%d\\n", arg0); }' | head -1`,
      ],
      { stdio: ['ignore', 'pipe', 'pipe'] },
    );
    own(shell);
    let out = '';
    shell.stdout.on('data', (data) => {
      out += data;
    });
    const ended = new Promise((resolve) => shell.once('close', resolve));
    let running = true;
    void ended.then(() => {
      running = false;
    });
    while (running) {
      await service.call('look', 10);
      await sleep(20);
    }
    expect(out).toMatch(/^\d+\n$/);
    await until(
      'restored',
      () =>
        folders(service.pid).length === 0 &&
        threads(service.pid) <= count &&
        String(listeners(service.pid)) === ports,
    );
    expect(await service.ask('environment')).toEqual(before);
  });
});

test('-f json: every line is an object of a known shape', async () => {
  const service = await startService();
  const tracer = trapline(
    '-v',
    '-f',
    'json',
    '-p',
    String(service.pid),
    `BEGIN { printf("a \\"quoted\\"\\ttext\\n"); time("%Y\\n"); @empty[1] = 0; }
     kprobe:work.mjs:look { @n = count(); @by[arg0, "k\\"ey"] = count(); @h = hist(arg0); @l = lhist(arg0, 0, 100, 10);
       @s = stats(arg0); @a = avg(arg0); @m = max(arg0); print((arg0, "x")); }
     END { print(@n); }`,
  );
  await tracer.attached();
  await service.call('look', 4);
  const { code, out } = await tracer.interrupt();
  expect(code).toBe(0);
  expect(out.endsWith('\n')).toBe(true);
  const lines = out
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as { type: string; data: unknown });
  const types = new Set(lines.map(({ type }) => type));
  for (const line of lines) expect(Object.keys(line)).toEqual(['type', 'data']);
  expect(types).toEqual(new Set(['attached_probes', 'printf', 'time', 'value', 'map', 'hist', 'stats']));
  expect(lines).toContainEqual({ type: 'printf', data: 'a "quoted"\ttext\n' });
  expect(lines).toContainEqual({ type: 'map', data: { '@n': 4 } });
  expect(lines).toContainEqual({
    type: 'map',
    data: { '@by': { '0,k"ey': 1, '1,k"ey': 1, '2,k"ey': 1, '3,k"ey': 1 } },
  });
  expect(lines).toContainEqual({ type: 'stats', data: { '@s': { count: 4, average: 1, total: 6 } } });
});

test('-c launches, traces, ends with the command', async () => {
  const tracer = trapline(
    '-c',
    `'${process.execPath}' --inspect-port=0 '${fixture('ticker.mjs')}' 40`,
    'kprobe:ticker.mjs:tick { @n = count(); @last = max(arg0); }',
  );
  const { code, out } = await tracer.finished;
  expect(code).toBe(0);
  const maps = mapsOf(out);
  // It ends by itself after its fortieth tick, two a maps' copy; tracing begins when it is loaded.
  expect(maps['@n']).toBeGreaterThan(0);
  expect(maps['@last']).toBeLessThanOrEqual(40);
});

test('two tracers on one process: the second is refused, the first not disturbed', async () => {
  const service = await startService();
  const first = trapline('-v', '-p', String(service.pid), 'kprobe:work.mjs:look { @ = count(); }');
  await first.attached();
  await service.call('look', K);
  const second = await run('-p', String(service.pid), 'kprobe:work.mjs:look { @ = count(); }');
  expect(second).toMatchObject({ code: 1, out: '', err: expect.stringMatching(/^ERROR: .*traced/) });
  await service.call('look', K);
  const { code, out } = await first.interrupt();
  expect({ code, maps: mapsOf(out) }).toEqual({ code: 0, maps: { '@': 2 * K } });
});

test('-p of several, one dies: the others go on, all is printed', async () => {
  const [one, two] = [await startService(), await startService()];
  const tracer = trapline(
    '-v',
    '-p',
    String(one.pid),
    '-p',
    String(two.pid),
    'kprobe:work.mjs:look { @[pid] = count(); }',
  );
  await tracer.saw(/(look: \w+ \(.*){2}/s);
  await one.call('look', K);
  await sleep(KEPT_MS);
  one.child.kill('SIGKILL');
  await tracer.saw(`process ${one.pid}: `);
  await two.call('look', K);
  const { code, out } = await tracer.interrupt();
  expect({ code, maps: mapsOf(out) }).toEqual({
    code: 0,
    maps: { [`@[${one.pid}]`]: K, [`@[${two.pid}]`]: K },
  });
});
