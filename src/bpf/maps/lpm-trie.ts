/**
 * lpm_trie (kernel/bpf/lpm_trie.c): keys are a u32 prefix length and data; a lookup finds the entry with the longest prefix of
 * its key. Nodes are blocks of the heap. Writers take a lock; readers take none, and start again where a writer came by.
 */
import { ERRNO } from '../errors.ts';
import { readU32 } from './array.ts';
import type { Batch } from './batch.ts';
import { MapBase, USER_CPU } from './map-base.ts';
import { MAP_HEADER, roundUp, TRIE_HEADER } from './map-layout.ts';
import { BPF_EXIST, BPF_NOEXIST } from './map-spec.ts';
import type { BytesOrErrno } from './map-types.ts';

/** A node: two children, prefix length, whether it is only a fork, then data and value. */
const NODE = { child: 0, prefixLength: 8, isFork: 12, data: 16 } as const;
const PREFIX_SIZE = 4;

/** A key in some bytes: prefix length, then data at `at`. */
interface Key {
  readonly bytes: Uint8Array;
  readonly at: number;
  readonly length: number;
}

export class LpmTrie extends MapBase {
  protected override readonly batches: readonly Batch[] = ['lookup', 'update', 'delete'];

  private field(offset: number): number {
    return this.address + MAP_HEADER.size + offset;
  }

  private get dataSize(): number {
    return this.spec.keySize - PREFIX_SIZE;
  }

  private get maxLength(): number {
    return this.dataSize * 8;
  }

  private get valueOffset(): number {
    return NODE.data + roundUp(this.dataSize, 8);
  }

  private get nodeSize(): number {
    return this.valueOffset + this.spec.valueSize;
  }

  override get size(): number {
    return this.load(this.field(TRIE_HEADER.count));
  }

  private key(bytes: Uint8Array, at: number): Key {
    return { bytes, at: at + PREFIX_SIZE, length: readU32(bytes, at) };
  }

  private length(node: number): number {
    return this.load(node + NODE.prefixLength);
  }

  private isFork(node: number): boolean {
    return this.load(node + NODE.isFork) !== 0;
  }

  private child(node: number, bit: number): number {
    return this.load(node + NODE.child + 4 * bit);
  }

  private bit(bytes: Uint8Array, at: number, index: number): number {
    return (bytes[at + (index >>> 3)]! >>> (7 - (index & 7))) & 1;
  }

  /** longest_prefix_match: how many leading bits node and key share. */
  private match(node: number, key: Key): number {
    const { u8 } = this.view;
    const limit = Math.min(this.length(node), key.length, this.maxLength);
    for (let n = 0; n < limit; n += 8) {
      const difference = u8[node + NODE.data + (n >>> 3)]! ^ key.bytes[key.at + (n >>> 3)]!;
      if (difference !== 0) return Math.min(limit, n + Math.clz32(difference) - 24);
    }
    return limit;
  }

  /** Repeats a reading until no writer came in between. */
  private reading<T>(read: () => T): T {
    for (;;) {
      const before = this.load(this.field(TRIE_HEADER.sequence));
      if ((before & 1) !== 0) continue;
      const result = read();
      if (this.load(this.field(TRIE_HEADER.sequence)) === before) return result;
    }
  }

  private writing(cpu: number, write: () => number): number {
    return this.locked(this.field(TRIE_HEADER.lock), cpu, () => {
      const { i32 } = this.view;
      const sequence = this.field(TRIE_HEADER.sequence) >>> 2;
      Atomics.add(i32, sequence, 1);
      try {
        return write();
      } finally {
        Atomics.add(i32, sequence, 1);
      }
    });
  }

  protected override find(bytes: Uint8Array, at: number): number {
    const key = this.key(bytes, at);
    if (key.length > this.maxLength) return 0;
    const node = this.reading(() => {
      let found = 0;
      let node = this.load(this.field(TRIE_HEADER.root));
      // A reader among half-written nodes comes to an end all the same.
      for (let depth = 0; node !== 0 && depth <= this.maxLength; depth++) {
        const shared = this.match(node, key);
        if (shared === this.maxLength) {
          found = node;
          break;
        }
        if (shared < this.length(node)) break;
        if (!this.isFork(node)) found = node;
        node = this.child(node, this.bit(key.bytes, key.at, this.length(node)));
      }
      return found;
    });
    return node === 0 ? 0 : node + this.valueOffset;
  }

  lookupElem(key: number): number {
    return this.find(this.view.u8, key);
  }

  updateElem(key: number, value: number, flags: number, cpu: number): number {
    const { u8 } = this.view;
    return this.insert(u8, key, u8.slice(value, value + this.spec.valueSize), flags, cpu);
  }

  sysUpdate(key: Uint8Array, value: Uint8Array, flags = 0): number {
    return this.insert(key, 0, value, flags, USER_CPU);
  }

  private insert(bytes: Uint8Array, at: number, value: Uint8Array, flags: number, cpu: number): number {
    if (!Number.isInteger(flags) || flags < 0 || flags > BPF_EXIST) return -ERRNO.EINVAL;
    // The bytes may lie in the memory, whose views are new once a node was allocated.
    const key = this.key(bytes.slice(at, at + this.spec.keySize), 0);
    if (key.length > this.maxLength) return -ERRNO.EINVAL;
    return this.writing(cpu, () => {
      let slot = this.field(TRIE_HEADER.root);
      let node = this.load(slot);
      let shared = 0;
      while (node !== 0) {
        shared = this.match(node, key);
        const length = this.length(node);
        if (length !== shared || length === key.length) break;
        slot = node + NODE.child + 4 * this.bit(key.bytes, key.at, length);
        node = this.load(slot);
      }
      const isSame = node !== 0 && this.length(node) === shared && shared === key.length;
      if (isSame && !this.isFork(node)) {
        if (flags === BPF_NOEXIST) return -ERRNO.EEXIST;
        this.storeData(node, key);
        this.storeValue(node + this.valueOffset, value, 0, false);
        return 0;
      }
      if (flags === BPF_EXIST) return -ERRNO.ENOENT;
      if (this.size >= this.spec.maxEntries) return -ERRNO.ENOSPC;
      if (isSame) {
        // The fork becomes an entry.
        this.storeData(node, key);
        this.storeValue(node + this.valueOffset, value, 0, true);
        this.store(node + NODE.isFork, 0);
        this.addCount(1);
        return 0;
      }
      return this.link(slot, node, shared, key, value);
    });
  }

  /** Puts a new node at a slot, above what is there now. */
  private link(slot: number, node: number, shared: number, key: Key, value: Uint8Array): number {
    const fresh = this.make(key, key.length, false);
    if (fresh === 0) return -ERRNO.ENOMEM;
    this.storeValue(fresh + this.valueOffset, value, 0, true);
    if (node === 0) this.store(slot, fresh);
    else if (shared === key.length) {
      const { u8 } = this.view;
      this.store(fresh + NODE.child + 4 * this.bit(u8, node + NODE.data, shared), node);
      this.store(slot, fresh);
    } else {
      const fork = this.make(key, shared, true);
      if (fork === 0) {
        this.drop(fresh);
        return -ERRNO.ENOMEM;
      }
      const bit = this.bit(key.bytes, key.at, shared);
      this.store(fork + NODE.child + 4 * bit, fresh);
      this.store(fork + NODE.child + 4 * (1 - bit), node);
      this.store(slot, fork);
    }
    this.addCount(1);
    return 0;
  }

  private addCount(change: number): void {
    Atomics.add(this.view.i32, this.field(TRIE_HEADER.count) >>> 2, change);
  }

  private make(key: Key, length: number, isFork: boolean): number {
    const node = this.environment.heap?.alloc(this.nodeSize) ?? 0;
    if (node === 0) return 0;
    this.store(node + NODE.prefixLength, length);
    this.store(node + NODE.isFork, isFork ? 1 : 0);
    this.storeData(node, key);
    return node;
  }

  /** All data of a key: an entry is listed as it was written last, with what lies behind its prefix. */
  private storeData(node: number, key: Key): void {
    this.view.u8.set(key.bytes.subarray(key.at, key.at + this.dataSize), node + NODE.data);
  }

  private drop(node: number): void {
    this.environment.heap?.free(node, this.nodeSize);
  }

  deleteElem(key: number, cpu: number): number {
    return this.remove(this.view.u8, key, cpu);
  }

  sysDelete(key: Uint8Array): number {
    return this.remove(key, 0, USER_CPU);
  }

  private remove(bytes: Uint8Array, at: number, cpu: number): number {
    const key = this.key(bytes, at);
    if (key.length > this.maxLength) return -ERRNO.EINVAL;
    return this.writing(cpu, () => {
      let above = 0;
      let slot = this.field(TRIE_HEADER.root);
      let node = this.load(slot);
      let parent = 0;
      while (node !== 0) {
        const length = this.length(node);
        if (this.match(node, key) !== length) return -ERRNO.ENOENT;
        if (length === key.length) break;
        above = slot;
        parent = node;
        slot = node + NODE.child + 4 * this.bit(key.bytes, key.at, length);
        node = this.load(slot);
      }
      if (node === 0 || this.isFork(node)) return -ERRNO.ENOENT;
      this.freeFields(node + this.valueOffset);
      this.addCount(-1);
      const [left, right] = [this.child(node, 0), this.child(node, 1)];
      if (left !== 0 && right !== 0) {
        this.store(node + NODE.isFork, 1);
        return 0;
      }
      if (parent !== 0 && this.isFork(parent) && left === 0 && right === 0) {
        // A fork with one child left is not needed.
        const other = this.child(parent, 0) === node ? this.child(parent, 1) : this.child(parent, 0);
        this.store(above, other);
        this.drop(parent);
      } else {
        this.store(slot, left !== 0 ? left : right);
      }
      this.drop(node);
      return 0;
    });
  }

  /** trie_get_next_key: entries in postorder, the most specific first. */
  sysNextKey(bytes: Uint8Array | undefined): BytesOrErrno {
    return this.reading(() => {
      const root = this.load(this.field(TRIE_HEADER.root));
      if (root === 0) return -ERRNO.ENOENT;
      const path = bytes === undefined ? undefined : this.pathTo(this.key(bytes, 0), root);
      if (path === undefined) return this.keyOf(this.firstOf(root));
      let node = path.pop()!;
      for (let parent = path.pop(); parent !== undefined; parent = path.pop()) {
        const sibling = this.child(parent, 1);
        if (this.child(parent, 0) === node && sibling !== 0) return this.keyOf(this.firstOf(sibling));
        if (!this.isFork(parent)) return this.keyOf(parent);
        node = parent;
      }
      return -ERRNO.ENOENT;
    });
  }

  /** Nodes from the root to the entry of exactly this key, or undefined. */
  private pathTo(key: Key, root: number): number[] | undefined {
    if (key.length > this.maxLength) return undefined;
    const path: number[] = [];
    for (let node = root; node !== 0 && path.length <= this.maxLength; ) {
      path.push(node);
      const length = this.length(node);
      if (this.match(node, key) !== length) return undefined;
      if (length === key.length) return this.isFork(node) ? undefined : path;
      node = this.child(node, this.bit(key.bytes, key.at, length));
    }
    return undefined;
  }

  /** The first entry below a node, in postorder. */
  private firstOf(start: number): number {
    let node = start;
    for (let depth = 0; depth <= this.maxLength; depth++) {
      const below = this.child(node, 0) || this.child(node, 1);
      if (below === 0) break;
      node = below;
    }
    return node;
  }

  private keyOf(node: number): Uint8Array {
    const key = new Uint8Array(this.spec.keySize);
    new DataView(key.buffer).setUint32(0, this.length(node), true);
    const from = node + NODE.data;
    key.set(this.view.u8.subarray(from, from + this.dataSize), PREFIX_SIZE);
    return key;
  }

  override destroy(): void {
    const drop = (node: number): void => {
      if (node === 0) return;
      drop(this.child(node, 0));
      drop(this.child(node, 1));
      if (!this.isFork(node)) this.freeFields(node + this.valueOffset);
      this.drop(node);
    };
    drop(this.load(this.field(TRIE_HEADER.root)));
    this.store(this.field(TRIE_HEADER.root), 0);
  }
}
