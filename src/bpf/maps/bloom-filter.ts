/** bloom_filter (kernel/bpf/bloom_filter.c): a set of values that never forgets one, and sometimes claims one too many. */
import { ERRNO } from '../errors.ts';
import { hashKey } from './hash-function.ts';
import { MapBase } from './map-base.ts';
import { bloomHashes, MAP_HEADER } from './map-layout.ts';
import { BPF_ANY } from './map-spec.ts';
import type { BytesOrErrno, MapEntry } from './map-types.ts';

export class BloomFilter extends MapBase {
  /** The bit of a value by hash function `n`, as word index and mask. */
  private bit(bytes: Uint8Array, at: number, n: number): { word: number; mask: number } {
    const { data } = this.view;
    const lo = data.getInt32(this.address + MAP_HEADER.hashSeed, true) ^ Math.imul(n, 0x9e37_79b1);
    const hi = data.getInt32(this.address + MAP_HEADER.hashSeed + 4, true) + n;
    // The hash's top bit is always set: a filter has at most 2^31 bits.
    const bit = (hashKey(bytes, at, this.spec.valueSize, lo, hi | 0) & this.geometry.mask) >>> 0;
    return { word: (this.address + this.geometry.data + (bit >>> 5) * 4) >>> 2, mask: 1 << (bit & 31) };
  }

  private has(bytes: Uint8Array, at: number): number {
    const { i32 } = this.view;
    for (let n = 0; n < bloomHashes(this.spec); n++) {
      const { word, mask } = this.bit(bytes, at, n);
      if ((Atomics.load(i32, word) & mask) === 0) return -ERRNO.ENOENT;
    }
    return 0;
  }

  private add(bytes: Uint8Array, at: number, flags: number): number {
    if (flags !== BPF_ANY) return -ERRNO.EINVAL;
    for (let n = 0; n < bloomHashes(this.spec); n++) {
      const { word, mask } = this.bit(bytes, at, n);
      Atomics.or(this.view.i32, word, mask);
    }
    return 0;
  }

  override pushElem(value: number, flags: number): number {
    return this.add(this.view.u8, value, flags);
  }

  override peekElem(value: number): number {
    return this.has(this.view.u8, value);
  }

  override popElem(): number {
    return -ERRNO.EOPNOTSUPP;
  }

  lookupElem(): number {
    return 0;
  }

  updateElem(): number {
    return -ERRNO.EINVAL;
  }

  deleteElem(): number {
    return -ERRNO.EOPNOTSUPP;
  }

  /** Whether a value was added: true may be wrong, false is not. */
  contains(value: Uint8Array): boolean {
    return this.has(value, 0) === 0;
  }

  /** bpf(2) asks with the value, not a key: 0 or -ENOENT. */
  sysPeek(value: Uint8Array): number {
    return this.has(value, 0);
  }

  override sysLookup(): BytesOrErrno {
    return -ERRNO.ENOENT;
  }

  sysUpdate(_key: Uint8Array, value: Uint8Array, flags = 0): number {
    return this.add(value, 0, flags);
  }

  sysDelete(): number {
    return -ERRNO.EOPNOTSUPP;
  }

  sysNextKey(): BytesOrErrno {
    return -ERRNO.EOPNOTSUPP;
  }

  override *entries(): IterableIterator<MapEntry> {}

  override clear(): void {
    const start = this.address + this.geometry.data;
    this.view.u8.fill(0, start, this.address + this.geometry.byteLength);
  }

  override zero(): void {
    this.clear();
  }
}
