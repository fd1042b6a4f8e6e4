/** Where a C compiler puts the members of a struct, and what must be said to make it put them where BTF says. */
import type { Btf } from './btf.ts';
import { isComposite } from './kinds.ts';
import { resolveType, sizeOf } from './layout.ts';

/** A run of unnamed bits, or beyond 256 bytes of an array with a name. */
export type CPadding = { readonly type: string; readonly bits: number } | { readonly bytes: number };

/** A member and what comes before it. */
export interface CMember {
  readonly index: number;
  readonly padding: readonly CPadding[];
  /** The width of a bitfield, else 0. */
  readonly bitSize: number;
}

export interface CLayout {
  readonly packed: boolean;
  readonly align: number;
  readonly members: readonly CMember[];
  /** What comes after the last member. */
  readonly trailing: readonly CPadding[];
}

const PAD_TYPES: readonly (readonly [number, string])[] = [
  [64, 'long long'],
  [32, 'int'],
  [16, 'short'],
  [8, 'char'],
];

/** Unnamed bitfields from one offset to another, both in bits; each where a compiler puts it without a gap. */
function pad(from: number, to: number): CPadding[] {
  const padding: CPadding[] = [];
  let at = from;
  while (at < to) {
    if (at % 8 !== 0) {
      const bits = Math.min(8 - (at % 8), to - at);
      padding.push({ type: 'char', bits });
      at += bits;
    } else if (to - at >= 256 * 8) {
      const bytes = Math.floor((to - at) / 8);
      padding.push({ bytes });
      at += bytes * 8;
    } else {
      const unit = PAD_TYPES.find(([bits]) => at % bits === 0 && at + bits <= to);
      const [bits, type] = unit ?? [to - at, 'char'];
      padding.push({ type, bits });
      at += bits;
    }
  }
  return padding;
}

const roundUp = (value: number, to: number): number => Math.ceil(value / to) * to;

/** Layouts of the structs of one BTF, each worked out once. */
export class CLayouts {
  readonly #btf: Btf;
  readonly #layouts = new Map<number, CLayout>();

  constructor(btf: Btf) {
    this.#btf = btf;
  }

  /** The alignment of a type as it is dumped, in bytes. */
  alignOf(id: number): number {
    const btf = this.#btf;
    let at = resolveType(btf, id);
    for (let depth = 0; depth < 32 && btf.kindName(at) === 'ARRAY'; depth++)
      at = resolveType(btf, btf.word(at, 3));
    if (isComposite(btf.kind(at))) return this.layoutOf(at).align;
    switch (btf.kindName(at)) {
      case 'PTR':
        return btf.pointerSize;
      case 'INT':
      case 'FLOAT':
      case 'ENUM':
      case 'ENUM64':
        // A 16-byte integer or float has its own size for an alignment.
        return Math.min(btf.word(at, 2), 16) || 1;
      default:
        return 1;
    }
  }

  #sizeOf(id: number): number {
    try {
      return sizeOf(this.#btf, id);
    } catch {
      return 0; // a member without a size is no C; nothing can be said about where it ends
    }
  }

  /** The width of a member that is a bitfield, also of those that the oldest compilers described by an INT of their own. */
  #bitSize(id: number, index: number): number {
    const btf = this.#btf;
    const bits = btf.memberBitSize(id, index);
    if (bits > 0 || btf.kindFlag(id)) return bits;
    const type = resolveType(btf, btf.memberType(id, index));
    if (btf.kindName(type) !== 'INT') return 0;
    const width = btf.word(type, 3) & 0xff;
    return width > 0 && width < btf.word(type, 2) * 8 && btf.memberBitOffset(id, index) % 8 !== 0 ? width : 0;
  }

  /** The layout of a struct or union. Its members' types must not hold it by value. */
  layoutOf(id: number): CLayout {
    const known = this.#layouts.get(id);
    if (known !== undefined) return known;
    // Until it is known: only types that contain themselves ask for it.
    this.#layouts.set(id, { packed: true, align: 1, members: [], trailing: [] });
    const layout = this.#place(id, false) ?? this.#place(id, true)!;
    this.#layouts.set(id, layout);
    return layout;
  }

  /** Undefined where the members cannot be placed without packing them. */
  #place(id: number, packed: boolean): CLayout | undefined {
    const btf = this.#btf;
    const union = btf.kindName(id) === 'UNION';
    const size = btf.word(id, 2) * 8;
    const members: CMember[] = [];
    let align = 1;
    let at = 0;
    for (let index = 0; index < btf.vlen(id); index++) {
      const type = btf.memberType(id, index);
      const offset = btf.memberBitOffset(id, index);
      const bitSize = this.#bitSize(id, index);
      const memberAlign = packed ? 1 : this.alignOf(type);
      align = Math.max(align, memberAlign);
      if (union) at = 0;
      let start = at;
      if (bitSize === 0) {
        start = roundUp(at, memberAlign * 8);
        if (!packed && offset % (memberAlign * 8) !== 0) return undefined;
      } else if (!packed) {
        // A bitfield does not cross a boundary of its type.
        const unit = this.#sizeOf(type) * 8 || 8;
        if (Math.floor(at / unit) !== Math.floor((at + bitSize - 1) / unit)) start = roundUp(at, unit);
        if (Math.floor(offset / unit) !== Math.floor((offset + bitSize - 1) / unit)) return undefined;
      }
      if (start > offset && !packed) return undefined;
      members.push({ index, bitSize, padding: start < offset ? pad(at, offset) : [] });
      at = offset + (bitSize || this.#sizeOf(type) * 8);
    }
    if (union) {
      at = 0;
      for (let index = 0; index < btf.vlen(id); index++) {
        at = Math.max(at, this.#bitSize(id, index) || this.#sizeOf(btf.memberType(id, index)) * 8);
      }
    }
    const end = roundUp(at, align * 8);
    if (!packed && (end > size || size % (align * 8) !== 0)) return undefined;
    // In a union, padding is a member of its own from the start on.
    const trailing = end >= size ? [] : union ? [{ bytes: size / 8 }] : pad(at, size);
    return { packed, align, members, trailing };
  }
}
