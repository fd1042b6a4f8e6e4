/**
 * Second pass: asks the resolver what each attach point matches, and splits a probe into groups of targets in which
 * every args.NAME is the same argument.
 */
import { TraplineError } from '../../errors.ts';
import { didYouMean } from '../../similar.ts';
import * as ast from '../ast.ts';
import { toAttachPoint } from '../attach-points.ts';
import type { Diagnostics } from '../diagnostics.ts';
import type { AttachPoint, ProbeResolver, ProbeTarget } from '../script.ts';
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
  return { probe, points, groups: group(probe, resolved, diagnostics) };
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
        `No function matches ${point.type}:${point.target}`,
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

  const groups = new Map<string, { params: Map<string, number>; attach: Map<AttachPoint, ProbeTarget[]> }>();
  for (const { point, targets } of resolved) {
    for (const target of targets) {
      const params = new Map<string, number>();
      for (const [name, use] of uses) {
        const index = target.params.indexOf(name);
        if (index < 0) {
          const known = target.params.filter((param) => param !== undefined);
          const list =
            known.length > 0 ? `its parameters: ${known.join(', ')}` : 'it has no named parameters';
          const hint = didYouMean(name, known, 'args.') ?? list;
          diagnostics.error(use.nameSpan, `${target.name} does not have a parameter named '${name}'`, hint);
        }
        params.set(name, index);
      }
      const key = [...params.values()].join();
      let found = groups.get(key);
      if (found === undefined) {
        found = { params, attach: new Map() };
        groups.set(key, found);
      }
      const list = found.attach.get(point);
      if (list) list.push(target);
      else found.attach.set(point, [target]);
    }
  }
  return [...groups.values()].map(({ params, attach }) => ({
    params,
    attach: [...attach].map(([point, targets]) => ({ point, targets })),
  }));
}
