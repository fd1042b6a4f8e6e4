/** What generated modules stand on: an object whose maps, variables and programs are typed. */

import { aBtf, aMap, aTypeId } from '../argument-shapes.ts';
import { aString, checkArgument, either, listOf, optional, someBytes, stringOf } from '../arguments.ts';
import type { Btf } from '../btf/index.ts';
import { BpfError, ERRNO } from '../errors.ts';
import type { LoadedMap, LoadedProgram, Machine } from '../machine/index.ts';
import {
  type BpfObject,
  type BtfValue,
  type Globals,
  type LoadedObject,
  type LoadObjectOptions,
  openObject,
} from '../object/index.ts';
import { Codec, fail } from './codec.ts';
import { mapKind, type TypedMapSpec } from './map-kind.ts';
import {
  TypedBloomFilter,
  TypedPerfEventArray,
  TypedQueue,
  TypedRingBuffer,
  TypedStackTraces,
  TypedUserRingBuffer,
} from './skeleton-containers.ts';
import { TypedMapOfMaps, TypedProgArray } from './skeleton-references.ts';

/** A map of keys and values by their C types; see ../object/values.ts for what they are in JavaScript. */
export class TypedMap<K, V> implements Iterable<[K, V]> {
  /** The map underneath, of bytes. */
  readonly map: LoadedMap;
  protected readonly keys_: Codec<K>;
  protected readonly values_: Codec<V>;

  constructor(map: LoadedMap, btf: Btf | undefined, keyType: number, valueType: number) {
    checkArgument('new TypedMap()', 'map', map, aMap);
    checkArgument('new TypedMap()', 'btf', btf, optional(aBtf));
    checkArgument('new TypedMap()', 'keyType', keyType, aTypeId);
    checkArgument('new TypedMap()', 'valueType', valueType, aTypeId);
    const { keySize, valueSize, name } = map.spec;
    this.map = map;
    this.keys_ = new Codec(btf, keyType, keySize, `key of ${name}`);
    this.values_ = new Codec(btf, valueType, valueSize, `value of ${name}`);
  }

  get size(): number {
    return this.map.size;
  }

  get(key: K): V | undefined {
    const bytes = this.map.lookup(this.keys_.encode(key));
    return bytes === undefined ? undefined : this.values_.decode(bytes);
  }

  /** Throws BpfError with the code that bpf(2) would give: E2BIG, EEXIST, ENOENT, … */
  set(key: K, value: V, flags = 0): void {
    const result = this.map.update(this.keys_.encode(key), this.values_.encode(value), flags);
    if (result < 0) fail(this.map.spec.name, 'update', result);
  }

  /** False where there was no such key. Throws BpfError for other failures: elements of arrays cannot be deleted. */
  delete(key: K): boolean {
    const result = this.map.delete(this.keys_.encode(key));
    if (result === -ERRNO.ENOENT) return false;
    if (result < 0) fail(this.map.spec.name, 'delete', result);
    return true;
  }

  *[Symbol.iterator](): Generator<[K, V], void, undefined> {
    for (const { key, values } of this.map.entries()) {
      yield [this.keys_.decode(key), this.values_.decode(values[0]!)];
    }
  }
}

/** A per-CPU map: a value for each CPU. */
export class TypedPercpuMap<K, V> implements Iterable<[K, V[]]> {
  readonly map: LoadedMap;
  readonly #keys: Codec<K>;
  readonly #values: Codec<V>;

  constructor(map: LoadedMap, btf: Btf | undefined, keyType: number, valueType: number) {
    checkArgument('new TypedPercpuMap()', 'map', map, aMap);
    checkArgument('new TypedPercpuMap()', 'btf', btf, optional(aBtf));
    checkArgument('new TypedPercpuMap()', 'keyType', keyType, aTypeId);
    checkArgument('new TypedPercpuMap()', 'valueType', valueType, aTypeId);
    const { keySize, valueSize, name } = map.spec;
    this.map = map;
    this.#keys = new Codec(btf, keyType, keySize, `key of ${name}`);
    this.#values = new Codec(btf, valueType, valueSize, `value of ${name}`);
  }

  get size(): number {
    return this.map.size;
  }

  /** The values of all CPUs. */
  get(key: K): V[] | undefined {
    return this.map.lookupPercpu(this.#keys.encode(key))?.map((bytes) => this.#values.decode(bytes));
  }

  /** One value for every CPU, or one for each. Throws BpfError with the code that bpf(2) would give. */
  set(key: K, values: readonly V[], flags = 0): void {
    const bytes = values.map((value) => this.#values.encode(value));
    const result = this.map.update(this.#keys.encode(key), bytes.length === 1 ? bytes[0]! : bytes, flags);
    if (result < 0) fail(this.map.spec.name, 'update', result);
  }

  /** False where there was no such key. */
  delete(key: K): boolean {
    const result = this.map.delete(this.#keys.encode(key));
    if (result === -ERRNO.ENOENT) return false;
    if (result < 0) fail(this.map.spec.name, 'delete', result);
    return true;
  }

  *[Symbol.iterator](): Generator<[K, V[]], void, undefined> {
    for (const { key, values } of this.map.entries()) {
      yield [this.#keys.decode(key), values.map((bytes) => this.#values.decode(bytes))];
    }
  }
}

/** An opened object, before load. `Variables` has the global variables as properties. */
export interface Skeleton<Maps, Programs extends string, Variables> {
  readonly object: BpfObject;
  /** The variables' initial values: those of constants can be set here only. */
  readonly globals: Variables;
  /** Verifies and compiles. May be called again, for maps of its own. */
  load(options?: LoadObjectOptions): LoadedSkeleton<Maps, Programs, Variables>;
}

export interface LoadedSkeleton<Maps, Programs extends string, Variables> {
  readonly object: LoadedObject;
  readonly maps: Maps;
  readonly programs: Readonly<Record<Programs, LoadedProgram>>;
  /** The variables as they are now. */
  readonly globals: Variables;
}

/** Properties that read and write the variables. */
function accessors<Variables>(globals: Globals): Variables {
  const object = Object.create(null) as object;
  for (const { name } of globals) {
    Object.defineProperty(object, name, {
      enumerable: true,
      get: () => globals.get(name),
      set: (value: BtfValue) => globals.set(name, value),
    });
  }
  return Object.freeze(object) as Variables;
}

function typedMap(object: LoadedObject, name: string): unknown {
  const map = object.maps.get(name);
  if (map === undefined) throw new BpfError('OBJ_NO_MAP', `the object has no map ${name}`);
  return typed(object.spec.btf, object.machine, map, object.spec.maps.get(name)!);
}

/** A map, or an inner one, as its definition says. */
function typed(btf: Btf | undefined, machine: Machine, map: LoadedMap, spec: TypedMapSpec): unknown {
  const { keyTypeId = 0, valueTypeId = 0, innerMap } = spec;
  switch (mapKind(spec)) {
    case 'raw':
    case 'arena':
      return map;
    case 'ring':
      return new TypedRingBuffer(map, btf, machine.memory);
    case 'user-ring':
      return new TypedUserRingBuffer(map, btf);
    case 'perf':
      return new TypedPerfEventArray(map, btf);
    case 'stacks':
      return new TypedStackTraces(map);
    case 'queue':
      return new TypedQueue(map, btf, valueTypeId);
    case 'bloom':
      return new TypedBloomFilter(map, btf, valueTypeId);
    case 'programs':
      return new TypedProgArray(map, machine);
    case 'maps': {
      const wrap = (inner: LoadedMap): unknown => typed(btf, machine, inner, innerMap!);
      return new TypedMapOfMaps(map, machine, btf, keyTypeId, wrap);
    }
    case 'percpu':
      return new TypedPercpuMap(map, btf, keyTypeId, valueTypeId);
    case 'typed':
      return new TypedMap(map, btf, keyTypeId, valueTypeId);
  }
}

/**
 * Opens the object of a generated module: `contents` is the file, as bytes or in base64. The type arguments are the module's;
 * nothing checks them against the object.
 */
export function openSkeleton<Maps, Programs extends string, Variables>(
  contents: Uint8Array | string,
  name: string,
  maps: readonly (keyof Maps & string)[],
): Skeleton<Maps, Programs, Variables> {
  checkArgument(
    'openSkeleton()',
    'contents',
    contents,
    either(stringOf('a string in base64, or a Uint8Array'), someBytes),
  );
  checkArgument('openSkeleton()', 'name', name, aString);
  checkArgument('openSkeleton()', 'maps', maps, listOf(aString));
  const bytes =
    typeof contents === 'string' ? Uint8Array.from(atob(contents), (c) => c.charCodeAt(0)) : contents;
  const object = openObject(bytes, name);
  return {
    object,
    globals: accessors<Variables>(object.globals),
    load(options) {
      const loaded = object.load(options);
      const typed = Object.fromEntries(maps.map((name) => [name, typedMap(loaded, name)]));
      return {
        object: loaded,
        maps: typed as Maps,
        programs: Object.fromEntries(loaded.programs) as Record<Programs, LoadedProgram>,
        globals: accessors<Variables>(loaded.globals),
      };
    },
  };
}
