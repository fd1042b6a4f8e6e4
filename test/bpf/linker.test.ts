/** Static linking: objects of clang, one of them a library, against what bpftool makes of them, libbpf and the kernel. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { parseElf } from '../../src/bpf/elf/index.ts';
import { BpfError, linkObjects, openObject, parseBtf, validateBtf } from '../../src/bpf/index.ts';
import { libbpf } from '../support/libbpf.ts';
import { unless } from '../support/skip.ts';
import { fixtureBytes, VARIANTS } from './support-objects.ts';

const folder = new URL('./fixtures/link/', import.meta.url);
const ORDER = ['library', 'rest', 'program'];
const PERMUTATIONS = [
  ['library', 'rest', 'program'],
  ['library', 'program', 'rest'],
  ['rest', 'library', 'program'],
  ['rest', 'program', 'library'],
  ['program', 'library', 'rest'],
  ['program', 'rest', 'library'],
];
const PACKET = { dataIn: new Uint8Array(64) };

const part = (name: string, variant: string) => ({
  name: `${name}.o`,
  bytes: new Uint8Array(readFileSync(new URL(`${name}-${variant}.o`, folder))),
});
const linked = (names: readonly string[], variant: string) =>
  linkObjects(names.map((name) => part(name, variant)));

/** What a file means, without the numbers of its types. */
function meaning(bytes: Uint8Array) {
  const object = openObject(bytes, 'linked.o');
  const { spec } = object;
  return {
    license: spec.license,
    externs: spec.externs.map(({ name, kind, weak }) => [name, kind, weak]),
    maps: [...spec.maps.values()].map((map) => [
      map.name,
      map.type,
      map.keySize,
      map.valueSize,
      map.maxEntries,
      map.section,
      map.offset,
      [...map.slots],
      map.innerMap?.valueSize,
    ]),
    variables: [...object.globals].map(({ name, map, offset, size, isStatic }) => [
      name,
      map,
      offset,
      size,
      isStatic,
    ]),
    programs: [...spec.programs.values()].map((program) => ({
      name: program.name,
      section: program.section,
      insns: program.insns,
      functions: program.functions.map(({ name, insn }) => [name, insn]),
      lines: program.lineInfo,
      relos: program.coreRelos.map(({ insn, kind, accessString }) => [insn, kind, accessString]),
    })),
  };
}

describe.each(VARIANTS)('objects of clang %s', (variant) => {
  test.each(PERMUTATIONS)('%s, %s, %s: the programs run', (...names) => {
    const { programs, globals, maps, close } = openObject(linked(names, variant), 'linked.o').load();
    // Functions and variables of one name, static in each file, stay apart; the library's function overrides the weak one.
    const steps = 11 + (1 + 2 + 11);
    const sum = steps + (3 + 1000) * 9 + 101 + 1 + 9;
    const both = 0 + 1 + 2 - 3 * 100_000 + 3 * 2;
    expect(programs.get('all')!.testRun(PACKET).retval | 0).toBe(sum + both + 4 * 6);
    expect(globals.get('written')).toBe(BigInt(7 + sum));
    expect(globals.get('zeroed')).toEqual([0, 1, 0, 0]);
    const tally = new DataView(maps.get('tallies')!.lookup(Uint8Array.of(1, 0, 0, 0))!.buffer);
    expect([tally.getBigUint64(0, true), tally.getUint32(8, true)]).toEqual([1n, 1001]);
    expect(programs.get('nested')!.testRun(PACKET).retval).toBe(5 + 1);
    expect(programs.get('last')!.testRun(PACKET).retval).toBe(7 + sum + (1 + 1000) * 9);
    close();
  });

  test('the same meaning as what bpftool links', () => {
    const theirs = meaning(part('linked', variant).bytes);
    expect(meaning(linked(ORDER, variant))).toEqual(theirs);
    expect(theirs.programs).toHaveLength(4);
  });

  test('what was linked can be linked again, and alone', () => {
    const library = linkObjects([part('library', variant), part('rest', variant)]);
    const twice = linkObjects([library, part('program', variant)]);
    expect(meaning(twice)).toEqual(meaning(linked(ORDER, variant)));
    expect(meaning(linkObjects([twice]))).toEqual(meaning(twice));
  });

  test('the types are in order, and each is there once', () => {
    const elf = parseElf(linked(ORDER, variant));
    const btf = parseBtf(elf.sections.find(({ name }) => name === '.BTF')!.data);
    // Externs are left out before the kernel gets types: the library has none.
    expect(() => validateBtf(openObject(linked(['library'], variant)).spec.btf!)).not.toThrow();
    const names = [...btf.types].filter(
      ({ name }) => name === 'tally' || name === 'scaled' || name === 'inner',
    );
    expect(names.map(({ kind, name }) => `${kind} ${name}`).sort()).toEqual([
      'FUNC scaled',
      'STRUCT inner',
      'STRUCT tally',
    ]);
    // Each variable is where its symbol is.
    const data = btf.type(btf.byName('.data', 'DATASEC')!);
    const offsets = data.kind === 'DATASEC' ? data.vars.map(({ offset }) => offset) : [];
    expect(offsets).toEqual([...offsets].sort((a, b) => a - b));
    const written = elf.symbols.find(({ name }) => name === 'written')!;
    expect(
      data.kind === 'DATASEC' && data.vars.find(({ type }) => btf.name(type) === 'written')!.offset,
    ).toBe(written.value);
  });

  test(
    "libbpf and the kernel load it, with the instructions of bpftool's",
    unless(libbpf.reason ?? (process.getuid?.() === 0 ? undefined : 'only root may load programs')),
    ({ skip }) => {
      const theirs = libbpf.object(part('linked', variant).bytes, 'linked', true)!;
      if (theirs.loaded !== 0) skip(`the kernel does not load what bpftool linked: ${theirs.loaded}`);
      const ours = libbpf.object(linked(ORDER, variant), 'linked', true)!;
      expect(ours.loaded).toBe(0);
      const sizes = ({ programs }: typeof ours) => programs.map(({ name, insns }) => [name, insns.length]);
      expect(sizes(ours)).toEqual(sizes(theirs));
    },
  );
});

describe('refusals', () => {
  const refusal = (
    names: readonly string[],
  ): { code?: string; message?: string; hint?: string | undefined } => {
    try {
      linked(names, '19');
      return {};
    } catch (error) {
      if (!(error instanceof BpfError)) throw error;
      return { code: error.code, message: error.message, hint: error.hint };
    }
  };

  test.each([
    [['library', 'library'], 'OBJ_LINK_CONFLICT', 'library.o and library.o both define it (symbol scaled)'],
    [
      ['program', 'wrong-1'],
      'OBJ_LINK_MISMATCH',
      'program.o and wrong-1.o mean different things by it: parameter 1: int int and ptr (symbol scaled)',
    ],
    [
      ['program', 'wrong-2'],
      'OBJ_LINK_MISMATCH',
      'program.o and wrong-2.o mean different things by it: valueSize 16 and 8 (symbol tallies)',
    ],
    [['program', 'wrong-3'], 'OBJ_LINK_SECTION', 'wrong-3.o and program.o differ in it (section license)'],
    [
      ['library', 'wrong-4'],
      'OBJ_LINK_MISMATCH',
      'library.o and wrong-4.o mean different things by it: type of its value: member last of struct tally: int unsigned int of 4 bytes and int unsigned long long of 8 (symbol tallies)',
    ],
  ])('%j', (names, code, message) => {
    expect(refusal(names)).toMatchObject({ code, message });
  });

  test('objects without types, none at all, and what is no object', () => {
    const plain = { name: 'plain.o', bytes: fixtureBytes('globals-19plain.o') };
    expect(() => linkObjects([plain])).toThrow(
      expect.objectContaining({ code: 'OBJ_NO_BTF', hint: 'compile with -g' }),
    );
    expect(() => linkObjects([])).toThrow(expect.objectContaining({ code: 'OBJ_LINK_SECTION' }));
    expect(() => linkObjects([new Uint8Array(3)])).toThrow(
      expect.objectContaining({ code: 'ELF_NOT_ELF', message: 'object 1: file is too short to be ELF' }),
    );
  });

  test('broken objects give an error with a code, or an object that can be read', () => {
    const whole = part('library', '19');
    const rest = part('rest', '19');
    let state = 1;
    const random = (below: number): number => {
      state = Math.imul(state, 1664525) + 1013904223;
      return (state >>> 8) % below;
    };
    const codes = new Map<string, number>();
    for (let round = 0; round < 1500; round++) {
      const bytes = whole.bytes.slice(0, round % 5 === 0 ? random(whole.bytes.length) : undefined);
      for (let flips = 0; flips < 1 + (round % 3) && bytes.length > 0; flips++) {
        bytes[random(bytes.length)]! ^= 1 << random(8);
      }
      let code = 'linked';
      try {
        parseElf(linkObjects([{ name: 'broken.o', bytes }, rest]));
      } catch (error) {
        expect(error).toBeInstanceOf(BpfError);
        expect((error as BpfError).code).toMatch(/^(ELF|OBJ)_/);
        expect((error as BpfError).message).toMatch(/broken\.o|rest\.o|together/);
        code = (error as BpfError).code;
      }
      codes.set(code, (codes.get(code) ?? 0) + 1);
    }
    expect(codes.get('linked')).toBeGreaterThan(100);
    expect(codes.size).toBeGreaterThan(5);
  });
});

const tools = (() => {
  try {
    execFileSync('bpftool', ['version'], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
})();

describe('bpftool', unless(tools ? undefined : 'bpftool is not installed'), () => {
  const scratch = mkdtempSync(path.join(tmpdir(), 'trapline-link-'));
  afterAll(() => rmSync(scratch, { recursive: true }));

  test.each(VARIANTS)('links the objects of clang %s to the same, and ours with another', (variant) => {
    const file = (name: string) => path.join(scratch, name);
    for (const name of ORDER) writeFileSync(file(`${name}.o`), part(name, variant).bytes);
    writeFileSync(file('ours.o'), linked(['library', 'rest'], variant));
    const link = (out: string, ...parts: string[]): Uint8Array => {
      execFileSync('bpftool', ['gen', 'object', file(out), ...parts.map((name) => file(`${name}.o`))]);
      return new Uint8Array(readFileSync(file(out)));
    };
    const expected = meaning(linked(ORDER, variant));
    expect(meaning(link('theirs.o', ...ORDER))).toEqual(expected);
    expect(meaning(link('both.o', 'ours', 'program'))).toEqual(expected);
  });
});
