/**
 * Static linking: several object files become one, as `bpftool gen object` does it (bpf_linker of libbpf). All objects are read
 * first; then it is decided where their sections come to, which definition each name stands for, and what the types are.
 */
import { aRecord, aString, bytesOf, checkArgument, either, listOf, someBytes } from '../arguments.ts';
import {
  type ElfOutputSection,
  ObjectError,
  readRelocations,
  SHT_PROGBITS,
  SHT_RELA,
  STT_SECTION,
  writeElf,
} from '../elf/index.ts';
import * as isa from '../isa.ts';
import { checkRelocation, type InputObject, type LinkInput, naming, readInput } from './input.ts';
import { type Placed, Sections } from './sections.ts';
import { Symbols } from './symbols.ts';
import { linkTypes } from './types.ts';

const EXECUTABLE = 4;
const CALL = isa.BPF_JMP | isa.BPF_CALL;
const INSN_SIZE = 8;
const IMM_OFFSET = 4;

/**
 * Links objects of clang (or of a linker) and gives the bytes of the result, again an object: sections of one name behind each other,
 * externs resolved, weak definitions overridden, types merged. One object alone loses its debug information. Names are for messages.
 * Throws ObjectError: `OBJ_LINK_CONFLICT` (two definitions), `OBJ_LINK_MISMATCH` (a name with two meanings), `OBJ_LINK_SECTION`
 * (sections that do not go together), `OBJ_NO_BTF`, `ELF_…` and `OBJ_BAD_…` for broken files.
 */
export function linkObjects(objects: readonly (Uint8Array | LinkInput)[]): Uint8Array {
  checkArgument(
    'linkObjects()',
    'objects',
    objects,
    listOf(
      either(
        bytesOf('the bytes of an object file, or { name, bytes }'),
        aRecord<LinkInput>({ name: aString, bytes: someBytes }),
      ),
    ),
  );
  if (objects.length === 0) throw new ObjectError('OBJ_LINK_SECTION', 'no object to link');
  const inputs = objects.map((object, index) =>
    readInput(object instanceof Uint8Array ? { name: `object ${index + 1}`, bytes: object } : object),
  );
  const sections = new Sections(inputs);
  const symbols = new Symbols(inputs, sections);
  for (const input of inputs) naming(input.name, () => relocate(input, sections, symbols));
  const types = naming('the objects together', () => linkTypes(inputs, sections, symbols.shared));
  const out: ElfOutputSection[] = [...sections.byName.values()];
  if (types !== undefined) {
    out.push(section('.BTF', types.btf));
    if (types.ext !== undefined) out.push(section('.BTF.ext', types.ext));
  }
  return writeElf(out, symbols.all);
}

function section(name: string, data: Uint8Array): ElfOutputSection {
  return {
    name,
    type: SHT_PROGBITS,
    flags: 0,
    align: 8,
    entsize: 0,
    size: data.length,
    data,
    relocations: [],
  };
}

/** Moves an object's relocations along with its sections and symbols. */
function relocate(input: InputObject, sections: Sections, symbols: Symbols): void {
  const { elf } = input;
  for (const part of input.sections) {
    const placed = sections.placed(input, part.index)!;
    if (placed.isCopy) continue;
    for (const table of elf.relocationSections.get(part.index) ?? []) {
      if (table.type === SHT_RELA) {
        throw new ObjectError('OBJ_BAD_RELOCATION', 'relocations with addends', {
          section: table.name,
        });
      }
      for (const { offset, type, symbol } of readRelocations(elf, table)) {
        checkRelocation(part, type, offset);
        const target = symbols.of(input, symbol);
        if (target === undefined) {
          throw new ObjectError(
            'OBJ_BAD_RELOCATION',
            `it refers to ${symbol.name || 'a section'}, which is left out`,
            { section: part.name, offset },
          );
        }
        placed.section.relocations.push({ offset: placed.offset + offset, type, symbol: target });
        if (symbol.type === STT_SECTION) {
          moveAddend(placed, offset, sections.placed(input, symbol.section)!.offset);
        }
      }
    }
  }
}

/** What refers to a section and an offset in it: the section's part has moved by `distance`. */
function moveAddend({ section, offset: base }: Placed, offset: number, distance: number): void {
  if ((section.flags & EXECUTABLE) === 0) {
    throw new ObjectError('OBJ_BAD_RELOCATION', 'data refers to a section, not to a symbol', {
      section: section.name,
      offset,
    });
  }
  const { data } = section;
  const at = base + offset;
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  const by = data[at] === CALL ? distance / INSN_SIZE : distance;
  view.setInt32(at + IMM_OFFSET, view.getInt32(at + IMM_OFFSET, true) + by, true);
}
