/**
 * What V8's live edit takes for comparing scopes: for each function it compares the variables of every scope around it with those of
 * the new text, one by one. In a module with thousands of functions at its top that is most of the stop.
 */

import type { FunctionSymbol } from './types.ts';

/** Below so many functions it is no time worth looking for. */
const LEAST_FUNCTIONS = 300;

/** Variables that a closure uses are put into a table, others passed over; with many, neither is in the processor's cache. In ns. */
const capturedNs = (variables: number): number => 80 + 0.005 * variables;
const plainNs = (variables: number): number => 8 + 0.0035 * variables;

const DECLARES: ReadonlySet<string> = new Set(['var', 'let', 'const', 'class']);

/**
 * In ms. What is declared is read off the words of the text, without a syntax tree: a variable counts for the function that it
 * is declared in, whatever block it is in, and is used by a closure if its name appears again anywhere.
 */
export function scopesMs(source: string, symbols: readonly FunctionSymbol[]): number {
  if (symbols.length < LEAST_FUNCTIONS) return 0;
  const declared: string[][] = [[], ...symbols.map(() => [])];
  // of scope -1, the module's own, first
  const namesOf = (scope: number): string[] => declared[scope + 1] ?? [];
  for (const { binding, parent } of symbols) {
    if (binding.via === 'variable') namesOf(parent).push(binding.name);
  }
  const times = new Map<string, number>();
  const open: FunctionSymbol[] = [];
  let next = 0;
  let before = '';
  for (const { 0: word, index } of source.matchAll(/[A-Za-z_$][\w$]*/g)) {
    times.set(word, (times.get(word) ?? 0) + 1);
    for (let symbol = symbols[next]; symbol !== undefined && symbol.start <= index; symbol = symbols[++next])
      open.push(symbol);
    while ((open.at(-1)?.end ?? Number.POSITIVE_INFINITY) <= index) open.pop();
    if (DECLARES.has(before)) namesOf(open.at(-1)?.index ?? -1).push(word);
    before = word;
  }
  /** What comparing a scope and those around it takes, in ns. */
  const costs = new Map<number, number>();
  const costOf = (scope: number): number => {
    const known = costs.get(scope);
    if (known !== undefined) return known;
    const names = new Set(namesOf(scope));
    let captured = 0;
    for (const name of names) if ((times.get(name) ?? 0) > 1) captured++;
    let cost = captured * capturedNs(names.size) + (names.size - captured) * plainNs(names.size);
    const parent = symbols[scope]?.parent;
    if (parent !== undefined) cost += costOf(parent);
    costs.set(scope, cost);
    return cost;
  };
  let sum = 0;
  for (const { parent } of symbols) sum += costOf(parent);
  return sum / 1e6;
}
