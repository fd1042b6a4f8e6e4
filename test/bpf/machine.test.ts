/** The machine: maps, programs and test runs in one memory that grows. */
import { describe, expect, it } from 'vitest';
import { assemble, BpfError, createMachine, type LoadedMap, type Machine } from '../../src/bpf/index.ts';

const u32 = (value: number): Uint8Array => new Uint8Array(Uint32Array.of(value).buffer);
const u64 = (value: number | bigint): Uint8Array => new Uint8Array(BigUint64Array.of(BigInt(value)).buffer);
const readU64 = (bytes: Uint8Array | undefined): bigint | undefined =>
  bytes === undefined ? undefined : new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(0, true);

const COUNT = `
  *(u32 *)(r10 -4) = 1
  r1 = map[idx:0]
  r2 = r10
  r2 += -4
  call bpf_map_lookup_elem
  if r0 == 0 goto none
  r1 = 1
  lock *(u64 *)(r0 +0) += r1
  r0 = *(u64 *)(r0 +0)
  exit
none: r0 = -1
  exit`;

function load(machine: Machine, text: string, maps: readonly LoadedMap[], more: object = {}) {
  return machine.loadProgram({
    name: 'test',
    type: 'raw_tracepoint',
    insns: assemble(text),
    maps: maps.map(({ spec }) => spec),
    loadedMaps: maps,
    ctx: { size: 96, access: (_off, _size, write) => (write ? undefined : 'scalar') },
    ...more,
  });
}

describe.each(['jit', 'interpreter'] as const)('%s', (engine) => {
  it('shares maps between programs and callers', () => {
    const machine = createMachine();
    const map = machine.createMap({ name: 'counts', type: 'array', keySize: 4, valueSize: 8, maxEntries: 4 });
    const first = load(machine, COUNT, [map], { engine });
    const second = load(machine, COUNT, [map], { engine });
    map.update(u32(1), u64(40));
    expect(first.testRun().retval).toBe(41);
    expect(second.testRun().retval).toBe(42);
    expect(readU64(map.lookup(u32(1)))).toBe(42n);
    expect(machine.programs.get(first.id)).toBe(first);
    expect(machine.maps.get(map.id)).toBe(map);
  });

  it('keeps programs working while maps are made behind them and the memory grows', () => {
    const machine = createMachine();
    const spec = { name: 'h', type: 'hash', keySize: 4, valueSize: 8, maxEntries: 1000 } as const;
    const map = machine.createMap(spec);
    const program = load(machine, COUNT, [map], { engine });
    map.update(u32(1), u64(0));
    for (let n = 1; n <= 5; n++) {
      const before = machine.memory.buffer.byteLength;
      const other = machine.createMap({ ...spec, name: 'big', valueSize: 4096 });
      expect(machine.memory.buffer.byteLength).toBeGreaterThan(before);
      expect(other.update(u32(7), new Uint8Array(4096).fill(n))).toBe(0);
      expect(program.testRun().retval).toBe(n);
      expect(other.lookup(u32(7))![4095]).toBe(n);
    }
    expect(readU64(map.lookup(u32(1)))).toBe(5n);
  });

  it('runs on each CPU with its own values', () => {
    const machine = createMachine({ ncpu: 3 });
    const map = machine.createMap({
      name: 'c',
      type: 'percpu_array',
      keySize: 4,
      valueSize: 8,
      maxEntries: 2,
    });
    const program = load(machine, COUNT, [map], { engine });
    for (let cpu = 0; cpu < 3; cpu++) {
      for (let i = 0; i <= cpu; i++) expect(program.run(0, { cpu })).toBe(BigInt(i + 1));
    }
    expect(map.lookupPercpu(u32(1))!.map(readU64)).toEqual([1n, 2n, 3n]);
    expect(() => program.run(0, { cpu: 3 })).toThrow('CPU 3 is not one of 3');
  });

  it('gives a raw tracepoint its arguments', () => {
    const machine = createMachine();
    const program = load(machine, 'r0 = *(u64 *)(r1 +8)\n exit', [], { engine });
    const ctxIn = new Uint8Array(16);
    ctxIn.set(u64(77), 8);
    expect(program.testRun({ ctxIn }).retval).toBe(77);
    expect(() => program.testRun({ ctxIn, dataIn: new Uint8Array(64) })).toThrow(BpfError);
  });
});

describe('pins', () => {
  it('keep objects, by path', () => {
    const machine = createMachine();
    const map = machine.createMap({ name: 'a', type: 'array', keySize: 4, valueSize: 8, maxEntries: 1 });
    machine.pin('/sys/fs/bpf/a', map);
    machine.release(map);
    expect(machine.pinned('/sys/fs/bpf/a')).toBe(map);
    expect(machine.pins).toEqual(['/sys/fs/bpf/a']);
    expect(() => machine.pin('/sys/fs/bpf/a', map)).toThrow(expect.objectContaining({ code: 'EEXIST' }));
    expect(() => machine.pin('relative', map)).toThrow(expect.objectContaining({ code: 'EINVAL' }));
    machine.unpin('/sys/fs/bpf/a');
    expect([machine.maps.size, machine.pinned('/sys/fs/bpf/a')]).toEqual([0, undefined]);
    expect(() => machine.unpin('/sys/fs/bpf/a')).toThrow('nothing is pinned to "/sys/fs/bpf/a"');
    expect(() => machine.pin('/sys/fs/bpf/a', map)).toThrow('the object is not one of this machine');
  });
});

describe('limits', () => {
  it('refuses a map that does not fit, with ENOMEM, and goes on', () => {
    const machine = createMachine({ maxPages: 64 });
    const spec = { name: 'a', type: 'array', keySize: 4, valueSize: 8, maxEntries: 100 } as const;
    expect(() => machine.createMap({ ...spec, maxEntries: 10_000_000 })).toThrow(
      expect.objectContaining({ code: 'ENOMEM' }),
    );
    expect(machine.createMap(spec).size).toBe(100);
  });

  it('refuses a map of another machine', () => {
    const spec = { name: 'a', type: 'array', keySize: 4, valueSize: 8, maxEntries: 1 } as const;
    const map = createMachine().createMap(spec);
    expect(() => load(createMachine(), COUNT, [map])).toThrow('map 0 (a) is not one of this machine');
  });
});
