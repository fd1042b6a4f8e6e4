/**
 * Property paths on the application's values without running its code: own data properties, then prototypes. A Proxy
 * anywhere on the way and every accessor is refused with EFAULT, but for Node's own accessors in `accessors.ts`.
 */
import type { PropertyPath } from '../../kernel/trace/js-kfuncs.ts';
import type { Accessors } from './accessors.ts';
import { getOwnPropertyDescriptor, getPrototypeOf } from './intrinsics.ts';
import { EFAULT, FAULT } from './values.ts';

export interface Paths {
  setPaths(paths: readonly PropertyPath[]): void;
  /** The value at the end of path `index`; FAULT when it cannot be read. `failure.errno` says why. */
  walk(value: unknown, index: number): unknown;
  /** One property, inherited ones too. undefined when there is none. */
  getProperty(value: unknown, key: string | number): unknown;
  /** Number of keys of a path; 0 for path 0. */
  readonly count: () => number;
}

/** Longest prototype chain that is followed. */
const MAX_CHAIN = 64;

export function createPaths(
  isProxy: (value: unknown) => boolean,
  accessors: Accessors,
  failure: { errno: number },
): Paths {
  let table: readonly (readonly (string | number)[])[] = [[]];
  /** The only key of one-key paths; undefined for the others. */
  let single: readonly (string | number | undefined)[] = [undefined];

  const stringPrototype = String.prototype;
  const numberPrototype = Number.prototype;
  const booleanPrototype = Boolean.prototype;
  const symbolPrototype = Symbol.prototype;
  const bigintPrototype = BigInt.prototype;

  function fault(): typeof FAULT {
    failure.errno = EFAULT;
    return FAULT;
  }

  function chain(receiver: unknown, first: object | null, key: string | number): unknown {
    let holder = first;
    for (let depth = 0; holder !== null; depth++) {
      if (depth > MAX_CHAIN || isProxy(holder)) return fault();
      const found = getOwnPropertyDescriptor(holder, key);
      if (found !== undefined) {
        if (found.writable !== undefined) return found.value;
        return accessors.read(found.get, receiver);
      }
      holder = getPrototypeOf(holder) as object | null;
    }
    return accessors.lookup(receiver, key);
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
        return fault();
    }
  }

  function getProperty(value: unknown, key: string | number): unknown {
    if ((typeof value === 'object' && value !== null) || typeof value === 'function') {
      if (isProxy(value)) return fault();
      // V8's `stack` may look like a data property and still call the application's Error.prepareStackTrace.
      if (key === 'stack') return accessors.stack(value);
      const found = getOwnPropertyDescriptor(value, key);
      if (found === undefined) return chain(value, getPrototypeOf(value) as object | null, key);
      if (found.writable !== undefined) return found.value;
      return accessors.read(found.get, value);
    }
    return getPrimitive(value, key);
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
    },
    walk(value, index) {
      if (index >= table.length || index < 0) return index === 0 ? value : fault();
      const key = single[index];
      if (key !== undefined) return getProperty(value, key);
      const keys = table[index]!;
      let current = value;
      for (let i = 0; i < keys.length; i++) {
        current = getProperty(current, keys[i]!);
        if (current === FAULT) return FAULT;
      }
      return current;
    },
    getProperty,
    count: () => table.length,
  };
}

/** An array index written as text, or -1. */
function toIndex(key: string): number {
  const index = +key;
  return index >= 0 && index < 4294967295 && `${index}` === key && index % 1 === 0 ? index : -1;
}
