/**
 * Where everything of a map is in linear memory, as constants and one pure function: the maps here, the interpreter and
 * the JIT, which inlines the common operations, all read this file. `README.md` describes the algorithms.
 *
 * All numbers are little-endian. Every map starts on a 64-byte boundary with a 64-byte header.
 */
import { BpfError } from '../errors.ts';
import { checkMapSpec } from './map-check.ts';
import { MAP_FLAG, type MapSpec, type MapType } from './map-spec.ts';

export { checkMapSpec } from './map-check.ts';
export * from './map-spec.ts';

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
  /** u32: the map's id in its machine. */
  id: 32,
  /** u32: MAP_FLAGs. */
  flags: 36,
  /** u32: not 0 once BPF_MAP_FREEZE has made it read-only outside of programs. */
  frozen: 40,
  /** u32: low half of map_extra. */
  mapExtra: 44,
  /** u32: its high half. */
  mapExtraHigh: 48,
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
  /** u64: low half the address of the first free element, halved, or 0; high half a tag that every change increments (ABA). */
  freeHead: 72,
  /** u32: where the search for an element to evict goes on (LRU maps). */
  hand: 80,
  /** Lock word: a chunk of elements is being allocated. */
  grow: 84,
  /** First bucket: 8 bytes each. */
  buckets: 128,
} as const;

/** Further fields of queues and stacks. */
export const QUEUE_HEADER = {
  /** Relative to the map's address plus MAP_HEADER.size. Lock word. */
  lock: 0,
  /** u32 indexes of the next element to write and, in queues, to read. */
  head: 4,
  tail: 8,
  size: 64,
} as const;

/** Further fields of a trie. */
export const TRIE_HEADER = {
  /** Lock word of writers. */
  lock: 0,
  /** Address of the root node, or 0. */
  root: 4,
  /** Entries: nodes that are not intermediate. */
  count: 8,
  /** u32 that each change increments before and after: readers that met a change start again. */
  sequence: 12,
  size: 64,
} as const;

/** Bytes of a page of an arena. */
export const ARENA_PAGE = 4096;

/** Further fields of an arena. */
export const ARENA_HEADER = {
  /** Lock word of whoever allocates and frees. */
  lock: 64,
  /** No page below this one is free. */
  firstFree: 68,
  /** Pages that are allocated, taken from the heap, and taken but not allocated. */
  pages: 72,
  owned: 76,
  spare: 80,
  size: 128,
} as const;

/** What is at an arena's `data`: three tables of 1024 u32. */
export const ARENA_TABLE = {
  entries: 1024,
  /** Addresses of tables of the addresses of pages (arena-memory.ts). */
  directory: 0,
  /** The same for pages that are spare. */
  spare: ARENA_PAGE,
  /** The table of both directories where there is none: zero. */
  empty: 2 * ARENA_PAGE,
  size: 3 * ARENA_PAGE,
} as const;

/** Where arenas are in user space that say nothing about it. */
const ARENA_START = 1n << 44n;
/** Its low half, if there is room: a pointer is NULL where its low half is 0. */
const ARENA_LOW = 1 << 28;

/** user_vm_start of an arena: its map_extra, or what an mmap() of it might give. */
export function arenaStart({ mapExtra = 0n, maxEntries }: MapSpec): bigint {
  if (mapExtra !== 0n) return mapExtra;
  return ARENA_START + BigInt(Math.min(ARENA_LOW, 2 ** 32 - maxEntries * ARENA_PAGE));
}

/** One hash bucket: 8 bytes. */
export const HASH_BUCKET = {
  /** Address of the first element, or the end marker `bucket << 1 | 1`, or 0 where there never was one. */
  head: 0,
  /** 0 when free, else 1 + CPU of the holder. */
  lock: 4,
  size: 8,
} as const;

/** One hash element. Key and values follow: `MapGeometry` has their offsets. */
export const HASH_ELEM = {
  /** Address of the next element of the chain, or the end marker `bucket << 1 | 1`. Stays as it was after a delete. */
  next: 0,
  /** In the table: hash with HASH_LIVE set. Free: address of the next free element, halved, or 0 (bit 31 is clear). */
  hash: 4,
  key: 8,
} as const;

export const HASH_LIVE = 0x8000_0000;

/** A bucket of a stack_trace map: number of frames and one, hash, then the frames. */
export const STACK_BUCKET = { frames: 0, hash: 4, data: 8 } as const;

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
  /** 0 when free, else 1 + CPU of the holder. Behind the position: both are stored at once. */
  lock: 132,
  /** u64: reserves that found no room, added with i64.atomic.rmw.add. */
  dropped: 136,
  /** 1 while the consumer sleeps: whoever commits a record makes it 0 and notifies. */
  waiting: 144,
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
  /** Offset of array values, hash elements (or of the directory of their chunks) or ring data. */
  readonly data: number;
  /** Bytes from one array value or hash element to the next. */
  readonly stride: number;
  /** Per-CPU arrays: bytes from CPU n's values to those of CPU n + 1. Per-CPU hashes: the same within an element. */
  readonly cpuStride: number;
  /** Hash: buckets - 1. Ring: size - 1. Else 0. */
  readonly mask: number;
  /** Hash: offset of the value of CPU 0 within an element. */
  readonly value: number;
  /** Hashes without preallocation: `2^chunkShift` elements a chunk; `data` is a directory of u32 chunk addresses. */
  readonly chunkShift?: number;
  /** LRU hashes: offset of the element's u32 reference mark. */
  readonly ref?: number;
  readonly byteLength: number;
}

export const roundUp = (value: number, to: number): number => Math.ceil(value / to) * to;

const PERCPU_TYPES: ReadonlySet<MapType> = new Set(['percpu_hash', 'percpu_array', 'lru_percpu_hash']);

export function isPercpu(type: MapType): boolean {
  return PERCPU_TYPES.has(type);
}

/** Bytes of a chunk of elements, about. */
const CHUNK_BYTES = 1 << 17;
const BITMAP_ALIGN = 64;
const MAX_STACK_ENTRY = 8;

export interface GeometryOptions {
  /** The memory has a heap (../machine): elements of hashes without preallocation are allocated as they are needed. */
  readonly heap?: boolean;
}

/** Throws BpfError as BPF_MAP_CREATE fails. */
export function mapGeometry(spec: MapSpec, ncpu: number, options: GeometryOptions = {}): MapGeometry {
  checkMapSpec(spec);
  return geometryOf(spec, ncpu, options);
}

/** The same for a spec that is known to be right. */
export function geometryOf(spec: MapSpec, ncpu: number, options: GeometryOptions = {}): MapGeometry {
  const percpu = isPercpu(spec.type);
  const valueStride = roundUp(spec.valueSize, 8);
  const flat = { percpu: false, cpuStride: 0, mask: 0, value: 0 };
  const header = MAP_HEADER.size;
  const slots = (stride: number, count: number, more = 0): MapGeometry => ({
    ...flat,
    data: header + more,
    stride,
    byteLength: header + more + stride * count,
  });
  switch (spec.type) {
    case 'array':
    case 'percpu_array': {
      const data = MAP_HEADER.size;
      const cpuStride = percpu ? roundUp(valueStride * spec.maxEntries, 64) : 0;
      const length = percpu ? cpuStride * ncpu : valueStride * spec.maxEntries;
      return { percpu, data, stride: valueStride, cpuStride, mask: 0, value: 0, byteLength: data + length };
    }
    case 'hash':
    case 'percpu_hash':
    case 'lru_hash':
    case 'lru_percpu_hash':
    case 'hash_of_maps':
    case 'devmap_hash':
      return hashGeometry(spec, ncpu, options);
    case 'ringbuf':
    case 'user_ringbuf': {
      const data = RING_HEADER.size;
      // A record that starts before the end continues behind it, as in the kernel's doubled mapping: see README.md.
      const byteLength = data + 2 * spec.maxEntries;
      return { percpu, data, stride: 0, cpuStride: 0, mask: spec.maxEntries - 1, value: 0, byteLength };
    }
    // An object a slot: its address, id or descriptor.
    case 'prog_array':
    case 'perf_event_array':
    case 'cgroup_array':
    case 'array_of_maps':
    case 'sockmap':
    case 'xskmap':
    case 'reuseport_sockarray':
      return slots(8, spec.maxEntries);
    // The value and whether there is one.
    case 'devmap':
    case 'cpumap':
      return slots(8 + valueStride, spec.maxEntries);
    case 'queue':
    case 'stack':
      return slots(valueStride, spec.maxEntries + 1, QUEUE_HEADER.size);
    case 'bloom_filter':
      return { ...slots(1, bloomBits(spec) / 8), mask: bloomBits(spec) - 1 };
    case 'stack_trace': {
      let buckets = 1;
      while (buckets < spec.maxEntries) buckets *= 2;
      return { ...slots(MAX_STACK_ENTRY + valueStride, buckets), mask: buckets - 1 };
    }
    case 'lpm_trie':
      return slots(0, 0, TRIE_HEADER.size);
    case 'cgroup_storage':
      return slots(8 + valueStride, 1);
    case 'percpu_cgroup_storage':
      return { ...slots(8 + valueStride * ncpu, 1), cpuStride: valueStride, percpu: true };
    // One object a thread.
    case 'task_storage':
      return slots(8 + valueStride, ncpu);
    case 'arena':
      return {
        ...flat,
        data: ARENA_HEADER.size,
        stride: 0,
        byteLength: ARENA_HEADER.size + ARENA_TABLE.size,
      };
    default:
      throw new BpfError('ENOTSUPP', `map ${spec.name}: there are no maps of type ${spec.type} here`);
  }
}

function hashGeometry(spec: MapSpec, ncpu: number, options: GeometryOptions): MapGeometry {
  const percpu = isPercpu(spec.type);
  const valueStride = roundUp(spec.valueSize, 8);
  let buckets = 1;
  while (buckets < spec.maxEntries) buckets *= 2;
  const data = roundUp(HASH_HEADER.buckets + buckets * HASH_BUCKET.size, 64);
  const value = HASH_ELEM.key + roundUp(spec.keySize, 8);
  const cpuStride = percpu ? valueStride : 0;
  const values = value + valueStride * (percpu ? ncpu : 1);
  const isLru = spec.type === 'lru_hash' || spec.type === 'lru_percpu_hash';
  const stride = values + (isLru ? 8 : 0);
  const common = {
    percpu,
    data,
    stride,
    cpuStride,
    mask: buckets - 1,
    value,
    ...(isLru ? { ref: values } : {}),
  };
  const isChunked = options.heap === true && ((spec.flags ?? 0) & MAP_FLAG.BPF_F_NO_PREALLOC) !== 0;
  if (!isChunked) return { ...common, byteLength: data + stride * spec.maxEntries };
  let chunkShift = 0;
  while (stride << chunkShift < CHUNK_BYTES && 1 << chunkShift < spec.maxEntries) chunkShift++;
  const chunks = Math.ceil(spec.maxEntries / 2 ** chunkShift);
  return { ...common, chunkShift, byteLength: data + roundUp(chunks * 4, 8) };
}

/** Bits of a bloom filter: nr_hash * max_entries / ln 2, rounded up to a power of two (bloom_map_alloc). */
export function bloomBits(spec: MapSpec): number {
  const BITS_NUMERATOR = 7;
  const BITS_DENOMINATOR = 5;
  let bits = BITMAP_ALIGN;
  const wanted = Math.floor((spec.maxEntries * bloomHashes(spec) * BITS_NUMERATOR) / BITS_DENOMINATOR);
  while (bits < wanted) bits *= 2;
  return bits;
}

/** How many hash functions a bloom filter has: 5 where its spec does not say. */
export function bloomHashes(spec: MapSpec): number {
  const DEFAULT_HASHES = 5;
  return Number((spec.mapExtra ?? 0n) & 15n) || DEFAULT_HASHES;
}
