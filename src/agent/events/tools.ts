/** What sources are made of: channels, observers of Node, calls of its own functions. Each gives what undoes it. */

import type { AgentMain, CallObserver, Emit, Interception } from '../agent-main.ts';

const { apply, defineProperty, deleteProperty, getOwnPropertyDescriptor } = Reflect;
const weakMap = WeakMap.prototype;

export type Stop = () => void;
/** A source: begins to call `emit`, and answers with what ends that. */
export type Source = (emit: Emit, tools: Tools) => Stop;

type Observed = (self: unknown, args: unknown[]) => void;

interface PerformanceEntryLike {
  readonly name: string;
  readonly duration: number;
  readonly detail?: unknown;
}

/** A table from objects that does not keep them, with methods that the application cannot replace. */
export class Notes<T> {
  readonly #map = new WeakMap<object, T>();

  get(key: object): T | undefined {
    return apply(weakMap.get, this.#map, [key]) as T | undefined;
  }

  set(key: object, value: T): void {
    apply(weakMap.set, this.#map, [key, value]);
  }
}

export class Tools {
  readonly agent: AgentMain;
  readonly require: (id: string) => unknown;
  /** Nanoseconds of a clock that only goes on. */
  readonly now: () => number;

  constructor(agent: AgentMain, require: (id: string) => unknown) {
    this.agent = agent;
    this.require = require;
    const { performance } = require('node:perf_hooks') as { performance: { now(): number } };
    const { now } = performance;
    this.now = () => (apply(now, performance, []) as number) * 1e6;
  }

  /** What a source that is being started has installed so far. */
  #installed: Stop[] | undefined;

  #kept(stop: Stop): Stop {
    this.#installed?.push(stop);
    return stop;
  }

  /** Starts a source; one that cannot be started leaves nothing. */
  start(source: Source, emit: Emit): Stop {
    const installed: Stop[] = [];
    this.#installed = installed;
    try {
      return source(emit, this);
    } catch (error) {
      all(...installed)();
      throw error;
    } finally {
      this.#installed = undefined;
    }
  }

  /** Messages of a channel of node:diagnostics_channel. What a listener throws Node would report as an uncaught exception. */
  channel<M>(name: string, listener: (message: M) => void): Stop {
    const { subscribe, unsubscribe } = this.require('diagnostics_channel') as {
      subscribe(name: string, listener: (message: unknown) => void): void;
      unsubscribe(name: string, listener: (message: unknown) => void): boolean;
    };
    const contained = (message: unknown): void => {
      try {
        listener(message as M);
      } catch {
        // nothing of ours may reach the application
      }
    };
    subscribe(name, contained);
    return this.#kept(() => void unsubscribe(name, contained));
  }

  /** Entries of a PerformanceObserver. */
  entries(type: string, listener: (entry: PerformanceEntryLike) => void): Stop {
    const { PerformanceObserver } = this.require('perf_hooks') as {
      PerformanceObserver: new (
        callback: (list: { getEntries(): PerformanceEntryLike[] }) => void,
      ) => { observe(options: { entryTypes: string[] }): void; disconnect(): void };
    };
    const observer = new PerformanceObserver((list) => {
      try {
        const entries = list.getEntries();
        for (let i = 0; i < entries.length; i++) listener(entries[i] as PerformanceEntryLike);
      } catch {
        // as above
      }
    });
    observer.observe({ entryTypes: [type] });
    return this.#kept(() => observer.disconnect());
  }

  readonly #replaced: Replaced[] = [];

  /**
   * A function that `holder` has, or inherits: calls by way of it are told. It is replaced once, whoever else asks for it, and put
   * back with the last of them. Nothing happens where there is no function.
   */
  calls(holder: object, key: string, observer: CallObserver, isAsync = false): Stop {
    let replaced = this.#replaced.find((one) => one.holder === holder && one.key === key);
    if (replaced === undefined) {
      replaced = Replaced.make(this.agent, holder, key, isAsync);
      if (replaced === undefined) return () => undefined;
      this.#replaced.push(replaced);
    }
    const one = replaced;
    one.add(observer);
    return this.#kept(() => {
      if (!one.remove(observer)) return;
      const at = this.#replaced.indexOf(one);
      if (at >= 0) this.#replaced.splice(at, 1);
      one.restore();
    });
  }

  /** Events that emitters of a kind emit, with no listener: `args` are the name and what listeners get. */
  emits(holder: object, name: string, listener: Observed): Stop {
    return this.calls(holder, 'emit', {
      entry: (self, args) => {
        if (args[0] === name) listener(self, args);
      },
    });
  }

  /** Every so many ms; does not keep the process running. */
  every(ms: number, what: () => void): Stop {
    const { setInterval, clearInterval } = this.require('timers') as typeof import('node:timers');
    const make = () =>
      setInterval(() => {
        try {
          what();
        } catch {
          // as above
        }
      }, ms);
    const timer = this.making(make);
    timer.unref();
    return this.#kept(() => clearInterval(timer));
  }

  readonly #timers = new Notes<boolean>();
  #making = false;

  /** Makes a timer or immediate of the agent's, which is none of the application's. */
  making<T extends object>(make: () => T): T {
    this.#making = true;
    try {
      const timer = make();
      this.#timers.set(timer, true);
      return timer;
    } finally {
      this.#making = false;
    }
  }

  /** Whether a timer, or the one that is being made (undefined), is the agent's. */
  isOwn(timer: object | undefined): boolean {
    return timer === undefined ? this.#making : this.#timers.get(timer) === true;
  }

  readonly #ids = new Notes<number>();
  #lastId = 0;

  /** The number that events of one object have in common. */
  id(object: object): number {
    let id = this.#ids.get(object);
    if (id === undefined) {
      id = ++this.#lastId;
      this.#ids.set(object, id);
    }
    return id;
  }

  /** A text that is an own, or inherited, property; '' where it is none. */
  text(value: unknown, key: string): string {
    const found = this.agent.property(value, key);
    return typeof found === 'string' ? found : '';
  }

  /** Reads a property that Node's own class may have as an accessor: that is called as it was when the source began. */
  reader(prototype: object, key: string): (object: unknown) => unknown {
    let holder: object | null = prototype;
    let get: (() => unknown) | undefined;
    for (; holder !== null && get === undefined; holder = Reflect.getPrototypeOf(holder))
      get = getOwnPropertyDescriptor(holder, key)?.get;
    const { agent } = this;
    if (get === undefined) return (object) => agent.property(object, key);
    const own = get;
    return (object) => (typeof object === 'object' && object !== null ? apply(own, object, []) : undefined);
  }

  /** The same of a number; 0. */
  number(value: unknown, key: string): number {
    const found = this.agent.property(value, key);
    return typeof found === 'number' ? found : 0;
  }
}

/** A function in whose place there is a wrapper, and who is told of its calls. */
class Replaced {
  readonly holder: object;
  readonly key: string;
  readonly #before: PropertyDescriptor | undefined;
  readonly #interception: Interception;
  #observers: readonly CallObserver[] = [];

  private constructor(
    holder: object,
    key: string,
    before: PropertyDescriptor | undefined,
    interception: Interception,
  ) {
    this.holder = holder;
    this.key = key;
    this.#before = before;
    this.#interception = interception;
  }

  /** Undefined where there is no function; throws where it cannot be replaced. */
  static make(agent: AgentMain, holder: object, key: string, isAsync: boolean): Replaced | undefined {
    const before = getOwnPropertyDescriptor(holder, key);
    const original: unknown = before === undefined ? (holder as never)[key] : before.value;
    if (typeof original !== 'function') return undefined;
    const interception = agent.intercept(original, isAsync);
    const { wrapper } = interception;
    const descriptor =
      before === undefined
        ? { value: wrapper, writable: true, enumerable: false, configurable: true }
        : { value: wrapper };
    if (wrapper === original || !defineProperty(holder, key, descriptor)) {
      interception.stop();
      throw new Error(`${key} cannot be replaced`);
    }
    return new Replaced(holder, key, before, interception);
  }

  add(observer: CallObserver): void {
    this.#set([...this.#observers, observer]);
  }

  /** True when it was the last one. */
  remove(observer: CallObserver): boolean {
    const left = this.#observers.filter((one) => one !== observer);
    if (left.length === this.#observers.length) return false;
    this.#set(left);
    return left.length === 0;
  }

  /** Each is told, whatever another one throws. */
  #set(observers: readonly CallObserver[]): void {
    this.#observers = observers;
    const of = (what: keyof CallObserver): CallObserver['exit'] => {
      const tells = observers.flatMap((one) => (one[what] as CallObserver['exit']) ?? []);
      if (tells.length < 2) return tells[0];
      return (self, args, value, error) => {
        for (let i = 0; i < tells.length; i++) {
          try {
            (tells[i] as Required<CallObserver>['exit'])(self, args, value, error);
          } catch {
            // nothing of ours may reach the application
          }
        }
      };
    };
    const [entry, exit, settle] = [of('entry'), of('exit'), of('settle')];
    this.#interception.tell({
      ...(entry === undefined ? {} : { entry: entry as Required<CallObserver>['entry'] }),
      ...(exit === undefined ? {} : { exit }),
      ...(settle === undefined ? {} : { settle }),
    });
  }

  /** Puts the function back. What somebody else has put there since stays: behind it, the wrapper does nothing any more. */
  restore(): void {
    const { holder, key } = this;
    if (getOwnPropertyDescriptor(holder, key)?.value === this.#interception.wrapper) {
      if (this.#before === undefined) deleteProperty(holder, key);
      else defineProperty(holder, key, { value: this.#before.value as unknown });
    }
    this.#interception.stop();
  }
}

/** One stop for several. */
export function all(...stops: Stop[]): Stop {
  return () => {
    for (let i = stops.length - 1; i >= 0; i--) (stops[i] as Stop)();
  };
}
