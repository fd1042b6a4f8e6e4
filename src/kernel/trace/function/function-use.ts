import type { FunctionCall, FunctionProbe, FunctionWants, KallsymsSymbol } from '../trace-arch.ts';
import type { TraceArray } from '../trace-array.ts';
import type { FunctionFilters } from './function-filter.ts';

export interface FunctionUseOptions extends Partial<FunctionWants> {
  /** Which functions; those of the instance's filters by default. */
  readonly wanted?: () => Iterable<KallsymsSymbol>;
  readonly hit: (call: FunctionCall) => void;
}

/** Somebody who wants to see calls (`struct ftrace_ops`): keeps what is armed what the filters say. */
export class FunctionUse {
  readonly #tr: TraceArray;
  readonly #options: FunctionUseOptions;
  readonly #refresh = (): void => this.refresh();
  #probe: FunctionProbe | undefined;

  /** register_ftrace_function(). Refuses with a KernelError. */
  constructor(tr: TraceArray, options: FunctionUseOptions) {
    this.#tr = tr;
    this.#options = options;
    const { returns = false, settles = false, callers = 0, retvals = false } = options;
    this.#probe = tr.tracing.arch.traceFunctions?.({ returns, settles, callers, retvals }, (call) => {
      if (tracesTask(tr.functions, call.pid)) options.hit(call);
    });
    this.refresh();
    for (const list of this.#lists) list.watchers.add(this.#refresh);
  }

  get #lists() {
    const { filter, notrace } = this.#tr.functions;
    return [filter, notrace];
  }

  refresh(): void {
    this.#probe?.set([...(this.#options.wanted?.() ?? wantedFunctions(this.#tr))]);
  }

  /** unregister_ftrace_function() */
  stop(): void {
    for (const list of this.#lists) list.watchers.delete(this.#refresh);
    this.#probe?.stop();
    this.#probe = undefined;
  }
}

/** Functions by `set_ftrace_filter` and `set_ftrace_notrace`. */
function* wantedFunctions({ functions, tracing }: TraceArray): Iterable<KallsymsSymbol> {
  for (const symbol of functions.filter.empty ? tracing.arch.functions() : functions.filter)
    if (!functions.notrace.has(symbol.address)) yield symbol;
}

/** ftrace_trace_task(): `set_ftrace_pid` and `set_ftrace_notrace_pid`. */
function tracesTask({ pids, notracePids }: FunctionFilters, pid: number): boolean {
  return (pids === undefined || pids.has(pid)) && !(notracePids?.has(pid) ?? false);
}
