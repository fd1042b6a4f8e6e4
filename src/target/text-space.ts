/** The target's text: its scripts, their sources, and every function's symbol and address. */

import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { OWN_MARK } from '../agent/protocol.ts';
import { loadScriptMap, originalSymbols, type ScriptMap } from '../arch/v8/sourcemap.ts';
import type { ScriptSymbols } from '../arch/v8/symbols.ts';
import { type ScriptText, scanAll, scanCached } from '../arch/v8/symbols-cache.ts';
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

  /** A script's text, if it is at hand or can be read from its file; undefined for others. */
  textOf({ scriptId, url, length }: ScriptInfo): string | undefined {
    const known = this.#scripts.get(scriptId);
    if (known !== undefined) return known.source;
    const path = scriptPath(url);
    const text = path.startsWith('/') ? readText(path) : undefined;
    return text?.length === length ? text : undefined;
  }

  /** A script that addPrepared or addModule has taken. */
  prepared(url: string): LoadedScript | undefined {
    return this.#scripts.get(`${UNDEBUGGED}${url}`);
  }

  /** A prepared script, from its file or the JavaScript made of that; undefined when that is not what was loaded. */
  addPrepared(url: string, functions: number, text?: string): LoadedScript | undefined {
    const script = this.#scanFile(url, text);
    // as V8 numbers them: before a source map leaves some out
    return script?.functions === functions ? this.#keep(script) : undefined;
  }

  /** A CommonJS module, from its file; undefined where that cannot be what V8 runs. */
  addModule(path: string): LoadedScript | undefined {
    const known = this.prepared(path);
    if (known !== undefined) return known;
    const script = /\.(json|node)$/.test(path) ? undefined : this.#scanFile(path);
    return script && this.#keep(script);
  }

  #scanFile(url: string, text?: string): (LoadedScript & { readonly functions: number }) | undefined {
    const path = scriptPath(url);
    // what V8 runs of TypeScript is not what the file says
    const source = text ?? (/\.[cm]?ts$/.test(path) ? undefined : readText(path));
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
    return this.#scan(info, source);
  }

  /** Scans a script once; its address stays the same for the session. */
  add(info: ScriptInfo, source: string): LoadedScript {
    const known = this.#scripts.get(info.scriptId);
    if (known !== undefined) return known;
    return this.#keep(this.#scan(info, source));
  }

  /** The same for many: what has not been seen before is parsed in threads. */
  async addAll(scripts: readonly ScriptText[]): Promise<LoadedScript[]> {
    const unknown = scripts.filter(({ info }) => !this.#scripts.has(info.scriptId));
    const scans = await scanAll(unknown);
    for (const [i, { info, source }] of unknown.entries()) {
      if (!this.#scripts.has(info.scriptId)) this.#keep(this.#map(info, source, scans[i]!(this.#next)));
    }
    return scripts.map(({ info }) => this.#scripts.get(info.scriptId)!);
  }

  #scan(info: ScriptInfo, source: string): LoadedScript & { readonly functions: number } {
    return this.#map(info, source, scanCached(info, source, this.#next));
  }

  #map(
    info: ScriptInfo,
    source: string,
    scanned: ScriptSymbols,
  ): LoadedScript & { readonly functions: number } {
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

/**
 * A script's text from its file, where V8's hash of it says that it is the same (SHA-256 of the text as UTF-8, in every V8 from
 * Node 20 on): the process's main thread is not asked for it then. Undefined for others.
 */
export function fileText({ url, length, hash }: ScriptInfo): string | undefined {
  const path = scriptPath(url);
  const text = path.startsWith('/') ? readText(path) : undefined;
  if (text?.length !== length) return undefined;
  return createHash('sha256').update(text).digest('hex') === hash ? text : undefined;
}

export function readText(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return undefined;
  }
}

/** A hook's name in a text that a session has edited. */
const OWN_NAME = /\$tl[0-9a-f]{12}/;

/** Scripts whose functions are listed: not Node's own. */
export function isListed({ url }: ScriptInfo): boolean {
  return !url.startsWith('node:') && !url.startsWith('debugger:');
}

/** What stack traces call the place of a text that was given to `eval` or `new Function`. */
export const ANONYMOUS = '<anonymous>';

/** Whether its exports and prototypes can be reached from `require.cache`. */
export const isCommonJs = ({ isModule, url }: ScriptInfo): boolean =>
  !isModule && (url.startsWith('/') || url.startsWith('file:///'));

/** Texts without a name (`eval`) get the one that V8 shows for them. */
export const named = (info: ScriptInfo): ScriptInfo => (info.url === '' ? { ...info, url: ANONYMOUS } : info);

/** A text that a session of ours has evaluated, this one or another. */
export const isOwnText = ({ url }: ScriptInfo, source: string): boolean =>
  url === ANONYMOUS && (source.slice(0, 100).includes(OWN_MARK) || OWN_NAME.test(source));

export { scriptPath };
