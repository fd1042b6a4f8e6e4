/** Stores to the stack that nobody reads, and array indexes that are known to be inside: what is left out, and what must not be. */
import { describe, expect, test } from 'vitest';
import { assemble } from '../../src/bpf/asm/assemble.ts';
import { buildCfg } from '../../src/bpf/jit/cfg.ts';
import { findDeadStores } from '../../src/bpf/jit/dead-stores.ts';
import { findForwards } from '../../src/bpf/jit/forwarding.ts';
import { analyse } from '../../src/bpf/jit/values.ts';
import { createMachine } from '../../src/bpf/machine/index.ts';
import type { MapSpec } from '../../src/bpf/maps/map-spec.ts';

/** Slots of the stores that are left out; helper 1 looks an index up. */
function dead(text: string): number[] {
  const insns = assemble(text);
  const cfg = buildCfg(insns, 0);
  const entries = analyse(insns, cfg);
  const forwards = findForwards(insns, cfg, entries, ({ imm }) => imm === 1);
  return forwards === undefined ? [] : [...findDeadStores(insns, cfg, entries, forwards)];
}

const spilled = '*(u64 *)(r10 -8) = r1\nr0 = *(u64 *)(r10 -8)\n';

describe('a store that its loads have in a local', () => {
  test.each<[string, string, number[]]>([
    ['is left out', `${spilled}exit`, [0]],
    ['stays where a byte of it is read, too', `${spilled}r2 = *(u8 *)(r10 -5)\nexit`, []],
    ['stays where an atomic works on it', `${spilled}lock *(u64 *)(r10 -8) += r2\nexit`, []],
    ['stays where a helper gets its address', `${spilled}r1 = r10\nr1 += -8\ncall 6\nexit`, []],
    ['stays where a helper gets an address below', `${spilled}r1 = r10\nr1 += -32\ncall 6\nexit`, []],
    [
      'is left out where a helper gets an address above',
      `*(u64 *)(r10 -16) = r1
      r0 = *(u64 *)(r10 -16)\nr1 = r10\nr1 += -8\ncall 6\nexit`,
      [0],
    ],
    ['stays where a function gets an address', `${spilled}r1 = r10\ncall pc+1\nexit\nr0 = 0\nexit`, []],
    ['stays where a callback gets an address', `${spilled}r3 = r10\ncall 181\nexit`, []],
    ['stays where an address is stored', `${spilled}*(u64 *)(r10 -16) = r10\nexit`, []],
    ['stays where an address is added to', `${spilled}r2 = r10\nr2 += r1\nr0 = *(u8 *)(r2 -9)\nexit`, []],
    [
      'stays where two addresses meet',
      `${spilled}r2 = r10\nr2 += -8\nif r1 == 0 goto +1\nr2 += -8
      r0 = *(u64 *)(r2 +0)\nexit`,
      [],
    ],
    [
      'is left out where it is an index of a lookup',
      '*(u32 *)(r10 -4) = r1\nr2 = r10\nr2 += -4\nr1 = map[idx:0]\ncall 1\nexit',
      [0],
    ],
    [
      'stays where another lookup reads it',
      '*(u32 *)(r10 -4) = r1\nr2 = r10\nr2 += -4\nr1 = map[idx:0]\ncall 1\nr2 = r10\nr2 += -4\ncall 2\nexit',
      [],
    ],
  ])('%s', (_name, text, expected) => {
    expect(dead(text)).toEqual(expected);
  });
});

const MAPS: readonly MapSpec[] = [
  { name: 'array', type: 'array', keySize: 4, valueSize: 8, maxEntries: 16 },
  { name: 'percpu', type: 'percpu_array', keySize: 4, valueSize: 8, maxEntries: 16 },
  { name: 'hash', type: 'hash', keySize: 4, valueSize: 8, maxEntries: 16 },
];

/** r0 = 1000 where nothing is found, else the element's count, which goes up. */
const lookup = (map: number, index: string): string => `
  r3 = *(u32 *)(r1 +0)
  r4 = *(u32 *)(r1 +4)
  r6 = r3
  r6 += 8
  r0 = 0
  if r6 > r4 goto out
  r1 = *(u32 *)(r3 +0)
  ${index}
  *(u32 *)(r10 -4) = r1
  r1 = map[idx:${map}]
  r2 = r10
  r2 += -4
  call bpf_map_lookup_elem
  r7 = r0
  r0 = 1000
  if r7 == 0 goto out
  r1 = *(u64 *)(r7 +0)
  r1 += 1
  *(u64 *)(r7 +0) = r1
  r0 = r1
out: exit`;

describe('an index', () => {
  const INDEXES = [
    'w1 &= 15',
    'w1 &= 16',
    'w1 &= 31',
    'r1 >>= 28',
    'w1 >>= 27',
    'w1 %= 16',
    'w1 %= 17',
    'w1 |= 16',
    'r1 <<= 60\n r1 >>= 60',
    'w1 &= -16',
    'w1 &= 7\n r1 += 9',
    'w1 &= 15\n r1 -= 1',
    'r1 = 15',
    'r1 = 16',
  ];

  test.each(MAPS.flatMap(({ name }, map) => INDEXES.map((index) => [name, index, map] as const)))(
    'of %s after %s',
    (_name, index, map) => {
      const results = (['interpreter', 'jit'] as const).map((engine) => {
        const machine = createMachine({ ncpu: 2 });
        const loadedMaps = MAPS.map((spec) => machine.createMap(spec));
        for (let key = 0; key < 16; key++) {
          loadedMaps[2]!.update(Uint8Array.of(key, 0, 0, 0), new Uint8Array(8));
        }
        const program = machine.loadProgram({
          name: 'index',
          type: 'xdp',
          insns: assemble(lookup(map, index)),
          maps: MAPS,
          loadedMaps,
          engine,
        });
        return [0, 1, 15, 16, 17, 31, 32, 0xffff_ffff, 0xf000_0000, 0x1000_000f, 1].map((value) => {
          const dataIn = new Uint8Array(64);
          new DataView(dataIn.buffer).setUint32(0, value, true);
          return program.testRun({ dataIn }).retval;
        });
      });
      expect(results[1]).toEqual(results[0]);
    },
  );

  test('that is inside is not tested, and neither is its element', () => {
    const size = (index: string): number => {
      const machine = createMachine();
      const loadedMaps = MAPS.map((spec) => machine.createMap(spec));
      const insns = assemble(lookup(0, index));
      return machine.loadProgram({ name: 'index', type: 'xdp', insns, maps: MAPS, loadedMaps }).wasm!.length;
    };
    expect(size('w1 &= 15')).toBeLessThan(size('w1 &= 16'));
  });
});
