import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, afterEach, describe, expect, test } from 'vitest';
import { attachTracefs } from '../../src/cli/attach-tracefs.ts';
import {
  fieldValue,
  fileSource,
  MemorySink,
  readTraceDat,
  TraceDat,
  type TraceEvent,
  TraceEvents,
  TraceRecorder,
} from '../../src/export/index.ts';

const root = path.dirname(path.dirname(path.dirname(fileURLToPath(import.meta.url))));
const cli = path.join(root, 'dist/cli/main.js');
const shop = path.join(root, 'test/tracefs/fixtures/shop.cjs');
const folder = mkdtempSync(path.join(tmpdir(), 'trapline-record-'));
const children: ChildProcess[] = [];

afterEach(() => {
  for (const child of children.splice(0)) child.kill('SIGKILL');
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

async function startShop(): Promise<{
  child: ChildProcess;
  run(op: string, count: number, from?: number): Promise<void>;
}> {
  const child = spawn(process.execPath, ['--inspect-port=0', shop], {
    stdio: ['ignore', 'ignore', 'ignore', 'ipc'],
  });
  children.push(child);
  await once(child, 'message');
  return {
    child,
    async run(op, count, from = 0) {
      const answer = once(child, 'message');
      child.send({ op, count, from });
      await answer;
    },
  };
}

/** `trapline record` that has begun to record; `stop()` is Ctrl-C. */
async function record(
  ...args: string[]
): Promise<{ stop(): Promise<number>; ended: Promise<number>; notes(): string }> {
  const child = spawn(process.execPath, [cli, 'record', ...args], { stdio: ['ignore', 'ignore', 'pipe'] });
  children.push(child);
  let notes = '';
  const ended = new Promise<number>((resolve) => child.once('close', (code) => resolve(code ?? -1)));
  await new Promise<void>((resolve, reject) => {
    child.stderr?.on('data', (data) => {
      notes += data;
      if (notes.includes('recording ')) resolve();
    });
    void ended.then((code) => reject(new Error(`record ended with ${code}: ${notes}`)));
  });
  return {
    ended,
    notes: () => notes,
    stop: () => {
      child.kill('SIGINT');
      return ended;
    },
  };
}

function trapline(...args: string[]): { code: number | null; out: string; err: string } {
  const { status, stdout, stderr } = spawnSync(process.execPath, [cli, ...args], {
    encoding: 'utf8',
    cwd: folder,
  });
  return { code: status, out: stdout, err: stderr };
}

function eventsOf(file: string): TraceEvent[] {
  const dat = new TraceDat(fileSource(file));
  try {
    return [...new TraceEvents(dat)];
  } finally {
    dat.close();
  }
}

function field(event: TraceEvent | undefined, name: string): unknown {
  const found = event?.event?.fields.find((one) => one.name === name);
  return found === undefined || event === undefined ? undefined : fieldValue(found, event.data);
}

describe('trapline record', () => {
  test('calls of a running process, with a filter and an instance; then report and export of the file', async () => {
    const { child, run } = await startShop();
    await run('handle', 1);
    const out = path.join(folder, 'shop.dat');
    const events = [
      ...['-e', 'kprobe:shop.cjs:handle url=$arg1->url:string amount=$arg3:s32'],
      ...['-e', 'kretprobe:shop.cjs:handle'],
      ...['-B', 'few', '-e', 'p:shop/late shop.cjs:handle amount=$arg3:s32', '-f', 'amount < -990'],
    ];
    const recorder = await record('-p', String(child.pid), '-o', out, '--max-pause', '60000', ...events);
    await run('handle', 1000);
    expect(await recorder.stop()).toBe(0);
    expect(recorder.notes()).toContain('recording 3 events');
    const seen = eventsOf(out);
    const of = (name: string): TraceEvent[] => seen.filter(({ event }) => event?.name === name);
    expect(of('handle').map((event) => field(event, 'amount'))).toEqual(
      Array.from({ length: 1000 }, (_, n) => BigInt(-n)),
    );
    expect(field(of('handle')[5], 'url')).toBe('/order/5');
    expect(of('handle__return')).toHaveLength(1000);
    expect(of('late').map((event) => `${event.buffer.name} ${field(event, 'amount')}`)).toEqual(
      Array.from({ length: 9 }, (_, n) => `few ${-991 - n}`),
    );
    expect(readdirSync(folder).filter((name) => name.includes('.cpu'))).toEqual([]);

    const report = trapline('report', '-i', out);
    expect(report.code).toBe(0);
    expect(report.out.split('\n')).toHaveLength(1 + seen.length + 1);
    expect(report.out).toMatch(
      /^cpus=1\n {5} +node-\d+ +\[000\] +\d+\.\d{6}: handle: {15}\([0-9a-f]+\) url="\/order\/0" amount=0\n/,
    );
    const filtered = trapline('report', out, '-F', 'handle: amount == -7');
    expect(filtered.out.trim().split('\n')).toHaveLength(2);
    expect(filtered.out).toContain('url="/order/7" amount=-7\n');
    for (const format of ['perfetto', 'chrome', 'speedscope', 'json']) {
      const made = path.join(folder, `shop.${format}`);
      expect(trapline('export', '--to', format, '-i', out, '-o', made)).toMatchObject({ code: 0, err: '' });
      if (format !== 'perfetto')
        expect(readFileSync(made, 'utf8')).toContain(
          format === 'speedscope' ? '"name":"handle"' : '/order/999',
        );
    }
    const { traceEvents } = JSON.parse(readFileSync(path.join(folder, 'shop.chrome'), 'utf8'));
    expect(traceEvents.filter(({ ph }: { ph: string }) => ph === 'B')).toHaveLength(1000);
    expect(traceEvents.filter(({ ph }: { ph: string }) => ph === 'E')).toHaveLength(1000);
  });

  test('a process that ends ends the recording; what it did is in the file', async () => {
    const { child, run } = await startShop();
    await run('handle', 1);
    const out = path.join(folder, 'gone.dat');
    const recorder = await record(
      '-p',
      String(child.pid),
      '-o',
      out,
      '--file-version',
      '6',
      '--max-pause',
      '60000',
      '-e',
      'kprobe:shop.cjs:handle amount=$arg3:s32',
    );
    await run('handle', 10);
    child.send({ op: 'exit' });
    expect(await recorder.ended).toBe(0);
    expect(recorder.notes()).toContain('the process is gone');
    // The last moments of a process that exits may be lost with it.
    const amounts = eventsOf(out).map((event) => field(event, 'amount'));
    expect(amounts).toEqual(Array.from({ length: amounts.length }, (_, n) => BigInt(-n)));
    expect(amounts.length).toBeLessThanOrEqual(10);
  });

  test('a command from its first call', () => {
    const out = path.join(folder, 'command.dat');
    const code = path.join(root, 'test/export/fixtures/sum.cjs');
    const done = trapline(
      'record',
      '-c',
      `${process.execPath} ${code}`,
      '-o',
      out,
      '--compression',
      'zlib',
      '-e',
      'kprobe:sum.cjs:add n=n:u32',
    );
    expect(done).toMatchObject({ code: 0 });
    expect(eventsOf(out).map((event) => field(event, 'n'))).toEqual(
      Array.from({ length: 300 }, (_, n) => BigInt(n)),
    );
  });

  test('what is wrong is said in the words of the command line, and nothing is written', async () => {
    const { child } = await startShop();
    const pid = String(child.pid);
    const wrong = (...args: string[]): string => {
      const { code, err } = trapline('record', '-p', pid, '-o', 'wrong.dat', ...args);
      expect(code).toBe(1);
      return err;
    };
    expect(wrong()).toContain('there is nothing to record');
    expect(wrong('-f', 'a > 1')).toContain('there is no event in front of it');
    expect(wrong('-e', 'sched_switch')).toContain('-e sched_switch: there is no such event');
    expect(wrong('-e', 'kprobe:shop.cjs:handel')).toBe(
      '-e:1:18: ERROR: Invalid probed address or symbol\np:kprobes/handel shop.cjs:handel\n                 ~\n',
    );
    expect(wrong('-e', 'kprobe:shop.cjs:handle', '-f', 'amount > 1')).toMatch(
      /^-f:1:\d+: ERROR: Field not found\namount > 1\n/,
    );
    expect(wrong('-e', 'x:y', '--file-version', '5')).toContain('5 is none of 6, 7');
    expect(existsSync(path.join(folder, 'wrong.dat'))).toBe(false);
    expect(trapline('report', '-i', shop)).toMatchObject({
      code: 1,
      err: expect.stringContaining('this is no trace.dat file'),
    });
    expect(trapline('export', '-i', shop).err).toContain('there is no format');
  });
});

test('a burst larger than the socket takes: flush() brings all of it', async () => {
  const { child, run } = await startShop();
  await run('handle', 1);
  const fs = await attachTracefs(child.pid as number, { maxPauseMs: 60_000, ringBytes: 32 << 20 });
  try {
    await fs.writeFile('kprobe_events', 'p:shop/hit shop.cjs:handle amount=$arg3:s32');
    await fs.writeFile('events/shop/hit/enable', '1');
    const recorder = new TraceRecorder(fs.sync);
    await run('handle', 400_000);
    await fs.process.flush();
    const sink = new MemorySink();
    recorder.finish(sink, { uname: 'Linux', version: 'test' });
    let next = 0n;
    for (const event of new TraceEvents(readTraceDat(sink.bytes()))) {
      if (field(event, 'amount') !== -next) throw new Error(`${field(event, 'amount')} is not ${-next}`);
      next++;
    }
    expect(Number(next) + fs.process.arch.lost).toBe(400_000);
    expect(fs.process.arch.lost).toBe(0);
  } finally {
    await fs.detach();
  }
});
