import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { afterEach, describe, expect, test } from 'vitest';
import { attachTracefs, type ProcessTracefs } from '../../src/cli/attach-tracefs.ts';
import { nodeBinaries } from '../support/nodes.ts';

const ROUTES = fileURLToPath(new URL('fixtures/routes.cjs', import.meta.url));
const REGISTER = new URL('../../dist/register/index.js', import.meta.url).href;
const closers: (() => unknown)[] = [];

afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

async function start(
  node: string,
  flags: readonly string[] = [],
): Promise<{ child: ChildProcess; fs: ProcessTracefs }> {
  const child = spawn(node, ['--inspect-port=0', ...flags, ROUTES], {
    stdio: ['ignore', 'ignore', 'ignore', 'ipc'],
  });
  closers.push(() => child.kill('SIGKILL'));
  await once(child, 'message');
  const fs = await attachTracefs(child.pid as number, {
    maxPauseMs: 60_000,
    // a second tracer on a function whose binding still waits for its first call is an edit
    unsafe: true,
  });
  closers.push(() => fs.detach());
  return { child, fs };
}

async function run(child: ChildProcess, url: string, count: number): Promise<unknown> {
  const answer = once(child, 'message');
  child.send({ url, count });
  return (await answer)[0];
}

/** What stands in the column of functions, without the module. */
const calls = (trace: string): string[] =>
  trace
    .split('\n')
    .filter((line) => line !== '' && !line.startsWith('#'))
    .map((line) => line.replace(/^.*?\| {2}/, '').replace(/ \[[^\]]+\]/, ''));

describe.each(nodeBinaries())('function tracers on a process with Node $version', ({ path }) => {
  test('function_graph: calls nest as they did, none is lost, and the text is put back', async () => {
    const { child, fs } = await start(path);
    const before = await run(child, '/a', 1);
    // The calls that replace bindings of functions whose ends are followed go by unseen.
    await fs.writeFile('set_ftrace_filter', 'parse work store handle');
    await fs.writeFile('current_tracer', 'function_graph');
    expect((await fs.readFile('enabled_functions')).match(/\(1\)/g)).toHaveLength(4);
    const request = [
      'handle() {',
      '  parse();',
      '  work();',
      '  store();',
      '}',
      '/* store() settled */',
      '/* handle() settled */',
    ];
    const traced = async (count: number): Promise<string[]> => {
      await fs.writeFile('trace', '');
      await run(child, '/a/b', count);
      return calls(await fs.readFile('trace'));
    };
    // Until every binding is in place: a call that comes past one is seen to begin only.
    await expect.poll(() => traced(1), { timeout: 30_000 }).toEqual(request);
    const shown = await traced(1000);
    expect(shown).toHaveLength(1000 * request.length);
    for (let i = 0; i < shown.length; i += request.length)
      expect(shown.slice(i, i + request.length)).toEqual(request);
    await fs.writeFile('trace', '');
    expect(await run(child, '', 1)).toMatchObject({ failed: 1 });
    expect(calls(await fs.readFile('trace'))).toEqual([
      'handle() {',
      '  parse();',
      '  work();',
      '}',
      '/* handle() rejected */',
    ]);
    await fs.writeFile('current_tracer', 'nop');
    await fs.writeFile('trace', '');
    await run(child, '/a', 3);
    expect(calls(await fs.readFile('trace'))).toEqual([]);
    expect(await fs.readFile('enabled_functions')).toBe('');
    await fs.detach();
    expect(await run(child, '/a', 1)).toEqual(before);
  });

  test('function, and the profile of functions beside it, with exact counts', async () => {
    const { child, fs } = await start(path);
    await fs.writeFile('set_ftrace_filter', 'work parse');
    await fs.writeFile('current_tracer', 'function');
    await fs.writeFile('function_profile_enabled', '1');
    await run(child, '/a', 5);
    await fs.writeFile('function_profile_enabled', '0');
    await fs.writeFile('function_profile_enabled', '1');
    await fs.writeFile('trace', '');
    await run(child, '/a/b', 700);
    const trace = await fs.readFile('trace');
    expect(trace.match(/: (work|parse) \[[^ ]+ <-handle \[[^ ]*routes.cjs\]$/gm)).toHaveLength(1400);
    const rows = (await fs.readFile('trace_stat/function0')).split('\n').slice(2);
    expect(rows.map((row) => row.trim().split(/\s+/).slice(0, 2).join(' ')).sort()).toEqual([
      '',
      'parse 700',
      'work 700',
    ]);
  });

  test('a prepared process: entries first, then whole calls, then entries again, of every function of a file', async () => {
    const { child, fs } = await start(path, ['--import', REGISTER]);
    const shown = async (): Promise<string[]> => {
      await fs.writeFile('trace', '');
      await run(child, '/a/b', 2);
      return calls(await fs.readFile('trace')).map((line) => line.replace(/^.*: | \[.*\]$/g, ''));
    };
    await fs.writeFile('set_ftrace_filter', 'handle store');
    await fs.writeFile('current_tracer', 'function');
    expect(await shown()).toEqual(['handle', 'store', 'handle', 'store']);
    await fs.writeFile('current_tracer', 'function_graph');
    const request = ['handle() {', '  store();', '}', '/* store() settled */', '/* handle() settled */'];
    expect(await shown()).toEqual([...request, ...request]);
    await fs.writeFile('current_tracer', 'function');
    expect(await shown()).toEqual(['handle', 'store', 'handle', 'store']);
    await fs.writeFile('current_tracer', 'nop');
    // The same of probe events.
    await fs.writeFile('kprobe_events', 'p:shop/in handle\nr:shop/out handle\n');
    await fs.writeFile('events/shop/in/enable', '1');
    await run(child, '/a', 2);
    await fs.writeFile('events/shop/out/enable', '1');
    await run(child, '/a', 3);
    const hits = (await fs.readFile('kprobe_profile')).match(/\d+/g);
    expect(hits).toEqual(['5', '0', '3', '0']);
  });

  test('stacks of probe events: option, trigger, hist keys', async () => {
    const { child, fs } = await start(path);
    await fs.writeFile('kprobe_events', 'p:shop/in routes.cjs:work\nr:shop/out routes.cjs:parse\n');
    await fs.writeFile('events/shop/enable', '1');
    await run(child, '/a/b', 2);
    expect(await fs.readFile('trace')).not.toContain('<stack trace>');
    await fs.writeFile('options/stacktrace', '1');
    await fs.writeFile('trace', '');
    await run(child, '/a/b', 10);
    const lines = calls(await fs.readFile('trace')).map((line) => line.replace(/^.*: | \[[^\]]+\]/g, ''));
    const stacks = lines.join('\n').split(/\n(?=\()/);
    expect(stacks).toHaveLength(20);
    for (const stack of stacks) {
      const [name] = /work|parse/.exec(stack) ?? [];
      expect(stack).toMatch(new RegExp(`\\n<stack trace>\\n => ${name}\\n => handle\\n`));
    }
    await fs.writeFile('options/stacktrace', '0');
    await fs.writeFile('trace', '');
    await fs.writeFile('events/shop/in/trigger', 'stacktrace:3');
    await fs.writeFile('events/shop/out/trigger', 'hist:keys=common_stacktrace');
    await run(child, '/a/b', 5);
    const trace = await fs.readFile('trace');
    expect(trace.match(/<stack trace>\n => work \[.*routes.cjs\]\n => handle \[/g)).toHaveLength(3);
    expect(trace.match(/: in: /g)).toHaveLength(5);
    const hist = await fs.readFile('events/shop/out/hist');
    expect(hist).toMatch(/\{ common_stacktrace:\n +parse\+0x0\/0x[0-9a-f]+ \[.*routes.cjs\]\n +handle\+/);
    expect(hist).toMatch(/Hits: 5\n/);
    await fs.writeFile('events/shop/in/trigger', '!stacktrace');
    await fs.writeFile('trace', '');
    await run(child, '/a', 1);
    expect(await fs.readFile('trace')).not.toContain('<stack trace>');
  });

  test('stacks of synthetic events are those of the hits that made them', async () => {
    const { child, fs } = await start(path);
    await fs.writeFile('kprobe_events', 'p:shop/begin routes.cjs:parse\np:shop/end routes.cjs:work\n');
    await fs.writeFile('synthetic_events', 'took u64 ns');
    await fs.writeFile('events/shop/begin/trigger', 'hist:keys=common_pid:ts0=common_timestamp');
    const end = 'hist:keys=common_pid:ns=common_timestamp-$ts0:onmatch(shop.begin).trace(took,$ns)';
    await fs.writeFile('events/shop/end/trigger', end);
    await fs.writeFile('events/synthetic/took/enable', '1');
    const traced = async (count: number): Promise<string> => {
      await fs.writeFile('trace', '');
      await run(child, '/a/b', count);
      return await fs.readFile('trace');
    };
    // Until both functions are armed.
    await expect.poll(async () => (await traced(1)).match(/: took: ns=\d+\n/g)).toHaveLength(1);
    const stack = /<stack trace>\n => work \[.*routes.cjs\]\n => handle \[.*routes.cjs\]\n/g;
    expect(await traced(3)).not.toContain('<stack trace>');
    await fs.writeFile('events/synthetic/took/trigger', 'stacktrace:2');
    const two = await traced(3);
    expect(two.match(/: took: /g)).toHaveLength(3);
    expect(two.match(stack)).toHaveLength(2);
    await fs.writeFile('events/synthetic/took/trigger', '!stacktrace:2');
    expect(await traced(2)).not.toContain('<stack trace>');
    await fs.writeFile('options/stacktrace', '1');
    expect((await traced(4)).match(stack)).toHaveLength(4);
    await fs.writeFile('options/stacktrace', '0');
    await fs.writeFile('events/synthetic/took/trigger', 'hist:keys=common_stacktrace');
    await run(child, '/a/b', 5);
    const hist = await fs.readFile('events/synthetic/took/hist');
    // The first call has the message's frames below it, too.
    const keys = hist.match(/common_stacktrace:\n +work\+0x0\/0x\S+ \[.*routes.cjs\]\n +handle\+/g);
    expect(keys).toHaveLength(Number(/Entries: (\d+)/.exec(hist)?.[1]));
    expect(hist).toContain('Hits: 5\n');
    await fs.writeFile('events/synthetic/took/trigger', '!hist:keys=common_stacktrace');
    // Of a probe on the synthetic event.
    await fs.appendFile('dynamic_events', 'e:mine/again synthetic.took ns=$ns:u64');
    await fs.writeFile('events/mine/again/enable', '1');
    await fs.writeFile('events/mine/again/trigger', 'stacktrace');
    const again = await traced(2);
    expect(again.match(stack)).toHaveLength(2);
    expect(again.match(/: again: \(synthetic\.took\) ns=\d+\n/g)).toHaveLength(2);
    await fs.writeFile('events/mine/again/trigger', '!stacktrace');
    expect(await traced(1)).not.toContain('<stack trace>');
    await fs.writeFile('events/shop/end/trigger', `!${end}`);
    expect(await traced(1)).not.toContain('took: ');
  });

  test('a field of a synthetic event holds the stack of the hit that a variable kept', async () => {
    const { child, fs } = await start(path);
    await fs.writeFile('kprobe_events', 'p:shop/begin routes.cjs:work\np:shop/end routes.cjs:store\n');
    await fs.writeFile('synthetic_events', 'slow u64 ns; unsigned long[] from');
    await fs.writeFile(
      'events/shop/begin/trigger',
      'hist:keys=common_pid:ts0=common_timestamp,s=common_stacktrace',
    );
    await fs.writeFile(
      'events/shop/end/trigger',
      'hist:keys=common_pid:ns=common_timestamp-$ts0,kept=$s:onmatch(shop.begin).trace(slow,$ns,$kept)',
    );
    await fs.writeFile('events/synthetic/slow/enable', '1');
    const traced = async (count: number): Promise<string> => {
      await fs.writeFile('trace', '');
      await run(child, '/a/b', count);
      return await fs.readFile('trace');
    };
    await expect.poll(async () => (await traced(1)).match(/: slow: /g)).toHaveLength(1);
    const found = (await traced(3)).match(
      /: slow: ns=\d+ from=STACK:\n=> work\+0x0\/0x\S+ \[.*routes.cjs\]\n=> handle\+\S+ \[.*routes.cjs\]\n/g,
    );
    expect(found).toHaveLength(3);
  });

  test('stacks lead to the application and into Node, and returned values are shown', async () => {
    const { child, fs } = await start(path);
    await fs.writeFile('set_ftrace_filter', 'work parse');
    await fs.writeFile('current_tracer', 'function');
    await fs.writeFile('options/func_stack_trace', '1');
    await run(child, '/a/b/c', 20);
    const stacks = calls(await fs.readFile('trace'))
      .map((line) => line.replace(/^.*: | \[[^\]]+\]/g, ''))
      .join('\n')
      .split(/^(?=work|parse)/m);
    expect(stacks).toHaveLength(40);
    // The first call is of the listener, the others go on where a promise was awaited.
    expect(stacks[0]).toMatch(/^parse <-handle.*\n<stack trace>\n => parse\n => handle\n(.*\n)* => .*emit\n/);
    for (const [n, stack] of stacks.entries())
      expect(stack).toMatch(n % 2 === 0 ? /\n => parse\n => handle\n/ : /\n => work\n => handle\n/);
    await fs.writeFile('options/func_stack_trace', '0');
    await fs.writeFile('set_ftrace_filter', 'work');
    await fs.writeFile('options/func-no-repeats', '1');
    await fs.writeFile('trace', '');
    await run(child, '/a', 20);
    await fs.writeFile('set_ftrace_filter', 'parse work');
    await run(child, '/a', 1);
    const shown = calls(await fs.readFile('trace')).map((line) =>
      line.replace(/^.*?: | \[[^\]]+\]|, last_ts.*/g, ''),
    );
    expect(shown).toEqual(['work <-handle', 'work <-handle (repeats: 19', 'parse <-handle', 'work <-handle']);
    await fs.writeFile('options/func-no-repeats', '0');
    await fs.writeFile('set_ftrace_filter', 'work');
    await fs.writeFile('current_tracer', 'function_graph');
    await fs.writeFile('options/funcgraph-retval', '1');
    // Until the binding is in place whose calls are followed to their ends with what they return.
    const traced = async (url: string): Promise<string[]> => {
      await fs.writeFile('trace', '');
      await run(child, url, 1);
      return calls(await fs.readFile('trace'));
    };
    await expect.poll(() => traced('/a/b/c/d'), { timeout: 30_000 }).toEqual(['work(); /* = 0x3 */']);
    expect(await traced('/a/b/c')).toEqual(['work(); /* = 0x1 */']);
  });

  test('loopstall keeps the callback that took longest', async () => {
    const { child, fs } = await start(path);
    await fs.writeFile('set_ftrace_filter', 'handle parse work');
    await fs.writeFile('current_tracer', 'loopstall');
    const longest = async (): Promise<string> => (await fs.readFile('trace')).replace(/^#.*\n/gm, '');
    // Until the calls go by the bindings that follow them to their ends.
    await expect
      .poll(
        async () => {
          await fs.writeFile('tracing_max_latency', '0');
          await run(child, '/'.repeat(100_000), 1);
          return longest();
        },
        { timeout: 30_000 },
      )
      .toMatch(/: handle .*\n.*: parse .* <-handle .*\n.*: work .* <-handle .*\n.*: handle /);
    await fs.writeFile('tracing_max_latency', '0');
    await run(child, '/'.repeat(2_000_000), 1);
    const stall = Number(await fs.readFile('tracing_max_latency'));
    expect(stall).toBeGreaterThan(1000);
    const shown = await longest();
    // The file cuts, lines round.
    const end = Number(/(\d+)us[^\n]*\n$/.exec(shown)?.[1]);
    expect([stall, stall + 1]).toContain(end);
    await run(child, '/a/b', 100);
    expect(await longest()).toBe(shown);
  });

  test('a command switches tracing off at a call', async () => {
    const { child, fs } = await start(path);
    await fs.writeFile('set_ftrace_filter', 'work:traceoff');
    await run(child, '/a', 1);
    expect(await fs.readFile('tracing_on')).toBe('0\n');
  });
});
