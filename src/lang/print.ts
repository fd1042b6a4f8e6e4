/** A tree back to script text: one statement a line, parentheses where the tree needs them. Parsing it gives the same tree. */
import type * as ast from './ast.ts';

const PRECEDENCE: Record<ast.BinaryOp, number> = {
  '||': 1,
  '&&': 2,
  '|': 3,
  '^': 4,
  '&': 5,
  '==': 6,
  '!=': 6,
  '<': 7,
  '>': 7,
  '<=': 7,
  '>=': 7,
  '<<': 8,
  '>>': 8,
  '+': 9,
  '-': 9,
  '*': 10,
  '/': 10,
  '%': 10,
};
const UNARY = 11;
const POSTFIX = 12;

export function printScript(script: ast.Script): string {
  const parts: string[] = [];
  if (script.config.length > 0) {
    const entries = script.config.map(({ name, value }) => {
      const shown = typeof value === 'bigint' ? value : /^\w+$/.test(value) ? value : quote(value);
      return `  ${name} = ${shown};\n`;
    });
    parts.push(`config = {\n${entries.join('')}}\n`);
  }
  for (const probe of script.probes) parts.push(printProbe(probe));
  return parts.join('\n');
}

function printProbe(probe: ast.Probe): string {
  const points = probe.attachPoints.map(printAttachPoint).join(',\n');
  const predicate = probe.predicate ? `\n/ ${printExpr(probe.predicate)} /` : '';
  return `${points}${predicate}\n${printBlock(probe.body, '')}\n`;
}

export function printAttachPoint(point: ast.AttachPointNode): string {
  if (point.target === undefined) return point.provider;
  // What could be read as the end of the target is quoted.
  const plain = /^(?:[^\s,{}"/;]|\/(?=[^:]*:[^:\s]))*$/.test(point.target);
  return `${point.provider}:${plain ? point.target : quote(point.target)}`;
}

function printBlock(block: ast.Block, indent: string): string {
  const inner = `${indent}  `;
  const lines = block.body.map((statement) => `${inner}${printStatement(statement, inner)}\n`);
  return `{\n${lines.join('')}${indent}}`;
}

export function printStatement(statement: ast.Statement, indent = ''): string {
  switch (statement.kind) {
    case 'expr':
      return `${printExpr(statement.expr)};`;
    case 'let': {
      const type = statement.type === undefined ? '' : `: ${statement.type}`;
      const value = statement.value === undefined ? '' : ` = ${printExpr(statement.value)}`;
      return `let $${statement.target.name}${type}${value};`;
    }
    case 'assign':
      return `${printExpr(statement.target)} ${statement.op ?? ''}= ${printExpr(statement.value)};`;
    case 'if': {
      const otherwise = statement.otherwise ? ` else ${printBlock(statement.otherwise, indent)}` : '';
      return `if (${printExpr(statement.condition)}) ${printBlock(statement.body, indent)}${otherwise}`;
    }
    case 'while':
      return `while (${printExpr(statement.condition)}) ${printBlock(statement.body, indent)}`;
    case 'unroll':
      return `unroll (${printExpr(statement.count)}) ${printBlock(statement.body, indent)}`;
    case 'for-map':
      return `for ($${statement.variable.name} : ${printExpr(statement.map)}) ${printBlock(statement.body, indent)}`;
    case 'for-range': {
      const range = `${printExpr(statement.from)}..${printExpr(statement.to)}`;
      return `for ($${statement.variable.name} : ${range}) ${printBlock(statement.body, indent)}`;
    }
    case 'break':
    case 'continue':
      return `${statement.kind};`;
    case 'return':
      return statement.value ? `return ${printExpr(statement.value)};` : 'return;';
    case 'block':
      return printBlock(statement, indent);
  }
}

export function printExpr(expr: ast.Expr): string {
  return print(expr, 0);
}

/** `level` is the precedence that needs no parentheses. */
function print(expr: ast.Expr, level: number): string {
  const wrap = (own: number, text: string): string => (own < level ? `(${text})` : text);
  switch (expr.kind) {
    case 'int':
      return String(expr.value);
    case 'string':
      return quote(expr.value);
    case 'positional':
      return expr.index === 'count' ? '$#' : `$${expr.index}`;
    case 'ident':
      return expr.name;
    case 'var':
      return `$${expr.name}`;
    case 'map':
      return `@${expr.name}${expr.key ? `[${list(expr.key)}]` : ''}`;
    case 'call':
      return `${expr.name}(${list(expr.args)})`;
    case 'unary': {
      const operand = print(expr.operand, UNARY);
      // `- -x` is not `--x`.
      return wrap(UNARY, `${expr.op}${operand.startsWith(expr.op) ? ' ' : ''}${operand}`);
    }
    case 'incdec': {
      const target = print(expr.target, POSTFIX);
      return expr.prefix ? wrap(UNARY, expr.op + target) : target + expr.op;
    }
    case 'binary': {
      const own = PRECEDENCE[expr.op];
      return wrap(own, `${print(expr.left, own)} ${expr.op} ${print(expr.right, own + 1)}`);
    }
    case 'ternary':
      return wrap(0, `${print(expr.condition, 1)} ? ${print(expr.yes, 0)} : ${print(expr.no, 0)}`);
    case 'cast':
      return wrap(UNARY, `(${expr.type})${print(expr.operand, UNARY)}`);
    case 'member':
      return `${print(expr.object, POSTFIX)}.${expr.name}`;
    case 'index':
      return `${print(expr.object, POSTFIX)}[${print(expr.index, 0)}]`;
    case 'tuple':
      return `(${list(expr.elements)}${expr.elements.length === 1 ? ',' : ''})`;
    case 'sizeof':
      return `sizeof(${typeof expr.operand === 'string' ? expr.operand : print(expr.operand, 0)})`;
  }
}

function list(exprs: readonly ast.Expr[]): string {
  return exprs.map((expr) => print(expr, 0)).join(', ');
}

/** A string literal, with escapes where the lexer needs them. */
export function quote(text: string): string {
  const escapes: Record<string, string> = { '\n': '\\n', '\t': '\\t', '\r': '\\r', '"': '\\"', '\\': '\\\\' };
  const body = text.replace(
    /["\\\x00-\x1f]/g,
    (c) => escapes[c] ?? `\\x${c.charCodeAt(0).toString(16).padStart(2, '0')}`,
  );
  return `"${body}"`;
}
