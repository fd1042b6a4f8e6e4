/**
 * Where a breakpoint changes a variable that is named `arguments`: V8 makes the arguments object when it evaluates a condition, and
 * writes it back as the variable of that name. `var` has it already, arrow functions have none.
 */
import { findFunction } from './instrument-line.ts';
import { bound, walkOwn } from './instrument-scan.ts';
import { type Node, parseScript } from './symbols-parse.ts';
import type { FunctionSymbol } from './types.ts';

/** As a parameter or inside of one. */
const PARAMETER = /[({[,:]\s*(?:\.\.\.\s*)?arguments\b/;
/** Names may be written with escapes. */
const NAMED = /\barguments\b|\\u/;
const LEXICAL = /\b(?:let|const)\b/;

/** Whether the function may have such a variable. Strict code has none: a few functions too many are told. */
export function breaksArguments(source: string, isModule: boolean, symbol: FunctionSymbol): boolean {
  const { start, end, bodyStart, isArrow } = symbol;
  if (isArrow) return false;
  if (PARAMETER.test(source.slice(start, bodyStart))) return true;
  const body = source.slice(bodyStart, end);
  if (isModule || !NAMED.test(body) || !LEXICAL.test(body)) return false;
  const fn = findFunction(parseScript(source, isModule).program, symbol);
  if (fn === undefined) return true;
  const names = new Set<string>();
  walkOwn(fn.body, (node) => {
    if (node.type !== 'VariableDeclaration' || node['kind'] === 'var') return;
    for (const { id } of node['declarations'] as readonly { readonly id: Node }[]) bound(id, names);
  });
  return names.has('arguments');
}
