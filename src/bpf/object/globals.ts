/** Global variables by name: typed by the object's BTF, as bytes without. */
import { type Btf, sizeOf } from '../btf/index.ts';
import { type ElfFile, ObjectError, STT_OBJECT } from '../elf/index.ts';
import { BpfError } from '../errors.ts';
import { type BtfValue, decodeValue, encodeValue } from './values.ts';

/** The contents of one section of variables: the initial ones before load, the map's afterwards. */
export interface DataStore {
  /** A copy. */
  read(offset: number, length: number): Uint8Array;
  write(offset: number, bytes: Uint8Array): void;
}

export interface GlobalVariable {
  readonly name: string;
  /** The map it is in, `.data` or an arena's name, and where. Bytes. */
  readonly map: string;
  readonly offset: number;
  readonly size: number;
  /** Its type in the object's BTF; 0 without. */
  readonly typeId: number;
  /** A static variable; another file's may have the same name. */
  readonly isStatic: boolean;
}

/**
 * What a section of variables starts with. Sections are views into the file, and `.bss` is nothing, until the first write.
 */
export class InitialData implements DataStore {
  readonly size: number;
  private source: Uint8Array | undefined;
  private owned = false;

  /** `source` undefined: zeroes. */
  constructor(size: number, source: Uint8Array | undefined) {
    this.size = size;
    this.source = source;
  }

  /** Undefined while all is zero. Not to be changed. */
  get bytes(): Uint8Array | undefined {
    return this.source;
  }

  read(offset: number, length: number): Uint8Array {
    return this.source?.slice(offset, offset + length) ?? new Uint8Array(length);
  }

  write(offset: number, bytes: Uint8Array): void {
    if (!this.owned) {
      if (this.size > MAX_INITIAL_DATA) {
        throw new BpfError('OBJ_TOO_LARGE', `a section of ${this.size} bytes cannot be given initial values`);
      }
      const copy = new Uint8Array(this.size);
      if (this.source !== undefined) copy.set(this.source);
      this.source = copy;
      this.owned = true;
    }
    this.source!.set(bytes, offset);
  }
}

const MAX_INITIAL_DATA = 1 << 30;

/** Variables of every DATASEC that is a map; without BTF, of every symbol. */
export function collectVariables(
  elf: ElfFile,
  btf: Btf | undefined,
  /** By section name: the map it is in, and its size. */
  sections: ReadonlyMap<string, { readonly map: string; readonly size: number }>,
): GlobalVariable[] {
  const found: GlobalVariable[] = [];
  const typed = new Set<string>();
  if (btf !== undefined) {
    for (let id = 1; id < btf.typeCount; id++) {
      if (btf.kindName(id) !== 'DATASEC') continue;
      const datasec = btf.type(id);
      if (datasec.kind !== 'DATASEC') continue;
      const place = sections.get(datasec.name);
      if (place === undefined || typed.has(datasec.name)) continue;
      typed.add(datasec.name);
      for (const { type, offset, size } of datasec.vars) {
        const variable = btf.type(type);
        if (variable.kind !== 'VAR' || variable.name === '') continue;
        if (offset + size > place.size) {
          throw new ObjectError(
            'OBJ_BAD_BTF',
            `variable ${variable.name} of ${size} bytes lies outside of its section`,
            {
              section: datasec.name,
              symbol: variable.name,
              offset,
            },
          );
        }
        const isStatic = variable.linkage === 'static';
        found.push({ name: variable.name, map: place.map, offset, size, typeId: variable.type, isStatic });
      }
    }
  }
  for (const { name, type, section, value, size, bind } of elf.symbols) {
    if (type !== STT_OBJECT || name === '' || size === 0) continue;
    const sectionName = elf.sections[section]?.name ?? '';
    const place = sections.get(sectionName);
    if (place === undefined || typed.has(sectionName) || value + size > place.size) continue;
    found.push({ name, map: place.map, offset: value, size, typeId: 0, isStatic: bind === 0 });
  }
  return found;
}

export class Globals implements Iterable<GlobalVariable> {
  private readonly btf: Btf | undefined;
  private readonly variables = new Map<string, GlobalVariable>();
  private readonly stores: (map: string, write: boolean) => DataStore;

  /** `stores` gives the contents of a section, or throws where they cannot be had or written. */
  constructor(
    btf: Btf | undefined,
    variables: readonly GlobalVariable[],
    stores: (map: string, write: boolean) => DataStore,
  ) {
    this.btf = btf;
    this.stores = stores;
    for (const variable of variables) {
      const other = this.variables.get(variable.name);
      // Of two with one name the global one counts.
      if (other === undefined || (other.isStatic && !variable.isStatic))
        this.variables.set(variable.name, variable);
    }
  }

  get size(): number {
    return this.variables.size;
  }

  [Symbol.iterator](): Iterator<GlobalVariable> {
    return this.variables.values();
  }

  has(name: string): boolean {
    return this.variables.has(name);
  }

  /** Where a variable is, and its type. Throws BpfError OBJ_NO_GLOBAL. */
  variable(name: string): GlobalVariable {
    const variable = this.variables.get(name);
    if (variable === undefined) {
      const known = [...this.variables.keys()].slice(0, 20).join(', ');
      throw new BpfError('OBJ_NO_GLOBAL', `no global variable ${name}`, {
        hint: known === '' ? 'the object has no global variables' : `there are: ${known}`,
      });
    }
    return variable;
  }

  /** Its value, as `values.ts` says; a Uint8Array where the object has no types. */
  get(name: string): BtfValue {
    const { map, offset, size, typeId } = this.variable(name);
    const bytes = this.stores(map, false).read(offset, size);
    if (this.btf === undefined || typeId === 0) return bytes;
    return decodeValue(this.btf, typeId, bytes, name);
  }

  /** A copy of its bytes. */
  bytes(name: string): Uint8Array {
    const { map, offset, size } = this.variable(name);
    return this.stores(map, false).read(offset, size);
  }

  /** Throws BpfError OBJ_BAD_VALUE for a value that does not fit, OBJ_FROZEN for a constant after load. */
  set(name: string, value: BtfValue): void {
    const { map, offset, size, typeId } = this.variable(name);
    const store = this.stores(map, true);
    if (this.btf !== undefined && typeId !== 0 && sizeOf(this.btf, typeId) <= size) {
      const bytes = store.read(offset, size);
      encodeValue(this.btf, typeId, value, bytes, name);
      store.write(offset, bytes);
      return;
    }
    if (!(value instanceof Uint8Array) || value.length !== size) {
      throw new BpfError('OBJ_BAD_VALUE', `${name}: ${size} bytes are needed, its type is not known`);
    }
    store.write(offset, value);
  }
}
