/**
 * Second pass: asks the resolver what each attach point matches, and splits a probe into groups of targets in which
 * every args.NAME is the same argument.
 */
import { TraplineError } from '../../errors.ts';
import { didYouMean } from '../../similar.ts';
import * as ast from '../ast.ts';
import { toAttachPoint } from '../attach-points.ts';
import type { Diagnostics } from '../diagnostics.ts';
import type { AttachPoint, ProbeResolver, ProbeTarget, TargetField } from '../script.ts';
import { mapProbe } from './map-exprs.ts';
import type { ProbeGroup, ProbeInfo } from './semantics.ts';

export function resolveProbe(
  probe: ast.Probe,
  resolver: ProbeResolver,
  params: readonly string[],
  diagnostics: Diagnostics,
): ProbeInfo {
  const points: AttachPoint[] = [];
  const resolved: { point: AttachPoint; targets: readonly ProbeTarget[] }[] = [];
  for (const node of probe.attachPoints) {
    const point = toAttachPoint(node, params, diagnostics);
    if (point === undefined) continue;
    points.push(point);
    resolved.push({ point, targets: hasTargets(point) ? resolve(point, node, resolver, diagnostics) : [] });
  }
  const groups = group(probe, resolved, diagnostics);
  return { probe: typedFields(probe, resolved, diagnostics), points, groups };
}

function hasTargets(point: AttachPoint): boolean {
  return !['BEGIN', 'END', 'interval', 'profile'].includes(point.type);
}

function resolve(
  point: AttachPoint,
  node: ast.AttachPointNode,
  resolver: ProbeResolver,
  diagnostics: Diagnostics,
): readonly ProbeTarget[] {
  try {
    const targets = resolver.resolve(point);
    if (targets.length === 0) {
      diagnostics.error(
        node.targetSpan,
        `No ${point.type.endsWith('tracepoint') ? 'tracepoint' : 'function'} matches ${point.type}:${point.target}`,
        undefined,
        'ENOENT',
      );
    }
    return targets;
  } catch (error) {
    if (!(error instanceof TraplineError)) throw error;
    diagnostics.error(node.targetSpan, error.message, error.hint, error.code);
    return [];
  }
}

function group(
  probe: ast.Probe,
  resolved: readonly { point: AttachPoint; targets: readonly ProbeTarget[] }[],
  diagnostics: Diagnostics,
): ProbeGroup[] {
  const uses = new Map<string, ast.Member>();
  ast.walkProbe(probe, (expr) => {
    if (expr.kind === 'member' && expr.object.kind === 'ident' && expr.object.name === 'args') {
      if (!uses.has(expr.name)) uses.set(expr.name, expr);
    }
  });
  if (uses.size === 0) return [{ attach: resolved, params: new Map() }];

  interface Group {
    readonly params: Map<string, number>;
    readonly paths: Map<string, TargetField['path']>;
    readonly attach: Map<AttachPoint, ProbeTarget[]>;
  }
  const groups = new Map<string, Group>();
  for (const { point, targets } of resolved) {
    for (const target of targets) {
      const params = new Map<string, number>();
      const paths = new Map<string, TargetField['path']>();
      for (const [name, use] of uses) {
        const index = target.params.indexOf(name);
        if (index < 0) {
          const known = target.params.filter((param) => param !== undefined);
          const what = target.fields === undefined ? 'parameter' : 'field';
          const list = known.length > 0 ? `its ${what}s: ${known.join(', ')}` : `it has no named ${what}s`;
          const hint = didYouMean(name, known, 'args.') ?? list;
          diagnostics.error(use.nameSpan, `${target.name} does not have a ${what} named '${name}'`, hint);
        }
        const field = target.fields?.[index];
        params.set(name, field === undefined ? index : field.arg);
        if (field !== undefined && field.path.length > 0) paths.set(name, field.path);
      }
      const key = JSON.stringify([...params.values(), ...paths]);
      let found = groups.get(key);
      if (found === undefined) {
        found = { params, paths, attach: new Map() };
        groups.set(key, found);
      }
      const list = found.attach.get(point);
      if (list) list.push(target);
      else found.attach.set(point, [target]);
    }
  }
  return [...groups.values()].map(({ params, paths, attach }) => ({
    params,
    paths,
    attach: [...attach].map(([point, targets]) => ({ point, targets })),
  }));
}

/** Fields have types: a text is str(args.url), a number (uint64)args.status. */
function typedFields(
  probe: ast.Probe,
  resolved: readonly { targets: readonly ProbeTarget[] }[],
  diagnostics: Diagnostics,
): ast.Probe {
  const targets = resolved.flatMap((one) => one.targets);
  if (!targets.some(({ fields }) => fields !== undefined)) return probe;
  const told = new Set<string>();
  return mapProbe(probe, (expr) => {
    if (expr.kind !== 'member' || expr.object.kind !== 'ident' || expr.object.name !== 'args') return expr;
    const types = new Set(
      targets.map(({ params, fields }) => fields?.[params.indexOf(expr.name)]?.type ?? 'value'),
    );
    const [type] = types;
    if (types.size > 1 && !told.has(expr.name)) {
      told.add(expr.name);
      diagnostics.error(
        expr.nameSpan,
        `'${expr.name}' is not of one type in all that the probe names`,
        'write a probe for each',
      );
    }
    const { start, end } = expr;
    if (type === 'string') return { kind: 'call', start, end, name: 'str', nameSpan: expr, args: [expr] };
    if (type === 'signed') return { kind: 'cast', start, end, type: 'int64', operand: expr };
    return type === 'unsigned' ? { kind: 'cast', start, end, type: 'uint64', operand: expr } : expr;
  });
}
