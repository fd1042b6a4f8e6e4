import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import {
  BtfBuilder,
  BtfError,
  dumpRaw,
  parseBtf,
  printMapEntries,
  printValue,
} from '../../src/bpf/btf/index.ts';
import { openObject } from '../../src/bpf/index.ts';
import { unless } from '../support/skip.ts';
import { fixture } from './support-elf-sections.ts';

const VMLINUX = '/sys/kernel/btf/vmlinux';

const file = (name: string): string =>
  readFileSync(new URL(`./fixtures/btf/${name}`, import.meta.url), 'utf8');

describe('values-19.o as bpftool prints it (values-*.txt and .json are its output)', () => {
  const object = openObject(
    new Uint8Array(readFileSync(new URL('./fixtures/btf/values-19.o', import.meta.url))),
  );
  const btf = object.spec.btf!;
  const data = fixture('values-19.o').get('.data')!.bytes;
  const datasec = btf.byName('.data', 'DATASEC')!;

  test('a section of variables', () => {
    const entries = [{ key: new Uint8Array(4), values: [data] }];
    expect(`${printMapEntries(btf, 0, datasec, entries)}\n`).toBe(file('values-data.txt'));
  });

  test('as JSON', () => {
    // bpftool's own list has the bytes too; `formatted` is what we print.
    const theirs = /"formatted":(.*)\}\]\n?$/s.exec(file('values-data.json'))![1]!;
    const entries = [{ key: new Uint8Array(4), values: [data] }];
    expect(printMapEntries(btf, 0, datasec, entries, { format: 'json' })).toBe(`[${theirs}]`);
  });

  test('a per-CPU map', () => {
    const { keyTypeId, valueTypeId } = object.spec.maps.get('pc')!;
    const value = Uint8Array.of(1, 0, 0, 0, 0x6b, 0, 0, 0, 0, 0, 0, 0);
    const entries = [{ key: new Uint8Array(4), values: [value, value, value, value] }];
    const text = printMapEntries(btf, keyTypeId!, valueTypeId!, entries, { perCpu: true });
    expect(`${text}\n`).toBe(file('values-pc.txt'));
  });

  test('no entries, and bytes that end too early', () => {
    expect(printMapEntries(btf, 1, datasec, [])).toBe('[]');
    const struct = btf.byName('value', 'STRUCT')!;
    expect(() => printValue(btf, struct, data.subarray(0, 100))).toThrow(BtfError);
  });
});

test('floats, characters, other byte orders', () => {
  const make = (b: BtfBuilder): BtfBuilder => {
    const f = b.float('float', 4);
    const d = b.float('double', 8);
    const c = b.int('letter', 1, { char: true });
    const u = b.int('unsigned', 4);
    b.struct('s', 24, [
      { name: 'f', type: f, bitOffset: 0 },
      { name: 'c', type: c, bitOffset: 32 },
      { name: 'x', type: c, bitOffset: 40 },
      { name: 'd', type: d, bitOffset: 64 },
      { name: 'bits', type: u, bitOffset: 128, bitSize: 4 },
      { name: 'u', type: u, bitOffset: 160 },
    ]);
    return b;
  };
  for (const little of [true, false]) {
    const bytes = make(new BtfBuilder()).toBytes(little);
    const btf = parseBtf(bytes);
    const value = new Uint8Array(24);
    const view = new DataView(value.buffer);
    view.setFloat32(0, 1.5, little);
    value.set([0x61, 7], 4);
    view.setFloat64(8, -0.25, little);
    value[16] = little ? 0x0a : 0xa0;
    view.setUint32(20, 4_000_000_000, little);
    expect(printValue(btf, btf.byName('s')!, value, { format: 'json' })).toBe(
      '{"f":1.5,"c":"a","x":"\\x07","d":-0.25,"bits":"0xa","u":4000000000}',
    );
  }
});

test('types that never end are refused', () => {
  const b = new BtfBuilder();
  const int = b.int('int', 4);
  const empty = b.struct('empty', 0, []);
  const many = b.array(empty, int, 0xffff_ffff);
  b.struct('loop', 0, [{ name: 'loop', type: 4, bitOffset: 0 }]);
  const btf = b.build();
  expect(() => printValue(btf, many, new Uint8Array(0))).toThrow(BtfError);
  expect(() => printValue(btf, btf.byName('loop')!, new Uint8Array(0))).toThrow(BtfError);
});

describe('types as bpftool lists them', () => {
  test('kinds-19.o (kinds-19.txt is its output)', () => {
    const btf = parseBtf(fixture('kinds-19.o').get('.BTF')!.bytes);
    expect([...dumpRaw(btf)].join('')).toBe(file('kinds-19.txt'));
  });

  const bpftool = spawnSync('bpftool', ['version']).status === 0;
  test(
    "the running kernel's",
    unless(bpftool && existsSync(VMLINUX) ? undefined : "bpftool or the kernel's BTF is not there"),
    () => {
      const theirs = spawnSync('bpftool', ['btf', 'dump', 'file', VMLINUX], { maxBuffer: 1 << 28 }).stdout;
      const ours = new TextEncoder().encode(
        [...dumpRaw(parseBtf(new Uint8Array(readFileSync(VMLINUX))))].join(''),
      );
      expect(ours.length).toBeGreaterThan(1_000_000);
      expect(Buffer.compare(theirs, ours)).toBe(0);
    },
  );
});
