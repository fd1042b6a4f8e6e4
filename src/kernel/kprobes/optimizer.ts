import type { KprobeArch, OptimizeOutcome } from './arch.ts';
import { KPROBE_FLAG_OPTIMIZED, OPTIMIZE_DELAY } from './flags.ts';
import {
  type Kprobe,
  kprobeAggrprobe,
  kprobeDisabled,
  kprobeGone,
  kprobeOptimized,
  kprobeUnused,
  type OptimizedKprobe,
} from './kprobe.ts';
import type { Mutex } from './mutex.ts';
import type { Slot } from './slot.ts';

/** Times that an arch may ask for another try before the probe stays with its trap. */
const MAX_TRIES = 50;

/** What the optimizer needs of the probe table. */
export interface OptimizerHost {
  readonly arch: KprobeArch;
  readonly mutex: Mutex;
  readonly allDisarmed: boolean;
  slotOf(p: Kprobe): Slot | undefined;
  disarmSlot(slot: Slot): Promise<void>;
  /** Takes an unused aggregator out of the table. */
  freeSlot(slot: Slot): Promise<void>;
}

/**
 * The delayed optimizer (kernel/kprobes.c: optimize_kprobe, unoptimize_kprobe, kprobe_optimizer). Probes are armed with
 * a trap at once; a little later all that have come meanwhile are rewritten together, which costs one stop.
 * All methods run under the core's mutex but kick().
 */
export class KprobeOptimizer {
  /** kprobes_allow_optimization: the `debug.kprobes-optimization` switch. */
  allowOptimization = true;
  delayMs = OPTIMIZE_DELAY;
  readonly #host: OptimizerHost;
  readonly #optimizing = new Set<OptimizedKprobe>();
  readonly #unoptimizing = new Set<OptimizedKprobe>();
  #cancel: (() => void) | undefined;

  constructor(host: OptimizerHost) {
    this.#host = host;
  }

  /** optimize_kprobe(): queues a probe to be rewritten, where it may be. */
  optimizeKprobe(p: Kprobe): void {
    if (!kprobeAggrprobe(p) || !p.optready || !this.allowOptimization) return;
    if (kprobeDisabled(p) || this.#host.allDisarmed || p.postHandler !== undefined) return;
    if (kprobeOptimized(p)) {
      if (p.queue === 'unoptimizing') this.#dequeue(p);
      return;
    }
    p.flags |= KPROBE_FLAG_OPTIMIZED;
    p.queue = 'optimizing';
    p.tries = 0;
    this.#optimizing.add(p);
    this.kick();
  }

  /** unoptimize_kprobe(): queues the restoring, or with `force` restores now. */
  async unoptimizeKprobe(p: Kprobe, force: boolean): Promise<void> {
    if (!kprobeAggrprobe(p) || !kprobeOptimized(p)) return;
    if (p.queue === 'optimizing') {
      this.#dequeue(p);
      p.flags &= ~KPROBE_FLAG_OPTIMIZED;
      return;
    }
    if (force) {
      this.#dequeue(p);
      await this.#unoptimize([p]);
    } else if (p.queue === undefined) {
      p.queue = 'unoptimizing';
      this.#unoptimizing.add(p);
      this.kick();
    }
  }

  /** kill_optimized_kprobe(): the code is gone; nothing is to be restored. */
  killOptimizedKprobe(p: OptimizedKprobe): void {
    this.#dequeue(p);
    p.flags &= ~KPROBE_FLAG_OPTIMIZED;
    p.rewritten = false;
    p.optready = false;
  }

  /** kick_kprobe_optimizer() */
  kick(): void {
    this.#cancel ??= this.#host.arch.scheduleDelayedWork(() => {
      this.#cancel = undefined;
      void this.#host.mutex.run(() => this.#kprobeOptimizer()).catch(() => {});
    }, this.delayMs);
  }

  /** Whether work waits. */
  get pending(): boolean {
    return this.#optimizing.size > 0 || this.#unoptimizing.size > 0;
  }

  /** wait_for_kprobe_optimizer(), for one turn: does now what waits. The caller holds the mutex. */
  async flush(): Promise<void> {
    this.#cancel?.();
    this.#cancel = undefined;
    if (this.pending) await this.#kprobeOptimizer();
  }

  /** Stops the delayed work for good. */
  cancel(): void {
    this.#cancel?.();
    this.#cancel = undefined;
  }

  /** kprobe_optimizer() */
  async #kprobeOptimizer(): Promise<void> {
    await this.#doUnoptimizeKprobes();
    await this.#doOptimizeKprobes();
    if (this.pending) this.kick();
  }

  /** do_unoptimize_kprobes(), and do_free_cleaned_kprobes() for aggregators that nobody uses any more. */
  async #doUnoptimizeKprobes(): Promise<void> {
    const list = [...this.#unoptimizing];
    if (list.length === 0) return;
    for (const op of list) this.#dequeue(op);
    await this.#unoptimize(list);
    for (const op of list) {
      const slot = this.#host.slotOf(op);
      if (slot === undefined) continue;
      if (kprobeDisabled(op) && !kprobeGone(op)) await this.#host.disarmSlot(slot);
      if (kprobeUnused(op)) await this.#host.freeSlot(slot);
    }
  }

  async #unoptimize(list: readonly OptimizedKprobe[]): Promise<void> {
    const slots: Slot[] = [];
    for (const op of list) {
      op.flags &= ~KPROBE_FLAG_OPTIMIZED;
      const slot = op.rewritten ? this.#host.slotOf(op) : undefined;
      if (slot !== undefined) slots.push(slot);
      op.rewritten = false;
    }
    if (slots.length > 0) await this.#host.arch.unoptimizeKprobes?.(slots);
  }

  /** do_optimize_kprobes() */
  async #doOptimizeKprobes(): Promise<void> {
    if (this.#host.allDisarmed || !this.allowOptimization) return;
    const ops: OptimizedKprobe[] = [];
    const slots: Slot[] = [];
    for (const op of this.#optimizing) {
      const slot = this.#host.slotOf(op);
      if (slot === undefined) this.#giveUp(op);
      else {
        ops.push(op);
        slots.push(slot);
      }
    }
    if (ops.length === 0) return;
    const demands = slots.map((slot) => slot.demands());
    let outcomes: readonly OptimizeOutcome[] = [];
    try {
      outcomes = (await this.#host.arch.optimizeKprobes?.(slots, demands)) ?? [];
    } catch {
      // Optimizing is optional: the traps stay.
    }
    ops.forEach((op, i) => {
      const outcome = outcomes[i] ?? 'never';
      if (outcome === 'done') {
        this.#dequeue(op);
        op.rewritten = true;
      } else if (outcome === 'never' || ++op.tries >= MAX_TRIES) {
        this.#giveUp(op);
        if (outcome === 'never') op.optready = false;
      }
    });
  }

  #giveUp(op: OptimizedKprobe): void {
    this.#dequeue(op);
    op.flags &= ~KPROBE_FLAG_OPTIMIZED;
  }

  #dequeue(op: OptimizedKprobe): void {
    op.queue = undefined;
    this.#optimizing.delete(op);
    this.#unoptimizing.delete(op);
  }
}
