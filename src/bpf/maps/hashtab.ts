/**
 * hash and percpu_hash (kernel/bpf/hashtab.c, preallocated). README.md has the algorithms; the JIT inlines the same ones,
 * so a change here is a change there.
 */
import { BpfError, ERRNO } from '../errors.ts';
import type { PlacedMap } from '../layout.ts';
import { hashKey } from './hash-function.ts';
import { MapBase, USER_CPU } from './map-base.ts';
import {
  BPF_EXIST,
  BPF_NOEXIST,
  HASH_BUCKET,
  HASH_ELEM,
  HASH_HEADER,
  HASH_LIVE,
  MAP_HEADER,
} from './map-layout.ts';
import type { MapEntry } from './map-types.ts';
import { lock, unlock } from './spinlock.ts';

const LOW_HALF = 0xffff_ffffn;

/** Puts a value into an element: `isNew` when the element was just taken. */
type StoreValue = (value: number, isNew: boolean) => void;

export class HashMap extends MapBase {
  private readonly seedLo: number;
  private readonly seedHi: number;
  private readonly slab: number;
  private readonly buckets: number;

  constructor(memory: WebAssembly.Memory, placed: PlacedMap, ncpu: number) {
    super(memory, placed, ncpu);
    this.seedLo = this.view.data.getInt32(this.address + MAP_HEADER.hashSeed, true);
    this.seedHi = this.view.data.getInt32(this.address + MAP_HEADER.hashSeed + 4, true);
    this.slab = this.address + this.geometry.data;
    this.buckets = this.address + HASH_HEADER.buckets;
  }

  get size(): number {
    return this.load(this.address + HASH_HEADER.count);
  }

  private load(address: number): number {
    return Atomics.load(this.view.i32, address >>> 2);
  }

  private store(address: number, value: number): void {
    Atomics.store(this.view.i32, address >>> 2, value);
  }

  private hash(bytes: Uint8Array, at: number): number {
    return hashKey(bytes, at, this.spec.keySize, this.seedLo, this.seedHi);
  }

  private sameKey(elem: number, bytes: Uint8Array, at: number): boolean {
    const { u8 } = this.view;
    const key = elem + HASH_ELEM.key;
    for (let i = 0; i < this.spec.keySize; i++) {
      if (u8[key + i] !== bytes[at + i]) return false;
    }
    return true;
  }

  /** lookup_nulls_elem_raw: an end marker of another bucket means that we were led astray. */
  private findElem(hash: number, bytes: Uint8Array, at: number): number {
    const bucket = (hash & this.geometry.mask) >>> 0;
    const end = ((bucket << 1) | 1) >>> 0;
    for (;;) {
      let elem = this.load(this.buckets + bucket * HASH_BUCKET.size + HASH_BUCKET.head);
      while ((elem & 1) === 0) {
        if (this.load(elem + HASH_ELEM.hash) >>> 0 === hash && this.sameKey(elem, bytes, at)) return elem;
        elem = this.load(elem + HASH_ELEM.next);
      }
      if (elem >>> 0 === end) return 0;
    }
  }

  protected find(bytes: Uint8Array, at: number): number {
    const elem = this.findElem(this.hash(bytes, at), bytes, at);
    return elem === 0 ? 0 : elem + this.geometry.value;
  }

  lookupElem(key: number, cpu: number): number {
    const value = this.find(this.view.u8, key);
    return value === 0 ? 0 : value + cpu * this.geometry.cpuStride;
  }

  updateElem(key: number, value: number, flags: number, cpu: number): number {
    const { u8 } = this.view;
    const { cpuStride, percpu } = this.geometry;
    const { valueSize } = this.spec;
    return this.updateWith(u8, key, flags, cpu, (target, isNew) => {
      if (isNew && percpu) u8.fill(0, target, target + cpuStride * this.ncpu);
      u8.copyWithin(target + cpu * cpuStride, value, value + valueSize);
    });
  }

  update(key: Uint8Array, value: Uint8Array | readonly Uint8Array[], flags = 0): number {
    this.checkKey(key);
    const values = this.checkValues(value);
    return this.updateWith(key, 0, flags, USER_CPU, (target) => this.storeValues(target, values));
  }

  private updateWith(
    bytes: Uint8Array,
    at: number,
    flags: number,
    cpu: number,
    storeValue: StoreValue,
  ): number {
    if (this.checkFlags(flags) !== 0) return -ERRNO.EINVAL;
    const hash = this.hash(bytes, at);
    const bucket = this.buckets + ((hash & this.geometry.mask) >>> 0) * HASH_BUCKET.size;
    const lockIndex = (bucket + HASH_BUCKET.lock) >>> 2;
    if (!lock(this.view.i32, lockIndex, cpu)) return -ERRNO.EBUSY;
    const result = this.updateLocked(bucket, hash, bytes, at, flags, storeValue);
    unlock(this.view.i32, lockIndex);
    return result;
  }

  private updateLocked(
    bucket: number,
    hash: number,
    bytes: Uint8Array,
    at: number,
    flags: number,
    storeValue: StoreValue,
  ): number {
    const found = this.findElem(hash, bytes, at);
    if (found !== 0) {
      if (flags === BPF_NOEXIST) return -ERRNO.EEXIST;
      storeValue(found + this.geometry.value, false);
      return 0;
    }
    if (flags === BPF_EXIST) return -ERRNO.ENOENT;
    const elem = this.take();
    if (elem === 0) return -ERRNO.E2BIG;
    const { u8, i32 } = this.view;
    const key = elem + HASH_ELEM.key;
    for (let i = 0; i < this.spec.keySize; i++) u8[key + i] = bytes[at + i]!;
    storeValue(elem + this.geometry.value, true);
    this.store(elem + HASH_ELEM.hash, hash | 0);
    this.store(elem + HASH_ELEM.next, this.load(bucket + HASH_BUCKET.head));
    this.store(bucket + HASH_BUCKET.head, elem);
    Atomics.add(i32, (this.address + HASH_HEADER.count) >>> 2, 1);
    return 0;
  }

  /** pcpu_freelist_pop: an element of the free list, else one never used; 0 when the table is full. */
  private take(): number {
    const { i32, i64 } = this.view;
    const headIndex = (this.address + HASH_HEADER.freeHead) >>> 3;
    for (;;) {
      const head = Atomics.load(i64, headIndex);
      const elem = Number(head & LOW_HALF);
      if (elem === 0) break;
      // Another thread may take `elem` now and overwrite its link; then the tag has changed and the exchange fails.
      const next = BigInt(this.load(elem + HASH_ELEM.hash)) & LOW_HALF;
      const replacement = BigInt.asIntN(64, (((head >> 32n) + 1n) << 32n) | next);
      if (Atomics.compareExchange(i64, headIndex, head, replacement) === head) return elem;
    }
    const usedIndex = (this.address + HASH_HEADER.used) >>> 2;
    const slot = Atomics.add(i32, usedIndex, 1);
    if (slot < this.spec.maxEntries) return this.slab + slot * this.geometry.stride;
    Atomics.sub(i32, usedIndex, 1);
    return 0;
  }

  private release(elem: number): void {
    const { i64 } = this.view;
    const headIndex = (this.address + HASH_HEADER.freeHead) >>> 3;
    for (;;) {
      const head = Atomics.load(i64, headIndex);
      this.store(elem + HASH_ELEM.hash, Number(head & LOW_HALF));
      const replacement = BigInt.asIntN(64, (((head >> 32n) + 1n) << 32n) | BigInt(elem));
      if (Atomics.compareExchange(i64, headIndex, head, replacement) === head) return;
    }
  }

  deleteElem(key: number, cpu: number): number {
    return this.deleteKey(this.view.u8, key, cpu);
  }

  delete(key: Uint8Array): number {
    this.checkKey(key);
    return this.deleteKey(key, 0, USER_CPU);
  }

  private deleteKey(bytes: Uint8Array, at: number, cpu: number): number {
    const { i32 } = this.view;
    const hash = this.hash(bytes, at);
    const bucket = this.buckets + ((hash & this.geometry.mask) >>> 0) * HASH_BUCKET.size;
    const lockIndex = (bucket + HASH_BUCKET.lock) >>> 2;
    if (!lock(i32, lockIndex, cpu)) return -ERRNO.EBUSY;
    let result: number = -ERRNO.ENOENT;
    let link = bucket + HASH_BUCKET.head;
    for (let elem = this.load(link); (elem & 1) === 0; elem = this.load(link)) {
      if (this.load(elem + HASH_ELEM.hash) >>> 0 === hash && this.sameKey(elem, bytes, at)) {
        this.store(link, this.load(elem + HASH_ELEM.next));
        this.release(elem);
        Atomics.sub(i32, (this.address + HASH_HEADER.count) >>> 2, 1);
        result = 0;
        break;
      }
      link = elem + HASH_ELEM.next;
    }
    unlock(i32, lockIndex);
    return result;
  }

  /** Number of slab elements that were ever in use. */
  private usedSlots(): number {
    return Math.min(this.load(this.address + HASH_HEADER.used), this.spec.maxEntries);
  }

  /** In slab order; an element that is freed or taken again while it is copied is left out. */
  *entries(): IterableIterator<MapEntry> {
    for (let slot = 0; slot < this.usedSlots(); slot++) {
      const elem = this.slab + slot * this.geometry.stride;
      const hash = this.load(elem + HASH_ELEM.hash);
      if (hash >= 0) continue; // HASH_LIVE is the sign bit
      const entry = {
        key: this.copy(elem + HASH_ELEM.key, this.spec.keySize),
        values: this.copyValues(elem + this.geometry.value),
      };
      if (this.load(elem + HASH_ELEM.hash) === hash) yield entry;
    }
  }

  /** Addresses of keys and of `cpu`'s values, in slab order, as bpf_for_each_map_elem() hands them to its callback. */
  *elements(cpu: number): IterableIterator<{ key: number; value: number }> {
    const { cpuStride, stride, value } = this.geometry;
    for (let slot = 0; slot < this.usedSlots(); slot++) {
      const elem = this.slab + slot * stride;
      if (this.load(elem + HASH_ELEM.hash) >= 0) continue;
      yield { key: elem + HASH_ELEM.key, value: elem + value + cpu * cpuStride };
    }
  }

  getNextKey(key?: Uint8Array): Uint8Array | undefined {
    let slot = 0;
    if (key !== undefined) {
      this.checkKey(key);
      const elem = this.findElem(this.hash(key, 0), key, 0);
      if (elem !== 0) slot = (elem - this.slab) / this.geometry.stride + 1;
    }
    for (; slot < this.usedSlots(); slot++) {
      const elem = this.slab + slot * this.geometry.stride;
      const hash = this.load(elem + HASH_ELEM.hash);
      if (hash >= 0) continue;
      const found = this.copy(elem + HASH_ELEM.key, this.spec.keySize);
      if (this.load(elem + HASH_ELEM.hash) === hash) return found;
    }
    return undefined;
  }

  clear(): void {
    for (const { key } of this.entries()) {
      if (this.delete(key) === -ERRNO.EBUSY) {
        throw new BpfError('EBUSY', `map ${this.spec.name}: a bucket stays locked`);
      }
    }
  }

  zero(): void {
    const { value, stride } = this.geometry;
    for (let slot = 0; slot < this.usedSlots(); slot++) {
      const elem = this.slab + slot * stride;
      if (this.load(elem + HASH_ELEM.hash) < 0) this.view.u8.fill(0, elem + value, elem + stride);
    }
  }
}

/** Empty buckets; memory is otherwise all zero. */
export function initHash(view: DataView, { address, geometry }: PlacedMap): void {
  for (let bucket = 0; bucket <= geometry.mask; bucket++) {
    view.setUint32(
      address + HASH_HEADER.buckets + bucket * HASH_BUCKET.size,
      ((bucket << 1) | 1) >>> 0,
      true,
    );
  }
  for (let at = 0; at < 8; at += 4) {
    view.setUint32(address + MAP_HEADER.hashSeed + at, Math.floor(Math.random() * 2 ** 32), true);
  }
}

export { HASH_LIVE };
