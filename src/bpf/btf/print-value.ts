/** Values of a type as `bpftool map dump` prints them (tools/bpf/bpftool/btf_dumper.c). */

import { aBtf, aTypeId } from '../argument-shapes.ts';
import { anIterable, anObject, checkArgument, optional, someBytes } from '../arguments.ts';
import type { Btf } from './btf.ts';
import { BtfError } from './error.ts';
import { isAnyEnum, isComposite } from './kinds.ts';
import { resolveType, sizeOf, skipModifiers } from './layout.ts';

export interface PrintOptions {
  /**
   * `plain` (default) is what bpftool prints for people: indented, with bare hexadecimal numbers and `(nil)`. `json` is one line
   * of JSON: hexadecimal numbers are strings there.
   */
  readonly format?: 'plain' | 'json';
}

/** A scalar's text, a list, or named parts: what both formats are written from. */
type Node = string | readonly Node[] | { readonly members: readonly (readonly [string, Node])[] };

const MAX_DEPTH = 32;

const quote = (text: string): string => JSON.stringify(text);

/** Writes a tree as bpftool's JSON writer does: the end of a list on a line of its own, its elements not. */
function write(node: Node, json: boolean, depth: number): string {
  if (typeof node === 'string') return node;
  const newline = (level: number): string => (json ? '' : `\n${'    '.repeat(level)}`);
  if ('members' in node) {
    if (node.members.length === 0) return '{}';
    const parts = node.members.map(
      ([name, value]) =>
        `${newline(depth + 1)}${quote(name)}:${json ? '' : ' '}${write(value, json, depth + 1)}`,
    );
    return `{${parts.join(',')}${newline(depth)}}`;
  }
  if (node.length === 0) return '[]';
  return `[${node.map((one) => write(one, json, depth + 1)).join(',')}${newline(depth)}]`;
}

class Reader {
  readonly #btf: Btf;
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  readonly #json: boolean;
  /** Scalars, lists and names that the value may have: more than its bytes can mean types made to have no end. */
  #left: number;

  constructor(btf: Btf, bytes: Uint8Array, json: boolean) {
    this.#btf = btf;
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#json = json;
    this.#left = 4 * bytes.length + 4096;
  }

  node(typeId: number, at: number, depth = 0): Node {
    const btf = this.#btf;
    const id = resolveType(btf, typeId);
    const kind = btf.kind(id);
    this.#spend(id, 1);
    if (depth > MAX_DEPTH) {
      throw new BtfError(`${btf.label(id)} is too large to print`, { typeId: id, errno: 'E2BIG' });
    }
    if (isComposite(kind)) return this.#members(id, at, depth);
    if (isAnyEnum(kind)) return this.#enum(id, at);
    switch (btf.kindName(id)) {
      case 'INT':
        return this.#int(id, at);
      case 'PTR':
        return this.#pointer(this.#bits(at * 8, btf.pointerSize * 8));
      case 'ARRAY':
        return this.#array(id, at, depth);
      case 'FLOAT':
        return this.#float(btf.word(id, 2), at);
      case 'VAR':
        return { members: [[btf.name(id), this.node(btf.word(id, 2), at, depth + 1)]] };
      case 'DATASEC':
        return this.#datasec(id, at, depth);
      default:
        throw new BtfError(`${btf.label(id)} has no value`, { typeId: id });
    }
  }

  #spend(id: number, cost: number): void {
    this.#left -= cost;
    if (this.#left < 0) {
      throw new BtfError(`${this.#btf.label(id)} is too large to print`, { typeId: id, errno: 'E2BIG' });
    }
  }

  #check(at: number, size: number): void {
    if (at + size > this.#bytes.length) {
      throw new BtfError(`the value ends at byte ${at + size}, there are ${this.#bytes.length}`);
    }
  }

  /** Bits of the value as an unsigned number. */
  #bits(bit: number, width: number): bigint {
    const first = Math.floor(bit / 8);
    const last = Math.floor((bit + width - 1) / 8);
    this.#check(first, last - first + 1);
    let value = 0n;
    if (this.#btf.littleEndian) {
      for (let i = last; i >= first; i--) value = (value << 8n) | BigInt(this.#bytes[i]!);
      return BigInt.asUintN(width, value >> BigInt(bit - first * 8));
    }
    for (let i = first; i <= last; i++) value = (value << 8n) | BigInt(this.#bytes[i]!);
    return BigInt.asUintN(width, value >> BigInt((last + 1) * 8 - bit - width));
  }

  #hex(value: bigint): string {
    const text = `0x${value.toString(16)}`;
    return this.#json ? quote(text) : text;
  }

  #pointer(value: bigint): string {
    if (this.#json) return `${value}`;
    return value === 0n ? '(nil)' : `0x${value.toString(16)}`;
  }

  #int(id: number, at: number): string {
    const btf = this.#btf;
    const size = btf.word(id, 2);
    const data = btf.word(id, 3);
    const width = data & 0xff;
    const offset = (data >>> 16) & 0xff;
    if (offset !== 0 || ![8, 16, 32, 64].includes(width) || width > size * 8) {
      return this.#hex(this.#bits(at * 8 + offset, width));
    }
    const value = this.#bits(at * 8, width);
    switch ((data >>> 24) & 15) {
      case 1:
        return `${BigInt.asIntN(width, value)}`;
      case 2: {
        const byte = Number(value & 0xffn);
        const printable = byte >= 0x20 && byte < 0x7f;
        return printable ? quote(String.fromCharCode(byte)) : `"\\x${byte.toString(16).padStart(2, '0')}"`;
      }
      case 4:
        return value === 0n ? 'false' : 'true';
      default:
        return `${value}`;
    }
  }

  #float(size: number, at: number): string {
    this.#check(at, size);
    const little = this.#btf.littleEndian;
    if (size === 4) return `${this.#view.getFloat32(at, little)}`;
    if (size === 8) return `${this.#view.getFloat64(at, little)}`;
    return this.#hex(this.#bits(at * 8, size * 8));
  }

  #enum(id: number, at: number): string {
    const btf = this.#btf;
    const width = btf.word(id, 2) * 8;
    const bits = this.#bits(at * 8, width);
    const value = btf.kindFlag(id) ? BigInt.asIntN(width, bits) : bits;
    for (let i = 0; i < btf.vlen(id); i++) {
      if (btf.enumeratorValue(id, i) === value) return quote(btf.enumeratorName(id, i));
    }
    return `${btf.kindName(id) === 'ENUM' ? BigInt.asIntN(width, bits) : value}`;
  }

  #array(id: number, at: number, depth: number): Node {
    const btf = this.#btf;
    const element = btf.word(id, 3);
    const count = btf.word(id, 5);
    const size = sizeOf(btf, element);
    const text = this.#text(element, at, count);
    if (text !== undefined) return quote(text);
    if (count > this.#left) this.#spend(id, count);
    return Array.from({ length: count }, (_, i) => this.node(element, at + i * size, depth + 1));
  }

  /** An array of `char` (no typedef of it) that is printable up to its NUL. */
  #text(element: number, at: number, count: number): string | undefined {
    const btf = this.#btf;
    const id = skipModifiers(btf, element);
    if (btf.kindName(id) !== 'INT' || btf.word(id, 2) !== 1) return undefined;
    if (((btf.word(id, 3) >>> 24) & 15) !== 2 && btf.name(id) !== 'char') return undefined;
    this.#check(at, count);
    let text = '';
    for (let i = at; i < at + count; i++) {
      const byte = this.#bytes[i]!;
      if (byte === 0) return text;
      if (byte < 0x20 || byte > 0x7e) return undefined;
      text += String.fromCharCode(byte);
    }
    return undefined;
  }

  #members(id: number, at: number, depth: number): Node {
    const btf = this.#btf;
    return {
      members: btf.members(id).map(({ name, type, bitOffset, bitSize }) => {
        this.#spend(id, name.length >> 6);
        if (bitSize > 0) return [name, this.#hex(this.#bits(at * 8 + bitOffset, bitSize))] as const;
        return [name, this.node(type, at + Math.floor(bitOffset / 8), depth + 1)] as const;
      }),
    };
  }

  #datasec(id: number, at: number, depth: number): Node {
    const btf = this.#btf;
    const variables = Array.from({ length: btf.vlen(id) }, (_, i) =>
      this.node(btf.word(id, 3 + 3 * i), at + btf.word(id, 4 + 3 * i), depth + 1),
    );
    return { members: [[btf.name(id), variables]] };
  }
}

/**
 * A value as text: `{"field": 1}`. Bitfields are hexadecimal, enumerators and `char` arrays strings, a section of variables
 * an object of them. Floating point numbers, which bpftool refuses, are printed as numbers. Throws BtfError where the bytes
 * end before the value does.
 */
export function printValue(btf: Btf, typeId: number, bytes: Uint8Array, options: PrintOptions = {}): string {
  checkArgument('printValue()', 'btf', btf, aBtf);
  checkArgument('printValue()', 'typeId', typeId, aTypeId);
  checkArgument('printValue()', 'bytes', bytes, someBytes);
  checkArgument('printValue()', 'options', options, optional(anObject));
  const json = options.format === 'json';
  return write(new Reader(btf, bytes, json).node(typeId, 0), json, 0);
}

/** One entry of a map; several values are those of the CPUs. */
export interface PrintedEntry {
  readonly key: Uint8Array;
  readonly values: readonly Uint8Array[];
}

/** A whole map, as `bpftool map dump` does. Without a key type (a section of variables) the keys are left out. */
export function printMapEntries(
  btf: Btf,
  keyType: number,
  valueType: number,
  entries: Iterable<PrintedEntry>,
  options: PrintOptions & { readonly perCpu?: boolean } = {},
): string {
  checkArgument('printMapEntries()', 'btf', btf, aBtf);
  checkArgument('printMapEntries()', 'keyType', keyType, aTypeId);
  checkArgument('printMapEntries()', 'valueType', valueType, aTypeId);
  checkArgument('printMapEntries()', 'entries', entries, anIterable);
  checkArgument('printMapEntries()', 'options', options, optional(anObject));
  const json = options.format === 'json';
  const read = (type: number, bytes: Uint8Array): Node => new Reader(btf, bytes, json).node(type, 0);
  const list: Node[] = [];
  for (const { key, values } of entries) {
    const members: [string, Node][] = keyType === 0 ? [] : [['key', read(keyType, key)]];
    if (options.perCpu === true) {
      members.push([
        'values',
        values.map((bytes, cpu) => ({
          members: [
            ['cpu', `${cpu}`],
            ['value', read(valueType, bytes)],
          ] as [string, Node][],
        })),
      ]);
    } else {
      members.push(['value', read(valueType, values[0] ?? new Uint8Array(0))]);
    }
    list.push({ members });
  }
  return write(list, json, 0);
}
