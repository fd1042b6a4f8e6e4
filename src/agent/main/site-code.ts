/**
 * The code of one site: what wrappers and hooks run. Its text is compiled once for every site (site-compiler.ts), so that V8
 * keeps type feedback for each site apart and inlines each site's own program. Hence the rule of this file: siteCode()
 * refers to nothing outside itself.
 */
import type { AnyFunction } from './intrinsics.ts';

/** A compiled program. */
export interface Program {
  readonly index: number;
  readonly reads: number;
  readonly run: (ctx: number) => number;
  /** Set when it threw: it is not run again. */
  broken: boolean;
}

/** What a site runs on one event. */
export interface SiteEventState {
  /** Union of the programs' READS masks. */
  readonly mask: number;
  /** The only program's run(), or undefined. */
  readonly single: ((ctx: number) => number) | undefined;
  readonly programs: readonly Program[];
  readonly cookies: readonly number[];
}

export interface SiteState {
  readonly id: number;
  ipLo: number;
  ipHi: number;
  name: string;
  /** 0: no program runs; 1: all do; 2: the same, while the function's text is edited and its wrapper still in place. */
  on: 0 | 1 | 2;
  /** 1 from when a wrapper has told a call, while `on` is 2, until the text's hook has seen that call or it has ended. */
  handed: 0 | 1;
  entry: SiteEventState | undefined;
  ret: SiteEventState | undefined;
  thrown: SiteEventState | undefined;
  settle: SiteEventState | undefined;
  /** 1 when anything but entry is to be run. */
  exits: number;
  /** 1 when ret or thrown read the error's value: the wrapper then has to catch it, else it only passes by. */
  catches: number;
  /** 1 when exit events read this or arguments. */
  keeps: number;
  maxactive: number;
  isAsync: boolean;
  isGenerator: boolean;
  active: number;
  nhit: number;
  nmissed: number;
  unseen: number;
}

export interface SiteEnv {
  readonly apply: (f: unknown, self: unknown, args: ArrayLike<unknown>) => unknown;
  readonly call: (f: unknown, self: unknown, ...args: unknown[]) => unknown;
  readonly construct: (f: unknown, args: ArrayLike<unknown>, newTarget: unknown) => object;
  readonly makeProxy: (target: unknown, handler: object) => unknown;
  /** `busy` is not 0 while a program runs on this thread; `site` is the one it runs for. */
  readonly state: { busy: number; site: SiteState | undefined };
  readonly handles: { used: number };
  /** Arguments 0 to 5 that programs refer to, and a bit for each that is held. */
  readonly hit: { readonly held: unknown[]; holds: number };
  readonly ctx: number;
  readonly i32: Int32Array;
  /** Words of the registers of arguments 0 to 5, and of the probed address. */
  readonly words: { readonly registers: Int32Array; readonly ip: number };
  readonly put: (word: number, value: unknown) => void;
  /** Registers other than arguments and address; `kept` are the arguments where a program may ask for more of them. */
  readonly loadRest: (
    event: SiteEventState,
    self: unknown,
    argc: number,
    kept: ArrayLike<unknown> | undefined,
    value: unknown,
    error: unknown,
    failed: boolean,
  ) => void;
  readonly release: () => void;
  readonly runAll: (event: SiteEventState) => void;
  /** A program threw: never let it out. */
  readonly contain: (event: SiteEventState, site: SiteState, error: unknown) => void;
  /** Gives the promise to hand out in place of `value`, which a function returned: its settling is a `settle` event. */
  readonly followAsync: (
    code: SiteCode,
    site: SiteState,
    self: unknown,
    args: ArrayLike<unknown>,
    value: unknown,
  ) => unknown;
  readonly isPromise: (value: unknown) => boolean;
  readonly followPlain: (
    code: SiteCode,
    site: SiteState,
    self: unknown,
    args: ArrayLike<unknown>,
    value: unknown,
  ) => void;
}

/** Functions of one site, by siteCode() or a copy of it. */
export function siteCodeOf(make: typeof siteCode, env: SiteEnv, site: SiteState): SiteCode {
  const { state, handles, hit, ctx, i32, put, call, apply } = env;
  const r = env.words.registers;
  const { held } = hit;
  return make(
    env,
    site,
    state,
    handles,
    hit,
    held,
    ctx,
    i32,
    put,
    call,
    apply,
    r[0]!,
    r[1]!,
    r[2]!,
    r[3]!,
    r[4]!,
    r[5]!,
  );
}

export interface SiteCode {
  fire(
    event: SiteEventState,
    self: unknown,
    args: ArrayLike<unknown>,
    value: unknown,
    error: unknown,
    failed: boolean,
  ): void;
  /** For originals that cannot be constructed: methods, arrows, async functions, generators. */
  wrapMethod(original: unknown): AnyFunction;
  /** For functions and classes. */
  wrapFunction(original: unknown): AnyFunction;
  /** For originals with properties of their own, which a Proxy shares. */
  wrapProxy(original: unknown): AnyFunction;
  /** What instrumented text calls: see ../README.md. */
  readonly hooks: SiteHooks;
}

export interface SiteHooks {
  readonly e: (self?: unknown, ...args: unknown[]) => number;
  readonly r: (instance: number, value?: unknown) => unknown;
  readonly t: (instance: number, error: unknown) => void;
  readonly s: (instance: number) => void;
  readonly b: (self?: unknown, ...args: unknown[]) => boolean;
}

/**
 * What follows `env` are parameters of their own, as V8 reads those with the least bytecode; siteCodeOf() gives them. `argN` are the
 * words of the arguments' registers.
 */
export function siteCode(
  env: SiteEnv,
  site: SiteState,
  state: SiteEnv['state'],
  handles: SiteEnv['handles'],
  hit: SiteEnv['hit'],
  held: unknown[],
  ctx: number,
  i32: Int32Array,
  put: SiteEnv['put'],
  call: SiteEnv['call'],
  apply: SiteEnv['apply'],
  arg0: number,
  arg1: number,
  arg2: number,
  arg3: number,
  arg4: number,
  arg5: number,
): SiteCode {
  const { construct, loadRest, release, runAll, contain } = env;
  const { makeProxy, followAsync, followPlain } = env;
  const { ip } = env.words;

  const none: unknown[] = [];

  // A list of arguments that stays within the site's own functions need not be made: V8 takes its elements from the stack. So
  // registers are written and originals called from here, element by element, and the list is handed on in rare cases only.

  function siteArg(word: number, value: unknown): void {
    if (typeof value !== 'number' || (value | 0) !== value) put(word, value);
    else {
      i32[word] = value;
      i32[word + 1] = value >> 31;
    }
  }

  // No loop: V8 would keep its variables in memory, and inlines siteArg() where arguments are read and nowhere else.
  function siteArgs(mask: number, args: ArrayLike<unknown>): void {
    const n = args.length;
    if (mask & 1) siteArg(arg0, n > 0 ? args[0] : undefined);
    if (mask & 2) siteArg(arg1, n > 1 ? args[1] : undefined);
    if (mask & 4) siteArg(arg2, n > 2 ? args[2] : undefined);
    if (mask & 8) siteArg(arg3, n > 3 ? args[3] : undefined);
    if (mask & 48) siteLast(mask, args);
  }

  function siteLast(mask: number, args: ArrayLike<unknown>): void {
    const n = args.length;
    if (mask & 16) siteArg(arg4, n > 4 ? args[4] : undefined);
    if (mask & 32) siteArg(arg5, n > 5 ? args[5] : undefined);
  }

  /** Arguments that programs refer to, as they are. */
  function siteHold(refs: number, args: ArrayLike<unknown>): void {
    const n = args.length;
    for (let i = 0, left = refs; left !== 0; i++, left >>= 1) {
      if ((left & 1) !== 0) held[i] = i < n ? args[i] : undefined;
    }
    hit.holds = refs;
  }

  /** A list for the time of the hit. */
  function siteKept(args: ArrayLike<unknown>): ArrayLike<unknown> {
    // who intercepts calls may put something else in an argument's place
    if (site.id < 0) return args;
    switch (args.length) {
      case 0:
        return none;
      case 1:
        return [args[0]];
      case 2:
        return [args[0], args[1]];
      case 3:
        return [args[0], args[1], args[2]];
      case 4:
        return [args[0], args[1], args[2], args[3]];
      default:
        return args;
    }
  }

  function siteRest(
    event: SiteEventState,
    self: unknown,
    args: ArrayLike<unknown>,
    value: unknown,
    error: unknown,
    failed: boolean,
  ): void {
    const { mask } = event;
    if ((mask & 1024) !== 0) {
      i32[ip] = site.ipLo;
      i32[ip + 1] = site.ipHi;
    }
    if ((mask & 15296) === 0) return;
    const kept = (mask & 4096) === 0 ? undefined : siteKept(args);
    loadRest(event, self, args.length, kept, value, error, failed);
  }

  function siteCall(original: unknown, self: unknown, args: ArrayLike<unknown>): unknown {
    switch (args.length) {
      case 0:
        return call(original, self);
      case 1:
        return call(original, self, args[0]);
      case 2:
        return call(original, self, args[0], args[1]);
      case 3:
        return call(original, self, args[0], args[1], args[2]);
      case 4:
        return call(original, self, args[0], args[1], args[2], args[3]);
      default:
        return apply(original, self, args);
    }
  }

  function siteFire(
    event: SiteEventState,
    self: unknown,
    args: ArrayLike<unknown>,
    value: unknown,
    error: unknown,
    failed: boolean,
  ): void {
    if (state.busy !== 0) {
      site.nmissed++;
      return;
    }
    state.busy = 1;
    state.site = site;
    const { mask, single } = event;
    try {
      if ((mask & 63) !== 0) siteArgs(mask, args);
      if ((mask & 16320) !== 0) siteRest(event, self, args, value, error, failed);
      if (mask >= 16384) siteHold(mask >> 14, args);
      if (single !== undefined) single(ctx);
      else runAll(event);
    } catch (problem) {
      // With a full JavaScript stack these calls throw as well.
      try {
        contain(event, site, problem);
      } catch {}
    }
    if (handles.used !== 0 || mask >= 4096) {
      try {
        release();
      } catch {}
    }
    state.busy = 0;
  }

  /** The call with its exit events; `newTarget` is undefined for a plain call. */
  function siteTraced(
    original: unknown,
    self: unknown,
    args: ArrayLike<unknown>,
    newTarget: unknown,
  ): unknown {
    if (site.maxactive !== 0 && site.active >= site.maxactive) {
      site.nmissed++;
      return newTarget === undefined ? siteCall(original, self, args) : construct(original, args, newTarget);
    }
    site.active++;
    let value: unknown;
    if (site.catches !== 0) {
      try {
        value =
          newTarget === undefined ? siteCall(original, self, args) : construct(original, args, newTarget);
      } catch (error) {
        site.active--;
        siteFailed(self, args, error);
        throw error;
      }
    } else {
      // No catch clause: V8 then still reports an uncaught error at the place that threw it.
      let returned = false;
      try {
        value =
          newTarget === undefined ? siteCall(original, self, args) : construct(original, args, newTarget);
        returned = true;
      } finally {
        if (!returned) {
          site.active--;
          siteFailed(self, args, undefined);
        }
      }
    }
    if (site.settle === undefined) {
      site.active--;
      if (site.ret !== undefined && site.on !== 0) siteFire(site.ret, self, args, value, undefined, false);
      return value;
    }
    if (site.ret !== undefined && site.on !== 0) siteFire(site.ret, self, args, value, undefined, false);
    if (site.isAsync && newTarget === undefined) return followAsync(code, site, self, args, value);
    followPlain(code, site, self, args, value);
    return value;
  }

  function siteFailed(self: unknown, args: ArrayLike<unknown>, error: unknown): void {
    if (site.on === 0) return;
    if (site.thrown !== undefined) siteFire(site.thrown, self, args, undefined, error, true);
    if (site.ret !== undefined) siteFire(site.ret, self, args, undefined, error, true);
  }

  /**
   * A call by a wrapper while the text is being edited: told here, so that it makes no difference whether the edit is there
   * already, or is refused; the text's hook leaves this call out. A generator's hook may come much later: it tells the call.
   */
  function sitePassed(
    original: unknown,
    self: unknown,
    args: ArrayLike<unknown>,
    newTarget: unknown,
  ): unknown {
    if (site.isGenerator) return apply(original, self, args);
    site.nhit++;
    if (site.entry !== undefined) {
      siteFire(site.entry, newTarget === undefined ? self : undefined, args, undefined, undefined, false);
    }
    site.handed = 1;
    try {
      if (site.exits !== 0) return siteTraced(original, self, args, newTarget);
      return newTarget === undefined ? siteCall(original, self, args) : construct(original, args, newTarget);
    } finally {
      site.handed = 0;
    }
  }

  function wrapMethod(original: unknown): AnyFunction {
    return {
      wrapper(this: unknown, ...args: unknown[]): unknown {
        if (site.on === 1) {
          site.nhit++;
          if (site.entry !== undefined) siteFire(site.entry, this, args, undefined, undefined, false);
          if (site.exits !== 0) return siteTraced(original, this, args, undefined);
        } else if (site.on === 2) return sitePassed(original, this, args, undefined);
        switch (args.length) {
          case 0:
            return call(original, this);
          case 1:
            return call(original, this, args[0]);
          case 2:
            return call(original, this, args[0], args[1]);
          case 3:
            return call(original, this, args[0], args[1], args[2]);
          case 4:
            return call(original, this, args[0], args[1], args[2], args[3]);
          default:
            return apply(original, this, args);
        }
      },
    }.wrapper as AnyFunction;
  }

  function wrapFunction(original: unknown): AnyFunction {
    const wrapper = function (this: unknown, ...args: unknown[]): unknown {
      if (new.target === undefined) {
        if (site.on === 1) {
          site.nhit++;
          if (site.entry !== undefined) siteFire(site.entry, this, args, undefined, undefined, false);
          if (site.exits !== 0) return siteTraced(original, this, args, undefined);
        } else if (site.on === 2) return sitePassed(original, this, args, undefined);
        switch (args.length) {
          case 0:
            return call(original, this);
          case 1:
            return call(original, this, args[0]);
          case 2:
            return call(original, this, args[0], args[1]);
          case 3:
            return call(original, this, args[0], args[1], args[2]);
          case 4:
            return call(original, this, args[0], args[1], args[2], args[3]);
          default:
            return apply(original, this, args);
        }
      }
      const newTarget = new.target === wrapper ? original : new.target;
      if (site.on === 1) {
        site.nhit++;
        if (site.entry !== undefined) siteFire(site.entry, undefined, args, undefined, undefined, false);
        if (site.exits !== 0) return siteTraced(original, undefined, args, newTarget);
      } else if (site.on === 2) return sitePassed(original, undefined, args, newTarget);
      return construct(original, args, newTarget);
    };
    return wrapper as unknown as AnyFunction;
  }

  function wrapProxy(original: unknown): AnyFunction {
    const proxy = makeProxy(original, {
      __proto__: null,
      apply(target: unknown, self: unknown, args: unknown[]): unknown {
        if (site.on === 1) {
          site.nhit++;
          if (site.entry !== undefined) siteFire(site.entry, self, args, undefined, undefined, false);
          if (site.exits !== 0) return siteTraced(target, self, args, undefined);
        } else if (site.on === 2) return sitePassed(target, self, args, undefined);
        return apply(target, self, args);
      },
      construct(target: unknown, args: unknown[], newTarget: unknown): object {
        const made = newTarget === proxy ? target : newTarget;
        if (site.on === 1) {
          site.nhit++;
          if (site.entry !== undefined) siteFire(site.entry, undefined, args, undefined, undefined, false);
          if (site.exits !== 0) return siteTraced(target, undefined, args, made) as object;
        } else if (site.on === 2) return sitePassed(target, undefined, args, made) as object;
        return construct(target, args, made);
      },
    });
    return proxy as AnyFunction;
  }

  // Instances of calls that instrumented text reports. 1 stands for any call of which nothing has to be remembered.
  const selves: unknown[] = [undefined, undefined];
  const lists: (unknown[] | undefined)[] = [undefined, undefined];
  /** 1 once the caller has its promise; a free instance links to the next free one. */
  const marks: number[] = [0, 0];
  let free = 0;

  function keep(self: unknown, args: unknown[]): number {
    let instance = free;
    if (instance === 0) instance = selves.length;
    else free = marks[instance]!;
    selves[instance] = self;
    lists[instance] = args;
    marks[instance] = 0;
    return instance;
  }

  function forget(instance: number): void {
    if (instance < 2 || lists[instance] === undefined) return;
    selves[instance] = undefined;
    lists[instance] = undefined;
    marks[instance] = free;
    free = instance;
  }

  function siteE(self?: unknown, ...args: unknown[]): number {
    if (site.on === 0) return 0;
    if (site.handed !== 0) {
      site.handed = 0;
      return 0;
    }
    site.nhit++;
    const { entry } = site;
    if (entry !== undefined) siteFire(entry, self, args, undefined, undefined, false);
    if (site.exits === 0) return 0;
    if (site.maxactive !== 0 && site.active >= site.maxactive) {
      site.nmissed++;
      return 0;
    }
    site.active++;
    return site.keeps === 0 && !site.isAsync ? 1 : keep(self, args);
  }

  function siteR(instance: number, value?: unknown): unknown {
    if (instance === 0) return value;
    const self = selves[instance];
    const args = lists[instance] ?? none;
    const returned = marks[instance] === 1;
    forget(instance);
    if (!site.isAsync) {
      if (site.ret !== undefined && site.on !== 0) siteFire(site.ret, self, args, value, undefined, false);
      if (site.settle === undefined) site.active--;
      else followPlain(code, site, self, args, value);
      return value;
    }
    if (site.ret !== undefined && !returned && site.on !== 0) {
      siteFire(site.ret, self, args, undefined, undefined, false);
    }
    if (site.settle === undefined) {
      site.active--;
      return value;
    }
    if (env.isPromise(value)) return followAsync(code, site, self, args, value);
    site.active--;
    if (site.on !== 0) siteFire(site.settle, self, args, value, undefined, false);
    return value;
  }

  function siteT(instance: number, error: unknown): void {
    if (instance === 0) return;
    const self = selves[instance];
    const args = lists[instance] ?? none;
    const returned = marks[instance] === 1;
    forget(instance);
    site.active--;
    if (!site.isAsync) {
      siteFailed(self, args, error);
      return;
    }
    if (site.on === 0) return;
    if (site.ret !== undefined && !returned) siteFire(site.ret, self, args, undefined, undefined, false);
    if (site.settle !== undefined) siteFire(site.settle, self, args, undefined, error, true);
  }

  function siteS(instance: number): void {
    if (instance < 2 || marks[instance] === 1) return;
    marks[instance] = 1;
    if (site.ret !== undefined && site.on !== 0) {
      siteFire(site.ret, selves[instance], lists[instance] ?? none, undefined, undefined, false);
    }
  }

  function siteB(self?: unknown, ...args: unknown[]): boolean {
    if (site.on === 0) return false;
    site.nhit++;
    if (site.entry !== undefined) siteFire(site.entry, self, args, undefined, undefined, false);
    if (site.exits !== 0) site.nmissed++;
    return false;
  }

  const code: SiteCode = {
    fire: siteFire,
    wrapMethod,
    wrapFunction,
    wrapProxy,
    hooks: { e: siteE, r: siteR, t: siteT, s: siteS, b: siteB },
  };
  return code;
}
