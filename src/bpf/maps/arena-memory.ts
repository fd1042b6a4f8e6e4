/**
 * The memory of an arena: 4 GiB of addresses, of which only pages that were allocated are anywhere. A page is known by the upper 20 bits of
 * the low half of its address, as the kernel's mapping has it (bpf_arena_get_kern_vm_start): a directory of 1024 tables of 1024 addresses of pages
 * in the linear memory, 0 where there is none. Directory entries without a table have the arena's empty one, so that reading takes no test.
 */
import { ARENA_PAGE, ARENA_TABLE } from './map-layout.ts';
import { currentView, type MemoryView, viewMemory } from './memory-view.ts';

const TABLE_SHIFT = 10;
const PAGE_SHIFT = 12;
const TABLE_MASK = ARENA_TABLE.entries - 1;
const OFFSET_MASK = ARENA_PAGE - 1;
const U32 = 2 ** 32;

/** A two-level table of u32 at `directory`, of 2^20 entries; reads give 0 where there is no table. */
export class ArenaTable {
  readonly #memory: WebAssembly.Memory;
  readonly #directory: number;
  /** The table of all that has none. */
  readonly #empty: number;
  #view: MemoryView;

  constructor(memory: WebAssembly.Memory, directory: number, empty: number) {
    this.#memory = memory;
    this.#view = viewMemory(memory);
    this.#directory = directory;
    this.#empty = empty;
  }

  get #words(): Int32Array {
    this.#view = currentView(this.#memory, this.#view);
    return this.#view.i32;
  }

  #table(entry: number): number {
    return Atomics.load(this.#words, (this.#directory >>> 2) + (entry >>> TABLE_SHIFT)) >>> 0;
  }

  get(entry: number): number {
    return Atomics.load(this.#words, (this.#table(entry) >>> 2) + (entry & TABLE_MASK)) >>> 0;
  }

  /** Whether all entries of the table that `entry` is in are 0 because there is no such table. */
  isEmpty(entry: number): boolean {
    return this.#table(entry) === this.#empty;
  }

  /** The table of `entry` has to be there. */
  set(entry: number, value: number): void {
    Atomics.store(this.#words, (this.#table(entry) >>> 2) + (entry & TABLE_MASK), value);
  }

  /** Makes room for `count` entries from `first` on; false where `alloc` has none for a table. */
  provide(first: number, count: number, alloc: () => number): boolean {
    for (let table = first >>> TABLE_SHIFT; table <= (first + count - 1) >>> TABLE_SHIFT; table++) {
      if (!this.isEmpty(table << TABLE_SHIFT)) continue;
      const address = alloc();
      if (address === 0) return false;
      Atomics.store(this.#words, (this.#directory >>> 2) + table, address);
    }
    return true;
  }

  /** Addresses of its tables. */
  *tables(): IterableIterator<number> {
    for (let n = 0; n < ARENA_TABLE.entries; n++) {
      if (!this.isEmpty(n << TABLE_SHIFT)) yield this.#table(n << TABLE_SHIFT);
    }
  }
}

/** Loads and stores of programs: `address` is the low half of a pointer and an offset, which may lead out of the arena. */
export class ArenaMemory {
  readonly #memory: WebAssembly.Memory;
  readonly pages: ArenaTable;

  constructor(memory: WebAssembly.Memory, directory: number) {
    this.#memory = memory;
    this.pages = new ArenaTable(memory, directory, directory + ARENA_TABLE.empty);
  }

  /** Where the byte at an address is, or 0. */
  at(address: number): number {
    if (address < 0 || address >= U32) return 0;
    const page = this.pages.get(address >>> PAGE_SHIFT);
    return page === 0 ? 0 : page + (address & OFFSET_MASK);
  }

  /** Where `bytes` bytes are, or 0 where they are not on one page. */
  whole(address: number, bytes: number): number {
    return (address & OFFSET_MASK) + bytes > ARENA_PAGE ? 0 : this.at(address);
  }

  /** Where `bytes` bytes are that lie on up to two pages: of the first, and of the rest; undefined where one of the pages is not there. */
  #places(address: number, bytes: number): { first: number; here: number; rest: number } | undefined {
    const first = this.at(address);
    const here = Math.min(bytes, ARENA_PAGE - (address & OFFSET_MASK));
    const rest = here < bytes ? this.at(address + here) : 1;
    return first === 0 || rest === 0 ? undefined : { first, here, rest };
  }

  /** A copy of up to a page's bytes; undefined where a page of them is not there. */
  read(address: number, bytes: number): Uint8Array | undefined {
    const places = this.#places(address, bytes);
    if (places === undefined) return undefined;
    const { first, here, rest } = places;
    const { u8 } = viewMemory(this.#memory);
    const copy = new Uint8Array(bytes);
    copy.set(u8.subarray(first, first + here));
    if (here < bytes) copy.set(u8.subarray(rest, rest + bytes - here), here);
    return copy;
  }

  /** Writes up to a page's bytes, all or none; false where a page of them is not there. */
  write(address: number, bytes: Uint8Array): boolean {
    const places = this.#places(address, bytes.length);
    if (places === undefined) return false;
    const { first, here, rest } = places;
    const { u8 } = viewMemory(this.#memory);
    u8.set(bytes.subarray(0, here), first);
    if (here < bytes.length) u8.set(bytes.subarray(here), rest);
    return true;
  }
}
