/** Reads an object file into an `ObjectSpec`: no machine, no kernel, nothing loaded yet (bpf_object__open of libbpf). */
import { type Btf, BtfError, type BtfExt, parseBtf, parseBtfExt } from '../btf/index.ts';
import { type ElfFile, type ElfSection, ObjectError, parseElf, SHT_PROGBITS } from '../elf/index.ts';
import { ARENA_PAGE } from '../maps/map-layout.ts';
import type { MapRecord } from '../maps/map-spec.ts';
import { fixupBtf } from './btf-fixup.ts';
import { dataMapDraft, dataSectionOrigin } from './data-maps.ts';
import { collectExterns, type Externs } from './externs.ts';
import { type CodeSection, collectCode, type ObjectFunction } from './functions.ts';
import { collectVariables, type GlobalVariable, InitialData } from './globals.ts';
import { parseLegacyMaps } from './legacy-maps.ts';
import { exceptionCallbacks, Linker } from './link.ts';
import { type MapDraft, parseMapDefinitions, readInitialisers } from './map-definitions.ts';
import { recordOf } from './map-record.ts';
import { parseSectionName } from './section-names.ts';
import type { ObjectMapSpec, ObjectSpec, ProgramSpec } from './spec.ts';
import { isStructOps, parseStructOps } from './struct-ops.ts';

/** An opened file: what it asks for, and what its variables start with. */
export interface OpenedObject {
  readonly spec: ObjectSpec;
  /** By section name. */
  readonly initialData: ReadonlyMap<string, InitialData>;
  readonly variables: readonly GlobalVariable[];
}

const KCONFIG = '.kconfig';
/** Variables of `__attribute__((address_space(1)))`. */
const ARENA_SECTION = '.addr_space.1';
const latin1 = new TextDecoder('latin1');

/** Throws ObjectError `ELF_…` or `OBJ_…`. */
export function openElf(bytes: Uint8Array, name: string): OpenedObject {
  try {
    return readObject(bytes, name);
  } catch (error) {
    // Types that refer to each other in circles are found out by whoever follows them.
    throw error instanceof BtfError ? badBtf('.BTF', error) : error;
  }
}

function readObject(bytes: Uint8Array, name: string): OpenedObject {
  const elf = parseElf(bytes);
  const notes: string[] = [];
  const parsed = readBtf(elf, notes);
  const externs = collectExterns(elf, parsed.btf);
  const btf = parsed.bytes === undefined ? undefined : correctedBtf(parsed.bytes, parsed.btf!, elf, externs);
  const btfExt = readBtfExt(elf, btf);
  const code = collectCode(elf);
  const { drafts, bySection, initialData, arena } = collectMaps(elf, name, btf, externs);
  const text = elf.sections.find((section) => section.name === '.text')?.index ?? -1;
  const mains = mainFunctions(code, text);
  const mapsSection = elf.sections.find((section) => section.name === '.maps');
  if (mapsSection !== undefined && btf !== undefined) {
    const starts = new Map(
      mains.map((func) => [`${func.section.index}:${func.start * 8}:${func.name}`, func]),
    );
    const definitions = drafts.filter(({ section, origin }) => origin === 'user' && section === '.maps');
    readInitialisers(elf, { btf, section: mapsSection }, definitions, (symbol, section, value) =>
      starts.has(`${section}:${value}:${symbol}`),
    );
  }
  if (btf !== undefined) {
    const starts = new Map(mains.map((func) => [`${func.section.index}:${func.start * 8}`, func.name]));
    for (const section of elf.sections.filter(isStructOps)) {
      const tables = parseStructOps(elf, section, btf, (index, offset) => starts.get(`${index}:${offset}`));
      drafts.push(...tables);
    }
    addRecords(btf, drafts);
  }
  const maps = new Map<string, ObjectMapSpec>();
  for (const draft of drafts) {
    if (maps.has(draft.name)) {
      throw new ObjectError('OBJ_BAD_MAP', `two maps are called ${draft.name}`, { section: draft.section });
    }
    maps.set(draft.name, draft);
  }
  const linker = new Linker({
    elf,
    code,
    externs,
    maps: drafts,
    mapAt: (section, offset) => bySection.get(section)?.(offset),
    btf,
    btfExt,
    exceptionCallbacks: exceptionCallbacks(btf),
  });
  const programs = new Map<string, ProgramSpec>();
  for (const main of mains) {
    if (programs.has(main.name)) {
      throw new ObjectError('ELF_BAD_SYMBOL', `two programs are called ${main.name}`, {
        section: main.section.name,
        symbol: main.name,
      });
    }
    programs.set(main.name, programSpec(main, linker));
  }
  noteSections(elf, btf, notes);
  const spec: ObjectSpec = {
    name,
    license: sectionText(elf, 'license'),
    kernVersion: kernVersion(elf),
    maps,
    programs,
    externs: externs.list,
    btf,
    btfExt,
    notes,
  };
  const sections = new Map(
    drafts
      .filter(({ origin }) => origin !== 'user')
      .map((one) => [one.name, { map: one.name, size: one.valueSize }]),
  );
  if (arena !== undefined) sections.set(ARENA_SECTION, arena);
  return { spec, initialData, variables: collectVariables(elf, btf, sections) };
}

/** Global functions outside of `.text`, in the order of their sections and offsets. */
function mainFunctions(code: ReadonlyMap<number, CodeSection>, text: number): ObjectFunction[] {
  const mains: ObjectFunction[] = [];
  for (const [index, { functions }] of code) {
    if (index !== text) mains.push(...functions.filter((func) => func.global));
  }
  return mains;
}

function programSpec(main: ObjectFunction, linker: Linker): ProgramSpec {
  const optional = main.section.name.startsWith('?');
  const section = optional ? main.section.name.slice(1) : main.section.name;
  const meaning = parseSectionName(section);
  return {
    name: main.name,
    section,
    type: meaning?.type,
    attachType: meaning?.attachType,
    attachTo: meaning?.attachTo,
    attachBtf: meaning?.attachBtf ?? false,
    sleepable: meaning?.sleepable ?? false,
    xdpFrags: meaning?.xdpFrags ?? false,
    autoload: !optional,
    ...linker.link(main),
  };
}

function sectionNamed(elf: ElfFile, name: string): ElfSection | undefined {
  return elf.sections.find((section) => section.name === name && section.type === SHT_PROGBITS);
}

/** True where the object means nothing without its types (libbpf_needs_btf). */
function needsBtf(elf: ElfFile): boolean {
  return elf.sections.some(
    ({ name }) => name === '.maps' || name.replace(/^\?/, '').startsWith('.struct_ops'),
  );
}

function readBtf(elf: ElfFile, notes: string[]): { btf?: Btf; bytes?: Uint8Array } {
  const section = sectionNamed(elf, '.BTF');
  if (section === undefined) {
    if (needsBtf(elf)) {
      throw new ObjectError(
        'OBJ_NO_BTF',
        'section .BTF is missing: maps are declared by types',
        {},
        { hint: 'compile with -g' },
      );
    }
    return {};
  }
  try {
    return { btf: parseBtf(section.data), bytes: section.data };
  } catch (error) {
    if (!(error instanceof BtfError)) throw error;
    if (needsBtf(elf)) throw badBtf('.BTF', error);
    notes.push(`.BTF was left out: ${error.message}`);
    return {};
  }
}

function correctedBtf(bytes: Uint8Array, btf: Btf, elf: ElfFile, externs: Externs): Btf {
  return parseBtf(fixupBtf(bytes, btf, elf, externs.list));
}

function readBtfExt(elf: ElfFile, btf: Btf | undefined): BtfExt | undefined {
  const section = sectionNamed(elf, '.BTF.ext');
  if (section === undefined || btf === undefined) return undefined;
  try {
    return parseBtfExt(section.data, btf);
  } catch (error) {
    throw error instanceof BtfError ? badBtf('.BTF.ext', error) : error;
  }
}

function badBtf(section: string, cause: BtfError): ObjectError {
  return new ObjectError('OBJ_BAD_BTF', cause.message, { section }, { cause });
}

/** The special fields of the maps' values. */
function addRecords(btf: Btf, drafts: readonly MapDraft[]): void {
  const budget = { left: 1_000_000 };
  const known = new Map<number, MapRecord | undefined>();
  const record = (typeId: number): MapRecord | undefined => {
    if (typeId !== 0 && !known.has(typeId)) known.set(typeId, recordOf(btf, typeId, budget));
    return known.get(typeId);
  };
  for (const draft of drafts) {
    const own = record(draft.valueTypeId);
    if (own !== undefined) draft.record = own;
    const inner = draft.innerMap;
    const inners = inner === undefined ? undefined : record(inner.valueTypeId ?? 0);
    if (inner !== undefined && inners !== undefined) draft.innerMap = { ...inner, record: inners };
  }
}

interface CollectedMaps {
  /** In the order of their indices: declared ones, sections of variables, `.kconfig`. */
  readonly drafts: MapDraft[];
  /** By section index: which map is at an offset. */
  readonly bySection: ReadonlyMap<number, (offset: number) => { index: number; data: boolean } | undefined>;
  readonly initialData: Map<string, InitialData>;
  /** The arena that has variables, and how many bytes of them. */
  readonly arena: { readonly map: string; readonly size: number } | undefined;
}

function collectMaps(elf: ElfFile, object: string, btf: Btf | undefined, externs: Externs): CollectedMaps {
  const drafts: MapDraft[] = [];
  const bySection = new Map<number, (offset: number) => { index: number; data: boolean } | undefined>();
  const initialData = new Map<string, InitialData>();
  for (const section of elf.sections) {
    let found: MapDraft[];
    if (section.name === 'maps' && section.type === SHT_PROGBITS) found = parseLegacyMaps(elf, section, btf);
    else if (section.name === '.maps' && btf !== undefined) found = parseMapDefinitions({ btf, section });
    else continue;
    if (bySection.has(section.index)) continue;
    const offsets = new Map(found.map((draft, i) => [draft.offset, drafts.length + i]));
    bySection.set(section.index, (offset) => {
      const index = offsets.get(offset);
      return index === undefined ? undefined : { index, data: false };
    });
    drafts.push(...found);
  }
  for (const section of elf.sections) {
    const origin = dataSectionOrigin(section);
    if (origin === undefined) continue;
    if (section.size > 0xffff_ffff) {
      throw new ObjectError(
        'ELF_BAD_SIZE',
        `${section.size} bytes of variables are more than a map can hold`,
        {
          section: section.name,
        },
      );
    }
    if (initialData.has(section.name)) {
      throw new ObjectError('ELF_BAD_SECTION', `two sections are called ${section.name}`, {
        section: section.name,
      });
    }
    const index = drafts.length;
    bySection.set(section.index, () => ({ index, data: true }));
    drafts.push(dataMapDraft(object, section.name, section.size, origin, btf));
    initialData.set(section.name, new InitialData(section.size, origin === 'bss' ? undefined : section.data));
  }
  if (externs.kconfigSize > 0) {
    drafts.push(dataMapDraft(object, KCONFIG, externs.kconfigSize, 'kconfig', btf));
    initialData.set(KCONFIG, new InitialData(externs.kconfigSize, undefined));
  }
  const arena = collectArena(elf, drafts);
  if (arena !== undefined) {
    const { section, index } = arena;
    bySection.set(section.index, () => ({ index, data: true }));
    initialData.set(drafts[index]!.name, new InitialData(section.size, section.data));
  }
  return {
    drafts,
    bySection,
    initialData,
    arena: arena && { map: drafts[arena.index]!.name, size: arena.section.size },
  };
}

/** The section of an arena's variables, and the arena (bpf_object__init_user_btf_maps, init_arena_map_data). */
function collectArena(
  elf: ElfFile,
  drafts: readonly MapDraft[],
): { readonly section: ElfSection; readonly index: number } | undefined {
  const [index, second] = drafts.flatMap(({ type }, at) => (type === 'arena' ? [at] : []));
  if (second !== undefined) {
    throw new ObjectError('OBJ_BAD_MAP', `map ${drafts[second]!.name}: an object has one arena only`, {
      section: drafts[second]!.section,
    });
  }
  const section = sectionNamed(elf, ARENA_SECTION);
  if (section === undefined || section.size === 0) return undefined;
  if (index === undefined) {
    throw new ObjectError(
      'OBJ_BAD_MAP',
      'there are variables of an arena, and no arena',
      { section: ARENA_SECTION },
      { hint: 'declare a map of type BPF_MAP_TYPE_ARENA in SEC(".maps")' },
    );
  }
  const { name, maxEntries } = drafts[index]!;
  if (section.size > maxEntries * ARENA_PAGE) {
    throw new ObjectError(
      'OBJ_BAD_MAP',
      `map ${name}: ${section.size} bytes of variables do not fit into ${maxEntries} pages`,
      { section: ARENA_SECTION },
    );
  }
  return { section, index };
}

/** Text of a section up to its first zero byte. */
function sectionText(elf: ElfFile, name: string): string {
  const data = sectionNamed(elf, name)?.data.subarray(0, 128);
  if (data === undefined) return '';
  const end = data.indexOf(0);
  return latin1.decode(data.subarray(0, end < 0 ? data.length : end));
}

function kernVersion(elf: ElfFile): number | undefined {
  const section = sectionNamed(elf, 'version');
  if (section === undefined) return undefined;
  if (section.size !== 4) {
    throw new ObjectError('ELF_BAD_SIZE', `a kernel version of ${section.size} bytes, not 4`, {
      section: 'version',
    });
  }
  return new DataView(section.data.buffer, section.data.byteOffset, 4).getUint32(0, true);
}

const KNOWN_SECTION =
  /^(license|version|maps|\.maps|\.BTF|\.BTF\.ext|\.text|\.eh_frame|\.llvm_addrsig|\.debug_.*|\.comment|\.note.*)$/;

function noteSections(elf: ElfFile, btf: Btf | undefined, notes: string[]): void {
  for (const section of elf.sections) {
    const { name, type, size, flags } = section;
    if (type !== SHT_PROGBITS || size === 0 || (flags & 4) !== 0 || KNOWN_SECTION.test(name)) continue;
    if (btf !== undefined && isStructOps(section)) continue;
    if (dataSectionOrigin(section) === undefined && name !== ARENA_SECTION)
      notes.push(`section ${name} has no meaning for BPF and was left out`);
  }
}
