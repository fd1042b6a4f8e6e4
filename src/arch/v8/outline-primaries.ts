/** What operators of an outline stand between: names, literals, calls and members, functions and arrow functions, `new`, templates. */
import { FunctionFacts } from './outline-facts.ts';
import { Identifier, LEAF, Literal, Member, sequence, Template, toPattern } from './outline-nodes.ts';
import { Objects } from './outline-objects.ts';
import {
  ARROW,
  BACKTICK,
  CLOSE,
  CLOSE_BRACE,
  CLOSE_BRACKET,
  COMMA,
  DIVIDE,
  DOT,
  ELLIPSIS,
  keyword,
  NAME,
  NUMBER,
  OPEN,
  OPEN_BRACE,
  OPEN_BRACKET,
  OPTIONAL,
  PRIVATE,
  SLASH,
  STAR,
  STRING,
  UNSURE,
} from './outline-tokens.ts';
import type { Node } from './symbols-parse.ts';

const CLASS = keyword('class');
const FUNCTION = keyword('function');
const IMPORT = keyword('import');
const NEW = keyword('new');
const NULL = keyword('null');
const SUPER = keyword('super');
const THIS = keyword('this');
const TRUE = keyword('true');
const FALSE = keyword('false');

export abstract class Primaries extends Objects {
  /** The last expression is an arrow function without parentheses: no operator follows it. */
  arrow = false;
  #madeArrow = false;
  /** Whether the expression that has just begun leaves `in` to a `for`; an arrow function is the first thing in one. */
  noIn = false;

  abstract expression(noIn?: boolean): Node;

  leftHandSide(): Node {
    const { start, found } = this;
    const atom = this.#atom();
    if (this.arrow) return atom;
    return this.#subscripts(atom, start, found, true);
  }

  #subscripts(base: Node, start: number, found: number, calls: boolean): Node {
    let node = base;
    let optional = false;
    for (;;) {
      switch (this.kind) {
        case DOT:
          this.next();
          node = this.#member(node, start);
          break;
        case OPTIONAL:
          if (!calls) throw UNSURE;
          optional = true;
          this.next();
          if (this.kind === OPEN) node = this.#call(node, start, found);
          else if (this.kind !== OPEN_BRACKET) node = this.#member(node, start);
          break;
        case OPEN_BRACKET: {
          this.next();
          const property = this.placed(this.expression());
          this.expect(CLOSE_BRACKET);
          const end = this.lastEnd;
          node = this.made({ type: 'MemberExpression', start, end, object: node, property, computed: true });
          break;
        }
        case OPEN:
          if (!calls) return node;
          node = this.#call(node, start, found);
          break;
        case BACKTICK: {
          const before = this.found;
          const text = this.#template();
          node = this.plain(start, found, node, this.found === before ? LEAF : text);
          break;
        }
        default:
          this.arrow = false;
          return optional ? this.plain(start, found, node) : node;
      }
    }
  }

  #member(object: Node, start: number): Node {
    if (this.kind !== NAME && this.kind !== PRIVATE) throw UNSURE;
    const at = this.start;
    this.next();
    return this.made(new Member(this.source, start, this.lastEnd, object, at));
  }

  #call(callee: Node, start: number, found: number, isNew = false): Node {
    const parts = this.found === found ? [] : [callee];
    if (this.facts !== undefined && callee.type === 'Identifier' && callee['name'] === 'eval') {
      this.facts.directEval = true;
    }
    this.next();
    let first: Node | undefined;
    let last: Node | undefined;
    let count = 0;
    while (this.kind !== CLOSE) {
      const before = this.found;
      const part = this.element();
      if (this.found !== before) parts.push(part);
      if (count++ === 0) first = part;
      else last = part;
      if (!this.eat(COMMA)) break;
    }
    this.expect(CLOSE);
    // `__name(() => 1, 'f')`: what a bundler's helper calls a function
    if (
      !isNew &&
      count === 2 &&
      parts.length === 1 &&
      callee.type === 'Identifier' &&
      last?.type === 'Literal'
    ) {
      const end = this.lastEnd;
      return this.made({ type: 'CallExpression', start, end, callee, arguments: [first, last] });
    }
    return this.plain(start, found, ...parts);
  }

  /** An argument or an array's element, perhaps spread. */
  element(): Node {
    const { start } = this;
    if (!this.eat(ELLIPSIS)) return this.assignment();
    const argument = this.assignment();
    return this.made({ type: 'SpreadElement', start, end: this.lastEnd, argument });
  }

  #atom(): Node {
    const node = this.#primary();
    this.arrow = this.#madeArrow;
    this.#madeArrow = false;
    return node;
  }

  #primary(): Node {
    const { start, kind } = this;
    switch (kind) {
      case NAME:
        return this.#named();
      case STRING:
      case NUMBER:
        this.next();
        return this.made(new Literal(this.source, start, this.lastEnd));
      case OPEN:
        return this.#parenthesized();
      case OPEN_BRACE:
        return this.object();
      case OPEN_BRACKET:
        return this.#array();
      case BACKTICK:
        return this.#template();
      case SLASH:
      case DIVIDE:
        this.regExp();
        return this.made(new Literal(this.source, start, this.lastEnd));
      case PRIVATE:
        this.next();
        return this.leaf(start);
      default:
        throw UNSURE;
    }
  }

  #named(): Node {
    const { start } = this;
    switch (this.word) {
      case 0:
        break;
      case FUNCTION:
        return this.#functionExpression(start, false);
      case CLASS:
        return this.classNode('ClassExpression');
      case NEW:
        return this.#new();
      case THIS:
      case SUPER:
        if (this.facts !== undefined) this.facts.usesThis = true;
        this.next();
        return this.leaf(start);
      case TRUE:
      case FALSE:
      case NULL:
        this.next();
        return this.made(new Literal(this.source, start, this.lastEnd));
      case IMPORT:
        this.next();
        if (this.eat(DOT)) this.next();
        return this.leaf(start);
      default:
        throw UNSURE;
    }
    if (this.facts !== undefined && this.is('arguments')) this.facts.usesArguments = true;
    const noIn = this.noIn;
    const isAsync = this.is('async');
    const node = new Identifier(this.source, start, this.end);
    this.next();
    if (isAsync && !this.newline) {
      if (this.isWord(FUNCTION)) return this.#functionExpression(start, true);
      if (this.kind === NAME && this.word === 0) {
        const param = new Identifier(this.source, this.start, this.end);
        this.next();
        if (this.kind !== ARROW) throw UNSURE;
        return this.#arrowFunction(start, [param], true, noIn);
      }
      if (this.kind === OPEN) return this.#asyncCall(start, node);
    }
    if (this.kind === ARROW && !this.newline) return this.#arrowFunction(start, [node], false, noIn);
    return this.made(node);
  }

  #new(): Node {
    const { start, found } = this;
    this.next();
    if (this.eat(DOT)) {
      if (this.facts !== undefined) this.facts.usesThis = true;
      this.next();
      return this.leaf(start);
    }
    const at = this.start;
    const callee = this.#subscripts(this.#atom(), at, found, false);
    if (this.kind === OPEN) return this.#call(callee, start, found, true);
    return this.plain(start, found, callee);
  }

  #template(): Node {
    const { start, found } = this;
    if (!this.template(start + 1)) return this.made(new Template(this.source, start, this.lastEnd));
    const parts: Node[] = [];
    let more = true;
    while (more) {
      const before = this.found;
      const part = this.expression();
      if (this.found !== before) parts.push(part);
      if (this.kind !== CLOSE_BRACE) throw UNSURE;
      more = this.template(this.end);
    }
    return this.plain(start, found, ...parts);
  }

  #array(): Node {
    const { start, found } = this;
    this.next();
    const elements: Node[] = [];
    while (this.kind !== CLOSE_BRACKET) {
      if (this.eat(COMMA)) continue;
      const before = this.found;
      const element = this.element();
      if (this.found !== before) elements.push(element);
      if (!this.eat(COMMA)) break;
    }
    this.expect(CLOSE_BRACKET);
    if (this.found === found) return this.leaf(start);
    return this.made({ type: 'ArrayExpression', start, end: this.lastEnd, elements });
  }

  /** An expression in parentheses, or an arrow function. */
  #parenthesized(): Node {
    const { start, found } = this;
    const noIn = this.noIn;
    this.next();
    const inner = this.start;
    const items: Node[] = [];
    let single = true;
    while (this.kind !== CLOSE) {
      if (this.kind === ELLIPSIS) {
        items.push(this.rest());
        single = false;
        break;
      }
      items.push(this.placed(this.assignment()));
      if (!this.eat(COMMA)) break;
      single = false;
    }
    const innerEnd = this.lastEnd;
    const { from, to } = this;
    this.expect(CLOSE);
    if (this.kind === ARROW && !this.newline)
      return this.#arrowFunction(start, items.map(toPattern), false, noIn);
    const [first] = items;
    if (first === undefined) throw UNSURE;
    this.from = single ? from : inner;
    this.to = single ? to : innerEnd;
    if (single) return first;
    return sequence(this.found === found ? [] : items, inner, innerEnd);
  }

  /** `async(...)`, a call or an arrow function's beginning. */
  #asyncCall(start: number, callee: Node): Node {
    const { found } = this;
    const noIn = this.noIn;
    this.next();
    const items: Node[] = [];
    while (this.kind !== CLOSE) {
      items.push(this.placed(this.element()));
      if (!this.eat(COMMA)) break;
    }
    this.expect(CLOSE);
    if (this.kind === ARROW && !this.newline)
      return this.#arrowFunction(start, items.map(toPattern), true, noIn);
    return this.plain(start, found, callee, ...items);
  }

  #arrowFunction(start: number, params: readonly Node[], isAsync: boolean, noIn: boolean): Node {
    this.expect(ARROW);
    const { awaits, yields } = this;
    this.awaits = isAsync;
    this.yields = false;
    const { facts: outer, names } = this;
    if (this.gathers) this.facts = new FunctionFacts(outer, true, isAsync);
    this.names = undefined;
    let body: Node;
    if (this.kind === OPEN_BRACE) body = this.functionBody();
    else body = this.placed(this.assignment(noIn));
    this.awaits = awaits;
    this.yields = yields;
    const facts = this.facts?.done();
    this.facts = outer;
    this.names = names;
    this.found++;
    this.#madeArrow = true;
    return this.made({
      type: 'ArrowFunctionExpression',
      start,
      end: this.lastEnd,
      id: null,
      params,
      body,
      async: isAsync,
      generator: false,
      facts,
    });
  }

  #functionExpression(start: number, isAsync: boolean): Node {
    this.next();
    const isGenerator = this.eat(STAR);
    const id = this.kind === NAME ? this.identifier() : null;
    return this.made(this.functionRest('FunctionExpression', id, { start, isAsync, isGenerator }));
  }
}
