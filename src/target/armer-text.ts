/** What the planner's orders to the agent say of a function's text. */

import type { FunctionSymbol } from '../arch/v8/types.ts';

/** What the function's toString() answers: a static method's text begins behind the word. */
export function functionText(source: string, { start, end, isStatic }: FunctionSymbol): string {
  const text = source.slice(start, end);
  return isStatic ? text.replace(/^static\s+/, '') : text;
}

/** The arguments as they can be named inside the function: arrows have no `arguments` of their own. */
export function argumentText({ isArrow, simpleParams, params }: FunctionSymbol): string {
  if (!isArrow) return '...arguments';
  return simpleParams ? params.filter((name) => name !== undefined).join(',') : '';
}

/**
 * Where an offset of a function is in an edited text. The function itself was not edited, so its text is there too, as
 * often and in the same order as before.
 */
export function offsetIn(
  edited: string,
  original: string,
  { start, end }: FunctionSymbol,
  offset: number,
): number {
  const text = original.slice(start, end);
  let ordinal = 0;
  for (let at = original.indexOf(text); at !== -1 && at < start; at = original.indexOf(text, at + 1))
    ordinal++;
  let found = edited.indexOf(text);
  while (found !== -1 && ordinal-- > 0) found = edited.indexOf(text, found + 1);
  if (found === -1) throw new Error('it, or a function inside it, is edited');
  return found + offset - start;
}
