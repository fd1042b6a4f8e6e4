import { describe, expect, test } from 'vitest';
import { nodeBinaries } from '../support/nodes.ts';
import { attachCommand, objectOnProcess, shop } from './attach-command.ts';

const { file, run } = objectOnProcess('on-process-maps.o');

const u32 = (value: number): Uint8Array => new Uint8Array(Uint32Array.of(value).buffer);
const text = (data: Uint8Array): string => Buffer.from(data).toString('utf8').replace(/\0+$/, '');

describe.each(nodeBinaries())('maps of tracing programs on a process, Node $version', ({ path: node }) => {
  test('perf event arrays, stack maps, LRU hashes and tail calls', async () => {
    const service = await shop(node);
    const before = await service.ask('state');
    const records: { map: string; data: Buffer }[] = [];
    const one = await run(service.pid, {
      onRecord: (record, map) => records.push({ map, data: Buffer.from(record) }),
    });
    expect(one.programs.map(({ spec, places }) => [spec.name, ...places])).toEqual([
      ['on_second'],
      ['on_third'],
      ['on_greet', 'events.cjs:greet'],
      ['on_checkout', 'tracepoint:shop:checkout'],
      ['after_checkout'],
    ]);
    const id = Object.fromEntries(one.programs.map(({ spec, id: number }) => [spec.name, number]));
    const next = one.maps.get('next')!;
    const slots = async () => (await next.entries()).map(({ key, values }) => [key[0], values[0]![0]]);
    expect(await slots()).toEqual([[1, id['on_second']]]);
    // By a binding's first call, where it is not edited.
    await service.ask('salute', { names: ['nobody'] });
    await one.flush();
    records.splice(0);
    const count = (await one.get('count')) as bigint;

    const names = ['Ada', 'Grace', 'Ada', 'Edsger', 'Barbara', 'Ada', 'Donald', 'Ada'];
    await service.ask('salute', { names });
    await one.flush();
    // A program called in the place of another: it has that one's arguments.
    const calls = records.map(({ map, data }) => ({
      map,
      number: data.readBigUInt64LE(0) - count,
      stack: Number(data.readBigInt64LE(8)),
      name: text(data.subarray(16)),
      length: data.length,
    }));
    expect(calls.map(({ map, number, name, length }) => [map, Number(number), name, length])).toEqual(
      names.map((name, n) => ['calls', n + 1, name, 32]),
    );
    expect(await one.get('refused')).toBe(0n);
    // As the kernel answers: EOPNOTSUPP for another CPU, E2BIG for one that is not there, EFAULT for a stack that is not so deep.
    expect(await one.get('other_cpu')).toBe(-95n);
    expect(await one.get('no_cpu')).toBe(-7n);
    expect(await one.get('skipped_all')).toBe(-14n);

    // All calls came by one way.
    const stacks = one.maps.get('stacks')!;
    expect(new Set(calls.map(({ stack }) => stack)).size).toBe(1);
    const frames = await stacks.stack(calls[0]!.stack);
    expect(frames![0]).toMatch(/^greet \(.*events\.cjs/);
    expect(frames!.slice(1).join()).toMatch(/salute \(.*events\.cjs:\d+:\d+\)/);
    const caller = Number(await one.get('caller'));
    // One frame less in front, and as many as find room behind.
    const callers = await stacks.stack(caller);
    expect(callers!.slice(0, frames!.length - 1)).toEqual(frames!.slice(1));
    const value = Buffer.from((await stacks.lookup(u32(caller)))!);
    const addresses = Array.from({ length: 8 }, (_, n) => value.readBigUInt64LE(8 * n));
    expect(addresses.map((address) => one.frame(address)).filter((frame) => frame !== undefined)).toEqual(
      callers,
    );
    expect(await stacks.update(u32(1), new Uint8Array(64))).toBe(-22);
    expect(await stacks.delete(u32(caller))).toBe(0);
    expect(await stacks.stack(caller)).toBeUndefined();
    expect(await stacks.delete(u32(caller))).toBe(-2);

    // Four of five names, and the one that was looked up in between is among them.
    const recent = (await one.maps.get('recent')!.entries()).map(({ key }) => text(key));
    expect(recent).toHaveLength(4);
    expect(recent).toContain('Ada');
    expect(recent).toContain('Donald');

    // A program array is changed while it is used; a chain of calls ends after 33.
    expect(await next.update(u32(2), u32(id['on_third']!))).toBe(0);
    expect(await next.update(u32(2), u32(99))).toBe(-9);
    expect(await next.update(u32(4), u32(id['on_third']!))).toBe(-7);
    await service.ask('salute', { names: ['Ada'] });
    expect(await one.get('thirds')).toBe(32n);
    expect(await next.delete(u32(1))).toBe(0);
    await service.ask('salute', { names: ['Ada'] });
    expect(await one.get('refused')).toBe(1n);
    expect(await one.get('thirds')).toBe(32n);

    await one.flush();
    records.splice(0);
    const after = one.maps.get('after')!;
    expect(await after.update(u32(3), u32(id['after_checkout']!))).toBe(0);
    // As the kernel holds it: an array is of the type of the programs that use it.
    expect(await after.update(u32(3), u32(id['on_third']!))).toBe(-22);
    expect(await after.entries()).toHaveLength(1);
    await service.ask('checkout', { times: 2 });
    await one.flush();
    expect(records.map(({ map, data }) => [map, data.readBigUInt64LE(0)])).toEqual([
      ['orders', 1n],
      ['orders', 2n],
    ]);
    expect(await one.get('second_id')).toBe(2n);

    expect(one.maps.get('calls')!.spec.type).toBe('perf_event_array');
    expect(await one.maps.get('calls')!.update(u32(0), u32(3))).toBe(-9);
    expect(await one.maps.get('calls')!.entries()).toEqual([]);
    expect((await one.detach()).failures).toEqual([]);
    expect(await service.ask('state')).toEqual(before);
  });

  test('a program array that programs of two types use is refused, and nothing stays', async () => {
    const service = await shop(node);
    const before = await service.ask('state');
    const programs = ['on_greet', 'on_second', 'mixes'];
    expect(await run(service.pid, { programs }).catch((error) => error)).toMatchObject({
      code: 'EINVAL',
      message: 'map next: programs of types kprobe and tracepoint use it',
    });
    expect(await service.ask('state')).toEqual(before);
  });

  test('on the command line', async () => {
    const service = await shop(node);
    const { out, err, until, end } = await attachCommand(file, service.pid);
    await service.ask('salute', { names: ['Ada', 'Grace'] });
    await until(() => out().includes('47726163650000'));
    expect(await end()).toBe(0);
    expect(err()).toBe(
      'on_second: by tail calls\non_third: by tail calls\non_greet: events.cjs:greet\n' +
        'on_checkout: tracepoint:shop:checkout\nafter_checkout: by tail calls\nAttached 2 programs; Ctrl-C ends\n',
    );
    expect(out()).toMatch(/^calls: .*47726163650000/m);
    expect(out()).toMatch(/^stack_trace {2}name stacks {2}key 4B {2}value 64B {2}max_entries 64$/m);
    expect(out()).toMatch(/^\d+:\n {8}greet \(.*events\.cjs.*\)\n/m);
    expect(out()).toMatch(/^lru_hash {2}name recent/m);
    expect(out()).toMatch(/^prog_array {2}name next.*\n1: on_second$/m);
  });
});
