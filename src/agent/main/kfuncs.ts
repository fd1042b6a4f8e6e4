/** The kernel functions of js-kfuncs.ts: imports `kfunc.<name>` of every program. */
import { JS_VALUE, type JsKfuncName } from '../../kernel/trace/js-kfuncs.ts';
import type { ReadFault } from '../protocol.ts';
import type { Types } from './accessors.ts';
import type { Inspect } from './inspect.ts';
import {
  type AnyFunction,
  arrayBufferByteLength,
  asIntN,
  ByteArray,
  bigintToString,
  bytesSet,
  charCodeAt,
  dataViewBuffer,
  dataViewByteLength,
  dataViewByteOffset,
  getOwnPropertyDescriptor,
  imul,
  isArray,
  mapSize,
  numberToString,
  setSize,
  sharedByteLength,
  slice,
  symbolDescription,
  toNumber,
  typedArrayBuffer,
  typedArrayByteLength,
  typedArrayByteOffset,
  typedArrayLength,
  WeakMapConstructor,
  weakGet,
  weakSet,
} from './intrinsics.ts';
import type { Paths } from './paths.ts';
import { type StringWriter, utf8Length } from './strings.ts';
import { E2BIG, EFAULT, EINVAL, ENOENT, ENOMEM, ESTALE, FAULT, type Values } from './values.ts';

export interface Kfuncs {
  readonly imports: Record<JsKfuncName, (...args: number[]) => number | undefined>;
  /** Failed reads since the last call. */
  faults(): ReadFault[];
}

export interface KfuncParts {
  readonly values: Values;
  readonly paths: Paths;
  readonly strings: StringWriter;
  readonly inspect: Inspect;
  readonly types: Types;
  /** Frames of `top` and above are left out. */
  readonly stackId: (depth: number, top: AnyFunction) => number;
  readonly asyncId: () => number;
}

const ERRNOS = [EFAULT, ESTALE, E2BIG, ENOMEM, EINVAL];
const { tags, headerSize } = JS_VALUE;
/** Objects get numbers far from small integers, so that an id is not taken for a value. */
const FIRST_ID = 0x1_0000_0000;
/** Characters of a property's name that a program computes. */
const MAX_KEY = 1024;

export function createKfuncs({
  values,
  paths,
  strings,
  inspect,
  types,
  stackId,
  asyncId,
}: KfuncParts): Kfuncs {
  const { i32, u8, f64, block, resolve, put, putExact, failure } = values;
  const slot = block.resultSlot >> 2;
  let counts = new Float64Array(64 * ERRNOS.length);
  const ids = new WeakMapConstructor<object, number>();
  /** Ids of strings and symbols of this hit have no identity to keep: their text is hashed instead. */
  let nextId = FIRST_ID;

  function count(path: number, errno: number): void {
    let kind = 0;
    while (kind < ERRNOS.length - 1 && ERRNOS[kind] !== errno) kind++;
    const at = path * ERRNOS.length + kind;
    if (at >= counts.length) {
      const grown = new Float64Array((path + 64) * ERRNOS.length);
      for (let i = 0; i < counts.length; i++) grown[i] = counts[i]!;
      counts = grown;
    }
    counts[at] = counts[at]! + 1;
  }

  /** Counts the fault of `path` and gives the negative errno. */
  function fail(path: number, errno: number): number {
    count(path, errno);
    return -errno;
  }

  function read(lo: number, hi: number, path: number): unknown {
    const value = resolve(lo, hi);
    return path === 0 || value === FAULT ? value : paths.walk(value, path);
  }

  function js_path(lo: number, hi: number, path: number): undefined {
    let value: unknown;
    try {
      value = read(lo, hi, path);
    } catch {
      failure.errno = EFAULT;
      value = FAULT;
    }
    if (value === FAULT) {
      count(path, failure.errno);
      i32[slot] = 0;
      i32[slot + 1] = 0;
      return;
    }
    failure.errno = 0;
    put(slot, value);
    if (failure.errno !== 0) count(path, failure.errno);
  }

  /** A property that the program computes the name of. Long texts would be made keys of V8's table of names. */
  function at(value: unknown, key: unknown): unknown {
    if (value === FAULT || key === FAULT) return FAULT;
    if (typeof key === 'number') return paths.getProperty(value, key);
    if (typeof key === 'bigint') return undefined;
    failure.errno = typeof key === 'string' ? E2BIG : EINVAL;
    return typeof key === 'string' && key.length <= MAX_KEY ? paths.getProperty(value, key) : FAULT;
  }

  function js_at(lo: number, hi: number, keyLo: number, keyHi: number, path: number): undefined {
    let value: unknown;
    try {
      value = at(read(lo, hi, path), resolve(keyLo, keyHi));
    } catch {
      failure.errno = EFAULT;
      value = FAULT;
    }
    if (value === FAULT) {
      count(path, failure.errno);
      value = undefined;
    }
    failure.errno = 0;
    putExact(slot, value);
    if (failure.errno !== 0) count(path, failure.errno);
  }

  /** Text of anything that is not a string; undefined where there is none. */
  function textOf(value: unknown): string | undefined {
    switch (typeof value) {
      case 'number':
        return numberToString(value);
      case 'boolean':
        return value ? 'true' : 'false';
      case 'bigint':
        return bigintToString(value);
      case 'undefined':
        return '';
      default:
        return value === null ? '' : undefined;
    }
  }

  function js_str(dst: number, size: number, lo: number, hi: number, path: number): number {
    let value: unknown;
    try {
      value = read(lo, hi, path);
      if (typeof value === 'string') {
        if (value.length > 4096 && !inspect.readable(value)) {
          strings.zero(dst, size);
          return fail(path, E2BIG);
        }
        return strings.writeString(dst, size, value);
      }
      if (value !== FAULT) {
        const text = textOf(value);
        if (text !== undefined) return strings.writeString(dst, size, text);
        failure.errno = EFAULT;
      }
    } catch {
      failure.errno = EFAULT;
    }
    strings.zero(dst, size);
    return fail(path, failure.errno);
  }

  function tagged(dst: number, size: number, tag: number, text: string): number {
    const room = size - headerSize;
    const w = dst >> 2;
    i32[w] = tag;
    const used = strings.writeBytes(dst + headerSize, room, text);
    // The true length of what was cut, exact up to 64 Ki units; beyond that every unit counts one byte.
    let length = used;
    if (used > room - 4) {
      const measured = text.length > 65536 ? slice(text, 0, 65536) : text;
      length = utf8Length(measured) + (text.length - measured.length);
    }
    i32[w + 1] = length;
    return 0;
  }

  function number64(dst: number, size: number, tag: number, lo: number, hi: number): number {
    strings.zero(dst, size);
    const w = dst >> 2;
    i32[w] = tag;
    i32[w + 1] = 8;
    i32[w + 2] = lo;
    i32[w + 3] = hi;
    return 0;
  }

  function writeValue(dst: number, size: number, value: unknown): number {
    switch (typeof value) {
      case 'undefined':
        strings.zero(dst, size);
        return 0;
      case 'boolean':
        return number64(dst, size, tags.boolean, value ? 1 : 0, 0);
      case 'number': {
        const int = value | 0;
        if (int === value) return number64(dst, size, tags.int, int, int >> 31);
        if (value % 1 === 0 && value <= 9007199254740991 && value >= -9007199254740991) {
          put(slot, value);
          return number64(dst, size, tags.int, i32[slot]!, i32[slot + 1]!);
        }
        number64(dst, size, tags.double, 0, 0);
        f64[(dst + headerSize) >> 3] = value;
        return 0;
      }
      case 'bigint':
        if (asIntN(64, value) === value) {
          return number64(
            dst,
            size,
            tags.int,
            toNumber(asIntN(32, value)),
            toNumber(asIntN(32, value >> 32n)),
          );
        }
        return tagged(dst, size, tags.bigint, bigintToString(asIntN(65536, value)));
      case 'string':
        if (value.length > 4096 && !inspect.readable(value)) {
          strings.zero(dst, size);
          return -E2BIG;
        }
        return tagged(dst, size, tags.string, value);
      case 'symbol':
        return tagged(dst, size, tags.symbol, symbolDescription(value) ?? '');
      case 'function':
        return tagged(dst, size, tags.function, inspect.functionName(value));
      default:
        if (value === null) return number64(dst, size, tags.null, 0, 0) || clearLength(dst);
        if (types.isNativeError(value)) return tagged(dst, size, tags.error, inspect.error(value as object));
        return tagged(dst, size, tags.object, inspect.literal(value as object, size * 2));
    }
  }

  function clearLength(dst: number): number {
    i32[(dst >> 2) + 1] = 0;
    return 0;
  }

  function js_value(dst: number, size: number, lo: number, hi: number, path: number): number {
    if (size < headerSize + 8 || (dst & 7) !== 0) {
      strings.zero(dst, size);
      return fail(path, EINVAL);
    }
    let result: number;
    try {
      const value = read(lo, hi, path);
      result = value === FAULT ? -failure.errno : writeValue(dst, size, value);
    } catch {
      result = -EFAULT;
    }
    if (result < 0) {
      strings.zero(dst, size);
      return fail(path, -result);
    }
    return result;
  }

  /** The bytes behind a value as a view of our own; undefined for anything else. */
  function bytesOf(value: unknown, most: number): Uint8Array | undefined {
    if (typeof value !== 'object' || value === null || types.isProxy(value)) return undefined;
    let length: number;
    if (types.isTypedArray(value)) {
      length = typedArrayByteLength(value);
      return new ByteArray(
        typedArrayBuffer(value),
        typedArrayByteOffset(value),
        length < most ? length : most,
      );
    }
    if (types.isDataView(value)) {
      length = dataViewByteLength(value);
      return new ByteArray(dataViewBuffer(value), dataViewByteOffset(value), length < most ? length : most);
    }
    if (types.isArrayBuffer(value)) length = arrayBufferByteLength(value);
    else if (types.isSharedArrayBuffer(value)) length = sharedByteLength(value);
    else return undefined;
    return new ByteArray(value as ArrayBufferLike, 0, length < most ? length : most);
  }

  function js_buf(dst: number, size: number, lo: number, hi: number, path: number): number {
    try {
      const value = read(lo, hi, path);
      if (value !== FAULT) {
        const bytes = bytesOf(value, size);
        if (bytes !== undefined) {
          const used = typedArrayByteLength(bytes);
          bytesSet(u8, bytes, dst);
          strings.zero(dst + used, size - used);
          return used;
        }
        failure.errno = EFAULT;
      }
    } catch {
      failure.errno = EFAULT;
    }
    strings.zero(dst, size);
    return fail(path, failure.errno);
  }

  function lengthOf(value: unknown): number {
    if (typeof value === 'string') return value.length;
    if (typeof value === 'object' && value !== null && !types.isProxy(value)) {
      if (isArray(value)) return value.length;
      if (types.isTypedArray(value)) return typedArrayLength(value);
      if (types.isMap(value)) return mapSize(value);
      if (types.isSet(value)) return setSize(value);
      if (types.isDataView(value)) return dataViewByteLength(value);
      if (types.isArrayBuffer(value)) return arrayBufferByteLength(value);
      if (types.isSharedArrayBuffer(value)) return sharedByteLength(value);
    }
    if (typeof value === 'function' && !types.isProxy(value)) {
      const length = getOwnPropertyDescriptor(value, 'length');
      if (length !== undefined && typeof length.value === 'number') return length.value;
    }
    return -EFAULT;
  }

  function js_len(lo: number, hi: number, path: number): number {
    let length: number;
    try {
      const value = read(lo, hi, path);
      length = value === FAULT ? -failure.errno : lengthOf(value);
    } catch {
      length = -EFAULT;
    }
    if (length < 0) return fail(path, -length);
    return length > 0x7fffffff ? 0x7fffffff : length;
  }

  /** Equal strings have equal ids: FNV-1a over the first 1024 units, in the id space of objects. */
  function textId(text: string): number {
    let hash = 0x811c9dc5 ^ text.length;
    if (text.length <= 4096 || inspect.readable(text)) {
      const n = text.length < 1024 ? text.length : 1024;
      for (let i = 0; i < n; i++) hash = imul(hash ^ charCodeAt(text, i), 0x01000193);
    }
    return 0x10_0000_0000_0000 + (hash >>> 0);
  }

  function js_id(lo: number, hi: number): undefined {
    if (!values.isHandle(hi)) {
      i32[slot] = lo;
      i32[slot + 1] = hi;
      return;
    }
    const value = resolve(lo, hi);
    let id = 0;
    if (value === FAULT) count(0, failure.errno);
    else if (typeof value === 'string') id = textId(value);
    else if (typeof value === 'symbol') id = textId(symbolDescription(value) ?? '');
    else if (typeof value === 'bigint') id = textId(bigintToString(asIntN(65536, value)));
    else {
      const known = weakGet(ids, value) as number | undefined;
      if (known !== undefined) id = known;
      else {
        id = nextId++;
        weakSet(ids, value, id);
      }
    }
    put(slot, id);
  }

  function js_arg(n: number): undefined {
    const { args } = values.hit;
    put(slot, args !== undefined && n >>> 0 < args.length ? args[n >>> 0] : undefined);
  }

  function js_stackid(depth: number): number {
    try {
      const id = stackId(depth, js_stackid as AnyFunction);
      return id === 0 ? fail(0, ENOMEM) : id;
    } catch {
      return fail(0, EFAULT);
    }
  }

  function js_truthy(lo: number, hi: number, path: number): number {
    let value: unknown;
    try {
      value = read(lo, hi, path);
    } catch {
      failure.errno = EFAULT;
      value = FAULT;
    }
    if (value === FAULT) {
      fail(path, failure.errno);
      return 0;
    }
    return value ? 1 : 0;
  }

  return {
    imports: {
      js_path,
      js_str,
      js_value,
      js_buf,
      js_len,
      js_id,
      js_arg,
      js_stackid,
      js_asyncid: () => asyncId(),
      js_truthy,
      js_at,
    } as Kfuncs['imports'],
    faults() {
      const found: ReadFault[] = [];
      for (let at = 0; at < counts.length; at++) {
        const n = counts[at]!;
        if (n === 0) continue;
        const kind = at % ERRNOS.length;
        const path = (at - kind) / ERRNOS.length;
        const trouble = ERRNOS[kind] === EFAULT ? paths.trouble(path) : undefined;
        found[found.length] =
          trouble === undefined ? [path, ERRNOS[kind]!, n] : [path, ERRNOS[kind]!, n, trouble];
        counts[at] = 0;
      }
      for (let path = 1; path < paths.count(); path++) {
        const missing = paths.missing(path);
        // what also failed has been told
        let told = false;
        for (let i = 0; i < found.length; i++) told ||= found[i]![0] === path;
        if (missing > 0 && !told) found[found.length] = [path, ENOENT, missing, paths.trouble(path)!];
      }
      paths.forget();
      return found;
    },
  };
}
