import { describe, expect, test } from 'vitest';
import {
  alignOf,
  type Btf,
  BtfBuilder,
  dedupBtf,
  dumpC,
  parseBtf,
  parseBtfExt,
  printValue,
  sizeOf,
  validateBtf,
  writeBtf,
} from '../../src/bpf/btf/index.ts';
import { applyCoreRelocations } from '../../src/bpf/core-relo/index.ts';
import { BpfError, decodeInsns } from '../../src/bpf/index.ts';
import { everyKind, mutate, randomizer } from './support-btf-samples.ts';
import { fixture } from './support-elf-sections.ts';

/** Runs it; only the errors that it is meant to throw are none. */
function survives<T>(run: () => T): T | undefined {
  try {
    return run();
  } catch (error) {
    if (error instanceof BpfError) {
      expect(error.code).toMatch(/^E/);
      expect(error.message).not.toBe('');
      return undefined;
    }
    throw error;
  }
}

/** Everything that can be asked of a BTF. */
function exercise(btf: Btf): void {
  survives(() => validateBtf(btf));
  survives(() => dedupBtf(btf));
  survives(() => dumpC(btf));
  expect(writeBtf(btf).length).toBeGreaterThan(23);
  const bytes = new Uint8Array(256);
  for (let id = 0; id < btf.typeCount; id++) {
    btf.type(id);
    survives(() => sizeOf(btf, id));
    survives(() => alignOf(btf, id));
    survives(() => printValue(btf, id, bytes));
  }
}

const { bytes: kinds } = fixture('kinds-19.o').get('.BTF')!;

describe('hostile BTF', () => {
  test('cut off anywhere', () => {
    for (let length = 0; length < kinds.length; length++) {
      const btf = survives(() => parseBtf(kinds.subarray(0, length)));
      expect(btf).toBeUndefined();
    }
  });

  test('with sections that end anywhere', () => {
    for (let length = 0; length < kinds.length; length += 7) {
      const bytes = kinds.slice();
      const view = new DataView(bytes.buffer);
      view.setUint32(12, length, true);
      const btf = survives(() => parseBtf(bytes));
      if (btf !== undefined) exercise(btf);
    }
  });

  test('with flipped bits and changed words', () => {
    const random = randomizer(77);
    let parsed = 0;
    for (const original of [kinds, everyKind().toBytes()]) {
      for (let i = 0; i < 200; i++) {
        let bytes: Uint8Array = original.slice();
        if (i % 2 === 0) bytes = mutate(bytes, random);
        else for (let n = 0; n <= i % 5; n++) bytes[random(bytes.length)]! ^= 1 << random(8);
        const btf = survives(() => parseBtf(bytes));
        if (btf === undefined) continue;
        parsed++;
        exercise(btf);
      }
    }
    expect(parsed).toBeGreaterThan(100);
  });

  test('types whose count or size is more than there is', () => {
    const header = new BtfBuilder();
    header.raw('s', 0x0400_ffff, 0xffff_ffff);
    expect(() => header.build()).toThrow('cut short');
    const b = new BtfBuilder();
    const int = b.int('int', 4);
    let at = b.array(int, int, 0xffff_ffff);
    for (let i = 0; i < 20; i++) at = b.array(at, int, 0xffff_ffff);
    b.typedef('huge', at);
    b.struct('s', 0xffff_ffff, [{ name: 'a', type: at, bitOffset: 0xffff_ffff }]);
    exercise(b.build());
  });

  test('names that overlap and never seem to end', () => {
    const b = new BtfBuilder();
    b.int('x'.repeat(5000), 4);
    expect(() => b.build()).toThrow('longer than 4096');
    // 60,000 members that share a name of 4,000 bytes, each from another of its bytes on.
    const shared = new BtfBuilder();
    const int = shared.int('x'.repeat(4000), 4);
    shared.struct(
      's',
      4,
      Array.from({ length: 60_000 }, () => ({ name: 'm', type: int, bitOffset: 0 })),
    );
    const bytes = shared.toBytes();
    const view = new DataView(bytes.buffer);
    for (let i = 0; i < 60_000; i++) view.setUint32(24 + 16 + 12 + 12 * i, 1 + (i % 3000), true);
    expect(() => parseBtf(bytes)).toThrow('too many and too long');
  });

  test('structs that hold each other in every way', () => {
    const b = new BtfBuilder();
    const n = 60;
    for (let i = 0; i < n; i++) {
      const members = Array.from({ length: 4 }, (_, m) => ({
        name: m % 2 === 0 ? '' : `m${m}`,
        type: 1 + ((i * 7 + m * 13) % n),
        bitOffset: 0,
      }));
      if (i % 3 === 0) b.struct('', 8, members);
      else if (i % 3 === 1) b.struct(`s${i}`, 8, members);
      else b.union('', 8, members);
    }
    exercise(b.build());
  });

  test('a deep tower of typedefs, of pointers and of structs', () => {
    const n = 20_000;
    const typedefs = new BtfBuilder();
    for (let i = 1; i < n; i++) typedefs.typedef(`t${i}`, i + 1);
    typedefs.int('int', 4);
    const structs = new BtfBuilder();
    for (let i = 1; i < n; i++) structs.struct(`s${i}`, 4, [{ name: 'a', type: i + 1, bitOffset: 0 }]);
    structs.int('int', 4);
    for (const b of [typedefs, structs]) {
      const btf = b.build();
      survives(() => validateBtf(btf));
      survives(() => dumpC(btf));
      expect(dedupBtf(btf).btf.typeCount).toBe(n + 1);
    }
  });

  test('structs that are the same but for what is far below', () => {
    const build = (n: number): Btf => {
      const b = new BtfBuilder();
      for (let i = 0; i < n; i++) {
        const int = b.int(`int${i}`, 4);
        const ptr = b.ptr(int);
        b.struct('same', 8, [{ name: 'p', type: ptr, bitOffset: 0 }]);
      }
      return b.build();
    };
    expect(dedupBtf(build(300)).btf.typeCount).toBe(901);
    // Each must be compared with each: at some number that ends.
    expect(() => dedupBtf(build(3000))).toThrow('takes too long');
  });
});

describe('hostile .BTF.ext and relocations', () => {
  const sections = fixture('core-19.o');
  const btf = parseBtf(sections.get('.BTF')!.bytes);
  const { bytes: ext } = sections.get('.BTF.ext')!;
  const insns = decodeInsns(sections.get('socket')!.bytes);
  const target = parseBtf(fixture('core-target-19.o').get('.BTF')!.bytes);

  test('cut off anywhere', () => {
    // The compiler leaves nothing behind the last record.
    for (let length = 0; length < ext.length; length++) {
      expect(survives(() => parseBtfExt(ext.subarray(0, length), btf))).toBeUndefined();
    }
  });

  test('with flipped bits: relocated as they say, or refused', () => {
    const random = randomizer(5);
    let applied = 0;
    for (let i = 0; i < 600; i++) {
      const bytes = ext.slice();
      for (let n = 0; n <= i % 3; n++) bytes[random(bytes.length)]! ^= 1 << random(8);
      const parsed = survives(() => parseBtfExt(bytes, btf));
      const relos = parsed?.coreRelos.get('socket');
      if (relos === undefined) continue;
      for (const lines of parsed!.lineInfo.values())
        for (const line of lines) expect(line.text).toBeTypeOf('string');
      if (survives(() => applyCoreRelocations(insns, relos, btf, target)) !== undefined) applied++;
    }
    expect(applied).toBeGreaterThan(40);
  });

  test('against a target with changed words', () => {
    const random = randomizer(6);
    const relos = parseBtfExt(ext, btf).coreRelos.get('socket')!;
    const original = writeBtf(target);
    let applied = 0;
    for (let i = 0; i < 300; i++) {
      const changed = survives(() => parseBtf(mutate(original, random)));
      if (changed === undefined) continue;
      if (survives(() => applyCoreRelocations(insns, relos, btf, changed)) !== undefined) applied++;
    }
    expect(applied).toBeGreaterThan(25);
  });
});
