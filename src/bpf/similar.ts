/** The nearest name, for hints: of functions, files, options, variables. */

/** Damerau's distance of neighbours swapped, letters added, lost or changed; `limit` or more is `limit`. */
export function editDistance(a: string, b: string, limit: number): number {
  if (Math.abs(a.length - b.length) >= limit) return limit;
  let before: number[] = [];
  let row = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    let least = i;
    for (let j = 1; j <= b.length; j++) {
      const same = a[i - 1] === b[j - 1];
      let d = Math.min(row[j]! + 1, next[j - 1]! + 1, row[j - 1]! + (same ? 0 : 1));
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1])
        d = Math.min(d, before[j - 2]! + 1);
      next.push(d);
      if (d < least) least = d;
    }
    if (least >= limit) return limit;
    before = row;
    row = next;
  }
  return Math.min(row[b.length]!, limit);
}

/**
 * The item whose text is nearest to `wanted`, letter case aside, if it is near enough to be meant: at most a third of the
 * letters may differ (at least one). `handle` stands for `handleRequest`, too: a whole prefix is nearer than any misspelling
 * but one. Of equally near texts one of the same length wins, then the first. `wanted` itself is no answer.
 */
export function nearest<T>(wanted: string, items: Iterable<T>, textOf: (item: T) => string): T | undefined {
  const lower = wanted.toLowerCase();
  const limit = Math.max(1, Math.floor(wanted.length / 3)) + 1;
  let best: T | undefined;
  let least = Number.POSITIVE_INFINITY;
  const seen = new Set(['', wanted]);
  for (const item of items) {
    const text = textOf(item);
    if (seen.has(text)) continue;
    seen.add(text);
    const other = text.toLowerCase();
    const shortest = Math.min(lower.length, other.length);
    const prefix = shortest >= 3 && (other.startsWith(lower) || lower.startsWith(other));
    const distance = Math.min(editDistance(lower, other, limit), prefix ? 1.5 : limit);
    if (distance >= limit) continue;
    const score = distance + (other.length === lower.length ? 0 : 0.25);
    if (score >= least) continue;
    least = score;
    best = item;
  }
  return best;
}

/** The name most like `name`, or undefined when none is near. */
export const similarName = (name: string, candidates: Iterable<string>): string | undefined =>
  nearest(name, candidates, (candidate) => candidate);

/** `did you mean NAME?`, or undefined. `prefix` is put before the name (`@`, `$`, `args.`). */
export function didYouMean(name: string, candidates: Iterable<string>, prefix = ''): string | undefined {
  const found = similarName(name, candidates);
  return found === undefined ? undefined : `did you mean ${prefix}${found}?`;
}
