import { describe, expect, test } from 'vitest';
import { ProgramBuilder, R0, R1, R2, R10 } from '../../src/bpf/builder.ts';
import * as isa from '../../src/bpf/isa.ts';
import { decodeInsns, encodeInsns, jumpOffset, ldImm64Value, sizeBytes } from '../../src/bpf/isa.ts';

const hex = (b: ProgramBuilder): string => Buffer.from(encodeInsns(b.build())).toString('hex');

describe('instructions', () => {
  test('encode and decode every field, signs included', () => {
    const insn = { code: 0x7b, dst: 10, src: 9, off: -32768, imm: -0x80000000 };
    const bytes = encodeInsns([insn]);
    expect(Buffer.from(bytes).toString('hex')).toBe('7b9a008000000080');
    expect(decodeInsns(bytes)).toEqual([insn]);
    expect(decodeInsns(Uint8Array.of(1, ...bytes).subarray(1))).toEqual([insn]);
    expect(() => decodeInsns(bytes.subarray(1))).toThrow(expect.objectContaining({ code: 'EINVAL' }));
  });

  test('sizes, jump distances, 64-bit immediates', () => {
    expect(
      [isa.BPF_B, isa.BPF_H, isa.BPF_W, isa.BPF_DW].map((size) => sizeBytes(isa.BPF_LDX | size)),
    ).toEqual([1, 2, 4, 8]);
    expect(jumpOffset({ code: 0x05, dst: 0, src: 0, off: -3, imm: 9 })).toBe(-3);
    expect(jumpOffset({ code: 0x06, dst: 0, src: 0, off: 0, imm: 70000 })).toBe(70000);
    const [low, high] = new ProgramBuilder().lddw(R0, 0xfedc_ba98_7654_3210n).build();
    expect(ldImm64Value(low!, high!)).toBe(0xfedc_ba98_7654_3210n);
  });
});

describe('ProgramBuilder', () => {
  test('resolves labels forwards and backwards, over two-slot instructions', () => {
    const b = new ProgramBuilder()
      .label('top')
      .jcond('==', R1, 7, 'end')
      .lddw(R2, -1n)
      .jump('top')
      .label('end')
      .exit();
    expect(hex(b)).toBe(
      '1501030007000000' + '18020000ffffffff00000000ffffffff' + '0500fcff00000000' + '9500000000000000',
    );
  });

  test('takes a long jump as gotol', () => {
    const b = new ProgramBuilder().jump('end');
    for (let n = 0; n < 40_000; n++) b.mov(R0, 0);
    const [first] = b.label('end').exit().build();
    expect(first).toMatchObject({ code: 0x06, imm: 40_000, off: 0 });
  });

  test('loads what does not fit in 32 bits by lddw, and refuses what would change its sign silently', () => {
    expect(new ProgramBuilder().mov(R0, 0x80000000).build()).toHaveLength(2);
    expect(new ProgramBuilder().mov32(R0, 0xffffffff).build()[0]!.imm).toBe(-1);
    expect(() => new ProgramBuilder().add(R0, 0x80000000)).toThrow('would be sign-extended');
    expect(() => new ProgramBuilder().jcond('>', R0, 0xffffffff, 'x')).toThrow('would be sign-extended');
    expect(() => new ProgramBuilder().st(4, R10, -4, 2 ** 33)).toThrow('does not fit in 32 bits');
    expect(() => new ProgramBuilder().ldx(4, R0, R10, 40_000)).toThrow('does not fit in 16 bits');
    expect(() => new ProgramBuilder().lddw(R0, 2 ** 60)).toThrow('not an exact integer');
  });

  test('refuses labels that are missing, placed twice, or too far for a condition', () => {
    expect(() => new ProgramBuilder().jump('x').build()).toThrow('label x is nowhere');
    expect(() => new ProgramBuilder().label('x').label('x')).toThrow('label x is placed twice');
    const far = new ProgramBuilder().jcond('==', R0, 0, 'end');
    for (let n = 0; n < 40_000; n++) far.mov(R0, 0);
    expect(() => far.label('end').exit().build()).toThrow('too far away');
  });
});
