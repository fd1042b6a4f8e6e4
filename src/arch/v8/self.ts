/**
 * kprobes in the own process, with JavaScript handlers: the architecture below src/kernel/kprobes for the thread that
 * loads this module. docs/kprobes.md says how it is used.
 *
 * A probe on an entry or a statement is armed by a breakpoint that never stops (the trap, some 50 µs a hit) and soon
 * after rewritten by a live edit together with others. Return probes and post handlers need the live edit at once.
 */
import { KernelError } from '../../kernel/errno.ts';
import {
  type AnyKretprobe,
  KPROBE_FLAG_FTRACE,
  type Kprobe,
  type KprobeArch,
  type KprobeDemands,
  type KprobeSlot,
  Kprobes,
  type Kretprobe,
  type OptimizeOutcome,
  type TextSymbol,
} from '../../kernel/kprobes/index.ts';
import { blacklistReason } from './blacklist.ts';
import { lineSite } from './instrument-line.ts';
import { nopRegistry, nopScript, SelfHooks, SelfToString } from './self-hooks.ts';
import { SelfInspector } from './self-inspector.ts';
import { type Applied, SelfScript, type Site } from './self-script.ts';
import { SelfText } from './self-text.ts';
import { LineTable } from './symbols-lines.ts';

/** Pauses in ms before a live edit that V8 refused for the moment is tried again. Each try stops the thread. */
const RETRY_MS = [5, 40, 200, 1000];
/** The inspector session is closed when it has not been needed for so long. */
const IDLE_MS = 1000;

const sleep = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms));

export class SelfArch implements KprobeArch {
  readonly #inspector = new SelfInspector();
  readonly #text = new SelfText(this.#inspector);
  readonly #toString = new SelfToString();
  readonly #scripts = new Map<string, SelfScript>();
  #hooks!: SelfHooks;
  #nextId = 1;
  #idle: NodeJS.Timeout | undefined;
  #repair: NodeJS.Timeout | undefined;
  #repairs = 0;

  /** The core whose handlers the sites call; set once, before anything else. */
  attach(kprobes: Kprobes): void {
    this.#hooks = new SelfHooks(kprobes.handlers);
  }

  lookupName(symbolName: string): bigint | undefined {
    this.#touch();
    return this.#text.lookupName(symbolName);
  }

  lookupAddr(addr: bigint): TextSymbol | undefined {
    return this.#text.textSymbol(addr);
  }

  prepareKprobe(slot: KprobeSlot, p: Kprobe): void {
    this.#touch();
    const symbol = this.#text.function(slot.addr);
    const text = this.#text.script(slot.addr);
    if (symbol === undefined || text === undefined)
      throw new KernelError('ENOENT', 'the address is in no function');
    const reason = blacklistReason(symbol.file);
    if (reason !== undefined) throw new KernelError('EINVAL', `${symbol.name} cannot be probed: ${reason}`);
    let at: number | undefined;
    if (slot.addr !== symbol.address) {
      at = Number(slot.addr - text.base);
      const { line, column } = new LineTable(text.source).position(at);
      const site = lineSite(text.source, text.info.isModule, symbol, line + 1, column + 1);
      if (site?.offset !== at) {
        throw new KernelError('EILSEQ', `no statement of ${symbol.name} begins at +${at - symbol.start}`, {
          hint: site === undefined ? undefined : `the next one begins at +${site.offset - symbol.start}`,
        });
      }
    }
    if (at === undefined && nopForm(text.info.url, symbol.index) > 0) p.flags |= KPROBE_FLAG_FTRACE;
    let script = this.#scripts.get(text.info.scriptId);
    if (script === undefined) {
      script = new SelfScript(text, this.#inspector, this.#hooks);
      this.#scripts.set(text.info.scriptId, script);
    }
    const site: Site = {
      id: this.#nextId++,
      slot,
      script,
      symbol,
      isAsync: symbol.isAsync,
      at,
      demands: { post: false, returns: [] },
      mode: 'off',
      armed: false,
      breakpoint: undefined,
    };
    slot.arch = site;
    script.sites.add(site);
  }

  async armKprobe(slot: KprobeSlot, demands: KprobeDemands): Promise<void> {
    this.#touch();
    const site = slot.arch as Site;
    const before = { mode: site.mode, demands: site.demands, armed: site.armed };
    site.demands = demands;
    site.armed = true;
    if (this.#nop(site)) return;
    if (site.mode === 'nop') this.#removeNop(site);
    if (!needsEdit(site) && this.#trap(site)) return;
    site.mode = 'edit';
    site.script.removeTrap(site);
    const problem = await this.#edit(site);
    if (problem === undefined) return;
    site.mode = before.mode;
    site.demands = before.demands;
    site.armed = before.armed;
    if (site.mode === 'trap') site.script.setTrap(site);
    if (site.mode === 'nop') this.#nop(site);
    throw problem;
  }

  /** A site that trapline/register compiled in: no debugger, no stop. It has no place behind a statement. */
  #nop(site: Site): boolean {
    if (site.at !== undefined || site.demands.post) return false;
    const url = nopScript(site.script.text.info.url);
    if (url === undefined || nopForm(url, site.symbol.index) === 0) return false;
    const ends = site.demands.returns.length > 0;
    if (!nopRegistry()!.arm(url, site.symbol.index, this.#hooks.forNop(site), ends)) return false;
    site.mode = 'nop';
    return true;
  }

  #removeNop(site: Site): void {
    const url = nopScript(site.script.text.info.url);
    if (url !== undefined) nopRegistry()!.disarm(url, site.symbol.index);
    site.mode = 'off';
  }

  /** Not where V8 cannot stop, or stops for another site already (an entry, and its first statement). */
  #trap(site: Site): boolean {
    const before = site.mode;
    try {
      site.mode = 'trap';
      site.script.setTrap(site);
    } catch (error) {
      if (!(error instanceof KernelError)) throw error;
    }
    if (site.breakpoint === undefined) site.mode = before;
    return site.breakpoint !== undefined;
  }

  disarmKprobe(slot: KprobeSlot): void {
    this.#touch();
    const site = slot.arch as Site;
    site.armed = false;
    if (site.mode === 'nop') this.#removeNop(site);
    site.mode = 'off';
    site.script.removeTrap(site);
    if (site.script.calls(site)) this.#applyOrRepair(site.script);
  }

  removeKprobe(slot: KprobeSlot): void {
    const site = slot.arch as Site;
    site.script.sites.delete(site);
    if (!site.script.calls(site)) this.#hooks.remove(site.id);
    this.#touch();
  }

  prepareOptimizedKprobe(): boolean {
    return true;
  }

  optimizeKprobes(slots: readonly KprobeSlot[]): OptimizeOutcome[] {
    this.#touch();
    const outcomes = new Map<Site, OptimizeOutcome>();
    const byScript = new Map<SelfScript, Site[]>();
    for (const slot of slots) {
      const site = slot.arch as Site;
      if (site.mode === 'edit') outcomes.set(site, 'done');
      else if (byScript.has(site.script)) byScript.get(site.script)!.push(site);
      else byScript.set(site.script, [site]);
    }
    for (const [script, sites] of byScript) {
      if (script.editHazard !== undefined) for (const site of sites) outcomes.set(site, 'never');
      else this.#optimize(script, sites, outcomes);
    }
    return slots.map((slot) => outcomes.get(slot.arch as Site) ?? 'later');
  }

  /** All of a script's sites in one edit; if a call under way is in the way, those that cannot be suspended. */
  #optimize(script: SelfScript, sites: Site[], outcomes: Map<Site, OptimizeOutcome>): void {
    const plain = sites.filter(({ symbol }) => !symbol.isAsync && !symbol.isGenerator);
    const tries = plain.length > 0 && plain.length < sites.length ? [sites, plain] : [sites];
    for (const list of tries) {
      for (const site of sites) site.mode = list.includes(site) ? 'edit' : 'trap';
      const applied = script.apply();
      if (applied.status === 'CompileError') {
        for (const site of list) outcomes.set(site, 'never');
      } else if (applied.status === 'Ok') {
        for (const site of list) outcomes.set(site, applied.refused.has(site) ? 'never' : 'done');
        this.#updateToString();
        break;
      }
    }
    for (const site of sites) {
      if (outcomes.get(site) === 'done') continue;
      if (!this.#trap(site)) site.mode = 'off';
    }
  }

  unoptimizeKprobes(slots: readonly KprobeSlot[]): void {
    this.#touch();
    const scripts = new Set<SelfScript>();
    for (const slot of slots) {
      const site = slot.arch as Site;
      if (needsEdit(site)) continue;
      site.mode = 'trap';
      scripts.add(site.script);
    }
    for (const script of scripts) this.#applyOrRepair(script);
  }

  scheduleDelayedWork(work: () => void, delayMs: number): () => void {
    const timer = setTimeout(work, delayMs);
    timer.unref();
    return () => clearTimeout(timer);
  }

  /** Restores what can be and closes the inspector. */
  close(): void {
    clearTimeout(this.#idle);
    for (const script of this.#scripts.values()) if (!script.settled) script.apply();
    this.#updateToString();
    this.#inspector.close();
  }

  /** Brings a script's text in line for one new site, with patience. */
  async #edit(site: Site): Promise<KernelError | undefined> {
    const name = site.symbol.name;
    let applied: Applied = site.script.apply();
    for (const ms of RETRY_MS) {
      if (!applied.status.startsWith('BlockedByActive')) break;
      await sleep(ms);
      applied = site.script.apply();
    }
    this.#updateToString();
    if (applied.status !== 'Ok') {
      if (applied.status === 'CompileError')
        return new KernelError('EIO', `V8 refused the edit of ${name}: ${applied.message}`);
      return new KernelError('EBUSY', `${name} has calls under way that keep it from being edited`, {
        hint: `V8 says ${applied.status}; load the program with trapline/register to probe it at any time`,
      });
    }
    const reason = applied.refused.get(site);
    return reason === undefined ? undefined : new KernelError('EOPNOTSUPP', `${name}: ${reason}`);
  }

  /** The text is restored now, or as soon as V8 allows it; its hooks do nothing until then. */
  #applyOrRepair(script: SelfScript): void {
    const { status } = script.apply();
    this.#updateToString();
    if (status === 'Ok' || this.#repair !== undefined) return;
    const delay = Math.min(30_000, 20 * 2 ** this.#repairs++);
    this.#repair = setTimeout(() => {
      this.#repair = undefined;
      if (this.#inspector.isOpen && !script.settled) this.#applyOrRepair(script);
      else this.#repairs = 0;
    }, delay);
    this.#repair.unref();
  }

  #updateToString(): void {
    this.#toString.set([...this.#scripts.values()].flatMap(({ texts }) => texts));
  }

  #touch(): void {
    this.#inspector.open();
    clearTimeout(this.#idle);
    this.#idle = setTimeout(() => {
      for (const [id, script] of this.#scripts) {
        if (script.sites.size > 0 || !script.settled) {
          this.#touch();
          return;
        }
        this.#scripts.delete(id);
      }
      this.#inspector.close();
    }, IDLE_MS);
    this.#idle.unref();
  }
}

/** A trap cannot see where a call ends or what comes behind a statement, and it hits a generator at its first next(). */
function needsEdit({ demands, symbol, at }: Site): boolean {
  return demands.post || demands.returns.length > 0 || (symbol.isGenerator && at === undefined);
}

/** What kind of site a function has (src/register/README.md); 0 is none. */
function nopForm(url: string, index: number): number {
  const name = nopScript(url);
  return name === undefined ? 0 : (nopRegistry()!.scripts.get(name)!.forms[index] ?? 0);
}

let self: Kprobes | undefined;

/** The kprobes of this thread. */
export function selfKprobes(): Kprobes {
  if (self === undefined) {
    const arch = new SelfArch();
    self = new Kprobes(arch);
    arch.attach(self);
  }
  return self;
}

export const registerKprobe = (p: Kprobe): Promise<void> => selfKprobes().registerKprobe(p);
export const unregisterKprobe = (p: Kprobe): Promise<void> => selfKprobes().unregisterKprobe(p);
export const registerKprobes = (ps: readonly Kprobe[]): Promise<void> => selfKprobes().registerKprobes(ps);
export const unregisterKprobes = (ps: readonly Kprobe[]): Promise<void> =>
  selfKprobes().unregisterKprobes(ps);
export const enableKprobe = (p: Kprobe): Promise<void> => selfKprobes().enableKprobe(p);
export const disableKprobe = (p: Kprobe): Promise<void> => selfKprobes().disableKprobe(p);
export const registerKretprobe = <D>(rp: Kretprobe<D>): Promise<void> => selfKprobes().registerKretprobe(rp);
export const unregisterKretprobe = <D>(rp: Kretprobe<D>): Promise<void> =>
  selfKprobes().unregisterKretprobe(rp);
export const registerKretprobes = (rps: readonly AnyKretprobe[]): Promise<void> =>
  selfKprobes().registerKretprobes(rps);
export const unregisterKretprobes = (rps: readonly AnyKretprobe[]): Promise<void> =>
  selfKprobes().unregisterKretprobes(rps);
export const enableKretprobe = <D>(rp: Kretprobe<D>): Promise<void> => selfKprobes().enableKretprobe(rp);
export const disableKretprobe = <D>(rp: Kretprobe<D>): Promise<void> => selfKprobes().disableKretprobe(rp);
