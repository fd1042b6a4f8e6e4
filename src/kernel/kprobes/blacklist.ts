import type { TextSymbol } from './arch.ts';

/** `struct kprobe_blacklist_entry`, and why the range must not be probed. */
export interface KprobeBlacklistEntry {
  readonly startAddr: bigint;
  /** Exclusive. */
  readonly endAddr: bigint;
  readonly name: string;
  readonly reason: string;
}

/** The ranges that no probe may sit in: what Trapline itself stands on (kernel/kprobes.c, kprobe_blacklist). */
export class KprobeBlacklist {
  #entries: KprobeBlacklistEntry[] = [];

  /** kprobe_add_ksym_blacklist() */
  add(symbol: TextSymbol, reason: string): void {
    this.addArea({
      startAddr: symbol.address,
      endAddr: symbol.address + BigInt(Math.max(1, symbol.size)),
      name: symbol.name,
      reason,
    });
  }

  /** kprobe_add_area_blacklist() */
  addArea(entry: KprobeBlacklistEntry): void {
    this.#entries.push(entry);
  }

  /** kprobe_remove_area_blacklist(): forgets the entries that start within the range. */
  removeArea(start: bigint, end: bigint): void {
    this.#entries = this.#entries.filter(({ startAddr }) => startAddr < start || startAddr >= end);
  }

  within(addr: bigint): KprobeBlacklistEntry | undefined {
    return this.#entries.find(({ startAddr, endAddr }) => startAddr <= addr && addr < endAddr);
  }

  get entries(): readonly KprobeBlacklistEntry[] {
    return this.#entries;
  }

  /** The text of `kprobes/blacklist`: a range and the symbol at its start on each line. */
  show(): string {
    return this.#entries
      .map(({ startAddr, endAddr, name }) => `0x${pointer(startAddr)}-0x${pointer(endAddr)}\t${name}\n`)
      .join('');
  }
}

/** A pointer as the kernel's %px prints it. */
export function pointer(addr: bigint): string {
  return BigInt.asUintN(64, addr).toString(16).padStart(16, '0');
}
