import type { ScriptType } from '../lang/script.ts';
import type { Value } from './model.ts';
import {
  type DecodeContext,
  formatBuf,
  formatStack,
  formatValue,
  readInt,
  readString,
  readValue,
} from './values.ts';

export interface PrintfArg {
  readonly offset: number;
  readonly type: ScriptType;
}

/** One record's text. */
export type RecordFormatter = (record: DataView) => string;

export interface Conversion {
  readonly left: boolean;
  readonly zero: boolean;
  readonly plus: boolean;
  readonly space: boolean;
  readonly alternate: boolean;
  readonly width: number;
  readonly precision: number | undefined;
  /** `hh`, `h`, `l`, `ll`, `j`, `z`, `t` or empty */
  readonly length: string;
  /** `d i u x X o p s c r b e f g` or the buffer forms `rx` and `rh` */
  readonly conversion: string;
}

const CONVERSION = /%([-+ #0]*)(\d*)(?:\.(\d+))?(hh|h|ll|l|j|z|t)?(rx|rh|[a-zA-Z%])/g;

/** The literal texts and conversions of a format, in order. `%%` is literal. */
export function parseFormat(format: string): readonly (string | Conversion)[] {
  const parts: (string | Conversion)[] = [];
  let literal = '';
  let end = 0;
  for (const match of format.matchAll(CONVERSION)) {
    literal += format.slice(end, match.index);
    end = match.index + match[0].length;
    if (match[5] === '%') {
      literal += '%';
      continue;
    }
    if (literal !== '') parts.push(literal);
    literal = '';
    const flags = match[1]!;
    parts.push({
      left: flags.includes('-'),
      zero: flags.includes('0'),
      plus: flags.includes('+'),
      space: flags.includes(' '),
      alternate: flags.includes('#'),
      width: match[2] === '' ? 0 : Number(match[2]),
      precision: match[3] === undefined ? undefined : Number(match[3]),
      length: match[4] ?? '',
      conversion: match[5]!,
    });
  }
  literal += format.slice(end);
  if (literal !== '') parts.push(literal);
  return parts;
}

/**
 * Compiles a printf format for records of known layout. Called once a script, the result once an event, so the common
 * conversions (`%d`, `%s` without width) have short ways of their own.
 */
export function compilePrintf(
  format: string,
  args: readonly PrintfArg[],
  context: DecodeContext,
): RecordFormatter {
  let next = 0;
  const pieces = parseFormat(format).map((part): string | RecordFormatter => {
    if (typeof part === 'string') return part;
    const arg = args[next++];
    return arg === undefined ? '' : compileConversion(part, arg, context);
  });
  return (record) => {
    let text = '';
    for (const piece of pieces) text += typeof piece === 'string' ? piece : piece(record);
    return text;
  };
}

function compileConversion(conversion: Conversion, arg: PrintfArg, context: DecodeContext): RecordFormatter {
  const { offset, type } = arg;
  const plain =
    conversion.width === 0 && conversion.precision === undefined && !conversion.plus && !conversion.space;
  if (
    plain &&
    type.kind === 'int' &&
    /^(d|i|u)$/.test(conversion.conversion) &&
    !conversion.length.startsWith('h')
  ) {
    if (type.size === 8) return decimal64(offset, conversion.conversion !== 'u');
    const { size, signed } = type;
    return (record) => String(readInt(record, offset, size, signed));
  }
  if (plain && type.kind === 'string' && conversion.conversion === 's') {
    const { size } = type;
    return (record) => readString(record, offset, size);
  }
  return (record) => convert(conversion, readValue(record, offset, type, context));
}

function decimal64(offset: number, signed: boolean): RecordFormatter {
  return (record) => {
    const high = record.getInt32(offset + 4, true);
    // A double holds 53 bits exactly; BigInt costs more than the rest of a record.
    if (high >= -0x20_0000 && high < 0x20_0000 && (signed || high >= 0)) {
      return String(high * 0x1_0000_0000 + record.getUint32(offset, true));
    }
    return String(signed ? record.getBigInt64(offset, true) : record.getBigUint64(offset, true));
  };
}

/** Formats one value as C's printf would; conversions follow bpftrace (integers are 64 bits wide unless `h` or `hh`). */
export function convert(conversion: Conversion, value: Value): string {
  switch (conversion.conversion) {
    case 'd':
    case 'i':
      return integer(conversion, BigInt.asIntN(bitsOf(conversion), toInteger(value)), 10);
    case 'u':
      return integer(conversion, BigInt.asUintN(bitsOf(conversion), toInteger(value)), 10);
    case 'x':
      return integer(conversion, BigInt.asUintN(bitsOf(conversion), toInteger(value)), 16, '0x');
    case 'X':
      return integer(
        conversion,
        BigInt.asUintN(bitsOf(conversion), toInteger(value)),
        16,
        '0x',
      ).toUpperCase();
    case 'o':
      return integer(conversion, BigInt.asUintN(bitsOf(conversion), toInteger(value)), 8);
    case 'b':
      return integer(conversion, BigInt.asUintN(bitsOf(conversion), toInteger(value)), 2, '0b');
    case 'p':
      return integer({ ...conversion, alternate: true }, BigInt.asUintN(64, toInteger(value)), 16, '0x');
    case 'c':
      return padText(
        conversion,
        value.kind === 'text' ? [...value.text].slice(0, 1).join('') : character(value),
      );
    case 'e':
    case 'f':
    case 'g':
    case 'E':
    case 'F':
    case 'G':
      return float(conversion, toNumber(value));
    case 'r':
      return padText(conversion, value.kind === 'buf' ? formatBuf(value.bytes) : formatValue(value));
    case 'rx':
      return padText(conversion, value.kind === 'buf' ? formatBuf(value.bytes, false) : formatValue(value));
    case 'rh':
      return padText(
        conversion,
        value.kind === 'buf'
          ? [...value.bytes].map((byte) => byte.toString(16).padStart(2, '0')).join(' ')
          : formatValue(value),
      );
    default:
      return padText(conversion, value.kind === 'stack' ? formatStack(value.frames, 8) : formatValue(value));
  }
}

function character(value: Value): string {
  const code = Number(BigInt.asUintN(8, toInteger(value)));
  return code === 0 ? '' : String.fromCharCode(code);
}

function bitsOf({ length }: Conversion): number {
  return length === 'hh' ? 8 : length === 'h' ? 16 : 64;
}

/** What an integer conversion makes of a value: numbers truncate, true is 1, a text that is an integer is that integer. */
function toInteger(value: Value): bigint {
  switch (value.kind) {
    case 'int':
      return value.value;
    case 'number':
      return Number.isFinite(value.value) ? BigInt(Math.trunc(value.value)) : 0n;
    case 'boolean':
      return value.value ? 1n : 0n;
    default:
      return 0n;
  }
}

function toNumber(value: Value): number {
  return value.kind === 'number' ? value.value : Number(toInteger(value));
}

function integer(conversion: Conversion, value: bigint, radix: number, prefix = ''): string {
  const { left, zero, plus, space, alternate, width, precision } = conversion;
  const negative = value < 0n;
  let digits = (negative ? -value : value).toString(radix);
  if (precision !== undefined)
    digits = precision === 0 && value === 0n ? '' : digits.padStart(precision, '0');
  let sign = '';
  if (negative) sign = '-';
  else if (isSigned(conversion) && plus) sign = '+';
  else if (isSigned(conversion) && space) sign = ' ';
  if (alternate && radix === 8) digits = digits.startsWith('0') ? digits : `0${digits}`;
  else if (alternate && (value !== 0n || conversion.conversion === 'p')) sign += prefix;
  if (zero && !left && precision === undefined) digits = digits.padStart(width - sign.length, '0');
  const text = sign + digits;
  return left ? text.padEnd(width) : text.padStart(width);
}

function isSigned({ conversion }: Conversion): boolean {
  return conversion === 'd' || conversion === 'i';
}

function float(conversion: Conversion, value: number): string {
  const { left, zero, plus, space, width, precision = 6 } = conversion;
  const kind = conversion.conversion.toLowerCase();
  const absolute = Math.abs(value);
  let digits: string;
  if (!Number.isFinite(value)) digits = Number.isNaN(value) ? 'nan' : 'inf';
  else if (kind === 'f') digits = fixed(absolute, precision);
  else if (kind === 'e') digits = exponent(absolute, precision);
  else digits = general(absolute, precision || 1, conversion.alternate);
  if (conversion.conversion !== kind) digits = digits.toUpperCase();
  const sign = value < 0 || Object.is(value, -0) ? '-' : plus ? '+' : space ? ' ' : '';
  if (zero && !left && Number.isFinite(value)) digits = digits.padStart(width - sign.length, '0');
  return left ? (sign + digits).padEnd(width) : (sign + digits).padStart(width);
}

/** Number.prototype.toFixed ends at 1e21, C's %f does not. */
function fixed(value: number, precision: number): string {
  if (value < 1e21) return value.toFixed(Math.min(precision, 100));
  return `${BigInt(value)}${precision > 0 ? `.${'0'.repeat(precision)}` : ''}`;
}

function exponent(value: number, precision: number): string {
  return value.toExponential(Math.min(precision, 100)).replace(/e([+-])(\d)$/, 'e$10$2');
}

function general(value: number, precision: number, keepZeros: boolean): string {
  const power = value === 0 ? 0 : Number(value.toExponential(Math.min(precision - 1, 100)).split('e')[1]);
  const text =
    power < -4 || power >= precision
      ? exponent(value, precision - 1)
      : fixed(value, Math.max(0, precision - 1 - power));
  return keepZeros ? text : text.replace(/(\.\d*?)0+(?=e|$)/, '$1').replace(/\.(?=e|$)/, '');
}

function padText({ left, width, precision }: Conversion, text: string): string {
  const cut = precision === undefined ? text : text.slice(0, precision);
  return left ? cut.padEnd(width) : cut.padStart(width);
}
