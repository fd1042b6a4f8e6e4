/**
 * The functions that instrumented text of the own process calls, and what they tell the kprobes core. One set a site, as
 * non-enumerable globals with unguessable names (src/agent/README.md says when each is called).
 */
import { isPromise } from 'node:util/types';
import type { KprobeHandlers, KprobeSlot } from '../../kernel/kprobes/index.ts';
import { PtRegs } from '../../kernel/kprobes/index.ts';
import { scriptPath } from './symbols-path.ts';

export interface HookNames {
  readonly prefix: string;
  /** For names that instrument() must not take for its own. */
  readonly postPrefix: string;
}

export interface HookedSite {
  readonly id: number;
  readonly slot: KprobeSlot;
  readonly isAsync: boolean;
  /** Off: the text could not be restored yet, but its probes have left. */
  armed: boolean;
}

export interface NopHooks {
  e(self: unknown, ...args: unknown[]): unknown;
  r(instance: unknown, value?: unknown): unknown;
  t(instance: unknown, error: unknown): void;
  s(instance: unknown): void;
}

/** `globalThis[Symbol.for('trapline.sites')]` of a process that was started with trapline/register (its README.md). */
export interface NopRegistry {
  readonly scripts: ReadonlyMap<string, { readonly forms: ArrayLike<number> }>;
  arm(url: string, index: number, hooks: NopHooks, ends: boolean): boolean;
  disarm(url: string, index: number): void;
}

export function nopRegistry(): NopRegistry | undefined {
  return (globalThis as Record<symbol, unknown>)[Symbol.for('trapline.sites')] as NopRegistry | undefined;
}

/** The name that the registry knows a script by, if it has sites: its URL, or a CommonJS module's path. */
export function nopScript(url: string): string | undefined {
  const scripts = nopRegistry()?.scripts;
  return [url, scriptPath(url)].find((name) => scripts?.has(name));
}

const { apply, defineProperty, deleteProperty } = Reflect;

export class SelfHooks {
  readonly names: HookNames;
  readonly #handlers: KprobeHandlers;
  readonly #installed = new Map<number, readonly string[]>();

  constructor(handlers: KprobeHandlers) {
    this.#handlers = handlers;
    const random = () => Math.random().toString(36).slice(2, 10).padEnd(8, '0');
    this.names = { prefix: `__tl${random()}_`, postPrefix: `__tp${random()}_` };
  }

  take(id: number): string {
    return `${this.names.postPrefix}${id}q()`;
  }

  tell(id: number): string {
    return `${this.names.postPrefix}${id}p`;
  }

  postVariable(id: number): string {
    return `${this.names.postPrefix}${id}v`;
  }

  breakHook(id: number): string {
    return `${this.names.prefix}${id}b`;
  }

  install(site: HookedSite): void {
    if (this.#installed.has(site.id)) return;
    const { prefix, postPrefix } = this.names;
    const hooks = this.#make(site);
    const names: string[] = [];
    for (const [key, value] of Object.entries(hooks)) {
      const name = `${key === 'q' || key === 'p' ? postPrefix : prefix}${site.id}${key}`;
      defineProperty(globalThis, name, { value, configurable: true, writable: false, enumerable: false });
      names.push(name);
    }
    this.#installed.set(site.id, names);
  }

  /** The same for a site that was compiled in when its script loaded (src/register). */
  forNop(site: HookedSite): NopHooks {
    const { e, r, t, s } = this.#make(site);
    const regs = (instance: unknown) => (instance === 0 ? undefined : (instance as PtRegs));
    return {
      e: (self, ...args) => e(self, ...args) ?? 0,
      r: (instance, value) => r(regs(instance), value),
      t: (instance, error) => t(regs(instance), error),
      s: (instance) => s(regs(instance)),
    };
  }

  /** Only when no text calls them any more. */
  remove(id: number): void {
    for (const name of this.#installed.get(id) ?? []) deleteProperty(globalThis, name);
    this.#installed.delete(id);
  }

  #make(site: HookedSite) {
    const handlers = this.#handlers;
    const { slot, isAsync } = site;
    const { addr } = slot;
    let postDue: PtRegs | undefined;

    const enter = (self: unknown, args: unknown[]): PtRegs | undefined => {
      postDue = undefined;
      if (!site.armed) return undefined;
      const regs = new PtRegs(addr, self, args);
      if (handlers.kprobeHandler(slot, regs)) postDue = regs;
      return regs.rethooks === undefined ? undefined : regs;
    };
    const settle = (regs: PtRegs): void => handlers.kretprobeTrampoline(regs, 'settle');
    const ended = (regs: PtRegs): void => {
      // An async function that ends without having waited returns its promise now.
      handlers.kretprobeTrampoline(regs, 'return');
      settle(regs);
    };

    return {
      e: (self: unknown, ...args: unknown[]) => enter(self, args),
      b: (self: unknown, ...args: unknown[]) => {
        enter(self, args);
        return false;
      },
      r: (regs: PtRegs | undefined, value?: unknown): unknown => {
        if (regs?.rethooks !== undefined) {
          if (!isAsync) {
            regs.retval = value;
            handlers.kretprobeTrampoline(regs, 'return');
            // Following a promise that the application made would count as handling its rejection.
            if (isPromise(value)) handlers.missRethooks(regs, 'settle');
            else settle(regs);
          } else {
            handlers.kretprobeTrampoline(regs, 'return');
            regs.retval = value;
            settle(regs);
          }
        }
        return value;
      },
      t: (regs: PtRegs | undefined, error: unknown): void => {
        if (regs?.rethooks === undefined) return;
        if (isAsync) handlers.kretprobeTrampoline(regs, 'return');
        regs.threw = true;
        regs.error = error;
        ended(regs);
      },
      s: (regs: PtRegs | undefined): void => {
        if (regs?.rethooks !== undefined) handlers.kretprobeTrampoline(regs, 'return');
      },
      q: (): PtRegs | undefined => {
        const regs = postDue;
        postDue = undefined;
        return regs;
      },
      p: (regs: PtRegs | undefined): void => {
        if (regs !== undefined) handlers.kprobePostHandler(slot, regs);
      },
    };
  }
}

const nativeToString = Function.prototype.toString;

/**
 * Function.prototype.toString while edited text is in place: it answers what the function's text was. The property is put
 * back exactly as it was.
 */
export class SelfToString {
  readonly #texts = new Map<string, string>();
  #before: PropertyDescriptor | undefined;
  #patched: unknown;

  /** All edited texts, each with its original. */
  set(texts: Iterable<readonly [string, string]>): void {
    this.#texts.clear();
    for (const [edited, original] of texts) this.#texts.set(edited, original);
    if (this.#texts.size > 0) this.#install();
    else this.#restore();
  }

  #install(): void {
    if (this.#before !== undefined) return;
    const before = Object.getOwnPropertyDescriptor(Function.prototype, 'toString');
    if (before === undefined || before.writable !== true || !before.configurable) return;
    const next = before.value as () => string;
    const texts = this.#texts;
    const patched = {
      toString(this: unknown): string {
        const text = apply(this === patched ? nativeToString : next, this === patched ? next : this, []);
        return texts.get(text) ?? text;
      },
    }.toString;
    this.#before = before;
    this.#patched = patched;
    defineProperty(Function.prototype, 'toString', { ...before, value: patched });
  }

  #restore(): void {
    const before = this.#before;
    if (before === undefined) return;
    this.#before = undefined;
    const now = Object.getOwnPropertyDescriptor(Function.prototype, 'toString');
    // Somebody patched it again on top: theirs stays, and calls through to ours, which has nothing to translate.
    if (now?.value === this.#patched) defineProperty(Function.prototype, 'toString', before);
  }
}
