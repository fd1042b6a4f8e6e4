/** Own properties of objects that hold a function: found without running anything of the application. */

import type { BindItem, PropertyItem } from '../worker/requests.ts';
import { type Replacement, replaceAccessor, replaceProperty, type WalkTypes } from './holders.ts';
import { getOwnPropertyDescriptor, getPrototypeOf, isFunction, isObject, textOf } from './intrinsics.ts';
import { attempt } from './tools.ts';

/** A property that holds the function. */
export interface Member {
  readonly value: unknown;
  replace(wrapper: unknown): Replacement | undefined;
}

/** Whether it is the function with this text. */
export function isOfText(value: unknown, text: string, types: WalkTypes): boolean {
  if (!isFunction(value) || types.isProxy(value)) return false;
  return textOf(value) === text;
}

function member(
  holder: object,
  key: string,
  half: 'get' | 'set' | undefined,
  text: string,
  types: WalkTypes,
): Member | undefined {
  const descriptor = getOwnPropertyDescriptor(holder, key);
  if (descriptor === undefined) return undefined;
  const value: unknown = half === undefined ? descriptor.value : descriptor[half];
  if (!isOfText(value, text, types)) return undefined;
  const replace = (wrapper: unknown): Replacement | undefined =>
    half === undefined ? replaceProperty(holder, key, wrapper) : replaceAccessor(holder, key, half, wrapper);
  return { value, replace };
}

/** From `this` up its prototypes, else from the class's name. */
export function methodMember(
  { target, text }: BindItem,
  self: unknown,
  getClass: (() => unknown) | undefined,
  types: WalkTypes,
): Member | undefined {
  if (target.via !== 'property') return undefined;
  const { key, accessor, isStatic } = target;
  let holder: unknown = self;
  for (let level = 0; level < 32 && isObject(holder) && !types.isProxy(holder); level++) {
    const found = member(holder, key, accessor, text, types);
    if (found !== undefined) return found;
    holder = getPrototypeOf(holder);
  }
  const made = attempt(getClass);
  if (!isFunction(made)) return undefined;
  const home: unknown = isStatic ? made : getOwnPropertyDescriptor(made, 'prototype')?.value;
  return isObject(home) ? member(home, key, accessor, text, types) : undefined;
}

/** By way of a CommonJS module's exports, their properties and prototypes. */
export function exportedMember(module: unknown, item: PropertyItem, types: WalkTypes): Member | undefined {
  if (!isObject(module)) return undefined;
  const exports: unknown = getOwnPropertyDescriptor(module, 'exports')?.value;
  const seen = new Set<unknown>();
  let level: unknown[] = [exports];
  for (let depth = 0; depth < 4 && level.length > 0 && seen.size < 5000; depth++) {
    const next: unknown[] = [];
    for (const holder of level) {
      if (!isObject(holder) || seen.has(holder) || types.isProxy(holder)) continue;
      if (types.isModuleNamespaceObject(holder)) continue;
      seen.add(holder);
      const found = member(holder, item.key, item.accessor, item.text, types);
      if (found !== undefined) return found;
      for (const key of Reflect.ownKeys(holder)) {
        const descriptor = getOwnPropertyDescriptor(holder, key);
        if (descriptor !== undefined && 'value' in descriptor) next.push(descriptor.value);
      }
      next.push(getPrototypeOf(holder));
    }
    level = next;
  }
  return undefined;
}
