/** What the parts of arming have in common. */

import type { AgentMain } from '../agent-main.ts';
import type { WalkTypes } from './holders.ts';
import { apply } from './intrinsics.ts';
import type { HookNotice } from './notice.ts';

export interface ArmingTools {
  readonly agent: AgentMain;
  readonly types: WalkTypes;
  /** `require.cache` of the CommonJS modules. */
  readonly cache: Record<string, { exports?: unknown } | undefined>;
  /** Tells the worker, and, if asked to, waits a moment until it has acted. */
  readonly notify: (message: HookNotice, wait: boolean) => void;
  /** In ms. */
  readonly now: () => number;
  /** In a turn of the event loop, from an empty stack. */
  readonly immediate: (callback: () => void) => unknown;
}

/** Node's clock: nothing of the application is asked. */
export function clock(): () => number {
  const { hrtime } = process;
  return () => {
    const time = apply(hrtime, process, []) as [number, number];
    return time[0] * 1e3 + time[1] / 1e6;
  };
}

/** Undefined where it throws: nothing of ours may reach the application. */
export function attempt<T>(operation: (() => T) | undefined): T | undefined {
  try {
    return operation?.();
  } catch {
    return undefined;
  }
}

/** Has a call's entry programs run: for one that came by a breakpoint, not through a wrapper. */
export type TellEntry = (site: number, self: unknown, args: () => unknown[]) => void;
