/** Every map type against a plain model, by random sequences of operations. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { BpfError, ERRNO } from '../../src/bpf/errors.ts';
import { createMemory, layoutMemory, percpuBlock } from '../../src/bpf/layout.ts';
import { initMemory, openMap } from '../../src/bpf/maps/map.ts';
import { checkMapSpec, type MapSpec, type MapType } from '../../src/bpf/maps/map-layout.ts';
import type { BpfMap } from '../../src/bpf/maps/map-types.ts';
import { viewMemory } from '../../src/bpf/maps/memory-view.ts';

const NCPU = 2;

function make(spec: MapSpec) {
  // A neighbour on each side: writing outside of the map would show in it.
  const guard: MapSpec = { name: 'guard', type: 'array', keySize: 4, valueSize: 8, maxEntries: 4 };
  const layout = layoutMemory([guard, spec, guard], { ncpu: NCPU });
  const memory = createMemory(layout);
  initMemory(memory, layout);
  const map = openMap(memory, layout, 1);
  const guards = [openMap(memory, layout, 0), openMap(memory, layout, 2)];
  const { scratch } = percpuBlock(layout, 0);
  return { map, guards, view: viewMemory(memory), scratch };
}

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');

type Op =
  | { op: 'update'; key: number; value: number; flags: number }
  | { op: 'updateElem'; key: number; value: number; flags: number; cpu: number }
  | { op: 'delete' | 'deleteElem' | 'lookup'; key: number }
  | { op: 'clear' | 'zero' | 'entries' };

const key = fc.nat({ max: 11 });
const flags = fc.constantFrom(0, 0, 0, 1, 2, 3);
const operation: fc.Arbitrary<Op> = fc.oneof(
  { weight: 6, arbitrary: fc.record({ op: fc.constant('update' as const), key, value: fc.nat(), flags }) },
  {
    weight: 6,
    arbitrary: fc.record({
      op: fc.constant('updateElem' as const),
      key,
      value: fc.nat(),
      flags,
      cpu: fc.nat({ max: NCPU - 1 }),
    }),
  },
  {
    weight: 6,
    arbitrary: fc.record({
      op: fc.constantFrom('delete' as const, 'deleteElem' as const, 'lookup' as const),
      key,
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({ op: fc.constantFrom('clear' as const, 'zero' as const, 'entries' as const) }),
  },
);

function bytesOf(value: number, size: number): Uint8Array {
  const bytes = new Uint8Array(size);
  for (let i = 0; i < size; i++) bytes[i] = i < 4 ? value >>> (i * 8) : (value * 31 + i * 7) & 255;
  return bytes;
}

/** What the map should hold: key and each CPU's value, in hexadecimal. */
class Model {
  readonly values = new Map<string, string[]>();
  private readonly spec: MapSpec;
  readonly cpus: number;

  constructor(spec: MapSpec) {
    this.spec = spec;
    this.cpus = spec.type.startsWith('percpu') ? NCPU : 1;
    if (this.isArray) {
      for (let i = 0; i < spec.maxEntries; i++) this.values.set(hex(bytesOf(i, 4)), this.zeros());
    }
  }

  get isArray(): boolean {
    return this.spec.type.endsWith('array');
  }

  zeros(): string[] {
    return new Array<string>(this.cpus).fill('00'.repeat(this.spec.valueSize));
  }

  update(key: string, value: string, flags: number, cpu?: number): number {
    if (flags > 2) return -ERRNO.EINVAL;
    const old = this.values.get(key);
    if (old === undefined && this.isArray) return -ERRNO.E2BIG;
    if (old !== undefined && flags === 1) return -ERRNO.EEXIST;
    if (old === undefined && flags === 2) return -ERRNO.ENOENT;
    if (old === undefined && this.values.size === this.spec.maxEntries) return -ERRNO.E2BIG;
    const values = old ?? this.zeros();
    for (let i = 0; i < this.cpus; i++) {
      if (cpu === undefined || this.cpus === 1 || i === cpu) values[i] = value;
    }
    this.values.set(key, values);
    return 0;
  }

  delete(key: string): number {
    if (this.isArray) return -ERRNO.EINVAL;
    return this.values.delete(key) ? 0 : -ERRNO.ENOENT;
  }

  clear(): void {
    if (this.isArray) this.zero();
    else this.values.clear();
  }

  zero(): void {
    for (const key of this.values.keys()) this.values.set(key, this.zeros());
  }
}

const contents = (map: BpfMap): [string, string[]][] =>
  [...map.entries()].map(({ key, values }): [string, string[]] => [hex(key), values.map(hex)]);
const sorted = <T extends [string, unknown]>(list: Iterable<T>): T[] =>
  [...list].sort((a, b) => (a[0] < b[0] ? -1 : a[0] > b[0] ? 1 : 0));

function runOps(spec: MapSpec, ops: readonly Op[]): void {
  const { map, guards, view, scratch } = make(spec);
  const model = new Model(spec);
  const value = scratch + 256;
  for (const op of ops) {
    if (op.op === 'clear' || op.op === 'zero') {
      map[op.op]();
      model[op.op]();
    }
    if (!('key' in op)) {
      expect(sorted(contents(map))).toEqual(sorted(model.values));
      expect(map.size).toBe(model.values.size);
      continue;
    }
    const bytes = bytesOf(op.key, spec.keySize);
    view.u8.set(bytes, scratch);
    if (op.op === 'update') {
      const one = bytesOf(op.value, spec.valueSize);
      expect(map.update(bytes, one, op.flags)).toBe(model.update(hex(bytes), hex(one), op.flags));
    } else if (op.op === 'updateElem') {
      const one = bytesOf(op.value, spec.valueSize);
      view.u8.set(one, value);
      const expected = model.update(hex(bytes), hex(one), op.flags, op.cpu);
      expect(map.updateElem(scratch, value, op.flags, op.cpu)).toBe(expected);
    } else if (op.op === 'delete') {
      expect(map.delete(bytes)).toBe(model.delete(hex(bytes)));
    } else if (op.op === 'deleteElem') {
      expect(map.deleteElem(scratch, 0)).toBe(model.delete(hex(bytes)));
    } else {
      const expected = model.values.get(hex(bytes));
      expect(map.lookupPercpu(bytes)?.map(hex)).toEqual(expected);
      for (let cpu = 0; cpu < model.cpus; cpu++) {
        const address = map.lookupElem(scratch, cpu);
        const found = address === 0 ? undefined : hex(view.u8.slice(address, address + spec.valueSize));
        expect(found).toBe(expected?.[cpu]);
        expect(address % 8).toBe(0);
      }
    }
  }
  expect(sorted(contents(map))).toEqual(sorted(model.values));
  const keys: string[] = [];
  for (let at = map.getNextKey(); at !== undefined; at = map.getNextKey(at)) keys.push(hex(at));
  expect(keys.sort()).toEqual([...model.values.keys()].sort());
  for (const guard of guards) expect(contents(guard).every(([, [bytes]]) => /^0*$/.test(bytes!))).toBe(true);
}

describe.each<MapType>(['array', 'percpu_array'])('%s', (type) => {
  it.each([1, 4, 8, 13])('behaves as the model with values of %d bytes', (valueSize) => {
    const spec: MapSpec = { name: 'm', type, keySize: 4, valueSize, maxEntries: 7 };
    fc.assert(
      fc.property(fc.array(operation, { maxLength: 40 }), (ops) => runOps(spec, ops)),
      { numRuns: 60, seed: 1 },
    );
  });
});

describe.each<MapType>(['hash', 'percpu_hash'])('%s', (type) => {
  it.each([
    [1, 1],
    [4, 8],
    [5, 12],
    [8, 8],
    [16, 24],
    [71, 8],
  ])('behaves as the model with keys of %d and values of %d bytes', (keySize, valueSize) => {
    const spec: MapSpec = { name: 'm', type, keySize, valueSize, maxEntries: 7 };
    fc.assert(
      fc.property(fc.array(operation, { maxLength: 60 }), (ops) => runOps(spec, ops)),
      { numRuns: 60, seed: 2 },
    );
  });

  it('gives freed elements out again, up to its size and not beyond', () => {
    const { map } = make({ name: 'm', type, keySize: 8, valueSize: 8, maxEntries: 100 });
    for (let round = 0; round < 5; round++) {
      for (let i = 0; i < 100; i++) expect(map.update(bytesOf(i + round * 1000, 8), bytesOf(i, 8))).toBe(0);
      expect(map.update(bytesOf(999999, 8), bytesOf(1, 8))).toBe(-ERRNO.E2BIG);
      expect(map.size).toBe(100);
      map.clear();
      expect(map.size).toBe(0);
      expect([...map.entries()]).toEqual([]);
    }
  });

  it('spreads keys that differ in any one byte over its buckets', () => {
    const spec: MapSpec = { name: 'm', type, keySize: 40, valueSize: 8, maxEntries: 4096 };
    for (const byte of [0, 7, 8, 15, 31, 32, 39]) {
      const { map, view } = make(spec);
      for (let i = 0; i < 256; i++) {
        const bytes = new Uint8Array(40).fill(120);
        bytes[byte] = i;
        expect(map.update(bytes, new Uint8Array(8))).toBe(0);
      }
      const { address, buckets } = {
        address: (map as unknown as { address: number }).address,
        buckets: 4096,
      };
      let filled = 0;
      for (let b = 0; b < buckets; b++) {
        if ((view.data.getUint32(address + 128 + b * 8, true) & 1) === 0) filled++;
      }
      // 256 keys thrown at random into 4096 buckets fill about 248.
      expect(filled).toBeGreaterThan(200);
    }
  });
});

describe('map specs', () => {
  it.each<[Partial<MapSpec>, string]>([
    [{ type: 'array', keySize: 8 }, "map m: an array's key size is 4, not 8"],
    [{ keySize: 0 }, 'map m: key size 0 out of range'],
    [{ valueSize: 0 }, 'map m: value size 0 out of range'],
    [{ maxEntries: 0 }, 'map m: max entries 0 out of range'],
    [{ maxEntries: 1.5 }, 'map m: max entries 1.5 out of range'],
    [{ type: 'lru' as MapType }, 'map m: unknown type lru'],
    [{ type: 'ringbuf' }, 'map m: a ring buffer has no keys and values'],
    [
      { type: 'ringbuf', keySize: 0, valueSize: 0, maxEntries: 5000 },
      'map m: ring buffer size 5000 is not a power of two',
    ],
  ])('refuses %o', (change, message) => {
    const spec: MapSpec = { name: 'm', type: 'hash', keySize: 4, valueSize: 4, maxEntries: 4, ...change };
    expect(() => checkMapSpec(spec)).toThrow(BpfError);
    expect(() => checkMapSpec(spec)).toThrow(message);
  });

  it('refuses wrong key and value sizes', () => {
    const { map } = make({ name: 'm', type: 'percpu_hash', keySize: 4, valueSize: 4, maxEntries: 4 });
    expect(() => map.lookup(new Uint8Array(3))).toThrow('map m: key of 3 bytes, not 4');
    expect(() => map.update(new Uint8Array(4), new Uint8Array(5))).toThrow('map m: value of 5 bytes, not 4');
    expect(() => map.update(new Uint8Array(4), [new Uint8Array(4)])).toThrow('map m: 1 values, not 2');
    expect(() => map.lookup(new Uint8Array(4), 2)).toThrow('CPU 2 is not one of 2');
  });
});
