/** What the sites of a script call while one of them is armed (the texts are in src/arch/v8/instrument-nop.ts). */
import { NOP_OPEN, type SelfPath, stripNops } from '../arch/v8/instrument-nop.ts';

/** What a site calls; the agent's hooks (src/agent/README.md). `e` returns 0 where the call's end is not wanted. */
export interface SiteHooks {
  e(self: unknown, ...args: unknown[]): number;
  r(instance: number, value: unknown): unknown;
  t(instance: number, error: unknown): void;
  s(instance: number): void;
}

export interface ArmedSite {
  readonly hooks: SiteHooks;
  readonly ends: boolean;
}

/** Form `self`: true where the gate made the call itself and `v` has its result. */
export interface Gate {
  (index: number, root: unknown, target: unknown, self: unknown, ...args: unknown[]): boolean;
  /** The result, once. */
  readonly v: unknown;
  /** Form `entry`. */
  e(index: number, self: unknown, ...args: unknown[]): void;
  /** Form `body`: what the rest of the call reports to, if anything. */
  b(index: number, self: unknown, ...args: unknown[]): Frame | undefined;
}

/** One call of a function with a site of form `body`. */
export interface Frame {
  r(value: unknown): void;
  t(error: unknown): void;
  s(): void;
}

export interface GateScript {
  readonly gate: string;
  readonly flags: Uint8Array;
  readonly missed: Uint32Array;
  readonly hooks: readonly (ArmedSite | undefined)[];
  readonly selves: Readonly<Record<number, SelfPath>>;
}

type AnyFunction = (...args: unknown[]) => unknown;

/** This script, as frames of its functions name it: stacks of probes begin behind them. */
export const GATE_URL = import.meta.url;

const { apply, construct, getOwnPropertyDescriptor } = Reflect;
const textOf = Function.prototype.toString;
const { indexOf, startsWith } = String.prototype;

/** The site whose next entry is the call that its own gate makes. */
let passing: ArmedSite | undefined;

/** Ends for which there was no stack left. */
let late: { on: SiteHooks; instance: number; error: unknown }[] = [];

function tellLate(): void {
  const all = late;
  late = [];
  for (const { on, instance, error } of all) on.t(instance, error);
}

export function createGate(script: GateScript): Gate {
  const { flags, missed, hooks, selves } = script;
  /** By function: what ROOT was when the function was found, and the function. */
  const roots: unknown[] = [];
  const found: (AnyFunction | undefined)[] = [];
  let result: unknown;

  function find(index: number, root: unknown): AnyFunction | undefined {
    if (found[index] !== undefined && roots[index] === root) return found[index];
    const path = selves[index];
    const value = path === undefined ? undefined : follow(root, path);
    if (typeof value !== 'function' || !isSite(value as AnyFunction, script.gate, index, path!.length)) {
      missed[index]!++;
      return undefined;
    }
    roots[index] = root;
    found[index] = value as AnyFunction;
    return found[index];
  }

  const gate = (
    index: number,
    root: unknown,
    target: unknown,
    self: unknown,
    ...args: unknown[]
  ): boolean => {
    if (flags[index] === 0) return false;
    const site = hooks[index];
    if (site === undefined) return false;
    if (passing === site) {
      passing = undefined;
      return false;
    }
    const { hooks: on, ends } = site;
    if (!ends) {
      on.e(self, ...args);
      return false;
    }
    const fn = find(index, root);
    if (fn === undefined) return false;
    const instance = on.e(self, ...args);
    if (instance === 0) return false;
    passing = site;
    let value: unknown;
    try {
      value = target === undefined ? apply(fn, self, args) : construct(fn, args, target as AnyFunction);
    } catch (error) {
      // The stack may have been full before the call began
      passing = undefined;
      try {
        on.t(instance, error);
      } catch {
        // …and may still be: the end is told later
        late[late.length] = { on, instance, error };
      }
      throw error;
    }
    if (late.length > 0) tellLate();
    result = on.r(instance, value);
    return true;
  };

  const e: Gate['e'] = (index, self, ...args) => {
    if (flags[index] !== 0) hooks[index]?.hooks.e(self, ...args);
  };

  const b: Gate['b'] = (index, self, ...args) => {
    const site = flags[index] === 0 ? undefined : hooks[index];
    if (site === undefined) return undefined;
    const on = site.hooks;
    const instance = on.e(self, ...args);
    if (!site.ends || instance === 0) return undefined;
    let ended = false;
    return {
      r(value) {
        if (!ended) on.r(instance, value);
        ended = true;
      },
      t(error) {
        ended = true;
        on.t(instance, error);
      },
      s() {
        on.s(instance);
      },
    };
  };

  return Object.defineProperties(gate, {
    v: {
      get() {
        const value = result;
        result = undefined;
        return value;
      },
    },
    e: { value: e },
    b: { value: b },
  }) as Gate;
}

/** The function at the end of a path of own data properties; no getter or trap runs but those of a Proxy among them. */
function follow(root: unknown, path: SelfPath): unknown {
  let value = root;
  const last = path.keys.length - 1;
  for (let i = 0; i <= last; i++) {
    if ((typeof value !== 'object' || value === null) && typeof value !== 'function') return undefined;
    const property = getOwnPropertyDescriptor(value, path.keys[i]!);
    value = i === last && path.accessor !== undefined ? property?.[path.accessor] : property?.value;
  }
  return value;
}

/** Whether a function is the one that holds a site, and not what has been put in its place. */
function isSite(fn: AnyFunction, gate: string, index: number, length: number): boolean {
  const text = apply(textOf, fn, []) as string;
  const at = apply(indexOf, text, [NOP_OPEN]) as number;
  if (at === -1 || stripNops(text).length !== length) return false;
  const call = apply(indexOf, text, [`${gate}(`, at]) as number;
  return call !== -1 && (apply(startsWith, text, [`${gate}(${index},`, call]) as boolean);
}
