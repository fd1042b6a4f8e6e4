/** Properties of this process's values, without running the application's code. */

/** A property, by the accessors of its class, too, but by none of the object's own: that is the application's code. */
export function ownProperty(value: unknown, key: string): unknown {
  if (value === null || (typeof value !== 'object' && typeof value !== 'function')) return undefined;
  try {
    const own = Reflect.getOwnPropertyDescriptor(value, key);
    return own === undefined ? Reflect.get(value, key) : own.value;
  } catch {
    return undefined;
  }
}
