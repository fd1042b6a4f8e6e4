/** Addresses for frames of stacks, as programs and stack maps have them. */

const BASE = 0xffff_a000_0000_0000n;
const STEP = 16n;

export class FrameAddresses {
  readonly #addresses = new Map<string, bigint>();
  readonly #frames: string[] = [];

  of(frame: string): bigint {
    let address = this.#addresses.get(frame);
    if (address === undefined) {
      address = BASE + BigInt(this.#frames.length) * STEP;
      this.#frames.push(frame);
      this.#addresses.set(frame, address);
    }
    return address;
  }

  /** The frame that has this address. */
  frame(address: bigint): string | undefined {
    const number = (address - BASE) / STEP;
    return address < BASE || number >= BigInt(this.#frames.length) ? undefined : this.#frames[Number(number)];
  }

  /** A value of a stack map: addresses, then zeros. */
  bytes(frames: readonly string[], size: number): Uint8Array {
    const words = new BigUint64Array(size / 8);
    for (const [n, frame] of frames.entries()) words[n] = this.of(frame);
    return new Uint8Array(words.buffer);
  }
}
