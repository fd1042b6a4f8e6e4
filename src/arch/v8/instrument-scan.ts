/** What has to be known of a function before its text is rewritten. */
import {
  type FunctionNode,
  forEachChild,
  type IdentifierNode,
  isFunction,
  type Node,
} from './symbols-parse.ts';

/** Calls `visit` for every node of a function's body that runs in that function: nested functions are left out. */
export function walkOwn(body: Node, visit: (node: Node, inFinally: boolean) => void): void {
  const step = (node: Node, guarded: boolean): void => {
    visit(node, guarded);
    if (node.type === 'TryStatement' && node['finalizer'] !== null) {
      step(node['block'] as Node, true);
      if (node['handler'] !== null) step(node['handler'] as Node, true);
      step(node['finalizer'] as Node, guarded);
      return;
    }
    forEachChild(node, (child) => {
      if (isFunction(child)) return visit(child, guarded);
      // Field values and static blocks run as functions of the class
      if (child.type === 'StaticBlock') return;
      if (child.type === 'PropertyDefinition') {
        if (child['computed'] === true) step(child['key'] as Node, guarded);
        return;
      }
      step(child, guarded);
    });
  };
  step(body, false);
}

export interface BodyFacts {
  /** A `return` whose value a `finally` may still change or cancel, or a `using` that runs behind it. */
  readonly guardedReturn: boolean;
  /** Function declarations directly in the body. */
  readonly functions: ReadonlySet<string>;
  /**
   * A name is declared by a function declaration of the body, and by `var`, with which it cannot share a block, or by a function in
   * an inner block, which sets the variable of that name outside (in sloppy code), but none that is in a block itself; or eval() may do so.
   */
  readonly varClash: string | undefined;
  /** Variables and classes that the body declares (those of inner blocks too). */
  readonly declared: ReadonlySet<string>;
  readonly usesArguments: boolean;
  /** A variable of the body is called `arguments`. */
  readonly declaresArguments: boolean;
  readonly directEval: boolean;
  /** `this`, `super` or `new.target` is named, in arrow functions inside too, or might be by a direct eval. */
  readonly usesThis: boolean;
  /** The same without `new.target`: closures have `this` of the function around them. */
  readonly holdsThis: boolean;
}

export function bodyFacts(fn: FunctionNode): BodyFacts {
  const functions = new Set<string>();
  const own = new Set<Node>();
  const vars = new Set<string>();
  const lexical = new Set<string>();
  let guardedReturn = false;
  let usesArguments = false;
  let directEval = false;
  if (fn.body.type === 'BlockStatement') {
    for (const statement of fn.body['body'] as readonly Node[]) {
      const declared = unlabelled(statement);
      if (declared.type !== 'FunctionDeclaration') continue;
      functions.add((declared as FunctionNode).id!.name);
      own.add(declared);
    }
  }
  const look = (node: Node, inFinally: boolean): void => {
    switch (node.type) {
      case 'ReturnStatement':
        if (inFinally) guardedReturn = true;
        break;
      case 'VariableDeclaration': {
        const kind = node['kind'] as string;
        const into = kind === 'var' ? vars : lexical;
        for (const d of node['declarations'] as Node[]) bound(d['id'] as Node, into);
        // `using` runs code behind the return
        if (kind !== 'var' && kind !== 'let' && kind !== 'const') guardedReturn = true;
        break;
      }
      case 'FunctionDeclaration': {
        const name = (node as FunctionNode).id?.name;
        if (name !== undefined && !own.has(node)) vars.add(name);
        break;
      }
      case 'ClassDeclaration':
        lexical.add((node['id'] as IdentifierNode).name);
        break;
      case 'Identifier':
        if (node['name'] === 'arguments') usesArguments = true;
        break;
      case 'CallExpression':
        if ((node['callee'] as Node)['name'] === 'eval') directEval = true;
        break;
    }
  };
  walkOwn(fn.body, look);
  for (const param of fn.params) walkOwn(param, look);
  const inArrows = lexicalUses(fn);
  let varClash: string | undefined;
  for (const name of functions) if (directEval || vars.has(name)) varClash = name;
  return {
    guardedReturn,
    functions,
    varClash,
    declared: new Set([...vars, ...lexical]),
    usesArguments: usesArguments || inArrows.usesArguments,
    usesThis: directEval || inArrows.usesThis,
    holdsThis: directEval || inArrows.holdsThis,
    declaresArguments: vars.has('arguments') || lexical.has('arguments'),
    directEval,
  };
}

/** A statement without its labels. */
export function unlabelled(statement: Node): Node {
  let node = statement;
  while (node.type === 'LabeledStatement') node = node['body'] as Node;
  return node;
}

/** What the function, its parameters and the arrow functions in it take of the call they run in. */
function lexicalUses(fn: FunctionNode): Pick<BodyFacts, 'usesArguments' | 'usesThis' | 'holdsThis'> {
  let usesArguments = false;
  let usesThis = false;
  let holdsThis = false;
  const look = (node: Node): void => {
    switch (node.type) {
      case 'Identifier':
        if (node['name'] === 'arguments') usesArguments = true;
        return;
      case 'ThisExpression':
      case 'Super':
        usesThis = true;
        holdsThis = true;
        return;
      case 'MetaProperty':
        usesThis = true;
        return;
      case 'Literal':
      case 'FunctionDeclaration':
      case 'FunctionExpression':
        return;
      default:
        forEachChild(node, look);
    }
  };
  for (const param of fn.params) look(param);
  look(fn.body);
  return { usesArguments, usesThis, holdsThis };
}

/** The names that a pattern binds. */
export function bound(pattern: Node, into: Set<string>): void {
  switch (pattern.type) {
    case 'Identifier':
      into.add((pattern as IdentifierNode).name);
      break;
    case 'ObjectPattern':
      for (const p of pattern['properties'] as Node[]) {
        bound(p.type === 'RestElement' ? p : (p['value'] as Node), into);
      }
      break;
    case 'ArrayPattern':
      for (const e of pattern['elements'] as (Node | null)[]) if (e !== null) bound(e, into);
      break;
    case 'RestElement':
      bound(pattern['argument'] as Node, into);
      break;
    case 'AssignmentPattern':
      bound(pattern['left'] as Node, into);
      break;
  }
}

/** Offset of the first `token` at or behind `from` that is not in a comment. */
export function findToken(source: string, from: number, token: string): number {
  let i = from;
  while (i < source.length) {
    if (source.startsWith(token, i)) return i;
    if (source.startsWith('//', i)) {
      while (i < source.length && !/[\n\r\u2028\u2029]/.test(source[i]!)) i++;
    } else if (source.startsWith('/*', i)) i = source.indexOf('*/', i + 2) + 2;
    else i++;
  }
  return -1;
}

/** Offset of the first character at or behind `from` that is neither blank nor in a comment. */
export function skipBlank(source: string, from: number): number {
  let i = from;
  for (;;) {
    if (source.startsWith('//', i)) {
      while (i < source.length && !/[\n\r\u2028\u2029]/.test(source[i]!)) i++;
    } else if (source.startsWith('/*', i)) i = source.indexOf('*/', i + 2) + 2;
    else if (i < source.length && /\s/.test(source[i]!)) i++;
    else return i;
  }
}
