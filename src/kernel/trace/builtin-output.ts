import {
  TRACE_BPRINT,
  TRACE_BPUTS,
  TRACE_FN,
  TRACE_FUNC_REPEATS,
  TRACE_PRINT,
  TRACE_RAW_DATA,
  TRACE_STACK,
  TRACE_USER_STACK,
} from './builtin-events.ts';
import { cStringOf } from './byte-string.ts';
import { bstrPrintf } from './printk-format.ts';
import { ipText } from './symbols.ts';
import type { TraceArray } from './trace-array.ts';
import { timeText } from './trace-clock.ts';
import { dataView, type TraceRecord } from './trace-entry.ts';

const ULONG_MAX = 0xffff_ffff_ffff_ffffn;
/** Addresses of a user stack record (FTRACE_STACK_ENTRIES). */
const STACK_ENTRIES = 8;

function string(data: Uint8Array, at: number): string {
  return cStringOf(data.subarray(at));
}

/** The line of a record that tracers and trace_printk() make (kernel/trace/trace_output.c); with `message`, its text alone. */
export function builtinLine(
  tr: TraceArray,
  record: TraceRecord,
  type: number,
  message = false,
): string | undefined {
  const { data } = record;
  const view = dataView(data);
  const u64 = (at: number): bigint => (at + 8 <= data.length ? view.getBigUint64(at, true) : 0n);
  const where = (): string => (message ? '' : `${ipText(tr, u64(8))}: `);
  switch (type) {
    case TRACE_PRINT:
      return where() + string(data, 16);
    case TRACE_BPUTS:
      return where() + (tr.tracing.printkFormats.get(u64(16)) ?? '');
    case TRACE_BPRINT:
      return where() + bstrPrintf(tr, tr.tracing.printkFormats.get(u64(16)) ?? '', data.subarray(24));
  }
  if (message) return undefined;
  switch (type) {
    case TRACE_FN:
      return `${functionText(tr, u64(8), u64(16))}\n`;
    case TRACE_FUNC_REPEATS: {
      const last = timeText(tr, record.ts - repeatsDelta(view));
      return `${functionText(tr, u64(8), u64(16))} (repeats: ${repeatsCount(view)}, last_ts:${last})\n`;
    }
    case TRACE_STACK: {
      let text = '<stack trace>\n';
      for (let at = 16; at + 8 <= data.length; at += 8) {
        const ip = u64(at);
        if (ip === ULONG_MAX) break;
        text += ` => ${ipText(tr, ip)}\n`;
      }
      return text;
    }
    case TRACE_USER_STACK: {
      let text = '<user stack trace>\n';
      for (let n = 0; n < STACK_ENTRIES; n++) {
        const ip = u64(16 + 8 * n);
        if (ip === 0n) break;
        text += ` =>  <${ip.toString(16).padStart(16, '0')}>\n`;
      }
      return text;
    }
    case TRACE_RAW_DATA:
      return rawData(data);
    default:
      return undefined;
  }
}

/** print_fn_trace() */
function functionText(tr: TraceArray, ip: bigint, parent: bigint): string {
  const from = tr.options.has('print-parent') && parent !== 0n ? ` <-${ipText(tr, parent)}` : '';
  return ipText(tr, ip) + from;
}

const REPEATS_SIZE = 32;

function repeatsCount(view: DataView): number {
  return view.byteLength < REPEATS_SIZE ? 0 : view.getUint16(24, true);
}

/** FUNC_REPEATS_GET_DELTA_TS() */
function repeatsDelta(view: DataView): bigint {
  if (view.byteLength < REPEATS_SIZE) return 0n;
  return (BigInt(view.getUint16(26, true)) << 32n) | BigInt(view.getUint32(28, true));
}

/** trace_raw_data(): the bytes that were written, filled up to words. */
function rawData(data: Uint8Array): string {
  let text = `# ${dataView(data).getUint32(8, true).toString(16)} buf:`;
  for (const byte of data.subarray(12)) text += ` ${byte.toString(16).padStart(2, '0')}`;
  return `${text}\n`;
}

/** The same in the formats `raw`, `hex` and `bin`, where the kernel has one. */
export function builtinRaw(
  tr: TraceArray,
  { data }: TraceRecord,
  type: number,
  format: 'raw' | 'hex' | 'bin' = 'raw',
): string | undefined {
  const view = dataView(data);
  const u64 = (at: number): bigint => (at + 8 <= data.length ? view.getBigUint64(at, true) : 0n);
  const hex64 = (value: bigint): string => `${value.toString(16).padStart(16, '0')} `;
  if (type === TRACE_FN && format === 'hex') return hex64(u64(8)) + hex64(u64(16));
  if (format !== 'raw') return undefined;
  const ip = u64(8).toString(16);
  switch (type) {
    case TRACE_FN:
      return `${ip} ${u64(16).toString(16)}\n`;
    case TRACE_FUNC_REPEATS:
      return `${u64(8)} ${u64(16)} ${repeatsCount(view)} ${repeatsDelta(view)}\n`;
    case TRACE_PRINT:
      return `# ${ip} ${string(data, 16)}`;
    case TRACE_BPUTS:
      return `: ${ip} : ${tr.tracing.printkFormats.get(u64(16)) ?? ''}`;
    case TRACE_BPRINT:
      return `: ${ip} : ${bstrPrintf(tr, tr.tracing.printkFormats.get(u64(16)) ?? '', data.subarray(24))}`;
    case TRACE_RAW_DATA:
      return rawData(data);
    default:
      return undefined;
  }
}
