/** Levenshtein distance of two strings; stops counting above `limit`. */
export function editDistance(a: string, b: string, limit: number): number {
  if (Math.abs(a.length - b.length) > limit) return limit + 1;
  let previous = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 1; i <= a.length; i++) {
    const current = [i];
    let best = i;
    for (let j = 1; j <= b.length; j++) {
      const cost = a[i - 1] === b[j - 1] ? 0 : 1;
      let distance = Math.min(previous[j]! + 1, current[j - 1]! + 1, previous[j - 1]! + cost);
      // Two letters swapped are one slip.
      if (i > 1 && j > 1 && cost === 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) {
        distance = Math.min(distance, previous[j - 1]!);
      }
      current.push(distance);
      best = Math.min(best, distance);
    }
    if (best > limit) return limit + 1;
    previous = current;
  }
  return previous[b.length]!;
}

/**
 * The name most like `name`, letter case aside, or undefined when none is near: at most a third of the letters may
 * differ (at least one). Of equally near names one of the same length wins, then the first.
 */
export function similarName(name: string, candidates: Iterable<string>): string | undefined {
  const wanted = name.toLowerCase();
  const limit = Math.max(1, Math.floor(wanted.length / 3));
  let found: string | undefined;
  let best = Number.POSITIVE_INFINITY;
  for (const candidate of candidates) {
    if (candidate === name) continue;
    const distance = editDistance(wanted, candidate.toLowerCase(), limit);
    const score = distance * 2 + (candidate.length === name.length ? 0 : 1);
    if (distance <= limit && score < best) {
      found = candidate;
      best = score;
    }
  }
  return found;
}

/** `did you mean NAME?`, or undefined. `prefix` is put before the name (`@`, `$`, `args.`). */
export function didYouMean(name: string, candidates: Iterable<string>, prefix = ''): string | undefined {
  const found = similarName(name, candidates);
  return found === undefined ? undefined : `did you mean ${prefix}${found}?`;
}
