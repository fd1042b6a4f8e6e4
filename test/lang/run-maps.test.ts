import { describe, expect, test } from 'vitest';
import { Engine } from './engine.ts';
import { printed } from './run-support.ts';

describe('maps', () => {
  test('scalar and keyed, read before and after they are set', () => {
    expect(
      printed('print(@x + 0); @x = 5; print(@x + 1); @y[1, "a"] = 7; print(@y[1, "a"]); print(@y[2, "a"]);'),
    ).toEqual(['= 0', '= 6', '= 7', '= 0']);
  });

  test('an unset map has no entry', () => {
    const engine = new Engine('kprobe:f /arg0 > 1/ { @x = 1; @y = nsecs; @[1] = count(); }');
    engine.hit(0, { args: [1] });
    expect([engine.map('@x'), engine.map('@y'), engine.map('@')]).toEqual([[], [], []]);
  });

  test('++ and --', () => {
    const engine = new Engine('kprobe:f { print((@a++, ++@a, @a--, --@a)); @b[arg0]++; }');
    engine.hit(0, { args: [1] });
    engine.hit(0, { args: [1] });
    expect(engine.records()).toEqual(['= (0, 2, 2, 0)', '= (0, 2, 2, 0)']);
    expect(engine.map('@b')).toEqual([['1', '2']]);
  });

  test('delete and has_key', () => {
    expect(
      printed(
        '@x[1] = 1; @y = 2; print(has_key(@x, 1)); print(delete(@x[1])); print(has_key(@x, 1)); print(delete(@x, 1)); delete(@y); print(has_key(@x, 2)); print(@y + 0);',
      ),
    ).toEqual(['= 1', '= 1', '= 0', '= 0', '= 0', '= 0']);
  });

  test('a value that was read is read again after a write', () => {
    expect(
      printed(
        '@x[arg0] = 1; $a = @x[arg0]; @x[arg0] = 2; $b = @x[arg0]; @x[arg0]++; $c = @x[arg0]; delete(@x[arg0]); $d = @x[arg0]; print(($a, $b, $c, $d));',
        {
          args: [1],
        },
      ),
    ).toEqual(['= (1, 2, 3, 0)']);
    expect(printed('@x = 5; $a = @x; print(@x++ + @x); print(@x + @x--); print(-@x + @x);')).toEqual([
      '= 11',
      '= 12',
      '= 0',
    ]);
    expect(
      printed('@x = 1; $a = @x; if (arg0) { @x = 2; $q = @x; } $b = @x; print(($a, $b));', { args: [1] }),
    ).toEqual(['= (1, 2)']);
    expect(printed('@x = 0; $i = 0; while ($i < 3) { $v = @x; @x = $v + 1; $i++; } print(@x + 0);')).toEqual([
      '= 3',
    ]);
  });

  test('a full map is told once for each place', () => {
    const engine = new Engine(
      'config = { max_map_keys = 2 } kprobe:f { @a[arg0] = 1; @b[arg0]++; @c[arg0] = count(); @d[arg0] += 2; }',
    );
    for (const key of [1, 2, 3, 4, 1]) engine.hit(0, { args: [key] });
    expect(engine.records()).toEqual(['error', 'error', 'error', 'error']);
    const errors = engine.script.actions.flatMap((action) => (action.kind === 'error' ? [action] : []));
    expect(
      errors.map(({ position, message }) => [engine.script.positions[position]!.column, message]),
    ).toEqual([
      [42, expect.stringContaining("Map full; can't update element of @a")],
      [56, expect.stringContaining('@b')],
      [68, expect.stringContaining('@c')],
      [88, expect.stringContaining('@d')],
    ]);
    expect(engine.map('@c')).toEqual([
      ['2', '1'],
      ['1', '2'],
    ]);
  });

  test('tuples as values and keys', () => {
    const engine = new Engine(
      'kprobe:f { @t = (1, "abc", arg0); print(@t.1); @k[(1, "x")] = 1; @k[1, "xyz"] = 2; print(@t.0 + 4); }',
    );
    engine.hit(0, { args: ['v'] });
    expect(engine.records()).toEqual(['= abc', '= 5']);
    expect(engine.map('@t')).toEqual([['', '(1, abc, v)']]);
    expect(engine.map('@k')).toEqual([
      ['1,x', '1'],
      ['1,xyz', '2'],
    ]);
  });

  test('strings of different lengths in one map', () => {
    const engine = new Engine(
      'kprobe:f { @m["a"] = "short"; @m["a longer key"] = "and a longer value"; @m[str(arg0)] = str(arg0); }',
    );
    engine.hit(0, { args: ['a'] });
    expect(engine.map('@m')).toEqual([
      ['a', 'a'],
      ['a longer key', 'and a longer value'],
    ]);
  });
});

describe('aggregations', () => {
  test('each by key and without, over two CPUs', () => {
    const engine = new Engine(
      'kprobe:f { @count = count(); @sum = sum(arg0); @min = min(arg0); @max = max(arg0); @avg = avg(arg0); @stats = stats(arg0);' +
        '@kc[1] = count(); @ks[1] = sum(arg0); @kmin[1] = min(arg0); @kmax[1] = max(arg0); @ka[1] = avg(arg0); @kst[1] = stats(arg0); }',
    );
    for (const [value, cpu] of [
      [5, 0],
      [-3, 1],
      [40, 1],
    ] as const) {
      engine.hit(0, { args: [value], cpu });
    }
    const all = ['count', 'sum', 'min', 'max', 'avg', 'stats'].map((name) => engine.map(`@${name}`)[0]![1]);
    expect(all).toEqual(['3', '42', '-3', '40', '14', 'count 3 average 14 total 42']);
    const keyed = ['kc', 'ks', 'kmin', 'kmax', 'ka', 'kst'].map((name) => engine.map(`@${name}`));
    expect(keyed).toEqual(all.map((value) => [['1', value]]));
  });

  test('are read as one number over all CPUs', () => {
    const engine = new Engine(
      'kprobe:f { @c = count(); @s[1] = sum(arg0); @mi = min(arg0); @ma = max(arg0); @a[1] = avg(arg0); } ' +
        'kprobe:g /@c > 1/ { print((@c, @s[1], @mi, @ma, @a[1], @s[2])); if (@s[1] == -10) { printf("%d", @a[1]) } print(@c) }',
    );
    engine.hit(0, { args: [10] });
    engine.hit(1);
    engine.hit(0, { args: [-20], cpu: 1 });
    engine.hit(1);
    expect(engine.records()).toEqual(['= (2, -10, -20, 10, -5, 0)', '-5', 'print_map @c 0 0']);
  });

  test('delete of a keyless one resets every CPU', () => {
    const engine = new Engine(
      'kprobe:f { @c = count(); @h = hist(arg0); @s = stats(arg0); } kprobe:g { delete(@c); delete(@h); print(delete(@s)); print(@c + 0); }',
    );
    engine.hit(0, { args: [5] });
    engine.hit(0, { args: [5], cpu: 1 });
    engine.hit(1);
    expect(engine.records()).toEqual(['= 1', '= 0']);
    expect([engine.map('@c'), engine.map('@h'), engine.map('@s')]).toEqual([[['', '0']], [], []]);
  });

  test('a keyless one that was never hit: as in bpftrace, a count is 0 and the others are not there', () => {
    const engine = new Engine(
      'kprobe:f { @c = count(); @s = sum(1); @a = avg(1); @l = min(1); @m = max(1); @st = stats(1); @h = hist(1); @lh = lhist(1, 0, 10, 1); }',
    );
    const shown = (): number[] =>
      ['@c', '@s', '@a', '@l', '@m', '@st', '@h', '@lh'].map((name) => engine.map(name).length);
    expect(shown()).toEqual([1, 1, 0, 0, 0, 0, 0, 0]);
    engine.hit(0);
    expect(shown()).toEqual([1, 1, 1, 1, 1, 1, 1, 1]);
  });

  test('hist: buckets of powers of two, and finer', () => {
    for (const [bits, values] of [
      [0, [-1, 0, 1, 2, 3, 4, 1023, 1024, 2 ** 40, 2 ** 52]],
      [2, [-1, 0, 1, 3, 4, 5, 7, 8, 9, 10, 11, 12, 1000, 2 ** 40]],
      [5, [0, 31, 32, 33, 63, 64, 65, 66, 2 ** 50]],
    ] as const) {
      for (const value of values) {
        const engine = new Engine(`kprobe:f { @h = hist(arg0, ${bits}); @k[arg0] = hist(arg0, ${bits}); }`);
        engine.hit(0, { args: [value] });
        const hit = engine.buckets('@h').filter(([, , count]) => count > 0);
        expect(hit.length, `${value}`).toBe(1);
        const [low = Number.NEGATIVE_INFINITY, high = Number.POSITIVE_INFINITY] = hit[0]!;
        expect(value, `bits ${bits}`).toBeGreaterThanOrEqual(low);
        expect(value, `bits ${bits}`).toBeLessThan(high);
        if (value > 0) expect(high - low).toBe(Math.max(1, 2 ** (Math.floor(Math.log2(value)) - bits)));
        expect(engine.map('@k')[0]![1]).toBe(engine.map('@h')[0]![1]);
      }
    }
  });

  test('lhist: below, inside, above', () => {
    const engine = new Engine('kprobe:f { @ = lhist(arg0, -10, 30, 10); }');
    for (const value of [-11, -10, -1, 0, 24, 30, 1e9]) engine.hit(0, { args: [value] });
    expect(engine.buckets('@')).toEqual([
      [undefined, -10, 1],
      [-10, 0, 2],
      [0, 10, 1],
      [10, 20, 0],
      [20, 30, 1],
      [30, undefined, 2],
    ]);
  });
});
