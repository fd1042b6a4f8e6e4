import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  BpfError,
  createMemory,
  initMemory,
  layoutMemory,
  type MapSpec,
  openMap,
  percpuBlock,
} from '../../src/bpf/index.ts';

const spec = fc.oneof(
  fc.record({
    name: fc.constant('a'),
    type: fc.constantFrom('array' as const, 'percpu_array' as const),
    keySize: fc.constant(4),
    valueSize: fc.integer({ min: 1, max: 200 }),
    maxEntries: fc.integer({ min: 1, max: 300 }),
  }),
  fc.record({
    name: fc.constant('h'),
    type: fc.constantFrom('hash' as const, 'percpu_hash' as const),
    keySize: fc.integer({ min: 1, max: 100 }),
    valueSize: fc.integer({ min: 1, max: 200 }),
    maxEntries: fc.integer({ min: 1, max: 300 }),
  }),
  fc.record({
    name: fc.constant('r'),
    type: fc.constant('ringbuf' as const),
    keySize: fc.constant(0),
    valueSize: fc.constant(0),
    maxEntries: fc.constantFrom(4096, 8192),
  }),
);

describe('layoutMemory', () => {
  it('places everything apart, aligned and inside, and survives JSON', () => {
    const property = fc.property(
      fc.array(spec, { maxLength: 8 }),
      fc.integer({ min: 1, max: 8 }),
      (maps, ncpu) => {
        const layout = layoutMemory(maps as MapSpec[], { ncpu });
        const ranges: [number, number][] = [[0, 1024]];
        for (let cpu = 0; cpu < ncpu; cpu++) {
          const block = percpuBlock(layout, cpu);
          expect(block.ctx % 8).toBe(0);
          expect(block.stack % 8).toBe(0);
          expect(block.resultSlot % 8).toBe(0);
          ranges.push(
            [block.ctx, block.ctxSize],
            [block.resultSlot, 8],
            [block.progActive, 4],
            [block.stack, block.stackSize],
            [block.scratch, block.scratchSize],
          );
          expect(block.stackArgs).toBeGreaterThanOrEqual(block.ctx + 168);
          expect(block.stackArgs + block.stackArgsSize).toBe(block.ctx + block.ctxSize);
        }
        for (const { address, byteLength } of layout.maps) {
          expect(address % 64).toBe(0);
          ranges.push([address, byteLength]);
        }
        ranges.sort((a, b) => a[0] - b[0]);
        for (let i = 1; i < ranges.length; i++) {
          expect(ranges[i]![0]).toBeGreaterThanOrEqual(ranges[i - 1]![0] + ranges[i - 1]![1]);
        }
        const [start, length] = ranges.at(-1)!;
        expect(start + length).toBeLessThanOrEqual(layout.pages * 65536);
        expect(JSON.parse(JSON.stringify(layout))).toEqual(layout);
      },
    );
    fc.assert(property, { numRuns: 100, seed: 4 });
  });

  it('refuses what does not fit, with the name of the map', () => {
    const big: MapSpec = { name: 'big', type: 'array', keySize: 4, valueSize: 4096, maxEntries: 2 ** 20 };
    expect(() => layoutMemory([big], { ncpu: 2 })).toThrow(BpfError);
    expect(() => layoutMemory([big], { ncpu: 2 })).toThrow('map big needs 4294967360 bytes');
    expect(() => layoutMemory([], { ncpu: 0 })).toThrow('number of CPUs 0');
  });

  it('has maps opened only once they are initialised', () => {
    const layout = layoutMemory([{ name: 'a', type: 'array', keySize: 4, valueSize: 8, maxEntries: 2 }], {
      ncpu: 1,
    });
    const memory = createMemory(layout);
    expect(() => openMap(memory, layout, 0)).toThrow('map a: the memory has not been initialised');
    initMemory(memory, layout);
    expect(openMap(memory, layout, 0).size).toBe(2);
    expect(() => openMap(memory, layout, 1)).toThrow('no map 1');
  });

  it('refuses what needs a machine', () => {
    const trie: MapSpec = { name: 'm', type: 'lpm_trie', keySize: 8, valueSize: 4, maxEntries: 4, flags: 1 };
    const place = () => layoutMemory([trie], { ncpu: 1 });
    expect(place).toThrow(expect.objectContaining({ code: 'ENOTSUPP', hint: 'createMachine().createMap()' }));
  });
});
