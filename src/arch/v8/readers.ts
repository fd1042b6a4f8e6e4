/**
 * Functions that read a variable, by the words of the text: optimized code that has the variable's value as a constant is theirs, or has
 * one of them inlined.
 */

import { breaksArguments } from './arguments-hazard.ts';
import { breaksScopes, isInClass } from './class-hazard.ts';
import { breaksSuper } from './super-hazard.ts';
import type { FunctionSymbol } from './types.ts';

/** A function, and where it names the variable. */
export interface Reader {
  readonly symbol: FunctionSymbol;
  readonly offset: number;
}

const WORD = /[\w$\u0080-\uffff]/;

/**
 * Without the function that the variable holds. Undefined: there are more than `most`, or in one of them no breakpoint may be. `v8` as in `process.versions`. A word in a
 * comment or a string counts too; what is read by eval() or by the module's own statements does not.
 */
export function readersOf(
  source: string,
  symbols: readonly FunctionSymbol[],
  held: FunctionSymbol,
  name: string,
  isModule: boolean,
  v8: string | undefined,
  most: number,
): readonly Reader[] | undefined {
  const readers = new Map<number, Reader>();
  const open: FunctionSymbol[] = [];
  let next = 0;
  for (let offset = source.indexOf(name); offset !== -1; offset = source.indexOf(name, offset + 1)) {
    for (let symbol = symbols[next]; symbol !== undefined && symbol.start <= offset; symbol = symbols[++next])
      open.push(symbol);
    while ((open.at(-1)?.end ?? Number.POSITIVE_INFINITY) <= offset) open.pop();
    const symbol = open.at(-1);
    if (symbol === undefined || symbol.index === held.index || readers.has(symbol.index)) continue;
    if (!isName(source, offset, name)) continue;
    if (readers.size === most || breaksSuper(source, isModule, symbol, offset)) return undefined;
    if (breaksScopes(v8, source, symbol, offset) || breaksArguments(source, isModule, symbol))
      return undefined;
    if (isInClass(source, isModule, symbol, offset)) return undefined;
    readers.set(symbol.index, { symbol, offset });
  }
  return [...readers.values()];
}

/** A whole word, and not a property's name. */
function isName(source: string, offset: number, name: string): boolean {
  const before = source[offset - 1] ?? '';
  if (WORD.test(before) || WORD.test(source[offset + name.length] ?? '')) return false;
  return before !== '.' || source.startsWith('...', offset - 3);
}
