/** What BPF_MAP_CREATE refuses, and with which error: map_create() and each type's map_alloc_check (kernel/bpf/*.c, net/core/*.c). */
import { BpfError, type ErrnoName } from '../errors.ts';
import { BPF_MAP_TYPE, MAP_FLAG, type MapSpec, type MapType } from './map-spec.ts';

const F = MAP_FLAG;
const PROG_ACCESS = F.BPF_F_RDONLY_PROG | F.BPF_F_WRONLY_PROG;
const USER_ACCESS = F.BPF_F_RDONLY | F.BPF_F_WRONLY;
const ACCESS = PROG_ACCESS | USER_ACCESS;

const ARRAY_FLAGS =
  F.BPF_F_NUMA_NODE | F.BPF_F_MMAPABLE | ACCESS | F.BPF_F_PRESERVE_ELEMS | F.BPF_F_INNER_MAP;
const HASH_FLAGS =
  F.BPF_F_NO_PREALLOC | F.BPF_F_NO_COMMON_LRU | F.BPF_F_NUMA_NODE | ACCESS | F.BPF_F_ZERO_SEED;
const TRIE_FLAGS = F.BPF_F_NO_PREALLOC | F.BPF_F_NUMA_NODE | ACCESS;
const QUEUE_FLAGS = F.BPF_F_NUMA_NODE | ACCESS;
const BLOOM_FLAGS = F.BPF_F_NUMA_NODE | F.BPF_F_ZERO_SEED | ACCESS;
const STACK_FLAGS = F.BPF_F_NUMA_NODE | USER_ACCESS | F.BPF_F_STACK_BUILD_ID;
const DEVICE_FLAGS = F.BPF_F_NUMA_NODE | USER_ACCESS;

/** KMALLOC_MAX_SIZE */
const KMALLOC_MAX = 1 << 22;
/** sizeof(struct htab_elem) */
const HTAB_ELEM = 48;
/** PCPU_MIN_UNIT_SIZE */
const PERCPU_MAX = 32 << 10;
const INT_MAX = 0x7fff_ffff;
const U32_MAX = 0xffff_ffff;
const U64_MAX = 2n ** 64n - 1n;
const PAGE_SIZE = 4096;
const LPM_KEY_MIN = 5;
const LPM_KEY_MAX = 4 + 256;
/** KMALLOC_MAX_SIZE less LPM_DATA_SIZE_MAX and sizeof(struct lpm_trie_node) */
const LPM_VALUE_MAX = KMALLOC_MAX - 256 - 40;
/** sysctl_perf_event_max_stack */
const MAX_STACK_DEPTH = 127;
const STACK_BUILD_ID_SIZE = 32;
/** U16_MAX less struct bpf_cgroup_storage */
const CGROUP_STORAGE_MAX = 65407;
/** NR_CPUS, as distributions configure it. */
const NR_CPUS = 8192;
const MAX_RING = 2 ** 29;
const BLOOM_HASH_MASK = 0xfn;
/** As a u32 */
const NUMA_NO_NODE = U32_MAX;

function refuse(spec: MapSpec, what: string, code: ErrnoName = 'EINVAL'): never {
  throw new BpfError(code, `map ${spec.name}: ${what}`);
}

const isU32 = (value: number): boolean => Number.isInteger(value) && value >= 0 && value <= U32_MAX;

function checkFlags(spec: MapSpec, allowed: number): void {
  const flags = spec.flags ?? 0;
  const wrong = flags & ~allowed;
  if (wrong !== 0 || !isU32(flags)) {
    const names = Object.entries(F).filter(([, bit]) => (wrong & bit) !== 0);
    const text = names.map(([name]) => name).join(' | ') || `flags 0x${(wrong >>> 0).toString(16)}`;
    refuse(spec, `a map of type ${spec.type} has no ${text}`);
  }
  if ((flags & PROG_ACCESS) === PROG_ACCESS)
    refuse(spec, 'BPF_F_RDONLY_PROG and BPF_F_WRONLY_PROG exclude each other');
  if ((flags & USER_ACCESS) === USER_ACCESS) refuse(spec, 'BPF_F_RDONLY and BPF_F_WRONLY exclude each other');
}

function checkMaxEntries(spec: MapSpec): void {
  if (spec.maxEntries === 0) refuse(spec, 'max entries 0 out of range');
}

function checkSizes(spec: MapSpec, keySize: number, valueSizes?: readonly number[]): void {
  if (spec.keySize !== keySize) {
    const article =
      spec.type === 'array' || spec.type === 'percpu_array' ? "an array's" : `a ${spec.type} map's`;
    refuse(spec, `${article} key size is ${keySize}, not ${spec.keySize}`);
  }
  if (valueSizes !== undefined && !valueSizes.includes(spec.valueSize)) {
    refuse(spec, `a ${spec.type} map's value size is ${valueSizes.join(' or ')}, not ${spec.valueSize}`);
  }
}

function checkPercpuSize(spec: MapSpec): void {
  if (Math.ceil(spec.valueSize / 8) * 8 > PERCPU_MAX) {
    refuse(spec, `per-CPU values have at most ${PERCPU_MAX} bytes, not ${spec.valueSize}`, 'E2BIG');
  }
}

/** array_map_alloc_check */
function checkArray(spec: MapSpec): void {
  const flags = spec.flags ?? 0;
  const percpu = spec.type === 'percpu_array';
  checkMaxEntries(spec);
  checkSizes(spec, 4);
  if (spec.valueSize === 0) refuse(spec, 'value size 0 out of range');
  let allowed = ARRAY_FLAGS;
  if (spec.type !== 'array') allowed &= ~(F.BPF_F_MMAPABLE | F.BPF_F_INNER_MAP);
  if (spec.type !== 'perf_event_array') allowed &= ~F.BPF_F_PRESERVE_ELEMS;
  checkFlags(spec, allowed);
  if (percpu && (flags & F.BPF_F_NUMA_NODE) !== 0) refuse(spec, 'per-CPU maps have no BPF_F_NUMA_NODE');
  if (spec.valueSize > INT_MAX) refuse(spec, `value size ${spec.valueSize} is too large`, 'E2BIG');
  if (percpu) checkPercpuSize(spec);
}

/** fd_array_map_alloc_check */
function checkObjectArray(spec: MapSpec): void {
  if (spec.valueSize !== 4) checkSizes(spec, spec.keySize, [4]);
  if (((spec.flags ?? 0) & PROG_ACCESS) !== 0) checkFlags(spec, ~PROG_ACCESS);
  checkArray(spec);
}

/** htab_map_alloc_check */
function checkHash(spec: MapSpec): void {
  const flags = spec.flags ?? 0;
  const percpu = spec.type === 'percpu_hash' || spec.type === 'lru_percpu_hash';
  const lru = spec.type === 'lru_hash' || spec.type === 'lru_percpu_hash';
  const percpuLru = (flags & F.BPF_F_NO_COMMON_LRU) !== 0;
  checkFlags(spec, lru ? HASH_FLAGS : HASH_FLAGS & ~F.BPF_F_NO_COMMON_LRU);
  if (lru && (flags & F.BPF_F_NO_PREALLOC) !== 0) {
    refuse(spec, 'LRU maps are always preallocated: no BPF_F_NO_PREALLOC', 'ENOTSUPP');
  }
  if ((flags & F.BPF_F_NUMA_NODE) !== 0 && (percpu || percpuLru))
    refuse(spec, 'per-CPU maps have no BPF_F_NUMA_NODE');
  checkMaxEntries(spec);
  if (spec.keySize === 0) refuse(spec, 'key size 0 out of range');
  if (spec.valueSize === 0) refuse(spec, 'value size 0 out of range');
  if (spec.keySize + spec.valueSize >= KMALLOC_MAX - HTAB_ELEM) {
    refuse(spec, `key and value of ${spec.keySize + spec.valueSize} bytes are too large`, 'E2BIG');
  }
  if (percpu) checkPercpuSize(spec);
  if (spec.maxEntries > 2 ** 31) refuse(spec, `max entries ${spec.maxEntries} out of range`, 'E2BIG');
}

function checkInner(spec: MapSpec): void {
  const inner = spec.innerMap;
  if (inner === undefined) refuse(spec, 'there is no inner map to describe its maps');
  if (inner.innerMap !== undefined) refuse(spec, 'maps of maps of maps do not exist');
  const has = INNER_TYPES.has(inner.type);
  if (!has) refuse(spec, `maps of type ${inner.type} cannot be inner maps`, 'ENOTSUPP');
}

/** Types with `map_meta_equal`. */
const INNER_TYPES: ReadonlySet<MapType> = new Set([
  'hash',
  'array',
  'percpu_hash',
  'percpu_array',
  'perf_event_array',
  'stack_trace',
  'lru_hash',
  'lru_percpu_hash',
  'lpm_trie',
  'devmap',
  'devmap_hash',
  'sockmap',
  'sockhash',
  'cpumap',
  'xskmap',
  'queue',
  'stack',
  'bloom_filter',
  'ringbuf',
  'user_ringbuf',
  'sk_storage',
  'inode_storage',
  'task_storage',
  'reuseport_sockarray',
  'cgroup_array',
  'arena',
]);

function checkRing(spec: MapSpec): void {
  checkFlags(spec, F.BPF_F_NUMA_NODE);
  if (spec.keySize !== 0 || spec.valueSize !== 0) refuse(spec, 'a ring buffer has no keys and values');
  const size = spec.maxEntries;
  if (size > MAX_RING) refuse(spec, `ring buffer size ${size} is above ${MAX_RING}`, 'E2BIG');
  if (size < PAGE_SIZE || (size & (size - 1)) !== 0) {
    refuse(spec, `ring buffer size ${size} is not a power of two of ${PAGE_SIZE} or more`);
  }
}

/** trie_alloc */
function checkTrie(spec: MapSpec): void {
  checkMaxEntries(spec);
  if (((spec.flags ?? 0) & F.BPF_F_NO_PREALLOC) === 0) refuse(spec, 'an LPM trie needs BPF_F_NO_PREALLOC');
  checkFlags(spec, TRIE_FLAGS);
  if (spec.keySize < LPM_KEY_MIN || spec.keySize > LPM_KEY_MAX) {
    refuse(spec, `key size ${spec.keySize} is not between ${LPM_KEY_MIN} and ${LPM_KEY_MAX}`);
  }
  if (spec.valueSize < 1 || spec.valueSize > LPM_VALUE_MAX)
    refuse(spec, `value size ${spec.valueSize} out of range`);
}

/** queue_stack_map_alloc_check */
function checkQueue(spec: MapSpec): void {
  checkMaxEntries(spec);
  checkSizes(spec, 0);
  if (spec.valueSize === 0) refuse(spec, 'value size 0 out of range');
  checkFlags(spec, QUEUE_FLAGS);
  if (spec.valueSize > KMALLOC_MAX) refuse(spec, `value size ${spec.valueSize} is too large`, 'E2BIG');
}

/** bloom_map_alloc */
function checkBloom(spec: MapSpec): void {
  if (spec.valueSize > KMALLOC_MAX) refuse(spec, `value size ${spec.valueSize} is too large`, 'E2BIG');
  checkSizes(spec, 0);
  if (spec.valueSize === 0) refuse(spec, 'value size 0 out of range');
  checkMaxEntries(spec);
  checkFlags(spec, BLOOM_FLAGS);
  if (((spec.mapExtra ?? 0n) & ~BLOOM_HASH_MASK) !== 0n) refuse(spec, 'more than 15 hash functions');
}

/** stack_map_alloc */
function checkStackTrace(spec: MapSpec): void {
  checkFlags(spec, STACK_FLAGS);
  checkMaxEntries(spec);
  checkSizes(spec, 4);
  const hasBuildIds = ((spec.flags ?? 0) & F.BPF_F_STACK_BUILD_ID) !== 0;
  const entry = hasBuildIds ? STACK_BUILD_ID_SIZE : 8;
  if (spec.valueSize < 8 || spec.valueSize % entry !== 0 || spec.valueSize / entry > MAX_STACK_DEPTH) {
    refuse(spec, `value size ${spec.valueSize} is not 1 to ${MAX_STACK_DEPTH} times ${entry}`);
  }
  if (spec.maxEntries > 2 ** 31) refuse(spec, `max entries ${spec.maxEntries} out of range`, 'E2BIG');
}

/** bpf_local_storage_map_alloc_check */
function checkLocalStorage(spec: MapSpec): void {
  const flags = spec.flags ?? 0;
  if ((flags & F.BPF_F_NO_PREALLOC) === 0) refuse(spec, 'local storage needs BPF_F_NO_PREALLOC');
  checkFlags(spec, F.BPF_F_NO_PREALLOC | F.BPF_F_CLONE);
  if (spec.maxEntries !== 0) refuse(spec, 'local storage has no max entries');
  checkSizes(spec, 4);
  if (spec.valueSize === 0) refuse(spec, 'value size 0 out of range');
  if (!spec.keyTypeId || !spec.valueTypeId)
    refuse(spec, 'local storage needs the BTF types of key and value');
  if (spec.valueSize > KMALLOC_MAX) refuse(spec, `value size ${spec.valueSize} is too large`, 'E2BIG');
}

/** cgroup_storage_map_alloc */
function checkCgroupStorage(spec: MapSpec): void {
  const percpu = spec.type === 'percpu_cgroup_storage';
  if (spec.keySize !== 8 && spec.keySize !== 16) refuse(spec, `key size ${spec.keySize} is not 8 or 16`);
  if (spec.valueSize === 0) refuse(spec, 'value size 0 out of range');
  const most = percpu ? PERCPU_MAX : CGROUP_STORAGE_MAX;
  if (spec.valueSize > most) refuse(spec, `value size ${spec.valueSize} is above ${most}`, 'E2BIG');
  checkFlags(spec, F.BPF_F_NUMA_NODE | ACCESS);
  if (spec.maxEntries !== 0) refuse(spec, 'cgroup storage has no max entries');
}

function checkDevices(spec: MapSpec, keySize: number, values: readonly number[], flags: number): void {
  checkMaxEntries(spec);
  checkSizes(spec, keySize, values);
  checkFlags(spec, flags);
}

/** arena_map_alloc */
function checkArena(spec: MapSpec): void {
  const mapExtra = spec.mapExtra ?? 0n;
  if (spec.keySize !== 0 || spec.valueSize !== 0) refuse(spec, 'an arena has no keys and values');
  checkMaxEntries(spec);
  if (((spec.flags ?? 0) & F.BPF_F_MMAPABLE) === 0) refuse(spec, 'an arena needs BPF_F_MMAPABLE');
  checkFlags(spec, F.BPF_F_MMAPABLE | F.BPF_F_SEGV_ON_FAULT | F.BPF_F_NO_USER_CONV);
  if (mapExtra < 0n || mapExtra > U64_MAX || mapExtra % BigInt(PAGE_SIZE) !== 0n)
    refuse(spec, `user address 0x${mapExtra.toString(16)} (map_extra) is not the start of a page`);
  const size = spec.maxEntries * PAGE_SIZE;
  if (size > 2 ** 32) refuse(spec, `${spec.maxEntries} pages are more than 4 GiB`, 'E2BIG');
  if (mapExtra % 2n ** 32n > 2 ** 32 - size)
    refuse(spec, `user addresses from 0x${mapExtra.toString(16)} (map_extra) cross 4 GiB`, 'ERANGE');
}

const NO_KERNEL_OBJECTS: Partial<Record<MapType, string>> = {
  struct_ops: 'there are no kernel structures to implement in user space',
  sockhash: 'there are no kernel sockets in user space',
  sk_storage: 'there are no kernel sockets in user space',
  inode_storage: 'there are no kernel inodes in user space',
  cgrp_storage: 'there are no control groups in user space',
};

/** Throws BpfError with the kernel's errno: EINVAL, E2BIG, ENOTSUPP. */
export function checkMapSpec(spec: MapSpec): void {
  if (!Object.hasOwn(BPF_MAP_TYPE, spec.type)) refuse(spec, `unknown type ${String(spec.type)}`);
  for (const [text, value] of [
    ['key size', spec.keySize],
    ['value size', spec.valueSize],
    ['max entries', spec.maxEntries],
  ] as const) {
    if (!isU32(value)) refuse(spec, `${text} ${value} out of range`);
  }
  if ((spec.mapExtra ?? 0n) !== 0n && spec.type !== 'bloom_filter' && spec.type !== 'arena') {
    refuse(spec, `a map of type ${spec.type} has no map_extra`);
  }
  if (((spec.flags ?? 0) & F.BPF_F_NUMA_NODE) !== 0 && ![0, NUMA_NO_NODE].includes(spec.numaNode ?? 0)) {
    refuse(spec, `there is no NUMA node ${spec.numaNode}`);
  }
  const check = CHECKS[spec.type];
  if (check === undefined) {
    refuse(spec, `type ${spec.type}: ${NO_KERNEL_OBJECTS[spec.type]}`, 'ENOTSUPP');
  }
  check(spec);
}

function checkCpus(spec: MapSpec): void {
  checkDevices(spec, 4, [4, 8], F.BPF_F_NUMA_NODE);
  if (spec.maxEntries > NR_CPUS) refuse(spec, `max entries ${spec.maxEntries} are above ${NR_CPUS}`, 'E2BIG');
}

const CHECKS: Partial<Record<MapType, (spec: MapSpec) => void>> = {
  array: checkArray,
  percpu_array: checkArray,
  prog_array: checkObjectArray,
  perf_event_array: checkObjectArray,
  cgroup_array: checkObjectArray,
  // reuseport_array_alloc_check: what is looked up may be a cookie.
  reuseport_sockarray: (spec) => {
    checkSizes(spec, spec.keySize, [4, 8]);
    checkArray(spec);
  },
  array_of_maps: (spec) => {
    checkObjectArray(spec);
    checkInner(spec);
  },
  hash: checkHash,
  percpu_hash: checkHash,
  lru_hash: checkHash,
  lru_percpu_hash: checkHash,
  hash_of_maps: (spec) => {
    if (spec.valueSize !== 4) checkSizes(spec, spec.keySize, [4]);
    checkHash(spec);
    checkInner(spec);
  },
  lpm_trie: checkTrie,
  queue: checkQueue,
  stack: checkQueue,
  bloom_filter: checkBloom,
  stack_trace: checkStackTrace,
  ringbuf: checkRing,
  user_ringbuf: checkRing,
  task_storage: checkLocalStorage,
  cgroup_storage: checkCgroupStorage,
  percpu_cgroup_storage: checkCgroupStorage,
  devmap: (spec) => checkDevices(spec, 4, [4, 8], DEVICE_FLAGS),
  devmap_hash: (spec) => checkDevices(spec, 4, [4, 8], DEVICE_FLAGS),
  cpumap: checkCpus,
  xskmap: (spec) => checkDevices(spec, 4, [4], DEVICE_FLAGS),
  sockmap: (spec) => checkDevices(spec, 4, [4, 8], DEVICE_FLAGS),
  arena: checkArena,
};
