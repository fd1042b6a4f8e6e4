import type { KallsymsSymbol } from '../kernel/trace/trace-arch.ts';

/**
 * Addresses, found by their halves as a record has them: a BigInt for each record would have to be made, and hashed, where that record
 * is one of hundreds of thousands a second.
 */
export class AddressSet {
  readonly #byLow = new Map<number, { readonly high: number; readonly address: bigint }[]>();
  readonly #all: ReadonlySet<bigint>;

  constructor(symbols: readonly KallsymsSymbol[]) {
    this.#all = new Set(symbols.map(({ address }) => address));
    for (const address of this.#all) {
      const low = Number(BigInt.asIntN(32, address));
      const one = { high: Number(BigInt.asIntN(32, address >> 32n)), address };
      const known = this.#byLow.get(low);
      if (known === undefined) this.#byLow.set(low, [one]);
      else known.push(one);
    }
  }

  /** The address of two s32, where it is one of these. */
  find(low: number, high: number): bigint | undefined {
    const list = this.#byLow.get(low);
    if (list === undefined) return undefined;
    for (let i = 0; i < list.length; i++) if (list[i]?.high === high) return list[i]?.address;
    return undefined;
  }

  has(address: bigint): boolean {
    return this.#all.has(address);
  }

  [Symbol.iterator](): Iterator<bigint> {
    return this.#all[Symbol.iterator]();
  }
}
