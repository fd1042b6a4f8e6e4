/**
 * What a script means when several processes are traced: each has maps of its own, which are merged when they are printed. bpftrace has
 * no counterpart; its maps are the machine's.
 */
import { type Expr, type MapAccess, type Script, type Statement, walkExpr, walkStatement } from './ast.ts';
import { attachPoints } from './attach-points.ts';
import type { ScriptPosition } from './script.ts';

export interface SeveralProcesses {
  /**
   * Names (`@n`) of maps that only go up and down (`++`, `--`, `+=`, `-=`, and `= 0`): their values of all processes add up. Those of
   * other plain maps do not, the first process's is shown.
   */
  readonly additive: ReadonlySet<string>;
  /** Places where an interval or END reads what other probes write: they see one process's maps. */
  readonly reads: readonly { readonly name: string; readonly position: ScriptPosition }[];
}

/** Functions that take a map as a whole, and are carried out for all processes. */
const WHOLE_MAP: ReadonlySet<string> = new Set(['print', 'clear', 'zero', 'delete']);

export function acrossProcesses(script: Script, params: readonly string[] = []): SeveralProcesses {
  const written = new Set<string>();
  const assigned = new Set<string>();
  const writtenByEvents = new Set<string>();
  const reads: MapAccess[] = [];
  const points = attachPoints(script, params);
  let next = 0;
  for (const probe of script.probes) {
    const types = probe.attachPoints.map(() => points[next++]!.type);
    const byTracer = types.every((type) => type === 'BEGIN' || type === 'END' || type === 'interval');
    const told = types.some((type) => type === 'END' || type === 'interval');
    const write = (name: string): void => {
      written.add(name);
      if (!byTracer) writtenByEvents.add(name);
    };
    /** Parts of the tree that name a map without reading it. */
    const unread = new Set<Expr>();
    const onExpr = (expr: Expr): void => {
      if (expr.kind === 'call' && WHOLE_MAP.has(expr.name) && expr.args[0] !== undefined)
        unread.add(expr.args[0]);
      if (expr.kind === 'incdec' && expr.target.kind === 'map') write(expr.target.name);
      if (expr.kind === 'map' && told && !unread.has(expr)) reads.push(expr);
    };
    const onStatement = (statement: Statement): void => {
      if (statement.kind === 'expr' && statement.expr.kind === 'incdec') unread.add(statement.expr.target);
      if (statement.kind !== 'assign' || statement.target.kind !== 'map') return;
      const { target, op, value } = statement;
      unread.add(target);
      write(target.name);
      const isZero = value.kind === 'int' && value.value === 0n;
      if (op === undefined ? !isZero : op !== '+' && op !== '-') assigned.add(target.name);
    };
    if (probe.predicate !== undefined) walkExpr(probe.predicate, onExpr);
    walkStatement(probe.body, onExpr, onStatement);
  }
  return {
    additive: new Set([...written].filter((name) => !assigned.has(name)).map((name) => `@${name}`)),
    reads: reads
      .filter(({ name }) => writtenByEvents.has(name))
      .map((read) => ({ name: `@${read.name}`, position: script.source.scriptPosition(read) })),
  };
}
