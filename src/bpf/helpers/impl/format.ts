/**
 * Text by a format, with the checks and the results of the kernel (bpf_bprintf_prepare of kernel/bpf/helpers.c, bstr_printf of
 * lib/vsprintf.c). Bytes are characters of latin1.
 */
import { aBigint, aString, checkArgument, having, listOf } from '../../arguments.ts';
import { ERRNO } from '../../errors.ts';

/** What a format reads besides its arguments. */
export interface FormatSource {
  /** A C string at an address, at most `size` bytes; undefined where there is no memory. */
  string(address: bigint, size: number): string | undefined;
  bytes(address: bigint, size: number): Uint8Array | undefined;
}

/** Room for the texts of one call (MAX_BPRINTF_BIN_ARGS). */
const MAX_STRING = 512;

const code = (format: string, at: number): number => (at < format.length ? format.charCodeAt(at) : 0);
const isSpace = (byte: number): boolean => (byte >= 9 && byte <= 13) || byte === 32;
const isPrint = (byte: number): boolean => byte >= 32 && byte < 127;
const isPunct = (byte: number): boolean =>
  isPrint(byte) && byte !== 32 && !/[0-9A-Za-z]/.test(String.fromCharCode(byte));
const isEnd = (byte: number): boolean => byte === 0 || isSpace(byte) || isPunct(byte);

interface Flags {
  readonly left: boolean;
  readonly plus: boolean;
  readonly space: boolean;
  readonly zero: boolean;
  readonly width: number;
}

function pad(text: string, { left, width }: Flags): string {
  return left ? text.padEnd(width) : text.padStart(width);
}

function number(value: bigint, bits: number, conversion: string, flags: Flags): string {
  const isSigned = conversion === 'd' || conversion === 'i';
  const wrapped = isSigned ? BigInt.asIntN(bits, value) : BigInt.asUintN(bits, value);
  const isHex = conversion === 'x' || conversion === 'X';
  let digits = (wrapped < 0n ? -wrapped : wrapped).toString(isHex ? 16 : 10);
  if (conversion === 'X') digits = digits.toUpperCase();
  let sign = wrapped < 0n ? '-' : '';
  if (sign === '' && isSigned) sign = flags.plus ? '+' : flags.space ? ' ' : '';
  if (flags.zero && !flags.left) digits = digits.padStart(flags.width - sign.length, '0');
  return pad(sign + digits, flags);
}

/** pointer_string(): as wide as a pointer, with zeros, where the format says no width. */
function pointer(value: bigint, flags: Flags): string {
  const width = flags.width || 16;
  const digits = BigInt.asUintN(64, value).toString(16);
  const zeros = !flags.left && (flags.zero || flags.width === 0);
  return pad(zeros ? digits.padStart(width, '0') : digits, { ...flags, width });
}

/** pI4, pi4, pI6, pi6: with and without colons, `i4` with leading zeros. */
function internetAddress(bytes: Uint8Array, kind: string): string {
  if (kind[1] === '4') {
    return [...bytes]
      .map((byte) => (kind[0] === 'i' ? String(byte).padStart(3, '0') : String(byte)))
      .join('.');
  }
  const groups: string[] = [];
  for (let i = 0; i < 16; i += 2) {
    groups.push(((bytes[i]! << 8) | bytes[i + 1]!).toString(16).padStart(4, '0'));
  }
  return groups.join(kind[0] === 'i' ? '' : ':');
}

/** The text, or -errno. `args` are raw u64. All of it, whatever `room` there is, but for pointers that would begin behind it. */
export function formatText(
  format: string,
  args: readonly bigint[],
  source: FormatSource,
  room = Number.POSITIVE_INFINITY,
): string | number {
  checkArgument('formatText()', 'format', format, aString);
  checkArgument('formatText()', 'args', args, listOf(aBigint));
  checkArgument('formatText()', 'source', source, having('what reads strings and bytes', 'string', 'bytes'));
  let text = '';
  let used = 0;
  for (let i = 0; i < format.length; i++) {
    const byte = code(format, i);
    if (byte >= 128 || (!isPrint(byte) && !isSpace(byte))) return -ERRNO.EINVAL;
    if (byte !== 0x25) {
      text += format[i];
      continue;
    }
    if (format[i + 1] === '%') {
      text += '%';
      i++;
      continue;
    }
    if (used >= args.length) return -ERRNO.EINVAL;
    i++;
    const start = i;
    while ('0+- '.includes(format[i] ?? 'x')) i++;
    const marks = format.slice(start, i);
    const digits = /^[1-9][0-9]*/.exec(format.slice(i))?.[0] ?? '';
    i += digits.length;
    const flags: Flags = {
      left: marks.includes('-'),
      plus: marks.includes('+'),
      space: marks.includes(' '),
      zero: marks.includes('0'),
      // A field of more is cut by the buffer anyhow.
      width: Math.min(Number(digits), 0x7fff),
    };
    const value = args[used]!;
    const conversion = format[i] ?? '';
    if (conversion === 'p') {
      const next = format[i + 1] ?? '';
      if (isEnd(code(format, i + 1))) {
        text += pointer(value, flags);
      } else if ((next === 'k' || next === 'u') && format[i + 2] === 's') {
        i += 2;
        if (!isEnd(code(format, i + 1))) return -ERRNO.EINVAL;
        if (text.length < room) text += source.string(value, MAX_STRING) ?? '';
      } else if (next === 'x' || next === 'K') {
        i++;
        text += pointer(value, flags);
      } else if (next === 's' || next === 'S' || next === 'B') {
        // No symbols: the number itself, as for an address that is in no function.
        i++;
        const symbol = `0x${BigInt.asUintN(64, value).toString(16)}`;
        text += next === 'B' ? symbol : pad(symbol, flags);
      } else {
        const kind = format.slice(i + 1, i + 3);
        if (!/^[iI][46]$/.test(kind)) return -ERRNO.EINVAL;
        i += 2;
        const size = kind[1] === '4' ? 4 : 16;
        // No width, as bstr_printf() has it.
        if (text.length < room) {
          text += internetAddress(source.bytes(value, size) ?? new Uint8Array(size), kind);
        }
      }
      // bstr_printf() takes every letter behind for a part of the conversion.
      while (/^[0-9A-Za-z]$/.test(format[i + 1] ?? '')) i++;
      used++;
      continue;
    }
    if (conversion === 's') {
      if (!isEnd(code(format, i + 1))) return -ERRNO.EINVAL;
      text += pad(source.string(value, MAX_STRING) ?? '', flags);
      used++;
      continue;
    }
    if (conversion === 'c') {
      text += pad(String.fromCharCode(Number(value & 0xffn)), flags);
      used++;
      continue;
    }
    let bits = 32;
    while (bits === 32 || format[i - 1] === 'l') {
      if (format[i] !== 'l' || (bits === 64 && format[i - 2] === 'l')) break;
      bits = 64;
      i++;
    }
    if (!/^[iduxX]$/.test(format[i] ?? '')) return -ERRNO.EINVAL;
    text += number(value, bits, format[i]!, flags);
    used++;
  }
  return text;
}
