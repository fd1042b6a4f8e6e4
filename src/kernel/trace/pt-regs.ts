/**
 * The context of a kprobe program: x86-64 `struct pt_regs` (arch/x86/include/asm/ptrace.h), so that C programs
 * built for `__TARGET_ARCH_x86` and `%di` in `kprobe_events` read JavaScript arguments as they stand.
 */

/** Byte offset of each register in `struct pt_regs`; all are u64. */
export const PT_REGS = {
  r15: 0,
  r14: 8,
  r13: 16,
  /** Number of arguments passed (`arguments.length`). */
  r12: 24,
  bp: 32,
  /** Attach cookie: the index of the probe within its program's attachments. */
  bx: 40,
  /** The thrown or rejected value of a return, throw or settle probe; 0 when there is none. */
  r11: 48,
  /** `this` (r10 is the ABI's static chain pointer). */
  r10: 56,
  r9: 64,
  r8: 72,
  /** The return (or fulfilled) value. */
  ax: 80,
  cx: 88,
  dx: 96,
  si: 104,
  di: 112,
  orig_ax: 120,
  /** The probed address: the site's address in Trapline's 64-bit text space. */
  ip: 128,
  cs: 136,
  flags: 144,
  sp: 152,
  ss: 160,
} as const;

export type PtReg = keyof typeof PT_REGS;

/** sizeof(struct pt_regs) */
export const PT_REGS_SIZE = 168;

/** Arguments 0 to 5, in the order of the System V calling convention. */
export const ARG_REGS = ['di', 'si', 'dx', 'cx', 'r8', 'r9'] as const satisfies readonly PtReg[];

/**
 * A string, object, function, symbol or large bigint in a register is a *handle*: this tag plus a slot number
 * from 1 to 1023. A JavaScript number this large has its low 10 bits clear, so none can forge a handle.
 * Bits 10 to 47 hold the hit's generation: a handle kept across hits no longer resolves (-ESTALE reads as 0).
 */
export const HANDLE_TAG = 0x7e57_0000_0000_0000n;
/** The upper 16 bits that mark a handle. */
export const HANDLE_TAG_HI16 = 0x7e57;
export const HANDLE_SLOT_MASK = 1023;

/** Slots of register references from here on stand for arguments by number; those below for registers. */
export const ARGUMENT_REF = 64;
/** Registers beside the arguments that hold JavaScript values. */
const VALUE_REGS = ['r10', 'ax', 'r11'] as const satisfies readonly PtReg[];

/**
 * A *register reference*: a handle of generation 0, whose slot is fixed for each register. js_* kfuncs take it where they take a
 * value and read what the register was converted from: 1.5 where the register holds 1, true where it holds 1. A program names it
 * as a constant (lddw); the site then keeps the values of the hit (READS.raw).
 */
export function registerRef(reg: PtReg): bigint {
  return HANDLE_TAG | BigInt(PT_REGS[reg] >> 3);
}

/** The reference of argument n (from 0), also beyond the sixth. */
export function argumentRef(n: number): bigint {
  const reg = ARG_REGS[n];
  return reg === undefined ? HANDLE_TAG | BigInt(ARGUMENT_REF + n) : registerRef(reg);
}

/** What a reference's slot stands for: an argument's number, or a register; undefined where it is none. */
export function referenceOf(slot: number): number | PtReg | undefined {
  if (slot >= ARGUMENT_REF) return slot - ARGUMENT_REF;
  // Plain loops: the agent calls this too, on whatever the application has made of Array.prototype.
  for (let n = 0; n < ARG_REGS.length; n++) if (PT_REGS[ARG_REGS[n]!] >> 3 === slot) return n;
  for (let n = 0; n < VALUE_REGS.length; n++) if (PT_REGS[VALUE_REGS[n]!] >> 3 === slot) return VALUE_REGS[n];
  return undefined;
}

/**
 * Which values a program reads, found by the ctx-access conversion; the site converts only those.
 * Bit n (0 to 5) is argument n.
 */
export const READS = {
  args: 0b111111,
  this: 1 << 6,
  retval: 1 << 7,
  error: 1 << 8,
  argc: 1 << 9,
  ip: 1 << 10,
  cookie: 1 << 11,
  /** The program calls js_arg(): the whole argument list has to be kept for the hit. */
  allArgs: 1 << 12,
  /** The program names register references: arguments, this, value and error have to be kept for the hit as they are. */
  raw: 1 << 13,
  /** Within the agent, bit n + `refShift`: argument n is only referred to, so its register is not written. */
  refs: 0b111111 << 14,
  refShift: 14,
} as const;
