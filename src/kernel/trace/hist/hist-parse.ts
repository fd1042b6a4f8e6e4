/** Fields and expressions of hist commands (parse_field(), parse_atom(), parse_expr()). Texts are byte strings. */

import { KernelError } from '../../errno.ts';
import { readable } from '../byte-string.ts';
import { isDigit, Tokens } from '../c-text.ts';
import { findEventField } from '../filter/generic-fields.ts';
import { MAX_FILTER_STR_VAL } from '../filter/parse-predicate.ts';
import { kstrtoull } from '../kstrto.ts';
import type { TraceEventFile } from '../trace-event-file.ts';
import type { TraceField } from '../trace-field.ts';
import { invalid } from '../trigger/trigger-command.ts';
import type { HistData } from './hist-data.ts';
import { histError } from './hist-errors.ts';
import { createHistField, divideByConstant, type FieldOp, FL, type HistField } from './hist-field.ts';
import { createVarRef, findEventVar, findVarField, initVarRef } from './hist-vars.ts';

const MAX_SUBEXPRS = 3;

/** How many operators were met so far. */
export interface SubExprs {
  count: number;
}

/** contains_operator(): the operator that is applied last, and where it is. */
export function rootOperator(text: string): { op: FieldOp; at: number } | undefined {
  const minus = text.lastIndexOf('-');
  if (minus === 0) return { op: 'unary', at: 0 };
  const plus = text.lastIndexOf('+');
  if (plus >= 0 || minus >= 0) return plus > minus ? { op: '+', at: plus } : { op: '-', at: minus };
  const div = text.lastIndexOf('/');
  const mult = text.lastIndexOf('*');
  if (div < 0 && mult < 0) return undefined;
  return mult > div ? { op: '*', at: mult } : { op: '/', at: div };
}

/** What is left of an expression's text once parse_expr() has cut it at its operators. */
export function leftmostOperand(text: string): string {
  let left = text;
  for (let root = rootOperator(left); root !== undefined && root.at > 0; root = rootOperator(left)) {
    left = left.slice(0, root.at);
  }
  return left;
}

/** is_var_ref() */
function isVarRef(name: string): boolean {
  return name.length >= 2 && name.startsWith('$');
}

/** parse_expr() */
export function parseExpr(
  histData: HistData,
  file: TraceEventFile,
  text: string,
  flags: number,
  varName: string | undefined,
  subs: SubExprs,
): HistField {
  if (subs.count > MAX_SUBEXPRS) {
    histError(file.tr, 'TOO_MANY_SUBEXPR', text);
    throw invalid('the expression has too many parts');
  }
  const root = rootOperator(text);
  if (root === undefined) return parseAtom(histData, file, text, flags, varName);
  if (root.op === 'unary') return parseUnary(histData, file, text, flags, varName, subs);
  subs.count++;
  const left = text.slice(0, root.at);
  const right = text.slice(root.at + 1);
  if (left === '' || right === '') throw invalid('an operand is missing');
  const operand1 = parseOperand(histData, file, left, subs);
  const operand2 = parseOperand(histData, file, right, subs);
  return binary(histData, file, { op: root.op, operand1, operand2, right, flags, varName });
}

function parseOperand(histData: HistData, file: TraceEventFile, text: string, subs: SubExprs): HistField {
  const operand = parseExpr(histData, file, text, 0, undefined, subs);
  if (!operand.has(FL.STRING)) return operand;
  histError(file.tr, 'INVALID_STR_OPERAND', text);
  throw invalid('a string is no operand');
}

interface Binary {
  readonly op: FieldOp;
  readonly operand1: HistField;
  readonly operand2: HistField;
  readonly right: string;
  readonly flags: number;
  readonly varName: string | undefined;
}

function binary(histData: HistData, file: TraceEventFile, parts: Binary): HistField {
  const { op, operand1, operand2, varName } = parts;
  const [var1, var2] = [referredVar(operand1), referredVar(operand2)];
  const flags1 = (var1 ?? operand1).flags;
  const flags2 = (var2 ?? operand2).flags;
  if ((flags1 & FL.TIMESTAMP_USECS) !== (flags2 & FL.TIMESTAMP_USECS)) {
    histError(file.tr, 'TIMESTAMP_MISMATCH');
    throw invalid('units of time differ');
  }
  const constant = (flags1 & flags2 & FL.CONST) !== 0;
  const flags =
    parts.flags | (constant ? FL.CONST : FL.EXPR) | (operand1.flags & (FL.TIMESTAMP | FL.TIMESTAMP_USECS));
  const expr = createHistField(histData, undefined, flags, varName);
  if (expr === undefined) throw new KernelError('ENOMEM', 'the expression cannot be made');
  operand1.readOnce = true;
  operand2.readOnce = true;
  expr.operands = [operand1, operand2];
  expr.fn = op;
  if (op === '/' && (flags2 & FL.CONST) !== 0) {
    const divisor = (var2 ?? operand2).constant;
    if (divisor === 0n) {
      histError(file.tr, 'DIVISION_BY_ZERO', parts.right);
      throw new KernelError('EDOM', 'division by zero');
    }
    operand2.constant = divisor;
    expr.fn = 'div_const';
  }
  if (constant) {
    expr.constant = fold(op, (var1 ?? operand1).constant, (var2 ?? operand2).constant);
    expr.fn = 'const';
    expr.operands = [];
    expr.name = exprString(expr);
    return expr;
  }
  expr.size = operand1.size;
  expr.isSigned = operand1.isSigned;
  expr.operator = op;
  expr.type = operand1.type;
  expr.name = exprString(expr);
  return expr;
}

function fold(op: FieldOp, a: bigint, b: bigint): bigint {
  const value = op === '+' ? a + b : op === '-' ? a - b : op === '*' ? a * b : divideByConstant(a, b);
  return BigInt.asUintN(64, value);
}

/** check_expr_operands(): the variable behind a reference. */
function referredVar(operand: HistField): HistField | undefined {
  if (!operand.has(FL.VAR_REF | FL.ALIAS)) return undefined;
  const { varData, name } = operand;
  const variable = varData === undefined ? undefined : findVarField(varData, name ?? '');
  if (variable === undefined) throw invalid('the variable is gone');
  return variable;
}

/** parse_unary(): `-(EXPR)`, and nothing behind it. */
function parseUnary(
  histData: HistData,
  file: TraceEventFile,
  text: string,
  flags: number,
  varName: string | undefined,
  subs: SubExprs,
): HistField {
  if (++subs.count > MAX_SUBEXPRS) {
    histError(file.tr, 'TOO_MANY_SUBEXPR', text);
    throw invalid('the expression has too many parts');
  }
  let inner = text.slice(1);
  if (!inner.includes('(')) throw invalid('a minus needs parentheses');
  inner = inner.slice(1);
  const close = inner.lastIndexOf(')');
  if (close >= 0 && close + 1 < inner.length) {
    histError(file.tr, 'UNARY_MINUS_SUBEXPR', inner);
    throw invalid('nothing may follow a minus in parentheses');
  }
  if (close < 0) throw invalid('a parenthesis is not closed');
  inner = inner.slice(0, close);
  const expr = createHistField(histData, undefined, flags | FL.EXPR, varName);
  if (expr === undefined) throw new KernelError('ENOMEM', 'the expression cannot be made');
  const operand = parseOperand(histData, file, inner, subs);
  expr.flags |= operand.flags & (FL.TIMESTAMP | FL.TIMESTAMP_USECS);
  expr.fn = 'unary';
  expr.operands = [operand];
  expr.size = operand.size;
  expr.isSigned = operand.isSigned;
  expr.operator = 'unary';
  expr.name = exprString(expr);
  expr.type = operand.type;
  return expr;
}

/** expr_str(): E2BIG where the text is longer than 255 bytes. */
export function exprString(field: HistField, level = 0): string {
  if (level > 1) throw invalid('the expression is too deep');
  const [operand1, operand2] = field.operands;
  let text: string;
  if (operand1 === undefined) text = exprFieldString(field);
  else if (field.operator === 'unary') text = `-(${exprString(operand1, level + 1)})`;
  else if (field.operator === undefined || operand2 === undefined)
    throw invalid('the expression has no operator');
  else text = `${exprFieldString(operand1)}${field.operator}${exprFieldString(operand2)}`;
  if (text.length >= MAX_FILTER_STR_VAL) throw new KernelError('E2BIG', 'the expression is too long');
  return text;
}

/** expr_field_str() */
export function exprFieldString(field: HistField): string {
  const isRef = field.has(FL.VAR_REF);
  const prefix = isRef
    ? field.system === undefined
      ? '$'
      : ''
    : field.has(FL.CONST)
      ? `${field.constant}`
      : '';
  const modifier = isRef ? undefined : field.modifier();
  return `${prefix}${field.displayName()}${modifier === undefined ? '' : `.${modifier}`}`;
}

/** parse_atom(): a number, a variable or a field. */
export function parseAtom(
  histData: HistData,
  file: TraceEventFile,
  text: string,
  flags: number,
  varName: string | undefined,
): HistField {
  if (isDigit(text[0])) return parseConst(histData, text, flags, varName);
  let str = text;
  let system: string | undefined;
  let event: string | undefined;
  if (text.split('.').length > 2) {
    const tokens = new Tokens(text);
    system = tokens.next('.');
    event = tokens.next('.');
    str = tokens.rest ?? '';
  }
  const local = localFieldVarRef(histData, system, event, str);
  if (local === undefined) {
    const ref = parseVarRef(histData, system, event, str);
    if (ref !== undefined) return varName === undefined ? ref : createAlias(histData, ref, varName);
  } else str = local;
  const found = parseField(histData, file, str, flags);
  const made = createHistField(histData, found.field, found.flags, varName);
  if (made === undefined) throw new KernelError('ENOMEM', `${readable(str)} is neither number nor string`);
  made.buckets = found.buckets;
  return made;
}

function parseConst(histData: HistData, text: string, flags: number, varName: string | undefined): HistField {
  const value = kstrtoull(text);
  const field =
    typeof value === 'string' ? undefined : createHistField(histData, undefined, flags | FL.CONST, varName);
  if (typeof value === 'string') histError(histData.file.tr, 'EXPECT_NUMBER', text);
  if (field === undefined || typeof value === 'string') throw invalid('a number is expected');
  field.constant = value;
  return field;
}

/** local_field_var_ref(): a variable of the same command that stands for a field is that field. */
function localFieldVarRef(
  histData: HistData,
  system: string | undefined,
  event: string | undefined,
  name: string,
): string | undefined {
  if (system !== undefined && event !== undefined) {
    const { call } = histData.file;
    if (readable(system) !== call.system || readable(event) !== call.name) return undefined;
  }
  if (!isVarRef(name)) return undefined;
  return histData.varDefs.find(
    (def) => def.name === name.slice(1) && rootOperator(def.expr) === undefined && !isVarRef(def.expr),
  )?.expr;
}

function parseVarRef(
  histData: HistData,
  system: string | undefined,
  event: string | undefined,
  text: string,
): HistField | undefined {
  if (!isVarRef(text)) return undefined;
  const name = text.slice(1);
  const variable = findEventVar(histData, system, event, name);
  const ref = variable === undefined ? undefined : createVarRef(histData, variable, system, event);
  if (ref === undefined) histError(histData.file.tr, 'VAR_NOT_FOUND', name);
  return ref;
}

/** create_alias(): a variable that is another one. */
function createAlias(histData: HistData, ref: HistField, varName: string): HistField {
  const alias = createHistField(histData, undefined, FL.ALIAS | FL.VAR, varName);
  if (alias === undefined) throw new KernelError('ENOMEM', 'the variable cannot be made');
  alias.fn = ref.fn;
  alias.operands = [ref];
  initVarRef(alias, ref, ref.system, ref.eventName);
  alias.varRefIdx = ref.varRefIdx;
  return alias;
}

const SIMPLE_MODIFIERS: Readonly<Record<string, number>> = {
  hex: FL.HEX,
  sym: FL.SYM,
  // The command's text was changed, as a minus would be taken for an operator.
  symXoffset: FL.SYM_OFFSET,
  syscall: FL.SYSCALL,
  stacktrace: FL.STACKTRACE,
  log2: FL.LOG2,
  usecs: FL.TIMESTAMP_USECS,
};

interface ParsedField {
  readonly field: TraceField | undefined;
  readonly flags: number;
  readonly buckets: bigint;
}

/** parse_field(): `FIELD` or `FIELD.MODIFIER`. */
function parseField(histData: HistData, file: TraceEventFile, text: string, given: number): ParsedField {
  const { tr } = file;
  let flags = given;
  let buckets = 0n;
  const tokens = new Tokens(text);
  const name = tokens.next('.') ?? '';
  const modifier = tokens.rest;
  if (modifier !== undefined) {
    const parsed = parseModifier(name, modifier, given);
    if ('bad' in parsed) {
      histError(tr, 'BAD_FIELD_MODIFIER', parsed.bad);
      throw invalid('the modifier is unknown, or not for this');
    }
    flags |= parsed.flag;
    buckets = parsed.buckets;
  }
  let field: TraceField | undefined;
  if (name === 'common_timestamp') {
    flags |= FL.TIMESTAMP;
    histData.enableTimestamps = true;
    if ((flags & FL.TIMESTAMP_USECS) !== 0) histData.attrs.tsInUsecs = true;
  } else if (name === 'common_stacktrace') flags |= FL.STACKTRACE;
  else if (name === 'common_cpu') flags |= FL.CPU;
  else if (name === 'hitcount') flags |= FL.HITCOUNT;
  else {
    field = findEventField(file.call, readable(name));
    if (field === undefined || field.size === 0) {
      if (field?.filterType === 'cpu') flags |= FL.CPU;
      else if (field?.filterType === 'stacktrace') {
        flags |= FL.STACKTRACE;
        field = undefined;
      } else {
        histError(tr, 'FIELD_NOT_FOUND', name);
        throw invalid(`there is no field ${readable(name)}`);
      }
    }
  }
  if (modifier === 'stacktrace' && field?.filterType !== 'stacktrace') {
    histError(tr, 'BAD_FIELD_MODIFIER', text);
    throw invalid('the field is no stack');
  }
  return { field, flags, buckets };
}

/** A modifier's flag; `bad` is the text to point at. */
function parseModifier(
  name: string,
  modifier: string,
  flags: number,
): { flag: number; buckets: bigint } | { bad: string } {
  const simple = Object.hasOwn(SIMPLE_MODIFIERS, modifier) ? SIMPLE_MODIFIERS[modifier] : undefined;
  if (simple !== undefined) return { flag: simple, buckets: 0n };
  if (modifier === 'execname' && name === 'common_pid') return { flag: FL.EXECNAME, buckets: 0n };
  if (modifier.startsWith('bucket')) {
    let rest = modifier.slice('bucket'.length);
    if (rest.startsWith('s')) rest = rest.slice(1);
    if (!rest.startsWith('=')) return { bad: rest };
    rest = rest.slice(1);
    const buckets = kstrtoull(rest);
    return typeof buckets === 'string' || buckets === 0n ? { bad: rest } : { flag: FL.BUCKET, buckets };
  }
  const isVal = (flags & (FL.VAR | FL.KEY)) === 0;
  if (modifier.startsWith('percent') && isVal) return { flag: FL.PERCENT, buckets: 0n };
  if (modifier.startsWith('graph') && isVal) return { flag: FL.GRAPH, buckets: 0n };
  return { bad: modifier };
}
