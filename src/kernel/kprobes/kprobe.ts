import {
  aFunction,
  aNumber,
  anything,
  checkArgument,
  having,
  optional,
  someOptions,
} from '../../arguments.ts';
import {
  KPROBE_FLAG_DISABLED,
  KPROBE_FLAG_FTRACE,
  KPROBE_FLAG_GONE,
  KPROBE_FLAG_OPTIMIZED,
} from './flags.ts';
import type { PtRegs } from './pt-regs.ts';

/** Names and handlers: the rest may change until it is registered, and is checked then. */
const KPROBE_INIT = someOptions<KprobeInit>({
  symbolName: anything,
  offset: anything,
  addr: anything,
  preHandler: optional(aFunction),
  postHandler: optional(aFunction),
  flags: optional(aNumber),
  faultLimit: optional(aNumber),
});
export const aKprobe = having(
  'a probe: new Kprobe({ symbolName, preHandler })',
  'symbolName',
  'addr',
  'flags',
  'list',
);

/**
 * Runs before the probed statement (at a function's entry: before the body). A number other than 0, or true, ends this
 * hit for the handlers behind it and for all post handlers. It cannot make the application jump: the probed code runs
 * in any case. A promise is not waited for; if it rejects, that is a fault of the handler.
 */
export type KprobePreHandler = (p: Kprobe, regs: PtRegs) => unknown;
/** Runs after the probed statement, however it ended; see docs/kprobes.md for what that is. */
export type KprobePostHandler = (p: Kprobe, regs: PtRegs, flags: number) => unknown;

export interface KprobeInit {
  /** `[FILE:]FUNCTION`. Either this or `addr`. */
  readonly symbolName?: string | undefined;
  /** UTF-16 units from the start of the function (or from `addr`). */
  readonly offset?: number | undefined;
  readonly addr?: bigint | undefined;
  readonly preHandler?: KprobePreHandler | undefined;
  readonly postHandler?: KprobePostHandler | undefined;
  /** KPROBE_FLAG_DISABLED registers without arming; other flags are the core's and are dropped. */
  readonly flags?: number | undefined;
  /** The probe is disabled when its handlers have thrown this many times. Default 1; Infinity never disables. */
  readonly faultLimit?: number | undefined;
}

/** `struct kprobe` (include/linux/kprobes.h). */
export class Kprobe {
  symbolName: string | undefined;
  offset: number;
  /** Filled in by registration. */
  addr: bigint | undefined;
  preHandler: KprobePreHandler | undefined;
  postHandler: KprobePostHandler | undefined;
  /** KPROBE_FLAG_*; the core's after registration. */
  flags: number;
  /** Hits that were not delivered because another handler was running on this thread. */
  nmissed = 0;
  /** Handlers that threw (there is no counterpart: a fault in a kernel handler is an oops). */
  nfault = 0;
  lastFault: unknown = undefined;
  faultLimit: number;
  /** The probes on one address, the one registered last in front. Only an aggregator has any; replaced, never changed. */
  list: readonly Kprobe[] = [];

  constructor(init: KprobeInit = {}) {
    checkArgument(`new ${new.target.name}()`, 'init', init, KPROBE_INIT);
    this.symbolName = init.symbolName;
    this.offset = init.offset ?? 0;
    this.addr = init.addr;
    this.preHandler = init.preHandler;
    this.postHandler = init.postHandler;
    this.flags = init.flags ?? 0;
    this.faultLimit = init.faultLimit ?? 1;
  }
}

/**
 * `struct optimized_kprobe`: the probe that stands in the table for several on one address, or for one that the optimizer
 * looks after. Its handlers call those of its list.
 */
export class OptimizedKprobe extends Kprobe {
  /** Which of the optimizer's lists it is on. */
  queue: 'optimizing' | 'unoptimizing' | undefined = undefined;
  /** arch_prepared_optinsn(): the arch can rewrite this address. */
  optready = false;
  /** The arch has rewritten it (the flag KPROBE_FLAG_OPTIMIZED is set when it is queued). */
  rewritten = false;
  /** Times the arch asked for another try. */
  tries = 0;
}

export function kprobeGone(p: Kprobe): boolean {
  checkArgument('kprobeGone()', 'p', p, aKprobe);
  return (p.flags & KPROBE_FLAG_GONE) !== 0;
}

/** Disabled by its owner, or gone. */
export function kprobeDisabled(p: Kprobe): boolean {
  checkArgument('kprobeDisabled()', 'p', p, aKprobe);
  return (p.flags & (KPROBE_FLAG_DISABLED | KPROBE_FLAG_GONE)) !== 0;
}

export function kprobeOptimized(p: Kprobe): boolean {
  checkArgument('kprobeOptimized()', 'p', p, aKprobe);
  return (p.flags & KPROBE_FLAG_OPTIMIZED) !== 0;
}

export function kprobeFtrace(p: Kprobe): boolean {
  checkArgument('kprobeFtrace()', 'p', p, aKprobe);
  return (p.flags & KPROBE_FLAG_FTRACE) !== 0;
}

export function kprobeAggrprobe(p: Kprobe): p is OptimizedKprobe {
  return p instanceof OptimizedKprobe;
}

/** On one of the optimizer's lists. */
export function kprobeQueued(p: Kprobe): boolean {
  return kprobeAggrprobe(p) && p.queue !== undefined;
}

/** Disabled, and no rewritten code of it waits to be restored. */
export function kprobeDisarmed(p: Kprobe): boolean {
  return kprobeDisabled(p) && !kprobeQueued(p);
}

/** An aggregator whose last probe has left while the optimizer still had to restore its code. */
export function kprobeUnused(p: Kprobe): boolean {
  return kprobeAggrprobe(p) && kprobeDisabled(p) && p.list.length === 0;
}
