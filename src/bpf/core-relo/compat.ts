/** When a type of the object and one of the target are the same for a relocation (tools/lib/bpf/relo_core.c). */
import type { Btf } from '../btf/btf.ts';
import {
  BTF_INT_SIGNED,
  BTF_KIND_ARRAY,
  BTF_KIND_ENUM,
  BTF_KIND_ENUM64,
  BTF_KIND_FLOAT,
  BTF_KIND_FUNC_PROTO,
  BTF_KIND_FWD,
  BTF_KIND_INT,
  BTF_KIND_PTR,
  BTF_KIND_STRUCT,
  BTF_KIND_UNION,
  BTF_KIND_UNKN,
  isAnyEnum,
  isComposite,
  MAX_RESOLVE_DEPTH,
} from '../btf/kinds.ts';
import { resolveType } from '../btf/layout.ts';
import { type Budget, CoreReloError } from './error.ts';

/** A name without its flavour. */
export function essentialName(name: string): string {
  for (let i = name.length - 5; i >= 0; i--) {
    if (name[i] !== '_' && name.startsWith('___', i + 1) && name[i + 4] !== '_') return name.slice(0, i + 1);
  }
  return name;
}

/** The same kind, or two enums of any width (btf_kind_core_compat). */
export function kindsCompatible(a: number, b: number): boolean {
  return a === b || (isAnyEnum(a) && isAnyEnum(b));
}

const intEncoding = (btf: Btf, id: number): number => (btf.word(id, 3) >>> 24) & 15;
const intOffset = (btf: Btf, id: number): number => (btf.word(id, 3) >>> 16) & 0xff;

function tooDeep(btf: Btf, id: number): never {
  throw new CoreReloError(`${btf.label(id)}: types are nested too deeply`);
}

/** Whether a field may stand for another (bpf_core_fields_are_compat). Sizes and signs do not matter. */
export function fieldsCompatible(local: Btf, localId: number, target: Btf, targetId: number): boolean {
  for (let depth = 0; depth < MAX_RESOLVE_DEPTH; depth++) {
    localId = resolveType(local, localId);
    targetId = resolveType(target, targetId);
    const localKind = local.kind(localId);
    const targetKind = target.kind(targetId);
    if (isComposite(localKind) && isComposite(targetKind)) return true;
    if (!kindsCompatible(localKind, targetKind)) return false;
    switch (localKind) {
      case BTF_KIND_PTR:
      case BTF_KIND_FLOAT:
        return true;
      case BTF_KIND_FWD:
      case BTF_KIND_ENUM:
      case BTF_KIND_ENUM64: {
        const localName = essentialName(local.name(localId));
        const targetName = essentialName(target.name(targetId));
        return localName === '' || targetName === '' || localName === targetName;
      }
      case BTF_KIND_INT:
        return intOffset(local, localId) === 0 && intOffset(target, targetId) === 0;
      case BTF_KIND_ARRAY:
        localId = local.word(localId, 3);
        targetId = target.word(targetId, 3);
        break;
      default:
        return false;
    }
  }
  return tooDeep(local, localId);
}

/**
 * Whether a type exists, loosely (bpf_core_types_are_compat): the same kinds through pointers, arrays and functions. The
 * names of the two roots were compared by the caller.
 */
export function typesCompatible(
  local: Btf,
  localId: number,
  target: Btf,
  targetId: number,
  budget: Budget,
  level = MAX_RESOLVE_DEPTH,
): boolean {
  if (!kindsCompatible(local.kind(localId), target.kind(targetId))) return false;
  for (let depth = 0; depth < MAX_RESOLVE_DEPTH; depth++) {
    budget.spend();
    localId = resolveType(local, localId);
    targetId = resolveType(target, targetId);
    const kind = local.kind(localId);
    if (!kindsCompatible(kind, target.kind(targetId))) return false;
    switch (kind) {
      case BTF_KIND_UNKN:
      case BTF_KIND_STRUCT:
      case BTF_KIND_UNION:
      case BTF_KIND_ENUM:
      case BTF_KIND_ENUM64:
      case BTF_KIND_FWD:
        return true;
      case BTF_KIND_INT:
        return intOffset(local, localId) === 0 && intOffset(target, targetId) === 0;
      case BTF_KIND_PTR:
        localId = local.word(localId, 2);
        targetId = target.word(targetId, 2);
        break;
      case BTF_KIND_ARRAY:
        localId = local.word(localId, 3);
        targetId = target.word(targetId, 3);
        break;
      case BTF_KIND_FUNC_PROTO: {
        const count = local.vlen(localId);
        if (count !== target.vlen(targetId)) return false;
        for (let i = 0; i < count; i++) {
          if (level <= 0) tooDeep(local, localId);
          const localParam = resolveType(local, local.word(localId, 4 + 2 * i));
          const targetParam = resolveType(target, target.word(targetId, 4 + 2 * i));
          if (!typesCompatible(local, localParam, target, targetParam, budget, level - 1)) return false;
        }
        localId = resolveType(local, local.word(localId, 2));
        targetId = resolveType(target, target.word(targetId, 2));
        break;
      }
      default:
        return false;
    }
  }
  return tooDeep(local, localId);
}

/** Anonymous matches anonymous, and names match without their flavours (bpf_core_names_match). */
function namesMatch(local: Btf, localOff: number, target: Btf, targetOff: number): boolean {
  const targetName = target.string(targetOff);
  const localName = local.string(localOff);
  if (targetName === '') return localName === '';
  return essentialName(localName) === essentialName(targetName);
}

function enumsMatch(local: Btf, localId: number, target: Btf, targetId: number, budget: Budget): boolean {
  if (local.word(localId, 2) !== target.word(targetId, 2)) return false;
  if (local.vlen(localId) > target.vlen(targetId)) return false;
  budget.spend(local.vlen(localId) + target.vlen(targetId));
  const names = new Set(
    Array.from({ length: target.vlen(targetId) }, (_, i) =>
      essentialName(target.enumeratorName(targetId, i)),
    ),
  );
  for (let i = 0; i < local.vlen(localId); i++) {
    if (!names.has(essentialName(local.enumeratorName(localId, i)))) return false;
  }
  return true;
}

function compositesMatch(
  local: Btf,
  localId: number,
  target: Btf,
  targetId: number,
  behindPtr: boolean,
  level: number,
  budget: Budget,
): boolean {
  const targetCount = target.vlen(targetId);
  if (local.vlen(localId) > targetCount) return false;
  for (let i = 0; i < local.vlen(localId); i++) {
    let matched = false;
    for (let j = 0; j < targetCount && !matched; j++) {
      budget.spend();
      if (!namesMatch(local, local.word(localId, 3 + 3 * i), target, target.word(targetId, 3 + 3 * j)))
        continue;
      const localType = local.memberType(localId, i);
      const targetType = target.memberType(targetId, j);
      matched = typesMatch(local, localType, target, targetType, budget, behindPtr, level - 1);
    }
    if (!matched) return false;
  }
  return true;
}

/**
 * Whether the object's type is part of the target's, strictly (bpf_core_types_match): kinds, sizes and signs of integers,
 * every member and enumerator by name. A struct behind a pointer is compared by its name only.
 */
export function typesMatch(
  local: Btf,
  localId: number,
  target: Btf,
  targetId: number,
  budget: Budget,
  behindPtr = false,
  level = MAX_RESOLVE_DEPTH,
): boolean {
  if (level <= 0) tooDeep(local, localId);
  for (let depth = 0; depth < MAX_RESOLVE_DEPTH; depth++) {
    budget.spend();
    localId = resolveType(local, localId);
    targetId = resolveType(target, targetId);
    if (!namesMatch(local, local.word(localId, 0), target, target.word(targetId, 0))) return false;
    const localKind = local.kind(localId);
    const targetKind = target.kind(targetId);
    switch (localKind) {
      case BTF_KIND_UNKN:
        return localKind === targetKind;
      case BTF_KIND_FWD: {
        const union = local.kindFlag(localId);
        if (localKind === targetKind) return union === target.kindFlag(targetId);
        return behindPtr && targetKind === (union ? BTF_KIND_UNION : BTF_KIND_STRUCT);
      }
      case BTF_KIND_ENUM:
      case BTF_KIND_ENUM64:
        return isAnyEnum(targetKind) && enumsMatch(local, localId, target, targetId, budget);
      case BTF_KIND_STRUCT:
      case BTF_KIND_UNION:
        if (!behindPtr) {
          return (
            localKind === targetKind &&
            compositesMatch(local, localId, target, targetId, behindPtr, level, budget)
          );
        }
        if (localKind === targetKind) return true;
        return targetKind === BTF_KIND_FWD && (localKind === BTF_KIND_UNION) === target.kindFlag(targetId);
      case BTF_KIND_INT:
        return (
          localKind === targetKind &&
          local.word(localId, 2) === target.word(targetId, 2) &&
          (intEncoding(local, localId) & BTF_INT_SIGNED) === (intEncoding(target, targetId) & BTF_INT_SIGNED)
        );
      case BTF_KIND_PTR:
        if (localKind !== targetKind) return false;
        behindPtr = true;
        localId = local.word(localId, 2);
        targetId = target.word(targetId, 2);
        break;
      case BTF_KIND_ARRAY:
        if (localKind !== targetKind || local.word(localId, 5) !== target.word(targetId, 5)) return false;
        localId = local.word(localId, 3);
        targetId = target.word(targetId, 3);
        break;
      case BTF_KIND_FUNC_PROTO: {
        const count = local.vlen(localId);
        if (localKind !== targetKind || count !== target.vlen(targetId)) return false;
        for (let i = 0; i < count; i++) {
          const localParam = local.word(localId, 4 + 2 * i);
          const targetParam = target.word(targetId, 4 + 2 * i);
          if (!typesMatch(local, localParam, target, targetParam, budget, behindPtr, level - 1)) return false;
        }
        localId = local.word(localId, 2);
        targetId = target.word(targetId, 2);
        break;
      }
      default:
        return false;
    }
  }
  return tooDeep(local, localId);
}
