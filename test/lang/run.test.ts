import { describe, expect, test } from 'vitest';
import { Engine } from './engine.ts';

const req = (url: string, extra: object = {}): object => ({ url, method: 'GET', ...extra });

describe('the three questions of the README', () => {
  test('counts by a string key', () => {
    const engine = new Engine('kprobe:handle { @[str(arg0.url)] = count(); }');
    for (const url of ['/a', '/b', '/a', '/a']) engine.hit(0, { args: [req(url)] });
    engine.hit(0, { args: [req('/b')], cpu: 1 });
    expect(engine.map('@')).toEqual([
      ['/b', '2'],
      ['/a', '3'],
    ]);
  });

  test('latency between two probes, by async context', () => {
    const engine = new Engine(
      'kprobe:query { @t[asyncid] = nsecs; } ' +
        'settle:query /@t[asyncid]/ { @us = hist((nsecs - @t[asyncid]) / 1000); delete(@t[asyncid]); }',
    );
    for (const [id, took] of [
      [1, 5000],
      [2, 70_000],
      [3, 71_000],
    ] as const) {
      engine.asyncId = id;
      engine.now = 1_000_000;
      engine.hit(0);
      engine.now += took;
      engine.hit(1);
    }
    engine.asyncId = 9;
    engine.hit(1);
    expect(engine.map('@t')).toEqual([]);
    expect(engine.buckets('@us').filter(([, , count]) => count > 0)).toEqual([
      [4, 8, 1],
      [64, 128, 2],
    ]);
  });

  test('printf of what a function returned', () => {
    const engine = new Engine('kretprobe:total /retval > 100/ { printf("%s %d\\n", func, retval); }');
    engine.hit(0, { retval: 100, ip: 7n });
    engine.hit(0, { retval: 101, ip: 7n });
    engine.hit(0, { retval: -5, ip: 7n });
    expect(engine.records()).toEqual(['func_7 101\n']);
  });
});

/** Runs one probe body once and gives what it printed. */
function printed(body: string, hit: Parameters<Engine['hit']>[1] = {}, options = {}): string[] {
  const engine = new Engine(`kprobe:f { ${body} }`, options);
  engine.hit(0, hit);
  return engine.records();
}

describe('integers', () => {
  test.each([
    ['1 + 2 * 3', '7'],
    ['(1 + 2) * 3', '9'],
    ['$a + $b * $c', '17'],
    ['($a + $b) * $c', '25'],
    ['$a - $b - $c', '-6'],
    ['$b - ($a - $c)', '6'],
    ['-$c / $b', '-1'],
    ['-$c / $a', '-2'],
    ['-$c % $b', '-2'],
    ['$c / $zero', '0'],
    ['$a << $b | $c & 4 ^ 1', '21'],
    ['-8 >> 1', '-4'],
    ['(uint64)-8 >> 60', '15'],
    ['~$a', '-3'],
    ['!$a', '0'],
    ['!$zero', '1'],
    ['$a < $b', '1'],
    ['-$a < $b', '1'],
    ['(uint64)-1 > $b', '1'],
    ['$a == 2 && $b == 3 || $c == 9', '1'],
    ['$a == 2 && ($b == 4 || $c == 9)', '0'],
    ['$zero || $zero', '0'],
    ['$a > 1 ? $b > 5 ? 1 : 2 : 3', '2'],
    ['(uint8)300', '44'],
    ['(int8)200', '-56'],
    ['(bool)$big + (bool)$zero', '1'],
    ['(int16)$big', '-1'],
    ['(uint32)-1', '4294967295'],
    ['0x7fffffffffffffff', '9223372036854775807'],
    ['1e6 + 1_000 + 1ms + 0x10 + 010', '2001024'],
    ['$a++ + $a', '5'],
    ['++$a + $a--', '6'],
    ['sizeof(uint32) + sizeof($a)', '12'],
    ['$big - 4294967295', '0'],
    ['$big * $big', '-8589934591'],
  ])('%s is %s', (expr, result) => {
    const vars = '$a = 2; $b = 3; $c = 5; $zero = 0; $big = 4294967295;';
    expect(printed(`${vars} printf("%d", ${expr});`)).toEqual([result]);
  });

  test('deep expressions run out of registers and use the stack', () => {
    const one = (depth: number): string =>
      depth === 0 ? 'arg0.n' : `(${one(depth - 1)} + (arg1.n * ${one(depth - 1)}))`;
    expect(printed(`print(${one(4)});`, { args: [{ n: 2 }, { n: 3 }] })).toEqual([`= ${2 * 4 ** 4}`]);
  });

  test('compound assignment to variables and maps', () => {
    const ops = [
      ['+=', 13],
      ['-=', 7],
      ['*=', 30],
      ['/=', 3],
      ['%=', 1],
      ['&=', 2],
      ['|=', 11],
      ['^=', 9],
      ['<<=', 80],
      ['>>=', 1],
    ] as const;
    for (const [op, result] of ops) {
      expect(printed(`$x = 10; $x ${op} 3; @y = 10; @y ${op} 3; print(($x, @y));`), op).toEqual([
        `= (${result}, ${result})`,
      ]);
    }
  });

  test('a compound assignment to an entry that does not exist starts at 0', () => {
    const engine = new Engine('kprobe:f { @x[arg0] += 5; @y -= 2; }');
    engine.hit(0, { args: [1] });
    engine.hit(0, { args: [1] });
    expect(engine.map('@x')).toEqual([['1', '10']]);
    expect(engine.map('@y')).toEqual([['', '-4']]);
  });
});

describe('JavaScript values', () => {
  test('are numbers, text or bytes by where they stand', () => {
    const engine = new Engine(
      'kprobe:f { @sum = sum(arg0.n); @text = str(arg0.s); @value = arg0; @key[arg0.s, arg1] = 1; }',
    );
    engine.hit(0, { args: [{ n: 7, s: 'abc' }, 5] });
    expect(engine.map('@sum')).toEqual([['', '7']]);
    expect(engine.map('@text')).toEqual([['', 'abc']]);
    expect(engine.map('@value')).toEqual([['', '{"n":7,"s":"abc"}']]);
    expect(engine.map('@key')).toEqual([['abc,5', '1']]);
  });

  test('print shows each kind', () => {
    const args = [1.5, true, null, undefined, 'text', [1]];
    expect(printed('print(arg0); print(arg1); print(arg0);', { args: ['x', 9] })).toEqual([
      '= x',
      '= 9',
      '= x',
    ]);
    const all = args.map((_, i) => `print(arg0[${i}]);`).join(' ');
    expect(printed(all, { args: [args] })).toEqual([
      '= 1.5',
      '= true',
      '= null',
      '= undefined',
      '= text',
      '= [1]',
    ]);
  });

  test('property paths: names, quoted names, indexes, parameters', () => {
    const arg = { headers: { 'content-type': 'json' }, list: [{ name: 'n0' }, { name: 'n1' }] };
    expect(
      printed(
        'printf("%s %s %s", arg0.headers["content-type"], arg0.list[1].name, arg0.headers[$1]);',
        { args: [arg] },
        {
          params: ['content-type'],
        },
      ),
    ).toEqual(['json n1 json']);
  });

  test('args.NAME is the parameter of that name', () => {
    expect(printed('print(args.res.statusCode);', { args: [0, { statusCode: 404 }] })).toEqual(['= 404']);
  });

  test('variables keep the value itself', () => {
    expect(
      printed('$h = arg0.headers; $n = $h.count; print($h.host); print($n + 1);', {
        args: [{ headers: { host: 'example', count: 2 } }],
      }),
    ).toEqual(['= example', '= 3']);
  });

  test('arguments beyond the sixth', () => {
    expect(printed('print(arg7); print(arg7.x);', { args: [0, 0, 0, 0, 0, 0, 0, { x: 5 }] })).toEqual([
      '= {"x":5}',
      '= 5',
    ]);
  });

  test('this, retval, error', () => {
    const engine = new Engine(
      'kprobe:f { print(this.name); } kretprobe:f { print(retval); } throw:f { print(error.message); }',
    );
    engine.hit(0, { self: { name: 'me' } });
    engine.hit(1, { retval: 'result' });
    engine.hit(2, { error: { message: 'oops' } });
    expect(engine.records()).toEqual(['= me', '= result', '= oops']);
  });

  test('conditions are true where JavaScript says so', () => {
    for (const [value, truth] of [
      ['', '0'],
      ['0', '1'],
      [{}, '1'],
      [0, '0'],
      [undefined, '0'],
    ] as const) {
      const args = [{ x: value }];
      expect(printed('if (arg0.x) { print(1) } else { print(0) }', { args })).toEqual([`= ${truth}`]);
      expect(printed('@x = arg0.x; if (@x) { print(1) } else { print(0) }', { args })).toEqual([
        `= ${truth}`,
      ]);
    }
  });

  test('kept values read as numbers', () => {
    for (const [value, number] of [
      [7, 7],
      [-7, -7],
      [2.75, 2],
      [-2.75, -2],
      [0.5, 0],
      [2 ** 60 + 2 ** 40, 2 ** 60 + 2 ** 40],
      [1e300, 0],
      [true, 1],
      ['text', 0],
    ] as const) {
      expect(
        printed('@x = arg0.x; $y = (int64)@x; print($y);', { args: [{ x: value }] }),
        String(value),
      ).toEqual([`= ${BigInt(number)}`]);
    }
  });

  test('numbers and strings join values in one map', () => {
    const engine = new Engine('kprobe:f { @[arg0] = count(); @["x"] = count(); @[5] = count(); }');
    engine.hit(0, { args: ['x'] });
    engine.hit(0, { args: [5] });
    expect(engine.map('@')).toEqual([
      ['5', '3'],
      ['x', '3'],
    ]);
  });

  test('identity', () => {
    const shared = {};
    expect(
      printed('print(arg0.a == arg0.b); print(arg0.a == arg0.c); print(id(arg0.n))', {
        args: [{ a: shared, b: shared, c: {}, n: 12 }],
      }),
    ).toEqual(['= 1', '= 0', '= 12']);
  });

  test('len and buf', () => {
    const args = [{ text: 'abcd', bytes: Uint8Array.of(1, 2, 255), none: 1 }];
    expect(
      printed(
        'print(len(arg0.text)); print(buf(arg0.bytes)); print(buf(arg0.bytes, 2)); print(buf(arg0.none)); printf("%r", buf(arg0.bytes))',
        { args },
      ),
    ).toEqual(['= 4', '= buf 0102ff', '= buf 0102', '= buf ', '\\x01\\x02\\xff']);
  });
});

describe('strings', () => {
  test.each([
    ['str(arg0) == "abc"', 'abc', '1'],
    ['str(arg0) == "abc"', 'abcd', '0'],
    ['str(arg0) == "abc"', 'ab', '0'],
    ['arg0 == "abcdefgh"', 'abcdefgh', '1'],
    ['arg0 == "abcdefgh"', 'abcdefghi', '0'],
    ['arg0 != "abcdefgh"', 'abcdefg', '1'],
    ['"" == arg0', '', '1'],
    ['"" == arg0', 'x', '0'],
    ['$s == arg0', 'xyz', '1'],
    ['$s == "xyz"', 'xyz', '1'],
    ['@m == $s', 'xyz', '1'],
    ['@m == "other"', 'xyz', '0'],
    ['$s == str($1)', 'xyz', '1'],
    ['strncmp(arg0, "/api/users", 5) == 0', '/api/x', '1'],
    ['strncmp(arg0, "/api/users", 6) == 0', '/api/x', '0'],
    ['strncmp(str(arg0), "/a", 10) == 0', '/a', '1'],
    ['strncmp(str(arg0), "/a", 10) == 0', '/ab', '0'],
    ['strncmp($s, @m, 12) == 0', 'something longer', '1'],
    ['str(arg0, 3) == "abc"', 'abcdef', '1'],
    ['(string)arg0 == "é€"', 'é€', '1'],
  ])('%s with %j is %s', (expr, arg, result) => {
    expect(
      printed(`$s = str(arg0); @m = $s; print((int64)(${expr}));`, { args: [arg] }, { params: ['xyz'] }),
    ).toEqual([`= ${result}`]);
  });

  test('have max_strlen bytes, NUL included, and str(x, n) n characters', () => {
    const args = ['0123456789abcdefghij'];
    expect(
      printed('print(str(arg0)); print(str(arg0, 11));', { args }, { config: { maxStrlen: 17 } }),
    ).toEqual(['= 0123456789abcdef', '= 0123456789a']);
    const engine = new Engine(
      'config = { max_strlen = 512 } kprobe:f { @[str(arg0), str(arg1)] = count(); @v = arg0; }',
    );
    engine.hit(0, { args: ['x'.repeat(500), 'y'.repeat(600)] });
    engine.hit(0, { args: ['x'.repeat(500), 'y'.repeat(600)] });
    expect(engine.map('@')).toEqual([[`${'x'.repeat(500)},${'y'.repeat(511)}`, '2']]);
    expect(engine.map('@v')).toEqual([['', 'x'.repeat(500)]]);
  });

  test('literals, len, ternary, escapes', () => {
    expect(
      printed(
        '$x = "a\\tb\\"\\x41\\101"; print($x); print(len($x)); print(len("12345678")); $y = len($x) > 3 ? "long" : "s"; print($y)',
      ),
    ).toEqual(['= a\tb"AA', '= 6', '= 8', '= long']);
  });

  test('a variable that is assigned from itself', () => {
    expect(printed('$t = (1, "a", "bcd"); $t = (2, $t.2, $t.1); print($t);')).toEqual(['= (2, bcd, a)']);
  });

  test('comm', () => {
    expect(printed('print(comm); if (comm == "node") { print("yes") } @[comm] = 1;')).toEqual([
      '= node',
      '= yes',
    ]);
  });
});

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

describe('control flow', () => {
  test('if, else if, else', () => {
    const body = 'if (arg0 < 0) { print("neg") } else if (arg0 == 0) { print("zero") } else { print("pos") }';
    expect([-1, 0, 1].map((n) => printed(body, { args: [n] })[0])).toEqual(['= neg', '= zero', '= pos']);
  });

  test('while with break and continue', () => {
    expect(
      printed(
        '$i = 0; $sum = 0; while ($i < 100) { $i++; if ($i % 2) { continue } if ($i > 10) { break } $sum += $i; } print(($i, $sum));',
      ),
    ).toEqual(['= (12, 30)']);
  });

  test('for over a range, also one that is only known at run time', () => {
    expect(printed('for ($i : 0..4) { print($i); }')).toEqual(['= 0', '= 1', '= 2', '= 3']);
    expect(
      printed('$s = 0; for ($i : arg0..arg1) { if ($i == 7) { continue } $s += $i; } print($s);', {
        args: [5, 10],
      }),
    ).toEqual(['= 28']);
    expect(
      printed('$n = 0; for ($i : 0..3) { for ($j : 0..$i) { $n += 10 * $i + $j; } } print($n);'),
    ).toEqual(['= 51']);
  });

  test('an endless loop ends, and says so once', () => {
    const engine = new Engine(
      'kprobe:f { $i = 0; while (1) { $i++; } @n = $i; }\nkprobe:g { while (1) { @g = 1; } }',
    );
    for (let i = 0; i < 3; i++) engine.hit(0);
    engine.hit(1);
    expect(engine.records()).toEqual(['error', 'error']);
    // Every hit has the whole budget: rounds of about ten nanoseconds.
    const [[, n]] = engine.map('@n') as [[string, string]];
    expect(Number(n)).toBeGreaterThan(20_000);
    expect(Number(n)).toBeLessThan(1_000_000);
    const errors = engine.script.actions.filter((action) => action.kind === 'error');
    expect(errors.map(({ message }) => message)).toEqual(
      Array(2).fill(expect.stringContaining('Loop limit reached')),
    );
    expect(errors.map(({ position }) => engine.script.positions[position])).toMatchObject([
      { line: 1, column: 20 },
      { line: 2, column: 12 },
    ]);
  });

  test('expensive rounds make fewer of them; all loops of a hit share one budget', () => {
    const rounds = (body: string): number => {
      const engine = new Engine(`kprobe:f { $i = 0; ${body} @n = $i; }`);
      engine.hit(0, { args: [{ x: 1 }] });
      return Number(engine.map('@n')[0]![1]);
    };
    expect(rounds('while (1) { $i++; @s = kstack; }')).toBeLessThan(64);
    expect(rounds('while (1) { $i++; @v = arg0; }')).toBeLessThan(1000);
    const nested = rounds('while (1) { while (1) { $i++; } }');
    expect(nested).toBeGreaterThan(5000);
    expect(nested).toBeLessThan(1_000_000);
    expect(rounds('while (1) { $i++; $n = len(@big); @big[1] = 1; }')).toBeLessThan(64);
    expect(
      rounds('for ($k : 0..90) { @big[$k] = 1; } for ($a : @big) { for ($b : @big) { $i++; } }'),
    ).toBeGreaterThan(1000);
    expect(rounds('while ($i < 500) { $i++; } while ($i < 1000) { $i++; }')).toBe(1000);
  });

  test('loops over maps are bounded too, but not off the main thread', () => {
    const fill = 'kprobe:f { @x[arg0] = arg0; } ';
    const loop = '{ for ($kv : @x) { @n = count(); @v = $kv.1; @w = $kv.0; @u = nsecs; } }';
    const counted = (probe: string): number => {
      const engine = new Engine(`${fill} ${probe} ${loop}`);
      for (let i = 0; i < 4000; i++) engine.hit(0, { args: [i] });
      engine.hit(1);
      return Number(engine.map('@n')[0]![1]);
    };
    expect(counted('kprobe:g')).toBeLessThan(4000);
    expect(counted('END')).toBe(4000);
  });

  test('unroll', () => {
    expect(printed('$i = 1; unroll(5) { if ($i == 4) { break } print($i); $i++; }')).toEqual([
      '= 1',
      '= 2',
      '= 3',
    ]);
  });

  test('return and exit leave the program', () => {
    expect(printed('print(1); if (arg0) { return; } print(2);', { args: [1] })).toEqual(['= 1']);
    expect(printed('print(1); exit(3); print(2);')).toEqual(['= 1', 'exit 3']);
    expect(printed('exit(arg0);', { args: [4] })).toEqual(['exit 4']);
    expect(printed('exit();')).toEqual(['exit 0']);
  });

  test('ternary calls and short circuits have their side effects once', () => {
    expect(
      printed(
        'arg0 ? printf("a") : exit(); $x = arg0 && @n++; print(@n + 0); $x = !arg0 && @n++; print(@n + 0);',
        { args: [1] },
      ),
    ).toEqual(['a', '= 1', '= 1']);
  });

  test('blocks have variables of their own', () => {
    expect(
      printed('if (arg0) { $x = 1; print($x) } else { $x = "text"; print($x) } let $y; print($y);', {
        args: [0],
      }),
    ).toEqual(['= text', '= 0']);
  });
});

describe('builtins and actions', () => {
  test('numbers of the process', () => {
    expect(
      printed('print((pid, tid, uid, gid, cpu, rand)); print(nsecs); print(nsecs(boot) - nsecs);', {
        cpu: 1,
      }),
    ).toEqual(['= (4711, 4712, 1000, 100, 1, 2147483649)', '= 1000', '= 0']);
  });

  test('func, probe, reg, stacks', () => {
    const engine = new Engine(
      'kprobe:f { print(func); } kprobe:g { print(probe); @[probe, func] = count(); print(reg("di")); print(kstack); print(ustack(3)); print(kstack(perf, 2)); }',
    );
    engine.hit(0, { ip: 55n });
    engine.hit(1, { ip: 56n, cookie: 3, args: [8] });
    expect(engine.records()).toEqual([
      '= func_55',
      '= probe_1_3',
      '= 8',
      '= frame 127',
      '= frame 3',
      '= frame 2',
    ]);
    expect(engine.map('@')).toEqual([['probe_1_3,func_56', '1']]);
  });

  test('elapsed counts from BEGIN', () => {
    const engine = new Engine('BEGIN { print(elapsed); } kprobe:f { print(elapsed); }');
    expect(engine.script.programs.map(({ attach }) => attach[0]!.point.type)).toEqual([
      'BEGIN',
      'BEGIN',
      'kprobe',
    ]);
    engine.hit(0);
    engine.hit(1);
    engine.now += 50;
    engine.hit(2);
    expect(engine.records()).toEqual(['= 0', '= 50']);
  });

  test('printf formats', () => {
    expect(
      printed('printf("%5d|%-5s|%05x|%c|%%|%u|%s|%s\\n", arg0, "ab", 255, 65, arg0, arg1, @c); @c = arg1;', {
        args: [-7, 'value'],
      }),
    ).toEqual(['   -7|ab   |000ff|A|%|18446744073709551609|value|undefined\n']);
  });

  test('requests about maps, time', () => {
    expect(
      printed(
        '@x[1] = 1; print(@x); print(@x, 5); print(@x, 5, 1000); clear(@x); zero(@x); time("%S"); time();',
      ),
    ).toEqual([
      'print_map @x 0 0',
      'print_map @x 5 0',
      'print_map @x 5 1000',
      'clear @x',
      'zero @x',
      '00',
      '00:00:00\n',
    ]);
  });

  test('strftime', () => {
    expect(printed('printf("%s", strftime("%S", nsecs + 5000000000)); print(strftime("%M", 120s));')).toEqual(
      ['05', '= 02'],
    );
  });

  test('a full ring costs the record and nothing else', () => {
    const engine = new Engine('kprobe:f { printf("%s", str(arg0)); @ = count(); }', {
      config: { maxStrlen: 4096 },
    });
    for (let i = 0; i < 3000; i++) engine.hit(0, { args: ['x'] });
    expect(engine.records().length).toBeLessThan(3000);
    expect(engine.map('@')).toEqual([['', '3000']]);
  });
});

describe('programs', () => {
  test('one for a list; one for each meaning of args.NAME', () => {
    const targets = { a: ['req', 'res'], b: ['res', 'req'], c: ['req'] };
    expect(new Engine('kprobe:* { @ = count(); }', { targets }).script.programs.length).toBe(1);
    const engine = new Engine('kprobe:* { print(args.req); }', { targets });
    expect(
      engine.script.programs.map(({ attach }) => attach.flatMap((a) => a.targets.map((t) => t.name))),
    ).toEqual([['a', 'c'], ['b']]);
    engine.hit(0, { args: ['first', 'second'] });
    engine.hit(1, { args: ['first', 'second'] });
    expect(engine.records()).toEqual(['= first', '= second']);
  });

  test('a value is computed once: asyncid, property paths, map entries', () => {
    const engine = new Engine(
      'kprobe:f { @a = arg0.n.m; $x = arg0.n.m + arg0.n.m; $y = arg0.n.m * 2; print($x + $y); }',
    );
    engine.hit(0, { args: [{ n: { m: 5 } }] });
    expect(engine.records()).toEqual(['= 20']);
    expect(engine.reads.map(([path]) => path)).toEqual(['n.m', 'n.m']);
  });

  test('the hot paths are short', () => {
    const size = (source: string): number => new Engine(source).script.programs[0]!.insns.length;
    expect(size('kprobe:f { @ = count(); }')).toBeLessThanOrEqual(14);
    expect(size('kprobe:f { @[str(arg0.url)] = count(); }')).toBeLessThanOrEqual(52);
  });
});
