import { aFunction, aNumber, anObject, aString, checkArgument, having, optional } from '../../arguments.ts';
import { KernelError } from '../errno.ts';

const aTracepoint = having('a Tracepoint', 'add', 'remove');

/** TRACEPOINT_DEFAULT_PRIO */
export const TRACEPOINT_DEFAULT_PRIO = 10;

export type TracepointProbe<Args extends readonly unknown[], Data = unknown> = (
  data: Data,
  ...args: Args
) => void;

/** A function on a tracepoint (`struct tracepoint_func`). */
interface TracepointFunc<Args extends readonly unknown[]> {
  readonly func: TracepointProbe<Args, never>;
  readonly data: unknown;
  readonly prio: number;
}

export interface TracepointOptions {
  /** Called before the first function is there. What it throws refuses the registration. */
  readonly regfunc?: () => void;
  /** Called when the last one has gone. */
  readonly unregfunc?: () => void;
}

/**
 * A tracepoint (`struct tracepoint`, kernel/tracepoint.c): a place in code that calls the functions registered on it, those of
 * high priority first, and of the same one in the order in which they came.
 *
 * The list is never changed, but replaced: a call that is under way goes through the list it began with, so a function that is
 * removed or added meanwhile is called by it exactly as often as it was when the call began.
 */
export class Tracepoint<Args extends readonly unknown[] = readonly unknown[]> {
  readonly name: string;
  /** The static key: whether there is any function. Read it before the arguments are made. */
  enabled = false;
  readonly #options: TracepointOptions;
  #funcs: readonly TracepointFunc<Args>[] = [];

  constructor(name: string, options: TracepointOptions = {}) {
    checkArgument('new Tracepoint()', 'name', name, aString);
    checkArgument('new Tracepoint()', 'options', options, optional(anObject));
    this.name = name;
    this.#options = options;
  }

  /** How many functions are registered. */
  get users(): number {
    return this.#funcs.length;
  }

  /** Calls the functions. What one throws is not held back, so functions do not throw. */
  call(...args: Args): void {
    const funcs = this.#funcs;
    for (let i = 0; i < funcs.length; i++) {
      const { func, data } = funcs[i] as TracepointFunc<Args>;
      func(data as never, ...args);
    }
  }

  /** func_add() */
  add(func: TracepointProbe<Args, never>, data: unknown, prio: number): void {
    if (this.#funcs.some((one) => one.func === func && one.data === data))
      throw new KernelError('EEXIST', `${this.name}: this function is on the tracepoint already`);
    if (this.#funcs.length === 0) this.#options.regfunc?.();
    const at = this.#funcs.findIndex((one) => one.prio < prio);
    const behind = at < 0 ? this.#funcs.length : at;
    this.#funcs = [...this.#funcs.slice(0, behind), { func, data, prio }, ...this.#funcs.slice(behind)];
    this.enabled = true;
  }

  /** func_remove() */
  remove(func: TracepointProbe<Args, never>, data: unknown): void {
    const left = this.#funcs.filter((one) => one.func !== func || one.data !== data);
    if (left.length === this.#funcs.length)
      throw new KernelError('ENOENT', `${this.name}: this function is not on the tracepoint`);
    this.#funcs = left;
    if (left.length > 0) return;
    this.enabled = false;
    this.#options.unregfunc?.();
  }
}

/** tracepoint_probe_register(): EEXIST where this function is registered with this data. */
export function tracepointProbeRegister<Args extends readonly unknown[], Data>(
  tp: Tracepoint<Args>,
  probe: TracepointProbe<Args, Data>,
  data: Data,
): void {
  checkArgument('tracepointProbeRegister()', 'tp', tp, aTracepoint);
  checkArgument('tracepointProbeRegister()', 'probe', probe, aFunction);
  tracepointProbeRegisterPrio(tp, probe, data, TRACEPOINT_DEFAULT_PRIO);
}

/** tracepoint_probe_register_prio(): a higher priority is called earlier. */
export function tracepointProbeRegisterPrio<Args extends readonly unknown[], Data>(
  tp: Tracepoint<Args>,
  probe: TracepointProbe<Args, Data>,
  data: Data,
  prio: number,
): void {
  checkArgument('tracepointProbeRegisterPrio()', 'tp', tp, aTracepoint);
  checkArgument('tracepointProbeRegisterPrio()', 'probe', probe, aFunction);
  checkArgument('tracepointProbeRegisterPrio()', 'prio', prio, aNumber);
  tp.add(probe, data, prio);
}

/** tracepoint_probe_unregister(): ENOENT where it is not registered. */
export function tracepointProbeUnregister<Args extends readonly unknown[], Data>(
  tp: Tracepoint<Args>,
  probe: TracepointProbe<Args, Data>,
  data: Data,
): void {
  checkArgument('tracepointProbeUnregister()', 'tp', tp, aTracepoint);
  checkArgument('tracepointProbeUnregister()', 'probe', probe, aFunction);
  tp.remove(probe, data);
}
