/** The committed objects are what the sources give: rebuilt here with the compilers that are installed. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { type BpfObject, disassemble, openObject } from '../../src/bpf/index.ts';
import { unless } from '../support/skip.ts';
import { fixtureBytes, fixtureNames } from './support-objects.ts';

const script = (await import(new URL('../../scripts/fixtures-bpf.mjs', import.meta.url).href)) as {
  VARIANTS: readonly { suffix: string; compiler: string }[];
  installed(tool: string): boolean;
  build(out: string): string[];
};

const compilers = script.VARIANTS.filter(({ compiler }) => script.installed(compiler));
const tools = compilers.length > 0 && script.installed('llvm-strip-19') && script.installed('bpftool');

describe(
  'rebuilt objects',
  unless(tools ? undefined : 'clang, llvm-strip-19 or bpftool is not installed'),
  () => {
    const folder = mkdtempSync(path.join(tmpdir(), 'trapline-objects-'));
    afterAll(() => rmSync(folder, { recursive: true }));

    /** What an object is, without anything that depends on the compiler's patch level. */
    function described(object: BpfObject) {
      const { spec } = object;
      return {
        license: spec.license,
        externs: spec.externs.map(({ name, kind, weak }) => [name, kind, weak]),
        maps: [...spec.maps.values()]
          .filter(({ section }) => !section.startsWith('.rodata.'))
          .map((map) => [
            map.name,
            map.type,
            map.keySize,
            map.valueSize,
            map.maxEntries,
            map.flags,
            [...map.slots],
          ]),
        variables: [...object.globals].map(({ name, map, size }) => [
          name,
          map,
          size,
          object.globals.get(name),
        ]),
        programs: [...spec.programs.values()].map((program) => [
          program.name,
          program.section,
          program.functions.map(({ name, global }) => [name, global]),
        ]),
      };
    }

    test('have the same programs, maps, variables and externs', () => {
      const built = script.build(folder);
      expect(built.length).toBeGreaterThan(10);
      for (const file of built) {
        const rebuilt = openObject(new Uint8Array(readFileSync(path.join(folder, file))), file);
        const committed = openObject(fixtureBytes(file), file);
        expect({ file, ...described(rebuilt) }).toEqual({ file, ...described(committed) });
        for (const program of rebuilt.spec.programs.values()) expect(disassemble(program.insns)).not.toBe('');
      }
      if (compilers.length === script.VARIANTS.length) expect(built.sort()).toEqual(fixtureNames());
    });
  },
);

test(
  'variables of an arena without an arena are refused',
  unless(script.installed('clang-19') ? undefined : 'clang-19 is not installed'),
  () => {
    const folder = mkdtempSync(path.join(tmpdir(), 'trapline-arena-'));
    const source = path.join(folder, 'arena.c');
    const object = path.join(folder, 'arena.o');
    writeFileSync(
      source,
      `int __attribute__((address_space(1))) counter __attribute__((section(".addr_space.1")));
    __attribute__((section("syscall"), used)) int add(void *ctx) { counter++; return 0; }`,
    );
    execFileSync('clang-19', ['-O2', '-target', 'bpf', '-mcpu=v4', '-c', source, '-o', object]);
    const bytes = new Uint8Array(readFileSync(object));
    rmSync(folder, { recursive: true });
    expect(() => openObject(bytes, 'arena.o')).toThrow(
      /^there are variables of an arena, and no arena \(section \.addr_space\.1/,
    );
  },
);
