/** Helpers that print (kernel/bpf/helpers.c, kernel/trace/bpf_trace.c). */
import { BtfError } from '../../btf/error.ts';
import { BTF_F_ALL, shownSize, showType } from '../../btf/show.ts';
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

/** As much of a text as there is room for, and a NUL. */
function store(c: HelperContext, target: number, room: number, text: string): void {
  if (room === 0) return;
  const { u8 } = view(c);
  const length = Math.min(room - 1, text.length);
  for (let i = 0; i < length; i++) u8[(target >>> 0) + i] = text.charCodeAt(i) & 0xff;
  u8[(target >>> 0) + length] = 0;
}

/** struct btf_ptr */
const BTF_PTR = { ptr: 0, typeId: 8, size: 16 } as const;
/** A helper that prints is not to take the memory that it prints from. */
const MAX_SHOWN = 1 << 20;

/**
 * The text of a value by its type, as Latin-1, or -errno (btf_type_show): types are those of the target, without one the program's own.
 * `length` may be larger than what is kept of it.
 */
function show(
  c: HelperContext,
  pointer: number,
  size: number,
  flags: bigint,
  room: number,
): { text: string; length: number } | bigint {
  const btf = c.program.targetBtf ?? c.program.btf;
  if ((u64(flags) & ~BigInt(BTF_F_ALL)) !== 0n || size >>> 0 !== BTF_PTR.size || btf === undefined) {
    return fail('EINVAL');
  }
  const { data, u8 } = view(c);
  const at = pointer >>> 0;
  const typeId = data.getInt32(at + BTF_PTR.typeId, true);
  if (typeId === 0) return fail('EINVAL');
  if (typeId < 0 || !btf.has(typeId)) return fail('ENOENT');
  const address = data.getBigUint64(at + BTF_PTR.ptr, true);
  const bytes = shownSize(btf, typeId);
  if (bytes === undefined) return fail('EINVAL');
  if (!isMemory(c, address, bytes)) return fail('EFAULT');
  const start = Number(u64(address));
  const shown = { text: '', length: 0 };
  try {
    showType(btf, typeId, u8.subarray(start, start + bytes), Number(flags), (part) => {
      if (shown.text.length < room) shown.text += part;
      shown.length += part.length;
    });
  } catch (error) {
    // A type without an end: the kernel would not have taken it.
    if (error instanceof BtfError) return fail('E2BIG');
    throw error;
  }
  return shown;
}

export const PRINT_HELPERS: Readonly<Record<string, HelperImpl>> = {
  trace_printk: (c, format: number, size: number, a: bigint, b: bigint, d: bigint) =>
    print(c, format, size, [a, b, d]),
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
  /** The length of the whole text, however much of it fits. */
  snprintf_btf(c, target: number, size: number, pointer: number, pointerSize: number, flags: bigint) {
    const room = size >>> 0;
    const shown = show(c, pointer, pointerSize, flags, room);
    if (typeof shown === 'bigint') return shown;
    store(c, target, room, shown.text);
    return BigInt(shown.length);
  },
  seq_printf_btf(c, _seq: number, pointer: number, pointerSize: number, flags: bigint) {
    const shown = show(c, pointer, pointerSize, flags, MAX_SHOWN);
    if (typeof shown === 'bigint') return shown;
    c.runtime.tell({ kind: 'seq', bytes: Uint8Array.from(shown.text, (one) => one.charCodeAt(0)) });
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
    store(c, target, room, written);
    return BigInt(written.length + 1);
  },
};
