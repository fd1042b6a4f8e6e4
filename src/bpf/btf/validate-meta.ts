/** Each type by itself: the check_meta of each kind in kernel/bpf/btf.c. */
import * as k from './kinds.ts';
import { TypeChecker } from './validate-common.ts';

/** Bits of the info word that mean something: vlen, kind, kind_flag. */
const INFO_MASK = 0x9f00_ffff;
export const MAX_INT_BITS = 128;

export class MetaChecker extends TypeChecker {
  /** btf_check_meta */
  check(id: number): void {
    const btf = this.btf;
    const info = btf.word(id, 1);
    const name = btf.word(id, 0);
    this.demand((info & ~INFO_MASK) === 0, id, `Invalid btf_info:${info.toString(16)}`);
    switch (btf.kindName(id)) {
      case 'INT':
        this.#plain(id);
        this.#int(id);
        break;
      case 'PTR':
      case 'VOLATILE':
      case 'CONST':
      case 'RESTRICT':
        this.#plain(id);
        this.demand(name === 0, id, 'Invalid name');
        break;
      case 'TYPEDEF':
        this.#plain(id);
        this.demand(this.identifier(name), id, 'Invalid name');
        break;
      case 'TYPE_TAG':
        this.demand(btf.vlen(id) === 0, id, 'vlen != 0');
        this.demand(btf.name(id) !== '', id, 'Invalid name');
        break;
      case 'DECL_TAG':
        this.demand(btf.name(id) !== '', id, 'Invalid value');
        this.demand(btf.vlen(id) === 0, id, 'vlen != 0');
        this.demand((btf.word(id, 3) | 0) >= -1, id, 'Invalid component_idx');
        break;
      case 'ARRAY':
        this.demand(name === 0, id, 'Invalid name');
        this.#plain(id);
        this.demand(btf.word(id, 2) === 0, id, 'size != 0');
        this.demand(btf.word(id, 3) !== 0, id, 'Invalid elem');
        this.demand(btf.word(id, 4) !== 0, id, 'Invalid index');
        break;
      case 'STRUCT':
      case 'UNION':
        this.#struct(id);
        break;
      case 'ENUM':
      case 'ENUM64':
        this.#enum(id);
        break;
      case 'FWD':
        this.demand(btf.vlen(id) === 0, id, 'vlen != 0');
        this.demand(btf.word(id, 2) === 0, id, 'type != 0');
        this.demand(this.identifier(name), id, 'Invalid name');
        break;
      case 'FUNC':
        this.demand(this.identifier(name), id, 'Invalid name');
        this.demand(btf.vlen(id) <= k.BTF_FUNC_GLOBAL, id, 'Invalid func linkage');
        this.demand(!btf.kindFlag(id), id, 'Invalid btf_info kind_flag');
        break;
      case 'FUNC_PROTO':
        this.demand(name === 0, id, 'Invalid name');
        this.demand(!btf.kindFlag(id), id, 'Invalid btf_info kind_flag');
        break;
      case 'VAR':
        this.#plain(id);
        this.demand(this.identifier(name), id, 'Invalid name');
        this.demand(btf.word(id, 2) !== 0, id, 'Invalid type_id');
        this.demand(btf.word(id, 3) <= k.BTF_VAR_GLOBAL_ALLOCATED, id, 'Linkage not supported');
        break;
      case 'DATASEC':
        this.#datasec(id);
        break;
      case 'FLOAT':
        this.#plain(id);
        this.demand([2, 4, 8, 12, 16].includes(btf.word(id, 2)), id, 'Invalid type_size');
        break;
      default:
        break;
    }
  }

  /** Neither entries nor a flag. */
  #plain(id: number): void {
    this.demand(this.btf.vlen(id) === 0, id, 'vlen != 0');
    this.demand(!this.btf.kindFlag(id), id, 'Invalid btf_info kind_flag');
  }

  #int(id: number): void {
    const btf = this.btf;
    const data = btf.word(id, 3);
    this.demand((data & 0xf000_0000) === 0, id, `Invalid int_data:${data.toString(16)}`);
    const bits = (data & 0xff) + ((data >>> 16) & 0xff);
    this.demand(bits <= MAX_INT_BITS, id, `nr_bits exceeds ${MAX_INT_BITS}`);
    this.demand(Math.ceil(bits / 8) <= btf.word(id, 2), id, 'nr_bits exceeds type_size');
    if (![0, k.BTF_INT_SIGNED, k.BTF_INT_CHAR, k.BTF_INT_BOOL].includes((data >>> 24) & 15)) {
      this.fail(id, 'Unsupported encoding', 'ENOTSUPP');
    }
  }

  #struct(id: number): void {
    const btf = this.btf;
    const union = btf.kindName(id) === 'UNION';
    const name = btf.word(id, 0);
    const size = btf.word(id, 2);
    this.demand(name === 0 || this.identifier(name), id, 'Invalid name');
    let last = 0;
    for (let i = 0; i < btf.vlen(id); i++) {
      const member = btf.word(id, 3 + 3 * i);
      this.demand(member === 0 || this.identifier(member), id, `Invalid name of member ${i}`);
      this.demand(btf.memberType(id, i) !== 0, id, `Invalid type_id of member ${i}`);
      const offset = btf.memberBitOffset(id, i);
      this.demand(!union || offset === 0, id, `Invalid member bits_offset of member ${i}`);
      this.demand(offset >= last, id, `Invalid member bits_offset of member ${i}`);
      this.demand(
        Math.ceil(offset / 8) <= size,
        id,
        `Member bits_offset exceeds its struct size: member ${i}`,
      );
      last = offset;
    }
  }

  #enum(id: number): void {
    const btf = this.btf;
    const name = btf.word(id, 0);
    this.demand([1, 2, 4, 8].includes(btf.word(id, 2)), id, 'Unexpected size');
    this.demand(name === 0 || this.identifier(name), id, 'Invalid name');
    const step = btf.kindName(id) === 'ENUM64' ? 3 : 2;
    for (let i = 0; i < btf.vlen(id); i++) {
      this.demand(this.identifier(btf.word(id, 3 + step * i)), id, `Invalid name of enumerator ${i}`);
    }
  }

  #datasec(id: number): void {
    const btf = this.btf;
    const size = btf.word(id, 2);
    this.demand(size !== 0, id, 'size == 0');
    this.demand(!btf.kindFlag(id), id, 'Invalid btf_info kind_flag');
    this.demand(this.sectionName(btf.word(id, 0)), id, 'Invalid name');
    let last = 0;
    let sum = 0;
    for (let i = 0; i < btf.vlen(id); i++) {
      const [type, offset, bytes] = [3, 4, 5].map((word) => btf.word(id, word + 3 * i)) as [
        number,
        number,
        number,
      ];
      this.demand(type !== 0, id, `Invalid type_id of variable ${i}`);
      this.demand(offset >= last && offset < size, id, `Invalid offset of variable ${i}`);
      this.demand(bytes !== 0 && bytes <= size, id, `Invalid size of variable ${i}`);
      last = offset + bytes;
      this.demand(last <= size, id, `Invalid offset+size of variable ${i}`);
      sum += bytes;
    }
    this.demand(size >= sum, id, 'Invalid btf_info size');
  }
}
