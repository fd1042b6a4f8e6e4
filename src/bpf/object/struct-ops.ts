/**
 * `.struct_ops`, `.struct_ops.link`: tables of functions that a kernel calls (init_struct_ops_maps of libbpf). They are read so that
 * they can be shown; no machine in user space has a kernel that would call them.
 */
import { type Btf, type BtfDatasec, resolveType } from '../btf/index.ts';
import { type ElfFile, type ElfSection, ObjectError, readRelocations, SHT_PROGBITS } from '../elf/index.ts';
import { MAP_FLAG } from '../maps/map-spec.ts';
import { type MapDraft, newMapDraft } from './map-definitions.ts';

export function isStructOps({ name, type }: ElfSection): boolean {
  return type === SHT_PROGBITS && /^\??\.struct_ops(\.link)?$/.test(name);
}

/** One map a variable of the section, with the program of each member by the member's index. Throws ObjectError. */
export function parseStructOps(
  elf: ElfFile,
  section: ElfSection,
  btf: Btf,
  /** Name of the program that starts at an offset of a section. */
  programAt: (section: number, offset: number) => string | undefined,
): MapDraft[] {
  const id = btf.byName(section.name, 'DATASEC');
  const datasec = id === undefined ? undefined : btf.type(id);
  if (datasec?.kind !== 'DATASEC') {
    throw new ObjectError('OBJ_BAD_MAP', 'types of the tables are missing from .BTF', {
      section: section.name,
    });
  }
  const drafts = datasec.vars.map((one) => {
    const variable = btf.type(one.type);
    const place = { section: section.name, offset: one.offset };
    if (variable.kind !== 'VAR') throw new ObjectError('OBJ_BAD_MAP', 'not a variable', place);
    const type = btf.type(resolveType(btf, variable.type));
    if (type.kind !== 'STRUCT' || one.offset + type.size > section.data.length) {
      throw new ObjectError('OBJ_BAD_MAP', `${variable.name} is not a struct within its section`, place);
    }
    const draft = newMapDraft(variable.name, 'struct_ops', section.name, one.offset);
    draft.keySize = 4;
    draft.valueSize = type.size;
    draft.maxEntries = 1;
    draft.valueTypeId = type.id;
    draft.origin = 'struct_ops';
    draft.flags = section.name.endsWith('.link') ? MAP_FLAG.BPF_F_LINK : 0;
    return draft;
  });
  readMembers(elf, section, btf, datasec, drafts, programAt);
  return drafts;
}

function readMembers(
  elf: ElfFile,
  section: ElfSection,
  btf: Btf,
  datasec: BtfDatasec,
  drafts: readonly MapDraft[],
  programAt: (section: number, offset: number) => string | undefined,
): void {
  /** Which map and member an address of the section belongs to. */
  const members = new Map<number, { draft: MapDraft; member: number }>();
  for (const [index, draft] of drafts.entries()) {
    for (const [member, { bitOffset }] of btf.members(draft.valueTypeId).entries()) {
      members.set(datasec.vars[index]!.offset + bitOffset / 8, { draft, member });
    }
  }
  for (const table of elf.relocationSections.get(section.index) ?? []) {
    for (const { offset, symbol } of readRelocations(elf, table)) {
      const found = members.get(offset);
      const program = programAt(symbol.section, symbol.value);
      if (found === undefined || program === undefined) {
        throw new ObjectError('OBJ_BAD_MAP', `${symbol.name} is no program, or not stored in a member`, {
          section: section.name,
          offset,
        });
      }
      found.draft.slots.set(found.member, program);
    }
  }
}
