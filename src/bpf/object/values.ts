/**
 * Values of C types as JavaScript values, by BTF:
 *
 * | C | JavaScript |
 * | --- | --- |
 * | integers of up to 4 bytes, enum | number |
 * | integers of 8 and 16 bytes, 64-bit enum, pointers | bigint |
 * | bool | boolean |
 * | float, double | number |
 * | char[] | string, up to the first zero byte |
 * | other arrays | array |
 * | struct, union | object by member; members of anonymous ones stand among those around |
 *
 * Writing takes more: a bigint for a number and the other way round, an enumerator's name, a Uint8Array for anything of its size,
 * a shorter array or string (the rest becomes zero), an object with some of the members (the others stay as they are).
 */

import { aBtf, aTypeId } from '../argument-shapes.ts';
import { checkArgument, someBytes } from '../arguments.ts';
import { type Btf, BtfError, type BtfMember, type BtfType, resolveType, sizeOf } from '../btf/index.ts';
import { BpfError } from '../errors.ts';

export type BtfValue =
  | number
  | bigint
  | boolean
  | string
  | Uint8Array
  | readonly BtfValue[]
  | { readonly [member: string]: BtfValue };

/** Arrays with more elements are read as bytes only. */
const MAX_ELEMENTS = 1 << 20;
const MAX_DEPTH = 32;

const utf8 = new TextDecoder();
const toUtf8 = new TextEncoder();

function refuse(path: string, message: string): never {
  throw new BpfError('OBJ_BAD_VALUE', `${path}: ${message}`);
}

/** Reads a value of a type from the start of `bytes`. Throws BpfError OBJ_BAD_VALUE for what cannot be read. */
export function decodeValue(btf: Btf, typeId: number, bytes: Uint8Array, path = 'value'): BtfValue {
  checkArgument('decodeValue()', 'btf', btf, aBtf);
  checkArgument('decodeValue()', 'typeId', typeId, aTypeId);
  checkArgument('decodeValue()', 'bytes', bytes, someBytes);
  return withTypes(path, () => {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const budget = { left: MAX_ELEMENTS };
    if (sizeOf(btf, typeId) > bytes.length) refuse(path, `${bytes.length} bytes are not a whole value`);
    return decode({ btf, view, path, budget }, typeId, 0, 0);
  });
}

/** Types that make no sense are a value that cannot be read or written. */
function withTypes<T>(path: string, work: () => T): T {
  try {
    return work();
  } catch (error) {
    if (error instanceof BtfError) refuse(path, error.message);
    throw error;
  }
}

interface Decoding {
  readonly btf: Btf;
  readonly view: DataView;
  readonly path: string;
  readonly budget: { left: number };
}

function decode(from: Decoding, typeId: number, at: number, depth: number): BtfValue {
  const { btf, view, path, budget } = from;
  const id = resolveType(btf, typeId);
  const type = btf.type(id);
  if (depth > MAX_DEPTH || --budget.left < 0) refuse(path, 'too large to be read at once');
  switch (type.kind) {
    case 'INT': {
      const value = readInt(view, at, type.size, type.signed);
      return type.bool ? BigInt(value) !== 0n : value;
    }
    case 'ENUM':
    case 'ENUM64':
      return readInt(view, at, type.size, type.signed);
    case 'PTR':
      return view.getBigUint64(at, true);
    case 'FLOAT':
      return readFloat(view, at, type.size, path);
    case 'ARRAY': {
      const size = sizeOf(btf, type.type);
      if (isChar(btf, type.type)) {
        const bytes = new Uint8Array(view.buffer, view.byteOffset + at, type.nelems);
        const end = bytes.indexOf(0);
        return utf8.decode(bytes.slice(0, end < 0 ? bytes.length : end));
      }
      if (type.nelems > budget.left) refuse(path, `${type.nelems} elements are too many to be read at once`);
      return Array.from({ length: type.nelems }, (_, i) => decode(from, type.type, at + i * size, depth + 1));
    }
    case 'STRUCT':
    case 'UNION': {
      const result: Record<string, BtfValue> = {};
      decodeMembers(from, type.members, at, depth, result);
      return result;
    }
    default:
      return refuse(path, `${btf.label(id)} has no value`);
  }
}

function decodeMembers(
  from: Decoding,
  members: readonly BtfMember[],
  at: number,
  depth: number,
  into: Record<string, BtfValue>,
): void {
  const { btf, view, path, budget } = from;
  budget.left -= members.length;
  if (depth > MAX_DEPTH || budget.left < 0) refuse(path, 'too large to be read at once');
  for (const member of members) {
    const type = btf.type(resolveType(btf, member.type));
    if (member.bitSize !== 0) {
      if (member.name !== '')
        define(into, member.name, readBits(from, type, at * 8 + member.bitOffset, member.bitSize));
    } else if (member.name === '' && (type.kind === 'STRUCT' || type.kind === 'UNION')) {
      decodeMembers(from, type.members, at + member.bitOffset / 8, depth + 1, into);
    } else if (member.name !== '') {
      const start = at + member.bitOffset / 8;
      if (start + sizeOf(btf, member.type) > view.byteLength)
        refuse(path, `member ${member.name} lies outside`);
      define(into, member.name, decode(from, member.type, start, depth + 1));
    }
  }
}

/** Names come from the object: `__proto__` is one like any other. */
function define(into: Record<string, BtfValue>, name: string, value: BtfValue): void {
  Object.defineProperty(into, name, { value, enumerable: true, writable: true, configurable: true });
}

function isChar(btf: Btf, typeId: number): boolean {
  const type = btf.type(resolveType(btf, typeId));
  return type.kind === 'INT' && type.size === 1 && (type.char || type.name === 'char');
}

function readInt(view: DataView, at: number, size: number, signed: boolean): number | bigint {
  switch (size) {
    case 1:
      return signed ? view.getInt8(at) : view.getUint8(at);
    case 2:
      return signed ? view.getInt16(at, true) : view.getUint16(at, true);
    case 4:
      return signed ? view.getInt32(at, true) : view.getUint32(at, true);
    default: {
      let value = 0n;
      for (let i = size - 1; i >= 0; i--) value = (value << 8n) | BigInt(view.getUint8(at + i));
      return signed ? BigInt.asIntN(size * 8, value) : value;
    }
  }
}

function readFloat(view: DataView, at: number, size: number, path: string): number {
  if (size === 4) return view.getFloat32(at, true);
  if (size === 8) return view.getFloat64(at, true);
  return refuse(path, `floating point numbers of ${size} bytes are not supported`);
}

function readBits({ view, path }: Decoding, type: BtfType, bit: number, width: number): BtfValue {
  const first = Math.floor(bit / 8);
  const last = Math.floor((bit + width - 1) / 8);
  if (last >= view.byteLength) refuse(path, 'a bitfield lies outside');
  let value = 0n;
  for (let i = last; i >= first; i--) value = (value << 8n) | BigInt(view.getUint8(i));
  value = BigInt.asUintN(width, value >> BigInt(bit % 8));
  if (type.kind === 'INT' && type.bool) return value !== 0n;
  const wide = 'size' in type && type.size > 4;
  const signed = 'signed' in type && type.signed;
  const exact = signed ? BigInt.asIntN(width, value) : value;
  return wide ? exact : Number(exact);
}

/**
 * Writes a value of a type at the start of `bytes`, which hold the present one. Throws BpfError OBJ_BAD_VALUE, and has changed
 * nothing then.
 */
export function encodeValue(
  btf: Btf,
  typeId: number,
  value: BtfValue,
  bytes: Uint8Array,
  path = 'value',
): void {
  checkArgument('encodeValue()', 'btf', btf, aBtf);
  checkArgument('encodeValue()', 'typeId', typeId, aTypeId);
  checkArgument('encodeValue()', 'bytes', bytes, someBytes);
  withTypes(path, () => {
    if (sizeOf(btf, typeId) > bytes.length) refuse(path, `${bytes.length} bytes are not a whole value`);
    const copy = new Uint8Array(bytes);
    encode({ btf, view: new DataView(copy.buffer), bytes: copy }, typeId, value, 0, path, 0);
    bytes.set(copy);
  });
}

interface Encoding {
  readonly btf: Btf;
  readonly view: DataView;
  readonly bytes: Uint8Array;
}

function encode(
  to: Encoding,
  typeId: number,
  value: BtfValue,
  at: number,
  path: string,
  depth: number,
): void {
  const { btf, view, bytes } = to;
  const id = resolveType(btf, typeId);
  const type = btf.type(id);
  if (depth > MAX_DEPTH) refuse(path, 'nested too deeply');
  if (value instanceof Uint8Array && type.kind !== 'ARRAY') {
    const size = sizeOf(btf, id);
    if (value.length !== size) refuse(path, `${value.length} bytes for a value of ${size}`);
    bytes.set(value, at);
    return;
  }
  switch (type.kind) {
    case 'INT':
      writeInt(view, at, type.size, integer(value, type.size * 8, type.bool, path));
      return;
    case 'ENUM':
    case 'ENUM64': {
      const named =
        typeof value === 'string' ? type.values.find(({ name }) => name === value)?.value : undefined;
      if (typeof value === 'string' && named === undefined) {
        refuse(path, `enum ${type.name} has no ${value}`);
      }
      writeInt(view, at, type.size, integer(named ?? value, type.size * 8, false, path));
      return;
    }
    case 'PTR':
      writeInt(view, at, 8, integer(value, 64, false, path));
      return;
    case 'FLOAT': {
      if (typeof value !== 'number') refuse(path, 'not a number');
      if (type.size === 4) view.setFloat32(at, value, true);
      else if (type.size === 8) view.setFloat64(at, value, true);
      else refuse(path, `floating point numbers of ${type.size} bytes are not supported`);
      return;
    }
    case 'ARRAY':
      encodeArray(to, type.type, type.nelems, value, at, path, depth);
      return;
    case 'STRUCT':
    case 'UNION':
      if (typeof value !== 'object' || Array.isArray(value)) refuse(path, 'not an object');
      encodeMembers(to, id, value as { readonly [member: string]: BtfValue }, at, path, depth);
      return;
    default:
      refuse(path, `${btf.label(id)} has no value`);
  }
}

function encodeArray(
  to: Encoding,
  element: number,
  length: number,
  value: BtfValue,
  at: number,
  path: string,
  depth: number,
): void {
  const { btf, bytes } = to;
  const size = sizeOf(btf, element);
  const total = size * length;
  const raw =
    value instanceof Uint8Array
      ? value
      : typeof value === 'string' && isChar(btf, element)
        ? toUtf8.encode(value)
        : undefined;
  if (raw !== undefined) {
    // A string keeps its end: as in C, where an array may be exactly as long as the text, but no shorter.
    if (raw.length > total) refuse(path, `${raw.length} bytes for an array of ${total}`);
    bytes.fill(0, at, at + total);
    bytes.set(raw, at);
    return;
  }
  if (!Array.isArray(value)) refuse(path, 'not an array');
  const elements = value as readonly BtfValue[];
  if (elements.length > length) refuse(path, `${elements.length} elements for an array of ${length}`);
  bytes.fill(0, at, at + total);
  for (const [i, one] of elements.entries())
    encode(to, element, one, at + i * size, `${path}[${i}]`, depth + 1);
}

function encodeMembers(
  to: Encoding,
  structId: number,
  value: { readonly [member: string]: BtfValue },
  at: number,
  path: string,
  depth: number,
): void {
  const { btf } = to;
  for (const [name, one] of Object.entries(value)) {
    const found = findMember(btf, structId, name, 0, 0, { left: MAX_ELEMENTS });
    if (found === undefined) refuse(path, `no member ${name}`);
    const { member, bitOffset } = found;
    if (member.bitSize !== 0) {
      const type = btf.type(resolveType(btf, member.type));
      const exact = integer(one, member.bitSize, type.kind === 'INT' && type.bool, `${path}.${name}`);
      writeBits(to, at * 8 + bitOffset, member.bitSize, exact, `${path}.${name}`);
      continue;
    }
    if (at + bitOffset / 8 + sizeOf(btf, member.type) > to.bytes.length)
      refuse(path, `member ${name} lies outside`);
    encode(to, member.type, one, at + bitOffset / 8, `${path}.${name}`, depth + 1);
  }
}

/** A member by name, also of anonymous structs and unions within, with its offset from the outermost start. */
function findMember(
  btf: Btf,
  structId: number,
  name: string,
  bitOffset: number,
  depth: number,
  budget: { left: number },
): { member: BtfMember; bitOffset: number } | undefined {
  budget.left -= 1 + btf.vlen(structId);
  if (budget.left < 0 || depth > MAX_DEPTH) return undefined;
  for (const member of btf.members(structId)) {
    const at = bitOffset + member.bitOffset;
    if (member.name === name) return { member, bitOffset: at };
    if (member.name !== '') continue;
    const id = resolveType(btf, member.type);
    const kind = btf.kindName(id);
    if (kind !== 'STRUCT' && kind !== 'UNION') continue;
    const found = findMember(btf, id, name, at, depth + 1, budget);
    if (found !== undefined) return found;
  }
  return undefined;
}

/** An integer that fits into so many bits, signed or not: -1 and 255 are both a byte. */
function integer(value: BtfValue, bits: number, bool: boolean, path: string): bigint {
  let exact: bigint;
  if (typeof value === 'boolean') exact = value ? 1n : 0n;
  else if (typeof value === 'bigint') exact = value;
  else if (typeof value === 'number' && Number.isInteger(value)) exact = BigInt(value);
  else refuse(path, `${typeof value === 'object' ? 'object' : String(value)} is not an integer`);
  const least = bool ? 0n : -(1n << BigInt(bits - 1));
  const most = bool ? 1n : (1n << BigInt(bits)) - 1n;
  if (exact < least || exact > most)
    refuse(path, `${exact} does not fit into ${bool ? 'a bool' : `${bits} bits`}`);
  return exact;
}

function writeInt(view: DataView, at: number, size: number, value: bigint): void {
  let rest = BigInt.asUintN(size * 8, value);
  for (let i = 0; i < size; i++) {
    view.setUint8(at + i, Number(rest & 0xffn));
    rest >>= 8n;
  }
}

function writeBits({ view }: Encoding, bit: number, width: number, value: bigint, path: string): void {
  const first = Math.floor(bit / 8);
  const last = Math.floor((bit + width - 1) / 8);
  if (last >= view.byteLength) refuse(path, 'a bitfield lies outside');
  let word = 0n;
  for (let i = last; i >= first; i--) word = (word << 8n) | BigInt(view.getUint8(i));
  const shift = BigInt(bit % 8);
  const mask = ((1n << BigInt(width)) - 1n) << shift;
  word = (word & ~mask) | ((BigInt.asUintN(width, value) << shift) & mask);
  for (let i = first; i <= last; i++) {
    view.setUint8(i, Number(word & 0xffn));
    word >>= 8n;
  }
}
