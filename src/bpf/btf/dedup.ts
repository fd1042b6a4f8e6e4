/**
 * Deduplication of types, after the algorithm that tools/lib/bpf/btf.c describes at btf__dedup(): the types of many
 * compilation units, each with its own copy of every struct, become one graph.
 *
 * 1. strings; 2. integers, floats, enums and forward declarations by their contents; 3. structs and unions: two are the
 * same if their whole graphs are, under the hypothesis that they are; 4. forward declarations to the one struct of their
 * name; 5. what refers to types by their contents, now that what they refer to is known; 6. the rest gets new ids.
 */

import { aBtf } from '../argument-shapes.ts';
import { checkArgument } from '../arguments.ts';
import type { Btf } from './btf.ts';
import { StringTable } from './builder.ts';
import * as compare from './dedup-compare.ts';
import { identical, type TypeGraph } from './dedup-compare.ts';
import { BtfError } from './error.ts';
import { forEachNameWord, forEachTypeWord, wordCount } from './fields.ts';
import * as k from './kinds.ts';
import { parseBtf } from './parse.ts';
import { encodeBtf } from './write.ts';

const UNPROCESSED = 0xffff_ffff;
const IN_PROGRESS = 0xffff_fffe;
/** Comparisons of two types, at most, for each type: a kernel's need 35. */
const MAX_STEPS_PER_TYPE = 300;
const MIN_STEPS = 2_000_000;

export interface DedupResult {
  readonly btf: Btf;
  /** The new id by the old one. */
  readonly ids: Uint32Array;
}

/** Candidates by hash. */
class Table {
  readonly #buckets = new Map<number, number[]>();

  get(hash: number): readonly number[] {
    return this.#buckets.get(hash) ?? [];
  }

  add(hash: number, id: number): void {
    const bucket = this.#buckets.get(hash);
    if (bucket === undefined) this.#buckets.set(hash, [id]);
    else bucket.push(id);
  }
}

class Dedup {
  readonly #btf: Btf;
  readonly #graph: TypeGraph;
  readonly #strings: StringTable;
  /** What each type became: another id, itself, or not known yet. */
  readonly #map: Uint32Array;
  /** In the graph of the canonical type: which type of the candidate's graph is taken for it. */
  readonly #hypotheses = new Map<number, number>();
  readonly #maxSteps: number;
  #steps = 0;

  constructor(btf: Btf) {
    this.#btf = btf;
    this.#maxSteps = Math.max(MIN_STEPS, MAX_STEPS_PER_TYPE * btf.typeCount);
    this.#strings = new StringTable(btf.base?.stringsEnd ?? 0);
    if (btf.base !== undefined) this.#strings.known(allStrings(btf.base));
    this.#graph = this.#copy();
    this.#map = new Uint32Array(btf.typeCount).fill(UNPROCESSED);
    for (let id = 0; id < btf.typeCount; id++) {
      const kind = this.#kind(id);
      const fixed = id < btf.startId || id === 0 || kind === k.BTF_KIND_VAR || kind === k.BTF_KIND_DATASEC;
      if (fixed) this.#map[id] = id;
    }
  }

  /** The types with the offsets of the new string table. */
  #copy(): TypeGraph {
    const btf = this.#btf;
    const words = btf.typeWords.slice();
    const offsets = new Uint32Array(btf.typeCount);
    const names = new Map<number, number>();
    let at = 0;
    for (let id = Math.max(1, btf.startId); id < btf.typeCount; id++) {
      const start = at;
      offsets[id] = at;
      const kind = btf.kind(id);
      const vlen = btf.vlen(id);
      forEachNameWord(kind, vlen, (word) => {
        const old = words[start + word]!;
        let name = names.get(old);
        if (name === undefined) {
          name = this.#strings.add(btf.string(old));
          names.set(old, name);
        }
        words[start + word] = name;
      });
      at += wordCount(kind, vlen);
    }
    return {
      words,
      offsets,
      word: (id, index) =>
        id < btf.startId || id === 0 ? btf.word(id, index) : words[offsets[id]! + index]!,
    };
  }

  #kind(id: number): number {
    return k.infoKind(this.#graph.word(id, 1));
  }

  #vlen(id: number): number {
    return k.infoVlen(this.#graph.word(id, 1));
  }

  #step(): void {
    if (++this.#steps > this.#maxSteps)
      throw new BtfError('comparing the types takes too long', { errno: 'E2BIG' });
  }

  #mapped(id: number): boolean {
    return this.#map[id]! < IN_PROGRESS;
  }

  /** What a type became by now. */
  #resolve(id: number): number {
    let at = id;
    while (this.#mapped(at) && this.#map[at] !== at) at = this.#map[at]!;
    return at;
  }

  run(): DedupResult {
    this.#primitives();
    this.#structs();
    this.#forwards();
    this.#references();
    return this.#compact();
  }

  #each(visit: (id: number, kind: number) => void): void {
    for (let id = 1; id < this.#btf.typeCount; id++) visit(id, this.#kind(id));
  }

  /** Step 2. An enum without values stands for any enum of its name. */
  #primitives(): void {
    const table = new Table();
    this.#each((id, kind) => {
      if (k.isAnyEnum(kind)) this.#enum(id, table);
      else if (kind === k.BTF_KIND_INT || kind === k.BTF_KIND_FLOAT || kind === k.BTF_KIND_FWD) {
        this.#unify(id, table, compare.hashWords, compare.equalWords);
      }
    });
  }

  /** Maps a type to the first that is equal to it, or makes it the first. */
  #unify(
    id: number,
    table: Table,
    hashOf: (graph: TypeGraph, id: number) => number,
    equal: (graph: TypeGraph, a: number, b: number) => boolean,
  ): void {
    const hash = hashOf(this.#graph, id);
    let canonical = id;
    if (id >= this.#btf.startId) {
      for (const other of table.get(hash)) {
        this.#step();
        if (!equal(this.#graph, id, other)) continue;
        canonical = this.#resolve(other);
        break;
      }
      this.#map[id] = canonical;
    }
    if (canonical === id) table.add(hash, id);
  }

  #enum(id: number, table: Table): void {
    const graph = this.#graph;
    const hash = compare.hashName(graph, id);
    const own = id >= this.#btf.startId;
    let canonical = id;
    if (own) {
      for (const other of table.get(hash)) {
        this.#step();
        if (compare.equalWords(graph, id, other)) {
          canonical = this.#resolve(other);
          break;
        }
        if (!compare.compatibleEnums(graph, id, other)) continue;
        if (this.#vlen(id) === 0) {
          canonical = this.#resolve(other);
          break;
        }
        // The whole enum after its forward declaration.
        if (this.#vlen(other) === 0 && other >= this.#btf.startId) this.#map[other] = id;
      }
      this.#map[id] = canonical;
    }
    if (canonical === id) table.add(hash, id);
  }

  /** Step 3. */
  #structs(): void {
    const table = new Table();
    this.#each((id, kind) => {
      if (!k.isComposite(kind)) return;
      const own = id >= this.#btf.startId;
      if (own && this.#mapped(id)) return;
      const hash = compare.hashStruct(this.#graph, id);
      let canonical = id;
      if (own) {
        for (const other of table.get(hash)) {
          this.#step();
          if (!compare.shallowEqualStructs(this.#graph, id, other)) continue;
          if (!this.#equivalent(id, other)) continue;
          this.#mergeHypotheses();
          canonical = other;
          break;
        }
        this.#map[id] = canonical;
      }
      if (canonical === id) table.add(hash, id);
    });
  }

  /**
   * Whether a candidate's graph is that of a canonical type. Every pair of types that must be the same is looked at once;
   * a pair that is being looked at is taken to be the same.
   */
  #equivalent(candidate: number, canonical: number): boolean {
    const graph = this.#graph;
    this.#hypotheses.clear();
    const pairs: number[] = [candidate, canonical];
    const push = (a: number, b: number): void => {
      pairs.push(a, b);
    };
    while (pairs.length > 0) {
      this.#step();
      let canon = pairs.pop()!;
      const cand = pairs.pop()!;
      if (this.#resolve(cand) === this.#resolve(canon)) continue;
      if (this.#kind(canon) === k.BTF_KIND_FWD) canon = this.#resolve(canon);
      const assumed = this.#hypotheses.get(canon);
      if (assumed !== undefined) {
        // One unit may have the same array, struct or pointer twice.
        if (assumed === cand || identical(graph, assumed, cand, () => this.#step())) continue;
        return false;
      }
      this.#hypotheses.set(canon, cand);
      if (graph.word(cand, 0) !== graph.word(canon, 0)) return false;
      const candKind = this.#kind(cand);
      const canonKind = this.#kind(canon);
      if (candKind !== canonKind && (candKind === k.BTF_KIND_FWD || canonKind === k.BTF_KIND_FWD)) {
        const [forward, real] = candKind === k.BTF_KIND_FWD ? [cand, canonKind] : [canon, candKind];
        const union = k.infoKindFlag(graph.word(forward, 1));
        if (real !== (union ? k.BTF_KIND_UNION : k.BTF_KIND_STRUCT)) return false;
        continue;
      }
      if (!compare.sameShape(graph, cand, canon, push)) return false;
    }
    return true;
  }

  /** The hypotheses held: structs of the candidate's graph become those of the canonical one, forwards become structs. */
  #mergeHypotheses(): void {
    const start = this.#btf.startId;
    for (const [canonical, candidate] of this.#hypotheses) {
      const c = this.#resolve(canonical);
      const t = this.#resolve(candidate);
      if (c === t) continue;
      const cForward = this.#kind(c) === k.BTF_KIND_FWD;
      const tForward = this.#kind(t) === k.BTF_KIND_FWD;
      if (!tForward && cForward && c >= start) this.#map[c] = t;
      else if (tForward && !cForward && t >= start) this.#map[t] = c;
      if (k.isComposite(this.#kind(t)) && !cForward && this.#mapped(c) && !this.#mapped(t)) this.#map[t] = c;
    }
  }

  /** Step 4: a forward declaration is the only struct (or union) of its name. */
  #forwards(): void {
    const unique = new Map<number, number>();
    this.#each((id, kind) => {
      const name = this.#graph.word(id, 0);
      if (!k.isComposite(kind) || name === 0 || this.#resolve(id) !== id) return;
      unique.set(name, unique.has(name) ? 0 : id);
    });
    this.#each((id, kind) => {
      if (kind !== k.BTF_KIND_FWD || id < this.#btf.startId || this.#map[id] !== id) return;
      const struct = unique.get(this.#graph.word(id, 0));
      if (struct === undefined || struct === 0) return;
      const union = k.infoKindFlag(this.#graph.word(id, 1));
      if (this.#kind(struct) === (union ? k.BTF_KIND_UNION : k.BTF_KIND_STRUCT)) this.#map[id] = struct;
    });
  }

  /** Step 5: from what refers to nothing new to what refers to it. */
  #references(): void {
    const table = new Table();
    const { words, offsets } = this.#graph;
    const stack: number[] = [];
    for (let first = 1; first < this.#btf.typeCount; first++) {
      if (first < this.#btf.startId) {
        const kind = this.#kind(first);
        if (isReference(kind)) table.add(compare.hashWords(this.#graph, first), first);
        continue;
      }
      if (this.#mapped(first)) continue;
      stack.push(first);
      while (stack.length > 0) {
        const id = stack.at(-1)!;
        if (this.#mapped(id)) {
          stack.pop();
          continue;
        }
        this.#step();
        this.#map[id] = IN_PROGRESS;
        let waits = false;
        this.#eachRef(id, (ref) => {
          if (this.#mapped(ref)) return;
          if (this.#map[ref] === IN_PROGRESS) {
            throw new BtfError(`${this.#btf.label(ref)} refers to itself`, { typeId: ref, errno: 'EEXIST' });
          }
          stack.push(ref);
          waits = true;
        });
        if (waits) continue;
        const at = offsets[id]!;
        forEachTypeWord(this.#kind(id), this.#vlen(id), (word) => {
          words[at + word] = this.#resolve(words[at + word]!);
        });
        this.#unify(id, table, compare.hashWords, compare.equalWords);
        stack.pop();
      }
    }
  }

  #eachRef(id: number, visit: (ref: number) => void): void {
    forEachTypeWord(this.#kind(id), this.#vlen(id), (word) => visit(this.#graph.word(id, word)));
  }

  /** Step 6. */
  #compact(): DedupResult {
    const { words, offsets } = this.#graph;
    const btf = this.#btf;
    const ids = new Uint32Array(btf.typeCount);
    let next = Math.max(1, btf.startId);
    for (let id = 0; id < btf.typeCount; id++) {
      if (id < Math.max(1, btf.startId)) ids[id] = id;
      else if (this.#resolve(id) === id) ids[id] = next++;
    }
    for (let id = 1; id < btf.typeCount; id++) ids[id] = ids[this.#resolve(id)]!;
    const out: Uint32Array = new Uint32Array(words.length);
    let length = 0;
    for (let id = Math.max(1, btf.startId); id < btf.typeCount; id++) {
      if (this.#resolve(id) !== id) continue;
      const at = offsets[id]!;
      const start = length;
      const count = wordCount(this.#kind(id), this.#vlen(id));
      out.set(words.subarray(at, at + count), length);
      length += count;
      forEachTypeWord(this.#kind(id), this.#vlen(id), (word) => {
        out[start + word] = ids[out[start + word]!]!;
      });
    }
    const bytes = encodeBtf(out.subarray(0, length), this.#strings.bytes, true);
    return { btf: parseBtf(bytes, btf.base), ids };
  }
}

function isReference(kind: number): boolean {
  return (
    k.isModifier(kind) ||
    kind === k.BTF_KIND_PTR ||
    kind === k.BTF_KIND_TYPEDEF ||
    kind === k.BTF_KIND_ARRAY ||
    kind === k.BTF_KIND_FUNC ||
    kind === k.BTF_KIND_FUNC_PROTO ||
    kind === k.BTF_KIND_DECL_TAG
  );
}

/** Every string of a BTF with its offset. */
function* allStrings(btf: Btf): Generator<[string, number], void, undefined> {
  if (btf.base !== undefined) yield* allStrings(btf.base);
  const start = btf.base?.stringsEnd ?? 0;
  for (let at = 0; at < btf.strings.length; at = btf.strings.indexOf(0, at) + 1) {
    yield [btf.string(start + at), start + at];
  }
}

/**
 * Leaves each type once, and strings that no type uses out (btf__dedup). The types of a base stay as they are, and those of
 * split BTF that the base has become the base's. Throws BtfError for types that refer to themselves.
 */
export function dedupBtf(btf: Btf): DedupResult {
  checkArgument('dedupBtf()', 'btf', btf, aBtf);
  return new Dedup(btf).run();
}
