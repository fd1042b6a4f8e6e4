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
  /** Hooks are defined in this context's global, too, from now on; false where it does not take them. */
  addGlobal(other: object): boolean;
}

const LETTERS: readonly (keyof SiteHooks)[] = ['e', 'r', 't', 's', 'b'];

export function createHooks(
  prefix: string,
  sites: Sites,
  trampolines: Trampolines,
  toStringPatch: ToStringPatch,
): Hooks {
  const globals: object[] = [globalThis];
  const installed = new MapConstructor<number, boolean>();

  function removeOne(id: number): void {
    for (let i = 0; i < LETTERS.length; i++) {
      for (let j = 0; j < globals.length; j++) deleteProperty(globals[j]!, `${prefix}${id}${LETTERS[i]}`);
    }
    mapDelete(installed, id);
  }

  function define(name: string, value: unknown): void {
    for (let i = 0; i < globals.length; i++) {
      defineProperty(globals[i]!, name, {
        __proto__: null,
        value,
        writable: false,
        enumerable: false,
        configurable: true,
      } as PropertyDescriptor);
    }
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
          define(`${prefix}${id}${letter}`, hooks[letter]);
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
    addGlobal(other) {
      for (let i = 0; i < globals.length; i++) if (globals[i] === other) return true;
      const probe = `${prefix}p`;
      const descriptor = { __proto__: null, value: 0, configurable: true } as PropertyDescriptor;
      try {
        if (!defineProperty(other, probe, descriptor) || !deleteProperty(other, probe)) return false;
      } catch {
        return false;
      }
      globals[globals.length] = other;
      const ids: number[] = [];
      mapForEach(installed, ((_: boolean, id: number) => {
        ids[ids.length] = id;
      }) as never);
      for (let i = 0; i < ids.length; i++) {
        const { hooks } = trampolines.code(sites.get(ids[i]!));
        for (let j = 0; j < LETTERS.length; j++)
          define(`${prefix}${ids[i]}${LETTERS[j]}`, hooks[LETTERS[j]!]);
      }
      return true;
    },
  };
}
