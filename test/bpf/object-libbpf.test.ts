/** The same objects by the system's libbpf: section names, maps, linked and relocated instructions. */
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import {
  applyCoreRelocations,
  type Btf,
  decodeInsns,
  disassemble,
  type ExternSpec,
  encodeInsns,
  type Insn,
  isa,
  openObject,
  type ProgramSpec,
  parseBtf,
} from '../../src/bpf/index.ts';
import { BPF_MAP_TYPE } from '../../src/bpf/maps/map-spec.ts';
import { POISON_KFUNC_BASE, patchKsyms, resolveKsyms } from '../../src/bpf/object/externs-resolve.ts';
import { parseSectionName } from '../../src/bpf/object/index.ts';
import { SECTION_DEFS } from '../../src/bpf/object/section-names.ts';
import { ATTACH_TYPES, PROG_TYPES } from '../../src/bpf/prog-types/index.ts';
import { kernelBpf } from '../support/kernel-bpf.ts';
import { type LibbpfObject, libbpf } from '../support/libbpf.ts';
import { unless } from '../support/skip.ts';
import { fixtureBytes, fixtureNames } from './support-objects.ts';

const EINVAL = 22;
const ESRCH = 3;

describe('section names as libbpf reads them', unless(libbpf.reason), () => {
  const ours = (name: string) => {
    const meaning = parseSectionName(name);
    if (meaning === undefined) return undefined;
    const attachType = meaning.attachType === undefined ? 0 : ATTACH_TYPES.indexOf(meaning.attachType);
    return { type: PROG_TYPES.indexOf(meaning.type), attachType };
  };

  test('every name of the table that this version knows', () => {
    let known = 0;
    for (const { pattern } of SECTION_DEFS) {
      const stem = pattern.replace(/\+$/, '');
      for (const name of pattern.endsWith('+') ? [stem, `${stem}/x`, `${stem}/x/y`] : [stem]) {
        const theirs = libbpf.progTypeByName(name);
        if (typeof theirs === 'number') {
          // Newer than the library; never the other way round.
          expect([-EINVAL, -ESRCH]).toContain(theirs);
          continue;
        }
        expect([name, ours(name)]).toEqual([name, theirs]);
        known++;
      }
    }
    expect(known).toBeGreaterThan(120);
  });

  test('names that are almost right are wrong for both', () => {
    for (const { pattern } of SECTION_DEFS) {
      const stem = pattern.replace(/\+$/, '');
      for (const name of [
        `${stem}x`,
        `x${stem}`,
        `${stem}_1`,
        `${stem}/x`,
        stem.slice(0, -1),
        stem.toUpperCase(),
      ]) {
        if (typeof libbpf.progTypeByName(name) === 'number') {
          const meaning = parseSectionName(name);
          // Known to us alone only where the library is too old for the name itself.
          if (meaning !== undefined) expect(typeof libbpf.progTypeByName(stem)).toBe('number');
        } else {
          expect([name, ours(name)]).toEqual([name, libbpf.progTypeByName(name)]);
        }
      }
    }
    for (const name of ['', '/', 'xdp_prog', 'socket1', 'classifier/x', 'kprobe.s/x', 'tc/x', 'cgroup']) {
      expect([name, typeof libbpf.progTypeByName(name)]).toEqual([name, 'number']);
      expect(parseSectionName(name)).toBeUndefined();
    }
  });
});

/** Both need root: libbpf creates the maps before it relocates. */
const skip = libbpf.reason ?? kernelBpf.reason;

/** A folder with further objects to compare, by hand: those of other projects, say. */
const FOLDER = process.env.TRAPLINE_OBJECTS;
const FURTHER = FOLDER === undefined ? [] : readdirSync(FOLDER).filter((name) => name.endsWith('.o'));

/** What libbpf 1.x does not open or load: maps of before BTF, what only later versions know, functions that no kernel has. */
const NOT_OPENED = /^(legacy-maps|newer|kfuncs)-/;

function targetBtf(): Btf | undefined {
  try {
    return parseBtf(readFileSync('/sys/kernel/btf/vmlinux'));
  } catch {
    return undefined;
  }
}

describe('objects as libbpf loads them', unless(skip), () => {
  const vmlinux = skip === undefined ? targetBtf() : undefined;
  const compared = new Set<string>();
  const files = fixtureNames()
    .filter((file) => !NOT_OPENED.test(file))
    .concat(FURTHER.map((file) => path.join(FOLDER!, file)));
  const bytesOf = (file: string) =>
    path.isAbsolute(file) ? new Uint8Array(readFileSync(file)) : fixtureBytes(file);

  const refersToMap = (insn: Insn) =>
    isa.isLdImm64(insn) && (insn.src === isa.BPF_PSEUDO_MAP_FD || insn.src === isa.BPF_PSEUDO_MAP_VALUE);

  /** libbpf creates the maps first: where that failed, nothing was relocated. */
  function isRelocated(object: LibbpfObject, programs: readonly ProgramSpec[]): boolean {
    if (object.loaded === 0 || object.maps.length === 0) return true;
    const uses = programs.some((one) => one.autoload && one.relocations.some(({ kind }) => kind === 'map'));
    return !uses || object.programs.some(({ insns }) => decodeInsns(insns).some(refersToMap));
  }

  /**
   * Instructions as libbpf hands them to the kernel, map references in our numbering. After a load that failed the maps' descriptors
   * are forgotten: then only that it is a map can be compared.
   */
  function theirInsns(object: LibbpfObject, bytes: Uint8Array, ours: readonly Insn[]): Insn[] {
    const insns = decodeInsns(bytes);
    const byFd = new Map(object.maps.map(({ fd }, index) => [fd, index]));
    const known = object.loaded === 0;
    for (const [at, insn] of insns.entries()) {
      if (!refersToMap(insn)) continue;
      insn.src = insn.src === isa.BPF_PSEUDO_MAP_FD ? isa.BPF_PSEUDO_MAP_IDX : isa.BPF_PSEUDO_MAP_IDX_VALUE;
      insn.imm = (known ? byFd.get(insn.imm) : ours[at]?.imm) ?? -1;
    }
    return insns;
  }

  function kernelSymbols(externs: readonly ExternSpec[]): Record<string, bigint> {
    const wanted = new Set(
      externs.flatMap((ext) => (ext.kind === 'ksym' && ext.typeId === 0 ? [ext.name] : [])),
    );
    if (wanted.size === 0) return {};
    const symbols: Record<string, bigint> = {};
    for (const line of readFileSync('/proc/kallsyms', 'latin1').split('\n')) {
      const [address, , name] = line.split(/\s+/);
      if (name !== undefined && wanted.has(name)) symbols[name] = BigInt(`0x${address}`);
    }
    return symbols;
  }

  function ourInsns(object: ReturnType<typeof openObject>, program: ProgramSpec): Insn[] {
    const { spec } = object;
    const insns = program.insns.map((insn) => ({ ...insn }));
    const kfuncs = spec.externs.flatMap((ext) => {
      const id = ext.kind === 'ksym' && ext.func ? vmlinux?.byName(ext.name, 'FUNC') : undefined;
      return id === undefined ? [] : [{ id, name: ext.name, args: [], result: 'void' as const }];
    });
    patchKsyms(
      insns,
      program,
      resolveKsyms(spec, { kfuncs, targetBtf: vmlinux, ksyms: kernelSymbols(spec.externs) }),
    );
    if (program.coreRelos.length === 0) return insns;
    const relos = program.coreRelos.map(({ insn, ...relo }) => ({
      ...relo,
      insnOff: insn * 8,
      accessStrOff: 0,
    }));
    return applyCoreRelocations(insns, relos, spec.btf!, vmlinux!).insns;
  }

  test.each(files)('%s: maps and their contents', (file) => {
    const bytes = bytesOf(file);
    const theirs = libbpf.object(bytes, 'an_object_name', false)!;
    const object = openObject(bytes, 'an_object_name.bpf.o');
    const maps = [...object.spec.maps.values()];
    const rows = maps.map((map) => ({
      name: map.kernelName,
      type: BPF_MAP_TYPE[map.type],
      keySize: map.keySize,
      valueSize: map.valueSize,
      maxEntries: map.maxEntries,
      flags: map.flags,
      mapExtra: map.mapExtra,
      numaNode: map.numaNode ?? 0,
      keyTypeId: map.keyTypeId,
      valueTypeId: map.valueTypeId,
      initialValue: undefined as Uint8Array | undefined,
    }));
    for (const [index, map] of maps.entries()) {
      const data = object.initialData.get(map.name);
      if (data !== undefined && map.origin !== 'kconfig') rows[index]!.initialValue = data.read(0, data.size);
      if (map.origin === 'kconfig') rows[index]!.initialValue = new Uint8Array(map.valueSize);
    }
    const comparable = theirs.maps.map(({ fd: _, ...map }) => ({
      ...map,
      // Its value type is of the kernel, found at load.
      ...(map.type === BPF_MAP_TYPE.struct_ops ? { initialValue: undefined, valueTypeId: 0 } : {}),
    }));
    for (const row of rows) if (row.type === BPF_MAP_TYPE.struct_ops) Object.assign(row, { valueTypeId: 0 });
    const names = ({ name }: { name: string }) => name;
    // Whole names, of which the kernel gets the first fifteen characters.
    for (const map of comparable) map.name = map.name.slice(0, 15);
    expect(rows.map(names)).toEqual(comparable.map(names));
    expect(rows).toEqual(comparable);
  });

  test.each(files)('%s: programs, linked and relocated', (file) => {
    const bytes = bytesOf(file);
    const object = openObject(bytes, 'an_object_name.bpf.o');
    const theirs = libbpf.object(bytes, 'an_object_name', true)!;
    const programs = [...object.spec.programs.values()];
    expect(programs.map(({ name }) => name)).toEqual(theirs.programs.map(({ name }) => name));
    const relocated = isRelocated(theirs, programs);
    for (const [index, program] of programs.entries()) {
      const other = theirs.programs[index]!;
      expect([program.section, program.autoload]).toEqual([other.section, other.autoload]);
      if (other.type !== 0) {
        expect([program.name, PROG_TYPES.indexOf(program.type!)]).toEqual([other.name, other.type]);
      }
      // Relocated only where everything before it worked, and only what is loaded.
      if (!program.autoload || !relocated) continue;
      const ours = ourInsns(object, program);
      const expected = theirInsns(theirs, other.insns, ours);
      for (const [at, insn] of expected.entries()) {
        // Before version 1.2 the call of a function that is not there stayed a call of function 0.
        const missing = insn.src === isa.BPF_PSEUDO_KFUNC_CALL && insn.imm === 0;
        if (missing && (ours[at]?.imm ?? 0) >= POISON_KFUNC_BASE) expected[at] = ours[at]!;
      }
      if (Buffer.compare(encodeInsns(ours), encodeInsns(expected)) !== 0) {
        expect(disassemble(ours)).toBe(disassemble(expected));
        expect(encodeInsns(ours)).toEqual(encodeInsns(expected));
      }
      compared.add(program.name);
    }
  });

  test('most of them could be compared', () => {
    const least =
      'use read_config look look_at start tail_one tail_two count_all first second read_file'.split(' ');
    expect([...compared]).toEqual(expect.arrayContaining(least));
  });
});
