/**
 * Rebinding, on the main thread. The condition of a one-shot breakpoint at a function's entry calls `hook()` in the
 * frame of the first natural call, with closures over the function's scope: the binding is read and replaced there,
 * and the same closures put it back later, with no call of the application needed.
 *
 * The breakpoint stays for a short window: every call of the original passes it, so a call that did not come through
 * the wrapper is known, counted, and its entry programs run all the same.
 */

import { nativePlace } from '../../arch/v8/stale-code.ts';
import type { AgentMain } from '../agent-main.ts';
import type { BindItem, BreakItem, NopItem, PropertyItem } from '../worker/requests.ts';
import { Contexts } from './contexts.ts';
import {
  type Replacement,
  replaceAccessor,
  replaceHolders,
  replaceProperty,
  type WalkTypes,
} from './holders.ts';
import { keepHooks } from './inert-hooks.ts';
import {
  apply,
  getOwnPropertyDescriptor,
  getPrototypeOf,
  isFunction,
  isObject,
  textOf,
} from './intrinsics.ts';
import { Waiters, type WaiterTools } from './waiters.ts';

export interface ArmingOptions {
  readonly agent: AgentMain;
  readonly require: (id: string) => unknown;
  /** Tells the worker, and, if asked to, waits a moment until it has acted. */
  readonly notify: (message: HookNotice, wait: boolean) => void;
}

export interface HookNotice {
  readonly site: number;
  /**
   * Of a binding: replaced; to be replaced by the worker; not reached. Of its window: no call of so many has escaped; some have; too
   * many have passed (`crowded`); it may be opened. `drop`: the breakpoint is too dear for what waits. `limit`: of breakpoint probes.
   */
  readonly state:
    | 'bound'
    | 'const'
    | 'missed'
    | 'settled'
    | 'escaping'
    | 'crowded'
    | 'window'
    | 'drop'
    | 'limit';
}

interface Bound {
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

/** Hits of a breakpoint, at some 0.1 ms each, while a constant waits for its turn, and while a live edit is being made. */
const CONSTANT_HITS = 2000;
const ESCAPE_HITS = 2000;

/** Time that breakpoint probes, all together, may take of each slice. */
const BREAK_SLICE_MS = 250;
const BREAK_BUDGET_MS = 25;

/** What a walk may cost the main thread. */
const WALK = { objects: 50_000, depth: 8, ms: 8 } as const;
const EXPORTS = { objects: 20_000, depth: 1, ms: 4 } as const;
/** For references to functions of many scripts at once so many times as much. */
const MOST_SCRIPTS = 3;

export class Arming {
  readonly #agent: AgentMain;
  readonly #notify: ArmingOptions['notify'];
  readonly #types: WalkTypes;
  readonly #cache: Record<string, { exports?: unknown } | undefined>;
  readonly #now: () => number;
  readonly #immediate: (callback: () => void) => unknown;
  readonly #sites = new Map<number, Bound>();
  readonly #breaks = new Map<number, Breakpoint>();
  readonly #candidates = new Map<number, Candidate>();
  readonly #properties = new Map<number, Replacement[]>();
  /** Sites that are compiled in, by function. */
  readonly #compiledIn = new Map<string, number>();
  readonly #hookName: string;
  readonly #contexts: Contexts;
  readonly #waiters: Waiters;
  /** Of the main context and of others that were reached. */
  readonly #globals: object[] = [globalThis];

  constructor({ agent, require: builtin, notify }: ArmingOptions) {
    this.#agent = agent;
    this.#notify = notify;
    const util = builtin('util') as { types: WalkTypes & WaiterTools; inspect: WaiterTools['inspect'] };
    this.#types = util.types;
    this.#cache = (builtin('module') as { _cache: Record<string, { exports?: unknown }> })._cache;
    const { hrtime } = process;
    this.#now = () => {
      const time = apply(hrtime, process, []) as [number, number];
      return time[0] * 1e3 + time[1] / 1e6;
    };
    this.#immediate = (builtin('timers') as { setImmediate: (callback: () => void) => unknown }).setImmediate;
    this.#hookName = `${agent.prefix}h`;
    this.#contexts = new Contexts(agent.prefix);
    this.#waiters = new Waiters({
      isPromise: util.types.isPromise,
      inspect: util.inspect,
      now: this.#now,
    });
  }

  /** The name of the hook that conditions call; it exists while a breakpoint does. */
  hookName(): string {
    return this.#hookName;
  }

  prefix(): string {
    return this.#agent.prefix;
  }

  installHook(): void {
    const descriptor: PropertyDescriptor = {
      value: (
        site: number,
        get: (() => unknown) | undefined,
        set: ((value: unknown) => void) | undefined,
        enter: () => void,
        self: unknown,
        args: () => unknown[],
      ): false => {
        try {
          this.#hook(site, get, set, enter, self, args);
        } catch {
          // nothing of ours may reach the application; the worker sees that nothing was bound
        }
        return false;
      },
      enumerable: false,
      configurable: true,
      writable: false,
    };
    for (const global of this.#globals) Reflect.defineProperty(global, this.#hookName, descriptor);
  }

  removeHook(): void {
    for (const global of this.#globals) Reflect.deleteProperty(global, this.#hookName);
  }

  contextKey(): string {
    return this.#contexts.key;
  }

  openContext(): void {
    this.#contexts.open();
  }

  /** Hooks are globals of the context that has been asked between open and close, too, from now on. */
  closeContext(): boolean {
    const global = this.#contexts.close();
    if (global === undefined || !this.#agent.addGlobal(global)) return false;
    if (!this.#globals.includes(global)) this.#globals.push(global);
    const hook = getOwnPropertyDescriptor(globalThis, this.#hookName);
    if (hook !== undefined) Reflect.defineProperty(global, this.#hookName, hook);
    return true;
  }

  expect(items: readonly BindItem[]): void {
    for (const item of items) {
      this.#sites.set(item.site, {
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
    }
  }

  /** Breakpoint probes: their entry programs run in the condition, as long as the slice's budget lasts. */
  expectBreak(items: readonly BreakItem[]): void {
    for (const { site, firstMs, nextMs } of items)
      this.#breaks.set(site, { firstMs, nextMs, known: false, hits: 0 });
  }

  #slice = { since: 0, spentMs: 0, told: false };

  /** Hits of the slice by site, and how long it has lasted. */
  breakSlice(): BreakSlice {
    const { since, spentMs } = this.#slice;
    const hits: [number, number][] = [];
    for (const [site, state] of this.#breaks) if (state.hits > 0) hits.push([site, state.hits]);
    return { tookMs: this.#now() - since, spentMs, hits };
  }

  newBreakSlice(): void {
    this.#slice = { since: this.#now(), spentMs: 0, told: false };
    for (const state of this.#breaks.values()) state.hits = 0;
  }

  #passBreak(site: number, state: Breakpoint, self: unknown, args: () => unknown[]): void {
    // passed once more before V8 has come to switch breakpoints off: the programs run all the same
    if (!this.#slice.told && this.#now() - this.#slice.since > BREAK_SLICE_MS) this.newBreakSlice();
    const slice = this.#slice;
    state.hits++;
    slice.spentMs += state.known ? state.nextMs : state.firstMs;
    state.known = true;
    this.#entry(site, self, args);
    if (slice.told || slice.spentMs < BREAK_BUDGET_MS) return;
    slice.told = true;
    this.#notify({ site, state: 'limit' }, true);
  }

  #hook(
    site: number,
    get: (() => unknown) | undefined,
    set: ((value: unknown) => void) | undefined,
    enter: () => void,
    self: unknown,
    args: () => unknown[],
  ): void {
    const limited = this.#breaks.get(site);
    if (limited !== undefined) {
      this.#passBreak(site, limited, self, args);
      return;
    }
    const bound = this.#sites.get(site);
    if (bound === undefined || bound.state === 'restored') return;
    bound.hits++;
    const state = bound.state;
    if (state === 'waiting') {
      bound.since = this.#now();
      this.#bind(bound, get, set, enter, self);
    }
    const calls = this.#count(site);
    // through the wrapper the counter has moved since the last pass; else nobody has counted this call yet
    // (a generator passes at its first next(), which says of one call only that it was made)
    if (state === 'waiting' || (!bound.item.isGenerator && calls === bound.last)) {
      if (state === 'bound') bound.escaped++;
      // the call that replaces the binding began before the probe was in place: for programs that want to see its end it is
      // none, since half of it would leave behind what its entry noted
      const begins = state === 'waiting' && (bound.state as string) !== 'missed';
      if (!(begins && bound.item.ends)) this.#entry(site, self, args);
    }
    bound.last = this.#count(site);
    if (state === 'waiting') {
      this.#notify({ site, state: bound.state as HookNotice['state'] }, bound.item.window <= 1);
    } else if (state === 'const') {
      // counted here until the constant is replaced, unless that would hold the application up for too long
      if (bound.hits === CONSTANT_HITS) this.#notify({ site, state: 'drop' }, true);
    } else if (state === 'missed') {
      // counted here until something else is in place
      if (bound.hits === ESCAPE_HITS) this.#notify({ site, state: 'drop' }, true);
    } else if (bound.hits >= bound.item.window && !bound.told) {
      bound.told = true;
      // calls that escape go on being counted here until something better is in place
      this.#notify({ site, state: bound.escaped > 0 ? 'escaping' : 'settled' }, bound.escaped === 0);
    } else if (bound.hits === ESCAPE_HITS) this.#notify({ site, state: 'crowded' }, true);
  }

  /** Their breakpoints have gone: what comes past the bindings is not seen from here on. */
  leaveWindow(sites: readonly number[]): void {
    for (const site of sites) {
      const bound = this.#sites.get(site);
      if (bound === undefined || bound.state !== 'bound') continue;
      this.#tellQuiet(bound);
      bound.unseen ??= { ms: this.#now(), calls: this.#count(site) };
    }
  }

  /** Before counts are read. */
  tellUnseen(): void {
    for (const [site, bound] of this.#sites) {
      if (bound.unseen === undefined || bound.escaped === 0) continue;
      this.#tellUnseen(bound);
      this.leaveWindow([site]);
    }
  }

  /** Calls that escaped since the breakpoint has gone are missed, as many as the share that escaped before says. */
  #tellUnseen(bound: Bound): void {
    const { item, unseen } = bound;
    if (unseen === undefined) return;
    bound.unseen = undefined;
    const { ms, calls } = unseen;
    this.#agent.addMissed(item.site, escapes(bound, this.#count(item.site) - calls, this.#now() - ms, ms));
  }

  /** The same for the time before a window, if it shows that calls had begun to escape in it. */
  #tellQuiet(bound: Bound): void {
    const { item, quiet } = bound;
    bound.quiet = undefined;
    if (quiet !== undefined)
      this.#agent.addMissed(item.site, escapes(bound, quiet.calls, quiet.ms, this.#now()));
  }

  #bind(
    bound: Bound,
    get: (() => unknown) | undefined,
    set: ((value: unknown) => void) | undefined,
    enter: () => void,
    self: unknown,
  ): void {
    const { target, site } = bound.item;
    bound.state = 'missed';
    if (target.via === 'variable') {
      const original = attempt(get);
      if (!this.#matches(original, bound.item.text)) return;
      bound.original = original;
      bound.wrapper = this.#agent.wrap(site, original);
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
    const found = this.#methodHolder(bound.item, self, get);
    if (found === undefined) return;
    bound.original = found.value;
    bound.wrapper = this.#agent.wrap(site, found.value);
    const replacement = found.replace(bound.wrapper);
    if (replacement === undefined) return;
    bound.undo.push(replacement);
    bound.state = 'bound';
  }

  /** From `this` up its prototypes, else from the class's name; by own properties only. */
  #methodHolder(item: BindItem, self: unknown, getClass: (() => unknown) | undefined): Candidate | undefined {
    if (item.target.via !== 'property') return undefined;
    const { key, accessor, isStatic } = item.target;
    let holder: unknown = self;
    for (let level = 0; level < 32 && isObject(holder) && !this.#types.isProxy(holder); level++) {
      const found = this.#member(holder, key, accessor, item.text);
      if (found !== undefined) return found;
      holder = getPrototypeOf(holder);
    }
    const made = attempt(getClass);
    if (!isFunction(made)) return undefined;
    const home: unknown = isStatic ? made : getOwnPropertyDescriptor(made, 'prototype')?.value;
    return isObject(home) ? this.#member(home, key, accessor, item.text) : undefined;
  }

  #member(holder: object, key: string, half: 'get' | 'set' | undefined, text: string): Candidate | undefined {
    const descriptor = getOwnPropertyDescriptor(holder, key);
    if (descriptor === undefined) return undefined;
    const value: unknown = half === undefined ? descriptor.value : descriptor[half];
    if (!this.#matches(value, text)) return undefined;
    const replace = (wrapper: unknown): Replacement | undefined =>
      half === undefined
        ? replaceProperty(holder, key, wrapper)
        : replaceAccessor(holder, key, half, wrapper);
    return { value, replace };
  }

  #matches(value: unknown, text: string): boolean {
    if (!isFunction(value) || this.#types.isProxy(value)) return false;
    return textOf(value) === text;
  }

  #entry(site: number, self: unknown, args: () => unknown[]): void {
    const hook = (globalThis as Record<string, unknown>)[`${this.#agent.prefix}${site}b`];
    if (!isFunction(hook)) return;
    apply(hook, undefined, [self, ...((attempt(args) as unknown[] | undefined) ?? [])] as never);
  }

  #count(site: number): number {
    return this.#agent.calls(site);
  }

  /** Counts escapes anew: what led past the wrappers before may be gone. Returns how many there were of each. */
  newWindow(sites: readonly number[]): number[] {
    return sites.map((site) => this.#newWindow(site));
  }

  #newWindow(site: number): number {
    const bound = this.#sites.get(site);
    if (bound === undefined) return 0;
    const { escaped } = bound;
    this.#tellQuiet(bound);
    this.#tellUnseen(bound);
    bound.hits = 1;
    bound.escaped = 0;
    bound.told = false;
    bound.since = this.#now();
    return escaped;
  }

  /**
   * Windows after ones in which nobody looked. We may be at an interrupt between the count that a wrapper has just made and the
   * original that it is about to call, whose breakpoint would then count that call again; a turn of the event loop has no such
   * place. The notices say that the breakpoints may come.
   */
  reopenWindow(sites: readonly number[]): void {
    this.#immediate(() => {
      for (const site of sites) {
        const bound = this.#sites.get(site);
        if (bound === undefined) continue;
        const { unseen, escaped } = bound;
        this.#newWindow(site);
        bound.last = this.#count(site);
        if (unseen !== undefined && escaped === 0)
          bound.quiet = { ms: this.#now() - unseen.ms, calls: bound.last - unseen.calls };
        this.#notify({ site, state: 'window' }, false);
      }
    });
  }

  status(sites: readonly number[]): (BindStatus | undefined)[] {
    return sites.map((site) => {
      const bound = this.#sites.get(site);
      if (bound === undefined) return undefined;
      const { state, hits, escaped, undo } = bound;
      return { state, hits, escaped, holders: Math.max(0, undo.length - 1) };
    });
  }

  /**
   * Enters the scope of a constant binding from an empty stack: the worker, which has asked for the pause, replaces the
   * variable. The fewer frames a pause has, the shorter it is: V8 analyses the script of each.
   */
  enterScope(site: number): void {
    const bound = this.#sites.get(site);
    if (bound?.enter === undefined) return;
    const { enter } = bound;
    this.#immediate(() => {
      const before = this.#now();
      attempt(enter);
      bound.scopeMs = this.#now() - before;
    });
  }

  /** How long the last pause in its scope held the main thread up. */
  scopeMs(site: number): number {
    return this.#sites.get(site)?.scopeMs ?? 0;
  }

  /** What the worker puts in place of a constant: the wrapper, or the original again. */
  constant(site: number, original: boolean): unknown {
    const bound = this.#sites.get(site);
    return original ? bound?.original : bound?.wrapper;
  }

  constantDone(site: number): boolean {
    const bound = this.#sites.get(site);
    if (bound === undefined) return false;
    const done = attempt(bound.get) === bound.wrapper;
    if (done) bound.state = 'bound';
    return done;
  }

  /**
   * Replaces references that were taken before: in the given scopes, in what handles listen with, in exports. `scripts` is how many
   * scripts the sites are in. Returns how many there were of each site.
   */
  replaceHolders(
    sites: readonly number[],
    scripts: number,
    ...scopes: unknown[]
  ): (readonly [site: number, count: number])[] {
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
    for (const key of Reflect.ownKeys(this.#cache))
      exports.push(getOwnPropertyDescriptor(this.#cache, key)?.value);
    const many = Math.min(MOST_SCRIPTS, scripts);
    const budget = { ...WALK, objects: WALK.objects * many, ms: WALK.ms * many };
    const walks = [
      replaceHolders([process, ...scopes, ...handles], swap, this.#types, budget, this.#now),
      replaceHolders(exports, swap, this.#types, EXPORTS, this.#now),
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

  /** Finds functions by way of their modules' exports; true for each that is there. */
  find(items: readonly PropertyItem[]): boolean[] {
    return items.map((item) => this.#find(item));
  }

  #find(item: PropertyItem): boolean {
    const module = getOwnPropertyDescriptor(this.#cache, item.file)?.value as
      | { exports?: unknown }
      | undefined;
    if (!isObject(module)) return false;
    const exports: unknown = getOwnPropertyDescriptor(module, 'exports')?.value;
    const seen = new Set<unknown>();
    let level: unknown[] = [exports];
    for (let depth = 0; depth < 4 && level.length > 0 && seen.size < 5000; depth++) {
      const next: unknown[] = [];
      for (const holder of level) {
        if (!isObject(holder) || seen.has(holder) || this.#types.isProxy(holder)) continue;
        if (this.#types.isModuleNamespaceObject(holder)) continue;
        seen.add(holder);
        const found = this.#member(holder, item.key, item.accessor, item.text);
        if (found !== undefined) {
          this.#candidates.set(item.site, found);
          return true;
        }
        for (const key of Reflect.ownKeys(holder)) {
          const descriptor = getOwnPropertyDescriptor(holder, key);
          if (descriptor !== undefined && 'value' in descriptor) next.push(descriptor.value);
        }
        next.push(getPrototypeOf(holder));
      }
      level = next;
    }
    return false;
  }

  /** Switches a compiled-in site on; false where there is none, or it is taken, or it cannot tell what is wanted. */
  armSite({ site, url, index, ends }: NopItem): boolean {
    const globals = globalThis as unknown as Record<PropertyKey, unknown>;
    const registry = globals[Symbol.for('trapline.sites')] as SiteRegistry | undefined;
    const script = registry?.scripts.get(url);
    if (registry === undefined || script === undefined) return false;
    const place = `${index} ${url}`;
    const before = this.#compiledIn.get(place);
    // somebody else's
    if (before === undefined && script.flags[index] !== 0) return false;
    // the hooks themselves are wanted, not the globals that edited text calls them by
    this.#agent.installHooks([site], []);
    const hook = (letter: string): unknown => globals[`${this.#agent.prefix}${site}${letter}`];
    const hooks = { e: hook('e'), r: hook('r'), t: hook('t'), s: hook('s') };
    this.#agent.removeHooks([site]);
    if (!registry.arm(url, index, hooks, ends)) return false;
    // a site that follows more of the call takes the place of the one before
    if (before !== undefined) this.#properties.set(before, []);
    this.#compiledIn.set(place, site);
    this.#properties.set(site, [
      {
        undo: () => {
          registry.disarm(url, index);
          return true;
        },
      },
    ]);
    return true;
  }

  /** The function that was found, for the worker to compare V8's location of it. */
  candidate(site: number): unknown {
    return this.#candidates.get(site)?.value;
  }

  bindProperty(sites: readonly number[]): boolean[] {
    return sites.map((site) => this.#bindProperty(site));
  }

  #bindProperty(site: number): boolean {
    const candidate = this.#candidates.get(site);
    if (candidate === undefined) return false;
    const replacement = candidate.replace(this.#agent.wrap(site, candidate.value));
    if (replacement === undefined) return false;
    this.#properties.set(site, [replacement]);
    return true;
  }

  keepHooks(sites: readonly number[]): void {
    keepHooks(this.#agent.prefix, sites, this.#globals);
  }

  nativePlace(): unknown {
    return nativePlace(this.#types.isProxy)?.value;
  }

  promisePrototype(): object {
    return this.#waiters.prototype();
  }

  /** Looks for promises that V8 may have notes on, so many at a time: where to go on, undefined at the end. */
  lookForWaited(promises: readonly unknown[], from: number): number | undefined {
    return this.#waiters.look(promises, from);
  }

  waited(): unknown[] {
    return this.#waiters.take();
  }

  /** Puts back everything of some sites, newest first; constants are the worker's to restore before. */
  undo(sites: readonly number[]): UndoReport {
    let count = 0;
    const kept: number[] = [];
    for (const site of sites) {
      const bound = this.#sites.get(site);
      const replacements = [...(this.#properties.get(site) ?? []), ...(bound?.undo ?? [])];
      let all = true;
      for (const replacement of replacements.reverse()) {
        if (attempt(() => replacement.undo()) !== true) all = false;
      }
      if (!all) kept.push(site);
      else if (replacements.length > 0 || bound?.state === 'bound') count++;
      if (bound !== undefined) {
        this.#tellQuiet(bound);
        this.#tellUnseen(bound);
        bound.state = 'restored';
      }
      this.#properties.delete(site);
      this.#candidates.delete(site);
      this.#sites.delete(site);
      this.#breaks.delete(site);
    }
    return { count, kept };
  }
}

/** Sites with everything back, and those with something that could not be put back. */
export interface UndoReport {
  readonly count: number;
  readonly kept: readonly number[];
}

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

/** Of src/register/registry.ts, as far as arming needs it. */
interface SiteRegistry {
  readonly scripts: ReadonlyMap<string, { readonly flags: Uint8Array }>;
  arm(url: string, index: number, hooks: Record<'e' | 'r' | 't' | 's', unknown>, ends: boolean): boolean;
  disarm(url: string, index: number): void;
}

interface Candidate {
  readonly value: unknown;
  replace(wrapper: unknown): Replacement | undefined;
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

function attempt<T>(operation: (() => T) | undefined): T | undefined {
  try {
    return operation?.();
  } catch {
    return undefined;
  }
}

export function createArming(options: ArmingOptions): Arming {
  return new Arming(options);
}
