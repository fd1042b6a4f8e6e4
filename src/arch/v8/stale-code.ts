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

/** Expressions of built-in functions that hardly anybody calls: from the first breakpoint on, a call of them is a little slower. */
export const BUILTINS = ['Atomics.isLockFree', 'Math.expm1', 'Math.atanh'] as const;

/** The value that somebody has put in a built-in function's place is none: by what the inspector's `Runtime.getProperties` says of it. */
export function isBuiltin(internalProperties: readonly { readonly name: string }[] = []): boolean {
  const others = ['[[FunctionLocation]]', '[[TargetFunction]]', '[[Handler]]'];
  return !internalProperties.some(({ name }) => others.includes(name));
}

/** The condition of that breakpoint, should its function be called before it is removed. */
export const NEVER = 'false';
