/** When two types of one graph are the same, each way that deduplication needs it. */
import { forEachTypeWord, isTypeWord, wordCount } from './fields.ts';
import * as k from './kinds.ts';

/** Types as words that may be rewritten. Names are the same where their offsets are. */
export interface TypeGraph {
  readonly words: Uint32Array;
  readonly offsets: Uint32Array;
  word(id: number, index: number): number;
}

const mix = (hash: number, word: number): number => Math.imul(hash ^ word, 0x9e3779b1) ^ (hash >>> 15);

const kindOf = (graph: TypeGraph, id: number): number => k.infoKind(graph.word(id, 1));
const vlenOf = (graph: TypeGraph, id: number): number => k.infoVlen(graph.word(id, 1));
const countOf = (graph: TypeGraph, id: number): number => wordCount(kindOf(graph, id), vlenOf(graph, id));

/** Of all words. */
export function hashWords(graph: TypeGraph, id: number): number {
  let hash = 1;
  const count = countOf(graph, id);
  for (let i = 0; i < count; i++) hash = mix(hash, graph.word(id, i));
  return hash;
}

export function equalWords(graph: TypeGraph, a: number, b: number): boolean {
  if (graph.word(a, 1) !== graph.word(b, 1)) return false;
  const count = countOf(graph, a);
  for (let i = 0; i < count; i++) if (graph.word(a, i) !== graph.word(b, i)) return false;
  return true;
}

export function hashName(graph: TypeGraph, id: number): number {
  return mix(2, graph.word(id, 0));
}

/** One of two enums is a forward declaration of the other; their widths do not matter then. */
export function compatibleEnums(graph: TypeGraph, a: number, b: number): boolean {
  if (vlenOf(graph, a) > 0 && vlenOf(graph, b) > 0) return equalWords(graph, a, b);
  return (
    graph.word(a, 0) === graph.word(b, 0) && k.isAnyEnum(kindOf(graph, a)) && k.isAnyEnum(kindOf(graph, b))
  );
}

/** Of a struct's name, size and the names and places of its members, not of their types. */
export function hashStruct(graph: TypeGraph, id: number): number {
  let hash = mix(mix(mix(3, graph.word(id, 0)), graph.word(id, 1)), graph.word(id, 2));
  const count = vlenOf(graph, id);
  for (let i = 0; i < count; i++) hash = mix(mix(hash, graph.word(id, 3 + 3 * i)), graph.word(id, 5 + 3 * i));
  return hash;
}

export function shallowEqualStructs(graph: TypeGraph, a: number, b: number): boolean {
  for (let i = 0; i < 3; i++) if (graph.word(a, i) !== graph.word(b, i)) return false;
  const count = vlenOf(graph, a);
  for (let i = 0; i < count; i++) {
    if (graph.word(a, 3 + 3 * i) !== graph.word(b, 3 + 3 * i)) return false;
    if (graph.word(a, 5 + 3 * i) !== graph.word(b, 5 + 3 * i)) return false;
  }
  return true;
}

/** The same words but for the ids of other types. */
function equalButTypes(graph: TypeGraph, a: number, b: number): boolean {
  const info = graph.word(a, 1);
  if (info !== graph.word(b, 1) || graph.word(a, 0) !== graph.word(b, 0)) return false;
  const kind = k.infoKind(info);
  const count = wordCount(kind, k.infoVlen(info));
  for (let i = 2; i < count; i++) {
    if (!isTypeWord(kind, i) && graph.word(a, i) !== graph.word(b, i)) return false;
  }
  return true;
}

/**
 * Whether two types may be the same as far as they themselves go; `push` gets the pairs of types that they refer to, which
 * must be the same too.
 */
export function sameShape(
  graph: TypeGraph,
  a: number,
  b: number,
  push: (a: number, b: number) => void,
): boolean {
  const kind = kindOf(graph, a);
  if (k.isAnyEnum(kind) && k.isAnyEnum(kindOf(graph, b))) return compatibleEnums(graph, a, b);
  if (kind !== kindOf(graph, b)) return false;
  if (k.isComposite(kind) ? !shallowEqualStructs(graph, a, b) : !equalButTypes(graph, a, b)) return false;
  forEachTypeWord(kind, vlenOf(graph, a), (word) => push(graph.word(a, word), graph.word(b, word)));
  return true;
}

/**
 * Whether two types of one compilation unit are copies of each other, as far as sixteen types deep. `step` is called for
 * each pair that is compared, and throws when there are too many.
 */
export function identical(graph: TypeGraph, a: number, b: number, step: () => void, depth = 16): boolean {
  if (a === b) return true;
  step();
  if (depth === 0 || !equalButTypes(graph, a, b)) return false;
  let same = true;
  forEachTypeWord(kindOf(graph, a), vlenOf(graph, a), (word) => {
    same &&= identical(graph, graph.word(a, word), graph.word(b, word), step, depth - 1);
  });
  return same;
}
