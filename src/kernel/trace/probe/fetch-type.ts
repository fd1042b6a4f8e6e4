import { kstrtoul } from '../kstrto.ts';

/** How a value of a fetch type is printed (print_type_*(), kernel/trace/trace_probe.c). */
export type FetchPrint = 'unsigned' | 'signed' | 'hex' | 'char' | 'symbol' | 'string';

/** `struct fetch_type`: what `:TYPE` behind a fetch argument names. */
export interface FetchType {
  readonly name: string;
  /** Bytes in the record; a string has the four of its `__data_loc`. */
  readonly size: number;
  readonly isSigned: boolean;
  readonly isString: boolean;
  readonly print: FetchPrint;
  /** In the print fmt. */
  readonly fmt: string;
  /** In the `format` file. */
  readonly fmttype: string;
}

const FETCH_TYPES = new Map<string, FetchType>();

function define(name: string, size: number, print: FetchPrint, fmt: string, fmttype: string): void {
  const isSigned = print === 'signed' || print === 'string';
  FETCH_TYPES.set(name, { name, size, isSigned, isString: print === 'string', print, fmt, fmttype });
}

for (const name of ['string', 'ustring', 'symstr']) {
  define(name, 4, 'string', '\\"%s\\"', '__data_loc char[]');
}
for (const bits of [8, 16, 32, 64]) {
  const long = bits === 64 ? 'L' : '';
  define(`u${bits}`, bits / 8, 'unsigned', `%${long}u`, `u${bits}`);
  define(`s${bits}`, bits / 8, 'signed', `%${long}d`, `s${bits}`);
  define(`x${bits}`, bits / 8, 'hex', `0x%${long}x`, `u${bits}`);
}
define('char', 1, 'char', "'%c'", 'u8');
define('symbol', 8, 'symbol', '%pS', 'u64');

const DEFAULT_FETCH_TYPE = 'x64';

/** find_fetch_type(): a type by its name; `b<width>@<offset>/<size>` is stored as the unsigned type of that size. */
export function findFetchType(name: string | undefined): FetchType | undefined {
  if (name === undefined) return FETCH_TYPES.get(DEFAULT_FETCH_TYPE);
  if (name[0] !== 'b') return FETCH_TYPES.get(name);
  const slash = name.indexOf('/');
  const bits = slash < 0 ? undefined : kstrtoul(name.slice(slash + 1));
  return bits === 8n || bits === 16n || bits === 32n || bits === 64n
    ? FETCH_TYPES.get(`u${bits}`)
    : undefined;
}
