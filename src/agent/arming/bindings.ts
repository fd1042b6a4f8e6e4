/**
 * Bindings that are replaced from the condition of a one-shot breakpoint at their function's entry, in the frame of the first
 * natural call: with closures over the function's scope, which put them back later with no call of the application needed.
 *
 * The breakpoint stays for a short window: every call of the original passes it, so a call that did not come through
 * the wrapper is known, counted, and its entry programs run all the same.
 */

import type { BindItem } from '../worker/requests.ts';
import { type BindStatus, type Bound, waiting } from './bound.ts';
import { replaceHolders } from './holders.ts';
import { getOwnPropertyDescriptor } from './intrinsics.ts';
import { isOfText, methodMember } from './members.ts';
import type { HookNotice } from './notice.ts';
import { type ArmingTools, attempt, type TellEntry } from './tools.ts';
import { Windows } from './windows.ts';

/** Hits of a breakpoint, at some 0.1 ms each, while a constant waits for its turn, and while a live edit is being made. */
const CONSTANT_HITS = 2000;
const ESCAPE_HITS = 2000;

/** What a walk may cost the main thread. */
const WALK = { objects: 50_000, depth: 8, ms: 8 } as const;
const EXPORTS = { objects: 20_000, depth: 1, ms: 4 } as const;
/** For references to functions of many scripts at once so many times as much. */
const MOST_SCRIPTS = 3;

/** What the condition has of the frame: the scope's variable, a pause in that scope, `this`, and the arguments. */
export interface BreakFrame {
  readonly get: (() => unknown) | undefined;
  readonly set: ((value: unknown) => void) | undefined;
  readonly enter: () => void;
  readonly self: unknown;
  readonly args: () => unknown[];
}

export class Bindings {
  readonly #tools: ArmingTools;
  readonly #entry: TellEntry;
  readonly #sites = new Map<number, Bound>();
  readonly windows: Windows;

  constructor(tools: ArmingTools, entry: TellEntry) {
    this.#tools = tools;
    this.#entry = entry;
    this.windows = new Windows(tools, this.#sites);
  }

  expect(items: readonly BindItem[]): void {
    for (const item of items) this.#sites.set(item.site, waiting(item));
  }

  get(site: number): Bound | undefined {
    return this.#sites.get(site);
  }

  /** The breakpoint was passed. */
  pass(site: number, frame: BreakFrame): void {
    const bound = this.#sites.get(site);
    if (bound === undefined || bound.state === 'restored') return;
    const { agent, notify, now } = this.#tools;
    bound.hits++;
    const state = bound.state;
    if (state === 'waiting') {
      bound.since = now();
      this.#bind(bound, frame);
    }
    const calls = agent.calls(site);
    // through the wrapper the counter has moved since the last pass; else nobody has counted this call yet
    // (a generator passes at its first next(), which says of one call only that it was made)
    if (state === 'waiting' || (!bound.item.isGenerator && calls === bound.last)) {
      if (state === 'bound') bound.escaped++;
      // the call that replaces the binding began before the probe was in place: for programs that want to see its end it is
      // none, since half of it would leave behind what its entry noted
      const begins = state === 'waiting' && (bound.state as string) !== 'missed';
      if (begins && bound.item.ends) agent.addUnseen(site);
      else this.#entry(site, frame.self, frame.args);
    }
    bound.last = agent.calls(site);
    if (state === 'waiting') {
      notify({ site, state: bound.state as HookNotice['state'] }, bound.item.window <= 1);
    } else if (state === 'const') {
      // counted here until the constant is replaced, unless that would hold the application up for too long
      if (bound.hits === CONSTANT_HITS) notify({ site, state: 'drop' }, true);
    } else if (state === 'missed') {
      // counted here until something else is in place
      if (bound.hits === ESCAPE_HITS) notify({ site, state: 'drop' }, true);
    } else if (bound.hits >= bound.item.window && !bound.told) {
      bound.told = true;
      // calls that escape go on being counted here until something better is in place
      notify({ site, state: bound.escaped > 0 ? 'escaping' : 'settled' }, bound.escaped === 0);
    } else if (bound.hits === ESCAPE_HITS) notify({ site, state: 'crowded' }, true);
  }

  #bind(bound: Bound, { get, set, enter, self }: BreakFrame): void {
    const { agent, types } = this.#tools;
    const { target, site } = bound.item;
    bound.state = 'missed';
    if (target.via === 'variable') {
      const original = attempt(get);
      if (!isOfText(original, bound.item.text, types)) return;
      bound.original = original;
      bound.wrapper = agent.wrap(site, original);
      bound.enter = enter;
      bound.get = get;
      if (!target.constant && set !== undefined) {
        attempt(() => set(bound.wrapper));
        if (attempt(get) === bound.wrapper) {
          bound.set = set;
          bound.state = 'bound';
          bound.undo.push({
            undo: () => {
              if (attempt(get) === bound.wrapper) set(original);
              return attempt(get) !== bound.wrapper;
            },
          });
          return;
        }
      }
      bound.state = 'const';
      return;
    }
    const found = methodMember(bound.item, self, get, types);
    if (found === undefined) return;
    bound.original = found.value;
    bound.wrapper = agent.wrap(site, found.value);
    const replacement = found.replace(bound.wrapper);
    if (replacement === undefined) return;
    bound.undo.push(replacement);
    bound.state = 'bound';
  }

  status(site: number): BindStatus | undefined {
    const bound = this.#sites.get(site);
    if (bound === undefined) return undefined;
    const { state, hits, escaped, undo } = bound;
    return { state, hits, escaped, holders: Math.max(0, undo.length - 1) };
  }

  /**
   * Enters the scope of a constant binding from an empty stack: the worker, which has asked for the pause, replaces the
   * variable. The fewer frames a pause has, the shorter it is: V8 analyses the script of each.
   */
  enterScope(site: number): void {
    const bound = this.#sites.get(site);
    if (bound?.enter === undefined) return;
    const { enter } = bound;
    const { immediate, now } = this.#tools;
    immediate(() => {
      const before = now();
      attempt(enter);
      bound.scopeMs = now() - before;
    });
  }

  constantDone(site: number): boolean {
    const bound = this.#sites.get(site);
    if (bound === undefined) return false;
    const done = attempt(bound.get) === bound.wrapper;
    if (done) bound.state = 'bound';
    return done;
  }

  /** See Arming.replaceHolders(). */
  replaceHolders(
    sites: readonly number[],
    scripts: number,
    scopes: readonly unknown[],
  ): (readonly [site: number, count: number])[] {
    const { cache, now, types } = this.#tools;
    const swap = new Map<unknown, unknown>();
    const owner = new Map<unknown, Bound>();
    for (const site of sites) {
      const bound = this.#sites.get(site);
      if (bound?.state !== 'bound' || bound.item.target.via === 'property') continue;
      swap.set(bound.original, bound.wrapper);
      owner.set(bound.original, bound);
    }
    if (swap.size === 0) return [];
    const { process } = globalThis as unknown as {
      process: { _getActiveHandles?(): unknown[]; _getActiveRequests?(): unknown[] };
    };
    const handles = (attempt(() => process._getActiveHandles?.()) as unknown[] | undefined) ?? [];
    const exports: unknown[] = [];
    for (const key of Reflect.ownKeys(cache)) exports.push(getOwnPropertyDescriptor(cache, key)?.value);
    const many = Math.min(MOST_SCRIPTS, scripts);
    const budget = { ...WALK, objects: WALK.objects * many, ms: WALK.ms * many };
    const walks = [
      replaceHolders([process, ...scopes, ...handles], swap, types, budget, now),
      replaceHolders(exports, swap, types, EXPORTS, now),
    ];
    const counts = new Map<number, number>();
    for (const { of, replacement } of walks.flatMap(({ replaced }) => replaced)) {
      const bound = owner.get(of);
      if (bound === undefined) continue;
      bound.undo.push(replacement);
      counts.set(bound.item.site, (counts.get(bound.item.site) ?? 0) + 1);
    }
    return [...counts];
  }

  /** Its replacements are undone: what came past it is told, and nothing more is counted. */
  restored(site: number): void {
    const bound = this.#sites.get(site);
    if (bound === undefined) return;
    this.windows.end(bound);
    bound.state = 'restored';
    this.#sites.delete(site);
  }
}
