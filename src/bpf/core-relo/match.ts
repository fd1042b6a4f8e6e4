import type { Btf } from '../btf/btf.ts';
import { isAnyEnum, isComposite } from '../btf/kinds.ts';
import { resolveType, sizeOf } from '../btf/layout.ts';
import { essentialName, fieldsCompatible, typesCompatible, typesMatch } from './compat.ts';
import { type Budget, CoreReloError } from './error.ts';
import { BPF_CORE_TYPE_MATCHES, isEnumvalBased, isTypeBased } from './kinds.ts';
import {
  type Accessor,
  addElements,
  BPF_CORE_SPEC_MAX_LEN,
  type CoreSpec,
  emptySpec,
  isFlexibleArray,
} from './spec.ts';

function pushRaw(spec: CoreSpec, idx: number): void {
  if (spec.raw.length === BPF_CORE_SPEC_MAX_LEN) {
    throw new CoreReloError(`${spec.btf.label(spec.rootTypeId)}: members are nested too deeply`, 'E2BIG');
  }
  spec.raw.push(idx);
}

/**
 * Looks for a named field of the object in a struct of the target, through its anonymous members too
 * (bpf_core_match_member). Returns the field's type, or undefined where there is none that is compatible.
 */
function matchMember(
  local: Btf,
  accessor: Accessor,
  spec: CoreSpec,
  structId: number,
  budget: Budget,
): number | undefined {
  const target = spec.btf;
  const id = resolveType(target, structId);
  if (!isComposite(target.kind(id))) return undefined;
  for (let i = 0; i < target.vlen(id); i++) {
    budget.spend();
    const name = target.memberName(id, i);
    if (name !== '' && name !== accessor.name) continue;
    const before = spec.bitOffset;
    pushRaw(spec, i);
    spec.bitOffset = (before + target.memberBitOffset(id, i)) >>> 0;
    const type = target.memberType(id, i);
    if (name === '') {
      const found = matchMember(local, accessor, spec, type, budget);
      if (found !== undefined) return found;
    } else if (fieldsCompatible(local, local.memberType(accessor.typeId, accessor.idx), target, type)) {
      spec.accessors.push({ typeId: id, idx: i, name });
      return type;
    }
    spec.raw.pop();
    spec.bitOffset = before;
    // A field of that name which is not compatible ends the search, as there can be no other.
    if (name !== '') return undefined;
  }
  return undefined;
}

/** The enumerator of that name in the target's enum, whatever its value. */
function matchEnumerator(accessor: Accessor, spec: CoreSpec, targetId: number, budget: Budget): boolean {
  const target = spec.btf;
  const id = resolveType(target, targetId);
  if (!isAnyEnum(target.kind(id))) return false;
  const wanted = essentialName(accessor.name ?? '');
  for (let idx = 0; idx < target.vlen(id); idx++) {
    budget.spend();
    const name = target.enumeratorName(id, idx);
    if (essentialName(name) !== wanted) continue;
    spec.accessors.push({ typeId: id, idx, name });
    spec.raw.push(idx);
    return true;
  }
  return false;
}

/**
 * The same access in a candidate of the target (bpf_core_spec_match), or undefined where it has no such thing. Throws
 * CoreReloError where libbpf gives up.
 */
export function matchSpec(
  localSpec: CoreSpec,
  target: Btf,
  candidate: number,
  budget: Budget,
): CoreSpec | undefined {
  const { btf: local, kind } = localSpec;
  const spec = emptySpec(target, candidate, kind);
  if (isTypeBased(kind)) {
    const same =
      kind === BPF_CORE_TYPE_MATCHES
        ? typesMatch(local, localSpec.rootTypeId, target, candidate, budget)
        : typesCompatible(local, localSpec.rootTypeId, target, candidate, budget);
    return same ? spec : undefined;
  }
  if (isEnumvalBased(kind)) {
    return matchEnumerator(localSpec.accessors[0]!, spec, candidate, budget) ? spec : undefined;
  }
  let id = candidate;
  for (const [i, accessor] of localSpec.accessors.entries()) {
    id = resolveType(target, id);
    if (accessor.name !== undefined) {
      const found = matchMember(local, accessor, spec, id, budget);
      if (found === undefined) return undefined;
      id = found;
      continue;
    }
    // The first index is that of the root itself, each later one that of an array.
    if (i > 0) {
      if (target.kindName(id) !== 'ARRAY') return undefined;
      const flexible = isFlexibleArray(target, spec.accessors.at(-1), id);
      if (!flexible && accessor.idx >= target.word(id, 5)) return undefined;
      id = resolveType(target, target.word(id, 3));
    }
    pushRaw(spec, accessor.idx);
    spec.accessors.push({ typeId: id, idx: accessor.idx, name: undefined });
    spec.bitOffset = addElements(spec.bitOffset, accessor.idx, sizeOf(target, id));
  }
  return spec;
}
