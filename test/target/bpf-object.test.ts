import { readFileSync } from 'node:fs';
import path from 'node:path';
import { afterEach, describe, expect, test } from 'vitest';
import { type BtfValue, openObject } from '../../src/bpf/index.ts';
import {
  type AttachedObject,
  type AttachObjectOptions,
  attachObject,
} from '../../src/target/object/attach-object.ts';
import { root, stopAll } from '../e2e/support.ts';
import { nodeBinaries } from '../support/nodes.ts';
import { attachCommand, shop } from './attach-command.ts';

const bytes = readFileSync(new URL('./fixtures/on-process.o', import.meta.url));
const attached: AttachedObject[] = [];

afterEach(async () => {
  for (const one of attached.splice(0)) await one.detach();
  await stopAll();
});

async function run(pid: number, options: AttachObjectOptions = {}, set: Record<string, BtfValue> = {}) {
  const object = openObject(bytes, 'on-process.o');
  for (const [name, value] of Object.entries(set)) object.globals.set(name, value);
  const one = await attachObject(pid, object, { maxPauseMs: 60_000, ...options });
  attached.push(one);
  return { one, global: (name: string) => one.get(name) };
}

describe.each(nodeBinaries())('objects of clang on a process, Node $version', ({ path: node }) => {
  test('tracepoints, raw tracepoints, channels, functions, with maps, variables and prints', async () => {
    const service = await shop(node);
    const before = await service.ask('state');
    const lines: string[] = [];
    const records: Uint8Array[] = [];
    const { one, global } = await run(
      service.pid,
      { onPrint: (line) => lines.push(line), onRecord: (record) => records.push(record) },
      { least: -2n },
    );
    expect(one.programs.map(({ spec, places }) => [spec.name, ...places])).toEqual([
      ['on_checkout', 'tracepoint:shop:checkout'],
      ['on_raw', 'tracepoint:shop:checkout'],
      ['on_channel', 'rawtracepoint:events.test'],
      ['on_call', 'events.cjs:greet'],
      ['on_return', 'events.cjs:greet'],
    ]);
    // by a binding's first call, where it is not edited
    await service.ask('salute', { names: ['nobody'] });
    const calls = (await global('calls')) as bigint;
    const returns = (await global('returns')) as bigint;
    expect(await service.ask('checkout', { times: 4 })).toBe(true);
    await service.ask('publish', { times: 1 });
    await service.ask('salute', { names: ['Ada', 'Grace'] });
    await one.flush();
    expect(lines).toEqual(['order 1 of sku-0: 0', 'order 2 of sku-1: -1', 'order 3 of sku-2: -2']);
    const orders = records.map((record) => {
      const data = Buffer.from(record);
      return [data.readBigUInt64LE(0), data.readBigInt64LE(8), data.toString('utf8', 16, 21), data.length];
    });
    expect(orders).toEqual([
      [1n, 0n, 'sku-0', 32],
      [2n, -1n, 'sku-1', 32],
      [3n, -2n, 'sku-2', 32],
    ]);
    expect(await global('seen')).toBe(43n);
    expect(await global('raw_ids')).toBe(10n);
    expect(await global('raw_total')).toBe(-6n);
    expect(await global('raw_sku')).toEqual({ text: 'sku-0' });
    expect(await global('said')).toEqual({ text: 'events.test' });
    expect(await global('calls')).toBe(calls + 2n);
    expect(await global('returns')).toBe(returns + 2n);
    expect(await global('first_arg')).toEqual({ text: 'Grace' });
    const map = one.maps.get('by_sku')!;
    const text = (key: Uint8Array): string => Buffer.from(key).toString('utf8').replace(/\0+$/, '');
    const entries = await map.entries();
    expect(entries.map(({ key, values }) => [text(key), values[0]![0]]).sort()).toEqual([
      ['sku-0', 1],
      ['sku-1', 1],
      ['sku-2', 1],
    ]);
    expect(await map.delete(entries[0]!.key)).toBe(0);
    expect(await map.delete(entries[0]!.key)).toBe(-2);
    expect(await map.entries()).toHaveLength(2);
    expect((await one.detach()).failures).toEqual([]);
    expect(await service.ask('checkout', { times: 1 })).toBe(false);
    expect(await service.ask('state')).toEqual(before);
  });

  test('on the command line', async () => {
    const service = await shop(node);
    const file = path.join(root, 'test/target/fixtures/on-process.o');
    const { out, err, until, end } = await attachCommand(file, service.pid, [
      '--program',
      'on_checkout',
      '--map',
      'by_sku',
    ]);
    await service.ask('checkout', { times: 2 });
    await until(() => out().includes('sku-1: -1'));
    expect(await end()).toBe(0);
    expect(err()).toBe('on_checkout: tracepoint:shop:checkout\nAttached 1 program; Ctrl-C ends\n');
    expect(out()).toContain('order 1 of sku-0: 0\n');
    expect(out()).toContain('hash  name by_sku  key 16B  value 8B  max_entries 64\n');
    expect(JSON.parse(out().slice(out().indexOf('[{')))).toHaveLength(2);
    expect(await service.ask('checkout', { times: 1 })).toBe(false);
  });

  test('what cannot be attached is refused, and nothing stays', async () => {
    const service = await shop(node);
    const before = await service.ask('state');
    const refused = async (options: AttachObjectOptions) => await run(service.pid, options).catch((e) => e);
    expect(await refused({ programs: ['on_nothing'] })).toMatchObject({ code: 'ENOENT' });
    expect(await refused({ programs: ['too_far'] })).toMatchObject({
      code: 'EACCES',
      message: 'program too_far reads offset 20 of its context; worker:start has 16 bytes',
    });
    expect(await refused({ programs: ['not_here'] })).toMatchObject({
      code: 'ENOTSUP',
      message: 'program not_here: SEC("xdp") has no place in a process',
    });
    expect(await refused({ programs: ['on_call'], attachTo: { on_call: 'events.cjs:great' } })).toMatchObject(
      {
        code: 'ENOENT',
      },
    );
    expect(await refused({ programs: ['on_raw'], attachTo: { on_raw: 'nothing' } })).toMatchObject({
      code: 'ENOENT',
      message: 'program on_raw: there is no raw tracepoint nothing',
    });
    const trie = { type: 'lpm_trie', flags: 1 } as const;
    expect(await refused({ programs: ['on_raw'], mapSpecs: { by_sku: trie } })).toMatchObject({
      code: 'ENOTSUP',
      message: 'map by_sku: a process has no maps of type lpm_trie',
    });
    expect(await service.ask('state')).toEqual(before);
  });
});
