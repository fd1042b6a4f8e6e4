import { describe, expect, test } from 'vitest';
import type { CompiledScript, ScriptMap, ScriptType } from '../../src/lang/script.ts';
import {
  histLowerBound,
  JsonPrinter,
  type MapPrintOptions,
  type Printer,
  printedMap,
  type RawMapEntry,
  RecordDecoder,
  TextPrinter,
} from '../../src/output/index.ts';
import { concat, context, jsValue, S64, STR16, scriptMap, text, U64, u64s, view } from './support.ts';

function printers(run: (printer: Printer) => void): { text: string; json: string; progress: string } {
  const result = { text: '', json: '', progress: '' };
  run(
    new TextPrinter({ data: (data) => (result.text += data), progress: (line) => (result.progress += line) }),
  );
  run(new JsonPrinter({ data: (data) => (result.json += data), progress: () => {} }));
  return result;
}

function show(map: ScriptMap, entries: readonly RawMapEntry[], options?: MapPrintOptions) {
  const { text, json } = printers((printer) => printer.map(printedMap(map, entries, options)));
  return { text, json: json === '' ? undefined : JSON.parse(json) };
}

const entry = (key: Uint8Array, ...values: Uint8Array[]): RawMapEntry => ({ key, values, context });
const noKey = new Uint8Array(4);

describe('maps', () => {
  test('a count without keys adds its CPUs', () => {
    const { text, json } = show(scriptMap('@x', { kind: 'count' }), [entry(noKey, u64s(2), u64s(3))]);
    expect(text).toBe('@x: 5\n');
    expect(json).toEqual({ type: 'map', data: { '@x': 5 } });
  });

  test('keys, ascending by value, ties by key', () => {
    const map = scriptMap('@', { kind: 'count' }, [STR16, S64]);
    const key = (name: string, number: number) => concat(text(name, 16), u64s(number));
    const { text: out, json } = show(map, [
      entry(key('b', -1), u64s(7)),
      entry(key('c', 10), u64s(1)),
      entry(key('a', 2), u64s(7)),
      entry(key('a', 10), u64s(7)),
    ]);
    expect(out).toBe('@[c, 10]: 1\n@[a, 2]: 7\n@[a, 10]: 7\n@[b, -1]: 7\n');
    expect(json).toEqual({ type: 'map', data: { '@': { 'c,10': 1, 'a,2': 7, 'a,10': 7, 'b,-1': 7 } } });
  });

  test('functions with one name are one key where their values add up', () => {
    const key: ScriptType = { kind: 'func', size: 8 };
    const named = { ...context, funcName: () => '<anonymous>' };
    const entries = [1, 2].map((n) => ({ key: u64s(n), values: [u64s(n * 10)], context: named }));
    const joined = { type: 'map', data: { '@': { '<anonymous>': 30 } } };
    expect(show(scriptMap('@', { kind: 'count' }, [key]), entries)).toEqual({
      text: '@[<anonymous>]: 30\n',
      json: joined,
    });
    const plain = scriptMap('@', { kind: 'plain', type: U64 }, [key]);
    expect(show(plain, entries, { additive: true }).json).toEqual(joined);
    expect(show(plain, entries).text).toBe('@[<anonymous>]: 10\n@[<anonymous>]: 20\n');
  });

  test('print(@, top, div)', () => {
    const map = scriptMap('@', { kind: 'sum', signed: true }, [S64]);
    const entries = [1, 2, 3, 4].map((n) => entry(u64s(n), u64s(-1000 * n), u64s(0)));
    expect(show(map, entries, { top: 2, div: 1000 }).text).toBe('@[2]: -2\n@[1]: -1\n');
  });

  test('min and max ignore CPUs that never set a value', () => {
    const cells = [u64s(0, 0), u64s(-5, 1), u64s(9, 1)];
    expect(show(scriptMap('@', { kind: 'min', signed: true }), [entry(noKey, ...cells)]).text).toBe(
      '@: -5\n',
    );
    expect(show(scriptMap('@', { kind: 'max', signed: true }), [entry(noKey, ...cells)]).text).toBe('@: 9\n');
    expect(show(scriptMap('@', { kind: 'max', signed: false }), [entry(noKey, ...cells)]).text).toBe(
      '@: 18446744073709551611\n',
    );
    expect(show(scriptMap('@', { kind: 'min', signed: true }), [entry(noKey, u64s(0, 0))]).text).toBe('');
  });

  test('avg and stats truncate towards zero', () => {
    const cells = [u64s(-5, 1), u64s(-2, 1), u64s(0, 0)];
    const average = show(scriptMap('@a', { kind: 'avg', signed: true }), [entry(noKey, ...cells)]);
    // bpftrace calls both stats
    expect(average).toEqual({ text: '@a: -3\n', json: { type: 'stats', data: { '@a': -3 } } });
    const { text, json } = show(scriptMap('@s', { kind: 'stats', signed: true }), [entry(noKey, ...cells)]);
    expect(text).toBe('@s: count 2, average -3, total -7\n');
    expect(json).toEqual({ type: 'stats', data: { '@s': { count: 2, average: -3, total: -7 } } });
  });

  test('integers of several processes: the first, or their sum', () => {
    const map = scriptMap('@n', { kind: 'plain', type: S64 });
    const entries = [entry(noKey, u64s(-2)), { ...entry(noKey, u64s(5)), context: { ...context } }];
    expect(show(map, entries).text).toBe('@n: -2\n');
    expect(show(map, entries, { additive: true }).text).toBe('@n: 3\n');
  });

  test('64-bit values that a double cannot hold are strings in JSON', () => {
    const map = scriptMap('@', { kind: 'plain', type: U64 }, [U64]);
    const { json } = show(map, [
      entry(u64s(1), u64s(2n ** 53n)),
      entry(u64s(2), u64s(2n ** 53n + 1n)),
      entry(u64s(3), u64s(2n ** 64n - 1n)),
    ]);
    expect(json.data['@']).toEqual({ 1: 2 ** 53, 2: '9007199254740993', 3: '18446744073709551615' });
  });

  test('stacks as keys and as values', () => {
    const stack: ScriptType = { kind: 'stack', size: 8, depth: 127 };
    expect(show(scriptMap('@', { kind: 'count' }, [stack, S64]), [entry(u64s(7, 1), u64s(4))]).text).toBe(
      '@[\n    inner (a.js:1:2)\n    outer (b.js:3:4)\n, 1]: 4\n',
    );
    expect(show(scriptMap('@s', { kind: 'plain', type: stack }), [entry(noKey, u64s(7))]).text).toBe(
      '@s: \n        inner (a.js:1:2)\n        outer (b.js:3:4)\n',
    );
  });

  test('JavaScript values as keys: numbers in order, then texts', () => {
    const map = scriptMap('@', { kind: 'count' }, [{ kind: 'value', size: 40 }]);
    const one = u64s(1);
    const { text: out, json } = show(map, [
      entry(jsValue(5, new TextEncoder().encode('x')), one),
      entry(jsValue(3, u64s(10)), one),
      entry(jsValue(4, new Uint8Array(Float64Array.of(2.5).buffer)), one),
      entry(jsValue(0, u64s(0), 0), one),
    ]);
    expect(out).toBe('@[undefined]: 1\n@[2.5]: 1\n@[10]: 1\n@[x]: 1\n');
    expect(Object.keys(json.data['@']).sort()).toEqual(['10', '2.5', 'undefined', 'x']);
  });

  test('several processes are merged by key', () => {
    const other = { ...context };
    const map = scriptMap('@', { kind: 'count' }, [STR16]);
    const rows = [
      entry(text('a', 16), u64s(1)),
      entry(text('b', 16), u64s(2)),
      { ...entry(text('a', 16), u64s(5)), context: other },
    ];
    expect(show(map, rows).text).toBe('@[b]: 2\n@[a]: 6\n');
  });

  test('an empty map prints nothing', () => {
    expect(show(scriptMap('@', { kind: 'count' }, [S64]), [])).toEqual({ text: '', json: undefined });
  });
});

describe('histograms', () => {
  /** The index rule of the contract in src/lang/script.ts, done slowly. */
  function indexOf(value: bigint, bits: number): number {
    if (value < 0n) return 0;
    if (value < 1n << BigInt(bits)) return Number(value) + 1;
    const top = value.toString(2).length - 1;
    const level = top - bits;
    const below = (value >> BigInt(level)) & ((1n << BigInt(bits)) - 1n);
    return ((level + 1) << bits) + Number(below) + 1;
  }

  test('lower bounds invert the index rule', () => {
    for (const bits of [0, 1, 3, 5]) {
      for (const value of [
        0n,
        1n,
        2n,
        3n,
        7n,
        8n,
        1000n,
        1023n,
        1024n,
        123456789n,
        2n ** 40n + 5n,
        2n ** 62n,
      ]) {
        const index = indexOf(value, bits);
        expect(histLowerBound(index, bits)).toBeLessThanOrEqual(value);
        expect(histLowerBound(index + 1, bits)).toBeGreaterThan(value);
      }
    }
  });

  function hist(bits: number, ...values: bigint[]): Uint8Array {
    const counts = new Array<number>(65 << bits).fill(0);
    for (const value of values) counts[indexOf(value, bits)]!++;
    return u64s(...counts);
  }

  test('hist as bpftrace draws it', () => {
    const map = scriptMap('@', { kind: 'hist', bits: 0, buckets: 65 });
    const { text, json } = show(map, [entry(noKey, hist(0, -1n, 2n), hist(0, 3n, 5n, 30n))]);
    const bar = (n: number) => '@'.repeat(n).padEnd(52);
    expect(text).toBe(
      [
        '@:',
        `(..., 0)               1 |${bar(26)}|`,
        `[0]                    0 |${bar(0)}|`,
        `[1]                    0 |${bar(0)}|`,
        `[2, 4)                 2 |${bar(52)}|`,
        `[4, 8)                 1 |${bar(26)}|`,
        `[8, 16)                0 |${bar(0)}|`,
        `[16, 32)               1 |${bar(26)}|`,
        '',
        '',
      ].join('\n'),
    );
    expect(json.data['@'].slice(0, 4)).toEqual([
      { max: -1, count: 1 },
      { min: 0, max: 0, count: 0 },
      { min: 1, max: 1, count: 0 },
      { min: 2, max: 3, count: 2 },
    ]);
  });

  test('labels with suffixes', () => {
    const map = scriptMap('@', { kind: 'hist', bits: 0, buckets: 65 });
    const labels = (...values: bigint[]) =>
      show(map, [entry(noKey, hist(0, ...values))])
        .text.split('\n')
        .slice(1, -2)
        .map((line) => line.slice(0, 16).trim());
    expect(labels(512n, 1024n)).toEqual(['[512, 1K)', '[1K, 2K)']);
    expect(labels(2n ** 20n)).toEqual(['[1M, 2M)']);
    expect(labels(2n ** 29n)).toEqual(['[512M, 1G)']);
    expect(labels(2n ** 41n)).toEqual(['[2T, 4T)']);
    expect(labels(2n ** 62n)).toEqual(['[4E, 8E)']);
  });

  test('hist with bits of detail', () => {
    const map = scriptMap('@', { kind: 'hist', bits: 2, buckets: 65 << 2 });
    const { json } = show(map, [entry(noKey, hist(2, 3n, 4n, 5n, 9n))]);
    expect(json.data['@']).toEqual([
      { min: 3, max: 3, count: 1 },
      { min: 4, max: 4, count: 1 },
      { min: 5, max: 5, count: 1 },
      { min: 6, max: 6, count: 0 },
      { min: 7, max: 7, count: 0 },
      { min: 8, max: 9, count: 1 },
    ]);
  });

  test('lhist with both ends open', () => {
    const map = scriptMap('@', { kind: 'lhist', min: 0, max: 10, step: 2, buckets: 7 }, [STR16]);
    const { text: out, json } = show(map, [
      entry(text('big', 16), u64s(1, 0, 2, 0, 1, 0, 1)),
      entry(text('small', 16), u64s(0, 1, 0, 0, 0, 0, 0)),
    ]);
    expect(out.split('\n').map((line) => line.slice(0, 27).trimEnd())).toEqual([
      '@[small]:',
      '[0, 2)                 1 |@',
      '',
      '@[big]:',
      '(..., 0)               1 |@',
      '[0, 2)                 0 |',
      '[2, 4)                 2 |@',
      '[4, 6)                 0 |',
      '[6, 8)                 1 |@',
      '[8, 10)                0 |',
      '[10, ...)              1 |@',
      '',
      '',
    ]);
    expect(json.data['@'].big.at(-1)).toEqual({ min: 10, count: 1 });
    expect(json.data['@'].big[0]).toEqual({ max: -1, count: 1 });
  });
});

describe('printers', () => {
  test('events of both forms', () => {
    const { text, json, progress } = printers((printer) => {
      printer.attachedProbes(1);
      printer.printf('a "quoted"\n');
      printer.time('12:00:00\n');
      printer.value({
        kind: 'tuple',
        fields: [
          { kind: 'int', value: 1n },
          { kind: 'text', text: 'x' },
        ],
      });
      printer.value({ kind: 'number', value: 0.5 });
      printer.value({ kind: 'undefined' });
      printer.lostEvents(3);
      printer.end();
    });
    expect(text).toBe('a "quoted"\n12:00:00\n(1, x)\n0.5\nundefined\n\n\n');
    expect(progress).toBe('Attaching 1 probe...\nLost 3 events\n');
    expect(
      json
        .trimEnd()
        .split('\n')
        .map((line) => JSON.parse(line)),
    ).toEqual([
      { type: 'attached_probes', data: { probes: 1 } },
      { type: 'printf', data: 'a "quoted"\n' },
      { type: 'time', data: '12:00:00\n' },
      { type: 'value', data: [1, 'x'] },
      { type: 'value', data: 0.5 },
      { type: 'value', data: null },
      { type: 'lost_events', data: { events: 3 } },
    ]);
    expect(json.split('\n')[0]).toBe('{"type": "attached_probes", "data": {"probes": 1}}');
  });
});

describe('records', () => {
  test('are decoded by their action', () => {
    const script = {
      actions: [
        {
          kind: 'printf',
          format: '%d %s\n',
          args: [
            { offset: 8, type: S64 },
            { offset: 16, type: STR16 },
          ],
        },
        { kind: 'print', args: [{ offset: 8, type: S64 }] },
        { kind: 'print_map', map: 4 },
        { kind: 'clear', map: 2 },
        { kind: 'time', format: '%s' },
        { kind: 'exit' },
        { kind: 'error', position: 6, message: 'no room' },
      ],
    } as unknown as CompiledScript;
    const decoder = new RecordDecoder(script, context);
    expect(decoder.decode(view(u64s(0, -3), text('hi', 16)))).toEqual({ kind: 'printf', text: '-3 hi\n' });
    expect(decoder.decode(view(u64s(1, 9)))).toEqual({ kind: 'value', value: { kind: 'int', value: 9n } });
    expect(decoder.decode(view(u64s(2, (1000n << 32n) | 5n)))).toEqual({
      kind: 'print_map',
      map: 4,
      top: 5,
      div: 1000,
    });
    expect(decoder.decode(view(u64s(3)))).toEqual({ kind: 'clear', map: 2 });
    expect(decoder.decode(view(u64s(4, 5_000_000_000)))).toEqual({ kind: 'time', text: '1700000005' });
    expect(decoder.decode(view(u64s(5, -2)))).toEqual({ kind: 'exit', code: -2 });
    expect(decoder.decode(view(u64s(6)))).toEqual({
      kind: 'error',
      position: 6,
      message: 'no room',
    });
    expect(decoder.decode(view(u64s(77)))).toEqual({ kind: 'unknown', action: 77 });
  });
});
