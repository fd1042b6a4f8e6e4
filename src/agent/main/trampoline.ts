/**
 * Wrappers: functions that stand in for originals. Three kinds (site-code.ts), chosen so that what can be asked of the
 * original can be asked of the wrapper: whether it constructs, its mode, its own properties, its prototype.
 */
import type { Types } from './accessors.ts';
import {
  type AnyFunction,
  defineProperty,
  deleteProperty,
  functionToString,
  getOwnPropertyDescriptor,
  getPrototypeOf,
  ownKeys,
  ProxyConstructor,
  regexpExec,
  setPrototypeOf,
  slice,
  WeakMapConstructor,
  weakGet,
  weakSet,
} from './intrinsics.ts';
import type { SiteCode, SiteState } from './site-code.ts';
import type { SiteCompiler } from './site-compiler.ts';
import type { ToStringPatch } from './tostring.ts';

export interface Trampolines {
  /** The wrapper, or `original` itself where it cannot be wrapped without harm. */
  wrap(site: SiteState, original: unknown): unknown;
  unwrap(value: unknown): unknown;
  /** The site's own code in strict mode. */
  code(site: SiteState): SiteCode;
}

const PRIVATE_STATIC = /\bstatic\b\s*(?:async\b\s*|get\b\s*|set\b\s*|\*\s*)*#/;
const STANDARD_KEYS = ['length', 'name', 'prototype', 'arguments', 'caller'];

export function createTrampolines(
  compiler: SiteCompiler,
  types: Types,
  originals: WeakMap<object, unknown>,
  toStringPatch: ToStringPatch,
): Trampolines {
  const codes = new WeakMapConstructor<object, SiteCode>();
  const sloppyCodes = new WeakMapConstructor<object, SiteCode>();
  /** original → site → wrapper: wrapping twice gives the same function. */
  const wrappers = new WeakMapConstructor<object, { site: SiteState; wrapper: AnyFunction }[]>();

  function codeOf(site: SiteState, sloppy: boolean): SiteCode {
    const table = sloppy ? sloppyCodes : codes;
    let code = weakGet(table, site) as SiteCode | undefined;
    if (code === undefined) {
      code = compiler.compile(site, sloppy);
      weakSet(table, site, code);
    }
    return code;
  }

  /** Whether `new f` is possible, found without running anything: a Proxy constructs only if its target does. */
  function isConstructor(original: object): boolean {
    const asked = new ProxyConstructor(original, {
      __proto__: null,
      construct: () => ({}),
    } as ProxyHandler<object>) as new () => object;
    try {
      new asked();
      return true;
    } catch {
      return false;
    }
  }

  /** A class with private static members finds them on itself only; its stand-in would not have them. */
  function hasPrivateStatics(text: string): boolean {
    return slice(text, 0, 5) === 'class' && regexpExec(PRIVATE_STATIC, text) !== null;
  }

  function dress(wrapper: object, original: object): void {
    const have = ownKeys(wrapper);
    for (let i = 0; i < have.length; i++) {
      if (getOwnPropertyDescriptor(original, have[i]!) === undefined) deleteProperty(wrapper, have[i]!);
    }
    const want = ownKeys(original);
    for (let i = 0; i < want.length; i++) {
      const found = getOwnPropertyDescriptor(original, want[i]!)!;
      // V8's own `arguments` and `caller` of sloppy functions are the wrapper's own already.
      if (want[i] === 'arguments' || want[i] === 'caller') continue;
      defineProperty(wrapper, want[i]!, found);
    }
    if (getPrototypeOf(wrapper) !== getPrototypeOf(original))
      setPrototypeOf(wrapper, getPrototypeOf(original));
  }

  function make(site: SiteState, original: object): AnyFunction | undefined {
    const text = functionToString(original);
    if (hasPrivateStatics(text)) return undefined;
    const keys = ownKeys(original);
    let extra = false;
    let sloppy = false;
    for (let i = 0; i < keys.length; i++) {
      let standard = false;
      for (let j = 0; j < STANDARD_KEYS.length; j++) if (keys[i] === STANDARD_KEYS[j]) standard = true;
      if (!standard) extra = true;
      if (keys[i] === 'caller') sloppy = true;
    }
    const constructs = isConstructor(original);
    // A bound function constructs and has no prototype property, which no other function can do without.
    if (extra || (constructs && getOwnPropertyDescriptor(original, 'prototype') === undefined)) {
      return codeOf(site, false).wrapProxy(original);
    }
    const wrapper = constructs
      ? codeOf(site, sloppy).wrapFunction(original)
      : codeOf(site, false).wrapMethod(original);
    dress(wrapper, original);
    return wrapper;
  }

  return {
    code: (site) => codeOf(site, false),
    wrap(site, value) {
      if (typeof value !== 'function') return value;
      let original: object = value;
      // A wrapper of the same site is returned; a wrapper of another one is wrapped again, as a function like any.
      const behind = weakGet(originals, value) as object | undefined;
      if (behind !== undefined) {
        const list = weakGet(wrappers, behind) as { site: SiteState; wrapper: AnyFunction }[] | undefined;
        for (let i = 0; list !== undefined && i < list.length; i++) {
          if (list[i]!.wrapper === value && list[i]!.site === site) return value;
        }
        original = value;
      } else if (types.isProxy(value)) {
        return value;
      }
      const made = (weakGet(wrappers, original) ?? []) as { site: SiteState; wrapper: AnyFunction }[];
      for (let i = 0; i < made.length; i++) if (made[i]!.site === site) return made[i]!.wrapper;
      const wrapper = make(site, original);
      if (wrapper === undefined) return value;
      made[made.length] = { site, wrapper };
      weakSet(wrappers, original, made);
      weakSet(originals, wrapper, original);
      toStringPatch.hold('wrappers');
      return wrapper;
    },
    unwrap(value) {
      if (typeof value !== 'function') return value;
      const original = weakGet(originals, value) as object | undefined;
      if (original === undefined) return value;
      if (!types.isProxy(value)) giveBack(value, original);
      return original;
    },
  };

  /** Properties that the application has put on a wrapper move to the original. */
  function giveBack(wrapper: object, original: object): void {
    const keys = ownKeys(wrapper);
    for (let i = 0; i < keys.length; i++) {
      const key = keys[i]!;
      if (key === 'arguments' || key === 'caller') continue;
      const now = getOwnPropertyDescriptor(wrapper, key)!;
      const old = getOwnPropertyDescriptor(original, key);
      if (old === undefined || old.value !== now.value || old.get !== now.get || old.set !== now.set) {
        defineProperty(original, key, now);
      }
    }
    const had = ownKeys(original);
    for (let i = 0; i < had.length; i++) {
      if (getOwnPropertyDescriptor(wrapper, had[i]!) === undefined) deleteProperty(original, had[i]!);
    }
    if (getPrototypeOf(original) !== getPrototypeOf(wrapper))
      setPrototypeOf(original, getPrototypeOf(wrapper));
  }
}
