/** Functions that a tracer can see, by a pattern (match_records(), kernel/trace/ftrace.c). */

import { globMatch } from './glob.ts';
import { kstrtoull } from './kstrto.ts';
import type { KallsymsSymbol, TraceArch } from './trace-arch.ts';

/** A name, a glob, or the place of one in `available_filter_functions`, which counts from 1. */
export function matchFunctions(
  arch: TraceArch,
  pattern: string,
  fits: (symbol: KallsymsSymbol) => boolean = () => true,
): KallsymsSymbol[] {
  if (/^\d/.test(pattern)) {
    const place = kstrtoull(pattern);
    if (typeof place === 'string') return [];
    let n = 0n;
    for (const symbol of arch.functions()) if (++n === place) return [symbol];
    return [];
  }
  return [...arch.functions()].filter((symbol) => fits(symbol) && globMatch(pattern, symbol.name));
}
