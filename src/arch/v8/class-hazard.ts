/**
 * Classes that a live edit breaks. V8 before 13 tells functions of a script by where they begin and end. Functions that it
 * makes for a class itself all have the class's place: the constructor that the text does not have, what initialises the
 * fields of instances, and what initialises static ones. An edit of the script, wherever, may have it take one for the
 * other when the class is made next: V8 11 (Node 20) the constructor for fields (`C is not a constructor`, and sometimes the
 * process ends), V8 12 (Node 22) fields of instances for static ones (they are missing). Undoing the edit does not help. A
 * class at the top of its script has been made when the script was loaded; those inside functions are what matters.
 */
import { forEachChild, isFunction, type Node } from './symbols-parse.ts';

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
