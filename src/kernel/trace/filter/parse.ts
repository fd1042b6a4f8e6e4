/** Filter expressions: predicate_parse() and calc_stack() of kernel/trace/trace_events_filter.c. Strings are byte strings. */
import { isSpace } from '../c-text.ts';
import type { TraceEventCall } from '../trace-event.ts';
import type { Tracing } from '../tracing.ts';
import { FilterParseError } from './filter-errors.ts';
import { parsePredicate } from './parse-predicate.ts';
import type { FilterPredicate, FilterStep } from './predicate.ts';

/** process_preds(): the program of a filter for an event. Throws FilterParseError. */
export function parseFilter(tracing: Tracing, call: TraceEventCall, text: string): FilterStep[] {
  const { depth, predicates } = countTerms(text);
  if (predicates === 0) throw new FilterParseError('EINVAL');
  return new ExpressionParser(text, depth, predicates, (at) =>
    parsePredicate(tracing, call, text, at),
  ).parse();
}

/** calc_stack(): how many predicates there are at most, and how deep the parentheses go (1 without any). */
function countTerms(text: string): { depth: number; predicates: number } {
  let inPredicate = false;
  let predicates = 0;
  let open = 1;
  let depth = 1;
  let quote = '';
  let lastQuote = 0;
  for (let i = 0; i < text.length; i++) {
    const char = text[i] as string;
    if (isSpace(char)) continue;
    if (quote !== '') {
      if (char === quote) quote = '';
      continue;
    }
    if (char === "'" || char === '"') {
      quote = char;
      lastQuote = i;
    } else if ((char === '|' || char === '&') && text[i + 1] === char) {
      inPredicate = false;
      continue;
    } else if (char === '(') {
      inPredicate = false;
      depth = Math.max(depth, ++open);
      continue;
    } else if (char === ')') {
      inPredicate = false;
      if (open === 1) throw new FilterParseError('EPERM', 'TOO_MANY_CLOSE', i);
      open--;
      continue;
    }
    if (!inPredicate) predicates++;
    inPredicate = true;
  }
  // The numbers of calc_stack()'s answers reach the user as errno: -1, -2, -3.
  if (quote !== '') throw new FilterParseError('ESRCH', 'MISSING_QUOTE', lastQuote);
  if (open !== 1) throw new FilterParseError('ENOENT', 'TOO_MANY_OPEN', unclosed(text, open));
  return { depth, predicates };
}

/** Where the parenthesis is that nothing closes. */
function unclosed(text: string, open: number): number {
  let level = open;
  let quote = '';
  for (let i = text.length - 1; i > 0; i--) {
    const char = text[i] as string;
    if (quote !== '') {
      if (char === quote) quote = '';
    } else if (char === '(') {
      if (level === open) return i;
      level--;
    } else if (char === ')') {
      level++;
    } else if (char === "'" || char === '"') {
      quote = char;
    }
  }
  return 0;
}

/** What is pending within a pair of parentheses. */
interface Level {
  readonly invert: boolean;
  and: boolean;
  or: boolean;
}

class ExpressionParser {
  readonly #text: string;
  readonly #depth: number;
  readonly #max: number;
  readonly #parse: (at: number) => { predicate: FilterPredicate; length: number };
  readonly #steps: FilterStep[] = [];
  readonly #inverts: boolean[] = [];
  readonly #levels: Level[] = [{ invert: false, and: false, or: false }];
  #at = 0;
  #invert = false;

  constructor(
    text: string,
    depth: number,
    max: number,
    parse: (at: number) => { predicate: FilterPredicate; length: number },
  ) {
    this.#text = text;
    this.#depth = depth;
    this.#max = max;
    this.#parse = parse;
  }

  parse(): FilterStep[] {
    const text = this.#text;
    let complete = false;
    while (!complete && this.#at < text.length) {
      const at = this.#at++;
      const char = text[at] as string;
      if (isSpace(char)) continue;
      if (char === '(') {
        if (this.#levels.length >= this.#depth) throw new FilterParseError('EINVAL');
        this.#levels.push({ invert: this.#invert, and: false, or: false });
        continue;
      }
      if (char === '!' && text[at + 1] !== '=' && text[at + 1] !== '~') {
        this.#invert = !this.#invert;
        continue;
      }
      this.#term(at);
      complete = this.#operators();
    }
    const { length } = this.#steps;
    if (!complete && length > 0) throw new FilterParseError('EINVAL', 'INVALID_FILTER', this.#at);
    if (this.#levels.length > 1) throw new FilterParseError('EPERM', 'TOO_MANY_OPEN', this.#at);
    if (length === 0) throw new FilterParseError('EINVAL', 'NO_FILTER', this.#at);
    return this.#finish();
  }

  #term(at: number): void {
    const n = this.#steps.length;
    // The kernel's ret is what it was: -ENOMEM at first, -1 behind a predicate.
    if (n >= this.#max) throw new FilterParseError(n === 0 ? 'ENOMEM' : 'EPERM', 'TOO_MANY_PREDS', at);
    this.#inverts.push(this.#invert);
    const { predicate, length } = this.#parse(at);
    this.#steps.push({ predicate, target: n - 1, whenToBranch: false });
    this.#at = at + length;
  }

  /** What follows a predicate. True at the end of the text. */
  #operators(): boolean {
    const text = this.#text;
    for (;;) {
      const at = this.#at++;
      const char = text[at] ?? '';
      if (isSpace(char)) continue;
      const pair = (char === '&' || char === '|') && text[at + 1] === char;
      if (pair) this.#at++;
      else if (char !== ')' && char !== '') throw new FilterParseError('EPERM', 'TOO_MANY_PREDS', at);
      const level = this.#levels.at(-1) as Level;
      this.#invert = level.invert;
      if (level.and) this.#link(level.invert);
      level.and = char === '&';
      if (char === '&') return false;
      if (level.or) this.#link(!level.invert);
      level.or = char === '|';
      if (char === '|') return false;
      if (char === '') return true;
      if (this.#levels.length === 1) throw new FilterParseError('EPERM', 'TOO_MANY_CLOSE', this.#at);
      this.#levels.pop();
    }
  }

  /** update_preds(): the last step decides for an earlier one; its own target is what that one had. */
  #link(whenToBranch: boolean): void {
    const steps = this.#steps;
    const last = steps[steps.length - 1] as FilterStep;
    const earlier = steps[last.target] as FilterStep;
    const saved = earlier.target;
    earlier.whenToBranch = whenToBranch;
    earlier.target = steps.length - 1;
    last.target = saved;
  }

  #finish(): FilterStep[] {
    const steps = this.#steps;
    const n = steps.length;
    const last = steps[n - 1] as FilterStep;
    last.target = n;
    last.whenToBranch = false;
    for (let i = n - 2; i >= 0; i--) {
      const step = steps[i] as FilterStep;
      const target = steps[step.target];
      if (target !== undefined && step.whenToBranch === target.whenToBranch) step.target = target.target;
    }
    for (const [i, step] of steps.entries()) step.whenToBranch = step.whenToBranch !== this.#inverts[i];
    return steps;
  }
}
