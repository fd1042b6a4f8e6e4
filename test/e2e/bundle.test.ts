import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { build } from 'esbuild';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { mapsOf, run, startService, stopAll, trapline } from './support.ts';

const CART = `
interface Item { price: number }
export class Basket {
  content: Item[] = [];
  addItems(items: Item[], discount: number): number {
    for (const item of items) this.content.push({ price: item.price - discount });
    return this.content.length;
  }
}
export const totalOf = (basket: Basket, { tax }: { tax: number }, rounding = 1): number => {
  const sum = basket.content.reduce((before, item) => before + item.price, 0);
  return Math.round((sum * tax) / rounding) * rounding;
};
`;
const MAIN = `
import { Basket, totalOf } from './cart.ts';
process.on('message', ({ id, params }: { id: number; params: { times: number } }) => {
  const basket = new Basket();
  for (let i = 0; i < params.times; i++) {
    basket.addItems([{ price: i }, { price: 1 }], 1);
    totalOf(basket, { tax: 2 }, i);
  }
  process.send!({ id, result: params.times });
});
process.on('disconnect', () => process.exit(0));
process.send!({ ready: 1 });
`;

let folder = '';
beforeAll(async () => {
  folder = mkdtempSync(path.join(tmpdir(), 'trapline-bundle-'));
  writeFileSync(path.join(folder, 'cart.ts'), CART);
  writeFileSync(path.join(folder, 'main.ts'), MAIN);
  await build({
    entryPoints: [path.join(folder, 'main.ts')],
    bundle: true,
    minify: true,
    sourcemap: true,
    platform: 'node',
    outfile: path.join(folder, 'out.cjs'),
    logLevel: 'error',
  });
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));
afterEach(stopAll);

const K = 50;

test('a minified bundle: functions and parameters by their original names', async () => {
  const service = await startService({ file: path.join(folder, 'out.cjs') });
  const pid = String(service.pid);
  const { out } = await run('-lv', 'cart.ts:*', '-p', pid);
  expect(out).toContain('cart.ts:Basket.addItems  ');
  expect(out).toMatch(/cart\.ts:Basket\.addItems {2}\S*cart\.ts:5 {2}\(items, discount\)\n/);
  expect(out).toMatch(/cart\.ts:totalOf {2}\S*cart\.ts:10 {2}\(basket, arg1, rounding\)\n/);
  const tracer = trapline(
    '-v',
    '-p',
    pid,
    `kprobe:cart.ts:Basket.addItems { @items = sum(args.items.length); @discount = sum(args.discount); }
     kprobe:cart.ts:totalOf { @rounding = sum(args.rounding); @content = max(args.basket.content.length); }`,
  );
  await tracer.saw(/(^\S+: \w+ \(.*){2}/ms);
  await service.call('', K);
  const { code, out: counts } = await tracer.interrupt();
  expect({ code, maps: mapsOf(counts) }).toEqual({
    code: 0,
    maps: { '@items': 2 * K, '@discount': K, '@rounding': (K * (K - 1)) / 2, '@content': 2 * K },
  });
  const wrong = await run('-p', pid, 'kprobe:cart.ts:Basket.addItems { @ = sum(args.itmes); }');
  expect(wrong.code).toBe(1);
  expect(wrong.err).toContain('did you mean args.items?');
});

test('a minified bundle: stacks by original files, lines and names', async () => {
  const service = await startService({ file: path.join(folder, 'out.cjs') });
  for (const arm of ['bind', 'break']) {
    const tracer = trapline(
      '-v',
      '--arm',
      arm,
      '-p',
      String(service.pid),
      'kprobe:cart.ts:totalOf { @[ustack(2)] = count(); }',
    );
    await tracer.attached();
    await service.call('', K);
    const { code, out } = await tracer.interrupt();
    expect(code).toBe(0);
    // line 7 of MAIN calls it, in a function without a name
    const stacks = [...out.matchAll(/^ +totalOf \((\S*)\)\n +(\S+) \((\S*)\)\n\]: (\d+)$/gm)];
    expect(stacks.map(([, , name]) => name)).toEqual(stacks.map(() => '<anonymous>'));
    for (const [, top, , caller] of stacks) {
      expect(top).toMatch(/(^|\/)cart\.ts(:1[01]:\d+)?$/);
      expect(caller).toMatch(/(^|\/)main\.ts:7:\d+$/);
    }
    expect(stacks.reduce((sum, [, , , , count]) => sum + Number(count), 0)).toBe(K);
  }
});
