/** Filters and hist triggers that run in the process give what they give in the tracer, hit by hit. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { afterEach, describe, expect, test } from 'vitest';
import { attachTracefs, type ProcessTracefs } from '../../src/cli/attach-tracefs.ts';
import { nodeBinaries } from '../support/nodes.ts';

const SHOP = fileURLToPath(new URL('fixtures/shop.cjs', import.meta.url));
const closers: (() => unknown)[] = [];

afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

interface Traced {
  readonly fs: ProcessTracefs;
  readonly run: (message: Record<string, unknown>) => Promise<unknown>;
  readonly send: (message: Record<string, unknown>) => void;
}

async function start(node: string, inTarget: boolean, onGone?: () => void): Promise<Traced> {
  const child: ChildProcess = spawn(node, ['--inspect-port=0', SHOP], {
    stdio: ['ignore', 'ignore', 'ignore', 'ipc'],
  });
  closers.push(() => child.kill('SIGKILL'));
  await once(child, 'message');
  const fs = await attachTracefs(child.pid as number, {
    maxPauseMs: 60_000,
    inTarget,
    ...(onGone === undefined ? {} : { onGone }),
  });
  closers.push(() => fs.detach());
  return {
    fs,
    send: (message) => void child.send(message),
    async run(message) {
      const answer = once(child, 'message');
      child.send(message);
      return (await answer)[0];
    },
  };
}

/** What is the same however the hits are looked at: records without their times, hists, the profile. */
async function seen({ fs }: Traced, instances: readonly string[]): Promise<Record<string, string>> {
  const files: Record<string, string> = { profile: await fs.readFile('kprobe_profile') };
  for (const folder of ['', ...instances.map((name) => `instances/${name}/`)]) {
    files[`${folder}trace`] = (await fs.readFile(`${folder}trace`))
      .split('\n')
      .flatMap((line) => (line.startsWith('#') ? [] : [line.slice(line.indexOf(': ') + 2)]))
      .join('\n')
      .replace(/0x[0-9a-f]{9,}/g, 'ADDRESS');
    for (const event of ['total', 'handle', 'end'])
      files[`${folder}${event} hist`] = await fs.readFile(`${folder}events/shop/${event}/hist`);
  }
  return files;
}

const EVENTS = [
  'p:shop/total shop.cjs:total first=cart->prices.0:u16 small=cart->prices.0:s8 owner=cart->owner.name:string',
  'p:shop/handle shop.cjs:handle amount=amount:s32 wide=amount:s64 url=$arg1->url:string none=$arg1->no.way:string',
  'r:shop/end shop.cjs:handle result=$retval:s64 amount=$arg3:s16',
].join('\n');
/** Of total, handle and end. */
const FILTERS = [
  ['first < 10', 'first >= 65530 || small == -3', 'owner == "owner 7"', 'owner ~ "owner 1*"', 'owner ~ "*9"'],
  ['amount < -20 && wide > -30', 'url == "/order/5" || amount & 1', '!(url ~ "/order/1*")', 'none == "x"'],
  ['result == -14', 'amount != -3 && CPU == 0', 'result < 0 && COMM != "no"', 'common_pid == 0'],
] as const;
const HISTS = [
  [
    'keys=first',
    'keys=small:vals=first',
    'keys=owner:size=128',
    'keys=first.buckets=7:vals=small:sort=first',
  ],
  ['keys=amount.log2', 'keys=url:vals=amount,wide', 'keys=wide if amount < -4', 'keys=none,amount'],
  ['keys=result:vals=amount:sort=result.descending', 'keys=cpu', 'keys=amount if common_type > 3'],
] as const;
const NAMES = ['total', 'handle', 'end'];

/** The same numbers in every run. */
function numbers(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (Math.imul(state, 1103515245) + 12345) >>> 0;
    return (state >>> 8) % below;
  };
}

describe.each(nodeBinaries())('filters and hists in a process with Node $version', ({ path }) => {
  test('both ways of running them give the same, after every change', async () => {
    const both = await Promise.all([start(path, true), start(path, false)]);
    const each = (work: (traced: Traced) => Promise<unknown>): Promise<unknown> =>
      Promise.all(both.map(work));
    const random = numbers(20_261);
    const pick = <T>(list: readonly T[]): T => list[random(list.length)] as T;
    await each(({ run }) => run({ op: 'total', count: 1 }));
    await each(async ({ fs, run }) => {
      await fs.writeFile('kprobe_events', EVENTS);
      await fs.mkdir('instances/other');
      await fs.writeFile('events/shop/enable', '1');
      // a function's first call replaces its binding
      await run({ op: 'total', count: 2 });
      await run({ op: 'handle', count: 2 });
      await fs.writeFile('events/shop/enable', '0');
      await fs.writeFile('trace', '');
    });
    const profiles = await Promise.all(both.map(({ fs }) => fs.readFile('kprobe_profile')));
    expect(profiles[0]).toBe(profiles[1]);
    const hists = new Set<string>();
    for (let step = 0; step < 24; step++) {
      const n = random(3);
      const folder = `${pick(['', '', 'instances/other/'])}events/shop/${NAMES[n]}`;
      const hist = `hist:${pick(HISTS[n] as readonly string[])}`;
      const what = random(7);
      const filter = what === 0 ? '0' : pick(FILTERS[n] as readonly string[]);
      const on = random(3) > 0 ? '1' : '0';
      const known = hists.has(`${folder} ${hist}`);
      await each(async ({ fs }) => {
        if (what < 2) await fs.writeFile(`${folder}/filter`, filter);
        else if (what < 4) await fs.writeFile(`${folder}/enable`, on);
        else if (!known) await fs.appendFile(`${folder}/trigger`, hist);
        else {
          const [command, condition] = hist.split(' if ');
          const verb = ['pause', 'cont', 'clear', ''][step % 4] as string;
          const text = `${command}:${verb}${condition === undefined ? '' : ` if ${condition}`}`;
          await fs.appendFile(`${folder}/trigger`, verb === '' ? `!${hist}` : text);
        }
      });
      if (what >= 4) {
        if (known && step % 4 === 3) hists.delete(`${folder} ${hist}`);
        else hists.add(`${folder} ${hist}`);
      }
      const from = random(50);
      const count = 20 + random(300);
      await each(({ run }) => run({ op: 'total', count, from }));
      await each(({ run }) => run({ op: 'handle', count: count >> 1, from }));
      await each(({ run }) => run({ op: 'handle', count: 2, url: '/throw' }));
      const [here, there] = await Promise.all(both.map((traced) => seen(traced, ['other'])));
      expect(here, `step ${step}: ${folder}: ${what} ${filter} ${hist} ${on}`).toEqual(there);
    }
    // What makes no record is not sent.
    const [here, there] = both.map(({ fs }) => fs.process.arch.received) as [number, number];
    expect(here).toBeLessThan(there);
  });

  test('hits that nobody wants are not sent, and are counted', async () => {
    const { fs, run } = await start(path, true);
    await fs.writeFile('kprobe_events', EVENTS);
    await fs.writeFile('events/shop/total/filter', 'first == 40');
    await fs.writeFile('events/shop/total/enable', '1');
    await run({ op: 'total', count: 1000 });
    expect(await fs.readFile('per_cpu/cpu0/stats')).toMatch(/^entries: 1\n/);
    expect(await fs.readFile('kprobe_profile')).toMatch(/total +1000 +0\n/);
    expect(fs.process.arch.received).toBe(1);
    // Somebody else wants all.
    await fs.mkdir('instances/all');
    await fs.writeFile('instances/all/events/shop/total/enable', '1');
    await run({ op: 'total', count: 100 });
    expect(await fs.readFile('instances/all/per_cpu/cpu0/stats')).toMatch(/^entries: 100\n/);
    expect(await fs.readFile('per_cpu/cpu0/stats')).toMatch(/^entries: 2\n/);
    expect(fs.process.arch.received).toBe(101);
    await fs.rmdir('instances/all');
    await run({ op: 'total', count: 100 });
    await fs.process.flush();
    expect(fs.process.arch.received).toBe(102);
    // A trigger needs the hits that pass its own filter.
    await fs.writeFile('events/shop/total/trigger', 'traceoff if first == 50');
    await run({ op: 'total', count: 100 });
    await fs.process.flush();
    expect(fs.process.arch.received).toBe(104);
    expect(await fs.readFile('tracing_on')).toBe('0\n');
    expect(await fs.readFile('kprobe_profile')).toMatch(/total +1300 +0\n/);
  });

  test('a hist is counted in the process alone; variables, and triggers of other events, are not left to it', async () => {
    const { fs, run } = await start(path, true);
    await fs.writeFile('kprobe_events', EVENTS);
    await fs.writeFile('events/shop/total/trigger', 'hist:keys=first:vals=small:size=128');
    await run({ op: 'total', count: 200 });
    expect(await fs.readFile('events/shop/total/hist')).toMatch(
      /Hits: 128\n {4}Entries: 128\n {4}Dropped: 72\n/,
    );
    expect(fs.process.arch.received).toBe(0);
    // It waits for a handle(): what it counts depends on what comes first.
    await fs.writeFile('events/shop/handle/trigger', 'enable_hist:shop:total');
    await fs.appendFile('events/shop/total/trigger', 'hist:keys=first:vals=small:size=128:pause');
    await run({ op: 'total', count: 10 });
    await run({ op: 'handle', count: 1 });
    await run({ op: 'total', count: 5 });
    const hist = await fs.readFile('events/shop/total/hist');
    expect(hist).toMatch(/Hits: 133\n {4}Entries: 128\n {4}Dropped: 72\n/);
    expect(hist).toMatch(/first: +4 \} hitcount: +2 +small: +8\n/);
    await fs.appendFile('events/shop/total/trigger', '!hist:keys=first:vals=small:size=128');
    const before = fs.process.arch.received;
    await fs.appendFile('events/shop/total/trigger', 'hist:keys=first:last=small');
    await run({ op: 'total', count: 7 });
    expect(await fs.readFile('events/shop/total/hist')).toMatch(/Hits: 7\n/);
    expect(fs.process.arch.received - before).toBe(7);
  });

  test('filters, hists, instances, sizes and snapshots that come and go under load: every hit is accounted for', async () => {
    const { fs, run, send } = await start(path, true);
    const event = 'events/shop/total';
    await run({ op: 'total', count: 1 });
    await fs.writeFile('kprobe_events', EVENTS);
    // Who sees every hit from the first to the last: a hist, and an instance that records all.
    await fs.writeFile(`${event}/trigger`, 'hist:keys=small:vals=first');
    await fs.mkdir('instances/all');
    await fs.writeFile('instances/all/buffer_size_kb', '64');
    await fs.writeFile(`instances/all/${event}/enable`, '1');
    await run({ op: 'total', count: 4 });
    await fs.readFile('trace');
    const first = fs.process.arch.received;
    expect(first).toBeGreaterThanOrEqual(3);
    const missed = 4 - first;
    const random = numbers(5);
    const pick = <T>(list: readonly T[]): T => list[random(list.length)] as T;
    let more = false;
    send({ op: 'storm', count: 20 });
    for (let step = 0; step < 30; step++) {
      switch (random(8)) {
        case 0:
          await fs.writeFile(`${event}/filter`, pick(FILTERS[0]));
          break;
        case 1:
          await fs.writeFile(`${event}/enable`, pick(['0', '1', '1']));
          break;
        case 2:
          await fs.appendFile(`${event}/trigger`, `${more ? '!' : ''}hist:keys=first`);
          more = !more;
          break;
        case 3:
          if (fs.exists('instances/few')) await fs.rmdir('instances/few');
          else {
            await fs.mkdir('instances/few');
            await fs.writeFile(`instances/few/${event}/filter`, 'first == 7');
            await fs.writeFile(`instances/few/${event}/enable`, '1');
          }
          break;
        case 4:
          await fs.writeFile('instances/all/buffer_size_kb', pick(['8', '32', '100']));
          break;
        case 5:
          await fs.writeFile('instances/all/snapshot', '1');
          break;
        case 6:
          await fs.readFile('instances/all/trace_pipe');
          break;
        default:
          await fs.readFile(`${event}/hist`);
      }
    }
    const { called } = (await run({ op: 'calm' })) as { called: number };
    expect(called).toBeGreaterThan(100);
    const hits = called + 4 - missed;
    const hist = (await fs.readFile(`${event}/hist`)).split('# event histogram')[1] as string;
    expect(hist).toContain('keys=small');
    expect(Number(/Hits: (\d+)/.exec(hist)?.[1])).toBe(hits);
    const counts = [...hist.matchAll(/hitcount: +(\d+)/g)].map(([, n]) => Number(n));
    expect(counts.reduce((sum, n) => sum + n, 0)).toBe(hits);
    // The instance's records: there, read, overwritten, in the snapshot, or lost on the way and reported.
    const tr = fs.process.tracing.instances.get('all');
    const stats = [tr?.buffer, tr?.snapshotBuffer].map((buffer) => buffer?.stats(0));
    const seen = stats.reduce(
      (sum, one) => sum + (one === undefined ? 0 : one.entries + one.overrun + one.readEvents),
      0,
    );
    expect(seen + fs.process.arch.lost).toBe(hits);
    expect(await fs.readFile('kprobe_profile')).toMatch(new RegExp(`total +${hits - fs.process.arch.lost} `));
  });

  test('values that are only read as they are, beside the same as registers hold them', async () => {
    const traced = await start(path, true);
    const { fs } = traced;
    await fs.writeFile(
      'kprobe_events',
      [
        'p:shop/text shop.cjs:label name=name:string price=price:string new=isNew:string',
        'p:shop/both shop.cjs:label price=price:string whole=price:s32 new=isNew:u8',
        'r:shop/given shop.cjs:label name=name->length:u32 text=$retval->length:u32',
      ].join('\n'),
    );
    await fs.writeFile('events/shop/enable', '1');
    await traced.run({ op: 'label', count: 2 });
    const lines = (await fs.readFile('trace')).split('\n').filter((line) => line.includes('label'));
    const of = (event: string): string[] =>
      lines.flatMap((line) => (line.includes(` ${event}: `) ? [line.slice(line.indexOf(') ') + 2)] : []));
    expect(of('text')).toEqual([
      'name="order 0" price="0.5" new="true"',
      'name="order 1" price="1.5" new="false"',
    ]);
    expect(of('both')).toEqual(['price="0.5" whole=0 new=1', 'price="1.5" whole=1 new=0']);
    expect(of('given')).toEqual(['name=7 text=19', 'name=7 text=14']);
  });

  test('a hist keeps what it has counted when the process is detached from, or has gone', async () => {
    const first = await start(path, true);
    await first.fs.writeFile('kprobe_events', EVENTS);
    await first.fs.writeFile('events/shop/total/trigger', 'hist:keys=owner');
    await first.run({ op: 'total', count: 300 });
    await first.fs.detach();
    expect(first.fs.sync.readFile('events/shop/total/hist')).toMatch(/Hits: 300\n/);
    let onGone: () => void = () => undefined;
    const gone = new Promise<void>((resolve) => {
      onGone = resolve;
    });
    const second = await start(path, true, onGone);
    await second.fs.writeFile('kprobe_events', EVENTS);
    await second.fs.writeFile('events/shop/total/trigger', 'hist:keys=owner');
    await second.run({ op: 'total', count: 300 });
    // unasked, twice a second
    while (!second.fs.sync.readFile('events/shop/total/hist').includes('Hits: 300\n'))
      await new Promise((resolve) => setTimeout(resolve, 20));
    second.send({ op: 'exit' });
    await gone;
    expect(await second.fs.readFile('events/shop/total/hist')).toMatch(/Hits: 300\n/);
  });
});
