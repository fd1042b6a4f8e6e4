import * as isa from '../isa.ts';
import type { CoreResult } from './calculate.ts';
import { CoreReloError } from './error.ts';

/** The helper that a poisoned instruction calls: there is none of that id ("bad relo"). */
export const POISON_HELPER = 195896080;

function poison(insn: isa.Insn): void {
  insn.code = isa.BPF_JMP | isa.BPF_CALL;
  insn.dst = 0;
  insn.src = 0;
  insn.off = 0;
  insn.imm = POISON_HELPER;
}

/** Makes the instruction one that the verifier refuses where it is reached (bpf_core_poison_insn). */
export function poisonAt(insns: isa.Insn[], at: number): void {
  if (isa.isLdImm64(insns[at]!) && at + 1 < insns.length) poison(insns[at + 1]!);
  poison(insns[at]!);
}

const SIZES: Readonly<Record<number, number>> = { 1: isa.BPF_B, 2: isa.BPF_H, 4: isa.BPF_W, 8: isa.BPF_DW };

function unexpected(at: number, form: string, got: bigint | number, result: CoreResult): never {
  throw new CoreReloError(
    `unexpected insn #${at} (${form}) value: got ${got}, exp ${result.origValue} -> ${result.newValue}`,
  );
}

/**
 * Writes a relocation's value into an instruction, in place (bpf_core_patch_insn): the immediate of an ALU instruction
 * or of a 64-bit load, the offset and if need be the width of a memory access. Returns what was done; throws
 * CoreReloError where the instruction is not one that the compiler would have written.
 */
export function patchInsn(insns: isa.Insn[], at: number, result: CoreResult): 'patched' | 'poisoned' {
  const insn = insns[at]!;
  if (result.poison) {
    poisonAt(insns, at);
    return 'poisoned';
  }
  switch (isa.BPF_CLASS(insn.code)) {
    case isa.BPF_ALU:
    case isa.BPF_ALU64:
      if (isa.BPF_SRC(insn.code) !== isa.BPF_K) throw new CoreReloError(`insn #${at} has no immediate`);
      if (result.validate && BigInt.asUintN(64, BigInt(insn.imm)) !== result.origValue) {
        unexpected(at, 'ALU/ALU64', insn.imm, result);
      }
      insn.imm = Number(BigInt.asIntN(32, result.newValue));
      return 'patched';
    case isa.BPF_LDX:
    case isa.BPF_ST:
    case isa.BPF_STX:
      if (result.validate && BigInt.asUintN(64, BigInt(insn.off)) !== result.origValue) {
        unexpected(at, 'LDX/ST/STX', insn.off, result);
      }
      if (result.newValue > 0x7fffn) {
        throw new CoreReloError(`insn #${at} (LDX/ST/STX) value too big: ${result.newValue}`, 'ERANGE');
      }
      if (result.failMemSizeAdjust) {
        poisonAt(insns, at);
        return 'poisoned';
      }
      insn.off = Number(result.newValue);
      if (result.newSize !== result.origSize) {
        const bytes = isa.sizeBytes(insn.code);
        if (bytes !== result.origSize) {
          throw new CoreReloError(
            `insn #${at} (LDX/ST/STX) unexpected mem size: got ${bytes}, exp ${result.origSize}`,
          );
        }
        const size = SIZES[result.newSize];
        if (size === undefined) {
          throw new CoreReloError(`insn #${at} (LDX/ST/STX) invalid new mem size: ${result.newSize}`);
        }
        insn.code = isa.BPF_MODE(insn.code) | size | isa.BPF_CLASS(insn.code);
      }
      return 'patched';
    case isa.BPF_LD: {
      const high = insns[at + 1];
      const plain =
        isa.isLdImm64(insn) &&
        insn.src === 0 &&
        insn.off === 0 &&
        high !== undefined &&
        (high.code | high.dst | high.src | high.off) === 0;
      if (!plain) throw new CoreReloError(`insn #${at} (LDIMM64) has unexpected form`);
      const value = isa.ldImm64Value(insn, high);
      if (result.validate && value !== result.origValue) unexpected(at, 'LDIMM64', value, result);
      insn.imm = Number(BigInt.asIntN(32, result.newValue));
      high.imm = Number(BigInt.asIntN(32, result.newValue >> 32n));
      return 'patched';
    }
    default:
      throw new CoreReloError(
        `trying to relocate unrecognized insn #${at}, code:0x${insn.code.toString(16)}`,
      );
  }
}
