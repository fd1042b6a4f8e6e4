import { utf8String } from './byte-string.ts';
import type { TraceArray } from './trace-array.ts';
import type { Tracing } from './tracing.ts';

/** Where trace_marker's records say they come from; a name of the tracing core itself. */
export const TRACING_MARK_WRITE = 0xffff_fffe_0000_0000n;

/** Names of the core's own addresses. */
const OWN_SYMBOLS: ReadonlyMap<bigint, string> = new Map([[TRACING_MARK_WRITE, 'tracing_mark_write']]);

/** `%pS` (with offset and size) or `%ps`: the symbol that covers an address, or the address. */
export function symbolText(tracing: Tracing, address: bigint, offset: boolean): string {
  const own = OWN_SYMBOLS.get(address);
  if (own !== undefined) return own;
  const symbol = tracing.arch.lookupAddress(address);
  if (symbol === undefined) return `0x${address.toString(16)}`;
  const module = symbol.module === undefined ? '' : ` [${symbol.module}]`;
  if (!offset) return `${symbol.name}${module}`;
  return `${symbol.name}+0x${(address - symbol.address).toString(16)}/0x${symbol.size.toString(16)}${module}`;
}

/** seq_print_ip_sym(): an address as the instance's options have it; `offset` where it is wanted in any case. */
export function ipText(tr: TraceArray, address: bigint, offset = false): string {
  if (address === 0n) return '0';
  const text = utf8String(symbolText(tr.tracing, address, offset || tr.options.has('sym-offset')));
  return tr.options.has('sym-addr') ? `${text} <${address.toString(16).padStart(16, '0')}>` : text;
}

/** Names of the tracing core's own addresses, which records may name. */
export function ownSymbols(): Iterable<readonly [address: bigint, name: string]> {
  return OWN_SYMBOLS;
}
