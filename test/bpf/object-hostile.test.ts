/**
 * Objects made to break the loader: whatever the bytes are, opening them gives an object or an error with a code, in bounded time and
 * memory.
 */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { BpfError, createMachine, openObject } from '../../src/bpf/index.ts';
import { EXIT, GLOBAL_FUNC, PROGBITS, programs, REL, STRTAB, SYMTAB } from './support-elf-objects.ts';
import { fixtureBytes, fixtureNames } from './support-objects.ts';

/** Opens, and looks at everything that is computed late. The code of the error, or 'opened'. Any other error is thrown on. */
function tryOpen(bytes: Uint8Array): string {
  try {
    const object = openObject(bytes);
    for (const { name } of object.globals) {
      try {
        object.globals.get(name);
      } catch (error) {
        if (!(error instanceof BpfError) || error.code !== 'OBJ_BAD_VALUE') throw error;
      }
    }
    for (const program of object.spec.programs.values()) {
      for (const { file, source } of program.lineInfo) {
        if (typeof (file + source) !== 'string') throw new Error('a line without its text');
      }
    }
    return 'opened';
  } catch (error) {
    if (!(error instanceof BpfError) || !/^(ELF|OBJ)_[A-Z_]+$/.test(error.code)) throw error;
    if (/undefined(?! symbol)|NaN|\[object /.test(error.message))
      throw new Error(`a message of ${error.message}`);
    return error.code;
  }
}

const SHDR = 64;

/** Writes into section headers and symbols by field. */
class Patched {
  readonly bytes: Uint8Array;
  readonly view: DataView;

  constructor(file: string) {
    this.bytes = fixtureBytes(file).slice();
    this.view = new DataView(this.bytes.buffer);
  }

  get sectionCount(): number {
    return this.view.getUint16(60, true);
  }

  section(index: number): number {
    return Number(this.view.getBigUint64(40, true)) + index * SHDR;
  }

  /** Index of the first section of a type. */
  ofType(type: number): number {
    for (let i = 0; i < this.sectionCount; i++) {
      if (this.view.getUint32(this.section(i) + 4, true) === type) return i;
    }
    throw new Error(`no section of type ${type}`);
  }

  set64(at: number, value: bigint): this {
    this.view.setBigUint64(at, value, true);
    return this;
  }

  set32(at: number, value: number): this {
    this.view.setUint32(at, value, true);
    return this;
  }
}

describe('cut off', () => {
  test.each(['map-in-map-19.o', 'core-14.o', 'ksyms-19.o'])('%s at every byte', (file) => {
    const bytes = fixtureBytes(file);
    const codes = new Set<string>();
    for (let length = 0; length < bytes.length; length++) codes.add(tryOpen(bytes.subarray(0, length)));
    // The section headers stand at the end of the file.
    expect([...codes].sort()).toEqual(['ELF_NOT_ELF', 'ELF_TRUNCATED']);
  });

  test('the others here and there', () => {
    for (const file of fixtureNames()) {
      const bytes = fixtureBytes(file);
      for (let length = 1; length < bytes.length; length += 211) {
        expect(tryOpen(bytes.subarray(0, length))).toMatch(/^ELF_(NOT_ELF|TRUNCATED)$/);
      }
      expect(tryOpen(bytes)).toBe('opened');
    }
  });
});

/** Where in a file of any length; evenly, so no floating point number, which fast-check likes to have near 0. */
const PLACES = 1 << 16;
const place = fc.noBias(fc.nat(PLACES - 1));

describe('changed', () => {
  test.each(['map-in-map-19.o', 'legacy-maps-14.o'])('%s, one bit of every byte', (file) => {
    const bytes = fixtureBytes(file);
    const codes = new Map<string, number>();
    for (let at = 0; at < bytes.length; at++) {
      const copy = bytes.slice();
      copy[at]! ^= 1 << (at % 8);
      const code = tryOpen(copy);
      codes.set(code, (codes.get(code) ?? 0) + 1);
    }
    // Much of a file may be changed and mean something; what may not is noticed in many ways.
    expect(codes.get('opened')).toBeGreaterThan(0);
    expect(codes.size).toBeGreaterThan(8);
  });

  test('several bytes of any object', () => {
    const files = fixtureNames().map((name) => fixtureBytes(name));
    const value = fc.oneof(fc.constantFrom(0, 1, 2, 0x7f, 0x80, 0xff), fc.integer({ min: 0, max: 255 }));
    const edit = fc.record({
      at: place,
      value,
      run: fc.integer({ min: 1, max: 8 }),
    });
    fc.assert(
      fc.property(
        fc.nat(files.length - 1),
        fc.array(edit, { minLength: 1, maxLength: 6 }),
        (which, edits) => {
          const copy = files[which]!.slice();
          for (const one of edits) {
            const at = Math.floor((one.at / PLACES) * copy.length);
            copy.fill(one.value, at, at + one.run);
          }
          tryOpen(copy);
        },
      ),
      { numRuns: 1500, seed: 20 },
    );
  });

  test('what still opens is loaded or refused, and leaves nothing behind', () => {
    const machine = createMachine({ maxPages: 2000 });
    const files = fixtureNames().map((name) => fixtureBytes(name));
    let loaded = 0;
    fc.assert(
      fc.property(fc.nat(files.length - 1), place, fc.nat(7), (which, where, bit) => {
        const copy = files[which]!.slice();
        copy[Math.floor((where / PLACES) * copy.length)]! ^= 1 << bit;
        try {
          openObject(copy)
            .load({ machine, kconfig: { CONFIG_HZ: 1, CONFIG_SMP: true } })
            .close();
          loaded++;
        } catch (error) {
          if (!(error instanceof BpfError)) throw error;
        }
        if (machine.maps.size + machine.programs.size > 0) throw new Error('maps or programs were left');
      }),
      { numRuns: 400, seed: 21 },
    );
    expect(loaded).toBeGreaterThan(50);
  });

  test('whole words of the tables', () => {
    const words = [
      0n,
      1n,
      7n,
      0x7fff_ffffn,
      0x8000_0000n,
      0xffff_ffffn,
      1n << 53n,
      (1n << 63n) - 1n,
      (1n << 64n) - 8n,
    ];
    for (const file of ['subprogs-19.o', 'globals-14.o']) {
      const bytes = fixtureBytes(file);
      const headers = new Patched(file).section(0);
      for (let at = headers; at + 8 <= bytes.length; at += 8) {
        for (const word of words) {
          const copy = bytes.slice();
          new DataView(copy.buffer).setBigUint64(at, word, true);
          tryOpen(copy);
        }
      }
    }
  });
});

describe('hostile headers', () => {
  test('numbers of sections that the file cannot hold', () => {
    const file = new Patched('maps-19.o');
    file.view.setUint16(60, 0xfeff, true);
    expect(tryOpen(file.bytes)).toBe('ELF_TRUNCATED');
    // 0 sections: the number is the size of section 0.
    const extended = new Patched('maps-19.o');
    extended.view.setUint16(60, 0, true);
    for (const count of [1n << 32n, 1n << 60n, (1n << 64n) - 1n]) {
      extended.set64(extended.section(0) + 32, count);
      expect(tryOpen(extended.bytes)).toBe('ELF_TRUNCATED');
    }
    const real = new Patched('maps-19.o');
    const count = BigInt(real.sectionCount);
    real.view.setUint16(60, 0, true);
    expect(tryOpen(real.set64(real.section(0) + 32, count).bytes)).toBe('opened');
  });

  test('offsets and sizes whose sum wraps around', () => {
    for (const type of [PROGBITS, SYMTAB, STRTAB, REL]) {
      for (const [offset, size] of [
        [(1n << 64n) - 8n, 16n],
        [8n, (1n << 64n) - 8n],
        [1n << 63n, 1n << 63n],
        [64n, 1n << 40n],
      ] as const) {
        const file = new Patched('maps-19.o');
        const at = file.section(file.ofType(type));
        expect(tryOpen(file.set64(at + 24, offset).set64(at + 32, size).bytes)).toBe('ELF_TRUNCATED');
      }
    }
  });

  test('a section of zeroes of any size takes no memory', () => {
    const object = (size: bigint) => {
      const file = new Patched('globals-19.o');
      const at = file.section(file.ofType(8));
      return file.set64(at + 32, size).bytes;
    };
    expect(openObject(object(0xffff_ffffn)).spec.maps.get('.bss')!.valueSize).toBe(0xffff_ffff);
    expect(openObject(object(0xffff_ffffn)).globals.get('hits')).toBe(0n);
    expect(tryOpen(object(1n << 40n))).toBe('ELF_BAD_SIZE');
    expect(tryOpen(object((1n << 64n) - 1n))).toBe('ELF_BAD_SIZE');
    expect(() => openObject(object(0xffff_ffffn)).globals.set('hits', 1n)).toThrow(
      'cannot be given initial values',
    );
  });

  test('symbol tables and strings', () => {
    const symbols = (change: (file: Patched, table: number) => void) => {
      const file = new Patched('subprogs-19.o');
      change(file, file.section(file.ofType(SYMTAB)));
      return tryOpen(file.bytes);
    };
    expect(symbols((file, at) => file.set64(at + 56, 23n))).toBe('ELF_BAD_ENTSIZE');
    expect(symbols((file, at) => file.set32(at + 40, 0xffff_ffff))).toBe('ELF_BAD_SECTION');
    expect(symbols((file, at) => file.set32(at + 40, 0))).toBe('ELF_BAD_SECTION');
    // The symbol table as its own string table.
    expect(symbols((file, at) => file.set32(at + 40, file.ofType(SYMTAB)))).toBe('ELF_BAD_SECTION');
    expect(symbols((file, at) => file.set32(at + 4, 0))).toBe('ELF_NO_SYMBOLS');
    expect(
      symbols((file, at) => {
        const first = Number(file.view.getBigUint64(at + 24, true)) + 24;
        file.set32(first, 0xffff_fff0);
      }),
    ).toBe('ELF_BAD_STRING');
  });

  test('relocations of sections and symbols that do not exist', () => {
    const relocations = (change: (file: Patched, header: number, data: number) => void) => {
      const file = new Patched('subprogs-19.o');
      const header = file.section(file.ofType(REL));
      change(file, header, Number(file.view.getBigUint64(header + 24, true)));
      return tryOpen(file.bytes);
    };
    expect(relocations((file, header) => file.set32(header + 44, 9999))).toBe('ELF_BAD_SECTION');
    expect(relocations((file, header) => file.set64(header + 56, 0n))).toBe('ELF_BAD_ENTSIZE');
    expect(relocations((file, _, data) => file.set32(data + 12, 0xffff_ffff))).toBe('ELF_BAD_RELOCATION');
    expect(relocations((file, _, data) => file.set64(data, (1n << 64n) - 8n))).toBe('ELF_BAD_RELOCATION');
    expect(relocations((file, _, data) => file.set64(data, 4n))).toBe('ELF_BAD_RELOCATION');
    expect(relocations((file, _, data) => file.set32(data + 12, 0))).toBe('OBJ_BAD_RELOCATION');
  });
});

describe('amplification', () => {
  const text = (value: string) => new TextEncoder().encode(value);

  test('a small object without types opens', () => {
    const file = programs(
      new Uint8Array(EXIT),
      [{ name: 1, info: GLOBAL_FUNC, section: 1, size: 16 }],
      text('\0main\0'),
    );
    const object = openObject(file, 'tiny.o');
    expect(object.spec.programs.get('main')).toMatchObject({ type: 'socket_filter', lineInfo: [] });
    expect(
      object
        .load({ engine: 'interpreter' })
        .programs.get('main')!
        .testRun({ dataIn: new Uint8Array(64) }).retval,
    ).toBe(0);
  });

  test('many names for one long string', () => {
    const strings = text(`\0${'a'.repeat(1_000_000)}\0`);
    const symbols = Array.from({ length: 20_000 }, (_, i) => ({
      name: 996_500 + (i % 3000),
      info: 0,
      section: 1,
    }));
    expect(tryOpen(programs(new Uint8Array(EXIT), symbols, strings))).toBe('ELF_BAD_STRING');
    expect(tryOpen(programs(new Uint8Array(EXIT), [{ name: 1, info: 0, section: 1 }], strings))).toBe(
      'ELF_BAD_STRING',
    );
  });

  test('many names for one long function', () => {
    const code = new Uint8Array(8 * 100_000);
    const names = Array.from({ length: 1000 }, (_, i) => `f${String(i).padStart(4, '0')}`);
    const symbols = names.map((_, i) => ({
      name: 1 + 6 * i,
      info: GLOBAL_FUNC,
      section: 1,
      size: code.length,
    }));
    expect(tryOpen(programs(code, symbols, text(`\0${names.join('\0')}\0`)))).toBe('OBJ_TOO_LARGE');
  });

  test('functions that overlap', () => {
    const symbols = [
      { name: 1, info: GLOBAL_FUNC, section: 1, size: 16 },
      { name: 3, info: GLOBAL_FUNC, section: 1, value: 8, size: 8 },
    ];
    expect(tryOpen(programs(new Uint8Array(EXIT), symbols, text('\0a\0b\0')))).toBe('ELF_BAD_SYMBOL');
  });

  test('calls that nest thousands of functions deep', () => {
    const depth = 20_000;
    const code = new Uint8Array(16 * depth);
    const view = new DataView(code.buffer);
    for (let i = 0; i < depth; i++) {
      const last = i === depth - 1;
      // Each calls the next, the last one the first: recursion, which only the verifier forbids.
      code.set([0x85, 0x10], 16 * i);
      view.setInt32(16 * i + 4, last ? -(2 * depth - 1) : 1, true);
      code.set([0x95], 16 * i + 8);
    }
    const names = Array.from({ length: depth }, (_, i) => `f${String(i).padStart(5, '0')}`);
    const symbols = names.map((_, i) => ({
      name: 1 + 7 * i,
      info: i === 0 ? GLOBAL_FUNC : 0x02,
      section: 1,
      value: 16 * i,
      size: 16,
    }));
    const object = openObject(programs(code, symbols, text(`\0${names.join('\0')}\0`)));
    const main = object.spec.programs.get('f00000')!;
    expect(main.functions).toHaveLength(depth);
    expect(main.insns.at(-2)!.imm).toBe(-(2 * depth - 1));
  });

  test('names from the object cannot reach into JavaScript', () => {
    const name = '__proto__';
    const file = programs(
      new Uint8Array(EXIT),
      [{ name: 1, info: GLOBAL_FUNC, section: 1, size: 16 }],
      text(`\0${name}\0`),
    );
    const object = openObject(file);
    expect([...object.spec.programs.keys()]).toEqual([name]);
    expect(object.globals.has('constructor')).toBe(false);
    const loaded = object.load({ types: {}, attachTo: {}, maps: {}, mapSpecs: {} });
    expect(loaded.programs.get(name)!.testRun({ dataIn: new Uint8Array(64) }).retval).toBe(0);
    expect(() => object.globals.get('constructor')).toThrow('no global variable constructor');
  });
});
