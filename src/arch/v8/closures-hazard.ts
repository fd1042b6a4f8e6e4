/**
 * What a live edit does to closures in V8 13 and later (Node 24 on), whoever makes it. There, all closures of one function literal are
 * called through one entry of a table. For an edit of their script V8 takes the closures that exist apart, so that each counts as the
 * only one (src/debug/liveedit.cc, PatchScript), but leaves them their common entry. Code that is optimized later for one closure, with
 * its variables as constants, so becomes the code of all: `[1, 2, 3].map((n) => () => n)` gives `3,3,3`. And of closures that were never
 * called the second one to be called ends the process. V8 before 13 has an entry for each closure.
 *
 * A script in which no function literal is evaluated more than once has no such closures.
 */
import { forEachChild, isFunction, type Node } from './symbols-parse.ts';

const LOOPS: ReadonlySet<string> = new Set([
  'ForStatement',
  'ForInStatement',
  'ForOfStatement',
  'WhileStatement',
  'DoWhileStatement',
]);

/** `v8` as in `process.versions`. */
export const editMixesClosures = (v8: string): boolean => Number.parseInt(v8, 10) >= 13;

/**
 * Why a script had better not be edited; undefined where it may. `runsOnce`: its own statements run once, as a module's do.
 */
export function closuresObjection(
  v8: string,
  source: string,
  program: Node,
  runsOnce: boolean,
): string | undefined {
  if (!editMixesClosures(v8)) return undefined;
  const found = repeated(program, !runsOnce);
  if (found === undefined) return undefined;
  const line = source.slice(0, found.start).split('\n').length;
  return `V8 ${Number.parseInt(v8, 10)} would mix up the variables of its script's closures (line ${line})`;
}

/** The first function literal that may be evaluated more than once. */
function repeated(node: Node, again: boolean): Node | undefined {
  if (again && isFunction(node)) return node;
  const inside = again || isFunction(node) || LOOPS.has(node.type);
  let found: Node | undefined;
  forEachChild(node, (child) => {
    // an instance's fields are evaluated for each of them
    const field = node.type === 'PropertyDefinition' && node['static'] !== true && child === node['value'];
    found ??= repeated(child, inside || field);
  });
  return found;
}
