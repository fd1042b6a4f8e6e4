/** Breakpoint probes: their entry programs run in the condition, as long as the slice's budget lasts. */

import type { BreakItem } from '../worker/requests.ts';
import type { ArmingTools, TellEntry } from './tools.ts';

/** Time that breakpoint probes, all together, may take of each slice. */
const BREAK_SLICE_MS = 250;
const BREAK_BUDGET_MS = 25;

interface Breakpoint {
  readonly firstMs: number;
  readonly nextMs: number;
  /** It was hit before. */
  known: boolean;
  hits: number;
}

export interface BreakSlice {
  readonly tookMs: number;
  readonly spentMs: number;
  readonly hits: readonly (readonly [site: number, hits: number])[];
}

export class BreakSlices {
  readonly #tools: ArmingTools;
  readonly #entry: TellEntry;
  readonly #breaks = new Map<number, Breakpoint>();
  #slice = { since: 0, spentMs: 0, told: false };

  constructor(tools: ArmingTools, entry: TellEntry) {
    this.#tools = tools;
    this.#entry = entry;
  }

  expect(items: readonly BreakItem[]): void {
    for (const { site, firstMs, nextMs } of items)
      this.#breaks.set(site, { firstMs, nextMs, known: false, hits: 0 });
  }

  /** Hits of the slice by site, and how long it has lasted. */
  slice(): BreakSlice {
    const { since, spentMs } = this.#slice;
    const hits: [number, number][] = [];
    for (const [site, state] of this.#breaks) if (state.hits > 0) hits.push([site, state.hits]);
    return { tookMs: this.#tools.now() - since, spentMs, hits };
  }

  begin(): void {
    this.#slice = { since: this.#tools.now(), spentMs: 0, told: false };
    for (const state of this.#breaks.values()) state.hits = 0;
  }

  /** A breakpoint was passed; false where it is none of these. */
  pass(site: number, self: unknown, args: () => unknown[]): boolean {
    const state = this.#breaks.get(site);
    if (state === undefined) return false;
    // passed once more before V8 has come to switch breakpoints off: the programs run all the same
    if (!this.#slice.told && this.#tools.now() - this.#slice.since > BREAK_SLICE_MS) this.begin();
    const slice = this.#slice;
    state.hits++;
    slice.spentMs += state.known ? state.nextMs : state.firstMs;
    state.known = true;
    this.#entry(site, self, args);
    if (slice.told || slice.spentMs < BREAK_BUDGET_MS) return true;
    slice.told = true;
    this.#tools.notify({ site, state: 'limit' }, true);
    return true;
  }

  delete(site: number): void {
    this.#breaks.delete(site);
  }
}
