/**
 * Whether a property is the only way to a function of a CommonJS module: then replacing that property reaches every call,
 * with no debugger and no stop. Decided by the texts: inside its module the function is named by nothing but its export, and
 * no other script takes it out of the exports. What no text shows (`Object.values(api)`) is not seen.
 */
import { memberPath, propertyKey } from './names.ts';
import { forEachChild, type IdentifierNode, type Node, parseScript } from './symbols-parse.ts';
import type { FunctionSymbol } from './types.ts';

/** The key by which a CommonJS module's exports hold a function that nothing else in the module names. */
export function exportKey(source: string, symbol: FunctionSymbol): string | undefined {
  const { binding, parent, kind } = symbol;
  if (parent !== -1 || kind === 'constructor' || kind === 'derived-constructor') return undefined;
  if (binding.via === 'none' || !source.includes('exports')) return undefined;
  const program = parse(source, false);
  if (program === undefined || mayHide(source)) return undefined;
  if (binding.via === 'property') {
    if (!binding.isStatic || binding.accessor !== undefined || binding.private) return undefined;
    // a function expression's own name leads past the property
    const own = symbol.name.slice(symbol.name.lastIndexOf('.') + 1);
    const inside = source.slice(symbol.entry, symbol.bodyEnd);
    if (own === '' || new RegExp(`(?<![\\w$.])${literal(own)}(?![\\w$])`).test(inside)) return undefined;
    return takesOut(program, binding.key) ? undefined : binding.key;
  }
  if (binding.via !== 'variable' || !binding.topLevel) return undefined;
  const exported = exportsOf(program, binding.name);
  const [only] = exported;
  if (exported.length !== 1 || only === undefined) return undefined;
  const uses = references(program, binding.name, symbol.end);
  return uses === 1 && !takesOut(program, only) ? only : undefined;
}

/** Whether a script may hold a function that is called `key` in another one's exports, other than by those exports. */
export function mayHold(source: string, isModule: boolean, key: string): boolean {
  if (!source.includes(key)) return false;
  const program = parse(source, isModule);
  return program === undefined || takesOut(program, key);
}

const literal = (text: string): string => text.replace(/[\\^$.*+?()[\]{}|]/g, '\\$&');

/** Code that can name a variable without its name being there. */
const mayHide = (source: string): boolean => /(?<![\w$.])(?:eval\s*\(|with\s*\()/.test(source);

/** The last text that was asked for: functions of one script are asked for in a row. */
let last: { readonly source: string; readonly program: Node | undefined } | undefined;

/** The last tree is let go of. */
export function forgetText(): void {
  last = undefined;
}

function parse(source: string, isModule: boolean): Node | undefined {
  if (last?.source === source) return last.program;
  let program: Node | undefined;
  try {
    program = parseScript(source, isModule).program;
  } catch {
    program = undefined;
  }
  last = { source, program };
  return program;
}

const isName = (node: unknown, name: string): boolean =>
  (node as Node | null)?.type === 'Identifier' && (node as IdentifierNode).name === name;

const EXPORTS = new Set(['exports', 'module.exports']);

/** Keys that top-level statements export a variable by: `module.exports = { f }`, `exports.f = f`. */
function exportsOf(program: Node, name: string): string[] {
  const keys: string[] = [];
  const assigned = (node: Node): void => {
    if (node.type !== 'AssignmentExpression' || node['operator'] !== '=') return;
    const left = node['left'] as Node;
    const right = node['right'] as Node;
    assigned(right);
    const path = memberPath(left);
    if (isName(right, name) && left.type === 'MemberExpression') {
      const key = propertyKey(left['property'] as Node, left['computed'] as boolean);
      if (EXPORTS.has(memberPath(left['object'] as Node)) && !key.startsWith('<') && !EXPORTS.has(path))
        keys.push(key);
    }
    if (!EXPORTS.has(path) || right.type !== 'ObjectExpression') return;
    for (const property of right['properties'] as readonly Node[]) {
      if (property.type !== 'Property' || !isName(property['value'], name)) continue;
      keys.push(propertyKey(property['key'] as Node, property['computed'] as boolean));
    }
  };
  for (const statement of program['body'] as readonly Node[]) {
    if (statement.type === 'ExpressionStatement') assigned(statement['expression'] as Node);
  }
  return keys;
}

/** How often a name stands for a variable, but for the declaration of the function that ends at `end`. */
function references(program: Node, name: string, end: number): number {
  let count = 0;
  const visit = (node: Node): void => {
    if (isName(node, name)) count++;
    else if (node.type === 'MemberExpression' || node.type === 'Property') {
      const [held, key] = node.type === 'Property' ? ['value', 'key'] : ['object', 'property'];
      visit(node[held!] as Node);
      if (node['computed'] === true) visit(node[key!] as Node);
    } else if (node.type === 'VariableDeclarator' && isName(node['id'], name)) {
      const init = node['init'] as Node | null;
      if (init?.end !== end) count++;
      if (init !== null) visit(init);
    } else if (node.type === 'MethodDefinition' || node.type === 'PropertyDefinition') {
      if (node['computed'] === true) visit(node['key'] as Node);
      if (node['value'] !== null) visit(node['value'] as Node);
    } else {
      // a second declaration, or an inner function of the name, which may be called in its stead
      const id = node['id'] as Node | null | undefined;
      if (node.type === 'FunctionDeclaration' && isName(id, name) && node.end !== end) count++;
      forEachChild(node, visit);
    }
  };
  visit(program);
  return count;
}

/** Whether a text takes what a property `key` holds, other than by calling it there and then. */
function takesOut(program: Node, key: string): boolean {
  let taken = false;
  let dynamicImport = false;
  let called = false;
  /** Names of whole modules: what they hold is that of the moment of their loading. */
  const defaults = new Set<string>();
  const calledOn: Node[] = [];
  const isKey = (node: Node, computed: boolean): boolean => propertyKey(node, computed) === key;
  const visit = (node: Node): void => {
    if (taken) return;
    switch (node.type) {
      case 'ImportDeclaration':
        for (const specifier of node['specifiers'] as readonly Node[]) {
          if (specifier.type === 'ImportSpecifier' && isKeyName(specifier['imported'] as Node, key))
            taken = true;
          if (specifier.type === 'ImportDefaultSpecifier')
            defaults.add((specifier['local'] as IdentifierNode).name);
        }
        return;
      case 'ExportNamedDeclaration':
        if (node['source'] !== null) {
          for (const specifier of node['specifiers'] as readonly Node[])
            if (isKeyName(specifier['local'] as Node, key)) taken = true;
          return;
        }
        break;
      case 'ImportExpression':
        dynamicImport = true;
        break;
      case 'ObjectPattern':
        for (const property of node['properties'] as readonly Node[]) {
          if (property.type === 'Property' && isKey(property['key'] as Node, property['computed'] as boolean))
            taken = true;
        }
        break;
      case 'ExpressionStatement': {
        // `exports.f = …` puts it there; what else stands in the same chain takes it
        const left = (node['expression'] as Node)['left'] as Node | undefined;
        const right = (node['expression'] as Node)['right'] as Node | undefined;
        if (assignsNothing(node['expression'] as Node)) return;
        if ((node['expression'] as Node).type !== 'AssignmentExpression' || left?.type !== 'MemberExpression')
          break;
        if (!isMember(left, key)) break;
        visit(left['object'] as Node);
        visit(right as Node);
        if (right?.type === 'AssignmentExpression') taken = true;
        return;
      }
      case 'AssignmentExpression':
        if (assignsNothing(node)) return;
        break;
      case 'CallExpression':
      case 'NewExpression': {
        const callee = calledPart(node['callee'] as Node);
        if (callee.type === 'MemberExpression' && isMember(callee, key)) {
          called = true;
          calledOn.push(callee['object'] as Node);
          visit(callee['object'] as Node);
          for (const argument of node['arguments'] as readonly Node[]) visit(argument);
          return;
        }
        break;
      }
      case 'MemberExpression':
        if (isMember(node, key)) taken = true;
        break;
    }
    forEachChild(node, visit);
  };
  visit(program);
  if (taken || !called) return taken;
  const isModule = (program['body'] as readonly Node[]).some(({ type }) => /^(?:Import|Export)/.test(type));
  if (!isModule && !dynamicImport) return false;
  // a namespace of a CommonJS module is a copy; its default is the exports themselves
  return calledOn.some(
    (object) => object.type !== 'Identifier' || !defaults.has((object as IdentifierNode).name),
  );
}

/** `exports.f = exports.g = void 0`, which compilers put in front of a module: no function is in it. */
function assignsNothing(node: Node): boolean {
  const left = node['left'] as Node | undefined;
  if (node.type !== 'AssignmentExpression' || left?.type !== 'MemberExpression') return false;
  if (left['computed'] === true || !EXPORTS.has(memberPath(left['object'] as Node))) return false;
  const right = node['right'] as Node;
  if (right.type === 'UnaryExpression')
    return right['operator'] === 'void' && isLiteral(right['argument'] as Node);
  return assignsNothing(right);
}

const isLiteral = ({ type }: Node): boolean => type === 'Literal';

/** `m.f` of `(0, m.f)(…)`, by which compilers call what is imported without a `this`. */
function calledPart(callee: Node): Node {
  if (callee.type !== 'SequenceExpression') return callee;
  const parts = callee['expressions'] as readonly Node[];
  return parts.slice(0, -1).every(isLiteral) ? parts.at(-1)! : callee;
}

const isMember = (node: Node, key: string): boolean =>
  propertyKey(node['property'] as Node, node['computed'] as boolean) === key;

const isKeyName = (node: Node, key: string): boolean =>
  node.type === 'Literal' ? node['value'] === key : isName(node, key);
