import { KernelError } from '../errno.ts';
import { globMatch } from './glob.ts';
import type { KallsymsSymbol, TraceArch } from './trace-arch.ts';

/** A list of functions that tracers obey (`struct ftrace_hash`): those of `set_ftrace_filter`, for example. */
export class FunctionList {
  readonly #functions = new Map<bigint, KallsymsSymbol>();
  readonly #arch: TraceArch;
  /** Called behind every change: a tracer that runs arms and disarms. */
  changed: (() => void) | undefined;

  constructor(arch: TraceArch) {
    this.#arch = arch;
  }

  get empty(): boolean {
    return this.#functions.size === 0;
  }

  has(address: bigint): boolean {
    return this.#functions.has(address);
  }

  [Symbol.iterator](): IterableIterator<KallsymsSymbol> {
    return this.#functions.values();
  }

  clear(): void {
    if (this.empty) return;
    this.#functions.clear();
    this.changed?.();
  }

  /**
   * ftrace_process_regex(): a name, a glob, the number of a function in `available_filter_functions`; `!` in front removes;
   * `:mod:NAME` behind it, or alone, takes those of a module. EINVAL where nothing fits.
   */
  apply(text: string): void {
    const remove = text.startsWith('!');
    const [pattern = '', command, module] = (remove ? text.slice(1) : text).split(':');
    if (command !== undefined && command !== 'mod')
      throw new KernelError('EINVAL', `there is no command ${command}`);
    if (command === 'mod' && !module) throw new KernelError('EINVAL', 'a module has to be named');
    const found = this.#matching(pattern, module);
    if (found.length === 0) throw new KernelError('EINVAL', `no function fits ${text}`);
    for (const symbol of found) {
      if (remove) this.#functions.delete(symbol.address);
      else this.#functions.set(symbol.address, symbol);
    }
    this.changed?.();
  }

  #matching(pattern: string, module: string | undefined): KallsymsSymbol[] {
    const all = [...this.#arch.functions()];
    if (/^\d/.test(pattern)) {
      const one = all[Number.parseInt(pattern, 10) - 1];
      return one === undefined ? [] : [one];
    }
    const glob = pattern === '' && module !== undefined ? '*' : pattern;
    const inModule = (symbol: KallsymsSymbol): boolean =>
      module === undefined || (symbol.module !== undefined && globMatch(module, symbol.module));
    return all.filter((symbol) => inModule(symbol) && globMatch(glob, symbol.name));
  }
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

  constructor(arch: TraceArch) {
    this.filter = new FunctionList(arch);
    this.notrace = new FunctionList(arch);
    this.graph = new FunctionList(arch);
    this.graphNotrace = new FunctionList(arch);
  }

  /** Whether calls of a function are traced. */
  traces(address: bigint): boolean {
    return (this.filter.empty || this.filter.has(address)) && !this.notrace.has(address);
  }
}
