/**
 * Third pass: the types of expressions, variables and maps. Maps may be used before the probe that fills them, so types
 * are inferred in rounds until nothing changes; only the last round complains.
 */

import { didYouMean } from '../../similar.ts';
import type * as ast from '../ast.ts';
import { BUILTINS, builtin, REFUSED_BUILTINS } from '../builtins.ts';
import type { Diagnostics } from '../diagnostics.ts';
import type { ScriptConfig } from '../script.ts';
import * as t from '../types.ts';
import { type LType, typeName, UNKNOWN } from '../types.ts';
import { inferLet, inferVariableAssign } from './infer-assign.ts';
import { inferCall } from './infer-call.ts';
import { inferKeyPart, inferMapAssign, inferMapRead, inferWholeMap } from './infer-maps.ts';
import {
  inferBinary,
  inferCast,
  inferEither,
  inferIncDec,
  inferIndex,
  inferMember,
} from './infer-operators.ts';
import { type CallPlace, Inference, type Inferred } from './inference.ts';
import type { ProbeInfo } from './semantics.ts';

const MAX_ROUNDS = 12;

export function inferTypes(
  probes: readonly ProbeInfo[],
  config: ScriptConfig,
  diagnostics: Diagnostics,
): Inferred {
  const inference = new ScriptInference(config, diagnostics);
  for (let round = 0; round < MAX_ROUNDS; round++) {
    inference.changed = false;
    for (const probe of probes) inference.probe(probe);
    if (!inference.changed) break;
  }
  inference.final = true;
  for (const probe of probes) inference.probe(probe);
  return inference;
}

/** Statements, and which part an expression belongs to. */
class ScriptInference extends Inference {
  #loops = 0;

  probe(info: ProbeInfo): void {
    this.begin(info);
    this.#loops = 0;
    if (info.probe.predicate) this.condition(info.probe.predicate);
    this.#block(info.probe.body);
  }

  #block(block: ast.Block): void {
    this.scope(() => {
      for (const statement of block.body) this.#statement(statement);
    });
  }

  #statement(statement: ast.Statement): void {
    switch (statement.kind) {
      case 'expr':
        this.#expressionStatement(statement);
        return;
      case 'let':
        inferLet(this, statement);
        return;
      case 'assign':
        statement.target.kind === 'var'
          ? inferVariableAssign(this, statement, statement.target)
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
        this.scope(() => {
          this.declare(statement.variable, t.INT64);
          this.#loop(statement.body);
        });
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
    const isKnown = key !== undefined && key.length > 0 && value.kind !== 'unknown';
    const pair = (): LType => ({
      kind: 'tuple',
      fields: [
        key!.length === 1 ? key![0]! : { kind: 'tuple', fields: key! },
        value.kind === 'agg' ? t.intTypeOf(value) : value,
      ],
    });
    this.scope(() => {
      this.declare(variable, isKnown ? pair() : UNKNOWN);
      this.#loop(statement.body);
    });
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
    if (expr.kind === 'call') type = this.call(expr, 'statement');
    else if (expr.kind === 'ternary') {
      this.condition(expr.condition);
      type = inferEither(this, expr, this.#alone(expr.yes), this.#alone(expr.no));
    } else type = this.infer(expr);
    this.types.set(expr, type);
    return type;
  }

  override call(expr: ast.Call, place: CallPlace): LType {
    return inferCall(this, expr, place);
  }

  protected override typeOf(expr: ast.Expr): LType {
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
        const info = this.lookup(expr.name);
        if (info === undefined) {
          return this.error(
            expr,
            `Undefined or undeclared variable: $${expr.name}`,
            didYouMean(expr.name, this.variableNames, '$'),
          );
        }
        this.vars.set(expr, info);
        return info.type;
      }
      case 'map':
        return inferMapRead(this, expr);
      case 'call':
        return this.call(expr, 'value');
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
}
