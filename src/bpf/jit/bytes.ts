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

/** A function's bytes while it grows: numbers, because most functions are small and a typed array is dear to make. */
export class Bytes extends Writer {
  readonly data: number[] = [];

  byte(value: number): void {
    this.data.push(value);
  }
}

/** A module's bytes, in one buffer that grows. */
export class ModuleBytes extends Writer {
  #buffer = new Uint8Array(1 << 14);
  #length = 0;

  byte(value: number): void {
    if (this.#length === this.#buffer.length) this.#reserve(1);
    this.#buffer[this.#length++] = value;
  }

  bytes(data: readonly number[]): void {
    this.#reserve(data.length);
    const buffer = this.#buffer;
    let at = this.#length;
    for (let i = 0; i < data.length; i++) buffer[at++] = data[i]!;
    this.#length = at;
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
    this.u32(end - start);
    const size = this.#length - end;
    const buffer = this.#buffer;
    const length = buffer.slice(end, end + size);
    buffer.copyWithin(start + size, start, end);
    buffer.set(length, start);
  }

  finish(): Uint8Array {
    return this.#buffer.slice(0, this.#length);
  }

  #reserve(count: number): void {
    const old = this.#buffer;
    if (this.#length + count <= old.length) return;
    this.#buffer = new Uint8Array(Math.max(2 * old.length, this.#length + count));
    this.#buffer.set(old);
  }
}
