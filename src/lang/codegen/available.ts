/**
 * Which values are at hand already: what does not change during a hit (asyncid, a property path) and map entries that the
 * program has read and not written since. Only things that occur more than once are kept, in 8 bytes of stack each.
 */
import * as ast from '../ast.ts';
import { argNumber, builtin } from '../builtins.ts';
import type { Place } from './frame.ts';

interface Entry {
  readonly place: Place;
  /** Maps it was read from. */
  readonly maps: readonly string[];
}

export class Available {
  readonly #counts: Map<string, number> = new Map();
  #entries = new Map<string, Entry>();

  /** @param counts of another one, for a callback: nothing is at hand there. */
  constructor(probe: ast.Probe | Map<string, number>) {
    if (probe instanceof Map) {
      this.#counts = probe;
      return;
    }
    ast.walkProbe(probe, (expr) => {
      const name = canonical(expr);
      if (name !== undefined) this.#counts.set(name, (this.#counts.get(name) ?? 0) + 1);
    });
  }

  fresh(): Available {
    return new Available(this.#counts);
  }

  /** Where the value is kept, if it is. */
  find(expr: ast.Expr): Place | undefined {
    const name = canonical(expr);
    return name === undefined ? undefined : this.#entries.get(name)?.place;
  }

  /** Whether a value that was just computed is worth keeping. */
  wants(expr: ast.Expr): boolean {
    const name = canonical(expr);
    return name !== undefined && (this.#counts.get(name) ?? 0) > 1 && !this.#entries.has(name);
  }

  keep(expr: ast.Expr, place: Place): void {
    this.#entries.set(canonical(expr)!, { place, maps: mapsOf(expr) });
  }

  /** A map was written or an entry deleted. */
  invalidate(map: string): void {
    for (const [name, entry] of this.#entries) if (entry.maps.includes(map)) this.#entries.delete(name);
  }

  /** A loop begins or ended: another round may have written any map. */
  invalidateMaps(): void {
    for (const [name, entry] of this.#entries) if (entry.maps.length > 0) this.#entries.delete(name);
  }

  /** Emits code that runs only sometimes: what it adds is gone afterwards, what it invalidates too. */
  branch(emit: () => void): void {
    const before = this.#entries;
    this.#entries = new Map(before);
    emit();
    for (const [name, entry] of before) if (this.#entries.get(name) !== entry) before.delete(name);
    this.#entries = before;
  }
}

/** A text that is equal for expressions with equal values during one hit; undefined for those that may change. */
function canonical(expr: ast.Expr): string | undefined {
  switch (expr.kind) {
    case 'int':
      return undefined;
    case 'ident':
      if (argNumber(expr.name) !== undefined) return Number(expr.name.slice(3)) > 5 ? expr.name : undefined;
      return builtin(expr.name)?.constant ? expr.name : undefined;
    case 'member':
    case 'index': {
      const object = root(expr.object);
      if (object === undefined) return undefined;
      if (expr.kind === 'member') return `${object}.${JSON.stringify(expr.name)}`;
      const { index } = expr;
      if (index.kind !== 'string' && index.kind !== 'int') return undefined;
      return `${object}.${JSON.stringify(index.kind === 'int' ? Number(index.value) : index.value)}`;
    }
    case 'map': {
      const keys = (expr.key ?? []).map(part);
      return keys.includes(undefined) ? undefined : `@${expr.name}[${keys.join()}]`;
    }
    default:
      return undefined;
  }
}

/** As `canonical`, for what needs no keeping itself. */
function root(expr: ast.Expr): string | undefined {
  if (expr.kind === 'ident') return builtin(expr.name)?.type.kind === 'value' ? expr.name : undefined;
  return canonical(expr);
}

function part(expr: ast.Expr): string | undefined {
  switch (expr.kind) {
    case 'int':
      return String(expr.value);
    case 'string':
      return JSON.stringify(expr.value);
    case 'call':
      if (expr.name !== 'str' || expr.args.length !== 1) return undefined;
      return part(expr.args[0]!) && `str(${part(expr.args[0]!)})`;
    case 'ident':
      return root(expr) ?? canonical(expr) ?? (expr.name === 'func' ? 'func' : undefined);
    default:
      return canonical(expr);
  }
}

function mapsOf(expr: ast.Expr): string[] {
  const maps: string[] = [];
  ast.walkExpr(expr, (inner) => {
    if (inner.kind === 'map') maps.push(inner.name);
  });
  return maps;
}
