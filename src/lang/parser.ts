/** Scripts, probes and statements. */

import type * as ast from './ast.ts';
import { scanAttachPoints } from './attach-scan.ts';
import { Diagnostics } from './diagnostics.ts';
import { ExpressionParser, NO_STRUCTS } from './expression-parser.ts';
import { SourceText } from './position.ts';

const ASSIGN_OPS: ReadonlyMap<string, ast.BinaryOp | undefined> = new Map<string, ast.BinaryOp | undefined>([
  ['=', undefined],
  ['+=', '+'],
  ['-=', '-'],
  ['*=', '*'],
  ['/=', '/'],
  ['%=', '%'],
  ['&=', '&'],
  ['|=', '|'],
  ['^=', '^'],
  ['<<=', '<<'],
  ['>>=', '>>'],
]);

/** Things of bpftrace that a script may start with and that mean nothing here. */
const NOT_HERE: Record<string, string> = {
  struct: NO_STRUCTS,
  union: 'C unions describe kernel memory; JavaScript objects are read by property: arg0.name',
  enum: 'C enums describe kernel headers; write the numbers',
  macro: 'macros are not supported',
  fn: 'functions are not supported',
  import: 'imports are not supported',
};

/**
 * Parses a script. Throws ScriptError (a TraplineError with the position) for a syntax error.
 * @param file the name shown in diagnostics, `stdin` for a one-liner.
 */
export function parseScript(source: string, file: string): ast.Script {
  const diagnostics = new Diagnostics(new SourceText(file, source));
  const script = parseInto(diagnostics);
  diagnostics.throwIfAny();
  return script!;
}

/** Parses and leaves errors in `diagnostics`; undefined when there are any. */
export function parseInto(diagnostics: Diagnostics): ast.Script | undefined {
  return diagnostics.attempt(() => new Parser(diagnostics).script());
}

class Parser extends ExpressionParser {
  script(): ast.Script {
    const lexer = this.lexer;
    const config: ast.ConfigEntry[] = [];
    const probes: ast.Probe[] = [];
    for (;;) {
      lexer.skipBlank();
      if (lexer.pos >= lexer.text.length) break;
      const start = lexer.pos;
      const word = /^(?:#\s*)?[A-Za-z_]*/.exec(lexer.text.slice(start, start + 40))![0];
      if (word === 'config' && probes.length === 0 && /^config\s*=/.test(lexer.text.slice(start))) {
        config.push(...this.#config());
        continue;
      }
      if (word.startsWith('#')) {
        const include = /include/.test(word);
        this.diagnostics.fatal(
          { start, end: start + word.length },
          include ? 'there are no C headers to include here' : 'there is no preprocessor here',
          include ? undefined : 'write the value itself, or $1 and give it behind the program',
        );
      }
      if (word === 'config' && /^config\s*\{/.test(lexer.text.slice(start))) {
        this.diagnostics.fatal(
          { start, end: start + word.length },
          'config needs a =',
          'config = { max_strlen = 128 }',
        );
      }
      if (word === 'let' && /^let\s+@/.test(lexer.text.slice(start))) {
        this.diagnostics.fatal(
          { start, end: start + word.length },
          'maps are not declared',
          'config = { max_map_keys = 100 } says how many keys each may have',
        );
      }
      if (Object.hasOwn(NOT_HERE, word) && /^\w+\s+[\w"{]/.test(lexer.text.slice(start))) {
        this.diagnostics.fatal({ start, end: start + word.length }, NOT_HERE[word]!);
      }
      probes.push(this.#probe());
    }
    if (probes.length === 0) {
      const end = lexer.text.length;
      this.diagnostics.fatal(
        { start: Math.max(0, end - 1), end },
        'syntax error, unexpected end of file, expecting a probe',
        'such as: kprobe:server.js:handle { @ = count(); }',
        'SYNTAX_ERROR',
      );
    }
    return { start: 0, end: lexer.text.length, source: this.diagnostics.source, config, probes };
  }

  #config(): ast.ConfigEntry[] {
    this.token = this.lexer.next(); // config
    this.advance();
    this.expect('=');
    this.expect('{');
    const entries: ast.ConfigEntry[] = [];
    while (!this.is('}')) {
      if (this.token.kind !== 'ident') this.unexpected('a config name or }');
      const name = this.advance();
      this.expect('=');
      const value = this.token;
      if (value.kind !== 'int' && value.kind !== 'string' && value.kind !== 'ident')
        this.unexpected('a value');
      this.advance();
      entries.push({
        start: name.start,
        end: value.end,
        name: name.text,
        nameSpan: name,
        value: value.value ?? value.text,
        valueSpan: value,
      });
      if (!this.is('}')) this.expect(';');
    }
    this.#closeTopLevel();
    return entries;
  }

  /** Takes the `}` that ends a top-level item: what follows is raw text again. */
  #closeTopLevel(): void {
    this.end = this.token.end;
    this.lexer.pos = this.token.end;
    if (this.lexer.text[this.lexer.pos] === ';') this.lexer.pos++;
  }

  #probe(): ast.Probe {
    const start = this.lexer.pos;
    const attachPoints = scanAttachPoints(this.lexer, this.diagnostics);
    this.end = this.lexer.pos;
    this.token = this.lexer.next();
    let predicate: ast.Expr | undefined;
    if (this.accept('/')) {
      predicate = this.expr();
      if (this.token.kind !== 'end-predicate') this.unexpected('/ and {');
      this.advance();
    }
    if (!this.is('{')) this.unexpected('{', 'a probe needs a body: kprobe:handle { @ = count(); }');
    const bodyStart = this.token.start;
    this.advance();
    const body = this.#statements();
    if (!this.is('}')) this.unexpected('}');
    const end = this.token.end;
    this.#closeTopLevel();
    return { start, end, attachPoints, predicate, body: { kind: 'block', start: bodyStart, end, body } };
  }

  #block(): ast.Block {
    const { start } = this.token;
    this.expect('{');
    const body = this.#statements();
    this.expect('}');
    return { kind: 'block', start, end: this.end, body };
  }

  #statements(): ast.Statement[] {
    const statements: ast.Statement[] = [];
    while (!this.is('}')) {
      if (this.accept(';')) continue;
      if (this.token.kind === 'eof') this.unexpected('}');
      const statement = this.nest(this.token, () => this.#statement());
      statements.push(statement);
      const isBlock = ['if', 'while', 'unroll', 'for-map', 'for-range', 'block'].includes(statement.kind);
      if (!isBlock && !this.is('}')) this.expect(';');
    }
    return statements;
  }

  #statement(): ast.Statement {
    const token = this.token;
    const { start } = token;
    if (this.is('{')) return this.#block();
    if (token.kind === 'ident') {
      switch (token.text) {
        case 'if':
          return this.#if();
        case 'while': {
          this.advance();
          const condition = this.expr();
          const body = this.#block();
          return { kind: 'while', start, end: this.end, condition, body };
        }
        case 'unroll': {
          this.advance();
          const count = this.expr();
          const body = this.#block();
          return { kind: 'unroll', start, end: this.end, count, body };
        }
        case 'for':
          return this.#for();
        case 'break':
        case 'continue':
          this.advance();
          return { kind: token.text, start, end: this.end };
        case 'return': {
          this.advance();
          const value = this.is(';') || this.is('}') ? undefined : this.expr();
          return { kind: 'return', start, end: this.end, value };
        }
        case 'let':
          return this.#let();
      }
    }
    const expr = this.expr();
    const op = this.token.kind === 'punct' ? this.token.text : '';
    if (ASSIGN_OPS.has(op)) {
      if (expr.kind !== 'map' && expr.kind !== 'var') {
        this.diagnostics.fatal(
          expr,
          `syntax error, unexpected ${op}: only a map or a variable can be assigned to`,
          expr.kind === 'binary' || expr.kind === 'ident' ? 'maps are @name, variables $name' : undefined,
          'SYNTAX_ERROR',
        );
      }
      this.advance();
      const value = this.expr();
      return { kind: 'assign', start, end: this.end, target: expr, op: ASSIGN_OPS.get(op), value };
    }
    return { kind: 'expr', start, end: this.end, expr };
  }

  #if(): ast.If {
    const { start } = this.advance();
    const condition = this.expr();
    const body = this.#block();
    let otherwise: ast.Block | undefined;
    if (this.isWord('else')) {
      this.advance();
      if (this.isWord('if')) {
        const inner = this.nest(this.token, () => this.#if());
        otherwise = { kind: 'block', start: inner.start, end: inner.end, body: [inner] };
      } else {
        otherwise = this.#block();
      }
    }
    return { kind: 'if', start, end: this.end, condition, body, otherwise };
  }

  #for(): ast.ForMap | ast.ForRange {
    const { start } = this.advance();
    const parens = this.accept('(');
    if (this.token.kind !== 'var')
      this.unexpected('a variable', 'for ($kv : @map) { … } or for ($i : 0..10) { … }');
    const variable = this.variable();
    this.expect(':', 'for ($kv : @map) { … } or for ($i : 0..10) { … }');
    const from = this.expr();
    if (this.accept('..')) {
      const to = this.expr();
      if (parens) this.expect(')');
      const body = this.#block();
      return { kind: 'for-range', start, end: this.end, variable, from, to, body };
    }
    if (from.kind !== 'map') {
      this.diagnostics.fatal(
        from,
        'a for loop goes over a map or a range',
        'for ($kv : @map) or for ($i : 0..10)',
      );
    }
    if (parens) this.expect(')');
    const body = this.#block();
    return { kind: 'for-map', start, end: this.end, variable, map: from, body };
  }

  #let(): ast.Let {
    const { start } = this.advance();
    if (this.token.kind !== 'var') this.unexpected('a variable');
    const target = this.variable();
    let type: string | undefined;
    if (this.accept(':')) type = this.typeName();
    const value = this.accept('=') ? this.expr() : undefined;
    return { kind: 'let', start, end: this.end, target, type, value };
  }
}
