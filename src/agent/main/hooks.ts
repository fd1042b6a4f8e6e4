/** The globals that instrumented text calls, and the texts that edited functions have to answer. */
import {
  defineProperty,
  deleteProperty,
  MapConstructor,
  mapDelete,
  mapForEach,
  mapSet,
} from './intrinsics.ts';
import type { SiteHooks } from './site-code.ts';
import type { Sites } from './sites.ts';
import type { ToStringPatch } from './tostring.ts';
import type { Trampolines } from './trampoline.ts';

export interface Hooks {
  install(sites: readonly number[], texts: readonly { edited: string; original: string }[]): void;
  remove(sites: readonly number[]): void;
  removeAll(): void;
}

const LETTERS: readonly (keyof SiteHooks)[] = ['e', 'r', 't', 's', 'b'];

export function createHooks(
  prefix: string,
  sites: Sites,
  trampolines: Trampolines,
  toStringPatch: ToStringPatch,
): Hooks {
  const global = globalThis;
  const installed = new MapConstructor<number, boolean>();

  function removeOne(id: number): void {
    for (let i = 0; i < LETTERS.length; i++) deleteProperty(global, `${prefix}${id}${LETTERS[i]}`);
    mapDelete(installed, id);
  }

  function removeAll(): void {
    mapForEach(installed, ((_: boolean, id: number) => removeOne(id)) as never);
    toStringPatch.clearTexts();
    toStringPatch.drop('texts');
  }

  return {
    install(ids, texts) {
      for (let i = 0; i < ids.length; i++) {
        const id = ids[i]!;
        const { hooks } = trampolines.code(sites.get(id));
        for (let j = 0; j < LETTERS.length; j++) {
          const letter = LETTERS[j]!;
          defineProperty(global, `${prefix}${id}${letter}`, {
            __proto__: null,
            value: hooks[letter],
            writable: false,
            enumerable: false,
            configurable: true,
          } as PropertyDescriptor);
        }
        mapSet(installed, id, true);
      }
      for (let i = 0; i < texts.length; i++) toStringPatch.addText(texts[i]!.edited, texts[i]!.original);
      if (texts.length > 0) toStringPatch.hold('texts');
    },
    remove(ids) {
      for (let i = 0; i < ids.length; i++) removeOne(ids[i]!);
      let left = 0;
      mapForEach(installed, (() => {
        left++;
      }) as never);
      if (left === 0) removeAll();
    },
    removeAll,
  };
}
