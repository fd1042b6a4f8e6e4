import type { MapSpec } from './map-layout.ts';

/** One entry as read by somebody outside of programs. The bytes are copies. */
export interface MapEntry {
  readonly key: Uint8Array;
  /** One value a CPU for per-CPU maps, else one. */
  readonly values: readonly Uint8Array[];
}

/**
 * A map that several threads may use at once. Two sides, as in the kernel's `struct bpf_map_ops` and bpf(2): programs give
 * addresses in the memory and their CPU and get an address or `-errno`; everybody else gives and gets bytes.
 */
export interface BpfMap {
  readonly spec: MapSpec;
  readonly index: number;

  /** Address of the value of `cpu` (per-CPU maps) or of the value; 0 when there is none. */
  lookupElem(key: number, cpu: number): number;
  /** 0 or -errno; `flags` is BPF_ANY, BPF_NOEXIST or BPF_EXIST. */
  updateElem(key: number, value: number, flags: number, cpu: number): number;
  deleteElem(key: number, cpu: number): number;

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
  /** Every entry that exists during the whole iteration exactly once, unless it is deleted and made again meanwhile. */
  entries(): IterableIterator<MapEntry>;
  /** Number of entries that entries() would give now. */
  readonly size: number;
  /** Deletes every entry; array values become zero. */
  clear(): void;
  /** Sets every value to zero, keeps the keys. */
  zero(): void;
}
