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

interface Answer {
  readonly sent: number;
  readonly thrown: number;
  readonly text: number;
}

class Shop {
  readonly child: ChildProcess;
  readonly pid: number;

  constructor(child: ChildProcess) {
    this.child = child;
    this.pid = child.pid as number;
  }

  static async start(node: string): Promise<Shop> {
    const child = spawn(node, ['--inspect-port=0', SHOP], { stdio: ['ignore', 'ignore', 'ignore', 'ipc'] });
    closers.push(() => child.kill('SIGKILL'));
    await once(child, 'message');
    return new Shop(child);
  }

  async run(op: string, count: number, more: { from?: number; url?: string } = {}): Promise<Answer> {
    const answer = once(this.child, 'message');
    this.child.send({ op, count, ...more });
    return (await answer)[0] as Answer;
  }

  async trace(options: Parameters<typeof attachTracefs>[1] = {}): Promise<ProcessTracefs> {
    const fs = await attachTracefs(this.pid, { maxPauseMs: 60_000, ...options });
    closers.push(() => fs.detach());
    return fs;
  }
}

/** What stands behind `event: ` in the lines of a trace file. */
function events(trace: string, name: string): string[] {
  return trace.split('\n').flatMap((line) => {
    const at = line.indexOf(`: ${name}: `);
    return line.startsWith('#') || at < 0 ? [] : [line.slice(at + name.length + 4)];
  });
}

describe.each(nodeBinaries())('the tracing folder of a process with Node $version', ({ path }) => {
  test('probe events: N calls are N records with their values; disabling and removing end them', async () => {
    const shop = await Shop.start(path);
    const before = await shop.run('handle', 1);
    const fs = await shop.trace();
    await fs.writeFile(
      'kprobe_events',
      'p:shop/req shop.cjs:handle url=$arg1->url:string host=$arg1->headers->host:string length=$arg1->headers.length:u32 amount=amount:s64\n',
    );
    expect(await fs.readFile('events/shop/req/format')).toContain('field:__data_loc char[] url;');
    expect((await shop.run('handle', 3)).sent).toBe(3);
    expect(events(await fs.readFile('trace'), 'req')).toEqual([]);
    await fs.writeFile('events/shop/req/enable', '1');
    await shop.run('handle', 1000, { from: 5 });
    const lines = events(await fs.readFile('trace'), 'req');
    expect(lines).toHaveLength(1000);
    for (const [i, line] of lines.entries()) {
      const n = i + 5;
      expect(line).toMatch(/^\(handle\+0x0\/0x[0-9a-f]+/);
      expect(line.slice(line.indexOf(') ') + 2)).toBe(
        `url="/order/${n}" host="shop.test" length=${n} amount=${-n}`,
      );
    }
    expect(await fs.readFile('kprobe_profile')).toMatch(/req\s+1000\s+0/);
    await fs.writeFile('events/shop/req/enable', '0');
    await shop.run('handle', 10);
    expect(events(await fs.readFile('trace'), 'req')).toHaveLength(1000);
    // again, without arming anew
    await fs.writeFile('trace', '');
    await fs.writeFile('events/shop/req/enable', '1');
    await shop.run('handle', 7, { url: '/throw' });
    expect(events(await fs.readFile('trace'), 'req')).toHaveLength(7);
    await expect(fs.writeFile('kprobe_events', '')).rejects.toMatchObject({ code: 'EBUSY' });
    await fs.writeFile('events/enable', '0');
    await fs.writeFile('kprobe_events', '');
    expect(fs.exists('events/shop')).toBe(false);
    await fs.detach();
    expect(await shop.run('handle', 1)).toEqual(before);
  });

  test('return events carry the result and the arguments; a call that throws ends with an error', async () => {
    const shop = await Shop.start(path);
    await shop.run('handle', 1);
    const fs = await shop.trace();
    await fs.writeFile(
      'kprobe_events',
      'r:ret shop.cjs:handle result=$retval:s64 amount=$arg3 error=%r11:u64\n',
    );
    await fs.appendFile('kprobe_events', 'p:call shop.cjs:handle amount=%dx:s32 url=$arg1->url:string\n');
    await fs.writeFile('events/kprobes/call/enable', '1');
    await shop.run('handle', 5);
    await fs.writeFile('events/kprobes/ret/enable', '1');
    await shop.run('handle', 5);
    await shop.run('handle', 3, { url: '/throw' });
    const trace = await fs.readFile('trace');
    expect(events(trace, 'call')).toHaveLength(13);
    const results = events(trace, 'ret').map(
      (line) => /result=(-?\d+) amount=(\S+) error=(\d+)/.exec(line)?.slice(1) as [string, string, string],
    );
    expect(results).toHaveLength(8);
    for (const [i, [result, amount, error]] of results.entries()) {
      const n = i % 5;
      expect(BigInt(amount)).toBe(BigInt.asUintN(64, BigInt(-n)));
      expect(BigInt(result)).toBe(i < 5 ? BigInt(-2 * n) : 0n);
      expect(error !== '0').toBe(i >= 5);
    }
  });

  test('filters, hist triggers and instances work on what the process sends', async () => {
    const shop = await Shop.start(path);
    await shop.run('total', 1);
    const fs = await shop.trace();
    await fs.writeFile(
      'kprobe_events',
      'p:shop/total shop.cjs:total first=cart->prices.0:u32 owner=cart->owner.name:string\n',
    );
    await fs.mkdir('instances/few');
    await fs.writeFile('instances/few/events/shop/total/filter', 'first & 1 || owner == "owner 4"');
    await fs.writeFile('instances/few/events/shop/total/enable', '1');
    await fs.writeFile('events/shop/total/trigger', 'hist:keys=owner:vals=first');
    await shop.run('total', 10);
    await shop.run('total', 2, { from: 3 });
    const found = events(await fs.readFile('instances/few/trace'), 'total');
    expect(found.map((line) => Number(/first=(\d+)/.exec(line)?.[1]))).toEqual([1, 3, 4, 5, 7, 9, 3, 4]);
    const hist = await fs.readFile('events/shop/total/hist');
    expect(hist).toMatch(/owner: owner 3 +\} hitcount: +2 +first: +6\n/);
    expect(hist).toMatch(/Hits: 12\n +Entries: 10\n/);
    expect(await fs.readFile('trace')).not.toContain('total:');
  });

  test('a probe on a module that is not there yet waits for it', async () => {
    const shop = await Shop.start(path);
    const fs = await shop.trace();
    await fs.writeFile('kprobe_events', 'p:shop/late late.cjs:late id=%si:s32');
    await fs.writeFile('events/shop/late/enable', '1');
    await shop.run('late', 1);
    expect(events(await fs.readFile('trace'), 'late')).toEqual([]);
    await fs.refresh();
    await shop.run('late', 3, { from: 7 });
    const found = events(await fs.readFile('trace'), 'late');
    expect(found.map((line) => /\+0x0\/0x\w+.* id=(\d+)$/.exec(line)?.[1])).toEqual(['7', '8', '9']);
  });

  test('a module that comes by itself: its probes are armed, its functions traced', async () => {
    const shop = await Shop.start(path);
    const fs = await shop.trace({ watchModules: true });
    await fs.writeFile('kprobe_events', 'p:shop/late late.cjs:late id=%si:s32');
    await fs.writeFile('events/shop/late/enable', '1');
    await fs.writeFile('set_ftrace_filter', ':mod:late.cjs');
    await fs.appendFile('set_ftrace_filter', ' total');
    await fs.appendFile('set_ftrace_filter', ' no*:mod:never.cjs');
    const filter = async (): Promise<string> =>
      (await fs.readFile('set_ftrace_filter')).replace(/\[.*!/g, '[');
    expect(await filter()).toBe('total [shop.cjs]\nno*:mod:never.cjs\n:mod:late.cjs\n');
    await expect(fs.appendFile('set_ftrace_filter', ' no*:mod:shop.cjs\n')).rejects.toThrow();
    await fs.appendFile('set_ftrace_filter', ' !no*:mod:never.cjs');
    expect(events(await fs.readFile('trace'), 'late')).toEqual([]);
    await shop.run('late', 1);
    // Node tells that the module was loaded, and then its functions are looked for.
    let found: string[] = [];
    for (let n = 10; found.length === 0 && n < 500; n++) {
      await shop.run('late', 1, { from: n });
      found = events(await fs.readFile('trace'), 'late');
    }
    await shop.run('late', 2, { from: 1000 });
    found = events(await fs.readFile('trace'), 'late');
    expect(found.map((line) => / id=(\d+)$/.exec(line)?.[1]).slice(-2)).toEqual(['1000', '1001']);
    expect(await filter()).toBe('total [shop.cjs]\nlate [late.cjs]\n');
    expect((await fs.detach()).failures).toEqual([]);
  });

  test('arguments beyond the sixth, strings that are cut, values that are not there', async () => {
    const shop = await Shop.start(path);
    const fs = await shop.trace();
    await fs.writeFile(
      'kprobe_events',
      'p:shop/in shop.cjs:many n=seventh:s32 s=$arg8:string none=$arg8->no.way:string zero=$arg8->no:u32 len=eighth->length:u8 c=$comm at=@0:u32\n',
    );
    await fs.appendFile('kprobe_events', 'r:shop/out shop.cjs:many text=$retval:string same=$retval\n');
    await fs.writeFile('events/shop/enable', '1');
    await shop.run('many', 1, { from: 300, url: 'käse' });
    const trace = await fs.readFile('trace');
    const [entry] = events(trace, 'in');
    expect(entry).toMatch(/ n=-300 s="käse" none=\(fault\) zero=0 len=4 c="\S+" at=0$/);
    const [end] = events(trace, 'out');
    expect(/text="(x*)"/.exec(end ?? '')?.[1]).toHaveLength(255);
  });

  test('an argument as a number and as text, with others as text and beside what a call returns', async () => {
    const shop = await Shop.start(path);
    const fs = await shop.trace();
    await fs.writeFile(
      'kprobe_events',
      'p:shop/in shop.cjs:label n=$arg2:s32 s=$arg2:string name=name:string is=isNew:string last=$arg3:u8\n',
    );
    await fs.appendFile('kprobe_events', 'r:shop/out shop.cjs:label text=$retval:string n=$arg2:s32\n');
    await fs.writeFile('events/shop/enable', '1');
    await shop.run('label', 3, { from: 4 });
    const trace = await fs.readFile('trace');
    expect(events(trace, 'in').map((line) => line.slice(line.indexOf(' n=') + 1))).toEqual([
      'n=4 s="4.5" name="order 4" is="true" last=1',
      'n=5 s="5.5" name="order 5" is="false" last=0',
      'n=6 s="6.5" name="order 6" is="true" last=1',
    ]);
    expect(events(trace, 'out').map((line) => line.slice(line.indexOf(' text=') + 1))).toEqual([
      'text="order 4 at 4.5, new" n=4',
      'text="order 5 at 5.5" n=5',
      'text="order 6 at 6.5, new" n=6',
    ]);
  });

  test('what was recorded stays readable behind a detach, and when the process has gone', async () => {
    const shop = await Shop.start(path);
    const first = await shop.trace();
    await first.writeFile('kprobe_events', 'p:shop/req shop.cjs:handle');
    await first.writeFile('events/shop/req/enable', '1');
    await shop.run('handle', 4);
    await first.detach();
    await shop.run('handle', 4);
    expect(events(await first.readFile('trace'), 'req')).toHaveLength(4);
    let onGone: (reason: string) => void = () => undefined;
    const gone = new Promise<string>((resolve) => {
      onGone = resolve;
    });
    const second = await shop.trace({ onGone: (reason) => onGone(reason) });
    await second.writeFile('kprobe_events', 'p:shop/req shop.cjs:handle');
    await second.writeFile('events/shop/req/enable', '1');
    await shop.run('handle', 2);
    await second.readFile('trace');
    shop.child.send({ op: 'exit' });
    await gone;
    expect(events(await second.readFile('trace'), 'req')).toHaveLength(2);
  });

  test('what cannot be is refused, and nothing is left of it', async () => {
    const shop = await Shop.start(path);
    const fs = await shop.trace();
    for (const definition of [
      'p:shop/x shop.cjs:nothing',
      'p:shop/x shop.cjs:handle+4',
      'p:shop/x shop.cjs:handle url=$arg9->url:string',
      'p:shop/x shop.cjs:handle url=$arg1->url:strin',
    ]) {
      await expect(fs.writeFile('kprobe_events', definition), definition).rejects.toMatchObject({
        code: expect.stringMatching(/^E/),
      });
    }
    expect(await fs.readFile('kprobe_events')).toBe('');
    expect(await fs.readFile('error_log')).toContain('trace_kprobe: error: ');
    expect(fs.exists('events/shop')).toBe(false);
    // Within a function there is no place: the kernel's messages, and where in the command.
    await fs.writeFile('error_log', '');
    for (const [definition, code] of [
      ['p:shop/x shop.cjs:handle+4', 'EILSEQ'],
      ['r:shop/x shop.cjs:handle+4', 'EINVAL'],
      ['p:shop/x shop.cjs:handle+0x100000', 'ENOENT'],
    ] as const)
      await expect(fs.writeFile('kprobe_events', definition), definition).rejects.toMatchObject({ code });
    expect((await fs.readFile('error_log')).replace(/^\[.*?\] /gm, '')).toBe(
      [
        'trace_kprobe: error: Probe point is not an instruction boundary\n  Command: p:shop/x shop.cjs:handle+4\n                    ^\n',
        'trace_kprobe: error: Retprobe address must be an function entry\n  Command: r:shop/x shop.cjs:handle+4\n                    ^\n',
        'trace_kprobe: error: Invalid probed address or symbol\n  Command: p:shop/x shop.cjs:handle+0x100000\n                    ^\n',
      ].join(''),
    );
  });

  test('a probe that cannot be armed says so, in error_log too', async () => {
    const shop = await Shop.start(path);
    const fs = await shop.trace({ way: 'nop' });
    await fs.writeFile('kprobe_events', 'p:shop/req shop.cjs:handle');
    await expect(fs.writeFile('events/shop/req/enable', '1')).rejects.toMatchObject({ code: 'EARM' });
    expect(await fs.readFile('error_log')).toMatch(/Command: \S*shop\.cjs:handle\n/);
    expect((await shop.run('handle', 2)).sent).toBe(2);
  });
});
