/** BTF-defined maps, section `.maps` (parse_btf_map_def of libbpf), with their static initialisers. */
import { type Btf, BtfError, type BtfMember, type BtfSecVar, resolveType, sizeOf } from '../btf/index.ts';
import { type ElfFile, type ElfSection, ObjectError, readRelocations } from '../elf/index.ts';
import { MAP_TYPES, type MapType } from '../maps/map-spec.ts';
import type { ObjectMapSpec } from './spec.ts';

type Mutable<T> = { -readonly [K in keyof T]: T[K] };
/** A specification in the making. Its type is `undefined` until the field was read. */
export type MapDraft = Mutable<Omit<ObjectMapSpec, 'slots' | 'keyTypeId' | 'valueTypeId'>> & {
  slots: Map<number, string>;
  keyTypeId: number;
  valueTypeId: number;
};

/** A definition has no more fields: there are a dozen. */
const MAX_FIELDS = 64;

/** BPF_OBJ_NAME_LEN without the final zero. */
export const MAX_OBJECT_NAME = 15;
const POINTER_SIZE = 8;
const PAGE_SIZE = 4096;

export function newMapDraft(name: string, type: MapType, section: string, offset: number): MapDraft {
  return {
    name,
    kernelName: name.slice(0, MAX_OBJECT_NAME),
    type,
    keySize: 0,
    valueSize: 0,
    maxEntries: 0,
    flags: 0,
    mapExtra: 0n,
    pinning: 'none',
    keyTypeId: 0,
    valueTypeId: 0,
    slots: new Map(),
    origin: 'user',
    section,
    offset,
    frozen: false,
  };
}

/** What parsing one `.maps` section needs and gives. */
interface MapsSection {
  readonly btf: Btf;
  readonly section: ElfSection;
}

function refuse(map: string, message: string, offset?: number): never {
  throw new ObjectError('OBJ_BAD_MAP', `map ${map}: ${message}`, { section: '.maps', offset });
}

/** The maps of a `.maps` section by offset, without their static initialisers. Throws ObjectError OBJ_BAD_MAP. */
export function parseMapDefinitions({ btf, section }: MapsSection): MapDraft[] {
  const id = btf.byName('.maps', 'DATASEC');
  const datasec = id === undefined ? undefined : btf.type(id);
  if (datasec?.kind !== 'DATASEC') {
    throw new ObjectError('OBJ_BAD_MAP', 'the types of the maps are missing from .BTF', { section: '.maps' });
  }
  return datasec.vars.map((secVar) => parseMap(btf, section, secVar));
}

function parseMap(btf: Btf, section: ElfSection, secVar: BtfSecVar): MapDraft {
  const variable = btf.type(secVar.type);
  if (variable.kind !== 'VAR' || variable.name === '') refuse('?', 'not a variable', secVar.offset);
  const { name } = variable;
  if (secVar.offset + secVar.size > section.size) refuse(name, 'lies outside of its section', secVar.offset);
  if (variable.linkage !== 'global') {
    refuse(name, `is ${variable.linkage}; a map must be a global variable`, secVar.offset);
  }
  try {
    const draft = parseDefinition(btf, name, variable.type, section.name, secVar.offset);
    if (btf.word(resolveType(btf, variable.type), 2) > secVar.size)
      refuse(name, 'is smaller than its definition', secVar.offset);
    return draft;
  } catch (error) {
    if (error instanceof BtfError) refuse(name, error.message, secVar.offset);
    throw error;
  }
}

/** One definition by the type of its variable. Throws ObjectError OBJ_BAD_MAP. */
export function parseMapDefinition(btf: Btf, name: string, type: number): MapDraft {
  return parseDefinition(btf, name, type, '.maps', 0);
}

function parseDefinition(btf: Btf, name: string, type: number, section: string, offset: number): MapDraft {
  const id = resolveType(btf, type);
  if (btf.kindName(id) !== 'STRUCT') refuse(name, 'is not defined by a struct', offset);
  if (btf.vlen(id) > MAX_FIELDS) refuse(name, `a definition of ${btf.vlen(id)} fields`, offset);
  const definition = btf.type(id);
  if (definition.kind !== 'STRUCT') refuse(name, 'is not defined by a struct', offset);
  const draft = newMapDraft(name, declaredType(btf, name, definition.members, offset), section, offset);
  parseFields(btf, draft, definition.members, false);
  return draft;
}

function parseFields(btf: Btf, map: MapDraft, members: readonly BtfMember[], inner: boolean): void {
  const seen = { key: false, value: false };
  const setSize = (side: 'key' | 'value', size: number) => {
    const field = side === 'key' ? 'keySize' : 'valueSize';
    if (seen[side] && map[field] !== 0 && map[field] !== size) {
      refuse(map.name, `conflicting sizes of its ${side}: ${map[field]} and ${size}`, map.offset);
    }
    map[field] = size;
    seen[side] = true;
  };
  for (const [index, member] of members.entries()) {
    switch (member.name) {
      case 'type':
        break;
      case 'max_entries':
        map.maxEntries = uintField(btf, map, member);
        break;
      case 'map_flags':
        map.flags = uintField(btf, map, member);
        break;
      case 'numa_node':
        map.numaNode = uintField(btf, map, member);
        break;
      case 'map_extra':
        map.mapExtra = ulongField(btf, map, member);
        break;
      case 'key_size':
      case 'value_size':
        setSize(member.name === 'key_size' ? 'key' : 'value', uintField(btf, map, member));
        break;
      case 'key':
      case 'value': {
        const pointer = btf.type(member.type);
        if (pointer.kind !== 'PTR')
          refuse(map.name, `its ${member.name} is not declared by a pointer`, map.offset);
        setSize(member.name, sizeOf(btf, pointer.type));
        map[member.name === 'key' ? 'keyTypeId' : 'valueTypeId'] = pointer.type;
        break;
      }
      case 'values':
        if (inner) refuse(map.name, 'an inner map cannot hold maps', map.offset);
        if (index !== members.length - 1) refuse(map.name, 'values is not the last member', map.offset);
        parseValues(btf, map, member);
        break;
      case 'pinning': {
        const pinning = uintField(btf, map, member);
        if (inner) refuse(map.name, 'an inner map cannot be pinned', map.offset);
        if (pinning > 1) refuse(map.name, `invalid pinning ${pinning}`, map.offset);
        map.pinning = pinning === 1 ? 'by_name' : 'none';
        break;
      }
      default:
        refuse(map.name, `unknown field ${member.name === '' ? '(anonymous)' : member.name}`, map.offset);
    }
  }
  if (map.type === 'ringbuf' || map.type === 'user_ringbuf') map.maxEntries = ringbufSize(map.maxEntries);
}

/** `values`: the type of inner maps, or of the programs of a prog_array. */
function parseValues(btf: Btf, map: MapDraft, member: BtfMember): void {
  const inMap = map.type === 'array_of_maps' || map.type === 'hash_of_maps';
  if (!inMap && map.type !== 'prog_array') {
    refuse(map.name, 'values is for maps of maps and prog_array only', map.offset);
  }
  if (map.valueSize !== 0 && map.valueSize !== 4) {
    refuse(map.name, `conflicting sizes of its value: ${map.valueSize} and 4`, map.offset);
  }
  map.valueSize = 4;
  const array = btf.type(member.type);
  if (array.kind !== 'ARRAY' || array.nelems !== 0) {
    refuse(map.name, 'values is not an array of unknown length', map.offset);
  }
  const pointer = btf.type(resolveType(btf, array.type));
  if (pointer.kind !== 'PTR') refuse(map.name, 'values does not hold pointers', map.offset);
  const target = btf.type(resolveType(btf, pointer.type));
  if (!inMap) {
    if (target.kind !== 'FUNC_PROTO') refuse(map.name, 'values does not point to functions', map.offset);
    return;
  }
  if (target.kind !== 'STRUCT')
    refuse(map.name, 'values does not point to a definition of a map', map.offset);
  const name = `${map.name}.inner`;
  const innerMap = newMapDraft(
    name,
    declaredType(btf, name, target.members, map.offset),
    map.section,
    map.offset,
  );
  parseFields(btf, innerMap, target.members, true);
  map.innerMap = innerMap;
}

/** The map type of a number. Throws ObjectError OBJ_BAD_MAP. */
export function mapType(map: string, number: number, offset: number): MapType {
  const type = MAP_TYPES[number - 1];
  if (type === undefined) refuse(map, `unknown map type ${number}`, offset);
  return type;
}

function declaredType(btf: Btf, map: string, members: readonly BtfMember[], offset: number): MapType {
  if (members.length > MAX_FIELDS) refuse(map, `a definition of ${members.length} fields`, offset);
  const member = members.findLast(({ name }) => name === 'type');
  if (member === undefined) refuse(map, 'has no type', offset);
  return mapType(map, uintField(btf, { name: map, offset }, member), offset);
}

/** __uint(name, value): a pointer to an array of so many elements (get_map_field_int). */
function uintField(btf: Btf, map: { name: string; offset: number }, member: BtfMember): number {
  const pointer = btf.type(resolveType(btf, member.type));
  const array = pointer.kind === 'PTR' ? btf.type(pointer.type) : undefined;
  if (array?.kind !== 'ARRAY') refuse(map.name, `${member.name} is not declared by __uint`, map.offset);
  return array.nelems;
}

/** __ulong(name, value): an enum of one value; __uint is fine too (get_map_field_long). */
function ulongField(btf: Btf, map: MapDraft, member: BtfMember): bigint {
  const type = btf.type(resolveType(btf, member.type));
  if (type.kind === 'PTR') return BigInt(uintField(btf, map, member));
  if ((type.kind !== 'ENUM' && type.kind !== 'ENUM64') || type.values.length !== 1) {
    refuse(map.name, `${member.name} is not declared by __ulong`, map.offset);
  }
  return BigInt.asUintN(64, type.values[0]!.value);
}

/** The next power of two of pages: what the kernel wants of a ring buffer (adjust_ringbuf_sz). */
export function ringbufSize(size: number): number {
  if (size === 0) return 0;
  let rounded = PAGE_SIZE;
  while (rounded < size) rounded *= 2;
  return rounded > 0xffff_ffff ? size : rounded;
}

/**
 * Fills in the static initialisers, `.values = { &inner, … }`: relocations of the section. `isProgram` says whether a symbol is
 * the start of a program. Throws ObjectError OBJ_BAD_MAP.
 */
export function readInitialisers(
  elf: ElfFile,
  { btf, section }: MapsSection,
  maps: readonly MapDraft[],
  isProgram: (name: string, section: number, value: number) => boolean,
): void {
  const datasec = btf.type(btf.byName('.maps', 'DATASEC')!);
  if (datasec.kind !== 'DATASEC') return;
  const names = new Set(maps.map(({ name }) => name));
  for (const table of elf.relocationSections.get(section.index) ?? []) {
    for (const { offset, symbol } of readRelocations(elf, table)) {
      const index = lastAtOrBefore(datasec.vars, offset);
      const map = maps[index];
      if (
        map === undefined ||
        offset + POINTER_SIZE > datasec.vars[index]!.offset + datasec.vars[index]!.size
      ) {
        throw new ObjectError('OBJ_BAD_MAP', `${symbol.name} is stored outside of every map`, {
          section: '.maps',
          offset,
        });
      }
      const inMap = map.type === 'array_of_maps' || map.type === 'hash_of_maps';
      if (!inMap && map.type !== 'prog_array')
        refuse(map.name, 'only maps of maps and prog_array have initial values', offset);
      if (inMap) {
        if (symbol.section !== section.index || !names.has(symbol.name)) {
          refuse(map.name, `its initial value ${symbol.name} is no map`, offset);
        }
        if (map.type === 'hash_of_maps' && map.keySize !== 4) {
          refuse(map.name, 'only keys of 4 bytes can have initial values', offset);
        }
      } else if (!isProgram(symbol.name, symbol.section, symbol.value)) {
        refuse(map.name, `its initial value ${symbol.name} is no program`, offset);
      }
      const secVar = datasec.vars[index]!;
      const definition = btf.type(resolveType(btf, btf.word(secVar.type, 2)));
      const values = definition.kind === 'STRUCT' ? definition.members.at(-1) : undefined;
      if (values?.name !== 'values') refuse(map.name, 'has initial values and no member values', offset);
      const at = offset - secVar.offset - values.bitOffset / 8;
      if (at < 0 || at % POINTER_SIZE !== 0) refuse(map.name, 'initial value is not in values', offset);
      map.slots.set(at / POINTER_SIZE, symbol.name);
    }
  }
}

/** Index of the last variable that starts at `offset` or before; -1 without. They are sorted. */
function lastAtOrBefore(vars: readonly BtfSecVar[], offset: number): number {
  let low = 0;
  let high = vars.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (vars[middle]!.offset <= offset) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}
