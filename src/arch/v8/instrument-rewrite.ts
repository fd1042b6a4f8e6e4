/**
 * Rewrites functions of a script in place. Everything that is put in stands on the line where it goes, so line numbers stay;
 * what it says is up to a plan, one a function: the live editor's (instrument.ts) or the compiled-in sites' (instrument-nop.ts).
 */
import { EditList, type TextRange } from './instrument-edits.ts';
import { findToken, skipBlank } from './instrument-scan.ts';
import { entryOffset, type FunctionNode, forEachChild, hasUseStrict, type Node } from './symbols-parse.ts';

/** A function as the rewriter meets it. */
export interface FunctionSite {
  readonly node: FunctionNode;
  /** The method or property around it, if it is one. */
  readonly owner: Node | undefined;
  /** The class that a method belongs to. */
  readonly inClass: Node | undefined;
  readonly isConstructor: boolean;
  readonly isDerived: boolean;
  /** `this` may not be there yet: a derived constructor before super(), or an arrow function in one. */
  readonly thisUnsafe: boolean;
  readonly strict: boolean;
  readonly inWith: boolean;
}

/** Texts to put into one function. */
export interface FunctionPlan {
  /** Statements at the entry, each ending in `;`. */
  readonly entry: string;
  /** As an expression: for a parameter that is evaluated when a generator function is called. */
  readonly atCall?: string;
  readonly body?: BodyPlan;
  /** Statements to put before the statements at these offsets. */
  readonly lines?: ReadonlyMap<number, string>;
}

/** How a function's body is enclosed so that its ways out are seen. */
export interface BodyPlan {
  /** Around the value of `return X`. */
  readonly ret: readonly [string, string];
  /** What `return` without a value returns. */
  readonly retNothing: string;
  /** Statement at the end of the body. */
  readonly end: string;
  /** Behind the body's closing `}` of `try {`: `catch(…){…}` and the like. */
  readonly handlers: string;
  /** Around the operand of `await`. */
  readonly wait: readonly [string, string] | undefined;
}

export interface Rewritten {
  readonly source: string;
  /** Functions and classes whose text, as toString() gives it, changed. */
  readonly ranges: readonly TextRange[];
}

/**
 * `brackets` stand around everything that is put in.
 *
 * Asks `planFor` about each function of the program in source order (only about those within which `wanted` says there is
 * something to do) and applies the plans.
 */
export function rewrite(
  source: string,
  program: Node,
  isModule: boolean,
  planFor: (site: FunctionSite) => FunctionPlan | undefined,
  wanted: (start: number, end: number) => boolean = () => true,
  brackets: readonly [string, string] = ['', ''],
): Rewritten {
  const rewriter = new Rewriter(source, planFor, wanted);
  const strict = isModule || hasUseStrict(program['body'] as readonly Node[]);
  rewriter.visit(program, { ...TOP, strict });
  const { text, ranges } = rewriter.edits.apply(source, brackets);
  return { source: text, ranges };
}

interface Scope {
  readonly strict: boolean;
  readonly thisUnsafe: boolean;
  readonly inWith: boolean;
  /** The plan of the function that a node runs in. */
  readonly body: BodyPlan | undefined;
  readonly lines: ReadonlyMap<number, string> | undefined;
}

const TOP: Scope = { strict: false, thisUnsafe: false, inWith: false, body: undefined, lines: undefined };

class Rewriter {
  readonly edits = new EditList();
  readonly #source: string;
  readonly #planFor: (site: FunctionSite) => FunctionPlan | undefined;
  readonly #wanted: (start: number, end: number) => boolean;

  constructor(
    source: string,
    planFor: (site: FunctionSite) => FunctionPlan | undefined,
    wanted: (start: number, end: number) => boolean,
  ) {
    this.#source = source;
    this.#planFor = planFor;
    this.#wanted = wanted;
  }

  visit(node: Node, scope: Scope): void {
    if (scope.body === undefined && scope.lines === undefined && !this.#wanted(node.start, node.end)) return;
    switch (node.type) {
      case 'Identifier':
      case 'Literal':
      case 'ThisExpression':
        return;
      case 'FunctionDeclaration':
      case 'FunctionExpression':
      case 'ArrowFunctionExpression':
        this.#function(node as FunctionNode, undefined, undefined, scope);
        return;
      case 'ClassDeclaration':
      case 'ClassExpression':
        this.#class(node, scope);
        return;
      case 'Property': {
        const value = node['value'] as Node;
        if (node['computed'] === true) this.visit(node['key'] as Node, scope);
        if (value.type === 'FunctionExpression' && (node['method'] === true || node['kind'] !== 'init')) {
          this.#function(value as FunctionNode, node, undefined, scope);
        } else this.visit(value, scope);
        return;
      }
      case 'ReturnStatement':
        this.#return(node, scope);
        return;
      case 'AwaitExpression':
        this.#wait(node['argument'] as Node, scope);
        return;
      case 'ForOfStatement':
        this.visit(node['left'] as Node, scope);
        if (node['await'] === true) this.#wait(node['right'] as Node, scope);
        else this.visit(node['right'] as Node, scope);
        this.#embedded(node['body'] as Node, scope);
        return;
      case 'IfStatement':
        this.visit(node['test'] as Node, scope);
        this.#embedded(node['consequent'] as Node, scope);
        if (node['alternate'] !== null) this.#embedded(node['alternate'] as Node, scope);
        return;
      case 'ForStatement':
        for (const part of ['init', 'test', 'update']) {
          if (node[part] !== null) this.visit(node[part] as Node, scope);
        }
        this.#embedded(node['body'] as Node, scope);
        return;
      case 'ForInStatement':
        this.visit(node['left'] as Node, scope);
        this.visit(node['right'] as Node, scope);
        this.#embedded(node['body'] as Node, scope);
        return;
      case 'WhileStatement':
        this.visit(node['test'] as Node, scope);
        this.#embedded(node['body'] as Node, scope);
        return;
      case 'DoWhileStatement':
        this.#embedded(node['body'] as Node, scope);
        this.visit(node['test'] as Node, scope);
        return;
      case 'WithStatement':
        this.visit(node['object'] as Node, scope);
        this.#embedded(node['body'] as Node, { ...scope, inWith: true });
        return;
      case 'LabeledStatement':
        this.visit(node['body'] as Node, scope);
        return;
      case 'Program':
      case 'BlockStatement':
      case 'StaticBlock':
        this.#statements(node['body'] as readonly Node[], scope);
        return;
      case 'SwitchStatement':
        this.visit(node['discriminant'] as Node, scope);
        for (const branch of node['cases'] as readonly Node[]) {
          if (branch['test'] !== null) this.visit(branch['test'] as Node, scope);
          this.#statements(branch['consequent'] as readonly Node[], scope);
        }
        return;
      default:
        forEachChild(node, (child) => this.visit(child, scope));
    }
  }

  #statements(statements: readonly Node[], scope: Scope): void {
    for (const statement of statements) {
      const line = scope.lines?.get(statement.start);
      if (line !== undefined) this.edits.insert(statement.start, line);
      this.visit(statement, scope);
    }
  }

  /** A statement that stands alone where a block could: `if (x) statement`. */
  #embedded(statement: Node, scope: Scope): void {
    const line = scope.lines?.get(statement.start);
    const alone = line !== undefined && statement.type !== 'BlockStatement';
    if (alone) this.edits.insert(statement.start, `{${line}`);
    this.visit(statement, scope);
    if (alone) this.edits.insert(statement.end, '}');
  }

  #return(node: Node, scope: Scope): void {
    const argument = node['argument'] as Node | null;
    if (scope.body === undefined) {
      if (argument !== null) this.visit(argument, scope);
      return;
    }
    if (argument === null) {
      this.edits.insert(node.start + 'return'.length, ` ${scope.body.retNothing}`);
      return;
    }
    this.#around(argument, [` ${scope.body.ret[0]}`, scope.body.ret[1]], scope);
  }

  #wait(operand: Node, scope: Scope): void {
    if (scope.body?.wait === undefined) this.visit(operand, scope);
    else this.#around(operand, scope.body.wait, scope);
  }

  #around(expression: Node, around: readonly [string, string], scope: Scope): void {
    const [open, close] = enclose(expression, around);
    this.edits.insert(expression.start, open);
    this.visit(expression, scope);
    this.edits.insert(expression.end, close);
  }

  #class(node: Node, scope: Scope): void {
    const mark = this.edits.open(node.start);
    const inside: Scope = { ...scope, strict: true };
    const derived = node['superClass'] !== null;
    if (derived) this.visit(node['superClass'] as Node, inside);
    for (const element of (node['body'] as Node)['body'] as readonly Node[]) {
      const own: Scope = { ...inside, thisUnsafe: false, body: undefined, lines: undefined };
      if (element.type === 'StaticBlock') {
        this.visit(element, own);
        continue;
      }
      if (element['computed'] === true) this.visit(element['key'] as Node, inside);
      const value = element['value'] as Node | null;
      if (value === null) continue;
      if (element.type === 'MethodDefinition') {
        const role = element['kind'] === 'constructor' ? (derived ? 'derived' : 'base') : undefined;
        this.#function(value as FunctionNode, element, role, inside, node);
      } else this.visit(value, own);
    }
    this.edits.close(mark, node.end);
  }

  #function(
    node: FunctionNode,
    owner: Node | undefined,
    role: 'base' | 'derived' | undefined,
    scope: Scope,
    inClass?: Node,
  ): void {
    if (!this.#wanted(node.start, node.end)) {
      return;
    }
    const arrow = node.type === 'ArrowFunctionExpression';
    const block = node.body.type === 'BlockStatement';
    const strict = scope.strict || (block && hasUseStrict(node.body['body'] as readonly Node[]));
    const thisUnsafe = arrow ? scope.thisUnsafe : role === 'derived';
    const site: FunctionSite = {
      node,
      owner,
      inClass,
      isConstructor: role !== undefined,
      isDerived: role === 'derived',
      thisUnsafe,
      strict,
      inWith: scope.inWith,
    };
    const plan = this.#planFor(site);
    const inside: Scope = { strict, thisUnsafe, inWith: scope.inWith, body: plan?.body, lines: plan?.lines };
    const outside: Scope = { ...inside, body: undefined, lines: undefined };
    // A constructor's text is never seen: toString() of a class is the class's
    const mark = role === undefined ? this.edits.open(textStart(this.#source, node, owner)) : undefined;
    for (const param of node.params) this.visit(param, outside);
    if (plan?.atCall !== undefined) this.#restParameter(node, plan.atCall);
    if (block) this.#block(node, plan, inside);
    else this.#expression(node, plan, inside);
    if (mark !== undefined) this.edits.close(mark, node.end);
  }

  #block(node: FunctionNode, plan: FunctionPlan | undefined, scope: Scope): void {
    const { body } = node;
    if (plan === undefined) {
      this.#statements(body['body'] as readonly Node[], scope);
      return;
    }
    const at = entryOffset(body);
    const directives = at > body.start + 1 && this.#source[at - 1] !== ';';
    const opening = plan.entry + (plan.body === undefined ? '' : 'try{');
    if (opening !== '') this.edits.insert(at, directives ? `;${opening}` : opening);
    this.#statements(body['body'] as readonly Node[], scope);
    if (plan.body !== undefined) this.edits.insert(node.end - 1, `;${plan.body.end}}${plan.body.handlers}`);
  }

  /**
   * `x => y` becomes `x => entry<0?0:y` (no entry gives a number below 0), or `x => { entry return y }` where its ways out
   * matter. The first adds nothing at the function's end, which V8's live edit would not follow.
   */
  #expression(node: FunctionNode, plan: FunctionPlan | undefined, scope: Scope): void {
    const { body } = node;
    const line = plan?.lines?.get(body.start) ?? '';
    const entry = (plan?.entry ?? '') + line;
    if (plan?.body !== undefined) {
      const arrow = this.#arrowEnd(node);
      const [open, close] = enclose(body, plan.body.ret);
      this.edits.insert(arrow, `{${entry}try{return ${open}`);
      this.visit(body, scope);
      this.edits.insert(node.end, `${close}}${plan.body.handlers}}`);
    } else if (isCall(entry)) {
      const list = body.type === 'SequenceExpression';
      this.edits.insert(body.start, `${entry.slice(0, -1)}<0?0:${list ? '(' : ''}`);
      this.visit(body, scope);
      if (list) this.edits.insert(body.end, ')');
    } else if (entry !== '') {
      this.edits.insert(this.#arrowEnd(node), `{${entry}return(`);
      this.visit(body, scope);
      this.edits.insert(node.end, ')}');
    } else this.visit(body, scope);
  }

  /** Behind an arrow function's `=>`. */
  #arrowEnd(node: FunctionNode): number {
    return findToken(this.#source, node.params.at(-1)?.end ?? node.start, '=>') + 2;
  }

  /** Adds `...{[expression]:name}`: evaluated at every call, whatever is passed, and no part of the function's length. */
  #restParameter(node: FunctionNode, expression: string): void {
    const last = node.params.at(-1);
    if (last === undefined) {
      const from = node.id?.end ?? node.start;
      this.edits.insert(findToken(this.#source, from, '(') + 1, `...${expression}`);
      return;
    }
    // A trailing comma may not stand behind a rest parameter
    const next = skipBlank(this.#source, last.end);
    if (this.#source[next] === ',') this.edits.insert(next + 1, `...${expression}`);
    else this.edits.insert(last.end, `,...${expression}`);
  }
}

/**
 * What stands around an expression that becomes an argument of ours, or is assigned to a name of ours (`before` ends in `=`). That
 * name must not become a function's: the language names an anonymous function after what it is assigned to, and V8 calls it so
 * in stacks even behind a comma or in a condition. Not where it is an argument of a call, or destructured.
 */
function enclose(expression: Node, [before, after]: readonly [string, string]): readonly [string, string] {
  const list = expression.type === 'SequenceExpression' ? ['(', ')'] : ['', ''];
  const name = /([$\w]+)=$/.exec(before)?.[1];
  if (name === undefined || isCallOrNew(expression) || !holdsFunction(expression)) {
    return [`${before}${list[0]}`, `${list[1]}${after}`];
  }
  return [`${before.slice(0, -name.length - 1)}[${name}]=[${list[0]}`, `${list[1]}],${name}${after}`];
}

const isCallOrNew = ({ type }: Node): boolean => type === 'CallExpression' || type === 'NewExpression';

/** Whether a function or class stands in it, at any depth. */
function holdsFunction(node: Node): boolean {
  if (/^(?:Arrow)?Function|^Class/.test(node.type)) return true;
  let found = false;
  forEachChild(node, (child) => {
    found ||= holdsFunction(child);
  });
  return found;
}

/** Whether an entry is one expression, so that it can stand in front of another. */
function isCall(entry: string): boolean {
  return /^[^;{}]*;$/.test(entry) && !/^(?:if|let|const)\b/.test(entry);
}

/** Where toString() of a function begins: at a method's name or its `async`, `get`, `*`, but behind `static`. */
export function textStart(source: string, node: FunctionNode, owner: Node | undefined): number {
  if (owner === undefined) return node.start;
  return owner['static'] === true ? skipBlank(source, owner.start + 'static'.length) : owner.start;
}
