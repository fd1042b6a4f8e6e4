import { FUSE_ROOT_ID } from './protocol.ts';

interface Inode {
  readonly id: bigint;
  readonly path: string;
  /** References that the kernel holds (`nlookup`). */
  lookups: bigint;
}

/** Who owns an inode and what may be done with it, where chown(2) or chmod(2) changed that. */
export interface Ownership {
  mode?: number;
  uid?: number;
  gid?: number;
}

/** The numbers by which the kernel knows paths, as long as it knows them. */
export class NodeTable {
  readonly #byId = new Map<bigint, Inode>();
  readonly #byPath = new Map<string, Inode>();
  readonly #ownership = new Map<string, Ownership>();
  #next = FUSE_ROOT_ID + 1n;

  constructor() {
    this.#add({ id: FUSE_ROOT_ID, path: '', lookups: 1n });
  }

  get size(): number {
    return this.#byId.size;
  }

  #add(node: Inode): Inode {
    this.#byId.set(node.id, node);
    this.#byPath.set(node.path, node);
    return node;
  }

  /** The path behind a number; undefined for one that is not known. */
  path(id: bigint): string | undefined {
    return this.#byId.get(id)?.path;
  }

  /** The number of a path that a LOOKUP or MKDIR answers with: one reference more. */
  lookup(path: string): bigint {
    const node = this.#byPath.get(path) ?? this.#add({ id: this.#next++, path, lookups: 0n });
    node.lookups++;
    return node.id;
  }

  /** An inode number for a directory listing; 0 is none, so an unknown one gets another that says nothing. */
  inode(path: string): bigint {
    return this.#byPath.get(path)?.id ?? 0xffff_ffffn;
  }

  forget(id: bigint, count: bigint): void {
    const node = this.#byId.get(id);
    if (node === undefined || id === FUSE_ROOT_ID) return;
    node.lookups -= count;
    if (node.lookups > 0n) return;
    this.#byId.delete(id);
    if (this.#byPath.get(node.path) === node) this.#byPath.delete(node.path);
  }

  /** A folder is gone: what comes to be at its paths are other inodes. */
  remove(path: string): void {
    for (const known of [...this.#byPath.keys()])
      if (known === path || known.startsWith(`${path}/`)) this.#byPath.delete(known);
    for (const known of [...this.#ownership.keys()])
      if (known === path || known.startsWith(`${path}/`)) this.#ownership.delete(known);
  }

  ownership(path: string): Ownership | undefined {
    return this.#ownership.get(path);
  }

  setOwnership(path: string, change: Ownership): void {
    this.#ownership.set(path, { ...this.#ownership.get(path), ...change });
  }
}
