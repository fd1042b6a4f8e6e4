/**
 * The built-in functions this bundle uses, taken when it is evaluated: what the application patches afterwards does not
 * reach the agent, and the agent never looks a method up on a value of the application.
 */

export type AnyFunction = (this: unknown, ...args: never[]) => unknown;

type Uncurried<F> = F extends (...args: infer A) => infer R ? (self: unknown, ...args: A) => R : never;

export const { apply, construct, getPrototypeOf, ownKeys, defineProperty, deleteProperty, setPrototypeOf } =
  Reflect;
export const { getOwnPropertyDescriptor } = Object;

const { bind, call } = Function.prototype;
/** `uncurry(f)(self, …)` is `f.call(self, …)`; V8 inlines it as it does a plain call. */
export const uncurry = apply(bind, bind, [call]) as <F extends AnyFunction>(f: F) => Uncurried<F>;

export const callFunction = uncurry(call as AnyFunction) as unknown as (
  f: unknown,
  self: unknown,
  ...args: unknown[]
) => unknown;
export const charCodeAt = uncurry(String.prototype.charCodeAt) as (text: string, index: number) => number;
export const slice = uncurry(String.prototype.slice) as (text: string, start: number, end?: number) => string;
export const indexOf = uncurry(String.prototype.indexOf) as (text: string, part: string) => number;
export const toLowerCase = uncurry(String.prototype.toLowerCase) as (text: string) => string;
export const jsonQuote = JSON.stringify as (text: string) => string;

export const regexpExec = uncurry(RegExp.prototype.exec) as (pattern: RegExp, text: string) => unknown;

export const { floor, trunc, random, imul } = Math;
export const { isArray } = Array;
export const { asIntN, asUintN } = BigInt;
export const { fromCharCode } = String;
export const toNumber = Number;
export const toBigInt = BigInt;
export const numberToString = uncurry(Number.prototype.toString) as (value: number) => string;
export const bigintToString = uncurry(BigInt.prototype.toString) as (value: bigint) => string;
export const symbolDescription = uncurry(
  getOwnPropertyDescriptor(Symbol.prototype, 'description')!.get as AnyFunction,
) as unknown as (value: symbol) => string | undefined;

export const { Map: MapConstructor, Set: SetConstructor, WeakMap: WeakMapConstructor } = globalThis;
export const mapGet = uncurry(Map.prototype.get) as (map: unknown, key: unknown) => unknown;
export const mapHas = uncurry(Map.prototype.has) as (map: unknown, key: unknown) => boolean;
export const mapSet = uncurry(Map.prototype.set) as (map: unknown, key: unknown, value: unknown) => unknown;
export const mapClear = uncurry(Map.prototype.clear) as (map: unknown) => void;
export const mapDelete = uncurry(Map.prototype.delete) as (map: unknown, key: unknown) => boolean;
export const mapForEach = uncurry(Map.prototype.forEach) as (map: unknown, f: AnyFunction) => void;
export const mapEntries = uncurry(Map.prototype.entries) as (map: unknown) => unknown;
export const setValues = uncurry(Set.prototype.values) as (set: unknown) => unknown;
export const mapNext = uncurry(
  (getPrototypeOf(new Map().entries()) as { next: AnyFunction }).next,
) as unknown as (iterator: unknown) => IteratorResult<[unknown, unknown]>;
export const setNext = uncurry(
  (getPrototypeOf(new Set().values()) as { next: AnyFunction }).next,
) as unknown as (iterator: unknown) => IteratorResult<unknown>;
export const mapSize = uncurry(
  getOwnPropertyDescriptor(Map.prototype, 'size')!.get as AnyFunction,
) as unknown as (map: unknown) => number;
export const setSize = uncurry(
  getOwnPropertyDescriptor(Set.prototype, 'size')!.get as AnyFunction,
) as unknown as (set: unknown) => number;

export const weakGet = uncurry(WeakMap.prototype.get) as (map: unknown, key: unknown) => unknown;
export const weakSet = uncurry(WeakMap.prototype.set) as (
  map: unknown,
  key: unknown,
  value: unknown,
) => unknown;
export const weakDelete = uncurry(WeakMap.prototype.delete) as (map: unknown, key: unknown) => boolean;

/** %TypedArray%.prototype, whose accessors work on every typed array and Buffer. */
export const TypedArrayPrototype = getPrototypeOf(Uint8Array.prototype) as object;
const getter = (holder: object, name: string) =>
  uncurry(getOwnPropertyDescriptor(holder, name)!.get as AnyFunction) as unknown as (value: unknown) => never;
export const typedArrayBuffer = getter(TypedArrayPrototype, 'buffer') as (value: unknown) => ArrayBufferLike;
export const typedArrayByteOffset = getter(TypedArrayPrototype, 'byteOffset') as (value: unknown) => number;
export const typedArrayByteLength = getter(TypedArrayPrototype, 'byteLength') as (value: unknown) => number;
export const typedArrayLength = getter(TypedArrayPrototype, 'length') as (value: unknown) => number;
export const dataViewBuffer = getter(DataView.prototype, 'buffer') as (value: unknown) => ArrayBufferLike;
export const dataViewByteOffset = getter(DataView.prototype, 'byteOffset') as (value: unknown) => number;
export const dataViewByteLength = getter(DataView.prototype, 'byteLength') as (value: unknown) => number;
export const arrayBufferByteLength = getter(ArrayBuffer.prototype, 'byteLength') as (
  value: unknown,
) => number;
export const sharedByteLength = getter(SharedArrayBuffer.prototype, 'byteLength') as (
  value: unknown,
) => number;
export const bytesSet = uncurry(Uint8Array.prototype.set) as unknown as (
  target: Uint8Array,
  source: Uint8Array,
  offset: number,
) => void;
export const ByteArray = Uint8Array;

export const promiseThen = uncurry(Promise.prototype.then) as unknown as (
  promise: unknown,
  fulfilled: AnyFunction,
  rejected: AnyFunction,
) => Promise<unknown>;
export const PromiseConstructor = Promise;
export const PromisePrototype = Promise.prototype;
export const nativeToString = Function.prototype.toString;
export const functionToString = uncurry(nativeToString) as (f: unknown) => string;
export const ErrorPrototype = Error.prototype;
export const ObjectPrototype = Object.prototype;
export const ProxyConstructor = Proxy;
export const parseBase64 = (() => {
  const { from } = Buffer;
  return (text: string): Uint8Array => apply(from, Buffer, [text, 'base64']) as Uint8Array;
})();
export const {
  Module: WasmModule,
  Instance: WasmInstance,
  Memory: WasmMemory,
  Global: WasmGlobal,
  Table: WasmTable,
} = WebAssembly;
export const tableGrow = uncurry(WasmTable.prototype.grow) as (table: unknown, by: number) => number;
export const tableSet = uncurry(WasmTable.prototype.set) as (table: unknown, at: number, f: unknown) => void;
export const tableLength = getter(WasmTable.prototype, 'length') as (table: unknown) => number;
/** CLOCK_MONOTONIC in nanoseconds. */
export const hrtimeNow = (() => {
  const { hrtime } = process;
  const { bigint } = hrtime;
  return (): bigint => apply(bigint, hrtime, []);
})();

/** Gives Node's own modules: `builtin('node:util')`. */
export type BuiltinModules = (id: string) => unknown;

export function builtinModules(given: BuiltinModules | undefined): BuiltinModules {
  if (given !== undefined) return given;
  const { getBuiltinModule } = process as { getBuiltinModule?: (id: string) => unknown };
  if (typeof getBuiltinModule === 'function') return (id) => apply(getBuiltinModule, process, [id]);
  const main = (process as { mainModule?: { require: (id: string) => unknown } }).mainModule;
  if (main !== undefined) return (id) => main.require(id);
  throw new Error('no way to reach built-in modules: pass options.require');
}
