/**
 * Nodes of an outline: those of a syntax tree that the symbols of a script depend on. They have the types and fields of the
 * full tree's; where no function is in it, a node is left out, or a LEAF.
 */
import * as acorn from 'acorn';
import type { Node } from './symbols-parse.ts';

/** Any expression without a function in it whose form and place do not matter. */
export const LEAF: Node = { type: 'ThisExpression', start: -1, end: -1 };

export const leafAt = (start: number, end: number): Node => ({ type: 'ThisExpression', start, end });

/** Nodes that what is around them says nothing of. */
export function group(expressions: readonly Node[], start: number, end: number): Node {
  return { type: 'Group', start, end, expressions };
}

/** `a, b`: of those in it that hold functions. */
export function sequence(expressions: readonly Node[], start: number, end: number): Node {
  return { type: 'SequenceExpression', start, end, expressions };
}

/** What is known by its text alone. */
abstract class Token implements Node {
  readonly [field: string]: unknown;
  abstract readonly type: string;
  readonly start: number;
  readonly end: number;
  readonly source: string;

  constructor(source: string, start: number, end: number) {
    this.source = source;
    this.start = start;
    this.end = end;
  }

  get text(): string {
    return this.source.slice(this.start, this.end);
  }
}

export class Identifier extends Token {
  readonly type = 'Identifier';

  get name(): string {
    return this.text;
  }
}

/** What is seldom looked at is read by acorn when it is: literals and templates as names of properties. */
function parsed(source: string, start: number, end: number): acorn.Expression {
  return acorn.parseExpressionAt(`(${source.slice(start, end)})`, 0, { ecmaVersion: 'latest' });
}

export class Literal extends Token {
  readonly type = 'Literal';

  get value(): unknown {
    const { text } = this;
    if (/^(["'])[^\\]*\1$/.test(text)) return text.slice(1, -1);
    return (parsed(this.source, this.start, this.end) as acorn.Literal).value;
  }
}

/** A template without expressions. */
export class Template extends Token {
  readonly type = 'TemplateLiteral';

  get quasis(): unknown {
    return (parsed(this.source, this.start, this.end) as acorn.TemplateLiteral).quasis;
  }
}

/** `object.name`, `object.#name`: the property's node is made when it is asked for. */
export class Member implements Node {
  readonly [field: string]: unknown;
  readonly type = 'MemberExpression';
  readonly start: number;
  readonly end: number;
  readonly object: Node;
  readonly source: string;
  readonly nameAt: number;
  readonly computed = false;

  constructor(source: string, start: number, end: number, object: Node, nameAt: number) {
    this.source = source;
    this.start = start;
    this.end = end;
    this.object = object;
    this.nameAt = nameAt;
  }

  get property(): Node {
    return keyNode(this.source, this.nameAt, this.end);
  }
}

/** A name or a private name as a key. */
export function keyNode(source: string, start: number, end: number): Node {
  if (source.charCodeAt(start) !== 35) return new Identifier(source, start, end);
  return { type: 'PrivateIdentifier', start, end, name: source.slice(start + 1, end) };
}

/** What an expression is where it turns out to be assigned to, or to be a parameter. */
export function toPattern(node: Node): Node {
  switch (node.type) {
    case 'AssignmentExpression':
      return { ...node, type: 'AssignmentPattern' };
    case 'ObjectExpression':
      return group((node['properties'] as readonly Node[]).map(toPattern), node.start, node.end);
    case 'ArrayExpression':
      return group((node['elements'] as readonly Node[]).map(toPattern), node.start, node.end);
    case 'Property':
      return group([node['key'] as Node, toPattern(node['value'] as Node)], node.start, node.end);
    case 'SpreadElement':
      return { ...node, type: 'RestElement', argument: toPattern(node['argument'] as Node) };
    default:
      return node;
  }
}
