/** Hooks that do nothing. */

/**
 * A text that could not be set back goes on calling its hooks: these stay in each of the global objects. Not configurable, so that the
 * agent's end does not take them along.
 */
export function keepHooks(prefix: string, sites: readonly number[], globals: Iterable<object>): void {
  const inert: Record<string, unknown> = {
    e: () => 0,
    r: (_: unknown, value: unknown) => value,
    t: () => undefined,
    s: () => undefined,
  };
  for (const site of sites) {
    for (const letter of Reflect.ownKeys(inert) as string[]) {
      const descriptor: PropertyDescriptor = {
        value: inert[letter],
        writable: false,
        enumerable: false,
        configurable: false,
      };
      for (const global of globals) Reflect.defineProperty(global, `${prefix}${site}${letter}`, descriptor);
    }
  }
}
