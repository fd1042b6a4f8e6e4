import type * as ast from './ast.ts';
import { scanAttachPoints } from './attach-scan.ts';
import { Diagnostics } from './diagnostics.ts';
import { Lexer, type Token } from './lexer.ts';
import { SourceText, type Span } from './position.ts';

/** Names a cast or `sizeof` may use. */
export const TYPE_NAMES = [
  'int8', 'int16', 'int32', 'int64', 'uint8', 'uint16', 'uint32', 'uint64', 'bool', 'string',
  'char', 'short', 'int', 'long', 'size_t', 'u8', 'u16', 'u32', 'u64', 's8', 's16', 's32', 's64',
] as const; // biome-ignore format: a table

const TYPES: ReadonlySet<string> = new Set(TYPE_NAMES);

const LEVELS: readonly (readonly ast.BinaryOp[])[] = [
  ['||'],
  ['&&'],
  ['|'],
  ['^'],
  ['&'],
  ['==', '!='],
  ['<', '>', '<=', '>='],
  ['<<', '>>'],
  ['+', '-'],
  ['*', '/', '%'],
];

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
  struct: 'C structs describe kernel memory; JavaScript objects are read by property: arg0.name',
  union: 'C unions describe kernel memory; JavaScript objects are read by property: arg0.name',
  enum: 'C enums describe kernel headers; write the numbers',
  macro: 'macros are not supported',
  fn: 'functions are not supported',
  import: 'imports are not supported',
};

/** How deep expressions and blocks may nest. */
const MAX_DEPTH = 200;
/** How many operators of one precedence may follow each other. */
const MAX_CHAIN = 1000;

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

class Parser {
  readonly #lexer: Lexer;
  readonly #diagnostics: Diagnostics;
  #token: Token;
  /** End of the last token taken. */
  #end = 0;
  #depth = 0;

  constructor(diagnostics: Diagnostics) {
    this.#diagnostics = diagnostics;
    this.#lexer = new Lexer(diagnostics.source.text, diagnostics);
    // Probes start with raw text, so the first token is read only once somebody asks for it.
    this.#token = { kind: 'eof', text: '', start: 0, end: 0 };
  }

  #advance(): Token {
    const token = this.#token;
    this.#end = token.end;
    this.#token = this.#lexer.next();
    return token;
  }

  #is(text: string): boolean {
    return (
      (this.#token.kind === 'punct' || this.#token.kind === 'end-predicate') && this.#token.text === text
    );
  }

  #isWord(text: string): boolean {
    return this.#token.kind === 'ident' && this.#token.text === text;
  }

  #accept(text: string): boolean {
    if (!this.#is(text)) return false;
    this.#advance();
    return true;
  }

  #shown(token: Token): string {
    switch (token.kind) {
      case 'eof':
        return 'end of file';
      case 'map':
        return `@${token.text}`;
      case 'var':
      case 'positional':
        return `$${token.text}`;
      case 'string':
        return 'string';
      default:
        return token.text;
    }
  }

  #unexpected(expecting: string, hint?: string): never {
    const span =
      this.#token.kind === 'eof' ? { start: Math.max(0, this.#end - 1), end: this.#end } : this.#token;
    return this.#diagnostics.fatal(
      span,
      `syntax error, unexpected ${this.#shown(this.#token)}, expecting ${expecting}`,
      hint,
      'SYNTAX_ERROR',
    );
  }

  #expect(text: string, hint?: string): Token {
    if (!this.#is(text)) this.#unexpected(text, hint);
    return this.#advance();
  }

  #nest<T>(span: Span, parse: () => T): T {
    if (++this.#depth > MAX_DEPTH) this.#diagnostics.fatal(span, 'the script is nested too deeply');
    const result = parse();
    this.#depth--;
    return result;
  }

  script(): ast.Script {
    const lexer = this.#lexer;
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
        this.#diagnostics.fatal(
          { start, end: start + word.length },
          'there are no C headers to include here',
        );
      }
      if (Object.hasOwn(NOT_HERE, word) && /^\w+\s+[\w"{]/.test(lexer.text.slice(start))) {
        this.#diagnostics.fatal({ start, end: start + word.length }, NOT_HERE[word]!);
      }
      probes.push(this.#probe());
    }
    if (probes.length === 0) {
      const end = lexer.text.length;
      this.#diagnostics.fatal(
        { start: Math.max(0, end - 1), end },
        'syntax error, unexpected end of file, expecting a probe',
        'such as: kprobe:server.js:handle { @ = count(); }',
        'SYNTAX_ERROR',
      );
    }
    return { start: 0, end: lexer.text.length, source: this.#diagnostics.source, config, probes };
  }

  #config(): ast.ConfigEntry[] {
    this.#token = this.#lexer.next(); // config
    this.#advance();
    this.#expect('=');
    this.#expect('{');
    const entries: ast.ConfigEntry[] = [];
    while (!this.#is('}')) {
      if (this.#token.kind !== 'ident') this.#unexpected('a config name or }');
      const name = this.#advance();
      this.#expect('=');
      const value = this.#token;
      if (value.kind !== 'int' && value.kind !== 'string' && value.kind !== 'ident')
        this.#unexpected('a value');
      this.#advance();
      entries.push({
        start: name.start,
        end: value.end,
        name: name.text,
        nameSpan: name,
        value: value.value ?? value.text,
        valueSpan: value,
      });
      if (!this.#is('}')) this.#expect(';');
    }
    this.#closeTopLevel();
    return entries;
  }

  /** Takes the `}` that ends a top-level item: what follows is raw text again. */
  #closeTopLevel(): void {
    this.#end = this.#token.end;
    this.#lexer.pos = this.#token.end;
    if (this.#lexer.text[this.#lexer.pos] === ';') this.#lexer.pos++;
  }

  #probe(): ast.Probe {
    const start = this.#lexer.pos;
    const attachPoints = scanAttachPoints(this.#lexer, this.#diagnostics);
    this.#end = this.#lexer.pos;
    this.#token = this.#lexer.next();
    let predicate: ast.Expr | undefined;
    if (this.#accept('/')) {
      predicate = this.#expr();
      if (this.#token.kind !== 'end-predicate') this.#unexpected('/ and {');
      this.#advance();
    }
    if (!this.#is('{')) this.#unexpected('{', 'a probe needs a body: kprobe:handle { @ = count(); }');
    const bodyStart = this.#token.start;
    this.#advance();
    const body = this.#statements();
    if (!this.#is('}')) this.#unexpected('}');
    const end = this.#token.end;
    this.#closeTopLevel();
    return { start, end, attachPoints, predicate, body: { kind: 'block', start: bodyStart, end, body } };
  }

  #block(): ast.Block {
    const { start } = this.#token;
    this.#expect('{');
    const body = this.#statements();
    this.#expect('}');
    return { kind: 'block', start, end: this.#end, body };
  }

  #statements(): ast.Statement[] {
    const statements: ast.Statement[] = [];
    while (!this.#is('}')) {
      if (this.#accept(';')) continue;
      const statement = this.#nest(this.#token, () => this.#statement());
      statements.push(statement);
      const isBlock = ['if', 'while', 'unroll', 'for-map', 'for-range', 'block'].includes(statement.kind);
      if (!isBlock && !this.#is('}')) this.#expect(';');
    }
    return statements;
  }

  #statement(): ast.Statement {
    const token = this.#token;
    const { start } = token;
    if (this.#is('{')) return this.#block();
    if (token.kind === 'ident') {
      switch (token.text) {
        case 'if':
          return this.#if();
        case 'while': {
          this.#advance();
          const condition = this.#expr();
          const body = this.#block();
          return { kind: 'while', start, end: this.#end, condition, body };
        }
        case 'unroll': {
          this.#advance();
          const count = this.#expr();
          const body = this.#block();
          return { kind: 'unroll', start, end: this.#end, count, body };
        }
        case 'for':
          return this.#for();
        case 'break':
        case 'continue':
          this.#advance();
          return { kind: token.text, start, end: this.#end };
        case 'return': {
          this.#advance();
          const value = this.#is(';') || this.#is('}') ? undefined : this.#expr();
          return { kind: 'return', start, end: this.#end, value };
        }
        case 'let':
          return this.#let();
      }
    }
    const expr = this.#expr();
    const op = this.#token.kind === 'punct' ? this.#token.text : '';
    if (ASSIGN_OPS.has(op)) {
      if (expr.kind !== 'map' && expr.kind !== 'var') {
        this.#diagnostics.fatal(
          expr,
          `syntax error, unexpected ${op}: only a map or a variable can be assigned to`,
          expr.kind === 'binary' || expr.kind === 'ident' ? 'maps are @name, variables $name' : undefined,
          'SYNTAX_ERROR',
        );
      }
      this.#advance();
      const value = this.#expr();
      return { kind: 'assign', start, end: this.#end, target: expr, op: ASSIGN_OPS.get(op), value };
    }
    return { kind: 'expr', start, end: this.#end, expr };
  }

  #if(): ast.If {
    const { start } = this.#advance();
    const condition = this.#expr();
    const body = this.#block();
    let otherwise: ast.Block | undefined;
    if (this.#isWord('else')) {
      this.#advance();
      if (this.#isWord('if')) {
        const inner = this.#nest(this.#token, () => this.#if());
        otherwise = { kind: 'block', start: inner.start, end: inner.end, body: [inner] };
      } else {
        otherwise = this.#block();
      }
    }
    return { kind: 'if', start, end: this.#end, condition, body, otherwise };
  }

  #for(): ast.ForMap | ast.ForRange {
    const { start } = this.#advance();
    const parens = this.#accept('(');
    if (this.#token.kind !== 'var')
      this.#unexpected('a variable', 'for ($kv : @map) { … } or for ($i : 0..10) { … }');
    const variable = this.#variable();
    this.#expect(':');
    const from = this.#expr();
    if (this.#accept('..')) {
      const to = this.#expr();
      if (parens) this.#expect(')');
      const body = this.#block();
      return { kind: 'for-range', start, end: this.#end, variable, from, to, body };
    }
    if (from.kind !== 'map') {
      this.#diagnostics.fatal(
        from,
        'a for loop goes over a map or a range',
        'for ($kv : @map) or for ($i : 0..10)',
      );
    }
    if (parens) this.#expect(')');
    const body = this.#block();
    return { kind: 'for-map', start, end: this.#end, variable, map: from, body };
  }

  #let(): ast.Let {
    const { start } = this.#advance();
    if (this.#token.kind !== 'var') this.#unexpected('a variable');
    const target = this.#variable();
    let type: string | undefined;
    if (this.#accept(':')) type = this.#typeName();
    const value = this.#accept('=') ? this.#expr() : undefined;
    return { kind: 'let', start, end: this.#end, target, type, value };
  }

  #typeName(): string {
    const token = this.#token;
    if (token.kind !== 'ident' || !TYPES.has(token.text)) {
      this.#unexpected('a type', `types are ${TYPE_NAMES.slice(0, 10).join(' ')}`);
    }
    return this.#advance().text;
  }

  #variable(): ast.Variable {
    const token = this.#advance();
    return { kind: 'var', start: token.start, end: token.end, name: token.text };
  }

  #expr(): ast.Expr {
    return this.#nest(this.#token, () => {
      const condition = this.#binary(0);
      if (!this.#accept('?')) return condition;
      const yes = this.#expr();
      this.#expect(':');
      const no = this.#expr();
      return { kind: 'ternary', start: condition.start, end: this.#end, condition, yes, no };
    });
  }

  #binary(level: number): ast.Expr {
    const ops = LEVELS[level];
    if (ops === undefined) return this.#unary();
    let left = this.#binary(level + 1);
    let length = 0;
    while (this.#token.kind === 'punct' && (ops as readonly string[]).includes(this.#token.text)) {
      const opSpan = this.#advance();
      if (++length > MAX_CHAIN) this.#diagnostics.fatal(opSpan, 'the expression is too long');
      const right = this.#binary(level + 1);
      const op = opSpan.text as ast.BinaryOp;
      left = { kind: 'binary', start: left.start, end: this.#end, op, opSpan, left, right };
    }
    return left;
  }

  #unary(): ast.Expr {
    return this.#nest(this.#token, () => {
      const { start, kind, text } = this.#token;
      if (kind === 'punct') {
        if (text === '!' || text === '~' || text === '-' || text === '+') {
          this.#advance();
          const operand = this.#unary();
          return { kind: 'unary', start, end: this.#end, op: text, operand };
        }
        if (text === '++' || text === '--') {
          this.#advance();
          const target = this.#unary();
          return this.#incDec(text, true, target, start);
        }
        if (text === '*' || text === '&') {
          this.#diagnostics.fatal(
            this.#token,
            'JavaScript has no pointers',
            'properties are read by name: arg0.name',
          );
        }
      }
      return this.#postfix();
    });
  }

  #incDec(op: '++' | '--', prefix: boolean, target: ast.Expr, start: number): ast.IncDec {
    if (target.kind !== 'map' && target.kind !== 'var') {
      this.#diagnostics.fatal(target, `The ${op} operator must be applied to a map or variable`);
    }
    return { kind: 'incdec', start, end: this.#end, op, prefix, target };
  }

  #postfix(): ast.Expr {
    let expr = this.#primary();
    for (;;) {
      const { start } = expr;
      // args->field, as older scripts of tracepoints have it
      const isArgs = expr.kind === 'ident' && expr.name === 'args';
      if (this.#accept('.') || (isArgs && this.#accept('->'))) {
        const name = this.#token;
        if (name.kind !== 'ident' && name.kind !== 'int') this.#unexpected('a property name');
        this.#advance();
        expr = { kind: 'member', start, end: this.#end, object: expr, name: name.text, nameSpan: name };
      } else if (this.#is('->')) {
        this.#diagnostics.fatal(
          this.#token,
          'JavaScript has no pointers',
          'properties are read with a dot: arg0.name',
        );
      } else if (this.#is('[') && expr.kind !== 'int') {
        this.#advance();
        const index = this.#expr();
        this.#expect(']');
        expr = { kind: 'index', start, end: this.#end, object: expr, index };
      } else if (this.#is('++') || this.#is('--')) {
        const op = this.#advance().text as '++' | '--';
        expr = this.#incDec(op, false, expr, start);
      } else {
        return expr;
      }
    }
  }

  #list(close: string): ast.Expr[] {
    const list: ast.Expr[] = [];
    while (!this.#is(close)) {
      list.push(this.#expr());
      if (!this.#accept(',')) break;
    }
    this.#expect(close);
    return list;
  }

  #primary(): ast.Expr {
    const token = this.#token;
    const { start } = token;
    switch (token.kind) {
      case 'int':
        this.#advance();
        return { kind: 'int', start, end: token.end, value: token.value! };
      case 'string':
        this.#advance();
        return { kind: 'string', start, end: token.end, value: token.text };
      case 'positional':
        this.#advance();
        return {
          kind: 'positional',
          start,
          end: token.end,
          index: token.text === '#' ? 'count' : Number(token.text),
        };
      case 'var':
        return this.#variable();
      case 'map': {
        this.#advance();
        let key: ast.Expr[] | undefined;
        if (this.#accept('[')) {
          key = this.#list(']');
          if (key.length === 0) {
            this.#diagnostics.fatal(
              { start, end: this.#end },
              'syntax error, unexpected ], expecting a map key',
            );
          }
        }
        return { kind: 'map', start, end: this.#end, name: token.text, key };
      }
      case 'ident':
        return this.#word();
      case 'punct':
        if (token.text === '(') return this.#paren();
        break;
    }
    return this.#unexpected('an expression');
  }

  #word(): ast.Expr {
    const token = this.#advance();
    const { start } = token;
    if (!this.#is('(')) return { kind: 'ident', start, end: token.end, name: token.text };
    this.#advance();
    if (token.text === 'sizeof') {
      const inner = this.#token;
      const operand = inner.kind === 'ident' && TYPES.has(inner.text) ? this.#advance().text : this.#expr();
      this.#expect(')');
      return { kind: 'sizeof', start, end: this.#end, operand };
    }
    const args = this.#list(')');
    return { kind: 'call', start, end: this.#end, name: token.text, nameSpan: token, args };
  }

  /** `(expr)`, a cast `(type)expr` or a tuple `(a, b)`. */
  #paren(): ast.Expr {
    const { start } = this.#advance();
    if (this.#token.kind === 'ident' && TYPES.has(this.#token.text)) {
      const type = this.#advance();
      if (this.#is('*')) {
        this.#diagnostics.fatal(
          this.#token,
          'JavaScript has no pointers',
          'properties are read by name: arg0.name',
        );
      }
      this.#expect(')');
      const operand = this.#unary();
      return { kind: 'cast', start, end: this.#end, type: type.text, operand };
    }
    if (this.#isWord('struct')) {
      this.#diagnostics.fatal(this.#token, NOT_HERE['struct']!);
    }
    if (this.#accept(')')) {
      return this.#diagnostics.fatal(
        { start, end: this.#end },
        'syntax error, unexpected ), expecting an expression',
      );
    }
    const first = this.#expr();
    if (this.#accept(')')) return first;
    this.#expect(',');
    const elements = [first, ...this.#list(')')];
    return { kind: 'tuple', start, end: this.#end, elements };
  }
}
