import { hashBytes } from './strings.ts';

/**
 * Ids by name, for hundreds of thousands of types: one open hash table of typed arrays over the bytes of the string
 * section, 12 bytes a type and no JavaScript string. Ids of one name are found in ascending order.
 */
export class NameIndex {
  readonly #strings: Uint8Array;
  readonly #offsetOf: (index: number) => number;
  readonly #lengthOf: (offset: number) => number;
  readonly #heads: Int32Array;
  readonly #next: Int32Array;
  readonly #hashes: Uint32Array;
  readonly #mask: number;

  /** `offsetOf(i)` is where entry i's name lies (0: it has none), `lengthOf(offset)` how many of its bytes count. */
  constructor(
    strings: Uint8Array,
    count: number,
    offsetOf: (index: number) => number,
    lengthOf: (offset: number) => number,
  ) {
    this.#strings = strings;
    this.#offsetOf = offsetOf;
    this.#lengthOf = lengthOf;
    let buckets = 16;
    while (buckets < count) buckets *= 2;
    this.#mask = buckets - 1;
    this.#heads = new Int32Array(buckets).fill(-1);
    this.#next = new Int32Array(count);
    this.#hashes = new Uint32Array(count);
    // From the last to the first, so that each chain lists ascending indices.
    for (let i = count - 1; i >= 0; i--) {
      const offset = offsetOf(i);
      if (offset === 0) continue;
      const hash = hashBytes(strings, offset, lengthOf(offset));
      const bucket = hash & this.#mask;
      this.#hashes[i] = hash;
      this.#next[i] = this.#heads[bucket]!;
      this.#heads[bucket] = i;
    }
  }

  /** The entries with that name, ascending. */
  *find(name: Uint8Array, length = name.length): Generator<number, void, undefined> {
    const hash = hashBytes(name, 0, length);
    for (let i = this.#heads[hash & this.#mask]!; i >= 0; i = this.#next[i]!) {
      if (this.#hashes[i] !== hash) continue;
      const offset = this.#offsetOf(i);
      if (this.#lengthOf(offset) !== length) continue;
      let same = 0;
      while (same < length && this.#strings[offset + same] === name[same]) same++;
      if (same === length) yield i;
    }
  }
}
