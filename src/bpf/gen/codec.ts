/** Values of generated modules as bytes, and the errors of maps. */
import { type Btf, sizeOf } from '../btf/index.ts';
import { BpfError, ERRNO } from '../errors.ts';
import type { LoadedMap } from '../machine/index.ts';
import { type BtfValue, decodeValue, encodeValue } from '../object/index.ts';

/** Throws what bpf(2) would give for a result below 0. */
export function fail(map: string, what: string, result: number): never {
  const name = Object.entries(ERRNO).find(([, value]) => value === -result)?.[0] ?? `errno ${-result}`;
  throw new BpfError(name, `map ${map}: ${what}: ${name}`);
}

/** Bytes of a fixed size as a value: by BTF, or as they are. */
export class Codec<T> {
  readonly #btf: Btf | undefined;
  readonly #typeId: number;
  readonly #size: number;
  readonly #name: string;

  constructor(btf: Btf | undefined, typeId: number, size: number, name: string) {
    this.#btf = typeId === 0 ? undefined : btf;
    this.#typeId = typeId;
    this.#size = size;
    this.#name = name;
  }

  decode(bytes: Uint8Array): T {
    const value = this.#btf === undefined ? bytes : decodeValue(this.#btf, this.#typeId, bytes, this.#name);
    return value as T;
  }

  encode(value: T): Uint8Array {
    if (this.#btf === undefined) return value as Uint8Array;
    const bytes = new Uint8Array(this.#size);
    encodeValue(this.#btf, this.#typeId, value as BtfValue, bytes, this.#name);
    return bytes;
  }
}

/** The records of a buffer by a C type: the name of a struct, union or typedef of the object. Throws BpfError ENOENT without it. */
export function recordType<T>(
  btf: Btf | undefined,
  map: LoadedMap,
  type: string,
): { decode(record: Uint8Array): T; encode(value: T): Uint8Array } {
  const { name } = map.spec;
  const id = btf?.byName(type, 'STRUCT') ?? btf?.byName(type, 'UNION') ?? btf?.byName(type, 'TYPEDEF');
  if (btf === undefined || id === undefined) {
    throw new BpfError('ENOENT', `map ${name}: the object has no type ${type}`, {
      hint: 'types that only local variables have are not in the BTF: declare a variable `struct T *unused` with it',
    });
  }
  const size = sizeOf(btf, id);
  const codec = new Codec<T>(btf, id, size, `record of ${name}`);
  return {
    encode: (value) => codec.encode(value),
    decode(record) {
      if (record.length >= size) return codec.decode(record.subarray(0, size));
      throw new BpfError('EINVAL', `map ${name}: a record of ${record.length} bytes, ${type} has ${size}`);
    },
  };
}
