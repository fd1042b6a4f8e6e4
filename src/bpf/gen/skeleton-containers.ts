/**
 * Maps without keys in generated modules: queues, stacks and bloom filters of typed values, stacks of calls, and buffers whose records
 * the reader names.
 */

import { aBtf, aMap, aMemory, aTypeId } from '../argument-shapes.ts';
import { checkArgument, optional } from '../arguments.ts';
import type { Btf } from '../btf/index.ts';
import { BpfError, ERRNO } from '../errors.ts';
import type { LoadedMap } from '../machine/index.ts';
import type { BloomFilter } from '../maps/bloom-filter.ts';
import type { PerfEventArray, PerfReader } from '../maps/perf-event-array.ts';
import { RingBufferConsumer } from '../maps/ringbuf.ts';
import type { UserRingBuffer } from '../maps/user-ringbuf.ts';
import { Codec, fail, recordType } from './codec.ts';

const NO_KEY = new Uint8Array(0);

/** A queue or a stack of values by their C type. */
export class TypedQueue<V> implements Iterable<V> {
  /** The map underneath, of bytes. */
  readonly map: LoadedMap;
  readonly #values: Codec<V>;

  constructor(map: LoadedMap, btf: Btf | undefined, valueType: number) {
    checkArgument('new TypedQueue()', 'map', map, aMap);
    checkArgument('new TypedQueue()', 'btf', btf, optional(aBtf));
    checkArgument('new TypedQueue()', 'valueType', valueType, aTypeId);
    this.map = map;
    this.#values = new Codec(btf, valueType, map.spec.valueSize, `value of ${map.spec.name}`);
  }

  get size(): number {
    return this.map.size;
  }

  /** Throws BpfError: E2BIG where it is full, unless `flags` has BPF_EXIST, which drops the oldest. */
  push(value: V, flags = 0): void {
    const result = this.map.sysUpdate(NO_KEY, this.#values.encode(value), flags);
    if (result < 0) fail(this.map.spec.name, 'push', result);
  }

  /** Takes the next value: a queue's oldest, a stack's youngest. Undefined where there is none. */
  pop(): V | undefined {
    return this.#taken('pop', this.map.sysLookupAndDelete(NO_KEY));
  }

  /** The next value, which stays. */
  peek(): V | undefined {
    return this.#taken('peek', this.map.sysLookup(NO_KEY));
  }

  /** Copies of the values, in the order of `entries()` of the map; nothing is taken. */
  *[Symbol.iterator](): Generator<V, void, undefined> {
    for (const { values } of this.map.entries()) yield this.#values.decode(values[0]!);
  }

  #taken(what: string, result: Uint8Array | number): V | undefined {
    if (typeof result !== 'number') return this.#values.decode(result);
    return result === -ERRNO.ENOENT ? undefined : fail(this.map.spec.name, what, result);
  }
}

/** A ring buffer. Which C type its records have is nowhere in an object: whoever reads says it. */
export class TypedRingBuffer {
  readonly map: LoadedMap;
  /** The only reader of this ring. */
  readonly consumer: RingBufferConsumer;
  readonly #btf: Btf | undefined;

  constructor(map: LoadedMap, btf: Btf | undefined, memory: WebAssembly.Memory) {
    checkArgument('new TypedRingBuffer()', 'map', map, aMap);
    checkArgument('new TypedRingBuffer()', 'btf', btf, optional(aBtf));
    checkArgument('new TypedRingBuffer()', 'memory', memory, aMemory);
    this.map = map;
    this.consumer = new RingBufferConsumer(memory, map.placed);
    this.#btf = btf;
  }

  /**
   * Takes every finished record, oldest first, as values of the C type `type`: the name of a struct, union or typedef of the object.
   * Without it they are bytes. A record that is shorter than the type throws BpfError EINVAL, and is taken.
   */
  take<T>(type: string): Generator<T, void, undefined>;
  take(): Generator<Uint8Array, void, undefined>;
  *take<T>(type?: string): Generator<T | Uint8Array, void, undefined> {
    const decode = type === undefined ? undefined : recordType<T>(this.#btf, this.map, type).decode;
    for (;;) {
      let record: Uint8Array | undefined;
      const copy = (view: DataView, offset: number, length: number): void => {
        record = new Uint8Array(view.buffer, view.byteOffset + offset, length).slice();
      };
      if (this.consumer.drain(copy, 1) === 0 || record === undefined) return;
      yield decode === undefined ? record : decode(record);
    }
  }
}

/** A ring buffer that programs read. */
export class TypedUserRingBuffer {
  readonly map: LoadedMap;
  readonly #ring: UserRingBuffer;
  readonly #btf: Btf | undefined;

  constructor(map: LoadedMap, btf: Btf | undefined) {
    checkArgument('new TypedUserRingBuffer()', 'map', map, aMap);
    checkArgument('new TypedUserRingBuffer()', 'btf', btf, optional(aBtf));
    this.map = map;
    this.#ring = ofType(map, 'user_ringbuf');
    this.#btf = btf;
  }

  /** Writes a record of the C type `type`, or of bytes. False where there is no room for now; throws BpfError E2BIG where there never is. */
  write<T>(type: string, value: T): boolean;
  write(bytes: Uint8Array): boolean;
  write<T>(typeOrBytes: string | Uint8Array, value?: T): boolean {
    const bytes =
      typeof typeOrBytes === 'string'
        ? recordType<T>(this.#btf, this.map, typeOrBytes).encode(value as T)
        : typeOrBytes;
    const result = this.#ring.write(bytes);
    if (result === -ERRNO.ENOSPC) return false;
    if (result < 0) fail(this.map.spec.name, 'write', result);
    return true;
  }
}

/** A set of values that may claim one that was never added. */
export class TypedBloomFilter<V> {
  readonly map: LoadedMap;
  readonly #filter: BloomFilter;
  readonly #values: Codec<V>;

  constructor(map: LoadedMap, btf: Btf | undefined, valueType: number) {
    checkArgument('new TypedBloomFilter()', 'map', map, aMap);
    checkArgument('new TypedBloomFilter()', 'btf', btf, optional(aBtf));
    checkArgument('new TypedBloomFilter()', 'valueType', valueType, aTypeId);
    this.map = map;
    this.#filter = ofType(map, 'bloom_filter');
    this.#values = new Codec(btf, valueType, map.spec.valueSize, `value of ${map.spec.name}`);
  }

  add(value: V): void {
    const result = this.#filter.sysUpdate(NO_KEY, this.#values.encode(value));
    if (result < 0) fail(this.map.spec.name, 'add', result);
  }

  /** False is certain, true is not. */
  has(value: V): boolean {
    return this.#filter.contains(this.#values.encode(value));
  }
}

/** Stacks of calls by id: addresses, innermost first. */
export class TypedStackTraces implements Iterable<[number, bigint[]]> {
  readonly map: LoadedMap;

  constructor(map: LoadedMap) {
    checkArgument('new TypedStackTraces()', 'map', map, aMap);
    this.map = map;
  }

  get(id: number): bigint[] | undefined {
    const bytes = this.map.sysLookup(new Uint8Array(new Uint32Array([id]).buffer));
    return typeof bytes === 'number' ? undefined : frames(bytes);
  }

  /** False where there was none. */
  delete(id: number): boolean {
    return this.map.sysDelete(new Uint8Array(new Uint32Array([id]).buffer)) === 0;
  }

  *[Symbol.iterator](): Generator<[number, bigint[]], void, undefined> {
    for (const { key, values } of this.map.entries()) {
      yield [new DataView(key.buffer, key.byteOffset).getUint32(0, true), frames(values[0]!)];
    }
  }
}

/** Addresses up to the first that is 0. */
function frames(bytes: Uint8Array): bigint[] {
  const addresses = [...new BigUint64Array(bytes.slice().buffer)];
  const end = addresses.indexOf(0n);
  return end < 0 ? addresses : addresses.slice(0, end);
}

/** A record, and the CPU whose buffer it was in. */
export interface PerfRecord<T> {
  readonly cpu: number;
  readonly record: T;
}

/** A buffer a CPU, for bpf_perf_event_output. */
export class TypedPerfEventArray {
  readonly map: LoadedMap;
  readonly #array: PerfEventArray;
  readonly #btf: Btf | undefined;
  #reader: PerfReader | undefined;

  constructor(map: LoadedMap, btf: Btf | undefined) {
    checkArgument('new TypedPerfEventArray()', 'map', map, aMap);
    checkArgument('new TypedPerfEventArray()', 'btf', btf, optional(aBtf));
    this.map = map;
    this.#array = ofType(map, 'perf_event_array');
    this.#btf = btf;
  }

  /** Gives every CPU a buffer of so many bytes: a power of two. Until then programs' output is refused (-ENOENT). */
  open(bytes?: number): void {
    this.#reader ??= this.#array.openReader(bytes);
  }

  /** Records that found no room, by CPU. */
  get lost(): readonly number[] {
    return this.#reader?.lost ?? [];
  }

  /** Takes every record, as values of the C type `type` (see TypedRingBuffer.take) or as bytes. */
  take<T>(type: string): PerfRecord<T>[];
  take(): PerfRecord<Uint8Array>[];
  take<T>(type?: string): PerfRecord<T | Uint8Array>[] {
    if (this.#reader === undefined) {
      throw new BpfError('ENOENT', `map ${this.map.spec.name}: open() it before programs run`);
    }
    const decode = type === undefined ? undefined : recordType<T>(this.#btf, this.map, type).decode;
    const taken: PerfRecord<Uint8Array>[] = [];
    this.#reader.drain((cpu, view, offset, length) => {
      const record = new Uint8Array(view.buffer, view.byteOffset + offset, length).slice();
      taken.push({ cpu, record });
    });
    return decode === undefined ? taken : taken.map(({ cpu, record }) => ({ cpu, record: decode(record) }));
  }

  close(): void {
    this.#reader?.close();
    this.#reader = undefined;
  }
}

/** The map as what its type makes it: a machine of another copy of this library has classes of its own. */
function ofType<T>(map: LoadedMap, type: LoadedMap['spec']['type']): T {
  if (map.spec.type === type) return map as unknown as T;
  throw new BpfError('EINVAL', `map ${map.spec.name} is ${map.spec.type}, not ${type}`);
}
