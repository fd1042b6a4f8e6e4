import { aBtf } from '../argument-shapes.ts';
import { checkArgument, optional } from '../arguments.ts';
import type { Btf } from './btf.ts';
import { BtfError } from './error.ts';
import { forEachNameWord, forEachTypeWord, wordCount } from './fields.ts';
import * as k from './kinds.ts';
import { parseBtf } from './parse.ts';
import { encodeName } from './strings.ts';
import type { BtfLinkage, BtfParam, BtfSecVar } from './types.ts';
import { encodeBtf } from './write.ts';

const LINKAGE: Readonly<Record<BtfLinkage, number>> = { static: 0, global: 1, extern: 2 };

export interface MemberInput {
  /** Empty for an anonymous struct or union. */
  readonly name: string;
  readonly type: number;
  /** Bits from the start of the struct. */
  readonly bitOffset: number;
  /** The width of a bitfield. */
  readonly bitSize?: number;
}

export interface EnumeratorInput {
  readonly name: string;
  readonly value: bigint | number;
}

/** A string section that grows; each string is there once. */
export class StringTable {
  readonly #offsets = new Map<string, number>();
  readonly #start: number;
  #bytes = new Uint8Array(256);
  #length = 0;

  /** `start` is where it begins: the end of a base's strings. The first string of all is the empty one. */
  constructor(start = 0) {
    this.#start = start;
    if (start === 0) this.add('');
    else this.#offsets.set('', 0);
  }

  add(text: string): number {
    const known = this.#offsets.get(text);
    if (known !== undefined) return known;
    if (text.includes('\0')) throw new BtfError('a name contains NUL');
    const bytes = encodeName(text);
    const need = this.#length + bytes.length + 1;
    if (need > this.#bytes.length) {
      const grown = new Uint8Array(Math.max(need, this.#bytes.length * 2));
      grown.set(this.#bytes);
      this.#bytes = grown;
    }
    const offset = this.#start + this.#length;
    this.#bytes.set(bytes, this.#length);
    this.#length = need;
    this.#offsets.set(text, offset);
    return offset;
  }

  /** Strings that are there already, elsewhere: of a base. */
  known(strings: Iterable<[string, number]>): void {
    for (const [text, offset] of strings) if (!this.#offsets.has(text)) this.#offsets.set(text, offset);
  }

  get bytes(): Uint8Array {
    return this.#bytes.subarray(0, this.#length);
  }
}

/**
 * Writes BTF type by type. Each method returns the new type's id; ids that are still to come may be named, `build()` says
 * whether they came. With a `base` the result is split BTF.
 */
export class BtfBuilder {
  readonly #base: Btf | undefined;
  readonly #strings: StringTable;
  #words = new Uint32Array(256);
  #length = 0;
  #nextId: number;

  constructor(base?: Btf) {
    checkArgument('new BtfBuilder()', 'base', base, optional(aBtf));
    this.#base = base;
    this.#strings = new StringTable(base?.stringsEnd ?? 0);
    this.#nextId = base?.typeCount ?? 1;
  }

  /** The id that the next type will have. */
  get nextId(): number {
    return this.#nextId;
  }

  /** The offset of a string, added where it is new. */
  string(text: string): number {
    return this.#strings.add(text);
  }

  /** Adds a type as its words, the name as text: the way for types copied from elsewhere. */
  raw(name: string, info: number, sizeOrType: number, rest: ArrayLike<number> = []): number {
    const need = this.#length + 3 + rest.length;
    if (need > this.#words.length) {
      const grown = new Uint32Array(Math.max(need, this.#words.length * 2));
      grown.set(this.#words);
      this.#words = grown;
    }
    this.#words[this.#length++] = this.string(name);
    this.#words[this.#length++] = info;
    this.#words[this.#length++] = sizeOrType;
    for (let i = 0; i < rest.length; i++) this.#words[this.#length++] = rest[i]!;
    return this.#nextId++;
  }

  /** Copies every type of another BTF behind those that are here. Returns the new id by the old one; void stays 0. */
  append(btf: Btf): Uint32Array {
    const ids = new Uint32Array(btf.typeCount);
    for (let id = 1; id < btf.typeCount; id++) ids[id] = this.#nextId + id - 1;
    for (let id = 1; id < btf.typeCount; id++) {
      const kind = btf.kind(id);
      const vlen = btf.vlen(id);
      const rest = Array.from({ length: wordCount(kind, vlen) - 3 }, (_, i) => btf.word(id, 3 + i));
      let third = btf.word(id, 2);
      forEachTypeWord(kind, vlen, (word) => {
        if (word === 2) third = ids[third]!;
        else rest[word - 3] = ids[rest[word - 3]!]!;
      });
      forEachNameWord(kind, vlen, (word) => {
        if (word > 0) rest[word - 3] = this.string(btf.string(rest[word - 3]!));
      });
      this.raw(btf.name(id), btf.word(id, 1), third, rest);
    }
    return ids;
  }

  int(
    name: string,
    size: number,
    options: { signed?: boolean; char?: boolean; bool?: boolean; bits?: number; bitOffset?: number } = {},
  ): number {
    const encoding =
      (options.signed ? k.BTF_INT_SIGNED : 0) |
      (options.char ? k.BTF_INT_CHAR : 0) |
      (options.bool ? k.BTF_INT_BOOL : 0);
    const data = (encoding << 24) | ((options.bitOffset ?? 0) << 16) | (options.bits ?? size * 8);
    return this.raw(name, k.makeInfo(k.BTF_KIND_INT), size, [data]);
  }

  ptr(type: number): number {
    return this.raw('', k.makeInfo(k.BTF_KIND_PTR), type);
  }

  typedef(name: string, type: number): number {
    return this.raw(name, k.makeInfo(k.BTF_KIND_TYPEDEF), type);
  }

  const(type: number): number {
    return this.raw('', k.makeInfo(k.BTF_KIND_CONST), type);
  }

  volatile(type: number): number {
    return this.raw('', k.makeInfo(k.BTF_KIND_VOLATILE), type);
  }

  restrict(type: number): number {
    return this.raw('', k.makeInfo(k.BTF_KIND_RESTRICT), type);
  }

  typeTag(name: string, type: number): number {
    return this.raw(name, k.makeInfo(k.BTF_KIND_TYPE_TAG), type);
  }

  declTag(name: string, type: number, componentIndex = -1): number {
    return this.raw(name, k.makeInfo(k.BTF_KIND_DECL_TAG), type, [componentIndex]);
  }

  array(type: number, indexType: number, nelems: number): number {
    return this.raw('', k.makeInfo(k.BTF_KIND_ARRAY), 0, [type, indexType, nelems]);
  }

  struct(name: string, size: number, members: readonly MemberInput[]): number {
    return this.#composite(k.BTF_KIND_STRUCT, name, size, members);
  }

  union(name: string, size: number, members: readonly MemberInput[]): number {
    return this.#composite(k.BTF_KIND_UNION, name, size, members);
  }

  #composite(kind: number, name: string, size: number, members: readonly MemberInput[]): number {
    const bitfields = members.some(({ bitSize = 0 }) => bitSize > 0);
    const rest: number[] = [];
    for (const { name, type, bitOffset, bitSize = 0 } of members) {
      if (bitfields && bitOffset > 0xff_ffff)
        throw new BtfError(`member ${name}: a bitfield's struct is too large`);
      rest.push(this.string(name), type, bitfields ? ((bitSize << 24) | bitOffset) >>> 0 : bitOffset);
    }
    return this.raw(name, k.makeInfo(kind, this.#count(members), bitfields), size, rest);
  }

  #count(entries: readonly unknown[]): number {
    if (entries.length > 0xffff) throw new BtfError(`${entries.length} entries do not fit into one type`);
    return entries.length;
  }

  /** 32-bit enumerators. Signed where one is negative, unless said. */
  enum(
    name: string,
    values: readonly EnumeratorInput[],
    size = 4,
    signed = values.some((one) => one.value < 0),
  ): number {
    const rest = values.flatMap(({ name, value }) => [
      this.string(name),
      Number(BigInt.asUintN(32, BigInt(value))),
    ]);
    return this.raw(name, k.makeInfo(k.BTF_KIND_ENUM, this.#count(values), signed), size, rest);
  }

  enum64(
    name: string,
    values: readonly EnumeratorInput[],
    size = 8,
    signed = values.some((one) => one.value < 0),
  ): number {
    const rest = values.flatMap(({ name, value }) => {
      const bits = BigInt.asUintN(64, BigInt(value));
      return [this.string(name), Number(bits & 0xffff_ffffn), Number(bits >> 32n)];
    });
    return this.raw(name, k.makeInfo(k.BTF_KIND_ENUM64, this.#count(values), signed), size, rest);
  }

  fwd(name: string, kind: 'struct' | 'union' = 'struct'): number {
    return this.raw(name, k.makeInfo(k.BTF_KIND_FWD, 0, kind === 'union'), 0);
  }

  func(name: string, proto: number, linkage: BtfLinkage = 'static'): number {
    return this.raw(name, k.makeInfo(k.BTF_KIND_FUNC, LINKAGE[linkage]), proto);
  }

  funcProto(returns: number, params: readonly BtfParam[]): number {
    const rest = params.flatMap(({ name, type }) => [this.string(name), type]);
    return this.raw('', k.makeInfo(k.BTF_KIND_FUNC_PROTO, this.#count(params)), returns, rest);
  }

  var(name: string, type: number, linkage: BtfLinkage = 'static'): number {
    return this.raw(name, k.makeInfo(k.BTF_KIND_VAR), type, [LINKAGE[linkage]]);
  }

  datasec(name: string, size: number, vars: readonly BtfSecVar[]): number {
    const rest = vars.flatMap(({ type, offset, size }) => [type, offset, size]);
    return this.raw(name, k.makeInfo(k.BTF_KIND_DATASEC, this.#count(vars)), size, rest);
  }

  float(name: string, size: number): number {
    return this.raw(name, k.makeInfo(k.BTF_KIND_FLOAT), size);
  }

  toBytes(littleEndian = true): Uint8Array {
    return encodeBtf(this.#words.subarray(0, this.#length), this.#strings.bytes, littleEndian);
  }

  build(): Btf {
    return parseBtf(this.toBytes(), this.#base);
  }
}
