/**
 * The allocator of a memory that grows (mm/slab, in the small): blocks of 16-byte units by size classes, eight a doubling, each
 * with a free list. Its state is in the memory's header, so that every thread that has the memory can allocate. Blocks are
 * zero. Whoever frees a block says its size: there are no block headers.
 */
import { MEMORY_HEADER, WASM_PAGE } from '../layout.ts';
import { viewMemory } from './memory-view.ts';
import { lock, unlock } from './spinlock.ts';

const UNIT = 16;
/** Sizes of up to this many units are exact. */
const EXACT = 16;
const CLASSES = 208;
/** Grow by at least a megabyte. */
const MIN_GROW = 16;
/** Addresses up to here: the last unit stays unused so that the end of a block is a u32. */
const MAX_PAGES = 65535;

/** Class of a number of units, and the units that a block of the class has. */
export function sizeClass(units: number): { index: number; units: number } {
  if (units <= EXACT) return { index: units - 1, units };
  const bits = 31 - Math.clz32(units - 1);
  const step = 2 ** (bits - 3);
  const part = Math.ceil((units - 2 ** bits) / step);
  return { index: EXACT + (bits - 4) * 8 + part - 1, units: 2 ** bits + part * step };
}

export class Heap {
  readonly memory: WebAssembly.Memory;
  readonly #maxPages: number;
  readonly #cpu: number;

  /** `cpu` names this thread in the lock word. */
  constructor(memory: WebAssembly.Memory, maxPages: number, cpu: number) {
    this.memory = memory;
    this.#maxPages = Math.min(maxPages, MAX_PAGES);
    this.#cpu = cpu;
  }

  /** Once, by whoever made the memory: the heap is all from `start` on. */
  init(start: number): void {
    const { i32 } = viewMemory(this.memory);
    i32[MEMORY_HEADER.heapEnd >>> 2] = Math.ceil(start / UNIT);
    i32[MEMORY_HEADER.pages >>> 2] = this.memory.buffer.byteLength / WASM_PAGE;
  }

  /** Bytes that are in use now. */
  get used(): number {
    const { i32 } = viewMemory(this.memory);
    return (Atomics.load(i32, MEMORY_HEADER.heapUsed >>> 2) >>> 0) * UNIT;
  }

  /** Bytes that a block of `size` takes. */
  static blockSize(size: number): number {
    return sizeClass(Math.max(1, Math.ceil(size / UNIT))).units * UNIT;
  }

  /**
   * Address of `size` zero bytes, a multiple of 16, or 0 where the memory's maximum is reached. `clear`: called for a block that was
   * used before, instead of filling it with zeros.
   */
  alloc(size: number, clear?: (address: number) => void): number {
    if (!(size <= 2 ** 32)) return 0;
    const { index, units } = sizeClass(Math.max(1, Math.ceil(size / UNIT)));
    if (index >= CLASSES) return 0;
    let { i32 } = viewMemory(this.memory);
    const lockIndex = MEMORY_HEADER.heapLock >>> 2;
    if (!lock(i32, lockIndex, this.#cpu)) return 0;
    const free = (MEMORY_HEADER.heapFree >>> 2) + index;
    let block = i32[free]! >>> 0;
    let isFresh = false;
    if (block !== 0) i32[free] = i32[(block * UNIT) >>> 2]!;
    else {
      const end = i32[MEMORY_HEADER.heapEnd >>> 2]! >>> 0;
      if (this.#reserve((end + units) * UNIT)) {
        i32[MEMORY_HEADER.heapEnd >>> 2] = end + units;
        block = end;
        isFresh = true;
      }
    }
    if (block !== 0) i32[MEMORY_HEADER.heapUsed >>> 2] = (i32[MEMORY_HEADER.heapUsed >>> 2]! + units) | 0;
    unlock(i32, lockIndex);
    if (block === 0) return 0;
    const address = block * UNIT;
    if (isFresh) return address;
    if (clear !== undefined) clear(address);
    else {
      ({ i32 } = viewMemory(this.memory));
      new Uint8Array(i32.buffer, address, units * UNIT).fill(0);
    }
    return address;
  }

  /** Gives back what alloc(size) returned. */
  free(address: number, size: number): void {
    const { index, units } = sizeClass(Math.max(1, Math.ceil(size / UNIT)));
    const { i32 } = viewMemory(this.memory);
    const lockIndex = MEMORY_HEADER.heapLock >>> 2;
    // A lock that stays taken means that a thread died in the allocator: the block is lost, nothing else.
    if (!lock(i32, lockIndex, this.#cpu)) return;
    const free = (MEMORY_HEADER.heapFree >>> 2) + index;
    i32[address >>> 2] = i32[free]!;
    i32[free] = address / UNIT;
    i32[MEMORY_HEADER.heapUsed >>> 2] = (i32[MEMORY_HEADER.heapUsed >>> 2]! - units) | 0;
    unlock(i32, lockIndex);
  }

  /** Makes the memory reach up to `end` bytes; under the lock. */
  #reserve(end: number): boolean {
    const { i32 } = viewMemory(this.memory);
    const pages = i32[MEMORY_HEADER.pages >>> 2]! >>> 0;
    const wanted = Math.ceil(end / WASM_PAGE);
    if (wanted <= pages) return true;
    if (wanted > this.#maxPages) return false;
    const target = Math.min(this.#maxPages, Math.max(wanted, pages + MIN_GROW));
    try {
      this.memory.grow(target - pages);
    } catch {
      return false;
    }
    Atomics.store(i32, MEMORY_HEADER.pages >>> 2, target);
    return true;
  }
}
