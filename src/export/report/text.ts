/** A record as text, as libtraceevent prints it: the event's `print fmt`, or its fields where that is beyond it. */
import { checkArgument } from '../../arguments.ts';
import { bytesToString, cStringOf } from '../../kernel/trace/byte-string.ts';
import { evaluate } from '../../kernel/trace/print-fmt-eval.ts';
import { type Expr, type PrintFmt, parsePrintFmt } from '../../kernel/trace/print-fmt-parser.ts';
import type { PrintkArg } from '../../kernel/trace/printk-format.ts';
import { dataView } from '../../kernel/trace/trace-entry.ts';
import {
  aTraceEvent,
  aTraceEvents,
  eventFields,
  fieldBytes,
  isArray,
  isText,
  type TraceEvent,
  type TraceEvents,
} from '../events.ts';
import type { FileEvent, FileField } from '../trace-dat/event-format.ts';
import { type Conversion, formatNumber, formatParts, formatText } from './c-format.ts';
import { pointerBytesText } from './pointer-text.ts';

const parsed = new WeakMap<FileEvent, PrintFmt | undefined>();

/** What stands behind an event's name. */
export function eventText(events: TraceEvents, record: TraceEvent): string {
  checkArgument('eventText()', 'events', events, aTraceEvents);
  checkArgument('eventText()', 'record', record, aTraceEvent);
  const { event } = record;
  if (event === undefined) return '[UNKNOWN EVENT]';
  const own = event.system === 'ftrace' ? ftraceText(events, event, record) : undefined;
  if (own !== undefined) return own;
  if (!parsed.has(event)) parsed.set(event, parsePrintFmt(event.call.printFmt));
  const fmt = parsed.get(event);
  if (fmt === undefined) return `[FAILED TO PARSE]${rawFields(events, record)}`;
  let next = 0;
  return printed(events, fmt.format, () => {
    const expr = fmt.args[next++];
    return expr === undefined ? undefined : argument(events, expr, event, record);
  });
}

/** An argument's value; a field that is an address of a known text is that text (`%s` with `const char *`). */
interface Argument {
  readonly value: PrintkArg;
  /** A number of a pointer's size, for `%s`. */
  readonly pointer: boolean;
}

function argument(events: TraceEvents, expr: Expr, event: FileEvent, record: TraceEvent): Argument {
  const { cpu, ts, data } = record;
  const value = evaluate(expr, { call: event.call, record: { cpu, ts, data } });
  const field = expr.kind === 'field' ? event.call.field(expr.name) : undefined;
  return { value, pointer: field !== undefined && field.size === events.dat.longSize };
}

/** A format with its arguments, as glibc's printf and libtraceevent's pointers have it. */
function printed(
  events: TraceEvents,
  format: string,
  take: (conversion: Conversion | undefined) => Argument | undefined,
): string {
  let text = '';
  for (const part of formatParts(format)) {
    if (typeof part === 'string') {
      text += part;
      continue;
    }
    const star = (value: number | '*' | undefined): number | undefined =>
      value === '*' ? Number(BigInt.asIntN(32, numberOf(take(undefined)?.value))) : value;
    const width = star(part.width);
    const precision = star(part.precision);
    const arg = take(part);
    if (arg === undefined) break;
    text += converted(events, part, arg, width, precision);
  }
  return text;
}

function numberOf(value: PrintkArg | undefined): bigint {
  if (typeof value === 'bigint') return value;
  return value instanceof Uint8Array && value.length >= 8 ? dataView(value).getBigUint64(0, true) : 0n;
}

function converted(
  events: TraceEvents,
  part: Conversion,
  { value, pointer }: Argument,
  width: number | undefined,
  precision: number | undefined,
): string {
  switch (part.conversion[0]) {
    case 's': {
      if (typeof value === 'bigint') {
        if (!pointer) return formatText(part, '', width, precision);
        return events.printkFormats.get(value) ?? BigInt.asUintN(64, value).toString(16);
      }
      const text = typeof value === 'string' ? value : cStringOf(value);
      return formatText(part, text, width, precision);
    }
    case 'c':
      return formatText(part, String.fromCharCode(Number(numberOf(value) & 0xffn)), width, undefined);
    case 'p':
      return pointerText(events, part.conversion, value, precision);
    default:
      return formatNumber(part, numberOf(value), width, precision);
  }
}

function pointerText(
  events: TraceEvents,
  conversion: string,
  value: PrintkArg,
  length: number | undefined,
): string {
  if (typeof value === 'string') return value;
  const address = BigInt.asUintN(64, numberOf(value));
  switch (conversion[1]) {
    case 'F':
    case 'f':
    case 'S':
    case 's': {
      const symbol = events.symbols.find(address);
      if (symbol === undefined) return `0x${address.toString(16)}`;
      const offset = /[FS]/.test(conversion) ? `+0x${(address - symbol.address).toString(16)}` : '';
      return symbol.name + offset;
    }
    case undefined:
    case 'x':
    case 'K':
      return address === 0n ? '(nil)' : `0x${address.toString(16)}`;
    default:
      return pointerBytesText(conversion, value instanceof Uint8Array ? value : new Uint8Array(), length);
  }
}

/** Records of tracers and of trace_printk(), for which trace-cmd has code of its own. */
function ftraceText(events: TraceEvents, event: FileEvent, record: TraceEvent): string | undefined {
  const number = (name: string): bigint => {
    const field = event.fields.find((one) => one.name === name);
    return field === undefined ? 0n : fieldNumber(field, record.data);
  };
  const name = (address: bigint): string | undefined => events.symbols.find(address)?.name;
  switch (event.name) {
    case 'function': {
      const [ip, parent] = [number('ip'), number('parent_ip')];
      const from = name(ip);
      const head = from === undefined ? `0x${ip.toString(16)}` : `${from} <-- `;
      return head + (name(parent) ?? `0x${parent.toString(16)}`);
    }
    case 'bprint':
      return binaryPrintText(events, event, record);
    default:
      return undefined;
  }
}

function fieldNumber(field: FileField, data: Uint8Array): bigint {
  let value = 0n;
  const bytes = fieldBytes(field, data);
  for (let n = Math.min(bytes.length, 8) - 1; n >= 0; n--) value = (value << 8n) | BigInt(bytes[n] as number);
  return value;
}

/** A record of trace_printk(): the format is in the file, its arguments are words (get_bprint_format(), make_bprint_args()). */
function binaryPrintText(events: TraceEvents, event: FileEvent, record: TraceEvent): string {
  const field = (name: string): FileField | undefined => event.fields.find((one) => one.name === name);
  const [ip, fmt, buf] = [field('ip'), field('fmt'), field('buf')];
  if (ip === undefined || fmt === undefined || buf === undefined)
    return `[FAILED TO PARSE]${rawFields(events, record)}`;
  const where = pointerText(events, 'ps', fieldNumber(ip, record.data), undefined);
  const address = fieldNumber(fmt, record.data);
  const format = events.printkFormats.get(address);
  if (format === undefined) return `${where}: (NO FORMAT FOUND at ${address.toString(16)})`;
  const words = fieldBytes(buf, record.data);
  const view = dataView(words);
  let at = 0;
  const word = (size: number): bigint | undefined => {
    at = (at + 3) & ~3;
    if (at + size > words.length) return undefined;
    const value = size === 8 ? view.getBigUint64(at, true) : BigInt(view.getUint32(at, true));
    at += size;
    return value;
  };
  const text = printed(events, format.replace(/\n$/, ''), (part) => {
    if (part?.conversion === 's') {
      const end = words.indexOf(0, at);
      const string = bytesToString(words.subarray(at, end < 0 ? words.length : end));
      at = end < 0 ? words.length : end + 1;
      return { value: string, pointer: false };
    }
    const wide =
      part !== undefined && (part.conversion.startsWith('p') || /^(?:l|ll|L|z|Z|q|j|t)$/.test(part.length));
    const value = word(wide ? 8 : 4);
    return value === undefined ? undefined : { value, pointer: false };
  });
  return `${where}: ${text}`;
}

const PRINTABLE = /^[\x20-\x7e\s]*$/;

/** A field that a format prints as it is: by which conversion, and whether `0x` stands in front. */
interface FieldPrint {
  readonly name: string;
  readonly part: Conversion;
  readonly expr: Expr;
  readonly hex: boolean;
}

const fieldPrints = new WeakMap<FileEvent, readonly FieldPrint[]>();

function printsOf(event: FileEvent): readonly FieldPrint[] {
  const known = fieldPrints.get(event);
  if (known !== undefined) return known;
  const prints: FieldPrint[] = [];
  // What a record of trace_printk() prints is in its text, not in the event's format.
  const binary = event.system === 'ftrace' && event.name === 'bprint';
  const fmt = binary ? undefined : parsePrintFmt(event.call.printFmt);
  if (fmt !== undefined) {
    let next = 0;
    let before = '';
    for (const part of formatParts(fmt.format)) {
      if (typeof part === 'string') {
        before = part;
        continue;
      }
      if (part.width === '*') next++;
      if (part.precision === '*') next++;
      const expr = fmt.args[next++];
      let field = expr;
      while (field?.kind === 'cast') field = field.of;
      if (expr !== undefined && field?.kind === 'field')
        prints.push({ name: field.name, part, expr, hex: before.length > 1 && before.endsWith('0x') });
      before = '';
    }
  }
  fieldPrints.set(event, prints);
  return prints;
}

/** ` name=value ...`, as `-R` and formats that cannot be parsed show a record (print_selected_fields()). */
export function rawFields(events: TraceEvents, record: TraceEvent): string {
  const { event, data } = record;
  if (event === undefined) return '';
  const prints = printsOf(event);
  let text = '';
  // A field that a format prints twice is shown as its next place has it.
  let from = 0;
  for (const [field] of eventFields(record)) {
    text += ` ${field.name}=`;
    const order = [...prints.slice(from), ...prints.slice(0, from)];
    const print = isArray(field) || isText(field) ? undefined : order.find(({ name }) => name === field.name);
    if (print === undefined) {
      text += rawField(field, data);
      continue;
    }
    from = prints.indexOf(print) + 1;
    const { width, precision } = print.part;
    text += print.hex ? '0x' : '';
    text += converted(
      events,
      print.part,
      argument(events, print.expr, event, record),
      width === '*' ? undefined : width,
      precision === '*' ? undefined : precision,
    );
  }
  return text;
}

/** print_field_raw() */
function rawField(field: FileField, data: Uint8Array): string {
  const bytes = fieldBytes(field, data);
  if (isArray(field)) {
    const string = cStringOf(bytes);
    if (isText(field) && PRINTABLE.test(string)) return string;
    return `ARRAY[${[...bytes].map((byte) => byte.toString(16).padStart(2, '0')).join(', ')}]`;
  }
  const value = fieldNumber(field, data);
  const bits = bytes.length * 8;
  if (field.type.includes('*')) return `0x${value.toString(16)}`;
  // Longs are mostly addresses.
  const long = /\blong\b/.test(field.type) && !/long long/.test(field.type);
  if (!field.isSigned) return long ? `0x${value.toString(16)}` : String(value);
  const signed = BigInt.asIntN(bits, value);
  if (bits === 32 && long) return `0x${value.toString(16)}`;
  return bits === 16 ? String(signed).padStart(2) : String(signed);
}
