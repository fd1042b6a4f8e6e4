/** Texts that live edits have replaced: V8 lists them, as scripts of their own, until it collects them. */

import type { ScriptInfo } from '../arch/v8/types.ts';
import { ANONYMOUS } from './text-space.ts';

/** A hook in a text that a session has edited. */
const EDITED = /\$tl[0-9a-f]{12}_\d+[erstb]\(/;

/**
 * IDs of scripts that a live edit has left behind. V8 numbers scripts as they are made, and lists them in that order. Of an edited one
 * it makes a new script, which is the last of its list and takes the ID of the old one; the old one keeps its place and
 * gets the new ID. So it is before scripts that are older than its ID, and before the script that has taken its own; and a script
 * behind one that is younger, and in its place, is one that was moved there: it runs.
 * @param scripts All of the process's, in V8's order.
 */
export function replacedScripts(scripts: readonly ScriptInfo[]): Set<string> {
  const ids = scripts.map(({ scriptId }) => Number(scriptId));
  const inOrder = mayBeInOrder(ids);
  const lowestBehind = new Map<string, number>();
  const replaced = new Set<string>();
  let highest = 0;
  const isMoved = ids.map((id, index) => {
    if (inOrder[index]) highest = Math.max(highest, id);
    return id < highest;
  });
  for (let index = scripts.length - 1; index >= 0; index--) {
    const script = scripts[index] as ScriptInfo;
    const id = ids[index] as number;
    const lowest = lowestBehind.get(script.url) ?? Number.POSITIVE_INFINITY;
    if (lowest < id && !inOrder[index] && !isMoved[index]) replaced.add(script.scriptId);
    lowestBehind.set(script.url, Math.min(lowest, id));
  }
  return replaced;
}

/** For each number, whether it is part of a longest rising row of them. */
function mayBeInOrder(numbers: readonly number[]): boolean[] {
  const before = rowsBefore(numbers);
  const behind = rowsBefore(numbers.map((number) => -number).reverse()).reverse();
  const longest = before.reduce((most, length) => Math.max(most, length), 0);
  return numbers.map((_, index) => (before[index] as number) + (behind[index] as number) - 1 === longest);
}

/** For each number, the length of the longest rising row that ends with it. */
function rowsBefore(numbers: readonly number[]): number[] {
  /** The least number with which a row of each length ends. */
  const ends: number[] = [];
  return numbers.map((number) => {
    let low = 0;
    let high = ends.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((ends[middle] as number) < number) low = middle + 1;
      else high = middle;
    }
    ends[low] = number;
    return low + 1;
  });
}

/**
 * The scripts without those that edits of ours have left: texts that V8 refused to put in have a place and an ID as if they had been
 * loaded. The script itself has the lowest ID of its url. Without the mark of an edit, scripts of one url are modules that
 * were loaded more than once, and so are those that are older than what the first edit that is known of has left. Younger ones of the
 * same text are in doubt: dropped, and told. Texts without a name are told apart by `replacedScripts` alone.
 */
export function dropLeftovers(
  scripts: readonly ScriptInfo[],
  sources: readonly string[],
  replaced: ReadonlySet<string>,
): { readonly live: ReadonlySet<ScriptInfo>; readonly doubtful: readonly ScriptInfo[] } {
  const doubtful: ScriptInfo[] = [];
  const kept = new Set(scripts.filter(({ scriptId }) => !replaced.has(scriptId)));
  const byUrl = new Map<string, number[]>();
  for (const [index, { url }] of scripts.entries())
    if (url !== ANONYMOUS) byUrl.set(url, [...(byUrl.get(url) ?? []), index]);
  for (const indexes of byUrl.values()) {
    if (indexes.length < 2 || !indexes.some((index) => EDITED.test(sources[index] ?? ''))) continue;
    const [live = 0] = [...indexes].sort(
      (a, b) => Number(scripts[a]?.scriptId) - Number(scripts[b]?.scriptId),
    );
    const { hash } = scripts[live]!;
    const left = indexes.filter(
      (index) =>
        index !== live && (replaced.has(scripts[index]!.scriptId) || EDITED.test(sources[index] ?? '')),
    );
    const first = Math.min(...left.map((index) => Number(scripts[index]!.scriptId)));
    for (const index of indexes) {
      const stale = scripts[index]!;
      if (index === live || Number(stale.scriptId) < first) continue;
      const isEdited = EDITED.test(sources[index] ?? '');
      if (stale.hash !== hash && !isEdited) continue;
      if (kept.delete(stale) && !isEdited) doubtful.push(stale);
    }
  }
  return { live: kept, doubtful };
}
