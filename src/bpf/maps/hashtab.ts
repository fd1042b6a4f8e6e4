/**
 * hash, percpu_hash, lru_hash, lru_percpu_hash (kernel/bpf/hashtab.c, bpf_lru_list.c). README.md has the algorithms; the JIT
 * inlines the same ones, so a change here is a change there.
 */
import { BpfError, ERRNO } from '../errors.ts';
import type { PlacedMap } from '../layout.ts';
import { type Batch, BatchOutput, batchError, checkBatch } from './batch.ts';
import { hashKey } from './hash-function.ts';
import { HashSlab, NO_MEMORY } from './hash-slab.ts';
import { USER_CPU } from './map-base.ts';
import {
  BPF_EXIST,
  BPF_F_LOCK,
  BPF_NOEXIST,
  HASH_BUCKET,
  HASH_ELEM,
  HASH_HEADER,
  HASH_LIVE,
  MAP_FLAG,
  MAP_HEADER,
} from './map-layout.ts';
import type { BatchOptions, BatchResult, BytesOrErrno, MapEntry, MapEnvironment } from './map-types.ts';
import { lock, unlock } from './spinlock.ts';

/** Puts a value into an element: `isNew` when the element was just taken. */
type StoreValue = (value: number, isNew: boolean) => void;

export class HashMap extends HashSlab {
  protected override readonly batches: readonly Batch[] = ['lookup', 'lookup_and_delete', 'update', 'delete'];
  private readonly seedLo: number;
  private readonly seedHi: number;
  private readonly buckets: number;
  private readonly isLru: boolean;

  constructor(memory: WebAssembly.Memory, placed: PlacedMap, ncpu: number, environment?: MapEnvironment) {
    super(memory, placed, ncpu, environment);
    this.seedLo = this.view.data.getInt32(this.address + MAP_HEADER.hashSeed, true);
    this.seedHi = this.view.data.getInt32(this.address + MAP_HEADER.hashSeed + 4, true);
    this.buckets = this.address + HASH_HEADER.buckets;
    this.isLru = this.geometry.ref !== undefined;
  }

  override get size(): number {
    return this.load(this.address + HASH_HEADER.count);
  }

  private hash(bytes: Uint8Array, at: number): number {
    return hashKey(bytes, at, this.spec.keySize, this.seedLo, this.seedHi);
  }

  private bucketOf(hash: number): number {
    return this.buckets + ((hash & this.geometry.mask) >>> 0) * HASH_BUCKET.size;
  }

  private endMarker(hash: number): number {
    return (((hash & this.geometry.mask) << 1) | 1) >>> 0;
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
    const head = this.bucketOf(hash) + HASH_BUCKET.head;
    const end = this.endMarker(hash);
    for (;;) {
      let elem = this.load(head);
      if (elem === 0) return 0;
      while ((elem & 1) === 0) {
        if (this.load(elem + HASH_ELEM.hash) === hash && this.sameKey(elem, bytes, at)) return elem;
        elem = this.load(elem + HASH_ELEM.next);
      }
      if (elem === end) return 0;
    }
  }

  /** Looked up by bpf(2): no reference mark (map_lookup_elem_sys_only). */
  protected override find(bytes: Uint8Array, at: number): number {
    const elem = this.findElem(this.hash(bytes, at), bytes, at);
    return elem === 0 ? 0 : elem + this.geometry.value;
  }

  lookupElem(key: number, cpu: number): number {
    const elem = this.findElem(this.hash(this.view.u8, key), this.view.u8, key);
    if (elem === 0) return 0;
    if (this.isLru) this.store(elem + this.geometry.ref!, 1);
    return elem + this.geometry.value + cpu * this.geometry.cpuStride;
  }

  updateElem(key: number, value: number, flags: number, cpu: number): number {
    const { cpuStride, percpu } = this.geometry;
    const { valueSize } = this.spec;
    return this.updateWith(this.view.u8, key, flags, cpu, (target, isNew) => {
      const { u8 } = this.view;
      if (isNew && percpu) u8.fill(0, target, target + cpuStride * this.ncpu);
      if (this.spec.record === undefined) u8.copyWithin(target + cpu * cpuStride, value, value + valueSize);
      else this.storeValue(target + cpu * cpuStride, u8.subarray(value, value + valueSize), 0, isNew);
    });
  }

  sysUpdate(key: Uint8Array, value: Uint8Array, flags = 0): number {
    return this.updateWith(key, 0, flags, USER_CPU, (target, isNew) => this.storeSys(target, value, isNew));
  }

  private updateWith(
    bytes: Uint8Array,
    at: number,
    flags: number,
    cpu: number,
    storeValue: StoreValue,
  ): number {
    const canLock = !this.isLru && !this.geometry.percpu;
    if (this.checkFlags(flags, canLock) !== 0) return -ERRNO.EINVAL;
    const hash = this.hash(bytes, at);
    const lockIndex = (this.bucketOf(hash) + HASH_BUCKET.lock) >>> 2;
    // An LRU element has to be had before the lock: evicting takes the lock of another bucket.
    let spare = 0;
    for (;;) {
      if (!lock(this.view.i32, lockIndex, cpu)) {
        if (spare !== 0) this.release(spare);
        return -ERRNO.EBUSY;
      }
      const result = this.updateLocked(hash, bytes, at, flags, cpu, storeValue, spare);
      unlock(this.view.i32, lockIndex);
      if (result !== NEEDS_ELEMENT) {
        if (spare !== 0 && result !== USED_ELEMENT) this.release(spare);
        return result === USED_ELEMENT ? 0 : result;
      }
      spare = this.takeLru(cpu);
      if (spare === 0) return -ERRNO.ENOMEM;
    }
  }

  private updateLocked(
    hash: number,
    bytes: Uint8Array,
    at: number,
    flags: number,
    cpu: number,
    storeValue: StoreValue,
    spare: number,
  ): number {
    const found = this.findElem(hash, bytes, at);
    if (found !== 0) {
      if ((flags & BPF_NOEXIST) !== 0) return -ERRNO.EEXIST;
      const value = found + this.geometry.value;
      if ((flags & BPF_F_LOCK) === 0) {
        storeValue(value, false);
        // A new element took the old one's place: it has not been looked up yet.
        if (this.isLru) this.store(found + this.geometry.ref!, 0);
        return 0;
      }
      const done = this.withValueLock(value, cpu, () => {
        storeValue(value, false);
        return true;
      });
      return done === true ? 0 : -ERRNO.EBUSY;
    }
    if ((flags & BPF_EXIST) !== 0) return -ERRNO.ENOENT;
    if (this.isLru && spare === 0) return NEEDS_ELEMENT;
    const elem = spare === 0 ? this.take() : spare;
    if (elem === 0) return -ERRNO.E2BIG;
    if (elem === NO_MEMORY) return -ERRNO.ENOMEM;
    this.insert(elem, hash, bytes, at, storeValue);
    return spare === 0 ? 0 : USED_ELEMENT;
  }

  private insert(elem: number, hash: number, bytes: Uint8Array, at: number, storeValue: StoreValue): void {
    const { u8, i32 } = this.view;
    const bucket = this.bucketOf(hash);
    const key = elem + HASH_ELEM.key;
    const { keySize } = this.spec;
    if ((keySize & 7) !== 0) u8.fill(0, key + keySize, key + Math.ceil(keySize / 8) * 8);
    for (let i = 0; i < keySize; i++) u8[key + i] = bytes[at + i]!;
    storeValue(elem + this.geometry.value, true);
    if (this.isLru) this.store(elem + this.geometry.ref!, 0);
    this.store(elem + HASH_ELEM.hash, hash | 0);
    this.store(elem + HASH_ELEM.next, this.load(bucket + HASH_BUCKET.head) || this.endMarker(hash));
    this.store(bucket + HASH_BUCKET.head, elem);
    Atomics.add(i32, (this.address + HASH_HEADER.count) >>> 2, 1);
  }

  /** prealloc_lru_pop: a free element, else the first that was not looked up since the hand came by last. */
  private takeLru(cpu: number): number {
    const { maxEntries } = this.spec;
    // Twice around clears every mark; more only while other threads set them again.
    for (let round = 0; round < 4 * maxEntries + 64; round++) {
      const free = this.take();
      if (free !== 0) return free;
      const hand = Atomics.add(this.view.i32, (this.address + HASH_HEADER.hand) >>> 2, 1) >>> 0;
      const elem = this.slab + (hand % maxEntries) * this.geometry.stride;
      const hash = this.load(elem + HASH_ELEM.hash);
      if (hash < HASH_LIVE) continue;
      if (this.load(elem + this.geometry.ref!) !== 0) {
        this.store(elem + this.geometry.ref!, 0);
        continue;
      }
      const taken = this.unlink(elem, hash, cpu);
      if (taken) return elem;
    }
    return 0;
  }

  /** Takes a live element out of its bucket, where it still is there; it is not put on the free list. */
  private unlink(elem: number, hash: number, cpu: number): boolean {
    const bucket = this.bucketOf(hash);
    const result = this.locked(bucket + HASH_BUCKET.lock, cpu, () => {
      let link = bucket + HASH_BUCKET.head;
      for (let at = this.load(link); at !== 0 && (at & 1) === 0; at = this.load(link)) {
        if (at === elem && this.load(elem + HASH_ELEM.hash) === hash) {
          this.store(link, this.load(elem + HASH_ELEM.next));
          this.store(elem + HASH_ELEM.hash, 0);
          Atomics.sub(this.view.i32, (this.address + HASH_HEADER.count) >>> 2, 1);
          return true;
        }
        link = at + HASH_ELEM.next;
      }
      return false;
    });
    return result === true;
  }

  deleteElem(key: number, cpu: number): number {
    return this.deleteKey(this.view.u8, key, cpu);
  }

  sysDelete(key: Uint8Array): number {
    return this.deleteKey(key, 0, USER_CPU);
  }

  override sysLookupAndDelete(key: Uint8Array, flags = 0): BytesOrErrno {
    if ((flags & BPF_F_LOCK) !== 0 && this.lockOffset === undefined) return -ERRNO.EINVAL;
    let value: Uint8Array | undefined;
    const error = this.deleteKey(key, 0, USER_CPU, (at) => {
      value = this.copySys(at, flags);
    });
    return value ?? error;
  }

  private deleteKey(bytes: Uint8Array, at: number, cpu: number, before?: (value: number) => void): number {
    const { i32 } = this.view;
    const hash = this.hash(bytes, at);
    const bucket = this.bucketOf(hash);
    const lockIndex = (bucket + HASH_BUCKET.lock) >>> 2;
    if (!lock(i32, lockIndex, cpu)) return -ERRNO.EBUSY;
    let found = 0;
    let link = bucket + HASH_BUCKET.head;
    for (let elem = this.load(link); elem !== 0 && (elem & 1) === 0; elem = this.load(link)) {
      if (this.load(elem + HASH_ELEM.hash) === hash && this.sameKey(elem, bytes, at)) {
        before?.(elem + this.geometry.value);
        this.store(link, this.load(elem + HASH_ELEM.next));
        // Not live, and not free yet: its fields go first, without the lock.
        if (this.spec.record !== undefined) this.store(elem + HASH_ELEM.hash, 0);
        else this.release(elem);
        Atomics.sub(i32, (this.address + HASH_HEADER.count) >>> 2, 1);
        found = elem;
        break;
      }
      link = elem + HASH_ELEM.next;
    }
    unlock(i32, lockIndex);
    if (found === 0) return -ERRNO.ENOENT;
    if (this.spec.record !== undefined) {
      this.freeFields(found + this.geometry.value);
      this.release(found);
    }
    return 0;
  }

  /** In slab order; an element that is freed or taken again while it is copied is left out. */
  override *entries(): IterableIterator<MapEntry> {
    for (let live = this.liveSlot(0); live !== undefined; live = this.liveSlot(live.slot + 1)) {
      const { elem, hash } = live;
      const entry = {
        key: this.copy(elem + HASH_ELEM.key, this.spec.keySize),
        values: this.valuesOf(this.copySys(elem + this.geometry.value)),
      };
      if (this.load(elem + HASH_ELEM.hash) === hash) yield entry;
    }
  }

  /** In slab order, as bpf_for_each_map_elem() hands them to its callback. */
  override *elements(cpu: number): IterableIterator<{ key: number; value: number }> {
    const { cpuStride, value } = this.geometry;
    for (let live = this.liveSlot(0); live !== undefined; live = this.liveSlot(live.slot + 1)) {
      yield { key: live.elem + HASH_ELEM.key, value: live.elem + value + cpu * cpuStride };
    }
  }

  sysNextKey(key: Uint8Array | undefined): BytesOrErrno {
    let slot = 0;
    if (key !== undefined) {
      const elem = this.findElem(this.hash(key, 0), key, 0);
      if (elem !== 0) slot = this.slotOf(elem) + 1;
    }
    for (let live = this.liveSlot(slot); live !== undefined; live = this.liveSlot(live.slot + 1)) {
      const found = this.copy(live.elem + HASH_ELEM.key, this.spec.keySize);
      if (this.load(live.elem + HASH_ELEM.hash) !== live.hash) continue;
      this.last = live;
      return found;
    }
    return -ERRNO.ENOENT;
  }

  /** __htab_map_lookup_and_delete_batch, with slots for buckets: `inBatch` is the u32 slot to go on with. */
  override lookupBatch(count: number, options: BatchOptions & { remove?: boolean } = {}): BatchResult {
    const { remove = false, inBatch, elemFlags = 0 } = options;
    const batch = remove ? 'lookup_and_delete' : 'lookup';
    const refused = checkBatch(this, this.batches, batch, options, true);
    if (refused !== 0) return batchError(refused);
    if (count === 0) return batchError(0);
    const output = new BatchOutput();
    let slot =
      inBatch === undefined ? 0 : new DataView(inBatch.buffer, inBatch.byteOffset).getUint32(0, true);
    if (slot > this.geometry.mask && slot >= this.spec.maxEntries) return batchError(-ERRNO.ENOENT);
    let error = 0;
    for (;;) {
      const live = this.liveSlot(slot);
      if (live === undefined) {
        error = -ERRNO.ENOENT;
        slot = this.spec.maxEntries;
        break;
      }
      if (output.count === count) break;
      slot = live.slot + 1;
      const key = this.copy(live.elem + HASH_ELEM.key, this.spec.keySize);
      const value = this.copySys(live.elem + this.geometry.value, elemFlags);
      if (this.load(live.elem + HASH_ELEM.hash) !== live.hash) continue;
      if (!remove) output.add(key, value);
      else {
        const taken = this.sysLookupAndDelete(key, elemFlags);
        if (typeof taken !== 'number') output.add(key, taken);
      }
    }
    return output.result(error, new Uint8Array(Uint32Array.of(slot).buffer));
  }

  override clear(): void {
    for (const { key } of this.entries()) {
      if (this.sysDelete(key) === -ERRNO.EBUSY) {
        throw new BpfError('EBUSY', `map ${this.spec.name}: a bucket stays locked`);
      }
    }
  }

  override zero(): void {
    const { value } = this.geometry;
    const zeros = new Uint8Array(this.sysValueSize);
    for (let live = this.liveSlot(0); live !== undefined; live = this.liveSlot(live.slot + 1)) {
      this.storeSys(live.elem + value, zeros, false);
    }
  }

  override destroy(): void {
    if (this.spec.record !== undefined) this.clear();
    super.destroy();
  }
}

/** Of updateLocked(): an LRU map has to find an element first; it has used the one that was found. */
const NEEDS_ELEMENT = 1;
const USED_ELEMENT = 2;
/** The seed of the hash; memory is otherwise all zero, which means empty buckets. */
export function initHash(view: DataView, { address, spec }: PlacedMap): void {
  if (((spec.flags ?? 0) & MAP_FLAG.BPF_F_ZERO_SEED) !== 0) return;
  for (let at = 0; at < 8; at += 4) {
    view.setUint32(address + MAP_HEADER.hashSeed + at, Math.floor(Math.random() * 2 ** 32), true);
  }
}
