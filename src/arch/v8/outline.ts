/**
 * The outline of a script: its syntax tree without what has no functions in it, read about ten times as fast as the full one
 * by acorn. Symbols (symbols.ts) are made from either, and are the same. It relies on V8 having compiled the text, so it
 * checks little; where it meets something rare (escapes in names, HTML comments, `using`), or nothing that it understands, it
 * gives up, and the full tree is to be had from acorn.
 */
import { LEAF } from './outline-nodes.ts';
import { Statements } from './outline-statements.ts';
import { CLOSE_BRACE, DOT, END, keyword, OPEN, OPEN_BRACE, STAR, STRING, UNSURE } from './outline-tokens.ts';
import type { Node } from './symbols-parse.ts';

const CLASS = keyword('class');
const DEFAULT = keyword('default');
const FUNCTION = keyword('function');
const WITH = keyword('with');

/** Thrown for a text that was taken for a script and declares imports or exports. */
const MODULE = Symbol('module');

/** The outline of a script, as a Program; undefined where it cannot be told. */
export function outline(source: string, isModule: boolean): Node | undefined {
  try {
    return new Outline(source, isModule).program();
  } catch (error) {
    if (error === MODULE) return outline(source, true);
    // too deep for this parser is too deep for the other
    if (error === UNSURE || error instanceof RangeError) return undefined;
    throw error;
  }
}

/**
 * The same, with what decides on a function's site in `facts` of each, and the returns and awaits of async functions. For texts
 * that V8 has not seen yet.
 */
export function outlineFacts(source: string, isModule: boolean): Node | undefined {
  try {
    return new Outline(source, isModule, true).program();
  } catch (error) {
    if (error === UNSURE || error === MODULE || error instanceof RangeError) return undefined;
    throw error;
  }
}

class Outline extends Statements {
  override readonly gathers: boolean;

  constructor(source: string, isModule: boolean, gathers = false) {
    super(source, isModule);
    this.gathers = gathers;
  }

  program(): Node {
    this.awaits = this.isModule;
    this.next();
    const body: Node[] = [];
    this.statements(body, END);
    return { type: 'Program', start: 0, end: this.source.length, body };
  }

  override importItem(): Node {
    const mark = this.mark();
    this.next();
    if (this.kind === OPEN || this.kind === DOT) {
      this.back(mark);
      const node = this.expression();
      this.semicolon();
      return node;
    }
    if (!this.isModule) throw MODULE;
    while (this.kind !== STRING && this.kind !== END) {
      if (this.kind === OPEN_BRACE) this.#names();
      else this.next();
    }
    this.#source();
    return LEAF;
  }

  /** `{ a as b, 'c' as d }` */
  #names(): void {
    while (this.kind !== CLOSE_BRACE) {
      if (this.kind === END) throw UNSURE;
      this.next();
    }
    this.next();
  }

  /** `'file.js' with { type: 'json' };` */
  #source(): void {
    this.expect(STRING);
    if (this.isWord(WITH)) {
      this.next();
      this.#names();
    }
    this.semicolon();
  }

  override exportItem(start: number): Node {
    if (!this.isModule) throw MODULE;
    this.next();
    if (this.isWord(DEFAULT)) {
      this.next();
      return this.#exportDefault(start);
    }
    if (this.kind === STAR || this.kind === OPEN_BRACE) {
      if (this.kind === OPEN_BRACE) this.#names();
      else while (this.kind !== STRING && !this.is('from') && this.kind !== END) this.next();
      if (!this.is('from')) {
        this.semicolon();
        return LEAF;
      }
      this.next();
      this.#source();
      return LEAF;
    }
    return this.statement();
  }

  #exportDefault(start: number): Node {
    const { found } = this;
    const at = this.start;
    let declaration: Node;
    if (this.isWord(FUNCTION)) declaration = this.functionDeclaration(at, false, false);
    else if (this.isWord(CLASS)) declaration = this.classNode('ClassDeclaration');
    else {
      const mark = this.mark();
      const isAsync = this.is('async');
      if (isAsync) this.next();
      if (isAsync && this.isWord(FUNCTION) && !this.newline)
        declaration = this.functionDeclaration(at, true, false);
      else {
        this.back(mark);
        declaration = this.assignment();
        this.semicolon();
      }
    }
    if (this.found === found) return LEAF;
    return { type: 'ExportDefaultDeclaration', start, end: this.lastEnd, declaration };
  }
}
