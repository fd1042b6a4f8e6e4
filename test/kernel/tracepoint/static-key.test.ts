import { execFileSync } from 'node:child_process';
import { describe, expect, test } from 'vitest';
import { staticKey } from '../../../src/kernel/tracepoint/static-key.ts';
import { nodeBinaries } from '../../support/nodes.ts';

const hidden = (): string[] =>
  Object.getOwnPropertyNames(globalThis).filter((name) => name.startsWith('__trapline_key_'));

describe('staticKey', () => {
  test('each call while it is on is told, and none while it is off, whatever V8 has made of the loop', () => {
    let seen = 0;
    const key = staticKey((value: { n: number }) => {
      seen += value.n;
    });
    const loop = (calls: number): void => {
      for (let i = 0; i < calls; i++) key.branch({ n: 1 });
    };
    let expected = 0;
    for (let round = 0; round < 6; round++) {
      loop(30_000);
      expect([seen, key.isOn()]).toEqual([expected, false]);
      key.set(true);
      loop(30_000);
      expected += 30_000;
      expect([seen, key.isOn()]).toEqual([expected, true]);
      key.set(false);
    }
    key.dispose();
  });

  test('it is switched by what its own branch calls', () => {
    const seen: number[] = [];
    const key = staticKey((value: number) => {
      seen.push(value);
      if (value === 2) key.set(false);
    });
    key.set(true);
    for (let i = 0; i < 5; i++) key.branch(i);
    expect(seen).toEqual([0, 1, 2]);
    key.dispose();
  });

  test('two keys are two, and nothing enumerable is left, nor anything once they are disposed of', () => {
    const before = hidden();
    const enumerable = Object.keys(globalThis);
    const seen: string[] = [];
    const a = staticKey((value: string) => seen.push(`a${value}`));
    const b = staticKey((value: string) => seen.push(`b${value}`));
    b.set(true);
    a.branch('1');
    b.branch('2');
    expect(seen).toEqual(['b2']);
    expect(Object.keys(globalThis)).toEqual(enumerable);
    a.dispose();
    b.dispose();
    b.branch('3');
    expect(b.isOn()).toBe(false);
    expect(seen).toEqual(['b2']);
    expect(hidden()).toEqual(before);
  });

  test('whoever deletes its property has switched it off', () => {
    let seen = 0;
    const key = staticKey(() => seen++);
    key.set(true);
    const name = hidden().at(-1) as string;
    expect(Reflect.deleteProperty(globalThis, name)).toBe(true);
    key.branch(undefined as never);
    expect(seen).toBe(0);
    key.set(true);
    key.branch(undefined as never);
    expect(seen).toBe(1);
    key.dispose();
  });
});

const SCRIPT = `
  import { staticKey } from ${JSON.stringify(new URL('../../../dist/kernel/tracepoint/static-key.js', import.meta.url).href)};
  let seen = 0;
  const key = staticKey((n) => { seen += n; });
  key.branch(1);
  key.set(true);
  key.branch(10);
  key.set(false);
  key.branch(100);
  console.log(seen, key.isOn(), Object.getOwnPropertyNames(globalThis).some((name) => name.startsWith('__trapline')));
`;

describe.each(nodeBinaries())('staticKey on Node $version', ({ path }) => {
  const run = (script: string, ...args: string[]): string =>
    execFileSync(path, [...args, '--input-type=module', '-e', script], { encoding: 'utf8' }).trim();

  test('works', () => expect(run(SCRIPT)).toBe('10 false true'));
  test('where no code is made of text', () =>
    expect(run(SCRIPT, '--disallow-code-generation-from-strings')).toBe('10 false false'));
  test('where the global object takes no property', () =>
    expect(run(SCRIPT.replace('let seen', 'Object.preventExtensions(globalThis); let seen'))).toBe(
      '10 false false',
    ));
});
