/** A probe with other expressions in the place of some: whatever `change` gives for an expression whose parts are changed already. */
import type * as ast from '../ast.ts';

type Change = (expr: ast.Expr) => ast.Expr;

export function mapProbe(probe: ast.Probe, change: Change): ast.Probe {
  const predicate = probe.predicate && mapExpr(probe.predicate, change);
  return { ...probe, predicate, body: mapBlock(probe.body, change) };
}

function mapBlock(block: ast.Block, change: Change): ast.Block {
  return { ...block, body: block.body.map((statement) => mapStatement(statement, change)) };
}

function mapStatement(statement: ast.Statement, change: Change): ast.Statement {
  const expr = (one: ast.Expr): ast.Expr => mapExpr(one, change);
  const block = (one: ast.Block): ast.Block => mapBlock(one, change);
  switch (statement.kind) {
    case 'expr':
      return { ...statement, expr: expr(statement.expr) };
    case 'let':
    case 'return':
      return { ...statement, value: statement.value && expr(statement.value) };
    case 'assign':
      return { ...statement, target: mapTarget(statement.target, change), value: expr(statement.value) };
    case 'if':
      return {
        ...statement,
        condition: expr(statement.condition),
        body: block(statement.body),
        otherwise: statement.otherwise && block(statement.otherwise),
      };
    case 'while':
      return { ...statement, condition: expr(statement.condition), body: block(statement.body) };
    case 'unroll':
    case 'for-map':
      return { ...statement, body: block(statement.body) };
    case 'for-range':
      return {
        ...statement,
        from: expr(statement.from),
        to: expr(statement.to),
        body: block(statement.body),
      };
    case 'block':
      return block(statement);
    default:
      return statement;
  }
}

function mapTarget<T extends ast.Variable | ast.MapAccess>(target: T, change: Change): T {
  if (target.kind === 'var' || target.key === undefined) return target;
  return { ...target, key: target.key.map((key) => mapExpr(key, change)) };
}

function mapExpr(whole: ast.Expr, change: Change): ast.Expr {
  const expr = (one: ast.Expr): ast.Expr => mapExpr(one, change);
  switch (whole.kind) {
    case 'map':
      return change(mapTarget(whole, change));
    case 'call':
      return change({ ...whole, args: whole.args.map(expr) });
    case 'unary':
    case 'cast':
      return change({ ...whole, operand: expr(whole.operand) });
    case 'incdec':
      return change({ ...whole, target: mapTarget(whole.target, change) });
    case 'binary':
      return change({ ...whole, left: expr(whole.left), right: expr(whole.right) });
    case 'ternary':
      return change({
        ...whole,
        condition: expr(whole.condition),
        yes: expr(whole.yes),
        no: expr(whole.no),
      });
    case 'member':
      return change({ ...whole, object: expr(whole.object) });
    case 'index':
      return change({ ...whole, object: expr(whole.object), index: expr(whole.index) });
    case 'tuple':
      return change({ ...whole, elements: whole.elements.map(expr) });
    case 'sizeof':
      return change(typeof whole.operand === 'string' ? whole : { ...whole, operand: expr(whole.operand) });
    default:
      return change(whole);
  }
}
