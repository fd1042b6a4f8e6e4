/** The text space of the own process: every script has a base address, an address is the base plus an offset in UTF-16 units. */
import { readFileSync } from 'node:fs';
import { KernelError } from '../../kernel/errno.ts';
import type { TextSymbol } from '../../kernel/kprobes/index.ts';
import { blacklistReason } from './blacklist.ts';
import { lineSite } from './instrument-line.ts';
import { functionName, parseTarget, SymbolIndex, shownPath, type TargetMatch } from './match.ts';
import type { SelfInspector } from './self-inspector.ts';
import { loadScriptMap, originalSymbols, type ScriptMap } from './sourcemap.ts';
import { scanFunctions } from './symbols.ts';
import { scriptPath } from './symbols-path.ts';
import type { FunctionSymbol, ScriptInfo } from './types.ts';

const TEXT_BASE = 0x7e00_0000_0000n;
/** Scripts start on a boundary of this size, with at least one unit between them. */
const ALIGN = 0x1000n;

export interface TextScript {
  readonly info: ScriptInfo;
  readonly base: bigint;
  /** The text as it was loaded, without edits. */
  readonly source: string;
  readonly map: ScriptMap | undefined;
  /** In order of appearance; with original names and positions. */
  readonly symbols: readonly FunctionSymbol[];
}

export class SelfText {
  readonly #inspector: SelfInspector;
  readonly #scripts = new Map<string, TextScript>();
  #next = TEXT_BASE;

  constructor(inspector: SelfInspector) {
    this.#inspector = inspector;
  }

  /**
   * The address that `[FILE:]FUNCTION` or `FILE:LINE[:COLUMN]` names; undefined where there is none.
   * EADDRNOTAVAIL: several functions. EINVAL: blacklisted.
   */
  lookupName(name: string): bigint | undefined {
    const match = this.#one(name);
    if (match === undefined) return undefined;
    const { symbol, at } = match;
    if (at === undefined) return symbol.address;
    const script = this.#scripts.get(symbol.scriptId)!;
    const site = lineSite(script.source, script.info.isModule, symbol, at.line, at.column, script.map);
    return site === undefined ? undefined : script.base + BigInt(site.offset);
  }

  script(addr: bigint): TextScript | undefined {
    for (const script of this.#scripts.values()) {
      if (addr >= script.base && addr <= script.base + BigInt(script.source.length)) return script;
    }
    return undefined;
  }

  /** The innermost function around an address. */
  function(addr: bigint): FunctionSymbol | undefined {
    const script = this.script(addr);
    if (script === undefined) return undefined;
    const offset = Number(addr - script.base);
    let best: FunctionSymbol | undefined;
    for (const symbol of script.symbols) {
      if (symbol.start > offset) break;
      if (offset < symbol.end) best = symbol;
    }
    return best;
  }

  textSymbol(addr: bigint): TextSymbol | undefined {
    const symbol = this.function(addr);
    if (symbol === undefined) return undefined;
    return {
      name: functionName(symbol),
      address: symbol.address,
      size: symbol.end - symbol.start,
      module: shownPath(symbol.file, process.cwd()),
    };
  }

  /** Of scripts that are loaded now; those that a name's FILE can mean are read first, the others only if need be. */
  #one(name: string): TargetMatch | undefined {
    this.#inspector.open();
    const { file } = parseTarget(name);
    const stages: ((path: string) => boolean)[] = [
      (path) => !/[/\\]node_modules[/\\]/.test(path) || (file?.includes('node_modules') ?? false),
      () => true,
    ];
    if (file !== undefined && !/[*?[]/.test(file)) {
      const end = file.replace(/^\.\//, '');
      stages.unshift((path) => path.endsWith(end));
    }
    let failure: unknown;
    for (const wanted of stages) {
      try {
        return unambiguous(name, this.#index(wanted).match(name));
      } catch (error) {
        if ((error as { code?: string }).code !== 'ENOENT') throw error;
        failure = error;
      }
    }
    const { message, hint } = failure as { message: string; hint?: string };
    throw new KernelError('ENOENT', message, { hint });
  }

  #index(wanted: (path: string) => boolean): SymbolIndex {
    const symbols: FunctionSymbol[] = [];
    const newest = new Map<string, TextScript>();
    for (const info of this.#inspector.scripts.values()) {
      const path = scriptPath(info.url);
      if (path === '' || blacklistReason(path) !== undefined || !wanted(path)) continue;
      const script = this.#load(info);
      // A module that was loaded again: the one that new callers get.
      if (script !== undefined) newest.set(path, script);
    }
    for (const script of newest.values()) symbols.push(...script.symbols);
    return new SymbolIndex(symbols, { cwd: process.cwd() });
  }

  #load(info: ScriptInfo): TextScript | undefined {
    const known = this.#scripts.get(info.scriptId);
    if (known !== undefined) return known;
    let source: string;
    try {
      source = this.#inspector.source(info.scriptId);
    } catch {
      return undefined;
    }
    const base = this.#next;
    this.#next += ((BigInt(source.length) + ALIGN) / ALIGN) * ALIGN;
    const map = loadScriptMap(info, source, readText);
    const scanned = scanFunctions(info, source, base);
    const symbols = map === undefined ? scanned.symbols : originalSymbols(scanned, source, map);
    const script: TextScript = { info, base, source, map, symbols };
    this.#scripts.set(info.scriptId, script);
    return script;
  }
}

function unambiguous(name: string, matches: readonly TargetMatch[]): TargetMatch | undefined {
  if (matches.length <= 1) return matches[0];
  const shown = matches.slice(0, 3).map((match) => `${match.name} (line ${match.symbol.line})`);
  throw new KernelError(
    'EADDRNOTAVAIL',
    `${name} is ${matches.length} functions: ${shown.join(', ')}${matches.length > 3 ? ', …' : ''}`,
    { hint: 'give more of the path, or FILE:LINE' },
  );
}

function readText(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return undefined;
  }
}
