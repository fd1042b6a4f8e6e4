/** A probe's arguments as the trace file shows them (trace_probe_print_args(), kernel/trace/trace_probe.c). */

import { bytesToString } from '../byte-string.ts';
import { symbolText } from '../symbols.ts';
import type { Tracing } from '../tracing.ts';
import type { FetchType } from './fetch-type.ts';
import type { ProbeArg } from './parse-arg.ts';

const FAULT_STRING = '(fault)';

/** ` a=1 b={2,3}`: each with a space in front. `offset` is where the first argument stands in the record. */
export function printProbeArgs(
  tracing: Tracing,
  args: readonly ProbeArg[],
  data: Uint8Array,
  offset: number,
): string {
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  let text = '';
  for (const arg of args) {
    const values: string[] = [];
    for (let i = 0; i < (arg.count || 1); i++) {
      values.push(printValue(tracing, arg.type, view, offset + arg.offset + i * arg.type.size));
    }
    text += ` ${arg.name}=${arg.count > 0 ? `{${values.join(',')}}` : values[0]}`;
  }
  return text;
}

function printValue(tracing: Tracing, type: FetchType, view: DataView, at: number): string {
  if (at + type.size > view.byteLength) return FAULT_STRING;
  if (type.print === 'string') return printString(view, view.getUint32(at, true));
  let value = 0n;
  for (let i = type.size - 1; i >= 0; i--) value = (value << 8n) | BigInt(view.getUint8(at + i));
  switch (type.print) {
    case 'signed':
      return String(BigInt.asIntN(type.size * 8, value));
    case 'hex':
      return `0x${value.toString(16)}`;
    case 'char':
      return `'${String.fromCharCode(Number(value))}'`;
    case 'symbol':
      return symbolText(tracing, value, true);
    default:
      return String(value);
  }
}

/** print_type_string(): the bytes at a data location up to their NUL. */
function printString(view: DataView, location: number): string {
  if (location >>> 16 === 0) return FAULT_STRING;
  const start = location & 0xffff;
  let end = start;
  while (end < view.byteLength && view.getUint8(end) !== 0) end++;
  const from = Math.min(start, view.byteLength);
  return `"${bytesToString(new Uint8Array(view.buffer, view.byteOffset + from, Math.max(end - from, 0)))}"`;
}
