/** String patterns of filters (filter_parse_regex() and regex_match_*(), kernel/trace/trace_events_filter.c). */

/** A pattern ready to match. Strings are byte strings and end before the first NUL. */
export interface Regex {
  /** `length` is that of the field with its NUL, as the kernel knows it; 0 where it does not. */
  match(text: string, length: number): boolean;
  /** The pattern began with `!`. */
  readonly not: boolean;
  /** Where it asks for one text, or for what texts begin with: that. */
  readonly plain?: { readonly text: string; readonly whole: boolean };
}

const full = (pattern: string): Regex['match'] => {
  return (text, length) => {
    if (length === 0) return text === pattern;
    return length >= pattern.length && text.slice(0, length) === pattern.slice(0, length);
  };
};

const front = (pattern: string): Regex['match'] => {
  return (text, length) => !(length !== 0 && length < pattern.length) && text.startsWith(pattern);
};

const middle = (pattern: string): Regex['match'] => {
  return (text, length) => (length === 0 ? text : text.slice(0, length)).includes(pattern);
};

/** The end is where the field's length says it is, not where the first NUL is. */
const end = (pattern: string): Regex['match'] => {
  return (text, length) => {
    const at = length - 1;
    if (at < pattern.length) return false;
    return text.padEnd(at, '\0').slice(at - pattern.length, at) === pattern;
  };
};

/** `==` and `!=`: the whole string. */
export function literalRegex(pattern: string): Regex {
  return { match: full(pattern), not: false, plain: { text: pattern, whole: true } };
}

/** `~`: globs, with cheaper forms for `*` at the ends. */
export function globRegex(pattern: string): Regex {
  const not = pattern.startsWith('!');
  const search = not ? pattern.slice(1) : pattern;
  return { ...matcher(search), not };
}

type Matcher = Omit<Regex, 'not'>;

const wholeMatcher = (text: string): Matcher => ({ match: full(text), plain: { text, whole: true } });
const frontMatcher = (text: string): Matcher => ({ match: front(text), plain: { text, whole: false } });

function matcher(pattern: string): Matcher {
  if (/^[0-9]/.test(pattern)) return wholeMatcher(pattern);
  const open = pattern.startsWith('*');
  const glob: Matcher = { match: (text, length) => globMatch(pattern, text.slice(0, length)) };
  for (let i = 0; i < pattern.length; i++) {
    const char = pattern[i] as string;
    if (char === '*') {
      if (i === 0) continue;
      if (i < pattern.length - 1) return glob;
      return open ? { match: middle(pattern.slice(1, i)) } : frontMatcher(pattern.slice(0, i));
    }
    if ('[?\\'.includes(char)) return glob;
  }
  return open ? { match: end(pattern.slice(1)) } : wholeMatcher(pattern);
}

/** glob_match() (lib/glob.c): `*`, `?`, `[a-z]`, `[!a-z]`, `\c`. A bracket that nothing closes is a character. */
export function globMatch(pattern: string, text: string): boolean {
  let p = 0;
  let t = 0;
  let retryPattern = -1;
  let retryText = 0;
  for (;;) {
    const c = text[t] ?? '\0';
    let d = pattern[p++] ?? '\0';
    t++;
    let matches: boolean | undefined;
    if (d === '?') {
      if (c === '\0') return false;
      continue;
    }
    if (d === '*') {
      if (p >= pattern.length) return true;
      retryPattern = p;
      retryText = --t;
      continue;
    }
    if (d === '[') {
      if (c === '\0') return false;
      const set = characterSet(pattern, p, c);
      if (set !== undefined) {
        matches = set.matches;
        if (matches) {
          p = set.end;
          continue;
        }
      }
    } else if (d === '\\') {
      d = pattern[p++] ?? '\0';
    }
    if (matches === undefined && c === d) {
      if (d === '\0') return true;
      continue;
    }
    if (c === '\0' || retryPattern < 0) return false;
    p = retryPattern;
    t = ++retryText;
  }
}

/** Whether a set that begins at `at`, behind its bracket, holds a character; undefined where nothing closes it. */
function characterSet(pattern: string, at: number, c: string): { matches: boolean; end: number } | undefined {
  const inverted = pattern[at] === '!';
  let i = inverted ? at + 1 : at;
  let found = false;
  let first = pattern[i++];
  do {
    if (first === undefined) return undefined;
    let last = first;
    if (pattern[i] === '-' && pattern[i + 1] !== ']') {
      const bound = pattern[i + 1];
      if (bound === undefined) return undefined;
      last = bound;
      i += 2;
    }
    if (first <= c && c <= last) found = true;
    first = pattern[i++];
  } while (first !== ']');
  return { matches: found !== inverted, end: i };
}
