/**
 * Makes a rewritten text one that V8's live edit understands (see live-edit-diff.ts), and says which functions it would lose.
 *
 * What encloses a body ends in `}catch(e){…}` in front of the function's own `}`, and V8 may take the first of the two
 * braces for the function's. Put behind the last statement instead, in front of the line's end, it has no such choice:
 * the blank or newline that comes before the last brace can only be the old one.
 */
import { liveEditChanges, lostFunctions, type TextSpan } from './live-edit-diff.ts';
import { functionSymbols } from './symbols.ts';
import type { ScriptInfo } from './types.ts';

export interface FunctionSpan extends TextSpan {
  readonly bodyEnd: number;
  readonly expressionBody: boolean;
}

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

/** Indexes that V8 would lose on the way there or on the way back. */
export function lostInEdit(
  original: string,
  before: readonly TextSpan[],
  edited: string,
  after: readonly TextSpan[],
): Set<number> {
  return new Set([
    ...lostFunctions(liveEditChanges(original, edited), before, after),
    ...lostFunctions(liveEditChanges(edited, original), after, before),
  ]);
}

/** The same for two texts of one script with the same functions. */
export function lostTexts(script: ScriptInfo, from: string, to: string): Set<number> {
  return lostInEdit(from, functionSymbols(script, from, 0n), to, functionSymbols(script, to, 0n));
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
  return { source, lost: lostInEdit(from, now, source, functionSymbols(script, source, 0n)) };
}
