import type { PlacedMap } from '../layout.ts';
import type { Heap } from './heap.ts';
import type { MapRecord, MapSpec } from './map-spec.ts';

/** One entry as read by somebody outside of programs. The bytes are copies. */
export interface MapEntry {
  readonly key: Uint8Array;
  /** One value a CPU for per-CPU maps, else one. */
  readonly values: readonly Uint8Array[];
}

/** What bpf(2) gives: the bytes, or -errno. */
export type BytesOrErrno = Uint8Array | number;

export interface BatchResult {
  /** 0 or -errno: -ENOENT once a lookup has come to the end (its entries count). */
  readonly error: number;
  /** Elements done. */
  readonly count: number;
  /** Lookups: keys and values one behind the other, and where the next batch goes on. */
  readonly keys: Uint8Array;
  readonly values: Uint8Array;
  readonly outBatch: Uint8Array | undefined;
}

/**
 * A map that several threads may use at once. Three sides. Programs give addresses in the memory and their CPU and get an
 * address or `-errno` (`struct bpf_map_ops`). bpf(2)'s side (`sys…`) gives and gets bytes as the system call copies them, in a
 * per-CPU map all CPUs' values, each rounded up to 8 bytes. Everybody else gives and gets single values.
 */
export interface BpfMap {
  readonly spec: MapSpec;
  readonly index: number;
  /** In a machine: the map's id, from 1. Else 0. */
  readonly id: number;
  /** Byte address of the map's header: what a pointer to the map is in a program. */
  readonly address: number;
  /** Plain data from which another thread opens the map. */
  readonly placed: PlacedMap;
  readonly ncpu: number;

  /** Address of the value of `cpu` (per-CPU maps) or of the value, or of an inner map; 0 when there is none. */
  lookupElem(key: number, cpu: number): number;
  /** 0 or -errno; `flags` is BPF_ANY, BPF_NOEXIST or BPF_EXIST, and BPF_F_LOCK. */
  updateElem(key: number, value: number, flags: number, cpu: number): number;
  deleteElem(key: number, cpu: number): number;
  /** Queue, stack, bloom filter; -ENOTSUPP for others. */
  pushElem(value: number, flags: number, cpu: number): number;
  popElem(value: number, cpu: number): number;
  peekElem(value: number, cpu: number): number;
  /** Addresses of keys and of `cpu`'s values, for bpf_for_each_map_elem; an array's keys are copied to `scratch` (4 bytes). */
  elements(cpu: number, scratch: number): IterableIterator<{ key: number; value: number }>;

  /** Bytes of a value at bpf(2). */
  readonly sysValueSize: number;
  sysLookup(key: Uint8Array, flags?: number): BytesOrErrno;
  sysUpdate(key: Uint8Array, value: Uint8Array, flags?: number): number;
  sysDelete(key: Uint8Array): number;
  sysNextKey(key: Uint8Array | undefined): BytesOrErrno;
  sysLookupAndDelete(key: Uint8Array, flags?: number): BytesOrErrno;

  /** A copy of one value, of `cpu` (default 0) in a per-CPU map. A key of the wrong size throws BpfError EINVAL. */
  lookup(key: Uint8Array, cpu?: number): Uint8Array | undefined;
  /** Copies of all CPUs' values. */
  lookupPercpu(key: Uint8Array): Uint8Array[] | undefined;
  /** 0 or -errno. One value sets all CPUs of a per-CPU map, an array sets each. Wrong sizes throw BpfError EINVAL. */
  update(key: Uint8Array, value: Uint8Array | readonly Uint8Array[], flags?: number): number;
  /** 0 or -errno. */
  delete(key: Uint8Array): number;
  /** The key behind `key` in the map's order; the first when `key` is undefined or not there. */
  getNextKey(key?: Uint8Array): Uint8Array | undefined;
  /** The value, taken out at the same time. */
  lookupAndDelete(key: Uint8Array): Uint8Array | undefined;
  /** Every entry that exists during the whole iteration exactly once, unless it is deleted and made again meanwhile. */
  entries(): IterableIterator<MapEntry>;
  /** Number of entries that entries() would give now. */
  readonly size: number;
  /** Deletes every entry; array values become zero. */
  clear(): void;
  /** Sets every value to zero, keeps the keys. */
  zero(): void;

  /** BPF_MAP_LOOKUP_BATCH, and with `remove` BPF_MAP_LOOKUP_AND_DELETE_BATCH. `inBatch` is the last call's `outBatch`. */
  lookupBatch(count: number, options?: BatchOptions & { remove?: boolean }): BatchResult;
  /** `keys` and `values` one behind the other. */
  updateBatch(keys: Uint8Array, values: Uint8Array, count: number, options?: BatchOptions): BatchResult;
  deleteBatch(keys: Uint8Array, count: number, options?: BatchOptions): BatchResult;

  /** BPF_MAP_FREEZE: nobody but programs may write from now on. 0 or -EBUSY. */
  freeze(): number;
  readonly frozen: boolean;
  /** Frees what the map holds outside of its own memory: elements, objects. For whoever frees the map. */
  destroy(): void;
}

export interface BatchOptions {
  readonly inBatch?: Uint8Array | undefined;
  readonly elemFlags?: number;
  readonly flags?: number;
}

/** Objects of a machine that maps hold: maps and programs, by file descriptor outside and by address or id inside. */
export interface MapObjects {
  /** -EBADF, or -EINVAL for something that is no map. */
  mapByFd(fd: number): BpfMap | number;
  mapAt(address: number): BpfMap | undefined;
  programByFd(fd: number): { readonly id: number } | number;
  programById(id: number): { readonly id: number } | undefined;
  /** Reference counts of what a map holds. */
  hold(object: { readonly id: number }): void;
  drop(object: { readonly id: number }): void;
}

/** What a map's surroundings give it. */
export interface MapEnvironment {
  readonly heap?: Heap;
  readonly objects?: MapObjects;
  /** bpf_obj_free_fields: cancels timers, drops kptrs, empties lists and trees of a value that goes away. */
  freeFields?(value: number, record: MapRecord): void;
}
