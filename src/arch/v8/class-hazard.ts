/**
 * Classes that a live edit or a breakpoint breaks. V8 before 13 tells functions of a script by where they begin and end. Functions that it
 * makes for a class itself all have the class's place: the constructor that the text does not have, what initialises the
 * fields of instances, and what initialises static ones. An edit of the script, wherever, may have it take one for the
 * other when the class is made next: V8 11 (Node 20) the constructor for fields (`C is not a constructor`, and sometimes the
 * process ends), V8 12 (Node 22) fields of instances for static ones (they are missing). Undoing the edit does not help. A
 * class at the top of its script has been made when the script was loaded; those inside functions are what matters.
 */
import { forEachChild, isFunction, type Node } from './symbols-parse.ts';
import type { FunctionSymbol } from './types.ts';

/**
 * Whether a breakpoint at this offset, in the own text of the function, may be in what initialises the fields of a class that has
 * static members too: V8 12 (Node 22) mixes up the two functions when it evaluates a condition there, and ends the process. A
 * breakpoint goes to the next place that can have one, so that the class's text before a field counts as well; by the words of the
 * text only. Statements and entries of functions are such places themselves.
 */
export function breaksFields(
  v8: string | undefined,
  source: string,
  { start, end }: FunctionSymbol,
  offset: number,
): boolean {
  if (v8?.startsWith('12.') !== true) return false;
  return CLASS.test(source.slice(start, offset)) && STATIC.test(source.slice(start, end));
}

const CLASS = /\bclass\b/;
const STATIC = /\bstatic\b/;

/** Why no function of a script may be edited; undefined where all may. `v8` as in `process.versions`. */
export function classObjection(v8: string, source: string, program: Node): string | undefined {
  const major = Number(v8.split('.')[0]);
  if (major >= 13 || !source.includes('class')) return undefined;
  let found: Node | undefined;
  const look = (node: Node, inside: boolean): void => {
    if (found !== undefined) return;
    if (inside && isClass(node) && isMixedUp(node, major)) found = node;
    const within = inside || isFunction(node) || node.type === 'PropertyDefinition';
    forEachChild(node, (child) => look(child, within));
  };
  look(program, false);
  if (found === undefined) return undefined;
  const line = source.slice(0, found.start).split('\n').length;
  return `V8 ${major} would break the class in line ${line} by a live edit of its script: it is made inside a function and has fields`;
}

const isClass = ({ type }: Node): boolean => type === 'ClassDeclaration' || type === 'ClassExpression';

function isMixedUp(node: Node, major: number): boolean {
  let fields = false;
  let statics = false;
  let written = false;
  for (const element of (node['body'] as Node)['body'] as readonly Node[]) {
    if (element['kind'] === 'constructor') written = true;
    if (element.type === 'StaticBlock') statics = true;
    if (element.type !== 'PropertyDefinition') continue;
    if (element['static'] === true) statics = true;
    else fields = true;
  }
  return fields && (major < 12 ? !written : statics);
}
