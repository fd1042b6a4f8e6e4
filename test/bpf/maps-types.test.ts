/** The map types beyond hash, array and ring buffer, each against a plain model. maps-oracle.test.ts compares with the kernel. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { createMachine, ERRNO, MAP_FLAG, type MapSpec } from '../../src/bpf/index.ts';
import type { BloomFilter } from '../../src/bpf/maps/bloom-filter.ts';
import type { TaskStorage } from '../../src/bpf/maps/local-storage.ts';
import { viewMemory } from '../../src/bpf/maps/memory-view.ts';
import type { PerfEventArray } from '../../src/bpf/maps/perf-event-array.ts';
import type { StackTraceMap } from '../../src/bpf/maps/stack-trace.ts';
import type { UserRingBuffer } from '../../src/bpf/maps/user-ringbuf.ts';

const u32 = (value: number): Uint8Array => new Uint8Array(Uint32Array.of(value).buffer);
const u64 = (value: number): Uint8Array => new Uint8Array(BigUint64Array.of(BigInt(value)).buffer);
const number = (bytes: Uint8Array): number =>
  bytes.length >= 8
    ? Number(new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(0, true))
    : new DataView(bytes.buffer, bytes.byteOffset).getUint32(0, true);
const NONE = new Uint8Array(0);

describe.each(['lru_hash', 'lru_percpu_hash'] as const)('%s', (type) => {
  const make = (flags = 0) => {
    const machine = createMachine({ ncpu: 2 });
    const map = machine.createMap({ name: 'lru', type, keySize: 4, valueSize: 8, maxEntries: 16, flags });
    const scratch = machine.alloc(64);
    return { machine, map, scratch };
  };

  it.each([0, MAP_FLAG.BPF_F_NO_COMMON_LRU])(
    'is never full, and what it holds is what was written last (flags %d)',
    (flags) => {
      const operation = fc.record({
        op: fc.constantFrom('update', 'update', 'lookup', 'delete'),
        key: fc.nat({ max: 40 }),
        value: fc.nat(1e6),
      });
      fc.assert(
        fc.property(fc.array(operation, { maxLength: 200 }), (ops) => {
          const { map } = make(flags);
          const written = new Map<number, number>();
          for (const { op, key, value } of ops) {
            if (op === 'update') {
              expect(map.update(u32(key), u64(value))).toBe(0);
              written.set(key, value);
              expect(map.lookup(u32(key))).toEqual(u64(value));
            } else if (op === 'delete') {
              expect([0, -ERRNO.ENOENT]).toContain(map.delete(u32(key)));
              written.delete(key);
            }
          }
          const entries = [...map.entries()];
          expect(entries.length).toBe(map.size);
          expect(map.size).toBe(Math.min(map.size, 16));
          for (const { key, values } of entries) expect(number(values[0]!)).toBe(written.get(number(key)));
          if (written.size <= 16 && ops.length <= 16) expect(map.size).toBe(written.size);
        }),
        { numRuns: 60, seed: 31 },
      );
    },
  );

  it('keeps what programs look up, and evicts what they do not', () => {
    const { machine, map, scratch } = make();
    for (let key = 0; key < 16; key++) expect(map.update(u32(key), u64(key))).toBe(0);
    for (let round = 0; round < 50; round++) {
      for (let hot = 0; hot < 4; hot++) {
        viewMemory(machine.memory).u8.set(u32(hot), scratch);
        expect(map.lookupElem(scratch, 0)).not.toBe(0);
      }
      for (let n = 0; n < 4; n++) expect(map.update(u32(1000 + round * 4 + n), u64(1))).toBe(0);
    }
    for (let hot = 0; hot < 4; hot++) expect(map.lookup(u32(hot))).toEqual(u64(hot));
    expect(map.size).toBe(16);
    // Cold keys are long gone.
    for (let cold = 4; cold < 16; cold++) expect(map.lookup(u32(cold))).toBeUndefined();
  });
});

describe('lpm_trie', () => {
  const spec: MapSpec = {
    name: 'lpm',
    type: 'lpm_trie',
    keySize: 8,
    valueSize: 4,
    maxEntries: 40,
    flags: MAP_FLAG.BPF_F_NO_PREALLOC,
  };
  const keyOf = (address: number, length: number): Uint8Array => {
    const key = new Uint8Array(8);
    const view = new DataView(key.buffer);
    view.setUint32(0, length, true);
    view.setUint32(4, address >>> 0);
    return key;
  };
  const prefix = (address: number, length: number): string =>
    (address >>> 0).toString(2).padStart(32, '0').slice(0, length);

  it('finds the longest prefix, as a list of prefixes does', () => {
    const operation = fc.record({
      op: fc.constantFrom('update', 'update', 'update', 'delete', 'lookup', 'lookup'),
      // Addresses that share long prefixes.
      address: fc
        .tuple(fc.nat(3), fc.nat(3), fc.nat(255))
        .map(([a, b, c]) => ((a << 30) | (b << 20) | c) >>> 0),
      length: fc.constantFrom(0, 1, 2, 3, 10, 12, 13, 24, 30, 31, 32),
      value: fc.nat(1e6),
    });
    fc.assert(
      fc.property(fc.array(operation, { maxLength: 80 }), (ops) => {
        const map = createMachine().createMap(spec);
        const model = new Map<string, number>();
        for (const { op, address, length, value } of ops) {
          const bits = prefix(address, length);
          if (op === 'update') {
            const isFull = !model.has(bits) && model.size === spec.maxEntries;
            expect(map.update(keyOf(address, length), u32(value))).toBe(isFull ? -ERRNO.ENOSPC : 0);
            if (!isFull) model.set(bits, value);
          } else if (op === 'delete') {
            expect(map.delete(keyOf(address, length))).toBe(model.delete(bits) ? 0 : -ERRNO.ENOENT);
          } else {
            let best: number | undefined;
            for (let n = length; n >= 0 && best === undefined; n--) best = model.get(bits.slice(0, n));
            const found = map.lookup(keyOf(address, length));
            expect(found === undefined ? undefined : number(found)).toBe(best);
          }
        }
        expect(map.size).toBe(model.size);
        const keys: string[] = [];
        for (const { key, values } of map.entries()) {
          const view = new DataView(key.buffer);
          const bits = prefix(view.getUint32(4), view.getUint32(0, true));
          keys.push(bits);
          // A prefix comes after all that it contains.
          expect(keys.slice(0, -1).some((before) => bits.startsWith(before))).toBe(false);
          // Other data bits of a key do not count, but the value found by it may be of a longer prefix only.
          expect(model.has(bits)).toBe(true);
          expect(values).toHaveLength(1);
        }
        expect(keys.sort()).toEqual([...model.keys()].sort());
      }),
      { numRuns: 120, seed: 41 },
    );
  });

  it('refuses prefixes longer than its data and gives back its nodes', () => {
    const machine = createMachine();
    const map = machine.createMap(spec);
    expect(map.update(keyOf(1, 33), u32(1))).toBe(-ERRNO.EINVAL);
    expect(map.lookup(keyOf(1, 33))).toBeUndefined();
    expect(map.delete(keyOf(1, 33))).toBe(-ERRNO.EINVAL);
    const grown: number[] = [];
    for (let round = 0; round < 20; round++) {
      for (let n = 0; n < 40; n++) expect(map.update(keyOf(n * 0x1234567, 32), u32(n))).toBe(0);
      map.clear();
      grown.push(machine.memory.buffer.byteLength);
    }
    expect(new Set(grown).size).toBe(1);
  });
});

describe.each(['queue', 'stack'] as const)('%s', (type) => {
  it('behaves as a list', () => {
    const operation = fc.oneof(
      fc.record({
        op: fc.constant('push' as const),
        value: fc.nat(1e6),
        flags: fc.constantFrom(0, 0, 2, 1, 3),
      }),
      fc.record({ op: fc.constantFrom('pop' as const, 'peek' as const, 'list' as const) }),
    );
    fc.assert(
      fc.property(fc.array(operation, { maxLength: 80 }), (ops) => {
        const machine = createMachine();
        const map = machine.createMap({ name: 'q', type, keySize: 0, valueSize: 8, maxEntries: 5 });
        const at = machine.alloc(16);
        let model: number[] = [];
        for (const op of ops) {
          const { u8 } = viewMemory(machine.memory);
          if (op.op === 'push') {
            u8.set(u64(op.value), at);
            let expected: number;
            if ((op.flags & 1) !== 0) expected = -ERRNO.EINVAL;
            else if (model.length === 5 && op.flags === 0) expected = -ERRNO.E2BIG;
            else {
              expected = 0;
              if (model.length === 5) model.shift();
              model.push(op.value);
            }
            expect(map.pushElem(at, op.flags, 0)).toBe(expected);
          } else if (op.op === 'list') {
            const values = [...map.entries()].map(({ values }) => number(values[0]!));
            expect(values).toEqual(type === 'queue' ? model : [...model].reverse());
          } else {
            const value = type === 'queue' ? model[0] : model.at(-1);
            u8.fill(7, at, at + 8);
            const result = op.op === 'pop' ? map.popElem(at, 0) : map.peekElem(at, 0);
            expect(result).toBe(value === undefined ? -ERRNO.ENOENT : 0);
            expect(number(u8.slice(at, at + 8))).toBe(value ?? 0);
            if (op.op === 'pop') model = type === 'queue' ? model.slice(1) : model.slice(0, -1);
          }
          expect(map.size).toBe(model.length);
        }
      }),
      { numRuns: 100, seed: 51 },
    );
  });
});

describe('bloom_filter', () => {
  it.each([0n, 1n, 15n])('forgets nothing, and rarely claims too much (%d hash functions)', (mapExtra) => {
    const map = createMachine().createMap({
      name: 'bloom',
      type: 'bloom_filter',
      keySize: 0,
      valueSize: 8,
      maxEntries: 1000,
      mapExtra,
    }) as unknown as BloomFilter;
    for (let n = 0; n < 1000; n++) expect(map.update(NONE, u64(n))).toBe(0);
    for (let n = 0; n < 1000; n++) expect(map.contains(u64(n))).toBe(true);
    let wrong = 0;
    for (let n = 1000; n < 11_000; n++) if (map.contains(u64(n))) wrong++;
    // With one hash function a filter of 2048 bits is 39 % full.
    expect(wrong / 10_000).toBeLessThan(mapExtra === 1n ? 0.5 : 0.06);
    expect(map.update(NONE, u64(1), 1)).toBe(-ERRNO.EINVAL);
    expect(map.delete(NONE)).toBe(-ERRNO.EOPNOTSUPP);
    map.clear();
    expect(map.contains(u64(1))).toBe(false);
  });
});

describe('maps of maps', () => {
  const inner: MapSpec = { name: 'inner', type: 'array', keySize: 4, valueSize: 8, maxEntries: 4 };

  it.each(['array_of_maps', 'hash_of_maps'] as const)(
    '%s holds maps of one kind, and keeps them alive',
    (type) => {
      const machine = createMachine();
      const outer = machine.createMap({
        name: 'o',
        type,
        keySize: 4,
        valueSize: 4,
        maxEntries: 2,
        innerMap: inner,
      });
      const one = machine.createMap(inner);
      const other = machine.createMap({ ...inner, name: 'other' });
      const odd = machine.createMap({ ...inner, maxEntries: 5 });
      expect(machine.setElement(outer, u32(1), one)).toBe(0);
      expect(machine.setElement(outer, u32(0), odd)).toBe(-ERRNO.EINVAL);
      expect(number(outer.lookup(u32(1))!)).toBe(one.id);
      // A program gets the address.
      const at = machine.alloc(16);
      viewMemory(machine.memory).u8.set(u32(1), at);
      expect(outer.lookupElem(at, 0)).toBe(one.address);
      viewMemory(machine.memory).u8.set(u32(0), at);
      expect(outer.lookupElem(at, 0)).toBe(0);
      machine.release(one);
      expect(machine.maps.has(one.id)).toBe(true);
      expect(machine.setElement(outer, u32(1), other)).toBe(0);
      expect(machine.maps.has(one.id)).toBe(false);
      machine.release(other);
      expect([...outer.entries()].map(({ key, values }) => [number(key), number(values[0]!)])).toEqual([
        [1, other.id],
      ]);
      expect(outer.delete(u32(1))).toBe(0);
      expect(outer.delete(u32(1))).toBe(-ERRNO.ENOENT);
      expect(machine.maps.has(other.id)).toBe(false);
      expect(machine.setElement(outer, u32(1), odd)).toBe(-ERRNO.EINVAL);
    },
  );

  it('refuses maps of maps of maps, and inner maps that cannot be', () => {
    const machine = createMachine();
    const outer: MapSpec = {
      name: 'o',
      type: 'array_of_maps',
      keySize: 4,
      valueSize: 4,
      maxEntries: 2,
      innerMap: inner,
    };
    const bad = (innerMap: MapSpec) => () => machine.createMap({ ...outer, innerMap });
    expect(bad(outer)).toThrow(expect.objectContaining({ code: 'EINVAL' }));
    expect(bad({ ...inner, type: 'prog_array', valueSize: 4 })).toThrow(
      expect.objectContaining({ code: 'ENOTSUPP' }),
    );
  });
});

describe('perf_event_array', () => {
  it('gives each CPU its records in order, and counts what is lost', () => {
    const machine = createMachine({ ncpu: 2 });
    const map = machine.createMap({
      name: 'events',
      type: 'perf_event_array',
      keySize: 4,
      valueSize: 4,
      maxEntries: 2,
    }) as unknown as PerfEventArray;
    const at = machine.alloc(64);
    const CURRENT_CPU = 0xffff_ffffn;
    expect(map.output(CURRENT_CPU, at, 8, 0)).toBe(-ERRNO.ENOENT);
    const reader = map.openReader(4096);
    expect(() => map.openReader(4096)).toThrow(expect.objectContaining({ code: 'EBUSY' }));
    expect(map.output(5n, at, 8, 0)).toBe(-ERRNO.E2BIG);
    expect(map.output(1n, at, 8, 0)).toBe(-ERRNO.EOPNOTSUPP);
    expect(map.output(1n << 40n, at, 8, 0)).toBe(-ERRNO.EINVAL);
    for (let n = 0; n < 100; n++) {
      viewMemory(machine.memory).u8.set(u64(n), at);
      expect(map.output(CURRENT_CPU, at, 8, n % 2)).toBe(0);
    }
    const seen: [number, number][] = [];
    const drain = () => reader.drain((cpu, view, offset) => seen.push([cpu, view.getUint32(offset, true)]));
    expect(drain()).toBe(100);
    for (const cpu of [0, 1]) {
      const own = seen.filter(([of]) => of === cpu).map(([, n]) => n);
      expect(own).toEqual(Array.from({ length: 50 }, (_, n) => 2 * n + cpu));
    }
    let full = 0;
    for (let n = 0; n < 300; n++) if (map.output(CURRENT_CPU, at, 64, 1) === -ERRNO.ENOSPC) full++;
    expect(full).toBeGreaterThan(200);
    expect(reader.lost).toEqual([0, full]);
    reader.close();
    expect(map.output(CURRENT_CPU, at, 8, 0)).toBe(-ERRNO.ENOENT);
  });
});

describe('user_ringbuf', () => {
  it('hands samples to programs in order, and tells why there is none', () => {
    const machine = createMachine();
    const map = machine.createMap({
      name: 'u',
      type: 'user_ringbuf',
      keySize: 0,
      valueSize: 0,
      maxEntries: 4096,
    }) as unknown as UserRingBuffer;
    expect(map.peek()).toBe(-ERRNO.ENODATA);
    for (let n = 0; n < 3; n++) expect(map.write(u64(n))).toBe(0);
    for (let n = 0; n < 3; n++) {
      const sample = map.peek();
      if (typeof sample === 'number') throw new Error(`errno ${sample}`);
      expect(sample.size).toBe(8);
      expect(number(viewMemory(machine.memory).u8.slice(sample.address, sample.address + 8))).toBe(n);
      map.consume(sample);
    }
    const busy = map.reserveSample(16);
    expect(map.peek()).toBe(-ERRNO.ENODATA);
    map.discard(busy);
    expect(map.peek()).toBe(-ERRNO.EAGAIN);
    expect(map.peek()).toBe(-ERRNO.ENODATA);
    expect(map.write(new Uint8Array(5000))).toBe(-ERRNO.E2BIG);
    let written = 0;
    while (map.write(new Uint8Array(100)) === 0) written++;
    expect(written).toBe(Math.floor(4095 / 112));
    expect(map.draining(() => map.draining(() => 1))).toBe(-ERRNO.EBUSY);
  });
});

describe('stack_trace', () => {
  it('gives equal stacks one id', () => {
    const machine = createMachine();
    const map = machine.createMap({
      name: 's',
      type: 'stack_trace',
      keySize: 4,
      valueSize: 64,
      maxEntries: 64,
    }) as unknown as StackTraceMap;
    const stack = (n: number) => BigUint64Array.from({ length: 5 }, (_, i) => BigInt(n * 100 + i));
    const ids = new Map<number, number>();
    for (let n = 0; n < 20; n++) {
      const id = map.store64(stack(n), 0);
      if (id === -ERRNO.EEXIST) continue;
      expect(map.store64(stack(n), 0)).toBe(id);
      ids.set(id, n);
    }
    expect(ids.size).toBeGreaterThan(10);
    for (const [id, n] of ids) {
      const frames = new BigUint64Array(map.lookup(u32(id))!.slice().buffer);
      expect([...frames]).toEqual([...stack(n), 0n, 0n, 0n]);
    }
    const [first] = ids.keys();
    expect(map.delete(u32(first!))).toBe(0);
    expect(map.lookup(u32(first!))).toBeUndefined();
    expect(map.update(u32(1), new Uint8Array(64))).toBe(-ERRNO.EINVAL);
    // A stack that is too deep is cut.
    const deep = BigUint64Array.from({ length: 30 }, (_, i) => BigInt(i));
    const id = map.store64(deep, 1 << 10);
    expect([...new BigUint64Array(map.lookup(u32(id))!.slice().buffer)]).toEqual([...deep.subarray(0, 8)]);
  });
});

describe('values with special fields', () => {
  const record = {
    fields: [
      { kind: 'spin_lock', offset: 4, size: 4 },
      { kind: 'timer', offset: 16, size: 16 },
    ],
  } as const;

  it.each(['hash', 'array', 'lpm_trie'] as const)('%s: updates go around them, deletes free them', (type) => {
    const freed: number[] = [];
    const machine = createMachine({ freeFields: (value) => freed.push(value) });
    const map = machine.createMap({
      name: 'r',
      type,
      keySize: type === 'lpm_trie' ? 8 : 4,
      valueSize: 40,
      maxEntries: 4,
      flags: type === 'lpm_trie' ? MAP_FLAG.BPF_F_NO_PREALLOC : 0,
      record,
    });
    const key = type === 'lpm_trie' ? u64(32) : u32(1);
    const at = machine.alloc(64);
    const { u8 } = viewMemory(machine.memory);
    expect(map.update(key, new Uint8Array(40).fill(1))).toBe(0);
    u8.set(key, at);
    const value = map.lookupElem(at, 0);
    const bytes = () => [...viewMemory(machine.memory).u8.slice(value, value + 40)];
    const expected = (fill: number, special: number) =>
      Array.from({ length: 40 }, (_, i) => ((i >= 4 && i < 8) || (i >= 16 && i < 32) ? special : fill));
    expect(bytes()).toEqual(expected(1, 0));
    // A program sets its timer.
    viewMemory(machine.memory).u8.fill(9, value + 16, value + 32);
    expect(map.update(key, new Uint8Array(40).fill(2))).toBe(0);
    const timer = bytes().slice(16, 32);
    expect(timer).toEqual(new Array(16).fill(9));
    // Nobody outside sees it.
    expect([...map.lookup(key)!]).toEqual(expected(2, 0));
    if (type === 'array') return;
    expect(map.delete(key)).toBe(0);
    expect(freed).toEqual([value]);
    expect(map.update(key, new Uint8Array(40).fill(3))).toBe(0);
    expect([...map.lookup(key)!]).toEqual(expected(3, 0));
    machine.release(map);
    expect(freed).toHaveLength(2);
  });

  it('BPF_F_LOCK waits for the lock in the value', () => {
    const machine = createMachine();
    const map = machine.createMap({
      name: 'r',
      type: 'hash',
      keySize: 4,
      valueSize: 40,
      maxEntries: 4,
      record,
    });
    const LOCK = 4;
    expect(map.update(u32(1), new Uint8Array(40).fill(1), LOCK)).toBe(0);
    expect(map.update(u32(1), new Uint8Array(40).fill(2), LOCK)).toBe(0);
    expect(map.lookup(u32(1))![0]).toBe(2);
    const plain = machine.createMap({ name: 'p', type: 'hash', keySize: 4, valueSize: 40, maxEntries: 4 });
    expect(plain.update(u32(1), new Uint8Array(40), LOCK)).toBe(-ERRNO.EINVAL);
  });
});

describe('task_storage', () => {
  it('has a value for each thread that asked for one', () => {
    const machine = createMachine({ ncpu: 3 });
    const map = machine.createMap({
      name: 't',
      type: 'task_storage',
      keySize: 4,
      valueSize: 8,
      maxEntries: 0,
      flags: MAP_FLAG.BPF_F_NO_PREALLOC,
      keyTypeId: 1,
      valueTypeId: 2,
    }) as unknown as TaskStorage;
    expect(map.get(1, 0, 0)).toBe(0);
    const initial = machine.alloc(16);
    viewMemory(machine.memory).u8.set(u64(5), initial);
    const value = map.get(1, initial, 1);
    expect(value).not.toBe(0);
    expect(map.get(1, 0, 0)).toBe(value);
    expect(map.lookup(u32(1))).toEqual(u64(5));
    expect(map.lookup(u32(0))).toBeUndefined();
    expect(map.update(u32(0), u64(6))).toBe(0);
    expect(map.update(u32(0), u64(6), 1)).toBe(-ERRNO.EEXIST);
    expect(map.update(u32(2), u64(6), 2)).toBe(-ERRNO.ENOENT);
    expect(map.update(u32(3), u64(6))).toBe(-ERRNO.EBADF);
    expect(map.remove(1)).toBe(0);
    expect(map.remove(1)).toBe(-ERRNO.ENOENT);
    expect([...map.entries()].map(({ key }) => number(key))).toEqual([0]);
  });
});

describe('types that user space cannot have', () => {
  it.each([
    ['struct_ops', 'there are no kernel structures to implement in user space'],
    ['sk_storage', 'there are no kernel sockets in user space'],
    ['inode_storage', 'there are no kernel inodes in user space'],
    ['cgrp_storage', 'there are no control groups in user space'],
    ['sockhash', 'there are no kernel sockets in user space'],
  ] as const)('%s is refused with the reason', (type, text) => {
    const make = () =>
      createMachine().createMap({ name: 'm', type, keySize: 4, valueSize: 4, maxEntries: 1 });
    expect(make).toThrow(
      expect.objectContaining({ code: 'ENOTSUPP', message: `map m: type ${type}: ${text}` }),
    );
  });
});

describe('memory', () => {
  it('of maps that are released is used again', () => {
    const machine = createMachine();
    const specs: MapSpec[] = [
      {
        name: 'a',
        type: 'hash',
        keySize: 8,
        valueSize: 100,
        maxEntries: 1000,
        flags: MAP_FLAG.BPF_F_NO_PREALLOC,
      },
      {
        name: 'b',
        type: 'lpm_trie',
        keySize: 8,
        valueSize: 100,
        maxEntries: 1000,
        flags: MAP_FLAG.BPF_F_NO_PREALLOC,
      },
      { name: 'c', type: 'array', keySize: 4, valueSize: 1000, maxEntries: 1000 },
      { name: 'd', type: 'lru_hash', keySize: 8, valueSize: 100, maxEntries: 1000 },
    ];
    const sizes: number[] = [];
    for (let round = 0; round < 10; round++) {
      const maps = specs.map((spec) => machine.createMap(spec));
      for (const map of maps) {
        for (let n = 0; n < 500; n++) {
          const key = map.spec.keySize === 4 ? u32(n) : map.spec.type === 'lpm_trie' ? lpmKey(n) : u64(n);
          expect(map.update(key, new Uint8Array(map.spec.valueSize).fill(n))).toBe(0);
        }
      }
      for (const map of maps) machine.release(map);
      expect(machine.maps.size).toBe(0);
      sizes.push(machine.memory.buffer.byteLength);
    }
    expect(sizes.at(-1)).toBe(sizes[0]);
  });
});

function lpmKey(n: number): Uint8Array {
  const key = u64(n * 2 ** 32);
  key[0] = 32;
  return key;
}
