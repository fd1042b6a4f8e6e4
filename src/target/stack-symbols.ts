/** Frames of a process's stacks as addresses and symbols of its text space. */

import { shownPath } from '../arch/v8/match.ts';
import type { KallsymsSymbol } from '../kernel/trace/trace-arch.ts';
import { SourceFrames } from './source-frames.ts';
import { moduleName, type ProcessSymbol, type ProcessSymbols, symbolName } from './trace-arch-symbols.ts';

/** Functions that the process does not list: Node's own, and those of texts that came later. */
const FOREIGN_BASE = 0xffff_a000_0000_0000n;
const FOREIGN_SIZE = 16;

export interface StackSymbolsOptions {
  /** The frames of a stack, the innermost first: `name (file:line:column)`. Undefined while they are not known here. */
  readonly stack: (id: number) => readonly string[] | undefined;
  readonly symbols: () => ProcessSymbols;
  readonly cwd: string;
}

interface Frame {
  readonly name: string;
  readonly file: string;
  readonly line: number | undefined;
  readonly column: number;
}

/** A frame's parts: `new Cart (/srv/cart.js:3:7)`, `emit (node:events:519:28)`, `handle (server.js)`. */
function parseFrame(text: string): Frame {
  const [, name = text, where = ''] = /^(.*) \((.*)\)$/s.exec(text) ?? [];
  const [, file = where, line, column] = /^(.*):(\d+):(\d+)$/s.exec(where) ?? [];
  return {
    name: name.replace(/^new /, ''),
    file,
    line: line === undefined ? undefined : Number(line),
    column: Number(column ?? 0),
  };
}

export class StackSymbols {
  readonly #options: StackSymbolsOptions;
  /** By the frame's text. */
  readonly #known = new Map<string, KallsymsSymbol>();
  readonly #foreign = new Map<string, KallsymsSymbol>();
  readonly #byAddress = new Map<bigint, KallsymsSymbol>();
  readonly #frames = new SourceFrames();
  #files = new Map<string, ProcessSymbol[]>();
  #filesOf: ProcessSymbols | undefined;

  constructor(options: StackSymbolsOptions) {
    this.#options = options;
  }

  /** Whether the frames of a stack are here. */
  knows(id: number): boolean {
    return this.#options.stack(id) !== undefined;
  }

  /** Addresses of all frames. */
  addresses(id: number): readonly bigint[] {
    return this.ofFrames(this.#options.stack(id) ?? []);
  }

  ofFrames(frames: readonly string[]): readonly bigint[] {
    return frames.map((frame) => this.#symbolOf(frame).address);
  }

  /** Addresses of a stack's frames behind the first, as far as `depth`. */
  callers(id: number, depth: number): readonly bigint[] {
    const frames = this.#options.stack(id) ?? [];
    return this.ofFrames(frames.slice(1, 1 + depth));
  }

  /** The symbol at an address that callers() has given; undefined for others. */
  lookup(address: bigint): KallsymsSymbol | undefined {
    return address < FOREIGN_BASE
      ? undefined
      : this.#byAddress.get(address - (address % BigInt(FOREIGN_SIZE)));
  }

  #symbolOf(text: string): KallsymsSymbol {
    const symbols = this.#options.symbols();
    if (this.#filesOf !== symbols) {
      this.#filesOf = symbols;
      this.#files = new Map();
      for (const symbol of symbols.all) {
        const { file } = symbol.function;
        const known = this.#files.get(file);
        if (known === undefined) this.#files.set(file, [symbol]);
        else known.push(symbol);
      }
      this.#known.clear();
    }
    let symbol = this.#known.get(text);
    if (symbol === undefined) {
      const frame = parseFrame(this.#frames.original(text));
      symbol = this.#listed(frame) ?? this.#foreignSymbol(frame);
      this.#known.set(text, symbol);
    }
    return symbol;
  }

  /** The function whose code the frame is in. An edit may have moved columns, so its name and line tell more. */
  #listed({ name, file, line, column }: Frame): ProcessSymbol | undefined {
    const inFile = this.#files.get(file) ?? [];
    const wanted = symbolName(name);
    // V8 puts the receiver's class in front.
    const bare = symbolName(name.slice(name.indexOf('.') + 1));
    const named = inFile.filter((symbol) => symbol.name === wanted || symbol.name === bare);
    if (line === undefined) return named.length === 1 ? named[0] : undefined;
    const around = named.filter((one) => one.function.line <= line && line <= one.function.endLine);
    return innermost(around) ?? innermost(inFile.filter((symbol) => covers(symbol, line, column)));
  }

  #foreignSymbol({ name, file }: Frame): KallsymsSymbol {
    const key = `${name} ${file}`;
    let symbol = this.#foreign.get(key);
    if (symbol === undefined) {
      symbol = {
        name: symbolName(name),
        address: FOREIGN_BASE + BigInt(this.#foreign.size * FOREIGN_SIZE),
        size: FOREIGN_SIZE,
        module: moduleName(shownPath(file, this.#options.cwd)),
      };
      this.#foreign.set(key, symbol);
      this.#byAddress.set(symbol.address, symbol);
    }
    return symbol;
  }
}

function covers({ function: one }: ProcessSymbol, line: number, column: number): boolean {
  const begins = one.line < line || (one.line === line && one.column <= column);
  return begins && (line < one.endLine || (line === one.endLine && column < one.endColumn));
}

function innermost(symbols: readonly ProcessSymbol[]): ProcessSymbol | undefined {
  let found: ProcessSymbol | undefined;
  for (const symbol of symbols) if (found === undefined || symbol.size <= found.size) found = symbol;
  return found;
}
