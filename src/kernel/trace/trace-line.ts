import { builtinLine, builtinRaw } from './builtin-output.ts';
import { cStringOf, stringToBytes, utf8String } from './byte-string.ts';
import { printFmt } from './print-fmt.ts';
import { symbolText } from './symbols.ts';
import type { TraceArray } from './trace-array.ts';
import { timeText } from './trace-clock.ts';
import { dataView, entryPid, entryType, TRACE_LAST_TYPE, type TraceRecord } from './trace-entry.ts';
import type { TraceEventCall } from './trace-event.ts';
import type { TraceField } from './trace-field.ts';

const FLAG_NMI = 0x40;
const FLAG_BH_OFF = 0x80;
const FLAG_IRQS_OFF = 0x01;
const FLAG_NEED_RESCHED = 0x04;
const FLAG_HARDIRQ = 0x08;
const FLAG_SOFTIRQ = 0x10;
const FLAG_PREEMPT_RESCHED = 0x20;

/** How a reader of an instance prints: `trace` and `trace_pipe` each have one. */
export interface LineContext {
  readonly tr: TraceArray;
  /** The latency format, as it was chosen when the file was opened. */
  readonly latency: boolean;
  /** Number of the record in this reading: `trace` counts from 0, `trace_pipe` from 1. */
  readonly index: number;
  /** Times of the latency format are since then. */
  readonly timeStart: bigint;
  /** Time of the record behind this one; the latency format shows the distance. */
  readonly nextTs: bigint;
}

/** print_trace_line(): a record as the instance's options have it. Bytes in the binary format. */
export function traceLine(record: TraceRecord, context: LineContext): string | Uint8Array {
  const { tr } = context;
  const { options } = tr;
  if (options.has('trace_printk') && options.has('printk-msg-only')) {
    const message = printkMessage(tr, record);
    if (message !== undefined) return message;
  }
  if (options.has('bin')) return binaryLine(tr, record);
  if (options.has('hex')) return hexLine(tr, record);
  if (options.has('raw')) return rawLine(tr, record);
  let line = '';
  if (options.has('context-info'))
    line = context.latency ? latencyContext(record, context) : contextText(tr, record);
  const type = entryType(record.data);
  const call = tr.tracing.events.byId(type);
  if (call === undefined) return `${line}Unknown type ${type}\n`;
  if (options.has('fields') && type <= TRACE_LAST_TYPE) return `${line}UNKNOWN TYPE ${type}\n`;
  if (options.has('fields')) return `${line}${fieldsText(tr, call, record)}\n`;
  const builtin = builtinLine(tr, record, type);
  if (builtin !== undefined) return line + builtin;
  return `${line}${call.name}: ${eventText(tr, call, record)}\n`;
}

/** What an event's record says behind its name. */
export function eventText(tr: TraceArray, call: TraceEventCall, record: TraceRecord): string {
  return call.print?.(record, tr.tracing, tr) ?? printFmt(call, record, tr);
}

function printkMessage(tr: TraceArray, record: TraceRecord): string | undefined {
  const line = builtinLine(tr, record, entryType(record.data), true);
  return line;
}

/** trace_print_lat_fmt(): the columns for interrupts and preemption. */
export function flagsText(data: Uint8Array): string {
  const flags = data[2]!;
  const preempt = data[3]!;
  const has = (flag: number): boolean => (flags & flag) !== 0;
  const irqs = has(FLAG_IRQS_OFF) ? (has(FLAG_BH_OFF) ? 'D' : 'd') : has(FLAG_BH_OFF) ? 'b' : '.';
  const resched = has(FLAG_NEED_RESCHED)
    ? has(FLAG_PREEMPT_RESCHED)
      ? 'N'
      : 'n'
    : has(FLAG_PREEMPT_RESCHED)
      ? 'p'
      : '.';
  let context = '.';
  if (has(FLAG_NMI)) context = has(FLAG_HARDIRQ) ? 'Z' : 'z';
  else if (has(FLAG_HARDIRQ)) context = has(FLAG_SOFTIRQ) ? 'H' : 'h';
  else if (has(FLAG_SOFTIRQ)) context = 's';
  const depth = (preempt & 0xf) === 0 ? '.' : (preempt & 0xf).toString(16);
  const migrate = (preempt & 0xf0) === 0 ? '.' : (preempt >> 4).toString(16);
  return irqs + resched + context + depth + migrate;
}

/** trace_print_context() */
function contextText(tr: TraceArray, { data, cpu, ts }: TraceRecord): string {
  const pid = entryPid(data);
  let text = `${utf8String(tr.tracing.savedCmdlines.find(pid)).padStart(16)}-${String(pid).padEnd(7)} `;
  if (tr.options.has('record-tgid')) {
    const tgid = tr.tracing.savedCmdlines.findTgid(pid);
    text += tgid === 0 ? '(-------) ' : `(${String(tgid).padStart(7)}) `;
  }
  text += `[${String(cpu).padStart(3, '0')}] `;
  if (tr.options.has('irq-info')) text += flagsText(data);
  return `${text}${timeText(tr, ts)}: `;
}

/** trace_find_mark(): how long it took to the next record. */
export function delayMark(ns: bigint): string {
  const marks: readonly (readonly [bigint, string])[] = [
    [1_000_000_000n, '$'],
    [100_000_000n, '@'],
    [10_000_000n, '*'],
    [1_000_000n, '#'],
    [100_000n, '!'],
    [10_000n, '+'],
  ];
  return marks.find(([limit]) => ns > limit)?.[1] ?? ' ';
}

/** trace_print_lat_context() */
function latencyContext(
  { data, cpu, ts }: TraceRecord,
  { tr, index, nextTs, timeStart }: LineContext,
): string {
  const pid = entryPid(data);
  const comm = utf8String(tr.tracing.savedCmdlines.find(pid));
  const verbose = tr.options.has('verbose');
  const hex = (value: number | bigint, width: number): string => value.toString(16).padStart(width, '0');
  const head = verbose
    ? `${comm.padStart(16)} ${String(pid).padStart(7)} ${String(cpu).padStart(3)} ${data[2]} ` +
      `${hex(data[3]! & 0xf, 8)} ${hex(index, 8)} `
    : `${comm.slice(0, 8).padStart(8)}-${String(pid).padEnd(7)} ${String(cpu).padStart(3)}${flagsText(data)}`;
  const since = ts - timeStart;
  const rest = nextTs - ts;
  const us = (ns: bigint): bigint => (ns + 500n) / 1000n;
  if (!tr.clockInNs) {
    return verbose
      ? `${head}[${hex(ts, 16)}] ${since} (+${rest}): `
      : `${head} ${String(since).padStart(4)}: `;
  }
  if (!verbose) return `${head} ${String(us(since)).padStart(4)}us${delayMark(us(rest) * 1000n)}: `;
  const ms = (value: bigint): string => `${value / 1000n}.${String(value % 1000n).padStart(3, '0')}ms`;
  return `${head}[${hex(us(ts), 8)}] ${ms(us(since))} (+${ms(us(rest))}): `;
}

/** print_raw_fmt() */
function rawLine(tr: TraceArray, record: TraceRecord): string {
  const { data, cpu, ts } = record;
  const type = entryType(data);
  const head = tr.options.has('context-info') ? `${entryPid(data)} ${cpu} ${ts} ` : '';
  if (tr.tracing.events.byId(type) === undefined) return `${head}${type} ?\n`;
  return head + (builtinRaw(tr, record, type) ?? `type: ${type}\n`);
}

/** print_hex_fmt() */
function hexLine(tr: TraceArray, record: TraceRecord): string {
  const { data, cpu, ts } = record;
  const type = entryType(data);
  const hex = (value: number | bigint, width: number): string =>
    `${value.toString(16).padStart(width, '0')} `;
  const head = tr.options.has('context-info') ? hex(entryPid(data) >>> 0, 8) + hex(cpu, 8) + hex(ts, 16) : '';
  const known = tr.tracing.events.byId(type) !== undefined;
  return `${head}${known ? (builtinRaw(tr, record, type, 'hex') ?? `type: ${type}\n`) : ''}\n`;
}

/** print_bin_fmt() */
function binaryLine(tr: TraceArray, record: TraceRecord): Uint8Array {
  const { data, cpu, ts } = record;
  const type = entryType(data);
  const known = tr.tracing.events.byId(type) !== undefined;
  const text = stringToBytes(known ? (builtinRaw(tr, record, type, 'bin') ?? `type: ${type}\n`) : '');
  if (!tr.options.has('context-info')) return text;
  const line = new Uint8Array(16 + text.length);
  const view = dataView(line);
  view.setInt32(0, entryPid(data), true);
  view.setInt32(4, cpu, true);
  view.setBigUint64(8, ts, true);
  line.set(text, 16);
  return line;
}

/** print_event_fields(): `name: field=value ...`. 6.12 finds none of its own events for it, which traceLine() follows. */
function fieldsText(tr: TraceArray, call: TraceEventCall, record: TraceRecord): string {
  if (call.fields.length === 0) return `${call.name}:No fields found`;
  return `${call.name}:${call.fields.map((field) => ` ${field.name}=${fieldText(tr, field, record.data)}`).join('')}`;
}

/** The kernel's isprint(), which goes by Latin-1. */
function isPrint(byte: number): boolean {
  return (byte >= 0x20 && byte < 0x7f) || byte >= 0xa0;
}

function fieldText(tr: TraceArray, field: TraceField, data: Uint8Array): string {
  const { offset, size } = field;
  if (offset + size > data.length) return '<OVERFLOW>';
  const view = dataView(data);
  const string = (at: number, length: number): string => cStringOf(data.subarray(at, at + length));
  const location = (): { at: number; length: number } => {
    const word = view.getUint32(offset, true);
    const relative = field.type.includes('__rel_loc') ? offset + 4 : 0;
    return { at: (word & 0xffff) + relative, length: word >>> 16 };
  };
  switch (field.filterType) {
    case 'comm':
    case 'static_string':
      return string(offset, size);
    case 'dyn_string':
    case 'rdyn_string': {
      const { at, length } = location();
      return at + length > data.length ? '<OVERFLOW>' : string(at, length);
    }
    case 'ptr_string':
      return `(0x${view.getBigUint64(offset, true).toString(16).padStart(16, '0')})`;
    case 'trace_fn':
      return symbolText(tr.tracing, view.getBigUint64(offset, true), true);
    case 'cpu':
    case 'other':
      break;
    default:
      return '<INVALID-TYPE>';
  }
  switch (size) {
    case 1: {
      const byte = data[offset]!;
      return `${isPrint(byte) ? `'${String.fromCharCode(byte)}'` : ''}(${byte})`;
    }
    case 2: {
      const value = view.getUint16(offset, true);
      return `0x${value.toString(16)} (${value})`;
    }
    case 4: {
      if (/__data_loc|__rel_loc/.test(field.type)) {
        const { at, length } = location();
        if (at + length > data.length) return '<OVERFLOW>';
        return [...data.subarray(at, at + length)]
          .map((byte) => byte.toString(16).padStart(2, '0'))
          .join(',');
      }
      return `0x${view.getUint32(offset, true).toString(16)} (${view.getInt32(offset, true)})`;
    }
    case 8:
      return `0x${view.getBigUint64(offset, true).toString(16)} (${view.getBigInt64(offset, true)})`;
    default:
      return '<INVALID-SIZE>';
  }
}
