import { BpfError } from '../errors.ts';

const NULL_PAGE = 1024;

const viewOf = (memory: ArrayBufferLike | WebAssembly.Memory): DataView =>
  new DataView(memory instanceof WebAssembly.Memory ? memory.buffer : memory);

const u64 = (value: bigint): bigint => BigInt.asUintN(64, value);
const u32 = (value: bigint): bigint => BigInt.asUintN(32, value);

/** The memory that a program runs in; it may grow meanwhile. */
export class ProgramMemory {
  view: DataView;
  readonly little: boolean;
  readonly #memory: ArrayBufferLike | WebAssembly.Memory;
  /** The memory for atomics. */
  #cells: { view: DataView; u64: BigUint64Array; u32: Uint32Array } | undefined;

  constructor(memory: ArrayBufferLike | WebAssembly.Memory, little: boolean) {
    this.#memory = memory;
    this.view = viewOf(memory);
    this.little = little;
  }

  /** Whether a load that may be anywhere is in the first kilobyte or outside of the memory. */
  isBad(low: number, high: number, off: number, bytes: number): boolean {
    const address = high * 2 ** 32 + (low >>> 0) + off;
    return address < NULL_PAGE || address + bytes > viewOf(this.#memory).byteLength;
  }

  /** The memory as it is now, where it has these bytes. */
  grown(address: number, bytes: number, pc: number): DataView {
    const now = viewOf(this.#memory);
    if (address + bytes > now.byteLength) {
      throw new BpfError('EFAULT', `access of ${bytes} bytes at ${address}, outside of the memory, at ${pc}`);
    }
    this.view = now;
    return now;
  }

  /** Checks an address and returns it as a number. */
  address(base: bigint, off: number, bytes: number, pc: number): number {
    // Addresses are 32 bits wide, as everywhere in this machine.
    const address = Number(u32(base + BigInt(off)));
    if (address + bytes > this.view.byteLength) this.grown(address, bytes, pc);
    return address;
  }

  read(address: number, bytes: number): bigint {
    switch (bytes) {
      case 1:
        return BigInt(this.view.getUint8(address));
      case 2:
        return BigInt(this.view.getUint16(address, this.little));
      case 4:
        return BigInt(this.view.getUint32(address, this.little));
      default:
        return this.view.getBigUint64(address, this.little);
    }
  }

  write(address: number, bytes: number, value: bigint): void {
    switch (bytes) {
      case 1:
        this.view.setUint8(address, Number(value & 0xffn));
        break;
      case 2:
        this.view.setUint16(address, Number(value & 0xffffn), this.little);
        break;
      case 4:
        this.view.setUint32(address, Number(u32(value)), this.little);
        break;
      default:
        this.view.setBigUint64(address, u64(value), this.little);
    }
  }

  /** Replaces what is at an address, atomically where it is aligned; returns the old value. */
  exchange(address: number, bytes: number, modify: (old: bigint) => bigint): bigint {
    if (address % bytes !== 0 || !this.little) {
      const old = this.read(address, bytes);
      this.write(address, bytes, modify(old));
      return old;
    }
    let cells = this.#cells;
    if (cells?.view !== this.view) {
      const { buffer } = this.view;
      cells = {
        view: this.view,
        u64: new BigUint64Array(buffer, 0, Math.floor(buffer.byteLength / 8)),
        u32: new Uint32Array(buffer, 0, Math.floor(buffer.byteLength / 4)),
      };
      this.#cells = cells;
    }
    for (;;) {
      const old = this.read(address, bytes);
      const value = modify(old);
      if (bytes === 8) {
        const at = address >>> 3;
        if (Atomics.compareExchange(cells.u64, at, old, u64(value)) === old) return old;
      } else {
        const at = address >>> 2;
        if (Atomics.compareExchange(cells.u32, at, Number(old), Number(u32(value))) === Number(old))
          return old;
      }
    }
  }
}
