/** Memory of one program: its 512 bytes of stack, and a per-CPU scratch map for what does not fit. */
import { R9, R10, type Reg } from '../../bpf/builder.ts';
import { MAX_BPF_STACK } from '../../bpf/isa.ts';

/** Bytes at a register plus an offset; 8-aligned. */
export interface Place {
  readonly reg: Reg;
  readonly off: number;
}

/** Values above this go to scratch memory, so that keys and counters keep the stack. */
const LARGEST_ON_STACK = 256;
/** Offsets of loads and stores are 16 bits. */
export const MAX_SCRATCH = 32760;

/** Base register of the scratch memory, for programs that use it. */
export const SCRATCH_REG = R9;

/** Thrown when a program turns out to need scratch memory: it is generated again, with R9 kept for it. */
export class NeedsScratch extends Error {}

/** A program that needs more memory than even the scratch map has. */
export class TooLarge extends Error {}

/** A set of 8-byte words handed out first-fit. */
class Words {
  readonly #used: boolean[] = [];
  readonly #limit: number;
  high = 0;

  constructor(limit: number) {
    this.#limit = limit;
  }

  alloc(count: number): number | undefined {
    for (let start = 0; start + count <= this.#limit; ) {
      let free = 0;
      while (free < count && !this.#used[start + free]) free++;
      if (free === count) {
        for (let i = 0; i < count; i++) this.#used[start + i] = true;
        this.high = Math.max(this.high, start + count);
        return start;
      }
      start += free + 1;
    }
    return undefined;
  }

  free(start: number, count: number): void {
    for (let i = 0; i < count; i++) this.#used[start + i] = false;
  }
}

export class Frame {
  readonly #stack: Words;
  readonly #stackBytes: number;
  readonly #scratch: Words;
  readonly #hasScratch: boolean;

  /** @param stackBytes a program and its callbacks share 512. */
  constructor(hasScratch: boolean, stackBytes = MAX_BPF_STACK, scratch = new Words(MAX_SCRATCH / 8)) {
    this.#hasScratch = hasScratch;
    this.#stackBytes = stackBytes;
    this.#stack = new Words(stackBytes / 8);
    this.#scratch = scratch;
  }

  /** The frame of a callback: a stack of its own, the same scratch memory. */
  nested(): Frame {
    return new Frame(this.#hasScratch, this.#stackBytes, this.#scratch);
  }

  /** Bytes of scratch memory used at most. */
  get scratchBytes(): number {
    return this.#scratch.high * 8;
  }

  /** `size` bytes, a multiple of 8. Throws NeedsScratch, or TooLarge when not even that is enough. */
  alloc(size: number): Place {
    const count = size / 8;
    if (size <= LARGEST_ON_STACK) {
      const word = this.#stack.alloc(count);
      if (word !== undefined) return { reg: R10, off: -8 * (word + count) };
    }
    return this.allocOpaque(size);
  }

  /** Stack in any case: pointers may be kept nowhere else. */
  allocStack(size: number): Place {
    const word = this.#stack.alloc(size / 8);
    if (word === undefined) throw new TooLarge('no stack is left for a loop');
    return { reg: R10, off: -8 * word - size };
  }

  /**
   * Scratch memory whatever the size. The verifier follows numbers on the stack exactly but knows nothing of map values, so
   * what a loop changes lives there: every round looks the same to it, and the first two prove all.
   */
  allocOpaque(size: number): Place {
    if (!this.#hasScratch) throw new NeedsScratch();
    const word = this.#scratch.alloc(size / 8);
    if (word === undefined) throw new TooLarge(`more than ${MAX_SCRATCH} bytes of strings and values`);
    return { reg: SCRATCH_REG, off: 8 * word };
  }

  free(place: Place, size: number): void {
    const count = size / 8;
    if (place.reg === R10) this.#stack.free(-place.off / 8 - count, count);
    else if (place.reg === SCRATCH_REG) this.#scratch.free(place.off / 8, count);
  }
}
