import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterEach, describe, expect, test } from 'vitest';
import { attachTracefs, type ProcessTracefs } from '../../src/cli/attach-tracefs.ts';
import { fixture, root, startService, stopAll } from '../e2e/support.ts';
import { nodeBinaries } from '../support/nodes.ts';

const opened: ProcessTracefs[] = [];

afterEach(async () => {
  for (const fs of opened.splice(0)) await fs.detach();
  await stopAll();
});

async function open(pid: number, inTarget = true): Promise<ProcessTracefs> {
  const fs = await attachTracefs(pid, { maxPauseMs: 60_000, inTarget });
  opened.push(fs);
  return fs;
}

/** What stands behind `event: ` in the lines of a trace file. */
function records(trace: string, name: string): string[] {
  return trace.split('\n').flatMap((line) => {
    const at = line.indexOf(`: ${name}: `);
    return line.startsWith('#') || at < 0 ? [] : [line.slice(at + name.length + 4)];
  });
}

const library = pathToFileURL(path.join(root, 'dist/index.js')).href;
const END = 'events/http/server_request_end';

describe.each(nodeBinaries())(
  'events of a process in its tracing folder, Node $version',
  ({ path: node }) => {
    test.each([true, false])('formats, set_event, filters and hists (inTarget %s)', async (inTarget) => {
      const service = await startService({ node, file: fixture('events.cjs') });
      const before = await service.ask('state');
      const fs = await open(service.pid, inTarget);
      expect(await fs.readFile(`${END}/format`)).toContain(
        'print fmt: "id=%llu method=%s url=%s status=%u bytes=%llu duration=%llu", REC->id, __get_str(method), __get_str(url), REC->status, REC->bytes, REC->duration',
      );
      expect(fs.readdir('events/http')).toContain('client_request_error');
      expect(await fs.readFile('available_events')).toContain('fs:op_end\n');
      await fs.writeFile('set_event', 'http:server_request_start\nhttp:server_request_end\n');
      expect(await fs.readFile(`${END}/enable`)).toBe('1\n');
      await fs.writeFile('events/http/server_request_start/filter', 'url ~ "*7" && method == "GET"');
      await fs.writeFile('events/http/server_request_headers/trigger', 'hist:keys=status:vals=hitcount');
      for (let i = 0; i < 20; i++) await service.get(`/order/${i}`);
      await service.get('/broken');
      // a response is finished a moment after its client has it
      await service.ask('wait', { ms: 50 });
      const trace = await fs.readFile('trace');
      expect(records(trace, 'server_request_start')).toEqual([
        'id=8 method=GET url=/order/7 remote_address=127.0.0.1',
        'id=18 method=GET url=/order/17 remote_address=127.0.0.1',
      ]);
      const ends = records(trace, 'server_request_end');
      expect(ends).toHaveLength(21);
      expect(ends[20]).toMatch(/^id=21 method=GET url=\/broken status=500 bytes=\d+ duration=[1-9]\d+$/);
      const hist = await fs.readFile('events/http/server_request_headers/hist');
      expect(hist).toMatch(/\{ status: +200 \} hitcount: +20\n/);
      expect(hist).toMatch(/\{ status: +500 \} hitcount: +1\n/);
      await fs.writeFile('set_event', '');
      await service.get('/order/21');
      expect(records(await fs.readFile('trace'), 'server_request_end')).toHaveLength(21);
      expect((await fs.detach()).failures).toEqual([]);
      expect(await service.ask('state')).toEqual(before);
    });

    test('the time between two events by hist triggers alone', async () => {
      const service = await startService({ node, file: fixture('events.cjs') });
      const fs = await open(service.pid);
      await fs.writeFile(
        'events/http/server_request_start/trigger',
        'hist:keys=id:ts0=common_timestamp.usecs',
      );
      await fs.appendFile('synthetic_events', 'served u64 id; u64 us\n');
      await fs.writeFile(
        `${END}/trigger`,
        'hist:keys=id:us=common_timestamp.usecs-$ts0:onmatch(http.server_request_start).served(id,$us)',
      );
      await fs.writeFile('events/synthetic/served/enable', '1');
      for (let i = 0; i < 5; i++) await service.get(`/order/${i}`);
      await service.ask('wait', { ms: 50 });
      const served = records(await fs.readFile('trace'), 'served');
      expect(served).toHaveLength(5);
      expect(served[4]).toMatch(/^id=5 us=\d+$/);
    });

    test('events of the application, those that it defines later, too', async () => {
      const service = await startService({ node, file: fixture('events.cjs') });
      const fs = await open(service.pid);
      expect(fs.exists('events/shop')).toBe(false);
      await service.ask('define', { library });
      await fs.refresh();
      await fs.writeFile('events/shop/checkout/filter', 'total < -1');
      await fs.writeFile('events/shop/checkout/enable', '1');
      expect(await service.ask('checkout', { times: 4 })).toBe(true);
      expect(records(await fs.readFile('trace'), 'checkout')).toEqual([
        'id=3 sku=sku-2 total=-2',
        'id=4 sku=sku-0 total=-3',
      ]);
      await fs.writeFile('events/shop/checkout/enable', '0');
      expect(await service.ask('checkout', { times: 1 })).toBe(false);
      await fs.writeFile('events/shop/checkout/filter', '0');
      await fs.writeFile('events/shop/checkout/enable', '1');
      expect(await service.ask('checkout', { times: 1 })).toBe(true);
      expect(records(await fs.readFile('trace'), 'checkout')).toHaveLength(3);
    });
  },
);

const T_PROBES = [
  't:mine/seen shop:checkout id=id $arg2 left=total:s8',
  't:mine/start http:server_request_start url=url verb=$arg2:string',
  't:mine/said events.test text=message->text:string i=$arg1->i name',
  't:mine/raw rawtracepoint:events.test i=$arg1->i:u8',
].join('\n');

describe.each(nodeBinaries())('e probes on events of a process, Node $version', ({ path: node }) => {
  test.each([
    ['trigger', true],
    ['option', true],
    ['trigger', false],
  ])('have the stack of the event, by a %s (inTarget %s)', async (by, inTarget) => {
    const service = await startService({ node, file: fixture('events.cjs') });
    await service.ask('define', { library });
    const fs = await open(service.pid, inTarget);
    await fs.writeFile('dynamic_events', 'e:mine/order shop.checkout number=$id:u32');
    await fs.writeFile('events/mine/order/enable', '1');
    await service.ask('checkout', { times: 1 });
    // Nobody wanted that one's.
    expect(await fs.readFile('trace')).not.toContain('<stack trace>');
    if (by === 'trigger') await fs.writeFile('events/mine/order/trigger', 'stacktrace');
    else await fs.writeFile('options/stacktrace', '1');
    await service.ask('checkout', { times: 2 });
    const trace = await fs.readFile('trace');
    expect(records(trace, 'order')).toEqual([1, 2, 3].map((id) => `(shop.checkout) number=${id}`));
    expect(trace.match(/<stack trace>/g)).toHaveLength(2);
    expect(trace).toMatch(/ => \S*checkout \[events\.cjs\]\n/);
    // A trigger keeps the event running.
    if (by === 'trigger') await fs.writeFile('events/mine/order/trigger', '!stacktrace');
    await fs.writeFile('events/mine/order/enable', '0');
    expect(await service.ask('checkout', { times: 1 })).toBe(false);
  });
});

describe.each(nodeBinaries())('t probes on tracepoints of a process, Node $version', ({ path: node }) => {
  test.each([true, false])('events, channels, filters, hists (inTarget %s)', async (inTarget) => {
    const service = await startService({ node, file: fixture('events.cjs') });
    await service.ask('define', { library });
    const before = await service.ask('state');
    const fs = await open(service.pid, inTarget);
    await fs.writeFile('dynamic_events', T_PROBES);
    expect(await fs.readFile('dynamic_events')).toBe(
      [
        't:mine/seen shop:checkout id=id sku=sku left=total:s8',
        't:mine/start http:server_request_start url=url verb=$arg2:string',
        't:mine/said events.test text=message->text:string i=$arg1->i name=name',
        't:mine/raw rawtracepoint:events.test i=$arg1->i:u8',
        '',
      ].join('\n'),
    );
    const format = await fs.readFile('events/mine/seen/format');
    expect(format).toContain('field:u64 id;\toffset:16;\tsize:8;\tsigned:0;');
    expect(format).toContain('field:__data_loc char[] sku;\toffset:24;\tsize:4;');
    expect(format).toContain('field:s8 left;\toffset:28;\tsize:1;\tsigned:1;');
    await fs.writeFile('events/mine/seen/filter', 'sku != "sku-1"');
    await fs.writeFile('events/mine/said/trigger', 'hist:keys=text');
    await fs.writeFile('events/mine/enable', '1');
    await service.ask('checkout', { times: 3 });
    await service.ask('publish', { times: 2 });
    await service.get('/order/9');
    const trace = await fs.readFile('trace');
    expect(records(trace, 'seen')).toEqual([
      '(shop:checkout+0x0/0x1) id=1 sku="sku-0" left=0',
      '(shop:checkout+0x0/0x1) id=3 sku="sku-2" left=-2',
    ]);
    expect(records(trace, 'start')).toEqual([
      '(http:server_request_start+0x0/0x1) url="/order/9" verb="GET"',
    ]);
    expect(records(trace, 'said')).toEqual([
      '(events.test+0x0/0x1) text="message 0" i=0 name="events.test"',
      '(events.test+0x0/0x1) text="message 1" i=1 name="events.test"',
    ]);
    expect(records(trace, 'raw')).toEqual(['(events.test+0x0/0x1) i=0', '(events.test+0x0/0x1) i=1']);
    expect(await fs.readFile('events/mine/said/hist')).toMatch(/\{ text: message 1 +\} hitcount: +1\n/);
    await fs.writeFile('events/mine/enable', '0');
    await fs.writeFile('events/mine/said/trigger', '!hist:keys=text');
    await fs.writeFile('dynamic_events', '');
    await service.ask('publish', { times: 2 });
    expect((await fs.detach()).failures).toEqual([]);
    expect(await service.ask('state')).toEqual(before);
  });

  test('one that is defined later, refusals', async () => {
    const service = await startService({ node, file: fixture('events.cjs') });
    const fs = await open(service.pid);
    await fs.writeFile('dynamic_events', 't:mine/later shop:checkout');
    await fs.writeFile('events/mine/later/enable', '1');
    await service.ask('define', { library });
    await service.ask('checkout', { times: 1 });
    await fs.refresh();
    await service.ask('checkout', { times: 2 });
    expect(records(await fs.readFile('trace'), 'later')).toHaveLength(2);
    const refused = async (definition: string, caret: string): Promise<void> => {
      await expect(fs.appendFile('dynamic_events', `${definition}\n`)).rejects.toThrow();
      expect(await fs.readFile('error_log')).toContain(`Command: ${definition}\n${caret}`);
    };
    const under = (definition: string, what: string): string =>
      `${' '.repeat('  Command: '.length + definition.indexOf(what))}^`;
    for (const [definition, what] of [
      ['t:mine/bad shop:checkout nothing', 'nothing'],
      ['t:mine/bad shop:checkout%return', '%'],
      ['t:mine/bad bad/name', '/name'],
    ] as const)
      await refused(definition, under(definition, what));
  });
});

test.each([true, false])('stacks of tracepoints (inTarget %s)', async (inTarget) => {
  const service = await startService({ file: fixture('events.cjs') });
  await service.ask('define', { library });
  const fs = await open(service.pid, inTarget);
  await fs.writeFile('events/shop/checkout/trigger', 'stacktrace if id == 2');
  await fs.writeFile('events/shop/checkout/enable', '1');
  await fs.writeFile('dynamic_events', 't:mine/said events.test i=$arg1->i');
  await fs.writeFile('events/mine/said/trigger', 'hist:keys=stacktrace');
  await service.ask('checkout', { times: 3 });
  await service.ask('publish', { times: 4 });
  const trace = await fs.readFile('trace');
  expect(trace.match(/<stack trace>/g)).toHaveLength(1);
  expect(trace).toMatch(/id=2 .*\n.*<stack trace>\n(?: => .*\n)* => checkout \[events.cjs\]\n/);
  const hist = await fs.readFile('events/mine/said/hist');
  expect(hist).toMatch(/\n +publish\+0x0\/0x[0-9a-f]+ \[events.cjs\]\n/);
  expect(hist).toMatch(/\} hitcount: +4\n/);
});

test('functions are listed when somebody asks for them, with the stop that takes', async () => {
  const service = await startService({ file: fixture('events.cjs') });
  const fs = await attachTracefs(service.pid, { maxPauseMs: 1 });
  opened.push(fs);
  await fs.writeFile('events/http/server_request_start/enable', '1');
  await fs.writeFile('dynamic_events', 't:mine/said events.test i=$arg1->i');
  await service.get('/order/1');
  expect(records(await fs.readFile('trace'), 'server_request_start')).toHaveLength(1);
  const refused = expect.objectContaining({ code: 'EMAXPAUSE' });
  await expect(fs.appendFile('dynamic_events', 'p:mine/after events.cjs:after')).rejects.toEqual(refused);
  await expect(fs.readFile('available_filter_functions')).rejects.toEqual(refused);
  await expect(fs.writeFile('current_tracer', 'function')).rejects.toEqual(refused);
  expect(await fs.readFile('dynamic_events')).toBe('t:mine/said events.test i=$arg1->i\n');
  const patient = await fs.detach().then(() => open(service.pid));
  await patient.writeFile('dynamic_events', 'p:mine/after events.cjs:after');
  expect(await patient.readFile('available_filter_functions')).toContain('after [events.cjs]');
});

test('the own process has them, too', async () => {
  const fs = await open(process.pid);
  await fs.writeFile('events/process/warning/enable', '1');
  process.emitWarning('careful', 'OwnWarning');
  await new Promise((resolve) => setTimeout(resolve, 20));
  expect(records(await fs.readFile('trace'), 'warning')).toEqual(['name=OwnWarning code= message=careful']);
});
