import { aMemory, aPlacedMap } from '../argument-shapes.ts';
import { checkArgument } from '../arguments.ts';
import { BpfError, ERRNO } from '../errors.ts';
import type { PlacedMap } from '../layout.ts';
import { type Batch, deleteBatch, lookupBatch, updateBatch } from './batch.ts';
import { MAP_HEADER, MAP_MAGIC, type MapGeometry, roundUp } from './map-layout.ts';
import { BPF_EXIST, BPF_F_LOCK, type MapSpec, recordField } from './map-spec.ts';
import type {
  BatchOptions,
  BatchResult,
  BpfMap,
  BytesOrErrno,
  MapEntry,
  MapEnvironment,
} from './map-types.ts';
import { currentView, type MemoryView, viewMemory } from './memory-view.ts';
import { clearFields, copyAround } from './record.ts';
import { lock, unlock } from './spinlock.ts';

/** The CPU number under which code outside of programs takes locks: above all real ones. */
export const USER_CPU = 1000;

/** What all maps do alike: argument checks, copies, and what a type without an operation answers. */
export abstract class MapBase implements BpfMap {
  readonly spec: MapSpec;
  readonly index: number;
  readonly id: number;
  readonly placed: PlacedMap;
  readonly address: number;
  protected readonly geometry: MapGeometry;
  readonly ncpu: number;
  readonly memory: WebAssembly.Memory;
  protected readonly environment: MapEnvironment;
  /** Which batch commands the type has. */
  protected readonly batches: readonly Batch[] = [];
  #view: MemoryView;

  constructor(memory: WebAssembly.Memory, placed: PlacedMap, ncpu: number, environment: MapEnvironment = {}) {
    checkArgument(`new ${new.target.name}()`, 'memory', memory, aMemory);
    checkArgument(`new ${new.target.name}()`, 'placed', placed, aPlacedMap);
    this.spec = placed.spec;
    this.placed = placed;
    this.index = placed.index;
    this.id = placed.id ?? 0;
    this.address = placed.address;
    this.geometry = placed.geometry;
    this.ncpu = ncpu;
    this.memory = memory;
    this.environment = environment;
    this.#view = viewMemory(memory);
    if (this.view.data.getUint32(this.address + MAP_HEADER.magic, true) !== MAP_MAGIC) {
      throw new BpfError('EINVAL', `map ${this.spec.name}: the memory has not been initialised`);
    }
  }

  /** The memory's current views. */
  protected get view(): MemoryView {
    this.#view = currentView(this.memory, this.#view);
    return this.#view;
  }

  protected load(address: number): number {
    return Atomics.load(this.view.i32, address >>> 2) >>> 0;
  }

  protected store(address: number, value: number): void {
    Atomics.store(this.view.i32, address >>> 2, value);
  }

  /** Runs `action` under the lock word at an address, or gives -EBUSY. */
  protected locked<T>(address: number, cpu: number, action: () => T): T | number {
    const index = address >>> 2;
    if (!lock(this.view.i32, index, cpu)) return -ERRNO.EBUSY;
    try {
      return action();
    } finally {
      unlock(this.view.i32, index);
    }
  }

  // Programs

  abstract lookupElem(key: number, cpu: number): number;
  abstract updateElem(key: number, value: number, flags: number, cpu: number): number;
  abstract deleteElem(key: number, cpu: number): number;

  pushElem(_value: number, _flags: number, _cpu: number): number {
    return -ERRNO.ENOTSUPP;
  }

  popElem(_value: number, _cpu: number): number {
    return -ERRNO.ENOTSUPP;
  }

  peekElem(_value: number, _cpu: number): number {
    return -ERRNO.ENOTSUPP;
  }

  *elements(_cpu: number, _scratch: number): IterableIterator<{ key: number; value: number }> {}

  // bpf(2)

  get sysValueSize(): number {
    const { valueSize } = this.spec;
    return this.geometry.percpu ? roundUp(valueSize, 8) * this.ncpu : valueSize;
  }

  /** Address of CPU 0's value, or 0. */
  protected find(_bytes: Uint8Array, _at: number): number {
    return 0;
  }

  sysLookup(key: Uint8Array, flags = 0): BytesOrErrno {
    if ((flags & BPF_F_LOCK) !== 0 && this.lockOffset === undefined) return -ERRNO.EINVAL;
    const value = this.find(key, 0);
    return value === 0 ? -ERRNO.ENOENT : this.copySys(value, flags);
  }

  abstract sysUpdate(key: Uint8Array, value: Uint8Array, flags?: number): number;
  abstract sysDelete(key: Uint8Array): number;
  abstract sysNextKey(key: Uint8Array | undefined): BytesOrErrno;

  sysLookupAndDelete(_key: Uint8Array, _flags = 0): BytesOrErrno {
    return -ERRNO.ENOTSUPP;
  }

  // Everybody else

  lookup(key: Uint8Array, cpu = 0): Uint8Array | undefined {
    this.checkKey(key);
    if (!Number.isInteger(cpu) || cpu < 0 || cpu >= this.ncpu) {
      throw new BpfError('EINVAL', `map ${this.spec.name}: CPU ${cpu} is not one of ${this.ncpu}`);
    }
    const found = this.sysLookup(key);
    if (typeof found === 'number') return undefined;
    return this.geometry.percpu ? this.valuesOf(found)[cpu] : found;
  }

  lookupPercpu(key: Uint8Array): Uint8Array[] | undefined {
    this.checkKey(key);
    const found = this.sysLookup(key);
    return typeof found === 'number' ? undefined : this.valuesOf(found);
  }

  update(key: Uint8Array, value: Uint8Array | readonly Uint8Array[], flags = 0): number {
    this.checkKey(key);
    return this.sysUpdate(key, this.sysValue(value), flags);
  }

  delete(key: Uint8Array): number {
    this.checkKey(key);
    return this.sysDelete(key);
  }

  getNextKey(key?: Uint8Array): Uint8Array | undefined {
    if (key !== undefined) this.checkKey(key);
    const next = this.sysNextKey(key);
    return typeof next === 'number' ? undefined : next;
  }

  lookupAndDelete(key: Uint8Array): Uint8Array | undefined {
    this.checkKey(key);
    const found = this.sysLookupAndDelete(key);
    return typeof found === 'number' ? undefined : found;
  }

  *entries(): IterableIterator<MapEntry> {
    for (let key = this.getNextKey(); key !== undefined; key = this.getNextKey(key)) {
      const values = this.lookupPercpu(key);
      if (values !== undefined) yield { key, values };
    }
  }

  get size(): number {
    let count = 0;
    for (const _ of this.entries()) count++;
    return count;
  }

  clear(): void {
    for (const { key } of [...this.entries()]) this.sysDelete(key);
  }

  zero(): void {
    for (const { key } of [...this.entries()]) {
      this.sysUpdate(key, new Uint8Array(this.sysValueSize), BPF_EXIST);
    }
  }

  lookupBatch(count: number, options: BatchOptions & { remove?: boolean } = {}): BatchResult {
    return lookupBatch(this, this.batches, count, options);
  }

  updateBatch(keys: Uint8Array, values: Uint8Array, count: number, options: BatchOptions = {}): BatchResult {
    return updateBatch(this, this.batches, keys, values, count, options);
  }

  deleteBatch(keys: Uint8Array, count: number, options: BatchOptions = {}): BatchResult {
    return deleteBatch(this, this.batches, keys, count, options);
  }

  get frozen(): boolean {
    return this.load(this.address + MAP_HEADER.frozen) !== 0;
  }

  freeze(): number {
    const { i32 } = this.view;
    const before = Atomics.compareExchange(i32, (this.address + MAP_HEADER.frozen) >>> 2, 0, 1);
    return before === 0 ? 0 : -ERRNO.EBUSY;
  }

  destroy(): void {}

  // For the types

  get lockOffset(): number | undefined {
    return recordField(this.spec, 'spin_lock')?.offset;
  }

  protected checkKey(key: Uint8Array): void {
    if (key.length !== this.spec.keySize) {
      throw new BpfError(
        'EINVAL',
        `map ${this.spec.name}: key of ${key.length} bytes, not ${this.spec.keySize}`,
      );
    }
  }

  /** The bytes that bpf(2) would get for a value, or for each CPU's: sizes checked. */
  protected sysValue(value: Uint8Array | readonly Uint8Array[]): Uint8Array {
    const { name, valueSize } = this.spec;
    const count = this.geometry.percpu ? this.ncpu : 1;
    const values = value instanceof Uint8Array ? new Array<Uint8Array>(count).fill(value) : value;
    if (values.length !== count) {
      throw new BpfError('EINVAL', `map ${name}: ${values.length} values, not ${count}`);
    }
    for (const one of values) {
      if (one.length !== valueSize) {
        throw new BpfError('EINVAL', `map ${name}: value of ${one.length} bytes, not ${valueSize}`);
      }
    }
    if (!this.geometry.percpu) return values[0]!;
    const stride = roundUp(valueSize, 8);
    const bytes = new Uint8Array(stride * count);
    for (const [cpu, one] of values.entries()) bytes.set(one, cpu * stride);
    return bytes;
  }

  /** Splits what bpf(2) gives. */
  protected valuesOf(bytes: Uint8Array): Uint8Array[] {
    if (!this.geometry.percpu) return [bytes];
    const { valueSize } = this.spec;
    const stride = roundUp(valueSize, 8);
    return Array.from({ length: this.ncpu }, (_, cpu) => bytes.slice(cpu * stride, cpu * stride + valueSize));
  }

  /** Copies whole words: source and target are 8-aligned, so that no counter is read half-written. */
  protected copy(address: number, size: number): Uint8Array {
    const copy = new Uint8Array(size);
    copy.set(this.view.u8.subarray(address, address + size));
    return copy;
  }

  /** What bpf(2) gives for the value at an address; special fields are zero (check_and_init_map_value). */
  protected copySys(value: number, flags = 0): Uint8Array {
    const { spec, geometry } = this;
    if (!geometry.percpu) {
      const { record } = spec;
      const bytes =
        (flags & BPF_F_LOCK) === 0
          ? this.copy(value, spec.valueSize)
          : (this.withValueLock(value, USER_CPU, () => this.copy(value, spec.valueSize)) ??
            this.copy(value, spec.valueSize));
      if (record !== undefined) clearFields(bytes, 0, record);
      return bytes;
    }
    const stride = roundUp(spec.valueSize, 8);
    const bytes = new Uint8Array(stride * this.ncpu);
    for (let cpu = 0; cpu < this.ncpu; cpu++) {
      const from = value + cpu * geometry.cpuStride;
      bytes.set(this.view.u8.subarray(from, from + spec.valueSize), cpu * stride);
      if (spec.record !== undefined) clearFields(bytes, cpu * stride, spec.record);
    }
    return bytes;
  }

  /** Under the value's own bpf_spin_lock; undefined where its holder does not let go. */
  protected withValueLock<T>(value: number, cpu: number, action: () => T): T | undefined {
    const index = (value + this.lockOffset!) >>> 2;
    if (!lock(this.view.i32, index, cpu)) return undefined;
    try {
      return action();
    } finally {
      unlock(this.view.i32, index);
    }
  }

  /** Writes one value from `bytes[at]`, around its special fields; those of a new element become zero. */
  protected storeValue(target: number, bytes: Uint8Array, at: number, isNew: boolean): void {
    const { record, valueSize } = this.spec;
    const { u8 } = this.view;
    if (record === undefined) {
      u8.set(at === 0 && bytes.length === valueSize ? bytes : bytes.subarray(at, at + valueSize), target);
      return;
    }
    if (isNew) clearFields(u8, target, record);
    copyAround(u8, target, bytes, at, valueSize, record);
  }

  /** Writes what bpf(2) gives: all CPUs' values. */
  protected storeSys(target: number, bytes: Uint8Array, isNew: boolean): void {
    if (!this.geometry.percpu) {
      this.storeValue(target, bytes, 0, isNew);
      return;
    }
    const stride = roundUp(this.spec.valueSize, 8);
    for (let cpu = 0; cpu < this.ncpu; cpu++) {
      this.storeValue(target + cpu * this.geometry.cpuStride, bytes, cpu * stride, isNew);
    }
  }

  /** 0, or -EINVAL for flags that an update of keyed maps does not have. `canLock`: the type knows BPF_F_LOCK. */
  protected checkFlags(flags: number, canLock: boolean): number {
    const rest = canLock ? flags & ~BPF_F_LOCK : flags;
    if (!Number.isInteger(flags) || rest < 0 || rest > BPF_EXIST) return -ERRNO.EINVAL;
    if ((flags & BPF_F_LOCK) !== 0 && this.lockOffset === undefined) return -ERRNO.EINVAL;
    return 0;
  }

  /** bpf_obj_free_fields of a value that goes away. */
  protected freeFields(value: number): void {
    const { record } = this.spec;
    if (record === undefined) return;
    const count = this.geometry.percpu ? this.ncpu : 1;
    for (let cpu = 0; cpu < count; cpu++) {
      const at = value + cpu * this.geometry.cpuStride;
      this.environment.freeFields?.(at, record);
      clearFields(this.view.u8, at, record);
    }
  }
}
