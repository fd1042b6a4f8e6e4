/** stack_trace (kernel/bpf/stackmap.c): call stacks by id. Ids are buckets; what fills them is up to bpf_get_stackid. */
import { ERRNO } from '../errors.ts';
import { readU32, u32Bytes } from './array.ts';
import { hashKey } from './hash-function.ts';
import { MapBase } from './map-base.ts';
import { STACK_BUCKET } from './map-layout.ts';
import type { BytesOrErrno, MapEntry } from './map-types.ts';

/** Flags of bpf_get_stackid. */
export const BPF_F_SKIP_FIELD_MASK = 0xff;
export const BPF_F_FAST_STACK_CMP = 1 << 9;
export const BPF_F_REUSE_STACKID = 1 << 10;

export class StackTraceMap extends MapBase {
  private bucket(id: number): number {
    if (id > this.geometry.mask) return 0;
    return this.address + this.geometry.data + id * this.geometry.stride;
  }

  /** Instruction pointers that an entry holds. */
  get depth(): number {
    return this.spec.valueSize / 8;
  }

  /** __bpf_get_stackid: the id of a stack, or -EEXIST where another one has the bucket and BPF_F_REUSE_STACKID is not given. */
  store64(frames: BigUint64Array, flags: number): number {
    const kept = frames.subarray(0, this.depth);
    const bytes = new Uint8Array(kept.buffer, kept.byteOffset, kept.byteLength);
    const hash = kept.length === 0 ? 0 : hashKey(bytes, 0, bytes.length, 0, 0);
    const id = (hash & this.geometry.mask) >>> 0;
    const bucket = this.bucket(id);
    const isTaken = this.load(bucket + STACK_BUCKET.frames) !== 0;
    if (isTaken && this.load(bucket + STACK_BUCKET.hash) === hash) {
      if ((flags & BPF_F_FAST_STACK_CMP) !== 0 || this.same(bucket, bytes)) return id;
    }
    if (isTaken && (flags & BPF_F_REUSE_STACKID) === 0) return -ERRNO.EEXIST;
    const { u8 } = this.view;
    u8.fill(0, bucket + STACK_BUCKET.data, bucket + this.geometry.stride);
    u8.set(bytes, bucket + STACK_BUCKET.data);
    this.store(bucket + STACK_BUCKET.hash, hash);
    this.store(bucket + STACK_BUCKET.frames, kept.length + 1);
    return id;
  }

  private same(bucket: number, bytes: Uint8Array): boolean {
    if (this.load(bucket + STACK_BUCKET.frames) - 1 !== bytes.length / 8) return false;
    const { u8 } = this.view;
    return bytes.every((byte, n) => u8[bucket + STACK_BUCKET.data + n] === byte);
  }

  private isUsed(id: number): boolean {
    const bucket = this.bucket(id);
    return bucket !== 0 && this.load(bucket + STACK_BUCKET.frames) !== 0;
  }

  lookupElem(): number {
    return 0;
  }

  updateElem(): number {
    return -ERRNO.EINVAL;
  }

  deleteElem(key: number): number {
    return this.sysDelete(this.view.u8.slice(key, key + 4));
  }

  override sysLookup(key: Uint8Array): BytesOrErrno {
    const id = readU32(key, 0);
    return this.isUsed(id)
      ? this.copy(this.bucket(id) + STACK_BUCKET.data, this.spec.valueSize)
      : -ERRNO.ENOENT;
  }

  sysUpdate(): number {
    return -ERRNO.EINVAL;
  }

  sysDelete(key: Uint8Array): number {
    const id = readU32(key, 0);
    if (id > this.geometry.mask) return -ERRNO.E2BIG;
    if (!this.isUsed(id)) return -ERRNO.ENOENT;
    this.store(this.bucket(id) + STACK_BUCKET.frames, 0);
    return 0;
  }

  /** As Linux 6.18 has it. */
  override sysLookupAndDelete(key: Uint8Array): BytesOrErrno {
    const value = this.sysLookup(key);
    if (typeof value !== 'number') this.sysDelete(key);
    return value;
  }

  /** stack_map_get_next_key */
  sysNextKey(key: Uint8Array | undefined): BytesOrErrno {
    let id = 0;
    if (key !== undefined) {
      id = readU32(key, 0);
      id = this.isUsed(id) ? id + 1 : 0;
    }
    while (id <= this.geometry.mask && !this.isUsed(id)) id++;
    return id > this.geometry.mask ? -ERRNO.ENOENT : u32Bytes(id);
  }

  override *entries(): IterableIterator<MapEntry> {
    for (let id = 0; id <= this.geometry.mask; id++) {
      const value = this.sysLookup(u32Bytes(id));
      if (typeof value !== 'number') yield { key: u32Bytes(id), values: [value] };
    }
  }
}
