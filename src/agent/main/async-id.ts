/**
 * js_asyncid(): a number for the asynchronous context, the same in everything that one request causes. An
 * AsyncLocalStorage of our own carries it. Every request that Node's HTTP server receives starts a new one; elsewhere the first
 * hit without a number gives the current context one, which all it causes from there on inherits.
 */
import { type AnyFunction, apply, type BuiltinModules } from './intrinsics.ts';

export interface AsyncId {
  track(on: boolean): void;
  /** From 1; 0 while not tracking. */
  current(): number;
}

const REQUEST_START = 'http.server.request.start';

export function createAsyncId(builtin: BuiltinModules): AsyncId {
  let storage: object | undefined;
  let getStore: AnyFunction | undefined;
  let enterWith: AnyFunction | undefined;
  let next = 1;

  function onRequest(): void {
    if (storage !== undefined) apply(enterWith!, storage, [next++] as never);
  }

  function track(on: boolean): void {
    if (on === (storage !== undefined)) return;
    const channels = builtin('node:diagnostics_channel') as typeof import('node:diagnostics_channel');
    if (on) {
      const { AsyncLocalStorage } = builtin('node:async_hooks') as typeof import('node:async_hooks');
      storage = new AsyncLocalStorage();
      ({ getStore, enterWith } = AsyncLocalStorage.prototype as unknown as {
        getStore: AnyFunction;
        enterWith: AnyFunction;
      });
      channels.subscribe(REQUEST_START, onRequest);
    } else {
      channels.unsubscribe(REQUEST_START, onRequest);
      (storage as { disable(): void }).disable();
      storage = undefined;
    }
  }

  return {
    track,
    current() {
      if (storage === undefined) return 0;
      const id = apply(getStore!, storage, []) as number | undefined;
      if (id !== undefined) return id;
      const fresh = next++;
      apply(enterWith!, storage, [fresh] as never);
      return fresh;
    },
  };
}
