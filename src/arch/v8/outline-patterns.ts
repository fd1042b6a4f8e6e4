/** What declarations and parameters bind, keys of properties, and what all readers of an outline share. */
import type { FunctionFacts } from './outline-facts.ts';
import { group, Identifier, keyNode, LEAF, Literal, leafAt } from './outline-nodes.ts';
import {
  ASSIGN,
  CLOSE_BRACE,
  CLOSE_BRACKET,
  COLON,
  COMMA,
  ELLIPSIS,
  NAME,
  NUMBER,
  OPEN_BRACE,
  OPEN_BRACKET,
  PRIVATE,
  STRING,
  Tokens,
  UNSURE,
} from './outline-tokens.ts';
import type { Node } from './symbols-parse.ts';

export abstract class Patterns extends Tokens {
  /** Functions so far: where the number is what it was, nothing in between is of interest. */
  found = 0;
  /** Where the last expression is; parentheses around it are not part of it. */
  from = 0;
  to = 0;
  /** What `await` and `yield` mean. */
  awaits = false;
  yields = false;

  /** Facts are gathered: of the function that is being read, undefined outside of all. */
  readonly gathers: boolean = false;
  facts: FunctionFacts | undefined;
  /** Where names go that a declaration binds. */
  names: Set<string> | undefined;

  /** A function's body with its braces. */
  abstract functionBody(): Node;

  expect(kind: number): void {
    if (this.kind !== kind) throw UNSURE;
    this.next();
  }

  eat(kind: number): boolean {
    if (this.kind !== kind) return false;
    this.next();
    return true;
  }

  isWord(word: number): boolean {
    return this.kind === NAME && this.word === word;
  }

  made(node: Node): Node {
    this.from = node.start;
    this.to = node.end;
    return node;
  }

  leaf(start: number): Node {
    this.from = start;
    this.to = this.lastEnd;
    return LEAF;
  }

  /** Expressions that functions in `parts` get no name from. */
  plain(start: number, before: number, ...parts: readonly Node[]): Node {
    if (this.found === before) return this.leaf(start);
    return this.made(group(parts, start, this.lastEnd));
  }

  /** A node with its own place, where the last expression was made. */
  placed(node: Node): Node {
    return node === LEAF ? leafAt(this.from, this.to) : node;
  }

  identifier(): Node {
    if (this.kind !== NAME) throw UNSURE;
    const { start, end } = this;
    if (this.facts !== undefined && this.is('arguments')) this.facts.usesArguments = true;
    this.names?.add(this.source.slice(start, end));
    this.next();
    return new Identifier(this.source, start, end);
  }

  rest(): Node {
    const { start } = this;
    this.next();
    const argument = this.bindingTarget();
    return { type: 'RestElement', start, end: this.lastEnd, argument };
  }

  /** What a declaration or a parameter binds: a name or a pattern. */
  bindingTarget(): Node {
    if (this.kind === NAME) return this.identifier();
    const { start, found } = this;
    const parts: Node[] = [];
    if (this.eat(OPEN_BRACKET)) {
      while (this.kind !== CLOSE_BRACKET) {
        if (this.eat(COMMA)) continue;
        const before = this.found;
        const part = this.kind === ELLIPSIS ? this.rest() : this.bindingElement();
        if (this.found !== before) parts.push(part);
      }
    } else if (this.eat(OPEN_BRACE)) {
      while (this.kind !== CLOSE_BRACE) {
        const before = this.found;
        if (this.kind === ELLIPSIS) parts.push(this.rest());
        else this.#bindingProperty(parts, before);
        if (!this.eat(COMMA)) break;
      }
      if (this.kind !== CLOSE_BRACE) throw UNSURE;
    } else throw UNSURE;
    this.next();
    if (this.found === found) return leafAt(start, this.lastEnd);
    return group(parts, start, this.lastEnd);
  }

  #bindingProperty(parts: Node[], before: number): void {
    const shorthand = this.kind === NAME;
    const key = this.key();
    if (this.found !== before) parts.push(key);
    const found = this.found;
    const bound = this.kind !== COLON && shorthand;
    if (bound) this.names?.add(key['name'] as string);
    const value = this.eat(COLON) ? this.bindingElement() : bound ? this.withDefault(key) : undefined;
    if (value === undefined) throw UNSURE;
    if (this.found !== found) parts.push(value);
  }

  bindingElement(): Node {
    return this.withDefault(this.bindingTarget());
  }

  withDefault(left: Node): Node {
    if (!this.eat(ASSIGN)) return left;
    const { names } = this;
    this.names = undefined;
    const right = this.assignment();
    this.names = names;
    return { type: 'AssignmentPattern', start: left.start, end: this.lastEnd, left, right };
  }

  /** A property's key: `[expression]` or a name, string, number, `#name`. */
  key(): Node {
    const { start, kind } = this;
    if (kind === OPEN_BRACKET) {
      const { names } = this;
      this.names = undefined;
      this.next();
      const key = this.placed(this.assignment());
      this.expect(CLOSE_BRACKET);
      this.names = names;
      return key;
    }
    if (kind !== NAME && kind !== PRIVATE && kind !== STRING && kind !== NUMBER) throw UNSURE;
    this.next();
    if (kind === NAME || kind === PRIVATE) return keyNode(this.source, start, this.lastEnd);
    return new Literal(this.source, start, this.lastEnd);
  }

  /** Whether a key can begin here. */
  atKey(): boolean {
    const { kind } = this;
    return kind === NAME || kind === STRING || kind === NUMBER || kind === OPEN_BRACKET || kind === PRIVATE;
  }

  abstract assignment(noIn?: boolean): Node;
}
