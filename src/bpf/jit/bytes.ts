/** Bytes of WebAssembly modules as they are written. */

/** What integers and names are written to, in WebAssembly's forms. */
abstract class Writer {
  abstract byte(value: number): void;

  u32(value: number): void {
    let rest = value >>> 0;
    while (rest >= 0x80) {
      this.byte((rest & 0x7f) | 0x80);
      rest >>>= 7;
    }
    this.byte(rest);
  }

  s32(value: number): void {
    let rest = value | 0;
    while (rest < -64 || rest > 63) {
      this.byte((rest & 0x7f) | 0x80);
      rest >>= 7;
    }
    this.byte(rest & 0x7f);
  }

  s64(value: bigint): void {
    let rest = BigInt.asIntN(64, value);
    if (rest >= -0x80000000n && rest <= 0x7fffffffn) {
      this.s32(Number(rest));
      return;
    }
    while (rest < -64n || rest > 63n) {
      this.byte(Number(rest & 0x7fn) | 0x80);
      rest >>= 7n;
    }
    this.byte(Number(rest & 0x7fn));
  }
}

/** Buffers of functions that have been written: a typed array is dear to make, and most functions are small. */
const spare: Uint8Array[] = [];
const FIRST_SIZE = 1 << 12;
const MAX_SPARE = 64;

/** A function's bytes while it grows. */
export class Bytes extends Writer {
  #buffer = spare.pop() ?? new Uint8Array(FIRST_SIZE);
  #length = 0;

  get length(): number {
    return this.#length;
  }

  /** The bytes so far, until more are written. */
  get data(): Uint8Array {
    return this.#buffer.subarray(0, this.#length);
  }

  byte(value: number): void {
    if (this.#length === this.#buffer.length) this.#grow();
    this.#buffer[this.#length++] = value;
  }

  /** Nothing is written or read any more. */
  release(): void {
    if (this.#buffer.length === FIRST_SIZE && spare.length < MAX_SPARE) spare.push(this.#buffer);
    this.#buffer = NOTHING;
    this.#length = 0;
  }

  #grow(): void {
    const old = this.#buffer;
    this.#buffer = new Uint8Array(Math.max(2 * old.length, FIRST_SIZE));
    this.#buffer.set(old);
  }
}

const NOTHING = new Uint8Array(0);

/** Where modules are put together, one after the other: a buffer for each would be most of what the collector has to do. */
let scratch = new Uint8Array(1 << 14);
/** Longer buffers are not kept. */
const MAX_SCRATCH = 1 << 20;

/** A module's bytes. One is written at a time; `finish` ends it. */
export class ModuleBytes extends Writer {
  #buffer = scratch;
  #length = 0;

  byte(value: number): void {
    if (this.#length === this.#buffer.length) this.#reserve(1);
    this.#buffer[this.#length++] = value;
  }

  bytes(data: ArrayLike<number>): void {
    this.#reserve(data.length);
    this.#buffer.set(data, this.#length);
    this.#length += data.length;
  }

  name(text: string): void {
    this.u32(text.length);
    for (let i = 0; i < text.length; i++) {
      const code = text.charCodeAt(i);
      // Names are those of helpers and entry points.
      if (code > 0x7f) throw new Error(`the name ${text} is not ASCII`);
      this.byte(code);
    }
  }

  /** What `write` writes, behind its length. */
  sized(write: () => void): void {
    const start = this.#length;
    write();
    const end = this.#length;
    const length = end - start;
    let size = 1;
    for (let rest = length >>> 7; rest !== 0; rest >>>= 7) size++;
    this.#reserve(size);
    this.#buffer.copyWithin(start + size, start, end);
    this.#length = start;
    this.u32(length);
    this.#length = end + size;
  }

  finish(): Uint8Array {
    if (this.#buffer.length <= MAX_SCRATCH) scratch = this.#buffer;
    return this.#buffer.slice(0, this.#length);
  }

  #reserve(count: number): void {
    const old = this.#buffer;
    if (this.#length + count <= old.length) return;
    this.#buffer = new Uint8Array(Math.max(2 * old.length, this.#length + count));
    this.#buffer.set(old);
  }
}
