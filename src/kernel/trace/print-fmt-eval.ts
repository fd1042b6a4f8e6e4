import { cStringOf } from './byte-string.ts';
import { type FlagName, printFlags } from './print-flags.ts';
import type { Expr } from './print-fmt-parser.ts';
import type { PrintkArg } from './printk-format.ts';
import { dataView, type TraceRecord } from './trace-entry.ts';
import type { TraceEventCall } from './trace-event.ts';
import type { TraceField } from './trace-field.ts';

export interface EvalContext {
  readonly call: TraceEventCall;
  readonly record: TraceRecord;
}

const SCALAR_SIZES = new Set([1, 2, 4, 8]);

/** A number of the record, by its size and sign; 0 behind its end. */
export function readNumber(data: Uint8Array, offset: number, size: number, signed: boolean): bigint {
  if (offset + size > data.length) return 0n;
  const view = dataView(data);
  switch (size) {
    case 1:
      return BigInt(signed ? view.getInt8(offset) : view.getUint8(offset));
    case 2:
      return BigInt(signed ? view.getInt16(offset, true) : view.getUint16(offset, true));
    case 4:
      return BigInt(signed ? view.getInt32(offset, true) : view.getUint32(offset, true));
    default:
      return signed ? view.getBigInt64(offset, true) : view.getBigUint64(offset, true);
  }
}

/** The bytes that a __data_loc or __rel_loc field names. */
function dynamic({ record: { data } }: EvalContext, field: TraceField): Uint8Array {
  const word = Number(readNumber(data, field.offset, 4, false));
  const base = field.type.includes('__rel_loc') ? field.offset + 4 : 0;
  const at = base + (word & 0xffff);
  return data.subarray(Math.min(at, data.length), Math.min(at + (word >>> 16), data.length));
}

function isDynamic(field: TraceField): boolean {
  return /__data_loc|__rel_loc/.test(field.type);
}

/** Bytes of an element of an array type: `unsigned long[6]` has 8. */
function elementSize(field: TraceField): number {
  if (/char|u8|__u8|s8|bool/.test(field.type)) return 1;
  if (/short|u16|s16|__[bl]e16/.test(field.type)) return 2;
  if (/long|64|size_t|\*/.test(field.type)) return 8;
  return 4;
}

function fieldValue(context: EvalContext, name: string): PrintkArg {
  const field = context.call.field(name);
  if (field === undefined) return 0n;
  const { data } = context.record;
  if (isDynamic(field)) return dynamic(context, field);
  if (field.type.includes('[')) {
    const end = field.size === 0 ? data.length : field.offset + field.size;
    return data.subarray(Math.min(field.offset, data.length), Math.min(end, data.length));
  }
  if (!SCALAR_SIZES.has(field.size)) return data.subarray(field.offset, field.offset + field.size);
  return readNumber(data, field.offset, field.size, field.isSigned);
}

const CAST_BITS: readonly (readonly [RegExp, number])[] = [
  [/\*/, 64],
  [/\b(?:char|u8|s8|__u8|__s8|u?int8_t|bool|_Bool)\b/, 8],
  [/\b(?:short|u16|s16|__u16|__s16|u?int16_t|umode_t|__[bl]e16)\b/, 16],
  [/\b(?:long|u64|s64|__u64|__s64|u?int64_t|s?size_t|__[bl]e64|sector_t|loff_t|ktime_t)\b/, 64],
  [/./, 32],
];

function cast(type: string, value: PrintkArg): PrintkArg {
  if (typeof value !== 'bigint') return value;
  const bits = CAST_BITS.find(([pattern]) => pattern.test(type))![1];
  const unsigned = /unsigned|\bu\d|__u|\*|uint|\bsize_t|gfp_t|umode_t|bool|le\d|be\d|sector_t|dev_t/.test(
    type,
  );
  return unsigned ? BigInt.asUintN(bits, value) : BigInt.asIntN(bits, value);
}

const toNumber = (value: PrintkArg): bigint =>
  typeof value === 'bigint' ? value : value.length > 0 ? 1n : 0n;
const bool = (value: boolean): bigint => (value ? 1n : 0n);

function binary(op: string, a: bigint, b: bigint): bigint {
  switch (op) {
    case '+':
      return BigInt.asIntN(64, a + b);
    case '-':
      return BigInt.asIntN(64, a - b);
    case '*':
      return BigInt.asIntN(64, a * b);
    case '/':
      return b === 0n ? 0n : a / b;
    case '%':
      return b === 0n ? 0n : a % b;
    case '&':
      return a & b;
    case '|':
      return a | b;
    case '^':
      return a ^ b;
    case '<<':
      return BigInt.asUintN(64, a << (b & 63n));
    case '>>':
      return a >> (b & 63n);
    case '==':
      return bool(BigInt.asUintN(64, a) === BigInt.asUintN(64, b));
    case '!=':
      return bool(BigInt.asUintN(64, a) !== BigInt.asUintN(64, b));
    case '<':
      return bool(a < b);
    case '>':
      return bool(a > b);
    case '<=':
      return bool(a <= b);
    default:
      return bool(a >= b);
  }
}

/** The value of an argument in a record. What cannot be evaluated is 0. */
export function evaluate(expr: Expr, context: EvalContext): PrintkArg {
  const number = (of: Expr): bigint => toNumber(evaluate(of, context));
  switch (expr.kind) {
    case 'number':
    case 'string':
      return expr.value;
    case 'field':
      return fieldValue(context, expr.name);
    case 'name':
      return expr.name === 'true' ? 1n : 0n;
    case 'index':
      return element(expr.of, Number(number(expr.index)), context);
    case 'cast':
      return cast(expr.type, evaluate(expr.of, context));
    case 'unary':
      return unary(expr.op, evaluate(expr.of, context));
    case 'ternary':
      return evaluate(number(expr.test) !== 0n ? expr.yes : expr.no, context);
    case 'binary':
      if (expr.op === '&&') return bool(number(expr.left) !== 0n && number(expr.right) !== 0n);
      if (expr.op === '||') return bool(number(expr.left) !== 0n || number(expr.right) !== 0n);
      return binary(expr.op, number(expr.left), number(expr.right));
    case 'braces':
      return 0n;
    case 'call':
      return call(expr.name, expr.args, context);
  }
}

function unary(op: string, value: PrintkArg): PrintkArg {
  if (op === '&') return value;
  if (op === '*')
    return value instanceof Uint8Array ? readNumber(value, 0, Math.min(8, value.length), false) : value;
  const given = toNumber(value);
  if (op === '!') return bool(given === 0n);
  if (op === '~') return ~given;
  return op === '-' ? -given : given;
}

function element(of: Expr, index: number, context: EvalContext): bigint {
  const bytes = evaluate(of, context);
  if (!(bytes instanceof Uint8Array) || index < 0) return 0n;
  const field = of.kind === 'field' ? context.call.field(of.name) : undefined;
  const size = field === undefined ? 1 : elementSize(field);
  return readNumber(bytes, index * size, size, field?.isSigned ?? false);
}

/** The field that a macro's argument names: `__get_str(filename)`. */
function named(arg: Expr | undefined, context: EvalContext): TraceField | undefined {
  const name = arg?.kind === 'name' || arg?.kind === 'field' ? arg.name : undefined;
  return name === undefined ? undefined : context.call.field(name);
}

function call(name: string, args: readonly Expr[], context: EvalContext): PrintkArg {
  const [first, second, third] = args;
  const value = (arg: Expr | undefined): PrintkArg => (arg === undefined ? 0n : evaluate(arg, context));
  const bytes = (arg: Expr | undefined): Uint8Array => {
    const given = value(arg);
    return given instanceof Uint8Array ? given : new Uint8Array();
  };
  const hex = (list: Uint8Array, between: string): string =>
    [...list].map((byte) => byte.toString(16).padStart(2, '0')).join(between);
  switch (name) {
    case '__print_flags':
    case '__print_flags_u64':
      return printFlags(
        BigInt.asUintN(64, toNumber(value(first))),
        value(second) as string,
        pairs(args.slice(2), context),
      );
    case '__print_symbolic':
    case '__print_symbolic_u64':
      return printSymbolic(BigInt.asUintN(64, toNumber(value(first))), pairs(args.slice(1), context));
    case '__get_str':
    case '__get_rel_str': {
      const field = named(first, context);
      return field === undefined ? '' : cStringOf(dynamic(context, field));
    }
    case '__get_dynamic_array':
    case '__get_rel_dynamic_array':
    case '__get_sockaddr':
    case '__get_rel_sockaddr': {
      const field = named(first, context);
      return field === undefined ? new Uint8Array() : dynamic(context, field);
    }
    case '__get_dynamic_array_len':
    case '__get_rel_dynamic_array_len': {
      const field = named(first, context);
      return field === undefined ? 0n : BigInt(dynamic(context, field).length);
    }
    case '__get_bitmask':
    case '__get_cpumask':
    case '__get_rel_bitmask':
    case '__get_rel_cpumask': {
      const field = named(first, context);
      return field === undefined ? '' : bitmask(dynamic(context, field));
    }
    case '__print_hex':
    case '__print_hex_str': {
      const list = bytes(first).subarray(0, Number(toNumber(value(second))));
      return hex(list, name === '__print_hex' ? ' ' : '');
    }
    case '__print_array': {
      const size = Number(toNumber(value(third)));
      const count = Number(toNumber(value(second)));
      const list = bytes(first);
      const items: string[] = [];
      for (let n = 0; n < count && (n + 1) * size <= list.length; n++)
        items.push(`0x${readNumber(list, n * size, size, false).toString(16)}`);
      return `{${items.join(',')}}`;
    }
    case '__print_ns_to_secs': {
      const ns = toNumber(value(first));
      return `${ns / 1_000_000_000n}`;
    }
    case '__print_ns_without_secs': {
      const ns = toNumber(value(first));
      return `${(ns % 1_000_000_000n) / 1000n}`;
    }
    case '__builtin_expect':
    case 'be16_to_cpu':
    case 'ntohs':
      return value(first);
    default:
      return 0n;
  }
}

function pairs(args: readonly Expr[], context: EvalContext): FlagName[] {
  return args.flatMap((arg) => {
    if (arg.kind !== 'braces') return [];
    const [value, text] = arg.items.map((item) => evaluate(item, context));
    return typeof value === 'bigint' && typeof text === 'string'
      ? [{ value: BigInt.asUintN(64, value), text }]
      : [];
  });
}

/** trace_print_symbols_seq() */
function printSymbolic(given: bigint, symbols: readonly FlagName[]): string {
  return symbols.find(({ value }) => value === given)?.text ?? `0x${given.toString(16)}`;
}

function bitmask(bytes: Uint8Array): string {
  const words: string[] = [];
  for (let at = 0; at + 4 <= bytes.length; at += 4)
    words.unshift(readNumber(bytes, at, 4, false).toString(16).padStart(8, '0'));
  return words.join(',');
}
