/** printf's formats, as glibc has them. */

/** A conversion of a format. */
export interface Conversion {
  readonly flags: string;
  readonly width: number | '*' | undefined;
  readonly precision: number | '*' | undefined;
  readonly length: string;
  /** `d`, `s`, `pS` ... */
  readonly conversion: string;
}

const CONVERSION = /%([-+ #0]*)(\*|\d+)?(?:\.(\*|\d*))?(hh|h|ll|l|L|q|z|Z|t|j)?([%a-zA-Z])/y;
/** What may stand behind %p and belongs to it (parse_arg_format_pointer()). */
const POINTER_SUFFIX = /[FfSs]|[mM][RF]?|[iI](?:4[hnbl]?|S[pfs]*[hnbl]?c?|6c?)|U[LlBb]?|h[CDN]?/y;
const cache = new Map<string, readonly (string | Conversion)[]>();
const CACHE_MAX = 4096;

/** A format in its parts: plain text and conversions. */
export function formatParts(format: string): readonly (string | Conversion)[] {
  const known = cache.get(format);
  if (known !== undefined) return known;
  const parts: (string | Conversion)[] = [];
  let text = '';
  for (let at = 0; at < format.length; ) {
    CONVERSION.lastIndex = at;
    const match = format[at] === '%' ? CONVERSION.exec(format) : null;
    if (match === null) {
      text += format[at++];
      continue;
    }
    at = CONVERSION.lastIndex;
    const [, flags = '', width, precision, length = '', letter = ''] = match;
    if (letter === '%') {
      text += '%';
      continue;
    }
    let conversion = letter;
    if (letter === 'p') {
      POINTER_SUFFIX.lastIndex = at;
      const suffix = POINTER_SUFFIX.exec(format)?.[0] ?? '';
      conversion += suffix;
      at += suffix.length;
    }
    if (text !== '') parts.push(text);
    text = '';
    const number = (given: string | undefined): number | '*' | undefined =>
      given === undefined ? undefined : given === '*' ? '*' : Number(given);
    parts.push({ flags, width: number(width), precision: number(precision), length, conversion });
  }
  if (text !== '') parts.push(text);
  if (cache.size >= CACHE_MAX) cache.clear();
  cache.set(format, parts);
  return parts;
}

/** No width of a broken file may fill the memory. */
const WIDTH_MAX = 4096;

function padded(text: string, flags: string, width: number | undefined): string {
  if (width === undefined) return text;
  const size = Math.min(Math.abs(width), WIDTH_MAX);
  return flags.includes('-') || width < 0 ? text.padEnd(size) : text.padStart(size);
}

export function formatText(
  { flags }: Conversion,
  text: string,
  width: number | undefined,
  precision: number | undefined,
): string {
  const cut = precision === undefined || precision < 0 ? text : text.slice(0, precision);
  return padded(cut, flags, width);
}

const BITS: Record<string, number> = { hh: 8, h: 16, '': 32 };

export function formatNumber(
  { flags, length, conversion }: Conversion,
  value: bigint,
  width: number | undefined,
  precision: number | undefined,
): string {
  const bits = BITS[length] ?? 64;
  const signed = conversion === 'd' || conversion === 'i';
  const number = signed ? BigInt.asIntN(bits, value) : BigInt.asUintN(bits, value);
  const radix = conversion === 'o' ? 8 : /[xX]/.test(conversion) ? 16 : 10;
  let digits = (number < 0n ? -number : number).toString(radix);
  if (precision !== undefined && precision >= 0) {
    if (precision === 0 && number === 0n) digits = '';
    digits = digits.padStart(Math.min(precision, WIDTH_MAX), '0');
  }
  let sign = '';
  if (number < 0n) sign = '-';
  else if (signed && flags.includes('+')) sign = '+';
  else if (signed && flags.includes(' ')) sign = ' ';
  if (flags.includes('#') && number !== 0n) {
    if (radix === 16) sign += '0x';
    else if (radix === 8 && !digits.startsWith('0')) sign += '0';
  }
  if (flags.includes('0') && !flags.includes('-') && precision === undefined && width !== undefined)
    digits = digits.padStart(Math.min(width, WIDTH_MAX) - sign.length, '0');
  const text = sign + digits;
  return padded(conversion === 'X' ? text.toUpperCase() : text, flags, width);
}
