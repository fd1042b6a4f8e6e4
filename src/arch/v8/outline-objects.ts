/** Functions, object literals and classes of an outline. */
import { FunctionFacts } from './outline-facts.ts';
import { LEAF } from './outline-nodes.ts';
import { Patterns } from './outline-patterns.ts';
import {
  ASSIGN,
  CLOSE,
  CLOSE_BRACE,
  COLON,
  COMMA,
  ELLIPSIS,
  keyword,
  NAME,
  OPEN,
  OPEN_BRACE,
  OPEN_BRACKET,
  SEMICOLON,
  STAR,
  UNSURE,
} from './outline-tokens.ts';
import type { Node } from './symbols-parse.ts';

const EXTENDS = keyword('extends');

/** What a function may be called with, beside its own text. */
interface FunctionHead {
  readonly start: number;
  readonly isAsync: boolean;
  readonly isGenerator: boolean;
}

export abstract class Objects extends Patterns {
  abstract staticBlock(start: number): Node;

  /** Parameters and body. */
  functionRest(type: string, id: Node | null, { start, isAsync, isGenerator }: FunctionHead): Node {
    const { awaits, yields } = this;
    this.awaits = isAsync;
    this.yields = isGenerator;
    const { facts: outer, names } = this;
    if (this.gathers) this.facts = new FunctionFacts(outer, false, isAsync && !isGenerator);
    this.names = undefined;
    const params: Node[] = [];
    this.expect(OPEN);
    while (this.kind !== CLOSE) {
      if (this.kind === ELLIPSIS) {
        params.push(this.rest());
        break;
      }
      params.push(this.bindingElement());
      if (!this.eat(COMMA)) break;
    }
    this.expect(CLOSE);
    const body = this.functionBody();
    this.awaits = awaits;
    this.yields = yields;
    const facts = this.facts?.done();
    this.facts = outer;
    this.names = names;
    this.found++;
    return {
      type,
      start,
      end: this.lastEnd,
      id,
      params,
      body,
      async: isAsync,
      generator: isGenerator,
      facts,
    };
  }

  object(): Node {
    const { start, found } = this;
    this.next();
    const properties: Node[] = [];
    while (this.kind !== CLOSE_BRACE) {
      const before = this.found;
      const property = this.kind === ELLIPSIS ? this.element() : this.#property();
      if (this.found !== before) properties.push(property);
      if (!this.eat(COMMA)) break;
    }
    this.expect(CLOSE_BRACE);
    if (this.found === found) return this.leaf(start);
    return this.made({ type: 'ObjectExpression', start, end: this.lastEnd, properties });
  }

  /** A property of an object literal; a leaf if there is no function in it. */
  #property(): Node {
    const { start, found } = this;
    let isGenerator = this.eat(STAR);
    let computed = this.kind === OPEN_BRACKET;
    const isName = this.kind === NAME;
    const accessor = isName && !isGenerator ? this.accessor() : undefined;
    let isAsync = isName && !isGenerator && this.is('async');
    let key = this.key();
    let kind = 'init';
    isAsync &&= !this.newline && (this.atKey() || this.kind === STAR);
    if (isAsync) isGenerator = this.eat(STAR);
    else if (accessor !== undefined && this.atKey()) kind = accessor;
    if (isAsync || kind !== 'init') {
      computed = this.kind === OPEN_BRACKET;
      key = this.key();
    }
    let value: Node;
    let shorthand = false;
    const method = this.kind === OPEN;
    if (method) {
      value = this.functionRest('FunctionExpression', null, { start: this.start, isAsync, isGenerator });
    } else if (this.eat(COLON)) {
      const before = this.found;
      value = this.assignment();
      if (this.found === before) value = LEAF;
    } else if (isName) {
      if (this.facts !== undefined && key['name'] === 'arguments') this.facts.usesArguments = true;
      // `{ a = 1 }` is a pattern's
      value = this.withDefault(key);
      shorthand = true;
    } else throw UNSURE;
    if (this.found === found) return LEAF;
    const end = this.lastEnd;
    return {
      type: 'Property',
      start,
      end,
      key,
      computed,
      kind,
      value,
      method: method && kind === 'init',
      shorthand,
    };
  }

  accessor(): 'get' | 'set' | undefined {
    if (this.end - this.start !== 3) return undefined;
    return this.is('get') ? 'get' : this.is('set') ? 'set' : undefined;
  }

  /** The current token is `class`. */
  classNode(type: 'ClassDeclaration' | 'ClassExpression'): Node {
    const { start, found } = this;
    this.next();
    const id = this.kind === NAME && this.word !== EXTENDS ? this.identifier() : null;
    let superClass: Node | null = null;
    if (this.isWord(EXTENDS)) {
      this.next();
      superClass = this.leftHandSide();
      if (this.found === found) superClass = LEAF;
    }
    this.expect(OPEN_BRACE);
    const elements: Node[] = [];
    while (this.kind !== CLOSE_BRACE) {
      if (this.eat(SEMICOLON)) continue;
      const before = this.found;
      const element = this.#classElement();
      // static ones may run the class's functions
      const runs = element.type === 'StaticBlock' || element['static'] === true;
      if (this.found !== before || runs) elements.push(element);
    }
    this.next();
    if (this.found === found) return this.leaf(start);
    const end = this.lastEnd;
    return this.made({
      type,
      start,
      end,
      id,
      superClass,
      body: { type: 'ClassBody', start, end, body: elements },
    });
  }

  #classElement(): Node {
    const { start } = this;
    let name: Node | undefined;
    let isStatic = false;
    let isAsync = false;
    let isGenerator = false;
    let kind = 'method';
    if (this.is('static')) {
      const word = this.identifier();
      if (this.kind === OPEN_BRACE) return this.staticBlock(start);
      if (this.atKey() || this.kind === STAR) isStatic = true;
      else name = word;
    }
    if (name === undefined && this.is('async')) {
      const word = this.identifier();
      if ((this.atKey() || this.kind === STAR) && !this.newline) isAsync = true;
      else name = word;
    }
    if (name === undefined) isGenerator = this.eat(STAR);
    const accessor = name === undefined && !isAsync && !isGenerator ? this.accessor() : undefined;
    if (accessor !== undefined) {
      const word = this.identifier();
      if (this.atKey()) kind = accessor;
      else name = word;
    }
    const computed = name === undefined && this.kind === OPEN_BRACKET;
    const key = name ?? this.key();
    if (this.kind === OPEN || kind !== 'method' || isGenerator || isAsync) {
      if (kind === 'method' && !isStatic && !computed && isConstructorKey(key)) kind = 'constructor';
      const head = { start: this.start, isAsync, isGenerator };
      const value = this.functionRest('FunctionExpression', null, head);
      const end = this.lastEnd;
      return { type: 'MethodDefinition', start, end, key, computed, static: isStatic, kind, value };
    }
    const value = this.#fieldValue();
    if (!this.eat(SEMICOLON) && this.kind !== CLOSE_BRACE && !this.newline) throw UNSURE;
    return { type: 'PropertyDefinition', start, end: this.lastEnd, key, computed, static: isStatic, value };
  }

  #fieldValue(): Node | null {
    if (!this.eat(ASSIGN)) return null;
    const { found } = this;
    const value = this.ownCode(() => this.assignment());
    return this.found === found ? LEAF : value;
  }

  /** Field values and static blocks run as functions of the class, with the `this` that arrow functions around would see. */
  ownCode<T>(read: () => T): T {
    const { awaits, yields, facts: outer } = this;
    this.awaits = false;
    this.yields = false;
    if (this.gathers) this.facts = new FunctionFacts(outer, true, false);
    const result = read();
    this.facts?.done();
    this.facts = outer;
    this.awaits = awaits;
    this.yields = yields;
    return result;
  }

  /** An argument or an array's element, perhaps spread. */
  abstract element(): Node;
  abstract leftHandSide(): Node;
}

function isConstructorKey(key: Node): boolean {
  return (
    (key.type === 'Identifier' && key['name'] === 'constructor') ||
    (key.type === 'Literal' && key['value'] === 'constructor')
  );
}
