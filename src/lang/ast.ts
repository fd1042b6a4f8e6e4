/**
 * The syntax tree. Every node has its span in the source. The parser makes it; passes read it and keep what they find out
 * (types, folded constants, resolved parameters) in side tables keyed by node.
 */
import type { SourceText, Span } from './position.ts';

export interface IntLiteral extends Span {
  readonly kind: 'int';
  readonly value: bigint;
}
export interface StringLiteral extends Span {
  readonly kind: 'string';
  readonly value: string;
}
/** `$1`; `$#` has index 'count' */
export interface Positional extends Span {
  readonly kind: 'positional';
  readonly index: number | 'count';
}
/** A bare name: a builtin such as `nsecs` or `arg0`, or `args`. */
export interface Identifier extends Span {
  readonly kind: 'ident';
  readonly name: string;
}
export interface Variable extends Span {
  readonly kind: 'var';
  /** Without the `$`. */
  readonly name: string;
}
export interface MapAccess extends Span {
  readonly kind: 'map';
  /** Without the `@`. */
  readonly name: string;
  /** Undefined: no brackets. */
  readonly key: readonly Expr[] | undefined;
}
export interface Call extends Span {
  readonly kind: 'call';
  readonly name: string;
  readonly nameSpan: Span;
  readonly args: readonly Expr[];
}
export type UnaryOp = '!' | '~' | '-' | '+';
export interface Unary extends Span {
  readonly kind: 'unary';
  readonly op: UnaryOp;
  readonly operand: Expr;
}
export interface IncDec extends Span {
  readonly kind: 'incdec';
  readonly op: '++' | '--';
  readonly prefix: boolean;
  readonly target: Variable | MapAccess;
}
export type BinaryOp =
  | '||'
  | '&&'
  | '|'
  | '^'
  | '&'
  | '=='
  | '!='
  | '<'
  | '>'
  | '<='
  | '>='
  | '<<'
  | '>>'
  | '+'
  | '-'
  | '*'
  | '/'
  | '%';
export interface Binary extends Span {
  readonly kind: 'binary';
  readonly op: BinaryOp;
  readonly opSpan: Span;
  readonly left: Expr;
  readonly right: Expr;
}
export interface Ternary extends Span {
  readonly kind: 'ternary';
  readonly condition: Expr;
  readonly yes: Expr;
  readonly no: Expr;
}
export interface Cast extends Span {
  readonly kind: 'cast';
  readonly type: string;
  readonly operand: Expr;
}
/** `.name` or, on tuples, `.0` */
export interface Member extends Span {
  readonly kind: 'member';
  readonly object: Expr;
  readonly name: string;
  readonly nameSpan: Span;
}
export interface Index extends Span {
  readonly kind: 'index';
  readonly object: Expr;
  readonly index: Expr;
}
export interface Tuple extends Span {
  readonly kind: 'tuple';
  readonly elements: readonly Expr[];
}
/** `sizeof(type)` or `sizeof(expression)` */
export interface Sizeof extends Span {
  readonly kind: 'sizeof';
  readonly operand: string | Expr;
}
export type Expr =
  | IntLiteral
  | StringLiteral
  | Positional
  | Identifier
  | Variable
  | MapAccess
  | Call
  | Unary
  | IncDec
  | Binary
  | Ternary
  | Cast
  | Member
  | Index
  | Tuple
  | Sizeof;

export interface ExprStatement extends Span {
  readonly kind: 'expr';
  readonly expr: Expr;
}
/** `let $x;`, `let $x: uint64 = 1;` */
export interface Let extends Span {
  readonly kind: 'let';
  readonly target: Variable;
  readonly type: string | undefined;
  readonly value: Expr | undefined;
}
/** `=` or a compound assignment; `op` is the operator without its `=`. */
export interface Assign extends Span {
  readonly kind: 'assign';
  readonly target: Variable | MapAccess;
  readonly op: BinaryOp | undefined;
  readonly value: Expr;
}
export interface If extends Span {
  readonly kind: 'if';
  readonly condition: Expr;
  readonly body: Block;
  readonly otherwise: Block | undefined;
}
export interface While extends Span {
  readonly kind: 'while';
  readonly condition: Expr;
  readonly body: Block;
}
export interface Unroll extends Span {
  readonly kind: 'unroll';
  readonly count: Expr;
  readonly body: Block;
}
export interface ForMap extends Span {
  readonly kind: 'for-map';
  readonly variable: Variable;
  readonly map: MapAccess;
  readonly body: Block;
}
export interface ForRange extends Span {
  readonly kind: 'for-range';
  readonly variable: Variable;
  readonly from: Expr;
  readonly to: Expr;
  readonly body: Block;
}
export interface Jump extends Span {
  readonly kind: 'break' | 'continue';
}
export interface Return extends Span {
  readonly kind: 'return';
  readonly value: Expr | undefined;
}
export interface Block extends Span {
  readonly kind: 'block';
  readonly body: readonly Statement[];
}
export type Statement =
  | ExprStatement
  | Let
  | Assign
  | If
  | While
  | Unroll
  | ForMap
  | ForRange
  | Jump
  | Return
  | Block;

/** `kprobe:server.js:handle` as written, split at the first colon. */
export interface AttachPointNode extends Span {
  /** As written: `k`, `kprobe`, `begin`… */
  readonly provider: string;
  readonly providerSpan: Span;
  /** Everything behind the first colon, unquoted; undefined without one. */
  readonly target: string | undefined;
  readonly targetSpan: Span;
}

export interface Probe extends Span {
  readonly attachPoints: readonly AttachPointNode[];
  readonly predicate: Expr | undefined;
  readonly body: Block;
}

export interface ConfigEntry extends Span {
  readonly name: string;
  readonly nameSpan: Span;
  readonly value: bigint | string;
  readonly valueSpan: Span;
}

export interface Script extends Span {
  readonly source: SourceText;
  readonly config: readonly ConfigEntry[];
  readonly probes: readonly Probe[];
}

/** The direct parts of an expression, in evaluation order. */
export function childExprs(expr: Expr): readonly Expr[] {
  switch (expr.kind) {
    case 'map':
      return expr.key ?? [];
    case 'call':
      return expr.args;
    case 'unary':
    case 'cast':
      return [expr.operand];
    case 'incdec':
      return [expr.target];
    case 'binary':
      return [expr.left, expr.right];
    case 'ternary':
      return [expr.condition, expr.yes, expr.no];
    case 'member':
      return [expr.object];
    case 'index':
      return [expr.object, expr.index];
    case 'tuple':
      return expr.elements;
    case 'sizeof':
      return typeof expr.operand === 'string' ? [] : [expr.operand];
    default:
      return [];
  }
}

/** The expressions and the statements directly inside a statement. */
export function childrenOf(statement: Statement): {
  exprs: readonly Expr[];
  statements: readonly Statement[];
} {
  switch (statement.kind) {
    case 'expr':
      return { exprs: [statement.expr], statements: [] };
    case 'let':
      return { exprs: statement.value ? [statement.value] : [], statements: [] };
    case 'assign':
      return { exprs: [statement.value, statement.target], statements: [] };
    case 'if':
      return {
        exprs: [statement.condition],
        statements: statement.otherwise ? [statement.body, statement.otherwise] : [statement.body],
      };
    case 'while':
      return { exprs: [statement.condition], statements: [statement.body] };
    case 'unroll':
      return { exprs: [statement.count], statements: [statement.body] };
    case 'for-map':
      return { exprs: [statement.map], statements: [statement.body] };
    case 'for-range':
      return { exprs: [statement.from, statement.to], statements: [statement.body] };
    case 'return':
      return { exprs: statement.value ? [statement.value] : [], statements: [] };
    case 'block':
      return { exprs: [], statements: statement.body };
    default:
      return { exprs: [], statements: [] };
  }
}

/** Calls `visit` for an expression and everything inside it, outermost first. */
export function walkExpr(expr: Expr, visit: (expr: Expr) => void): void {
  visit(expr);
  for (const child of childExprs(expr)) walkExpr(child, visit);
}

/** Calls `visit` for every expression of a statement and of what is inside it. */
export function walkStatement(
  statement: Statement,
  visit: (expr: Expr) => void,
  visitStatement?: (statement: Statement) => void,
): void {
  visitStatement?.(statement);
  const { exprs, statements } = childrenOf(statement);
  for (const expr of exprs) walkExpr(expr, visit);
  for (const inner of statements) walkStatement(inner, visit, visitStatement);
}

/** Every expression of a probe, the predicate included. */
export function walkProbe(
  probe: Probe,
  visit: (expr: Expr) => void,
  visitStatement?: (statement: Statement) => void,
): void {
  if (probe.predicate) walkExpr(probe.predicate, visit);
  walkStatement(probe.body, visit, visitStatement);
}
