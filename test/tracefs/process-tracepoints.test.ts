import { spawn } from 'node:child_process';
import { channel, tracingChannel } from 'node:diagnostics_channel';
import { once } from 'node:events';
import fs from 'node:fs';
import { createServer, get, type IncomingMessage, ServerResponse } from 'node:http';
import Module, { createRequire } from 'node:module';
import type { AddressInfo } from 'node:net';
import { fileURLToPath } from 'node:url';
import { afterEach, describe, expect, expectTypeOf, test } from 'vitest';
import { attachTracefs, type OwnTracefs, openOwnTracefs } from '../../src/cli/attach-tracefs.ts';
import { eventsOf } from '../../src/kernel/tracepoint/event-list.ts';
import { getRawEvent, registerRawEvent, unregisterRawEvent } from '../../src/kernel/tracepoint/raw-event.ts';
import { defineTracepoint, undefineTracepoint } from '../../src/kernel/tracepoint/trace-event.ts';
import {
  Tracepoint,
  type TracepointProbe,
  tracepointProbeRegister,
  tracepointProbeRegisterPrio,
  tracepointProbeUnregister,
} from '../../src/kernel/tracepoint/tracepoint.ts';
import { channelTracepoint, tracingChannelTracepoints } from '../../src/target/diagnostics-channels.ts';
import { defineRuntimeEvents } from '../../src/target/runtime-events.ts';

const opened: OwnTracefs[] = [];
const defined: (readonly [string, string])[] = [];

afterEach(() => {
  for (const one of opened.splice(0)) one.close();
  for (const [system, name] of defined.splice(0)) undefineTracepoint(system, name);
});

function open(): OwnTracefs {
  const own = openOwnTracefs();
  opened.push(own);
  return own;
}

function lines(trace: string): string[] {
  return trace.split('\n').filter((line) => line !== '' && !line.startsWith('#'));
}

describe('tracepoints', () => {
  test('functions run in the order of priority, then of registration', () => {
    const tp = new Tracepoint<readonly [number]>('order');
    const seen: string[] = [];
    const note: TracepointProbe<readonly [number], string> = (data, value) => seen.push(`${data}${value}`);
    tracepointProbeRegister(tp, note, 'b');
    tracepointProbeRegisterPrio(tp, note, 'low', 1);
    tracepointProbeRegisterPrio(tp, note, 'high', 20);
    tracepointProbeRegister(tp, note, 'c');
    tp.call(1);
    expect(seen).toEqual(['high1', 'b1', 'c1', 'low1']);
    expect(() => tracepointProbeRegister(tp, note, 'b')).toThrow(expect.objectContaining({ code: 'EEXIST' }));
    tracepointProbeUnregister(tp, note, 'b');
    expect(() => tracepointProbeUnregister(tp, note, 'b')).toThrow(
      expect.objectContaining({ code: 'ENOENT' }),
    );
    expect(tp.users).toBe(3);
  });

  test('regfunc and unregfunc frame the users; a regfunc that refuses leaves nothing', () => {
    const seen: string[] = [];
    let refuse = true;
    const tp = new Tracepoint('framed', {
      regfunc: () => {
        if (refuse) throw new Error('no');
        seen.push('on');
      },
      unregfunc: () => seen.push('off'),
    });
    const probe = (): void => undefined;
    expect(() => tracepointProbeRegister(tp, probe, 1)).toThrow('no');
    expect([tp.enabled, tp.users]).toEqual([false, 0]);
    refuse = false;
    tracepointProbeRegister(tp, probe, 1);
    tracepointProbeRegister(tp, probe, 2);
    tracepointProbeUnregister(tp, probe, 1);
    expect([tp.enabled, ...seen]).toEqual([true, 'on']);
    tracepointProbeUnregister(tp, probe, 2);
    expect([tp.enabled, ...seen]).toEqual([false, 'on', 'off']);
  });

  test('a list that changes while it fires: every call goes through the list that it began with', () => {
    const tp = new Tracepoint<readonly [number]>('changing');
    const calls: string[] = [];
    const late = (data: string, n: number): void => void calls.push(`${data}${n}`);
    const changer = (_: string, n: number): void => {
      calls.push(`changer${n}`);
      if (n === 1) {
        tracepointProbeUnregister(tp, changer, 'x');
        tracepointProbeRegister(tp, late, 'new');
        tp.call(2);
      }
    };
    tracepointProbeRegister(tp, changer, 'x');
    tracepointProbeRegister(tp, late, 'old');
    tp.call(1);
    expect(calls).toEqual(['changer1', 'old2', 'new2', 'old1']);
    tp.call(3);
    expect(calls.slice(4)).toEqual(['old3', 'new3']);
  });

  test('raw tracepoints have a name each', () => {
    const map = registerRawEvent(new Tracepoint('raw one'), 2, 8);
    expect(getRawEvent('raw one')).toBe(map);
    expect(() => registerRawEvent(new Tracepoint('raw one'), 1)).toThrow(
      expect.objectContaining({ code: 'EEXIST' }),
    );
    expect(() => registerRawEvent(new Tracepoint('many'), 13)).toThrow(
      expect.objectContaining({ code: 'EINVAL' }),
    );
    unregisterRawEvent(map);
    expect(getRawEvent('raw one')).toBeUndefined();
  });
});

describe('defineTracepoint', () => {
  test('is an event of the own tracing folder: format, enable, records, off again', () => {
    const own = open();
    const checkout = defineTracepoint('shop', 'checkout', {
      id: 'u64',
      sku: 'string',
      delta: 's16',
      paid: 'bool',
      note: 'string',
    });
    defined.push(['shop', 'checkout']);
    expectTypeOf(checkout).parameter(0).toEqualTypeOf<{
      readonly id: number | bigint;
      readonly sku: string;
      readonly delta: number;
      readonly paid: boolean;
      readonly note: string;
    }>();
    expect(own.fs.readFile('events/shop/checkout/format')).toContain(
      [
        '\tfield:u64 id;\toffset:8;\tsize:8;\tsigned:0;',
        '\tfield:__data_loc char[] sku;\toffset:16;\tsize:4;\tsigned:0;',
        '\tfield:s16 delta;\toffset:20;\tsize:2;\tsigned:1;',
        '\tfield:bool paid;\toffset:22;\tsize:1;\tsigned:0;',
        '\tfield:__data_loc char[] note;\toffset:24;\tsize:4;\tsigned:0;',
        '',
        'print fmt: "id=%llu sku=%s delta=%d paid=%d note=%s", REC->id, __get_str(sku), REC->delta, REC->paid, __get_str(note)',
      ].join('\n'),
    );
    const value = { id: 1n, sku: 'a', delta: 1, paid: true, note: '' };
    checkout(value);
    expect(checkout.enabled).toBe(false);
    own.fs.writeFile('events/shop/checkout/enable', '1');
    expect(checkout.enabled).toBe(true);
    for (let i = 0; i < 100; i++)
      checkout({
        id: 2n ** 64n - BigInt(i),
        sku: `sku-${i} é`,
        delta: -i,
        paid: i % 2 === 1,
        note: 'n'.repeat(i),
      });
    own.fs.writeFile('events/shop/checkout/enable', '0');
    checkout(value);
    const found = lines(own.fs.readFile('trace'));
    expect(found).toHaveLength(100);
    for (const [i, line] of found.entries()) {
      const id = BigInt.asUintN(64, 2n ** 64n - BigInt(i));
      const note = 'n'.repeat(i);
      expect(line.slice(line.indexOf('checkout: '))).toBe(
        `checkout: id=${id} sku=sku-${i} é delta=${-i} paid=${i % 2} note=${note}`,
      );
    }
  });

  test('t: probes, e: probes and stacks, with no session', () => {
    const own = open();
    // One that waits for its tracepoint, as on Linux for a module.
    own.fs.writeFile('dynamic_events', 't:mine/later ledger:book\n');
    own.fs.writeFile('events/mine/enable', '1');
    const book = defineTracepoint('ledger', 'book', { id: 'u64', sku: 'string', total: 's32' });
    defined.push(['ledger', 'book']);
    function sell(id: number): void {
      book({ id, sku: `sku-${id}`, total: -id });
    }
    sell(1);
    own.fs.writeFile('events/mine/enable', '0');
    own.fs.appendFile('dynamic_events', 't:mine/booked ledger:book id sku cost=$arg3:s32 $comm\n');
    own.fs.appendFile('dynamic_events', 't:mine/said ledger.said text=$arg1->text:string name\n');
    own.fs.appendFile('dynamic_events', 'e:mine/again ledger.book number=$id:u32\n');
    own.fs.writeFile('events/mine/booked/filter', 'id > 2');
    own.fs.writeFile('events/mine/booked/enable', '1');
    own.fs.writeFile('events/mine/said/enable', '1');
    own.fs.writeFile('events/mine/again/enable', '1');
    own.fs.writeFile('events/mine/again/trigger', 'stacktrace:1');
    for (let id = 2; id < 5; id++) sell(id);
    channel('ledger.said').publish({ text: 'closed' });
    const found = lines(own.fs.readFile('trace'))
      .filter((line) => !line.startsWith(' =>'))
      .map((line) => line.slice(line.indexOf(': ') + 2).replace(/\(0x[0-9a-f]+\)/, '(A)'));
    expect(found).toEqual([
      'later: (ledger:book+0x0/0x1)',
      'again: (ledger.book) number=2',
      expect.stringContaining('<stack trace>'),
      'booked: (ledger:book+0x0/0x1) id=3 sku="sku-3" cost=-3 arg4="node"',
      'again: (ledger.book) number=3',
      'booked: (ledger:book+0x0/0x1) id=4 sku="sku-4" cost=-4 arg4="node"',
      'again: (ledger.book) number=4',
      'said: (ledger.said+0x0/0x1) text="closed" name="ledger.said"',
    ]);
    const stack = lines(own.fs.readFile('trace')).filter((line) => line.startsWith(' =>'));
    expect(stack[0]).toMatch(/^ => sell \[.*process_tracepoints\.test\.ts\]$/);
    expect(stack[1]).toMatch(/process_tracepoints\.test\.ts\]$/);
    expect(stack.join()).not.toMatch(/tracepoint\.ts\]|commit|\[src!/);
    own.fs.writeFile('events/ledger/book/trigger', 'hist:keys=common_stacktrace');
    sell(9);
    expect(own.fs.readFile('events/ledger/book/hist')).toMatch(/sell\S* \[.*\n/);
    own.close();
    expect(book.enabled).toBe(false);
    expect(channel('ledger.said').hasSubscribers).toBe(false);
    const { prepareStackTrace, stackTraceLimit } = Error;
    own.fs.writeFile('events/ledger/book/enable', '1');
    own.fs.writeFile('options/stacktrace', '1');
    sell(10);
    own.fs.writeFile('events/ledger/book/enable', '0');
    expect([Error.prepareStackTrace, Error.stackTraceLimit]).toEqual([prepareStackTrace, stackTraceLimit]);
  });

  test('two folders have the event each for itself, and one that is enabled cannot be taken back', () => {
    const ping = defineTracepoint('pair', 'ping', { n: 'u32' });
    const [a, b] = [open(), open()];
    a.fs.writeFile('set_event', 'pair:ping');
    ping({ n: 1 });
    b.fs.writeFile('events/pair/enable', '1');
    ping({ n: 2 });
    expect(() => undefineTracepoint('pair', 'ping')).toThrow(expect.objectContaining({ code: 'EBUSY' }));
    a.fs.writeFile('events/enable', '0');
    ping({ n: 3 });
    b.close();
    ping({ n: 4 });
    const numbers = ({ fs }: OwnTracefs): (string | undefined)[] =>
      lines(fs.readFile('trace')).map((line) => /n=(\d+)/.exec(line)?.[1]);
    expect(numbers(a)).toEqual(['1', '2']);
    expect(numbers(b)).toEqual(['2', '3']);
    undefineTracepoint('pair', 'ping');
    expect(a.fs.exists('events/pair')).toBe(false);
  });

  test('values that are none, or too long, make a record all the same', () => {
    const own = open();
    const odd = defineTracepoint('odd', 'values', { n: 'u64', s: 'string', b: 's8' });
    defined.push(['odd', 'values']);
    own.fs.writeFile('events/odd/enable', '1');
    odd({ n: Number.NaN, s: undefined, b: 300 } as never);
    odd({ n: -1, s: 'x'.repeat(100_000), b: -1 });
    odd({ n: 2 ** 40 + 5, s: 'cut\0here', b: 127 });
    const found = lines(own.fs.readFile('trace')).map((line) => line.slice(line.indexOf('values: ') + 8));
    expect(found[0]).toBe('n=0 s= b=44');
    expect(found[1]).toMatch(/^n=18446744073709551615 s=x{3071} b=-1$/);
    expect(found[2]).toBe('n=1099511627781 s=cut b=127');
  });

  test.each([
    ['a system with a space', () => defineTracepoint('a b', 'c', {}), 'EINVAL'],
    ['an unknown type', () => defineTracepoint('a', 'c', { x: 'f32' as 'u32' }), 'EINVAL'],
    ['a name of Object.prototype', () => defineTracepoint('a', 'c', { x: 'toString' as 'u32' }), 'EINVAL'],
    ['a common field', () => defineTracepoint('a', 'c', { common_pid: 'u32' }), 'EINVAL'],
  ])('refuses %s', (_, define, code) => {
    expect(define).toThrow(expect.objectContaining({ code }));
  });

  test('is seen beside kprobe events where the own process is attached', async () => {
    const order = defineTracepoint('self', 'order', { id: 'u32' });
    const fs = await attachTracefs(process.pid, { maxPauseMs: 60_000 });
    try {
      await fs.writeFile('events/self/order/enable', '1');
      for (let id = 0; id < 5; id++) order({ id });
      expect(lines(await fs.readFile('trace')).map((line) => /id=(\d+)/.exec(line)?.[1])).toEqual([
        '0',
        '1',
        '2',
        '3',
        '4',
      ]);
    } finally {
      await fs.detach();
    }
    expect(order.enabled).toBe(false);
    undefineTracepoint('self', 'order');
  });
});

describe('diagnostics channels', () => {
  test('a channel has subscribers only while its tracepoint has functions', () => {
    const { tp, numArgs } = channelTracepoint('shop:sold');
    const sold = channel('shop:sold');
    const seen: unknown[] = [];
    const probe = (_: unknown, ...args: readonly unknown[]): void => void seen.push(args);
    expect(numArgs).toBe(2);
    expect(sold.hasSubscribers).toBe(false);
    sold.publish({ n: 0 });
    tracepointProbeRegister(tp, probe, undefined);
    sold.publish({ n: 1 });
    tracepointProbeUnregister(tp, probe, undefined);
    sold.publish({ n: 2 });
    expect(sold.hasSubscribers).toBe(false);
    expect(seen).toEqual([[{ n: 1 }, 'shop:sold']]);
    expect(channelTracepoint('shop:sold').tp).toBe(tp);
  });

  test('a TracingChannel is a group of tracepoints', async () => {
    const events = tracingChannelTracepoints('query');
    const seen: string[] = [];
    for (const [name, { tp }] of Object.entries(events))
      tracepointProbeRegister(tp, () => seen.push(name), undefined);
    const queries = tracingChannel('query');
    queries.traceSync(() => 1, {});
    await queries.tracePromise(async () => 2, {});
    expect(() =>
      queries.traceSync(() => {
        throw new Error('no');
      }, {}),
    ).toThrow('no');
    expect(seen).toEqual(['start', 'end', 'start', 'end', 'asyncStart', 'asyncEnd', 'start', 'error', 'end']);
  });

  test('http requests are events of the runtime', async () => {
    defineRuntimeEvents();
    const own = open();
    own.fs.writeFile('events/http/enable', '1');
    const server = createServer((_, response) => {
      response.statusCode = 418;
      response.end('tea');
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as AddressInfo;
    for (let i = 0; i < 3; i++) {
      const [response] = (await once(get({ port, path: `/pot/${i}`, agent: false }), 'response')) as [
        IncomingMessage,
      ];
      response.resume();
      await once(response, 'end');
    }
    server.close();
    await once(server, 'close');
    // a client's request has ended a moment after its response
    while ((own.fs.readFile('trace').match(/: client_request_end: /g) ?? []).length < 3)
      await new Promise((resolve) => setTimeout(resolve, 5));
    const found = lines(own.fs.readFile('trace')).map((line) =>
      line.replace(/^.*?: (?=server_|client_)/, ''),
    );
    const of = (name: string): string[] => found.filter((line) => line.startsWith(`${name}: `)).sort();
    for (const [name, more] of [
      ['server_request_start', ' remote_address=127.0.0.1'],
      ['server_request_headers', ' status=418 duration=D'],
      ['server_request_end', ' status=418 bytes=D duration=D'],
    ] as const)
      expect(of(name).map((line) => line.replace(/(bytes|duration)=[1-9]\d*/g, '$1=D'))).toEqual(
        [0, 1, 2].map((i) => `${name}: id=${2 * i + 2} method=GET url=/pot/${i}${more}`),
      );
    expect(of('client_request_end').map((line) => line.replace(/bytes=.*/, ''))).toEqual(
      [0, 1, 2].map(
        (i) => `client_request_end: id=${2 * i + 1} method=GET host=localhost path=/pot/${i} status=418 `,
      ),
    );
  });

  test('the runtime has the events that a tracer from outside finds, and nothing of them stays', async () => {
    defineRuntimeEvents();
    const own = open();
    const events = eventsOf(process.version, []);
    const available = own.fs.readFile('available_events').split('\n');
    expect(
      events.map(({ system, name }) => `${system}:${name}`).filter((one) => !available.includes(one)),
    ).toEqual([]);
    for (const { system, name, fields } of events)
      expect(own.fs.readFile(`events/${system}/${name}/format`).match(/\tfield:/g)).toHaveLength(
        fields.length + 4,
      );
    const functions = () => [
      fs.readFileSync,
      fs.promises.stat,
      process.emit,
      Module['_load' as never],
      ServerResponse.prototype.writeHead,
    ];
    const before = functions();
    const systems = ['fs', 'module', 'process', 'promise', 'timer', 'gc', 'http', 'worker', 'child_process'];
    for (const system of systems) own.fs.writeFile(`events/${system}/enable`, '1');
    expect(fs.readFileSync).not.toBe(before[0]);
    expect([fs.readFileSync.name, fs.readFileSync.length]).toEqual(['readFileSync', 2]);
    fs.readFileSync(fileURLToPath(import.meta.url));
    await fs.promises.stat('missing').catch(() => undefined);
    expect(() => fs.readFileSync('missing')).toThrow('ENOENT');
    createRequire(import.meta.url)('node:assert');
    process.emitWarning('careful', { type: 'OwnWarning', code: 'W1' });
    await new Promise((resolve) => setTimeout(resolve, 5));
    const code = await new Promise((resolve) =>
      spawn(process.execPath, ['-e', 'process.exit(7)']).on('exit', resolve),
    );
    expect(code).toBe(7);
    for (const system of systems) own.fs.writeFile(`events/${system}/enable`, '0');
    expect(functions()).toEqual(before);
    const trace = own.fs.readFile('trace');
    expect(trace).toMatch(/: op_start: op=readFile api=sync path=.*process-tracepoints.test.ts fd=-1\n/);
    expect(trace).toMatch(/: op_end: op=stat api=promise path=missing fd=-1 error=ENOENT duration=[1-9]/);
    expect(trace).toMatch(/: op_end: op=readFile api=sync path=missing fd=-1 error=ENOENT duration=[1-9]/);
    expect(trace).toMatch(/: load: request=node:assert parent=/);
    expect(trace).toMatch(/: warning: name=OwnWarning code=W1 message=careful\n/);
    expect(trace).toMatch(/: timer_start: id=\d+ delay=5 repeat=0 immediate=0\n/);
    expect(trace).toMatch(/: exit: pid=\d+ code=7 signal=\n/);
  });
});
