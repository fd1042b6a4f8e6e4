import { checkArgument, having, listOf, type Shape } from '../../arguments.ts';
import { KernelError } from '../errno.ts';
import type { KprobeArch, TextSymbol } from './arch.ts';
import { KprobeBlacklist, type KprobeBlacklistEntry } from './blacklist.ts';
import { KPROBE_FLAG_DISABLED, KPROBE_FLAG_GONE, KPROBE_FLAG_ON_FUNC_ENTRY } from './flags.ts';
import { KprobeHandlers } from './handler.ts';
import {
  aKprobe,
  type Kprobe,
  kprobeAggrprobe,
  kprobeDisabled,
  kprobeDisarmed,
  kprobeGone,
} from './kprobe.ts';
import { type AnyKretprobe, aKretprobe, type Kretprobe, KretprobePool } from './kretprobe.ts';
import { showKprobes } from './list.ts';
import { Mutex } from './mutex.ts';
import type { KprobeOptimizer } from './optimizer.ts';
import { Slot } from './slot.ts';
import { KprobeTable } from './table.ts';

const KPROBES = listOf(aKprobe);
const KRETPROBES = listOf(aKretprobe);

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
  readonly #table: KprobeTable;

  constructor(arch: KprobeArch) {
    checkArgument(
      'new Kprobes()',
      'arch',
      arch,
      having('what arms probes, as SelfArch does', 'lookupName', 'prepareKprobe', 'armKprobe'),
    );
    this.#arch = arch;
    this.handlers = new KprobeHandlers((p) => {
      void this.#mutex.run(() => this.#reapFaulted(p)).catch(() => {});
    });
    this.#table = new KprobeTable(arch, this.#mutex);
    this.optimizer = this.#table.optimizer;
  }

  /** With the mutex held; `argument` is one by its name. */
  async #locked(where: string, argument: object, shape: Shape, work: () => Promise<void>): Promise<void> {
    for (const [name, value] of Object.entries(argument)) checkArgument(where, name, value, shape);
    await this.#mutex.run(work);
  }

  // -- Registration ------------------------------------------------------------------------------------------------

  /**
   * register_kprobe(). EINVAL: both or neither of `symbolName` and `addr`, an address outside of any function, a
   * blacklisted one, or `p` is registered already. ENOENT: no such symbol. EILSEQ: not the start of a statement.
   */
  registerKprobe(p: Kprobe): Promise<void> {
    return this.#locked('registerKprobe()', { p }, aKprobe, () => this.#registerKprobe(p));
  }

  /** unregister_kprobe(). Of a probe that is not registered only the address is cleared. */
  unregisterKprobe(p: Kprobe): Promise<void> {
    return this.#locked('unregisterKprobe()', { p }, aKprobe, () => this.#unregisterKprobes([p]));
  }

  /** register_kprobes(): all or none. EINVAL: an empty list. */
  registerKprobes(ps: readonly Kprobe[]): Promise<void> {
    return this.#locked('registerKprobes()', { ps }, KPROBES, async () => {
      if (ps.length === 0) throw new KernelError('EINVAL', 'no kprobes to register');
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
    return this.#locked('unregisterKprobes()', { ps }, KPROBES, () => this.#unregisterKprobes(ps));
  }

  /** enable_kprobe(). EINVAL: not registered, or gone. */
  enableKprobe(p: Kprobe): Promise<void> {
    return this.#locked('enableKprobe()', { p }, aKprobe, async () => {
      const slot = this.#table.getValidKprobe(p);
      if (slot === undefined) throw notRegistered(p);
      if (kprobeGone(p)) throw new KernelError('EINVAL', `the code of kprobe ${nameOf(p)} is gone`);
      const head = slot.probe;
      const wasDisabled = p.flags & KPROBE_FLAG_DISABLED;
      const headWasDisabled = head.flags & KPROBE_FLAG_DISABLED;
      p.flags &= ~KPROBE_FLAG_DISABLED;
      head.flags &= ~KPROBE_FLAG_DISABLED;
      if (wasDisabled !== 0) p.nfault = 0;
      if (this.#table.allDisarmed) return;
      try {
        await this.#table.armKprobe(slot);
      } catch (error) {
        p.flags |= wasDisabled;
        head.flags |= headWasDisabled;
        throw error;
      }
    });
  }

  /** disable_kprobe(). EINVAL: not registered. */
  disableKprobe(p: Kprobe): Promise<void> {
    return this.#locked('disableKprobe()', { p }, aKprobe, async () => {
      await this.#disableKprobe(p);
    });
  }

  // -- Return probes -----------------------------------------------------------------------------------------------

  /** register_kretprobe(). As registerKprobe(); EINVAL: not the entry of a function. E2BIG: `dataSize` above 4096. */
  registerKretprobe<D>(rp: Kretprobe<D>): Promise<void> {
    return this.#locked('registerKretprobe()', { rp }, aKretprobe, () => this.#registerKretprobe(rp));
  }

  registerKretprobes(rps: readonly AnyKretprobe[]): Promise<void> {
    return this.#locked('registerKretprobes()', { rps }, KRETPROBES, async () => {
      if (rps.length === 0) throw new KernelError('EINVAL', 'no kretprobes to register');
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
    return this.#locked('unregisterKretprobe()', { rp }, aKretprobe, () => this.#unregisterKretprobes([rp]));
  }

  unregisterKretprobes(rps: readonly AnyKretprobe[]): Promise<void> {
    return this.#locked('unregisterKretprobes()', { rps }, KRETPROBES, () => this.#unregisterKretprobes(rps));
  }

  /** enable_kretprobe() */
  async enableKretprobe<D>(rp: Kretprobe<D>): Promise<void> {
    checkArgument('enableKretprobe()', 'rp', rp, aKretprobe);
    return this.enableKprobe(rp.kp);
  }

  /** disable_kretprobe(): calls still under way end with the handler. */
  async disableKretprobe<D>(rp: Kretprobe<D>): Promise<void> {
    checkArgument('disableKretprobe()', 'rp', rp, aKretprobe);
    return this.disableKprobe(rp.kp);
  }

  // -- The table ---------------------------------------------------------------------------------------------------

  /** get_kprobe(): the probe in the table for an address; an aggregator where there are several. */
  getKprobe(addr: bigint): Kprobe | undefined {
    return this.#table.slots.get(addr)?.probe;
  }

  /** within_kprobe_blacklist(): the entry that covers the address. */
  withinKprobeBlacklist(addr: bigint): KprobeBlacklistEntry | undefined {
    return this.blacklist.within(addr);
  }

  /** The text of `kprobes/list`. */
  showList(): string {
    return showKprobes(this.#table.slots.values());
  }

  /** The text of `kprobes/blacklist`. */
  showBlacklist(): string {
    return this.blacklist.show();
  }

  /** What `kprobes/enabled` shows. */
  get enabled(): boolean {
    return !this.#table.allDisarmed;
  }

  /** arm_all_kprobes(): `1` to `kprobes/enabled`. Arms as many as it can; rejects with the first refusal afterwards. */
  armAllKprobes(): Promise<void> {
    return this.#mutex.run(async () => {
      if (!this.#table.allDisarmed) return;
      this.#table.allDisarmed = false;
      const refusals: unknown[] = [];
      for (const slot of this.#table.slots.values()) {
        if (kprobeDisabled(slot.probe)) continue;
        try {
          await this.#table.armKprobe(slot);
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
      if (this.#table.allDisarmed) return;
      this.#table.allDisarmed = true;
      const refusals: unknown[] = [];
      for (const slot of this.#table.slots.values()) {
        try {
          if (!kprobeDisabled(slot.probe)) await this.#table.disarmKprobe(slot, false);
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
      for (const { probe } of this.#table.slots.values()) {
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
      for (const slot of this.#table.slots.values()) {
        if (slot.addr >= start && slot.addr < end) this.#table.killKprobe(slot);
      }
      this.blacklist.removeArea(start, end);
    });
  }

  /** Every address in the table, in order of registration. */
  get addresses(): readonly bigint[] {
    return [...this.#table.slots.keys()];
  }

  /** Disarms and forgets every probe (they are GONE): for the end of the owner's life. */
  dispose(): Promise<void> {
    return this.#mutex.run(async () => {
      this.optimizer.cancel();
      const refusals: unknown[] = [];
      for (const slot of [...this.#table.slots.values()]) {
        try {
          await this.optimizer.unoptimizeKprobe(slot.probe, true);
          await this.#table.freeSlot(slot);
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
    // callers in JavaScript
    if (symbolName !== undefined && typeof symbolName !== 'string')
      throw new KernelError('EINVAL', `a kprobe's symbol name is a string, not ${typeof symbolName}`);
    if (addr !== undefined && typeof addr !== 'bigint')
      throw new KernelError('EINVAL', `a kprobe's address is a bigint, not ${typeof addr}`);
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
    if (this.#table.getValidKprobe(p) !== undefined)
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
      const old = this.#table.slots.get(addr);
      if (old === undefined) await this.#table.registerFirst(new Slot(addr, symbol, onFuncEntry, p), p);
      else await this.#table.registerAggrKprobe(old, p);
    } catch (error) {
      // Unlike the kernel's, a refused probe is as it was: it can be registered again as it stands.
      p.addr = before.addr;
      p.flags = before.flags;
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
    for (const slot of bottoms) this.#table.removeSlot(slot);
  }

  /** __unregister_kprobe_top(): the slot, when nothing is left of it. */
  async #unregisterKprobeTop(p: Kprobe): Promise<Slot | undefined> {
    const slot = await this.#disableKprobe(p);
    const ap = slot.probe;
    if (!kprobeAggrprobe(ap) || (ap.list.length === 1 && kprobeDisarmed(ap))) {
      await this.#table.deleteSlot(slot);
      return slot;
    }
    ap.list = ap.list.filter((kp) => kp !== p);
    if (p.postHandler !== undefined && !kprobeGone(p)) this.#table.updatePostHandler(ap);
    // The post handler may have been all that kept it from being optimized.
    if (!kprobeDisabled(ap) && !this.#table.allDisarmed) this.optimizer.optimizeKprobe(ap);
    return undefined;
  }

  /** __disable_kprobe() */
  async #disableKprobe(p: Kprobe): Promise<Slot> {
    const slot = this.#table.getValidKprobe(p);
    if (slot === undefined) throw notRegistered(p);
    if (kprobeDisabled(p)) return slot;
    const orig = slot.probe;
    if (p !== orig) p.flags |= KPROBE_FLAG_DISABLED;
    if (p !== orig && !slot.children.every(kprobeDisabled)) return slot;
    try {
      if (!this.#table.allDisarmed && !kprobeDisabled(orig)) await this.#table.disarmKprobe(slot, true);
    } catch (error) {
      p.flags &= ~KPROBE_FLAG_DISABLED;
      throw error;
    }
    orig.flags |= KPROBE_FLAG_DISABLED;
    return slot;
  }

  async #registerKretprobe(rp: AnyKretprobe): Promise<void> {
    const { kp } = rp;
    if (this.#table.getValidKprobe(kp) !== undefined)
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

  /** A handler has thrown too often: what __disable_kprobe() would do, but for the flag, which is set already. */
  async #reapFaulted(p: Kprobe): Promise<void> {
    const slot = this.#table.getValidKprobe(p);
    if (slot === undefined || !kprobeDisabled(p) || !slot.children.every(kprobeDisabled)) return;
    if (slot.armed !== undefined) await this.#table.disarmKprobe(slot, true);
    slot.probe.flags |= KPROBE_FLAG_DISABLED;
  }
}

function nameOf(p: Kprobe): string {
  const base = p.symbolName ?? (p.addr === undefined ? '(no address)' : `0x${p.addr.toString(16)}`);
  return p.offset === 0 ? base : `${base}+0x${p.offset.toString(16)}`;
}

function notRegistered(p: Kprobe): KernelError {
  return new KernelError('EINVAL', `kprobe ${nameOf(p)} is not registered`);
}
