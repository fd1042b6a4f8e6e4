/**
 * Other contexts of this isolate (`vm.createContext`): hooks have to be globals there, too, and no object of V8's inspector
 * crosses from one context into another. An error does: for the stack of an error of any context Node asks
 * `Error.prepareStackTrace` of the main one. So the worker has three things done in one go: `open`, an evaluation in the other
 * context that throws, marks the error with its global and asks for the stack, and `close`.
 */

import { apply, defineProperty, getOwnPropertyDescriptor, isFunction, isObject } from './intrinsics.ts';

const { deleteProperty } = Reflect;
const errorToString = Error.prototype.toString;
const join = Array.prototype.join;

export class Contexts {
  readonly #error = Error;
  /** Name of the property that holds the other context's global. */
  readonly #key: string;
  #before: PropertyDescriptor | undefined;
  #isOpen = false;
  #found: object | undefined;

  constructor(prefix: string) {
    this.#key = `${prefix}g`;
  }

  get key(): string {
    return this.#key;
  }

  open(): void {
    if (this.#isOpen) return;
    this.#found = undefined;
    const before = getOwnPropertyDescriptor(this.#error, 'prepareStackTrace');
    const value = (error: unknown, trace: unknown[]): unknown => {
      const mark = isObject(error) ? getOwnPropertyDescriptor(error, this.#key) : undefined;
      if (isObject(mark?.value)) {
        this.#found = mark.value;
        return '';
      }
      const previous: unknown = before?.value;
      if (isFunction(previous)) return apply(previous, this.#error, [error, trace] as never);
      const head = apply(errorToString, error, []) as string;
      return trace.length === 0 ? head : `${head}\n    at ${apply(join, trace, ['\n    at ']) as string}`;
    };
    this.#before = before;
    this.#isOpen = defineProperty(this.#error, 'prepareStackTrace', {
      value,
      writable: true,
      enumerable: false,
      configurable: true,
    });
  }

  /** Puts things back; the other context's global, if it came. */
  close(): object | undefined {
    if (!this.#isOpen) return undefined;
    this.#isOpen = false;
    if (this.#before === undefined) deleteProperty(this.#error, 'prepareStackTrace');
    else defineProperty(this.#error, 'prepareStackTrace', this.#before);
    const found = this.#found;
    this.#found = undefined;
    return found;
  }
}
