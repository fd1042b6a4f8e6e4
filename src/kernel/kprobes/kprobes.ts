import { KernelError } from '../errno.ts';
import type { KprobeArch, TextSymbol } from './arch.ts';
import { KprobeBlacklist, type KprobeBlacklistEntry } from './blacklist.ts';
import {
  KPROBE_FLAG_DISABLED,
  KPROBE_FLAG_GONE,
  KPROBE_FLAG_ON_FUNC_ENTRY,
  KPROBE_FLAG_OPTIMIZED,
} from './flags.ts';
import { KprobeHandlers } from './handler.ts';
import {
  type Kprobe,
  kprobeAggrprobe,
  kprobeDisabled,
  kprobeDisarmed,
  kprobeFtrace,
  kprobeGone,
  OptimizedKprobe,
} from './kprobe.ts';
import { type AnyKretprobe, type Kretprobe, KretprobePool } from './kretprobe.ts';
import { showKprobes } from './list.ts';
import { Mutex } from './mutex.ts';
import { KprobeOptimizer } from './optimizer.ts';
import { demandsCovered, Slot } from './slot.ts';

interface ProbedAddress {
  readonly addr: bigint;
  readonly symbol: TextSymbol | undefined;
  readonly onFuncEntry: boolean;
}

/**
 * The kprobes of one thread (kernel/kprobes.c): the probe table, registration, aggregation and arming. What the kernel
 * answers with `-errno` rejects with a KernelError of that code. Every method that changes the table is asynchronous:
 * it takes the kprobe mutex, and V8 may need turns of the event loop to change code. Hits are handled by `handlers`.
 */
export class Kprobes {
  readonly handlers: KprobeHandlers;
  readonly blacklist = new KprobeBlacklist();
  readonly optimizer: KprobeOptimizer;
  readonly #arch: KprobeArch;
  readonly #mutex = new Mutex();
  readonly #table = new Map<bigint, Slot>();
  #allDisarmed = false;

  constructor(arch: KprobeArch) {
    this.#arch = arch;
    this.handlers = new KprobeHandlers((p) => {
      void this.#mutex.run(() => this.#reapFaulted(p)).catch(() => {});
    });
    const allDisarmed = () => this.#allDisarmed;
    this.optimizer = new KprobeOptimizer({
      arch,
      mutex: this.#mutex,
      get allDisarmed() {
        return allDisarmed();
      },
      slotOf: (p) => this.#slotOf(p),
      disarmSlot: (slot) => this.#archDisarm(slot),
      freeSlot: async (slot) => {
        await this.#deleteSlot(slot);
        this.#removeSlot(slot);
      },
    });
  }

  // -- Registration ------------------------------------------------------------------------------------------------

  /**
   * register_kprobe(). EINVAL: both or neither of `symbolName` and `addr`, an address outside of any function, a
   * blacklisted one, or `p` is registered already. ENOENT: no such symbol. EILSEQ: not the start of a statement.
   */
  registerKprobe(p: Kprobe): Promise<void> {
    return this.#mutex.run(() => this.#registerKprobe(p));
  }

  /** unregister_kprobe(). Of a probe that is not registered only the address is cleared. */
  unregisterKprobe(p: Kprobe): Promise<void> {
    return this.unregisterKprobes([p]);
  }

  /** register_kprobes(): all or none. EINVAL: an empty list. */
  async registerKprobes(ps: readonly Kprobe[]): Promise<void> {
    if (ps.length === 0) throw new KernelError('EINVAL', 'no kprobes to register');
    return this.#mutex.run(async () => {
      for (let i = 0; i < ps.length; i++) {
        try {
          await this.#registerKprobe(ps[i]!);
        } catch (error) {
          await this.#unregisterKprobes(ps.slice(0, i));
          throw error;
        }
      }
    });
  }

  unregisterKprobes(ps: readonly Kprobe[]): Promise<void> {
    return this.#mutex.run(() => this.#unregisterKprobes(ps));
  }

  /** enable_kprobe(). EINVAL: not registered, or gone. */
  enableKprobe(p: Kprobe): Promise<void> {
    return this.#mutex.run(async () => {
      const slot = this.#getValidKprobe(p);
      if (slot === undefined) throw notRegistered(p);
      if (kprobeGone(p)) throw new KernelError('EINVAL', `the code of kprobe ${nameOf(p)} is gone`);
      const head = slot.probe;
      const wasDisabled = p.flags & KPROBE_FLAG_DISABLED;
      const headWasDisabled = head.flags & KPROBE_FLAG_DISABLED;
      p.flags &= ~KPROBE_FLAG_DISABLED;
      head.flags &= ~KPROBE_FLAG_DISABLED;
      if (wasDisabled !== 0) p.nfault = 0;
      if (this.#allDisarmed) return;
      try {
        await this.#armKprobe(slot);
      } catch (error) {
        p.flags |= wasDisabled;
        head.flags |= headWasDisabled;
        throw error;
      }
    });
  }

  /** disable_kprobe(). EINVAL: not registered. */
  disableKprobe(p: Kprobe): Promise<void> {
    return this.#mutex.run(async () => {
      await this.#disableKprobe(p);
    });
  }

  // -- Return probes -----------------------------------------------------------------------------------------------

  /** register_kretprobe(). As registerKprobe(); EINVAL: not the entry of a function. E2BIG: `dataSize` above 4096. */
  registerKretprobe<D>(rp: Kretprobe<D>): Promise<void> {
    return this.#mutex.run(() => this.#registerKretprobe(rp));
  }

  async registerKretprobes(rps: readonly AnyKretprobe[]): Promise<void> {
    if (rps.length === 0) throw new KernelError('EINVAL', 'no kretprobes to register');
    return this.#mutex.run(async () => {
      for (let i = 0; i < rps.length; i++) {
        try {
          await this.#registerKretprobe(rps[i]!);
        } catch (error) {
          await this.#unregisterKretprobes(rps.slice(0, i));
          throw error;
        }
      }
    });
  }

  /** unregister_kretprobe(): calls still under way end without the handler. */
  unregisterKretprobe<D>(rp: Kretprobe<D>): Promise<void> {
    return this.#mutex.run(() => this.#unregisterKretprobes([rp]));
  }

  unregisterKretprobes(rps: readonly AnyKretprobe[]): Promise<void> {
    return this.#mutex.run(() => this.#unregisterKretprobes(rps));
  }

  /** enable_kretprobe() */
  enableKretprobe<D>(rp: Kretprobe<D>): Promise<void> {
    return this.enableKprobe(rp.kp);
  }

  /** disable_kretprobe(): calls still under way end with the handler. */
  disableKretprobe<D>(rp: Kretprobe<D>): Promise<void> {
    return this.disableKprobe(rp.kp);
  }

  // -- The table ---------------------------------------------------------------------------------------------------

  /** get_kprobe(): the probe in the table for an address; an aggregator where there are several. */
  getKprobe(addr: bigint): Kprobe | undefined {
    return this.#table.get(addr)?.probe;
  }

  /** within_kprobe_blacklist(): the entry that covers the address. */
  withinKprobeBlacklist(addr: bigint): KprobeBlacklistEntry | undefined {
    return this.blacklist.within(addr);
  }

  /** The text of `kprobes/list`. */
  showList(): string {
    return showKprobes(this.#table.values());
  }

  /** The text of `kprobes/blacklist`. */
  showBlacklist(): string {
    return this.blacklist.show();
  }

  /** What `kprobes/enabled` shows. */
  get enabled(): boolean {
    return !this.#allDisarmed;
  }

  /** arm_all_kprobes(): `1` to `kprobes/enabled`. Arms as many as it can; rejects with the first refusal afterwards. */
  armAllKprobes(): Promise<void> {
    return this.#mutex.run(async () => {
      if (!this.#allDisarmed) return;
      this.#allDisarmed = false;
      const refusals: unknown[] = [];
      for (const slot of this.#table.values()) {
        if (kprobeDisabled(slot.probe)) continue;
        try {
          await this.#armKprobe(slot);
        } catch (error) {
          refusals.push(error);
        }
      }
      if (refusals.length > 0) throw refusals[0];
    });
  }

  /** disarm_all_kprobes(): `0` to `kprobes/enabled`. */
  disarmAllKprobes(): Promise<void> {
    return this.#mutex.run(async () => {
      if (this.#allDisarmed) return;
      this.#allDisarmed = true;
      const refusals: unknown[] = [];
      for (const slot of this.#table.values()) {
        try {
          if (!kprobeDisabled(slot.probe)) await this.#disarmKprobe(slot, false);
        } catch (error) {
          refusals.push(error);
        }
      }
      await this.optimizer.flush();
      if (refusals.length > 0) throw refusals[0];
    });
  }

  /** The `debug.kprobes-optimization` switch. Switching off restores every rewritten probe to its trap. */
  setKprobesOptimization(on: boolean): Promise<void> {
    return this.#mutex.run(async () => {
      if (this.optimizer.allowOptimization === on) return;
      this.optimizer.allowOptimization = on;
      for (const { probe } of this.#table.values()) {
        if (kprobeDisabled(probe)) continue;
        if (on) this.optimizer.optimizeKprobe(probe);
        else await this.optimizer.unoptimizeKprobe(probe, false);
      }
      if (!on) await this.optimizer.flush();
    });
  }

  /** wait_for_kprobe_optimizer(): resolves when nothing waits for the optimizer (or it has to wait for the arch). */
  waitForKprobeOptimizer(): Promise<void> {
    return this.#mutex.run(() => this.optimizer.flush());
  }

  /** kprobes_module_callback(), MODULE_STATE_GOING: a script's text goes; its probes are GONE. */
  moduleGoing(start: bigint, end: bigint): Promise<void> {
    return this.#mutex.run(() => {
      for (const slot of this.#table.values()) {
        if (slot.addr >= start && slot.addr < end) this.#killKprobe(slot);
      }
      this.blacklist.removeArea(start, end);
    });
  }

  /** Every address in the table, in order of registration. */
  get addresses(): readonly bigint[] {
    return [...this.#table.keys()];
  }

  /** Disarms and forgets every probe (they are GONE): for the end of the owner's life. */
  dispose(): Promise<void> {
    return this.#mutex.run(async () => {
      this.optimizer.cancel();
      const refusals: unknown[] = [];
      for (const slot of [...this.#table.values()]) {
        try {
          await this.optimizer.unoptimizeKprobe(slot.probe, true);
          await this.#deleteSlot(slot);
          this.#removeSlot(slot);
        } catch (error) {
          refusals.push(error);
        }
        for (const p of [slot.probe, ...slot.children]) p.flags |= KPROBE_FLAG_GONE;
      }
      if (refusals.length > 0) throw refusals[0];
    });
  }

  // -- Under the mutex ---------------------------------------------------------------------------------------------

  /** _kprobe_addr() */
  async #kprobeAddr(p: Kprobe): Promise<ProbedAddress> {
    const { symbolName, addr, offset } = p;
    if (symbolName !== undefined && addr !== undefined)
      throw new KernelError('EINVAL', `kprobe ${symbolName} has both a symbol name and an address`);
    let start = addr;
    if (symbolName !== undefined) {
      start = await this.#arch.lookupName(symbolName);
      if (start === undefined) {
        const similar = this.#arch.similarNames?.(symbolName)[0];
        throw new KernelError('ENOENT', `no function '${symbolName}'`, {
          hint: similar === undefined ? undefined : `did you mean ${similar}?`,
        });
      }
    }
    if (start === undefined) throw new KernelError('EINVAL', 'a kprobe needs a symbol name or an address');
    if (!Number.isInteger(offset)) throw new KernelError('EINVAL', `offset ${offset} is not an integer`);
    const at = start + BigInt(offset);
    const symbol = this.#arch.lookupAddr(at);
    if (symbol === undefined)
      throw new KernelError('ENOENT', `${nameOf(p)} is not in any function that can be probed`);
    return { addr: at, symbol, onFuncEntry: at === symbol.address };
  }

  async #registerKprobe(p: Kprobe): Promise<void> {
    if (kprobeAggrprobe(p)) throw new KernelError('EINVAL', 'an aggregator cannot be registered');
    // Asked first: a registered probe has its address filled in, and would be refused for that.
    if (this.#getValidKprobe(p) !== undefined)
      throw new KernelError('EINVAL', `kprobe ${nameOf(p)} is registered already`);
    const { addr, symbol, onFuncEntry } = await this.#kprobeAddr(p);
    const entry = this.blacklist.within(addr);
    if (entry !== undefined)
      throw new KernelError('EINVAL', `${nameOf(p)} must not be probed: ${entry.reason}`);
    const before = { addr: p.addr, flags: p.flags };
    p.addr = addr;
    p.flags &= KPROBE_FLAG_DISABLED;
    if (onFuncEntry) p.flags |= KPROBE_FLAG_ON_FUNC_ENTRY;
    p.nmissed = 0;
    p.nfault = 0;
    p.lastFault = undefined;
    try {
      const old = this.#table.get(addr);
      if (old === undefined) await this.#registerFirst(new Slot(addr, symbol, onFuncEntry, p), p);
      else await this.#registerAggrKprobe(old, p);
    } catch (error) {
      // Unlike the kernel's, a refused probe is as it was: it can be registered again as it stands.
      p.addr = before.addr;
      p.flags = before.flags;
      throw error;
    }
  }

  async #registerFirst(slot: Slot, p: Kprobe): Promise<void> {
    await this.#arch.prepareKprobe(slot, p);
    slot.prepared = true;
    this.#table.set(slot.addr, slot);
    if (!this.#allDisarmed && !kprobeDisabled(p)) {
      try {
        await this.#archArm(slot);
      } catch (error) {
        await this.#deleteSlot(slot);
        this.#removeSlot(slot);
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
    ap.optready = this.#arch.prepareOptimizedKprobe?.(slot, ap) ?? false;
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

  async #registerAggrKprobe(slot: Slot, p: Kprobe): Promise<void> {
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
      await this.#arch.prepareKprobe(slot, ap);
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
    if (this.#allDisarmed) return;
    try {
      await this.#armKprobe(slot);
    } catch (error) {
      ap.flags |= apWasDisabled;
      ap.list = ap.list.filter((kp) => kp !== p);
      this.#updatePostHandler(ap);
      throw error;
    }
  }

  async #unregisterKprobes(ps: readonly Kprobe[]): Promise<void> {
    const bottoms: Slot[] = [];
    for (const p of ps) {
      try {
        const slot = await this.#unregisterKprobeTop(p);
        if (slot !== undefined) bottoms.push(slot);
        // Unlike the kernel's, an unregistered probe can be registered again as it stands.
        p.flags = 0;
        if (p.symbolName !== undefined) p.addr = undefined;
      } catch (error) {
        p.addr = undefined;
        if (!(error instanceof KernelError)) throw error;
      }
    }
    // No synchronize_rcu(): hits are synchronous, and none is under way here.
    for (const slot of bottoms) this.#removeSlot(slot);
  }

  /** __unregister_kprobe_top(): the slot, when nothing is left of it. */
  async #unregisterKprobeTop(p: Kprobe): Promise<Slot | undefined> {
    const slot = await this.#disableKprobe(p);
    const ap = slot.probe;
    if (!kprobeAggrprobe(ap) || (ap.list.length === 1 && kprobeDisarmed(ap))) {
      await this.#deleteSlot(slot);
      return slot;
    }
    ap.list = ap.list.filter((kp) => kp !== p);
    if (p.postHandler !== undefined && !kprobeGone(p)) this.#updatePostHandler(ap);
    // The post handler may have been all that kept it from being optimized.
    if (!kprobeDisabled(ap) && !this.#allDisarmed) this.optimizer.optimizeKprobe(ap);
    return undefined;
  }

  #updatePostHandler(ap: OptimizedKprobe): void {
    ap.postHandler = ap.list.some(({ postHandler }) => postHandler !== undefined)
      ? aggrPostHandler
      : undefined;
  }

  /** __disable_kprobe() */
  async #disableKprobe(p: Kprobe): Promise<Slot> {
    const slot = this.#getValidKprobe(p);
    if (slot === undefined) throw notRegistered(p);
    if (kprobeDisabled(p)) return slot;
    const orig = slot.probe;
    if (p !== orig) p.flags |= KPROBE_FLAG_DISABLED;
    if (p !== orig && !slot.children.every(kprobeDisabled)) return slot;
    try {
      if (!this.#allDisarmed && !kprobeDisabled(orig)) await this.#disarmKprobe(slot, true);
    } catch (error) {
      p.flags &= ~KPROBE_FLAG_DISABLED;
      throw error;
    }
    orig.flags |= KPROBE_FLAG_DISABLED;
    return slot;
  }

  async #registerKretprobe(rp: AnyKretprobe): Promise<void> {
    const { kp } = rp;
    if (this.#getValidKprobe(kp) !== undefined)
      throw new KernelError('EINVAL', `kretprobe ${nameOf(kp)} is registered already`);
    const { onFuncEntry } = await this.#kprobeAddr(kp);
    if (!onFuncEntry)
      throw new KernelError('EINVAL', `${nameOf(kp)} is not the entry of a function`, {
        hint: 'a kretprobe sits on a whole function: use offset 0',
      });
    kp.preHandler = this.handlers.preHandlerKretprobe;
    kp.postHandler = undefined;
    rp.pool = new KretprobePool(rp);
    rp.nmissed = 0;
    try {
      await this.#registerKprobe(kp);
    } catch (error) {
      rp.pool = undefined;
      throw error;
    }
  }

  async #unregisterKretprobes(rps: readonly AnyKretprobe[]): Promise<void> {
    await this.#unregisterKprobes(rps.map(({ kp }) => kp));
    for (const rp of rps) {
      rp.pool?.kill();
      rp.pool = undefined;
    }
  }

  /** kill_kprobe() */
  #killKprobe(slot: Slot): void {
    const p = slot.probe;
    p.flags |= KPROBE_FLAG_GONE;
    for (const kp of slot.children) kp.flags |= KPROBE_FLAG_GONE;
    if (kprobeAggrprobe(p)) {
      p.postHandler = undefined;
      this.optimizer.killOptimizedKprobe(p);
    }
    slot.armed = undefined;
    this.#removeSlot(slot);
    // Nobody is left who could unregister it.
    if (slot.children.length === 0) this.#table.delete(slot.addr);
  }

  /** A handler has thrown too often: what __disable_kprobe() would do, but for the flag, which is set already. */
  async #reapFaulted(p: Kprobe): Promise<void> {
    const slot = this.#getValidKprobe(p);
    if (slot === undefined || !kprobeDisabled(p) || !slot.children.every(kprobeDisabled)) return;
    if (slot.armed !== undefined) await this.#disarmKprobe(slot, true);
    slot.probe.flags |= KPROBE_FLAG_DISABLED;
  }

  /** __arm_kprobe() */
  async #armKprobe(slot: Slot): Promise<void> {
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
    await this.#arch.armKprobe(slot, wanted);
    slot.armed = wanted;
  }

  /** __disarm_kprobe(): where rewritten code has to be restored first, the optimizer disarms it afterwards. */
  async #disarmKprobe(slot: Slot, reopt: boolean): Promise<void> {
    await this.optimizer.unoptimizeKprobe(slot.probe, this.#allDisarmed);
    if (!reopt || !kprobeAggrprobe(slot.probe) || slot.probe.queue === undefined)
      await this.#archDisarm(slot);
  }

  async #archDisarm(slot: Slot): Promise<void> {
    if (slot.armed === undefined) return;
    await this.#arch.disarmKprobe(slot);
    slot.armed = undefined;
  }

  async #deleteSlot(slot: Slot): Promise<void> {
    if (slot.prepared) await this.#archDisarm(slot);
    if (this.#table.get(slot.addr) === slot) this.#table.delete(slot.addr);
  }

  #removeSlot(slot: Slot): void {
    if (!slot.prepared) return;
    slot.prepared = false;
    this.#arch.removeKprobe(slot);
  }

  #slotOf(p: Kprobe): Slot | undefined {
    const slot = p.addr === undefined ? undefined : this.#table.get(p.addr);
    return slot?.probe === p ? slot : undefined;
  }

  /** __get_valid_kprobe(): the slot that `p` is registered in. */
  #getValidKprobe(p: Kprobe): Slot | undefined {
    const slot = p.addr === undefined ? undefined : this.#table.get(p.addr);
    return slot?.children.includes(p) ? slot : undefined;
  }
}

/** Marks that an aggregator has post handlers; KprobeHandlers calls those of its list. */
const aggrPostHandler = (): void => {};

function nameOf(p: Kprobe): string {
  const base = p.symbolName ?? (p.addr === undefined ? '(no address)' : `0x${p.addr.toString(16)}`);
  return p.offset === 0 ? base : `${base}+0x${p.offset.toString(16)}`;
}

function notRegistered(p: Kprobe): KernelError {
  return new KernelError('EINVAL', `kprobe ${nameOf(p)} is not registered`);
}
