/**
 * Accessors of JavaScript and Node that work on an object's internal state only, told by the identity of their getter,
 * and lookups that are not properties (a Map's entries). Everything else that is an accessor is refused.
 */
import {
  type AnyFunction,
  apply,
  arrayBufferByteLength,
  type BuiltinModules,
  dataViewByteLength,
  dataViewByteOffset,
  defineProperty,
  ErrorPrototype,
  functionToString,
  getOwnPropertyDescriptor,
  getPrototypeOf,
  indexOf,
  isArray,
  MapConstructor,
  mapGet,
  mapHas,
  mapSet,
  mapSize,
  ownKeys,
  setSize,
  sharedByteLength,
  symbolDescription,
  TypedArrayPrototype,
  toLowerCase,
  typedArrayByteLength,
  typedArrayByteOffset,
  typedArrayLength,
  uncurry,
} from './intrinsics.ts';
import { EFAULT, FAULT } from './values.ts';

/** What lookup() gives for a receiver that has nothing but properties. */
export const NO_ENTRIES: unique symbol = Symbol('no entries');

export interface Types {
  isProxy(value: unknown): boolean;
  isMap(value: unknown): boolean;
  isSet(value: unknown): boolean;
  isNativeError(value: unknown): boolean;
  isPromise(value: unknown): boolean;
  isDate(value: unknown): boolean;
  isRegExp(value: unknown): boolean;
  isTypedArray(value: unknown): boolean;
  isDataView(value: unknown): boolean;
  isArrayBuffer(value: unknown): boolean;
  isSharedArrayBuffer(value: unknown): boolean;
  isAsyncFunction(value: unknown): boolean;
  isGeneratorFunction(value: unknown): boolean;
  isModuleNamespaceObject(value: unknown): boolean;
}

export interface Accessors {
  knows(getter: unknown): boolean;
  /** What a known `getter` would give for `receiver`; FAULT where it throws. */
  read(getter: unknown, receiver: unknown): unknown;
  /**
   * A key that is no property: an entry of a Map, a parameter of URLSearchParams, a header; undefined where it is none of them.
   * NO_ENTRIES for any other receiver.
   */
  lookup(receiver: unknown, key: string | number): unknown;
  /** `error.stack`, where formatting it runs nothing of the application. */
  stack(receiver: object): unknown;
  /** Learns the accessors of Node modules that these keys may name; loads no module for others. */
  prepare(keys: readonly (string | number)[]): void;
}

type Reader = (receiver: unknown) => unknown;

/** Headers as one lower-cased object, from `rawHeaders`; made by us, so reading it is safe. */
interface VirtualHeaders {
  readonly raw: readonly unknown[];
}

const URL_PROPERTIES = [
  'href',
  'origin',
  'protocol',
  'username',
  'password',
  'host',
  'hostname',
  'port',
  'pathname',
  'search',
  'searchParams',
  'hash',
];

/** Headers of which HTTP keeps the first; others are joined. */
const SINGLE_HEADERS = [
  'age',
  'authorization',
  'content-length',
  'content-type',
  'etag',
  'expires',
  'from',
  'host',
  'if-modified-since',
  'if-unmodified-since',
  'last-modified',
  'location',
  'max-forwards',
  'proxy-authorization',
  'referer',
  'retry-after',
  'server',
  'user-agent',
];

/**
 * An error that has captured no frames: where reading `stack` formats it, nothing of the application is called, and no table of
 * this text's lines is made.
 */
function stacklessError(): Error {
  const limit = getOwnPropertyDescriptor(Error, 'stackTraceLimit');
  if (limit === undefined || limit.writable !== true) return new Error('x');
  defineProperty(Error, 'stackTraceLimit', { ...limit, value: undefined });
  const error = new Error('x');
  defineProperty(Error, 'stackTraceLimit', limit);
  return error;
}

export function createAccessors(
  types: Types,
  builtin: BuiltinModules,
  failure: { errno: number },
): Accessors {
  const readers = new MapConstructor<unknown, Reader>();
  const virtual = new WeakSet<object>();
  const { has: weakSetHas, add: weakSetAdd } = WeakSet.prototype;
  const isVirtual = uncurry(weakSetHas) as unknown as (set: unknown, value: unknown) => boolean;
  const addVirtual = uncurry(weakSetAdd) as unknown as (set: unknown, value: object) => void;

  function fault(): typeof FAULT {
    failure.errno = EFAULT;
    return FAULT;
  }

  /** An own data property of a non-Proxy object, else undefined. */
  function ownData(holder: unknown, key: PropertyKey): unknown {
    if (typeof holder !== 'object' || holder === null || types.isProxy(holder)) return undefined;
    const found = getOwnPropertyDescriptor(holder, key);
    return found !== undefined && found.writable !== undefined ? found.value : undefined;
  }

  function add(holder: object, name: PropertyKey, reader: Reader): void {
    const get = getOwnPropertyDescriptor(holder, name)?.get;
    if (get !== undefined) mapSet(readers, get, reader);
  }

  add(Map.prototype, 'size', (o) => (types.isMap(o) ? mapSize(o) : undefined));
  add(Set.prototype, 'size', (o) => (types.isSet(o) ? setSize(o) : undefined));
  add(TypedArrayPrototype, 'length', (o) => (types.isTypedArray(o) ? typedArrayLength(o) : undefined));
  add(TypedArrayPrototype, 'byteLength', (o) =>
    types.isTypedArray(o) ? typedArrayByteLength(o) : undefined,
  );
  add(TypedArrayPrototype, 'byteOffset', (o) =>
    types.isTypedArray(o) ? typedArrayByteOffset(o) : undefined,
  );
  add(DataView.prototype, 'byteLength', (o) => (types.isDataView(o) ? dataViewByteLength(o) : undefined));
  add(DataView.prototype, 'byteOffset', (o) => (types.isDataView(o) ? dataViewByteOffset(o) : undefined));
  add(ArrayBuffer.prototype, 'byteLength', (o) =>
    types.isArrayBuffer(o) ? arrayBufferByteLength(o) : undefined,
  );
  add(SharedArrayBuffer.prototype, 'byteLength', (o) =>
    types.isSharedArrayBuffer(o) ? sharedByteLength(o) : undefined,
  );
  add(Symbol.prototype, 'description', (o) => (typeof o === 'symbol' ? symbolDescription(o) : undefined));
  for (let i = 0; i < URL_PROPERTIES.length; i++) {
    const get = getOwnPropertyDescriptor(URL.prototype, URL_PROPERTIES[i]!)?.get;
    // Node's own code on private fields; throws on anything that is not a URL.
    if (get !== undefined) mapSet(readers, get, (o: unknown) => apply(get, o, []));
  }
  const paramsGet = URLSearchParams.prototype.get as AnyFunction;
  const paramsPrototype = URLSearchParams.prototype;

  // Errors. Older V8 shows `stack` as a data property whose read formats it, newer V8 as an accessor.
  const ErrorConstructor = Error;
  const errorStackGetter = getOwnPropertyDescriptor(stacklessError(), 'stack')?.get;
  /** Node's own Error.prepareStackTrace, told by its text; another function there is the application's. */
  const nodePrepare = (() => {
    const found: unknown = getOwnPropertyDescriptor(ErrorConstructor, 'prepareStackTrace')?.value;
    if (typeof found !== 'function' || types.isProxy(found)) return undefined;
    return indexOf(functionToString(found), '{\n  return internalPrepareStackTrace(error, trace);\n}') > 0
      ? found
      : undefined;
  })();

  function formatsItself(): boolean {
    const found = getOwnPropertyDescriptor(ErrorConstructor, 'prepareStackTrace');
    if (found === undefined) return true;
    return found.writable !== undefined && (found.value === undefined || found.value === nodePrepare);
  }

  let kHeaders: symbol | undefined;
  let prepared = false;

  function prepareHttp(): void {
    if (prepared) return;
    prepared = true;
    const http = builtin('node:http') as typeof import('node:http');
    const net = builtin('node:net') as typeof import('node:net');
    const incoming = http.IncomingMessage.prototype as object;
    const sample = new http.IncomingMessage(null as never);
    const keys = ownKeys(sample);
    for (let i = 0; i < keys.length; i++) {
      const key = keys[i]!;
      if (typeof key === 'symbol' && symbolDescription(key) === 'kHeaders') kHeaders = key;
    }
    add(incoming, 'headers', (message) => {
      const made = kHeaders === undefined ? undefined : ownData(message, kHeaders);
      if (typeof made === 'object' && made !== null) return made;
      const raw = ownData(message, 'rawHeaders');
      if (!isArray(raw) || types.isProxy(raw)) return fault();
      const headers: VirtualHeaders = { raw };
      addVirtual(virtual, headers);
      return headers;
    });
    add(incoming, 'connection', (message) => ownData(message, 'socket'));
    const outgoing = http.OutgoingMessage.prototype as object;
    add(outgoing, 'headersSent', (message) => Boolean(ownData(message, '_header')));
    add(outgoing, 'writableEnded', (message) => Boolean(ownData(message, 'finished')));
    add(outgoing, 'connection', (message) => ownData(message, 'socket'));
    const handleOf = getOwnPropertyDescriptor(net.Socket.prototype, '_handle')?.get;
    const fields = ['remoteAddress', 'address', 'remotePort', 'port', 'remoteFamily', 'family'];
    for (let i = 0; i < fields.length; i += 2) {
      const name = fields[i]!;
      const field = fields[i + 1]!;
      const get = getOwnPropertyDescriptor(net.Socket.prototype, name)?.get;
      const peer = getOwnPropertyDescriptor(net.Socket.prototype, '_getpeername')?.value as
        | AnyFunction
        | undefined;
      if (get === undefined) continue;
      mapSet(readers, get, (socket: unknown) => {
        const known = ownData(ownData(socket, '_peername'), field);
        if (known !== undefined) return known;
        // Node's own code then asks the kernel once and keeps the answer, if nobody has put something else in between.
        if (!inherits(socket as object, net.Socket.prototype)) return fault();
        if (peer === undefined || getOwnPropertyDescriptor(socket as object, '_getpeername') !== undefined) {
          return fault();
        }
        const handle = handleOf === undefined ? ownData(socket, '_handle') : apply(handleOf, socket, []);
        if (typeof handle !== 'object' || handle === null || types.isProxy(handle)) return undefined;
        if (getOwnPropertyDescriptor(handle, 'getpeername') !== undefined) return fault();
        return ownData(apply(peer, socket, []), field);
      });
    }
  }

  /** Directly an instance of the class, without anything of a subclass in between. */
  function inherits(value: object, prototype: object): boolean {
    return getPrototypeOf(value) === prototype;
  }

  /** `name` is made of letters already in lower case. */
  function header({ raw }: VirtualHeaders, name: string): unknown {
    let found: string | undefined;
    const list: string[] = [];
    for (let i = 0; i + 1 < 2000; i += 2) {
      const key = ownData(raw, `${i}`);
      if (typeof key !== 'string') break;
      if (key.length !== name.length || toLowerCase(key) !== name) continue;
      const value = ownData(raw, `${i + 1}`);
      if (typeof value !== 'string') continue;
      if (name === 'set-cookie') list[list.length] = value;
      else if (found === undefined) {
        found = value;
        for (let s = 0; s < SINGLE_HEADERS.length; s++) if (SINGLE_HEADERS[s] === name) return found;
      } else found += (name === 'cookie' ? '; ' : ', ') + value;
    }
    return name === 'set-cookie' && list.length > 0 ? list : found;
  }

  return {
    knows: (getter) => mapHas(readers, getter),
    read(getter, receiver) {
      try {
        return (mapGet(readers, getter) as Reader)(receiver);
      } catch {
        return fault();
      }
    },
    lookup(receiver, key) {
      if (typeof receiver !== 'object' || receiver === null) return NO_ENTRIES;
      if (types.isMap(receiver)) {
        const value = mapGet(receiver, key);
        if (value !== undefined || typeof key === 'string' || mapHas(receiver, key)) return value;
        return mapGet(receiver, `${key}`);
      }
      if (isVirtual(virtual, receiver)) return header(receiver as VirtualHeaders, `${key}`);
      if (inherits(receiver, paramsPrototype)) {
        try {
          return apply(paramsGet, receiver, [`${key}`] as never) ?? undefined;
        } catch {
          return undefined;
        }
      }
      return NO_ENTRIES;
    },
    stack(receiver) {
      const found = types.isNativeError(receiver) ? undefined : getOwnPropertyDescriptor(receiver, 'stack');
      if (!types.isNativeError(receiver)) {
        if (found === undefined) return undefined;
        return found.writable !== undefined ? found.value : fault();
      }
      // Formatting reads name and message, and calls Error.prepareStackTrace of the error's realm.
      if (!formatsItself()) return fault();
      let named = false;
      let messaged = false;
      let holder: object | null = receiver;
      for (let depth = 0; holder !== null && depth < 16; depth++) {
        if (types.isProxy(holder)) return fault();
        const name = getOwnPropertyDescriptor(holder, 'name');
        const message = getOwnPropertyDescriptor(holder, 'message');
        if (!named && name !== undefined && typeof name.value !== 'string') return fault();
        if (!messaged && message !== undefined && typeof message.value !== 'string') return fault();
        named ||= name !== undefined;
        messaged ||= message !== undefined;
        if (holder === ErrorPrototype) {
          const own = getOwnPropertyDescriptor(receiver, 'stack');
          if (own === undefined) return undefined;
          if (own.writable !== undefined) return own.value;
          return own.get !== undefined && own.get === errorStackGetter
            ? apply(own.get, receiver, [])
            : fault();
        }
        holder = getPrototypeOf(holder) as object | null;
      }
      return fault();
    },
    prepare(keys) {
      for (let i = 0; i < keys.length; i++) {
        switch (keys[i]) {
          case 'headers':
          case 'connection':
          case 'remoteAddress':
          case 'remotePort':
          case 'remoteFamily':
          case 'headersSent':
          case 'writableEnded':
            prepareHttp();
            return;
        }
      }
    },
  };
}
