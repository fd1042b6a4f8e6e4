import { describe, expect, test } from 'vitest';
import { Engine } from './engine.ts';
import { printed, req } from './run-support.ts';

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
