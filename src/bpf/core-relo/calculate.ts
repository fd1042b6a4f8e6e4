/** The values of a relocation, in the object's types and in the target's (bpf_core_calc_relo of relo_core.c). */
import { BTF_INT_SIGNED, isAnyEnum } from '../btf/kinds.ts';
import { resolveType, sizeOf } from '../btf/layout.ts';
import { CoreReloError } from './error.ts';
import * as core from './kinds.ts';
import type { CoreSpec } from './spec.ts';

/** What becomes of an instruction (struct bpf_core_relo_res). Values are unsigned 64-bit. */
export interface CoreResult {
  readonly origValue: bigint;
  readonly newValue: bigint;
  /** The target has no such field: the instruction must not be reached. */
  readonly poison: boolean;
  /** The instruction must hold `origValue` now. */
  readonly validate: boolean;
  /** The access cannot change its width: its value would be wrong. */
  readonly failMemSizeAdjust: boolean;
  /** Bytes of the field, where the width of a load or store follows it; 0 otherwise. */
  readonly origSize: number;
  readonly newSize: number;
}

interface FieldValue {
  readonly value: bigint;
  readonly size: number;
  readonly typeId: number;
  readonly validate: boolean;
}

function fieldOfArray(spec: CoreSpec, typeId: number): FieldValue {
  const size = sizeOf(spec.btf, typeId);
  if (spec.kind === core.BPF_CORE_FIELD_BYTE_OFFSET) {
    return { value: BigInt(Math.floor(spec.bitOffset / 8)), size, typeId, validate: true };
  }
  if (spec.kind === core.BPF_CORE_FIELD_BYTE_SIZE)
    return { value: BigInt(size), size: 0, typeId: 0, validate: true };
  throw new CoreReloError(`<${core.CORE_RELO_NAMES[spec.kind]}> cannot be applied to an array element`);
}

function calcField(spec: CoreSpec): FieldValue {
  const { btf, kind, bitOffset } = spec;
  const accessor = spec.accessors.at(-1)!;
  if (accessor.name === undefined) return fieldOfArray(spec, accessor.typeId);
  const typeId = resolveType(btf, btf.memberType(accessor.typeId, accessor.idx));
  let bitSize = btf.memberBitSize(accessor.typeId, accessor.idx);
  const bitfield = bitSize > 0;
  let byteSize = sizeOf(btf, typeId);
  let byteOffset = Math.floor(bitOffset / 8);
  if (bitfield) {
    if (byteSize === 0) throw new CoreReloError(`${btf.label(typeId)} cannot be a bitfield`);
    // The smallest load, aligned to its own width, that has all of the bits.
    for (;;) {
      byteOffset = Math.floor(Math.floor(bitOffset / 8) / byteSize) * byteSize;
      if (bitOffset + bitSize - byteOffset * 8 <= byteSize * 8) break;
      if (byteSize >= 8) throw new CoreReloError('the bitfield does not fit into a 64-bit load', 'E2BIG');
      byteSize *= 2;
    }
  } else {
    bitSize = byteSize * 8;
  }
  const result = (value: number, validate = !bitfield): FieldValue => ({
    value: BigInt.asUintN(64, BigInt(value)),
    size: 0,
    typeId: 0,
    validate,
  });
  switch (kind) {
    case core.BPF_CORE_FIELD_BYTE_OFFSET:
      return bitfield ? result(byteOffset) : { ...result(byteOffset), size: byteSize, typeId };
    case core.BPF_CORE_FIELD_BYTE_SIZE:
      return result(byteSize);
    case core.BPF_CORE_FIELD_SIGNED: {
      const signed =
        (isAnyEnum(btf.kind(typeId)) && btf.kindFlag(typeId)) ||
        (btf.kindName(typeId) === 'INT' && (btf.word(typeId, 3) & (BTF_INT_SIGNED << 24)) !== 0);
      return result(signed ? 1 : 0, true);
    }
    case core.BPF_CORE_FIELD_LSHIFT_U64:
      return result(
        btf.littleEndian
          ? 64 - (bitOffset + bitSize - byteOffset * 8)
          : (8 - byteSize) * 8 + (bitOffset - byteOffset * 8),
      );
    default:
      return result(64 - bitSize, true);
  }
}

const DECIDED = { poison: false, validate: true, failMemSizeAdjust: false, origSize: 0, newSize: 0 };

function calcFieldRelo(local: CoreSpec, target: CoreSpec | undefined): CoreResult {
  if (local.kind === core.BPF_CORE_FIELD_EXISTS) {
    return { ...DECIDED, origValue: 1n, newValue: target === undefined ? 0n : 1n };
  }
  const orig = calcField(local);
  const common = { ...DECIDED, validate: orig.validate, origValue: orig.value, origSize: orig.size };
  if (target === undefined) return { ...common, newValue: 0n, poison: true };
  const now = calcField(target);
  let failMemSizeAdjust = false;
  if (orig.size !== now.size) {
    // Zero extension keeps the value of pointers and unsigned integers; a sign would be lost.
    const unsigned = (spec: CoreSpec, id: number): boolean =>
      spec.btf.kindName(id) === 'INT' && ((spec.btf.word(id, 3) >>> 24) & 15) !== BTF_INT_SIGNED;
    const pointers = local.btf.kindName(orig.typeId) === 'PTR' && target.btf.kindName(now.typeId) === 'PTR';
    failMemSizeAdjust = !pointers && !(unsigned(local, orig.typeId) && unsigned(target, now.typeId));
  }
  return { ...common, newValue: now.value, newSize: now.size, failMemSizeAdjust };
}

function calcTypeRelo(local: CoreSpec, target: CoreSpec | undefined): CoreResult {
  const value = (spec: CoreSpec): bigint => {
    switch (spec.kind) {
      case core.BPF_CORE_TYPE_ID_TARGET:
        return BigInt(spec.rootTypeId);
      case core.BPF_CORE_TYPE_SIZE:
        return BigInt(sizeOf(spec.btf, spec.rootTypeId));
      default:
        return 1n;
    }
  };
  return {
    ...DECIDED,
    // Linking renumbers types without touching instructions.
    validate: local.kind !== core.BPF_CORE_TYPE_ID_TARGET,
    origValue: value(local),
    newValue: target === undefined ? 0n : value(target),
  };
}

function calcEnumvalRelo(local: CoreSpec, target: CoreSpec | undefined): CoreResult {
  if (local.kind === core.BPF_CORE_ENUMVAL_EXISTS) {
    return { ...DECIDED, origValue: 1n, newValue: target === undefined ? 0n : 1n };
  }
  // struct btf_enum holds a signed 32-bit value, whatever the enum's own sign is.
  const value = (spec: CoreSpec): bigint => {
    const { typeId, idx } = spec.accessors[0]!;
    const raw = spec.btf.enumeratorValue(typeId, idx);
    return BigInt.asUintN(64, spec.btf.kindName(typeId) === 'ENUM' ? BigInt.asIntN(32, raw) : raw);
  };
  const origValue = value(local);
  if (target === undefined) return { ...DECIDED, origValue, newValue: 0n, poison: true };
  return { ...DECIDED, origValue, newValue: value(target) };
}

/** The result for one candidate; without one, that of a target which has no such thing. */
export function calculate(local: CoreSpec, target: CoreSpec | undefined): CoreResult {
  if (core.isFieldBased(local.kind)) return calcFieldRelo(local, target);
  if (core.isTypeBased(local.kind)) return calcTypeRelo(local, target);
  return calcEnumvalRelo(local, target);
}
