import { describe, expect, test } from 'vitest';
import { Live } from './live.ts';

/** Every kind of value, and how it prints. */
const VALUES: [unknown, string][] = [
  [1.5, '1.5'],
  [-0.25, '-0.25'],
  [1e300, '1e+300'],
  [Number.NaN, 'NaN'],
  [7, '7'],
  [-0, '0'],
  [2 ** 53, '9007199254740992'],
  [true, 'true'],
  [false, 'false'],
  [null, 'null'],
  [undefined, 'undefined'],
  ['text', 'text'],
  [12n, '12'],
  [2n ** 70n, '1180591620717411303424'],
  [0x7e57_0000_0000_000en, '9103745171752747022'],
  [{ a: 1.5 }, '{ a: 1.5 }'],
];

describe('bare values are what the application has, not what a register holds', () => {
  test.each(VALUES)('%s', (value, shown) => {
    const live = new Live(
      'kprobe:f { print(arg0); print(args.res); print(arg7); print(this); @k[arg0] = count(); @x = arg0; }' +
        'kretprobe:f { print(retval); @r = retval; }',
    );
    const f = live.probe(function (this: unknown, ..._: unknown[]) {
      return value;
    });
    Reflect.apply(f, value, [value, value, 2, 3, 4, 5, 6, value]);
    expect(live.printed()).toEqual([shown, shown, shown, shown, shown]);
    expect(live.map('@k')).toEqual([[shown, '1']]);
    expect([live.map('@x'), live.map('@r')]).toEqual([[['', shown]], [['', shown]]]);
    expect(live.agent.faults()).toEqual([]);
    live.agent.dispose();
  });

  test('1 and 1.0 are one key, 1.5 and true are others', () => {
    const live = new Live('kprobe:f { @[arg0] = count(); }');
    const f = live.probe((..._: unknown[]) => undefined);
    for (const value of [1, 1.0, 1.5, true, 1n, '1']) f(value);
    expect(live.map('@').sort()).toEqual([
      ['1', '1'],
      ['1', '3'],
      ['1.5', '1'],
      ['true', '1'],
    ]);
    live.agent.dispose();
  });

  test('text, truth, length and choice', () => {
    const live = new Live(
      'kprobe:f /arg0/ { print(str(arg0)); print(arg1 ? arg0 : arg1); @s[str(arg1)] = count(); } kprobe:f { print(arg0 + 1) }',
    );
    const f = live.probe((..._: unknown[]) => undefined);
    for (const args of [
      [0.5, true],
      [true, null],
      [0, 1],
      [Number.NaN, 1],
      [2.9, 0.5],
    ])
      f(...args);
    expect(live.printed()).toEqual(['0.5', '0.5', '1', 'true', 'null', '2', '1', '1', '2.9', '2.9', '3']);
    expect(live.map('@s').sort()).toEqual([
      ['', '1'],
      ['0.5', '1'],
      ['true', '1'],
    ]);
    live.agent.dispose();
  });

  test('a property that is at hand as a number is still printed as it is', () => {
    const live = new Live('kprobe:f /arg0.price > 1/ { print(arg0.price); @[arg0.price] = count(); }');
    const f = live.probe((..._: unknown[]) => undefined);
    f({ price: 2.75 });
    f({ price: 0.5 });
    expect(live.printed()).toEqual(['2.75']);
    expect(live.map('@')).toEqual([['2.75', '1']]);
    live.agent.dispose();
  });

  test('errors, those that are false too', async () => {
    const live = new Live(
      'kretprobe:f { if (error) { print(error) } else { print("none") } } throw:f { print(error); }',
    );
    const f = live.probe((thrown: { value: unknown } | undefined) => {
      if (thrown) throw thrown.value;
    });
    f(undefined);
    for (const value of [1.5, 0, undefined, new Error('no')]) expect(() => f({ value })).toThrow();
    expect(live.printed()).toEqual([
      'none',
      ...['1.5', '1.5', '0', '0', 'undefined', 'undefined', 'Error: no', 'Error: no'],
    ]);
    live.agent.dispose();
  });

  test('a settled value, and an argument of a call that has ended', async () => {
    const live = new Live('settle:f { print(retval); print(arg0); }');
    const f = live.probe(async (value: number) => value / 2, true);
    expect(await f(3)).toBe(1.5);
    expect(live.printed()).toEqual(['1.5', '3']);
    live.agent.dispose();
  });

  test('what has no length, no bytes or no text is 0 or "", and told with its place', () => {
    const live = new Live(
      'kprobe:f { @len[len(arg0)] = count(); @sum = sum(len(arg0.x)); print(buf(arg0, 4)); print(str(arg0)); }',
    );
    const f = live.probe((..._: unknown[]) => undefined);
    for (const value of [{}, null, 1.5, new Proxy([], {})]) f(value);
    expect(live.map('@len')).toEqual([['0', '4']]);
    expect(live.map('@sum')).toEqual([['', '0']]);
    const places = live.agent.faults().map(([path, errno, count]) => {
      const { line, column } = live.script.positions[live.script.paths[path]!.position]!;
      return `${line}:${column} ${errno} ${count}`;
    });
    expect(places).toEqual(['1:21 14 4', '1:54 14 4', '1:74 14 4', '1:95 14 2']);
    live.agent.dispose();
  });

  test('a property that no value ever had is told, with the names that there are', () => {
    const live = new Live(
      'kprobe:f /arg0.user/ { @users = count(); } kprobe:f { @[str(arg0.urll)] = count(); @u[str(arg0.url)] = count(); }',
    );
    const f = live.probe((..._: unknown[]) => undefined);
    class Request {
      user: string | undefined;
      url = '/a';
    }
    f(new Request());
    f({ url: '/b', raw: {} });
    expect(live.map('@').concat(live.map('@u')).sort()).toEqual([
      ['', '2'],
      ['/a', '1'],
      ['/b', '1'],
    ]);
    const trouble = { key: 'urll', reason: 'missing', names: ['user', 'url', 'constructor'] };
    // `user` was there once
    expect(live.agent.faults().map(([, ...fault]) => fault)).toEqual([[2, 2, trouble]]);
    expect(live.agent.faults()).toEqual([]);
    live.agent.dispose();
  });

  test('strings and objects are no numbers', () => {
    const live = new Live(
      'kprobe:f { @sum = sum(arg0); @h[arg0 > 100] = count(); $v = arg0; @plus[$v + 1] = count(); if (arg0 == arg1) { @same = count(); } printf("%d %d", arg0, arg2 ? arg0 : 7); @i[id(arg0) == id(arg1)] = count(); }',
    );
    const f = live.probe((..._: unknown[]) => undefined);
    const object = {};
    for (const value of ['500', object, [], 2n ** 80n, Symbol('s'), 250]) f(value, value, true);
    f(object, {}, false);
    expect(live.map('@sum')).toEqual([['', '250']]);
    expect(live.map('@h')).toEqual([
      ['1', '1'],
      ['0', '6'],
    ]);
    expect(live.map('@plus')).toEqual([
      ['251', '1'],
      ['1', '6'],
    ]);
    expect(live.map('@same')).toEqual([['', '6']]);
    expect(live.map('@i')).toEqual([
      ['0', '1'],
      ['1', '6'],
    ]);
    expect(live.printed()).toEqual(['0 0', '0 0', '0 0', '0 0', '0 0', '250 250', '0 7']);
    live.agent.dispose();
  });

  test('what is no number equals none', () => {
    const live = new Live(
      'kprobe:f { @eq[arg0 == 0, 0 == arg0, arg0 != 0, arg0.x == 7, arg0 == arg1 + 0] = count(); } kprobe:f { $v = arg0; @v[$v == 0, $v != 5] = count(); }',
    );
    const f = live.probe((..._: unknown[]) => undefined);
    for (const value of [{ x: 7 }, 'x', null, 0, 5]) f(value, 0);
    expect(live.map('@eq')).toEqual(
      [
        ['0,0,1,0,0', '2'],
        ['0,0,1,1,0', '1'],
        ['1,1,0,0,1', '2'],
      ].sort((a, b) => Number(a[1]) - Number(b[1]) || (a[0]! < b[0]! ? -1 : 1)),
    );
    expect(live.map('@v').sort()).toEqual([
      ['0,0', '1'],
      ['0,1', '2'],
      ['1,1', '2'],
    ]);
    live.agent.dispose();
  });

  test('a string ends at its first NUL; a copy has all of it', () => {
    const live = new Live('kprobe:f { @s[str(arg0)] = count(); @v[arg0] = count(); }');
    const f = live.probe((..._: unknown[]) => undefined);
    const texts = [
      '',
      '\0nul',
      '\0',
      'abc',
      'abc\0def',
      'abcd\0',
      'abcd',
      'abcde\0\u00e9x',
      'abcde',
      '\u00e9\0x',
      '\u00e9',
      'abcdefg\0hijklmnop',
    ];
    for (const text of texts) f(text);
    expect(live.map('@s').sort()).toEqual([
      ['', '3'],
      ['abc', '2'],
      ['abcd', '2'],
      ['abcde', '2'],
      ['abcdefg', '1'],
      ['\u00e9', '2'],
    ]);
    expect(live.map('@v').length).toBe(texts.length);
    live.agent.dispose();
  });

  test('outside of a hit a reference is nothing', () => {
    const live = new Live('kprobe:f { print(arg0); }');
    live.agent.run(0);
    expect(live.printed()).toEqual(['undefined']);
    expect(live.agent.faults()).toEqual([[1, 116, 1]]);
    live.agent.dispose();
  });
});
