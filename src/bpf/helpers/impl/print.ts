/** Helpers that print (kernel/bpf/helpers.c, kernel/trace/bpf_trace.c). */
import { cString, fail, type HelperContext, type HelperImpl, isMemory, u64, view } from './context.ts';
import { type FormatSource, formatText } from './format.ts';

const MAX_ARGS = 12;
/** MAX_BPRINTF_BUF, with the NUL. */
const MAX_TEXT = 1024;

function sourceOf(c: HelperContext): FormatSource {
  return {
    string(address, size) {
      if (!isMemory(c, address, 1)) return undefined;
      const { u8 } = view(c);
      const start = Number(u64(address));
      let text = '';
      for (let at = start; at < Math.min(u8.length, start + size - 1) && u8[at] !== 0; at++) {
        text += String.fromCharCode(u8[at]!);
      }
      return text;
    },
    bytes(address, size) {
      if (!isMemory(c, address, size)) return undefined;
      return view(c).u8.slice(Number(u64(address)), Number(u64(address)) + size);
    },
  };
}

/** The u64 arguments in memory, or undefined where their size is wrong. */
function argsAt(c: HelperContext, address: number, size: number): bigint[] | undefined {
  const length = size >>> 0;
  if (length % 8 !== 0 || length > MAX_ARGS * 8 || (length > 0 && address === 0)) return undefined;
  const { data } = view(c);
  return Array.from({ length: length / 8 }, (_, n) => data.getBigUint64((address >>> 0) + n * 8, true));
}

/** A whole line to the trace; its length. */
function print(c: HelperContext, format: number, size: number, args: readonly bigint[]): bigint {
  const text = cString(c, format, size >>> 0);
  if (text === undefined) return fail('EINVAL');
  const line = formatText(text, args, sourceOf(c));
  if (typeof line === 'number') return BigInt(line);
  c.runtime.print(line.slice(0, MAX_TEXT - 1).replace(/\n$/, ''));
  return BigInt(line.length);
}

export const PRINT_HELPERS: Readonly<Record<string, HelperImpl>> = {
  trace_printk: (c, format: number, size: number, ...args: bigint[]) =>
    print(c, format, size, args.slice(0, 3)),
  trace_vprintk(c, format: number, size: number, data: number, dataSize: number) {
    const args = argsAt(c, data, dataSize);
    return args === undefined ? fail('EINVAL') : print(c, format, size, args);
  },
  seq_printf(c, _seq: number, format: number, size: number, data: number, dataSize: number) {
    const args = argsAt(c, data, dataSize);
    const text = cString(c, format, size >>> 0);
    if (args === undefined || text === undefined) return fail('EINVAL');
    const written = formatText(text, args, sourceOf(c));
    if (typeof written === 'number') return BigInt(written);
    c.runtime.tell({ kind: 'seq', bytes: Uint8Array.from(written, (one) => one.charCodeAt(0)) });
    return 0n;
  },
  seq_write(c, _seq: number, data: number, size: number) {
    c.runtime.tell({ kind: 'seq', bytes: view(c).u8.slice(data >>> 0, (data >>> 0) + (size >>> 0)) });
    return 0n;
  },
  /** The length of the whole text with its NUL, however much of it fits. */
  snprintf(c, target: number, size: number, format: number, data: number, dataSize: number) {
    const args = argsAt(c, data, dataSize);
    if (args === undefined) return fail('EINVAL');
    // The verifier has seen that it is constant and ends.
    const text = cString(c, format, view(c).u8.length - (format >>> 0)) ?? '';
    const room = size >>> 0;
    const written = formatText(text, args, sourceOf(c), room);
    if (typeof written === 'number') return BigInt(written);
    if (room > 0) {
      const { u8 } = view(c);
      const length = Math.min(room - 1, written.length);
      for (let i = 0; i < length; i++) u8[(target >>> 0) + i] = written.charCodeAt(i) & 0xff;
      u8[(target >>> 0) + length] = 0;
    }
    return BigInt(written.length + 1);
  },
};
