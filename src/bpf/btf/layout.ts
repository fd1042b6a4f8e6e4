import { aBtf, aTypeId } from '../argument-shapes.ts';
import { checkArgument } from '../arguments.ts';
import type { Btf } from './btf.ts';
import { BtfError } from './error.ts';
import { isComposite, isModifier, MAX_RESOLVE_DEPTH } from './kinds.ts';

function tooDeep(btf: Btf, id: number): never {
  throw new BtfError(`${btf.label(id)} refers through more than ${MAX_RESOLVE_DEPTH} types, or to itself`, {
    typeId: id,
    errno: 'E2BIG',
  });
}

/** Skips const, volatile, restrict and type tags, and typedefs too (skip_mods_and_typedefs of libbpf). Returns an id. */
export function resolveType(btf: Btf, id: number): number {
  checkArgument('resolveType()', 'btf', btf, aBtf);
  checkArgument('resolveType()', 'id', id, aTypeId);
  let at = id;
  for (let depth = 0; depth < MAX_RESOLVE_DEPTH; depth++) {
    if (!isModifier(btf.kind(at)) && btf.kindName(at) !== 'TYPEDEF') return at;
    at = btf.word(at, 2);
  }
  return tooDeep(btf, id);
}

/** Skips const, volatile, restrict and type tags only. */
export function skipModifiers(btf: Btf, id: number): number {
  checkArgument('skipModifiers()', 'btf', btf, aBtf);
  checkArgument('skipModifiers()', 'id', id, aTypeId);
  let at = id;
  for (let depth = 0; depth < MAX_RESOLVE_DEPTH; depth++) {
    if (!isModifier(btf.kind(at))) return at;
    at = btf.word(at, 2);
  }
  return tooDeep(btf, id);
}

/** Bytes of a value of a type (btf__resolve_size). Throws BtfError for what has no size: void, functions, forwards. */
export function sizeOf(btf: Btf, id: number): number {
  checkArgument('sizeOf()', 'btf', btf, aBtf);
  checkArgument('sizeOf()', 'id', id, aTypeId);
  let at = id;
  let count = 1;
  for (let depth = 0; depth < MAX_RESOLVE_DEPTH; depth++) {
    switch (btf.kindName(at)) {
      case 'INT':
      case 'STRUCT':
      case 'UNION':
      case 'ENUM':
      case 'ENUM64':
      case 'DATASEC':
      case 'FLOAT': {
        const size = btf.word(at, 2) * count;
        if (size > 0xffff_ffff)
          throw new BtfError(`${btf.label(id)} is larger than 4 GiB`, { typeId: id, errno: 'E2BIG' });
        return size;
      }
      case 'PTR':
        return btf.pointerSize * count;
      case 'TYPEDEF':
      case 'VOLATILE':
      case 'CONST':
      case 'RESTRICT':
      case 'VAR':
      case 'DECL_TAG':
      case 'TYPE_TAG':
        at = btf.word(at, 2);
        break;
      case 'ARRAY':
        count *= btf.word(at, 5);
        if (count > 0xffff_ffff)
          throw new BtfError(`${btf.label(id)} is larger than 4 GiB`, { typeId: id, errno: 'E2BIG' });
        at = btf.word(at, 3);
        break;
      default:
        throw new BtfError(`${btf.label(id)} has no size${at === id ? '' : `: ${btf.label(at)} has none`}`, {
          typeId: id,
        });
    }
  }
  return tooDeep(btf, id);
}

/** The natural alignment of a type in bytes (btf__align_of): 1 where a struct is packed. Throws where there is none. */
export function alignOf(btf: Btf, id: number, depth = 0): number {
  checkArgument('alignOf()', 'btf', btf, aBtf);
  checkArgument('alignOf()', 'id', id, aTypeId);
  const at = resolveType(btf, id);
  if (depth > MAX_RESOLVE_DEPTH) return tooDeep(btf, id);
  switch (btf.kindName(at)) {
    case 'INT':
    case 'ENUM':
    case 'ENUM64':
    case 'FLOAT':
      return Math.min(btf.pointerSize, btf.word(at, 2)) || 1;
    case 'PTR':
      return btf.pointerSize;
    case 'ARRAY':
      return alignOf(btf, btf.word(at, 3), depth + 1);
    default: {
      if (!isComposite(btf.kind(at))) {
        throw new BtfError(`${btf.label(at)} has no alignment`, { typeId: id });
      }
      let most = 1;
      for (let i = 0; i < btf.vlen(at); i++) {
        const align = alignOf(btf, btf.memberType(at, i), depth + 1);
        most = Math.max(most, align);
        // An ordinary member that is not aligned says that the struct is packed.
        if (btf.memberBitSize(at, i) === 0 && btf.memberBitOffset(at, i) % (8 * align) !== 0) return 1;
      }
      // A size that is no multiple of the widest member's alignment says so as well.
      return btf.word(at, 2) % most === 0 ? most : 1;
    }
  }
}
