/** The table behind a hist (kernel/trace/tracing_map.c): sums and variables by key, as many keys as were asked for, none removed. */
import { kernelSort } from './kernel-sort.ts';

export const TRACING_MAP_KEYS_MAX = 3;
export const TRACING_MAP_VALS_MAX = 3;
export const TRACING_MAP_VARS_MAX = 16;
export const TRACING_MAP_SORT_KEYS_MAX = 2;
export const TRACING_MAP_BITS_DEFAULT = 11;
export const TRACING_MAP_BITS_MIN = 7;
export const TRACING_MAP_BITS_MAX = 17;

/** What a variable holds: a number (u64), a string's bytes, the addresses of a stack. */
export type HistValue = bigint | Uint8Array | readonly bigint[];

export interface TracingMapElt {
  readonly key: Uint8Array;
  hitcount: number;
  /** By value; what was added as bigint, and what as numbers since. Read them with sumOf(). */
  readonly sums: bigint[];
  readonly parts: number[];
  readonly vars: HistValue[];
  readonly varSet: boolean[];
  /** The task that made the entry, for `.execname`. */
  readonly comm: string;
}

/** How entries are ordered by a field: by its sum, or by what its key's bytes mean. */
export type MapField =
  | { readonly kind: 'sum' }
  | { readonly kind: 'key'; readonly compare: (a: Uint8Array, b: Uint8Array) => number };

export interface SortKey {
  fieldIdx: number;
  descending: boolean;
}

export class TracingMap {
  readonly mapBits: number;
  readonly keySize: number;
  hits = 0;
  drops = 0;
  readonly fields: MapField[] = [];
  #vars = 0;
  #elts = new Map<string, TracingMapElt>();
  /** The same entries where keys are numbers that insertNumber() got. */
  readonly #numbers = new Map<number, TracingMapElt>();

  constructor(mapBits: number, keySize: number) {
    this.mapBits = mapBits;
    this.keySize = keySize;
  }

  /** tracing_map_add_var(): its index; undefined when there are too many. */
  addVar(): number | undefined {
    return this.#vars < TRACING_MAP_VARS_MAX ? this.#vars++ : undefined;
  }

  /** Of a longer key, a hist's with more fields, the beginning counts. */
  lookup(key: Uint8Array): TracingMapElt | undefined {
    return this.#elts.get(keyText(key.subarray(0, this.keySize)));
  }

  /** The entry of a key, made where there is none. Undefined, and counted, when the table is full. */
  insert(key: Uint8Array, comm: () => string): TracingMapElt | undefined {
    const text = keyText(key);
    let elt = this.#elts.get(text);
    if (elt === undefined) {
      if (this.#elts.size >= 1 << this.mapBits) {
        this.drops++;
        return undefined;
      }
      const sums = this.fields.filter(({ kind }) => kind === 'sum').map(() => 0n);
      const parts = sums.map(() => 0);
      elt = { key: key.slice(), hitcount: 0, sums, parts, vars: [], varSet: [], comm: comm() };
      this.#elts.set(text, elt);
    }
    this.hits++;
    return elt;
  }

  /** As insert(), for a key that is one number and that `key` writes out where it is new. */
  insertNumber(value: number, key: () => Uint8Array, comm: () => string): TracingMapElt | undefined {
    const known = this.#numbers.get(value);
    if (known !== undefined) {
      this.hits++;
      return known;
    }
    const elt = this.insert(key(), comm);
    if (elt !== undefined) this.#numbers.set(value, elt);
    return elt;
  }

  /** Hits that were counted elsewhere: into the entry of a key, or among the dropped ones. */
  add(key: Uint8Array, hits: number, sums: readonly bigint[], comm: () => string): void {
    const { drops } = this;
    const elt = this.insert(key, comm);
    if (elt === undefined) {
      this.drops = drops + hits;
      return;
    }
    this.hits += hits - 1;
    elt.hitcount += hits;
    for (const [i, sum] of sums.entries()) addToSum(elt, i + 1, sum);
  }

  /** How often it was emptied. */
  generation = 0;

  /** tracing_map_clear() */
  clear(): void {
    this.generation++;
    this.#numbers.clear();
    this.#elts = new Map();
    this.hits = 0;
    this.drops = 0;
  }

  /** tracing_map_sort_entries(): equal entries come as the kernel's sort leaves them. */
  sorted(sortKeys: readonly SortKey[]): TracingMapElt[] {
    const entries = [...this.#elts.values()];
    if (entries.length < 2) return entries;
    // The kernel looks for duplicates first, which sorts by the keys' bytes.
    kernelSort(entries, 0, entries.length, (a, b) => compareBytes(a.key, b.key));
    const [primary, secondary] = sortKeys;
    if (primary === undefined) return entries;
    const compare = this.#comparison(primary);
    kernelSort(entries, 0, entries.length, compare);
    if (secondary !== undefined) sortSecondary(entries, compare, this.#comparison(secondary));
    return entries;
  }

  #comparison({ fieldIdx, descending }: SortKey): (a: TracingMapElt, b: TracingMapElt) => number {
    const field = this.fields[fieldIdx];
    const sign = descending ? -1 : 1;
    if (field?.kind === 'key') return (a, b) => sign * field.compare(a.key, b.key);
    return (a, b) => sign * compareNumbers(sumOf(a, fieldIdx), sumOf(b, fieldIdx));
  }
}

/** sort_secondary(): runs that are equal by the first key are sorted by the second; the very last entry may be left out of its run. */
function sortSecondary(
  entries: TracingMapElt[],
  primary: (a: TracingMapElt, b: TracingMapElt) => number,
  secondary: (a: TracingMapElt, b: TracingMapElt) => number,
): void {
  let start = 0;
  let run = 1;
  for (let i = 0; i < entries.length - 1; i++) {
    if (primary(entries[i] as TracingMapElt, entries[i + 1] as TracingMapElt) === 0) {
      run++;
      if (i < entries.length - 2) continue;
    }
    if (run >= 2) kernelSort(entries, start, run, secondary);
    start = i + 1;
    run = 1;
  }
}

/** Numbers are added as such up to here. */
const PART_MAX = 2 ** 52;

/** A value's sum (u64); value 0 is the hitcount. */
export function sumOf(elt: TracingMapElt, idx: number): bigint {
  if (idx === 0) return BigInt(elt.hitcount);
  return BigInt.asUintN(64, (elt.sums[idx] ?? 0n) + BigInt(elt.parts[idx] ?? 0));
}

/** tracing_map_update_sum() */
export function addToSum(elt: TracingMapElt, idx: number, value: bigint): void {
  elt.sums[idx] = BigInt.asUintN(64, (elt.sums[idx] ?? 0n) + value);
}

/** The same for a number of at most 32 bits. */
export function addNumberToSum(elt: TracingMapElt, idx: number, value: number): void {
  const part = (elt.parts[idx] ?? 0) + value;
  elt.parts[idx] = part;
  if (part > PART_MAX || part < -PART_MAX) {
    elt.parts[idx] = 0;
    addToSum(elt, idx, BigInt(part));
  }
}

function keyText(key: Uint8Array): string {
  let text = '';
  for (let i = 0; i < key.length; i++) text += String.fromCharCode(key[i] as number);
  return text;
}

export function compareNumbers(a: bigint, b: bigint): number {
  return a === b ? 0 : a < b ? -1 : 1;
}

export function compareBytes(a: Uint8Array, b: Uint8Array): number {
  for (let i = 0; i < a.length; i++) {
    const difference = (a[i] as number) - (b[i] ?? 0);
    if (difference !== 0) return difference;
  }
  return 0;
}
