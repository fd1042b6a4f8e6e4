/**
 * BPF_MAP_TYPE_ARENA (kernel/bpf/arena.c): pages that programs and user space share, at addresses that both use. Its user space is who holds this
 * object: `read` and `write` take the addresses that programs store.
 */
import { aBigint, anInteger, bytesOf, checkArgument } from '../arguments.ts';
import { BpfError, ERRNO } from '../errors.ts';
import type { PlacedMap } from '../layout.ts';
import { ArenaMemory, ArenaTable } from './arena-memory.ts';
import { MapBase, USER_CPU } from './map-base.ts';
import { ARENA_HEADER, ARENA_PAGE, ARENA_TABLE, arenaStart } from './map-layout.ts';
import { MAP_FLAG } from './map-spec.ts';
import type { BytesOrErrno, MapEntry, MapEnvironment } from './map-types.ts';

const PAGE_BITS = 12n;
const PAGE_MASK = BigInt(ARENA_PAGE - 1);
const NUMA_NO_NODE = -1;
/** Pages of the largest block that is asked of the heap at once. */
const MAX_BLOCK = 1 << 16;

const u32 = (value: bigint): bigint => BigInt.asUintN(32, value);

export class Arena extends MapBase {
  /** Addresses of user space (user_vm_start, user_vm_end): what pointers in the arena are, and what programs get of bpf_arena_alloc_pages(). */
  readonly userStart: bigint;
  readonly userEnd: bigint;
  readonly #memory: ArenaMemory;
  /** Pages that were freed: others may still look at them, so they stay the arena's. */
  readonly #spare: ArenaTable;
  /** Entry of its first page. */
  readonly #base: number;

  constructor(memory: WebAssembly.Memory, placed: PlacedMap, ncpu: number, environment: MapEnvironment = {}) {
    super(memory, placed, ncpu, environment);
    this.userStart = arenaStart(this.spec);
    this.userEnd = this.userStart + BigInt(this.spec.maxEntries) * BigInt(ARENA_PAGE);
    this.#base = Number(u32(this.userStart) >> PAGE_BITS);
    const directory = this.address + this.geometry.data;
    this.#memory = new ArenaMemory(memory, directory);
    this.#spare = new ArenaTable(memory, directory + ARENA_TABLE.spare, directory + ARENA_TABLE.empty);
  }

  /** Pages that are allocated now, of 4096 bytes. */
  get pages(): number {
    return this.load(this.address + ARENA_HEADER.pages);
  }

  /**
   * bpf_arena_alloc_pages(): the user address of `count` pages one behind the other, zero, or 0 where there is no room. `address` is where they
   * shall be, 0 anywhere.
   */
  allocPages(address: bigint, count: number, node: number, cpu: number): bigint {
    const { maxEntries } = this.spec;
    if ((node !== NUMA_NO_NODE && node !== 0) || count === 0 || count > maxEntries) return 0n;
    if ((address & PAGE_MASK) !== 0n) return 0n;
    const wanted = address === 0n ? undefined : Number(u32(address - this.userStart) >> PAGE_BITS);
    if (wanted !== undefined && wanted > maxEntries - count) return 0n;
    const done = this.locked(this.address + ARENA_HEADER.lock, cpu, () => {
      const first = wanted ?? this.#findFree(count);
      if (first === undefined || (wanted !== undefined && !this.#isFree(wanted, count))) return -1;
      return this.#populate(first, count) ? first : -1;
    });
    // -EBUSY too.
    if (done < 0) return 0n;
    return this.userStart + (BigInt(done) << PAGE_BITS);
  }

  /** bpf_arena_free_pages(): of `address` the low half counts. */
  freePages(address: bigint, count: number, cpu: number): void {
    const from = (this.userStart & ~0xffff_ffffn) + (u32(address) & ~PAGE_MASK);
    const end = from + (BigInt(count) << PAGE_BITS);
    const to = end < this.userEnd ? end : this.userEnd;
    if (from < this.userStart || from >= to) return;
    const first = Number((from - this.userStart) >> PAGE_BITS);
    this.locked(this.address + ARENA_HEADER.lock, cpu, () =>
      this.#release(first, Number((to - from) >> PAGE_BITS)),
    );
  }

  /** The first of `count` pages behind each other that are free, from the lowest addresses on. */
  #findFree(count: number): number | undefined {
    const { maxEntries } = this.spec;
    const { pages } = this.#memory;
    let start = this.load(this.address + ARENA_HEADER.firstFree);
    for (let n = start; n - start < count; ) {
      if (n >= maxEntries) return undefined;
      const entry = this.#base + n;
      if (pages.isEmpty(entry)) n += ARENA_TABLE.entries - (entry & (ARENA_TABLE.entries - 1));
      else if (pages.get(entry) === 0) n++;
      else {
        n++;
        start = n;
      }
    }
    return start + count <= maxEntries ? start : undefined;
  }

  #isFree(first: number, count: number): boolean {
    for (let n = first; n < first + count; n++) {
      if (this.#memory.pages.get(this.#base + n) !== 0) return false;
    }
    return true;
  }

  readonly #allocTable = (): number => this.environment.heap?.alloc(ARENA_PAGE) ?? 0;

  #populate(first: number, count: number): boolean {
    const { pages } = this.#memory;
    if (!pages.provide(this.#base + first, count, this.#allocTable)) return false;
    const found = this.#take(count);
    if (found === undefined) return false;
    for (const [n, page] of found.entries()) pages.set(this.#base + first + n, page);
    this.#count(ARENA_HEADER.pages, count);
    const firstFree = this.address + ARENA_HEADER.firstFree;
    if (this.load(firstFree) === first) this.store(firstFree, first + count);
    return true;
  }

  #count(field: number, by: number): number {
    const value = this.load(this.address + field) + by;
    this.store(this.address + field, value);
    return value;
  }

  /** Zero pages in the linear memory: spare ones, then new ones. */
  #take(count: number): Uint32Array | undefined {
    const found = new Uint32Array(count);
    const spare = Math.min(count, this.load(this.address + ARENA_HEADER.spare));
    const missing = count - spare;
    if (missing > 0 && !this.#grow(found, spare)) return undefined;
    for (let n = 0; n < spare; n++) {
      const page = this.#spare.get(this.#count(ARENA_HEADER.spare, -1));
      this.view.u8.fill(0, page, page + ARENA_PAGE);
      found[n] = page;
    }
    return found;
  }

  /** New pages of the heap from `found[from]` on: all of them or none. */
  #grow(found: Uint32Array, from: number): boolean {
    const { heap } = this.environment;
    const owned = this.load(this.address + ARENA_HEADER.owned);
    if (heap === undefined || !this.#spare.provide(owned, found.length - from, this.#allocTable))
      return false;
    const blocks: { address: number; size: number }[] = [];
    for (let n = from; n < found.length; ) {
      // Powers of two are what the heap gives without a rest.
      const size = Math.min(MAX_BLOCK, 2 ** (31 - Math.clz32(found.length - n)));
      const address = heap.alloc(size * ARENA_PAGE);
      if (address === 0) {
        for (const block of blocks) heap.free(block.address, block.size);
        return false;
      }
      blocks.push({ address, size: size * ARENA_PAGE });
      for (let page = 0; page < size; page++) found[n++] = address + page * ARENA_PAGE;
    }
    this.#count(ARENA_HEADER.owned, found.length - from);
    return true;
  }

  #release(first: number, count: number): number {
    const { pages } = this.#memory;
    let released = 0;
    for (let n = first; n < first + count; ) {
      const entry = this.#base + n;
      if (pages.isEmpty(entry)) {
        n += ARENA_TABLE.entries - (entry & (ARENA_TABLE.entries - 1));
        continue;
      }
      n++;
      const page = pages.get(entry);
      if (page === 0) continue;
      pages.set(entry, 0);
      this.#spare.set(this.#count(ARENA_HEADER.spare, 1) - 1, page);
      released++;
    }
    this.#count(ARENA_HEADER.pages, -released);
    const firstFree = this.address + ARENA_HEADER.firstFree;
    if (first < this.load(firstFree)) this.store(firstFree, first);
    return 0;
  }

  // User space

  /** The low half of a user address, checked. */
  #offset(address: bigint, length: number): number {
    // Without conversion programs store the low halves alone.
    const isShort = ((this.spec.flags ?? 0) & MAP_FLAG.BPF_F_NO_USER_CONV) !== 0 && address >> 32n === 0n;
    const at = isShort ? (this.userStart & ~0xffff_ffffn) + address : address;
    if (at < this.userStart || at + BigInt(length) > this.userEnd) {
      throw new BpfError(
        'EFAULT',
        `map ${this.spec.name}: ${length} bytes at 0x${address.toString(16)} are not in the arena`,
        {
          hint: `it is from 0x${this.userStart.toString(16)} to 0x${this.userEnd.toString(16)}`,
        },
      );
    }
    return Number(u32(at));
  }

  /** As a page fault of user space (arena_vm_fault): the page is allocated, unless the arena says otherwise. */
  #touch(at: number): void {
    if (this.#memory.pages.get(at >>> 12) !== 0) return;
    const page = this.userStart - u32(this.userStart) + (BigInt(at) & ~PAGE_MASK);
    const text = `map ${this.spec.name}: there is no page at 0x${page.toString(16)}`;
    if (((this.spec.flags ?? 0) & MAP_FLAG.BPF_F_SEGV_ON_FAULT) !== 0) {
      throw new BpfError('EFAULT', text, {
        hint: 'only programs allocate pages of an arena with BPF_F_SEGV_ON_FAULT',
      });
    }
    if (this.allocPages(page, 1, NUMA_NO_NODE, USER_CPU) !== 0n) return;
    // Another thread may have been faster.
    if (this.#memory.pages.get(at >>> 12) === 0)
      throw new BpfError('ENOMEM', `${text}, and no memory for one`);
  }

  #pieces(address: bigint, length: number, each: (at: number, from: number, to: number) => void): void {
    let at = this.#offset(address, length);
    for (let from = 0; from < length; ) {
      const to = Math.min(length, from + ARENA_PAGE - (at & (ARENA_PAGE - 1)));
      this.#touch(at);
      each(at, from, to);
      at += to - from;
      from = to;
    }
  }

  /**
   * A copy of the bytes at a user address. Pages that are not there are allocated, as for a process that touches them; with
   * BPF_F_SEGV_ON_FAULT that throws BpfError EFAULT. So do addresses outside of the arena.
   */
  read(address: bigint, length: number): Uint8Array {
    checkArgument('read()', 'address', address, aBigint);
    checkArgument('read()', 'length', length, anInteger(0));
    this.#offset(address, length);
    const bytes = new Uint8Array(length);
    this.#pieces(address, length, (at, from, to) => {
      const piece = this.#memory.read(at, to - from);
      if (piece !== undefined) bytes.set(piece, from);
    });
    return bytes;
  }

  /** Writes bytes to a user address; the rules are those of read(). */
  write(address: bigint, bytes: Uint8Array): void {
    checkArgument('write()', 'address', address, aBigint);
    checkArgument('write()', 'bytes', bytes, bytesOf('a Uint8Array'));
    this.#pieces(address, bytes.length, (at, from, to) => this.#memory.write(at, bytes.subarray(from, to)));
  }

  /** Frees all pages. */
  override clear(): void {
    this.freePages(this.userStart, this.spec.maxEntries, USER_CPU);
  }

  /** Pages stay, and are zero. */
  override zero(): void {
    const { pages } = this.#memory;
    for (let n = 0; n < this.spec.maxEntries; n++) {
      const page = pages.get(this.#base + n);
      if (page !== 0) this.view.u8.fill(0, page, page + ARENA_PAGE);
    }
  }

  override destroy(): void {
    const { heap } = this.environment;
    if (heap === undefined) return;
    this.clear();
    // All that it ever took, unless a thread that died has the lock.
    const spare = this.load(this.address + ARENA_HEADER.spare);
    for (let n = 0; n < spare; n++) heap.free(this.#spare.get(n), ARENA_PAGE);
    for (const table of this.#memory.pages.tables()) heap.free(table, ARENA_PAGE);
    for (const table of this.#spare.tables()) heap.free(table, ARENA_PAGE);
  }

  // There are no keys.

  lookupElem(): number {
    return 0;
  }

  updateElem(): number {
    return -ERRNO.EOPNOTSUPP;
  }

  deleteElem(): number {
    return -ERRNO.EOPNOTSUPP;
  }

  override pushElem(): number {
    return -ERRNO.EOPNOTSUPP;
  }

  override popElem(): number {
    return -ERRNO.EOPNOTSUPP;
  }

  override peekElem(): number {
    return -ERRNO.EOPNOTSUPP;
  }

  override sysLookup(): BytesOrErrno {
    return -ERRNO.EINVAL;
  }

  sysUpdate(): number {
    return -ERRNO.EOPNOTSUPP;
  }

  sysDelete(): number {
    return -ERRNO.EOPNOTSUPP;
  }

  sysNextKey(): BytesOrErrno {
    return -ERRNO.EOPNOTSUPP;
  }

  override *entries(): IterableIterator<MapEntry> {}
}
