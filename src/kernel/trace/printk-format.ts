import { bytesToString, cStringOf, stringToBytes, utf8String } from './byte-string.ts';
import { symbolText } from './symbols.ts';
import type { TraceArray } from './trace-array.ts';

/** What a conversion is given: a number of 64 bits, a text, or bytes in memory. */
export type PrintkArg = bigint | string | Uint8Array;

/** One part of a printk format: plain text, or a conversion. */
type Part =
  | { readonly text: string }
  | {
      readonly flags: string;
      readonly width: number | '*' | undefined;
      readonly precision: number | '*' | undefined;
      readonly length: string;
      /** `d`, `s`, `pS` ... */
      readonly conversion: string;
    };

const CONVERSION = /%([-+ #0]*)(\*|\d+)?(?:\.(\*|\d*))?(hh|h|ll|l|L|q|z|Z|t|j)?(p[A-Za-z0-9]*|[%a-zA-Z])/y;
const cache = new Map<string, readonly Part[]>();
const CACHE_MAX = 4096;

/** Letters behind %p that mean something; others are text. */
const POINTER_SUFFIX = /^p(?:[SsB]R?|[Ff]|[xK]|I[46]c?|i[46]|M[FR]?|mR?|U[bBlL]?|[dD][0-9]?|a[pd]?|E|C|G)?/;

function parse(format: string): readonly Part[] {
  const known = cache.get(format);
  if (known !== undefined) return known;
  const parts: Part[] = [];
  let text = '';
  let at = 0;
  while (at < format.length) {
    if (format[at] !== '%') {
      text += format[at++];
      continue;
    }
    CONVERSION.lastIndex = at;
    const match = CONVERSION.exec(format);
    if (match === null) {
      text += format[at++];
      continue;
    }
    const [whole, flags = '', width, precision, length = '', letters = ''] = match;
    if (letters === '%') {
      text += '%';
      at += whole.length;
      continue;
    }
    const conversion = letters.startsWith('p') ? POINTER_SUFFIX.exec(letters)![0] : letters;
    at += whole.length - (letters.length - conversion.length);
    if (text !== '') parts.push({ text });
    text = '';
    const number = (given: string | undefined): number | '*' | undefined =>
      given === undefined ? undefined : given === '*' ? '*' : Number(given);
    parts.push({ flags, width: number(width), precision: number(precision), length, conversion });
  }
  if (text !== '') parts.push({ text });
  if (cache.size >= CACHE_MAX) cache.clear();
  cache.set(format, parts);
  return parts;
}

const WIDTHS: Record<string, number> = { hh: 8, h: 16, '': 32 };

function integer(
  value: bigint,
  length: string,
  conversion: string,
  flags: string,
  precision?: number,
): string {
  const bits = WIDTHS[length] ?? 64;
  const signed = conversion === 'd' || conversion === 'i';
  const number = signed ? BigInt.asIntN(bits, value) : BigInt.asUintN(bits, value);
  const radix = conversion === 'o' ? 8 : /[xX]/.test(conversion) ? 16 : 10;
  let digits = (number < 0n ? -number : number).toString(radix);
  if (conversion === 'X') digits = digits.toUpperCase();
  if (precision !== undefined) digits = digits.padStart(precision, '0');
  let sign = '';
  if (number < 0n) sign = '-';
  else if (signed && flags.includes('+')) sign = '+';
  else if (signed && flags.includes(' ')) sign = ' ';
  if (flags.includes('#') && radix === 16) sign += conversion === 'X' ? '0X' : '0x';
  if (flags.includes('#') && radix === 8) sign += '0';
  return sign + digits;
}

function padded(text: string, width: number | undefined, flags: string, numeric: boolean): string {
  if (width === undefined || text.length >= width) return text;
  if (flags.includes('-')) return text.padEnd(width);
  if (!numeric || !flags.includes('0')) return text.padStart(width);
  const sign = /^([-+ ]?(?:0[xX])?)/.exec(text)![0];
  return sign + text.slice(sign.length).padStart(width - sign.length, '0');
}

/** A pointer as `%p` shows it: the same for the same pointer, and telling nothing about it (ptr_to_hashval()). */
function hashed(pointer: bigint): string {
  if (pointer === 0n) return '0000000000000000';
  let hash = 0xcbf29ce484222325n;
  for (let shift = 0n; shift < 64n; shift += 8n)
    hash = BigInt.asUintN(64, (hash ^ ((pointer >> shift) & 0xffn)) * 0x100000001b3n);
  return (hash & 0xffffffffn).toString(16).padStart(16, '0');
}

function pointer(tr: TraceArray, value: PrintkArg, conversion: string): string {
  if (value instanceof Uint8Array) return bytesText(value, conversion);
  const address = typeof value === 'bigint' ? BigInt.asUintN(64, value) : 0n;
  if (typeof value === 'string') return value;
  switch (conversion[1]) {
    case 'S':
    case 'F':
    case 'B':
      return utf8String(symbolText(tr.tracing, address, true));
    case 's':
    case 'f':
      return utf8String(symbolText(tr.tracing, address, false));
    case 'x':
      return address.toString(16).padStart(16, '0');
    default:
      return tr.options.has('hash-ptr') ? hashed(address) : address.toString(16).padStart(16, '0');
  }
}

/** Addresses that are printed from memory: %pI4, %pI6, %pM, %pU. */
function bytesText(bytes: Uint8Array, conversion: string): string {
  const hex = (n: number): string => (bytes[n] ?? 0).toString(16).padStart(2, '0');
  const range = (count: number): number[] => Array.from({ length: count }, (_, n) => n);
  switch (conversion.slice(0, 3)) {
    case 'pI4':
      return range(4)
        .map((n) => bytes[n] ?? 0)
        .join('.');
    case 'pi4':
      return range(4)
        .map((n) => String(bytes[n] ?? 0).padStart(3, '0'))
        .join('.');
    case 'pI6':
      return conversion.endsWith('c')
        ? shortIpv6(bytes)
        : range(8)
            .map((n) => hex(2 * n) + hex(2 * n + 1))
            .join(':');
    case 'pi6':
      return range(16).map(hex).join('');
    case 'pM':
      return range(6).map(hex).join(':');
    case 'pm':
      return range(6).map(hex).join('');
  }
  if (conversion.startsWith('pU'))
    return [0, 4, 6, 8, 10]
      .map((from, n, all) =>
        range(16)
          .slice(from, all[n + 1] ?? 16)
          .map(hex)
          .join(''),
      )
      .join('-');
  return cStringOf(bytes);
}

/** ip6_compressed_string(): the longest run of zeroes is left out. */
function shortIpv6(bytes: Uint8Array): string {
  const words = Array.from({ length: 8 }, (_, n) => ((bytes[2 * n] ?? 0) << 8) | (bytes[2 * n + 1] ?? 0));
  let best = { from: -1, length: 1 };
  for (let from = 0; from < 8; from++) {
    let length = 0;
    while (from + length < 8 && words[from + length] === 0) length++;
    if (length > best.length) best = { from, length };
  }
  const hex = (list: number[]): string => list.map((word) => word.toString(16)).join(':');
  if (best.from < 0) return hex(words);
  return `${hex(words.slice(0, best.from))}::${hex(words.slice(best.from + best.length))}`;
}

/** vsnprintf() of the kernel. Missing arguments print as nothing. */
export function printk(tr: TraceArray, format: string, args: readonly PrintkArg[]): string {
  let next = 0;
  return format_(tr, parse(format), () => args[next++]);
}

function format_(
  tr: TraceArray,
  parts: readonly Part[],
  take: (part?: Part) => PrintkArg | undefined,
): string {
  let text = '';
  for (const part of parts) {
    if ('text' in part) {
      text += part.text;
      continue;
    }
    let { flags, width, precision } = part;
    if (width === '*') {
      width = Number(BigInt.asIntN(32, (take() as bigint | undefined) ?? 0n));
      if (width < 0) {
        flags += '-';
        width = -width;
      }
    }
    if (precision === '*')
      precision = Math.max(0, Number(BigInt.asIntN(32, (take() as bigint | undefined) ?? 0n)));
    const arg = take(part);
    if (arg === undefined) continue;
    text += convert(tr, { ...part, flags }, arg, Math.min(width ?? 0, 4096) || undefined, precision);
  }
  return text;
}

function convert(
  tr: TraceArray,
  { conversion, length, flags }: Exclude<Part, { text: string }>,
  arg: PrintkArg,
  width: number | undefined,
  precision: number | undefined,
): string {
  switch (conversion[0]) {
    case 's': {
      const string = typeof arg === 'string' ? arg : arg instanceof Uint8Array ? cStringOf(arg) : '(null)';
      return padded(precision === undefined ? string : string.slice(0, precision), width, flags, false);
    }
    case 'c':
      return padded(
        typeof arg === 'bigint' ? String.fromCharCode(Number(arg & 0xffn)) : '',
        width,
        flags,
        false,
      );
    case 'p':
      return padded(pointer(tr, arg, conversion), width, flags, false);
    case 'd':
    case 'i':
    case 'u':
    case 'x':
    case 'X':
    case 'o':
      return padded(
        integer(typeof arg === 'bigint' ? arg : 0n, length, conversion, flags, precision),
        width,
        flags,
        precision === undefined,
      );
    default:
      return '';
  }
}

/** vbin_printf(): a format's arguments as the words that bstrPrintf() reads. Missing ones are 0 or empty. */
export function binPrintk(format: string, args: readonly PrintkArg[]): Uint8Array {
  const bytes: number[] = [];
  let next = 0;
  const number = (arg: PrintkArg | undefined, size: number): void => {
    const align = Math.min(size, 4);
    while (bytes.length % align !== 0) bytes.push(0);
    const value = typeof arg === 'bigint' ? arg : 0n;
    for (let n = 0; n < size; n++) bytes.push(Number((value >> BigInt(8 * n)) & 0xffn));
  };
  for (const part of parse(format)) {
    if ('text' in part) continue;
    if (part.width === '*') number(args[next++], 4);
    if (part.precision === '*') number(args[next++], 4);
    const arg = args[next++];
    if (part.conversion === 's') {
      const text = typeof arg === 'string' ? stringToBytes(arg) : arg instanceof Uint8Array ? arg : [];
      for (const byte of text) {
        if (byte === 0) break;
        bytes.push(byte);
      }
      bytes.push(0);
    } else number(arg, sizeOf(part.conversion, part.length));
  }
  while (bytes.length % 4 !== 0) bytes.push(0);
  return Uint8Array.from(bytes);
}

function sizeOf(conversion: string, length: string): number {
  if (conversion.startsWith('p')) return 8;
  return conversion === 'c' ? 1 : (WIDTHS[length] ?? 64) / 8;
}

/** bstr_printf(): the arguments are words as vbin_printf() leaves them in a record. */
export function bstrPrintf(tr: TraceArray, format: string, words: Uint8Array): string {
  const view = new DataView(words.buffer, words.byteOffset, words.byteLength);
  let at = 0;
  const take = (part?: Part): PrintkArg | undefined => {
    if (part === undefined || 'text' in part) return number(4);
    const { conversion, length } = part;
    if (conversion === 's') {
      const end = words.indexOf(0, at);
      const string = bytesToString(words.subarray(at, end < 0 ? words.length : end));
      at = end < 0 ? words.length : end + 1;
      return string;
    }
    return number(sizeOf(conversion, length));
  };
  const number = (bytes: number): bigint | undefined => {
    const align = Math.min(bytes, 4);
    at = (at + align - 1) & ~(align - 1);
    if (at + bytes > words.length) return undefined;
    const from = at;
    at += bytes;
    if (bytes === 8) return view.getBigUint64(from, true);
    return BigInt(
      bytes === 4
        ? view.getUint32(from, true)
        : bytes === 2
          ? view.getUint16(from, true)
          : view.getUint8(from),
    );
  };
  return format_(tr, parse(format), take);
}
