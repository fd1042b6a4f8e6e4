/**
 * Classes that a live edit or a breakpoint breaks. V8 before 13 tells functions of a script by where they begin and end. Functions that it
 * makes for a class itself all have the class's place: the constructor that the text does not have, what initialises the
 * fields of instances, and what initialises static ones. An edit of the script, wherever, may have it take one for the
 * other when the class is made next: V8 11 (Node 20) the constructor for fields (`C is not a constructor`, and sometimes the
 * process ends), V8 12 (Node 22) fields of instances for static ones (they are missing). Undoing the edit does not help. A
 * class at the top of its script has been made when the script was loaded; those inside functions are what matters.
 */
import { forEachChild, isFunction, type Node, parseScript } from './symbols-parse.ts';
import type { FunctionSymbol } from './types.ts';

/**
 * Whether a breakpoint at this offset of the function, which is no statement of its own and not its entry, may end the process. By
 * the words of the text only.
 *
 * V8 12 (Node 22) mixes up what initialises the fields of a class and what initialises its static ones when it evaluates a condition
 * in the former. A breakpoint goes to the next place that can have one, so that the class's text before a field counts as well.
 *
 * On V8 11 (Node 20) a condition in what is evaluated of a class may end the process, too.
 *
 * V8 before 13 has a scope for each object literal that has `super` in it, and finds none of the frame's there when it
 * evaluates a condition in the literal: what its properties are, and their computed keys. Functions in it are not concerned.
 *
 * A method's key and its default values are evaluated by a function around it, which may have either anywhere in the text.
 */
export function breaksScopes(
  v8: string | undefined,
  source: string,
  { start, end, bodyStart }: FunctionSymbol,
  offset: number,
): boolean {
  const major = Number(v8?.split('.')[0]);
  if (!(major < 13)) return false;
  const [from, to] = offset < bodyStart ? [0, source.length] : [start, end];
  const text = source.slice(from, to);
  return SUPER.test(text) || CLASS.test(source.slice(from, offset));
}

/** Names may be written with escapes, and eval() may have it. */
const SUPER = /\bsuper\b|\beval\b|\\u/;
const CLASS = /\bclass\b/;

/**
 * Whether an offset of the function is in the text of a class that it makes: V8 takes it for a place in the class's constructor,
 * even where the class's name is. A breakpoint there is met by other calls, and as any other in a constructor it may break super().
 */
export function isInClass(
  source: string,
  isModule: boolean,
  { start, end }: FunctionSymbol,
  offset: number,
): boolean {
  if (!CLASS.test(source.slice(start, offset + 'class'.length))) return false;
  let found = false;
  const look = (node: Node): void => {
    if (found || node.start > offset || node.end <= offset) return;
    if (isClass(node) && node.start >= start && node.end <= end) found = true;
    else forEachChild(node, look);
  };
  look(parseScript(source, isModule).program);
  return found;
}

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

/**
 * Where functions are that a live edit does not reach in V8 12, whichever class they are in: the values of instances' fields, where the class
 * has static fields or blocks, too. Those of living instances have the new text, those of later ones keep the old.
 */
export function unreachedFields(
  v8: string,
  source: string,
  program: Node,
): readonly { readonly start: number; readonly end: number }[] {
  const major = Number(v8.split('.')[0]);
  if (major !== 12 || !source.includes('static')) return [];
  const found: Node[] = [];
  const look = (node: Node): void => {
    if (isClass(node) && isMixedUp(node, major))
      found.push(
        ...elementsOf(node).filter(({ type, static: own }) => type === 'PropertyDefinition' && own !== true),
      );
    forEachChild(node, look);
  };
  look(program);
  return found;
}

const isClass = ({ type }: Node): boolean => type === 'ClassDeclaration' || type === 'ClassExpression';

const elementsOf = (node: Node): readonly Node[] => (node['body'] as Node)['body'] as readonly Node[];

function isMixedUp(node: Node, major: number): boolean {
  let fields = false;
  let statics = false;
  let written = false;
  for (const element of elementsOf(node)) {
    if (element['kind'] === 'constructor') written = true;
    if (element.type === 'StaticBlock') statics = true;
    if (element.type !== 'PropertyDefinition') continue;
    if (element['static'] === true) statics = true;
    else fields = true;
  }
  return fields && (major < 12 ? !written : statics);
}
