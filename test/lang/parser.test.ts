import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type * as ast from '../../src/lang/ast.ts';
import { attachPoints, parseScript, printScript } from '../../src/lang/index.ts';

/** The tree without positions. */
function plain(node: unknown): unknown {
  return JSON.parse(
    JSON.stringify(node, (name, value) =>
      ['start', 'end', 'source'].includes(name) || name.endsWith('Span')
        ? undefined
        : typeof value === 'bigint'
          ? `${value}n`
          : value,
    ),
  );
}

const tree = (source: string): unknown => plain(parseScript(source, 'test.bt'));

describe('attach points', () => {
  const targets = (source: string): (string | undefined)[][] =>
    parseScript(source, 'test.bt').probes.flatMap(({ attachPoints }) =>
      attachPoints.map(({ provider, target }) => [provider, target]),
    );

  test.each<[string, [string, string?][]]>([
    ['kprobe:handle { }', [['kprobe', 'handle']]],
    ['kprobe:server.js:handle{}', [['kprobe', 'server.js:handle']]],
    ['k:server.js:42{}', [['k', 'server.js:42']]],
    ['k:src/routes/cart.ts:42:7 {}', [['k', 'src/routes/cart.ts:42:7']]],
    ['kprobe:src/db.ts:query / arg0 / {}', [['kprobe', 'src/db.ts:query']]],
    ['kprobe:src/db.ts:query/arg0/ {}', [['kprobe', 'src/db.ts:query']]],
    ['kprobe:query/arg0 > 1/{}', [['kprobe', 'query']]],
    ['kprobe:src/**/*.ts:Cart.*{}', [['kprobe', 'src/**/*.ts:Cart.*']]],
    ['kprobe:a.js:get size {}', [['kprobe', 'a.js:get size']]],
    [
      'kprobe:a.js:Cart.#total, kretprobe:a.js:<anonymous> {}',
      [
        ['kprobe', 'a.js:Cart.#total'],
        ['kretprobe', 'a.js:<anonymous>'],
      ],
    ],
    ['kprobe:"with space, {and} /more/.js":f {}', [['kprobe', 'with space, {and} /more/.js:f']]],
    ['kprobe:node_modules/@scope/pkg/index.js:run {}', [['kprobe', 'node_modules/@scope/pkg/index.js:run']]],
    ['BEGIN { } END { }', [['BEGIN'], ['END']]],
    [
      'begin,interval:s:1,\nprofile:hz:99 // often\n{ }',
      [['begin'], ['interval', 's:1'], ['profile', 'hz:99']],
    ],
    ['/* first */ k:f /* then */ { } // last', [['k', 'f']]],
    ['#!/usr/bin/env trapline\nk:f { }', [['k', 'f']]],
  ])('%s', (source, expected) => {
    expect(targets(source)).toEqual(expected.map(([provider, target]) => [provider, target]));
  });

  test('become types, targets and periods', () => {
    const points = attachPoints(
      parseScript(
        'k:f, kr:g, throw:h, settle:i, begin, END, i:s:1, interval:ms:5, interval:us:7, interval:hz:4, i:2m, p:hz:99, p:2500us { }',
        'x',
      ),
    );
    expect(points.map(({ type, target, periodNs }) => [type, target, periodNs])).toEqual([
      ['kprobe', 'f', undefined],
      ['kretprobe', 'g', undefined],
      ['throw', 'h', undefined],
      ['settle', 'i', undefined],
      ['BEGIN', '', undefined],
      ['END', '', undefined],
      ['interval', 's:1', 1e9],
      ['interval', 'ms:5', 5e6],
      ['interval', 'us:7', 7e3],
      ['interval', 'hz:4', 25e7],
      ['interval', '2m', 120e9],
      ['profile', 'hz:99', 10_101_010],
      ['profile', '2500us', 2_500_000],
    ]);
    expect(points[1]!.position).toEqual({
      line: 1,
      column: 6,
      length: 4,
      text: expect.stringContaining('k:f, kr:g'),
    });
  });

  test('take positional parameters', () => {
    const points = attachPoints(parseScript('kprobe:$1:handle { } interval:s:$2 { }', 'x'), [
      'server.js',
      '3',
    ]);
    expect(points.map(({ target }) => target)).toEqual(['server.js:handle', 's:3']);
  });
});

describe('expressions', () => {
  const expr = (source: string): unknown => {
    const script = parseScript(`k:f { $x = ${source}; }`, 'x');
    const [statement] = script.probes[0]!.body.body;
    return plain((statement as ast.Assign).value);
  };

  test.each([
    ['1 + 2 * 3', '1 + (2 * 3)'],
    ['1 - 2 - 3', '(1 - 2) - 3'],
    ['1 << 2 + 3', '1 << (2 + 3)'],
    ['1 < 2 == 3 < 4', '(1 < 2) == (3 < 4)'],
    ['1 & 2 == 3', '1 & (2 == 3)'],
    ['1 | 2 ^ 3 & 4', '1 | (2 ^ (3 & 4))'],
    ['1 || 2 && 3', '1 || (2 && 3)'],
    ['1 ? 2 : 3 ? 4 : 5', '1 ? 2 : (3 ? 4 : 5)'],
    ['!1 + ~2', '(!1) + (~2)'],
    ['-arg0.x[1]', '-((arg0.x)[1])'],
    ['(uint8)arg0 + 1', '((uint8)arg0) + 1'],
    ['@x++ + 1', '(@x++) + 1'],
    ['@x[1, (2, 3)]', '@x[(1), ((2, 3))]'],
  ])('%s is %s', (a, b) => {
    expect(expr(a)).toEqual(expr(b));
  });

  test.each<[string, bigint]>([
    ['0', 0n],
    ['1_000_000', 1_000_000n],
    ['0xFF', 255n],
    ['0x7f_ff', 32767n],
    ['017', 15n],
    ['1e3', 1000n],
    ['5ns', 5n],
    ['5us', 5000n],
    ['5ms', 5_000_000n],
    ['5s', 5_000_000_000n],
    ['2m', 120_000_000_000n],
    ['1h', 3_600_000_000_000n],
    ['1d', 86_400_000_000_000n],
    ['7u', 7n],
    ['7ull', 7n],
    ['18446744073709551615', (1n << 64n) - 1n],
  ])('the literal %s', (text, value) => {
    expect(expr(text)).toEqual({ kind: 'int', value: `${value}n` });
  });

  test('statements of every kind', () => {
    expect(
      tree(`k:f { let $a; let $b: uint64 = 1; @m[$a] += 2; if ($a) { return } else if $b { @x++ } else { --$b; }
        while (1) { break; } unroll (3) { continue; } for ($i : 0..10) { } for $kv : @m { print($kv.0); } { exit(); } }`),
    ).toMatchObject({
      probes: [
        {
          body: {
            body: [
              { kind: 'let', target: { name: 'a' } },
              { kind: 'let', target: { name: 'b' }, type: 'uint64', value: { value: '1n' } },
              { kind: 'assign', op: '+', target: { name: 'm', key: [{ kind: 'var' }] } },
              { kind: 'if', body: { body: [{ kind: 'return' }] }, otherwise: { body: [{ kind: 'if' }] } },
              { kind: 'while', body: { body: [{ kind: 'break' }] } },
              { kind: 'unroll', count: { value: '3n' } },
              { kind: 'for-range', variable: { name: 'i' }, from: { value: '0n' }, to: { value: '10n' } },
              { kind: 'for-map', variable: { name: 'kv' }, map: { name: 'm' } },
              { kind: 'block' },
            ],
          },
        },
      ],
    });
  });

  test('the config block', () => {
    expect(
      parseScript('config = { max_strlen = 128; print_maps_on_exit = false } k:f { }', 'x').config,
    ).toMatchObject([
      { name: 'max_strlen', value: 128n },
      { name: 'print_maps_on_exit', value: 'false' },
    ]);
  });
});

// Trees of every shape, made at random: printed and parsed again they are the same.
const at = { start: 0, end: 0 };
const name = fc.constantFrom('a', 'b2', '_c', 'kv');
const text = fc.string({ unit: 'binary-ascii', maxLength: 8 });

const { expr } = fc.letrec<{ expr: ast.Expr; leaf: ast.Expr; target: ast.Variable | ast.MapAccess }>(
  (tie) => ({
    leaf: fc.oneof(
      fc.bigInt(0n, (1n << 64n) - 1n).map((value): ast.Expr => ({ kind: 'int', ...at, value })),
      text.map((value): ast.Expr => ({ kind: 'string', ...at, value })),
      fc
        .constantFrom('nsecs', 'arg0', 'retval')
        .map((value): ast.Expr => ({ kind: 'ident', ...at, name: value })),
      fc.integer({ min: 1, max: 9 }).map((index): ast.Expr => ({ kind: 'positional', ...at, index })),
      fc.constant<ast.Expr>({ kind: 'positional', ...at, index: 'count' }),
      name.map((value): ast.Expr => ({ kind: 'var', ...at, name: value })),
      name.map((value): ast.Expr => ({ kind: 'map', ...at, name: value, key: undefined })),
    ),
    target: fc.oneof(
      name.map((value): ast.Variable => ({ kind: 'var', ...at, name: value })),
      fc
        .record({
          name,
          key: fc.option(fc.array(tie('expr'), { minLength: 1, maxLength: 2 }), { nil: undefined }),
        })
        .map((value): ast.MapAccess => ({ kind: 'map', ...at, ...value })),
    ),
    expr: fc.oneof(
      { depthSize: 'small', withCrossShrink: true },
      tie('leaf'),
      fc
        .record({
          op: fc.constantFrom<ast.BinaryOp>(
            '||',
            '&&',
            '|',
            '^',
            '&',
            '==',
            '!=',
            '<',
            '>',
            '<=',
            '>=',
            '<<',
            '>>',
            '+',
            '-',
            '*',
            '/',
            '%',
          ),
          left: tie('expr'),
          right: tie('expr'),
        })
        .map((value): ast.Expr => ({ kind: 'binary', ...at, opSpan: at, ...value })),
      fc
        .record({ op: fc.constantFrom<ast.UnaryOp>('!', '~', '-', '+'), operand: tie('expr') })
        .map((value): ast.Expr => ({ kind: 'unary', ...at, ...value })),
      fc
        .record({ op: fc.constantFrom('++', '--'), prefix: fc.boolean(), target: tie('target') })
        .map((value): ast.Expr => ({ kind: 'incdec', ...at, ...value })),
      fc
        .record({ condition: tie('expr'), yes: tie('expr'), no: tie('expr') })
        .map((value): ast.Expr => ({ kind: 'ternary', ...at, ...value })),
      fc
        .record({ type: fc.constantFrom('uint64', 'int8', 'string'), operand: tie('expr') })
        .map((value): ast.Expr => ({ kind: 'cast', ...at, ...value })),
      fc
        .record({ name: fc.constantFrom('str', 'f'), args: fc.array(tie('expr'), { maxLength: 3 }) })
        .map((value): ast.Expr => ({ kind: 'call', ...at, nameSpan: at, ...value })),
      fc
        .record({ object: fc.oneof(tie('leaf'), tie('expr')), name: fc.constantFrom('x', 'host', '0') })
        .filter(({ object }) => object.kind !== 'int')
        .map((value): ast.Expr => ({ kind: 'member', ...at, nameSpan: at, ...value })),
      fc
        .record({ object: tie('expr'), index: tie('expr') })
        .filter(({ object }) => object.kind !== 'int' && !(object.kind === 'map' && object.key === undefined))
        .map((value): ast.Expr => ({ kind: 'index', ...at, ...value })),
      fc
        .array(tie('expr'), { minLength: 1, maxLength: 3 })
        .map((elements): ast.Expr => ({ kind: 'tuple', ...at, elements })),
      fc
        .oneof(fc.constantFrom<string | ast.Expr>('uint32'), tie('expr'))
        .map((operand): ast.Expr => ({ kind: 'sizeof', ...at, operand })),
      tie('target'),
    ),
  }),
);

describe('round trips', () => {
  test('any expression', () => {
    fc.assert(
      fc.property(expr, (value) => {
        const body: ast.Block = {
          kind: 'block',
          ...at,
          body: [{ kind: 'assign', ...at, target: { kind: 'var', ...at, name: 'x' }, op: undefined, value }],
        };
        const probe: ast.Probe = {
          ...at,
          attachPoints: [{ ...at, provider: 'kprobe', providerSpan: at, target: 'f', targetSpan: at }],
          predicate: value,
          body,
        };
        const script = { ...parseScript('k:f { }', 'x'), probes: [probe] };
        expect(tree(printScript(script))).toEqual(plain(script));
      }),
      { numRuns: 400 },
    );
  });

  test('a script of everything', () => {
    const script = parseScript(
      `config = { max_strlen = 128; license = "GPL" }
       kprobe:src/db.ts:query, kretprobe:"a b,c":f /arg0 > 1 && @x[1]/ { let $a: int64 = 1; if (1) { @a = 1; } else if (2) { } else { $x = "\\n\\"" }
       while (1) { break; continue } unroll (2) { @++ } for ($i : 1..$a) { return 1; } for ($kv : @x) { } { } }
       BEGIN { }`,
      'x',
    );
    expect(tree(printScript(script))).toEqual(plain(script));
  });

  test('any text is a script or a diagnostic, never a crash', () => {
    const piece = fc.constantFrom(
      'kprobe:f', ' ', '{', '}', '/', '@x', '$a', '$1', '(', ')', '[', ']', '"', '\\', ';', ',', '.', '..', '?', ':', '=', '+=', '++', '-', '!',
      'if', 'else', 'while', 'for', 'unroll', 'let', 'str(', 'arg0', '1', '0x', '1e99', '//', '/*', '*/', '\n', 'config = {', '#', '<', '&&', 'é',
    ); // biome-ignore format: a table
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 30 }), (pieces) => {
        const source = pieces.join('');
        try {
          parseScript(source, 'x');
        } catch (error) {
          expect(error).toMatchObject({ name: 'ScriptError', position: { file: 'x' } });
        }
      }),
      { numRuns: 2000 },
    );
  });

  test('nesting is bounded', () => {
    for (const [open, close] of [
      ['(', ')'],
      ['-', ''],
      ['!', ''],
      ['1 ? 1 : ', ''],
    ] as const) {
      expect(() => parseScript(`k:f { $x = ${open.repeat(5000)}1${close.repeat(5000)}; }`, 'x')).toThrow(
        'nested too deeply',
      );
    }
    expect(() => parseScript(`k:f ${'{ '.repeat(5000)} ${'} '.repeat(5000)}`, 'x')).toThrow(
      'nested too deeply',
    );
    const long = parseScript(`k:f { $x = ${'1 + '.repeat(900)}1; }`, 'x');
    expect(long.probes.length).toBe(1);
    expect(() => parseScript(`k:f { $x = ${'1 + '.repeat(100_000)}1; }`, 'x')).toThrow('too long');
  });
});
