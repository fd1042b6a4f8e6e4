/**
 * A live edit of a script with tagged templates: a tag is given the same array of strings at each evaluation of one template, which
 * libraries take as a key (parsed queries, markup). V8 keeps these arrays by script, and a live edit makes a new one of it: from
 * then on all templates of the script give another array, whichever function was edited, and once more when the edit is undone. That
 * is so in every V8 from 11 to 14. A template outside of functions is evaluated once, and String.raw does not look at the array's identity.
 */
import { forEachChild, isFunction, type Node } from './symbols-parse.ts';

/** Why no function of a script may be edited; undefined where all may. */
export function templateObjection(source: string, program: Node): string | undefined {
  if (!source.includes('`')) return undefined;
  let found: Node | undefined;
  const look = (node: Node, inside: boolean): void => {
    if (found !== undefined) return;
    if (inside && node.type === 'TaggedTemplateExpression' && !isRaw(node['tag'] as Node)) found = node;
    const within = inside || isFunction(node) || node.type === 'PropertyDefinition';
    forEachChild(node, (child) => look(child, within));
  };
  look(program, false);
  if (found === undefined) return undefined;
  const line = source.slice(0, found.start).split('\n').length;
  return `V8 would give the tagged template in line ${line} another array of strings by a live edit of its script`;
}

/** `String.raw`. */
function isRaw({ type, object, property, computed }: Node): boolean {
  if (type !== 'MemberExpression' || computed === true) return false;
  return (object as Node)['name'] === 'String' && (property as Node)['name'] === 'raw';
}
