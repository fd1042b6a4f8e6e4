/** Sites that trapline/register has compiled in: switched on and off. */

import type { AgentMain } from '../agent-main.ts';
import type { NopItem } from '../worker/requests.ts';
import type { Replacement } from './holders.ts';

/** Of src/register/registry.ts, as far as arming needs it. */
interface SiteRegistry {
  readonly scripts: ReadonlyMap<string, { readonly flags: Uint8Array }>;
  arm(url: string, index: number, hooks: Record<'e' | 'r' | 't' | 's', unknown>, ends: boolean): boolean;
  disarm(url: string, index: number): void;
}

export class CompiledInSites {
  readonly #agent: AgentMain;
  readonly #replaced: Map<number, Replacement[]>;
  /** By function. */
  readonly #sites = new Map<string, number>();

  /** `replaced`: what each site has to be undone by. */
  constructor(agent: AgentMain, replaced: Map<number, Replacement[]>) {
    this.#agent = agent;
    this.#replaced = replaced;
  }

  /** Switches one on; false where there is none, or it is taken, or it cannot tell what is wanted. */
  arm({ site, url, index, ends }: NopItem): boolean {
    const globals = globalThis as unknown as Record<PropertyKey, unknown>;
    const registry = globals[Symbol.for('trapline.sites')] as SiteRegistry | undefined;
    const script = registry?.scripts.get(url);
    if (registry === undefined || script === undefined) return false;
    const place = `${index} ${url}`;
    const before = this.#sites.get(place);
    // somebody else's
    if (before === undefined && script.flags[index] !== 0) return false;
    // the hooks themselves are wanted, not the globals that edited text calls them by
    this.#agent.installHooks([site], []);
    const hook = (letter: string): unknown => globals[`${this.#agent.prefix}${site}${letter}`];
    const hooks = { e: hook('e'), r: hook('r'), t: hook('t'), s: hook('s') };
    this.#agent.removeHooks([site]);
    if (!registry.arm(url, index, hooks, ends)) return false;
    // a site that follows more of the call takes the place of the one before
    if (before !== undefined) this.#replaced.set(before, []);
    this.#sites.set(place, site);
    this.#replaced.set(site, [
      {
        undo: () => {
          registry.disarm(url, index);
          return true;
        },
      },
    ]);
    return true;
  }
}
