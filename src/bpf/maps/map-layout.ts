/**
 * Where everything of a map is in linear memory, as constants and one pure function: the maps here, the interpreter and
 * the JIT, which inlines the common operations, all read this file. `README.md` describes the algorithms.
 *
 * All numbers are little-endian. Every map starts on a 64-byte boundary with a 64-byte header.
 */
import { BpfError } from '../errors.ts';

export type MapType = 'hash' | 'array' | 'percpu_hash' | 'percpu_array' | 'ringbuf';

export interface MapSpec {
  readonly name: string;
  readonly type: MapType;
  /** Bytes; 0 for a ring buffer. */
  readonly keySize: number;
  /** Bytes; 0 for a ring buffer. */
  readonly valueSize: number;
  /** Entries; for a ring buffer its size in bytes, a power of two of at least 4096. */
  readonly maxEntries: number;
  readonly flags?: number;
}

/** enum bpf_map_type (include/uapi/linux/bpf.h) */
export const BPF_MAP_TYPE: Readonly<Record<MapType, number>> = {
  hash: 1,
  array: 2,
  percpu_hash: 5,
  percpu_array: 6,
  ringbuf: 27,
};

/** Flags of BPF_MAP_UPDATE_ELEM. */
export const BPF_ANY = 0;
export const BPF_NOEXIST = 1;
export const BPF_EXIST = 2;

/** Header fields that every map has: offset from the map's address. u32 unless noted. */
export const MAP_HEADER = {
  /** `MAP_MAGIC` once the memory is initialised. */
  magic: 0,
  type: 4,
  keySize: 8,
  valueSize: 12,
  maxEntries: 16,
  /** Address of the elements (array, hash) or of the data (ring). */
  data: 20,
  /** u64, random: start of every key's hash (`struct bpf_htab`'s hashrnd). Hash maps only. */
  hashSeed: 24,
  size: 64,
} as const;

export const MAP_MAGIC = 0x70616d42;

/** Further fields of hash maps, in a cache line of their own. */
export const HASH_HEADER = {
  /** Elements in the table, changed by i32.atomic.rmw.add. */
  count: 64,
  /** Elements ever taken from the slab: elements `used` and above were never in use. Never above maxEntries for longer than
   *  a failing insert needs to take its increment back. */
  used: 68,
  /** u64: low half the address of the first free element or 0, high half a tag that every change increments (ABA). */
  freeHead: 72,
  /** First bucket: 8 bytes each. */
  buckets: 128,
} as const;

/** One hash bucket: 8 bytes. */
export const HASH_BUCKET = {
  /** Address of the first element, or the end marker `bucket << 1 | 1`. */
  head: 0,
  /** 0 when free, else 1 + CPU of the holder. */
  lock: 4,
  size: 8,
} as const;

/** One hash element. Key and values follow: `MapGeometry` has their offsets. */
export const HASH_ELEM = {
  /** Address of the next element of the chain, or the end marker `bucket << 1 | 1`. Stays as it was after a delete. */
  next: 0,
  /** In the table: hash with HASH_LIVE set. Free: address of the next free element, or 0 (bit 31 is clear). */
  hash: 4,
  key: 8,
} as const;

export const HASH_LIVE = 0x8000_0000;

/** How often a lock word is looked at before an operation gives up with -EBUSY. */
export const LOCK_SPINS = 1 << 24;

/** Multiplier of the key hash and the start of its lanes 1 to 3 (lane 0 starts with the map's seed). */
export const HASH_MULTIPLIER = 0x9e37_79b9_7f4a_7c15n;
export const HASH_LANES = [0x243f_6a88_85a3_08d3n, 0x1319_8a2e_0370_7344n, 0xa409_3822_299f_31d0n] as const;

/** Further fields of a ring buffer; positions count bytes since the start, modulo 2^32. */
export const RING_HEADER = {
  /** Written by the consumer only. */
  consumerPos: 64,
  /** Written by producers that hold the lock; stored atomically once the record's header is. */
  producerPos: 128,
  /** 0 when free, else 1 + CPU of the holder. */
  lock: 132,
  /** u64: reserves that found no room, added with i64.atomic.rmw.add. */
  dropped: 136,
  size: 192,
} as const;

/** struct bpf_ringbuf_hdr: 8 bytes before every record; records start at multiples of 8. */
export const RING_RECORD = {
  /** Payload length, with the busy and discard bits. */
  len: 0,
  /** Offset of the record's header from the ring's data, for commit and discard, which get the payload's address only. */
  offset: 4,
  size: 8,
} as const;
export const BPF_RINGBUF_BUSY_BIT = 0x8000_0000;
export const BPF_RINGBUF_DISCARD_BIT = 0x4000_0000;

/** Everything that follows from a spec: all offsets from the map's address. */
export interface MapGeometry {
  readonly percpu: boolean;
  /** Offset of array values, hash elements or ring data. */
  readonly data: number;
  /** Bytes from one array value or hash element to the next. */
  readonly stride: number;
  /** Per-CPU arrays: bytes from CPU n's values to those of CPU n + 1. Per-CPU hashes: the same within an element. */
  readonly cpuStride: number;
  /** Hash: buckets - 1. Ring: size - 1. Else 0. */
  readonly mask: number;
  /** Hash: offset of the value of CPU 0 within an element. */
  readonly value: number;
  readonly byteLength: number;
}

export const roundUp = (value: number, to: number): number => Math.ceil(value / to) * to;

export function isPercpu(type: MapType): boolean {
  return type === 'percpu_hash' || type === 'percpu_array';
}

function refuse(spec: MapSpec, what: string): never {
  throw new BpfError('EINVAL', `map ${spec.name}: ${what}`);
}

const isCount = (value: number, max: number): boolean =>
  Number.isInteger(value) && value >= 1 && value <= max;

/** Checks a spec as map_alloc_check does (kernel/bpf/{arraymap,hashtab,ringbuf}.c); throws BpfError EINVAL. */
export function checkMapSpec(spec: MapSpec): void {
  if (!(spec.type in BPF_MAP_TYPE)) refuse(spec, `unknown type ${String(spec.type)}`);
  if (spec.type === 'ringbuf') {
    if (spec.keySize !== 0 || spec.valueSize !== 0) refuse(spec, 'a ring buffer has no keys and values');
    const size = spec.maxEntries;
    if (!isCount(size, 2 ** 29) || size < 4096 || (size & (size - 1)) !== 0) {
      refuse(spec, `ring buffer size ${size} is not a power of two of 4096 or more`);
    }
    return;
  }
  if (!isCount(spec.valueSize, 1 << 24)) refuse(spec, `value size ${spec.valueSize} out of range`);
  if (!isCount(spec.maxEntries, 2 ** 28)) refuse(spec, `max entries ${spec.maxEntries} out of range`);
  if (spec.type === 'array' || spec.type === 'percpu_array') {
    if (spec.keySize !== 4) refuse(spec, `an array's key size is 4, not ${spec.keySize}`);
  } else if (!isCount(spec.keySize, 65536)) {
    refuse(spec, `key size ${spec.keySize} out of range`);
  }
}

export function mapGeometry(spec: MapSpec, ncpu: number): MapGeometry {
  checkMapSpec(spec);
  const percpu = isPercpu(spec.type);
  const valueStride = roundUp(spec.valueSize, 8);
  switch (spec.type) {
    case 'array':
    case 'percpu_array': {
      const data = MAP_HEADER.size;
      const cpuStride = percpu ? roundUp(valueStride * spec.maxEntries, 64) : 0;
      const length = percpu ? cpuStride * ncpu : valueStride * spec.maxEntries;
      return { percpu, data, stride: valueStride, cpuStride, mask: 0, value: 0, byteLength: data + length };
    }
    case 'hash':
    case 'percpu_hash': {
      let buckets = 1;
      while (buckets < spec.maxEntries) buckets *= 2;
      const data = roundUp(HASH_HEADER.buckets + buckets * HASH_BUCKET.size, 64);
      const value = HASH_ELEM.key + roundUp(spec.keySize, 8);
      const cpuStride = percpu ? valueStride : 0;
      const stride = value + valueStride * (percpu ? ncpu : 1);
      return {
        percpu,
        data,
        stride,
        cpuStride,
        mask: buckets - 1,
        value,
        byteLength: data + stride * spec.maxEntries,
      };
    }
    case 'ringbuf': {
      const data = RING_HEADER.size;
      // A record that starts before the end continues behind it, as in the kernel's doubled mapping: see README.md.
      const byteLength = data + 2 * spec.maxEntries;
      return { percpu, data, stride: 0, cpuStride: 0, mask: spec.maxEntries - 1, value: 0, byteLength };
    }
  }
}
