import { describe, expect, test } from 'vitest';
import { Engine } from './engine.ts';

/** Runs the first probe once for each hit, then the second one, and gives what was printed. */
function run(source: string, hits: readonly unknown[][] = [[]]): string[] {
  const engine = new Engine(source);
  for (const [i, args] of hits.entries()) engine.hit(0, { args, cpu: i % 2 });
  if (engine.script.programs.length > 1) engine.hit(1, { args: [7] });
  return engine.records();
}

const urls = [
  ['/a', 1],
  ['/b', 2],
  ['/a', 3],
];

describe('loops over maps', () => {
  test('keys and values of a hash', () => {
    expect(
      run(
        'kprobe:f { @x[str(arg0)] = arg1; } kprobe:g { for ($kv : @x) { printf("%s=%d;", $kv.0, $kv.1); } }',
        urls,
      ),
    ).toEqual(['/a=3;', '/b=2;']);
  });

  test.each([
    ['count()', ['= (/a, 2)', '= (/b, 1)']],
    ['sum(arg1)', ['= (/a, 4)', '= (/b, 2)']],
    ['avg(arg1)', ['= (/a, 2)', '= (/b, 2)']],
    ['min(arg1)', ['= (/a, 1)', '= (/b, 2)']],
    ['max(arg1)', ['= (/a, 3)', '= (/b, 2)']],
  ])('an aggregation by %s, all CPUs together', (aggregate, shown) => {
    expect(
      run(`kprobe:f { @x[str(arg0)] = ${aggregate}; } kprobe:g { for ($kv : @x) { print($kv); } }`, urls),
    ).toEqual(shown);
  });

  test('keys of several parts, values that are strings, tuples and JavaScript values', () => {
    expect(
      run(
        'kprobe:f { @x[str(arg0), arg1] = (arg1 * 2, "t"); @v[arg0] = arg1; @s[arg1] = str(arg0); }' +
          'kprobe:g { for ($kv : @x) { print(($kv.0.0, $kv.0.1, $kv.1.0, $kv.1.1)); } for ($kv : @v) { print($kv); } for ($kv : @s) { print($kv.1); } }',
        [
          ['/a', 1],
          ['/b', 2],
        ],
      ),
    ).toEqual(['= (/a, 1, 2, t)', '= (/b, 2, 4, t)', '= (/a, 1)', '= (/b, 2)', '= /a', '= /b']);
  });

  test('shares variables with what is around it', () => {
    expect(
      run(
        'kprobe:f { @x[arg0] = arg1; } kprobe:g { $sum = 0; $most = 0; $name = "none"; $n = 10; for ($kv : @x) { $sum += $kv.1; $n++; if ($kv.1 > $most) { $most = $kv.1; $name = str($kv.0); } $own = $sum; } print(($sum, $most, $name, $n, arg0)); }',
        [
          ['/a', 5],
          ['/b', 9],
          ['/c', 2],
        ],
      ),
    ).toEqual(['= (16, 9, /b, 13, 7)']);
  });

  test('break, continue, return and exit()', () => {
    const fill = 'kprobe:f { @x[arg0] = arg0; } ';
    const three = [[1], [2], [3]];
    expect(
      run(
        `${fill}kprobe:g { for ($kv : @x) { if ($kv.1 == 2) { break } print($kv.1) } print("end") }`,
        three,
      ),
    ).toEqual(['= 1', '= end']);
    expect(
      run(
        `${fill}kprobe:g { for ($kv : @x) { if ($kv.1 == 2) { continue } print($kv.1) } print("end") }`,
        three,
      ),
    ).toEqual(['= 1', '= 3', '= end']);
    expect(
      run(
        `${fill}kprobe:g { for ($kv : @x) { if ($kv.1 == 2) { return } print($kv.1) } print("end") }`,
        three,
      ),
    ).toEqual(['= 1']);
    expect(run(`${fill}kprobe:g { for ($kv : @x) { print($kv.1); exit(3); } print("end") }`, three)).toEqual([
      '= 1',
      'exit 3',
    ]);
  });

  test('deleting and inserting while it goes on', () => {
    const engine = new Engine(
      'kprobe:f { @x[arg0] = count(); } kprobe:g { for ($kv : @x) { if ($kv.0 % 2) { delete(@x[$kv.0]); @y[$kv.0] = $kv.1; } } print(len(@x)); print((len(@y), 1)); }',
    );
    for (let i = 1; i <= 9; i++) engine.hit(0, { args: [i] });
    engine.hit(1);
    expect(engine.records()).toEqual(['= 4', '= (5, 1)']);
    expect(engine.map('@y').map(([key]) => key)).toEqual(['1', '3', '5', '7', '9']);
  });

  test('a loop in a loop, a while in a loop, a loop in a branch', () => {
    expect(
      run(
        'kprobe:f { @x[arg0] = arg0 * 10; @y[arg0] = count(); } kprobe:g { $n = 0; if (arg0) { for ($a : @x) { for ($b : @y) { $n += $a.1 * $b.0; if ($b.0 == 2) { break } } $i = 0; while ($i < 3) { $i++; $n++; } } } print($n); }',
        [[1], [2], [3]],
      ),
    ).toEqual([`= ${(10 + 20 + 30) * (1 + 2) + 9}`]);
  });

  test('what the program has at hand is not taken for the callback, nor the other way round', () => {
    expect(
      run(
        'kprobe:f { @x[1] = 1; $a = @x[1]; $u = arg0.url; for ($kv : @x) { @x[1] = 5; print(arg0.url); $u = arg0.url; print(@x[1]); } print(@x[1]); print(($a, str($u))); }',
        [[{ url: '/u' }]],
      ),
    ).toEqual(['= /u', '= 5', '= 5', '= (1, /u)']);
  });

  test('an empty map, and long strings', () => {
    expect(
      run(
        'kprobe:f { for ($kv : @x) { print($kv.1); } print(len(@x)); if (arg0) { @x["k"] = str(arg0); } }',
        [[0]],
      ),
    ).toEqual(['= 0']);
    const long = 'x'.repeat(200);
    expect(
      run(
        'config = { max_strlen = 256 } kprobe:f { @x[str(arg0)] = str(arg0); } kprobe:g { for ($kv : @x) { print($kv.0); print(len($kv.1)); } }',
        [[long]],
      ),
    ).toEqual([`= ${long}`, '= 200']);
  });

  test.each([
    ['@x = 1; for ($kv : @x) { }', '@x has no explicit keys (scalar map), and cannot be used in a for loop'],
    ['@x[1] = hist(1); for ($kv : @x) { }', "A for loop cannot read values of type 'hist_t'"],
    ['for ($kv : @x) { }', 'Undefined map: @x'],
    ['@x[1] = 1; for ($kv : @x) { print($kv.2) }', 'Invalid tuple index'],
    ['@x[1] = 1; for ($kv : @x) { } print($kv);', 'Undefined or undeclared variable: $kv'],
    ['@x = 1; print(len(@x));', 'len() expects a map with explicit keys, and @x has none'],
  ])('%s is refused', (body, message) => {
    expect(() => new Engine(`kprobe:f { ${body} }`)).toThrow(message);
  });
});
