/** The names of the tree as the kernel asks for them: numbers, attributes, listings. */

import { ERRNO, KernelError } from '../../kernel/errno.ts';
import type { Tracefs } from '../tracefs.ts';
import { Errno } from './errno.ts';
import { NodeTable, type Ownership } from './nodes.ts';
import * as p from './protocol.ts';

interface OpenFolder {
  readonly path: string;
  entries: p.Dirent[] | undefined;
}

export class FuseTree {
  readonly nodes = new NodeTable();
  readonly #fs: Tracefs;
  readonly #owner: { readonly uid?: number; readonly gid?: number };
  readonly #folders = new Map<bigint, OpenFolder>();
  readonly #started = Date.now();

  /** `owner`: of everything; 0 where not given. */
  constructor(fs: Tracefs, owner: { readonly uid?: number; readonly gid?: number }) {
    this.#fs = fs;
    this.#owner = owner;
  }

  get openFolders(): number {
    return this.#folders.size;
  }

  path(nodeid: bigint): string {
    const path = this.nodes.path(nodeid);
    if (path === undefined) throw new Errno(-ERRNO.ESTALE);
    return path;
  }

  child(nodeid: bigint, name: string): string {
    const parent = this.path(nodeid);
    return parent === '' ? name : `${parent}/${name}`;
  }

  attributes(path: string): p.FuseAttributes {
    const stat = this.#fs.stat(path);
    const own: Ownership = this.nodes.ownership(path) ?? {};
    return {
      ino: path === '' ? p.FUSE_ROOT_ID : this.nodes.inode(path),
      mode: (stat.isDirectory ? p.S_IFDIR : p.S_IFREG) | (own.mode ?? stat.mode),
      uid: own.uid ?? this.#owner.uid ?? 0,
      gid: own.gid ?? this.#owner.gid ?? 0,
      // A folder with one link is one whose children are not counted.
      nlink: 1,
      time: this.#started,
    };
  }

  entry(path: string): Uint8Array {
    this.#fs.stat(path);
    const id = this.nodes.lookup(path);
    return p.entryOut(id, this.attributes(path));
  }

  /** chmod(2) and chown(2) are kept; a size or a time means nothing here. */
  setattr(nodeid: bigint, view: DataView): Uint8Array {
    const path = this.path(nodeid);
    const valid = view.getUint32(0, true);
    const change: Ownership = {};
    if ((valid & p.FATTR_MODE) !== 0) change.mode = view.getUint32(68, true) & 0o7777;
    if ((valid & p.FATTR_UID) !== 0) change.uid = view.getUint32(76, true);
    if ((valid & p.FATTR_GID) !== 0) change.gid = view.getUint32(80, true);
    const attributes = this.attributes(path);
    if (Object.keys(change).length === 0) return p.attrOut(attributes);
    this.nodes.setOwnership(path, change);
    return p.attrOut(this.attributes(path));
  }

  mkdir(path: string): Uint8Array {
    this.#fs.mkdir(path);
    return this.entry(path);
  }

  rmdir(path: string): void {
    this.#fs.rmdir(path);
    this.nodes.remove(path);
  }

  unlink(path: string): void {
    this.#fs.unlink(path);
  }

  opendir(nodeid: bigint, id: bigint): Uint8Array {
    const path = this.path(nodeid);
    if (!this.#fs.stat(path).isDirectory) throw new Errno(-ERRNO.ENOTDIR);
    this.#folders.set(id, { path, entries: undefined });
    return p.openOut(id, 0);
  }

  releasedir(id: bigint): void {
    this.#folders.delete(id);
  }

  close(): void {
    this.#folders.clear();
  }

  readdir(view: DataView): Uint8Array {
    const folder = this.#folders.get(view.getBigUint64(0, true));
    if (folder === undefined) throw new Errno(-ERRNO.EBADF);
    const offset = Number(view.getBigUint64(8, true));
    // Listed anew from the start: rewinddir(3).
    if (offset === 0 || folder.entries === undefined) folder.entries = this.#list(folder.path);
    return p.direntsOut(folder.entries, offset, view.getUint32(16, true));
  }

  #list(path: string): p.Dirent[] {
    const below = (name: string): string => (path === '' ? name : `${path}/${name}`);
    const entries: p.Dirent[] = [
      { ino: this.nodes.inode(path), name: '.', isDirectory: true },
      { ino: 0xffff_ffffn, name: '..', isDirectory: true },
    ];
    for (const name of this.#fs.readdir(path)) {
      try {
        const { isDirectory } = this.#fs.stat(below(name));
        entries.push({ ino: this.nodes.inode(below(name)), name, isDirectory });
      } catch (error) {
        // Gone since it was listed.
        if (!(error instanceof KernelError)) throw error;
      }
    }
    return entries;
  }
}
