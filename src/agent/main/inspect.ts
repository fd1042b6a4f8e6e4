/**
 * A bounded literal of a value, from own data properties only: `{ url: '/x', n: 2, f: [Function: f] }`. Getters show as
 * [Getter], Proxies as [Proxy]. No object with more properties than V8 keeps in its compact form is enumerated.
 */
import type { Types } from './accessors.ts';
import {
  bigintToString,
  charCodeAt,
  getOwnPropertyDescriptor,
  getPrototypeOf,
  isArray,
  jsonQuote,
  mapEntries,
  mapNext,
  mapSize,
  numberToString,
  ObjectPrototype,
  ownKeys,
  setNext,
  setSize,
  setValues,
  slice,
  symbolDescription,
  typedArrayLength,
} from './intrinsics.ts';
import type { Natives } from './natives.ts';

export interface Inspect {
  /** The literal, of not much more than `limit` UTF-16 units. */
  literal(value: object, limit: number): string;
  /** `name: message` of an error, from data properties. */
  error(value: object): string;
  /** A function's own name. */
  functionName(value: object): string;
  /** Names that a value or its prototypes have, for hints: none of what has very many. */
  names(value: unknown): string[];
  /** A string that costs too much to read is left out. */
  readable(text: string): boolean;
}

const MAX_DEPTH = 2;
const MAX_ENTRIES = 32;
const MAX_TEXT = 100;
const MAX_NAMES = 200;
const MAX_HOLDERS = 8;
/** Fast objects keep indexed elements apart from named properties; these show whether there are very many. */
const INDEX_SAMPLES = ['100', '1000', '10000', '100000', '1000000'];

export function createInspect(types: Types, natives: Natives, maxRope: number): Inspect {
  function readable(text: string): boolean {
    return text.length <= maxRope || natives.isFlat(text);
  }

  /** A data property found on the object or its prototypes; undefined if there is none or it cannot be read. */
  function data(value: object, key: PropertyKey): unknown {
    let holder: object | null = value;
    for (let depth = 0; holder !== null && depth < 32; depth++) {
      if (types.isProxy(holder)) return undefined;
      const found = getOwnPropertyDescriptor(holder, key);
      if (found !== undefined) return found.writable !== undefined ? found.value : undefined;
      holder = getPrototypeOf(holder) as object | null;
    }
    return undefined;
  }

  function cut(text: string, most: number): string {
    if (!readable(text)) return `[String: ${text.length} characters]`;
    return text.length > most ? `${slice(text, 0, most)}...` : text;
  }

  function quote(text: string): string {
    const shown = cut(text, MAX_TEXT);
    if (isPlain(shown)) return `'${shown}'`;
    const body = slice(jsonQuote(shown), 1, -1);
    let out = '';
    for (let i = 0; i < body.length; i++) {
      const char = body[i]!;
      if (char === '\\' && body[i + 1] === '"') {
        out += '"';
        i++;
      } else if (char === '\\') out += char + body[++i]!;
      else out += char === "'" ? "\\'" : char;
    }
    return `'${out}'`;
  }

  /** Printable ASCII that needs no escape. */
  function isPlain(text: string): boolean {
    for (let i = 0; i < text.length; i++) {
      const code = charCodeAt(text, i);
      if (code < 32 || code > 126 || code === 39 || code === 92) return false;
    }
    return true;
  }

  function isIdentifier(key: string): boolean {
    if (key.length === 0 || key.length > MAX_TEXT) return false;
    for (let i = 0; i < key.length; i++) {
      const c = key[i]!;
      const letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c === '_' || c === '$';
      if (!letter && !(i > 0 && c >= '0' && c <= '9')) return false;
    }
    return true;
  }

  function functionName(value: object): string {
    if (types.isProxy(value)) return '';
    const name = getOwnPropertyDescriptor(value, 'name');
    return name !== undefined && typeof name.value === 'string' ? cut(name.value, MAX_TEXT) : '';
  }

  function error(value: object): string {
    const name = data(value, 'name');
    const message = data(value, 'message');
    const shownName = typeof name === 'string' ? cut(name, MAX_TEXT) : 'Error';
    return typeof message === 'string' && message !== '' ? `${shownName}: ${cut(message, 1000)}` : shownName;
  }

  /** `Cart` of an instance of class Cart, '' of a plain object. */
  function className(value: object): string {
    const prototype = getPrototypeOf(value) as object | null;
    if (prototype === null) return '[Object: null prototype]';
    if (types.isProxy(prototype)) return '';
    const made = data(prototype, 'constructor');
    const name = typeof made === 'function' ? functionName(made) : '';
    return name === 'Object' ? '' : name;
  }

  function tooMany(value: object): boolean {
    if (!natives.hasFewProperties(value)) return true;
    for (let i = 0; i < INDEX_SAMPLES.length; i++) {
      if (getOwnPropertyDescriptor(value, INDEX_SAMPLES[i]!) !== undefined) return true;
    }
    return false;
  }

  function literal(value: object, limit: number): string {
    const path: unknown[] = [];
    let left = limit;

    function show(item: unknown, depth: number): string {
      const text = render(item, depth);
      left -= text.length;
      return text;
    }

    function entry(found: PropertyDescriptor, depth: number): string {
      if (found.writable === undefined) {
        if (found.get === undefined) return '[Setter]';
        return found.set === undefined ? '[Getter]' : '[Getter/Setter]';
      }
      return show(found.value, depth);
    }

    function render(item: unknown, depth: number): string {
      switch (typeof item) {
        case 'string':
          return quote(item);
        case 'number':
          return item === 0 && 1 / item < 0 ? '-0' : numberToString(item);
        case 'bigint':
          return item < 10n ** 40n && item > -(10n ** 40n) ? `${bigintToString(item)}n` : '[BigInt]';
        case 'boolean':
          return item ? 'true' : 'false';
        case 'undefined':
          return 'undefined';
        case 'symbol':
          return `Symbol(${cut(symbolDescription(item) ?? '', MAX_TEXT)})`;
        case 'function': {
          if (types.isProxy(item)) return '[Proxy]';
          const name = functionName(item);
          return name === '' ? '[Function (anonymous)]' : `[Function: ${name}]`;
        }
        default:
          return item === null ? 'null' : object(item as object, depth);
      }
    }

    function object(item: object, depth: number): string {
      if (types.isProxy(item)) return '[Proxy]';
      if (types.isNativeError(item)) return `[${error(item)}]`;
      for (let i = 0; i < depth; i++) if (path[i] === item) return '[Circular]';
      if (types.isTypedArray(item)) return `${className(item) || 'TypedArray'}(${typedArrayLength(item)})`;
      const kind = isArray(item) ? 'Array' : className(item);
      if (types.isPromise(item) || types.isDate(item) || types.isRegExp(item)) return `[${kind || 'Object'}]`;
      if (depth > MAX_DEPTH || left <= 0) return `[${kind || 'Object'}]`;
      path[depth] = item;
      if (isArray(item)) return array(item, depth);
      if (types.isMap(item)) return map(item, depth);
      if (types.isSet(item)) return set(item, depth);
      const lead = kind === '' ? '' : `${kind} `;
      if (types.isModuleNamespaceObject(item)) return '[Module]';
      if (tooMany(item)) return `[${kind || 'Object'}: too many properties]`;
      const keys = ownKeys(item);
      let out = '';
      let shown = 0;
      for (let i = 0; i < keys.length; i++) {
        const key = keys[i]!;
        if (typeof key === 'symbol') continue;
        const found = getOwnPropertyDescriptor(item, key);
        if (found === undefined || found.enumerable !== true) continue;
        if (shown === MAX_ENTRIES || left <= 0) {
          out += ', ...';
          break;
        }
        const name = isIdentifier(key as string) ? (key as string) : quote(key as string);
        out += `${shown === 0 ? '' : ', '}${name}: ${entry(found, depth + 1)}`;
        left -= name.length + 4;
        shown++;
      }
      return shown === 0 ? `${lead}{}` : `${lead}{ ${out} }`;
    }

    function array(item: readonly unknown[], depth: number): string {
      let out = '';
      const { length } = item;
      let i = 0;
      for (; i < length && i < MAX_ENTRIES && left > 0; i++) {
        const found = getOwnPropertyDescriptor(item, i);
        out += (i === 0 ? '' : ', ') + (found === undefined ? '<empty>' : entry(found, depth + 1));
      }
      if (i < length) out += `, ... ${length - i} more`;
      return length === 0 ? '[]' : `[ ${out} ]`;
    }

    function map(item: object, depth: number): string {
      const iterator = mapEntries(item);
      let out = '';
      for (let i = 0; i < MAX_ENTRIES && left > 0; i++) {
        const { done, value: pair } = mapNext(iterator);
        if (done === true) break;
        out += `${i === 0 ? '' : ', '}${show(pair[0], depth + 1)} => ${show(pair[1], depth + 1)}`;
      }
      return out === '' ? `Map(${mapSize(item)}) {}` : `Map(${mapSize(item)}) { ${out} }`;
    }

    function set(item: object, depth: number): string {
      const iterator = setValues(item);
      let out = '';
      for (let i = 0; i < MAX_ENTRIES && left > 0; i++) {
        const { done, value: member } = setNext(iterator);
        if (done === true) break;
        out += (i === 0 ? '' : ', ') + show(member, depth + 1);
      }
      return out === '' ? `Set(${setSize(item)}) {}` : `Set(${setSize(item)}) { ${out} }`;
    }

    return object(value, 0);
  }

  function names(value: unknown): string[] {
    const found: string[] = [];
    if (typeof value === 'string') found[0] = 'length';
    if (typeof value !== 'object') return found;
    let holder = value;
    for (let depth = 0; holder !== null && holder !== ObjectPrototype && depth < MAX_HOLDERS; depth++) {
      if (types.isProxy(holder) || types.isTypedArray(holder) || tooMany(holder)) break;
      const keys = ownKeys(holder);
      for (let i = 0; i < keys.length && found.length < MAX_NAMES; i++) {
        const key = keys[i]!;
        if (typeof key === 'string' && key.length <= MAX_TEXT && isIdentifier(key)) found[found.length] = key;
      }
      holder = getPrototypeOf(holder) as object | null;
    }
    return found;
  }

  return { literal, error, functionName, names, readable };
}
