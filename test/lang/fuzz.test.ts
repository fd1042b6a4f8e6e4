import fc from 'fast-check';
import { expect, test } from 'vitest';
import { Engine } from './engine.ts';

/** An integer expression and what it has to give for these variables, all of them int64. */
interface Case {
  readonly text: string;
  readonly value: bigint;
}

const wrap = (value: bigint): bigint => BigInt.asIntN(64, value);
const VARS: Record<string, bigint> = {
  $a: 7n,
  $b: -3n,
  $big: (1n << 62n) + 12345n,
  $zero: 0n,
  $low: -(1n << 63n),
};

const OPS: Record<string, (a: bigint, b: bigint) => bigint> = {
  '+': (a, b) => a + b,
  '-': (a, b) => a - b,
  '*': (a, b) => a * b,
  '/': (a, b) => (b === 0n ? 0n : a / b),
  '%': (a, b) => (b === 0n ? a : a % b),
  '&': (a, b) => a & b,
  '|': (a, b) => a | b,
  '^': (a, b) => a ^ b,
  '<<': (a, b) => a << (b & 63n),
  '>>': (a, b) => a >> (b & 63n),
  '<': (a, b) => (a < b ? 1n : 0n),
  '>=': (a, b) => (a >= b ? 1n : 0n),
  '==': (a, b) => (a === b ? 1n : 0n),
  '!=': (a, b) => (a !== b ? 1n : 0n),
  '&&': (a, b) => (a !== 0n && b !== 0n ? 1n : 0n),
  '||': (a, b) => (a !== 0n || b !== 0n ? 1n : 0n),
};

const { expr } = fc.letrec<{ expr: Case }>((tie) => ({
  expr: fc.oneof(
    { depthSize: 'small' },
    fc.constantFrom(...Object.entries(VARS).map(([text, value]): Case => ({ text, value }))),
    fc
      .oneof(fc.integer({ min: 1, max: 70 }).map(BigInt), fc.bigInt(1n, (1n << 63n) - 1n))
      .map((value): Case => ({ text: String(value), value })),
    fc.constantFrom<Case>(
      { text: 'arg0', value: 41n },
      { text: 'arg1.n.m', value: -9n },
      { text: '@m', value: 1000n },
    ),
    fc.tuple(fc.constantFrom(...Object.keys(OPS)), tie('expr'), tie('expr')).map(([op, a, b]): Case => {
      // A constant divisor of 0 is an error of its own.
      const right = b.value === 0n && '/%'.includes(op) ? { text: '$a', value: 7n } : b;
      return { text: `(${a.text} ${op} ${right.text})`, value: wrap(OPS[op]!(a.value, right.value)) };
    }),
    tie('expr').map((a): Case => ({ text: `-(${a.text})`, value: wrap(-a.value) })),
    tie('expr').map((a): Case => ({ text: `~${a.text}`, value: wrap(~a.value) })),
    tie('expr').map((a): Case => ({ text: `!${a.text}`, value: a.value === 0n ? 1n : 0n })),
    fc
      .tuple(fc.constantFrom(8, 16, 32, 64), tie('expr'))
      .map(([bits, a]): Case => ({ text: `(int${bits})${a.text}`, value: BigInt.asIntN(bits, a.value) })),
    fc.tuple(tie('expr'), tie('expr'), tie('expr')).map(
      ([c, a, b]): Case => ({
        text: `(${c.text} ? ${a.text} : ${b.text})`,
        value: c.value !== 0n ? a.value : b.value,
      }),
    ),
  ),
}));

test('integer expressions compute what BigInt computes', () => {
  const setup = Object.entries(VARS)
    .map(([name, value]) => (name === '$low' ? '$low = 1 << 63;' : `${name} = ${value};`))
    .join(' ');
  fc.assert(
    fc.property(fc.array(expr, { minLength: 1, maxLength: 6 }), (cases) => {
      // As numbers, and as conditions.
      const body = cases
        .map(({ text }) => `printf("%d", ${text}); if (${text}) { printf("t"); } else { printf("f"); }`)
        .join(' ');
      const engine = new Engine(`kprobe:f { ${setup} @m = 1000; ${body} }`);
      engine.hit(0, { args: [41, { n: { m: -9 } }] });
      expect(engine.records()).toEqual(
        cases.flatMap(({ value }) => [String(value), value !== 0n ? 't' : 'f']),
      );
    }),
    { numRuns: 120 },
  );
});

// Statements at random: whatever the language allows has to pass the verifier, and to end.
const { statement } = fc.letrec<{ statement: string; block: string }>((tie) => ({
  block: fc.array(tie('statement'), { maxLength: 3 }).map((list) => `{ ${list.join(' ')} }`),
  statement: fc.oneof(
    { maxDepth: 1 },
    fc.constantFrom(
      '$n = $n + 1;',
      '$n += arg0;',
      '@i[$n] = $n;',
      '@i[arg0]++;',
      '@s[str(arg1.s)] = count();',
      '@v[arg1.s, $n] = sum($n);',
      '@h[comm] = hist($n, 2);',
      '@l = lhist($n, 0, 100, 5);',
      '@avg = avg(arg0);',
      '$s = $n > 3 ? "three" : str(arg1.s);',
      '@text = $s;',
      '@value = arg1;',
      '@t = ($n, $s, arg1.s);',
      '$u = @t.1;',
      'print(@t.0 + $n);',
      'printf("%s %d %s\\n", $s, $n, arg1.s);',
      'print(arg1);',
      'delete(@i[$n]);',
      'if ($s == "three" || arg1.s == "abc") { $n++; }',
      'if (@avg > 2 && @value) { $n--; }',
      'if (strncmp($s, str(arg1.s), 3) == 0) { return; }',
      'if ($n > 50) { exit(); }',
      '$n = len($s) + len(arg1.s) + @i[$n];',
    ),
    fc.tuple(tie('block'), tie('block')).map(([a, b]) => `if ($n % 2) ${a} else ${b}`),
    tie('block').map((body) => `while ($n < 20) { $n++; ${body} }`),
    tie('block').map(
      (body) => `for ($i : 0..$n) { if ($i == 3) { break; } if ($i == 1) { continue; } ${body} }`,
    ),
    tie('block').map((body) => `unroll (2) ${body}`),
  ),
}));

test('whatever the language allows is proven and ends', () => {
  fc.assert(
    fc.property(fc.array(statement, { minLength: 1, maxLength: 4 }), (statements) => {
      const maps =
        '@i[0] = 0; @s[""] = count(); @v[arg1, 0] = sum(0); @h[comm] = hist(0, 2); @l = lhist(0, 0, 100, 5); ' +
        '@avg = avg(arg0); @text = ""; @value = arg1; @t = (0, "", arg1);';
      const engine = new Engine(`kprobe:f { $n = 0; $s = "x"; $u = "y"; ${maps} ${statements.join(' ')} }`);
      engine.hit(0, { args: [2, { s: 'abc' }] });
    }),
    { numRuns: 25, endOnFailure: true, seed: 1 },
  );
});
