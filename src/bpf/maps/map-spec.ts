/** What a map is, as plain data: its type, sizes and flags (include/uapi/linux/bpf.h). Checks are in `map-check.ts`. */

/** enum bpf_map_type: the kernel's names in lower case without their prefix. */
export const BPF_MAP_TYPE = {
  hash: 1,
  array: 2,
  prog_array: 3,
  perf_event_array: 4,
  percpu_hash: 5,
  percpu_array: 6,
  stack_trace: 7,
  cgroup_array: 8,
  lru_hash: 9,
  lru_percpu_hash: 10,
  lpm_trie: 11,
  array_of_maps: 12,
  hash_of_maps: 13,
  devmap: 14,
  sockmap: 15,
  cpumap: 16,
  xskmap: 17,
  sockhash: 18,
  cgroup_storage: 19,
  reuseport_sockarray: 20,
  percpu_cgroup_storage: 21,
  queue: 22,
  stack: 23,
  sk_storage: 24,
  devmap_hash: 25,
  struct_ops: 26,
  ringbuf: 27,
  inode_storage: 28,
  task_storage: 29,
  bloom_filter: 30,
  user_ringbuf: 31,
  cgrp_storage: 32,
  arena: 33,
} as const;

export type MapType = keyof typeof BPF_MAP_TYPE;

export const MAP_TYPES = Object.keys(BPF_MAP_TYPE) as readonly MapType[];

/** Flags of BPF_MAP_CREATE. */
export const MAP_FLAG = {
  BPF_F_NO_PREALLOC: 1 << 0,
  BPF_F_NO_COMMON_LRU: 1 << 1,
  BPF_F_NUMA_NODE: 1 << 2,
  BPF_F_RDONLY: 1 << 3,
  BPF_F_WRONLY: 1 << 4,
  BPF_F_STACK_BUILD_ID: 1 << 5,
  BPF_F_ZERO_SEED: 1 << 6,
  BPF_F_RDONLY_PROG: 1 << 7,
  BPF_F_WRONLY_PROG: 1 << 8,
  BPF_F_CLONE: 1 << 9,
  BPF_F_MMAPABLE: 1 << 10,
  BPF_F_PRESERVE_ELEMS: 1 << 11,
  BPF_F_INNER_MAP: 1 << 12,
  BPF_F_LINK: 1 << 13,
  BPF_F_PATH_FD: 1 << 14,
  BPF_F_VTYPE_BTF_OBJ_FD: 1 << 15,
  BPF_F_TOKEN_FD: 1 << 16,
  BPF_F_SEGV_ON_FAULT: 1 << 17,
  BPF_F_NO_USER_CONV: 1 << 18,
} as const;

/** Flags of BPF_MAP_UPDATE_ELEM and BPF_MAP_LOOKUP_ELEM. */
export const BPF_ANY = 0;
export const BPF_NOEXIST = 1;
export const BPF_EXIST = 2;
export const BPF_F_LOCK = 4;

export interface MapSpec {
  readonly name: string;
  readonly type: MapType;
  /** Bytes; 0 where the type has no keys. */
  readonly keySize: number;
  /** Bytes; 0 for a ring buffer. Rounded up to 8 for each CPU's value in a per-CPU map. */
  readonly valueSize: number;
  /** Entries; for a ring buffer its size in bytes, a power of two of at least 4096. */
  readonly maxEntries: number;
  /** `MAP_FLAG`s. Default 0. */
  readonly flags?: number;
  readonly numaNode?: number;
  /** bloom_filter: the low four bits are the number of hash functions (0: 5). */
  readonly mapExtra?: bigint;
  /** array_of_maps, hash_of_maps: what the inner maps look like. */
  readonly innerMap?: MapSpec;
  /** Type ids of key and value in the BTF that the map came with. */
  readonly keyTypeId?: number;
  readonly valueTypeId?: number;
  /** The value's special fields (`struct btf_record`). */
  readonly record?: MapRecord;
}

/** enum btf_field_type, in lower case without its prefix. */
export type RecordFieldKind =
  | 'spin_lock'
  | 'res_spin_lock'
  | 'timer'
  | 'wq'
  | 'task_work'
  | 'kptr_unref'
  | 'kptr_ref'
  | 'kptr_percpu'
  | 'uptr'
  | 'list_head'
  | 'list_node'
  | 'rb_root'
  | 'rb_node'
  | 'refcount';

/** struct btf_field: one special field in a value. */
export interface RecordField {
  readonly kind: RecordFieldKind;
  /** Bytes from the start of the value. */
  readonly offset: number;
  readonly size: number;
  /** kptr, list_head, rb_root: the structure pointed to or contained (BTF id in the program's BTF, and name). */
  readonly typeId?: number;
  readonly typeName?: string;
  /** list_head, rb_root: offset of the node in the contained structure. */
  readonly nodeOffset?: number;
  /** kptr to a local type: the special fields of that type. */
  readonly record?: MapRecord;
}

/** struct btf_record: the special fields of a value, by offset. */
export interface MapRecord {
  readonly fields: readonly RecordField[];
}

export function recordField(spec: MapSpec, kind: RecordFieldKind): RecordField | undefined {
  return spec.record?.fields.find((field) => field.kind === kind);
}
