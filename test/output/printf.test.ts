import { execFileSync } from 'node:child_process';
import { describe, expect, test } from 'vitest';
import type { ScriptType } from '../../src/lang/script.ts';
import { compilePrintf, strftime } from '../../src/output/index.ts';
import { concat, context, jsValue, S64, STR16, text, U64, u64s, view } from './support.ts';

function print(format: string, ...args: { type: ScriptType; bytes: Uint8Array }[]): string {
  let offset = 8;
  const placed = args.map(({ type, bytes }) => {
    const arg = { offset, type };
    offset += bytes.length;
    return arg;
  });
  return compilePrintf(format, placed, context)(view(u64s(0), ...args.map(({ bytes }) => bytes)));
}

const int = (value: bigint | number) => ({ type: S64, bytes: u64s(value) });
const uint = (value: bigint | number) => ({ type: U64, bytes: u64s(value) });
const str = (value: string) => ({ type: STR16, bytes: text(value, 16) });
const double = (value: number) => ({
  type: { kind: 'value', size: 40 } as const,
  bytes: jsValue(4, new Uint8Array(Float64Array.of(value).buffer)),
});

describe('printf', () => {
  test('integers agree with printf(1)', () => {
    const values = [0n, 1n, -1n, 42n, -42n, 255n, 4294967296n, 2n ** 53n + 1n, 2n ** 63n - 1n, -(2n ** 63n)];
    const flags = ['', '-', '0', '+', ' ', '#', '-0', '+0', '0#'];
    const widths = ['', '1', '5', '12', '.0', '.3', '12.6'];
    const formats: string[] = [];
    for (const flag of flags) {
      for (const width of widths)
        for (const letter of ['d', 'i', 'u', 'x', 'X', 'o']) formats.push(`%${flag}${width}${letter}`);
    }
    const script = formats
      .flatMap((format) => values.map((value) => `printf '${format}|\\n' '${value}'`))
      .join('\n');
    const expected = execFileSync('bash', ['-c', script], { encoding: 'utf8' }).trimEnd().split('\n');
    const actual = formats.flatMap((format) => values.map((value) => `${print(format, int(value))}|`));
    expect(actual).toEqual(expected);
  });

  test('numbers with a fraction agree with printf(1)', () => {
    const values = [0, 1, -1.5, 2.7169, 1e-7, 123456789.375, 1e21, 4e22];
    const formats = ['%f', '%.2f', '%10.1f', '%-10.1f', '%010.3f', '%e', '%.0e', '%g', '%.3g', '%G', '%+g'];
    const script = formats
      .flatMap((format) => values.map((value) => `printf '${format}|\\n' '${value}'`))
      .join('\n');
    const environment = { ...process.env, LC_ALL: 'C' };
    const expected = execFileSync('bash', ['-c', script], { encoding: 'utf8', env: environment })
      .trimEnd()
      .split('\n');
    // bash's printf reads a long double; these values and precisions round alike.
    expect(formats.flatMap((format) => values.map((value) => `${print(format, double(value))}|`))).toEqual(
      expected,
    );
  });

  test('strings, literals and percent signs', () => {
    expect(print('%s %d%%\n', str('GET /'), int(3))).toBe('GET / 3%\n');
    expect(print('[%-10s][%10s][%.2s]', str('abc'), str('abc'), str('abc'))).toBe(
      '[abc       ][       abc][ab]',
    );
    expect(print('100%% of %s', str(''))).toBe('100% of ');
    expect(print('%s', str('äöü€'))).toBe('äöü€');
    expect(print('%s', str('a string that is cut'))).toBe('a string that is');
    // 16 bytes end within the last character: it is dropped.
    expect(print('%s', str('aaaaaaaaaaaaaa€'))).toBe('aaaaaaaaaaaaaa');
  });

  test('lengths and 64-bit values', () => {
    expect(print('%llu %lu %u', uint(-1), uint(-1), uint(-1))).toBe(
      Array(3).fill('18446744073709551615').join(' '),
    );
    expect(print('%lld %d', uint(-1), int(-(2n ** 53n) - 1n))).toBe('-1 -9007199254740993');
    expect(print('%hhd %hx %zu', int(511), int(-1), int(7))).toBe('-1 ffff 7');
    expect(print('%p %#x %c%c', int(0), int(255), int(72), int(105))).toBe('0x0 0xff Hi');
  });

  test('small and narrow integers', () => {
    const byte = { type: { kind: 'int', size: 1, signed: true } as const, bytes: Uint8Array.of(0xff) };
    const word = {
      type: { kind: 'int', size: 4, signed: false } as const,
      bytes: new Uint8Array([255, 255, 255, 255]),
    };
    expect(print('%d', byte)).toBe('-1');
    expect(print('%d %x', word, word)).toBe('4294967295 ffffffff');
  });

  test('JavaScript values', () => {
    const type = { kind: 'value', size: 40 } as const;
    const value = (tag: number, data: Uint8Array, length?: number) => ({
      type,
      bytes: jsValue(tag, data, length),
    });
    const utf8 = (value: string) => new TextEncoder().encode(value);
    expect(print('%s %s %s', value(0, u64s()), value(1, u64s()), value(2, u64s(1)))).toBe(
      'undefined null true',
    );
    expect(print('%s %d', value(3, u64s(-5)), value(3, u64s(-5)))).toBe('-5 -5');
    expect(print('%s %d %.1f', double(-0), double(2.9), double(2.25))).toBe(
      '-0 2 2.3'.replace('2.3', (2.25).toFixed(1)),
    );
    expect(print('%s', value(5, utf8('/users/1')))).toBe('/users/1');
    expect(print('%s', value(6, utf8("{ url: '/x', n: 2 }")))).toBe("{ url: '/x', n: 2 }");
    expect(print('%s', value(5, utf8('x'.repeat(32)), 100))).toBe(`${'x'.repeat(32)}..`);
    // ten of three bytes have room in 32; the writer leaves zeros where the next one would begin
    expect(print('%s', value(5, utf8('漢'.repeat(10)), 100))).toBe(`${'漢'.repeat(10)}..`);
    expect(
      print('%s %d', value(9, utf8('123456789012345678901')), value(9, utf8('18446744073709551617'))),
    ).toBe('123456789012345678901 1');
  });

  test('buffers, stacks, functions, probes, tuples and times', () => {
    const buf = {
      type: { kind: 'buf', size: 12 } as const,
      bytes: concat(
        new Uint8Array(Uint32Array.of(4).buffer),
        Uint8Array.of(0x00, 0x41, 0x7f, 0xff, 0, 0, 0, 0),
      ),
    };
    expect(print('%r|%rx|%rh', buf, buf, buf)).toBe('\\x00A\\x7f\\xff|\\x00\\x41\\x7f\\xff|00 41 7f ff');
    const stack = { type: { kind: 'stack', size: 8, depth: 127 } as const, bytes: u64s(7) };
    expect(print('at%s', stack)).toBe('at\n        inner (a.js:1:2)\n        outer (b.js:3:4)\n');
    expect(print('%s', { type: { kind: 'func', size: 8 }, bytes: u64s(99) })).toBe('func_99');
    expect(print('%s', { type: { kind: 'probe', size: 8 }, bytes: u64s((3n << 32n) | 5n) })).toBe(
      'kprobe:p3:5',
    );
    const tuple: ScriptType = {
      kind: 'tuple',
      size: 24,
      fields: [
        { offset: 0, type: S64 },
        { offset: 8, type: STR16 },
      ],
    };
    expect(print('%s', { type: tuple, bytes: concat(u64s(1), text('two', 16)) })).toBe('(1, two)');
  });
});

describe('strftime', () => {
  test.each([
    ['UTC', 'UTC', 'UTC'],
    ['Europe/Berlin', 'CET', 'CEST'],
    ['America/New_York', 'EST', 'EDT'],
    ['Australia/Sydney', 'AEDT', 'AEST'],
    ['America/Sao_Paulo', '-03', '-03'],
  ])('%%Z in %s', (zone, january, july) => {
    const before = process.env['TZ'];
    process.env['TZ'] = zone;
    try {
      expect([
        strftime('%Z', 1_736_000_000_000_000_000n),
        strftime('%Z', 1_752_000_000_000_000_000n),
      ]).toEqual([january, july]);
    } finally {
      if (before === undefined) delete process.env['TZ'];
      else process.env['TZ'] = before;
    }
  });

  test('agrees with date(1)', () => {
    const conversions = [...'YCymdejHkIlMSspPaAbBuwzFTRDrGgVUWhnt'].filter(
      (letter) => !'nt'.includes(letter),
    );
    for (const seconds of [
      0, 951_782_400, 1_700_000_000, 1_735_603_199, 1_767_225_599, 1_672_531_200, 1_704_067_200,
      1_609_459_200,
    ]) {
      const expected = execFileSync(
        'date',
        ['-d', `@${seconds}`, `+${conversions.map((c) => `%${c}`).join('|')}`],
        {
          encoding: 'utf8',
          env: { ...process.env, LC_ALL: 'C' },
        },
      ).trimEnd();
      expect(strftime(conversions.map((c) => `%${c}`).join('|'), BigInt(seconds) * 1_000_000_000n)).toBe(
        expected,
      );
    }
  });

  test('microseconds, literals and what it does not know', () => {
    expect(strftime('%f %% %Q', 1_700_000_000_123_456_789n)).toBe('123456 % %Q');
    expect(strftime('a%nb%t', 0n)).toBe('a\nb\t');
  });
});
