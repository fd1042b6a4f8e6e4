/** What the verifier asks of types in BTF: behind typedefs and tags, sizes, names (btf_type_skip_modifiers of kernel/bpf/btf.c). */
import type { Btf } from '../btf/btf.ts';
import type { Reg } from './reg.ts';

/** Skips typedefs, qualifiers and tags; gives the type and the tags that were met. */
export function skipModifiers(btf: Btf, id: number, tags?: string[]): number {
  for (;;) {
    const type = btf.type(id);
    switch (type.kind) {
      case 'TYPEDEF':
      case 'VOLATILE':
      case 'CONST':
      case 'RESTRICT':
        id = type.type;
        break;
      case 'TYPE_TAG':
        tags?.push(type.name);
        id = type.type;
        break;
      default:
        return id;
    }
  }
}

export function structName(reg: Reg): string {
  return reg.btf === undefined ? '' : reg.btf.btf.name(reg.btfId);
}

export function sizeOf(btf: Btf, id: number): number {
  const type = btf.type(skipModifiers(btf, id));
  switch (type.kind) {
    case 'INT':
    case 'STRUCT':
    case 'UNION':
    case 'ENUM':
    case 'ENUM64':
    case 'FLOAT':
    case 'DATASEC':
      return type.size;
    case 'PTR':
      return 8;
    case 'ARRAY':
      return type.nelems * sizeOf(btf, type.type);
    default:
      return 0;
  }
}
