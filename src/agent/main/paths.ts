/**
 * Property paths on the application's values without running its code: own data properties, then prototypes. A Proxy
 * anywhere on the way is refused with EFAULT, and every accessor but Node's own in `accessors.ts` and those that do nothing but
 * read (`getter-text.ts`).
 */
import type { PropertyPath } from '../../kernel/trace/js-kfuncs.ts';
import type { Trouble } from '../protocol.ts';
import { type Accessors, NO_ENTRIES } from './accessors.ts';
import { getterSteps, type Step } from './getter-text.ts';
import {
  ByteArray,
  functionToString,
  getOwnPropertyDescriptor,
  getPrototypeOf,
  WeakMapConstructor,
  weakGet,
  weakSet,
} from './intrinsics.ts';
import { EFAULT, FAULT } from './values.ts';

export interface Paths {
  setPaths(paths: readonly PropertyPath[]): void;
  /** The value at the end of path `index`; FAULT when it cannot be read. `failure.errno` says why. */
  walk(value: unknown, index: number): unknown;
  /** One property, inherited ones too. undefined when there is none. */
  getProperty(value: unknown, key: string | number): unknown;
  /** Number of keys of a path; 0 for path 0. */
  readonly count: () => number;
  /** What first went wrong with a path since forget(). */
  trouble(index: number): Trouble | undefined;
  /** Reads since forget() whose last property did not exist; 0 for a path that has ever led somewhere. */
  missing(index: number): number;
  forget(): void;
}

/** Longest prototype chain that is followed. */
const MAX_CHAIN = 64;
/** Getters that read getters. */
const MAX_GETTERS = 8;

export function createPaths(
  isProxy: (value: unknown) => boolean,
  accessors: Accessors,
  failure: { errno: number },
  namesOf: (holder: unknown) => string[],
): Paths {
  let table: readonly (readonly (string | number)[])[] = [[]];
  /** The only key of one-key paths; undefined for the others. */
  let single: readonly (string | number | undefined)[] = [undefined];
  /** By path: it has led to a property that exists. `unknown`: how many have not; in most programs none before long. */
  let known = new ByteArray(1);
  let unknown = 0;
  let lacked: number[] = [];
  let troubles: (Trouble | undefined)[] = [];
  /** Why the last property has no value; '' where it has one. */
  let reason: Trouble['reason'] | '' = '';
  /** What lacks it, until it is noted. */
  let holder: unknown;
  /** The steps of each getter that was met; 0 for those that do more. */
  const getters = new WeakMapConstructor<object, readonly Step[] | 0>();
  let nested = 0;

  const stringPrototype = String.prototype;
  const numberPrototype = Number.prototype;
  const booleanPrototype = Boolean.prototype;
  const symbolPrototype = Symbol.prototype;
  const bigintPrototype = BigInt.prototype;

  function fault(why: Trouble['reason']): typeof FAULT {
    failure.errno = EFAULT;
    if (reason === '') reason = why;
    return FAULT;
  }

  function accessor(getter: unknown, receiver: unknown): unknown {
    if (accessors.knows(getter)) {
      const value = accessors.read(getter, receiver);
      return value === FAULT ? fault('getter') : value;
    }
    if (typeof getter !== 'function' || isProxy(getter)) return fault('getter');
    let steps = weakGet(getters, getter) as readonly Step[] | 0 | undefined;
    if (steps === undefined) {
      steps = getterSteps(functionToString(getter)) ?? 0;
      weakSet(getters, getter, steps);
    }
    if (steps === 0 || nested === MAX_GETTERS) return fault('getter');
    nested++;
    try {
      const value = walkSteps(receiver, steps);
      reason = value === FAULT ? 'getter' : '';
      holder = undefined;
      return value;
    } finally {
      nested--;
    }
  }

  function walkSteps(receiver: unknown, steps: readonly Step[]): unknown {
    let value = receiver;
    for (let i = 0; i < steps.length && value !== FAULT; i++) {
      const { key, optional } = steps[i]!;
      if (optional && (value === undefined || value === null)) return undefined;
      value = getProperty(value, key);
    }
    return value;
  }

  function chain(receiver: unknown, first: object | null, key: string | number): unknown {
    let link = first;
    for (let depth = 0; link !== null; depth++) {
      if (depth > MAX_CHAIN || isProxy(link)) return fault('proxy');
      const found = getOwnPropertyDescriptor(link, key);
      if (found !== undefined) {
        if (found.writable !== undefined) return found.value;
        return accessor(found.get, receiver);
      }
      link = getPrototypeOf(link) as object | null;
    }
    const entry = accessors.lookup(receiver, key);
    if (entry !== NO_ENTRIES) return entry;
    reason = 'missing';
    holder = receiver;
    return undefined;
  }

  function stackOf(value: object): unknown {
    const stack = accessors.stack(value);
    return stack === FAULT ? fault('getter') : stack;
  }

  function getPrimitive(value: unknown, key: string | number): unknown {
    switch (typeof value) {
      case 'string': {
        if (key === 'length') return value.length;
        const index = typeof key === 'number' ? key : toIndex(key);
        if (index >= 0) return index < value.length ? value[index] : undefined;
        return chain(value, stringPrototype, key);
      }
      case 'number':
        return chain(value, numberPrototype, key);
      case 'boolean':
        return chain(value, booleanPrototype, key);
      case 'symbol':
        return chain(value, symbolPrototype, key);
      case 'bigint':
        return chain(value, bigintPrototype, key);
      default:
        return fault('nothing');
    }
  }

  function getProperty(value: unknown, key: string | number): unknown {
    if ((typeof value === 'object' && value !== null) || typeof value === 'function') {
      if (isProxy(value)) return fault('proxy');
      // V8's `stack` may look like a data property and still call the application's Error.prepareStackTrace.
      if (key === 'stack') return stackOf(value);
      const found = getOwnPropertyDescriptor(value, key);
      if (found === undefined) return chain(value, getPrototypeOf(value) as object | null, key);
      if (found.writable !== undefined) return found.value;
      return accessor(found.get, value);
    }
    return getPrimitive(value, key);
  }

  /** Walks the path; `at` is the key where it ended. */
  function walkKeys(value: unknown, keys: readonly (string | number)[], index: number): unknown {
    let current = value;
    let at = 0;
    for (; at < keys.length; at++) {
      current = getProperty(current, keys[at]!);
      if (current === FAULT) break;
    }
    if (current === undefined || current === FAULT) {
      // a property of what is not there: it is the one before that lacks
      const isBefore = current === undefined || reason === 'missing';
      note(index, keys[isBefore ? at - 1 : at], current);
    } else if (unknown !== 0) exists(index);
    return current;
  }

  function exists(index: number): void {
    if (known[index] !== 0) return;
    known[index] = 1;
    unknown--;
  }

  function note(index: number, key: string | number | undefined, value: unknown): void {
    if (reason === '' || key === undefined) {
      if (value !== FAULT) exists(index);
    } else {
      if (value !== FAULT) lacked[index] = (lacked[index] ?? 0) + 1;
      if (troubles[index] === undefined) {
        troubles[index] = { key, reason, names: reason === 'missing' ? namesOf(holder) : [] };
      }
    }
    reason = '';
    holder = undefined;
  }

  return {
    setPaths(paths) {
      const keys: (readonly (string | number)[])[] = [];
      const ones: (string | number | undefined)[] = [];
      for (let i = 0; i < paths.length; i++) {
        keys[i] = paths[i]!.keys;
        ones[i] = keys[i]!.length === 1 ? keys[i]![0] : undefined;
      }
      table = keys;
      single = ones;
      known = new ByteArray(keys.length);
      unknown = 0;
      for (let i = 0; i < keys.length; i++) {
        if (keys[i]!.length > 0) unknown++;
        else known[i] = 1;
      }
      lacked = [];
      troubles = [];
    },
    walk(value, index) {
      if (index >= table.length || index < 0) return index === 0 ? value : fault('nothing');
      const key = single[index];
      if (key === undefined) return walkKeys(value, table[index]!, index);
      const found = getProperty(value, key);
      if (found === undefined || found === FAULT) note(index, key, found);
      else if (unknown !== 0) exists(index);
      return found;
    },
    getProperty(value, key) {
      const found = getProperty(value, key);
      reason = '';
      holder = undefined;
      return found;
    },
    count: () => table.length,
    trouble: (index) => troubles[index],
    missing: (index) => (known[index] === 0 ? (lacked[index] ?? 0) : 0),
    forget() {
      lacked = [];
      troubles = [];
    },
  };
}

/** An array index written as text, or -1. */
function toIndex(key: string): number {
  const index = +key;
  return index >= 0 && index < 4294967295 && `${index}` === key && index % 1 === 0 ? index : -1;
}
