/**
 * Third pass: the types of expressions, variables and maps. Maps may be used before the probe that fills them, so types
 * are inferred in rounds until nothing changes; only the last round complains.
 */

import { didYouMean } from '../../similar.ts';
import type * as ast from '../ast.ts';
import { BUILTINS, builtin, REFUSED_BUILTINS } from '../builtins.ts';
import type { Diagnostics } from '../diagnostics.ts';
import type { Span } from '../position.ts';
import type { ScriptConfig } from '../script.ts';
import * as t from '../types.ts';
import { type LType, typeName, UNKNOWN } from '../types.ts';
import { inferCall } from './infer-call.ts';
import { inferKeyPart, inferMapAssign, inferMapRead, inferWholeMap } from './infer-maps.ts';
import {
  checkCompound,
  inferBinary,
  inferCast,
  inferEither,
  inferIncDec,
  inferIndex,
  inferMember,
} from './infer-operators.ts';
import type { MapInfo, ProbeInfo, VarInfo } from './semantics.ts';

const MAX_ROUNDS = 12;

export interface Inferred {
  readonly maps: ReadonlyMap<string, MapInfo>;
  readonly types: ReadonlyMap<ast.Expr, LType>;
  readonly vars: ReadonlyMap<ast.Variable, VarInfo>;
}

export function inferTypes(
  probes: readonly ProbeInfo[],
  config: ScriptConfig,
  diagnostics: Diagnostics,
): Inferred {
  const inference = new Inference(config, diagnostics);
  for (let round = 0; round < MAX_ROUNDS; round++) {
    inference.changed = false;
    for (const probe of probes) inference.probe(probe);
    if (!inference.changed) break;
  }
  inference.final = true;
  for (const probe of probes) inference.probe(probe);
  return inference;
}

export class Inference implements Inferred {
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
  #loops = 0;

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

  probe(info: ProbeInfo): void {
    this.probeInfo = info;
    this.#scopes = [new Map()];
    this.#loops = 0;
    if (info.probe.predicate) this.condition(info.probe.predicate);
    this.#block(info.probe.body);
  }

  #block(block: ast.Block): void {
    this.#scopes.push(new Map());
    for (const statement of block.body) this.#statement(statement);
    this.#scopes.pop();
  }

  #statement(statement: ast.Statement): void {
    switch (statement.kind) {
      case 'expr':
        this.#expressionStatement(statement);
        return;
      case 'let':
        this.#let(statement);
        return;
      case 'assign':
        statement.target.kind === 'var'
          ? this.#assignVariable(statement, statement.target)
          : inferMapAssign(this, statement, statement.target);
        return;
      case 'if':
        this.condition(statement.condition);
        this.#block(statement.body);
        if (statement.otherwise) this.#block(statement.otherwise);
        return;
      case 'while':
        this.condition(statement.condition);
        this.#loop(statement.body);
        return;
      case 'unroll': {
        this.infer(statement.count);
        const { count } = statement;
        if (count.kind !== 'int') this.error(count, 'unroll needs a constant number');
        else if (count.value < 1n) this.error(count, 'unroll minimum value is 1');
        else if (count.value > 100n) this.error(count, 'unroll maximum value is 100');
        this.#loop(statement.body);
        return;
      }
      case 'for-range':
        this.int(statement.from, 'a range');
        this.int(statement.to, 'a range');
        this.#scopes.push(new Map());
        this.#declare(statement.variable, t.INT64);
        this.#loop(statement.body);
        this.#scopes.pop();
        return;
      case 'for-map':
        this.#forMap(statement);
        return;
      case 'break':
      case 'continue':
        if (this.#loops === 0) this.error(statement, `${statement.kind} statement not within a loop`);
        return;
      case 'return':
        if (statement.value) this.int(statement.value, 'return');
        return;
      case 'block':
        this.#block(statement);
        return;
    }
  }

  #forMap(statement: ast.ForMap): void {
    const { map, variable } = statement;
    const info = inferWholeMap(this, map);
    const { key, value } = info;
    if (map.key !== undefined) {
      this.error(map, 'a for loop goes over a whole map', `for ($${variable.name} : @${map.name})`);
    } else if (key?.length === 0) {
      this.error(map, `@${map.name} has no explicit keys (scalar map), and cannot be used in a for loop`);
    } else if (value.kind === 'agg' && !t.isReadableAgg(value)) {
      this.error(
        map,
        `A for loop cannot read values of type '${typeName(value)}'`,
        'print(@map) shows every entry',
      );
    }
    this.#scopes.push(new Map());
    const isKnown = key !== undefined && key.length > 0 && value.kind !== 'unknown';
    const pair = (): LType => ({
      kind: 'tuple',
      fields: [
        key!.length === 1 ? key![0]! : { kind: 'tuple', fields: key! },
        value.kind === 'agg' ? t.intTypeOf(value) : value,
      ],
    });
    this.#declare(variable, isKnown ? pair() : UNKNOWN);
    this.#loop(statement.body);
    this.#scopes.pop();
  }

  #loop(body: ast.Block): void {
    this.#loops++;
    this.#block(body);
    this.#loops--;
  }

  #expressionStatement(statement: ast.ExprStatement): void {
    const { expr } = statement;
    if (this.#alone(expr).kind !== 'none' && expr.kind !== 'incdec' && expr.kind !== 'call') {
      this.warning(expr, 'Return value discarded.');
    }
  }

  /** An expression as a statement: a call, or calls to choose from. */
  #alone(expr: ast.Expr): LType {
    let type: LType;
    if (expr.kind === 'call') type = inferCall(this, expr, 'statement');
    else if (expr.kind === 'ternary') {
      this.condition(expr.condition);
      type = inferEither(this, expr, this.#alone(expr.yes), this.#alone(expr.no));
    } else type = this.infer(expr);
    this.types.set(expr, type);
    return type;
  }

  // Variables.

  #lookup(name: string): VarInfo | undefined {
    for (let i = this.#scopes.length - 1; i >= 0; i--) {
      const found = this.#scopes[i]!.get(name);
      if (found) return found;
    }
    return undefined;
  }

  #declare(variable: ast.Variable, type: LType): VarInfo {
    let info = this.#declared.get(variable);
    if (info === undefined) {
      info = { name: variable.name, type: UNKNOWN };
      this.#declared.set(variable, info);
      this.changed = true;
    }
    this.#scopes.at(-1)!.set(variable.name, info);
    this.vars.set(variable, info);
    this.#widen(info, type);
    return info;
  }

  #widen(info: VarInfo, type: LType): boolean {
    const merged = t.mergeTypes(info.type, type);
    if (merged === undefined) return false;
    if (JSON.stringify(merged) !== JSON.stringify(info.type)) {
      info.type = merged;
      this.changed = true;
    }
    return true;
  }

  #let(statement: ast.Let): void {
    let type: LType = UNKNOWN;
    if (statement.type !== undefined) {
      type = t.intTypeNamed(statement.type) ?? { kind: 'string', size: this.config.maxStrlen };
    }
    if (statement.value) {
      const value = this.#assignable(statement.value);
      if (type === UNKNOWN) type = value;
      else this.#checkAssign(statement.target, statement.value, type, value);
    }
    if (this.#scopes.at(-1)!.has(statement.target.name)) {
      this.error(
        statement.target,
        `Variable $${statement.target.name} was already declared. Variable shadowing is not allowed.`,
      );
    }
    this.#declare(statement.target, type);
  }

  /** The type of something that a variable can take. */
  #assignable(expr: ast.Expr): LType {
    const type = this.infer(expr);
    if (type.kind === 'agg' && expr.kind !== 'map') {
      return this.error(expr, `Map value '${typeName(type)}' cannot be assigned from one place to another.`);
    }
    if (type.kind === 'agg') {
      if (t.isReadableAgg(type)) return t.intTypeOf(type);
      return this.error(expr, `Map value '${typeName(type)}' cannot be read as a number`, 'print() shows it');
    }
    if (type.kind === 'none') return this.error(expr, 'this has no value that can be assigned');
    return type;
  }

  #assignVariable(statement: ast.Assign, target: ast.Variable): void {
    const info = this.#lookup(target.name);
    if (statement.op !== undefined) {
      const type = this.infer(target);
      const value = this.infer(statement.value);
      checkCompound(this, statement, type, value);
      return;
    }
    const type = this.#assignable(statement.value);
    if (info === undefined) {
      this.types.set(target, this.#declare(target, type).type);
      return;
    }
    this.vars.set(target, info);
    const before = info.type;
    if (!this.#widen(info, type)) this.mismatch(target, `$${target.name}`, before, type, 'variable');
    this.types.set(target, info.type);
  }

  #checkAssign(target: ast.Variable, expr: ast.Expr, wanted: LType, found: LType): void {
    if (t.mergeTypes(wanted, found) === undefined) {
      this.mismatch(expr, `$${target.name}`, wanted, found, 'variable');
    }
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

  // Expressions.

  infer(expr: ast.Expr): LType {
    const type = this.#infer(expr);
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

  #infer(expr: ast.Expr): LType {
    switch (expr.kind) {
      case 'int':
        return {
          kind: 'int',
          size: 8,
          signed: expr.value < 1n << 63n,
          literal: true,
        };
      case 'string':
        return { kind: 'string', size: t.utf8Length(expr.value) + 1 };
      case 'positional':
        return t.INT64;
      case 'ident':
        return this.#identifier(expr);
      case 'var': {
        const info = this.#lookup(expr.name);
        if (info === undefined) {
          const names = this.#scopes.flatMap((scope) => [...scope.keys()]);
          return this.error(
            expr,
            `Undefined or undeclared variable: $${expr.name}`,
            didYouMean(expr.name, names, '$'),
          );
        }
        this.vars.set(expr, info);
        return info.type;
      }
      case 'map':
        return inferMapRead(this, expr);
      case 'call':
        return inferCall(this, expr, 'value');
      case 'unary': {
        if (expr.op === '!') {
          this.condition(expr.operand);
          return t.BOOL;
        }
        const type = this.int(expr.operand, `The ${expr.op} operator`);
        return type.kind === 'unknown' ? type : expr.op === '-' ? t.INT64 : { ...t.intTypeOf(type), size: 8 };
      }
      case 'incdec':
        return inferIncDec(this, expr);
      case 'binary':
        return inferBinary(this, expr);
      case 'ternary': {
        this.condition(expr.condition);
        const yes = this.infer(expr.yes);
        const no = this.infer(expr.no);
        return inferEither(this, expr, yes, no);
      }
      case 'cast':
        return inferCast(this, expr);
      case 'member':
        return inferMember(this, expr);
      case 'index':
        return inferIndex(this, expr);
      case 'tuple': {
        const fields = expr.elements.map((element) => inferKeyPart(this, element));
        return { kind: 'tuple', fields };
      }
      case 'sizeof':
        if (typeof expr.operand !== 'string') this.infer(expr.operand);
        return t.UINT64;
    }
  }

  #identifier(expr: ast.Identifier): LType {
    const { name } = expr;
    const found = builtin(name);
    if (found === undefined) {
      if (Object.hasOwn(REFUSED_BUILTINS, name)) {
        return this.error(expr, `The ${name} builtin has no meaning here`, REFUSED_BUILTINS[name]);
      }
      if (/^sarg\d+$/.test(name)) {
        return this.error(
          expr,
          `The ${name} builtin has no meaning here`,
          'arguments are no stack words: arg0, arg1, … are all of them',
        );
      }
      const hint = didYouMean(name, [
        ...Object.keys(BUILTINS),
        ...['arg0', 'arg1', 'arg2', 'arg3', 'arg4', 'arg5'],
      ]);
      const parameter = this.probeInfo.groups.some((group) =>
        group.attach.some(({ targets }) => targets.some((target) => target.params.includes(name))),
      );
      return this.error(
        expr,
        `Unknown identifier: '${name}'`,
        parameter ? `did you mean args.${name}?` : hint,
      );
    }
    if (name === 'args') {
      return this.error(expr, 'args needs the name of a parameter', 'such as args.req');
    }
    this.checkProbes(expr, name);
    const { type } = found;
    return type.kind === 'stack' ? { kind: 'stack', depth: this.config.stackDepth } : type;
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
