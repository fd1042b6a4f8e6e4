/** Expressions, by their precedence. */

import type * as ast from './ast.ts';
import { TokenStream } from './token-stream.ts';

/** Names a cast or `sizeof` may use. */
const TYPE_NAMES = [
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

/** The same where a script begins with one, and where a cast does. */
export const NO_STRUCTS =
  'C structs describe kernel memory; JavaScript objects are read by property: arg0.name';

/** How many operators of one precedence may follow each other. */
const MAX_CHAIN = 1000;

export abstract class ExpressionParser extends TokenStream {
  protected typeName(): string {
    const token = this.token;
    if (token.kind !== 'ident' || !TYPES.has(token.text)) {
      this.unexpected('a type', `types are ${TYPE_NAMES.slice(0, 10).join(' ')}`);
    }
    return this.advance().text;
  }

  protected variable(): ast.Variable {
    const token = this.advance();
    return { kind: 'var', start: token.start, end: token.end, name: token.text };
  }

  protected expr(): ast.Expr {
    return this.nest(this.token, () => {
      const condition = this.#binary(0);
      if (!this.accept('?')) return condition;
      const yes = this.expr();
      this.expect(':');
      const no = this.expr();
      return { kind: 'ternary', start: condition.start, end: this.end, condition, yes, no };
    });
  }

  #binary(level: number): ast.Expr {
    const ops = LEVELS[level];
    if (ops === undefined) return this.#unary();
    let left = this.#binary(level + 1);
    let length = 0;
    while (this.token.kind === 'punct' && (ops as readonly string[]).includes(this.token.text)) {
      const opSpan = this.advance();
      if (++length > MAX_CHAIN) this.diagnostics.fatal(opSpan, 'the expression is too long');
      const right = this.#binary(level + 1);
      const op = opSpan.text as ast.BinaryOp;
      left = { kind: 'binary', start: left.start, end: this.end, op, opSpan, left, right };
    }
    return left;
  }

  #unary(): ast.Expr {
    return this.nest(this.token, () => {
      const { start, kind, text } = this.token;
      if (kind === 'punct') {
        if (text === '!' || text === '~' || text === '-' || text === '+') {
          this.advance();
          const operand = this.#unary();
          return { kind: 'unary', start, end: this.end, op: text, operand };
        }
        if (text === '++' || text === '--') {
          this.advance();
          const target = this.#unary();
          return this.#incDec(text, true, target, start);
        }
        if (text === '*' || text === '&') {
          this.diagnostics.fatal(
            this.token,
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
      this.diagnostics.fatal(target, `The ${op} operator must be applied to a map or variable`);
    }
    return { kind: 'incdec', start, end: this.end, op, prefix, target };
  }

  #postfix(): ast.Expr {
    let expr = this.#primary();
    for (;;) {
      const { start } = expr;
      // args->field, as older scripts of tracepoints have it
      const isArgs = expr.kind === 'ident' && expr.name === 'args';
      if (this.accept('.') || (isArgs && this.accept('->'))) {
        const name = this.token;
        if (name.kind !== 'ident' && name.kind !== 'int') this.unexpected('a property name');
        this.advance();
        expr = { kind: 'member', start, end: this.end, object: expr, name: name.text, nameSpan: name };
      } else if (this.is('->')) {
        this.diagnostics.fatal(
          this.token,
          'JavaScript has no pointers',
          'properties are read with a dot: arg0.name',
        );
      } else if (this.is('[') && expr.kind !== 'int') {
        this.advance();
        const index = this.expr();
        this.expect(']');
        expr = { kind: 'index', start, end: this.end, object: expr, index };
      } else if (this.is('++') || this.is('--')) {
        const op = this.advance().text as '++' | '--';
        expr = this.#incDec(op, false, expr, start);
      } else {
        return expr;
      }
    }
  }

  #list(close: string): ast.Expr[] {
    const list: ast.Expr[] = [];
    while (!this.is(close)) {
      list.push(this.expr());
      if (!this.accept(',')) break;
    }
    this.expect(close);
    return list;
  }

  #primary(): ast.Expr {
    const token = this.token;
    const { start } = token;
    switch (token.kind) {
      case 'int':
        this.advance();
        return { kind: 'int', start, end: token.end, value: token.value! };
      case 'string':
        this.advance();
        return { kind: 'string', start, end: token.end, value: token.text };
      case 'positional':
        this.advance();
        return {
          kind: 'positional',
          start,
          end: token.end,
          index: token.text === '#' ? 'count' : Number(token.text),
        };
      case 'var':
        return this.variable();
      case 'map': {
        this.advance();
        let key: ast.Expr[] | undefined;
        if (this.accept('[')) {
          key = this.#list(']');
          if (key.length === 0) {
            this.diagnostics.fatal(
              { start, end: this.end },
              'syntax error, unexpected ], expecting a map key',
            );
          }
        }
        return { kind: 'map', start, end: this.end, name: token.text, key };
      }
      case 'ident':
        return this.#word();
      case 'punct':
        if (token.text === '(') return this.#paren();
        break;
    }
    return this.unexpected('an expression');
  }

  #word(): ast.Expr {
    const token = this.advance();
    const { start } = token;
    if (!this.is('(')) return { kind: 'ident', start, end: token.end, name: token.text };
    this.advance();
    if (token.text === 'sizeof') {
      const inner = this.token;
      const operand = inner.kind === 'ident' && TYPES.has(inner.text) ? this.advance().text : this.expr();
      this.expect(')');
      return { kind: 'sizeof', start, end: this.end, operand };
    }
    const args = this.#list(')');
    return { kind: 'call', start, end: this.end, name: token.text, nameSpan: token, args };
  }

  /** `(expr)`, a cast `(type)expr` or a tuple `(a, b)`. */
  #paren(): ast.Expr {
    const { start } = this.advance();
    if (this.token.kind === 'ident' && TYPES.has(this.token.text)) {
      const type = this.advance();
      if (this.is('*')) {
        this.diagnostics.fatal(
          this.token,
          'JavaScript has no pointers',
          'properties are read by name: arg0.name',
        );
      }
      this.expect(')');
      const operand = this.#unary();
      return { kind: 'cast', start, end: this.end, type: type.text, operand };
    }
    if (this.isWord('struct')) {
      this.diagnostics.fatal(this.token, NO_STRUCTS);
    }
    if (this.accept(')')) {
      return this.diagnostics.fatal(
        { start, end: this.end },
        'syntax error, unexpected ), expecting an expression',
      );
    }
    const first = this.expr();
    if (this.accept(')')) return first;
    this.expect(',');
    const elements = [first, ...this.#list(')')];
    return { kind: 'tuple', start, end: this.end, elements };
  }
}
