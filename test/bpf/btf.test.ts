import { existsSync, readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import {
  alignOf,
  type Btf,
  BtfError,
  parseBtf,
  parseBtfExt,
  resolveType,
  sizeOf,
} from '../../src/bpf/btf/index.ts';
import { unless } from '../support/skip.ts';
import { fixture } from './support-elf-sections.ts';

const read = (name: string): Btf => parseBtf(fixture(name).get('.BTF')!.bytes);
const VMLINUX = '/sys/kernel/btf/vmlinux';

describe.each(['kinds-14.o', 'kinds-19.o', 'kinds-19eb.o'])('BTF of %s', (file) => {
  const btf = read(file);
  const member = (struct: string, name: string) => {
    const found = btf.members(btf.byName(struct, 'STRUCT')!).find((one) => one.name === name)!;
    return { ...found, kind: btf.kindName(found.type) };
  };

  test('structs, bitfields and packed members are where the compiler put them', () => {
    expect(btf.type(btf.byName('bits', 'STRUCT')!)).toMatchObject({ kind: 'STRUCT', name: 'bits', size: 8 });
    const big = !btf.littleEndian;
    expect(
      btf.members(btf.byName('bits')!).map(({ name, bitOffset, bitSize }) => [name, bitOffset, bitSize]),
    ).toEqual([
      ['a', 0, 3],
      ['b', 3, 5],
      ['c', 8, 40],
      ['d', 48, 0],
    ]);
    expect(big).toBe(file.includes('eb'));
    expect(btf.members(btf.byName('packed')!).map(({ bitOffset }) => bitOffset)).toEqual([0, 8, 72]);
    expect(sizeOf(btf, btf.byName('packed')!)).toBe(13);
    expect(alignOf(btf, btf.byName('packed')!)).toBe(1);
    expect(alignOf(btf, btf.byName('sample')!)).toBe(8);
  });

  test('pointers, arrays, functions, qualifiers', () => {
    const cv = btf.type(member('sample', 'cv').type);
    expect(cv.kind).toBe('CONST');
    expect(btf.type(resolveType(btf, cv.id))).toMatchObject({
      kind: 'INT',
      name: 'int',
      size: 4,
      signed: true,
      bits: 32,
    });
    expect(btf.type(member('sample', 'matrix').type)).toMatchObject({ kind: 'ARRAY', nelems: 2 });
    expect(sizeOf(btf, member('sample', 'matrix').type)).toBe(24);
    expect(member('sample', 'matrix').bitOffset % 32).toBe(0);
    const callback = btf.type(resolveType(btf, btf.byName('callback_t', 'TYPEDEF')!));
    if (callback.kind !== 'PTR') throw new Error(callback.kind);
    const proto = btf.type(callback.type);
    if (proto.kind !== 'FUNC_PROTO') throw new Error(proto.kind);
    expect(proto.params.map(({ type }) => btf.kindName(type))).toEqual(['PTR', 'PTR', 'UNKN']);
    expect(btf.type(btf.byName('opaque')!)).toMatchObject({ kind: 'FWD', union: false });
    expect(btf.type(btf.byName('either')!)).toMatchObject({ kind: 'FWD', union: true });
    expect(member('sample', 'real')).toMatchObject({ kind: 'FLOAT' });
    expect(btf.type(btf.byName('_Bool')!)).toMatchObject({ kind: 'INT', bool: true, size: 1 });
  });

  test('enums', () => {
    expect(btf.type(btf.byName('color')!)).toMatchObject({
      kind: 'ENUM',
      values: [
        { name: 'RED', value: 0n },
        { name: 'GREEN', value: 5n },
        { name: 'BLUE', value: 0x7fffffffn },
      ],
    });
    if (file === 'kinds-14.o') return; // before LLVM 15 there was neither ENUM64 nor the sign of an enum
    expect(btf.type(btf.byName('signed_enum')!)).toMatchObject({
      signed: true,
      values: [{ value: -3n }, { value: 0n }],
    });
    expect(btf.type(btf.byName('big')!)).toMatchObject({
      kind: 'ENUM64',
      size: 8,
      signed: false,
      values: [{ value: 1n }, { value: 0x100000000n }, { value: 0xffffffffffffffffn }],
    });
  });

  test('variables, sections, functions and tags', () => {
    const maps = btf.type(btf.byName('.maps', 'DATASEC')!);
    if (maps.kind !== 'DATASEC') throw new Error(maps.kind);
    expect(maps.vars.map(({ type }) => btf.name(type))).toEqual(['samples']);
    expect(btf.type(btf.byName('counter', 'VAR')!)).toMatchObject({ linkage: 'global' });
    expect(btf.type(btf.byName('hidden', 'VAR')!)).toMatchObject({ linkage: 'static' });
    expect(btf.type(btf.byName('outside', 'VAR')!)).toMatchObject({ linkage: 'extern' });
    expect(btf.type(btf.byName('program', 'FUNC')!)).toMatchObject({ linkage: 'global' });
    expect(btf.type(btf.byName('helper', 'FUNC')!)).toMatchObject({ linkage: 'static' });
    const tags = [...btf.types].filter((type) => type.kind === 'DECL_TAG');
    expect(tags.map((tag) => [tag.name, btf.name(tag.type), tag.componentIndex]).sort()).toEqual([
      ['checked', 'bits', -1],
      ['checked', 'packed', 2],
    ]);
  });

  test('.BTF.ext: which function and which line an instruction belongs to', () => {
    const ext = parseBtfExt(fixture(file).get('.BTF.ext')!.bytes, btf);
    expect([...ext.funcInfo.keys()].sort()).toEqual(['.text', 'socket']);
    expect(ext.funcInfo.get('socket')!.map(({ insnOff, typeId }) => [insnOff, btf.name(typeId)])).toEqual([
      [0, 'program'],
    ]);
    const lines = ext.lineInfo.get('socket')!;
    expect(lines.length).toBeGreaterThan(2);
    expect(lines.every(({ fileName }) => fileName.endsWith('kinds.c'))).toBe(true);
    const source = readFileSync(new URL('./fixtures/btf/kinds.c', import.meta.url), 'utf8').split('\n');
    for (const { line, text } of lines) if (line > 0) expect(text).toBe(source[line - 1]);
  });
});

test('the same source gives the same types from either byte order', () => {
  const plain = (btf: Btf) => JSON.stringify([...btf.types], (_, v) => (typeof v === 'bigint' ? `${v}` : v));
  expect(plain(read('kinds-19eb.o'))).toBe(plain(read('kinds-19.o')));
});

describe(
  "the running kernel's BTF",
  unless(existsSync(VMLINUX) ? undefined : 'the kernel has no BTF'),
  () => {
    test('parses, and finds types by name', () => {
      const btf = parseBtf(new Uint8Array(readFileSync(VMLINUX)));
      const task = btf.byName('task_struct', 'STRUCT')!;
      expect(sizeOf(btf, task)).toBeGreaterThan(1000);
      const pid = btf.members(task).find(({ name }) => name === 'pid')!;
      expect(btf.type(resolveType(btf, pid.type))).toMatchObject({ kind: 'INT', size: 4, signed: true });
      expect([...btf.allByEssentialName('task_struct___flavour')]).toContain(task);
    });
  },
);

test('ids that are not there have no name, no type and no size', () => {
  const btf = read('kinds-19.o');
  for (const id of [btf.typeCount, -1, 0.5, Number.NaN, 2 ** 32]) {
    expect(btf.has(id)).toBe(false);
    expect(() => btf.type(id)).toThrow(BtfError);
    expect(() => btf.name(id)).toThrow(BtfError);
    expect(() => sizeOf(btf, id)).toThrow(BtfError);
    expect(() => alignOf(btf, id)).toThrow(BtfError);
  }
  expect(() => btf.string(btf.stringsEnd)).toThrow(BtfError);
});

describe('malformed BTF', () => {
  const good = fixture('kinds-19.o').get('.BTF')!.bytes;
  const patch = (edit: (view: DataView, bytes: Uint8Array) => void): (() => Btf) => {
    const bytes = good.slice();
    edit(new DataView(bytes.buffer), bytes);
    return () => parseBtf(bytes);
  };

  test.each<[string, (view: DataView, bytes: Uint8Array) => void]>([
    ['Invalid magic of BTF: 0xdead', (view) => view.setUint16(0, 0xdead, true)],
    ['Unsupported version', (view) => view.setUint8(2, 2)],
    ['Unsupported flags', (view) => view.setUint8(3, 1)],
    ['BTF header not found', (view) => view.setUint32(4, 8, true)],
    ['Unaligned type_off', (view) => view.setUint32(8, 2, true)],
    ['Total section length too long', (view) => view.setUint32(12, 0x7fffffff, true)],
    ['Invalid string section', (_, bytes) => bytes.fill(1, bytes.length - 1)],
    ['type [1] has invalid kind 31', (view) => view.setUint32(28, 0x1f000000, true)],
    ['type [1] has invalid name_offset', (view) => view.setUint32(24, 0xffffff, true)],
    ['type [1] has invalid type_id 4095', (view) => view.setUint32(32, 4095, true)],
  ])('%s', (message, edit) => {
    expect(patch(edit)).toThrow(BtfError);
    expect(patch(edit)).toThrow(message);
  });
});
