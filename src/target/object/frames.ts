/** Addresses for frames of stacks, as programs and stack maps have them. */

import { FRAME_ADDRESS } from '../../kernel/trace/stack-map.ts';

const BASE = BigInt(FRAME_ADDRESS.high) << 32n;
const STEP = BigInt(FRAME_ADDRESS.step);

/** A process numbers its frames as they come in its stacks, one stack after the other; so does this, when it is asked. */
export class FrameAddresses {
  /** The frames of a stack, by its number from 1; undefined of one that has not been told. */
  readonly #stack: (id: number) => readonly string[] | undefined;
  readonly #numbers = new Map<string, number>();
  #stacks = 0;

  constructor(stack: (id: number) => readonly string[] | undefined) {
    this.#stack = stack;
  }

  #update(): ReadonlyMap<string, number> {
    for (;;) {
      const frames = this.#stack(this.#stacks + 1);
      if (frames === undefined) return this.#numbers;
      for (const frame of frames) if (!this.#numbers.has(frame)) this.#numbers.set(frame, this.#numbers.size);
      this.#stacks++;
    }
  }

  /** Every frame that is known, by its address. */
  all(): ReadonlyMap<bigint, string> {
    return new Map([...this.#update()].map(([frame, number]) => [BASE + BigInt(number) * STEP, frame]));
  }

  /** A value of a stack map: addresses, then zeros. */
  bytes(frames: readonly string[], size: number): Uint8Array {
    const numbers = this.#update();
    const words = new BigUint64Array(size / 8);
    for (const [n, frame] of frames.entries()) words[n] = BASE + BigInt(numbers.get(frame)!) * STEP;
    return new Uint8Array(words.buffer);
  }
}
