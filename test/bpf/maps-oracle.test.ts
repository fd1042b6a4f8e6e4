/**
 * Every map type against the machine's own kernel: the same random sequences of bpf(2) commands have to give the same errno and the same
 * content. Needs root; elsewhere maps-types.test.ts has the models.
 */
import fc from 'fast-check';
import { afterEach, describe, expect, it } from 'vitest';
import {
  assemble,
  BPF_MAP_TYPE,
  bpf,
  closeFd,
  createMachine,
  type Machine,
  type MapType,
} from '../../src/bpf/index.ts';
import { kernelBpf } from '../support/kernel-bpf.ts';
import { unless } from '../support/skip.ts';

const { reason } = kernelBpf;
if (reason !== undefined) console.log(`maps against the kernel skipped: ${reason}`);

interface Spec {
  readonly type: MapType;
  readonly keySize: number;
  readonly valueSize: number;
  readonly maxEntries: number;
  readonly flags?: number;
  readonly mapExtra?: bigint;
  readonly inner?: Spec;
}

const u32 = (value: number): Uint8Array => new Uint8Array(Uint32Array.of(value).buffer);
const isPercpu = (type: MapType): boolean => /percpu/.test(type);
const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
const answer = (result: Uint8Array | number): string | number =>
  typeof result === 'number' ? result : hex(result);

/** One map, here and in the kernel. Both sides answer with bytes in hexadecimal or a negative errno. */
class Pair {
  readonly machine: Machine;
  readonly spec: Spec;
  readonly fd: number;
  readonly kernelFd: number;
  readonly valueSize: number;

  constructor(machine: Machine, spec: Spec) {
    this.machine = machine;
    this.spec = spec;
    let innerFd: number | undefined;
    let kernelInner: number | undefined;
    if (spec.inner !== undefined) {
      const inner = new Pair(machine, spec.inner);
      innerFd = inner.fd;
      kernelInner = inner.kernelFd;
    }
    this.fd = bpf(machine, 'map_create', {
      mapType: spec.type,
      keySize: spec.keySize,
      valueSize: spec.valueSize,
      maxEntries: spec.maxEntries,
      mapFlags: spec.flags ?? 0,
      ...(spec.mapExtra === undefined ? {} : { mapExtra: spec.mapExtra }),
      ...(innerFd === undefined ? {} : { innerMapFd: innerFd }),
    });
    this.kernelFd = kernelBpf.mapCreate({
      ...spec,
      type: BPF_MAP_TYPE[spec.type],
      ...(kernelInner === undefined ? {} : { innerMapFd: kernelInner }),
    });
    this.valueSize = isPercpu(spec.type) ? Math.ceil(spec.valueSize / 8) * 8 * machine.ncpu : spec.valueSize;
  }

  /** Tells apart whether a creation failed: the descriptors themselves differ. */
  get created(): [number, number] {
    return [Math.min(this.fd, 0), Math.min(this.kernelFd, 0)];
  }

  lookup(key: Uint8Array | undefined, flags: number, given?: Uint8Array): [unknown, unknown] {
    const value = given?.slice() ?? new Uint8Array(this.valueSize);
    const error = bpf(this.machine, 'map_lookup_elem', { mapFd: this.fd, key, value, flags });
    return [
      answer(error < 0 ? error : value),
      answer(kernelBpf.mapLookup(this.kernelFd, key, this.valueSize, BigInt(flags), given)),
    ];
  }

  take(key: Uint8Array | undefined, flags: number): [unknown, unknown] {
    const value = new Uint8Array(this.valueSize);
    const error = bpf(this.machine, 'map_lookup_and_delete_elem', { mapFd: this.fd, key, value, flags });
    return [
      answer(error < 0 ? error : value),
      answer(kernelBpf.mapLookupAndDelete(this.kernelFd, key, this.valueSize, BigInt(flags))),
    ];
  }

  update(key: Uint8Array | undefined, value: Uint8Array, flags: number): [unknown, unknown] {
    return [
      bpf(this.machine, 'map_update_elem', { mapFd: this.fd, key, value, flags }),
      kernelBpf.mapUpdate(this.kernelFd, key, value, BigInt(flags)),
    ];
  }

  delete(key: Uint8Array): [unknown, unknown] {
    return [
      bpf(this.machine, 'map_delete_elem', { mapFd: this.fd, key }),
      kernelBpf.mapDelete(this.kernelFd, key),
    ];
  }

  next(key: Uint8Array | undefined): [Uint8Array | number, Uint8Array | number] {
    const nextKey = new Uint8Array(this.spec.keySize);
    const error = bpf(this.machine, 'map_get_next_key', { mapFd: this.fd, key, nextKey });
    return [error < 0 ? error : nextKey, kernelBpf.mapNextKey(this.kernelFd, key, this.spec.keySize)];
  }

  freeze(): [unknown, unknown] {
    return [bpf(this.machine, 'map_freeze', { mapFd: this.fd }), kernelBpf.mapFreeze(this.kernelFd)];
  }

  /** All entries of each side, by next key. */
  entries(): [unknown, unknown] {
    const here: [string, unknown][] = [];
    const there: [string, unknown][] = [];
    let key: Uint8Array | undefined;
    for (;;) {
      const [next] = this.next(key);
      if (typeof next === 'number') {
        here.push(['end', next]);
        break;
      }
      key = next;
      const value = new Uint8Array(this.valueSize);
      const error = bpf(this.machine, 'map_lookup_elem', { mapFd: this.fd, key, value });
      here.push([hex(key), answer(error < 0 ? error : value)]);
    }
    key = undefined;
    for (;;) {
      const next = kernelBpf.mapNextKey(this.kernelFd, key, this.spec.keySize);
      if (typeof next === 'number') {
        there.push(['end', next]);
        break;
      }
      key = next;
      there.push([hex(key), answer(kernelBpf.mapLookup(this.kernelFd, key, this.valueSize))]);
    }
    const sort = (list: [string, unknown][]) => list.sort((a, b) => (a[0] < b[0] ? -1 : 1));
    return [sort(here), sort(there)];
  }
}

const keyBytes = (spec: Spec, n: number): Uint8Array => {
  const key = new Uint8Array(spec.keySize);
  if (spec.type === 'lpm_trie') {
    // Few bits, so that prefixes meet.
    const length = n % (spec.keySize * 8 - 30);
    new DataView(key.buffer).setUint32(0, length, true);
    key[4] = (n * 37) & 0xe0;
    if (spec.keySize > 5) key[5] = (n * 11) & 0xc0;
    return key;
  }
  for (let i = 0; i < spec.keySize; i++) key[i] = i < 4 ? n >>> (8 * i) : (n * 7) & 255;
  return key;
};

const valueBytes = (size: number, n: number): Uint8Array => {
  const value = new Uint8Array(size);
  for (let i = 0; i < size; i++) value[i] = (n + i * 13) & 255;
  return value;
};

type Op =
  | { op: 'update'; key: number; value: number; flags: number }
  | { op: 'lookup' | 'take'; key: number; flags: number }
  | { op: 'delete'; key: number }
  | { op: 'entries' | 'first' | 'noKey' };

const flag = fc.constantFrom(0, 0, 0, 0, 1, 2, 3, 4, 5, 8);
const key = fc.nat({ max: 11 });
const operation: fc.Arbitrary<Op> = fc.oneof(
  {
    weight: 8,
    arbitrary: fc.record({ op: fc.constant('update' as const), key, value: fc.nat(255), flags: flag }),
  },
  {
    weight: 4,
    arbitrary: fc.record({
      op: fc.constantFrom('lookup' as const, 'take' as const),
      key,
      flags: fc.constantFrom(0, 0, 0, 0, 1, 4, 8),
    }),
  },
  { weight: 3, arbitrary: fc.record({ op: fc.constant('delete' as const), key }) },
  {
    weight: 1,
    arbitrary: fc.record({ op: fc.constantFrom('entries' as const, 'first' as const, 'noKey' as const) }),
  },
);

/** The value of a per-CPU map as the kernel keeps it: what lies between a value's size and its 8 bytes is its business. */
function roundedValue(spec: Spec, size: number, n: number): Uint8Array {
  const value = valueBytes(size, n);
  if (!isPercpu(spec.type)) return value;
  const stride = Math.ceil(spec.valueSize / 8) * 8;
  for (let i = 0; i < size; i++) if (i % stride >= spec.valueSize) value[i] = 0;
  return value;
}

function runOps(spec: Spec, ops: readonly Op[]): void {
  const pair = new Pair(createMachine({ ncpu: kernelBpf.ncpu }), spec);
  expect(pair.created).toEqual([0, 0]);
  const hasKeys = spec.keySize > 0;
  const keyOf = (n: number) => (hasKeys ? keyBytes(spec, n) : undefined);
  const same = ([here, there]: [unknown, unknown], what: unknown) =>
    expect({ what, result: here }).toEqual({ what, result: there });
  for (const op of ops) {
    if (op.op === 'update') {
      same(pair.update(keyOf(op.key), roundedValue(spec, pair.valueSize, op.value), op.flags), op);
    } else if (op.op === 'lookup') {
      const given = spec.type === 'bloom_filter' ? valueBytes(spec.valueSize, op.key * 20) : undefined;
      same(pair.lookup(keyOf(op.key), op.flags, given), op);
    } else if (op.op === 'take') same(pair.take(keyOf(op.key), op.flags), op);
    else if (op.op === 'delete') same(pair.delete(keyBytes(spec, op.key)), op);
    else if (op.op === 'noKey') same(pair.lookup(undefined, 0, new Uint8Array(pair.valueSize)), op);
    else if (op.op === 'entries' && hasKeys) same(pair.entries(), op);
    else if (op.op === 'first' && !hasKeys) same(pair.next(undefined), op);
  }
  if (hasKeys) same(pair.entries(), 'all entries');
  kernelBpf.closeAll();
}

const NO_PREALLOC = 1;
const SPECS: readonly Spec[] = [
  { type: 'hash', keySize: 4, valueSize: 8, maxEntries: 7 },
  { type: 'hash', keySize: 13, valueSize: 5, maxEntries: 7, flags: NO_PREALLOC },
  { type: 'percpu_hash', keySize: 8, valueSize: 12, maxEntries: 7 },
  { type: 'percpu_hash', keySize: 8, valueSize: 8, maxEntries: 7, flags: NO_PREALLOC },
  { type: 'array', keySize: 4, valueSize: 8, maxEntries: 7 },
  { type: 'array', keySize: 4, valueSize: 3, maxEntries: 7 },
  { type: 'percpu_array', keySize: 4, valueSize: 8, maxEntries: 7 },
  { type: 'lpm_trie', keySize: 8, valueSize: 8, maxEntries: 5, flags: NO_PREALLOC },
  { type: 'lpm_trie', keySize: 5, valueSize: 1, maxEntries: 7, flags: NO_PREALLOC },
  { type: 'queue', keySize: 0, valueSize: 8, maxEntries: 5 },
  { type: 'stack', keySize: 0, valueSize: 5, maxEntries: 5 },
  { type: 'stack_trace', keySize: 4, valueSize: 64, maxEntries: 5 },
  { type: 'prog_array', keySize: 4, valueSize: 4, maxEntries: 5 },
  { type: 'perf_event_array', keySize: 4, valueSize: 4, maxEntries: 5 },
  { type: 'cgroup_array', keySize: 4, valueSize: 4, maxEntries: 5 },
  { type: 'ringbuf', keySize: 0, valueSize: 0, maxEntries: 4096 },
  { type: 'user_ringbuf', keySize: 0, valueSize: 0, maxEntries: 4096 },
  // Never full, or what is evicted would differ.
  { type: 'lru_hash', keySize: 4, valueSize: 8, maxEntries: 20000 },
  { type: 'lru_percpu_hash', keySize: 4, valueSize: 8, maxEntries: 20000 },
];

describe('maps as in the kernel', unless(reason), () => {
  afterEach(() => kernelBpf.closeAll());

  it.each(SPECS)('$type, key $keySize, value $valueSize, flags $flags', (spec) => {
    fc.assert(
      fc.property(fc.array(operation, { maxLength: 50 }), (ops) => runOps(spec, ops)),
      { numRuns: spec.maxEntries > 1000 ? 8 : 60, seed: 11 },
    );
  });
});

/** Context: u64 operation (0 look up, 1 delete, 2 + flags update), key, value. */
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
  r1 = *(u64 *)(r0 +0)
  r2 = r1
  r2 += 1
  *(u64 *)(r0 +0) = r2
  r0 = r1
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

describe('programs on maps as in the kernel', unless(reason), () => {
  afterEach(() => kernelBpf.closeAll());
  const operation = fc.record({
    op: fc.constantFrom(0, 0, 0, 1, 2, 2, 2, 3, 4, 5, 6, 10, 2 + 2 ** 33),
    key: fc.nat({ max: 11 }),
    value: fc.nat(1e6),
  });

  it.each<Spec>([
    { type: 'hash', keySize: 8, valueSize: 8, maxEntries: 7 },
    { type: 'hash', keySize: 8, valueSize: 8, maxEntries: 7, flags: NO_PREALLOC },
    { type: 'percpu_hash', keySize: 8, valueSize: 8, maxEntries: 7 },
    { type: 'array', keySize: 4, valueSize: 8, maxEntries: 7 },
    { type: 'percpu_array', keySize: 4, valueSize: 8, maxEntries: 7 },
    { type: 'lru_hash', keySize: 8, valueSize: 8, maxEntries: 20000 },
    { type: 'lpm_trie', keySize: 8, valueSize: 8, maxEntries: 7, flags: NO_PREALLOC },
  ])('$type $flags', (spec) => {
    const insns = assemble(OPERATE);
    fc.assert(
      fc.property(fc.array(operation, { maxLength: 40 }), (ops) => {
        const machine = createMachine({ ncpu: kernelBpf.ncpu });
        const pair = new Pair(machine, spec);
        const attr = { progType: 'raw_tracepoint', license: 'GPL' };
        const progFd = bpf(machine, 'prog_load', { ...attr, insns, fdArray: [pair.fd] });
        const withMap = insns.map((insn) =>
          insn.src === 5 ? { ...insn, src: 1, imm: pair.kernelFd } : insn,
        );
        const kernelProg = kernelBpf.progLoad({ type: 17, insns: withMap, logLevel: 1 });
        expect({
          here: Math.min(progFd, 0),
          there: Math.min(kernelProg.fd, 0),
          log: kernelProg.log,
        }).toMatchObject({
          here: 0,
          there: 0,
        });
        for (const { op, key, value } of ops) {
          const ctxIn = new Uint8Array(24);
          ctxIn.set(new Uint8Array(BigUint64Array.of(BigInt(op)).buffer), 0);
          ctxIn.set(keyBytes({ ...spec, keySize: 8 }, key), 8);
          if (spec.type !== 'lpm_trie') ctxIn.fill(0, 12, 16);
          ctxIn.set(u32(value), 16);
          const run = { progFd, ctxIn, flags: 1, cpu: 1 % kernelBpf.ncpu, retval: 0 };
          expect(bpf(machine, 'prog_test_run', run)).toBe(0);
          const there = kernelBpf.progTestRun(kernelProg.fd, {
            ctxIn,
            ctxOutSize: 0,
            flags: 1,
            cpu: run.cpu,
          });
          expect({ op, key, error: 0, result: run.retval | 0 }).toEqual({
            op,
            key,
            error: there.error,
            result: there.retval | 0,
          });
        }
        const [here, there] = pair.entries();
        expect(here).toEqual(there);
        kernelBpf.closeAll();
      }),
      { numRuns: spec.maxEntries > 1000 ? 8 : 40, seed: 17 },
    );
  });
});

/** Context: u64 operation (0 output, 1 query, 2 reserve 40 and submit, 3 and discard), size or query, flags. */
const RING = `
  r6 = r1
  r7 = *(u64 *)(r6 +0)
  r8 = *(u64 *)(r6 +8)
  r9 = *(u64 *)(r6 +16)
  r1 = map[idx:0]
  if r7 == 1 goto query
  if r7 > 1 goto reserve
  r2 = map[idx:1][0]+0
  r3 = r8
  r3 &= 1023
  r4 = r9
  call 130
  exit
query: r2 = r8
  call 134
  exit
reserve: r2 = 40
  r3 = 0
  call 131
  if r0 == 0 goto none
  r1 = r0
  r2 = r9
  r2 &= 3
  if r7 == 3 goto discard
  call 132
  r0 = 1
  exit
discard: call 133
  r0 = 2
  exit
none: r0 = -1
  exit`;

describe('ring buffers as in the kernel', unless(reason), () => {
  afterEach(() => kernelBpf.closeAll());
  const operation = fc.record({
    op: fc.constantFrom(0, 0, 0, 1, 1, 2, 3),
    size: fc.oneof(fc.nat({ max: 1023 }), fc.nat({ max: 5 })),
    flags: fc.constantFrom(0, 0, 1, 2, 3, 4, 2 ** 32),
  });

  it('fill up, refuse, and tell where they are', () => {
    const insns = assemble(RING);
    const values: Spec = { type: 'array', keySize: 4, valueSize: 1024, maxEntries: 1 };
    fc.assert(
      fc.property(fc.array(operation, { maxLength: 40 }), (ops) => {
        const machine = createMachine();
        const ring = new Pair(machine, { type: 'ringbuf', keySize: 0, valueSize: 0, maxEntries: 4096 });
        const data = new Pair(machine, values);
        const progFd = bpf(machine, 'prog_load', {
          progType: 'raw_tracepoint',
          license: 'GPL',
          insns,
          fdArray: [ring.fd, data.fd],
        });
        const kernelFds = [ring.kernelFd, data.kernelFd];
        const withMaps = insns.map((insn) =>
          insn.code === 0x18 ? { ...insn, src: insn.src === 5 ? 1 : 2, imm: kernelFds[insn.imm]! } : insn,
        );
        const kernelProg = kernelBpf.progLoad({ type: 17, insns: withMaps, logLevel: 1 });
        expect({
          here: Math.min(progFd, 0),
          there: Math.min(kernelProg.fd, 0),
          log: kernelProg.log,
        }).toMatchObject({
          here: 0,
          there: 0,
        });
        for (const { op, size, flags } of ops) {
          const ctxIn = new Uint8Array(24);
          new BigUint64Array(ctxIn.buffer).set([BigInt(op), BigInt(size), BigInt(flags)]);
          const run = { progFd, ctxIn, retval: 0 };
          expect(bpf(machine, 'prog_test_run', run)).toBe(0);
          const there = kernelBpf.progTestRun(kernelProg.fd, { ctxIn, ctxOutSize: 0 });
          expect({ op, size, flags, result: run.retval | 0 }).toEqual({
            op,
            size,
            flags,
            result: there.retval | 0,
          });
        }
        kernelBpf.closeAll();
      }),
      { numRuns: 80, seed: 19 },
    );
  });
});

/** Context: u64 operation (0 push, 1 pop, 2 peek), value, flags. */
const QUEUE = `
  r6 = *(u64 *)(r1 +0)
  r2 = *(u64 *)(r1 +8)
  *(u64 *)(r10 -8) = r2
  r3 = *(u64 *)(r1 +16)
  r1 = map[idx:0]
  r2 = r10
  r2 += -8
  if r6 == 1 goto pop
  if r6 == 2 goto peek
  call 87
  exit
pop: call 88
  goto value
peek: call 89
value: if r0 != 0 goto out
  r0 = *(u64 *)(r10 -8)
out: exit`;

describe('queues in programs as in the kernel', unless(reason), () => {
  afterEach(() => kernelBpf.closeAll());
  const operation = fc.record({
    op: fc.constantFrom(0, 0, 0, 1, 2),
    value: fc.nat(1e6),
    flags: fc.constantFrom(0, 0, 0, 2, 1, 3, 4, 2 ** 32, 2 ** 32 + 2),
  });

  it.each(['queue', 'stack'] as const)('%s', (type) => {
    const insns = assemble(QUEUE);
    fc.assert(
      fc.property(fc.array(operation, { maxLength: 40 }), (ops) => {
        const machine = createMachine();
        const pair = new Pair(machine, { type, keySize: 0, valueSize: 8, maxEntries: 4 });
        const attr = { progType: 'raw_tracepoint', license: 'GPL' };
        const progFd = bpf(machine, 'prog_load', { ...attr, insns, fdArray: [pair.fd] });
        const withMap = insns.map((insn) =>
          insn.code === 0x18 ? { ...insn, src: 1, imm: pair.kernelFd } : insn,
        );
        const kernelProg = kernelBpf.progLoad({ type: 17, insns: withMap, logLevel: 1 });
        expect({ here: Math.min(progFd, 0), log: kernelProg.fd < 0 ? kernelProg.log : '' }).toEqual({
          here: 0,
          log: '',
        });
        for (const { op, value, flags } of ops) {
          const ctxIn = new Uint8Array(24);
          new BigUint64Array(ctxIn.buffer).set([BigInt(op), BigInt(value), BigInt(flags)]);
          const run = { progFd, ctxIn, retval: 0 };
          expect(bpf(machine, 'prog_test_run', run)).toBe(0);
          const there = kernelBpf.progTestRun(kernelProg.fd, { ctxIn, ctxOutSize: 0 });
          expect({ op, value, flags, result: run.retval | 0 }).toEqual({
            op,
            value,
            flags,
            result: there.retval | 0,
          });
        }
        kernelBpf.closeAll();
      }),
      { numRuns: 60, seed: 23 },
    );
  });
});

describe('maps of objects as in the kernel', unless(reason), () => {
  afterEach(() => kernelBpf.closeAll());
  const inner: Spec = { type: 'array', keySize: 4, valueSize: 8, maxEntries: 2 };

  /** Descriptors of the same things, here and there: right ones, wrong ones, closed ones. */
  function descriptors(machine: Machine): [number, number][] {
    const other = (spec: Spec): [number, number] => {
      const pair = new Pair(machine, spec);
      return [pair.fd, pair.kernelFd];
    };
    const program = (type: 'socket_filter' | 'xdp'): [number, number] => {
      const insns = assemble('r0 = 0\n exit');
      return [
        bpf(machine, 'prog_load', { progType: type, insns, license: 'GPL' }),
        kernelBpf.progLoad({ type: type === 'xdp' ? 6 : 1, insns }).fd,
      ];
    };
    return [
      other(inner),
      other(inner),
      other({ ...inner, maxEntries: 3 }),
      other({ ...inner, type: 'hash' }),
      program('socket_filter'),
      program('socket_filter'),
      program('xdp'),
      [9999, 9999],
    ];
  }

  const operation = fc.record({
    op: fc.constantFrom('update', 'update', 'update', 'delete', 'lookup', 'take', 'next'),
    key: fc.nat({ max: 4 }),
    which: fc.nat({ max: 7 }),
    flags: fc.constantFrom(0, 0, 0, 0, 1, 2, 3),
  });

  it.each<Spec>([
    { type: 'array_of_maps', keySize: 4, valueSize: 4, maxEntries: 3, inner },
    { type: 'hash_of_maps', keySize: 4, valueSize: 4, maxEntries: 3, inner },
    { type: 'hash_of_maps', keySize: 4, valueSize: 4, maxEntries: 3, inner, flags: 1 },
    { type: 'prog_array', keySize: 4, valueSize: 4, maxEntries: 3 },
  ])('$type $flags', (spec) => {
    fc.assert(
      fc.property(fc.array(operation, { maxLength: 40 }), (ops) => {
        const machine = createMachine({ ncpu: kernelBpf.ncpu });
        const pair = new Pair(machine, spec);
        const things = descriptors(machine);
        const same = ([here, there]: [unknown, unknown], what: unknown) =>
          expect({ what, result: here }).toEqual({ what, result: there });
        // Ids differ: only whether there is one is compared.
        const isThere = (result: unknown): unknown => (typeof result === 'number' ? result : 'there');
        for (const op of ops) {
          const key = keyBytes(spec, op.key);
          if (op.op === 'update') {
            const [fd, kernelFd] = things[op.which]!;
            const here = bpf(machine, 'map_update_elem', {
              mapFd: pair.fd,
              key,
              value: u32(fd),
              flags: op.flags,
            });
            same([here, kernelBpf.mapUpdate(pair.kernelFd, key, u32(kernelFd), BigInt(op.flags))], op);
          } else if (op.op === 'delete') same(pair.delete(key), op);
          else if (op.op === 'take') same(pair.take(key, 0).map(isThere) as [unknown, unknown], op);
          else if (op.op === 'lookup') same(pair.lookup(key, 0).map(isThere) as [unknown, unknown], op);
          else if (spec.type !== 'hash_of_maps') same(pair.next(key), op);
        }
        for (let n = 0; n < 5; n++)
          same(pair.lookup(keyBytes(spec, n), 0).map(isThere) as [unknown, unknown], n);
        kernelBpf.closeAll();
      }),
      { numRuns: 40, seed: 13 },
    );
  });
});

const CREATED: readonly MapType[] = [
  'hash',
  'array',
  'prog_array',
  'perf_event_array',
  'percpu_hash',
  'percpu_array',
  'stack_trace',
  'cgroup_array',
  'lru_hash',
  'lru_percpu_hash',
  'lpm_trie',
  'array_of_maps',
  'hash_of_maps',
  'queue',
  'stack',
  'bloom_filter',
  'ringbuf',
  'user_ringbuf',
  'task_storage',
  'devmap',
  'devmap_hash',
  'cpumap',
  'xskmap',
  'cgroup_storage',
];

describe('maps are refused as in the kernel', unless(reason), () => {
  afterEach(() => kernelBpf.closeAll());

  it.each(CREATED)('%s', (type) => {
    const machine = createMachine({ ncpu: kernelBpf.ncpu });
    const inner: Spec = { type: 'array', keySize: 4, valueSize: 8, maxEntries: 1 };
    const spec = fc.record({
      keySize: fc.constantFrom(0, 1, 4, 4, 4, 5, 8, 16, 260, 261),
      valueSize: fc.constantFrom(0, 1, 4, 4, 7, 8, 8, 32, 33000, 1 << 22, (1 << 22) - 48 - 4, 0x7fffffff),
      maxEntries: fc.constantFrom(0, 1, 1, 4, 5, 4096),
      flags: fc.oneof(
        { weight: 3, arbitrary: fc.constantFrom(0, 1) },
        { weight: 2, arbitrary: fc.nat({ max: 18 }).map((bit) => 2 ** bit) },
        { weight: 2, arbitrary: fc.tuple(fc.nat(12), fc.nat(12)).map(([a, b]) => (1 << a) | (1 << b)) },
      ),
      mapExtra: fc.constantFrom(0n, 0n, 0n, 3n, 16n),
      hasInner: fc.boolean(),
    });
    fc.assert(
      fc.property(spec, ({ hasInner, ...fields }) => {
        // How many CPUs a cpumap may have is a matter of the kernel's configuration.
        fc.pre(type !== 'cpumap' || fields.maxEntries < 256);
        // BPF_F_TOKEN_FD and BPF_F_VTYPE_BTF_OBJ_FD name descriptors; a kernel of this size may run out of memory first.
        fc.pre(fields.flags < 1 << 15 && fields.maxEntries * fields.valueSize < 1 << 26);
        const pair = new Pair(machine, { type, ...fields, ...(hasInner ? { inner } : {}) });
        const [here, there] = pair.created;
        bpf(machine, 'map_get_next_id', { startId: 0 });
        closeFd(machine, pair.fd);
        kernelBpf.closeAll();
        expect({ ...fields, hasInner, errno: here }).toEqual({ ...fields, hasInner, errno: there });
      }),
      { numRuns: 300, seed: 5 },
    );
  });
});
