/** The target's text: its scripts, their sources, and every function's symbol and address. */

import { readFileSync } from 'node:fs';
import { loadScriptMap, originalSymbols, type ScriptMap } from '../arch/v8/sourcemap.ts';
import { scanCached } from '../arch/v8/symbols-cache.ts';
import { scriptPath } from '../arch/v8/symbols-path.ts';
import type { FunctionSymbol, ScriptInfo } from '../arch/v8/types.ts';

/** First address of the text space, and what scripts are aligned to. */
const TEXT_BASE = 0x1000_0000n;
const TEXT_ALIGN = 0x1000n;

export interface LoadedScript {
  readonly info: ScriptInfo;
  readonly source: string;
  readonly map: ScriptMap | undefined;
  readonly symbols: readonly FunctionSymbol[];
  readonly failure: string | undefined;
}

/** ID of a script that is known by its compiled-in sites only, without the debugger. */
const UNDEBUGGED = 'url:';

export const isDebuggable = ({ scriptId }: { readonly scriptId: string }): boolean =>
  !scriptId.startsWith(UNDEBUGGED);

export class TextSpace {
  readonly #scripts = new Map<string, LoadedScript>();
  #next = TEXT_BASE;

  get(scriptId: string): LoadedScript | undefined {
    return this.#scripts.get(scriptId);
  }

  /** A prepared script, from its file; undefined when that is not what was loaded. */
  addPrepared(url: string, functions: number): LoadedScript | undefined {
    const known = this.#scripts.get(`${UNDEBUGGED}${url}`);
    if (known !== undefined) return known;
    const path = scriptPath(url);
    // what V8 runs of these is not what the file says
    const source = /\.[cm]?ts$/.test(path) ? undefined : readText(path);
    if (source === undefined) return undefined;
    const isModule = url.startsWith('file://');
    const info = {
      scriptId: `${UNDEBUGGED}${url}`,
      url,
      isModule,
      length: source.length,
      sourceMapURL: '',
      executionContextId: 1,
      hash: '',
    };
    const script = this.#scan(info, source);
    // as V8 numbers them: before a source map leaves some out
    if (script.functions !== functions) return undefined;
    return this.#keep(script);
  }

  /** Scans a script once; its address stays the same for the session. */
  add(info: ScriptInfo, source: string): LoadedScript {
    const known = this.#scripts.get(info.scriptId);
    if (known !== undefined) return known;
    return this.#keep(this.#scan(info, source));
  }

  #scan(info: ScriptInfo, source: string): LoadedScript & { readonly functions: number } {
    const scanned = scanCached(info, source, this.#next);
    const map = loadScriptMap(info, source, readText);
    const symbols = map === undefined ? scanned.symbols : originalSymbols(scanned, source, map);
    return { info, source, map, symbols, failure: scanned.failure, functions: scanned.symbols.length };
  }

  /** Takes the address space that the script was scanned for. */
  #keep(script: LoadedScript): LoadedScript {
    const size = BigInt(Math.max(1, script.source.length));
    this.#next += ((size + TEXT_ALIGN - 1n) / TEXT_ALIGN) * TEXT_ALIGN;
    this.#scripts.set(script.info.scriptId, script);
    return script;
  }
}

/** Says which files matter, by their path. */
export type Wanted = (path: string) => boolean;

/** Whether a script, or one of the files that it was made of, is wanted. Its text is not needed for that. */
export function isWanted(info: ScriptInfo, wanted: Wanted): boolean {
  if (wanted(scriptPath(info.url))) return true;
  if (info.sourceMapURL === '') return false;
  return loadScriptMap(info, '', readText)?.files.some(wanted) ?? false;
}

const MAP_COMMENT = '//# sourceMappingURL=';

/** The same for a script that is known by its file. */
export function mapMentions(path: string, wanted: Wanted): boolean {
  const source = readText(path);
  if (source?.includes(MAP_COMMENT) !== true) return false;
  const info = {
    scriptId: '',
    url: path,
    isModule: false,
    length: 0,
    sourceMapURL: '',
    executionContextId: 1,
    hash: '',
  };
  return loadScriptMap(info, source, readText)?.files.some(wanted) ?? false;
}

function readText(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return undefined;
  }
}

/** A hook's name in a text that a session has edited. */
const EDITED = /\$tl[0-9a-f]{12}_\d+[erstb]\(/;

/**
 * Live edits leave the texts that they replaced behind as scripts of the same url; the script itself keeps its ID, the
 * lowest. Without the mark of an edit, scripts of one url are modules that were loaded more than once.
 */
export function dropLeftovers(scripts: readonly ScriptInfo[], sources: readonly string[]): Set<ScriptInfo> {
  const kept = new Set(scripts);
  const byUrl = new Map<string, number[]>();
  for (const [index, { url }] of scripts.entries()) byUrl.set(url, [...(byUrl.get(url) ?? []), index]);
  for (const indexes of byUrl.values()) {
    if (indexes.length < 2 || !indexes.some((index) => EDITED.test(sources[index] ?? ''))) continue;
    const [live = 0] = [...indexes].sort(
      (a, b) => Number(scripts[a]?.scriptId) - Number(scripts[b]?.scriptId),
    );
    const { hash } = scripts[live]!;
    for (const index of indexes) {
      const stale = scripts[index]!;
      if (index !== live && (stale.hash === hash || EDITED.test(sources[index] ?? ''))) kept.delete(stale);
    }
  }
  return kept;
}

/** Scripts whose functions are listed: not Node's own, nor what evaluations of debuggers (ours too) leave behind. */
export function isListed({ url }: ScriptInfo): boolean {
  return url !== '' && !url.startsWith('node:') && !url.startsWith('debugger:');
}

export { scriptPath };
