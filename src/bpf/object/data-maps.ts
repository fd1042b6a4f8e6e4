/**
 * Sections of variables become arrays of one element (bpf_object__init_internal_map of libbpf). Which sections count: `.data`,
 * `.rodata`, `.bss` and those whose names continue with a dot.
 */
import type { Btf } from '../btf/index.ts';
import { type ElfSection, SHF_EXECINSTR, SHT_NOBITS, SHT_PROGBITS } from '../elf/index.ts';
import { MAP_FLAG } from '../maps/map-spec.ts';
import { MAX_OBJECT_NAME, type MapDraft, newMapDraft } from './map-definitions.ts';
import type { MapOrigin } from './spec.ts';

const isNamed = (name: string, stem: string): boolean => name === stem || name.startsWith(`${stem}.`);

/** What a section of variables is; undefined for every other section. */
export function dataSectionOrigin(section: ElfSection): MapOrigin | undefined {
  const { name, type, flags, size } = section;
  if (size === 0) return undefined;
  if (type === SHT_NOBITS) return isNamed(name, '.bss') ? 'bss' : undefined;
  if (type !== SHT_PROGBITS || (flags & SHF_EXECINSTR) !== 0) return undefined;
  if (isNamed(name, '.data')) return 'data';
  return isNamed(name, '.rodata') ? 'rodata' : undefined;
}

export function dataMapDraft(
  object: string,
  section: string,
  size: number,
  origin: MapOrigin,
  btf: Btf | undefined,
): MapDraft {
  const draft = newMapDraft(section, 'array', section, 0);
  const constant = origin === 'rodata' || origin === 'kconfig';
  draft.kernelName = internalMapName(object, section);
  draft.keySize = 4;
  draft.valueSize = size;
  draft.maxEntries = 1;
  draft.origin = origin;
  draft.frozen = constant;
  draft.valueTypeId = btf?.byName(section, 'DATASEC') ?? 0;
  draft.flags =
    (constant ? MAP_FLAG.BPF_F_RDONLY_PROG : 0) |
    (isMmapable(btf, draft.valueTypeId) ? MAP_FLAG.BPF_F_MMAPABLE : 0);
  return draft;
}

/** Only a section with a variable that is visible to skeletons is worth mapping (map_is_mmapable). */
function isMmapable(btf: Btf | undefined, datasec: number): boolean {
  const type = btf?.type(datasec);
  if (btf === undefined || type?.kind !== 'DATASEC') return false;
  return type.vars.some((one) => {
    const variable = btf.type(one.type);
    return variable.kind === 'VAR' && variable.linkage !== 'static';
  });
}

/**
 * As much of the object's name as fits before the section's, for which seven characters are kept; a section's own name
 * alone where it has a second dot (internal_map_name).
 */
export function internalMapName(object: string, section: string): string {
  const suffix = Math.min(Math.max(7, section.length), MAX_OBJECT_NAME);
  const prefix = section.indexOf('.', 1) >= 0 ? 0 : Math.min(MAX_OBJECT_NAME - suffix, object.length);
  return (object.slice(0, prefix) + section.slice(0, suffix)).replace(/[^A-Za-z0-9_.]/g, '_');
}
