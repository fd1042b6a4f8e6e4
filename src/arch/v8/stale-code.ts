/**
 * What a live edit leaves behind in V8 13.0 to 14.5 (Node 24 and 25). There, each function has an entry in a table through which it
 * is called, and an edit gives every function that it changes a new one. Optimized code of other functions that calls such a
 * function has the place of its entry as a constant, which nothing of it keeps: a garbage collection frees the old entry, and the
 * next call through it ends the process with SIGSEGV. V8 throws away optimized code that has the function inlined, not this.
 * (V8 14.6 does not crash.) So all optimized code goes with an edit, and nothing of the application runs between the two: jobs that
 * compile on other threads are given up with it, and so it may go before the edit or after.
 *
 * A breakpoint on a built-in function does that and nothing else that anybody could see: since such a function may be inlined
 * anywhere, V8 throws all code away before it sets one (src/debug/debug.cc, PrepareFunctionForDebugExecution). Precise call
 * counts do it too, but would end the counting of an application that is run for its coverage.
 */

/** `v8` as in `process.versions`. */
export function editLeavesStaleCode(v8: string): boolean {
  const [major = 0, minor = 0] = v8.split('.').map(Number);
  return major === 13 || (major === 14 && minor < 6);
}

const { apply, getOwnPropertyDescriptor } = Reflect;
const functionToString = Function.prototype.toString;

export interface NativePlace {
  readonly expression: string;
  /** What the expression gives. */
  readonly value: (...args: never[]) => unknown;
}

/**
 * Where to put that breakpoint: a function that is no JavaScript and that hardly anybody calls (from then on a call of it is a little
 * slower), Node's own or V8's; undefined where the application has replaced them all.
 */
export function nativePlace(isProxy: (value: unknown) => boolean): NativePlace | undefined {
  const global = globalThis as unknown as Record<string, object | undefined>;
  for (const [holder, name] of [
    ['process', '_debugEnd'],
    ['Atomics', 'isLockFree'],
    ['Math', 'expm1'],
  ] as const) {
    const owner = global[holder];
    if (owner === undefined || isProxy(owner)) continue;
    const value: unknown = getOwnPropertyDescriptor(owner, name)?.value;
    if (typeof value !== 'function' || isProxy(value)) continue;
    if (apply(functionToString, value, []) !== `function ${name}() { [native code] }`) continue;
    return { expression: `${holder}.${name}`, value: value as NativePlace['value'] };
  }
  return undefined;
}

/** The condition of that breakpoint, should its function be called before it is removed. */
export const NEVER = 'false';
