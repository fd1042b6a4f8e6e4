/** Intrinsics captured before the application can change them any more, called without going through its objects. */

const { apply, getOwnPropertyDescriptor, getPrototypeOf, ownKeys, defineProperty } = Reflect;
const functionToString = Function.prototype.toString;

export { apply, defineProperty, getOwnPropertyDescriptor, getPrototypeOf, ownKeys };

export const { isArray } = Array;
export const mapSize = Object.getOwnPropertyDescriptor(Map.prototype, 'size')?.get as () => number;
export const setSize = Object.getOwnPropertyDescriptor(Set.prototype, 'size')?.get as () => number;

export const textOf = (value: (...args: never[]) => unknown): string =>
  apply(functionToString, value, []) as string;

export const isFunction = (value: unknown): value is (...args: never[]) => unknown =>
  typeof value === 'function';

export const isObject = (value: unknown): value is object =>
  (typeof value === 'object' && value !== null) || typeof value === 'function';

const { get: mapGet, set: mapSet, entries: mapEntries } = Map.prototype;
const mapIteratorNext = (
  Object.getPrototypeOf(new Map().entries()) as { next(): IteratorResult<[unknown, unknown]> }
).next;
const setValues = Set.prototype.values;
const setIteratorNext = (Object.getPrototypeOf(new Set().values()) as { next(): IteratorResult<unknown> })
  .next;

export const mapLookup = (map: object, key: unknown): unknown => apply(mapGet, map, [key]);
export const mapStore = (map: object, key: unknown, value: unknown): void => {
  apply(mapSet, map, [key, value]);
};

export function forEachEntry(map: object, visit: (key: unknown, value: unknown) => void): void {
  const iterator = apply(mapEntries, map, []) as object;
  for (;;) {
    const step = apply(mapIteratorNext, iterator, []) as IteratorResult<[unknown, unknown]>;
    if (step.done === true) return;
    visit(step.value[0], step.value[1]);
  }
}

export function forEachValue(set: object, visit: (value: unknown) => void): void {
  const iterator = apply(setValues, set, []) as object;
  for (;;) {
    const step = apply(setIteratorNext, iterator, []) as IteratorResult<unknown>;
    if (step.done === true) return;
    visit(step.value);
  }
}
