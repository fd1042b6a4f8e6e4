/** Breakpoint probes, which share a budget of the main thread's time. */

import type { BreakSlice } from '../arming/break-slices.ts';
import { type ArmContext, reasonOf, SELF } from './arm-context.ts';
import type { Breakpoints, WantedBreakpoint } from './breakpoints.ts';
import type { ArmResult, BreakItem, StopLimits } from './requests.ts';

/** Share of the main thread's time that breakpoint probes may take, and the slice it is measured in. */
const BREAK_SHARE = 0.1;
const BREAK_SLICE_MS = 250;
/** A breakpoint with this share of a slice's hits is removed while they are off. */
const HOT_SHARE = 0.1;

interface BreakLog {
  readonly item: BreakItem;
  readonly limits: StopLimits;
  breakpoint: string | undefined;
  /** Hits that came while breakpoints were off, by their rate before. */
  missed: number;
}

/** A time in which breakpoints are off. */
interface Off {
  /** As far as it was told, by performance.now(). */
  since: number;
  /** Hits of each site in the slice before, and how long that took. */
  readonly hits: BreakSlice['hits'];
  readonly tookMs: number;
}

export class Breaks {
  readonly #context: ArmContext;
  readonly #breakpoints: Breakpoints;
  readonly #replace: (sites: readonly number[]) => Promise<unknown>;
  // the undo log
  readonly #breaks = new Map<number, BreakLog>();
  /** Runs while the breakpoints of the session are off: their budget is used up. */
  #breakTimer: NodeJS.Timeout | undefined;
  #off: Off | undefined;

  /** `replace` posts at once what takes away the breakpoints of bindings in whose place others come. */
  constructor(
    context: ArmContext,
    breakpoints: Breakpoints,
    replace: (sites: readonly number[]) => Promise<unknown>,
  ) {
    this.#context = context;
    this.#breakpoints = breakpoints;
    this.#replace = replace;
  }

  get size(): number {
    return this.#breaks.size;
  }

  has(site: number): boolean {
    return this.#breaks.has(site);
  }

  close(): void {
    clearTimeout(this.#breakTimer);
  }

  /** Not to be called inside a step. */
  async add(items: readonly BreakItem[], limits: StopLimits): Promise<ArmResult[]> {
    const { session, agent, main } = this.#context;
    const results: ArmResult[] = [];
    const wanted = items.map((item): WantedBreakpoint & { readonly log: BreakLog } => {
      const { site } = item;
      const before = this.#breaks.get(site);
      const log: BreakLog = { item, limits, breakpoint: before?.breakpoint, missed: before?.missed ?? 0 };
      this.#breaks.set(site, log);
      return {
        log,
        ...this.#wanted(log),
        wanted: () => this.#breaks.get(site) === log,
        placed: (breakpoint, pauseMs, waitedMs) => {
          log.breakpoint = breakpoint;
          results.push({ kind: 'break', sites: [site], ok: true, pauseMs, waitedMs });
        },
        failed: (error) => {
          if (this.#breaks.get(site) === log) this.#breaks.delete(site);
          results.push({ kind: 'break', sites: [site], ok: false, pauseMs: 0, reason: reasonOf(error) });
        },
      };
    });
    await this.#breakpoints.set(wanted, limits, (batch) => {
      const all = batch.map(({ log }) => log.item);
      const sites = all.map(({ site }) => site);
      // those that stand there count until these do
      return Promise.all([
        session.call(agent, 'installHooks', sites, []),
        session.call(main, 'expectBreak', all),
        this.#replace(sites),
        ...batch.map(({ log }) => this.#context.removeBreakpoint(log).catch(() => undefined)),
      ]);
    });
    return results;
  }

  #wanted(log: BreakLog): Pick<WantedBreakpoint, 'at' | 'until' | 'condition' | 'wanted'> {
    const { site, at, until, args } = log.item;
    return {
      at,
      until,
      condition: () => {
        const hook = `globalThis[${JSON.stringify(this.#context.hookName)}]`;
        return `${hook}(${site},undefined,undefined,undefined,${SELF},()=>[${args}])`;
      },
      wanted: () => this.#breaks.get(site) === log && log.breakpoint === undefined,
    };
  }

  /**
   * Breakpoint probes have used up their share of the main thread's time, all together: they are switched off until the
   * next slice. That is done at once and walks no heap, but each call still passes the place, which takes microseconds, and
   * is not optimized: those hit most are removed too, which makes the pause the longer the longer it takes to set them
   * again. Bindings that wait for their first call wait so long too. What is missed is known by the rate before only.
   */
  limit(): void {
    if (this.#breakTimer !== undefined) return;
    const off = this.#context.session.post('Debugger.setBreakpointsActive', { active: false });
    off.catch(() => undefined);
    const since = performance.now();
    this.#breakTimer = setTimeout(() => undefined, BREAK_SLICE_MS);
    void this.#context
      .step(async () => {
        await off;
        const slice = (await this.#context.session.call(this.#context.main, 'breakSlice')) as BreakSlice;
        const all = slice.hits.reduce((sum, [, hits]) => sum + hits, 0);
        const hot: BreakLog[] = [];
        for (const [site, hits] of slice.hits) {
          const log = this.#breaks.get(site);
          if (log === undefined || hits < all * HOT_SHARE) continue;
          hot.push(log);
        }
        await Promise.all(hot.map((log) => this.#context.removeBreakpoint(log)));
        const tookMs = Math.max(1, slice.tookMs);
        const setMs = hot.length * (this.#context.session.longest.get('set breakpoint') ?? 0);
        const waitMs = Math.max(BREAK_SLICE_MS, (slice.spentMs + setMs) / BREAK_SHARE) - tookMs;
        this.#off = { since, hits: slice.hits, tookMs };
        clearTimeout(this.#breakTimer);
        const activate = () => {
          this.#activate(hot).catch((error) => this.#activationFailed(error));
        };
        this.#breakTimer = setTimeout(activate, Math.max(1, waitMs));
      })
      .catch((error) => this.#activationFailed(error));
  }

  async #activate(hot: readonly BreakLog[]): Promise<void> {
    const again = hot.map((log): WantedBreakpoint => {
      return {
        ...this.#wanted(log),
        placed: (breakpoint) => {
          log.breakpoint = breakpoint;
        },
        failed: () => undefined,
      };
    });
    const [first] = hot;
    if (first !== undefined) await this.#breakpoints.set(again, first.limits, () => Promise.resolve());
    await this.#context.step(async () => {
      this.#breakTimer = undefined;
      await this.#context.session.call(this.#context.main, 'newBreakSlice');
      await this.#context.session.post('Debugger.setBreakpointsActive', { active: true });
      this.#tellMissed();
      this.#off = undefined;
    });
  }

  #tellMissed(): void {
    if (this.#off === undefined) return;
    const { since, hits: seen, tookMs } = this.#off;
    this.#off.since = performance.now();
    for (const [site, hits] of seen) {
      const log = this.#breaks.get(site);
      if (log === undefined) continue;
      log.missed += Math.round(((this.#off.since - since) * hits) / tookMs);
      this.#context.events.onArmed({ site, state: 'limited', pauseMs: 0, missed: log.missed });
    }
  }

  #activationFailed(error: unknown): void {
    this.#breakTimer = undefined;
    this.#context.events.onWarning(`breakpoint probes are off: ${reasonOf(error)}`);
  }

  async undo(chosen: (site: number) => boolean): Promise<number[]> {
    this.#tellMissed();
    const logs = [...this.#breaks.values()].filter(({ item }) => chosen(item.site));
    const sites = logs.map(({ item }) => item.site);
    if (sites.length === 0) return sites;
    const { session, main, restored } = this.#context;
    await Promise.all(
      logs.map((log) => {
        const { site } = log.item;
        this.#breaks.delete(site);
        return this.#context.attempt('its breakpoint', [site], `breakpoint ${site}`, () =>
          this.#context.removeBreakpoint(log),
        );
      }),
    );
    await this.#context.attempt('its breakpoint', sites, `sites ${sites}`, () =>
      session.call(main, 'undo', sites),
    );
    restored.functions += sites.length;
    return sites;
  }
}
