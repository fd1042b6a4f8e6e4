/** Breakpoint probes, which share a budget of the main thread's time. */

import type { BreakSlice } from '../arming/arming.ts';
import { type ArmContext, reasonOf, SELF } from './arm-context.ts';
import type { BreakItem } from './requests.ts';

/** Share of the main thread's time that breakpoint probes may take, and the slice it is measured in. */
const BREAK_SHARE = 0.1;
const BREAK_SLICE_MS = 250;
/** A breakpoint with this share of a slice's hits is removed while they are off. */
const HOT_SHARE = 0.1;

interface BreakLog {
  readonly item: BreakItem;
  breakpoint: string | undefined;
  /** Hits that came while breakpoints were off, by their rate before. */
  missed: number;
}

export class Breaks {
  readonly #context: ArmContext;
  // the undo log
  readonly #breaks = new Map<number, BreakLog>();
  /** Runs while the breakpoints of the session are off: their budget is used up. */
  #breakTimer: NodeJS.Timeout | undefined;

  constructor(context: ArmContext) {
    this.#context = context;
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

  async add(item: BreakItem): Promise<number> {
    await this.#context.prepareHooks([item.site]);
    const before = this.#breaks.get(item.site);
    if (before !== undefined) await this.#context.removeBreakpoint(before).catch(() => undefined);
    const log: BreakLog = { item, breakpoint: undefined, missed: before?.missed ?? 0 };
    this.#breaks.set(item.site, log);
    await this.#context.session.call(this.#context.main, 'expectBreak', item.site, item.firstMs, item.nextMs);
    try {
      return await this.#setBreak(log);
    } catch (error) {
      this.#breaks.delete(item.site);
      throw error;
    }
  }

  async #setBreak(log: BreakLog): Promise<number> {
    const { site, at, args } = log.item;
    const hook = `globalThis[${JSON.stringify(this.#context.hookName)}]`;
    const condition = `${hook}(${site},undefined,undefined,undefined,${SELF},()=>[${args}])`;
    const { value, ms } = await this.#context.session.stopping('set breakpoint', () =>
      this.#context.setBreakpoint(at, condition),
    );
    log.breakpoint = value;
    return ms;
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
          await this.#context.removeBreakpoint(log);
          hot.push(log);
        }
        const tookMs = Math.max(1, slice.tookMs);
        const setMs = hot.length * (this.#context.session.longest.get('set breakpoint') ?? 0);
        const waitMs = Math.max(BREAK_SLICE_MS, (slice.spentMs + setMs) / BREAK_SHARE) - tookMs;
        clearTimeout(this.#breakTimer);
        this.#breakTimer = setTimeout(() => this.#activate(slice, hot, tookMs, since), Math.max(1, waitMs));
      })
      .catch((error) => this.#activationFailed(error));
  }

  #activate(slice: BreakSlice, hot: readonly BreakLog[], tookMs: number, since: number): void {
    void this.#context
      .step(async () => {
        this.#breakTimer = undefined;
        for (const log of hot) {
          if (this.#breaks.get(log.item.site) === log && log.breakpoint === undefined)
            await this.#setBreak(log);
        }
        await this.#context.session.call(this.#context.main, 'newBreakSlice');
        await this.#context.session.post('Debugger.setBreakpointsActive', { active: true });
        for (const [site, hits] of slice.hits) {
          const log = this.#breaks.get(site);
          if (log === undefined) continue;
          log.missed += Math.round(((performance.now() - since) * hits) / tookMs);
          this.#context.events.onArmed({ site, state: 'limited', pauseMs: 0, missed: log.missed });
        }
      })
      .catch((error) => this.#activationFailed(error));
  }

  #activationFailed(error: unknown): void {
    this.#breakTimer = undefined;
    this.#context.events.onWarning(`breakpoint probes are off: ${reasonOf(error)}`);
  }

  async undo(chosen: (site: number) => boolean): Promise<number[]> {
    const sites: number[] = [];
    for (const [site, log] of this.#breaks) {
      if (!chosen(site)) continue;
      this.#breaks.delete(site);
      await this.#context.attempt('its breakpoint', [site], `breakpoint ${site}`, () =>
        this.#context.removeBreakpoint(log),
      );
      await this.#context.attempt('its breakpoint', [site], `site ${site}`, () =>
        this.#context.session.call(this.#context.main, 'undo', [site]),
      );
      this.#context.restored.functions++;
      sites.push(site);
    }
    return sites;
  }
}
