/**
 * References to a function that somebody keeps: exports, listeners, handler tables. A walk over own data properties,
 * array elements and Map values from given roots, bounded by objects and time; getters and Proxies are never touched.
 */

import {
  apply,
  defineProperty,
  forEachEntry,
  forEachValue,
  getOwnPropertyDescriptor,
  getPrototypeOf,
  isArray,
  isFunction,
  isObject,
  mapLookup,
  mapSize,
  mapStore,
  ownKeys,
  setSize,
} from './intrinsics.ts';

/** Elements of an array, Map or Set from which on it is not looked into. */
const LONG = 4096;

export interface WalkTypes {
  isProxy(value: unknown): boolean;
  isMap(value: unknown): boolean;
  isSet(value: unknown): boolean;
  isArrayBuffer(value: unknown): boolean;
  isTypedArray(value: unknown): boolean;
  isModuleNamespaceObject(value: unknown): boolean;
}

export interface WalkBudget {
  readonly objects: number;
  readonly depth: number;
  readonly ms: number;
}

export interface Replacement {
  /** False where the replacement is still there. */
  undo(): boolean;
}

/** One reference, to `of` before. */
export interface ReplacedHolder {
  readonly of: unknown;
  readonly replacement: Replacement;
}

export interface WalkResult {
  readonly replaced: ReplacedHolder[];
  /** Objects looked at. */
  readonly visited: number;
  /** The budget ended the walk. */
  readonly cut: boolean;
}

/**
 * Replaces every reference to a key of `swap` by its value. Properties that are neither writable nor configurable,
 * and members of Sets (their order would change), stay.
 */
export function replaceHolders(
  roots: readonly unknown[],
  swap: ReadonlyMap<unknown, unknown>,
  types: WalkTypes,
  budget: WalkBudget,
  now: () => number,
): WalkResult {
  const replaced: ReplacedHolder[] = [];
  const seen = new Set<unknown>();
  let level: object[] = [];
  let cut = false;
  const deadline = now() + budget.ms;
  const push = (value: unknown, into: object[]): void => {
    if (!isObject(value) || seen.has(value)) return;
    seen.add(value);
    if (types.isProxy(value) || types.isTypedArray(value) || types.isArrayBuffer(value)) return;
    into.push(value);
  };
  for (const root of roots) push(root, level);
  let visited = 0;
  for (let depth = 0; depth <= budget.depth && level.length > 0 && !cut; depth++) {
    const next: object[] = [];
    for (const holder of level) {
      if (visited++ >= budget.objects || ((visited & 255) === 0 && now() > deadline)) {
        cut = true;
        break;
      }
      visit(holder, swap, types, replaced, (value) => push(value, next));
    }
    level = next;
  }
  return { replaced, visited, cut };
}

function visit(
  holder: object,
  swap: ReadonlyMap<unknown, unknown>,
  types: WalkTypes,
  replaced: ReplacedHolder[],
  push: (value: unknown) => void,
): void {
  // a long array's keys alone would take longer than the whole walk may; handlers are not kept in such
  if (isArray(holder) && holder.length > LONG) return;
  for (const key of ownKeys(holder)) {
    const descriptor = getOwnPropertyDescriptor(holder, key);
    if (descriptor === undefined || !('value' in descriptor)) continue;
    const value: unknown = descriptor.value;
    if (!isObject(value)) continue;
    const substitute = isFunction(value) ? swap.get(value) : undefined;
    if (substitute === undefined) push(value);
    else if (!types.isModuleNamespaceObject(holder)) {
      const replacement = replaceProperty(holder, key, substitute);
      if (replacement !== undefined) replaced.push({ of: value, replacement });
    }
  }
  if (types.isMap(holder) && (apply(mapSize, holder, []) as number) <= LONG) {
    forEachEntry(holder, (key, value) => {
      const substitute = isFunction(value) ? swap.get(value) : undefined;
      if (substitute === undefined) return push(value);
      mapStore(holder, key, substitute);
      const undo = (): boolean => {
        if (mapLookup(holder, key) === substitute) mapStore(holder, key, value);
        return true;
      };
      replaced.push({ of: value, replacement: { undo } });
    });
  } else if (types.isSet(holder) && (apply(setSize, holder, []) as number) <= LONG) {
    forEachValue(holder, push);
  }
  push(getPrototypeOf(holder));
}

/** Puts a value in the place of an own data property's; undefined when the property does not let it. */
export function replaceProperty(holder: object, key: PropertyKey, value: unknown): Replacement | undefined {
  const before = getOwnPropertyDescriptor(holder, key);
  if (
    before === undefined ||
    !('value' in before) ||
    !(before.writable === true || before.configurable === true)
  ) {
    return undefined;
  }
  // only the value: enumerable, writable and configurable stay as they are
  if (!defineProperty(holder, key, { value })) return undefined;
  const original: unknown = before.value;
  return {
    undo: () => {
      const current = getOwnPropertyDescriptor(holder, key);
      if (current === undefined || !('value' in current) || current.value !== value) return true;
      return defineProperty(holder, key, { value: original });
    },
  };
}

/** The same for one half of an accessor property. */
export function replaceAccessor(
  holder: object,
  key: PropertyKey,
  half: 'get' | 'set',
  value: unknown,
): Replacement | undefined {
  const before = getOwnPropertyDescriptor(holder, key);
  if (before === undefined || 'value' in before || before.configurable !== true) return undefined;
  if (!defineProperty(holder, key, { [half]: value as () => unknown })) return undefined;
  const original = before[half];
  return {
    undo: () => {
      const current = getOwnPropertyDescriptor(holder, key);
      if (current?.[half] !== value) return true;
      return defineProperty(holder, key, { [half]: original as () => unknown });
    },
  };
}
