/** Fields of a hist: keys, values, variables, expressions (`struct hist_field`, kernel/trace/trace_events_hist.c). */
import { stringToBytes } from '../byte-string.ts';
import { locationOf } from '../filter/evaluate.ts';
import { isStringField } from '../filter/generic-fields.ts';
import { MAX_FILTER_STR_VAL } from '../filter/parse-predicate.ts';
import { dataView, type TraceRecord } from '../trace-entry.ts';
import type { TraceField } from '../trace-field.ts';
import type { HistData } from './hist-data.ts';
import type { HistValue, TracingMapElt } from './tracing-map.ts';

/** HIST_FIELD_FL_* */
export const FL = {
  HITCOUNT: 1 << 0,
  KEY: 1 << 1,
  STRING: 1 << 2,
  HEX: 1 << 3,
  SYM: 1 << 4,
  SYM_OFFSET: 1 << 5,
  EXECNAME: 1 << 6,
  SYSCALL: 1 << 7,
  STACKTRACE: 1 << 8,
  LOG2: 1 << 9,
  TIMESTAMP: 1 << 10,
  TIMESTAMP_USECS: 1 << 11,
  VAR: 1 << 12,
  EXPR: 1 << 13,
  VAR_REF: 1 << 14,
  CPU: 1 << 15,
  ALIAS: 1 << 16,
  BUCKET: 1 << 17,
  CONST: 1 << 18,
  PERCENT: 1 << 19,
  GRAPH: 1 << 20,
} as const;

export type FieldOp = '-' | '+' | '/' | '*' | 'unary';

type FieldFn =
  | 'nop'
  | 'var_ref'
  | 'counter'
  | 'const'
  | 'log2'
  | 'bucket'
  | 'timestamp'
  | 'cpu'
  | 'string'
  | 'pointer'
  | 'stack'
  | 'number'
  | 'execname'
  | FieldOp
  | 'div_const';

export const HIST_STACKTRACE_DEPTH = 16;
export const HIST_STACKTRACE_SIZE = HIST_STACKTRACE_DEPTH * 8;

const MASK64 = (1n << 64n) - 1n;

/** What a field's value is taken from. */
export interface HistContext {
  readonly record: TraceRecord;
  /** Time of the record by the instance's clock. */
  readonly ts: bigint;
  /** There once the key is known. */
  readonly elt: TracingMapElt | undefined;
  /** Values of the variables that the hist refers to. */
  readonly varRefVals: readonly HistValue[];
  readonly stack: () => readonly bigint[];
}

export class HistField {
  readonly histData: HistData;
  field: TraceField | undefined;
  flags = 0;
  buckets = 0n;
  type = '';
  operands: (HistField | undefined)[] = [];
  fn: FieldFn = 'nop';
  size = 0;
  offset = 0;
  isSigned = false;
  /** Of a variable; of a reference, where the variable is. Its name is a byte string. */
  varName: string | undefined;
  varIdx = -1;
  varData: HistData | undefined;
  operator: FieldOp | undefined;
  system: string | undefined;
  eventName: string | undefined;
  /** Of expressions and references. */
  name: string | undefined;
  varRefIdx = 0;
  readOnce = false;
  constant = 0n;

  constructor(histData: HistData) {
    this.histData = histData;
  }

  has(flags: number): boolean {
    return (this.flags & flags) !== 0;
  }

  /** hist_field_name(): what it is called in commands and in the `hist` file. */
  displayName(level = 0): string {
    if (level > 1) return '';
    if (this.field !== undefined) return this.field.name;
    if (this.has(FL.LOG2 | FL.ALIAS | FL.BUCKET)) return this.operands[0]?.displayName(level + 1) ?? '';
    if (this.has(FL.CPU)) return 'common_cpu';
    if (this.has(FL.EXPR | FL.VAR_REF)) {
      const name = this.name ?? '';
      if (this.system === undefined) return name;
      const full = `${this.system}.${this.eventName}.${this.has(FL.VAR_REF) ? '$' : ''}${name}`;
      return full.length < MAX_FILTER_STR_VAL ? full : '';
    }
    if (this.has(FL.TIMESTAMP)) return 'common_timestamp';
    if (this.has(FL.STACKTRACE)) return 'common_stacktrace';
    return this.has(FL.HITCOUNT) ? 'hitcount' : '';
  }

  /** get_hist_field_flags(): the modifier behind its name. */
  modifier(): string | undefined {
    return MODIFIERS.find(([flag]) => this.has(flag))?.[1];
  }

  /** field_has_hist_vars() */
  hasVars(level = 0): boolean {
    if (level > 3) return false;
    if (this.has(FL.VAR | FL.VAR_REF)) return true;
    return this.operands.some((operand) => operand?.hasVars(level + 1) ?? false);
  }

  /** hist_fn_call() */
  value(context: HistContext): HistValue {
    switch (this.fn) {
      case 'string':
        return stringValue(context.record.data, this.field as TraceField);
      case 'stack':
        return stackValue(context.record.data, this.field as TraceField);
      case 'execname':
        return stringToBytes(context.elt?.comm ?? '(no comm)');
      case 'var_ref':
        return context.varRefVals[this.varRefIdx] ?? 0n;
      default:
        return this.number(context) & MASK64;
    }
  }

  /** Its value as a number; a string counts as the address it is at: not 0, and always the same. */
  number(context: HistContext): bigint {
    switch (this.fn) {
      case 'number':
        return numberValue(context.record.data, this.field as TraceField);
      case 'counter':
        return 1n;
      case 'const':
        return this.constant;
      case 'cpu':
        return BigInt(context.record.cpu);
      case 'timestamp':
        return this.histData.timestamp(context.ts);
      case 'log2':
        return log2(this.#operand(0, context));
      case 'bucket':
        return (this.#operand(0, context) / this.buckets) * this.buckets;
      case '+':
        return this.#operand(0, context) + this.#operand(1, context);
      case '-':
        return this.#operand(0, context) - this.#operand(1, context);
      case '*':
        return this.#operand(0, context) * this.#operand(1, context);
      case 'unary':
        return -this.#operand(0, context);
      case '/': {
        const divisor = this.#operand(1, context);
        return divisor === 0n ? -1n : this.#operand(0, context) / divisor;
      }
      case 'div_const':
        return divideByConstant(this.#operand(0, context), this.operands[1]?.constant ?? 1n);
      case 'nop':
        return 0n;
      default: {
        const value = this.value(context);
        return typeof value === 'bigint' ? value : 1n;
      }
    }
  }

  #operand(n: number, context: HistContext): bigint {
    return (this.operands[n]?.number(context) ?? 0n) & MASK64;
  }
}

const MODIFIERS: readonly (readonly [number, string])[] = [
  [FL.HEX, 'hex'],
  [FL.SYM, 'sym'],
  [FL.SYM_OFFSET, 'sym-offset'],
  [FL.EXECNAME, 'execname'],
  [FL.SYSCALL, 'syscall'],
  [FL.LOG2, 'log2'],
  [FL.BUCKET, 'buckets'],
  [FL.TIMESTAMP_USECS, 'usecs'],
  [FL.PERCENT, 'percent'],
  [FL.GRAPH, 'graph'],
  [FL.STACKTRACE, 'stacktrace'],
];

/** create_hist_field(): undefined where nothing can be made of the event's field (it is no number and no string). */
export function createHistField(
  histData: HistData,
  field: TraceField | undefined,
  flags: number,
  varName?: string,
): HistField | undefined {
  if (field?.filterType === 'trace_fn') return undefined;
  const made = new HistField(histData);
  made.flags = flags;
  made.field = field;
  made.varName = varName;
  const typed = (fn: FieldFn, size: number, type: string): HistField => {
    made.fn = fn;
    made.size = size;
    made.type = type;
    return made;
  };
  if ((flags & (FL.EXPR | FL.ALIAS)) !== 0) return made;
  if ((flags & FL.VAR_REF) !== 0) return typed('var_ref', 0, '');
  if ((flags & FL.HITCOUNT) !== 0) return typed('counter', 8, 'u64');
  if ((flags & FL.CONST) !== 0) return typed('const', 8, 'u64');
  if ((flags & FL.STACKTRACE) !== 0)
    return typed(field === undefined ? 'nop' : 'stack', HIST_STACKTRACE_SIZE, 'unsigned long[]');
  if ((flags & (FL.LOG2 | FL.BUCKET)) !== 0) {
    const operand = createHistField(histData, field, flags & ~(FL.LOG2 | FL.BUCKET));
    if (operand === undefined) return undefined;
    made.operands = [operand];
    return typed((flags & FL.LOG2) !== 0 ? 'log2' : 'bucket', operand.size, operand.type);
  }
  if ((flags & FL.TIMESTAMP) !== 0) return typed('timestamp', 8, 'u64');
  if ((flags & FL.CPU) !== 0) return typed('cpu', 4, 'unsigned int');
  if (field === undefined) return made;
  // A pointer to a string is a number: nobody follows it.
  if (isStringField(field) && field.filterType !== 'ptr_string') {
    made.flags |= FL.STRING;
    return typed(
      'string',
      field.filterType === 'static_string' ? field.size : MAX_FILTER_STR_VAL,
      field.type,
    );
  }
  if (field.filterType === 'stacktrace') {
    made.flags |= FL.STACKTRACE;
    return typed('stack', MAX_FILTER_STR_VAL, field.type);
  }
  if (![1, 2, 4, 8].includes(field.size)) return undefined;
  made.isSigned = field.isSigned;
  return typed('number', field.size, field.type);
}

/** The field, where it is a number of at most 32 bits in the record itself; undefined otherwise. */
export function smallField(field: HistField): TraceField | undefined {
  return field.fn === 'number' && field.size <= 8 && (field.field?.size ?? 8) <= 4 ? field.field : undefined;
}

/** Its value. */
export function smallValue(data: Uint8Array, { offset, size, isSigned }: TraceField): number {
  if (offset + size > data.length) return 0;
  let value = data[offset] as number;
  if (size === 1) return isSigned ? (value << 24) >> 24 : value;
  value |= (data[offset + 1] as number) << 8;
  if (size === 2) return isSigned ? (value << 16) >> 16 : value;
  value |= ((data[offset + 2] as number) << 16) | ((data[offset + 3] as number) << 24);
  return isSigned ? value : value >>> 0;
}

function numberValue(data: Uint8Array, { offset, size, isSigned }: TraceField): bigint {
  if (offset + size > data.length) return 0n;
  const view = dataView(data);
  if (size === 8) return view.getBigInt64(offset, true);
  if (size === 4) return BigInt(isSigned ? view.getInt32(offset, true) : view.getUint32(offset, true));
  if (size === 2) return BigInt(isSigned ? view.getInt16(offset, true) : view.getUint16(offset, true));
  return BigInt(isSigned ? view.getInt8(offset) : view.getUint8(offset));
}

/** The bytes in front of the NUL. */
function stringValue(data: Uint8Array, field: TraceField): Uint8Array {
  const fixed = field.filterType === 'static_string';
  const start = fixed ? field.offset : locationOf(data, field).offset;
  const limit = fixed ? Math.min(data.length, start + field.size) : data.length;
  let end = start;
  while (end < limit && data[end] !== 0) end++;
  return data.slice(start, end);
}

/** A stack in a record: its depth, then its addresses. */
function stackValue(data: Uint8Array, field: TraceField): readonly bigint[] {
  const { offset, length } = locationOf(data, field);
  const view = dataView(data);
  const addresses: bigint[] = [];
  for (let at = offset + 8; at + 8 <= Math.min(offset + length, data.length); at += 8)
    addresses.push(view.getBigUint64(at, true));
  return addresses;
}

/** order_base_2() */
function log2(value: bigint): bigint {
  return value > 1n ? BigInt((value - 1n).toString(2).length) : 0n;
}

const DIV_SHIFT = 20n;

/** Division by a constant: small numbers are multiplied and shifted, which the kernel rounds up in its way. */
export function divideByConstant(value: bigint, divisor: bigint): bigint {
  const powerOfTwo = (divisor & (divisor - 1n)) === 0n;
  if (powerOfTwo || divisor > 1n << DIV_SHIFT || value >= 1n << DIV_SHIFT) return value / divisor;
  const multiplier = (1n << DIV_SHIFT) / divisor;
  return (value * multiplier + ((1n << DIV_SHIFT) - 1n)) >> DIV_SHIFT;
}
