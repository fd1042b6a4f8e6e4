/**
 * Loads, stores and memory given to helpers (check_mem_access, check_stack_*, check_helper_mem_access of kernel/bpf/verifier.c).
 */
import * as isa from '../isa.ts';
import { MAX_BPF_STACK } from '../layout.ts';
import { type Env, markSlotRead, setReg, updateReg, withScalarId } from './env.ts';
import { reject } from './error.ts';
import { markPrecise } from './precision.ts';
import { LOADED, NOT_INIT, type Reg, S64_MIN, scalarConst, UNKNOWN, ZERO } from './reg.ts';
import {
  type Frame,
  isSpill,
  SLOT_INVALID,
  SLOT_MISC,
  SLOT_ZERO,
  STACK_INVALID,
  STACK_MISC,
  STACK_SPILL,
  STACK_ZERO,
  type StackSlot,
  spillSlot,
} from './state.ts';
import { tnumAdd, tnumConst, tnumIsAligned, tnumString } from './tnum.ts';

export type AccessSize = 1 | 2 | 4 | 8;

/** Variable and fixed offsets, and sizes, beyond which nothing is allowed (BPF_MAX_VAR_OFF, BPF_MAX_VAR_SIZ). */
export const MAX_VAR_OFF = 1 << 29;
const MAX_VAR_OFF_BIG = BigInt(MAX_VAR_OFF);

/** What a load or store does with a register. */
export interface Access {
  readonly regno: number;
  readonly off: number;
  readonly size: AccessSize;
  readonly write: boolean;
  /** Register loaded or stored; -1 for none (constants, atomics). */
  readonly value: number;
  readonly isSigned?: boolean;
  /** Value of a BPF_ST. */
  readonly imm?: number | undefined;
  /** Unaligned accesses are refused whatever the options (atomics). */
  readonly aligned?: boolean;
}

/** Kinds of pointers that one instruction may not mix with others (reg_type_mismatch). */
const KIND_CTX = 1;
const KIND_OTHER = 2;

function checkAlignment(env: Env, reg: Reg, { off, size, aligned }: Access): void {
  // The stack is tracked by slots: accesses have to be aligned always.
  const strict = reg.type === 'fp' || aligned === true || env.strictAlignment;
  if (!strict || size === 1) return;
  const whole = tnumAdd(reg.varOff, tnumConst(BigInt(reg.off + off)));
  if (tnumIsAligned(whole, size)) return;
  const what =
    reg.type === 'fp' ? 'stack ' : reg.type === 'map_value' ? 'value ' : reg.type === 'ctx' ? 'context ' : '';
  reject('EACCES', `misaligned ${what}access off ${tnumString(reg.varOff)}+${reg.off}+${off} size ${size}`);
}

/** The value a load leaves in its register. */
function loaded({ size, isSigned }: Access): Reg {
  return isSigned === true ? UNKNOWN.copy().signExtend(size) : LOADED[size];
}

/** check_mem_access. A load sets the register `value`. */
export function checkMemAccess(env: Env, access: Access): void {
  const { regno, size, write, value } = access;
  const reg = env.frame.regs[regno]!;
  checkAlignment(env, reg, access);
  const off = access.off + reg.off;
  switch (reg.type) {
    case 'map_value':
      if (reg.nullable) break;
      checkRegion(reg, regno, off, size, env.maps[reg.map]!.valueSize, false);
      if (!write && value >= 0) setReg(env, value, loaded(access));
      return;
    case 'map_key':
      if (reg.nullable) break;
      if (write) reject('EACCES', `write to change key R${regno} not allowed`);
      checkRegion(reg, regno, off, size, env.maps[reg.map]!.keySize, false);
      if (value >= 0) setReg(env, value, loaded(access));
      return;
    case 'mem':
      if (reg.nullable) break;
      checkRegion(reg, regno, off, size, reg.memSize, false);
      if (!write && value >= 0) setReg(env, value, loaded(access));
      return;
    case 'ctx':
      checkCtxAccess(env, reg, access);
      if (!write && value >= 0) setReg(env, value, loaded(access));
      return;
    case 'fp':
      stackBounds(env, reg, regno, off, size, false, write);
      if (write) writeStack(env, reg, off, access);
      else readStack(env, reg, off, access);
      return;
    default:
  }
  reject('EACCES', `R${regno} invalid mem access '${reg.typeName}'`);
}

/** check_ptr_off_reg: pointers that have to be as they were given. */
export function checkPlainPointer(reg: Reg, regno: number): void {
  if (reg.off < 0)
    reject('EACCES', `negative offset ${reg.typeName} ptr R${regno} off=${reg.off} disallowed`);
  if (reg.off !== 0)
    reject('EACCES', `dereference of modified ${reg.typeName} ptr R${regno} off=${reg.off} disallowed`);
  if (!reg.isConst || reg.varOff.value !== 0n) {
    reject('EACCES', `variable ${reg.typeName} access var_off=${tnumString(reg.varOff)} disallowed`);
  }
}

function checkCtxAccess(env: Env, reg: Reg, { regno, off, size, write }: Access): void {
  checkPlainPointer(reg, regno);
  const { ctx } = env.input;
  const inside = off >= 0 && off + size <= ctx.size;
  if (!inside || ctx.access(off, size, write) === undefined) {
    reject('EACCES', `invalid bpf_context access off=${off} size=${size}`);
  }
  if (!write) env.ctxReads.add(off);
}

/** A load or store is converted by the kind of its pointer, so it has to be of one kind on all paths. */
export function checkPointerKind(env: Env, reg: Reg): void {
  const kind = reg.type === 'ctx' ? KIND_CTX : KIND_OTHER;
  const before = env.pointerKind[env.insn]!;
  if (before !== 0 && before !== kind) reject('EINVAL', 'same insn cannot be used with different pointers');
  env.pointerKind[env.insn] = kind;
}

/** __check_mem_access */
function fits(off: bigint, size: number, memSize: number, zeroAllowed: boolean): boolean {
  const sizeOk = size > 0 || (size === 0 && zeroAllowed);
  return off >= 0n && sizeOk && off + BigInt(size) <= BigInt(memSize);
}

function outside(reg: Reg, regno: number, off: bigint, size: number, memSize: number, which: string): never {
  const what =
    reg.type === 'map_key'
      ? `invalid access to map key, key_size=${memSize} off=${off} size=${size}`
      : reg.type === 'map_value'
        ? `invalid access to map value, value_size=${memSize} off=${off} size=${size}`
        : `invalid access to memory, mem_size=${memSize} off=${off} size=${size}`;
  reject('EACCES', `${what}\nR${regno} ${which} value is outside of the allowed memory range`);
}

/** check_mem_region_access: both ends of the pointer's range are inside. */
function checkRegion(
  reg: Reg,
  regno: number,
  off: number,
  size: number,
  memSize: number,
  zeroAllowed: boolean,
): void {
  const at = BigInt(off);
  if (
    reg.smin < 0n &&
    (reg.smin === S64_MIN || reg.smin + at < 0n || reg.smin + at !== BigInt.asIntN(32, reg.smin + at))
  ) {
    reject(
      'EACCES',
      `R${regno} min value is negative, either use unsigned index or do a if (index >=0) check.`,
    );
  }
  if (!fits(reg.smin + at, size, memSize, zeroAllowed))
    outside(reg, regno, reg.smin + at, size, memSize, 'min');
  if (reg.umax >= MAX_VAR_OFF_BIG) {
    reject('EACCES', `R${regno} unbounded memory access, make sure to bounds check any such access`);
  }
  if (!fits(reg.umax + at, size, memSize, zeroAllowed))
    outside(reg, regno, reg.umax + at, size, memSize, 'max');
}

/** First and last offset from the frame pointer that an access may start at. */
interface StackRange {
  readonly min: number;
  readonly max: number;
}

/** check_stack_access_within_bounds; grows the frame's stack to it. */
function stackBounds(
  env: Env,
  reg: Reg,
  regno: number,
  off: number,
  size: number,
  isHelper: boolean,
  write: boolean,
): StackRange {
  const extra = isHelper ? ' indirect access to' : write ? ' write to' : ' read from';
  let min: number;
  let max: number;
  if (reg.isConst) {
    min = Number(reg.smin) + off;
    max = min;
  } else {
    if (reg.smax >= MAX_VAR_OFF_BIG || reg.smin <= -MAX_VAR_OFF_BIG) {
      reject('EACCES', `invalid unbounded variable-offset${extra} stack R${regno}`);
    }
    min = Number(reg.smin) + off;
    max = Number(reg.smax) + off;
  }
  const isInside = min >= -MAX_BPF_STACK && min <= -1 && max + size <= 0;
  if (!isInside) {
    reject(
      'EACCES',
      reg.isConst
        ? `invalid${extra} stack R${regno} off=${min} size=${size}`
        : `invalid variable-offset${extra} stack R${regno} var_off=${tnumString(reg.varOff)} off=${off} size=${size}`,
    );
  }
  const frame = env.state.frames[reg.frame]!;
  frame.grow(Math.ceil(-min / 8));
  const subprog = env.subprogs[frame.subprog]!;
  subprog.stackDepth = Math.max(subprog.stackDepth, -min);
  return { min, max };
}

const slotOf = (off: number): number => (-off - 1) >> 3;
/** Index into a slot's types of the byte at `off`. */
const byteOf = (off: number): number => (-off - 1) & 7;

function setSlot(frame: Frame, spi: number, slot: StackSlot): void {
  frame.stack[spi] = slot;
}

/** Types of a slot whose spilled register is gone (scrub_spilled_slot). */
const scrubbed = (types: readonly number[]): number[] =>
  types.map((type) => (type === STACK_SPILL ? STACK_MISC : type));

function isUniform(types: readonly number[], type: number): boolean {
  return types.every((one) => one === type);
}

function plainSlot(types: readonly number[]): StackSlot {
  if (isUniform(types, STACK_MISC)) return SLOT_MISC;
  if (isUniform(types, STACK_ZERO)) return SLOT_ZERO;
  if (isUniform(types, STACK_INVALID)) return SLOT_INVALID;
  return { types, spilled: NOT_INIT };
}

/** save_register_state: the low `size` bytes of `reg` in a slot. */
function saveRegister(frame: Frame, spi: number, reg: Reg, size: AccessSize): void {
  if (size === 8) {
    frame.writtenSlots |= 1n << BigInt(spi);
    setSlot(frame, spi, spillSlot(reg));
    return;
  }
  const types = scrubbed(frame.stack[spi]!.types);
  for (let i = 7; i >= 8 - size; i--) types[i] = STACK_SPILL;
  setSlot(frame, spi, { types, spilled: reg });
}

function writeStack(env: Env, pointer: Reg, off: number, access: Access): void {
  if (pointer.isConst) writeStackFixed(env, pointer, off + Number(pointer.smin), access);
  else writeStackVariable(env, pointer, off, access);
}

/** check_stack_write_fixed_off */
function writeStackFixed(env: Env, pointer: Reg, off: number, access: Access): void {
  const { size, value, imm } = access;
  const frame = env.state.frames[pointer.frame]!;
  const spi = slotOf(off);
  const isStart = off % 8 === 0;
  let reg = value >= 0 ? env.frame.regs[value]! : undefined;
  if (reg !== undefined && isStart && reg.type === 'scalar') {
    const valueFits = reg.width <= size * 8;
    if (valueFits) {
      reg = withScalarId(env, reg);
      if (value !== 10) updateReg(env, value, reg);
    }
    let spilled = reg;
    if (size < 8) {
      spilled = reg.copy();
      if (!valueFits) spilled.id = 0;
    }
    saveRegister(frame, spi, spilled, size);
    noteStackAccess(env, pointer.frame, spi);
  } else if (reg === undefined && isStart && imm !== undefined) {
    saveRegister(frame, spi, scalarConst(BigInt(imm)), size);
    noteStackAccess(env, pointer.frame, spi);
  } else if (reg?.isPointer) {
    if (size !== 8) reject('EACCES', 'invalid size of register spill');
    if (frame !== env.frame && reg.type === 'fp') {
      reject('EINVAL', 'cannot spill pointers to stack into stack frame of the caller');
    }
    saveRegister(frame, spi, reg, 8);
    noteStackAccess(env, pointer.frame, spi);
  } else {
    let type = STACK_MISC;
    if (reg?.isNull === true || imm === 0) {
      // The zero has to be exact, or a state with another value would be taken for this one.
      if (reg !== undefined) markPrecise(env, value);
      type = STACK_ZERO;
    }
    const slot = frame.stack[spi]!;
    const types =
      isSpill(slot) || slot.types.includes(STACK_SPILL) ? scrubbed(slot.types) : slot.types.slice();
    for (let i = 0; i < size; i++) types[byteOf(off + i)] = type;
    if (size === 8) frame.writtenSlots |= 1n << BigInt(spi);
    setSlot(frame, spi, plainSlot(types));
  }
}

function noteStackAccess(env: Env, frame: number, spi: number): void {
  env.node.stackFrame = frame;
  env.node.stackSlot = spi;
}

/** check_stack_write_var_off: every byte that may be written is no longer what it was. */
function writeStackVariable(env: Env, pointer: Reg, off: number, access: Access): void {
  const { size, value, imm } = access;
  const frame = env.state.frames[pointer.frame]!;
  const min = Number(pointer.smin) + off;
  const end = Number(pointer.smax) + off + size;
  const isZero = imm === 0 || (value >= 0 && env.frame.regs[value]!.isNull);
  let usedZero = false;
  for (let spi = slotOf(end - 1); spi <= slotOf(min); spi++) {
    const slot = frame.stack[spi]!;
    const spilledZero = isZero && isSpill(slot) && slot.spilled.isNull;
    const types = slot.types.slice();
    let isChanged = false;
    for (let i = 0; i < 8; i++) {
      const at = -(spi * 8) - 1 - i;
      if (at < min || at >= end) continue;
      if (types[i] === STACK_SPILL && spilledZero) {
        usedZero = true;
        continue;
      }
      if (types[i] === STACK_INVALID && !env.allowUninitStack) {
        reject('EINVAL', `uninit stack write prohibited for var-offset write to stack off: ${at}`);
      }
      if (isZero && types[i] === STACK_ZERO) {
        usedZero = true;
        continue;
      }
      types[i] = STACK_MISC;
      isChanged = true;
    }
    if (isChanged) setSlot(frame, spi, plainSlot(scrubbed(types)));
  }
  if (usedZero && value >= 0) markPrecise(env, value);
}

function readStack(env: Env, pointer: Reg, off: number, access: Access): void {
  if (pointer.isConst) readStackFixed(env, pointer, off + Number(pointer.smin), access);
  else readStackVariable(env, pointer, off, access);
}

function setLoaded(env: Env, access: Access, reg: Reg): void {
  if (access.value < 0) return;
  let result = reg;
  if (access.size < 8 && reg.type === 'scalar') {
    if (access.isSigned === true) result = reg.copy().signExtend(access.size);
    else if (reg === UNKNOWN) result = LOADED[access.size];
    else if (reg.width > access.size * 8) result = reg.copy().coerce(access.size);
  }
  setReg(env, access.value, result);
}

function refuseByte(env: Env, type: number, off: number, i: number, size: number): void {
  if (type === STACK_INVALID && !env.allowUninitStack) {
    reject('EACCES', `invalid read from stack off ${off}+${i} size ${size}`);
  }
}

/** check_stack_read_fixed_off */
function readStackFixed(env: Env, pointer: Reg, off: number, access: Access): void {
  const { size, value } = access;
  const frame = env.state.frames[pointer.frame]!;
  const spi = slotOf(off);
  const slot = frame.stack[spi]!;
  const { types } = slot;
  markSlotRead(env.state, pointer.frame, spi);
  if (!isSpill(slot)) {
    for (let i = 0; i < size; i++) refuseByte(env, types[byteOf(off + i)]!, off, i, size);
    setLoaded(env, access, stackBytes(frame, off, off + size));
    return;
  }
  let { spilled } = slot;
  let spillSize = 1;
  for (let i = 7; i > 0 && types[i - 1] === STACK_SPILL; i--) spillSize++;
  if (size === 8 && spillSize === 8) {
    if (value < 0) return;
    spilled = withScalarId(env, spilled);
    if (spilled !== slot.spilled) setSlot(frame, spi, { types, spilled });
    noteStackAccess(env, pointer.frame, spi);
    setReg(env, value, spilled);
    return;
  }
  if (spilled.type !== 'scalar') reject('EACCES', 'invalid size of register fill');
  if (value < 0) return;
  if (size <= spillSize && off % 8 === 0) {
    if (size === 4 && spillSize === 4 && spilled.width <= 32) {
      spilled = withScalarId(env, spilled);
      if (spilled !== slot.spilled) setSlot(frame, spi, { types, spilled });
    }
    let copy = spilled.copy();
    if (spilled.width > size * 8) {
      copy.id = 0;
      copy.addConst = false;
      copy.off = 0;
      copy = copy.coerce(size);
    }
    if (access.isSigned === true) {
      copy = copy.signExtend(size);
      copy.id = 0;
    }
    noteStackAccess(env, pointer.frame, spi);
    setReg(env, value, copy);
    return;
  }
  let spills = 0;
  let zeros = 0;
  for (let i = 0; i < size; i++) {
    const type = types[byteOf(off + i)]!;
    if (type === STACK_SPILL) spills++;
    else if (type === STACK_ZERO) zeros++;
    else refuseByte(env, type, off, i, size);
  }
  if (spills === size && spilled.isNull) {
    noteStackAccess(env, pointer.frame, spi);
    setReg(env, value, ZERO);
  } else {
    setLoaded(env, access, zeros === size ? ZERO : UNKNOWN);
  }
}

/** mark_reg_stack_read: zero when all bytes are. */
function stackBytes(frame: Frame, min: number, end: number): Reg {
  for (let at = min; at < end; at++) {
    const slot = frame.stack[slotOf(at)]!;
    if (slot.types[byteOf(at)] !== STACK_ZERO) return UNKNOWN;
  }
  return ZERO;
}

function readStackVariable(env: Env, pointer: Reg, off: number, access: Access): void {
  const { regno, size, value } = access;
  if (value < 0) {
    reject(
      'EACCES',
      `variable offset stack pointer cannot be passed into helper function; var_off=${tnumString(pointer.varOff)} off=${off} size=${size}`,
    );
  }
  const min = Number(pointer.smin) + off;
  const end = Number(pointer.smax) + off + size;
  checkStackInitialized(env, pointer, regno, off, min, end, size, false, false);
  setLoaded(env, access, stackBytes(env.state.frames[pointer.frame]!, min, end));
}

/** check_stack_range_initialized for [min, end); `clobber` where the helper writes. */
function checkStackInitialized(
  env: Env,
  pointer: Reg,
  regno: number,
  off: number,
  min: number,
  end: number,
  size: number,
  isHelper: boolean,
  clobber: boolean,
): void {
  const frame = env.state.frames[pointer.frame]!;
  for (let spi = slotOf(end - 1); spi <= slotOf(min); spi++) {
    const slot = frame.stack[spi]!;
    let isTouched = false;
    let types: readonly number[] = slot.types;
    for (let i = 7; i >= 0; i--) {
      const at = -(spi * 8) - 1 - i;
      if (at < min || at >= end) continue;
      if (types[i] === STACK_INVALID && !env.allowUninitStack) {
        const indirect = isHelper ? ' indirect' : '';
        reject(
          'EACCES',
          pointer.isConst
            ? `invalid${indirect} read from stack R${regno} off ${min}+${at - min} size ${size}`
            : `invalid${indirect} read from stack R${regno} var_off ${tnumString(pointer.varOff)}+${at - min - off} size ${size}`,
        );
      }
      isTouched = true;
      if (clobber) {
        if (types === slot.types) types = scrubbed(slot.types);
        (types as number[])[i] = STACK_MISC;
      }
    }
    if (!isTouched) continue;
    markSlotRead(env.state, pointer.frame, spi);
    if (clobber) setSlot(frame, spi, plainSlot(types));
  }
}

/** How a helper uses memory. */
export type HelperAccess = 'read' | 'write' | 'uninit';

/**
 * check_helper_mem_access: `size` bytes at register `regno`. `uninit`: the helper writes all of it, whatever was there. Gives true when
 * such a stack range has still to be marked as written (raw mode), after all arguments were checked.
 */
export function checkHelperMem(
  env: Env,
  regno: number,
  size: number,
  zeroAllowed: boolean,
  access: HelperAccess,
): boolean {
  const reg = env.frame.regs[regno]!;
  switch (reg.nullable ? 'scalar' : reg.type) {
    case 'map_value':
      checkRegion(reg, regno, reg.off, size, env.maps[reg.map]!.valueSize, zeroAllowed);
      return false;
    case 'map_key':
      if (access !== 'read') reject('EACCES', `R${regno} cannot write into map_key`);
      checkRegion(reg, regno, reg.off, size, env.maps[reg.map]!.keySize, zeroAllowed);
      return false;
    case 'mem':
      checkRegion(reg, regno, reg.off, size, reg.memSize, zeroAllowed);
      return false;
    case 'fp': {
      if (size === 0 && !zeroAllowed) reject('EACCES', 'invalid zero-sized read');
      const { min, max } = stackBounds(env, reg, regno, reg.off, size, true, true);
      if (size === 0) return false;
      if (access === 'uninit' && reg.isConst) return true;
      checkStackInitialized(env, reg, regno, reg.off, min, max + size, size, true, access !== 'read');
      return false;
    }
    default:
      if (zeroAllowed && size === 0 && reg.isNull) return false;
      reject('EACCES', `R${regno} type=${reg.typeName} expected=fp`);
  }
}

/** After a helper call: the bytes it wrote on the stack hold anything. */
export function markHelperWrite(env: Env, reg: Reg, size: number): void {
  const frame = env.state.frames[reg.frame]!;
  const min = reg.off + Number(reg.smin);
  for (let spi = slotOf(min + size - 1); spi <= slotOf(min); spi++) {
    const types = scrubbed(frame.stack[spi]!.types);
    let count = 0;
    for (let i = 0; i < 8; i++) {
      const at = -(spi * 8) - 1 - i;
      if (at < min || at >= min + size) continue;
      types[i] = STACK_MISC;
      count++;
    }
    if (count === 8) frame.writtenSlots |= 1n << BigInt(spi);
    setSlot(frame, spi, plainSlot(types));
  }
}

/** check_atomic */
export function checkAtomic(env: Env, insn: isa.Insn): void {
  const size = isa.sizeBytes(insn.code);
  const reg = env.frame.regs[insn.dst]!;
  if (reg.type === 'ctx') reject('EACCES', `BPF_ATOMIC stores into R${insn.dst} ctx is not allowed`);
  const value = insn.imm === isa.BPF_CMPXCHG ? 0 : (insn.imm & isa.BPF_FETCH) !== 0 ? insn.src : -1;
  const access = { regno: insn.dst, off: insn.off, size, aligned: true };
  // Load first: it sees what is there before the store, also for the precision of a spilled value.
  checkMemAccess(env, { ...access, write: false, value });
  if (value === insn.dst) {
    // The address register was loaded into; the store is to where it pointed.
    const { frame } = env;
    const after = frame.regs[value]!;
    frame.regs[value] = reg;
    checkMemAccess(env, { ...access, write: true, value: -1 });
    frame.regs[value] = after;
    return;
  }
  checkMemAccess(env, { ...access, write: true, value: -1 });
}
