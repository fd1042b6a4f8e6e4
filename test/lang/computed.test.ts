/** `arg0.items[$i]`: properties whose names are known when the program runs. */
import { describe, expect, test } from 'vitest';
import { Live } from './live.ts';

/** What a program prints of one call. */
function print(source: string, ...args: unknown[]): string[] {
  const live = new Live(source);
  live.probe((..._: unknown[]) => undefined)(...args);
  const shown = live.printed();
  shown.push(...live.agent.faults().map(([, errno, count]) => `fault ${errno} ${count}`));
  live.agent.dispose();
  return shown;
}

const held = {
  name: 'in',
  deep: [
    [1, 2],
    ['a', 'b'],
  ],
  7: 'seven',
};

describe('a computed index', () => {
  test('of an array, by a variable, an expression and an argument', () => {
    const source =
      'kprobe:f { $i = 1; print(arg0[$i]); print(arg0[$i + 1]); print(arg0[arg1]); @n = 3; print(arg0[@n]); }';
    expect(print(source, ['a', 'b', 'c', 'd'], 0)).toEqual(['b', 'c', 'a', 'd']);
  });

  test('in the middle of a path, and twice', () => {
    const source =
      'kprobe:f { $i = 0; $j = 1; print(arg0.list[$i].name); print(str(arg0.list[$i].deep[$j][$i])); print(arg0.list[$i].deep[$i][$j] + 1); }';
    expect(print(source, { list: [held] })).toEqual(['in', 'a', '3']);
  });

  test('values are what the application has, not what a register holds', () => {
    const source = 'kprobe:f { $i = 0; while ($i < 8) { print(arg0[$i]); $i++; } }';
    const values = [1.5, true, null, undefined, 2n ** 70n, -3, 'text', { a: 1 }];
    expect(print(source, values)).toEqual([
      '1.5',
      'true',
      'null',
      'undefined',
      '1180591620717411303424',
      '-3',
      'text',
      '{ a: 1 }',
    ]);
  });

  test('numbers, text, truth, length, comparison, map keys', () => {
    const source = `kprobe:f { $i = 0; $j = 1; $k = 2;
      print(arg0[$i] + 1); print(str(arg0[$j])); print(len(arg0[$j])); print(arg0[$k] ? "yes" : "no"); printf("%s %d", arg0[$j], arg0[$i]);
      print(arg0[$i] == 41); print(str(arg0[$j]) == "text"); print(arg0[$i] < 50); @[arg0[$j], arg0[$i]] = count(); @sum = sum(arg0[$i]);
      $v = arg0[$j]; print(str($v)); print(arg0[$k] == 0); }`;
    const live = new Live(source);
    live.probe((..._: unknown[]) => undefined)([41.9, 'text', '']);
    expect(live.printed()).toEqual(['42', 'text', '4', 'no', 'text 41', '1', '1', '1', 'text', '0']);
    expect(live.map('@')).toEqual([['text,41.9', '1']]);
    expect(live.map('@sum')).toEqual([['', '41']]);
    expect(live.agent.faults()).toEqual([]);
    live.agent.dispose();
  });

  test('a string of the application names a property; a string has characters; typed arrays have numbers', () => {
    const source =
      'kprobe:f { print(arg0[arg1]); print(arg1[arg2]); print(arg3[arg2]); print(arg0[arg4.key]); }';
    expect(print(source, held, 'name', 2, new Float64Array([0, 0.5, 2.5]), { key: '7' })).toEqual([
      'in',
      'm',
      '2.5',
      'seven',
    ]);
  });

  test('this, retval, and arguments beyond the sixth', () => {
    const live = new Live(
      'kretprobe:f { $i = 1; print(retval[$i]); print(this[$i]); print(retval[$i][$i]); }',
    );
    const f = live.probe(function (this: unknown): unknown {
      return ['x', ['y', 'z']];
    });
    Reflect.apply(f, ['p', 'q'], []);
    expect(live.printed()).toEqual(["[ 'y', 'z' ]", 'q', 'z']);
    live.agent.dispose();
    expect(print('kprobe:f { $i = 1; print(arg8[$i]); }', 0, 1, 2, 3, 4, 5, 6, 7, ['i', 'j'])).toEqual(['j']);
  });
});

describe('what is not there, or must not be read', () => {
  test('out of range, as with a constant', () => {
    const source =
      'kprobe:f { $i = 9; $m = -1; print(arg0[$i]); print(str(arg0[$m])); print(arg0[$i] + 0); print(arg0[$i].x); }';
    const by = print(source, [1]);
    expect(by.slice(0, 3)).toEqual(['undefined', '', '0']);
    expect(by.slice(3)).toEqual(print('kprobe:f { print(arg0[9].x); }', [1]));
    for (const value of [undefined, null, 7])
      expect(print('kprobe:f { $i = 1; print(str(arg0[$i])); }', value)).toEqual(['']);
  });

  let ran = 0;
  const getter = Object.defineProperty([0], 1, { get: () => ++ran, enumerable: true });
  const proxy = new Proxy([1, 2], {
    get: () => ++ran,
    getOwnPropertyDescriptor: (target, key) => {
      ran++;
      return Reflect.getOwnPropertyDescriptor(target, key);
    },
  });
  const { proxy: revoked, revoke } = Proxy.revocable([1, 2], {});
  revoke();

  test.each([
    ['a getter', getter],
    ['a Proxy', proxy],
    ['a revoked Proxy', revoked],
    ['one that inherits from a Proxy', Object.create(proxy)],
  ])('%s: 0 and "", counted, and no code of the application runs', (_name, value) => {
    const source = 'kprobe:f { $i = 1; print(str(arg0[$i])); print(arg0[$i] + 0); print(arg0[$i] ? 1 : 0); }';
    const shown = print(source, value);
    expect(shown.slice(0, 3)).toEqual(['', '0', '0']);
    expect(shown.slice(3).join()).toMatch(/^fault 14 \d/);
    expect(ran).toBe(0);
  });

  test.each([
    ['an object', { toString: () => ++ran, [Symbol.toPrimitive]: () => ++ran }, 'fault 22 1'],
    ['a symbol', Symbol('s'), 'fault 22 1'],
    ['a text of 100 MB', 'x'.repeat(50 << 20) + 'y'.repeat(50 << 20), 'fault 7 1'],
  ])('%s names nothing', (_name, key, fault) => {
    expect(print('kprobe:f { print(str(arg0[arg1])); }', { a: 1 }, key)).toEqual(['', fault]);
    expect(ran).toBe(0);
  });

  test('objects with 100,000 properties, sparse arrays, indexes beyond 32 and 53 bits', () => {
    const many = Object.fromEntries(Array.from({ length: 1e5 }, (_, i) => [`k${i}`, i]));
    const sparse: unknown[] = [];
    sparse[4294967294] = 'last';
    const source =
      'kprobe:f { print(arg0[arg1]); $i = 4294967294; print(arg2[$i]); $j = 1 << 40; print(str(arg2[$j])); $k = 1 << 62; print(str(arg2[$k])); }';
    expect(print(source, many, 'k99999', sparse)).toEqual(['99999', 'last', '', '']);
  });

  test('more than a hit has room for is counted, and ends with the hit', () => {
    const live = new Live('kprobe:f { $i = 0; while ($i < 3000) { @[str(arg0[$i % 2])] = count(); $i++; } }');
    const f = live.probe((..._: unknown[]) => undefined);
    f(['a', 'b']);
    const [[, errno, count] = [0, 0, 0]] = live.agent.faults();
    const total = live.map('@').reduce((sum, [, n]) => sum + Number(n), 0);
    // 1023, and arg0 has one; rounds are limited, too
    expect({ errno, count }).toEqual({ errno: 12, count: total - 1022 });
    expect(count).toBeGreaterThan(0);
    f(['c', 'd']);
    expect(live.map('@').map(([key]) => key)).toEqual(expect.arrayContaining(['a', 'b', 'c', 'd']));
    live.agent.dispose();
  });
});
