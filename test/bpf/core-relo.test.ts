import { describe, expect, test } from 'vitest';
import { type Btf, BtfBuilder, parseBtf, parseBtfExt } from '../../src/bpf/btf/index.ts';
import { applyCoreRelocations, CoreReloError, POISON_HELPER } from '../../src/bpf/core-relo/index.ts';
import { assemble, decodeInsns, disassemble, type Insn } from '../../src/bpf/index.ts';
import { fixture } from './support-elf-sections.ts';

const KINDS = {
  byteOffset: 0,
  byteSize: 1,
  exists: 2,
  signed: 3,
  lshift: 4,
  rshift: 5,
  typeIdLocal: 6,
  typeIdTarget: 7,
  typeExists: 8,
  typeSize: 9,
  enumExists: 10,
  enumValue: 11,
  typeMatches: 12,
};

function btfOf(make: (b: BtfBuilder) => void): Btf {
  const builder = new BtfBuilder();
  make(builder);
  return builder.build();
}

/** Applies one relocation to the first instruction of a program; returns its text afterwards. */
function relocate(
  code: string | Insn[],
  local: Btf,
  target: Btf,
  type: string,
  accessString: string,
  kind: keyof typeof KINDS,
) {
  const insns = typeof code === 'string' ? assemble(code) : code;
  const relo = { insnOff: 0, typeId: local.byName(type)!, accessStrOff: 0, kind: KINDS[kind], accessString };
  const { insns: patched, report } = applyCoreRelocations(insns, [relo], local, target, { program: 'p' });
  expect(report).toHaveLength(1);
  return {
    text: disassemble(patched).split('\n')[0]!.trim(),
    insn: patched[0]!,
    report: report[0]!,
    patched,
  };
}

const S = { signed: true };
const local = btfOf((b) => {
  const int = b.int('int', 4, S);
  const u64 = b.int('unsigned long long', 8);
  const u8 = b.int('unsigned char', 1);
  const u32 = b.int('unsigned int', 4);
  const ptr = b.ptr(0);
  const index = b.int('index', 4);
  const array = b.array(int, index, 4);
  const flexible = b.array(int, index, 0);
  const inner = b.struct('', 8, [
    { name: 'x', type: int, bitOffset: 0 },
    { name: 'y', type: int, bitOffset: 32 },
  ]);
  b.struct('s', 64, [
    { name: 'a', type: int, bitOffset: 0 },
    { name: 'b', type: u64, bitOffset: 64 },
    { name: '', type: inner, bitOffset: 128 },
    { name: 'arr', type: array, bitOffset: 192 },
    { name: 'p', type: ptr, bitOffset: 320 },
    { name: 'bits', type: u32, bitOffset: 384, bitSize: 3 },
    { name: 'flag', type: u8, bitOffset: 448 },
    { name: 'flex', type: flexible, bitOffset: 512 },
  ]);
  b.enum('e', [
    { name: 'ONE', value: 1 },
    { name: 'TWO', value: 2 },
  ]);
  b.typedef('word', u32);
  b.struct('twice', 8, [{ name: 'v', type: u64, bitOffset: 0 }]);
});

/** The same struct, laid out otherwise: x and y in two anonymous levels, b narrower, a as wide as a long. */
const target = btfOf((b) => {
  const int = b.int('int', 4, S);
  const u16 = b.int('unsigned short', 2);
  const s64 = b.int('long', 8, S);
  const u8 = b.int('unsigned char', 1);
  const ptr = b.ptr(int);
  const index = b.int('index', 4);
  const array = b.array(b.typedef('element', int), index, 3);
  const flexible = b.array(int, index, 0);
  const deepest = b.struct('', 4, [{ name: 'y', type: int, bitOffset: 0 }]);
  const deeper = b.union('', 8, [
    { name: 'x', type: int, bitOffset: 0 },
    { name: '', type: deepest, bitOffset: 0 },
  ]);
  b.struct('s', 100, [
    { name: 'b', type: u16, bitOffset: 0 },
    { name: '', type: deeper, bitOffset: 32 },
    { name: 'a', type: s64, bitOffset: 128 },
    { name: 'arr', type: array, bitOffset: 256 },
    { name: 'p', type: ptr, bitOffset: 384 },
    { name: 'bits', type: u8, bitOffset: 455, bitSize: 2 },
    { name: 'flag', type: array, bitOffset: 512 },
    { name: 'flex', type: flexible, bitOffset: 800 },
  ]);
  b.enum64('e___other', [
    { name: 'TWO', value: 0x1_0000_0002n },
    { name: 'ONE___x', value: -1n },
  ]);
  b.typedef('word', u16);
  b.struct('twice___a', 8, [{ name: 'v', type: s64, bitOffset: 0 }]);
  b.struct('twice___b', 16, [{ name: 'v', type: s64, bitOffset: 64 }]);
});

describe('fields', () => {
  const field = (code: string, access: string, kind: keyof typeof KINDS) =>
    relocate(code, local, target, 's', access, kind).text;

  test('an offset, through anonymous members of the target and of the object', () => {
    expect(field('r1 = *(u32 *)(r2 +16)', '0:2:0', 'byteOffset')).toContain('*(u32 *)(r2 +4)');
    expect(field('r1 = *(u32 *)(r2 +20)', '0:2:1', 'byteOffset')).toContain('*(u32 *)(r2 +4)');
    expect(field('r1 += 20', '0:2:1', 'byteOffset')).toContain('r1 += 4');
    expect(field('r1 = 20 ll', '0:2:1', 'byteOffset')).toContain('r1 = 0x4');
    expect(field('*(u32 *)(r2 +20) = r1', '0:2:1', 'byteOffset')).toContain('*(u32 *)(r2 +4) = r1');
    expect(field('*(u32 *)(r2 +20) = 7', '0:2:1', 'byteOffset')).toContain('*(u32 *)(r2 +4) = 7');
  });

  test('the report shows both accesses', () => {
    const { report } = relocate('r1 += 20', local, target, 's', '0:2:1', 'byteOffset');
    expect(report).toMatchObject({
      insn: 0,
      kind: 'byte_off',
      outcome: 'patched',
      origValue: 20n,
      newValue: 4n,
      local: '<byte_off> [10] struct s.y (0:2:1 @ offset 20)',
      target: '<byte_off> [12] struct s.y (0:1:1:0 @ offset 4)',
    });
  });

  test('an index of the root and of arrays, flexible ones too', () => {
    expect(field('r1 += 64', '1', 'byteOffset')).toContain('r1 += 100');
    expect(field('r1 += 88', '1:3:0', 'byteOffset')).toContain('r1 += 132');
    expect(field('r1 += 32', '0:3:2', 'byteOffset')).toContain('r1 += 40');
    expect(field('r1 += 84', '0:7:5', 'byteOffset')).toContain('r1 += 120');
    // One past the target's last element: there is none.
    expect(field('r1 = 1', '0:3:3', 'exists')).toContain('r1 = 0');
    expect(relocate('r1 += 36', local, target, 's', '0:3:3', 'byteOffset').report.outcome).toBe('poisoned');
  });

  test('a load becomes as wide as an unsigned field or a pointer is', () => {
    expect(field('r1 = *(u64 *)(r2 +8)', '0:1', 'byteOffset')).toContain('r1 = *(u16 *)(r2 +0)');
    expect(field('*(u64 *)(r2 +8) = r1', '0:1', 'byteOffset')).toContain('*(u16 *)(r2 +0) = r1');
    expect(field('r1 = *(u64 *)(r2 +40)', '0:4', 'byteOffset')).toContain('r1 = *(u64 *)(r2 +48)');
  });

  test('a load of a signed field of another width is poisoned, its address is not', () => {
    const { insn, report } = relocate('r1 = *(u32 *)(r2 +0)', local, target, 's', '0:0', 'byteOffset');
    expect(report.outcome).toBe('poisoned');
    expect(insn).toEqual({ code: 0x85, dst: 0, src: 0, off: 0, imm: POISON_HELPER });
    expect(POISON_HELPER).toBe(195896080);
    expect(field('r1 += 0', '0:0', 'byteOffset')).toContain('r1 += 16');
  });

  test('size, sign, existence', () => {
    expect(field('r1 = 8', '0:1', 'byteSize')).toContain('r1 = 2');
    expect(field('r1 = 1', '0:0', 'signed')).toContain('r1 = 1');
    expect(field('r1 = 0', '0:1', 'signed')).toContain('r1 = 0');
    expect(field('r1 = 1', '0:1', 'exists')).toContain('r1 = 1');
    // Another kind of type under the same name is another field.
    expect(field('r1 = 1', '0:6', 'exists')).toContain('r1 = 0');
    expect(relocate('r1 = 1', local, target, 's', '0:6', 'byteSize').report.outcome).toBe('poisoned');
  });

  test('bitfields: what the bits need is loaded, whatever the compiler thought', () => {
    // 2 bits at 455 straddle bytes 56 and 57: a 2-byte load at 56, shifted up by 64 - 9 and down by 62.
    expect(field('r1 = 48', '0:5', 'byteOffset')).toContain('r1 = 56');
    expect(field('r1 = 99', '0:5', 'byteSize')).toContain('r1 = 2');
    expect(field('r1 = 99', '0:5', 'lshift')).toContain('r1 = 55');
    expect(field('r1 = 61', '0:5', 'rshift')).toContain('r1 = 62');
  });

  test('a poisoned 64-bit load is poisoned whole', () => {
    const { patched } = relocate('r1 = 36 ll', local, target, 's', '0:3:3', 'byteOffset');
    expect(patched.map(({ code, imm }) => [code, imm])).toEqual([
      [0x85, POISON_HELPER],
      [0x85, POISON_HELPER],
    ]);
  });
});

describe('types', () => {
  const type = (name: string, code: string, kind: keyof typeof KINDS) =>
    relocate(code, local, target, name, '0', kind).text;

  test('ids, size, existence', () => {
    expect(type('s', 'r1 = 99 ll', 'typeIdTarget')).toContain(`r1 = 0x${target.byName('s')!.toString(16)}`);
    expect(type('s', 'r1 = 99 ll', 'typeIdLocal')).toContain(`r1 = 0x${local.byName('s')!.toString(16)}`);
    expect(type('s', 'r1 = 64', 'typeSize')).toContain('r1 = 100');
    expect(type('s', 'r1 = 1', 'typeExists')).toContain('r1 = 1');
    expect(type('word', 'r1 = 1', 'typeExists')).toContain('r1 = 1');
    // A typedef is not looked for under the name of a struct.
    const other = btfOf((b) => b.typedef('s', b.int('int', 4, S)));
    expect(relocate('r1 = 1', local, other, 's', '0', 'typeExists').text).toContain('r1 = 0');
    expect(relocate('r1 = 64', local, other, 's', '0', 'typeSize').text).toContain('r1 = 0');
  });

  test('a match is strict: members by name, integers by size and sign, behind pointers names only', () => {
    const make = (width: number, signed: boolean, pointee: string, extra: boolean) =>
      btfOf((b) => {
        const int = b.int(signed ? 'int' : 'unsigned', width, { signed });
        const ptr = b.ptr(b.struct(pointee, 4, [{ name: extra ? 'q' : 'r', type: int, bitOffset: 0 }]));
        const members = [
          { name: 'v', type: int, bitOffset: 0 },
          { name: 'p', type: ptr, bitOffset: 64 },
        ];
        if (extra) members.push({ name: 'more', type: int, bitOffset: 128 });
        b.struct('m', 24, members);
      });
    const matches = (a: Btf, b: Btf) =>
      relocate('r1 = 1', a, b, 'm', '0', 'typeMatches').text.includes('r1 = 1');
    const one = make(4, true, 'other', false);
    expect(matches(one, make(4, true, 'other', false))).toBe(true);
    expect(matches(one, make(4, true, 'other', true))).toBe(true);
    expect(matches(make(4, true, 'other', true), one)).toBe(false);
    expect(matches(one, make(8, true, 'other', false))).toBe(false);
    expect(matches(one, make(4, false, 'other', false))).toBe(false);
    expect(matches(one, make(4, true, 'another', false))).toBe(false);
    expect(matches(one, make(4, true, 'other___flavour', false))).toBe(true);
  });
});

test("a module's types count where the kernel has none of that name", () => {
  const module = (struct: string): Btf => {
    const b = new BtfBuilder(target);
    b.struct(struct, 32, [{ name: 'v', type: target.byName('long')!, bitOffset: 128 }]);
    return b.build();
  };
  const own = btfOf((b) => {
    const u64 = b.int('unsigned long long', 8);
    b.struct('s', 8, [{ name: 'v', type: u64, bitOffset: 0 }]);
    b.struct('only', 8, [{ name: 'v', type: u64, bitOffset: 0 }]);
  });
  expect(relocate('r1 = 1', own, module('s'), 's', '0:0', 'exists').text).toContain('r1 = 0');
  expect(relocate('r1 += 0', own, module('only'), 'only', '0:0', 'byteOffset').text).toContain('r1 += 16');
});

test('enumerators: by name without the flavour, of 32 or 64 bits', () => {
  expect(relocate('r1 = 2 ll', local, target, 'e', '1', 'enumValue').text).toContain('r1 = 0x100000002');
  expect(relocate('r1 = 1 ll', local, target, 'e', '0', 'enumValue').text).toContain(
    'r1 = 0xffffffffffffffff',
  );
  expect(relocate('r1 = 1', local, target, 'e', '0', 'enumExists').text).toContain('r1 = 1');
  const empty = btfOf((b) => b.enum('e', [{ name: 'THREE', value: 3 }]));
  expect(relocate('r1 = 1', local, empty, 'e', '0', 'enumExists').text).toContain('r1 = 0');
  expect(relocate('r1 = 1 ll', local, empty, 'e', '0', 'enumValue').report.outcome).toBe('poisoned');
});

describe('refusals, each naming program, relocation and instruction', () => {
  const refuse = (
    message: string | RegExp,
    code: string,
    type: string,
    access: string,
    kind: keyof typeof KINDS,
    against = target,
  ) => {
    const run = () => relocate(code, local, against, type, access, kind);
    expect(run).toThrow(CoreReloError);
    expect(run).toThrow(message);
    expect(run).toThrow("prog 'p': relo #0 at insn #0: ");
  };

  test('two candidates that disagree', () => {
    refuse('field offset ambiguity: 64 != 0', 'r1 += 0', 'twice', '0:0', 'byteOffset');
    refuse('relocation decision ambiguity: success 16 != success 8', 'r1 = 8', 'twice', '0', 'typeSize');
    // Wherever they disagree on the offset, whatever is asked, as libbpf does it.
    refuse('field offset ambiguity', 'r1 = 8', 'twice', '0:0', 'byteSize');
    expect(relocate('r1 = 1', local, target, 'twice', '0', 'typeExists').text).toContain('r1 = 1');
  });

  test('an instruction that does not hold what the compiler would have written', () => {
    refuse(
      'unexpected insn #0 (ALU/ALU64) value: got 21, exp 20 -> 4',
      'r1 += 21',
      's',
      '0:2:1',
      'byteOffset',
    );
    refuse('(LDX/ST/STX) value: got 0', 'r1 = *(u32 *)(r2 +0)', 's', '0:2:1', 'byteOffset');
    refuse('(LDIMM64) value: got 3', 'r1 = 3 ll', 's', '0:2:1', 'byteOffset');
    refuse('has no immediate', 'r1 += r2', 's', '0:2:1', 'byteOffset');
    refuse('unrecognized insn #0, code:0x95', 'exit', 's', '0:2:1', 'byteOffset');
    refuse('unexpected mem size: got 4, exp 8', 'r1 = *(u32 *)(r2 +8)', 's', '0:1', 'byteOffset');
  });

  test('access strings that say nothing', () => {
    refuse("access string '0:99'", 'r1 += 0', 's', '0:99', 'byteOffset');
    refuse("access string ''", 'r1 += 0', 's', '', 'byteOffset');
    refuse("access string '0:x'", 'r1 += 0', 's', '0:x', 'byteOffset');
    refuse('index 4 is past', 'r1 += 0', 's', '0:3:4', 'byteOffset');
    refuse('neither members nor elements', 'r1 += 0', 's', '0:0:1', 'byteOffset');
    refuse('more than 64', 'r1 += 0', 's', Array(65).fill('0').join(':'), 'byteOffset');
    refuse('is no enumerator', 'r1 = 0', 'e', '7', 'enumValue');
    refuse('cannot be applied to an array element', 'r1 = 1', 's', '0:3:1', 'signed');
  });

  test('types and instructions that are not there', () => {
    const relo = { insnOff: 0, typeId: 999, accessStrOff: 0, kind: 0, accessString: '0:0' };
    const insns = assemble('r1 += 0');
    expect(() => applyCoreRelocations(insns, [relo], local, target)).toThrow('there is no type [999]');
    const there = { ...relo, typeId: local.byName('s')! };
    for (const insnOff of [8, 4, -8, 2 ** 32]) {
      expect(() => applyCoreRelocations(insns, [{ ...there, insnOff }], local, target)).toThrow('outside');
    }
    expect(() => applyCoreRelocations(insns, [{ ...there, kind: 13 }], local, target)).toThrow(
      'unrecognized',
    );
  });

  test('an offset that no instruction can hold', () => {
    const far = btfOf((b) => {
      const u64 = b.int('unsigned long long', 8);
      b.struct('s', 0x20000, [{ name: 'b', type: u64, bitOffset: 0x10000 * 8 }]);
    });
    refuse('value too big: 65536', 'r1 = *(u64 *)(r2 +8)', 's', '0:1', 'byteOffset', far);
    expect(relocate('r1 += 8', local, far, 's', '0:1', 'byteOffset').text).toContain('r1 += 65536');
  });

  test('types that are compared for ever', () => {
    const knot = btfOf((b) => {
      const levels = 31;
      for (let i = 0; i < levels; i++) {
        const members = Array.from({ length: 8 }, (_, m) => ({ name: '', type: i + 2, bitOffset: m }));
        b.struct(i === 0 ? 's' : '', 8, members);
      }
      b.struct('', 4, []);
    });
    refuse('takes too long', 'r1 = 1', 's', '0:0', 'exists', knot);
  });
});

describe.each(['core-14.o', 'core-19.o'])('%s against core-target.c, laid out otherwise', (file) => {
  const sections = fixture(file);
  const btf = parseBtf(sections.get('.BTF')!.bytes);
  const ext = parseBtfExt(sections.get('.BTF.ext')!.bytes, btf);
  const kernel = parseBtf(fixture('core-target-19.o').get('.BTF')!.bytes);

  /** What each `o[i] = …` of a section stores: the constant that its register was set to last. */
  function stores(section: string): Map<number, bigint> {
    const insns = decodeInsns(sections.get(section)!.bytes);
    const { insns: patched } = applyCoreRelocations(insns, ext.coreRelos.get(section)!, btf, kernel);
    const registers = new Map<number, bigint>();
    const values = new Map<number, bigint>();
    for (let at = 0; at < patched.length; at++) {
      const insn = patched[at]!;
      if (insn.code === 0xb7 || insn.code === 0xb4) registers.set(insn.dst, BigInt(insn.imm));
      if (insn.code === 0x7b) values.set(insn.off / 8, registers.get(insn.src)!);
      if (insn.code === 0x18) {
        const high = patched[++at]!;
        registers.set(insn.dst, (BigInt(high.imm >>> 0) << 32n) | BigInt(insn.imm >>> 0));
      }
    }
    return values;
  }

  test('the value of every relocation', () => {
    const id = (name: string) => kernel.byName(name, 'STRUCT')!;
    const expected: Record<number, number> = {
      ...{ 0: 180, 1: 32, 2: 107, 3: 1, 4: 0, 5: 1, 6: 1, 7: 168, 8: 55, 9: 62, 10: 136, 11: 4 },
      ...{ 12: 60, 13: 60, 14: 4, 15: 63, 16: 0, 17: 20, 18: 0, 19: 0 },
      ...{ 20: 1, 21: 184, 22: 0, 23: 0, 24: 1, 25: 16 },
      ...(file === 'core-19.o' ? { 26: 1, 27: 0, 28: 1, 29: 1 } : {}),
      ...{ 30: btf.byName('task_struct', 'STRUCT')!, 31: id('sk_buff'), 32: 0 },
      ...{ 33: 1, 34: 5, 35: 0, 36: 27, 37: 1 },
    };
    const values = stores('socket');
    expect(Object.fromEntries([...values].map(([index, value]) => [index, Number(value)]))).toEqual(expected);
  });

  test('loads: offsets of the target, and narrower where its field is', () => {
    const insns = decodeInsns(sections.get('tc')!.bytes);
    const { insns: patched } = applyCoreRelocations(insns, ext.coreRelos.get('tc')!, btf, kernel);
    const loads = patched.filter(({ code }) => (code & 7) === 1).map(({ code, off }) => [code & 0x18, off]);
    // pid, comm[5], parent, its tgid, children.next, exit_code; pid.level is a u64 in the object, a u32 in the target.
    expect(loads).toEqual([
      [0, 180],
      [0x10, 109],
      [0x18, 144],
      [0, 176],
      [0x18, 160],
      [0, 100],
      [0, 4],
    ]);
  });
});
