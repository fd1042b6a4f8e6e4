/** Stores to the stack that loads and array lookups find without going through memory. */
import { describe, expect, test } from 'vitest';
import { assemble } from '../../src/bpf/asm/assemble.ts';
import { buildCfg } from '../../src/bpf/jit/cfg.ts';
import { findForwards } from '../../src/bpf/jit/forwarding.ts';
import { analyse } from '../../src/bpf/jit/values.ts';
import { createMachine } from '../../src/bpf/machine/index.ts';
import type { MapSpec } from '../../src/bpf/maps/map-spec.ts';

/** What is found, by instruction: a number for an immediate, else the slot of the store. */
function forwards(text: string): Record<number, string> {
  const insns = assemble(text);
  const cfg = buildCfg(insns, 0);
  const found = findForwards(insns, cfg, analyse(insns, cfg), ({ imm }) => imm === 1);
  const result: Record<number, string> = {};
  for (const [pc, one] of found?.uses ?? []) {
    const store = [...found!.saves].find(([, index]) => one.kind === 'saved' && index === one.index);
    result[pc] = one.kind === 'imm' ? `= ${one.value}` : `store ${store![0]}`;
  }
  return result;
}

describe('stores that reach a load', () => {
  test.each<[string, string, Record<number, string>]>([
    ['of a register', '*(u64 *)(r10 -8) = r1\nr1 = 0\nr0 = *(u64 *)(r10 -8)\nexit', { 2: 'store 0' }],
    ['of an immediate', '*(u32 *)(r10 -8) = -5\nr0 = *(u32 *)(r10 -8)\nexit', { 1: '= -5' }],
    [
      'through a copy of r10',
      'r2 = r10\nr2 += -16\n*(u64 *)(r2 +8) = r1\nr0 = *(u64 *)(r10 -8)\nexit',
      { 3: 'store 2' },
    ],
    ['of another size', '*(u64 *)(r10 -8) = r1\nr0 = *(u32 *)(r10 -8)\nexit', {}],
    ['with sign', '*(u8 *)(r10 -8) = r1\nr0 = *(s8 *)(r10 -8)\nexit', {}],
    ['written over in part', '*(u64 *)(r10 -8) = r1\n*(u8 *)(r10 -1) = r2\nr0 = *(u64 *)(r10 -8)\nexit', {}],
    [
      'written over by an atomic',
      '*(u64 *)(r10 -8) = r1\nlock *(u32 *)(r10 -4) += r2\nr0 = *(u64 *)(r10 -8)\nexit',
      {},
    ],
    [
      'beside another',
      '*(u64 *)(r10 -8) = r1\n*(u64 *)(r10 -16) = r2\nr0 = *(u64 *)(r10 -8)\nexit',
      { 2: 'store 0' },
    ],
    [
      'before a store to anywhere',
      '*(u64 *)(r10 -8) = r1\n*(u8 *)(r1 +0) = 1\nr0 = *(u64 *)(r10 -8)\nexit',
      {},
    ],
    ['before a call', '*(u64 *)(r10 -8) = r1\ncall 7\nr0 = *(u64 *)(r10 -8)\nexit', {}],
    [
      'on both ways',
      '*(u64 *)(r10 -8) = r1\nif r1 == 0 goto +1\nr2 = 1\nr0 = *(u64 *)(r10 -8)\nexit',
      { 3: 'store 0' },
    ],
    ['on one way only', 'if r1 == 0 goto +1\n*(u64 *)(r10 -8) = r1\nr0 = *(u64 *)(r10 -8)\nexit', {}],
    [
      'by different stores on two ways',
      '*(u64 *)(r10 -8) = r1\nif r1 == 0 goto +1\n*(u64 *)(r10 -8) = r2\nr0 = *(u64 *)(r10 -8)\nexit',
      {},
    ],
    [
      'over the way back of a loop that leaves it alone',
      '*(u64 *)(r10 -8) = r1\nr0 += 1\nr2 = *(u64 *)(r10 -8)\nif r0 != r2 goto -3\nexit',
      { 2: 'store 0' },
    ],
    [
      'over the way back of a loop that writes over it',
      '*(u64 *)(r10 -8) = r1\nr2 = *(u64 *)(r10 -8)\n*(u64 *)(r10 -8) = r0\nif r0 != r2 goto -3\nexit',
      {},
    ],
    [
      'as the index of an array',
      '*(u32 *)(r10 -4) = r1\nr1 = map[idx:0]\nr2 = r10\nr2 += -4\ncall 1\nexit',
      { 5: 'store 0' },
    ],
  ])('%s', (_name, text, expected) => {
    expect(forwards(text)).toEqual(expected);
  });

  test('an array index of a wider register, or out of range', () => {
    const spec: MapSpec = { name: 'a', type: 'array', keySize: 4, valueSize: 8, maxEntries: 4 };
    const results = (['interpreter', 'jit'] as const).map((engine) => {
      const machine = createMachine();
      const map = machine.createMap(spec);
      const run = (index: string) =>
        machine
          .loadProgram({
            name: 'lookup',
            type: 'xdp',
            insns: assemble(`
              r6 = ${index}
              *(u32 *)(r10 -4) = r6
              r1 = map[idx:0]
              r2 = r10
              r2 += -4
              call 1
              if r0 == 0 goto none
              *(u64 *)(r0 +0) = r6
              r0 = 1
              exit
        none: r0 = 2
              exit`),
            maps: [spec],
            loadedMaps: [map],
            engine,
          })
          .run(0);
      const retvals = ['3', '4', '-1', '0x500000002 ll'].map(run);
      return { retvals, values: [0, 1, 2, 3].map((n) => [...map.lookup(Uint8Array.of(n, 0, 0, 0))!]) };
    });
    expect(results[0]!.retvals).toEqual([1n, 2n, 2n, 1n]);
    expect(results[0]!.values[2]).toEqual([2, 0, 0, 0, 5, 0, 0, 0]);
    expect(results[1]).toEqual(results[0]);
  });
});
