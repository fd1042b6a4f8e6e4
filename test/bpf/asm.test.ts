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
      ['4870000004000000', 'r0 = *(u16 *)skb[r7 +4]'],
      ['18010000ddccbbaa0000000044332211', 'r1 = 0x11223344aabbccdd ll'],
      ['18510000030000000000000000000000', 'r1 = map[idx:3]'],
      ['18610000030000000000000010000000', 'r1 = map[idx:3][0]+16'],
      ['18410000060000000000000000000000', 'r1 = subprog[+6]'],
    ];
    for (const [code, text] of lines) {
      const insns = decodeInsns(Buffer.from(code, 'hex'));
      expect(printInsn(insns[0]!, insns[1])).toBe(text);
      expect(hex(assemble(text)), text).toBe(code);
    }
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
