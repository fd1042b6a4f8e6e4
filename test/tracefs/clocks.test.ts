/** The clocks of `trace_clock` on a process, against the machine's own as another program reads them. */
import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, describe, expect, test } from 'vitest';
import { attachTracefs, type ProcessTracefs } from '../../src/cli/attach-tracefs.ts';
import { fileSource, TraceDat, TraceEvents } from '../../src/export/index.ts';
import { SystemClocks } from '../../src/target/system-clocks.ts';
import { unless } from '../support/skip.ts';

const root = path.dirname(path.dirname(path.dirname(fileURLToPath(import.meta.url))));
const SHOP = path.join(root, 'test/tracefs/fixtures/shop.cjs');
const CLI = path.join(root, 'dist/cli/main.js');
/** What a measurement may be off by, on a machine that has other things to do between two readings. */
const SLACK_NS = 2_000_000n;

const closers: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

const python = spawnSync('python3', ['-c', 'import time; time.CLOCK_MONOTONIC_RAW'], { stdio: 'ignore' });
const noPython = python.status === 0 ? undefined : 'python3 is needed, to read the clocks in another way';
const perl = spawnSync('perl', ['-e', '1'], { stdio: 'ignore' });
const noPerl = perl.status === 0 ? undefined : 'perl is needed';
const namespaces = spawnSync('unshare', ['--time', '--boottime', '1000', 'true'], { stdio: 'ignore' });
const noNamespaces = namespaces.status === 0 ? noPerl : 'time namespaces need unshare(1), and root';

/** What another program reads of a clock, in nanoseconds. */
function read(id: number): bigint {
  return BigInt(
    execFileSync('python3', ['-c', `import time; print(time.clock_gettime_ns(${id}))`], { encoding: 'utf8' }),
  );
}

interface Shop {
  readonly child: ChildProcess;
  run(count: number): Promise<void>;
}

async function startShop(): Promise<Shop> {
  const child = spawn(process.execPath, ['--inspect-port=0', SHOP], {
    stdio: ['ignore', 'ignore', 'ignore', 'ipc'],
  });
  closers.push(() => child.kill('SIGKILL'));
  await once(child, 'message');
  return {
    child,
    async run(count) {
      const answer = once(child, 'message');
      child.send({ op: 'handle', count });
      await answer;
    },
  };
}

async function tracedShop(): Promise<{ shop: Shop; fs: ProcessTracefs }> {
  const shop = await startShop();
  const fs = await attachTracefs(shop.child.pid as number, { maxPauseMs: 60_000 });
  closers.push(() => fs.detach());
  await fs.writeFile('kprobe_events', 'p:shop/req shop.cjs:handle');
  await fs.writeFile('events/shop/req/enable', '1');
  return { shop, fs };
}

/** The times of a trace, as they stand there. */
function times(trace: string): string[] {
  return trace.split('\n').flatMap((line) => / \[000\] \S+ +([\d.]+): req: /.exec(line)?.[1] ?? []);
}

/** Whole numbers of the clock: nanoseconds, where it has a point. */
function stamp(text: string | undefined): bigint {
  if (text === undefined) throw new Error('there is no time');
  const [seconds = '', micros] = text.split('.');
  return micros === undefined ? BigInt(seconds) : BigInt(seconds) * 1_000_000_000n + BigInt(micros) * 1000n;
}

describe('clocks of a process', () => {
  test('uptime and counter have no point; another clock begins with empty buffers', async () => {
    const { shop, fs } = await tracedShop();
    await shop.run(2);
    expect(times(await fs.readFile('trace'))).toHaveLength(2);
    await fs.writeFile('snapshot', '1');
    await fs.mkdir('instances/other');
    await fs.writeFile('instances/other/events/shop/req/enable', '1');
    await fs.writeFile('trace_clock', 'uptime');
    expect(await fs.readFile('trace_clock')).toContain(' [uptime] ');
    expect(times(await fs.readFile('trace'))).toEqual([]);
    expect(times(await fs.readFile('snapshot'))).toEqual([]);
    const before = process.hrtime.bigint() / 10_000_000n;
    await shop.run(3);
    const trace = await fs.readFile('trace');
    const after = process.hrtime.bigint() / 10_000_000n;
    expect(times(trace)).toHaveLength(3);
    for (const time of times(trace)) {
      expect(time).toMatch(/^\d+$/);
      expect(stamp(time)).toBeGreaterThanOrEqual(before);
      expect(stamp(time)).toBeLessThanOrEqual(after);
    }
    // The other instance goes by its own clock.
    expect(times(await fs.readFile('instances/other/trace')).map((time) => time.includes('.'))).toEqual([
      true,
      true,
      true,
    ]);
    await fs.writeFile('trace_clock', 'counter');
    await fs.writeFile('instances/other/trace_clock', 'counter');
    await shop.run(3);
    const counts = times(await fs.readFile('trace')).map(stamp);
    expect(counts).toHaveLength(3);
    // One counter for all instances: no number is there twice.
    const others = times(await fs.readFile('instances/other/trace')).map(stamp);
    expect(new Set([...counts, ...others]).size).toBe(6);
    expect(counts).toEqual([...counts].sort((a, b) => Number(a - b)));
    expect(counts.at(-1)).toBeLessThan(100n);
    expect(await fs.readFile('per_cpu/cpu0/stats')).toMatch(/oldest event ts: \d+\nnow ts: \d+\n/);
  });

  test(
    'mono_raw, boot and tai are the times that another program reads',
    unless(noPython ?? noPerl),
    async () => {
      const { shop, fs } = await tracedShop();
      expect(await fs.readFile('trace_clock')).toBe(
        '[local] global counter uptime perf mono mono_raw boot tai\n',
      );
      for (const [clock, id] of [
        ['mono_raw', 4],
        ['boot', 7],
        ['tai', 11],
      ] as const) {
        await fs.writeFile('trace_clock', clock);
        const before = read(id);
        await shop.run(2);
        // Behind the second in which a measurement is good.
        await new Promise((resolve) => setTimeout(resolve, 1100));
        await shop.run(2);
        const found = times(await fs.readFile('trace')).map(stamp);
        const after = read(id);
        expect(found, clock).toHaveLength(4);
        expect(found).toEqual([...found].sort((a, b) => Number(a - b)));
        expect(found[0], clock).toBeGreaterThanOrEqual(before - SLACK_NS);
        expect(found[3], clock).toBeLessThanOrEqual(after + SLACK_NS);
        expect((found[3] as bigint) - (found[1] as bigint), clock).toBeGreaterThan(1_000_000_000n);
      }
    },
  );

  test('hists count times of the clock', unless(noPerl), async () => {
    const { shop, fs } = await tracedShop();
    await fs.writeFile('events/shop/req/trigger', 'hist:keys=common_timestamp:clock=mono_raw');
    expect(await fs.readFile('trace_clock')).toContain(' [mono_raw] ');
    await shop.run(1);
    const hist = await fs.readFile('events/shop/req/hist');
    const [stamped] = times(await fs.readFile('trace')).map(stamp);
    const counted = /common_timestamp: +(\d+)/.exec(hist)?.[1] ?? '';
    // The trace shows microseconds.
    expect(BigInt(counted) - (stamped as bigint)).toBeLessThan(1000n);
    expect((stamped as bigint) - BigInt(counted)).toBeLessThan(1000n);
  });

  test('what cannot be read is refused with the reason', async () => {
    const { fs } = await tracedShop();
    await expect(fs.writeFile('trace_clock', 'x86-tsc')).rejects.toMatchObject({ code: 'EINVAL' });
    expect(await fs.readFile('error_log')).toMatch(
      /trace_clock: error: the time stamp counter is read by machine code only\n {2}Command: x86-tsc\n {11}\^\n$/,
    );
    const { PATH } = process.env;
    closers.push(() => {
      process.env.PATH = PATH;
    });
    process.env.PATH = '/nowhere';
    expect(await fs.readFile('trace_clock')).toBe('[local] global counter uptime perf mono\n');
    await expect(fs.writeFile('trace_clock', 'boot')).rejects.toThrow(/perl is needed to read it: .*ENOENT/);
    expect(await fs.readFile('error_log')).toContain('trace_clock: error: perl is needed to read it');
    expect(await fs.readFile('trace_clock')).toContain('[local]');
  });
});

/** The clock and times of five calls as `trapline record` writes them, and CLOCK_MONOTONIC around them. `before` stands in front of the command. */
async function recorded(
  before: readonly string[],
  ...options: string[]
): Promise<{ clock: string; times: readonly bigint[]; from: bigint; to: bigint }> {
  const shop = await startShop();
  const folder = mkdtempSync(path.join(tmpdir(), 'trapline-clocks-'));
  closers.push(() => rmSync(folder, { recursive: true, force: true }));
  const out = path.join(folder, 'clock.dat');
  const command = [process.execPath, CLI, 'record', '-p', String(shop.child.pid), '-o', out, ...options];
  const events = ['--max-pause', '60000', '-e', 'p:shop/req shop.cjs:handle'];
  // The shell tells its own number, which is the command's then.
  const [program, ...args] = [
    ...before,
    'sh',
    '-c',
    'echo "pid $$" >&2; exec "$@"',
    'sh',
    ...command,
    ...events,
  ];
  const child = spawn(program as string, args, { stdio: ['ignore', 'ignore', 'pipe'] });
  closers.push(() => child.kill('SIGKILL'));
  const ended = once(child, 'close');
  let notes = '';
  const from = process.hrtime.bigint();
  await new Promise<void>((resolve, reject) => {
    child.stderr.on('data', (data) => {
      notes += data;
      if (notes.includes('recording ')) resolve();
    });
    void ended.then(() => reject(new Error(notes)));
  });
  await shop.run(5);
  const to = process.hrtime.bigint();
  process.kill(Number(/^pid (\d+)$/m.exec(notes)?.[1]), 'SIGINT');
  expect((await ended)[0], notes).toBe(0);
  const dat = new TraceDat(fileSource(out));
  closers.push(() => dat.close());
  const times = [...new TraceEvents(dat)].map(({ ts }) => ts);
  expect(times).toHaveLength(5);
  return { clock: dat.clock, times, from, to };
}

describe('trapline record -C', () => {
  test(
    'boot on a machine that has slept: the file names the clock, its times have the sleep in them',
    unless(noNamespaces),
    async () => {
      // A time namespace whose CLOCK_BOOTTIME is far ahead.
      const slept = ['unshare', '--time', '--boottime', '1000000', '--fork', '--kill-child'];
      const { clock, times: found, from, to } = await recorded(slept, '-C', 'boot');
      expect(clock).toBe('boot');
      // This process's CLOCK_BOOTTIME may be ahead by sleeps of its own.
      const ahead = 1_000_000_000_000_000n + (new SystemClocks().at('boot', to) as bigint) - to;
      for (const ts of found) {
        expect(ts - ahead).toBeGreaterThan(from - SLACK_NS);
        expect(ts - ahead).toBeLessThan(to + SLACK_NS);
      }
    },
  );

  test('times of day are made of the clock that was chosen', unless(noPerl), async () => {
    const before = BigInt(Date.now()) * 1_000_000n;
    const { clock, times: found } = await recorded([], '-C', 'tai', '--date');
    const after = BigInt(Date.now() + 1) * 1_000_000n;
    expect(clock).toBe('tai');
    for (const ts of found) {
      expect(ts).toBeGreaterThan(before - SLACK_NS);
      expect(ts).toBeLessThan(after + SLACK_NS);
    }
    const uptime = [CLI, 'record', '-p', '1', '-C', 'uptime', '--date', '-e', 'http'];
    const { status, stderr } = spawnSync(process.execPath, uptime, { encoding: 'utf8' });
    expect([status, stderr.split('\n')[0]]).toEqual([
      1,
      'ERROR: --date: stamps of the clock uptime are not nanoseconds',
    ]);
  });
});
