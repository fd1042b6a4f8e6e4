/**
 * A live edit of a script in which a function calls eval() directly: V8 13 (Node 24) ends the process when that function is called next,
 * whichever function of the script was edited ("stored_info == context->scope_info()"), also where the edit is undone. Other names for
 * eval and `new Function` are not concerned; `with` alone is not either. V8 14.6 (Node 26) is right again; those between were not tried.
 */
import { forEachChild, type Node } from './symbols-parse.ts';

/** Why no function of a script may be edited; undefined where all may. `v8` as in `process.versions`. */
export function evalObjection(v8: string, source: string, program: Node): string | undefined {
  const [major = 0, minor = 0] = v8.split('.').map(Number);
  if (major < 13 || major > 14 || (major === 14 && minor >= 6) || !WORD.test(source)) return undefined;
  let found: Node | undefined;
  const look = (node: Node): void => {
    if (found !== undefined) return;
    if (node.type === 'CallExpression' && isEval(node['callee'] as Node)) found = node;
    else forEachChild(node, look);
  };
  look(program);
  if (found === undefined) return undefined;
  const line = source.slice(0, found.start).split('\n').length;
  return `V8 ${major} would end the process by a live edit of its script: a function calls eval() in line ${line}`;
}

/** Names may be written with escapes. */
const WORD = /\beval\b|\\u/;

function isEval(callee: Node): boolean {
  if (callee.type === 'ParenthesizedExpression') return isEval(callee['expression'] as Node);
  return callee.type === 'Identifier' && callee['name'] === 'eval';
}
