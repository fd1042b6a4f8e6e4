/** glob_match() (lib/glob.c): `*`, `?`, `[a-z]`, `[!a-z]`, and `\` in front of what stands for itself. */
export function globMatch(pattern: string, text: string): boolean {
  let p = 0;
  let t = 0;
  // Where to go back to when what follows the last `*` does not fit: one character more for the `*`.
  let star = -1;
  let from = 0;
  while (t < text.length) {
    const next = p < pattern.length ? one(pattern, p, text[t]!) : -1;
    if (p < pattern.length && pattern[p] === '*') {
      star = ++p;
      from = t;
    } else if (next > 0) {
      p = next;
      t++;
    } else if (star >= 0) {
      p = star;
      t = ++from;
    } else return false;
  }
  while (pattern[p] === '*') p++;
  return p === pattern.length;
}

/** Where the pattern goes on behind one character that fits; -1 when it does not. */
function one(pattern: string, p: number, char: string): number {
  switch (pattern[p]) {
    case '?':
      return p + 1;
    case '\\':
      return pattern[p + 1] === char ? p + 2 : -1;
    case '[': {
      const close = pattern.indexOf(']', p + 2 + (pattern[p + 1] === '!' ? 1 : 0));
      if (close < 0) return char === '[' ? p + 1 : -1;
      let set = pattern.slice(p + 1, close);
      const inverted = set.startsWith('!');
      if (inverted) set = set.slice(1);
      return inSet(set, char) === inverted ? -1 : close + 1;
    }
    default:
      return pattern[p] === char ? p + 1 : -1;
  }
}

function inSet(set: string, char: string): boolean {
  for (let n = 0; n < set.length; n++) {
    const low = set[n]!;
    if (set[n + 1] === '-' && n + 2 < set.length) {
      const high = set[n + 2]!;
      if (char >= low && char <= high) return true;
      n += 2;
    } else if (char === low) return true;
  }
  return false;
}
