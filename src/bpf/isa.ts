/**
 * The eBPF instruction set, versions 1 to 4, under the names of include/uapi/linux/bpf.h and bpf_common.h.
 */

import { insnList } from './argument-shapes.ts';
import { bytesOf, checkArgument } from './arguments.ts';

const WHOLE = bytesOf('a Uint8Array of whole instructions, 8 bytes each', 8);
/**
 * One 8-byte slot. `off` is s16 and `imm` s32 (both signed JavaScript numbers). A 64-bit immediate load (lddw) takes two
 * slots: the first holds the low word, the second has code 0 and the high word.
 */
export interface Insn {
  code: number;
  dst: number;
  src: number;
  off: number;
  imm: number;
}

// Instruction classes (low 3 bits of the code).
export const BPF_LD = 0x00;
export const BPF_LDX = 0x01;
export const BPF_ST = 0x02;
export const BPF_STX = 0x03;
export const BPF_ALU = 0x04;
export const BPF_JMP = 0x05;
/** The class of 32-bit jumps in eBPF; BPF_RET in classic BPF. */
export const BPF_JMP32 = 0x06;
export const BPF_ALU64 = 0x07;

// Sizes of loads and stores (bits 3 and 4).
export const BPF_W = 0x00;
export const BPF_H = 0x08;
export const BPF_B = 0x10;
export const BPF_DW = 0x18;

// Modes of loads and stores (upper 3 bits).
export const BPF_IMM = 0x00;
export const BPF_ABS = 0x20;
export const BPF_IND = 0x40;
export const BPF_MEM = 0x60;
export const BPF_MEMSX = 0x80;
export const BPF_ATOMIC = 0xc0;

// Operand of ALU and jump instructions (bit 3).
export const BPF_K = 0x00;
export const BPF_X = 0x08;

// ALU operations (upper 4 bits).
export const BPF_ADD = 0x00;
export const BPF_SUB = 0x10;
export const BPF_MUL = 0x20;
export const BPF_DIV = 0x30;
export const BPF_OR = 0x40;
export const BPF_AND = 0x50;
export const BPF_LSH = 0x60;
export const BPF_RSH = 0x70;
export const BPF_NEG = 0x80;
export const BPF_MOD = 0x90;
export const BPF_XOR = 0xa0;
export const BPF_MOV = 0xb0;
export const BPF_ARSH = 0xc0;
export const BPF_END = 0xd0;

/** Direction of BPF_END in the ALU class; in ALU64 the swap is unconditional. */
export const BPF_TO_LE = 0x00;
export const BPF_TO_BE = 0x08;

// Jump operations (upper 4 bits).
export const BPF_JA = 0x00;
export const BPF_JEQ = 0x10;
export const BPF_JGT = 0x20;
export const BPF_JGE = 0x30;
export const BPF_JSET = 0x40;
export const BPF_JNE = 0x50;
export const BPF_JSGT = 0x60;
export const BPF_JSGE = 0x70;
export const BPF_CALL = 0x80;
export const BPF_EXIT = 0x90;
export const BPF_JLT = 0xa0;
export const BPF_JLE = 0xb0;
export const BPF_JSLT = 0xc0;
export const BPF_JSLE = 0xd0;
export const BPF_JCOND = 0xe0;
/** The kernel's own opcode of a tail call (include/linux/filter.h); programs that are loaded call a helper. */
export const BPF_TAIL_CALL = 0xf5;
/** Source "register" of a BPF_JCOND: may_goto. */
export const BPF_MAY_GOTO = 0;

/** Offset of a BPF_MOV | BPF_X that is no sign extension: the pointer goes to another address space (imm: to << 16 | from). */
export const BPF_ADDR_SPACE_CAST = 1;
/** Offset of a BPF_MOV | BPF_X that the kernel makes of a per-CPU pointer. */
export const BPF_ADDR_PERCPU = -1;

/** Flag in the immediate of an atomic: the old value comes back in the source register. */
export const BPF_FETCH = 0x01;
export const BPF_XCHG = 0xe0 | BPF_FETCH;
export const BPF_CMPXCHG = 0xf0 | BPF_FETCH;
/** Load with acquire, store with release order, of 1, 2, 4 or 8 bytes. */
export const BPF_LOAD_ACQ = 0x100;
export const BPF_STORE_REL = 0x110;

// What the source register field of an lddw means.
export const BPF_PSEUDO_MAP_FD = 1;
export const BPF_PSEUDO_MAP_VALUE = 2;
export const BPF_PSEUDO_BTF_ID = 3;
export const BPF_PSEUDO_FUNC = 4;
/** imm is an index into the program's maps. */
export const BPF_PSEUDO_MAP_IDX = 5;
/** imm is an index into the program's maps, the second slot's imm an offset into the map's value. */
export const BPF_PSEUDO_MAP_IDX_VALUE = 6;

// What the source register field of a BPF_CALL means.
export const BPF_PSEUDO_CALL = 1;
export const BPF_PSEUDO_KFUNC_CALL = 2;

// Registers.
export const BPF_REG_0 = 0;
export const BPF_REG_1 = 1;
export const BPF_REG_2 = 2;
export const BPF_REG_3 = 3;
export const BPF_REG_4 = 4;
export const BPF_REG_5 = 5;
export const BPF_REG_6 = 6;
export const BPF_REG_7 = 7;
export const BPF_REG_8 = 8;
export const BPF_REG_9 = 9;
/** Frame pointer, read-only: points past the 512 bytes of stack. */
export const BPF_REG_10 = 10;
export const BPF_REG_FP = 10;
export const MAX_BPF_REG = 11;

/** Bytes of stack of one frame. */
export const MAX_BPF_STACK = 512;
/** How deep calls between BPF functions may nest, the program itself included. */
export const MAX_CALL_FRAMES = 8;
/** Tail calls that a run may make. */
export const MAX_TAIL_CALL_CNT = 33;
/** How often the may_goto instructions of one frame may be taken, together. */
export const BPF_MAX_LOOPS = 8 * 1024 * 1024;

// Flags of bpf_map_update_elem.
export const BPF_ANY = 0;
export const BPF_NOEXIST = 1;
export const BPF_EXIST = 2;
export const BPF_F_LOCK = 4;

// Helper ids (enum bpf_func_id): those this machine knows or its compilers call.
export const BPF_FUNC_map_lookup_elem = 1;
export const BPF_FUNC_map_update_elem = 2;
export const BPF_FUNC_map_delete_elem = 3;
export const BPF_FUNC_probe_read = 4;
export const BPF_FUNC_ktime_get_ns = 5;
export const BPF_FUNC_trace_printk = 6;
export const BPF_FUNC_get_prandom_u32 = 7;
export const BPF_FUNC_get_smp_processor_id = 8;
export const BPF_FUNC_tail_call = 12;
export const BPF_FUNC_get_current_pid_tgid = 14;
export const BPF_FUNC_get_current_uid_gid = 15;
export const BPF_FUNC_get_current_comm = 16;
export const BPF_FUNC_perf_event_output = 25;
export const BPF_FUNC_skb_load_bytes = 26;
export const BPF_FUNC_get_stackid = 27;
export const BPF_FUNC_get_current_task = 35;
export const BPF_FUNC_get_numa_node_id = 42;
export const BPF_FUNC_probe_read_str = 45;
export const BPF_FUNC_override_return = 58;
export const BPF_FUNC_map_push_elem = 87;
export const BPF_FUNC_map_pop_elem = 88;
export const BPF_FUNC_map_peek_elem = 89;
export const BPF_FUNC_probe_read_user = 112;
export const BPF_FUNC_probe_read_kernel = 113;
export const BPF_FUNC_probe_read_user_str = 114;
export const BPF_FUNC_probe_read_kernel_str = 115;
export const BPF_FUNC_jiffies64 = 118;
export const BPF_FUNC_ktime_get_boot_ns = 125;
export const BPF_FUNC_ringbuf_output = 130;
export const BPF_FUNC_ringbuf_reserve = 131;
export const BPF_FUNC_ringbuf_submit = 132;
export const BPF_FUNC_ringbuf_discard = 133;
export const BPF_FUNC_ringbuf_query = 134;
export const BPF_FUNC_ktime_get_coarse_ns = 160;
export const BPF_FUNC_for_each_map_elem = 164;
export const BPF_FUNC_snprintf = 165;
export const BPF_FUNC_get_func_ip = 173;
export const BPF_FUNC_get_attach_cookie = 174;
export const BPF_FUNC_loop = 181;
export const BPF_FUNC_strncmp = 182;
export const BPF_FUNC_map_lookup_percpu_elem = 195;
export const BPF_FUNC_ktime_get_tai_ns = 208;

export const BPF_CLASS = (code: number): number => code & 0x07;
export const BPF_SIZE = (code: number): number => code & 0x18;
export const BPF_MODE = (code: number): number => code & 0xe0;
export const BPF_OP = (code: number): number => code & 0xf0;
export const BPF_SRC = (code: number): number => code & 0x08;

/** The code of the first slot of a 64-bit immediate load. */
export const BPF_LD_IMM64 = BPF_LD | BPF_DW | BPF_IMM;

/** True for the first slot of an lddw. */
export function isLdImm64(insn: Insn): boolean {
  return insn.code === BPF_LD_IMM64;
}

/** Bytes of a BPF_SIZE: 1, 2, 4 or 8. */
export function sizeBytes(code: number): 1 | 2 | 4 | 8 {
  const size = BPF_SIZE(code);
  return size === BPF_B ? 1 : size === BPF_H ? 2 : size === BPF_W ? 4 : 8;
}

/** The BPF_SIZE of a number of bytes. */
export function bytesToSize(bytes: 1 | 2 | 4 | 8): number {
  return bytes === 1 ? BPF_B : bytes === 2 ? BPF_H : bytes === 4 ? BPF_W : BPF_DW;
}

/** The 64-bit immediate of an lddw, unsigned. */
export function ldImm64Value(low: Insn, high: Insn): bigint {
  return (BigInt(high.imm >>> 0) << 32n) | BigInt(low.imm >>> 0);
}

/**
 * Where a jump goes, relative to the slot after it: `imm` for gotol (BPF_JMP32|BPF_JA), `off` otherwise.
 */
export function jumpOffset(insn: Insn): number {
  return insn.code === (BPF_JMP32 | BPF_JA) ? insn.imm : insn.off;
}

/** Little-endian struct bpf_insn, 8 bytes a slot. */
export function encodeInsns(insns: readonly Insn[]): Uint8Array {
  checkArgument('encodeInsns()', 'insns', insns, insnList);
  const bytes = new Uint8Array(insns.length * 8);
  const view = new DataView(bytes.buffer);
  for (let i = 0; i < insns.length; i++) {
    const insn = insns[i]!;
    view.setUint8(i * 8, insn.code);
    view.setUint8(i * 8 + 1, (insn.dst & 15) | ((insn.src & 15) << 4));
    view.setInt16(i * 8 + 2, insn.off, true);
    view.setInt32(i * 8 + 4, insn.imm, true);
  }
  return bytes;
}

/** The inverse of encodeInsns. Throws BpfError EINVAL where the length is no multiple of 8. */
export function decodeInsns(bytes: Uint8Array): Insn[] {
  checkArgument('decodeInsns()', 'bytes', bytes, WHOLE);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const insns: Insn[] = [];
  for (let at = 0; at < bytes.length; at += 8) {
    const regs = view.getUint8(at + 1);
    insns.push({
      code: view.getUint8(at),
      dst: regs & 15,
      src: regs >> 4,
      off: view.getInt16(at + 2, true),
      imm: view.getInt32(at + 4, true),
    });
  }
  return insns;
}
