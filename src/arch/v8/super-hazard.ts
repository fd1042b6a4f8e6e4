/**
 * Where a breakpoint breaks super(): V8 writes the variables of the frame back once it has evaluated a condition, `this`
 * too where a closure captures it. Before super() it has none yet; what is written counts as bound, so that super()
 * throws, and V8 14 lets the closure read something that is no value, which ends the process. Only the constructor's own
 * frame is concerned: not arrows and functions inside it, nor what it calls.
 */
import { findFunction } from './instrument-line.ts';
import { type Node, parseScript } from './symbols-parse.ts';
import type { FunctionSymbol } from './types.ts';

/** What captures `this`: an arrow function or a direct eval, whose name may be written with escapes. */
const CAPTURING = /=>|\beval\b|\\u/;

/** Whether a breakpoint at this offset of the function may be before a super() that it would make throw. */
export function breaksSuper(
  source: string,
  isModule: boolean,
  symbol: FunctionSymbol,
  offset: number,
): boolean {
  if (symbol.kind !== 'derived-constructor') return false;
  if (!CAPTURING.test(source.slice(symbol.start, symbol.end))) return false;
  if (offset <= symbol.entry) return true;
  const fn = findFunction(parseScript(source, isModule).program, symbol);
  if (fn === undefined) return true;
  // a statement of its own that cannot have been left out
  const called = (fn.body['body'] as readonly Node[]).some(
    (statement) => isSuperCall(statement) && statement.end <= offset,
  );
  return !called;
}

function isSuperCall(statement: Node): boolean {
  if (statement.type !== 'ExpressionStatement') return false;
  const { type, callee } = statement['expression'] as Node & { readonly callee?: Node };
  return type === 'CallExpression' && callee?.type === 'Super';
}
