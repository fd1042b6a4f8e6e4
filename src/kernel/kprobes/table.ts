import type { KprobeArch } from './arch.ts';
import { KPROBE_FLAG_DISABLED, KPROBE_FLAG_GONE, KPROBE_FLAG_OPTIMIZED } from './flags.ts';
import {
  type Kprobe,
  kprobeAggrprobe,
  kprobeDisabled,
  kprobeFtrace,
  kprobeGone,
  OptimizedKprobe,
} from './kprobe.ts';
import type { Mutex } from './mutex.ts';
import { KprobeOptimizer, type OptimizerHost } from './optimizer.ts';
import { demandsCovered, type Slot } from './slot.ts';

/** Probes by their address (`kprobe_table`): aggregation, arming and disarming. All of it runs under the kprobe mutex. */
export class KprobeTable implements OptimizerHost {
  readonly slots = new Map<bigint, Slot>();
  readonly optimizer: KprobeOptimizer;
  /** kprobes_all_disarmed */
  allDisarmed = false;
  readonly arch: KprobeArch;
  readonly mutex: Mutex;

  constructor(arch: KprobeArch, mutex: Mutex) {
    this.arch = arch;
    this.mutex = mutex;
    this.optimizer = new KprobeOptimizer(this);
  }

  /** The first probe on an address. */
  async registerFirst(slot: Slot, p: Kprobe): Promise<void> {
    await this.arch.prepareKprobe(slot, p);
    slot.prepared = true;
    this.slots.set(slot.addr, slot);
    if (!this.allDisarmed && !kprobeDisabled(p)) {
      try {
        await this.#archArm(slot);
      } catch (error) {
        await this.freeSlot(slot);
        throw error;
      }
    }
    this.#tryToOptimizeKprobe(slot);
  }

  /** try_to_optimize_kprobe() */
  #tryToOptimizeKprobe(slot: Slot): void {
    const p = slot.probe;
    if (kprobeFtrace(p) || kprobeAggrprobe(p)) return;
    const ap = new OptimizedKprobe();
    if (!this.#prepareOptimizedKprobe(slot, ap)) return;
    this.#initAggrKprobe(slot, ap);
    this.optimizer.optimizeKprobe(ap);
  }

  #prepareOptimizedKprobe(slot: Slot, ap: OptimizedKprobe): boolean {
    ap.optready = this.arch.prepareOptimizedKprobe?.(slot, ap) ?? false;
    return ap.optready;
  }

  /** init_aggr_kprobe(): `ap` takes the place of the only probe in the table. */
  #initAggrKprobe(slot: Slot, ap: OptimizedKprobe): void {
    const p = slot.probe;
    ap.addr = p.addr;
    ap.flags = p.flags & ~KPROBE_FLAG_OPTIMIZED;
    if (p.postHandler !== undefined && !kprobeGone(p)) ap.postHandler = aggrPostHandler;
    ap.list = [p];
    slot.probe = ap;
  }

  /** register_aggr_kprobe(): one more on an address. */
  async registerAggrKprobe(slot: Slot, p: Kprobe): Promise<void> {
    const orig = slot.probe;
    let ap: OptimizedKprobe;
    if (kprobeAggrprobe(orig)) {
      // Also one whose last probe has left and that waits to be freed (reuse_unused_kprobe()).
      ap = orig;
    } else {
      ap = new OptimizedKprobe();
      if (!kprobeFtrace(orig)) this.#prepareOptimizedKprobe(slot, ap);
      this.#initAggrKprobe(slot, ap);
    }
    if (kprobeGone(ap)) {
      await this.arch.prepareKprobe(slot, ap);
      slot.prepared = true;
      if (!kprobeFtrace(ap)) this.#prepareOptimizedKprobe(slot, ap);
      ap.flags = (ap.flags & ~KPROBE_FLAG_GONE) | KPROBE_FLAG_DISABLED;
    }
    // add_new_kprobe(): a post handler cannot be served by rewritten code.
    if (p.postHandler !== undefined) {
      await this.optimizer.unoptimizeKprobe(ap, true);
      ap.postHandler = aggrPostHandler;
    }
    ap.list = [p, ...ap.list];
    if (kprobeDisabled(p)) return;
    const apWasDisabled = ap.flags & KPROBE_FLAG_DISABLED;
    ap.flags &= ~KPROBE_FLAG_DISABLED;
    if (this.allDisarmed) return;
    try {
      await this.armKprobe(slot);
    } catch (error) {
      ap.flags |= apWasDisabled;
      ap.list = ap.list.filter((kp) => kp !== p);
      this.updatePostHandler(ap);
      throw error;
    }
  }

  updatePostHandler(ap: OptimizedKprobe): void {
    ap.postHandler = ap.list.some(({ postHandler }) => postHandler !== undefined)
      ? aggrPostHandler
      : undefined;
  }

  /** kill_kprobe() */
  killKprobe(slot: Slot): void {
    const p = slot.probe;
    p.flags |= KPROBE_FLAG_GONE;
    for (const kp of slot.children) kp.flags |= KPROBE_FLAG_GONE;
    if (kprobeAggrprobe(p)) {
      p.postHandler = undefined;
      this.optimizer.killOptimizedKprobe(p);
    }
    slot.armed = undefined;
    this.removeSlot(slot);
    // Nobody is left who could unregister it.
    if (slot.children.length === 0) this.slots.delete(slot.addr);
  }

  /** __arm_kprobe() */
  async armKprobe(slot: Slot): Promise<void> {
    await this.#archArm(slot);
    this.optimizer.optimizeKprobe(slot.probe);
  }

  async #archArm(slot: Slot): Promise<void> {
    const wanted = slot.demands();
    if (slot.armed !== undefined) {
      if (demandsCovered(slot.armed, wanted)) return;
      // Rewritten code serves what it was made for.
      await this.optimizer.unoptimizeKprobe(slot.probe, true);
    }
    await this.arch.armKprobe(slot, wanted);
    slot.armed = wanted;
  }

  /** __disarm_kprobe(): where rewritten code has to be restored first, the optimizer disarms it afterwards. */
  async disarmKprobe(slot: Slot, reopt: boolean): Promise<void> {
    await this.optimizer.unoptimizeKprobe(slot.probe, this.allDisarmed);
    if (!reopt || !kprobeAggrprobe(slot.probe) || slot.probe.queue === undefined) await this.disarmSlot(slot);
  }

  async disarmSlot(slot: Slot): Promise<void> {
    if (slot.armed === undefined) return;
    await this.arch.disarmKprobe(slot);
    slot.armed = undefined;
  }

  async deleteSlot(slot: Slot): Promise<void> {
    if (slot.prepared) await this.disarmSlot(slot);
    if (this.slots.get(slot.addr) === slot) this.slots.delete(slot.addr);
  }

  /** Nothing of it is left. */
  async freeSlot(slot: Slot): Promise<void> {
    await this.deleteSlot(slot);
    this.removeSlot(slot);
  }

  removeSlot(slot: Slot): void {
    if (!slot.prepared) return;
    slot.prepared = false;
    this.arch.removeKprobe(slot);
  }

  slotOf(p: Kprobe): Slot | undefined {
    const slot = p.addr === undefined ? undefined : this.slots.get(p.addr);
    return slot?.probe === p ? slot : undefined;
  }

  /** __get_valid_kprobe(): the slot that `p` is registered in. */
  getValidKprobe(p: Kprobe): Slot | undefined {
    const slot = p.addr === undefined ? undefined : this.slots.get(p.addr);
    return slot?.children.includes(p) ? slot : undefined;
  }
}

/** Marks that an aggregator has post handlers; KprobeHandlers calls those of its list. */
const aggrPostHandler = (): void => {};
