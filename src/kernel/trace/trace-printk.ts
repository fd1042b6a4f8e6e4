import { aBigint, aList, aString, checkArgument, having } from '../../arguments.ts';
import { TRACE_BPRINT, TRACE_BPUTS } from './builtin-events.ts';
import { utf8String } from './byte-string.ts';
import { binPrintk, type PrintkArg } from './printk-format.ts';
import { dataView, writeEntry } from './trace-entry.ts';
import { recordToBuffer } from './trace-record.ts';
import type { Tracing } from './tracing.ts';

const aTracing = having('a Tracing', 'globalTrace', 'printkAddresses');

/** Where formats seem to be in memory: records and `printk_formats` name them by such addresses. */
const FORMATS = 0xffff_fffe_8000_0000n;
const HEAD = 24;

/**
 * The address by which records name a text: the same for the same text (trace_printk_fmt, kernel/trace/trace_printk.c). Texts that are made at
 * run time grow the table without end; give values as arguments.
 */
export function internFormat(tracing: Tracing, format: string): bigint {
  const known = tracing.printkAddresses.get(format);
  if (known !== undefined) return known;
  const address = FORMATS + BigInt(tracing.printkFormats.size * 16);
  tracing.printkAddresses.set(format, address);
  tracing.printkFormats.set(address, utf8String(format));
  return address;
}

/** trace_vbprintk(): `format` and its arguments as a record `bprint`. False when nothing is recorded. */
export function tracePrintk(
  tracing: Tracing,
  ip: bigint,
  format: string,
  ...args: readonly (number | bigint | string)[]
): boolean {
  checkArgument('tracePrintk()', 'tracing', tracing, aTracing);
  checkArgument('tracePrintk()', 'ip', ip, aBigint);
  checkArgument('tracePrintk()', 'format', format, aString);
  checkArgument('tracePrintk()', 'args', args, aList);
  const words = binPrintk(
    format,
    args.map((arg): PrintkArg => {
      if (typeof arg === 'string') return utf8String(arg);
      return typeof arg === 'bigint' ? arg : BigInt(Math.trunc(Number.isFinite(arg) ? arg : 0));
    }),
  );
  return record(tracing, TRACE_BPRINT, ip, internFormat(tracing, format), words);
}

/** __trace_bputs(): a constant text. */
export function tracePuts(tracing: Tracing, ip: bigint, text: string): boolean {
  checkArgument('tracePuts()', 'tracing', tracing, aTracing);
  checkArgument('tracePuts()', 'ip', ip, aBigint);
  checkArgument('tracePuts()', 'text', text, aString);
  return record(tracing, TRACE_BPUTS, ip, internFormat(tracing, text), new Uint8Array());
}

function record(tracing: Tracing, type: number, ip: bigint, text: bigint, words: Uint8Array): boolean {
  const tr = tracing.printkTrace;
  if (!tracing.globalTrace.options.has('trace_printk')) return false;
  const task = tracing.arch.current();
  const data = new Uint8Array(HEAD + words.length);
  if (data.length > tr.buffer.maxEventSize) return false;
  writeEntry(data, type, task.pid);
  const view = dataView(data);
  view.setBigUint64(8, ip, true);
  view.setBigUint64(16, text, true);
  data.set(words, HEAD);
  return recordToBuffer(tr, { cpu: task.cpu, ts: tracing.arch.now('local') ?? 0n, data });
}
