import { KernelError } from '../../errno.ts';
import { matchFunctions } from '../function-match.ts';
import { globMatch } from '../glob.ts';
import type { KallsymsSymbol, TraceArch } from '../trace-arch.ts';
import type { TraceArray } from '../trace-array.ts';
import { FunctionCommands } from './function-commands.ts';

/** A list of functions that tracers obey (`struct ftrace_hash`): those of `set_ftrace_filter`, for example. */
export class FunctionList {
  readonly #functions = new Map<bigint, KallsymsSymbol>();
  /** Of modules that are not there yet, the latest first (ftrace_mod_load). */
  readonly #later: { readonly pattern: string; readonly module: string }[] = [];
  readonly #arch: TraceArch;
  readonly #kind: 'filter' | 'notrace' | undefined;
  /** Called behind every change: a tracer that runs arms and disarms. */
  readonly watchers = new Set<() => void>();
  /** Takes `FUNCTION:COMMAND`; without it there are none. */
  command:
    | ((symbols: readonly KallsymsSymbol[], remove: boolean, words: readonly string[]) => void)
    | undefined;

  /** In the lists of tracers, functions of modules that are not there yet may be named. */
  constructor(arch: TraceArch, kind?: 'filter' | 'notrace') {
    this.#arch = arch;
    this.#kind = kind;
  }

  /** Whether functions of a module that is not there are wanted. */
  get isWaiting(): boolean {
    return this.#later.length > 0;
  }

  /** `FUNC:mod:MODULE`, as they were written. */
  get later(): readonly string[] {
    return this.#later.map(({ pattern, module }) => `${pattern}:mod:${module}`);
  }

  /** ftrace_hash_empty(): in a filter, what may come counts. */
  get empty(): boolean {
    return this.#functions.size === 0 && !(this.#kind === 'filter' && this.isWaiting);
  }

  has(address: bigint): boolean {
    return this.#functions.has(address);
  }

  /** By address, as the kernel goes through its functions. */
  [Symbol.iterator](): IterableIterator<KallsymsSymbol> {
    return [...this.#functions.values()].sort((a, b) => (a.address < b.address ? -1 : 1)).values();
  }

  clear(): void {
    if (this.#functions.size === 0 && !this.isWaiting) return;
    this.#later.length = 0;
    this.#functions.clear();
    this.#changed();
  }

  /**
   * ftrace_process_regex(): a name, a glob, the number of a function in `available_filter_functions`; `!` in front removes;
   * `:mod:NAME` behind it, or alone, takes those of a module, which may come later. EINVAL where nothing fits.
   */
  apply(text: string): void {
    const remove = text.startsWith('!');
    const [pattern = '', command, ...words] = (remove ? text.slice(1) : text).split(':');
    if (command !== undefined && command !== 'mod') {
      this.#command(text, pattern, remove, [command, ...words]);
      return;
    }
    const [module] = words;
    if (command === 'mod' && !module) throw new KernelError('EINVAL', 'a module has to be named');
    const found = this.#matching(pattern, module);
    if (found.length === 0) {
      if (module !== undefined && this.#cacheModule(pattern, module, remove)) return;
      throw new KernelError('EINVAL', `no function fits ${text}`);
    }
    for (const symbol of found) {
      if (remove) this.#functions.delete(symbol.address);
      else this.#functions.set(symbol.address, symbol);
    }
    this.#changed();
  }

  /** cache_mod() */
  #cacheModule(pattern: string, module: string, remove: boolean): boolean {
    if (this.#kind === undefined) return false;
    if (!remove) {
      if (this.#arch.hasModule(module)) return false;
      this.#later.unshift({ pattern, module });
      this.#changed();
      return true;
    }
    const kept = this.#later.filter(
      (one) => one.module !== module || (pattern !== '*' && one.pattern !== pattern),
    );
    if (kept.length === this.#later.length) return false;
    this.#later.splice(0, this.#later.length, ...kept);
    this.#changed();
    return true;
  }

  /** Modules have come, each by every name it goes by: process_cached_mods(). Where all functions are traced theirs are, too. */
  modulesCame(modules: readonly string[]): void {
    let changed = this.empty;
    for (const one of [...this.#later]) {
      if (!modules.some((name) => globMatch(one.module, name))) continue;
      this.#later.splice(this.#later.indexOf(one), 1);
      for (const symbol of this.#matching(one.pattern, one.module))
        this.#functions.set(symbol.address, symbol);
      changed = true;
    }
    if (changed) this.#changed();
  }

  #changed(): void {
    for (const watcher of this.watchers) watcher();
  }

  /** ftrace_process_regex() of what is behind the first colon. */
  #command(text: string, pattern: string, remove: boolean, words: readonly string[]): void {
    if (this.command === undefined) throw new KernelError('EINVAL', `there is no command ${words[0]}`);
    const found = this.#matching(pattern, undefined);
    if (found.length === 0) throw new KernelError('EINVAL', `no function fits ${text}`);
    this.command(found, remove, words);
  }

  #matching(pattern: string, module: string | undefined): KallsymsSymbol[] {
    const glob = pattern === '' && module !== undefined ? '*' : pattern;
    const inModule = (symbol: KallsymsSymbol): boolean =>
      module === undefined || (symbol.module !== undefined && isModule(symbol.module, module));
    return matchFunctions(this.#arch, glob, inModule);
  }
}

/** A glob, or the end of a path whose folders stand in front of `!`. */
function isModule(name: string, wanted: string): boolean {
  return globMatch(wanted, name) || name.endsWith(`!${wanted}`);
}

/** What the function tracers of an instance look at. */
export class FunctionFilters {
  readonly filter: FunctionList;
  readonly notrace: FunctionList;
  /** Of the global trace: whose calls the graph shows, and whose not. */
  readonly graph: FunctionList;
  readonly graphNotrace: FunctionList;
  /** `max_graph_depth`; 0 is any. */
  maxDepth = 0;
  pids: ReadonlySet<number> | undefined;
  notracePids: ReadonlySet<number> | undefined;

  /** What calls of functions set off. */
  readonly commands: FunctionCommands;

  constructor(tr: TraceArray) {
    const { arch } = tr.tracing;
    this.commands = new FunctionCommands(tr);
    this.filter = new FunctionList(arch, 'filter');
    if (arch.traceFunctions !== undefined) this.filter.command = (...args) => this.commands.apply(...args);
    this.notrace = new FunctionList(arch, 'notrace');
    this.graph = new FunctionList(arch);
    this.graphNotrace = new FunctionList(arch);
  }
}
