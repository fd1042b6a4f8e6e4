/**
 * The elements of a hash map: slots in a slab, or in chunks of it that are allocated when they are first needed, and a list of those that
 * were freed (kernel/bpf/percpu_freelist.c, mem_alloc of hashtab.c). README.md has the layout; `../jit/hash-slab.ts` is the same in
 * WebAssembly.
 */
import type { PlacedMap } from '../layout.ts';
import { MapBase, USER_CPU } from './map-base.ts';
import { HASH_ELEM, HASH_HEADER, HASH_LIVE } from './map-layout.ts';
import type { MapEnvironment } from './map-types.ts';

const LOW_HALF = 0xffff_ffffn;

/** Of take(): no address that an element can have. */
export const NO_MEMORY = 1;

/** How an element that was free is linked: halved, so that bit 31 is clear at every address. */
const halved = (elem: number): number => elem >>> 1;

/** A live element: its slot, address and hash. */
interface Live {
  readonly slot: number;
  readonly elem: number;
  readonly hash: number;
}

export abstract class HashSlab extends MapBase {
  protected readonly slab: number;
  /** Where the last sysNextKey() stopped. */
  protected last = { elem: 0, slot: 0 };

  constructor(memory: WebAssembly.Memory, placed: PlacedMap, ncpu: number, environment?: MapEnvironment) {
    super(memory, placed, ncpu, environment);
    this.slab = this.address + this.geometry.data;
  }

  /** Address of the element in a slot; 0 where its chunk was never allocated. */
  private slotAddress(slot: number): number {
    const { chunkShift, stride } = this.geometry;
    if (chunkShift === undefined) return this.slab + slot * stride;
    const chunk = this.load(this.slab + (slot >>> chunkShift) * 4);
    return chunk === 0 ? 0 : chunk + (slot & ((1 << chunkShift) - 1)) * stride;
  }

  /** Allocates the chunk of a slot, unless another thread was faster. Its address, or 0. */
  growChunk(slot: number): number {
    const { chunkShift = 0, stride } = this.geometry;
    const entry = this.slab + (slot >>> chunkShift) * 4;
    const { heap } = this.environment;
    if (heap === undefined) return 0;
    const chunk = this.locked(this.address + HASH_HEADER.grow, USER_CPU, () => {
      const known = this.load(entry);
      if (known !== 0) return known;
      const made = heap.alloc(this.chunkBytes(slot >>> chunkShift, stride, chunkShift));
      if (made !== 0) this.store(entry, made);
      return made;
    });
    return Math.max(0, chunk);
  }

  private chunkBytes(chunk: number, stride: number, chunkShift: number): number {
    const first = chunk * 2 ** chunkShift;
    return Math.min(2 ** chunkShift, this.spec.maxEntries - first) * stride;
  }

  /** From the free list, else one never used; 0 where the map is full. */
  protected take(): number {
    const { i32, i64 } = this.view;
    const headIndex = (this.address + HASH_HEADER.freeHead) >>> 3;
    for (;;) {
      const head = Atomics.load(i64, headIndex);
      const elem = Number(head & LOW_HALF) * 2;
      if (elem === 0) break;
      // Another thread may take `elem` now and overwrite its link; then the tag has changed and the exchange fails.
      const next = BigInt(this.load(elem + HASH_ELEM.hash)) & LOW_HALF;
      const replacement = BigInt.asIntN(64, (((head >> 32n) + 1n) << 32n) | next);
      if (Atomics.compareExchange(i64, headIndex, head, replacement) === head) return elem;
    }
    const usedIndex = (this.address + HASH_HEADER.used) >>> 2;
    const slot = Atomics.add(i32, usedIndex, 1) >>> 0;
    if (slot < this.spec.maxEntries) {
      const elem = this.slotAddress(slot);
      if (elem !== 0) return elem;
      return this.growChunk(slot) === 0 ? NO_MEMORY : this.slotAddress(slot);
    }
    Atomics.sub(i32, usedIndex, 1);
    return 0;
  }

  protected release(elem: number): void {
    const { i64 } = this.view;
    const headIndex = (this.address + HASH_HEADER.freeHead) >>> 3;
    for (;;) {
      const head = Atomics.load(i64, headIndex);
      this.store(elem + HASH_ELEM.hash, Number(head & LOW_HALF));
      const replacement = BigInt.asIntN(64, (((head >> 32n) + 1n) << 32n) | BigInt(halved(elem)));
      if (Atomics.compareExchange(i64, headIndex, head, replacement) === head) return;
    }
  }

  /** Number of slab elements that were ever in use. */
  protected usedSlots(): number {
    return Math.min(this.load(this.address + HASH_HEADER.used), this.spec.maxEntries);
  }

  /** The first slot from `slot` on with a live element: its number, address and hash. */
  protected liveSlot(slot: number): Live | undefined {
    const used = this.usedSlots();
    for (let at = slot; at < used; at++) {
      const elem = this.slotAddress(at);
      if (elem === 0) continue;
      const hash = this.load(elem + HASH_ELEM.hash);
      if (hash >= HASH_LIVE) return { slot: at, elem, hash };
    }
    return undefined;
  }

  /** Slot of a live element: by its place in the slab, or in one of the chunks. */
  protected slotOf(elem: number): number {
    const { chunkShift, stride } = this.geometry;
    if (chunkShift === undefined) return (elem - this.slab) / stride;
    if (elem === this.last.elem) return this.last.slot;
    const chunks = Math.ceil(this.usedSlots() / 2 ** chunkShift);
    for (let chunk = 0; chunk < chunks; chunk++) {
      const start = this.load(this.slab + chunk * 4);
      if (start !== 0 && elem >= start && elem < start + stride * 2 ** chunkShift) {
        return chunk * 2 ** chunkShift + (elem - start) / stride;
      }
    }
    return 0;
  }

  override destroy(): void {
    const { chunkShift, stride } = this.geometry;
    const { heap } = this.environment;
    if (chunkShift === undefined || heap === undefined) return;
    const chunks = Math.ceil(this.spec.maxEntries / 2 ** chunkShift);
    for (let chunk = 0; chunk < chunks; chunk++) {
      const start = this.load(this.slab + chunk * 4);
      if (start !== 0) heap.free(start, this.chunkBytes(chunk, stride, chunkShift));
    }
  }
}
