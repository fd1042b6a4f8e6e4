import { Worker } from 'node:worker_threads';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type ProgramBuilder, R0, R1, R2, R3, R4, R5, R6, R7, R8, R10 } from '../../src/bpf/builder.ts';
import { ERRNO, type MapSpec, openMap, percpuBlock, RingBufferConsumer } from '../../src/bpf/index.ts';
import * as isa from '../../src/bpf/isa.ts';
import { jitProgram } from '../../src/bpf/jit/jit.ts';
import { ctxOf, type Machine, machine } from './support-programs.ts';

const CTX_KEY = 112;
const CTX_VALUE = 104;

/** Copies the key of `size` bytes from a map value prepared by the test to the stack, which the operation then uses. */
function keyOnStack(b: ProgramBuilder, scratchMap: number, size: number): void {
  b.ldMapValue(R6, scratchMap, 0);
  let at = 0;
  for (const step of [8, 4, 2, 1] as const) {
    for (; size - at >= step; at += step) b.ldx(step, R1, R6, at).stx(step, R10, at - 264, R1);
  }
}

interface Case {
  readonly type: 'hash' | 'percpu_hash';
  readonly keySize: number;
  readonly valueSize: number;
}
const CASES: Case[] = [
  ...[1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 15, 16, 20, 24, 33, 63, 64, 65, 72, 100, 128, 256].map(
    (keySize): Case => ({ type: 'hash', keySize, valueSize: 8 }),
  ),
  { type: 'hash', keySize: 8, valueSize: 1 },
  { type: 'hash', keySize: 8, valueSize: 13 },
  { type: 'hash', keySize: 4, valueSize: 200 },
  { type: 'percpu_hash', keySize: 20, valueSize: 8 },
  { type: 'percpu_hash', keySize: 4, valueSize: 24 },
  { type: 'percpu_hash', keySize: 66, valueSize: 160 },
];

/** One program an operation on map 0: key from map 1, value from map 2's; r0 is the result. */
function operations(m: Machine, { keySize, valueSize }: Case) {
  const key = (b: ProgramBuilder): void => keyOnStack(b, 1, keySize);
  const lookup = m.verify((b) => {
    key(b);
    b.ldMap(R1, 0).mov(R2, R10).add(R2, -264).call(isa.BPF_FUNC_map_lookup_elem);
    b.jcond('!=', R0, 0, 'hit').mov(R0, -1).exit().label('hit').ldx(1, R0, R0, 0).exit();
  });
  const update = [isa.BPF_ANY, isa.BPF_NOEXIST, isa.BPF_EXIST, 3].map((flags) =>
    m.verify((b) => {
      key(b);
      b.ldMap(R1, 0).mov(R2, R10).add(R2, -264).ldMapValue(R3, 2, 0).mov(R4, flags);
      b.call(isa.BPF_FUNC_map_update_elem).exit();
    }),
  );
  const remove = m.verify((b) => {
    key(b);
    b.ldMap(R1, 0).mov(R2, R10).add(R2, -264).call(isa.BPF_FUNC_map_delete_elem).exit();
  });
  return { lookup, update, remove, valueSize };
}

describe('hash maps inside of compiled programs', () => {
  test.each(CASES)(
    '$type, key $keySize, value $valueSize: agree with a model and with the JavaScript side',
    (c) => {
      const { keySize, valueSize } = c;
      const maxEntries = 6;
      const spec: MapSpec = { name: 'h', type: c.type, keySize, valueSize, maxEntries };
      const scratch = (name: string, size: number): MapSpec => ({
        name,
        type: 'array',
        keySize: 4,
        valueSize: size,
        maxEntries: 1,
      });
      const m = machine([spec, scratch('key', keySize), scratch('value', valueSize)]);
      const ops = operations(m, c);
      const cpu = 1;
      const lookup = m.jit(ops.lookup, cpu);
      const updates = ops.update.map((program) => m.jit(program, cpu));
      const remove = m.jit(ops.remove, cpu);
      const map = m.map(0);
      const keyAt = m.layout.maps[1]!.address + m.layout.maps[1]!.geometry.data;
      const valueAt = m.layout.maps[2]!.address + m.layout.maps[2]!.geometry.data;
      // Keys that differ in their last byte only, in their first only, and in both.
      const keys = Array.from({ length: 9 }, (_, n) => {
        const key = new Uint8Array(keySize).fill(0xa5);
        key[0] = n % 3;
        key[keySize - 1] = keySize === 1 ? n : Math.floor(n / 3);
        return key;
      });
      const model = new Map<number, number>();
      const expectSame = (): void => {
        expect(map.size).toBe(model.size);
        for (const [n, key] of keys.entries()) {
          const value = map.lookup(key, cpu);
          expect(value?.[0]).toBe(model.get(n));
          if (value !== undefined) expect([...value]).toEqual(Array(valueSize).fill(model.get(n)));
          if (value !== undefined && c.type === 'percpu_hash') {
            expect([...map.lookup(key, 0)!]).toEqual(Array(valueSize).fill(0));
          }
        }
      };
      fc.assert(
        fc.property(
          fc.array(fc.record({ op: fc.nat(6), key: fc.nat(8), value: fc.integer({ min: 1, max: 255 }) }), {
            minLength: 20,
            maxLength: 40,
          }),
          (steps) => {
            for (const { op, key, value } of steps) {
              m.bytes.set(keys[key]!, keyAt);
              m.bytes.fill(value, valueAt, valueAt + valueSize);
              if (op === 0) expect(lookup.run(0)).toBe(model.get(key) ?? -1);
              else if (op === 1) {
                expect(remove.run(0)).toBe(model.delete(key) ? 0 : -ERRNO.ENOENT);
              } else if (op === 6) {
                // The other side, in between.
                expect(map.delete(keys[key]!)).toBe(model.delete(key) ? 0 : -ERRNO.ENOENT);
              } else {
                const flags = op - 2;
                const exists = model.has(key);
                const expected =
                  flags > 2
                    ? -ERRNO.EINVAL
                    : flags === isa.BPF_NOEXIST && exists
                      ? -ERRNO.EEXIST
                      : flags === isa.BPF_EXIST && !exists
                        ? -ERRNO.ENOENT
                        : !exists && model.size === maxEntries
                          ? -ERRNO.E2BIG
                          : 0;
                expect(updates[flags]!.run(0)).toBe(expected);
                if (expected === 0) model.set(key, value);
              }
            }
            expectSame();
          },
        ),
        { numRuns: 12, seed: 7 },
      );
    },
  );
});

describe('arrays inside of compiled programs', () => {
  test.each(['array', 'percpu_array'] as const)('%s: lookup by index, bounds, update with flags', (type) => {
    const m = machine([{ name: 'a', type, keySize: 4, valueSize: 12, maxEntries: 5 }]);
    const lookup = m.verify((b) => {
      b.ldx(4, R6, R1, CTX_KEY).stx(4, R10, -4, R6).ldMap(R1, 0).mov(R2, R10).add(R2, -4).call(1);
      b.jcond('==', R0, 0, 'out').mov(R1, 1).atomicAdd(8, R0, 0, R1).mov(R0, 1).label('out').exit();
    });
    const update = m.verify((b) => {
      b.mov(R7, R1).ldx(4, R6, R7, CTX_KEY).stx(4, R10, -4, R6).ldx(8, R4, R7, CTX_VALUE);
      b.st(8, R10, -24, 99).st(4, R10, -16, 98);
      b.ldMap(R1, 0).mov(R2, R10).add(R2, -4).mov(R3, R10).add(R3, -24).call(2).exit();
    });
    const view = new DataView(m.memory.buffer);
    const ctx = ctxOf(m.layout);
    for (const cpu of [0, 1]) {
      const { run } = m.jit(lookup, cpu);
      for (const [index, expected] of [
        [0, 1],
        [4, 1],
        [4, 1],
        [5, 0],
        [0xffffffff, 0],
      ] as const) {
        view.setUint32(ctx + CTX_KEY, index, true);
        expect(run(ctx)).toBe(expected);
        expect(m.interpret(lookup, BigInt(ctx), cpu)).toBe(BigInt(expected));
      }
    }
    const values = m.map(0).lookupPercpu(Uint8Array.of(4, 0, 0, 0))!;
    expect(values.map((value) => value[0])).toEqual(type === 'array' ? [8] : [4, 4]);
    const { run } = m.jit(update, 1);
    const attempt = (index: number, flags: bigint): number => {
      view.setUint32(ctx + CTX_KEY, index, true);
      view.setBigUint64(ctx + CTX_VALUE, flags, true);
      const result = run(ctx);
      expect(m.interpret(update, BigInt(ctx), 1)).toBe(BigInt.asUintN(64, BigInt(result)));
      return result;
    };
    expect(attempt(2, 0n)).toBe(0);
    expect(attempt(2, 2n)).toBe(0);
    expect(attempt(2, 1n)).toBe(-ERRNO.EEXIST);
    expect(attempt(2, 1n << 32n)).toBe(-ERRNO.EINVAL);
    expect(attempt(5, 0n)).toBe(-ERRNO.E2BIG);
    const written = m.map(0).lookup(Uint8Array.of(2, 0, 0, 0), type === 'array' ? 0 : 1)!;
    expect([...written]).toEqual([99, 0, 0, 0, 0, 0, 0, 0, 98, 0, 0, 0]);
    if (type === 'percpu_array')
      expect([...m.map(0).lookup(Uint8Array.of(2, 0, 0, 0), 0)!]).toEqual(Array(12).fill(0));
  });

  test('a value of another CPU by map_lookup_percpu_elem', () => {
    const m = machine([{ name: 'a', type: 'percpu_array', keySize: 4, valueSize: 8, maxEntries: 2 }]);
    m.map(0).update(Uint8Array.of(1, 0, 0, 0), [
      Uint8Array.of(5, 0, 0, 0, 0, 0, 0, 0),
      Uint8Array.of(6, 0, 0, 0, 0, 0, 0, 0),
    ]);
    const program = m.verify((b) => {
      b.ldx(8, R3, R1, CTX_KEY).st(4, R10, -4, 1).ldMap(R1, 0).mov(R2, R10).add(R2, -4);
      b.call(isa.BPF_FUNC_map_lookup_percpu_elem)
        .jcond('==', R0, 0, 'out')
        .ldx(8, R0, R0, 0)
        .label('out')
        .exit();
    });
    const { run } = m.jit(program);
    const ctx = ctxOf(m.layout);
    const view = new DataView(m.memory.buffer);
    for (const [cpu, expected] of [
      [0, 5],
      [1, 6],
      [2, 0],
      [-1, 0],
    ] as const) {
      view.setBigInt64(ctx + CTX_KEY, BigInt(cpu), true);
      expect(run(ctx)).toBe(expected);
      expect(m.interpret(program, BigInt(ctx))).toBe(BigInt(expected));
    }
  });
});

describe('a map that is only known at run time', () => {
  test('is found by its address', () => {
    const spec = (name: string): MapSpec => ({
      name,
      type: 'array',
      keySize: 4,
      valueSize: 8,
      maxEntries: 1,
    });
    const m = machine([spec('a'), spec('b')]);
    m.map(0).update(new Uint8Array(4), Uint8Array.of(10, 0, 0, 0, 0, 0, 0, 0));
    m.map(1).update(new Uint8Array(4), Uint8Array.of(20, 0, 0, 0, 0, 0, 0, 0));
    const program = m.verify((b) => {
      b.ldx(8, R6, R1, CTX_KEY).st(4, R10, -4, 0).ldMap(R1, 0).jcond('==', R6, 0, 'go').ldMap(R1, 1);
      b.label('go')
        .mov(R2, R10)
        .add(R2, -4)
        .call(1)
        .jcond('==', R0, 0, 'out')
        .ldx(8, R0, R0, 0)
        .label('out')
        .exit();
    });
    const { run } = m.jit(program);
    const ctx = ctxOf(m.layout);
    const view = new DataView(m.memory.buffer);
    expect(run(ctx)).toBe(10);
    view.setBigInt64(ctx + CTX_KEY, 1n, true);
    expect(run(ctx)).toBe(20);
  });
});

describe('ring buffers inside of compiled programs', () => {
  const ring: MapSpec = { name: 'r', type: 'ringbuf', keySize: 0, valueSize: 0, maxEntries: 4096 };

  test('reserve, submit, discard, output and query: every record arrives once, losses are counted', () => {
    const m = machine([ring]);
    const program = m.verify((b) => {
      b.mov(R7, R1).ldx(8, R8, R7, CTX_KEY);
      b.ldMap(R1, 0).mov(R2, 24).mov(R3, 0).call(isa.BPF_FUNC_ringbuf_reserve).jcond('==', R0, 0, 'full');
      b.mov(R6, R0).stx(8, R6, 0, R8).st(8, R6, 8, 1).st(8, R6, 16, 2).mov(R1, R6).mov(R2, 0);
      b.mov(R3, R8).and(R3, 3).jcond('==', R3, 3, 'discard');
      b.call(isa.BPF_FUNC_ringbuf_submit).mov(R0, 1).exit();
      b.label('discard').call(isa.BPF_FUNC_ringbuf_discard).mov(R0, 2).exit();
      b.label('full').mov(R0, 0).exit();
    });
    const output = m.verify((b) => {
      b.ldx(8, R6, R1, CTX_KEY).stx(8, R10, -16, R6).stx(8, R10, -8, R6);
      b.ldMap(R1, 0)
        .mov(R2, R10)
        .add(R2, -13)
        .mov(R3, 13)
        .mov(R4, 0)
        .call(isa.BPF_FUNC_ringbuf_output)
        .exit();
    });
    const query = m.verify((b) => {
      b.ldx(8, R2, R1, CTX_KEY).ldMap(R1, 0).call(isa.BPF_FUNC_ringbuf_query).exit();
    });
    const view = new DataView(m.memory.buffer);
    const ctx = ctxOf(m.layout);
    const consumer = new RingBufferConsumer(m.memory, m.layout.maps[0]!);
    const runs = [m.jit(program), m.jit(output), m.jit(query)] as const;
    const call = (which: 0 | 1 | 2, value: bigint): number => {
      view.setBigUint64(ctx + CTX_KEY, value, true);
      return runs[which].run(ctx);
    };
    const received: [number, bigint][] = [];
    const drain = (): number =>
      consumer.drain((data, offset, length) => {
        received.push([length, data.getBigUint64(offset, true)]);
      });
    let sent = 0;
    let lost = 0;
    for (let n = 0; n < 1000; n++) {
      const result = call(0, BigInt(n));
      if (n % 4 === 3 && result !== 0) expect(result).toBe(2);
      if (result === 1) sent++;
      if (result === 0) lost++;
      if (n % 150 === 149) drain();
    }
    drain();
    expect(lost).toBeGreaterThan(0);
    expect(consumer.lost).toBe(lost);
    expect(received.length).toBe(sent);
    expect(
      received.every(([length, value], n) => length === 24 && (n === 0 || value > received[n - 1]![1])),
    ).toBe(true);
    received.length = 0;
    expect(call(1, 0x1122_3344_5566_7788n)).toBe(0);
    expect(call(2, 0n)).toBe(24);
    expect(call(2, 1n)).toBe(4096);
    drain();
    // From three bytes into the first of two equal words.
    expect(received).toEqual([[13, 0x6677_8811_2233_4455n]]);
    while (call(1, 1n) === 0);
    expect(call(1, 1n)).toBe(-ERRNO.EAGAIN);
  });
});

describe('two threads on one hash map', () => {
  const RUNS = 60_000;

  test('counts are exact while elements are inserted, deleted and taken again', async () => {
    const m = machine([{ name: 'h', type: 'hash', keySize: 8, valueSize: 8, maxEntries: 80 }]);
    const call = (b: ProgramBuilder, helper: number): void => {
      b.ldMap(R1, 0).mov(R2, R10).add(R2, -8).mov(R3, R10).add(R3, -16).mov(R4, isa.BPF_NOEXIST).call(helper);
    };
    const program = m.verify((b) => {
      b.ldx(8, R6, R1, CTX_KEY).st(8, R10, -16, 0);
      // A key that comes and goes, then one of 64 that stay and count.
      b.mov(R7, R6).and(R7, 15).add(R7, 1000).stx(8, R10, -8, R7);
      call(b, isa.BPF_FUNC_map_update_elem);
      call(b, isa.BPF_FUNC_map_delete_elem);
      b.mov(R7, R6).and(R7, 63).stx(8, R10, -8, R7);
      call(b, isa.BPF_FUNC_map_update_elem);
      call(b, isa.BPF_FUNC_map_lookup_elem);
      b.jcond('==', R0, 0, 'lost')
        .mov(R1, 1)
        .atomicAdd(8, R0, 0, R1)
        .mov(R0, 1)
        .exit()
        .label('lost')
        .mov(R0, 0)
        .exit();
    });
    const { wasm } = jitProgram(program, m.layout);
    const source = `
      const { workerData, parentPort } = require('node:worker_threads');
      const { wasm, memory, cpu, ctx, key, runs } = workerData;
      const env = { memory, cpu: new WebAssembly.Global({ value: 'i32' }, cpu) };
      const { run } = new WebAssembly.Instance(new WebAssembly.Module(wasm), { env }).exports;
      const view = new DataView(memory.buffer);
      let counted = 0;
      for (let n = 0; n < runs; n++) {
        view.setBigUint64(ctx + key, BigInt(n * 7 + cpu), true);
        counted += run(ctx);
      }
      parentPort.postMessage(counted);`;
    const threads = [0, 1].map(
      (cpu) =>
        new Promise<number>((resolve, reject) => {
          const workerData = {
            wasm,
            memory: m.memory,
            cpu,
            ctx: ctxOf(m.layout, cpu),
            key: CTX_KEY,
            runs: RUNS,
          };
          const worker = new Worker(source, { eval: true, workerData });
          worker.once('message', resolve);
          worker.once('error', reject);
        }),
    );
    expect(await Promise.all(threads)).toEqual([RUNS, RUNS]);
    const entries = [...m.map(0).entries()];
    const staying = entries.filter(({ key }) => key[0]! < 64 && key[1] === 0);
    expect(staying.length).toBe(64);
    expect(m.map(0).size).toBe(entries.length);
    const sum = staying.reduce(
      (total, { values }) => total + new DataView(values[0]!.buffer).getUint32(0, true),
      0,
    );
    expect(sum).toBe(2 * RUNS);
  });
});

describe('helpers and kfuncs', () => {
  test('clock, CPU number, kfuncs of every result: compiled and interpreted alike', () => {
    const seen: unknown[] = [];
    const slot = { at: 0 };
    const kfuncs = [
      { id: 1, name: 'k_slot', args: ['u64', 'const'], result: 'slot64' },
      { id: 2, name: 'k_s32', args: ['u32'], result: 's32' },
      { id: 3, name: 'k_f64', args: [], result: 'f64' },
    ] as const;
    const m: Machine = machine([], {
      kfuncs,
      helper: { ktime_get_ns: () => 1234.9, get_prandom_u32: () => -1 },
      kfunc: {
        k_slot: (low: number, high: number, path: number) => {
          seen.push([low, high, path]);
          new DataView(m.memory.buffer).setBigInt64(slot.at, -3n, true);
        },
        k_s32: (value: number) => {
          seen.push(value);
          return -2;
        },
        k_f64: () => 2 ** 52 + 1,
      },
    });
    const view = new DataView(m.memory.buffer);
    view.setBigInt64(m.layout.clockBase, 10n ** 18n, true);
    const ctx = ctxOf(m.layout, 1);
    slot.at = percpuBlock(m.layout, 1).resultSlot;
    const both = (emit: (b: ProgramBuilder) => void): bigint => {
      const program = m.verify(emit);
      const compiled = BigInt.asUintN(64, m.jit(program, 1).run64(BigInt(ctx), 0n));
      expect(m.interpret(program, BigInt(ctx), 1)).toBe(compiled);
      return compiled;
    };
    expect(both((b) => b.call(isa.BPF_FUNC_ktime_get_ns).exit())).toBe(10n ** 18n + 1234n);
    expect(both((b) => b.call(isa.BPF_FUNC_get_smp_processor_id).exit())).toBe(1n);
    expect(both((b) => b.call(isa.BPF_FUNC_get_prandom_u32).exit())).toBe(0xffffffffn);
    expect(both((b) => b.lddw(R1, 0x1122_3344_8877_6655n).mov(R2, 9).kcall(1).exit())).toBe((1n << 64n) - 3n);
    expect(seen.splice(0)).toEqual(Array(2).fill([0x88776655 | 0, 0x11223344, 9]));
    expect(both((b) => b.mov(R1, -5).kcall(2).exit())).toBe((1n << 64n) - 2n);
    expect(seen.splice(0)).toEqual([-5, -5]);
    expect(both((b) => b.kcall(3).exit())).toBe(2n ** 52n + 1n);
  });

  test('leading zeros in place of a call: nothing is imported, the verifier knows the range', () => {
    const kfuncs = [{ id: 4, name: 'k_clz', args: ['u64'], result: 's32', inline: 'clz64' }] as const;
    const m = machine([], { kfuncs });
    for (const value of [
      0n,
      1n,
      2n,
      3n,
      255n,
      256n,
      (1n << 32n) - 1n,
      1n << 32n,
      1n << 63n,
      (1n << 64n) - 1n,
    ]) {
      // The result is an index into the stack: 65 bytes of it.
      const program = m.verify((b) => {
        for (let at = -72; at < 0; at += 8) b.st(8, R10, at, 0);
        b.lddw(R1, value).kcall(4).mov(R2, R10).add(R2, -65).add(R2, R0).st(1, R2, 0, 7).exit();
      });
      const expected = value === 0n ? 64n : BigInt(64 - value.toString(2).length);
      expect(m.jit(program).run64(0n, 0n)).toBe(expected);
      expect(m.interpret(program, 0n)).toBe(expected);
      expect(
        WebAssembly.Module.imports(
          new WebAssembly.Module(jitProgram(program, m.layout).wasm as Uint8Array<ArrayBuffer>),
        ).map((i) => i.name),
      ).not.toContain('k_clz');
    }
    expect(() =>
      m.verify((b) => {
        for (let at = -64; at < 0; at += 8) b.st(8, R10, at, 0);
        b.ldx(8, R1, R1, 0).kcall(4).mov(R2, R10).add(R2, -64).add(R2, R0).st(1, R2, 0, 7).exit();
      }),
    ).toThrow(/stack/);
  });

  test('bpf_for_each_map_elem: every entry, early end, deleting, values of this CPU', () => {
    const specs: MapSpec[] = [
      { name: 'h', type: 'hash', keySize: 8, valueSize: 8, maxEntries: 8 },
      { name: 'p', type: 'percpu_hash', keySize: 16, valueSize: 8, maxEntries: 8 },
    ];
    const m = machine(specs);
    const ctx = ctxOf(m.layout);
    const bytes = (...words: bigint[]): Uint8Array => new Uint8Array(new BigUint64Array(words).buffer);
    // r0 = calls << 32 | sum of key + value; the callback ends at a key of 99 and deletes keys of 7.
    const program = (map: number, keySize: number) =>
      m.verify((b) => {
        b.st(8, R10, -8, 0).ldMap(R1, map).ldFunc(R2, 'callback').mov(R3, R10).add(R3, -8).mov(R4, 0);
        b.call(isa.BPF_FUNC_for_each_map_elem).lsh(R0, 32).ldx(8, R1, R10, -8).or(R0, R1).exit();
        b.label('callback')
          .ldx(8, R6, R2, keySize - 8)
          .ldx(8, R3, R3, 0)
          .ldx(8, R5, R4, 0);
        b.add(R5, R3).add(R5, R6).stx(8, R4, 0, R5);
        b.jcond('!=', R6, 7, 'keep').call(isa.BPF_FUNC_map_delete_elem).label('keep');
        b.mov(R0, 0).jcond('<', R6, 99, 'more').mov(R0, 1).label('more').exit();
      });
    for (const [index, keySize] of [
      [0, 8],
      [1, 16],
    ] as const) {
      const verified = program(index, keySize);
      const key = (n: bigint) => (keySize === 8 ? bytes(n) : bytes(5n, n));
      const map = openMap(m.memory, m.layout, index);
      const fill = (entries: readonly (readonly [bigint, bigint])[]): void => {
        map.clear();
        for (const [k, v] of entries) map.update(key(k), index === 0 ? bytes(v) : [bytes(v), bytes(1000n)]);
      };
      const both = (entries: readonly (readonly [bigint, bigint])[]): bigint => {
        fill(entries);
        const compiled = BigInt.asUintN(64, m.jit(verified).run64(BigInt(ctx), 0n));
        const left = map.size;
        fill(entries);
        expect(m.interpret(verified, BigInt(ctx))).toBe(compiled);
        expect(map.size).toBe(left);
        return compiled;
      };
      expect(both([])).toBe(0n);
      expect(
        both([
          [1n, 10n],
          [2n, 20n],
          [3n, 30n],
        ]),
      ).toBe((3n << 32n) | 66n);
      expect(
        both([
          [1n, 10n],
          [7n, 20n],
          [3n, 30n],
        ]),
      ).toBe((3n << 32n) | 71n);
      expect(map.size).toBe(2);
      // All eight slots; any of these keys ends it at once.
      expect(both([1n, 2n, 3n, 4n, 5n, 6n, 8n, 9n].map((k) => [k, 1n] as const))).toBe((8n << 32n) | 46n);
      const ending = [99n, 100n, 101n].map((k) => [k, 1n] as const);
      fill(ending);
      expect(m.jit(verified).run64(BigInt(ctx), 0n) >> 32n).toBe(1n);
      expect(m.interpret(verified, BigInt(ctx)) >> 32n).toBe(1n);
    }
  });

  test('bpf_loop: context of the callback, early end, limits', () => {
    const m = machine([]);
    const program = m.verify((b) => {
      b.ldx(8, R6, R1, CTX_KEY)
        .st(8, R10, -8, 0)
        .mov(R1, R6)
        .ldFunc(R2, 'callback')
        .mov(R3, R10)
        .add(R3, -8)
        .mov(R4, 0);
      b.call(isa.BPF_FUNC_loop).lsh(R0, 32).ldx(8, R1, R10, -8).or(R0, R1).exit();
      b.label('callback').ldx(8, R3, R2, 0).add(R3, R1).stx(8, R2, 0, R3);
      b.mov(R0, 0).jcond('<', R1, 9, 'more').mov(R0, 1).label('more').exit();
    });
    const view = new DataView(m.memory.buffer);
    const ctx = ctxOf(m.layout);
    const both = (count: bigint): bigint => {
      view.setBigUint64(ctx + CTX_KEY, count, true);
      const compiled = BigInt.asUintN(64, m.jit(program).run64(BigInt(ctx), 0n));
      expect(m.interpret(program, BigInt(ctx))).toBe(compiled);
      return compiled;
    };
    expect(both(0n)).toBe(0n);
    expect(both(4n)).toBe((4n << 32n) | 6n);
    expect(both(100n)).toBe((10n << 32n) | 45n);
    expect(both(1n << 30n) >> 32n).toBe(BigInt.asUintN(32, BigInt(-ERRNO.E2BIG)));
  });
});
