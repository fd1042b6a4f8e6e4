import type { Btf } from '../btf/btf.ts';
import type { CoreRelo } from '../btf/ext.ts';
import { isAnyEnum, isComposite } from '../btf/kinds.ts';
import { resolveType, sizeOf } from '../btf/layout.ts';
import { CoreReloError } from './error.ts';
import { CORE_RELO_NAMES, isEnumvalBased, isFieldBased, isTypeBased } from './kinds.ts';

export const BPF_CORE_SPEC_MAX_LEN = 64;

/** One step of an access: a named field, or without a name an array index. */
export interface Accessor {
  /** The struct that holds the field; the element's type for an index. */
  readonly typeId: number;
  readonly idx: number;
  readonly name: string | undefined;
}

/** What a relocation refers to, in one BTF (struct bpf_core_spec). */
export interface CoreSpec {
  readonly btf: Btf;
  readonly rootTypeId: number;
  readonly kind: number;
  /** Named fields and indices, anonymous structs left out. */
  readonly accessors: Accessor[];
  /** Every index, anonymous structs included. */
  readonly raw: number[];
  bitOffset: number;
}

export function emptySpec(btf: Btf, rootTypeId: number, kind: number): CoreSpec {
  return { btf, rootTypeId, kind, accessors: [], raw: [], bitOffset: 0 };
}

/** Adds an index of elements of so many bytes to an offset in bits, in 32 bits as libbpf does. */
export function addElements(bitOffset: number, idx: number, size: number): number {
  return Number(BigInt.asUintN(32, BigInt(bitOffset) + BigInt(idx) * BigInt(size) * 8n));
}

/**
 * True for an array of 0 elements at the end of a struct, which any index may reach into (is_flex_arr).
 */
export function isFlexibleArray(btf: Btf, accessor: Accessor | undefined, arrayId: number): boolean {
  if (accessor?.name === undefined || btf.word(arrayId, 5) > 0) return false;
  return accessor.idx === btf.vlen(accessor.typeId) - 1;
}

function fail(relo: CoreRelo, why: string, errno: 'EINVAL' | 'E2BIG' = 'EINVAL'): never {
  throw new CoreReloError(`access string '${relo.accessString}': ${why}`, errno);
}

function parseAccessString(relo: CoreRelo): number[] {
  const text = relo.accessString;
  if (text.length > 16 * BPF_CORE_SPEC_MAX_LEN || !/^-?\d{1,10}(:-?\d{1,10})*$/.test(text)) {
    fail(relo, 'is not a list of indices');
  }
  const raw = text.split(':').map(Number);
  if (raw.length > BPF_CORE_SPEC_MAX_LEN)
    fail(relo, `has more than ${BPF_CORE_SPEC_MAX_LEN} indices`, 'E2BIG');
  return raw;
}

/** A relocation in the object's own types (bpf_core_parse_spec). Throws CoreReloError where it makes no sense. */
export function parseSpec(btf: Btf, relo: CoreRelo): CoreSpec {
  const spec = emptySpec(btf, relo.typeId, relo.kind);
  if (isTypeBased(relo.kind)) {
    if (relo.accessString !== '0') fail(relo, 'a type relocation has "0"');
    return spec;
  }
  spec.raw.push(...parseAccessString(relo));
  let id = resolveType(btf, relo.typeId);
  const first = spec.raw[0]!;
  if (isEnumvalBased(relo.kind)) {
    if (!isAnyEnum(btf.kind(id)) || spec.raw.length > 1 || first < 0 || first >= btf.vlen(id)) {
      fail(relo, `is no enumerator of ${btf.label(id)}`);
    }
    spec.accessors.push({ typeId: id, idx: first, name: btf.enumeratorName(id, first) });
    return spec;
  }
  if (!isFieldBased(relo.kind)) fail(relo, `unknown kind of relocation ${relo.kind}`);
  spec.accessors.push({ typeId: id, idx: first, name: undefined });
  spec.bitOffset = addElements(0, first, sizeOf(btf, id));
  for (const idx of spec.raw.slice(1)) {
    id = resolveType(btf, id);
    if (isComposite(btf.kind(id))) {
      if (idx < 0 || idx >= btf.vlen(id)) fail(relo, `${btf.label(id)} has no member ${idx}`);
      spec.bitOffset = (spec.bitOffset + btf.memberBitOffset(id, idx)) >>> 0;
      const name = btf.memberName(id, idx);
      if (name !== '') spec.accessors.push({ typeId: id, idx, name });
      id = btf.memberType(id, idx);
    } else if (btf.kindName(id) === 'ARRAY') {
      const element = resolveType(btf, btf.word(id, 3));
      const flexible = isFlexibleArray(btf, spec.accessors.at(-1), id);
      if (idx < 0 || (!flexible && idx >= btf.word(id, 5)))
        fail(relo, `index ${idx} is past the array's end`);
      spec.accessors.push({ typeId: element, idx, name: undefined });
      spec.bitOffset = addElements(spec.bitOffset, idx, sizeOf(btf, element));
      id = element;
    } else {
      fail(relo, `captures ${btf.label(id)}, which has neither members nor elements`);
    }
  }
  return spec;
}

/** A spec as libbpf's log prints it: `<byte_off> [7] struct task_struct.pid (0:3 @ offset 1264)`. */
export function formatSpec(spec: CoreSpec): string {
  const { btf, rootTypeId } = spec;
  const name = btf.name(rootTypeId);
  const kind = btf.kindName(rootTypeId).toLowerCase();
  const head = `<${CORE_RELO_NAMES[spec.kind] ?? 'unknown'}> [${rootTypeId}] ${kind} ${name === '' ? '<anon>' : name}`;
  if (isTypeBased(spec.kind)) return head;
  const accessor = spec.accessors[0];
  if (isEnumvalBased(spec.kind)) {
    if (accessor === undefined) return head;
    return `${head}::${accessor.name} = ${btf.enumeratorValue(accessor.typeId, accessor.idx)}`;
  }
  const path = spec.accessors
    .map((one, i) => (one.name !== undefined ? `.${one.name}` : i > 0 || one.idx > 0 ? `[${one.idx}]` : ''))
    .join('');
  const bits = spec.bitOffset % 8 === 0 ? '' : `.${spec.bitOffset % 8}`;
  return `${head}${path} (${spec.raw.join(':')} @ offset ${Math.floor(spec.bitOffset / 8)}${bits})`;
}
