/**
 * Values of a type as the kernel prints them: bpf_snprintf_btf() and bpf_seq_printf_btf() (kernel/bpf/btf.c, btf_type_show). What is zero
 * is left out, unless asked for; whether a struct has anything to show is found out by going through it once before.
 */

import { aBtf, aTypeId } from '../argument-shapes.ts';
import { anObject, checkArgument, optional, someBytes } from '../arguments.ts';
import type { Btf } from './btf.ts';
import { BtfError } from './error.ts';
import * as k from './kinds.ts';
import { resolveType, sizeOf, skipModifiers } from './layout.ts';

/** Flags of the helpers. */
export const BTF_F_COMPACT = 1;
export const BTF_F_NONAME = 2;
export const BTF_F_PTR_RAW = 4;
export const BTF_F_ZERO = 8;
export const BTF_F_ALL = 15;

export interface ShowOptions {
  /** Everything in one line. */
  readonly compact?: boolean;
  /** Without names of types and members. */
  readonly noName?: boolean;
  /** Members that are zero, too. */
  readonly zero?: boolean;
}

/** Array elements and members that are gone through, at most: types can mean more than any value has bytes. */
const MAX_STEPS = 1_000_000;
const MAX_DEPTH = 64;
/** BTF_SHOW_MAX_ITER */
const MAX_NAME_PARTS = 10;
/** BTF_SHOW_NAME_SIZE without the NUL. */
const MAX_NAME = 79;
const MAX_INDENT = 32;

/** One value's text. `bytes` are those of the value. Throws BtfError where the type has no size, or no end. */
export function showValue(btf: Btf, typeId: number, bytes: Uint8Array, options: ShowOptions = {}): string {
  checkArgument('showValue()', 'btf', btf, aBtf);
  checkArgument('showValue()', 'typeId', typeId, aTypeId);
  checkArgument('showValue()', 'bytes', bytes, someBytes);
  checkArgument('showValue()', 'options', options, optional(anObject));
  let text = '';
  const flags =
    (options.compact === true ? BTF_F_COMPACT : 0) |
    (options.noName === true ? BTF_F_NONAME : 0) |
    (options.zero === true ? BTF_F_ZERO : 0);
  showType(btf, typeId, bytes, flags, (part) => {
    text += part;
  });
  return text;
}

/** As `showValue()`, part by part, with the helpers' flags. */
export function showType(
  btf: Btf,
  typeId: number,
  bytes: Uint8Array,
  flags: number,
  put: (text: string) => void,
): void {
  new Show(btf, bytes, flags, put).type(typeId, typeId, 0, 0, 0);
}

/** What the kernel keeps in `struct btf_show` while it goes through a value. */
class Show {
  readonly #btf: Btf;
  readonly #bytes: Uint8Array;
  readonly #flags: number;
  readonly #put: (text: string) => void;
  #steps = 0;
  #depth = 0;
  /** How deep the last value was that is to be shown. */
  #shownDepth = 0;
  /** While a struct or an array is only looked through: its depth, and one. */
  #checking = 0;
  #isElement = false;
  #isChars = false;
  /** The NUL of a text has come. */
  #isTerminated = false;
  /** The struct and index of a member. */
  #member: { readonly type: number; readonly index: number } | undefined;
  #shown: { readonly kind: number; readonly id: number } | undefined;

  constructor(btf: Btf, bytes: Uint8Array, flags: number, put: (text: string) => void) {
    this.#btf = btf;
    this.#bytes = bytes;
    this.#flags = flags;
    this.#put = put;
  }

  /** Shows type `id` at a byte; `namedBy` is the type that its name comes from. `bit` counts from the byte. */
  type(id: number, namedBy: number, at: number, bit: number, nesting: number): void {
    const btf = this.#btf;
    if (++this.#steps > MAX_STEPS || nesting > MAX_DEPTH) {
      throw new BtfError(`${btf.label(id)} is too large to print`, { typeId: id, errno: 'E2BIG' });
    }
    const kind = btf.kind(id);
    switch (kind) {
      case k.BTF_KIND_INT:
        this.#start(id, namedBy);
        this.#int(id, at, bit);
        break;
      case k.BTF_KIND_TYPEDEF:
      case k.BTF_KIND_VOLATILE:
      case k.BTF_KIND_CONST:
      case k.BTF_KIND_RESTRICT:
      case k.BTF_KIND_TYPE_TAG:
        this.type(resolveType(btf, id), namedBy, at, bit, nesting + 1);
        return;
      case k.BTF_KIND_VAR: {
        const target = resolveType(btf, btf.word(id, 2));
        this.type(target, target, at, bit, nesting + 1);
        return;
      }
      case k.BTF_KIND_PTR:
        this.#start(id, namedBy);
        this.#value(this.#read(at, 8), (value) => `0x${value.toString(16).padStart(16, '0')}`);
        break;
      case k.BTF_KIND_ENUM:
      case k.BTF_KIND_ENUM64:
        this.#start(id, namedBy);
        this.#enum(id, at);
        break;
      case k.BTF_KIND_STRUCT:
      case k.BTF_KIND_UNION:
        this.#aggregate(() => this.#struct(id, namedBy, at, nesting));
        return;
      case k.BTF_KIND_ARRAY:
        this.#aggregate(() => this.#array(id, namedBy, at, bit, nesting));
        return;
      default:
        this.#print(`<unsupported kind:${kind}>`);
        return;
    }
    this.#shown = undefined;
  }

  /** Looks through an aggregate within another first: nothing of it is shown where nothing in it is. */
  #aggregate(show: () => void): void {
    const member = this.#member;
    if (this.#depth > 0 && (this.#flags & BTF_F_ZERO) === 0) {
      const own = this.#depth + 1;
      if (this.#checking === 0) {
        this.#checking = own;
        this.#shownDepth = 0;
      }
      show();
      this.#member = member;
      if (this.#checking !== own) return;
      this.#checking = 0;
      if (this.#shownDepth <= this.#depth) return;
    }
    show();
  }

  #struct(id: number, namedBy: number, at: number, nesting: number): void {
    const btf = this.#btf;
    this.#open(id, namedBy);
    const count = btf.vlen(id);
    for (let index = 0; index < count; index++) {
      this.#member = { type: id, index };
      const type = btf.memberType(id, index);
      const offset = btf.memberBitOffset(id, index);
      const width = btf.memberBitSize(id, index);
      const byte = at + Math.floor(offset / 8);
      if (width > 0) {
        this.#start(type, type);
        this.#wide(this.#bits(byte, offset % 8, width));
        this.#shown = undefined;
      } else this.type(type, type, byte, offset % 8, nesting + 1);
      this.#member = undefined;
    }
    this.#close('}');
  }

  #array(id: number, namedBy: number, at: number, bit: number, nesting: number): void {
    const btf = this.#btf;
    const elementId = btf.word(id, 3);
    const element = resolveType(btf, elementId);
    const kind = btf.kind(element);
    const size = SIZED.has(kind) ? btf.word(element, 2) : 0;
    // Bytes are shown as characters, where they can be.
    this.#isChars = kind === k.BTF_KIND_INT && (size === 1 || btf.word(element, 3) >>> 24 === k.BTF_INT_CHAR);
    this.#isTerminated = false;
    this.#open(id, namedBy);
    const count = btf.word(id, 5);
    for (let index = 0; index < count; index++) {
      this.#isElement = true;
      this.#member = undefined;
      this.type(element, elementId, at + index * size, bit, nesting + 1);
      this.#isElement = false;
      this.#member = undefined;
      if (this.#isTerminated) break;
    }
    this.#isChars = false;
    this.#isTerminated = false;
    this.#close(']');
  }

  #int(id: number, at: number, bit: number): void {
    const data = this.#btf.word(id, 3);
    const signed = ((data >>> 24) & k.BTF_INT_SIGNED) !== 0;
    const bits = data & 0xff;
    const offset = bit + ((data >>> 16) & 0xff);
    if (offset > 0 || ![8, 16, 32, 64, 128].includes(bits)) {
      this.#wide(this.#bits(at + Math.floor(offset / 8), offset % 8, bits));
      return;
    }
    const value = this.#read(at, bits / 8);
    if (bits === 128) {
      this.#wide(value);
      return;
    }
    if (bits === 8 && this.#isChars) {
      if (this.#isTerminated) return;
      if (value === 0n) {
        this.#isTerminated = true;
        return;
      }
      if (isPrintable(Number(value))) {
        this.#value(value, () => `'${String.fromCharCode(Number(value))}'`);
        return;
      }
    }
    this.#value(value, () => String(signed ? BigInt.asIntN(bits, value) : value));
  }

  /** Up to 128 bits, in hexadecimal digits. */
  #wide(value: bigint): void {
    this.#value(value, () => `0x${value.toString(16)}`);
  }

  #enum(id: number, at: number): void {
    const btf = this.#btf;
    const isWide = btf.kind(id) === k.BTF_KIND_ENUM64;
    const bits = isWide ? 64 : 32;
    // Also of an enum of one byte the kernel reads four.
    const value = this.#read(at, bits / 8);
    const count = btf.vlen(id);
    for (let index = 0; index < count; index++) {
      if (BigInt.asUintN(bits, btf.enumeratorValue(id, index)) !== value) continue;
      // A name is never zero.
      this.#line(btf.enumeratorName(id, index));
      return;
    }
    const signed = btf.kindFlag(id);
    this.#value(value, () => String(signed ? BigInt.asIntN(bits, value) : value));
  }

  #value(value: bigint, text: (value: bigint) => string): void {
    if (value !== 0n || (this.#flags & BTF_F_ZERO) !== 0 || this.#depth === 0) this.#line(text(value));
  }

  #line(text: string): void {
    if (this.#checking === 0) {
      this.#put(`${this.#indent()}${this.#name()}${text}${this.#delimiter()}${this.#newline()}`);
    }
    this.#shownDepth = Math.max(this.#shownDepth, this.#depth);
  }

  #print(text: string): void {
    if (this.#checking === 0) this.#put(text);
  }

  #start(id: number, namedBy: number): void {
    this.#shown = { kind: this.#btf.kind(id), id: namedBy };
  }

  #open(id: number, namedBy: number): void {
    this.#start(id, namedBy);
    if (this.#checking === 0) this.#put(`${this.#indent()}${this.#name()}${this.#newline()}`);
    this.#depth++;
  }

  #close(end: string): void {
    this.#depth--;
    if (this.#checking === 0) this.#put(`${this.#indent()}${end}${this.#delimiter()}${this.#newline()}`);
    this.#shown = undefined;
  }

  #indent(): string {
    return (this.#flags & BTF_F_COMPACT) !== 0 ? '' : ' '.repeat(Math.min(this.#depth, MAX_INDENT));
  }

  #newline(): string {
    return (this.#flags & BTF_F_COMPACT) !== 0 ? '' : '\n';
  }

  #delimiter(): string {
    if (this.#depth === 0) return '';
    return (this.#flags & BTF_F_COMPACT) !== 0 && this.#shown?.kind === k.BTF_KIND_UNION ? '|' : ',';
  }

  /** `.member = (struct name *[])`, and what opens a struct or an array. Elements of arrays have none. */
  #name(): string {
    if (this.#isElement) return '';
    const btf = this.#btf;
    const member = this.#member;
    const memberName = member === undefined ? '' : btf.memberName(member.type, member.index);
    let id = member === undefined ? (this.#shown?.id ?? 0) : btf.memberType(member.type, member.index);
    let name: string | undefined;
    let arrays = '';
    let pointers = '';
    let isTypedef = false;
    let parts = 0;
    for (let next: number | undefined = id; next !== undefined; parts++) {
      if (parts === MAX_NAME_PARTS) return '';
      // The first type is taken as it is; what others refer to is looked at past const and the like.
      id = parts === 0 ? id : skipModifiers(btf, next);
      const kind = btf.kind(id);
      next = undefined;
      if (kind === k.BTF_KIND_TYPEDEF) {
        name ??= btf.name(id);
        isTypedef = true;
        next = btf.word(id, 2);
      } else if (kind === k.BTF_KIND_ARRAY) {
        arrays += '[]';
        next = btf.word(id, 3);
      } else if (kind === k.BTF_KIND_PTR) {
        pointers += '*';
        next = btf.word(id, 2);
      }
      if (next === 0) next = undefined;
    }
    name ??= btf.name(id);
    const kind = btf.kind(id);
    let opening = arrays === '' ? '' : '[';
    let prefix = '';
    if (kind === k.BTF_KIND_STRUCT || kind === k.BTF_KIND_UNION) {
      prefix = kind === k.BTF_KIND_STRUCT ? 'struct' : 'union';
      if (arrays === '') opening = '{';
    } else if (kind === k.BTF_KIND_ENUM || kind === k.BTF_KIND_ENUM64) prefix = 'enum';
    if (pointers !== '') opening = '';
    if (isTypedef) prefix = '';
    if ((this.#flags & BTF_F_NONAME) !== 0) return opening;
    const before = memberName === '' ? '' : `.${memberName} = `;
    const space = prefix !== '' && name !== '' ? ' ' : '';
    const stars = pointers === '' ? '' : ` ${pointers}`;
    return `${before}(${prefix}${space}${name}${stars}${arrays})${opening}`.slice(0, MAX_NAME);
  }

  /** Little-endian, zero past the end. */
  #read(at: number, size: number): bigint {
    let value = 0n;
    for (let i = size - 1; i >= 0; i--) value = (value << 8n) | BigInt(this.#bytes[at + i] ?? 0);
    return value;
  }

  #bits(at: number, bit: number, width: number): bigint {
    const value = this.#read(at, Math.ceil((bit + width) / 8));
    return BigInt.asUintN(width, value >> BigInt(bit));
  }
}

/** Kinds whose elements have a size of their own (btf_type_has_size). */
const SIZED = new Set([
  k.BTF_KIND_INT,
  k.BTF_KIND_STRUCT,
  k.BTF_KIND_UNION,
  k.BTF_KIND_ENUM,
  k.BTF_KIND_ENUM64,
  k.BTF_KIND_DATASEC,
  k.BTF_KIND_FLOAT,
]);

/** The kernel's isprint(): Latin-1. */
function isPrintable(code: number): boolean {
  return (code >= 0x20 && code < 0x7f) || code >= 0xa0;
}

/** Bytes that are read of a value, 0 where its kind cannot be shown. Undefined where a type has no size. */
export function shownSize(btf: Btf, typeId: number): number | undefined {
  const kind = btf.kind(resolveType(btf, typeId));
  if (UNSHOWN.has(kind)) return 0;
  try {
    return sizeOf(btf, typeId);
  } catch (error) {
    if (error instanceof BtfError) return undefined;
    throw error;
  }
}

const UNSHOWN = new Set([
  k.BTF_KIND_UNKN,
  k.BTF_KIND_FWD,
  k.BTF_KIND_FUNC,
  k.BTF_KIND_FUNC_PROTO,
  k.BTF_KIND_FLOAT,
  k.BTF_KIND_DATASEC,
  k.BTF_KIND_DECL_TAG,
]);
