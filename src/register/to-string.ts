/** Function.prototype.toString answers the text as it was written. */
import { NOP_OPEN, stripNops } from '../arch/v8/instrument-nop.ts';

export function patchToString(): void {
  const prototype = Function.prototype;
  const native = prototype.toString;
  const { apply } = Reflect;
  const { includes } = String.prototype;
  // A method, as the native one: no prototype, not a constructor
  const patched = {
    toString(this: unknown): string {
      const text = apply(native, this === patched.toString ? native : this, []) as string;
      return (apply(includes, text, [NOP_OPEN]) as boolean) ? stripNops(text) : text;
    },
  };
  Object.defineProperty(prototype, 'toString', {
    value: patched.toString,
    writable: true,
    enumerable: false,
    configurable: true,
  });
}
