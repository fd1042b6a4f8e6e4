/** Loads through typed pointers give 0 where the address is bad, as those that the kernel makes BPF_PROBE_MEM. */
import { describe, expect, test } from 'vitest';
import { assemble } from '../../src/bpf/asm/assemble.ts';
import { BtfBuilder } from '../../src/bpf/btf/builder.ts';
import { createMachine } from '../../src/bpf/machine/index.ts';
import { viewMemory } from '../../src/bpf/maps/memory-view.ts';

/** A tracepoint `go` with a struct task { u32 pid; s16 nice; struct task *parent; } */
function targetBtf() {
  const b = new BtfBuilder();
  const u32 = b.int('unsigned int', 4);
  const s16 = b.int('short', 2, { signed: true });
  const TASK = 4;
  const pointer = b.ptr(TASK);
  const task = b.struct('task', 16, [
    { name: 'pid', type: u32, bitOffset: 0 },
    { name: 'nice', type: s16, bitOffset: 32 },
    { name: 'parent', type: pointer, bitOffset: 64 },
  ]);
  expect(task).toBe(TASK);
  const proto = b.funcProto(0, [
    { name: '__data', type: b.ptr(0) },
    { name: 'task', type: pointer },
  ]);
  b.typedef('btf_trace_go', b.ptr(proto));
  return b.build();
}

describe.each(['interpreter', 'jit'] as const)('loads through pointers to objects: %s', (engine) => {
  const machine = createMachine();
  const end = machine.memory.buffer.byteLength;
  const load = (field: string) =>
    machine.loadProgram({
      name: 'probe',
      type: 'tracing',
      attachType: 'trace_raw_tp',
      attachTo: 'go',
      targetBtf: targetBtf(),
      engine,
      insns: assemble(`
        r1 = *(u64 *)(r1 +0)
        r1 = *(u64 *)(r1 +8)
        r0 = ${field}
        exit`),
      maps: [],
      loadedMaps: [],
    });
  const ctx = machine.alloc(16);
  const task = machine.alloc(16);
  const parent = machine.alloc(16);
  const { data } = viewMemory(machine.memory);
  data.setBigUint64(ctx, BigInt(task), true);
  data.setUint32(parent, 1234, true);
  data.setInt16(parent + 4, -5, true);
  const from = (field: string, address: bigint): bigint => {
    data.setBigUint64(task + 8, BigInt.asUintN(64, address), true);
    return BigInt.asUintN(64, load(field).run(ctx));
  };

  test('a good address is read', () => {
    expect(from('*(u32 *)(r1 +0)', BigInt(parent))).toBe(1234n);
    expect(from('*(s16 *)(r1 +4)', BigInt(parent))).toBe(BigInt.asUintN(64, -5n));
  });

  test.each([
    ['NULL', 0n],
    ['a field of NULL', 1000n],
    ['behind the memory', 1n << 31n],
    ['far behind it', 0xffff_fff0n],
    ['above 32 bits, with a good low half', 1n << 32n],
    ['the other half of the address space', 0xffff_8880_0000_0000n],
    ['the last bytes of all', -4n],
  ])('%s gives 0', (_name, address) => {
    const at = address === 1n << 32n ? address + BigInt(parent) : address;
    expect(from('*(u32 *)(r1 +0)', at)).toBe(0n);
    expect(from('*(s16 *)(r1 +4)', at)).toBe(0n);
  });

  test('so does a load across the end of the memory, and none before it', () => {
    data.setUint32(end - 4, 77, true);
    expect(from('*(u32 *)(r1 +0)', BigInt(end - 4))).toBe(77n);
    expect(from('*(u32 *)(r1 +0)', BigInt(end - 3))).toBe(0n);
  });
});
