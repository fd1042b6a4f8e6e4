import { existsSync, readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { type Btf, BtfBuilder, dedupBtf, parseBtf, parseBtfExt, writeBtf } from '../../src/bpf/btf/index.ts';
import { unless } from '../support/skip.ts';
import { layout } from './support-btf-layout.ts';
import { fixture } from './support-elf-sections.ts';

const VMLINUX = '/sys/kernel/btf/vmlinux';
const read = (name: string): Btf => parseBtf(fixture(name).get('.BTF')!.bytes);
const join = (...parts: Btf[]): Btf => {
  const b = new BtfBuilder();
  for (const part of parts) b.append(part);
  return b.build();
};
const names = (btf: Btf): string[] => [...btf.types].map(({ kind, name }) => `${kind} ${name}`).sort();
/** Variables and sections of variables stay, whatever they are. */
const types = (btf: Btf): string[] => names(btf).filter((name) => !/^(VAR|DATASEC)/.test(name));

describe('writing', () => {
  test.each(['kinds-14.o', 'kinds-19.o', 'kinds-19eb.o', 'core-19.o'])('%s: the same bytes again', (name) => {
    const { bytes } = fixture(name).get('.BTF')!;
    expect(writeBtf(parseBtf(bytes))).toEqual(new Uint8Array(bytes));
    const other = writeBtf(parseBtf(bytes), { littleEndian: name.includes('eb') });
    expect([...parseBtf(other).types]).toEqual([...parseBtf(bytes).types]);
  });

  test('a BTF appended to another keeps its types', () => {
    const btf = read('kinds-19.o');
    const b = new BtfBuilder();
    b.int('first', 4);
    const ids = b.append(btf);
    const joined = b.build();
    expect(joined.typeCount).toBe(btf.typeCount + 1);
    const sample = btf.byName('sample', 'STRUCT')!;
    expect(ids[sample]).toBe(sample + 1);
    expect(layout(joined, ids[sample]!)).toEqual(layout(btf, sample));
  });
});

describe('deduplication', () => {
  test.each(['kinds-14.o', 'kinds-19.o', 'layout-19.o', 'core-19.o', 'values-19.o'])(
    '%s, two and three times over, is itself',
    (name) => {
      const once = dedupBtf(read(name)).btf;
      for (const copies of [2, 3]) {
        const { btf, ids } = dedupBtf(join(...Array.from({ length: copies }, () => read(name))));
        expect(types(btf)).toEqual(types(once));
        expect(ids[1]).toBe(1);
        for (const struct of once.types) {
          if (struct.kind !== 'STRUCT' || struct.name === '') continue;
          expect(layout(btf, btf.byName(struct.name, 'STRUCT')!)).toEqual(layout(once, struct.id));
        }
      }
      expect(dedupBtf(once).btf.typeCount).toBe(once.typeCount);
    },
  );

  test('two units with types in common become what libbpf makes of them', () => {
    const joined = dedupBtf(join(read('units-a-19.o'), read('units-b-19.o'))).btf;
    const linked = read('units-linked-19.o');
    expect(types(joined)).toEqual(types(linked));
    // `struct fwd` is declared in one and defined in the other.
    expect(names(joined).filter((name) => name.endsWith(' fwd'))).toEqual(['STRUCT fwd']);
    const a = joined.members(joined.byName('a', 'STRUCT')!);
    expect(joined.word(a.find(({ name }) => name === 'f')!.type, 2)).toBe(joined.byName('fwd', 'STRUCT'));
  });

  test('structs of one name that differ somewhere below stay apart', () => {
    const unit = (width: number): Btf => {
      const b = new BtfBuilder();
      const int = b.int(width === 4 ? 'int' : 'long', width, { signed: true });
      const inner = b.struct('inner', 8, [{ name: 'x', type: int, bitOffset: 0 }]);
      const ptr = b.ptr(inner);
      b.struct('outer', 8, [{ name: 'p', type: ptr, bitOffset: 0 }]);
      b.struct('same', 4, []);
      return b.build();
    };
    const { btf } = dedupBtf(join(unit(4), unit(8), unit(4)));
    expect(names(btf).filter((name) => name.startsWith('STRUCT'))).toEqual([
      'STRUCT inner',
      'STRUCT inner',
      'STRUCT outer',
      'STRUCT outer',
      'STRUCT same',
    ]);
  });

  test('an enum without values is the whole one; names that two structs have leave a forward as it is', () => {
    const b = new BtfBuilder();
    b.ptr(b.enum('e', []));
    const whole = b.enum('e', [{ name: 'A', value: 1 }]);
    b.ptr(whole);
    b.ptr(b.fwd('twice'));
    b.struct('twice', 4, []);
    b.struct('twice', 8, []);
    b.ptr(b.fwd('once', 'union'));
    b.union('once', 4, []);
    b.ptr(b.fwd('other', 'union'));
    b.struct('other', 4, []);
    const { btf } = dedupBtf(b.build());
    expect(names(btf)).toEqual([
      'ENUM e',
      'FWD other',
      'FWD twice',
      'PTR ',
      'PTR ',
      'PTR ',
      'PTR ',
      'STRUCT other',
      'STRUCT twice',
      'STRUCT twice',
      'UNION once',
    ]);
  });

  test('split BTF keeps what its base does not have', () => {
    const base = dedupBtf(read('units-a-19.o')).btf;
    const b = new BtfBuilder(base);
    const added = b.append(read('units-b-19.o'));
    const split = b.build();
    expect(split.startId).toBe(base.typeCount);
    expect(split.byName('other2', 'STRUCT')).toBe(added[read('units-b-19.o').byName('other2')!]);
    const { btf, ids } = dedupBtf(split);
    expect(btf.base).toBe(base);
    const own = [...btf.ownTypes].map(({ kind, name }) => `${kind} ${name}`);
    expect(own).toContain('STRUCT other2');
    // Structs that the base has, and what refers to them, are the base's.
    expect(own).not.toContain('STRUCT list');
    expect(own).not.toContain('TYPEDEF u32');
    expect(ids[base.byName('list')!]).toBe(base.byName('list'));
    const again = parseBtf(writeBtf(btf), base);
    expect([...again.ownTypes]).toEqual([...btf.ownTypes]);
  });

  test('.BTF.ext follows through the ids', () => {
    const sections = fixture('kinds-19.o');
    const btf = read('kinds-19.o');
    const ext = parseBtfExt(sections.get('.BTF.ext')!.bytes, btf);
    const { btf: small, ids } = dedupBtf(join(btf, btf));
    for (const { typeId } of ext.funcInfo.get('socket')!)
      expect(small.name(ids[typeId]!)).toBe(btf.name(typeId));
  });

  test('a pointer to itself is refused', () => {
    const b = new BtfBuilder();
    b.ptr(2);
    b.ptr(1);
    expect(() => dedupBtf(b.build())).toThrow('refers to itself');
  });

  test(
    "the running kernel's BTF is as it should be",
    unless(existsSync(VMLINUX) ? undefined : 'the kernel has no BTF'),
    () => {
      const btf = parseBtf(new Uint8Array(readFileSync(VMLINUX)));
      const { btf: same, ids } = dedupBtf(btf);
      expect(same.typeCount).toBe(btf.typeCount);
      expect(ids.every((id, old) => id === old)).toBe(true);
    },
  );
});
