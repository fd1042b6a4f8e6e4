/**
 * Static keys (include/linux/jump_label.h): a branch that is not there while it is off. The kernel patches the code; V8 does that
 * for us where the key is a property of the global object: optimized code takes its value for a constant, so nothing is left of an
 * untaken branch, nor of the arguments made for it. Taking the property away and defining it anew makes V8 throw that code away,
 * and trust the new value in turn. A variable does not do: once it has changed, it is a variable for good.
 */

export interface StaticKey<T> {
  /** `on(value)` while the key is on, nothing while it is off. */
  readonly branch: (value: T) => void;
  readonly isOn: () => boolean;
  set(on: boolean): void;
  /** Off for good; nothing of it stays behind. */
  dispose(): void;
}

const PREFIX = '__trapline_key_';
let made = 0;

/** `on` is what the branch calls. */
export function staticKey<T>(on: (value: T) => void): StaticKey<T> {
  return globalKey(on) ?? plainKey(on);
}

/** Undefined where no code is made of text, or the global object takes no property. */
function globalKey<T>(on: (value: T) => void): StaticKey<T> | undefined {
  // more than one copy of this file may be in the process
  while (`${PREFIX}${made}` in globalThis) made++;
  const name = `${PREFIX}${made++}`;
  const set = (value: unknown): boolean =>
    Reflect.deleteProperty(globalThis, name) &&
    Reflect.defineProperty(globalThis, name, {
      value,
      writable: false,
      enumerable: false,
      configurable: true,
    });
  try {
    // `typeof`: somebody may delete it, and then it is off
    const [branch, isOn] = new Function(
      `'use strict'; return [(value) => { if (typeof ${name} === 'function') ${name}(value); }, () => typeof ${name} === 'function'];`,
    )() as [(value: T) => void, () => boolean];
    if (!set(undefined)) return undefined;
    return {
      branch,
      isOn,
      set: (value) => void set(value ? on : undefined),
      dispose: () => void Reflect.deleteProperty(globalThis, name),
    };
  } catch {
    return undefined;
  }
}

function plainKey<T>(on: (value: T) => void): StaticKey<T> {
  let isOn = false;
  return {
    branch: (value) => {
      if (isOn) on(value);
    },
    isOn: () => isOn,
    set: (value) => {
      isOn = value;
    },
    dispose: () => {
      isOn = false;
    },
  };
}
