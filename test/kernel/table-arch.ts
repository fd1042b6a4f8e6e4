import { KernelError } from '../../src/kernel/errno.ts';
import type {
  KprobeArch,
  KprobeDemands,
  KprobeSlot,
  Kprobes,
  OptimizeOutcome,
  TextSymbol,
} from '../../src/kernel/kprobes/index.ts';
import { KPROBE_FLAG_FTRACE, type Kprobe, PtRegs } from '../../src/kernel/kprobes/index.ts';

/** Runs a statement of a function's body at an offset; 0 is the entry statement. */
export type At = <T>(offset: number, statement: () => T) => T;

interface Site {
  readonly slot: KprobeSlot;
  demands: KprobeDemands | undefined;
  rewritten: boolean;
}

interface Definition {
  readonly symbol: TextSymbol;
  readonly offsets: ReadonlySet<number>;
  readonly ftrace: boolean;
}

/**
 * An architecture without an engine below: functions are defined in a table, written against `at()`, and every call of
 * their stubs goes through the sites that are armed at that moment. Handlers are really called.
 */
export class TableArch implements KprobeArch {
  kprobes!: Kprobes;
  /** What the core asked for, in order. */
  readonly log: string[] = [];
  /** Names that are optimized only later, or never. */
  readonly later = new Set<string>();
  readonly never = new Set<string>();
  /** Names that refuse to be armed. */
  readonly stubborn = new Set<string>();
  readonly #functions = new Map<string, Definition>();
  readonly #sites = new Map<bigint, Site>();
  #next = 0x7e00_0000_1000n;

  define<A extends unknown[], R>(
    name: string,
    body: (at: At, ...args: A) => R,
    options: { offsets?: number[]; module?: string; ftrace?: boolean } = {},
  ): (this: unknown, ...args: A) => R {
    const symbol = { name, address: this.#next, size: 256, module: options.module };
    this.#next += 256n;
    this.#functions.set(name, {
      symbol,
      offsets: new Set([0, ...(options.offsets ?? [])]),
      ftrace: options.ftrace ?? false,
    });
    const arch = this;
    return function (this: unknown, ...args: A): R {
      return arch.#call(symbol, this, args, body);
    };
  }

  symbol(name: string): TextSymbol {
    return this.#functions.get(name)!.symbol;
  }

  /** `trap`, `jump` (rewritten) or undefined, by what the site at an offset would do now. */
  state(name: string, offset = 0): 'trap' | 'jump' | undefined {
    const site = this.#sites.get(this.symbol(name).address + BigInt(offset));
    if (site?.demands === undefined) return undefined;
    return site.rewritten ? 'jump' : 'trap';
  }

  get siteCount(): number {
    return this.#sites.size;
  }

  #call<A extends unknown[], R>(
    symbol: TextSymbol,
    self: unknown,
    args: A,
    body: (at: At, ...args: A) => R,
  ): R {
    const { handlers } = this.kprobes;
    const entry = this.#armed(symbol.address);
    const regs = new PtRegs(symbol.address, self, args);
    let postDue = entry !== undefined && handlers.kprobeHandler(entry.slot, regs);
    const at: At = (offset, statement) => {
      const site = offset === 0 ? entry : this.#armed(symbol.address + BigInt(offset));
      if (site === undefined) return statement();
      const own = offset === 0 ? regs : new PtRegs(site.slot.addr, self, args);
      const post = offset === 0 ? postDue : handlers.kprobeHandler(site.slot, own);
      if (offset === 0) postDue = false;
      try {
        return statement();
      } finally {
        if (post) handlers.kprobePostHandler(site.slot, own);
      }
    };
    let result: R;
    try {
      result = body(at, ...args);
    } catch (error) {
      regs.threw = true;
      regs.error = error;
      handlers.kretprobeTrampoline(regs, 'return');
      handlers.kretprobeTrampoline(regs, 'settle');
      throw error;
    }
    regs.retval = result;
    handlers.kretprobeTrampoline(regs, 'return');
    if (result instanceof Promise && regs.rethooks !== undefined) {
      result.then(
        (value) => {
          regs.retval = value;
          handlers.kretprobeTrampoline(regs, 'settle');
        },
        (error) => {
          regs.retval = undefined;
          regs.threw = true;
          regs.error = error;
          handlers.kretprobeTrampoline(regs, 'settle');
        },
      );
    } else {
      handlers.kretprobeTrampoline(regs, 'settle');
    }
    return result;
  }

  #armed(addr: bigint): Site | undefined {
    const site = this.#sites.get(addr);
    return site?.demands === undefined ? undefined : site;
  }

  lookupName(name: string): bigint | undefined {
    return this.#functions.get(name)?.symbol.address;
  }

  lookupAddr(addr: bigint): TextSymbol | undefined {
    for (const { symbol } of this.#functions.values()) {
      if (addr >= symbol.address && addr < symbol.address + BigInt(symbol.size)) return symbol;
    }
    return undefined;
  }

  similarNames(name: string): readonly string[] {
    return [...this.#functions.keys()].filter((known) => known.startsWith(name.slice(0, 3)));
  }

  prepareKprobe(slot: KprobeSlot, p: Kprobe): void {
    const symbol = slot.symbol!;
    const definition = this.#functions.get(symbol.name)!;
    const offset = Number(slot.addr - symbol.address);
    if (!definition.offsets.has(offset))
      throw new KernelError('EILSEQ', `${symbol.name}+${offset} is not the start of a statement`);
    if (definition.ftrace && offset === 0) p.flags |= KPROBE_FLAG_FTRACE;
    this.#sites.set(slot.addr, { slot, demands: undefined, rewritten: false });
    this.log.push(`prepare ${symbol.name}`);
  }

  async armKprobe(slot: KprobeSlot, demands: KprobeDemands): Promise<void> {
    await null;
    if (this.stubborn.has(slot.symbol!.name)) throw new KernelError('EBUSY', 'stubborn');
    this.#sites.get(slot.addr)!.demands = demands;
    this.log.push(
      `arm ${slot.symbol!.name}${demands.post ? ' post' : ''}${demands.returns.map((event) => ` ${event}`).join('')}`,
    );
  }

  async disarmKprobe(slot: KprobeSlot): Promise<void> {
    await null;
    const site = this.#sites.get(slot.addr)!;
    if (site.rewritten) throw new Error('disarmed while rewritten');
    site.demands = undefined;
    this.log.push(`disarm ${slot.symbol!.name}`);
  }

  removeKprobe(slot: KprobeSlot): void {
    this.#sites.delete(slot.addr);
    this.log.push(`remove ${slot.symbol!.name}`);
  }

  prepareOptimizedKprobe(slot: KprobeSlot): boolean {
    return !this.never.has(slot.symbol!.name);
  }

  async optimizeKprobes(
    slots: readonly KprobeSlot[],
    demands: readonly KprobeDemands[],
  ): Promise<OptimizeOutcome[]> {
    await null;
    this.log.push(`optimize ${slots.map((slot) => slot.symbol!.name).join(' ')}`);
    return slots.map((slot, i) => {
      const site = this.#sites.get(slot.addr)!;
      if (site.demands === undefined) throw new Error('optimized while not armed');
      if (demands[i]!.post) throw new Error('optimized with a post handler');
      if (this.later.has(slot.symbol!.name)) return 'later';
      site.rewritten = true;
      return 'done';
    });
  }

  async unoptimizeKprobes(slots: readonly KprobeSlot[]): Promise<void> {
    await null;
    for (const slot of slots) {
      this.#sites.get(slot.addr)!.rewritten = false;
      this.log.push(`unoptimize ${slot.symbol!.name}`);
    }
  }

  // Delayed work runs when the test says so.
  readonly #work: { work: () => void; delayMs: number }[] = [];

  scheduleDelayedWork(work: () => void, delayMs: number): () => void {
    const entry = { work, delayMs };
    this.#work.push(entry);
    return () => {
      const at = this.#work.indexOf(entry);
      if (at >= 0) this.#work.splice(at, 1);
    };
  }

  get delayedWork(): number {
    return this.#work.length;
  }

  /** The delay has passed: runs the work that waits now, and waits until it is done. */
  async tick(): Promise<void> {
    for (const { work } of this.#work.splice(0)) work();
    // The work queues behind the mutex: an operation that changes nothing comes after it.
    await this.kprobes.unregisterKprobes([]);
  }
}
