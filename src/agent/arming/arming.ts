/**
 * Arming on the main thread: what the worker calls. The condition of a breakpoint calls `hook()` in the frame of a natural call, which
 * goes on to the bindings or to the breakpoint probes; sites that need no breakpoint are switched on by themselves.
 */

import { nativePlace } from '../../arch/v8/stale-code.ts';
import type { AgentMain } from '../agent-main.ts';
import type { BindItem, BreakItem, NopItem, PropertyItem } from '../worker/requests.ts';
import { Bindings } from './bindings.ts';
import type { BindStatus } from './bound.ts';
import { type BreakSlice, BreakSlices } from './break-slices.ts';
import { CompiledInSites } from './compiled-in.ts';
import { Contexts } from './contexts.ts';
import type { Replacement, WalkTypes } from './holders.ts';
import { keepHooks } from './inert-hooks.ts';
import { apply, getOwnPropertyDescriptor, isFunction } from './intrinsics.ts';
import { exportedMember, type Member } from './members.ts';
import { type ArmingTools, attempt, clock, type TellEntry } from './tools.ts';
import { Waiters, type WaiterTools } from './waiters.ts';

export interface ArmingOptions {
  readonly agent: AgentMain;
  readonly require: (id: string) => unknown;
  readonly notify: ArmingTools['notify'];
}

/** Sites with everything back, and those with something that could not be put back. */
export interface UndoReport {
  readonly count: number;
  readonly kept: readonly number[];
}

export class Arming {
  readonly #tools: ArmingTools;
  readonly #bindings: Bindings;
  readonly #breaks: BreakSlices;
  /** What bindProperty() may replace. */
  readonly #members = new Map<number, Member>();
  /** How sites by property and compiled-in ones are undone. */
  readonly #replaced = new Map<number, Replacement[]>();
  readonly #compiledIn: CompiledInSites;
  readonly #hookName: string;
  readonly #contexts: Contexts;
  readonly #waiters: Waiters;
  /** Of the main context and of others that were reached. */
  readonly #globals: object[] = [globalThis];

  constructor({ agent, require: builtin, notify }: ArmingOptions) {
    const util = builtin('util') as { types: WalkTypes & WaiterTools; inspect: WaiterTools['inspect'] };
    const now = clock();
    this.#tools = {
      agent,
      notify,
      now,
      types: util.types,
      cache: (builtin('module') as { _cache: ArmingTools['cache'] })._cache,
      immediate: (builtin('timers') as { setImmediate: ArmingTools['immediate'] }).setImmediate,
    };
    const entry: TellEntry = (site, self, args) => this.#entry(site, self, args);
    this.#bindings = new Bindings(this.#tools, entry);
    this.#breaks = new BreakSlices(this.#tools, entry);
    this.#compiledIn = new CompiledInSites(agent, this.#replaced);
    this.#hookName = `${agent.prefix}h`;
    this.#contexts = new Contexts(agent.prefix);
    this.#waiters = new Waiters({ isPromise: util.types.isPromise, inspect: util.inspect, now });
  }

  /** The name of the hook that conditions call; it exists while a breakpoint does. */
  hookName(): string {
    return this.#hookName;
  }

  prefix(): string {
    return this.#tools.agent.prefix;
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
          if (!this.#breaks.pass(site, self, args))
            this.#bindings.pass(site, { get, set, enter, self, args });
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

  #entry(site: number, self: unknown, args: () => unknown[]): void {
    const hook = (globalThis as Record<string, unknown>)[`${this.prefix()}${site}b`];
    if (!isFunction(hook)) return;
    apply(hook, undefined, [self, ...((attempt(args) as unknown[] | undefined) ?? [])] as never);
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
    if (global === undefined || !this.#tools.agent.addGlobal(global)) return false;
    if (!this.#globals.includes(global)) this.#globals.push(global);
    const hook = getOwnPropertyDescriptor(globalThis, this.#hookName);
    if (hook !== undefined) Reflect.defineProperty(global, this.#hookName, hook);
    return true;
  }

  expect(items: readonly BindItem[]): void {
    this.#bindings.expect(items);
  }

  expectBreak(items: readonly BreakItem[]): void {
    this.#breaks.expect(items);
  }

  breakSlice(): BreakSlice {
    return this.#breaks.slice();
  }

  newBreakSlice(): void {
    this.#breaks.begin();
  }

  leaveWindow(sites: readonly number[]): void {
    this.#bindings.windows.leave(sites);
  }

  tellUnseen(): void {
    this.#bindings.windows.tellUnseen();
  }

  newWindow(sites: readonly number[]): number[] {
    return sites.map((site) => this.#bindings.windows.begin(site));
  }

  reopenWindow(sites: readonly number[]): void {
    this.#bindings.windows.reopen(sites);
  }

  status(sites: readonly number[]): (BindStatus | undefined)[] {
    return sites.map((site) => this.#bindings.status(site));
  }

  enterScope(site: number): void {
    this.#bindings.enterScope(site);
  }

  /** How long the last pause in its scope held the main thread up. */
  scopeMs(site: number): number {
    return this.#bindings.get(site)?.scopeMs ?? 0;
  }

  /** What the worker puts in place of a constant: the wrapper, or the original again. */
  constant(site: number, original: boolean): unknown {
    const bound = this.#bindings.get(site);
    return original ? bound?.original : bound?.wrapper;
  }

  constantDone(site: number): boolean {
    return this.#bindings.constantDone(site);
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
    return this.#bindings.replaceHolders(sites, scripts, scopes);
  }

  /** Finds functions by way of their modules' exports; true for each that is there. */
  find(items: readonly PropertyItem[]): boolean[] {
    const { cache, types } = this.#tools;
    return items.map((item) => {
      const found = exportedMember(getOwnPropertyDescriptor(cache, item.file)?.value, item, types);
      if (found !== undefined) this.#members.set(item.site, found);
      return found !== undefined;
    });
  }

  armSite(item: NopItem): boolean {
    return this.#compiledIn.arm(item);
  }

  /** The function that was found, for the worker to compare V8's location of it. */
  candidate(site: number): unknown {
    return this.#members.get(site)?.value;
  }

  bindProperty(sites: readonly number[]): boolean[] {
    return sites.map((site) => {
      const member = this.#members.get(site);
      if (member === undefined) return false;
      const replacement = member.replace(this.#tools.agent.wrap(site, member.value));
      if (replacement === undefined) return false;
      this.#replaced.set(site, [replacement]);
      return true;
    });
  }

  keepHooks(sites: readonly number[]): void {
    keepHooks(this.prefix(), sites, this.#globals);
  }

  nativePlace(): unknown {
    return nativePlace(this.#tools.types.isProxy)?.value;
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
      const bound = this.#bindings.get(site);
      const replacements = [...(this.#replaced.get(site) ?? []), ...(bound?.undo ?? [])];
      let all = true;
      for (const replacement of replacements.reverse()) {
        if (attempt(() => replacement.undo()) !== true) all = false;
      }
      if (!all) kept.push(site);
      else if (replacements.length > 0 || bound?.state === 'bound') count++;
      this.#bindings.restored(site);
      this.#replaced.delete(site);
      this.#members.delete(site);
      this.#breaks.delete(site);
    }
    return { count, kept };
  }
}

export function createArming(options: ArmingOptions): Arming {
  return new Arming(options);
}
