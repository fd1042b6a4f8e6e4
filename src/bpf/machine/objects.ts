/**
 * What a machine has besides memory: maps, programs, BTF and links by id, descriptors for them, pins, and who still needs what
 * (bpf_map_inc, bpf_prog_inc, bpf_map_new_fd, kernel/bpf/inode.c). An object goes away with its last reference.
 */
import { BpfError, ERRNO } from '../errors.ts';
import { ProgArray } from '../maps/fd-array.ts';
import type { BpfMap, MapObjects } from '../maps/map-types.ts';

export type ObjectKind = 'map' | 'prog' | 'btf' | 'link';

/** Anything that has an id of its kind. */
export interface MachineObject {
  readonly kind: ObjectKind;
  readonly id: number;
  /** The map, program, … itself. */
  readonly object: unknown;
}

export interface OpenFile {
  readonly entry: MachineObject;
  readonly canRead: boolean;
  readonly canWrite: boolean;
}

interface Counted extends MachineObject {
  references: number;
  /** Of these, those that somebody outside has: the maker, descriptors, pins (usercnt of struct bpf_map). */
  users: number;
  readonly free: () => void;
}

/** Descriptors that a machine may have open at once (RLIMIT_NOFILE, about). */
const MAX_FILES = 1 << 16;
const FIRST_FD = 3;
const MAX_PATH = 4096;

export class Objects implements MapObjects {
  readonly #byId: Record<ObjectKind, Map<number, Counted>> = {
    map: new Map(),
    prog: new Map(),
    btf: new Map(),
    link: new Map(),
  };
  readonly #next: Record<ObjectKind, number> = { map: 1, prog: 1, btf: 1, link: 1 };
  readonly #entries = new Map<unknown, Counted>();
  readonly #byAddress = new Map<number, BpfMap>();
  readonly #files = new Map<number, OpenFile>();
  readonly #pins = new Map<string, Counted>();
  #lowestFree = FIRST_FD;

  newId(kind: ObjectKind): number {
    return this.#next[kind]++;
  }

  /** Takes in an object with one reference, its maker's. `free` runs when the last one goes. */
  add(kind: ObjectKind, id: number, object: object, free: () => void): void {
    const entry: Counted = { kind, id, object, references: 1, users: 1, free };
    this.#byId[kind].set(id, entry);
    this.#entries.set(object, entry);
    if (kind === 'map') this.#byAddress.set((object as BpfMap).address, object as BpfMap);
  }

  has(object: unknown): boolean {
    return this.#entries.has(object);
  }

  get<T>(kind: ObjectKind, id: number): T | undefined {
    return this.#byId[kind].get(id)?.object as T | undefined;
  }

  entry(object: unknown): MachineObject {
    const entry = this.#entries.get(object);
    if (entry === undefined) throw new BpfError('EINVAL', 'the object is not one of this machine');
    return entry;
  }

  /** All of a kind, by id. */
  all<T>(kind: ObjectKind): ReadonlyMap<number, T> {
    const entries = [...this.#byId[kind].values()].sort((a, b) => a.id - b.id);
    return new Map(entries.map(({ id, object }) => [id, object as T]));
  }

  /** bpf_obj_get_next_id: the smallest id above `id`, or undefined. */
  nextId(kind: ObjectKind, id: number): number | undefined {
    let next: number | undefined;
    for (const known of this.#byId[kind].keys()) {
      if (known > id && (next === undefined || known < next)) next = known;
    }
    return next;
  }

  hold(object: unknown): void {
    (this.entry(object) as Counted).references++;
  }

  /** One reference less; frees the object with the last. */
  drop(object: unknown): void {
    const entry = this.#entries.get(object);
    if (entry === undefined || --entry.references > 0) return;
    this.#entries.delete(object);
    this.#byId[entry.kind].delete(entry.id);
    if (entry.kind === 'map') this.#byAddress.delete((object as BpfMap).address);
    entry.free();
  }

  private holdUser(object: unknown): void {
    this.hold(object);
    (this.entry(object) as Counted).users++;
  }

  /**
   * One of those outside gives the object up. A program array that nobody outside has any more loses its programs, or it and programs
   * that call each other through it would keep each other for ever (bpf_map_put_uref, prog_array_map_clear).
   */
  release(object: unknown): void {
    const entry = this.#entries.get(object);
    if (entry === undefined || entry.users === 0) return;
    if (--entry.users === 0 && object instanceof ProgArray) object.destroy();
    this.drop(object);
  }

  // Descriptors

  /** A new descriptor, which holds the object. Throws BpfError EMFILE. */
  open(object: unknown, access: { canRead?: boolean; canWrite?: boolean } = {}): number {
    const { canRead = true, canWrite = true } = access;
    let fd = this.#lowestFree;
    while (this.#files.has(fd)) fd++;
    if (fd > MAX_FILES) throw new BpfError('EMFILE', 'too many descriptors are open');
    const entry = this.entry(object);
    this.holdUser(object);
    this.#files.set(fd, { entry, canRead, canWrite });
    this.#lowestFree = fd + 1;
    return fd;
  }

  file(fd: number): OpenFile | undefined {
    return this.#files.get(fd);
  }

  /** 0 or -EBADF. */
  close(fd: number): number {
    const file = this.#files.get(fd);
    if (file === undefined) return -ERRNO.EBADF;
    this.#files.delete(fd);
    this.#lowestFree = Math.min(this.#lowestFree, fd);
    this.release(file.entry.object);
    return 0;
  }

  /** The object behind a descriptor, or -EBADF, or -EINVAL where it is of another kind. */
  byFd<T>(kind: ObjectKind, fd: number): T | number {
    const file = this.#files.get(fd);
    if (file === undefined) return -ERRNO.EBADF;
    return file.entry.kind === kind ? (file.entry.object as T) : -ERRNO.EINVAL;
  }

  // Pins: a file system in memory, whose directories come with the files in them

  /** bpf_obj_pin_user: 0, -EEXIST, -EINVAL for a path that is none, -ENAMETOOLONG. */
  pin(path: string, object: unknown): number {
    if (path.length >= MAX_PATH) return -ERRNO.ENAMETOOLONG;
    if (!path.startsWith('/') || path.endsWith('/') || path.includes('\0')) return -ERRNO.EINVAL;
    // A dot is for files of the kernel (bpf_lookup).
    if (path.slice(path.lastIndexOf('/') + 1).includes('.')) return -ERRNO.EPERM;
    if (this.#pins.has(path)) return -ERRNO.EEXIST;
    const entry = this.entry(object) as Counted;
    if (entry.kind === 'btf') return -ERRNO.EINVAL;
    this.holdUser(object);
    this.#pins.set(path, entry);
    return 0;
  }

  pinned(path: string): MachineObject | undefined {
    return this.#pins.get(path);
  }

  /** unlink(2): 0 or -ENOENT. */
  unpin(path: string): number {
    const entry = this.#pins.get(path);
    if (entry === undefined) return -ERRNO.ENOENT;
    this.#pins.delete(path);
    this.release(entry.object);
    return 0;
  }

  get pins(): string[] {
    return [...this.#pins.keys()].sort();
  }

  // MapObjects

  mapByFd(fd: number): BpfMap | number {
    return this.byFd('map', fd);
  }

  mapAt(address: number): BpfMap | undefined {
    return this.#byAddress.get(address >>> 0);
  }

  programByFd(fd: number): { readonly id: number } | number {
    return this.byFd('prog', fd);
  }

  programById(id: number): { readonly id: number } | undefined {
    return this.get('prog', id);
  }
}
