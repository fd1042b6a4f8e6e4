/** What is known of a site whose binding is replaced, or waits to be. */

import type { BindItem } from '../worker/requests.ts';
import type { Replacement } from './holders.ts';

export interface Bound {
  readonly item: BindItem;
  state: 'waiting' | 'const' | 'bound' | 'missed' | 'restored';
  original: unknown;
  wrapper: unknown;
  /** Pauses in the function's scope when called: `() => { debugger }`. */
  enter: (() => void) | undefined;
  set: ((value: unknown) => void) | undefined;
  get: (() => unknown) | undefined;
  readonly undo: Replacement[];
  /** Counter of the site when the breakpoint was last passed. */
  last: number;
  hits: number;
  escaped: number;
  /** The end of the window has been told. */
  told: boolean;
  /** Since when nobody has looked, the breakpoint having been taken away: the time, and the site's count. */
  unseen: { readonly ms: number; readonly calls: number } | undefined;
  /** Nobody looked for so long, and nothing had escaped before: what the next window shows tells of that time too. */
  quiet: { readonly ms: number; readonly calls: number } | undefined;
  /** When the window began. */
  since: number;
  scopeMs: number;
}

export interface BindStatus {
  readonly state: Bound['state'];
  readonly hits: number;
  readonly escaped: number;
  readonly holders: number;
}

/** One whose breakpoint has still to be passed. */
export const waiting = (item: BindItem): Bound => ({
  item,
  state: 'waiting',
  original: undefined,
  wrapper: undefined,
  enter: undefined,
  set: undefined,
  get: undefined,
  undo: [],
  last: 0,
  hits: 0,
  escaped: 0,
  told: false,
  unseen: undefined,
  quiet: undefined,
  since: 0,
  scopeMs: 0,
});
