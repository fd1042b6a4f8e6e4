import { aLayout, aMemory, aPlacedMap } from '../argument-shapes.ts';
import { anInteger, checkArgument } from '../arguments.ts';
import { BpfError } from '../errors.ts';
import { MEMORY_HEADER, MEMORY_MAGIC, type MemoryLayout, type PlacedMap } from '../layout.ts';
import { Arena } from './arena.ts';
import { ArrayMap } from './array.ts';
import { BloomFilter } from './bloom-filter.ts';
import { ArrayOfMaps, EmptyArray, HashOfMaps, ProgArray, RedirectMap } from './fd-array.ts';
import { HashMap, initHash } from './hashtab.ts';
import { CgroupStorage, TaskStorage } from './local-storage.ts';
import { LpmTrie } from './lpm-trie.ts';
import {
  ARENA_TABLE,
  BPF_MAP_TYPE,
  HASH_ELEM,
  MAP_HEADER,
  MAP_MAGIC,
  type MapGeometry,
  type MapSpec,
  type MapType,
} from './map-layout.ts';
import type { BpfMap, MapEnvironment } from './map-types.ts';
import { viewMemory } from './memory-view.ts';
import { PerfEventArray } from './perf-event-array.ts';
import { QueueMap } from './queue-stack.ts';
import { RingBuffer } from './ringbuf.ts';
import { StackTraceMap } from './stack-trace.ts';
import { UserRingBuffer } from './user-ringbuf.ts';

/** Writes the headers of memory and maps. Once, before any thread uses it, by whoever made the memory; it must be all zero. */
export function initMemory(memory: WebAssembly.Memory, layout: MemoryLayout): void {
  checkArgument('initMemory()', 'memory', memory, aMemory);
  checkArgument('initMemory()', 'layout', layout, aLayout);
  const { data } = viewMemory(memory);
  if (data.byteLength < layout.byteLength) {
    throw new BpfError('EINVAL', `memory of ${data.byteLength} bytes, the layout needs ${layout.byteLength}`);
  }
  data.setUint32(MEMORY_HEADER.ncpu, layout.ncpu, true);
  for (const placed of layout.maps) initMap(memory, placed);
  data.setUint32(MEMORY_HEADER.magic, MEMORY_MAGIC, true);
}

const HAS_SEED: ReadonlySet<MapType> = new Set([
  'hash',
  'percpu_hash',
  'lru_hash',
  'lru_percpu_hash',
  'hash_of_maps',
  'devmap_hash',
  'bloom_filter',
]);

/** Types of which elements that were never used are known by their hash alone. */
const SPARSE: ReadonlySet<MapType> = new Set(['hash', 'lru_hash', 'hash_of_maps', 'devmap_hash']);

/**
 * Makes used memory what a map at `address` needs of it: zero, except for the elements of a hash, which may be most of a large memory and
 * are written whole when they are first taken.
 */
export function clearMap(
  memory: WebAssembly.Memory,
  spec: MapSpec,
  { byteLength, data, stride, chunkShift }: MapGeometry,
  address: number,
): void {
  const { u8, i32 } = viewMemory(memory);
  if (!SPARSE.has(spec.type) || spec.record !== undefined || chunkShift !== undefined) {
    u8.fill(0, address, address + byteLength);
    return;
  }
  const elements = address + data;
  u8.fill(0, address, elements);
  for (let slot = 0; slot < spec.maxEntries; slot++) {
    i32[(elements + slot * stride + HASH_ELEM.hash) >>> 2] = 0;
  }
}

/** Writes a map's header into zero memory, its magic last. */
export function initMap(memory: WebAssembly.Memory, placed: PlacedMap): void {
  checkArgument('initMap()', 'memory', memory, aMemory);
  checkArgument('initMap()', 'placed', placed, aPlacedMap);
  const { data } = viewMemory(memory);
  const { spec, address, geometry } = placed;
  data.setUint32(address + MAP_HEADER.type, BPF_MAP_TYPE[spec.type], true);
  data.setUint32(address + MAP_HEADER.keySize, spec.keySize, true);
  data.setUint32(address + MAP_HEADER.valueSize, spec.valueSize, true);
  data.setUint32(address + MAP_HEADER.maxEntries, spec.maxEntries, true);
  data.setUint32(address + MAP_HEADER.data, address + geometry.data, true);
  data.setUint32(address + MAP_HEADER.id, placed.id ?? 0, true);
  data.setUint32(address + MAP_HEADER.flags, spec.flags ?? 0, true);
  data.setUint32(address + MAP_HEADER.mapExtra, Number((spec.mapExtra ?? 0n) & 0xffff_ffffn), true);
  data.setUint32(address + MAP_HEADER.mapExtraHigh, Number((spec.mapExtra ?? 0n) >> 32n), true);
  if (spec.type === 'arena') initArena(data, address + geometry.data);
  if (HAS_SEED.has(spec.type)) initHash(data, placed);
  data.setUint32(address + MAP_HEADER.magic, MAP_MAGIC, true);
}

function initArena(data: DataView, tables: number): void {
  for (let at = 0; at < ARENA_TABLE.empty; at += 4)
    data.setUint32(tables + at, tables + ARENA_TABLE.empty, true);
}

/** Map `index` of a layout, for this thread. Throws BpfError EINVAL where there is none, or the memory is not initialised. */
export function openMap(memory: WebAssembly.Memory, layout: MemoryLayout, index: number): BpfMap {
  checkArgument('openMap()', 'memory', memory, aMemory);
  checkArgument('openMap()', 'layout', layout, aLayout);
  checkArgument('openMap()', 'index', index, anInteger());
  const placed = layout.maps[index];
  if (placed === undefined) throw new BpfError('EINVAL', `no map ${index}`);
  return openPlacedMap(memory, placed, layout.ncpu);
}

/** A map whose header is in the memory, for this thread. `environment`: what its type needs beyond memory (../machine). */
export function openPlacedMap(
  memory: WebAssembly.Memory,
  placed: PlacedMap,
  ncpu: number,
  environment: MapEnvironment = {},
): BpfMap {
  const Type = MAP_CLASSES[placed.spec.type];
  if (Type === undefined) {
    throw new BpfError(
      'ENOTSUPP',
      `map ${placed.spec.name}: there are no maps of type ${placed.spec.type} here`,
    );
  }
  return new Type(memory, placed, ncpu, environment);
}

type MapClass = new (
  memory: WebAssembly.Memory,
  placed: PlacedMap,
  ncpu: number,
  environment: MapEnvironment,
) => BpfMap;

const MAP_CLASSES: Partial<Record<MapType, MapClass>> = {
  array: ArrayMap,
  percpu_array: ArrayMap,
  hash: HashMap,
  percpu_hash: HashMap,
  lru_hash: HashMap,
  lru_percpu_hash: HashMap,
  lpm_trie: LpmTrie,
  prog_array: ProgArray,
  perf_event_array: PerfEventArray,
  array_of_maps: ArrayOfMaps,
  hash_of_maps: HashOfMaps,
  stack_trace: StackTraceMap,
  queue: QueueMap,
  stack: QueueMap,
  bloom_filter: BloomFilter,
  ringbuf: RingBuffer,
  user_ringbuf: UserRingBuffer,
  task_storage: TaskStorage,
  cgroup_storage: CgroupStorage,
  percpu_cgroup_storage: CgroupStorage,
  devmap: RedirectMap,
  cpumap: RedirectMap,
  devmap_hash: HashMap,
  sockmap: EmptyArray,
  xskmap: EmptyArray,
  reuseport_sockarray: EmptyArray,
  cgroup_array: EmptyArray,
  arena: Arena,
};
