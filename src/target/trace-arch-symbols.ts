/** The functions of a process as kernel symbols: a file is a module, and `server.js:handle` is `MOD:SYM`. */

import { blacklistReason } from '../arch/v8/blacklist.ts';
import { functionName, shownPath } from '../arch/v8/match.ts';
import type { FunctionSymbol } from '../arch/v8/types.ts';
import type { KallsymsSymbol } from '../kernel/trace/trace-arch.ts';

export interface ProcessSymbol extends KallsymsSymbol {
  readonly module: string;
  readonly function: FunctionSymbol;
}

/**
 * Files of tracefs split their words at spaces, names at `+`, `-`, `:` and `%`, and take what follows a `#` for a comment. A path's
 * folders stand in front of `!`, as in names of devices.
 */
export function moduleName(path: string): string {
  return path.replace(/\//g, '!').replace(/[\s+\-:%#]/g, '_');
}

/** `get size` is `get_size`. */
export function symbolName(name: string): string {
  return name.replace(/[\s+\-:%#/]/g, '_');
}

/** Lookups by name and by address. */
export class ProcessSymbols {
  /** In the order of their addresses. */
  readonly all: readonly ProcessSymbol[];
  readonly #byName = new Map<string, ProcessSymbol[]>();
  readonly #byAddress = new Map<bigint, ProcessSymbol>();
  readonly #modules = new Set<string>();

  constructor(functions: readonly FunctionSymbol[], cwd: string) {
    const paths = new Map<string, string>();
    for (const { file } of functions) if (!paths.has(file)) paths.set(file, moduleName(shownPath(file, cwd)));
    this.all = functions
      .map((symbol): ProcessSymbol => {
        const params = symbol.originalParams ?? symbol.params;
        return {
          name: symbolName(functionName(symbol)),
          address: symbol.address,
          size: symbol.end - symbol.start,
          module: paths.get(symbol.file) as string,
          blacklisted: blacklistReason(symbol.file) !== undefined,
          entry: true,
          params: params.map((name, i) => ({ name: name ?? `arg${i + 1}`, type: 'value' })),
          returnType: 'value',
          function: symbol,
        };
      })
      .sort((a, b) => (a.address < b.address ? -1 : a.address > b.address ? 1 : 0));
    for (const symbol of this.all) {
      const known = this.#byName.get(symbol.name);
      if (known === undefined) this.#byName.set(symbol.name, [symbol]);
      else known.push(symbol);
      this.#byAddress.set(symbol.address, symbol);
    }
    for (const path of new Set(paths.values())) {
      for (let tail: string | undefined = path; tail !== undefined; tail = shorter(tail))
        this.#modules.add(tail);
    }
  }

  /** A module is named by its path or the end of it: `server.js`, `lib!server.js`. `name` may hold it in front of a colon. */
  find(name: string, module?: string): readonly ProcessSymbol[] {
    const colon = module === undefined ? name.lastIndexOf(':') : -1;
    const wanted = colon < 0 ? module : name.slice(0, colon);
    const found = this.#byName.get(name.slice(colon + 1)) ?? [];
    if (wanted === undefined) return found;
    return found.filter((symbol) => symbol.module === wanted || symbol.module.endsWith(`!${wanted}`));
  }

  /** Every name that a module goes by. */
  get modules(): ReadonlySet<string> {
    return this.#modules;
  }

  hasModule(name: string): boolean {
    return this.#modules.has(name);
  }

  at(address: bigint): ProcessSymbol | undefined {
    return this.#byAddress.get(address);
  }

  /** The innermost function around an address. */
  around(address: bigint): ProcessSymbol | undefined {
    let low = 0;
    let high = this.all.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((this.all[middle] as ProcessSymbol).address <= address) low = middle + 1;
      else high = middle;
    }
    for (let i = low - 1; i >= 0; i--) {
      const symbol = this.all[i] as ProcessSymbol;
      if (address < symbol.address + BigInt(symbol.size)) return symbol;
      // functions do not reach over their file's end
      if (symbol.module !== this.all[low - 1]?.module) return undefined;
    }
    return undefined;
  }
}

function shorter(path: string): string | undefined {
  const at = path.indexOf('!');
  return at < 0 ? undefined : path.slice(at + 1);
}
