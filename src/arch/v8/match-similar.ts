/** The nearest name, for hints. */

/** The item whose text is nearest to `wanted`, if it is near enough to be meant: edits up to a third of its length. */
export function nearest<T>(wanted: string, items: Iterable<T>, textOf: (item: T) => string): T | undefined {
  const lower = wanted.toLowerCase();
  let best: T | undefined;
  let least = Math.max(1, Math.floor(wanted.length / 3)) + 1;
  const seen = new Set<string>();
  for (const item of items) {
    const text = textOf(item);
    if (text === '' || seen.has(text)) continue;
    seen.add(text);
    const other = text.toLowerCase();
    // `handle` for `handleRequest`: a whole prefix is nearer than any misspelling but one
    const prefix = lower.length >= 3 && (other.startsWith(lower) || lower.startsWith(other));
    const distance = prefix && other.length >= 3 ? 1.5 : editDistance(lower, other, least);
    if (distance < least) {
      least = distance;
      best = item;
    }
  }
  return best;
}

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
  return row[b.length]!;
}
