/**
 * Windows: while the breakpoint of a replaced binding is there, calls that come past the wrapper are seen; in between they are
 * estimated.
 */

import type { Bound } from './bound.ts';
import type { ArmingTools } from './tools.ts';

export class Windows {
  readonly #tools: ArmingTools;
  readonly #sites: ReadonlyMap<number, Bound>;

  constructor(tools: ArmingTools, sites: ReadonlyMap<number, Bound>) {
    this.#tools = tools;
    this.#sites = sites;
  }

  /** Their breakpoints have gone: what comes past the bindings is not seen from here on. */
  leave(sites: readonly number[]): void {
    const { agent, now } = this.#tools;
    for (const site of sites) {
      const bound = this.#sites.get(site);
      if (bound === undefined || bound.state !== 'bound') continue;
      this.#tellQuiet(bound);
      bound.unseen ??= { ms: now(), calls: agent.calls(site) };
    }
  }

  /** Before counts are read. */
  tellUnseen(): void {
    for (const [site, bound] of this.#sites) {
      if (bound.unseen === undefined || bound.escaped === 0) continue;
      this.#tellUnseen(bound);
      this.leave([site]);
    }
  }

  /** Nobody will look again. */
  end(bound: Bound): void {
    this.#tellQuiet(bound);
    this.#tellUnseen(bound);
  }

  /** Calls that escaped since the breakpoint has gone are missed, as many as the share that escaped before says. */
  #tellUnseen(bound: Bound): void {
    const { item, unseen } = bound;
    if (unseen === undefined) return;
    bound.unseen = undefined;
    const { ms, calls } = unseen;
    const { agent, now } = this.#tools;
    agent.addMissed(item.site, escapes(bound, agent.calls(item.site) - calls, now() - ms, ms));
  }

  /** The same for the time before a window, if it shows that calls had begun to escape in it. */
  #tellQuiet(bound: Bound): void {
    const { item, quiet } = bound;
    bound.quiet = undefined;
    if (quiet === undefined) return;
    const { agent, now } = this.#tools;
    agent.addMissed(item.site, escapes(bound, quiet.calls, quiet.ms, now()));
  }

  /** Counts escapes anew: what led past the wrapper before may be gone. Returns how many there were. */
  begin(site: number): number {
    const bound = this.#sites.get(site);
    if (bound === undefined) return 0;
    const { escaped } = bound;
    this.end(bound);
    bound.hits = 1;
    bound.escaped = 0;
    bound.told = false;
    bound.since = this.#tools.now();
    return escaped;
  }

  /**
   * Windows after ones in which nobody looked. We may be at an interrupt between the count that a wrapper has just made and the
   * original that it is about to call, whose breakpoint would then count that call again; a turn of the event loop has no such
   * place. The notices say that the breakpoints may come.
   */
  reopen(sites: readonly number[]): void {
    const { agent, immediate, notify, now } = this.#tools;
    immediate(() => {
      for (const site of sites) {
        const bound = this.#sites.get(site);
        if (bound === undefined) continue;
        const { unseen, escaped } = bound;
        this.begin(site);
        bound.last = agent.calls(site);
        if (unseen !== undefined && escaped === 0)
          bound.quiet = { ms: now() - unseen.ms, calls: bound.last - unseen.calls };
        notify({ site, state: 'window' }, false);
      }
    });
  }
}

/**
 * How many calls escape while so many come by the wrapper, or in so many ms where none does: as in the window that ended at `until`.
 * The window's first pass is the call that replaced the binding.
 */
function escapes({ hits, escaped, since }: Bound, calls: number, ms: number, until: number): number {
  const passed = hits - 1 - escaped;
  const estimate = passed > 0 ? (escaped / passed) * calls : (escaped / Math.max(1, until - since)) * ms;
  return Math.round(estimate);
}
