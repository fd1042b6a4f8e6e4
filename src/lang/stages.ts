/** What `-d` shows of a script on its way: the tree, and the instructions with the statements they came from. */
import { disassemble } from '../bpf/index.ts';
import { JS_KFUNC_DECLS } from '../kernel/trace/js-kfuncs.ts';
import * as ast from './ast.ts';
import type { Compilation } from './compile.ts';
import { printAttachPoint, printExpr, quote } from './print.ts';
import { type LType, typeName } from './types.ts';

export const STAGES = ['ast', 'codegen'] as const;
export type Stage = (typeof STAGES)[number];

/** The text of one stage. */
export function dumpStage(stage: Stage, compilation: Compilation): string {
  if (stage === 'codegen') return dumpCodegen(compilation);
  const { script, types } = compilation.semantics;
  return dumpAst(script, (expr) => types.get(expr));
}

/** The tree as indented text, with types where they are known. Works on a script that was only parsed, too. */
export function dumpAst(
  script: ast.Script,
  typeOf: (expr: ast.Expr) => LType | undefined = () => undefined,
): string {
  const lines = ['Program'];
  const put = (depth: number, text: string): void => void lines.push(`${' '.repeat(depth)}${text}`);
  const dumpExpr = (expr: ast.Expr, depth: number): void => {
    const type = typeOf(expr);
    const shown = type === undefined || type.kind === 'none' ? '' : ` :: [${typeName(type)}]`;
    put(depth, describe(expr) + shown);
    for (const child of ast.childExprs(expr)) dumpExpr(child, depth + 1);
  };
  const dumpStatement = (statement: ast.Statement, depth: number): void => {
    switch (statement.kind) {
      case 'expr':
        dumpExpr(statement.expr, depth);
        return;
      case 'assign':
        put(depth, `${statement.op ?? ''}=`);
        dumpExpr(statement.target, depth + 1);
        dumpExpr(statement.value, depth + 1);
        return;
      case 'let':
        put(
          depth,
          `let $${statement.target.name}${statement.type === undefined ? '' : `: ${statement.type}`}`,
        );
        if (statement.value) dumpExpr(statement.value, depth + 1);
        return;
      case 'block':
        put(depth, 'block');
        break;
      case 'for-map':
      case 'for-range':
        put(depth, `for $${statement.variable.name}`);
        break;
      default:
        put(depth, statement.kind);
    }
    const { exprs, statements } = ast.childrenOf(statement);
    for (const expr of exprs) dumpExpr(expr, depth + 1);
    for (const [i, inner] of statements.entries()) {
      const isBody = statement.kind !== 'block' && inner.kind === 'block';
      if (!isBody) {
        dumpStatement(inner, depth + 1);
        continue;
      }
      put(depth + 1, statement.kind === 'if' && i === 1 ? 'else' : 'then');
      for (const each of inner.body) dumpStatement(each, depth + 2);
    }
  };
  for (const entry of script.config) put(1, `config: ${entry.name} = ${entry.value}`);
  for (const probe of script.probes) {
    for (const point of probe.attachPoints) put(1, printAttachPoint(point));
    if (probe.predicate) {
      put(2, 'pred');
      dumpExpr(probe.predicate, 3);
    }
    for (const statement of probe.body.body) dumpStatement(statement, 2);
  }
  return `${lines.join('\n')}\n`;
}

function describe(expr: ast.Expr): string {
  switch (expr.kind) {
    case 'int':
      return `int: ${expr.value}`;
    case 'string':
      return `string: ${quote(expr.value)}`;
    case 'positional':
    case 'var':
      return `variable: ${printExpr(expr)}`;
    case 'ident':
      return `builtin: ${expr.name}`;
    case 'map':
      return `map: @${expr.name}`;
    case 'call':
      return `call: ${expr.name}`;
    case 'unary':
    case 'binary':
      return expr.op;
    case 'incdec':
      return `${expr.op} (${expr.prefix ? 'pre' : 'post'})`;
    case 'ternary':
      return '?:';
    case 'cast':
      return `(${expr.type})`;
    case 'member':
      return `.${expr.name}`;
    case 'index':
      return '[]';
    default:
      return expr.kind;
  }
}

/** Every program in the kernel's syntax, each run of instructions under its statement; maps and paths behind them. */
export function dumpCodegen({ script, notes }: Compilation): string {
  const kfuncs = new Map<number, string>(JS_KFUNC_DECLS.map(({ id, name }) => [id, name]));
  const parts: string[] = [];
  for (const [index, program] of script.programs.entries()) {
    const points = program.attach.map(({ point }) =>
      point.target === '' ? point.type : `${point.type}:${point.target}`,
    );
    parts.push(`; program ${index}: ${points.join(', ')}`);
    const listing = disassemble(program.insns, { kfuncName: (id) => kfuncs.get(id) });
    // Statements without instructions (behind an exit) have the place of the next one, which wins.
    const marks = new Map((notes[index] ?? []).map(({ at, text }) => [at, text]));
    for (const line of listing.split('\n')) {
      const mark = marks.get(Number.parseInt(line, 10));
      if (mark !== undefined) parts.push(mark === '' ? ';' : `; ${mark}`);
      parts.push(`  ${line}`);
    }
    parts.push('');
  }
  for (const [index, { name, spec }] of script.maps.entries()) {
    const { type, keySize, valueSize, maxEntries } = spec;
    parts.push(
      `; map ${index} ${name ?? spec.name}: ${type}, key ${keySize}, value ${valueSize}, ${maxEntries} entries`,
    );
  }
  for (const [index, { keys }] of script.paths.entries()) {
    if (keys.length > 0) parts.push(`; path ${index} ${keys.map((key) => JSON.stringify(key)).join(' ')}`);
  }
  return `${parts.join('\n')}\n`;
}
