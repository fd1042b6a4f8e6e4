import { execFileSync } from 'node:child_process';
import { rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterEach, describe, expect, test } from 'vitest';
import { nodeBinaries } from '../support/nodes.ts';
import { unless } from '../support/skip.ts';
import { fixture, root, type Service, startService, stopAll, trapline } from './support.ts';

afterEach(stopAll);

const file = fixture('events.cjs');
const library = pathToFileURL(path.join(root, 'dist/index.js')).href;

interface Traced {
  readonly lines: readonly string[];
  readonly maps: ReadonlyMap<string, string>;
  readonly err: string;
}

/** What a script prints of what a service does meanwhile. The service is as it was before when the tracer has gone. */
async function traced(service: Service, script: string, work: () => Promise<unknown>): Promise<Traced> {
  const before = await service.ask('state');
  const tracer = trapline('-v', '--max-pause', '10000', '-p', String(service.pid), script);
  await tracer.attached();
  await work();
  const { code, out, err } = await tracer.interrupt();
  expect({ code, err: code === 0 ? '' : err }).toEqual({ code: 0, err: '' });
  expect(await service.ask('state')).toEqual(before);
  const lines = out.split('\n').filter((line) => line !== '');
  const maps = lines.flatMap((line) => {
    const entry = /^(@.*?): (.*)$/.exec(line);
    return entry === null ? [] : [[entry[1]!, entry[2]!] as const];
  });
  return { lines: lines.filter((line) => !line.startsWith('@')), maps: new Map(maps), err };
}

async function requests(service: Service, urls: readonly string[]): Promise<void> {
  for (const url of urls) await service.get(url);
  // a response is finished a moment after its client has it
  await service.ask('wait', { ms: 50 });
}

const orders = (count: number): string[] => Array.from({ length: count }, (_, i) => `/order/${i}`);

describe.each(nodeBinaries())('events of a process with Node $version', ({ path: node, major }) => {
  test("a fastify request's getters that only read", async () => {
    const service = await startService({ node, file });
    const { maps, err } = await traced(
      service,
      `kprobe:events.cjs:order {
         @[str(arg0.method), str(arg0.url), arg0.params.id] = count();
         @hosts[str(arg0.headers.host)] = count(); @typo[str(arg0.ur)] = count();
       }`,
      () => requests(service, orders(3)),
    );
    const keys = [...maps.keys()].filter((key) => key.startsWith('@['));
    expect(keys.sort()).toEqual(['@[GET, /order/0, 0]', '@[GET, /order/1, 1]', '@[GET, /order/2, 2]']);
    expect(err).toMatch(/WARNING: no value read here has a property 'ur', 3 times: .*did you mean url\?/);
    // this one of fastify decides what it returns
    expect(err).toMatch(/WARNING: a value could not be read, 3 times: 'headers' is a getter/);
  });

  test('requests of a fastify service: exact counts, fields, filters', async () => {
    const service = await startService({ node, file });
    const { lines, maps } = await traced(
      service,
      `tracepoint:http:server_request_end {
         @[args.method, args.status] = count(); @us = hist(args.duration / 1000); @bytes = min(args.bytes); @n[args.id] = count();
       }
       tracepoint:http:server_request_headers { @headers[args.status] = count(); @n[args.id] = count(); }
       t:http:server_request_start /args.url == "/order/7"/ { printf("%s %s %s\\n", args.method, args->url, args.remote_address); }
       t:http:server_request_start { @n[args.id] = count(); @starts = count(); }
       rawtracepoint:http.server.request.start { @raw[str(arg0.request.headers.host) == ""] = count(); @url[str(arg0.request.url)] = count(); }`,
      () => requests(service, [...orders(50), '/broken', '/nowhere']),
    );
    expect(lines.filter((line) => !/^[[(]/.test(line))).toEqual(['GET /order/7 127.0.0.1']);
    expect(Object.fromEntries([...maps].filter(([name]) => !/^@(n|url)\[/.test(name)))).toMatchObject({
      '@[GET, 200]': '50',
      '@[GET, 404]': '1',
      '@[GET, 500]': '1',
      '@headers[200]': '50',
      '@headers[404]': '1',
      '@headers[500]': '1',
      '@starts': '52',
      '@raw[0]': '52',
    });
    // one id for the three events of each request
    const ids = [...maps].filter(([name]) => name.startsWith('@n['));
    expect(ids).toHaveLength(52);
    expect(new Set(ids.map(([, count]) => count))).toEqual(new Set(['3']));
    expect([...maps.keys()].filter((name) => name.startsWith('@url['))).toHaveLength(52);
    expect(Number(maps.get('@bytes'))).toBeGreaterThan(100);
  });

  test('clients of HTTP: node:http and fetch, and one that fails', async () => {
    const service = await startService({ node, file });
    // fetch() makes what it needs at its first call
    await service.ask('client');
    const { lines, maps } = await traced(
      service,
      `t:http:client_request_end { printf("%s %s %s %d\\n", args.method, args.host, args.path, args.status); }
       t:http:client_request_end /args.bytes > 100/ { @withBytes = count(); }
       t:http:client_* { @[probe] = count(); }
       t:http:client_request_error { printf("%s %s\\n", args.path, args.message); }`,
      () => service.ask('client'),
    );
    const shown = lines.map((line) => line.replace(/:\d{4,5}/g, ':PORT'));
    expect(shown.slice(0, 5)).toEqual([
      'GET 127.0.0.1 /plain/0 200',
      'GET 127.0.0.1 /plain/1 200',
      'GET 127.0.0.1 /plain/2 200',
      'GET http://127.0.0.1:PORT /fetch/0 200',
      'GET http://127.0.0.1:PORT /fetch/1 200',
    ]);
    expect(shown.slice(5)).toContain('/closed connect ECONNREFUSED 127.0.0.1:PORT');
    expect(maps.get('@withBytes')).toBe('3');
    expect(maps.get('@[tracepoint:http:client_request_start]')).toBe('6');
    expect(maps.get('@[tracepoint:http:client_request_headers]')).toBe('5');
    expect(maps.get('@[tracepoint:http:client_request_error]')).toBe('1');
  });

  test('files: every form, with paths and errors; a function that was imported is put back, too', async () => {
    const service = await startService({ node, file });
    const { lines } = await traced(
      service,
      `t:fs:op_start /args.path == "events.cjs" || args.path == "missing"/
         { printf("> %s %s\\n", args.op, args.api); }
       t:fs:op_end /args.path == "events.cjs" || args.path == "missing"/
         { printf("< %s %s %s %d\\n", args.op, args.api, args.error, args.duration > 0); }`,
      () => service.ask('fs'),
    );
    const outer = lines.filter((line) => !/ open sync/.test(line));
    expect(outer).toEqual([
      '> readFile sync',
      '< readFile sync  1',
      '> stat promise',
      '< stat promise  1',
      '> readFile callback',
      '< readFile callback ENOENT 1',
      '> stat sync',
      '< stat sync ENOENT 1',
      '> access promise',
      '< access promise ENOENT 1',
      '> stat sync',
      '< stat sync  1',
    ]);
  });

  test('children, threads, modules, names and connections', async () => {
    const service = await startService({ node, file });
    let loaded: unknown;
    const { lines, maps, err } = await traced(
      service,
      `t:child_process:spawn { printf("spawn %d %d\\n", args.pid > 0, args.error); }
       t:child_process:exit { printf("exit %d %d\\n", args.pid > 0, args.code); }
       t:worker:start { printf("worker %d\\n", args.thread_id > 0); } t:worker:exit { printf("worker exit %d\\n", args.code); }
       t:module:load { printf("load %s %s\\n", args.request, args.error); }
       t:dns:lookup { @dns[args.op, args.hostname, args.duration > 0] = count(); }
       t:net:server_connection { @accepted[args.remote_address] = count(); }
       t:net:client_connect { @connected[args.host, args.duration > 0] = count(); }`,
      async () => {
        await service.ask('child');
        await service.ask('worker');
        loaded = await service.ask('load');
        await service.ask('lookup');
        await service.ask('connect');
      },
    );
    expect(lines).toEqual([
      'spawn 1 0',
      'exit 1 7',
      'spawn 0 -2',
      'worker 1',
      'worker exit 3',
      expect.stringMatching(/^load .*loaded\.cjs $/),
      expect.stringMatching(/^load \.\/missing MODULE_NOT_FOUND$/),
    ]);
    expect(loaded).toContain('loaded.cjs');
    expect(maps.get('@dns[lookup, localhost, 1]')).toBe('1');
    expect(maps.get('@accepted[127.0.0.1]')).toBe('1');
    expect(maps.get('@connected[127.0.0.1, 1]')).toBe('1');
    expect(err).toContain('worker threads are not traced');
  });

  test('imports', unless(major < 22 ? 'Node 20 has no channel for import()' : undefined), async () => {
    const service = await startService({ node, file });
    const { maps } = await traced(service, 't:module:import { @[str(args.url, 20)] = count(); }', () =>
      service.ask('import'),
    );
    expect(maps.get('@[data:text/javascript]')).toBe('1');
  });

  test('warnings, rejections that nobody handles, uncaught exceptions', async () => {
    const service = await startService({ node, file, flags: ['--no-warnings'] });
    const { lines } = await traced(
      service,
      `t:process:warning { printf("%s %s %s\\n", args.name, args.code, args.message); }
       t:promise:unhandled_rejection { printf("%s %s\\n", args.name, args.message); }
       t:process:uncaught_exception { printf("%s %s %s\\n", args.name, args.message, args.origin); }`,
      async () => {
        await service.ask('warn');
        await service.ask('reject');
        await service.ask('throw');
      },
    );
    expect(lines).toEqual([
      'EventWarning E1 careful',
      'TypeError nobody cares',
      'RangeError too much uncaughtException',
    ]);
  });

  test('a rejection that ends the process ends it while it is traced', async () => {
    const service = await startService({ node, file });
    const tracer = trapline(
      '-v',
      '-p',
      String(service.pid),
      't:promise:unhandled_rejection { @ = count(); }',
    );
    await tracer.attached();
    await service.ask('rejectForGood').catch(() => undefined);
    expect(await service.exited).toBe(1);
    expect(service.stderr()).toContain('SyntaxError: the end');
    await tracer.finished;
  });

  test('collections, turns of the loop, timers, promises, resources', async () => {
    const service = await startService({ node, file });
    const { maps } = await traced(
      service,
      `t:gc:gc { @gc[args.type] = count(); @pause = sum(args.pause); @freed = sum(args.before > args.after); }
       t:loop:turn { @turns = count(); @idle = sum(args.idle); }
       t:loop:delay { @delays = sum(args.count); }
       t:timer:timer_expire_entry /@mine[args.id]/ { @entered[args.immediate] = count(); }
       t:timer:timer_expire_exit /@mine[args.id]/ { @left[args.immediate] = count(); }
       t:timer:timer_start { @mine[args.id] = 1; }
       t:timer:timer_start /args.delay == 2/ { @started = count(); }
       t:timer:timer_start /args.immediate/ { @immediates = count(); }
       t:process:resources { @rss = max(args.rss); @user = max(args.user_us); }
       END { clear(@mine); }`,
      async () => {
        await service.ask('gc');
        await service.ask('timers', { times: 20 });
        await service.ask('wait', { ms: 2500 });
      },
    );
    const count = (name: string): number => Number(maps.get(name) ?? 0);
    expect(count('@gc[Scavenge]') + count('@gc[MinorMarkSweep]')).toBeGreaterThan(0);
    expect(count('@pause')).toBeGreaterThan(1000);
    expect(count('@freed')).toBeGreaterThan(0);
    expect(count('@turns')).toBeGreaterThan(20);
    expect(count('@idle')).toBeGreaterThan(1e9);
    expect(count('@delays')).toBeGreaterThan(10);
    expect(count('@started')).toBe(20);
    // turns of the loop that attaching waited for have one each, too
    expect(count('@immediates')).toBeGreaterThanOrEqual(20);
    expect(count('@immediates')).toBeLessThan(60);
    expect(count('@entered[1]')).toBeGreaterThanOrEqual(20);
    // of those that began when all events were on: they come on in the script's order
    expect(count('@left[1]')).toBe(count('@entered[1]'));
    expect(count('@left[0]')).toBe(count('@entered[0]'));
    expect(count('@entered[0]')).toBeGreaterThanOrEqual(20);
    expect(count('@rss')).toBeGreaterThan(10e6);
    expect(count('@user')).toBeGreaterThan(0);
  });

  test('promises', async () => {
    const service = await startService({ node, file });
    const { maps } = await traced(
      service,
      't:promise:init { @init = count(); } t:promise:settle { @settle = count(); }',
      () => service.ask('promises', { times: 1000 }),
    );
    // besides those of the command itself
    expect(Number(maps.get('@init')) - 1000).toBeLessThan(20);
    expect(Number(maps.get('@init'))).toBeGreaterThanOrEqual(1000);
    expect(Number(maps.get('@settle'))).toBeGreaterThanOrEqual(1000);
  });

  test('tracepoints of the application, and channels of its own', async () => {
    const service = await startService({ node, file });
    await service.ask('define', { library });
    const listed = trapline('-lv', '-p', String(service.pid), 'tracepoint:shop:*');
    expect(await listed.finished).toMatchObject({
      code: 0,
      out: 'tracepoint:shop:checkout\n    u64 id\n    string sku\n    s32 total\n',
    });
    expect(await service.ask('checkout', { times: 5 })).toBe(false);
    let enabled: unknown;
    const { lines, maps } = await traced(
      service,
      `t:shop:checkout { @[args.sku] = count(); @ids = min(args.id); @total = sum(args.total); }
       rawtracepoint:events.test /arg0.i == 3/ { printf("%s %s\\n", str(arg0.text), str(arg1)); }
       rt:events.test { @messages = count(); }`,
      async () => {
        enabled = await service.ask('checkout', { times: 30 });
        await service.ask('publish', { times: 10 });
      },
    );
    expect(enabled).toBe(true);
    expect(lines).toEqual(['message 3 events.test']);
    expect(Object.fromEntries(maps)).toEqual({
      '@[sku-0]': '10',
      '@[sku-1]': '10',
      '@[sku-2]': '10',
      '@ids': '6',
      '@total': String(-(29 * 30) / 2),
      '@messages': '10',
    });
    expect(await service.ask('checkout', { times: 1 })).toBe(false);
    const list = (...args: string[]) => trapline('-l', '-p', String(service.pid), ...args).finished;
    const refused = await list('rawtracepoint:*', '--max-pause', '10');
    expect(refused.code).toBe(1);
    expect(refused.err).toMatch(
      /^ERROR: looking for channels needs a garbage collection: it would stop the process for about \d+ ms\nHINT: --max-pause \d+ allows it\n$/,
    );
    const without = await list('*', '--max-pause', '60');
    expect(without.err).toContain('WARNING: rawtracepoint probes are not listed: looking for channels');
    expect(without.out).toContain('kprobe:events.cjs:after\n');
    expect(without.out).toContain('tracepoint:shop:checkout\n');
    expect(without.out).not.toContain('rawtracepoint:');
    const all = await list('*', '--max-pause', '60000');
    expect(all.out).toContain('tracepoint:http:server_request_start\n');
    expect(all.out).toContain('rawtracepoint:events.test\n');
    const { out } = await list('rawtracepoint:*', '--max-pause', '60000');
    expect(out).toContain('rawtracepoint:events.test\n');
    expect(out).toContain('rawtracepoint:http.server.request.start\n');
  });

  test('a tracer that is killed leaves nothing behind', async () => {
    const service = await startService({ node, file });
    await service.ask('fs');
    const before = await service.ask('state');
    const tracer = trapline(
      '-v',
      '-p',
      String(service.pid),
      't:fs:* { @[probe] = count(); } t:http:* { @[probe] = count(); } t:process:warning { @w = count(); } t:promise:init { @p = count(); }',
    );
    await tracer.attached();
    expect(await service.ask<{ replaced: string[] }>('state')).toMatchObject({
      replaced: expect.arrayContaining(['readFileSync', 'writeHead']),
      imported: false,
    });
    await service.ask('fs');
    tracer.child.kill('SIGKILL');
    await tracer.finished;
    await expect.poll(() => service.ask('state'), { timeout: 30_000 }).toEqual(before);
    expect(await service.get('/order/1')).toBe('{"id":"1"}');
  });

  test('a command from its start, and a prepared process', async () => {
    const script =
      't:http:server_request_start { printf("%s\\n", args.url); } t:module:load { @[args.request] = count(); }';
    const program = fixture('event-client.cjs');
    const started = trapline('-c', `${node} ${program}`, script);
    const { code, out } = await started.finished;
    expect(code).toBe(0);
    expect(out).toContain('/self/0\n/self/1\n/self/2\n');
    expect(out).toMatch(/^@\[node:http\]: 1$/m);
    const register = path.join(root, 'dist/register/index.js');
    const service = await startService({ node, file, flags: ['--import', pathToFileURL(register).href] });
    const { maps } = await traced(service, 't:http:server_request_end { @[args.url] = count(); }', () =>
      requests(service, orders(3)),
    );
    expect([...maps.keys()]).toEqual(['@[/order/0]', '@[/order/1]', '@[/order/2]']);
  });

  test('record and report', async () => {
    const service = await startService({ node, file });
    const out = path.join(tmpdir(), `events-${process.pid}-${service.pid}.dat`);
    const recorder = trapline(
      'record',
      '-e',
      'http',
      '-p',
      String(service.pid),
      '--max-pause',
      '10000',
      '-o',
      out,
    );
    try {
      await recorder.saw('recording 7 events');
      await requests(service, orders(20));
      expect(await recorder.interrupt()).toMatchObject({ code: 0 });
      const cli = path.join(root, 'dist/cli/main.js');
      const text = execFileSync(process.execPath, [cli, 'report', out], { encoding: 'utf8' });
      const ends = text.split('\n').filter((line) => line.includes('server_request_end:'));
      expect(ends).toHaveLength(20);
      expect(ends[19]).toMatch(/id=20 method=GET url=\/order\/19 status=200 bytes=\d+ duration=\d+$/);
      expect(text.split('\n').filter((line) => line.includes('server_request_headers:'))).toHaveLength(20);
    } finally {
      rmSync(out, { force: true });
    }
  });
});

describe('events, without regard to the version', () => {
  test('listing what any process has', async () => {
    const all = await trapline('-l', 'tracepoint:*').finished;
    expect(all.code).toBe(0);
    const lines = all.out.trim().split('\n');
    for (const name of ['http:server_request_start', 'gc:gc', 'fs:op_end', 'promise:unhandled_rejection'])
      expect(lines).toContain(`tracepoint:${name}`);
    const verbose = await trapline('-lv', 't:http:server_request_end').finished;
    expect(verbose.out).toBe(
      'tracepoint:http:server_request_end\n    u64 id\n    string method\n    string url\n    u16 status\n    u64 bytes\n    u64 duration\n',
    );
    expect(await trapline('-l', 't:htp:*').finished).toMatchObject({
      code: 1,
      err: expect.stringContaining('HINT: did you mean tracepoint:http:*?'),
    });
  });

  test('what is refused, with its place and the nearest name', async () => {
    const service = await startService({ file });
    const refused = async (script: string): Promise<string> => {
      const { code, err } = await trapline('-p', String(service.pid), script).finished;
      expect(code).toBe(1);
      return err.replace(/^.*?(?=stdin:)/s, '');
    };
    expect(await refused('t:http:server_request_strat { @ = count(); }')).toBe(`\
stdin:1:3: ERROR: no tracepoint matches http:server_request_strat
t:http:server_request_strat { @ = count(); }
  ~~~~~~~~~~~~~~~~~~~~~~~~~
HINT: did you mean http:server_request_start?
`);
    expect(await refused('t:gc:gc { @ = sum(args.puase); }')).toBe(`\
stdin:1:24: ERROR: gc:gc does not have a field named 'puase'
t:gc:gc { @ = sum(args.puase); }
                       ~~~~~
HINT: did you mean args.pause?
`);
    expect(await refused('tracepoint:http { }')).toContain(
      'tracepoint probe type requires a category and a name',
    );
    expect(await refused('t:gc:gc { @ = arg0; }')).toContain('The arg0 builtin can only be used with');
    expect(await refused('t:gc:gc, t:fs:op_end { @ = args.type; }')).toContain(
      "fs:op_end does not have a field named 'type'",
    );
  });
});
