/**
 * The `settle` event of promises that a probed function returned.
 *
 * Async functions: their promise is new and nobody else's, so the caller is given a derived one, `then(promise, …)`. It settles
 * one microtask later, and it is the one that is reported when nobody handles its rejection.
 *
 * Other functions: the promise may be shared, cached or decorated, so its identity stays, and a handler of ours would hide
 * an unhandled rejection. So we add ours at the moment that the application adds its first one, which V8's promise hook
 * tells; until then nothing about the promise changes. A promise that nobody ever looks at counts as missed.
 */
import type { Types } from './accessors.ts';
import {
  type AnyFunction,
  apply,
  type BuiltinModules,
  getOwnPropertyDescriptor,
  getPrototypeOf,
  PromiseConstructor,
  PromisePrototype,
  promiseThen,
  WeakMapConstructor,
  weakDelete,
  weakGet,
  weakSet,
} from './intrinsics.ts';
import type { SiteCode, SiteState } from './site-code.ts';

export interface Settle {
  followAsync(
    code: SiteCode,
    site: SiteState,
    self: unknown,
    args: ArrayLike<unknown>,
    value: unknown,
  ): unknown;
  followPlain(code: SiteCode, site: SiteState, self: unknown, args: ArrayLike<unknown>, value: unknown): void;
  /** Takes the promise hook away; promises that are being waited for count as missed. */
  stop(): void;
}

interface Waiting {
  readonly code: SiteCode;
  readonly site: SiteState;
  readonly self: unknown;
  readonly args: ArrayLike<unknown>;
  readonly next: Waiting | undefined;
  done: boolean;
}

const speciesGetter = getOwnPropertyDescriptor(PromiseConstructor, Symbol.species)?.get;
const none: unknown[] = [];

export function createSettle(types: Types, builtin: BuiltinModules): Settle {
  const waiting = new WeakMapConstructor<object, Waiting>();
  const collected = new FinalizationRegistry<Waiting>((entry) => missed(entry));
  const { register, unregister } = FinalizationRegistry.prototype as unknown as {
    register: AnyFunction;
    unregister: AnyFunction;
  };
  let stopHook: AnyFunction | undefined;

  /** Promise.prototype.then asks the promise's constructor for a species: that must be the language's own. */
  function speciesIsOurs(): boolean {
    const found = getOwnPropertyDescriptor(PromisePrototype, 'constructor');
    if (found === undefined || found.value !== PromiseConstructor) return false;
    return getOwnPropertyDescriptor(PromiseConstructor, Symbol.species)?.get === speciesGetter;
  }

  function isPlain(promise: object): boolean {
    return (
      getPrototypeOf(promise) === PromisePrototype &&
      getOwnPropertyDescriptor(promise, 'constructor') === undefined &&
      speciesIsOurs()
    );
  }

  function missed(entry: Waiting): void {
    for (let each: Waiting | undefined = entry; each !== undefined; each = each.next) {
      if (each.done) continue;
      each.done = true;
      each.site.active--;
      each.site.nmissed++;
    }
  }

  function settled(entry: Waiting, value: unknown, error: unknown, failed: boolean): void {
    for (let each: Waiting | undefined = entry; each !== undefined; each = each.next) {
      if (each.done) continue;
      each.done = true;
      const { site } = each;
      site.active--;
      if (site.on !== 0 && site.settle !== undefined) {
        each.code.fire(site.settle, each.self, each.args, value, error, failed);
      }
    }
  }

  function onInit(_: unknown, parent: unknown): void {
    if (parent === undefined) return;
    const entry = weakGet(waiting, parent) as Waiting | undefined;
    if (entry === undefined) return;
    weakDelete(waiting, parent);
    apply(unregister, collected, [parent] as never);
    promiseThen(
      parent,
      ((value: unknown) => settled(entry, value, undefined, false)) as never,
      ((error: unknown) => settled(entry, undefined, error, true)) as never,
    );
  }

  function hook(): void {
    if (stopHook !== undefined) return;
    const { promiseHooks } = builtin('node:v8') as {
      promiseHooks: { onInit(f: (promise: unknown, parent: unknown) => void): AnyFunction };
    };
    stopHook = promiseHooks.onInit(onInit);
  }

  return {
    followAsync(code, site, self, args, value) {
      if (!types.isPromise(value) || !isPlain(value as object)) {
        site.active--;
        site.nmissed++;
        return value;
      }
      const keptSelf = site.keeps === 0 ? undefined : self;
      const keptArgs = site.keeps === 0 ? none : args;
      return promiseThen(
        value,
        ((result: unknown) => {
          site.active--;
          if (site.on !== 0 && site.settle !== undefined) {
            code.fire(site.settle, keptSelf, keptArgs, result, undefined, false);
          }
          return result;
        }) as never,
        ((error: unknown) => {
          site.active--;
          if (site.on !== 0 && site.settle !== undefined) {
            code.fire(site.settle, keptSelf, keptArgs, undefined, error, true);
          }
          throw error;
        }) as never,
      );
    },
    followPlain(code, site, self, args, value) {
      if (!types.isPromise(value) || types.isProxy(value)) {
        // No promise, no event.
        site.active--;
        return;
      }
      if (!isPlain(value as object)) {
        site.active--;
        site.nmissed++;
        return;
      }
      hook();
      const next = weakGet(waiting, value) as Waiting | undefined;
      const keeps = site.keeps !== 0;
      const entry: Waiting = {
        code,
        site,
        self: keeps ? self : undefined,
        args: keeps ? args : none,
        next,
        done: false,
      };
      if (next !== undefined) apply(unregister, collected, [value] as never);
      weakSet(waiting, value, entry);
      apply(register, collected, [value, entry, value] as never);
    },
    stop() {
      if (stopHook === undefined) return;
      apply(stopHook, undefined, []);
      stopHook = undefined;
    },
  };
}
