/**
 * Modules that come while somebody waits for them: definitions of probes whose module is not there, `:mod:` of `set_ftrace_filter`, and
 * tracers of all functions (ftrace_module_enable(), trace_kprobe_module_callback()). Node tells by its own events, which are on
 * for as long as that lasts.
 */

import { dynEventsOf } from '../kernel/trace/probe/files.ts';
import type { Tracing } from '../kernel/trace/tracing.ts';
import type { ProcessTraceArch } from './trace-arch.ts';

/** What loads modules: CommonJS, and from Node 22 on ES modules. */
const LOADS = ['module:load', 'module:import'] as const;
/** Modules come in flocks. */
const DELAY_MS = 25;

export interface ModuleWatchOptions {
  readonly tracing: Tracing;
  readonly arch: ProcessTraceArch;
  /** Looks for what has come. */
  readonly refresh: () => Promise<void>;
}

/** Definitions and filters hear of the modules that have come. */
export function modulesCame(tracing: Tracing, modules: readonly string[]): void {
  const dynEvents = dynEventsOf(tracing);
  for (const module of modules) dynEvents.moduleChanged(module);
  const named = modules.filter((name) => name !== '');
  if (named.length === 0) return;
  for (const { functions } of tracing.arrays()) {
    functions.filter.modulesCame(named);
    functions.notrace.modulesCame(named);
  }
}

export class ModuleWatch {
  readonly #options: ModuleWatchOptions;
  #disarm: (() => void)[] | undefined;
  #timer: NodeJS.Timeout | undefined;
  #refreshing: Promise<void> = Promise.resolve();

  constructor(options: ModuleWatchOptions) {
    this.#options = options;
  }

  /** Begins or ends to listen, as what is waited for says now. */
  update(): void {
    const { tracing, arch } = this.#options;
    const wanted = isWaiting(tracing);
    if (wanted === (this.#disarm !== undefined)) return;
    if (!wanted) {
      this.stop();
      return;
    }
    this.#disarm = [];
    for (const name of LOADS) {
      const disarm = arch.lookupTracepoint(name)?.arm(() => this.#came());
      if (disarm !== undefined) this.#disarm.push(disarm);
    }
  }

  #came(): void {
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined;
      this.#refreshing = this.#refreshing.then(() => this.#options.refresh());
    }, DELAY_MS);
  }

  stop(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const disarm = this.#disarm ?? [];
    this.#disarm = undefined;
    for (const one of disarm) one();
  }
}

function isWaiting(tracing: Tracing): boolean {
  if (dynEventsOf(tracing).list.some((each) => each.isWaiting === true)) return true;
  for (const { functions, tracer } of tracing.arrays()) {
    if (functions.filter.isWaiting || functions.notrace.isWaiting) return true;
    if (tracer.name !== 'nop' && functions.filter.empty) return true;
  }
  return false;
}
