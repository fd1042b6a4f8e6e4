/**
 * Compilers leave the sizes of sections and the offsets of global variables in .BTF to the loader, which knows them from the
 * symbol table (btf_fixup_datasec of libbpf). Type ids stay as they are.
 */
import { type Btf, btfKinds } from '../btf/index.ts';
import {
  type ElfFile,
  type ElfSymbol,
  ObjectError,
  STB_LOCAL,
  STT_FUNC,
  STT_OBJECT,
  STV_HIDDEN,
  STV_INTERNAL,
} from '../elf/index.ts';
import type { ExternSpec } from './spec.ts';

/** Words of a type before what its kind adds: name, info, size or type. */
const COMMON_WORDS = 3;

/** A corrected copy of a .BTF section that was parsed as `btf`. Throws ObjectError OBJ_BAD_BTF. */
export function fixupBtf(
  bytes: Uint8Array,
  btf: Btf,
  elf: ElfFile,
  externs: readonly ExternSpec[],
): Uint8Array {
  const copy = bytes.slice();
  const view = new DataView(copy.buffer);
  const globals = new Map<string, ElfSymbol>();
  const hiddenFunctions = new Set<string>();
  for (const symbol of elf.symbols) {
    if (symbol.bind === STB_LOCAL) continue;
    if (symbol.type === STT_OBJECT) globals.set(symbol.name, symbol);
    if (symbol.type === STT_FUNC && isHidden(symbol)) hiddenFunctions.add(symbol.name);
  }
  const sectionSizes = new Map(elf.sections.map(({ name, size }) => [name, size]));
  const kconfig = new Map(
    externs.flatMap((ext) => (ext.kind === 'kconfig' ? [[ext.btfId, ext] as const] : [])),
  );
  const positions = typePositions(view, btf);
  for (let id = 1; id < btf.typeCount; id++) {
    if (btf.kind(id) === btfKinds.BTF_KIND_FUNC && hiddenFunctions.has(btf.name(id))) {
      // Verified with its callers, like a static function, and not by its types alone.
      view.setUint32(
        positions[id]! + 4,
        btfKinds.makeInfo(btfKinds.BTF_KIND_FUNC, btfKinds.BTF_FUNC_STATIC),
        true,
      );
    }
    if (btf.kind(id) !== btfKinds.BTF_KIND_DATASEC) continue;
    const name = btf.name(id);
    if (name === '.ksyms') continue;
    const at = positions[id]!;
    const count = btf.vlen(id);
    const vars = Array.from({ length: count }, (_, i) => ({
      type: btf.word(id, COMMON_WORDS + 3 * i),
      offset: btf.word(id, COMMON_WORDS + 3 * i + 1),
      size: btf.word(id, COMMON_WORDS + 3 * i + 2),
    }));
    let size = btf.word(id, 2);
    const fixOffsets = size === 0;
    if (name === '.kconfig') {
      size = 0;
      for (const one of vars) {
        const ext = kconfig.get(one.type);
        // A variable that no code uses has no symbol, and no place in the map.
        if (ext === undefined) continue;
        one.offset = ext.offset;
        size = Math.max(size, ext.offset + ext.size);
      }
    } else {
      if (fixOffsets) {
        size = sectionSizes.get(name) ?? 0;
        if (size === 0) {
          throw new ObjectError(
            'OBJ_BAD_BTF',
            `type data for section ${name}, which the object does not have`,
            {
              section: '.BTF',
            },
          );
        }
      }
      for (const one of vars) fixVariable(view, btf, positions, name, one, globals, fixOffsets);
    }
    vars.sort((a, b) => a.offset - b.offset);
    view.setUint32(at + 8, size, true);
    for (const [i, one] of vars.entries()) {
      view.setUint32(at + 12 + 12 * i, one.type, true);
      view.setUint32(at + 16 + 12 * i, one.offset, true);
      view.setUint32(at + 20 + 12 * i, one.size, true);
    }
  }
  return copy;
}

function fixVariable(
  view: DataView,
  btf: Btf,
  positions: readonly number[],
  section: string,
  secVar: { type: number; offset: number },
  globals: ReadonlyMap<string, ElfSymbol>,
  fixOffset: boolean,
): void {
  const id = secVar.type;
  if (btf.kind(id) !== btfKinds.BTF_KIND_VAR) {
    throw new ObjectError('OBJ_BAD_BTF', `${btf.label(id)} in section ${section} is no variable`, {
      section: '.BTF',
    });
  }
  if (btf.word(id, COMMON_WORDS) !== btfKinds.BTF_VAR_GLOBAL_ALLOCATED) return;
  const name = btf.name(id);
  const symbol = globals.get(name);
  if (symbol === undefined) {
    throw new ObjectError('OBJ_BAD_BTF', `variable ${name} of section ${section} has no symbol`, {
      section: '.BTF',
      symbol: name,
    });
  }
  if (fixOffset) secVar.offset = symbol.value;
  if (isHidden(symbol)) {
    view.setUint32(positions[id]! + 12, btfKinds.BTF_VAR_STATIC, true);
  }
}

function isHidden({ visibility }: ElfSymbol): boolean {
  return visibility === STV_HIDDEN || visibility === STV_INTERNAL;
}

/** Byte position of each type in the section, by id. */
function typePositions(view: DataView, btf: Btf): number[] {
  const positions = [0];
  let at = view.getUint32(4, true) + view.getUint32(8, true);
  for (let id = 1; id < btf.typeCount; id++) {
    positions.push(at);
    const trailing = btfKinds.TRAILING_WORDS[btf.kind(id)]!;
    at += 4 * (COMMON_WORDS + trailing.fixed + trailing.each * btf.vlen(id));
  }
  return positions;
}
