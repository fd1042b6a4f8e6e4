/**
 * Arrays of objects (kernel/bpf/arraymap.c, map_in_map.c): prog_array, perf_event_array, array_of_maps, and those of sockets, cgroups
 * and devices that user space does not have. Outside of programs a value is a file descriptor, read back it is an id; inside, a
 * slot holds the object's id (programs) or its address (maps, perf buffers).
 */
import { BpfError, ERRNO } from '../errors.ts';
import { nextIndex, readU32, u32Bytes } from './array.ts';
import type { Batch } from './batch.ts';
import { HashMap } from './hashtab.ts';
import { MapBase, USER_CPU } from './map-base.ts';
import { BPF_ANY, type MapSpec } from './map-spec.ts';
import type { BpfMap, BytesOrErrno, MapEntry, MapObjects } from './map-types.ts';

/** Whether a map may take the place that `template` describes (bpf_map_meta_equal, array_map_meta_equal). */
export function isInnerMap(template: MapSpec, map: MapSpec): boolean {
  const INNER = 1 << 12;
  const same =
    template.type === map.type &&
    template.keySize === map.keySize &&
    template.valueSize === map.valueSize &&
    (template.flags ?? 0) === (map.flags ?? 0) &&
    JSON.stringify(template.record?.fields ?? []) === JSON.stringify(map.record?.fields ?? []);
  if (!same) return false;
  // The verifier computes with the size of an array or a ring; of others it knows nothing.
  const isSized = map.type === 'array' || map.type === 'ringbuf' || map.type === 'user_ringbuf';
  if (!isSized || (map.type === 'array' && ((template.flags ?? 0) & INNER) !== 0)) return true;
  return template.maxEntries === map.maxEntries;
}

function objectsOf(objects: MapObjects | undefined, name: string): MapObjects {
  if (objects === undefined) {
    throw new BpfError('ENOTSUPP', `map ${name}: this memory has no objects to put in`);
  }
  return objects;
}

export class ObjectArray extends MapBase {
  protected slot(index: number): number {
    if (index >= this.spec.maxEntries) return 0;
    return this.address + this.geometry.data + index * this.geometry.stride;
  }

  protected get objects(): MapObjects {
    return objectsOf(this.environment.objects, this.spec.name);
  }

  /** What a slot holds for a file descriptor, or -errno. */
  protected acquire(_fd: number): number {
    return -ERRNO.EOPNOTSUPP;
  }

  /** The slot no longer holds this. */
  protected forget(_held: number): void {}

  /** What bpf(2) reads, or -errno. */
  protected idOf(held: number): number {
    return held;
  }

  /** What slot `index` holds; 0 where nothing. */
  held(index: number): number {
    const slot = this.slot(index);
    return slot === 0 ? 0 : this.load(slot);
  }

  /** Atomically exchanges what a slot holds. */
  protected exchange(slot: number, held: number): number {
    return Atomics.exchange(this.view.i32, slot >>> 2, held | 0) >>> 0;
  }

  lookupElem(_key: number, _cpu: number): number {
    return 0;
  }

  updateElem(): number {
    return -ERRNO.EOPNOTSUPP;
  }

  deleteElem(key: number): number {
    return this.sysDelete(this.view.u8.slice(key, key + 4));
  }

  protected canLookup = true;

  override sysLookup(key: Uint8Array): BytesOrErrno {
    if (!this.canLookup) return -ERRNO.ENOTSUPP;
    const index = readU32(key, 0);
    const held = this.held(index);
    if (held === 0) return -ERRNO.ENOENT;
    const id = this.idOf(held);
    return id < 0 ? id : u32Bytes(id);
  }

  /** bpf_fd_array_map_update_elem */
  sysUpdate(key: Uint8Array, value: Uint8Array, flags = 0): number {
    if (flags !== BPF_ANY) return -ERRNO.EINVAL;
    const slot = this.slot(readU32(key, 0));
    if (slot === 0) return -ERRNO.E2BIG;
    const held = this.acquire(readU32(value, 0));
    if (held < 0) return held;
    const old = this.exchange(slot, held);
    if (old !== 0) this.forget(old);
    return 0;
  }

  sysDelete(key: Uint8Array): number {
    const slot = this.slot(readU32(key, 0));
    if (slot === 0) return -ERRNO.E2BIG;
    const old = this.exchange(slot, 0);
    if (old === 0) return -ERRNO.ENOENT;
    this.forget(old);
    return 0;
  }

  sysNextKey(key: Uint8Array | undefined): BytesOrErrno {
    return nextIndex(key, this.spec.maxEntries);
  }

  override *entries(): IterableIterator<MapEntry> {
    for (let i = 0; i < this.spec.maxEntries; i++) {
      const value = this.held(i) === 0 ? 0 : this.sysLookup(u32Bytes(i));
      if (typeof value !== 'number') yield { key: u32Bytes(i), values: [value] };
    }
  }

  override destroy(): void {
    for (let i = 0; i < this.spec.maxEntries; i++) {
      if (this.held(i) !== 0) this.sysDelete(u32Bytes(i));
    }
  }
}

/** prog_array: targets of bpf_tail_call. A slot holds a program's id. */
export class ProgArray extends ObjectArray {
  protected override acquire(fd: number): number {
    const program = this.objects.programByFd(fd);
    if (typeof program === 'number') return program;
    this.objects.hold(program);
    return program.id;
  }

  protected override forget(id: number): void {
    const program = this.objects.programById(id);
    if (program !== undefined) this.objects.drop(program);
  }
}

/** array_of_maps: a slot holds the address of an inner map. */
export class ArrayOfMaps extends ObjectArray {
  protected override readonly batches: readonly Batch[] = ['lookup', 'update'];

  protected override acquire(fd: number): number {
    const map = acquireInner(this.objects, this.spec, fd);
    return typeof map === 'number' ? map : map.address;
  }

  protected override forget(address: number): void {
    const map = this.objects.mapAt(address);
    if (map !== undefined) this.objects.drop(map);
  }

  protected override idOf(address: number): number {
    return this.objects.mapAt(address)?.id ?? -ERRNO.ENOENT;
  }

  override lookupElem(key: number): number {
    return this.held(this.view.data.getUint32(key, true));
  }
}

function acquireInner(objects: MapObjects, spec: MapSpec, fd: number): BpfMap | number {
  const map = objects.mapByFd(fd);
  if (typeof map === 'number') return map;
  if (spec.innerMap !== undefined && !isInnerMap(spec.innerMap, map.spec)) return -ERRNO.EINVAL;
  objects.hold(map);
  return map;
}

/** hash_of_maps: an element's value holds the address of an inner map. */
export class HashOfMaps extends HashMap {
  private get objects(): MapObjects {
    return objectsOf(this.environment.objects, this.spec.name);
  }

  private forgetAt(address: number): void {
    const map = this.objects.mapAt(address);
    if (map !== undefined) this.objects.drop(map);
  }

  override lookupElem(key: number, cpu: number): number {
    const value = super.lookupElem(key, cpu);
    return value === 0 ? 0 : this.load(value);
  }

  override updateElem(): number {
    return -ERRNO.EINVAL;
  }

  override deleteElem(key: number): number {
    return this.sysDelete(this.view.u8.slice(key, key + this.spec.keySize));
  }

  override sysLookup(key: Uint8Array): BytesOrErrno {
    const value = this.find(key, 0);
    if (value === 0) return -ERRNO.ENOENT;
    const map = this.objects.mapAt(this.load(value));
    return map === undefined ? -ERRNO.ENOENT : u32Bytes(map.id);
  }

  override sysUpdate(key: Uint8Array, value: Uint8Array, flags = 0): number {
    const map = acquireInner(this.objects, this.spec, readU32(value, 0));
    if (typeof map === 'number') return map;
    const old = this.find(key, 0);
    const before = old === 0 ? 0 : this.load(old);
    const error = super.sysUpdate(key, u32Bytes(map.address), flags);
    if (error !== 0) this.objects.drop(map);
    else if (before !== 0) this.forgetAt(before);
    return error;
  }

  override sysDelete(key: Uint8Array): number {
    const taken = super.sysLookupAndDelete(key);
    if (typeof taken === 'number') return taken;
    this.forgetAt(readU32(taken, 0));
    return 0;
  }

  override sysLookupAndDelete(): BytesOrErrno {
    return -ERRNO.ENOTSUPP;
  }

  override *entries(): IterableIterator<MapEntry> {
    for (const { key, values } of super.entries()) {
      const map = this.objects.mapAt(readU32(values[0]!, 0));
      if (map !== undefined) yield { key, values: [u32Bytes(map.id)] };
    }
  }

  override clear(): void {
    for (const { key } of [...super.entries()]) this.sysDelete(key);
  }

  override destroy(): void {
    this.clear();
    super.destroy();
  }
}

/**
 * Arrays whose objects do not exist in user space (sockets, control groups, AF_XDP): they can be made, looked up and found empty by
 * programs; every update is refused, as of a descriptor of the wrong kind.
 */
export class EmptyArray extends ObjectArray {
  protected override canLookup = false;

  /** No descriptor here is of the kind that the map wants. */
  protected override acquire(fd: number): number {
    const object = this.objects.mapByFd(fd);
    return object === -ERRNO.EBADF ? -ERRNO.EBADF : -ERRNO.EINVAL;
  }
}

/** devmap and cpumap: a value says where a packet goes; a program that looks it up gets the value. */
export class RedirectMap extends MapBase {
  private slot(index: number): number {
    if (index >= this.spec.maxEntries) return 0;
    return this.address + this.geometry.data + index * this.geometry.stride;
  }

  protected override find(bytes: Uint8Array, at: number): number {
    const slot = this.slot(readU32(bytes, at));
    return slot === 0 || this.load(slot) === 0 ? 0 : slot + 8;
  }

  lookupElem(key: number): number {
    return this.find(this.view.u8, key);
  }

  updateElem(): number {
    return -ERRNO.EOPNOTSUPP;
  }

  deleteElem(key: number): number {
    return this.sysDelete(this.view.u8.slice(key, key + 4));
  }

  /** dev_map_update_elem, cpu_map_update_elem: a device or queue size of 0 takes the entry away. */
  sysUpdate(key: Uint8Array, value: Uint8Array, flags = 0): number {
    if (flags > 2) return -ERRNO.EINVAL;
    const slot = this.slot(readU32(key, 0));
    if (slot === 0) return -ERRNO.E2BIG;
    if (flags === 1) return -ERRNO.EEXIST;
    const first = readU32(value, 0);
    if (this.spec.type === 'cpumap' && first > 16384) return -ERRNO.EOVERFLOW;
    this.storeValue(slot + 8, value, 0, false);
    this.store(slot, first === 0 ? 0 : 1);
    return 0;
  }

  sysDelete(key: Uint8Array): number {
    const slot = this.slot(readU32(key, 0));
    if (slot === 0) return -ERRNO.EINVAL;
    this.store(slot, 0);
    return 0;
  }

  sysNextKey(key: Uint8Array | undefined): BytesOrErrno {
    return nextIndex(key, this.spec.maxEntries);
  }
}

export { USER_CPU };
