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

test('the own process has them, too', async () => {
  const fs = await open(process.pid);
  await fs.writeFile('events/process/warning/enable', '1');
  process.emitWarning('careful', 'OwnWarning');
  await new Promise((resolve) => setTimeout(resolve, 20));
  expect(records(await fs.readFile('trace'), 'warning')).toEqual(['name=OwnWarning code= message=careful']);
});
