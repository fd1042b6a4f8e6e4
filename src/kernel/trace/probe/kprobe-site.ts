/** Where a kprobe can sit (what register_kprobe() and register_kretprobe() of kernel/kprobes.c check). */

import type { ErrnoCode } from '../../errno.ts';
import { readable } from '../byte-string.ts';
import type { TraceArch } from '../trace-arch.ts';

export interface KprobeSite {
  readonly address: bigint;
  readonly entry: boolean;
}

/** A function that tracing may not touch (within_notrace_func()): one without a place for its entry probe. */
export function isNotrace(arch: TraceArch, address: bigint | undefined): boolean {
  const symbol = address === undefined ? undefined : arch.lookupAddress(address);
  if (symbol === undefined) return false;
  if (symbol.data === true) return true;
  if (symbol.entry !== false) return false;
  const dot = symbol.name.indexOf('.');
  const plain = dot < 0 ? undefined : arch.lookupSymbol(symbol.name.slice(0, dot))[0];
  return plain === undefined || plain.entry === false;
}

/** _kprobe_addr(): the place, and whether it is a function's entry; ENOENT where no symbol covers it. */
export function kprobeSite(arch: TraceArch, address: bigint): KprobeSite | undefined {
  const symbol = arch.lookupAddress(address);
  if (symbol === undefined) return undefined;
  const offset = address - symbol.address;
  return arch.adjustProbeAddress?.(symbol, offset) ?? { address, entry: offset === 0n };
}

/** The place of a probe that may be registered, or the errno of the refusal. */
export function checkKprobe(
  arch: TraceArch,
  address: bigint | undefined,
  ret: boolean,
): KprobeSite | ErrnoCode {
  if (address === undefined) return 'ENOENT';
  if (address === 0n) return 'EINVAL';
  const symbol = arch.lookupAddress(address);
  const site = kprobeSite(arch, address);
  if (symbol === undefined || site === undefined) return 'ENOENT';
  if (ret && !site.entry) return 'EINVAL';
  if (symbol.blacklisted) return 'EINVAL';
  if (!site.entry && !(arch.instructionBoundary?.(address) ?? false)) return 'EILSEQ';
  return site;
}

/** number_of_same_symbols(): how many symbols of a module, or of everything, have a name. */
export function countSymbols(arch: TraceArch, name: string, module: string | undefined): number {
  return arch.lookupSymbol(readable(name), module === undefined ? undefined : readable(module)).length;
}
