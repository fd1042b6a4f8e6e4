/** array and percpu_array (kernel/bpf/arraymap.c). */
import { ERRNO } from '../errors.ts';
import type { Batch } from './batch.ts';
import { MapBase, USER_CPU } from './map-base.ts';
import { BPF_EXIST, BPF_F_LOCK, BPF_NOEXIST } from './map-spec.ts';
import type { BytesOrErrno, MapEntry } from './map-types.ts';

export const u32Bytes = (value: number): Uint8Array => new Uint8Array(Uint32Array.of(value).buffer);
export const readU32 = (bytes: Uint8Array, at: number): number =>
  (bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24)) >>> 0;

/** array_map_get_next_key: the first key behind one that is out of range. */
export function nextIndex(key: Uint8Array | undefined, maxEntries: number): BytesOrErrno {
  const index = key === undefined ? maxEntries : readU32(key, 0);
  if (index >= maxEntries) return u32Bytes(0);
  return index === maxEntries - 1 ? -ERRNO.ENOENT : u32Bytes(index + 1);
}

export class ArrayMap extends MapBase {
  protected override readonly batches: readonly Batch[] = ['lookup', 'update'];

  override get size(): number {
    return this.spec.maxEntries;
  }

  private valueAddress(index: number): number {
    if (index >= this.spec.maxEntries) return 0;
    return this.address + this.geometry.data + index * this.geometry.stride;
  }

  protected override find(bytes: Uint8Array, at: number): number {
    return this.valueAddress(readU32(bytes, at));
  }

  lookupElem(key: number, cpu: number): number {
    const value = this.find(this.view.u8, key);
    return value === 0 ? 0 : value + cpu * this.geometry.cpuStride;
  }

  /** array_map_update_elem: BPF_EXIST always holds, BPF_NOEXIST never. */
  private checkUpdate(value: number, flags: number): number {
    const rest = flags & ~BPF_F_LOCK;
    if (!Number.isInteger(flags) || rest < 0 || rest > BPF_EXIST) return -ERRNO.EINVAL;
    if (value === 0) return -ERRNO.E2BIG;
    if ((flags & BPF_NOEXIST) !== 0) return -ERRNO.EEXIST;
    return this.checkFlags(flags, true);
  }

  updateElem(key: number, value: number, flags: number, cpu: number): number {
    const target = this.lookupElem(key, cpu);
    const error = this.checkUpdate(target, flags);
    if (error !== 0) return error;
    return this.write(target, flags, cpu, () =>
      this.storeValue(target, this.view.u8.subarray(value, value + this.spec.valueSize), 0, false),
    );
  }

  private write(target: number, flags: number, cpu: number, store: () => void): number {
    if ((flags & BPF_F_LOCK) === 0) {
      store();
      return 0;
    }
    const done = this.withValueLock(target, cpu, () => {
      store();
      return true;
    });
    return done === true ? 0 : -ERRNO.EBUSY;
  }

  deleteElem(): number {
    return -ERRNO.EINVAL;
  }

  sysUpdate(key: Uint8Array, value: Uint8Array, flags = 0): number {
    const target = this.find(key, 0);
    // bpf_percpu_array_update knows no lock.
    if (this.geometry.percpu && (flags & BPF_F_LOCK) !== 0) return -ERRNO.EINVAL;
    const error = this.checkUpdate(target, flags);
    if (error !== 0) return error;
    return this.write(target, flags, USER_CPU, () => this.storeSys(target, value, false));
  }

  sysDelete(): number {
    return -ERRNO.EINVAL;
  }

  sysNextKey(key: Uint8Array | undefined): BytesOrErrno {
    return nextIndex(key, this.spec.maxEntries);
  }

  override *entries(): IterableIterator<MapEntry> {
    for (let i = 0; i < this.spec.maxEntries; i++) {
      yield { key: u32Bytes(i), values: this.valuesOf(this.copySys(this.valueAddress(i))) };
    }
  }

  override *elements(cpu: number, scratch: number): IterableIterator<{ key: number; value: number }> {
    for (let i = 0; i < this.spec.maxEntries; i++) {
      this.view.data.setUint32(scratch, i, true);
      yield { key: scratch, value: this.valueAddress(i) + cpu * this.geometry.cpuStride };
    }
  }

  override clear(): void {
    this.zero();
  }

  override zero(): void {
    const { spec, geometry } = this;
    const start = this.address + geometry.data;
    if (spec.record === undefined) {
      this.view.u8.fill(0, start, this.address + geometry.byteLength);
      return;
    }
    const zeros = new Uint8Array(this.sysValueSize);
    for (let i = 0; i < spec.maxEntries; i++) this.storeSys(this.valueAddress(i), zeros, false);
  }

  override destroy(): void {
    if (this.spec.record === undefined) return;
    for (let i = 0; i < this.spec.maxEntries; i++) this.freeFields(this.valueAddress(i));
  }
}
