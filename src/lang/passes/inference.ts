/** What the third pass keeps (`infer.ts`): types of expressions and maps, variables with their scopes, and what it complains of. */
import type * as ast from '../ast.ts';
import { builtin } from '../builtins.ts';
import type { Diagnostics } from '../diagnostics.ts';
import type { Span } from '../position.ts';
import type { ScriptConfig } from '../script.ts';
import * as t from '../types.ts';
import { type LType, typeName, UNKNOWN } from '../types.ts';
import type { MapInfo, ProbeInfo, VarInfo } from './semantics.ts';

/** Where a call stands: alone, as what is assigned to a map, or inside an expression. */
export type CallPlace = 'statement' | 'assign' | 'value';

export interface Inferred {
  readonly maps: ReadonlyMap<string, MapInfo>;
  readonly types: ReadonlyMap<ast.Expr, LType>;
  readonly vars: ReadonlyMap<ast.Variable, VarInfo>;
}

/** What the third pass knows while it goes over the probes. Its parts (`infer-*.ts`) work on this. */
export abstract class Inference implements Inferred {
  readonly config: ScriptConfig;
  readonly maps = new Map<string, MapInfo>();
  readonly types = new Map<ast.Expr, LType>();
  readonly vars = new Map<ast.Variable, VarInfo>();
  /** The round that reports errors. */
  final = false;
  changed = false;
  probeInfo!: ProbeInfo;
  readonly #diagnostics: Diagnostics;
  /** Variables by the node that brought them into being: kept from round to round. */
  readonly #declared = new Map<ast.Variable, VarInfo>();
  #scopes: Map<string, VarInfo>[] = [];

  constructor(config: ScriptConfig, diagnostics: Diagnostics) {
    this.config = config;
    this.#diagnostics = diagnostics;
  }

  error(span: Span, message: string, hint?: string): LType {
    if (this.final) this.#diagnostics.error(span, message, hint);
    return UNKNOWN;
  }

  warning(span: Span, message: string, hint?: string): void {
    if (this.final) this.#diagnostics.warning(span, message, hint);
  }

  /** The type of an expression, which `infer()` keeps. */
  protected abstract typeOf(expr: ast.Expr): LType;
  /** The type of a call. */
  abstract call(expr: ast.Call, place: CallPlace): LType;

  infer(expr: ast.Expr): LType {
    const type = this.typeOf(expr);
    this.types.set(expr, type);
    return type;
  }

  /** An expression that has to be a number. */
  int(expr: ast.Expr, what: string): LType {
    const type = this.infer(expr);
    if (type.kind !== 'unknown' && !t.isIntLike(type)) {
      return this.error(expr, `${what} needs an integer argument ('${typeName(type)}' provided)`);
    }
    return type;
  }

  /** An expression that has to be true or false. */
  condition(expr: ast.Expr): void {
    const type = this.infer(expr);
    const fine = t.isIntLike(type) || ['unknown', 'string', 'func', 'stack'].includes(type.kind);
    if (!fine) this.error(expr, `Invalid condition: '${typeName(type)}' is neither true nor false`);
  }

  // Variables.

  /** Begins a probe, whose variables are its own. */
  protected begin(info: ProbeInfo): void {
    this.probeInfo = info;
    this.#scopes = [new Map()];
  }

  /** Variables that `within` declares are gone after it. */
  protected scope(within: () => void): void {
    this.#scopes.push(new Map());
    within();
    this.#scopes.pop();
  }

  /** Whether the innermost scope has a variable. */
  hasInScope(name: string): boolean {
    return this.#scopes.at(-1)!.has(name);
  }

  get variableNames(): string[] {
    return this.#scopes.flatMap((scope) => [...scope.keys()]);
  }

  lookup(name: string): VarInfo | undefined {
    for (let i = this.#scopes.length - 1; i >= 0; i--) {
      const found = this.#scopes[i]!.get(name);
      if (found) return found;
    }
    return undefined;
  }

  declare(variable: ast.Variable, type: LType): VarInfo {
    let info = this.#declared.get(variable);
    if (info === undefined) {
      info = { name: variable.name, type: UNKNOWN };
      this.#declared.set(variable, info);
      this.changed = true;
    }
    this.#scopes.at(-1)!.set(variable.name, info);
    this.vars.set(variable, info);
    this.widen(info, type);
    return info;
  }

  widen(info: VarInfo, type: LType): boolean {
    const merged = t.mergeTypes(info.type, type);
    if (merged === undefined) return false;
    if (JSON.stringify(merged) !== JSON.stringify(info.type)) {
      info.type = merged;
      this.changed = true;
    }
    return true;
  }

  mismatch(span: Span, name: string, has: LType, given: LType, what: 'map' | 'variable'): void {
    if (has.kind === 'agg' && given.kind === 'agg' && typeName(has) === typeName(given)) {
      const call = typeName(has).replace(/_t$/, '()');
      this.error(
        span,
        `${call} of ${name} has other arguments here: the buckets of a map are the same everywhere`,
      );
      return;
    }
    const hint =
      has.kind === 'int' && given.kind === 'string'
        ? undefined
        : t.isValue(given) || t.isValue(has)
          ? 'say what it is: str(value) or (int64)value'
          : undefined;
    this.error(
      span,
      `Type mismatch for ${name}: trying to assign value of type '${typeName(given)}' when ${what} already contains a value of type '${typeName(has)}'`,
      hint,
    );
  }

  /** Complains where one of the probe's attach points does not have a builtin. */
  checkProbes(span: Span, name: string): void {
    const allowed = builtin(name)?.probes;
    if (allowed === undefined) return;
    for (const point of this.probeInfo.points) {
      if (allowed.includes(point.type)) continue;
      const list = allowed.map((type) => `"${type}"`).join(', ');
      this.error(span, `The ${name} builtin can only be used with ${list} probes, not ${point.type}`);
      return;
    }
  }
}
