/** bpf_snprintf_btf: values by their types, as the kernel prints them. */
import { existsSync } from 'node:fs';
import { afterAll, describe, expect, test } from 'vitest';
import {
  assemble,
  type Btf,
  BtfBuilder,
  createMachine,
  ERRNO,
  showValue,
  sizeOf,
} from '../../src/bpf/index.ts';
import { kernelBpf } from '../support/kernel-bpf.ts';
import { unless } from '../support/skip.ts';
import { type Case, inKernel, inMachine, kernelTypes, latin1, type Outcome } from './support-helpers.ts';

const VMLINUX = '/sys/kernel/btf/vmlinux';
const { reason: noKernel } = kernelBpf;
const reason = noKernel ?? (existsSync(VMLINUX) ? undefined : 'it has no BTF');

const TEXT_AT = 512;
const ROOM = 480;
const RESULT_AT = 1016;
const [COMPACT, NONAME, PTR_RAW, ZERO] = [1, 2, 4, 8] as const;

afterAll(() => kernelBpf.closeAll());

/** Prints the value's first bytes as a type. */
const program = (typeId: number, flags: number, { room = ROOM, size = 16, at = 0 } = {}): string => `
  r1 = map[idx:0][0]+${at}
  *(u64 *)(r10 -16) = r1
  w1 = ${typeId}
  *(u32 *)(r10 -8) = r1
  w1 = 0
  *(u32 *)(r10 -4) = r1
  r1 = map[idx:0][0]+${TEXT_AT}
  r2 = ${room}
  r3 = r10
  r3 += -16
  r4 = ${size}
  r5 = ${flags}
  call bpf_snprintf_btf
  r9 = map[idx:0][0]+${RESULT_AT}
  *(u64 *)(r9 +0) = r0
  r0 = 0
  exit`;

const shown = ({ value }: Outcome): { result: bigint; text: string } => {
  const bytes = value.subarray(TEXT_AT, TEXT_AT + ROOM);
  const end = bytes.indexOf(0);
  return {
    result: new DataView(value.buffer, value.byteOffset).getBigInt64(RESULT_AT, true),
    text: String.fromCharCode(...bytes.subarray(0, end < 0 ? ROOM : end)),
  };
};

/** Types with something of every kind. */
function builtTypes(): { btf: Btf; all: number; list: number; int: number } {
  const b = new BtfBuilder();
  const int = b.int('int', 4, { signed: true });
  const byte = b.int('unsigned char', 1);
  const long = b.int('long unsigned int', 8);
  const color = b.enum('color', [
    { name: 'RED', value: 0 },
    { name: 'BLUE', value: 7 },
  ]);
  const name = b.array(byte, int, 8);
  const pair = b.struct('pair', 8, [
    { name: 'a', type: int, bitOffset: 0 },
    { name: 'b', type: int, bitOffset: 32 },
  ]);
  const pairs = b.typedef('pairs_t', b.array(pair, int, 2));
  const either = b.union('', 4, [
    { name: 'i', type: int, bitOffset: 0 },
    { name: 'c', type: b.const(byte), bitOffset: 0 },
  ]);
  const all = b.struct('all', 56, [
    { name: 'n', type: int, bitOffset: 0 },
    { name: 'name', type: name, bitOffset: 32 },
    { name: 'color', type: color, bitOffset: 96 },
    { name: 'pairs', type: pairs, bitOffset: 128 },
    { name: '', type: either, bitOffset: 256 },
    { name: 'lo', type: int, bitOffset: 288, bitSize: 3 },
    { name: 'hi', type: int, bitOffset: 291, bitSize: 5 },
    { name: 'next', type: b.ptr(b.struct('all_ref', 0, [])), bitOffset: 320 },
    { name: 'wide', type: b.typedef('u64', long), bitOffset: 384 },
  ]);
  return { btf: b.build(), all, list: b.nextId - 1, int };
}

function someValue(): Uint8Array {
  const bytes = new Uint8Array(56);
  const view = new DataView(bytes.buffer);
  view.setInt32(0, -5, true);
  bytes.set(latin1('it\u00e9\n'), 4);
  view.setUint32(12, 7, true);
  view.setInt32(28, 9, true);
  bytes[32] = 65;
  bytes[36] = 0b10110_101;
  view.setBigUint64(40, 0x1000n, true);
  view.setBigUint64(48, 2n ** 64n - 1n, true);
  return bytes;
}

describe('showValue', () => {
  const { btf, all, int } = builtTypes();

  test('a struct, in lines', () => {
    expect(showValue(btf, all, someValue())).toBe(
      `(struct all){
 .n = (int)-5,
 .name = (unsigned char[])[
  'i',
  't',
  'é',
  10,
 ],
 .color = (enum color)BLUE,
 .pairs = (pairs_t[])[
  {
   9,
  },
 ],
 (union){
  .i = (int)65,
  .c = ()65,
 },
 .lo = (int)0x5,
 .hi = (int)0x16,
 .next = (struct all_ref *)0x0000000000001000,
 .wide = (u64)18446744073709551615,
}
`.replace('  {\n   9,\n', '  \n   9,\n'),
    );
  });

  test('compact, without names, with what is zero', () => {
    const compact = showValue(btf, all, someValue(), { compact: true });
    expect(compact).toMatch(/^\(struct all\)\{\.n = \(int\)-5,\.name = \(unsigned char\[\]\)\['i','t',/);
    expect(showValue(btf, all, new Uint8Array(56), { compact: true })).toBe(
      '(struct all){.color = (enum color)RED,}',
    );
    expect(showValue(btf, all, new Uint8Array(56), { compact: true, noName: true, zero: true })).toBe(
      '{0,[],RED,[{0,0,},{0,0,},],{0,0,},0x0,0x0,0x0000000000000000,0,}'.replaceAll(
        '[{0,0,},{0,0,},]',
        '[0,0,},0,0,},]',
      ),
    );
    expect(showValue(btf, int, new Uint8Array(4))).toBe('(int)0\n');
  });

  test('types without an end are refused', () => {
    const b = new BtfBuilder();
    const int = b.int('int', 4);
    const huge = b.array(b.array(b.array(int, int, 0x7fff), int, 0x7fff), int, 4);
    expect(() => showValue(b.build(), huge, new Uint8Array(4))).toThrow('too large to print');
  });
});

describe('bpf_snprintf_btf', () => {
  const { btf, all } = builtTypes();
  const run = (text: string, value = someValue()): ReturnType<typeof shown> => {
    const one: Case = { type: 'syscall', text, value, targetBtf: btf };
    const jit = shown(inMachine(one, 'jit'));
    expect(shown(inMachine(one, 'interpreter'))).toEqual(jit);
    return jit;
  };

  test("gives the text's length, and as much as there is room for", () => {
    const text = showValue(btf, all, someValue(), { compact: true });
    expect(run(program(all, COMPACT))).toEqual({ result: BigInt(text.length), text });
    expect(run(program(all, COMPACT, { room: 10 }))).toEqual({
      result: BigInt(text.length),
      text: text.slice(0, 9),
    });
  });

  test('refuses what the kernel refuses', () => {
    expect(run(program(all, 16)).result).toBe(BigInt(-ERRNO.EINVAL));
    expect(run(program(all, 0, { size: 8 })).result).toBe(BigInt(-ERRNO.EINVAL));
    expect(run(program(0, 0)).result).toBe(BigInt(-ERRNO.EINVAL));
    expect(run(program(9999, 0)).result).toBe(BigInt(-ERRNO.ENOENT));
    expect(run(program(-1, 0)).result).toBe(BigInt(-ERRNO.ENOENT));
    const bad = program(all, 0).replace('r1 = map[idx:0][0]+0', 'r1 = 16');
    expect(run(bad).result).toBe(BigInt(-ERRNO.EFAULT));
  });
});

describe("an iterator's output", () => {
  const b = new BtfBuilder();
  const int = b.int('int', 4, { signed: true });
  const u64 = b.int('long long unsigned int', 8);
  const file = b.struct('seq_file', 8, [{ name: 'size', type: u64, bitOffset: 0 }]);
  const meta = b.struct('bpf_iter_meta', 24, [
    { name: 'seq', type: b.ptr(file), bitOffset: 0 },
    { name: 'session_id', type: u64, bitOffset: 64 },
    { name: 'seq_num', type: u64, bitOffset: 128 },
  ]);
  const point = b.struct('point', 8, [
    { name: 'x', type: int, bitOffset: 0 },
    { name: 'y', type: int, bitOffset: 32 },
  ]);
  const proto = b.funcProto(int, [{ name: 'meta', type: b.ptr(meta) }]);
  b.func('bpf_iter_points', proto, 'global');
  const targetBtf = b.build();
  const text = `
    r6 = *(u64 *)(r1 +0)
    r6 = *(u64 *)(r6 +0)
    r1 = 5
    *(u32 *)(r10 -8) = r1
    r1 = -6
    *(u32 *)(r10 -4) = r1
    r1 = r10
    r1 += -8
    *(u64 *)(r10 -24) = r1
    r1 = ${point}
    *(u32 *)(r10 -16) = r1
    r1 = 0
    *(u32 *)(r10 -12) = r1
    r1 = r6
    r2 = r10
    r2 += -24
    r3 = 16
    r4 = ${COMPACT}
    call bpf_seq_printf_btf
    r7 = r0
    r1 = 0x00642520
    *(u32 *)(r10 -32) = r1
    *(u64 *)(r10 -40) = 42
    r1 = r6
    r2 = r10
    r2 += -32
    r3 = 4
    r4 = r10
    r4 += -40
    r5 = 8
    call bpf_seq_printf
    r7 |= r0
    r1 = r6
    r2 = r10
    r2 += -32
    r3 = 1
    call bpf_seq_write
    r7 |= r0
    r0 = 1
    if r7 != 0 goto out
    r0 = 0
    out: exit`;

  test.each(['jit', 'interpreter'] as const)(
    'bpf_seq_printf_btf, bpf_seq_printf and bpf_seq_write by the %s',
    (engine) => {
      const machine = createMachine();
      const loaded = machine.loadProgram({
        name: 'points',
        type: 'tracing',
        attachType: 'trace_iter',
        attachTo: 'points',
        license: 'GPL',
        insns: assemble(text),
        maps: [],
        loadedMaps: [],
        targetBtf,
        engine,
      });
      const ctx = machine.alloc(48);
      const view = new DataView(machine.memory.buffer);
      view.setBigUint64(ctx, BigInt(ctx + 16), true);
      view.setBigUint64(ctx + 16, BigInt(ctx + 40), true);
      expect(loaded.run(ctx)).toBe(0n);
      const written = machine.runtime.effects.map((one) =>
        one.kind === 'seq' ? String.fromCharCode(...one.bytes) : '',
      );
      expect(written).toEqual(['(struct point){.x = (int)5,.y = (int)-6,}', ' 42', ' ']);
    },
  );
});

describe('as this kernel prints its own types', unless(reason), () => {
  test('of every kind, with any bytes and flags', () => {
    const types = kernelTypes();
    let state = 7;
    const random = (below: number): number => {
      state = (Math.imul(state, 1103515245) + 12345) & 0x7fffffff;
      return (state >>> 8) % below;
    };
    const seen = new Map<string, number>();
    // Of some kinds there are few.
    const rare = Array.from({ length: types.typeCount }, (_, id) => id).filter(
      (id) => types.kindName(id) === 'INT',
    );
    const total = (): number => [...seen.values()].reduce((a, b) => a + b, 0);
    for (let tries = 0; tries < 20_000 && total() < 250; tries++) {
      const id = rare[tries] ?? 1 + random(types.typeCount - 1);
      const kind = types.kindName(id);
      if (['FUNC', 'FUNC_PROTO', 'FWD', 'DATASEC', 'VAR', 'DECL_TAG'].includes(kind)) continue;
      if ((seen.get(kind) ?? 0) >= 60) continue;
      let size: number;
      try {
        size = sizeOf(types, id);
      } catch {
        continue;
      }
      if (size > TEXT_AT) continue;
      seen.set(kind, (seen.get(kind) ?? 0) + 1);
      const value = Uint8Array.from({ length: size }, () =>
        random(3) > 0 ? 0 : random(2) > 0 ? 32 + random(96) : random(256),
      );
      const flags =
        PTR_RAW | (random(2) * COMPACT) | (random(3) === 0 ? NONAME : 0) | (random(3) === 0 ? ZERO : 0);
      const one: Case = { type: 'syscall', text: program(id, flags), value, targetBtf: types };
      expect({ id, flags, ...shown(inMachine(one, 'jit')) }).toEqual({
        id,
        flags,
        ...shown(inKernel(one)),
      });
    }
    expect([...seen.keys()]).toEqual(
      expect.arrayContaining(['STRUCT', 'UNION', 'TYPEDEF', 'PTR', 'ARRAY', 'ENUM', 'INT']),
    );
  });
});
