/**
 * js_asyncid(): a number for the asynchronous context, the same in everything that one request causes. An
 * AsyncLocalStorage of our own carries it. Every request that Node's HTTP server receives starts a new one; elsewhere the first
 * hit without a number gives the current context one, which all it causes from there on inherits.
 *
 * Before Node 24 such a storage keeps what it has on the resource whose callback runs: a repeated timer, a connection, a port, whose
 * next callback would find the number of the one before. So there it is taken off again behind that callback.
 */
import { type AnyFunction, apply, type BuiltinModules, deleteProperty } from './intrinsics.ts';

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
  /** Where resources keep what the storage has; undefined where they do not. */
  let store: symbol | undefined;
  let resourceOf: (() => object) | undefined;
  let next = 1;

  function onRequest(): void {
    if (storage !== undefined) apply(enterWith!, storage, [next++] as never);
  }

  function track(on: boolean): void {
    if (on === (storage !== undefined)) return;
    const channels = builtin('node:diagnostics_channel') as typeof import('node:diagnostics_channel');
    if (on) {
      const hooks = builtin('node:async_hooks') as typeof import('node:async_hooks');
      const { AsyncLocalStorage } = hooks;
      storage = new AsyncLocalStorage();
      const { kResourceStore } = storage as { readonly kResourceStore?: unknown };
      store = typeof kResourceStore === 'symbol' ? kResourceStore : undefined;
      resourceOf = hooks.executionAsyncResource;
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

  /** Behind the callback that runs; `await` needs nothing that the application can have changed. */
  async function takeOff(resource: Record<symbol, unknown>, key: symbol, id: number): Promise<void> {
    await undefined;
    if (resource[key] === id) deleteProperty(resource, key);
  }

  return {
    track,
    current() {
      if (storage === undefined) return 0;
      const id = apply(getStore!, storage, []) as number | undefined;
      if (id !== undefined) return id;
      const fresh = next++;
      apply(enterWith!, storage, [fresh] as never);
      if (store !== undefined)
        void takeOff(apply(resourceOf!, undefined, []) as Record<symbol, unknown>, store, fresh);
      return fresh;
    },
  };
}
