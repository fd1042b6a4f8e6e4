import { BpfError, ERRNO } from '../errors.ts';
import type { PlacedMap } from '../layout.ts';
import { MAP_HEADER, MAP_MAGIC, type MapGeometry, type MapSpec } from './map-layout.ts';
import type { BpfMap, MapEntry } from './map-types.ts';
import { type MemoryView, viewMemory } from './memory-view.ts';

/** The CPU number under which code outside of programs takes locks: above all real ones. */
export const USER_CPU = 1000;

/** What all maps do alike: argument checks and copies. */
export abstract class MapBase implements BpfMap {
  readonly spec: MapSpec;
  readonly index: number;
  protected readonly address: number;
  protected readonly geometry: MapGeometry;
  protected readonly ncpu: number;
  protected readonly view: MemoryView;

  constructor(memory: WebAssembly.Memory, placed: PlacedMap, ncpu: number) {
    this.spec = placed.spec;
    this.index = placed.index;
    this.address = placed.address;
    this.geometry = placed.geometry;
    this.ncpu = ncpu;
    this.view = viewMemory(memory);
    if (this.view.data.getUint32(this.address + MAP_HEADER.magic, true) !== MAP_MAGIC) {
      throw new BpfError('EINVAL', `map ${this.spec.name}: the memory has not been initialised`);
    }
  }

  abstract lookupElem(key: number, cpu: number): number;
  abstract updateElem(key: number, value: number, flags: number, cpu: number): number;
  abstract deleteElem(key: number, cpu: number): number;
  abstract update(key: Uint8Array, value: Uint8Array | readonly Uint8Array[], flags?: number): number;
  abstract delete(key: Uint8Array): number;
  abstract getNextKey(key?: Uint8Array): Uint8Array | undefined;
  abstract entries(): IterableIterator<MapEntry>;
  abstract get size(): number;
  abstract clear(): void;
  abstract zero(): void;

  /** Address of CPU 0's value, or 0. */
  protected abstract find(bytes: Uint8Array, at: number): number;

  lookup(key: Uint8Array, cpu = 0): Uint8Array | undefined {
    this.checkKey(key);
    if (!Number.isInteger(cpu) || cpu < 0 || cpu >= this.ncpu) {
      throw new BpfError('EINVAL', `map ${this.spec.name}: CPU ${cpu} is not one of ${this.ncpu}`);
    }
    const value = this.find(key, 0);
    return value === 0 ? undefined : this.copy(value + cpu * this.geometry.cpuStride, this.spec.valueSize);
  }

  lookupPercpu(key: Uint8Array): Uint8Array[] | undefined {
    this.checkKey(key);
    const value = this.find(key, 0);
    return value === 0 ? undefined : this.copyValues(value);
  }

  protected checkKey(key: Uint8Array): void {
    if (key.length !== this.spec.keySize) {
      throw new BpfError(
        'EINVAL',
        `map ${this.spec.name}: key of ${key.length} bytes, not ${this.spec.keySize}`,
      );
    }
  }

  /** The value for each CPU (one element where not per-CPU), checked. */
  protected checkValues(value: Uint8Array | readonly Uint8Array[]): readonly Uint8Array[] {
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
    return values;
  }

  /** Copies whole words: source and target are 8-aligned, so that no counter is read half-written. */
  protected copy(address: number, size: number): Uint8Array {
    const copy = new Uint8Array(size);
    copy.set(this.view.u8.subarray(address, address + size));
    return copy;
  }

  protected copyValues(value: number): Uint8Array[] {
    const values: Uint8Array[] = [];
    const count = this.geometry.percpu ? this.ncpu : 1;
    for (let cpu = 0; cpu < count; cpu++) {
      values.push(this.copy(value + cpu * this.geometry.cpuStride, this.spec.valueSize));
    }
    return values;
  }

  protected storeValues(value: number, values: readonly Uint8Array[]): void {
    for (const [cpu, one] of values.entries()) this.view.u8.set(one, value + cpu * this.geometry.cpuStride);
  }

  protected checkFlags(flags: number): number {
    return flags === 0 || flags === 1 || flags === 2 ? 0 : -ERRNO.EINVAL;
  }
}
