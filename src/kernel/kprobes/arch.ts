import type { Kprobe, OptimizedKprobe } from './kprobe.ts';
import type { KretprobeEvent } from './kretprobe.ts';

/** A function in the text space. */
export interface TextSymbol {
  readonly name: string;
  readonly address: bigint;
  /** Length in UTF-16 units; the function covers `address` to `address + size` (exclusive). */
  readonly size: number;
  /** The file it is in: what the kernel prints as a module's name. */
  readonly module: string | undefined;
}

/** What the probes of one address need from its site. */
export interface KprobeDemands {
  /** Call kprobePostHandler() behind the probed statement. */
  readonly post: boolean;
  /** Call kretprobeTrampoline() when the call ends; empty where no return probe is there. */
  readonly returns: readonly KretprobeEvent[];
}

/** One probed address: the entry of the probe table. It lives as long as any probe is registered there. */
export interface KprobeSlot {
  readonly addr: bigint;
  readonly symbol: TextSymbol | undefined;
  readonly onFuncEntry: boolean;
  /** The probe in the table: the only one, or the aggregator of several. */
  readonly probe: Kprobe;
  /** The arch's own (the kernel's `ainsn`). */
  arch: unknown;
}

export type OptimizeOutcome =
  /** The code is rewritten. */
  | 'done'
  /** Not at this moment (a call is under way, say): try again after the delay. */
  | 'later'
  /** It cannot be: stay with the trap. */
  | 'never';

/**
 * What the core needs from the architecture (asm/kprobes.h and its `arch_` functions). Methods may be asynchronous
 * where the engine forces it; the core calls them under its mutex, one at a time. They refuse with a KernelError.
 * The arch calls back `Kprobes.kprobeHandler`, `kprobePostHandler` and `kretprobeTrampoline`.
 */
export interface KprobeArch {
  /** kprobe_lookup_name(): undefined where there is none. Refuses an ambiguous name with EADDRNOTAVAIL. */
  lookupName(symbolName: string): bigint | undefined | Promise<bigint | undefined>;
  /** The function that covers an address. */
  lookupAddr(addr: bigint): TextSymbol | undefined;
  /** Names close to one that was not found, best first, for the hint. */
  similarNames?(symbolName: string): readonly string[];

  /**
   * arch_prepare_kprobe(): checks that a site can be at the address (EILSEQ: not the start of a statement) and sets
   * KPROBE_FLAG_FTRACE on `p` where one is compiled in.
   */
  prepareKprobe(slot: KprobeSlot, p: Kprobe): void | Promise<void>;
  /** arch_arm_kprobe(). Called again on an armed slot when its demands have grown. */
  armKprobe(slot: KprobeSlot, demands: KprobeDemands): void | Promise<void>;
  /** arch_disarm_kprobe(): the original code runs again. */
  disarmKprobe(slot: KprobeSlot): void | Promise<void>;
  /** arch_remove_kprobe(): frees what prepareKprobe made. */
  removeKprobe(slot: KprobeSlot): void;

  /** arch_prepare_optimized_kprobe(): whether the address can be rewritten. Without it nothing is ever optimized. */
  prepareOptimizedKprobe?(slot: KprobeSlot, op: OptimizedKprobe): boolean;
  /** arch_optimize_kprobes(): one outcome for each, in order. */
  optimizeKprobes?(
    slots: readonly KprobeSlot[],
    demands: readonly KprobeDemands[],
  ): readonly OptimizeOutcome[] | Promise<readonly OptimizeOutcome[]>;
  /** arch_unoptimize_kprobes(): back to the trap, which stays armed. */
  unoptimizeKprobes?(slots: readonly KprobeSlot[]): void | Promise<void>;

  /** schedule_delayed_work(): calls `work` after the delay, without keeping the process alive; returns a canceller. */
  scheduleDelayedWork(work: () => void, delayMs: number): () => void;
}
