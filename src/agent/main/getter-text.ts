/**
 * Getters that do nothing but read: `get url() { return this.raw.url }`. What they return follows from their text alone, so it is
 * read instead of running them. The text is scanned by hand: a regular expression would change the application's `RegExp.$1`.
 */
import { charCodeAt, slice } from './intrinsics.ts';

/** One step of `this.a?.b[0]`. */
export interface Step {
  readonly key: string | number;
  /** Behind `?.`: nothing more is read of null and undefined. */
  readonly optional: boolean;
}

/** Longer texts are not looked at. */
const MAX_TEXT = 500;

/** What a getter with this text reads of `this`; undefined where it may do anything else. */
export function getterSteps(text: string): Step[] | undefined {
  if (text.length > MAX_TEXT) return undefined;
  let at = 0;

  /** White space and comments; `line`: within the line. */
  function skip(line: boolean): void {
    for (;;) {
      const c = charCodeAt(text, at);
      if (c === 32 || c === 9 || (!line && (c === 10 || c === 13))) at++;
      else if (!line && c === 47 && charCodeAt(text, at + 1) === 42) {
        at += 2;
        while (at < text.length && !(charCodeAt(text, at) === 42 && charCodeAt(text, at + 1) === 47)) at++;
        at += 2;
      } else if (!line && c === 47 && charCodeAt(text, at + 1) === 47) {
        while (at < text.length && !endsLine(charCodeAt(text, at))) at++;
      } else return;
    }
  }

  function take(token: string): boolean {
    if (slice(text, at, at + token.length) !== token) return false;
    at += token.length;
    return true;
  }

  /** An identifier of ASCII letters; '' where there is none. */
  function word(): string {
    const start = at;
    while (isWord(charCodeAt(text, at), at > start)) at++;
    return slice(text, start, at);
  }

  /** `'text'` or `"text"` without escapes; undefined for others. */
  function quoted(): string | undefined {
    const quote = text[at];
    if (quote !== "'" && quote !== '"') return undefined;
    const start = at + 1;
    for (let end = start; end < text.length; end++) {
      const c = text[end]!;
      if (c === '\\' || c === '\n' || c === '\r') return undefined;
      if (c !== quote) continue;
      at = end + 1;
      return slice(text, start, end);
    }
    return undefined;
  }

  /** An array index in decimal digits. */
  function index(): number | undefined {
    const start = at;
    for (let c = charCodeAt(text, at); c >= 48 && c <= 57; c = charCodeAt(text, at)) at++;
    const digits = slice(text, start, at);
    if (digits.length === 0 || digits.length > 9 || (digits.length > 1 && digits[0] === '0'))
      return undefined;
    return +digits;
  }

  // `get url()`, `url()`, `function url()`: no other word may stand there, `async` least of all
  const first = word();
  skip(false);
  if (first === 'get' || first === 'function') word();
  skip(false);
  if (!take('(')) return undefined;
  skip(false);
  if (!take(')')) return undefined;
  skip(false);
  if (!take('{')) return undefined;
  skip(false);
  if (quoted() !== undefined) {
    skip(false);
    take(';');
    skip(false);
  }
  if (word() !== 'return') return undefined;
  // `return` and a new line return nothing
  skip(true);
  if (word() !== 'this') return undefined;
  const steps: Step[] = [];
  for (;;) {
    skip(false);
    const optional = take('?.');
    if (optional) skip(false);
    let key: string | number | undefined;
    if (take('[')) {
      skip(false);
      key = quoted() ?? index();
      skip(false);
      if (!take(']')) return undefined;
    } else if (optional || take('.')) {
      skip(false);
      key = word();
      if (key === '') return undefined;
    } else break;
    if (key === undefined) return undefined;
    steps[steps.length] = { key, optional };
  }
  take(';');
  skip(false);
  return take('}') && at === text.length ? steps : undefined;
}

/** A letter, `_` or `$`; a digit too behind the first. */
function isWord(c: number, behind: boolean): boolean {
  return (
    (c >= 97 && c <= 122) || (c >= 65 && c <= 90) || c === 95 || c === 36 || (behind && c >= 48 && c <= 57)
  );
}

function endsLine(c: number): boolean {
  return c === 10 || c === 13 || c === 0x2028 || c === 0x2029;
}
