/** Where a breakpoint has V8 throw compiled code away: ../worker/compiled-code.ts. */

import { getOwnPropertyDescriptor, isFunction, textOf } from './intrinsics.ts';

/** A function that is no JavaScript and that hardly anybody calls, Node's own or V8's; undefined where the application has replaced them. */
export function nativePlace(types: { isProxy(value: unknown): boolean }): unknown {
  const global = globalThis as unknown as Record<string, object | undefined>;
  const places = [
    [global.process, '_debugEnd'],
    [global.Atomics, 'isLockFree'],
    [global.Math, 'expm1'],
  ] as const;
  for (const [owner, name] of places) {
    if (owner === undefined || types.isProxy(owner)) continue;
    const value: unknown = getOwnPropertyDescriptor(owner, name)?.value;
    if (!isFunction(value) || types.isProxy(value)) continue;
    if (textOf(value) === `function ${name}() { [native code] }`) return value;
  }
  return undefined;
}
