/** Where sites are: among the debugger's scripts, in contexts that have the hooks, under keys of their modules' exports. */

import { isProperty } from '../arch/v8/arm.ts';
import { exportKey, forgetText, mayHold } from '../arch/v8/exports.ts';
import { stripNops } from '../arch/v8/instrument-nop.ts';
import type { ScriptText } from '../arch/v8/symbols-cache.ts';
import type { FunctionSymbol } from '../arch/v8/types.ts';
import { TraplineError } from '../errors.ts';
import type { ArmItems } from './armer-items.ts';
import type { ArmSite } from './armer-job.ts';
import type { ArmPlanner } from './armer-plan.ts';
import type { AgentConnection } from './connection.ts';
import { liveScripts } from './live-scripts.ts';
import type { ArmOptions } from './session.ts';
import {
  isCommonJs,
  isDebuggable,
  isListed,
  type LoadedScript,
  scriptPath,
  type TextSpace,
} from './text-space.ts';

/** Sites at once up to which the texts of all scripts are searched for other references to their functions. */
export const MOST_EXPORTS = 50;

/** V8's number of the main context: the first one that is made. */
const MAIN_CONTEXT = 1;

export class ArmPlaces {
  readonly #connection: AgentConnection;
  readonly #text: TextSpace;
  readonly #items: ArmItems;
  readonly #planner: ArmPlanner;

  constructor(connection: AgentConnection, text: TextSpace, items: ArmItems, planner: ArmPlanner) {
    this.#connection = connection;
    this.#text = text;
    this.#items = items;
    this.#planner = planner;
  }

  /**
   * Functions that were found by the files of a prepared process, but have no site that serves, are looked up again
   * among the debugger's scripts: by url and index.
   */
  async find(sites: readonly ArmSite[], options: ArmOptions): Promise<ArmSite[]> {
    const scripts = (await this.#connection.request('compiledIn')) ?? [];
    this.#items.compiledIn = new Map(scripts.map((script) => [scriptPath(script.url), script]));
    const places: ArmSite[] = [];
    for (const site of sites) places.push((await this.#debuggable(site, options)) ?? site);
    return places;
  }

  /** Hooks are globals of the main context; in others they have to be made so before anything calls them. */
  async reach(sites: readonly ArmSite[]): Promise<void> {
    const reached = new Set<number>([MAIN_CONTEXT]);
    for (const { spec, symbol } of sites) {
      const contextId = this.#text.get(symbol.scriptId)?.info.executionContextId ?? MAIN_CONTEXT;
      if (!isDebuggable(symbol) || reached.has(contextId)) continue;
      if (!(await this.#connection.request('reach', { contextId }))) {
        const message = `${spec.name} cannot be armed: its context (vm.createContext) takes no globals, or has gone`;
        throw new TraplineError('EARM', message, {
          hint: 'functions of vm.runInThisContext and of modules can be probed',
        });
      }
      reached.add(contextId);
    }
  }

  /** Functions of CommonJS modules that are reached by their exports only, each with its key there. */
  async exported(sites: readonly ArmSite[], { way }: ArmOptions): Promise<Map<ArmSite, string>> {
    const found = new Map<ArmSite, string>();
    if (sites.length > MOST_EXPORTS || (way !== 'auto' && way !== 'property')) return found;
    for (const site of sites) {
      const script = this.#text.get(site.symbol.scriptId);
      if (script === undefined || site.line !== undefined) continue;
      if (!isDebuggable(site.symbol) || !isCommonJs(script.info)) continue;
      const key = exportKey(script.source, site.symbol);
      if (key !== undefined) found.set(site, key);
    }
    if (found.size === 0) {
      forgetText();
      return found;
    }
    const others = (await this.#connection.request('scripts')).filter(isListed);
    const keys = new Set(found.values());
    for (const info of others) {
      const text = this.#text.textOf(info) ?? (await this.#connection.request('source', info)).source;
      if (text === undefined) continue;
      for (const key of keys) {
        const own = [...found].some(([{ symbol }, by]) => by === key && symbol.scriptId === info.scriptId);
        if (!own && mayHold(text, info.isModule, key)) keys.delete(key);
      }
      if (keys.size === 0) break;
    }
    for (const [site, key] of found) if (!keys.has(key)) found.delete(site);
    forgetText();
    return found;
  }

  async #debuggable(site: ArmSite, options: ArmOptions): Promise<ArmSite | undefined> {
    const { way } = options;
    const { symbol, line, events } = site;
    const script = this.#text.get(symbol.scriptId);
    if (script === undefined || isDebuggable(symbol)) return undefined;
    const form = this.#items.form(script, symbol) ?? 0;
    const served = form > 1 || (form === 1 && events.every((event) => event === 'entry'));
    if (served && line === undefined && (way === 'auto' || way === 'nop')) return undefined;
    const byProperty = !this.#items.compiledIn.has(scriptPath(script.info.url)) && isProperty(symbol);
    if (byProperty && line === undefined && (way === 'auto' || way === 'property')) return undefined;
    return await this.inDebugger(site, options);
  }

  /** The same function among the debugger's scripts. */
  async inDebugger(site: ArmSite, { maxPauseMs }: ArmOptions): Promise<ArmSite | undefined> {
    const { symbol } = site;
    const listed = this.#text.get(symbol.scriptId) as LoadedScript;
    await this.#planner.allowDebugger(maxPauseMs);
    const [script, ...copies] = await this.#scriptsOf(listed);
    if (script === undefined) return undefined;
    const { symbols } = this.#text.add(script.info, script.source);
    const isSame = ({ name, params }: FunctionSymbol): boolean =>
      name === symbol.name && String(params) === String(symbol.params);
    // a file may not be what was loaded: then its name has to tell
    const at = symbols[symbol.index];
    const alike = at !== undefined && isSame(at) ? [at] : symbols.filter(isSame);
    const [found] = alike;
    if (found === undefined || alike.length > 1) return undefined;
    return { ...site, symbol: found, copies: copies.length + 1 };
  }

  /** What V8 runs of a file, oldest first: one script, unless the file was loaded once more and compiled anew. */
  async #scriptsOf({ info: { url }, source: written }: LoadedScript): Promise<ScriptText[]> {
    const path = scriptPath(url);
    const all = await liveScripts(this.#connection, this.#text, (script) => scriptPath(script.url) === path);
    const narrowed = (some: ScriptText[], is: (script: ScriptText) => boolean): ScriptText[] =>
      some.some(is) ? some.filter(is) : some;
    // `./a.mjs?1` is a module of its own, and a file may have been changed before it was loaded again
    const own = narrowed(all, ({ info }) => info.url === url);
    const same = narrowed(own, ({ source }) => stripNops(source).startsWith(written));
    return same.sort((a, b) => Number(a.info.scriptId) - Number(b.info.scriptId));
  }
}
