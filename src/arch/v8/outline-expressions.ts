/** Operators of an outline's expressions. The grammar is ECMAScript's; precedence matters only where names pass through an operator. */
import { sequence, toPattern } from './outline-nodes.ts';
import { Primaries } from './outline-primaries.ts';
import {
  ASSIGN,
  BINARY,
  CHANGE,
  CLOSE,
  CLOSE_BRACE,
  CLOSE_BRACKET,
  COLON,
  COMMA,
  DEFAULT,
  DIVIDE,
  END,
  INCREMENT,
  keyword,
  LOGICAL,
  MINUS,
  NAME,
  NOT,
  PLUS,
  QUESTION,
  SEMICOLON,
  SLASH,
  STAR,
  TILDE,
} from './outline-tokens.ts';
import type { Node } from './symbols-parse.ts';

const DELETE = keyword('delete');
const IN = keyword('in');
const INSTANCEOF = keyword('instanceof');
const TYPEOF = keyword('typeof');
const VOID = keyword('void');

export abstract class Expressions extends Primaries {
  expression(noIn = false): Node {
    const { start, found } = this;
    const first = this.assignment(noIn);
    if (this.kind !== COMMA) return first;
    const parts = this.found === found ? [] : [first];
    while (this.eat(COMMA)) {
      const before = this.found;
      const part = this.assignment(noIn);
      if (this.found !== before) parts.push(part);
    }
    return this.made(sequence(parts, start, this.lastEnd));
  }

  assignment(noIn = false): Node {
    const { start } = this;
    if (this.yields && this.is('yield')) return this.#yield(noIn);
    this.noIn = noIn;
    let left = this.#conditional(noIn);
    const { kind } = this;
    if ((kind !== ASSIGN && kind !== CHANGE && kind !== DEFAULT && kind !== DIVIDE) || this.arrow)
      return left;
    left = this.placed(left);
    if (kind === ASSIGN) left = toPattern(left);
    this.next();
    const right = this.assignment(noIn);
    const operator = kind === ASSIGN ? '=' : kind === DEFAULT ? '??=' : '+=';
    this.arrow = false;
    return this.made({
      type: 'AssignmentExpression',
      start,
      end: this.lastEnd,
      operator,
      left,
      right,
    });
  }

  #yield(noIn: boolean): Node {
    const { start, found } = this;
    this.next();
    const { kind } = this;
    const over =
      this.newline ||
      kind === SEMICOLON ||
      kind === CLOSE ||
      kind === CLOSE_BRACKET ||
      kind === CLOSE_BRACE ||
      kind === COLON ||
      kind === COMMA ||
      kind === END ||
      kind === QUESTION ||
      (kind === NAME && (this.word === IN || this.is('of')));
    if (over) return this.leaf(start);
    this.eat(STAR);
    const value = this.assignment(noIn);
    this.arrow = false;
    return this.plain(start, found, value);
  }

  #conditional(noIn: boolean): Node {
    const { start, found } = this;
    const test = this.#logical(noIn);
    if (this.kind !== QUESTION || this.arrow) return test;
    this.next();
    const consequent = this.assignment();
    this.expect(COLON);
    const alternate = this.assignment(noIn);
    this.arrow = false;
    if (this.found === found) return this.leaf(start);
    const end = this.lastEnd;
    return this.made({ type: 'ConditionalExpression', start, end, test, consequent, alternate });
  }

  #logical(noIn: boolean): Node {
    const { start, found } = this;
    let left = this.#binary(noIn);
    while (this.kind === LOGICAL && !this.arrow) {
      this.next();
      const right = this.#binary(noIn);
      if (this.found === found) left = this.leaf(start);
      else left = this.made({ type: 'LogicalExpression', start, end: this.lastEnd, left, right });
    }
    return left;
  }

  #binary(noIn: boolean): Node {
    const { start, found } = this;
    const first = this.#unary();
    if (!this.#isBinary(noIn) || this.arrow) return first;
    const parts = this.found === found ? [] : [first];
    do {
      this.next();
      const before = this.found;
      const part = this.#unary();
      if (this.found !== before) parts.push(part);
    } while (this.#isBinary(noIn));
    return this.plain(start, found, ...parts);
  }

  #isBinary(noIn: boolean): boolean {
    const { kind } = this;
    if (kind === NAME) return this.word === INSTANCEOF || (this.word === IN && !noIn);
    return kind === BINARY || kind === PLUS || kind === MINUS || kind === STAR || kind === SLASH;
  }

  #isPrefix(): boolean {
    const { kind, word } = this;
    if (kind === NAME) {
      if (word !== 0) return word === TYPEOF || word === VOID || word === DELETE;
      return this.awaits && this.is('await');
    }
    return kind === NOT || kind === PLUS || kind === MINUS || kind === TILDE || kind === INCREMENT;
  }

  #unary(): Node {
    const { start, found } = this;
    if (this.#isPrefix()) {
      const waits = this.kind === NAME && this.word === 0 && this.facts?.keepsReturns === true;
      this.next();
      const operand = this.#unary();
      this.arrow = false;
      if (waits) {
        this.found++;
        const argument = this.placed(operand);
        return this.made({ type: 'AwaitExpression', start, end: this.lastEnd, argument });
      }
      return this.plain(start, found, operand);
    }
    const operand = this.leftHandSide();
    if (this.kind !== INCREMENT || this.newline || this.arrow) return operand;
    this.next();
    return this.plain(start, found, operand);
  }
}
