/**
 * Makes a rewritten text one that V8's live edit understands (see live-edit-diff.ts), and says which functions it would lose.
 *
 * What encloses a body ends in `}catch(e){…}` in front of the function's own `}`, and V8 may take the first of the two
 * braces for the function's. Put behind the last statement instead, in front of the line's end, it has no such choice:
 * the blank or newline that comes before the last brace can only be the old one.
 */

import { changesTopLevel, liveEditChanges, lostFunctions, type TextSpan } from './live-edit-diff.ts';
import { functionSymbols } from './symbols.ts';
import type { ScriptInfo } from './types.ts';

export interface FunctionSpan extends TextSpan {
  readonly bodyStart: number;
  readonly bodyEnd: number;
  readonly expressionBody: boolean;
  readonly isArrow: boolean;
}

/** What may stand in front of a function's parameters besides names: comments, strings that name a method. */
const SKIPPED =
  /\/\*[\s\S]*?\*\/|\/\/[^\n\r\u2028\u2029]*|'(?:[^'\\]|\\[\s\S])*'|"(?:[^"\\]|\\[\s\S])*"|`(?:[^`\\]|\\[\s\S])*`/y;

/**
 * Where a function begins for V8 (FunctionLiteral::start_position): an arrow function at its first token, others at the
 * parenthesis of their parameters. A name in front of that is not part of it, and V8 may match its letters with others.
 */
export function literalStart(text: string, { start, bodyStart, isArrow }: FunctionSpan): number {
  if (isArrow) return start;
  let nested = 0;
  for (let i = start; i < bodyStart; i++) {
    SKIPPED.lastIndex = i;
    if (SKIPPED.test(text)) {
      i = SKIPPED.lastIndex - 1;
      continue;
    }
    const char = text[i];
    if (char === '[') nested++;
    else if (char === ']') nested--;
    else if (char === '(' && nested === 0) return i;
  }
  return start;
}

const literals = (text: string, functions: readonly FunctionSpan[]): TextSpan[] =>
  functions.map((span) => ({ start: literalStart(text, span), end: span.end }));

/**
 * Moves the closing text of the functions at `indexes` in front of the blanks before their last brace. The length
 * stays, and with it every other offset.
 */
export function tightenTails(
  original: string,
  before: readonly FunctionSpan[],
  edited: string,
  after: readonly FunctionSpan[],
  indexes: Iterable<number>,
): string {
  const order = [...new Set(indexes)].sort((a, b) => after[b]!.bodyEnd - after[a]!.bodyEnd);
  let text = edited;
  for (const index of order) {
    const old = before[index]!;
    const now = after[index]!;
    if (old.expressionBody) continue;
    const blanks = /[ \t\r\n]*$/.exec(original.slice(0, old.bodyEnd - 1))![0];
    const lead = original.slice(0, old.bodyEnd - 1 - blanks.length);
    // Behind a line comment the text would be part of it.
    if (blanks === '' || /\/\/[^\n]*$/.test(lead)) continue;
    const brace = now.bodyEnd - 1;
    const lastLine = blanks.slice(blanks.lastIndexOf('\n') + 1);
    const from = blanks.includes('\n')
      ? text.lastIndexOf('\n', brace) + 1 + lastLine.length
      : text.lastIndexOf(`${blanks};`, brace) + blanks.length;
    const tail = text.slice(from, brace);
    if (!tail.startsWith(';') || !tail.endsWith('}') || text.slice(from - blanks.length, from) !== blanks)
      continue;
    // A blank inside would be such a choice again.
    let packed = tail.replace(/\bthrow ([\w$]+)\}/g, 'throw($1)}').replace(/\bvoid 0\b/g, 'void(0)');
    while (packed.length > tail.length && packed.includes(';}')) packed = packed.replace(';}', '}');
    if (/\s/.test(packed) || packed.length !== tail.length) continue;
    text = text.slice(0, from - blanks.length) + packed + blanks + text.slice(brace);
  }
  return text;
}

/** In the place of an index: the code of an ES module outside of its functions, which V8 does not let change. */
const TOP_LEVEL = -1;

/** Indexes that V8 would lose on the way there or on the way back, or TOP_LEVEL. */
export function lostInEdit(
  original: string,
  before: readonly FunctionSpan[],
  edited: string,
  after: readonly FunctionSpan[],
  isModule: boolean,
): Set<number> {
  const from = literals(original, before);
  const to = literals(edited, after);
  const there = liveEditChanges(original, edited);
  const back = liveEditChanges(edited, original);
  const lost = new Set([...lostFunctions(there, from, to), ...lostFunctions(back, to, from)]);
  if (isModule && (changesTopLevel(there, from) || changesTopLevel(back, to))) lost.add(TOP_LEVEL);
  return lost;
}

/** The same for two texts of one script with the same functions. */
export function lostTexts(script: ScriptInfo, from: string, to: string): Set<number> {
  return lostInEdit(
    from,
    functionSymbols(script, from, 0n),
    to,
    functionSymbols(script, to, 0n),
    script.isModule,
  );
}

export interface FittedEdit {
  /** The edited text, with closing texts moved; as long as it was, so that offsets into it stay. */
  readonly source: string;
  /** Indexes of all functions of the script that V8 would lose, edited or not: the edit must not be made with these. */
  readonly lost: ReadonlySet<number>;
}

/**
 * For one edit of a whole script, `from` the text that runs now, `edited` made of the `original` one by instrument().
 * Where functions are lost, fewer sites at a time may do (a live edit each), or another way to arm.
 */
export function fitLiveEdit(
  script: ScriptInfo,
  original: string,
  from: string,
  edited: string,
  indexes: Iterable<number>,
): FittedEdit {
  const before = functionSymbols(script, original, 0n);
  const source = tightenTails(original, before, edited, functionSymbols(script, edited, 0n), indexes);
  const now = from === original ? before : functionSymbols(script, from, 0n);
  return {
    source,
    lost: lostInEdit(from, now, source, functionSymbols(script, source, 0n), script.isModule),
  };
}
