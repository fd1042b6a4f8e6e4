import { JS_VALUE } from '../kernel/trace/js-kfuncs.ts';
import type { ScriptType } from '../lang/script.ts';
import type { Value } from './model.ts';
import { strftime } from './strftime.ts';

/** What numbers in records stand for. */
export interface DecodeContext {
  /** Name of the function at a text address. */
  funcName(address: bigint): string;
  /** Full name of an attached probe: `kprobe:server.js:handle`. */
  probeName(program: number, cookie: number): string;
  /** Innermost frame first; undefined when the id is unknown. */
  stack(id: number): readonly string[] | undefined;
  /** Nanoseconds since 1970 of a number of nanoseconds since boot. */
  realtimeNs(monotonicNs: bigint): bigint;
  /** Format of a strftime action. */
  strftimeFormat(action: number): string;
}

const utf8 = new TextDecoder('utf-8');
const TAGS = JS_VALUE.tags;

function bytesAt(view: DataView, offset: number, length: number): Uint8Array {
  return new Uint8Array(view.buffer, view.byteOffset + offset, length);
}

/** A NUL-terminated UTF-8 string in `size` bytes. */
export function readString(view: DataView, offset: number, size: number): string {
  const base = view.byteOffset + offset;
  const bytes = new Uint8Array(view.buffer, base, Math.min(size, view.byteLength - offset));
  // Short ASCII is what most strings are; building it here is several times faster than a decoder's call.
  let text = '';
  let end = 0;
  for (; end < bytes.length; end++) {
    const byte = bytes[end]!;
    if (byte === 0) return text;
    if (byte >= 0x80 || end === 64) break;
    text += String.fromCharCode(byte);
  }
  const nul = bytes.indexOf(0, end);
  return decodeUtf8(nul === -1 ? bytes : bytes.subarray(0, nul), nul === -1);
}

/** `cut`: the last character may be incomplete, and is then dropped. The bytes may be in shared memory. */
function decodeUtf8(bytes: Uint8Array, cut: boolean): string {
  const own = bytes.buffer instanceof ArrayBuffer ? bytes : new Uint8Array(bytes);
  const text = utf8.decode(own);
  // a character that had no room whole is left out, and zeros stand there
  return cut ? text.replace(/[\uFFFD\0]+$/, '') : text;
}

export function readInt(view: DataView, offset: number, size: 1 | 2 | 4 | 8, signed: boolean): bigint {
  switch (size) {
    case 1:
      return BigInt(signed ? view.getInt8(offset) : view.getUint8(offset));
    case 2:
      return BigInt(signed ? view.getInt16(offset, true) : view.getUint16(offset, true));
    case 4:
      return BigInt(signed ? view.getInt32(offset, true) : view.getUint32(offset, true));
    case 8:
      return signed ? view.getBigInt64(offset, true) : view.getBigUint64(offset, true);
  }
}

/** struct js_value. A text that was cut to fit ends in `..`, as bpftrace's strings do. */
function readJsValue(view: DataView, offset: number, size: number): Value {
  const tag = view.getUint32(offset, true);
  const length = view.getUint32(offset + 4, true);
  const data = offset + JS_VALUE.headerSize;
  const room = size - JS_VALUE.headerSize;
  switch (tag) {
    case TAGS.undefined:
      return { kind: 'undefined' };
    case TAGS.null:
      return { kind: 'null' };
    case TAGS.boolean:
      return { kind: 'boolean', value: view.getUint32(data, true) !== 0 };
    case TAGS.int:
      return { kind: 'int', value: view.getBigInt64(data, true) };
    case TAGS.double:
      return { kind: 'number', value: view.getFloat64(data, true) };
    default: {
      const cut = length > room;
      const text = decodeUtf8(bytesAt(view, data, Math.min(length, room)), cut);
      if (tag === TAGS.bigint && !cut && /^-?\d+$/.test(text)) return { kind: 'int', value: BigInt(text) };
      return { kind: 'text', text: cut ? `${text}..` : text };
    }
  }
}

/** The value of a type at an offset. */
export function readValue(view: DataView, offset: number, type: ScriptType, context: DecodeContext): Value {
  switch (type.kind) {
    case 'int':
      return { kind: 'int', value: readInt(view, offset, type.size, type.signed) };
    case 'string':
      return { kind: 'text', text: readString(view, offset, type.size) };
    case 'value':
      return readJsValue(view, offset, type.size);
    case 'buf': {
      const length = Math.min(view.getUint32(offset, true), type.size - 4);
      return { kind: 'buf', bytes: bytesAt(view, offset + 4, length).slice() };
    }
    case 'stack':
      return { kind: 'stack', frames: context.stack(view.getUint32(offset, true)) ?? [] };
    case 'func':
      return { kind: 'text', text: context.funcName(view.getBigUint64(offset, true)) };
    case 'probe':
      return {
        kind: 'text',
        text: context.probeName(view.getUint32(offset + 4, true), view.getUint32(offset, true)),
      };
    case 'strftime': {
      const format = context.strftimeFormat(view.getUint32(offset + 8, true));
      return { kind: 'text', text: strftime(format, context.realtimeNs(view.getBigUint64(offset, true))) };
    }
    case 'tuple':
      return {
        kind: 'tuple',
        fields: type.fields.map((field) => readValue(view, offset + field.offset, field.type, context)),
      };
  }
}

/** Bytes as bpftrace shows them: printable ASCII as it is, the rest as `\x00`. */
export function formatBuf(bytes: Uint8Array, keepAscii = true): string {
  let text = '';
  for (const byte of bytes) {
    if (keepAscii && byte >= 0x20 && byte < 0x7f) text += String.fromCharCode(byte);
    else text += `\\x${byte.toString(16).padStart(2, '0')}`;
  }
  return text;
}

/** Frames one a line: a newline first, one behind each, as bpftrace's ustack. */
export function formatStack(frames: readonly string[], indent: number): string {
  const lead = ' '.repeat(indent);
  return `\n${frames.map((frame) => `${lead}${frame}\n`).join('')}`;
}

/** A value as text. Stacks are indented by 8 columns, as keys of maps by 4. */
export function formatValue(value: Value, stackIndent = 8): string {
  switch (value.kind) {
    case 'int':
      return String(value.value);
    case 'number':
      return Object.is(value.value, -0) ? '-0' : String(value.value);
    case 'boolean':
      return String(value.value);
    case 'null':
    case 'undefined':
      return value.kind;
    case 'text':
      return value.text;
    case 'buf':
      return formatBuf(value.bytes);
    case 'stack':
      return formatStack(value.frames, stackIndent);
    case 'tuple':
      return `(${value.fields.map((field) => formatValue(field, stackIndent)).join(', ')})`;
  }
}
