/**
 * Maps of section `maps`: one `struct bpf_map_def` a symbol, as before BTF (libbpf below 1.0). The struct is as large as the
 * section divided by the number of its maps; what lies behind the five known fields must be zero.
 */
import type { Btf } from '../btf/index.ts';
import { resolveType } from '../btf/index.ts';
import {
  type ElfFile,
  type ElfSection,
  ObjectError,
  STB_LOCAL,
  STT_NOTYPE,
  STT_OBJECT,
} from '../elf/index.ts';
import { type MapDraft, mapType, newMapDraft, ringbufSize } from './map-definitions.ts';

/** type, key_size, value_size, max_entries: u32 each; map_flags may be missing. */
const SMALLEST = 16;
const KNOWN = 20;

/** By offset. Throws ObjectError OBJ_BAD_MAP. */
export function parseLegacyMaps(elf: ElfFile, section: ElfSection, btf: Btf | undefined): MapDraft[] {
  const symbols = elf.symbols
    .filter(
      (symbol) =>
        symbol.section === section.index &&
        symbol.bind !== STB_LOCAL &&
        (symbol.type === STT_OBJECT || symbol.type === STT_NOTYPE) &&
        symbol.name !== '',
    )
    .sort((a, b) => a.value - b.value);
  if (symbols.length === 0) return [];
  const size = section.size / symbols.length;
  if (section.data.length !== section.size || !Number.isInteger(size) || size < SMALLEST) {
    throw new ObjectError('OBJ_BAD_MAP', `${section.size} bytes are not ${symbols.length} map definitions`, {
      section: section.name,
    });
  }
  const view = new DataView(section.data.buffer, section.data.byteOffset, section.size);
  return symbols.map(({ name, value }) => {
    const place = { section: section.name, symbol: name, offset: value };
    if (value % size !== 0 || value + size > section.size) {
      throw new ObjectError('OBJ_BAD_MAP', `map ${name} is not a definition of ${size} bytes`, place);
    }
    for (let at = value + KNOWN; at < value + size; at++) {
      if (view.getUint8(at) !== 0) {
        throw new ObjectError('OBJ_BAD_MAP', `map ${name} uses a field that is not known`, {
          ...place,
          offset: at,
        });
      }
    }
    const map = newMapDraft(name, mapType(name, view.getUint32(value, true), value), section.name, value);
    map.keySize = view.getUint32(value + 4, true);
    map.valueSize = view.getUint32(value + 8, true);
    map.maxEntries = view.getUint32(value + 12, true);
    if (size >= KNOWN) map.flags = view.getUint32(value + 16, true);
    if (map.type === 'ringbuf' || map.type === 'user_ringbuf') map.maxEntries = ringbufSize(map.maxEntries);
    annotateTypes(btf, map);
    return map;
  });
}

/** BPF_ANNOTATE_KV_PAIR: `struct ____btf_map_NAME { key; value; }` tells the types of key and value. */
function annotateTypes(btf: Btf | undefined, map: MapDraft): void {
  const id = btf?.byName(`____btf_map_${map.name}`, 'STRUCT');
  if (btf === undefined || id === undefined) return;
  for (const member of btf.members(id)) {
    if (member.name === 'key') map.keyTypeId = resolveType(btf, member.type);
    if (member.name === 'value') map.valueTypeId = resolveType(btf, member.type);
  }
}
