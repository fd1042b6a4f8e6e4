/** What a file says about addresses and tasks. */

export interface FileSymbol {
  readonly name: string;
  readonly address: bigint;
}

const KALLSYMS_LINE = /^([0-9a-fA-F]{1,16}) (\S) (\S+)/;

/** `/proc/kallsyms` of the traced system; parsed when it is first asked. */
export class SymbolTable {
  readonly #text: string;
  #addresses: BigUint64Array | undefined;
  #names: string[] = [];

  constructor(kallsyms: string) {
    this.#text = kallsyms;
  }

  /** tep_find_function(): the last symbol at or below an address. */
  find(address: bigint): FileSymbol | undefined {
    const addresses = this.#load();
    let low = 0;
    let high = addresses.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((addresses[middle] as bigint) <= address) low = middle + 1;
      else high = middle;
    }
    // Behind the last symbol is nothing: its end is not known.
    if (low === 0 || (low === addresses.length && addresses[low - 1] !== address)) return undefined;
    return { address: addresses[low - 1] as bigint, name: this.#names[low - 1] as string };
  }

  /** Bytes to the next symbol; 1 for the last one. */
  sizeAt(address: bigint): bigint {
    const next = this.#load().find((one) => one > address);
    return next === undefined ? 1n : next - address;
  }

  *[Symbol.iterator](): IterableIterator<FileSymbol> {
    const addresses = this.#load();
    for (let n = 0; n < addresses.length; n++)
      yield { address: addresses[n] as bigint, name: this.#names[n] as string };
  }

  #load(): BigUint64Array {
    if (this.#addresses !== undefined) return this.#addresses;
    const found: { address: bigint; name: string }[] = [];
    for (const line of this.#text.split('\n')) {
      const match = KALLSYMS_LINE.exec(line);
      if (match === null) continue;
      const [, address, type, name] = match as unknown as [string, string, string, string];
      // Marks of the assembler and absolute symbols are no functions.
      if (name.startsWith('$') || type === 'a' || type === 'A') continue;
      found.push({ address: BigInt(`0x${address}`), name });
    }
    found.sort((a, b) => (a.address < b.address ? -1 : a.address > b.address ? 1 : 0));
    this.#addresses = BigUint64Array.from(found, ({ address }) => address);
    this.#names = found.map(({ name }) => name);
    return this.#addresses;
  }
}

/** `saved_cmdlines`: names by pids. */
export function parseCmdlines(text: string): Map<number, string> {
  const names = new Map<number, string>();
  for (const line of text.split('\n')) {
    const match = /^\s*(\d+) (.*)$/.exec(line);
    if (match !== null) names.set(Number(match[1]), match[2] as string);
  }
  return names;
}

/** `printk_formats`: texts by the addresses that records name. */
export function parsePrintkFormats(text: string): Map<bigint, string> {
  const formats = new Map<bigint, string>();
  for (const line of text.split('\n')) {
    const match = /^\s*0[xX]([0-9a-fA-F]{1,16})\s*: "(.*)"$/.exec(line);
    if (match === null) continue;
    const unescaped = (match[2] as string).replace(/\\(.)/g, (_, c: string) => ESCAPES[c] ?? c);
    formats.set(BigInt(`0x${match[1]}`), unescaped);
  }
  return formats;
}

const ESCAPES: Record<string, string> = { n: '\n', t: '\t', r: '\r' };
