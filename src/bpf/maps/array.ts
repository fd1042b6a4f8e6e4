/** array and percpu_array (kernel/bpf/arraymap.c). */
import { ERRNO } from '../errors.ts';
import { MapBase } from './map-base.ts';
import { BPF_NOEXIST } from './map-layout.ts';
import type { MapEntry } from './map-types.ts';

const u32Bytes = (value: number): Uint8Array => new Uint8Array(Uint32Array.of(value).buffer);
const readU32 = (bytes: Uint8Array, at: number): number =>
  (bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24)) >>> 0;

export class ArrayMap extends MapBase {
  get size(): number {
    return this.spec.maxEntries;
  }

  private valueAddress(index: number): number {
    if (index >= this.spec.maxEntries) return 0;
    return this.address + this.geometry.data + index * this.geometry.stride;
  }

  protected find(bytes: Uint8Array, at: number): number {
    return this.valueAddress(readU32(bytes, at));
  }

  lookupElem(key: number, cpu: number): number {
    const value = this.find(this.view.u8, key);
    return value === 0 ? 0 : value + cpu * this.geometry.cpuStride;
  }

  /** array_map_update_elem: BPF_EXIST always holds, BPF_NOEXIST never. */
  private checkUpdate(value: number, flags: number): number {
    if (this.checkFlags(flags) !== 0) return -ERRNO.EINVAL;
    if (value === 0) return -ERRNO.E2BIG;
    return flags === BPF_NOEXIST ? -ERRNO.EEXIST : 0;
  }

  updateElem(key: number, value: number, flags: number, cpu: number): number {
    const target = this.lookupElem(key, cpu);
    const error = this.checkUpdate(target, flags);
    if (error === 0) this.view.u8.copyWithin(target, value, value + this.spec.valueSize);
    return error;
  }

  deleteElem(): number {
    return -ERRNO.EINVAL;
  }

  update(key: Uint8Array, value: Uint8Array | readonly Uint8Array[], flags = 0): number {
    this.checkKey(key);
    const values = this.checkValues(value);
    const target = this.find(key, 0);
    const error = this.checkUpdate(target, flags);
    if (error === 0) this.storeValues(target, values);
    return error;
  }

  delete(key: Uint8Array): number {
    this.checkKey(key);
    return -ERRNO.EINVAL;
  }

  /** array_map_get_next_key: the first key behind one that is out of range. */
  getNextKey(key?: Uint8Array): Uint8Array | undefined {
    if (key !== undefined) this.checkKey(key);
    const index = key === undefined ? this.spec.maxEntries : readU32(key, 0);
    if (index >= this.spec.maxEntries) return u32Bytes(0);
    return index === this.spec.maxEntries - 1 ? undefined : u32Bytes(index + 1);
  }

  *entries(): IterableIterator<MapEntry> {
    for (let i = 0; i < this.spec.maxEntries; i++) {
      yield { key: u32Bytes(i), values: this.copyValues(this.valueAddress(i)) };
    }
  }

  clear(): void {
    this.zero();
  }

  zero(): void {
    const start = this.address + this.geometry.data;
    this.view.u8.fill(0, start, this.address + this.geometry.byteLength);
  }
}
