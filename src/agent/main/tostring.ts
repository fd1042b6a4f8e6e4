/**
 * Function.prototype.toString while wrappers or edited functions exist: it answers the original's text for them, and for
 * itself. Nothing is patched before the first one, and the property is restored exactly.
 */
import {
  type AnyFunction,
  apply,
  defineProperty,
  getOwnPropertyDescriptor,
  MapConstructor,
  mapClear,
  mapGet,
  mapSet,
  WeakMapConstructor,
  weakGet,
  weakSet,
} from './intrinsics.ts';

export interface ToStringPatch {
  /** `user` names what needs the patch ('wrappers', 'texts'); it stays while any does. */
  hold(user: string): void;
  drop(user: string): void;
  addText(edited: string, original: string): void;
  clearTexts(): void;
  restore(): void;
}

/** `originals` leads from a wrapper to what it stands for. */
export function createToStringPatch(originals: WeakMap<object, unknown>): ToStringPatch {
  const prototype = Function.prototype;
  const texts = new MapConstructor<string, string>();
  const selves = new WeakMapConstructor<object, unknown>();
  let users: string[] = [];
  let patched: AnyFunction | undefined;
  let before: PropertyDescriptor | undefined;

  function install(): void {
    if (patched !== undefined) return;
    const found = getOwnPropertyDescriptor(prototype, 'toString');
    // An accessor, or a property that cannot be written, is somebody else's arrangement.
    if (found === undefined || found.writable !== true || typeof found.value !== 'function') return;
    const next = found.value as AnyFunction;
    const replacement = {
      toString(this: unknown): string {
        let target: unknown = this;
        if (typeof target === 'function') {
          const original = weakGet(originals, target) ?? weakGet(selves, target);
          if (original !== undefined) target = original;
        }
        const text = apply(next, target, []) as string;
        return (mapGet(texts, text) as string | undefined) ?? text;
      },
    }.toString;
    weakSet(selves, replacement, next);
    if (defineProperty(prototype, 'toString', { ...found, value: replacement })) {
      patched = replacement as AnyFunction;
      before = found;
    }
  }

  function uninstall(): void {
    if (patched === undefined || before === undefined) return;
    const found = getOwnPropertyDescriptor(prototype, 'toString');
    if (found?.value === patched) defineProperty(prototype, 'toString', { ...found, value: before.value });
    patched = undefined;
    before = undefined;
  }

  return {
    hold(user) {
      for (let i = 0; i < users.length; i++) if (users[i] === user) return;
      users[users.length] = user;
      install();
    },
    drop(user) {
      const left: string[] = [];
      for (let i = 0; i < users.length; i++) if (users[i] !== user) left[left.length] = users[i]!;
      users = left;
      if (left.length === 0) uninstall();
    },
    addText(edited, original) {
      mapSet(texts, edited, original);
    },
    clearTexts() {
      mapClear(texts);
    },
    restore() {
      users = [];
      uninstall();
    },
  };
}
