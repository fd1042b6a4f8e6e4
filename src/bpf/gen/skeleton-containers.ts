/** Maps without keys in generated modules: queues and stacks of typed values, ring buffers whose records the reader names. */
import { type Btf, sizeOf } from '../btf/index.ts';
import { BpfError, ERRNO } from '../errors.ts';
import type { LoadedMap } from '../machine/index.ts';
import { RingBufferConsumer } from '../maps/ringbuf.ts';
import { Codec, fail } from './codec.ts';

const NO_KEY = new Uint8Array(0);

/** A queue or a stack of values by their C type. */
export class TypedQueue<V> implements Iterable<V> {
  /** The map underneath, of bytes. */
  readonly map: LoadedMap;
  readonly #values: Codec<V>;

  constructor(map: LoadedMap, btf: Btf | undefined, valueType: number) {
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
    const decode = type === undefined ? undefined : this.#decoder<T>(type);
    for (;;) {
      let record: Uint8Array | undefined;
      const copy = (view: DataView, offset: number, length: number): void => {
        record = new Uint8Array(view.buffer, view.byteOffset + offset, length).slice();
      };
      if (this.consumer.drain(copy, 1) === 0 || record === undefined) return;
      yield decode === undefined ? record : decode(record);
    }
  }

  #decoder<T>(type: string): (record: Uint8Array) => T {
    const { name } = this.map.spec;
    const btf = this.#btf;
    const id = btf?.byName(type, 'STRUCT') ?? btf?.byName(type, 'UNION') ?? btf?.byName(type, 'TYPEDEF');
    if (btf === undefined || id === undefined) {
      throw new BpfError('ENOENT', `map ${name}: the object has no type ${type}`, {
        hint: 'types that only local variables have are not in the BTF: declare a variable `struct T *unused` with it',
      });
    }
    const size = sizeOf(btf, id);
    const codec = new Codec<T>(btf, id, size, `record of ${name}`);
    return (record) => {
      if (record.length >= size) return codec.decode(record.subarray(0, size));
      throw new BpfError('EINVAL', `map ${name}: a record of ${record.length} bytes, ${type} has ${size}`);
    };
  }
}
