import { checkArgument, having } from '../arguments.ts';
import { BtfError, typeLabel } from './error.ts';
import {
  BTF_INT_BOOL,
  BTF_INT_CHAR,
  BTF_INT_SIGNED,
  infoKind,
  infoKindFlag,
  infoVlen,
  isComposite,
  KIND_NAMES,
  type KindName,
} from './kinds.ts';
import { NameIndex } from './name-index.ts';
import { decodeString, encodeName, essentialLength, stringLength } from './strings.ts';
import type { BtfLinkage, BtfMember, BtfType } from './types.ts';

/** What parseBtf() found; the words are in this machine's byte order. */
export interface BtfStorage {
  readonly base: Btf | undefined;
  /** The type section as 32-bit words, after three zero words (void). */
  readonly words: Uint32Array;
  /** Where each type starts in `words`; the first entry is the type `startId`. */
  readonly offsets: Uint32Array;
  readonly strings: Uint8Array;
  readonly littleEndian: boolean;
}

const LINKAGES: readonly BtfLinkage[] = ['static', 'global', 'extern'];

/**
 * A set of types: one 32-bit word array and one string section. Types are decoded when asked for, so the BTF of a whole
 * kernel costs little more than its bytes. Split BTF has a base, whose ids and string offsets come before its own.
 *
 * Every id that a type refers to exists (parseBtf checked that); only validateBtf() says that the types make sense.
 */
export class Btf {
  readonly base: Btf | undefined;
  /** The first id that is not the base's; 0 (void) without a base. */
  readonly startId: number;
  /** One more than the highest id. */
  readonly typeCount: number;
  /** The byte order it was written in. */
  readonly littleEndian: boolean;
  /** Bytes of strings, the base's included. */
  readonly stringsEnd: number;
  readonly #words: Uint32Array;
  readonly #offsets: Uint32Array;
  readonly #strings: Uint8Array;
  readonly #startStr: number;
  #names: NameIndex | undefined;
  #essentialNames: NameIndex | undefined;
  #pointerSize: 4 | 8 | undefined;

  constructor(storage: BtfStorage) {
    checkArgument(
      'new Btf()',
      'storage',
      storage,
      having('types as words: parseBtf() makes them of bytes', 'words', 'offsets', 'strings'),
    );
    this.base = storage.base;
    this.startId = storage.base?.typeCount ?? 0;
    this.#startStr = storage.base?.stringsEnd ?? 0;
    this.#words = storage.words;
    this.#offsets = storage.offsets;
    this.#strings = storage.strings;
    this.littleEndian = storage.littleEndian;
    this.typeCount = this.startId + storage.offsets.length;
    this.stringsEnd = this.#startStr + storage.strings.length;
  }

  /**
   * Word `index` of a type: 0 is its name's offset, 1 its info, 2 its size or type, 3 and on what its kind adds. Throws BtfError
   * where there is no such type.
   */
  word(id: number, index: number): number {
    if (id < this.startId && this.base !== undefined) return this.base.word(id, index);
    const at = this.#offsets[id - this.startId];
    if (at === undefined) throw new BtfError(`there is no type [${id}]`, { typeId: id });
    return this.#words[at + index]!;
  }

  /** The kind's number (BTF_KIND_…). */
  kind(id: number): number {
    return infoKind(this.word(id, 1));
  }

  kindName(id: number): KindName {
    return KIND_NAMES[this.kind(id)]!;
  }

  vlen(id: number): number {
    return infoVlen(this.word(id, 1));
  }

  kindFlag(id: number): boolean {
    return infoKindFlag(this.word(id, 1));
  }

  /** The string at an offset of the string section; '' for 0. Throws BtfError past its end. */
  string(offset: number): string {
    if (offset < this.#startStr) return this.base!.string(offset);
    if (!(offset < this.stringsEnd)) throw new BtfError(`string offset ${offset} is past the end`);
    return decodeString(this.#strings, offset - this.#startStr);
  }

  /** A type's name, '' where it has none. */
  name(id: number): string {
    return this.string(this.word(id, 0));
  }

  /** The bytes that hold the string at an offset, and where in them it starts. */
  nameAt(offset: number): { bytes: Uint8Array; at: number } {
    if (offset < this.#startStr) return this.base!.nameAt(offset);
    return { bytes: this.#strings, at: offset - this.#startStr };
  }

  /** The bytes that hold the string at an offset, where in them it starts, and how many it has. */
  stringBytes(offset: number): { bytes: Uint8Array; at: number; length: number } {
    const { bytes, at } = this.nameAt(offset);
    return { bytes, at, length: stringLength(bytes, at) };
  }

  has(id: number): boolean {
    return Number.isInteger(id) && id >= 0 && id < this.typeCount;
  }

  /** `type [4] STRUCT foo`, for messages. */
  label(id: number): string {
    if (!this.has(id)) return `type [${id}], which is not there`;
    return typeLabel(id, this.kind(id), this.name(id));
  }

  /** One type as an object. Throws BtfError where there is no such id. */
  type(id: number): BtfType {
    if (!this.has(id)) throw new BtfError(`there is no type [${id}]`, { typeId: id });
    const kind = this.kindName(id);
    const name = this.name(id);
    const third = this.word(id, 2);
    switch (kind) {
      case 'UNKN':
        return { id, name, kind };
      case 'INT': {
        const data = this.word(id, 3);
        const encoding = (data >>> 24) & 15;
        return {
          id,
          name,
          kind,
          size: third,
          signed: (encoding & BTF_INT_SIGNED) !== 0,
          char: (encoding & BTF_INT_CHAR) !== 0,
          bool: (encoding & BTF_INT_BOOL) !== 0,
          bits: data & 0xff,
          bitOffset: (data >>> 16) & 0xff,
        };
      }
      case 'PTR':
      case 'TYPEDEF':
      case 'VOLATILE':
      case 'CONST':
      case 'RESTRICT':
        return { id, name, kind, type: third };
      case 'TYPE_TAG':
        return { id, name, kind, type: third, attribute: this.kindFlag(id) };
      case 'ARRAY':
        return {
          id,
          name,
          kind,
          type: this.word(id, 3),
          indexType: this.word(id, 4),
          nelems: this.word(id, 5),
        };
      case 'STRUCT':
      case 'UNION':
        return { id, name, kind, size: third, members: this.members(id) };
      case 'ENUM':
      case 'ENUM64': {
        const values = Array.from({ length: this.vlen(id) }, (_, i) => ({
          name: this.enumeratorName(id, i),
          value: this.enumeratorValue(id, i),
        }));
        return { id, name, kind, size: third, signed: this.kindFlag(id), values };
      }
      case 'FWD':
        return { id, name, kind, union: this.kindFlag(id) };
      case 'FUNC':
        return { id, name, kind, type: third, linkage: LINKAGES[this.vlen(id)] ?? 'static' };
      case 'FUNC_PROTO': {
        const params = Array.from({ length: this.vlen(id) }, (_, i) => ({
          name: this.string(this.word(id, 3 + 2 * i)),
          type: this.word(id, 4 + 2 * i),
        }));
        return { id, name, kind, type: third, params };
      }
      case 'VAR':
        return { id, name, kind, type: third, linkage: LINKAGES[this.word(id, 3)] ?? 'static' };
      case 'DATASEC': {
        const vars = Array.from({ length: this.vlen(id) }, (_, i) => ({
          type: this.word(id, 3 + 3 * i),
          offset: this.word(id, 4 + 3 * i),
          size: this.word(id, 5 + 3 * i),
        }));
        return { id, name, kind, size: third, vars };
      }
      case 'FLOAT':
        return { id, name, kind, size: third };
      case 'DECL_TAG':
        return {
          id,
          name,
          kind,
          type: third,
          componentIndex: this.word(id, 3) | 0,
          attribute: this.kindFlag(id),
        };
    }
  }

  /** Every type, ascending by id; the base's too, void not. */
  get types(): Iterable<BtfType> {
    return { [Symbol.iterator]: () => this.#iterate(1) };
  }

  /** The types that the base does not have. */
  get ownTypes(): Iterable<BtfType> {
    return { [Symbol.iterator]: () => this.#iterate(Math.max(1, this.startId)) };
  }

  *#iterate(from: number): Generator<BtfType, void, undefined> {
    for (let id = from; id < this.typeCount; id++) yield this.type(id);
  }

  memberName(id: number, index: number): string {
    return this.string(this.word(id, 3 + 3 * index));
  }

  memberType(id: number, index: number): number {
    return this.word(id, 4 + 3 * index);
  }

  memberBitOffset(id: number, index: number): number {
    const offset = this.word(id, 5 + 3 * index);
    return this.kindFlag(id) ? offset & 0xff_ffff : offset;
  }

  /** The width of a bitfield member, 0 for an ordinary one (btf_member_bitfield_size). */
  memberBitSize(id: number, index: number): number {
    return this.kindFlag(id) ? this.word(id, 5 + 3 * index) >>> 24 : 0;
  }

  members(id: number): readonly BtfMember[] {
    if (!isComposite(this.kind(id))) throw new BtfError(`${this.label(id)} has no members`, { typeId: id });
    return Array.from({ length: this.vlen(id) }, (_, i) => ({
      name: this.memberName(id, i),
      type: this.memberType(id, i),
      bitOffset: this.memberBitOffset(id, i),
      bitSize: this.memberBitSize(id, i),
    }));
  }

  enumeratorName(id: number, index: number): string {
    return this.string(this.word(id, 3 + index * (this.kindName(id) === 'ENUM64' ? 3 : 2)));
  }

  /** An enumerator's value, signed where the enum is. */
  enumeratorValue(id: number, index: number): bigint {
    if (this.kindName(id) === 'ENUM64') {
      const low = BigInt(this.word(id, 4 + 3 * index));
      const value = (BigInt(this.word(id, 5 + 3 * index)) << 32n) | low;
      return this.kindFlag(id) ? BigInt.asIntN(64, value) : value;
    }
    const value = this.word(id, 4 + 2 * index);
    return BigInt(this.kindFlag(id) ? value | 0 : value);
  }

  /** The lowest id of a type with that name (and kind), as btf__find_by_name does it; the base's come first. */
  byName(name: string, kind?: KindName): number | undefined {
    for (const id of this.allByName(name)) {
      if (kind === undefined || this.kindName(id) === kind) return id;
    }
    return undefined;
  }

  /** Every id with that name, ascending. Without a name there is nothing to find. */
  *allByName(name: string): Generator<number, void, undefined> {
    if (name === '') return;
    if (this.base !== undefined) yield* this.base.allByName(name);
    this.#names ??= this.#index((bytes, at) => stringLength(bytes, at));
    for (const index of this.#names.find(encodeName(name))) yield this.startId + index;
  }

  /** Every id whose name without its flavour is that of the given name without its own, ascending (CO-RE candidates). */
  *allByEssentialName(name: string): Generator<number, void, undefined> {
    if (name === '') return;
    if (this.base !== undefined) yield* this.base.allByEssentialName(name);
    this.#essentialNames ??= this.#index((bytes, at) => essentialLength(bytes, at, stringLength(bytes, at)));
    const bytes = encodeName(name);
    for (const index of this.#essentialNames.find(bytes, essentialLength(bytes, 0, bytes.length))) {
      yield this.startId + index;
    }
  }

  #index(lengthOf: (bytes: Uint8Array, at: number) => number): NameIndex {
    // Split BTF may name a type by a string of its base: then the name is looked at where it lies.
    const strings = this.#allStrings();
    return new NameIndex(
      strings,
      this.#offsets.length,
      (index) => this.#words[this.#offsets[index]!]!,
      (offset) => lengthOf(strings, offset),
    );
  }

  #allStrings(): Uint8Array {
    if (this.base === undefined) return this.#strings;
    const all = new Uint8Array(this.stringsEnd);
    all.set(this.base.#allStrings());
    all.set(this.#strings, this.#startStr);
    return all;
  }

  /** Its own strings, without the base's. */
  get strings(): Uint8Array {
    return this.#strings;
  }

  /** Its own types as words, in this machine's byte order, without the base's. */
  get typeWords(): Uint32Array {
    return this.#words.subarray(this.base === undefined ? 3 : 0);
  }

  /** Bytes of a pointer: 4 where a `long` has 4, 8 otherwise (determine_ptr_size of libbpf). */
  get pointerSize(): 4 | 8 {
    this.#pointerSize ??= this.base?.pointerSize ?? this.#findPointerSize();
    return this.#pointerSize;
  }

  #findPointerSize(): 4 | 8 {
    for (const name of ['long', 'long int', 'int long', 'unsigned long', 'long unsigned int']) {
      const id = this.byName(name, 'INT');
      if (id !== undefined && (this.word(id, 2) === 4 || this.word(id, 2) === 8)) {
        return this.word(id, 2) as 4 | 8;
      }
    }
    return 8;
  }
}
