import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import { BtfBuilder, BtfError, dumpC, parseBtf, sizeOf } from '../../src/bpf/btf/index.ts';
import { unless } from '../support/skip.ts';
import { layoutDifferences, variablesOfAll } from './support-btf-layout.ts';
import { randomizer, randomLayouts } from './support-btf-samples.ts';
import { elfSections, fixture } from './support-elf-sections.ts';

const VMLINUX = '/sys/kernel/btf/vmlinux';
const clang = spawnSync('clang-19', ['--version']).status === 0;

describe('layout.c: uncommon layouts and declarations', () => {
  const btf = parseBtf(fixture('layout-19.o').get('.BTF')!.bytes);
  const text = dumpC(btf, { guard: 'LAYOUT_H', preserveAccessIndex: false });

  test('is the committed header, which clang compiled into layout-dump-19.o', () => {
    expect(text).toBe(readFileSync(new URL('./fixtures/btf/layout.h', import.meta.url), 'utf8'));
  });

  test('every member has its place again', () => {
    const compiled = parseBtf(fixture('layout-dump-19.o').get('.BTF')!.bytes);
    const { compared, differences } = layoutDifferences(btf, compiled);
    expect(differences).toEqual([]);
    expect(compared).toBe(24);
  });

  test('only what some types need, where they are named', () => {
    const some = dumpC(btf, { roots: [btf.byName('later', 'STRUCT')!], guard: '' });
    const defined = [...some.matchAll(/^struct (\w+) \{/gm)].map(([, name]) => name);
    expect(defined).toEqual(['earlier', 'later']);
    expect(some).toContain('apply_to = record');
  });
});

test('type tags, flexible names, names that C does not have', () => {
  const b = new BtfBuilder();
  const int = b.int('i32', 4, { signed: true });
  const user = b.ptr(b.typeTag('user', int));
  b.struct('core::fmt::Thing<u8>', 16, [
    { name: '0', type: int, bitOffset: 0 },
    { name: 'while', type: user, bitOffset: 64 },
  ]);
  b.struct('twice', 4, [{ name: 'a', type: int, bitOffset: 0 }]);
  b.struct('twice', 4, [{ name: 'b', type: int, bitOffset: 0 }]);
  b.fwd('twice');
  const text = dumpC(b.build(), { guard: '', preserveAccessIndex: false });
  expect(text).toBe(`struct core__fmt__Thing_u8_ {
	signed int _0;
	__attribute__((btf_type_tag("user"))) signed int *while_;
};

struct twice {
	signed int a;
};

struct twice___2 {
	signed int b;
};

`);
});

test(
  '400 random layouts come out of clang as they were',
  unless(clang ? undefined : 'clang-19 is not installed'),
  () => {
    const btf = randomLayouts(400, randomizer(12)).build();
    const text = dumpC(btf, { guard: '', preserveAccessIndex: false });
    const folder = mkdtempSync(path.join(tmpdir(), 'trapline-layout-'));
    try {
      const object = path.join(folder, 'layout.o');
      const { stderr, status } = spawnSync(
        'clang-19',
        ['-target', 'bpf', '-g', '-Wno-everything', '-x', 'c', '-c', '-', '-o', object],
        { input: `${text}\n${variablesOfAll(text)}\n`, encoding: 'utf8' },
      );
      expect(stderr).toBe('');
      expect(status).toBe(0);
      const compiled = parseBtf(elfSections(new Uint8Array(readFileSync(object))).get('.BTF')!.bytes);
      const { compared, differences } = layoutDifferences(btf, compiled);
      expect(differences).toEqual([]);
      expect(compared).toBeGreaterThan(300);
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  },
);

describe("the running kernel's types", () => {
  test(
    'compile, with every size and offset as they were',
    unless(clang && existsSync(VMLINUX) ? undefined : "clang-19 or the kernel's BTF is not there"),
    () => {
      const btf = parseBtf(new Uint8Array(readFileSync(VMLINUX)));
      const text = dumpC(btf);
      const checks: string[] = [];
      const names = new Set<string>();
      for (let id = 1; id < btf.typeCount; id++) {
        const kind = btf.kindName(id);
        const name = btf.name(id);
        if (!['STRUCT', 'UNION', 'ENUM', 'ENUM64'].includes(kind) || name === '') continue;
        // Flavours are compared in the fixtures; here the first of each name is.
        if (names.has(name)) continue;
        names.add(name);
        const word = kind.toLowerCase().replace('64', '');
        checks.push(`_Static_assert(sizeof(${word} ${name}) == ${sizeOf(btf, id)}, "");`);
        if (word === 'enum') continue;
        for (const member of btf.members(id)) {
          if (member.bitSize !== 0 || member.name === '') continue;
          const place = `__builtin_offsetof(${word} ${name}, ${member.name})`;
          checks.push(`_Static_assert(${place} == ${member.bitOffset / 8}, "");`);
        }
      }
      expect(checks.length).toBeGreaterThan(10_000);
      const { status, stderr } = spawnSync(
        'clang-19',
        ['-target', 'bpf', '-fsyntax-only', '-Wno-everything', '-ferror-limit=20', '-x', 'c', '-'],
        { input: `${text}\n${checks.join('\n')}\n`, encoding: 'utf8', maxBuffer: 1 << 26 },
      );
      expect(stderr).toBe('');
      expect(status).toBe(0);
    },
  );
});

describe('types that are no C', () => {
  test('a struct that contains itself', () => {
    const b = new BtfBuilder();
    b.struct('a', 4, [{ name: 'b', type: 2, bitOffset: 0 }]);
    b.struct('b', 4, [{ name: 'a', type: 1, bitOffset: 0 }]);
    expect(() => dumpC(b.build())).toThrow('type [1] STRUCT a contains itself');
  });

  test('anonymous structs that would be written 4^30 times', () => {
    const b = new BtfBuilder();
    for (let i = 1; i < 31; i++) {
      b.struct(
        i === 1 ? 'root' : '',
        4,
        Array.from({ length: 4 }, (_, m) => ({ name: `m${m}`, type: i + 1, bitOffset: 0 })),
      );
    }
    b.int('int', 4);
    expect(() => dumpC(b.build())).toThrow(/too long|too deeply/);
  });

  test('a pointer to itself, and ten thousand pointers', () => {
    const loop = new BtfBuilder();
    loop.ptr(1);
    loop.typedef('loop', 1);
    expect(() => dumpC(loop.build())).toThrow(BtfError);
    const chain = new BtfBuilder();
    for (let i = 1; i < 10_000; i++) chain.ptr(i + 1);
    chain.int('int', 4);
    chain.typedef('deep', 1);
    expect(() => dumpC(chain.build())).toThrow(BtfError);
  });
});
