/**
 * First pass: puts positional parameters in, and computes what is constant. Returns a new tree; the types of literals are
 * settled later.
 */
import type * as ast from '../ast.ts';
import type { Diagnostics } from '../diagnostics.ts';
import { intTypeNamed } from '../types.ts';

export function foldScript(
  script: ast.Script,
  params: readonly string[],
  diagnostics: Diagnostics,
): ast.Script {
  const folder = new Folder(params, diagnostics);
  return { ...script, probes: script.probes.map((probe) => folder.probe(probe)) };
}

const I64_MIN = -(1n << 63n);
const wrap = (value: bigint): bigint => BigInt.asIntN(64, value);

class Folder {
  readonly #params: readonly string[];
  readonly #diagnostics: Diagnostics;

  constructor(params: readonly string[], diagnostics: Diagnostics) {
    this.#params = params;
    this.#diagnostics = diagnostics;
  }

  probe(probe: ast.Probe): ast.Probe {
    return {
      ...probe,
      predicate: probe.predicate && this.expr(probe.predicate),
      body: this.block(probe.body),
    };
  }

  block(block: ast.Block): ast.Block {
    return { ...block, body: block.body.map((statement) => this.statement(statement)) };
  }

  statement(statement: ast.Statement): ast.Statement {
    switch (statement.kind) {
      case 'expr':
        return { ...statement, expr: this.expr(statement.expr) };
      case 'let':
        return { ...statement, value: statement.value && this.expr(statement.value) };
      case 'assign':
        return { ...statement, target: this.#target(statement.target), value: this.expr(statement.value) };
      case 'if':
        return {
          ...statement,
          condition: this.expr(statement.condition),
          body: this.block(statement.body),
          otherwise: statement.otherwise && this.block(statement.otherwise),
        };
      case 'while':
        return { ...statement, condition: this.expr(statement.condition), body: this.block(statement.body) };
      case 'unroll':
        return { ...statement, count: this.expr(statement.count), body: this.block(statement.body) };
      case 'for-map':
        return { ...statement, body: this.block(statement.body) };
      case 'for-range':
        return {
          ...statement,
          from: this.expr(statement.from),
          to: this.expr(statement.to),
          body: this.block(statement.body),
        };
      case 'return':
        return { ...statement, value: statement.value && this.expr(statement.value) };
      case 'block':
        return this.block(statement);
      default:
        return statement;
    }
  }

  #target<T extends ast.Variable | ast.MapAccess>(target: T): T {
    if (target.kind === 'var' || target.key === undefined) return target;
    return { ...target, key: target.key.map((key) => this.expr(key)) };
  }

  expr(expr: ast.Expr): ast.Expr {
    switch (expr.kind) {
      case 'positional':
        return this.#positional(expr);
      case 'ident':
        if (expr.name === 'true' || expr.name === 'false') {
          return { kind: 'int', start: expr.start, end: expr.end, value: expr.name === 'true' ? 1n : 0n };
        }
        return expr;
      case 'map':
        return this.#target(expr);
      case 'call':
        return this.#call(expr);
      case 'unary':
        return this.#unary({ ...expr, operand: this.expr(expr.operand) });
      case 'incdec':
        return { ...expr, target: this.#target(expr.target) };
      case 'binary':
        return this.#binary({ ...expr, left: this.expr(expr.left), right: this.expr(expr.right) });
      case 'ternary': {
        const condition = this.expr(expr.condition);
        const yes = this.expr(expr.yes);
        const no = this.expr(expr.no);
        if (condition.kind === 'int') return condition.value !== 0n ? yes : no;
        return { ...expr, condition, yes, no };
      }
      case 'cast':
        return this.#cast({ ...expr, operand: this.expr(expr.operand) });
      case 'member':
        return { ...expr, object: this.expr(expr.object) };
      case 'index':
        return { ...expr, object: this.expr(expr.object), index: this.#key(expr.index) };
      case 'tuple':
        return { ...expr, elements: expr.elements.map((element) => this.expr(element)) };
      case 'sizeof':
        return this.#sizeof(expr);
      default:
        return expr;
    }
  }

  #positional(expr: ast.Positional): ast.Expr {
    const at = { start: expr.start, end: expr.end };
    if (expr.index === 'count') return { kind: 'int', ...at, value: BigInt(this.#params.length) };
    const text = this.#params[expr.index - 1];
    if (text === undefined || text === '') return { kind: 'int', ...at, value: 0n };
    const number = /^([+-]?)(0[xX][0-9a-fA-F]+|[0-9]+)$/.exec(text.trim());
    if (!number) {
      this.#diagnostics.error(
        expr,
        `$${expr.index} used numerically but given "${text}". Try using str($${expr.index}).`,
      );
      return { kind: 'int', ...at, value: 0n };
    }
    const magnitude = BigInt(number[2]!);
    const value = number[1] === '-' ? -magnitude : magnitude;
    if (value >= 1n << 64n || value < I64_MIN) {
      this.#diagnostics.error(expr, `$${expr.index} is out of integer range: ${text}`);
    }
    return { kind: 'int', ...at, value };
  }

  /** A parameter as text: `str($1)`, and as a property key. */
  #text(expr: ast.Positional): ast.StringLiteral {
    const value = expr.index === 'count' ? String(this.#params.length) : (this.#params[expr.index - 1] ?? '');
    return { kind: 'string', start: expr.start, end: expr.end, value };
  }

  #key(expr: ast.Expr): ast.Expr {
    if (expr.kind !== 'positional') return this.expr(expr);
    const text = this.#text(expr);
    return /^[0-9]+$/.test(text.value) ? this.expr(expr) : text;
  }

  #call(expr: ast.Call): ast.Expr {
    if (expr.name === 'str' && expr.args[0]?.kind === 'positional') {
      const text = this.#text(expr.args[0]);
      return { ...expr, args: [text, ...expr.args.slice(1).map((arg) => this.expr(arg))] };
    }
    return { ...expr, args: expr.args.map((arg) => this.expr(arg)) };
  }

  #sizeof(expr: ast.Sizeof): ast.Expr {
    if (typeof expr.operand === 'string') {
      const type = intTypeNamed(expr.operand);
      if (type) return { kind: 'int', start: expr.start, end: expr.end, value: BigInt(type.size) };
      this.#diagnostics.error(
        expr,
        `the size of ${expr.operand} depends on its contents`,
        'sizeof($variable)',
      );
      return { kind: 'int', start: expr.start, end: expr.end, value: 0n };
    }
    return { ...expr, operand: this.expr(expr.operand) };
  }

  #unary(expr: ast.Unary): ast.Expr {
    const { operand } = expr;
    if (operand.kind !== 'int') return expr;
    const { value } = operand;
    const at = { kind: 'int' as const, start: expr.start, end: expr.end };
    switch (expr.op) {
      case '-':
        if (value > 1n << 63n) {
          this.#diagnostics.error(expr, `Integer literal -${value} is too small: it does not fit in 64 bits`);
        }
        return { ...at, value: wrap(-value) };
      case '~':
        return { ...at, value: wrap(~value) };
      case '!':
        return { ...at, value: value === 0n ? 1n : 0n };
      default:
        return { ...at, value };
    }
  }

  #cast(expr: ast.Cast): ast.Expr {
    const type = intTypeNamed(expr.type);
    // uint64 stays: its signedness is not in the value.
    if (expr.operand.kind !== 'int' || type === undefined || !type.signed) return expr;
    const value = BigInt.asIntN(type.size * 8, expr.operand.value);
    return { kind: 'int', start: expr.start, end: expr.end, value };
  }

  #binary(expr: ast.Binary): ast.Expr {
    const { left, right } = expr;
    if (left.kind !== 'int' || right.kind !== 'int') return expr;
    const at = { kind: 'int' as const, start: expr.start, end: expr.end };
    const a = left.value;
    const b = right.value;
    const bool = (value: boolean): ast.IntLiteral => ({ ...at, value: value ? 1n : 0n });
    switch (expr.op) {
      case '+':
        return { ...at, value: wrap(a + b) };
      case '-':
        return { ...at, value: wrap(a - b) };
      case '*':
        return { ...at, value: wrap(a * b) };
      case '/':
      case '%':
        if (b === 0n) {
          this.#diagnostics.error(right, expr.op === '/' ? 'Division by zero' : 'Modulo by zero');
          return { ...at, value: 0n };
        }
        return { ...at, value: wrap(expr.op === '/' ? a / b : a % b) };
      case '&':
        return { ...at, value: wrap(a & b) };
      case '|':
        return { ...at, value: wrap(a | b) };
      case '^':
        return { ...at, value: wrap(a ^ b) };
      case '<<':
        return b < 0n || b > 63n ? expr : { ...at, value: wrap(a << b) };
      case '>>':
        return b < 0n || b > 63n ? expr : { ...at, value: wrap(a >> b) };
      case '==':
        return bool(a === b);
      case '!=':
        return bool(a !== b);
      case '<':
        return bool(a < b);
      case '>':
        return bool(a > b);
      case '<=':
        return bool(a <= b);
      case '>=':
        return bool(a >= b);
      case '&&':
        return bool(a !== 0n && b !== 0n);
      case '||':
        return bool(a !== 0n || b !== 0n);
    }
  }
}
