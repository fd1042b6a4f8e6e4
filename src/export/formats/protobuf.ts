/** Protocol buffers, as far as they are written here. */
import { stringToBytes } from '../../kernel/trace/byte-string.ts';

const VARINT = 0;
const BYTES = 2;

/** A message that is being made. */
export class Message {
  #bytes = new Uint8Array(128);
  #length = 0;

  #room(count: number): void {
    if (this.#length + count <= this.#bytes.length) return;
    const grown = new Uint8Array(Math.max(2 * this.#bytes.length, this.#length + count));
    grown.set(this.#bytes);
    this.#bytes = grown;
  }

  #varint(value: number | bigint): void {
    this.#room(10);
    if (typeof value === 'number' && value >= 0 && value < 2 ** 31) {
      let rest = value;
      for (; rest > 0x7f; rest >>>= 7) this.#bytes[this.#length++] = (rest & 0x7f) | 0x80;
      this.#bytes[this.#length++] = rest;
      return;
    }
    // a negative number is one of 64 bits
    let rest = BigInt.asUintN(64, BigInt(value));
    for (; rest > 0x7fn; rest >>= 7n) this.#bytes[this.#length++] = Number(rest & 0x7fn) | 0x80;
    this.#bytes[this.#length++] = Number(rest);
  }

  /** Of the types uint32, uint64, int32, int64, bool and enums. */
  number(field: number, value: number | bigint): this {
    this.#varint((field << 3) | VARINT);
    this.#varint(value);
    return this;
  }

  raw(field: number, bytes: Uint8Array): this {
    this.#varint((field << 3) | BYTES);
    this.#varint(bytes.length);
    this.#room(bytes.length);
    this.#bytes.set(bytes, this.#length);
    this.#length += bytes.length;
    return this;
  }

  /** A byte string, which has to be UTF-8. */
  text(field: number, text: string): this {
    return this.raw(field, stringToBytes(text));
  }

  message(field: number, message: Message): this {
    return this.raw(field, message.bytes());
  }

  bytes(): Uint8Array {
    return this.#bytes.subarray(0, this.#length);
  }
}
