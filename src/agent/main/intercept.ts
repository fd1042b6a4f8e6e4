/** Wrappers (trampoline.ts) whose calls are told to a function of the agent's instead of to programs. */
import { READS } from '../../kernel/trace/pt-regs.ts';
import type { Interception } from '../agent-main.ts';
import type { SiteEnv, SiteEventState } from './site-code.ts';
import { newSite } from './sites.ts';
import type { Trampolines } from './trampoline.ts';
import type { Values } from './values.ts';

/** Below the numbers that tracers give: such sites share their code, as there may be a hundred of them. */
let nextId = -1;

export function createIntercept(
  trampolines: Trampolines,
  values: Values,
  state: SiteEnv['state'],
): (original: unknown, isAsync: boolean) => Interception {
  /** Told outside of the hit: what an observer tells of may be a hit of its own. */
  function eventOf(
    tell: ((self: unknown, args: unknown[], value: unknown, error: unknown) => void) | undefined,
  ): SiteEventState | undefined {
    if (tell === undefined) return undefined;
    const single = (): number => {
      const { args, self, value, error } = values.hit;
      values.release();
      state.busy = 0;
      try {
        tell(self, args as unknown[], value, error);
      } catch {
        // nothing of ours may reach the application
      }
      state.busy = 1;
      return 0;
    };
    return { mask: READS.raw | READS.allArgs, single, programs: [], cookies: [] };
  }

  return (original, isAsync) => {
    const site = newSite(nextId--);
    site.on = 1;
    site.keeps = 1;
    const wrapper = trampolines.wrap(site, original);
    return {
      wrapper,
      tell({ entry, exit, settle }) {
        site.entry = eventOf(entry);
        site.settle = isAsync ? eventOf(settle) : undefined;
        site.ret = isAsync ? undefined : eventOf(exit);
        site.isAsync = site.settle !== undefined;
        site.exits = site.ret === undefined && site.settle === undefined ? 0 : 1;
        site.catches = site.ret === undefined ? 0 : 1;
      },
      stop: () => {
        site.on = 0;
        trampolines.unwrap(wrapper);
      },
    };
  };
}
