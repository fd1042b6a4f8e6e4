/** The functions of a process: from files where those are known to serve, else from the debugger's scripts. */

import { shownPath } from '../arch/v8/match.ts';
import type { FunctionSymbol } from '../arch/v8/types.ts';
import type { AgentConnection } from './connection.ts';
import { liveScripts } from './live-scripts.ts';
import { procEnv } from './procfs.ts';
import type { ListOptions, ProcessInfo } from './session.ts';
import { isWanted, mapMentions, scriptPath, type TextSpace, type Wanted } from './text-space.ts';

/** Refuses where enabling the debugger would stop the process for longer; undefined: for longer than by default. */
export type AllowDebugger = (maxPauseMs: number | undefined) => Promise<void>;

export class FunctionList {
  readonly #connection: AgentConnection;
  readonly #info: ProcessInfo;
  readonly #text: TextSpace;
  readonly #allowDebugger: AllowDebugger;
  readonly #onWarning: (message: string) => void;
  #all: Promise<readonly FunctionSymbol[]> | undefined;

  constructor(
    connection: AgentConnection,
    info: ProcessInfo,
    text: TextSpace,
    allowDebugger: AllowDebugger,
    onWarning: (message: string) => void,
  ) {
    this.#connection = connection;
    this.#info = info;
    this.#text = text;
    this.#allowDebugger = allowDebugger;
    this.#onWarning = onWarning;
  }

  /** See TraceSession.functions(). */
  functions(
    wanted?: (path: string) => boolean,
    options: ListOptions = {},
  ): Promise<readonly FunctionSymbol[]> {
    if (wanted !== undefined) {
      // a pattern may be anchored at what users see
      const { cwd } = this.#info;
      return this.#list((path) => wanted(path) || wanted(shownPath(path, cwd)), options);
    }
    this.#all ??= this.#list(() => true, options).catch((error) => {
      this.#all = undefined;
      throw error;
    });
    return this.#all;
  }

  /** See TraceSession.unloaded(). */
  async unloaded(symbols: readonly FunctionSymbol[]): Promise<readonly FunctionSymbol[]> {
    const files = new Set(await this.#connection.request('unloaded'));
    return symbols.filter(({ scriptId }) => files.has(scriptPath(this.#text.get(scriptId)?.info.url ?? '')));
  }

  /** From the files that trapline/register prepared, when it prepared all; no debugger is needed then. */
  async #listPrepared(wanted: Wanted): Promise<readonly FunctionSymbol[] | undefined> {
    if (!this.#info.prepared) return undefined;
    const { pid } = this.#info;
    if (procEnv(pid, 'TRAPLINE_INCLUDE') !== undefined || procEnv(pid, 'TRAPLINE_EXCLUDE') !== undefined)
      return undefined;
    const scripts = await this.#connection.request('compiledIn');
    if (scripts === undefined) return undefined;
    const symbols: FunctionSymbol[] = [];
    for (const { url, forms, types } of scripts) {
      // what a source map says is in the text: scripts with one cannot be told from their path
      const path = scriptPath(url);
      if (!wanted(path) && !mapMentions(path, wanted)) continue;
      let script = this.#text.prepared(url);
      if (script === undefined) {
        const text = types && (await this.#connection.request('withoutTypes', { path, types }));
        script = this.#text.addPrepared(url, forms.length, text);
      }
      if (script === undefined) return undefined;
      for (const symbol of script.symbols) symbols.push(symbol);
    }
    // modules that came before trapline/register are not among the prepared ones
    return symbols.length === 0 ? undefined : symbols;
  }

  /**
   * From the files of the CommonJS modules that are loaded, where the caller says that their functions are all it needs. What
   * V8 runs may be something else; whoever replaces a function by its property compares its text.
   */
  async #listModules(
    wanted: Wanted,
    { enough }: ListOptions,
  ): Promise<readonly FunctionSymbol[] | undefined> {
    if (enough === undefined) return undefined;
    const symbols: FunctionSymbol[] = [];
    for (const file of await this.#connection.request('modules')) {
      if (!wanted(file)) continue;
      const script = this.#text.addModule(file);
      if (script === undefined || script.failure !== undefined) return undefined;
      for (const symbol of script.symbols) symbols.push(symbol);
    }
    return symbols.length > 0 && enough(symbols) ? symbols : undefined;
  }

  async #list(wanted: Wanted, options: ListOptions): Promise<readonly FunctionSymbol[]> {
    const prepared = (await this.#listPrepared(wanted)) ?? (await this.#listModules(wanted, options));
    if (prepared !== undefined) return prepared;
    await this.#allowDebugger(options.maxPauseMs);
    const texts = await liveScripts(
      this.#connection,
      this.#text,
      (script) => isWanted(script, wanted),
      (url) =>
        this.#onWarning(
          `WARNING: ${shownPath(scriptPath(url), this.#info.cwd)} may have been loaded again since it was edited: calls of that copy do not count until V8 has collected what the edit has left`,
        ),
    );
    const symbols: FunctionSymbol[] = [];
    for (const script of await this.#text.addAll(texts)) {
      for (const symbol of script.symbols) symbols.push(symbol);
    }
    return symbols;
  }
}
