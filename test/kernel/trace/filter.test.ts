import { describe, expect, test } from 'vitest';
import { evaluatePredicate } from '../../../src/kernel/trace/filter/evaluate.ts';
import { createEventFilter } from '../../../src/kernel/trace/filter/event-filter.ts';
import { globMatch } from '../../../src/kernel/trace/filter/regex.ts';
import { KernelError } from '../../../src/tracefs/index.ts';
import { TestSystem } from './system.ts';

const FIELDS = [
  { type: 'int', name: 'id', size: 4, signed: true },
  { type: 'u8', name: 'small', size: 1 },
  { type: 's64', name: 'big', size: 8, signed: true },
  { type: 'unsigned long', name: 'ip', size: 8 },
  { type: 'char[16]', name: 'sku', size: 16, signed: true },
];
const FILTER = 'events/shop/order/filter';

function shop() {
  const system = new TestSystem();
  const order = system.event('shop', 'order', FIELDS, '"id=%d", REC->id');
  system.fs.writeFile('events/shop/order/enable', '1');
  const passed = (values: readonly Readonly<Record<string, number | bigint | string>>[]): number[] => {
    system.fs.writeFile('trace', '');
    for (const [n, value] of values.entries()) order.fire({ id: n, ...value });
    return system.lines().map((line) => Number(/id=(-?\d+)/.exec(line)?.[1]));
  };
  return { system, order, passed, fs: system.fs };
}

describe('which records pass', () => {
  test('numbers are compared as their field is: size and sign', () => {
    const { fs, passed } = shop();
    const ids = [-2, -1, 0, 1, 2, 200].map((id) => ({ id, small: id & 255, big: id * 2 }));
    const cases: readonly (readonly [string, readonly number[]])[] = [
      ['id == 4294967295', [-1]],
      ['id < 0', [-2, -1]],
      ['small > 199', [-2, -1, 200]],
      ['small == 511', [-1]],
      ['big <= -2', [-2, -1]],
      ['big & 0x190', [-2, -1, 200]],
      ['id != 010 && id >= 0x2', [2, 200]],
      ['!(id == 1 || id == 2) && id > 0', [200]],
      ['!!(id == 1)', [1]],
      ['id == 1 || id == 2 && small == 1', [1]],
      ['(id == 1 || id == 2) && small == 2', [2]],
      ['common_pid == 162', [-2, -1, 0, 1, 2, 200]],
      ['CPU == 0 && CPU & CPUS{0-1} && id == 2', [2]],
      ['id & CPUS{0-1}', [0, 1]],
      ['id == CPUS{0-1}', []],
    ];
    for (const [filter, expected] of cases) {
      fs.writeFile(FILTER, filter);
      expect([filter, passed(ids)]).toEqual([filter, expected]);
    }
  });

  test('strings: whole, globs, negation, the task', () => {
    const { fs, passed } = shop();
    const skus = ['', 'a', 'apple', 'bapple', 'pear', '0123456789abcdef'].map((sku) => ({ sku }));
    const cases: readonly (readonly [string, readonly number[]])[] = [
      ['sku == "apple"', [2]],
      ['sku != "apple" && sku ~ "*apple"', []],
      ['sku ~ "*apple*"', [2, 3]],
      ['sku ~ "a*"', [1, 2]],
      ['sku ~ "[!b]*p*"', [2]],
      ['sku ~ "?e*r"', [4]],
      ['sku ~ "!a*"', [0, 3, 4, 5]],
      ["sku == '0123456789abcdef'", [5]],
      ['comm == "batch" && id < 2', [0, 1]],
      ['COMM ~ "b?tch" && id == 3', [3]],
    ];
    for (const [filter, expected] of cases) {
      fs.writeFile(FILTER, filter);
      expect([filter, passed(skus)]).toEqual([filter, expected]);
    }
  });

  test('the address of a function, by its name or any address within', () => {
    const { fs, passed, system } = shop();
    const { address, size } = system.tracing.arch.lookupSymbol('vfs_read')[0]!;
    const ips = [-1n, 0n, BigInt(size) - 1n, BigInt(size)].map((off) => ({ ip: address + off }));
    for (const name of ['vfs_read', `0x${(address + 1n).toString(16)}`]) {
      fs.writeFile(FILTER, `ip.function == ${name}`);
      expect(passed(ips)).toEqual([1, 2]);
      fs.writeFile(FILTER, `ip.function != ${name}`);
      expect(passed(ips)).toEqual([0, 3]);
    }
  });

  test('a record that ends before its fields do reads as zeros', () => {
    const { system, order } = shop();
    const filter = createEventFilter(system.tracing.globalTrace, order.call, 'big == 0 && id == 7');
    const data = Uint8Array.from([0, 0, 0, 0, 1, 0, 0, 0, 7, 0, 0, 0]);
    expect(filter.match({ cpu: 0, ts: 0n, data })).toBe(true);
  });
});

describe('what is refused', () => {
  const refused: readonly (readonly [string, string, string])[] = [
    ['id == 1 &&', 'EINVAL', 'Meaningless filter expression'],
    ['id === 1', 'EINVAL', 'Invalid value (did you forget quotes)?'],
    ['nosuch == 1', 'EINVAL', 'Field not found'],
    ['id =~ 1', 'EINVAL', 'Invalid operator'],
    ['(id == 1', 'ENOENT', "Too many '('"],
    ['id == 1)', 'EPERM', "Too few '('"],
    ['sku == "x', 'ESRCH', 'Missing matching quote'],
    ['sku == x', 'EINVAL', 'Invalid value (did you forget quotes)?'],
    ['sku == 1', 'EINVAL', 'Expecting string field'],
    ['id == "x"', 'EINVAL', 'Expecting numeric field'],
    ['sku > "x"', 'EINVAL', 'Illegal operation for field type'],
    ['id ~ 1', 'EINVAL', 'Illegal operation for field type'],
    ['small == -1', 'EINVAL', 'Illegal integer value'],
    ['id == 0xzz', 'EINVAL', 'Illegal integer value'],
    ['id == 18446744073709551616', 'EINVAL', 'Illegal integer value'],
    ['id == 111111111111111111111111', 'EINVAL', 'Operand too long'],
    ['id == CPUS{2}', 'EINVAL', 'Invalid cpulist'],
    ['id == CPUS{0', 'EINVAL', "Missing '}'"],
    ['id == CPUS[0]', 'EINVAL', "Missing '{'"],
    ['id.function == vfs_read', 'EINVAL', 'Illegal operation for field type'],
    ['ip.function == nosuch', 'EINVAL', 'Function not found'],
    ['id == 1 id == 2', 'EPERM', 'Too many terms in predicate expression'],
    [`sku == "${'x'.repeat(256)}"`, 'EINVAL', 'Operand too long'],
  ];
  test.each(refused)('%s', (filter, errno, message) => {
    const { fs, system, passed } = shop();
    fs.writeFile(FILTER, 'id == 5');
    expect(system.refusal(() => fs.writeFile(FILTER, filter))).toBe(errno);
    expect(fs.readFile(FILTER)).toMatch(`\nparse_error: ${message}\n`);
    expect(fs.readFile('error_log')).toMatch(`event filter parse error: error: ${message}\n`);
    // The old filter is gone, and the wrong one filters nothing.
    expect(passed([{}, {}])).toEqual([0, 1]);
  });

  test('the caret counts bytes, and is one off in the file, as on Linux', () => {
    const { fs, system } = shop();
    expect(system.refusal(() => fs.writeFile(FILTER, 'sku == "é" && nosuch == 1'))).toBe('EINVAL');
    const [text, caret] = fs.readFile(FILTER).split('\n') as [string, string];
    expect(text).toBe('sku == "é" && nosuch == 1');
    expect(caret.indexOf('^')).toBe(new TextEncoder().encode('sku == "é" && nosuch ').length);
    expect(fs.readFile('error_log').split('\n')[2]!.indexOf('^')).toBe('  Command: '.length + 22);
  });

  test('a text without any term has no reason', () => {
    const { fs, system } = shop();
    expect(system.refusal(() => fs.writeFile(FILTER, '\n'))).toBe('EINVAL');
    expect(fs.readFile(FILTER)).toBe('\nError: (0)\n\n');
    fs.writeFile(FILTER, ' 0\n');
    expect(fs.readFile(FILTER)).toBe('none\n');
    expect(system.refusal(() => fs.writeFile(FILTER, 'x'.repeat(4096)))).toBe('EINVAL');
    expect(fs.readFile(FILTER)).toBe('none\n');
  });

  test('a subsystem filter goes to every event, and those it does not fit say so', () => {
    const { fs, system } = shop();
    system.event('shop', 'other', [{ type: 'int', name: 'other', size: 4, signed: true }]);
    fs.writeFile('events/shop/filter', 'id == 3');
    expect(fs.readFile(FILTER)).toBe('id == 3\n');
    expect(fs.readFile('events/shop/other/filter')).toBe(
      "id == 3\n^\nparse_error: Couldn't find or set field in one of a subsystem's events\n\n",
    );
    expect(fs.readFile('events/shop/filter')).toMatch(/^### global filter ###\n/);
    fs.writeFile('events/shop/filter', '0');
    expect(fs.readFile(FILTER) + fs.readFile('events/shop/other/filter')).toBe('none\nnone\n');
  });
});

/** The same expression, evaluated as JavaScript does. */
function random(seed: number): () => number {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) | 0;
    return (state >>> 8) / 2 ** 24;
  };
}

describe('engines', () => {
  test('Wasm, the interpreter and JavaScript agree on random expressions', () => {
    const { system, order } = shop();
    const tr = system.tracing.globalTrace;
    const next = random(7);
    const pick = <T>(list: readonly T[]): T => list[Math.floor(next() * list.length)]!;
    const term = (): [string, string] => {
      const op = pick(['==', '!=', '<', '<=', '>', '>=']);
      const value = Math.floor(next() * 8) - 2;
      return [`id ${op} ${value}`, `(id ${op} ${value})`];
    };
    const expression = (depth: number): [string, string] => {
      const kind = next();
      if (depth === 0 || kind < 0.3) return term();
      const [a, x] = expression(depth - 1);
      if (kind < 0.45) return [`!(${a})`, `!(${x})`];
      const [b, y] = expression(depth - 1);
      const op = pick(['&&', '||']);
      return kind < 0.7 ? [`(${a} ${op} ${b})`, `(${x} ${op} ${y})`] : [`${a} ${op} ${b}`, `${x} ${op} ${y}`];
    };
    for (let n = 0; n < 150; n++) {
      const [text, js] = expression(4);
      const expected = new Function('id', `return ${js}`) as (id: number) => boolean;
      const jit = createEventFilter(tr, order.call, text, 'jit');
      const interpreter = createEventFilter(tr, order.call, text, 'interpreter');
      for (let id = -3; id < 7; id++) {
        const data = new Uint8Array(64);
        new DataView(data.buffer).setInt32(8, id, true);
        const record = { cpu: 0, ts: 0n, data };
        expect([text, id, jit.match(record)]).toEqual([text, id, expected(id)]);
        expect([text, id, interpreter.match(record)]).toEqual([text, id, expected(id)]);
      }
    }
  });

  test('any text is taken or refused, never more', () => {
    const { fs } = shop();
    const next = random(11);
    const words = [
      'id',
      'sku',
      '==',
      '!=',
      '~',
      '&',
      '&&',
      '||',
      '!',
      '(',
      ')',
      '"a*"',
      "'",
      '1',
      '-1',
      'CPUS{0}',
      ' ',
      '.function',
      '\0',
      'é',
    ];
    for (let n = 0; n < 2000; n++) {
      let text = '';
      for (let i = 0; i < 1 + next() * 8; i++) text += words[Math.floor(next() * words.length)];
      try {
        fs.writeFile(FILTER, text);
      } catch (error) {
        expect(error).toBeInstanceOf(KernelError);
      }
      expect(fs.readFile(FILTER).endsWith('\n')).toBe(true);
    }
  });

  test('a predicate that only programs know is never true of a record', () => {
    const { system } = shop();
    const record = { cpu: 0, ts: 0n, data: new Uint8Array(8) };
    expect(evaluatePredicate(system.tracing, { kind: 'never' }, record)).toBe(false);
  });
});

test.each([
  ['a*c', 'abc', true],
  ['a*c', 'abcd', false],
  ['[a-c]x', 'bx', true],
  ['[!a-c]x', 'bx', false],
  ['[]]', ']', true],
  ['[a', '[a', true],
  ['a\\*', 'a*', true],
  ['a\\*', 'ab', false],
  ['*a*b*', 'xxaxxbxx', true],
  ['??', 'a', false],
])('glob %s of %s', (pattern, text, expected) => {
  expect(globMatch(pattern, text)).toBe(expected);
});
