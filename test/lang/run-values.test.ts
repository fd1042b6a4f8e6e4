import { describe, expect, test } from 'vitest';
import { Engine } from './engine.ts';
import { printed } from './run-support.ts';

describe('integers', () => {
  test.each([
    ["'a' + 1", '98'],
    ["'\\n' == 10 && '\\'' == 39 && '\\x41' == 'A' && '\"' == 34", '1'],
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
    ['strcontains(arg0, "users")', '/api/users/5', '1'],
    ['strcontains(arg0, "users")', '/api/user/s', '0'],
    ['strcontains($s, "/")', '/', '1'],
    ['strcontains(@m, "z")', 'xyz', '1'],
    ['strcontains($s, str($1))', 'wxyz', '1'],
    ['strcontains($s, "")', '', '1'],
    ['strcontains(str(arg0, 3), "cd")', 'abcdef', '0'],
    ['strcontains(arg0, "é€")', 'aé€', '1'],
    ['str(arg0, 3) == "abc"', 'abcdef', '1'],
    ['(string)arg0 == "é€"', 'é€', '1'],
  ])('%s with %j is %s', (expr, arg, result) => {
    expect(
      printed(`$s = str(arg0); @m = $s; print((int64)(${expr}));`, { args: [arg] }, { params: ['xyz'] }),
    ).toEqual([`= ${result}`]);
  });

  test('strcontains() finds what includes() finds, at every place and length', () => {
    const text = 'abcdefghijklmnopqrstuvwxyz0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ!';
    for (const [size, have] of [
      [64, text],
      [64, text.slice(0, 37)],
      [12, text.slice(0, 11)],
      [16, text.slice(0, 8)],
    ] as const) {
      for (const length of [1, 2, 7, 8, 9, 11, 16, 17, 31, 40, 63]) {
        const parts: string[] = [];
        for (let at = 0; at + length <= text.length; at += 1 + (length >> 3))
          parts.push(text.slice(at, at + length));
        parts.push(`${text.slice(3, 2 + length)}?`);
        const body = parts.map((part) => `printf("%d", strcontains(arg0, "${part}"));`).join(' ');
        const found = printed(body, { args: [have] }, { config: { maxStrlen: size } });
        expect(found.join('')).toBe(parts.map((part) => Number(have.includes(part))).join(''));
      }
    }
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
