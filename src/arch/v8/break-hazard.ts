/** Where a breakpoint with a condition would change what the application does, or be met elsewhere. */
import { breaksArguments } from './arguments-hazard.ts';
import { isInClass } from './class-hazard.ts';
import { breaksSuper } from './super-hazard.ts';
import type { FunctionSymbol } from './types.ts';

const BREAKS_ARGUMENTS = 'a breakpoint would put the arguments object into its variable named arguments';

const BREAKS_SUPER =
  'a breakpoint before super() in a constructor whose this an arrow function captures would make super() throw';

const IN_CLASS = "V8 would put a breakpoint on a class into the class's constructor";

/** Why no breakpoint may be at this offset, which is the function's entry or where a statement of its own begins; undefined where one may. */
export function breakObjection(
  source: string,
  isModule: boolean,
  symbol: FunctionSymbol,
  offset: number,
): string | undefined {
  if (breaksSuper(source, isModule, symbol, offset)) return BREAKS_SUPER;
  if (breaksArguments(source, isModule, symbol)) return BREAKS_ARGUMENTS;
  if (isInClass(source, isModule, symbol, offset)) return IN_CLASS;
  return undefined;
}
