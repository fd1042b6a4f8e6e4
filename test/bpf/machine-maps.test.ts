/** Map types inside of programs of a machine, by both engines, against a plain model and against what bpf(2) sees. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  assemble,
  createMachine,
  type LoadedMap,
  type LoadedProgram,
  MAP_FLAG,
  type Machine,
  type MapSpec,
} from '../../src/bpf/index.ts';
import type { PerfEventArray } from '../../src/bpf/maps/perf-event-array.ts';

import { functionTypes } from './support-programs.ts';

const u64 = (value: number | bigint): Uint8Array => new Uint8Array(BigUint64Array.of(BigInt(value)).buffer);
const readU64 = (bytes: Uint8Array): number =>
  Number(new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(0, true));

/** Context: u64 operation (0 look up, 1 delete, 2 + flags update), key, value. Result: the value found, or the helper's. */
const OPERATE = `
  r6 = r1
  r2 = *(u64 *)(r6 +8)
  *(u64 *)(r10 -8) = r2
  r2 = *(u64 *)(r6 +16)
  *(u64 *)(r10 -16) = r2
  r7 = *(u64 *)(r6 +0)
  r1 = map[idx:0]
  r2 = r10
  r2 += -8
  if r7 == 1 goto delete
  if r7 > 1 goto update
  call bpf_map_lookup_elem
  if r0 == 0 goto none
  r0 = *(u64 *)(r0 +0)
  exit
none: r0 = -1
  exit
delete: call bpf_map_delete_elem
  exit
update: r3 = r10
  r3 += -16
  r4 = r7
  r4 += -2
  call bpf_map_update_elem
  exit`;

const ENGINES = ['jit', 'interpreter'] as const;

function operate(spec: MapSpec, engine: (typeof ENGINES)[number], ncpu = 1) {
  const machine = createMachine({ ncpu });
  const map = machine.createMap(spec);
  const program = machine.loadProgram({
    name: 'operate',
    type: 'raw_tracepoint',
    insns: assemble(OPERATE),
    maps: [spec],
    loadedMaps: [map],
    ctx: { size: 96, access: (_off, _size, write) => (write ? undefined : 'scalar') },
    engine,
  });
  return {
    machine,
    map,
    /** r0 as a signed number. */
    run(operation: number, key: number, value = 0, cpu = 0): number {
      const ctxIn = new Uint8Array(24);
      ctxIn.set(u64(operation), 0);
      ctxIn.set(u64(key), 8);
      ctxIn.set(u64(value), 16);
      return program.testRun({ ctxIn, cpu, ...(cpu === 0 ? {} : { flags: 1 }) }).retval | 0;
    },
  };
}

const operation = fc.record({
  op: fc.constantFrom(0, 0, 1, 2, 2, 2, 3, 4, 5),
  key: fc.nat({ max: 40 }),
  value: fc.nat({ max: 1000 }),
});

const hash = { name: 'h', type: 'hash', keySize: 8, valueSize: 8, maxEntries: 30 } as const;

describe.each(ENGINES)('%s', (engine) => {
  it.each<[string, MapSpec]>([
    ['hash', hash],
    ['hash without preallocation', { ...hash, flags: MAP_FLAG.BPF_F_NO_PREALLOC }],
    [
      'hash with few and large elements a chunk',
      { ...hash, valueSize: 70_000, flags: MAP_FLAG.BPF_F_NO_PREALLOC },
    ],
  ])('%s: behaves as the model', (_, spec) => {
    if (spec.valueSize > 8) return checkLarge(spec, engine);
    fc.assert(
      fc.property(fc.array(operation, { maxLength: 100 }), (ops) => {
        const { map, run } = operate(spec, engine);
        const model = new Map<number, number>();
        for (const { op, key, value } of ops) {
          const known = model.get(key);
          let expected: number;
          if (op === 0) expected = known ?? -1;
          else if (op === 1) expected = model.delete(key) ? 0 : -2;
          else if (op === 5) expected = -22;
          else if (op === 3 && known !== undefined) expected = -17;
          else if (op === 4 && known === undefined) expected = -2;
          else if (known === undefined && model.size === spec.maxEntries) expected = -7;
          else {
            expected = 0;
            model.set(key, value);
          }
          expect(run(op, key, value)).toBe(expected);
        }
        const seen = [...map.entries()].map(({ key, values }) => [readU64(key), readU64(values[0]!)]);
        expect(new Map(seen as [number, number][])).toEqual(model);
        expect(map.size).toBe(model.size);
      }),
      { numRuns: engine === 'jit' ? 60 : 15, seed: 21 },
    );
  });

  it('reads a value in memory that was not there when the program started', () => {
    const machine = createMachine();
    const spec: MapSpec = { ...hash, valueSize: 1 << 20, flags: MAP_FLAG.BPF_F_NO_PREALLOC };
    const map = machine.createMap(spec);
    const value = machine.createMap({
      name: 'v',
      type: 'array',
      keySize: 4,
      valueSize: 1 << 20,
      maxEntries: 1,
    });
    value.update(new Uint8Array(4), new Uint8Array(1 << 20).fill(7));
    const program = load(
      machine,
      `*(u64 *)(r10 -8) = 1
       r1 = map[idx:0]
       r2 = r10
       r2 += -8
       r3 = map[idx:1][0]+0
       r4 = 0
       call bpf_map_update_elem
       r1 = map[idx:0]
       r2 = r10
       r2 += -8
       call bpf_map_lookup_elem
       if r0 == 0 goto none
       r0 += 1048575
       r0 = *(u8 *)(r0 +0)
 none: exit`,
      [map, value],
      engine,
    );
    const before = machine.memory.buffer.byteLength;
    expect(program.testRun().retval).toBe(7);
    expect(machine.memory.buffer.byteLength).toBeGreaterThan(before);
  });

  it('takes memory for elements as they come, and gives freed ones out again', () => {
    const { machine, map, run } = operate(
      { ...hash, maxEntries: 1_000_000, flags: MAP_FLAG.BPF_F_NO_PREALLOC },
      engine,
    );
    const { byteLength } = machine.memory.buffer;
    // 24 bytes an element would be 24 MB.
    expect(byteLength).toBeLessThan(12e6);
    const count = engine === 'jit' ? 20_000 : 2_000;
    for (let round = 0; round < 2; round++) {
      for (let key = 0; key < count; key++) expect(run(2, key, key + round)).toBe(0);
      expect(map.size).toBe(count);
      for (let key = 0; key < count; key += 97) expect(run(0, key)).toBe(key + round);
      const keys = new Set<number>();
      for (let at = map.getNextKey(); at !== undefined; at = map.getNextKey(at)) keys.add(readU64(at));
      expect(keys.size).toBe(count);
      for (let key = 0; key < count; key++) expect(run(1, key)).toBe(0);
      expect(map.size).toBe(0);
    }
    expect(machine.memory.buffer.byteLength).toBeLessThan(byteLength + 4e6);
  });
});

const load = (
  machine: Machine,
  text: string,
  maps: readonly LoadedMap[],
  engine: (typeof ENGINES)[number],
): LoadedProgram => {
  const insns = assemble(text);
  const { btf, funcInfo } = functionTypes(insns);
  return machine.loadProgram({
    name: 'test',
    type: 'raw_tracepoint',
    insns,
    btf,
    funcInfo,
    maps: maps.map(({ spec }) => spec),
    loadedMaps: maps,
    engine,
  });
};

describe('both engines', () => {
  it.each(['lru_hash', 'lru_percpu_hash'] as const)('evict the same from %s', (type) => {
    const contents = ENGINES.map((engine) => {
      const { map, run } = operate({ ...hash, type, maxEntries: 24 }, engine);
      const answers: number[] = [];
      let state = 7;
      for (let step = 0; step < 3000; step++) {
        state = (state * 1103515245 + 12345) % 2147483648;
        answers.push(run([2, 0, 2, 1][(state >> 8) % 4]!, (state >> 12) % 60, step));
      }
      expect(map.size).toBeLessThanOrEqual(24);
      return { answers, entries: [...map.entries()].map(({ key, values }) => [...key, ...values[0]!]) };
    });
    expect(contents[0]!.entries.length).toBeGreaterThan(8);
    expect(contents[0]).toEqual(contents[1]);
  });
});

describe.each(ENGINES)('%s: other types', (engine) => {
  it.each(['lru_hash', 'lru_percpu_hash'] as const)('%s keeps what is looked up', (type) => {
    const { map, run } = operate({ ...hash, type, maxEntries: 16 }, engine);
    for (let key = 0; key < 16; key++) expect(run(2, key, key)).toBe(0);
    for (let round = 0; round < 30; round++) {
      for (let hot = 0; hot < 4; hot++) expect(run(0, hot)).toBe(hot);
      for (let n = 0; n < 4; n++) expect(run(2, 1000 + round * 4 + n, 1)).toBe(0);
    }
    for (let hot = 0; hot < 4; hot++) expect(run(0, hot)).toBe(hot);
    for (let cold = 4; cold < 16; cold++) expect(run(0, cold)).toBe(-1);
    expect(map.size).toBe(16);
    expect(run(1, 0)).toBe(0);
    expect(run(1, 0)).toBe(-2);
  });

  it('an LPM trie answers with the longest prefix', () => {
    const machine = createMachine();
    const spec: MapSpec = {
      name: 'routes',
      type: 'lpm_trie',
      keySize: 8,
      valueSize: 4,
      maxEntries: 8,
      flags: MAP_FLAG.BPF_F_NO_PREALLOC,
    };
    const map = machine.createMap(spec);
    const route = (length: number, ...address: number[]) => Uint8Array.of(length, 0, 0, 0, ...address);
    map.update(route(8, 10, 0, 0, 0), Uint8Array.of(1, 0, 0, 0));
    map.update(route(24, 10, 1, 2, 0), Uint8Array.of(2, 0, 0, 0));
    const program = load(
      machine,
      `r2 = *(u64 *)(r1 +0)
       *(u64 *)(r10 -8) = r2
       r1 = map[idx:0]
       r2 = r10
       r2 += -8
       call bpf_map_lookup_elem
       if r0 == 0 goto none
       r0 = *(u32 *)(r0 +0)
       exit
 none: r0 = 0
       exit`,
      [map],
      engine,
    );
    const look = (...address: number[]) => program.testRun({ ctxIn: route(32, ...address) }).retval;
    expect([look(10, 1, 2, 3), look(10, 1, 3, 3), look(11, 1, 2, 3)]).toEqual([2, 1, 0]);
  });

  it('maps in maps are found and changed', () => {
    const machine = createMachine();
    const inner: MapSpec = { name: 'inner', type: 'hash', keySize: 4, valueSize: 8, maxEntries: 4 };
    for (const type of ['array_of_maps', 'hash_of_maps'] as const) {
      const outer = machine.createMap({
        name: 'o',
        type,
        keySize: 4,
        valueSize: 4,
        maxEntries: 4,
        innerMap: inner,
      });
      const maps = [machine.createMap(inner), machine.createMap({ ...inner, maxEntries: 8 })];
      for (const [n, map] of maps.entries()) {
        expect(machine.setElement(outer, Uint8Array.of(n, 0, 0, 0), map)).toBe(0);
      }
      const program = load(
        machine,
        `r2 = *(u64 *)(r1 +0)
         *(u32 *)(r10 -4) = r2
         r6 = r1
         r1 = map[idx:0]
         r2 = r10
         r2 += -4
         call bpf_map_lookup_elem
         if r0 == 0 goto none
         r6 = *(u64 *)(r6 +8)
         *(u64 *)(r10 -16) = r6
         *(u32 *)(r10 -4) = 7
         r1 = r0
         r2 = r10
         r2 += -4
         r3 = r10
         r3 += -16
         r4 = 0
         call bpf_map_update_elem
         exit
   none: r0 = -1
         exit`,
        [outer],
        engine,
      );
      const put = (which: number, value: number) => {
        const ctxIn = new Uint8Array(16);
        ctxIn.set(u64(which), 0);
        ctxIn.set(u64(value), 8);
        return program.testRun({ ctxIn }).retval | 0;
      };
      expect([put(0, 11), put(1, 12), put(2, 13)]).toEqual([0, 0, -1]);
      const seven = Uint8Array.of(7, 0, 0, 0);
      expect(maps.map((map) => readU64(map.lookup(seven)!))).toEqual([11, 12]);
    }
  });

  it.each(['array', 'percpu_array', 'hash', 'percpu_hash', 'lru_hash'] as const)(
    'for_each goes through %s',
    (type) => {
      const machine = createMachine({ ncpu: 2 });
      const map = machine.createMap({ name: 'm', type, keySize: 4, valueSize: 8, maxEntries: 6 });
      for (let n = 0; n < 6; n++) {
        expect(map.update(Uint8Array.of(n, 0, 0, 0), u64(10 * (n + 1)))).toBe(0);
      }
      // For every entry it goes through all entries once more, up to its own key: two keys in memory at a time.
      const program = load(
        machine,
        `*(u64 *)(r10 -8) = 0
       r1 = map[idx:0]
       r2 = subprog[+11]
       r3 = r10
       r3 += -8
       r4 = 0
       call 164
       *(u32 *)(r10 -16) = r0
       r0 = *(u64 *)(r10 -8)
       r1 = *(u32 *)(r10 -16)
       r0 *= 100
       r0 += r1
       exit
outer: r6 = r2
       r7 = r3
       r8 = r4
       *(u64 *)(r10 -8) = 0
       r1 = map[idx:0]
       r2 = subprog[+14]
       r3 = r10
       r3 += -8
       r4 = 0
       call 164
       r1 = *(u64 *)(r10 -8)
       r2 = *(u32 *)(r6 +0)
       r2 += 1
       r1 += r2
       r2 = *(u64 *)(r8 +0)
       r2 += r1
       *(u64 *)(r8 +0) = r2
       r0 = 0
       exit
inner: r1 = *(u32 *)(r2 +0)
       r3 = *(u64 *)(r4 +0)
       r3 += r1
       *(u64 *)(r4 +0) = r3
       r0 = 0
       exit`,
        [map],
        engine,
      );
      // 6 times the sum of all keys (15), and each key plus 1 (21); 6 calls.
      expect(program.testRun().retval).toBe(100 * (6 * 15 + 21) + 6);
    },
  );

  it('queues give back what was pushed', () => {
    const machine = createMachine();
    const map = machine.createMap({ name: 'q', type: 'queue', keySize: 0, valueSize: 8, maxEntries: 3 });
    const program = load(
      machine,
      `r6 = r1
       r2 = *(u64 *)(r6 +8)
       *(u64 *)(r10 -8) = r2
       r1 = map[idx:0]
       r2 = r10
       r2 += -8
       r3 = *(u64 *)(r6 +0)
       if r3 != 0 goto pop
       r3 = 0
       call 87
       exit
  pop: call 88
       if r0 != 0 goto none
       r0 = *(u64 *)(r10 -8)
 none: exit`,
      [map],
      engine,
    );
    const run = (pop: number, value = 0) => {
      const ctxIn = new Uint8Array(16);
      ctxIn.set(u64(pop), 0);
      ctxIn.set(u64(value), 8);
      return program.testRun({ ctxIn }).retval | 0;
    };
    expect([run(0, 5), run(0, 6), run(0, 7), run(0, 8)]).toEqual([0, 0, 0, -7]);
    expect([run(1), run(1), run(1), run(1)]).toEqual([5, 6, 7, -2]);
  });

  it('perf events reach their reader', () => {
    const machine = createMachine({ ncpu: 2 });
    const map = machine.createMap({
      name: 'e',
      type: 'perf_event_array',
      keySize: 4,
      valueSize: 4,
      maxEntries: 2,
    });
    const program = load(
      machine,
      `r2 = *(u64 *)(r1 +0)
       *(u64 *)(r10 -8) = r2
       r2 = map[idx:0]
       r3 = 0xffffffff ll
       r4 = r10
       r4 += -8
       r5 = 8
       call 25
       exit`,
      [map],
      engine,
    );
    const run = (cpu: number, value: number) =>
      program.testRun({ ctxIn: u64(value), cpu, flags: 1 }).retval | 0;
    expect(run(0, 1)).toBe(-2);
    const reader = (map as unknown as PerfEventArray).openReader(4096);
    expect([run(0, 10), run(1, 20), run(0, 11)]).toEqual([0, 0, 0]);
    const seen: number[][] = [];
    reader.drain((cpu, view, offset, length) => seen.push([cpu, view.getUint32(offset, true), length]));
    expect(seen).toEqual([
      [0, 10, 8],
      [0, 11, 8],
      [1, 20, 8],
    ]);
  });
});

describe.each(ENGINES)('%s: tail calls', (engine) => {
  const programs = (machine: Machine, targets: number) =>
    machine.createMap({
      name: 'programs',
      type: 'prog_array',
      keySize: 4,
      valueSize: 4,
      maxEntries: targets,
    });

  const CALL = (index: string, after: string) => `
    r6 = r1
    r2 = map[idx:0]
    r3 = ${index}
    call 12
    ${after}
    exit`;

  it('do not come back, and go on where there is no program', () => {
    const machine = createMachine();
    const array = programs(machine, 2);
    const target = load(machine, 'r0 = *(u64 *)(r1 +0)\n r0 += 100\n exit', [], engine);
    const caller = load(machine, CALL('*(u64 *)(r1 +8)', 'r0 = 1'), [array], engine);
    machine.setElement(array, Uint8Array.of(1, 0, 0, 0), target);
    const run = (index: number) => {
      const ctxIn = new Uint8Array(16);
      ctxIn.set(u64(5), 0);
      ctxIn.set(u64(index), 8);
      return caller.testRun({ ctxIn }).retval;
    };
    expect([run(0), run(1), run(2), run(0x1_0000_0001)]).toEqual([1, 105, 1, 105]);
    expect(array.delete(Uint8Array.of(1, 0, 0, 0))).toBe(0);
    expect(run(1)).toBe(1);
  });

  it('are 33 at most', () => {
    const machine = createMachine();
    const array = programs(machine, 1);
    const counts = machine.createMap({ name: 'c', type: 'array', keySize: 4, valueSize: 8, maxEntries: 1 });
    const self = load(
      machine,
      `r6 = r1
       r1 = map[idx:1][0]+0
       r2 = *(u64 *)(r1 +0)
       r2 += 1
       *(u64 *)(r1 +0) = r2
       r1 = r6
       r2 = map[idx:0]
       r3 = 0
       call 12
       r0 = 7
       exit`,
      [array, counts],
      engine,
    );
    machine.setElement(array, new Uint8Array(4), self);
    for (let n = 1; n <= 3; n++) {
      expect(self.testRun().retval).toBe(7);
      expect(readU64(counts.lookup(new Uint8Array(4))!)).toBe(34 * n);
    }
  });

  it('do not keep a program and its own array alive for ever', () => {
    const machine = createMachine();
    const array = programs(machine, 1);
    const self = load(machine, CALL('0', 'r0 = 1'), [array], engine);
    machine.setElement(array, new Uint8Array(4), self);
    machine.release(self);
    expect(machine.programs.size).toBe(1);
    machine.release(array);
    expect([machine.programs.size, machine.maps.size]).toEqual([0, 0]);
  });

  it('from a function return to its caller, whose stack is as it was', () => {
    const machine = createMachine();
    const array = programs(machine, 1);
    const target = load(
      machine,
      `*(u64 *)(r10 -8) = 1
       *(u64 *)(r10 -16) = 2
       r0 = 30
       exit`,
      [],
      engine,
    );
    machine.setElement(array, new Uint8Array(4), target);
    const caller = load(
      machine,
      `*(u64 *)(r10 -8) = 7
       *(u64 *)(r10 -16) = 8
       call sub
       r1 = *(u64 *)(r10 -8)
       r0 += r1
       r1 = *(u64 *)(r10 -16)
       r0 += r1
       exit
  sub: r2 = map[idx:0]
       r3 = 0
       call 12
       r0 = 1000
       exit`,
      [array],
      engine,
    );
    expect(caller.testRun().retval).toBe(45);
  });
});

/** Several chunks of one element each. */
function checkLarge(spec: MapSpec, engine: (typeof ENGINES)[number]): void {
  const { map, machine } = operate(hash, engine);
  expect(map.size).toBe(0);
  const large = machine.createMap(spec);
  for (let n = 0; n < spec.maxEntries; n++)
    expect(large.update(u64(n), new Uint8Array(spec.valueSize).fill(n))).toBe(0);
  expect(large.update(u64(99), new Uint8Array(spec.valueSize))).toBe(-7);
  for (let n = 0; n < spec.maxEntries; n++) {
    expect(large.lookup(u64(n))!.every((byte) => byte === n)).toBe(true);
    expect(large.delete(u64(n))).toBe(0);
  }
}
