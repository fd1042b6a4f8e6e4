/** Maps of generated modules that hold maps or programs. */

import { aBtf, aMachine, aMap, aTypeId } from '../argument-shapes.ts';
import { aFunction, checkArgument, optional } from '../arguments.ts';
import type { Btf } from '../btf/index.ts';
import { BpfError, ERRNO } from '../errors.ts';
import type { LoadedMap, LoadedProgram, Machine } from '../machine/index.ts';
import { Codec, fail } from './codec.ts';

/** A map of a generated module, or the map itself. */
type AnyMap = LoadedMap | { readonly map: LoadedMap };

const idIn = (bytes: Uint8Array): number =>
  new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength).getUint32(0, true);

/** A map of maps: the inner ones are typed as their definition says. */
export class TypedMapOfMaps<K, Inner> implements Iterable<[K, Inner]> {
  /** The map underneath; its values are ids of maps. */
  readonly map: LoadedMap;
  readonly #machine: Machine;
  readonly #keys: Codec<K>;
  readonly #wrap: (inner: LoadedMap) => Inner;

  constructor(
    map: LoadedMap,
    machine: Machine,
    btf: Btf | undefined,
    keyType: number,
    wrap: (inner: LoadedMap) => Inner,
  ) {
    checkArgument('new TypedMapOfMaps()', 'map', map, aMap);
    checkArgument('new TypedMapOfMaps()', 'machine', machine, aMachine);
    checkArgument('new TypedMapOfMaps()', 'btf', btf, optional(aBtf));
    checkArgument('new TypedMapOfMaps()', 'keyType', keyType, aTypeId);
    checkArgument('new TypedMapOfMaps()', 'wrap', wrap, aFunction);
    this.map = map;
    this.#machine = machine;
    this.#keys = new Codec(btf, keyType, map.spec.keySize, `key of ${map.spec.name}`);
    this.#wrap = wrap;
  }

  get size(): number {
    return this.map.size;
  }

  /** The map that is there, undefined where none is. */
  get(key: K): Inner | undefined {
    const id = this.map.sysLookup(this.#keys.encode(key));
    if (typeof id !== 'number') return this.#inner(id);
    return id === -ERRNO.ENOENT ? undefined : fail(this.map.spec.name, 'lookup', id);
  }

  /** Puts a map there. Throws BpfError EINVAL where it is not like the definition of the inner ones. */
  set(key: K, inner: (Inner & AnyMap) | LoadedMap): void {
    const map =
      'map' in inner && typeof inner.map === 'object' ? (inner.map as LoadedMap) : (inner as LoadedMap);
    const result = this.#machine.setElement(this.map, this.#keys.encode(key), map);
    if (result < 0) fail(this.map.spec.name, 'update', result);
  }

  /** Makes a map as the definition says and puts it there; it lives as long as it is in a map. */
  make(key: K): Inner {
    const { innerMap, name } = this.map.spec;
    if (innerMap === undefined)
      throw new BpfError('EINVAL', `map ${name}: it does not say what its maps are`);
    const inner = this.#machine.createMap(innerMap);
    try {
      const result = this.#machine.setElement(this.map, this.#keys.encode(key), inner);
      if (result < 0) fail(name, 'update', result);
    } finally {
      this.#machine.release(inner);
    }
    return this.#wrap(inner);
  }

  /** False where there was none. */
  delete(key: K): boolean {
    const result = this.map.sysDelete(this.#keys.encode(key));
    if (result === -ERRNO.ENOENT) return false;
    if (result < 0) fail(this.map.spec.name, 'delete', result);
    return true;
  }

  *[Symbol.iterator](): Generator<[K, Inner], void, undefined> {
    for (const { key, values } of this.map.entries()) {
      const inner = this.#inner(values[0]!);
      if (inner !== undefined) yield [this.#keys.decode(key), inner];
    }
  }

  #inner(id: Uint8Array): Inner | undefined {
    const map = this.#machine.maps.get(idIn(id));
    return map === undefined ? undefined : this.#wrap(map);
  }
}

/** Programs by index, for tail calls. */
export class TypedProgArray implements Iterable<[number, LoadedProgram]> {
  readonly map: LoadedMap;
  readonly #machine: Machine;

  constructor(map: LoadedMap, machine: Machine) {
    checkArgument('new TypedProgArray()', 'map', map, aMap);
    checkArgument('new TypedProgArray()', 'machine', machine, aMachine);
    this.map = map;
    this.#machine = machine;
  }

  get(index: number): LoadedProgram | undefined {
    const id = this.map.sysLookup(this.#key(index));
    return typeof id === 'number' ? undefined : this.#machine.programs.get(idIn(id));
  }

  /** Throws BpfError: E2BIG beyond the array, EINVAL for a program of another type than those that are there or call it. */
  set(index: number, program: LoadedProgram): void {
    const result = this.#machine.setElement(this.map, this.#key(index), program);
    if (result < 0) fail(this.map.spec.name, 'update', result);
  }

  /** False where there was none. */
  delete(index: number): boolean {
    const result = this.map.sysDelete(this.#key(index));
    if (result === -ERRNO.ENOENT) return false;
    if (result < 0) fail(this.map.spec.name, 'delete', result);
    return true;
  }

  *[Symbol.iterator](): Generator<[number, LoadedProgram], void, undefined> {
    for (const { key, values } of this.map.entries()) {
      const program = this.#machine.programs.get(idIn(values[0]!));
      if (program !== undefined) yield [idIn(key), program];
    }
  }

  #key(index: number): Uint8Array {
    return new Uint8Array(new Uint32Array([index]).buffer);
  }
}
