/**
 * Source text to syntax tree, as V8 would read the same text: an ES module, or what Node compiles as a CommonJS function
 * body (where `return` may stand at top level), or a classic script.
 */
import * as acorn from 'acorn';

/** A syntax tree node, loosely: the fields that symbols and the instrumenter look at. Offsets are UTF-16 units. */
export interface Node {
  readonly type: string;
  readonly start: number;
  readonly end: number;
  readonly [field: string]: unknown;
}

export interface FunctionNode extends Node {
  readonly type: 'FunctionDeclaration' | 'FunctionExpression' | 'ArrowFunctionExpression';
  readonly id: IdentifierNode | null;
  readonly params: readonly Node[];
  readonly body: Node;
  readonly async: boolean;
  readonly generator: boolean;
  readonly expression: boolean;
}

export interface IdentifierNode extends Node {
  readonly name: string;
}

export interface Parsed {
  readonly program: Node;
  readonly isModule: boolean;
}

export class ParseFailure extends Error {
  /** UTF-16 offset, where the parser gave one. */
  readonly offset: number | undefined;
  constructor(message: string, offset: number | undefined) {
    super(message);
    this.offset = offset;
  }
}

/** What acorn's tokenizer keeps and has, as far as it is used here; not in its published types. */
interface Tokenizer {
  readonly input: string;
  pos: number;
  containsEsc: boolean;
  finishToken(type: acorn.TokenType, value: string): void;
  readWord(): void;
  skipSpace(): void;
}

const { keywordTypes, tokTypes } = acorn as typeof acorn & {
  keywordTypes: Readonly<Record<string, acorn.TokenType>>;
};
const KEYWORDS = new Map(Object.entries(keywordTypes));
const LONGEST_KEYWORD = 10;

/** 1 for the ASCII characters of identifiers. */
const WORD = Uint8Array.from({ length: 128 }, (_, c) => (/[\w$]/.test(String.fromCharCode(c)) ? 1 : 0));

const slow = acorn.Parser.prototype as unknown as Tokenizer;

/**
 * V8 has accepted the text already, so the checks that acorn makes for early errors (duplicate names, bad regular
 * expressions, reserved words) are left out, and words and blanks of ASCII are read by shorter ways: together a third of the
 * parsing time.
 */
class TrustingParser extends acorn.Parser {
  declareName(): void {}
  checkPropClash(): void {}
  checkParams(): void {}
  checkLocalExport(): void {}
  checkUnreserved(): void {}
  validateRegExpFlags(): void {}
  validateRegExpPattern(): void {}

  readWord(): void {
    const self = this as unknown as Tokenizer;
    const { input, pos: start } = self;
    let pos = start;
    let c = input.charCodeAt(pos);
    while (c < 128 && WORD[c] === 1) c = input.charCodeAt(++pos);
    // Letters beyond ASCII, or an escape
    if (c >= 128 || c === 92) {
      slow.readWord.call(self);
      return;
    }
    self.pos = pos;
    self.containsEsc = false;
    const word = input.slice(start, pos);
    const known = pos - start <= LONGEST_KEYWORD ? KEYWORDS.get(word) : undefined;
    self.finishToken(known ?? tokTypes.name, word);
  }

  skipSpace(): void {
    const self = this as unknown as Tokenizer;
    const { input } = self;
    let { pos } = self;
    let c = input.charCodeAt(pos);
    while (c === 32 || c === 10 || c === 9 || c === 13) c = input.charCodeAt(++pos);
    self.pos = pos;
    // A comment, perhaps, or a rarer blank
    if (c === 47 || c === 11 || c === 12 || c >= 128) slow.skipSpace.call(self);
  }
}

const COMMON: acorn.Options = { ecmaVersion: 'latest', allowHashBang: true, checkPrivateFields: false };
const MODULE: acorn.Options = { ...COMMON, sourceType: 'module' };
const COMMONJS: acorn.Options = { ...COMMON, sourceType: 'commonjs' };
/** Text of a debugger console or a REPL. */
const LOOSE: acorn.Options = {
  ...COMMON,
  sourceType: 'script',
  allowReturnOutsideFunction: true,
  allowAwaitOutsideFunction: true,
  allowSuperOutsideMethod: true,
};

/** Parses a script's text. Throws ParseFailure (never anything else) with the first attempt's complaint. */
export function parseScript(source: string, isModule: boolean): Parsed {
  let first: ParseFailure | undefined;
  for (const options of isModule ? [MODULE] : [COMMONJS, LOOSE, MODULE]) {
    try {
      const program = TrustingParser.parse(source, options) as unknown as Node;
      return { program, isModule: options === MODULE };
    } catch (error) {
      const e = error as Error & { pos?: number };
      const message = error instanceof RangeError ? 'nested too deeply' : e.message;
      first ??= new ParseFailure(message, e.pos);
    }
  }
  throw first!;
}

/** Child fields by node type; a node type that is not listed has its fields looked through. */
const CHILDREN: { [type: string]: readonly string[] } = {
  ArrayExpression: ['elements'],
  ArrayPattern: ['elements'],
  ArrowFunctionExpression: ['params', 'body'],
  AssignmentExpression: ['left', 'right'],
  AssignmentPattern: ['left', 'right'],
  AwaitExpression: ['argument'],
  BinaryExpression: ['left', 'right'],
  BlockStatement: ['body'],
  BreakStatement: [],
  CallExpression: ['callee', 'arguments'],
  CatchClause: ['param', 'body'],
  ChainExpression: ['expression'],
  ClassBody: ['body'],
  ClassDeclaration: ['superClass', 'body'],
  ClassExpression: ['superClass', 'body'],
  ConditionalExpression: ['test', 'consequent', 'alternate'],
  ContinueStatement: [],
  DebuggerStatement: [],
  DoWhileStatement: ['body', 'test'],
  EmptyStatement: [],
  ExportAllDeclaration: [],
  ExportDefaultDeclaration: ['declaration'],
  ExportNamedDeclaration: ['declaration'],
  ExpressionStatement: ['expression'],
  ForInStatement: ['left', 'right', 'body'],
  ForOfStatement: ['left', 'right', 'body'],
  ForStatement: ['init', 'test', 'update', 'body'],
  FunctionDeclaration: ['params', 'body'],
  FunctionExpression: ['params', 'body'],
  Identifier: [],
  IfStatement: ['test', 'consequent', 'alternate'],
  // of outlines only
  Group: ['expressions'],
  ImportDeclaration: [],
  ImportExpression: ['source', 'options'],
  LabeledStatement: ['body'],
  Literal: [],
  LogicalExpression: ['left', 'right'],
  MemberExpression: ['object', 'property'],
  MetaProperty: [],
  MethodDefinition: ['key', 'value'],
  NewExpression: ['callee', 'arguments'],
  ObjectExpression: ['properties'],
  ObjectPattern: ['properties'],
  ParenthesizedExpression: ['expression'],
  PrivateIdentifier: [],
  Program: ['body'],
  Property: ['key', 'value'],
  PropertyDefinition: ['key', 'value'],
  RestElement: ['argument'],
  ReturnStatement: ['argument'],
  SequenceExpression: ['expressions'],
  SpreadElement: ['argument'],
  StaticBlock: ['body'],
  Super: [],
  SwitchCase: ['test', 'consequent'],
  SwitchStatement: ['discriminant', 'cases'],
  TaggedTemplateExpression: ['tag', 'quasi'],
  TemplateElement: [],
  TemplateLiteral: ['expressions'],
  ThisExpression: [],
  ThrowStatement: ['argument'],
  TryStatement: ['block', 'handler', 'finalizer'],
  UnaryExpression: ['argument'],
  UpdateExpression: ['argument'],
  VariableDeclaration: ['declarations'],
  VariableDeclarator: ['id', 'init'],
  WhileStatement: ['test', 'body'],
  WithStatement: ['object', 'body'],
  YieldExpression: ['argument'],
};

/** The names of a node's fields that hold child nodes or arrays of them, in source order. */
export function childFields(node: Node): readonly string[] {
  return CHILDREN[node.type] ?? Object.keys(node);
}

/** Calls `visit` for each child node, in source order. */
export function forEachChild(node: Node, visit: (child: Node) => void): void {
  for (const field of childFields(node)) {
    const value = node[field];
    if (value === null || typeof value !== 'object') continue;
    if (Array.isArray(value)) {
      for (const item of value) if (isNode(item)) visit(item);
    } else if (isNode(value)) visit(value);
  }
}

export function isNode(value: unknown): value is Node {
  return typeof value === 'object' && value !== null && typeof (value as Node).type === 'string';
}

export function isFunction(node: Node): node is FunctionNode {
  return (
    node.type === 'FunctionDeclaration' ||
    node.type === 'FunctionExpression' ||
    node.type === 'ArrowFunctionExpression'
  );
}

/** Behind the last directive of a block body, or behind its brace: where an entry site goes. */
export function entryOffset(body: Node): number {
  let entry = body.start + 1;
  for (const statement of body['body'] as readonly Node[]) {
    if (statement['directive'] === undefined) break;
    entry = statement.end;
  }
  return entry;
}

export function hasUseStrict(statements: readonly Node[]): boolean {
  for (const statement of statements) {
    if (statement['directive'] === undefined) return false;
    if (statement['directive'] === 'use strict') return true;
  }
  return false;
}
