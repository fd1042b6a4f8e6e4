import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type Btf, type BtfValue, decodeValue, encodeValue } from '../../src/bpf/index.ts';
import { openFixture, VARIANTS } from './support-objects.ts';

describe.each(VARIANTS)('variables of clang-%s', (variant) => {
  test('initial values of every kind', () => {
    const { globals } = openFixture('globals', variant);
    const values = Object.fromEntries([...globals].map(({ name }) => [name, globals.get(name)]));
    const { level, options, ...rest } = values;
    expect(rest).toEqual({
      min_us: 250n,
      enabled: true,
      target: 'init',
      threshold: -20,
      huge: 0x123456789abcdefn,
      counter: 42,
      small: -1,
      bytes: [1, 2, 3, 4],
      ratio: 0.5,
      factor: 1.5,
      maybe: 9,
      secret: 77,
      quiet: 5,
      wide: -2n,
      matrix: [
        [1, 2, 3],
        [4, 5, 6],
      ],
      hits: 0n,
      last: { x: 0, y: 0 },
      misses: 0,
      buffer: '',
      in_custom: 3,
      in_fixed: 4,
      in_empty: 0,
    });
    expect(Number(level) | 0).toBe(-3);
    expect(options).toEqual({
      port: 443,
      flags: 5,
      mode: 9,
      verbose: false,
      level: 5,
      corner: [
        { x: 1, y: 2 },
        { x: 3, y: 4 },
      ],
      whole: 0x1122334455667788n,
      parts: [0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11],
      label: 'eth0',
    });
  });

  test('where they are', () => {
    const { globals } = openFixture('globals', variant);
    expect(globals.variable('hits')).toMatchObject({ map: '.bss', size: 8, isStatic: false });
    expect(globals.variable('misses')).toMatchObject({ map: '.bss', size: 4, isStatic: true });
    expect(globals.variable('in_custom').map).toBe('.data.custom');
    expect(globals.variable('in_fixed').map).toBe('.rodata.fixed');
    expect(globals.size).toBe([...globals].length);
    const bytes = [...globals].map((one) => [one.map, one.offset, one.offset + one.size] as const);
    for (const [map, start, end] of bytes) {
      // No two variables share a byte.
      expect(bytes.filter((other) => other[0] === map && other[1] < end && start < other[2])).toHaveLength(1);
    }
  });

  test('set and read back', () => {
    const object = openFixture('globals', variant);
    const { globals } = object;
    const set = (name: string, value: BtfValue, read: BtfValue = value) => {
      globals.set(name, value);
      expect(globals.get(name)).toEqual(read);
    };
    set('min_us', 100n);
    set('min_us', 100, 100n);
    set('min_us', -1n, 0xffff_ffff_ffff_ffffn);
    set('enabled', false);
    set('enabled', 1, true);
    set('target', 'systemd');
    set('target', '', '');
    set('counter', -7);
    set('counter', 0xffff_ffff, -1);
    set('small', 255, -1);
    set('bytes', [9], [9, 0, 0, 0]);
    set('ratio', Math.PI);
    set('factor', 0.25);
    set('level', 'MIDDLE', 5);
    // clang-14 has no types for enums of 64 bits.
    if (variant !== '14') set('huge', 'HUGE', 0x123456789abcdefn);
    set('wide', -(2n ** 127n));
    set(
      'matrix',
      [[7], [8, 9, 10]],
      [
        [7, 0, 0],
        [8, 9, 10],
      ],
    );
    set('bytes', new Uint8Array([5, 6]), [5, 6, 0, 0]);
    set('buffer', 'äöü');
    set('last', { y: -5 }, { x: 0, y: -5 });
    set('last', new Uint8Array(8).fill(1), { x: 0x01010101, y: 0x01010101 });
    globals.set('options', { flags: 7, mode: 31, verbose: true, whole: 1n });
    expect(globals.get('options')).toMatchObject({ port: 443, flags: 7, mode: 31, verbose: true, whole: 1n });
    globals.set('options', { flags: 0 });
    expect(globals.get('options')).toMatchObject({ flags: 0, mode: 31, parts: [1, 0, 0, 0, 0, 0, 0, 0] });
    // Another object of the same file has its own values.
    expect(openFixture('globals', variant).globals.get('counter')).toBe(42);
  });

  test('what does not fit changes nothing', () => {
    const { globals } = openFixture('globals', variant);
    const refused = (name: string, value: BtfValue, message: string) => {
      const before = globals.bytes(name);
      expect(() => globals.set(name, value)).toThrow(message);
      expect(globals.bytes(name)).toEqual(before);
    };
    refused('small', 256, 'small: 256 does not fit into 8 bits');
    refused('small', -129, 'small: -129 does not fit into 8 bits');
    refused('counter', 1.5, 'counter: 1.5 is not an integer');
    refused('enabled', 2, 'enabled: 2 does not fit into a bool');
    refused('counter', 'five', 'counter: five is not an integer');
    refused('level', 'LOWEST', 'level: enum level has no LOWEST');
    refused('bytes', [1, 2, 3, 4, 5], 'bytes: 5 elements for an array of 4');
    refused('bytes', [1, 2, 3, 400], 'bytes[3]: 400 does not fit into 8 bits');
    refused('target', 'a text of more than 16 bytes', 'target: 28 bytes for an array of 16');
    refused('last', { x: 1, z: 2 }, 'last: no member z');
    refused('last', [1, 2], 'last: not an object');
    refused('options', { flags: 8 }, 'options.flags: 8 does not fit into 3 bits');
    refused(
      'options',
      { corner: [{ x: 2 ** 40 }] },
      'options.corner[0].x: 1099511627776 does not fit into 32 bits',
    );
    refused('ratio', 1n, 'ratio: not a number');
    expect(() => globals.set('nothing', 1)).toThrow('no global variable nothing');
  });
});

describe('values of any type', () => {
  const { spec, globals } = openFixture('globals', '19');
  const btf = spec.btf as Btf;

  const int = (bits: number, signed: boolean): fc.Arbitrary<number | bigint> => {
    const min = signed ? -(2n ** BigInt(bits - 1)) : 0n;
    const max = signed ? 2n ** BigInt(bits - 1) - 1n : 2n ** BigInt(bits) - 1n;
    return bits <= 32 ? fc.integer({ min: Number(min), max: Number(max) }) : fc.bigInt({ min, max });
  };
  const arbitraries: Record<string, fc.Arbitrary<BtfValue>> = {
    counter: int(32, true),
    small: int(8, true),
    min_us: int(64, false),
    threshold: int(16, true),
    huge: int(64, false),
    wide: int(128, true),
    enabled: fc.boolean(),
    level: int(32, true),
    ratio: fc.double({ noNaN: true }),
    bytes: fc.array(int(8, false), { minLength: 4, maxLength: 4 }),
    last: fc.record({ x: int(32, true), y: int(32, true) }),
    options: fc.record({
      port: int(32, false),
      flags: int(3, false),
      mode: int(5, false),
      verbose: fc.boolean(),
      corner: fc.array(fc.record({ x: int(32, true), y: int(32, true) }), { minLength: 2, maxLength: 2 }),
      label: fc.string({ unit: fc.constantFrom('a', 'b', '/', '0'), maxLength: 8 }),
    }),
  };

  test.each(Object.keys(arbitraries))('%s: what was written is read, and nothing else changes', (name) => {
    const { typeId, size } = globals.variable(name);
    fc.assert(
      fc.property(
        arbitraries[name]!,
        fc.uint8Array({ minLength: size, maxLength: size }),
        (value, before) => {
          const padded = new Uint8Array(size + 8).fill(0xa5);
          padded.set(before);
          encodeValue(btf, typeId, value, padded);
          expect(padded.subarray(size)).toEqual(new Uint8Array(8).fill(0xa5));
          const read = decodeValue(btf, typeId, padded);
          if (typeof value === 'object') expect(read).toMatchObject(value as object);
          else expect(read).toEqual(value);
          // Reading does not depend on where the bytes lie.
          const moved = new Uint8Array(size + 3);
          moved.set(padded.subarray(0, size), 3);
          expect(decodeValue(btf, typeId, moved.subarray(3))).toEqual(read);
        },
      ),
      { numRuns: 100, seed: 3 },
    );
  });

  test('whatever the bytes, they can be read and written back', () => {
    const all = [...globals].filter(
      ({ name }) => !['ratio', 'factor', 'target', 'buffer', 'options'].includes(name),
    );
    fc.assert(
      fc.property(fc.constantFrom(...all), fc.uint8Array({ minLength: 64, maxLength: 64 }), (one, bytes) => {
        const value = decodeValue(btf, one.typeId, bytes.subarray(0, one.size));
        const copy = new Uint8Array(one.size);
        encodeValue(btf, one.typeId, value, copy);
        expect(decodeValue(btf, one.typeId, copy)).toEqual(value);
      }),
      { numRuns: 300, seed: 4 },
    );
  });
});
