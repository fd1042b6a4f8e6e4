/** Statements and declarations of an outline. */
import { Expressions } from './outline-expressions.ts';
import { group, LEAF } from './outline-nodes.ts';
import {
  ASSIGN,
  CLOSE,
  CLOSE_BRACE,
  COLON,
  COMMA,
  END,
  keyword,
  NAME,
  OPEN,
  OPEN_BRACE,
  OPEN_BRACKET,
  SEMICOLON,
  STAR,
  STRING,
  UNSURE,
} from './outline-tokens.ts';
import type { Node } from './symbols-parse.ts';

const BREAK = keyword('break');
const CASE = keyword('case');
const CATCH = keyword('catch');
const CLASS = keyword('class');
const CONST = keyword('const');
const CONTINUE = keyword('continue');
const DEBUGGER = keyword('debugger');
const DEFAULT = keyword('default');
const DO = keyword('do');
const ELSE = keyword('else');
const EXPORT = keyword('export');
const FINALLY = keyword('finally');
const FOR = keyword('for');
const FUNCTION = keyword('function');
const IF = keyword('if');
const IMPORT = keyword('import');
const IN = keyword('in');
const INSTANCEOF = keyword('instanceof');
const RETURN = keyword('return');
const SWITCH = keyword('switch');
const THROW = keyword('throw');
const TRY = keyword('try');
const VAR = keyword('var');
const WHILE = keyword('while');
const WITH = keyword('with');

export abstract class Statements extends Expressions {
  /** `import` or `export` at the beginning of a statement. */
  abstract importItem(): Node;
  abstract exportItem(start: number): Node;

  /** Statements up to a token; those with functions in them go into the list. */
  statements(into: Node[], until: number, ofFunction = false): void {
    while (this.kind !== until) this.#kept(into, ofFunction);
  }

  #kept(into: Node[], ofFunction = false): void {
    const { found } = this;
    const statement = this.statement(ofFunction);
    if (this.found !== found) into.push(statement);
  }

  functionBody(): Node {
    const { start } = this;
    this.expect(OPEN_BRACE);
    const body: Node[] = [];
    while (this.kind === STRING) {
      const from = this.start;
      const directive = this.source.slice(from + 1, this.end - 1);
      const literalEnd = this.end;
      const { found } = this;
      const statement = this.statement();
      const isDirective = this.from === from && this.to === literalEnd;
      if (isDirective) body.push({ type: 'EmptyStatement', start: from, end: this.lastEnd, directive });
      else {
        if (this.found !== found) body.push(statement);
        break;
      }
    }
    this.statements(body, CLOSE_BRACE, true);
    this.next();
    return { type: 'BlockStatement', start, end: this.lastEnd, body };
  }

  staticBlock(start: number): Node {
    const { body } = this.ownCode(() => this.#block()) as Node & { readonly body?: unknown };
    return { type: 'StaticBlock', start, end: this.lastEnd, body: body ?? [] };
  }

  #block(): Node {
    const { start, found } = this;
    this.expect(OPEN_BRACE);
    const body: Node[] = [];
    this.statements(body, CLOSE_BRACE);
    this.next();
    return this.found === found ? LEAF : this.#scope(start, body);
  }

  /** A statement whose declarations are its own. */
  #scope(start: number, body: readonly Node[]): Node {
    return { type: 'BlockStatement', start, end: this.lastEnd, body };
  }

  semicolon(): void {
    if (this.eat(SEMICOLON)) return;
    if (this.kind !== CLOSE_BRACE && this.kind !== END && !this.newline) throw UNSURE;
  }

  #condition(): Node {
    this.expect(OPEN);
    const node = this.expression();
    this.expect(CLOSE);
    return node;
  }

  /** `ofFunction`: directly in a function's body. */
  statement(ofFunction = false): Node {
    const { start, kind } = this;
    if (kind === OPEN_BRACE) return this.#block();
    if (kind === SEMICOLON) {
      this.next();
      return LEAF;
    }
    if (kind === NAME) {
      if (this.word !== 0) return this.#keyword(start, ofFunction);
      const declared = this.#declarationByWord(start, ofFunction);
      if (declared !== undefined) return declared;
    }
    const node = this.expression();
    if (this.kind === COLON && node.type === 'Identifier') {
      this.next();
      return this.statement(ofFunction);
    }
    this.semicolon();
    return node;
  }

  /** `let`, `async function` and what else begins with a word that is no keyword. */
  #declarationByWord(start: number, ofFunction: boolean): Node | undefined {
    const isLet = this.is('let');
    if (!isLet && !this.is('async') && !this.is('using')) return undefined;
    const isUsing = this.is('using');
    const mark = this.mark();
    this.next();
    if (isLet && this.#bindingFollows()) {
      const node = this.#declarations(start, 'let', false);
      this.semicolon();
      return node;
    }
    if (!isLet && !this.newline) {
      if (isUsing && this.kind === NAME) throw UNSURE;
      if (this.kind === NAME && this.word === FUNCTION)
        return this.functionDeclaration(start, true, ofFunction);
    }
    this.back(mark);
    return undefined;
  }

  #bindingFollows(): boolean {
    const { kind, word } = this;
    if (kind === NAME) return word !== IN && word !== INSTANCEOF;
    return kind === OPEN_BRACKET || kind === OPEN_BRACE;
  }

  #keyword(start: number, ofFunction: boolean): Node {
    const { found } = this;
    switch (this.word) {
      case FUNCTION:
        return this.functionDeclaration(start, false, ofFunction);
      case CLASS:
        return this.#classDeclaration();
      case VAR:
      case CONST: {
        const kind = this.word === VAR ? 'var' : 'const';
        this.next();
        const node = this.#declarations(start, kind, false);
        this.semicolon();
        return node;
      }
      case IF: {
        this.next();
        const parts = [this.#condition(), this.statement()];
        if (this.isWord(ELSE)) {
          this.next();
          parts.push(this.statement());
        }
        return this.#parts(start, found, parts);
      }
      case FOR:
        return this.#for(start);
      case WHILE: {
        this.next();
        return this.#parts(start, found, [this.#condition(), this.statement()]);
      }
      case WITH: {
        this.next();
        const object = this.#condition();
        const body = this.statement();
        return this.found === found
          ? LEAF
          : { type: 'WithStatement', start, end: this.lastEnd, object, body };
      }
      case DO: {
        this.next();
        const body = this.statement();
        if (!this.isWord(WHILE)) throw UNSURE;
        this.next();
        const parts = [body, this.#condition()];
        this.eat(SEMICOLON);
        return this.#parts(start, found, parts);
      }
      case RETURN:
      case THROW: {
        const isThrow = this.word === THROW;
        this.next();
        const over =
          this.newline || this.kind === SEMICOLON || this.kind === CLOSE_BRACE || this.kind === END;
        const keeps = !isThrow && this.facts?.keepsReturns === true;
        const value = over ? LEAF : this.expression();
        const argument = keeps && !over ? this.placed(value) : null;
        this.semicolon();
        if (!keeps) return this.#parts(start, found, [value]);
        this.found++;
        return { type: 'ReturnStatement', start, end: this.lastEnd, argument };
      }
      case BREAK:
      case CONTINUE:
        this.next();
        if (this.kind === NAME && this.word === 0 && !this.newline) this.next();
        this.semicolon();
        return LEAF;
      case SWITCH:
        return this.#switch(start);
      case TRY:
        return this.#try(start);
      case DEBUGGER:
        this.next();
        this.semicolon();
        return LEAF;
      case IMPORT:
        return this.importItem();
      case EXPORT:
        return this.exportItem(start);
      default: {
        const node = this.expression();
        this.semicolon();
        return node;
      }
    }
  }

  #parts(start: number, before: number, parts: readonly Node[]): Node {
    return this.found === before ? LEAF : group(parts, start, this.lastEnd);
  }

  #classDeclaration(): Node {
    const { facts } = this;
    if (facts !== undefined) {
      const mark = this.mark();
      this.next();
      if (this.kind === NAME && this.word === 0) facts.lexical.add(this.source.slice(this.start, this.end));
      this.back(mark);
    }
    return this.classNode('ClassDeclaration');
  }

  functionDeclaration(start: number, isAsync: boolean, ofFunction: boolean): Node {
    this.next();
    const isGenerator = this.eat(STAR);
    const id = this.kind === NAME ? this.identifier() : null;
    const { facts } = this;
    if (facts !== undefined && id !== null)
      (ofFunction ? facts.functions : facts.inner).add(id['name'] as string);
    return this.functionRest('FunctionDeclaration', id, { start, isAsync, isGenerator });
  }

  /** Behind the word that begins them. */
  #declarations(start: number, kind: string, noIn: boolean): Node {
    const { found } = this;
    const declarations: Node[] = [];
    do {
      const before = this.found;
      const at = this.start;
      const { facts } = this;
      this.names = kind === 'var' ? facts?.vars : facts?.lexical;
      const id = this.bindingTarget();
      this.names = undefined;
      const init = this.eat(ASSIGN) ? this.assignment(noIn) : null;
      if (this.found !== before) {
        declarations.push({ type: 'VariableDeclarator', start: at, end: this.lastEnd, id, init });
      }
    } while (this.eat(COMMA));
    if (this.found === found) return LEAF;
    return { type: 'VariableDeclaration', start, end: this.lastEnd, kind, declarations };
  }

  #for(start: number): Node {
    const { found } = this;
    this.next();
    const waits = this.awaits && this.is('await');
    if (waits) this.next();
    this.expect(OPEN);
    const parts: Node[] = [];
    if (this.kind !== SEMICOLON) parts.push(this.#forInit());
    if (this.isWord(IN) || this.is('of')) {
      const isOf = this.word === 0;
      this.next();
      const right = isOf ? this.assignment() : this.expression();
      if (waits && this.facts?.keepsReturns === true)
        return this.#forAwait(start, parts[0]!, this.placed(right));
      parts.push(right);
    } else {
      this.expect(SEMICOLON);
      if (this.kind !== SEMICOLON) parts.push(this.expression());
      this.expect(SEMICOLON);
      if (this.kind !== CLOSE) parts.push(this.expression());
    }
    this.expect(CLOSE);
    parts.push(this.statement());
    return this.found === found ? LEAF : this.#scope(start, parts);
  }

  /** A loop that waits: where it does is kept. */
  #forAwait(start: number, left: Node, right: Node): Node {
    this.found++;
    this.expect(CLOSE);
    const body = this.statement();
    return { type: 'ForOfStatement', start, end: this.lastEnd, await: true, left, right, body };
  }

  #forInit(): Node {
    const { start } = this;
    const declares = this.isWord(VAR) || this.isWord(CONST);
    const isLet = this.is('let');
    // rare, and `of` and `using` may be names too
    if (this.is('using')) throw UNSURE;
    if (declares || isLet) {
      const kind = isLet ? 'let' : this.word === VAR ? 'var' : 'const';
      const mark = this.mark();
      this.next();
      if (declares || this.#bindingFollows()) return this.#declarations(start, kind, true);
      this.back(mark);
    }
    const { found } = this;
    const node = this.expression(true);
    // a pattern with functions in it
    if (this.found !== found && (this.isWord(IN) || this.is('of'))) throw UNSURE;
    return node;
  }

  #switch(start: number): Node {
    const { found } = this;
    this.next();
    const parts = [this.#condition()];
    this.expect(OPEN_BRACE);
    while (this.kind !== CLOSE_BRACE) {
      if (this.isWord(CASE)) {
        this.next();
        const before = this.found;
        const test = this.expression();
        if (this.found !== before) parts.push(test);
        this.expect(COLON);
      } else if (this.isWord(DEFAULT)) {
        this.next();
        this.expect(COLON);
      } else this.#kept(parts);
    }
    this.next();
    return this.found === found ? LEAF : this.#scope(start, parts);
  }

  #try(start: number): Node {
    const { found } = this;
    this.next();
    const parts = [this.#block()];
    if (this.isWord(CATCH)) {
      this.next();
      if (this.eat(OPEN)) {
        parts.push(this.bindingTarget());
        this.expect(CLOSE);
      }
      parts.push(this.#block());
    }
    if (this.isWord(FINALLY)) {
      this.next();
      parts.push(this.#block());
    }
    return this.#parts(start, found, parts);
  }
}
