import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { assemble } from '../../src/bpf/asm/assemble.ts';
import { disassemble, printConformanceInsn, printInsn } from '../../src/bpf/asm/disasm.ts';
import { decodeInsns, encodeInsns, type Insn, isLdImm64 } from '../../src/bpf/isa.ts';
import { parseDataFile } from '../conformance/suites.mjs';
import { program } from './random-programs.ts';

const hex = (insns: readonly Insn[]): string => Buffer.from(encodeInsns(insns)).toString('hex');

const suite = path.join(path.dirname(fileURLToPath(import.meta.url)), '../conformance/bpf_conformance');

function conformanceText(insns: readonly Insn[]): string {
  const lines: string[] = [];
  for (let pc = 0; pc < insns.length; pc++) {
    lines.push(printConformanceInsn(insns[pc]!, insns[pc + 1]));
    if (isLdImm64(insns[pc]!)) pc++;
  }
  return lines.join('\n');
}

// RFC 9669 and Linux 6.12, with load-acquire and store-release: fields that an instruction does not use are 0.
const OPERATIONS = [0x0, 0x1, 0x2, 0x3, 0x4, 0x5, 0x6, 0x7, 0x9, 0xa, 0xb, 0xc];
const JUMPS = [0x1, 0x2, 0x3, 0x4, 0x5, 0x6, 0x7, 0xa, 0xb, 0xc, 0xd];
const ALL_CODES = [
  ...[4, 7].flatMap((cls) => OPERATIONS.flatMap((op) => [(op << 4) | cls, (op << 4) | 8 | cls])),
  ...[0x84, 0x87, 0xd4, 0xdc, 0xd7],
  ...[5, 6].flatMap((cls) => [
    0x05 - 5 + cls,
    ...JUMPS.flatMap((op) => [(op << 4) | cls, (op << 4) | 8 | cls]),
  ]),
  ...[0x85, 0x8d, 0x95, 0xe5, 0x18, 0x20, 0x28, 0x30, 0x40, 0x48, 0x50],
  ...[0x61, 0x69, 0x71, 0x79, 0x81, 0x89, 0x91, 0x62, 0x6a, 0x72, 0x7a, 0x63, 0x6b, 0x73, 0x7b],
  ...[0xc3, 0xcb, 0xd3, 0xdb],
].sort((a, b) => a - b);

const register = fc.nat({ max: 10 });
const s16 = fc.integer({ min: -0x8000, max: 0x7fff });
const s32 = fc.integer({ min: -0x80000000, max: 0x7fffffff });
const one = (code: number, dst = 0, src = 0, off = 0, imm = 0): Insn[] => [{ code, dst, src, off, imm }];

/** One instruction, or the two slots of an lddw. */
const validInsn: fc.Arbitrary<Insn[]> = fc
  .tuple(fc.constantFrom(...ALL_CODES), register, register, s16, s32, s32, fc.nat())
  .map(([code, dst, src, off, imm, high, choice]) => {
    const cls = code & 7;
    const isReg = (code & 8) !== 0;
    const pick = (list: readonly number[]): number => list[choice % list.length]!;
    if (cls === 4 || cls === 7) {
      const op = code >> 4;
      if (op === 0xd) return one(code, dst, 0, 0, pick([16, 32, 64]));
      if (op === 0x8) return one(code, dst);
      if (op === 0x3 || op === 0x9) return one(code, dst, isReg ? src : 0, pick([0, 1]), isReg ? 0 : imm);
      if (op === 0xb && isReg) {
        const kind = pick(cls === 7 ? [0, 8, 16, 32, 1, -1] : [0, 8, 16]);
        return one(code, dst, src, kind, kind === 1 ? pick([1, 0x10000, 0x20003]) : 0);
      }
      return one(code, dst, isReg ? src : 0, 0, isReg ? 0 : imm);
    }
    if (cls === 5 || cls === 6) {
      if (code === 0x06) return one(code, 0, 0, 0, imm);
      if (code === 0x05 || code === 0xe5) return one(code, 0, 0, off);
      if (code === 0x95) return one(code);
      if (code === 0x8d) return one(code, dst);
      if (code === 0x85) {
        const kind = pick([0, 1, 2]);
        return one(code, 0, kind, 0, kind === 0 ? imm & 0x7fffffff : imm);
      }
      return one(code, dst, isReg ? src : 0, off, isReg ? 0 : imm);
    }
    if (code === 0x18) {
      const pseudo = pick([0, 1, 2, 3, 4, 5, 6]);
      const hasHigh = pseudo === 0 || pseudo === 2 || pseudo === 3 || pseudo === 6;
      return [...one(code, dst, pseudo, 0, imm), ...one(0, 0, 0, 0, hasHigh ? high : 0)];
    }
    if (cls === 0) return one(code, 0, code >= 0x40 ? src : 0, 0, imm);
    if (cls === 1) return one(code, dst, src, off);
    if (code >= 0xc0) {
      const isNarrow = code === 0xcb || code === 0xd3;
      const ops = [0x100, 0x110, ...(isNarrow ? [] : [0, 0x40, 0x50, 0xa0, 1, 0x41, 0x51, 0xa1, 0xe1, 0xf1])];
      return one(code, dst, src, off, pick(ops));
    }
    return one(code, dst, cls === 3 ? src : 0, off, cls === 2 ? imm : 0);
  });

describe('assembler and disassembler', () => {
  test('instructions as the kernel prints them, both ways', () => {
    const lines: [string, string][] = [
      ['bf16000000000000', 'r6 = r1'],
      ['b700000005000000', 'r0 = 5'],
      ['b4010000ffffffff', 'w1 = -1'],
      ['7b1af8ff00000000', '*(u64 *)(r10 -8) = r1'],
      ['620afcff07000000', '*(u32 *)(r10 -4) = 7'],
      ['7912080000000000', 'r2 = *(u64 *)(r1 +8)'],
      ['9112ffff00000000', 'r2 = *(s8 *)(r1 -1)'],
      ['db21000000000000', 'lock *(u64 *)(r1 +0) += r2'],
      ['c321040040000000', 'lock *(u32 *)(r1 +4) |= r2'],
      ['db21000001000000', 'r2 = atomic64_fetch_add((u64 *)(r1 +0), r2)'],
      ['c3210000e1000000', 'r2 = atomic_xchg((u32 *)(r1 +0), r2)'],
      ['db21f8fff1000000', 'r0 = atomic64_cmpxchg((u64 *)(r1 -8), r0, r2)'],
      ['1501030001000000', 'if r1 == 0x1 goto pc+3'],
      ['ce21fdff00000000', 'if w1 s< w2 goto pc-3'],
      ['4501020008000000', 'if r1 & 0x8 goto pc+2'],
      ['0500ffff00000000', 'goto pc-1'],
      ['0600000070110100', 'gotol pc+70000'],
      ['e500030000000000', 'may_goto pc+3'],
      ['8500000001000000', 'call bpf_map_lookup_elem#1'],
      ['8510000005000000', 'call pc+5'],
      ['8d02000000000000', 'callx r2'],
      ['9500000000000000', 'exit'],
      ['dc01000010000000', 'r1 = be16 r1'],
      ['d401000020000000', 'r1 = le32 r1'],
      ['d701000040000000', 'r1 = bswap64 r1'],
      ['bf12080000000000', 'r2 = (s8)r1'],
      ['bc12100000000000', 'w2 = (s16)w1'],
      ['3f12010000000000', 'r2 s/= r1'],
      ['9401010003000000', 'w1 s%= 3'],
      ['c701000003000000', 'r1 s>>= 3'],
      ['8701000000000000', 'r1 = -r1'],
      ['3000000017000000', 'r0 = *(u8 *)skb[23]'],
      ['4870000004000000', 'r0 = *(u16 *)skb[r7 + 4]'],
      ['18010000ddccbbaa0000000044332211', 'r1 = 0x11223344aabbccdd ll'],
      ['18510000030000000000000000000000', 'r1 = map[idx:3]'],
      ['18110000070000000000000000000000', 'r1 = map[id:7]'],
      ['18210000070000000000000008000000', 'r1 = map[id:7][0]+8'],
      ['18310000050000000000000000000000', 'r1 = btf_id[5]+0'],
      ['bf21010001000000', 'r1 = addr_space_cast(r2, 0, 1)'],
      ['bf21010000000100', 'r1 = addr_space_cast(r2, 1, 0)'],
      ['bf11ffff00000000', 'r1 = &(void __percpu *)(r1)'],
      ['db21f8ff00010000', 'r1 = load_acquire((u64 *)(r2 -8))'],
      ['d321f8ff10010000', 'store_release((u8 *)(r1 -8), r2)'],
      ['50700000fbffffff', 'r0 = *(u8 *)skb[r7 + -5]'],
      ['85000000c3000000', 'call bpf_map_lookup_percpu_elem#195'],
      ['85200000e8030000', 'call kernel-function#1000'],
      ['18610000030000000000000010000000', 'r1 = map[idx:3][0]+16'],
      ['18410000060000000000000000000000', 'r1 = subprog[+6]'],
    ];
    for (const [code, text] of lines) {
      const insns = decodeInsns(Buffer.from(code, 'hex'));
      expect(printInsn(insns[0]!, insns[1])).toBe(text);
      expect(hex(assemble(text)), text).toBe(code);
    }
  });

  test('every valid instruction survives both syntaxes', () => {
    const codes = new Set<number>();
    fc.assert(
      fc.property(fc.array(validInsn, { minLength: 1, maxLength: 20 }), (list) => {
        const insns = list.flat();
        for (const { code } of insns) codes.add(code);
        expect(hex(assemble(disassemble(insns)))).toBe(hex(insns));
        expect(hex(assemble(disassemble(insns, { bpftool: true })))).toBe(hex(insns));
        expect(hex(assemble(conformanceText(insns)))).toBe(hex(insns));
      }),
      { numRuns: 400, seed: 4 },
    );
    // 0x00 is the second slot of an lddw.
    expect([...codes].filter((code) => code !== 0).sort((a, b) => a - b)).toEqual(ALL_CODES);
  });

  test('calls of functions of kernel modules keep their BTF', () => {
    const insns: Insn[] = [0, 1, -3].map((off) => ({ code: 0x85, dst: 0, src: 2, off, imm: 80_843 }));
    expect(insns.map((insn) => printInsn(insn))).toEqual([
      'call kernel-function#80843',
      'call kernel-function#80843@1',
      'call kernel-function#80843@-3',
    ]);
    expect(hex(assemble(disassemble(insns)))).toBe(hex(insns));
    expect(hex(assemble(conformanceText(insns)))).toBe(hex(insns));
    expect(() => assemble('call kernel-function#1@99999')).toThrow('99999 does not fit in 16 bits');
  });

  test('as bpftool prints', () => {
    const insns = assemble('r1 = 0x11223344aabbccdd ll\nr0 = 0\nexit');
    expect(disassemble(insns, { bpftool: true }).split('\n')).toEqual([
      '   0: (18) r1 = 0x11223344aabbccdd',
      '   2: (b7) r0 = 0',
      '   3: (95) exit',
    ]);
  });

  test('random programs survive both syntaxes', () => {
    fc.assert(
      fc.property(program, (insns) => {
        expect(hex(assemble(disassemble(insns)))).toBe(hex(insns));
        expect(hex(assemble(conformanceText(insns)))).toBe(hex(insns));
      }),
      { numRuns: 100, seed: 3 },
    );
  });

  test('every program of the conformance suite survives both syntaxes', () => {
    let count = 0;
    for (const file of readdirSync(suite)) {
      if (!file.endsWith('.data')) continue;
      const insns = assemble(parseDataFile(readFileSync(path.join(suite, file), 'utf8')).get('asm')!);
      expect(hex(assemble(disassemble(insns))), file).toBe(hex(insns));
      expect(hex(assemble(conformanceText(insns))), file).toBe(hex(insns));
      count++;
    }
    expect(count).toBe(313);
  });

  test('labels, comments, and the default label of the first exit', () => {
    expect(
      hex(
        assemble(`
          r0 = 0            # nothing yet
          if r1 == 0 goto exit
          loop: r0 += 1     ; with a label
          r1 -= 1 // down
          if r1 != 0 goto loop
          exit
        `),
      ),
    ).toBe(hex(assemble('r0 = 0\nif r1 == 0 goto +3\nr0 += 1\nr1 -= 1\nif r1 != 0 goto -3\nexit')));
  });

  test.each([
    ['exit\nmov %r11, 1', 'line 2: %r11 is not a register'],
    ['r1 = 0x100000000', 'line 1: 0x100000000 does not fit in 32 bits'],
    ['goto nowhere', 'line 1: label nowhere is nowhere'],
    ['a: exit\na: exit', 'line 2: label a is there twice'],
    ['ldxw %r1, [%r2+40000]', 'line 1: offset +40000 does not fit in 16 bits'],
    ['r1 += w2', 'line 1: r1 and w2 are not of one size'],
    ['mov %r1', 'line 1: 2 operands expected, not 1'],
    ['frobnicate', 'line 1: unknown instruction frobnicate'],
  ])('%j is refused with its line', (text, message) => {
    expect(() => assemble(text)).toThrow(message);
  });
});
