/** What types refer to: the resolve and check_member of each kind in kernel/bpf/btf.c. */
import { BtfError } from './error.ts';
import * as k from './kinds.ts';
import { resolveType, sizeOf } from './layout.ts';
import { TypeChecker } from './validate-common.ts';
import { MAX_INT_BITS } from './validate-meta.ts';

/** What a DECL_TAG may stand at. */
const TAGGED: readonly string[] = ['STRUCT', 'UNION', 'VAR', 'FUNC', 'TYPEDEF'];

export class ReferenceChecker extends TypeChecker {
  /** Before a type is looked at for another one's sake: VAR, DATASEC and DECL_TAG are nobody's parts. */
  enter(id: number, needed: number): void {
    switch (this.btf.kindName(id)) {
      case 'DATASEC':
        this.demand(this.btf.kindName(needed) === 'VAR', id, 'Not a VAR kind member');
        break;
      case 'DECL_TAG':
        this.demand(TAGGED.includes(this.btf.kindName(needed)), id, 'Invalid type_id');
        break;
      case 'STRUCT':
      case 'UNION':
        this.demand(this.#isValue(needed), id, 'Invalid member');
        break;
      default:
        this.demand(this.#isValue(needed), id, 'Invalid type_id');
        break;
    }
  }

  /** Type tags stand before qualifiers and typedefs, nearest to the pointer (btf_check_type_tags). */
  typeTags(first: number): void {
    const btf = this.btf;
    const qualifies = (id: number): boolean => k.isModifier(btf.kind(id)) || btf.kindName(id) === 'TYPEDEF';
    for (let id = first; id < btf.typeCount; id++) {
      let tags = btf.kindName(id) === 'TYPE_TAG';
      for (let at = id; qualifies(at); at = btf.word(at, 2)) {
        if (btf.kindName(at) !== 'TYPE_TAG') tags = false;
        else if (!tags) this.fail(id, "Type tags don't precede modifiers");
        // Types before this one were looked at.
        if (at < id) break;
      }
    }
  }

  /** Called once all that the type needs is known to end. */
  references(id: number): void {
    const btf = this.btf;
    const third = btf.word(id, 2);
    switch (btf.kindName(id)) {
      case 'PTR':
      case 'TYPEDEF':
      case 'VOLATILE':
      case 'CONST':
      case 'RESTRICT':
      case 'TYPE_TAG':
        this.#reference(id, third);
        break;
      case 'ARRAY':
        this.#array(id);
        break;
      case 'STRUCT':
      case 'UNION':
        for (let i = 0; i < btf.vlen(id); i++) this.#member(id, i);
        break;
      case 'VAR':
        this.demand(this.#size(third) !== undefined && this.#isValue(third), id, 'Invalid type_id');
        break;
      case 'DATASEC':
        for (let i = 0; i < btf.vlen(id); i++) {
          const type = btf.word(id, 3 + 3 * i);
          this.demand(btf.kindName(type) === 'VAR', id, 'Not a VAR kind member');
          this.demand(
            btf.word(id, 5 + 3 * i) >= (this.#size(type) ?? 0),
            id,
            `Invalid size of variable ${i}`,
          );
        }
        break;
      case 'FUNC':
        this.#func(id);
        break;
      case 'DECL_TAG':
        this.#declTag(id);
        break;
      default:
        break;
    }
  }

  /** Not a kind that may stand at the start of a reference only: VAR, DATASEC, DECL_TAG. */
  #isValue(id: number): boolean {
    return !['VAR', 'DATASEC', 'DECL_TAG'].includes(this.btf.kindName(id));
  }

  #size(id: number): number | undefined {
    try {
      return sizeOf(this.btf, id);
    } catch (error) {
      if (error instanceof BtfError) return undefined;
      throw error;
    }
  }

  /** Qualifiers and pointers may refer to what has no size: void, forwards, function types. */
  #reference(id: number, to: number): void {
    this.demand(this.#isValue(to), id, 'Invalid type_id');
    const target = this.btf.kindName(resolveType(this.btf, to));
    const sized = this.#size(to) !== undefined;
    this.demand(sized || ['UNKN', 'FWD', 'FUNC_PROTO'].includes(target), id, 'Invalid type_id');
  }

  /** An INT that is a whole number of bytes of a usual width (btf_type_int_is_regular; its size is not asked). */
  #isRegularInt(id: number): boolean {
    const data = this.btf.word(id, 3);
    return ((data >>> 16) & 0xff) === 0 && [8, 16, 32, 64, 128].includes(data & 0xff);
  }

  #array(id: number): void {
    const btf = this.btf;
    const [element, index] = [btf.word(id, 3), btf.word(id, 4)];
    const indexType = this.#isValue(index) ? resolveType(btf, index) : 0;
    this.demand(btf.kindName(indexType) === 'INT' && this.#isRegularInt(indexType), id, 'Invalid index');
    const size = this.#isValue(element) ? this.#size(element) : undefined;
    if (size === undefined) this.fail(id, 'Invalid elem');
    const type = resolveType(btf, element);
    this.demand(btf.kindName(type) !== 'INT' || this.#isRegularInt(type), id, 'Invalid array of int');
    this.demand(size * btf.word(id, 5) <= 0xffff_ffff, id, 'Array size overflows U32_MAX');
  }

  /** Each kind's check_member and check_kflag_member. */
  #member(id: number, index: number): void {
    const btf = this.btf;
    const to = btf.memberType(id, index);
    const fail = (message: string): never => this.fail(id, `${message}: member ${index}`);
    const size = this.#isValue(to) ? this.#size(to) : undefined;
    if (size === undefined) this.fail(id, `Invalid member: member ${index}`);
    const type = resolveType(btf, to);
    const kind = btf.kindName(type);
    const offset = btf.memberBitOffset(id, index);
    const bits = btf.memberBitSize(id, index);
    const structBits = btf.word(id, 2) * 8;
    if (kind === 'INT') {
      const data = btf.word(type, 3);
      const bitOffset = (data >>> 16) & 0xff;
      let width = data & 0xff;
      let start = offset;
      if (btf.kindFlag(id)) {
        if (!this.#isRegularInt(type)) fail('Invalid member base type');
        if (bits > width) fail('Invalid member bitfield_size');
        if (bits === 0 && offset % 8 !== 0) fail('Invalid member offset');
        width = bits || width;
      } else {
        start += bitOffset;
      }
      const copied = width + (start % 8);
      if (copied > MAX_INT_BITS) fail(`nr_copy_bits exceeds ${MAX_INT_BITS}`);
      if (Math.floor(start / 8) * 8 + Math.ceil(copied / 8) * 8 > structBits)
        fail('Member exceeds struct_size');
      return;
    }
    if ((kind === 'ENUM' || kind === 'ENUM64') && btf.kindFlag(id) && bits > 0) {
      if (bits > 32) fail('Invalid member bitfield_size');
      if (offset + bits > structBits) fail('Member exceeds struct_size');
      return;
    }
    if (bits > 0) fail('Invalid member bitfield_size');
    if (offset % 8 !== 0) fail('Member is not byte aligned');
    if (kind === 'FLOAT' && (offset / 8) % Math.min(8, size) !== 0) fail('Member is not properly aligned');
    if (offset + size * 8 > structBits) fail('Member exceeds struct_size');
  }

  #func(id: number): void {
    const btf = this.btf;
    const proto = btf.word(id, 2);
    this.demand(btf.kindName(proto) === 'FUNC_PROTO', id, 'Invalid type_id');
    for (let i = 0; i < btf.vlen(proto); i++) {
      const named = btf.word(proto, 3 + 2 * i) !== 0;
      this.demand(named || btf.word(proto, 4 + 2 * i) === 0, id, `Invalid arg#${i + 1}`);
    }
  }

  funcProto(id: number): void {
    const btf = this.btf;
    const valid = (type: number): boolean => this.#isValue(type) && this.#size(type) !== undefined;
    const returns = btf.word(id, 2);
    this.demand(returns === 0 || valid(returns), id, 'Invalid return type');
    const count = btf.vlen(id);
    for (let i = 0; i < count; i++) {
      const name = btf.word(id, 3 + 2 * i);
      const type = btf.word(id, 4 + 2 * i);
      // The last one may be `...`.
      if (i === count - 1 && name === 0 && type === 0) break;
      this.demand(type !== 0 && valid(type), id, `Invalid arg#${i + 1}`);
      this.demand(name === 0 || this.identifier(name), id, `Invalid arg#${i + 1}`);
    }
  }

  #declTag(id: number): void {
    const btf = this.btf;
    const to = btf.word(id, 2);
    const kind = btf.kindName(to);
    this.demand(TAGGED.includes(kind), id, 'Invalid type_id');
    const index = btf.word(id, 3) | 0;
    if (index === -1) return;
    this.demand(kind !== 'VAR' && kind !== 'TYPEDEF', id, 'Invalid component_idx');
    const count = kind === 'FUNC' ? btf.vlen(btf.word(to, 2)) : btf.vlen(to);
    this.demand(index < count, id, 'Invalid component_idx');
  }
}
