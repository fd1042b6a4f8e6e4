/**
 * Values that belong to an object instead of a key (kernel/bpf/bpf_local_storage.c, local_storage.c): task_storage, whose objects
 * here are the threads ("CPUs") of the machine, and cgroup_storage, of which a program has one.
 */
import { ERRNO } from '../errors.ts';
import { readU32 } from './array.ts';
import { MapBase } from './map-base.ts';
import { BPF_EXIST, BPF_NOEXIST } from './map-spec.ts';
import type { BytesOrErrno, MapEntry } from './map-types.ts';

/** A slot: 1 while there is a value, then the value. */
const SLOT = { live: 0, value: 8 } as const;

/** bpf_task_storage_get's flag: make the value where there is none. */
export const BPF_LOCAL_STORAGE_GET_F_CREATE = 1;

export class TaskStorage extends MapBase {
  private slot(thread: number): number {
    if (thread >= this.ncpu) return 0;
    return this.address + this.geometry.data + thread * this.geometry.stride;
  }

  /** bpf_task_storage_get: address of the thread's value, or 0. `initial` is the address of a value for a new one, or 0: zeros. */
  get(thread: number, initial: number, flags: number): number {
    const slot = this.slot(thread);
    if (slot === 0) return 0;
    const value = slot + SLOT.value;
    if (this.load(slot) !== 0) return value;
    if ((flags & BPF_LOCAL_STORAGE_GET_F_CREATE) === 0) return 0;
    const { u8 } = this.view;
    const { valueSize } = this.spec;
    u8.fill(0, value, value + valueSize);
    if (initial !== 0) this.storeValue(value, u8.subarray(initial, initial + valueSize), 0, true);
    this.store(slot, 1);
    return value;
  }

  /** bpf_task_storage_delete: 0 or -ENOENT. */
  remove(thread: number): number {
    const slot = this.slot(thread);
    if (slot === 0 || this.load(slot) === 0) return -ERRNO.ENOENT;
    this.freeFields(slot + SLOT.value);
    this.store(slot, 0);
    return 0;
  }

  lookupElem(): number {
    return 0;
  }

  updateElem(): number {
    return -ERRNO.EOPNOTSUPP;
  }

  deleteElem(): number {
    return -ERRNO.EOPNOTSUPP;
  }

  /** bpf(2)'s key is a pidfd in the kernel, here the number of a thread. */
  protected override find(bytes: Uint8Array, at: number): number {
    const slot = this.slot(readU32(bytes, at));
    return slot === 0 || this.load(slot) === 0 ? 0 : slot + SLOT.value;
  }

  override sysLookup(key: Uint8Array, flags = 0): BytesOrErrno {
    return this.slot(readU32(key, 0)) === 0 ? -ERRNO.EBADF : super.sysLookup(key, flags);
  }

  sysUpdate(key: Uint8Array, value: Uint8Array, flags = 0): number {
    const slot = this.slot(readU32(key, 0));
    if (slot === 0) return -ERRNO.EBADF;
    const error = this.checkFlags(flags, true);
    if (error !== 0) return error;
    const exists = this.load(slot) !== 0;
    if (exists && (flags & BPF_NOEXIST) !== 0) return -ERRNO.EEXIST;
    if (!exists && (flags & BPF_EXIST) !== 0) return -ERRNO.ENOENT;
    this.storeValue(slot + SLOT.value, value, 0, !exists);
    this.store(slot, 1);
    return 0;
  }

  sysDelete(key: Uint8Array): number {
    const thread = readU32(key, 0);
    return this.slot(thread) === 0 ? -ERRNO.EBADF : this.remove(thread);
  }

  sysNextKey(): BytesOrErrno {
    return -ERRNO.ENOTSUPP;
  }

  override *entries(): IterableIterator<MapEntry> {
    for (let thread = 0; thread < this.ncpu; thread++) {
      const key = new Uint8Array(Uint32Array.of(thread).buffer);
      const value = super.sysLookup(key);
      if (typeof value !== 'number') yield { key, values: [value] };
    }
  }

  override destroy(): void {
    for (let thread = 0; thread < this.ncpu; thread++) this.remove(thread);
  }
}

/** cgroup_storage and percpu_cgroup_storage: one value, which every program with the map has (bpf_get_local_storage). */
export class CgroupStorage extends MapBase {
  private get value(): number {
    return this.address + this.geometry.data + SLOT.value;
  }

  /** bpf_get_local_storage: the value is there from the start, zero. */
  get(cpu: number): number {
    return this.value + cpu * this.geometry.cpuStride;
  }

  protected override find(): number {
    return this.value;
  }

  lookupElem(_key: number, cpu: number): number {
    return this.get(cpu);
  }

  updateElem(): number {
    return -ERRNO.EINVAL;
  }

  deleteElem(): number {
    return -ERRNO.EINVAL;
  }

  sysUpdate(_key: Uint8Array, value: Uint8Array, flags = 0): number {
    if (flags !== 0 && flags !== BPF_EXIST) return -ERRNO.EINVAL;
    this.storeSys(this.value, value, false);
    return 0;
  }

  sysDelete(): number {
    return -ERRNO.EINVAL;
  }

  sysNextKey(key: Uint8Array | undefined): BytesOrErrno {
    return key === undefined ? new Uint8Array(this.spec.keySize) : -ERRNO.ENOENT;
  }
}
