/** Values of generated modules as bytes, and the errors of maps. */
import type { Btf } from '../btf/index.ts';
import { BpfError, ERRNO } from '../errors.ts';
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
