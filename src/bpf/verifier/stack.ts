/** The stack: slots, spilled registers, reads and writes (check_stack_* of kernel/bpf/verifier.c). */
import { MAX_BPF_STACK } from '../isa.ts';
import { type Access, type AccessSize, MAX_VAR_OFF_BIG } from './access.ts';
import { destroyDynptrs } from './dynptr-slots.ts';
import type { Env } from './env.ts';
import { reject } from './error.ts';
import { noteStackUse } from './fastcall.ts';
import { markSlotRead } from './liveness.ts';
import { markPrecise } from './precision.ts';
import { LOADED, NOT_INIT, type Reg, scalarConst, UNKNOWN, ZERO } from './reg.ts';
import { isPointerValue, setReg, updateReg, withScalarId } from './reg-access.ts';
import {
  type Frame,
  isSpill,
  SLOT_INVALID,
  SLOT_MISC,
  SLOT_ZERO,
  STACK_DYNPTR,
  STACK_INVALID,
  STACK_MISC,
  STACK_SPILL,
  STACK_ZERO,
  type StackSlot,
  spillSlot,
} from './state.ts';
import { tnumString } from './tnum.ts';

/** First and last offset from the frame pointer that an access may start at. */
interface StackRange {
  readonly min: number;
  readonly max: number;
}

/** check_stack_access_within_bounds; grows the frame's stack to it. */
export function stackBounds(
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
  const frame = env.state.frames[reg.frame]!;
  // Below the stack, or above it; loads also below what was ever touched, where that cannot be read.
  const isRead = !isHelper && !write;
  const lowest = isRead && !env.allowUninitStack ? -8 * frame.stack.length : -MAX_BPF_STACK;
  const isInside = min >= lowest && min <= -1;
  if (!isInside || max + size > 0) {
    reject(
      isInside ? 'EINVAL' : 'EACCES',
      reg.isConst
        ? `invalid${extra} stack R${regno} off=${off} size=${size}`
        : `invalid variable-offset${extra} stack R${regno} var_off=${tnumString(reg.varOff)} off=${off} size=${size}`,
    );
  }
  frame.grow(Math.ceil(-min / 8));
  const subprog = env.subprogs[frame.subprog]!;
  subprog.stackDepth = Math.max(subprog.stackDepth, -min);
  return { min, max };
}

export const slotOf = (off: number): number => (-off - 1) >> 3;
/** Index into a slot's types of the byte at `off`. */
export const byteOf = (off: number): number => (-off - 1) & 7;

export function setSlot(frame: Frame, spi: number, slot: StackSlot): void {
  frame.stack[spi] = slot;
}

/** Types of a slot whose spilled register is gone (scrub_spilled_slot). */
export const scrubbed = (types: readonly number[]): number[] =>
  types.map((type) => (type === STACK_SPILL || type >= STACK_DYNPTR ? STACK_MISC : type));

function isUniform(types: readonly number[], type: number): boolean {
  return types.every((one) => one === type);
}

export function plainSlot(types: readonly number[]): StackSlot {
  if (isUniform(types, STACK_MISC)) return SLOT_MISC;
  if (isUniform(types, STACK_ZERO)) return SLOT_ZERO;
  if (isUniform(types, STACK_INVALID)) return SLOT_INVALID;
  return { types, spilled: NOT_INIT };
}

/** save_register_state: the low `size` bytes of `reg` in a slot. */
function saveRegister(frame: Frame, spi: number, reg: Reg, size: AccessSize, allowPtrLeaks: boolean): void {
  if (size === 8) {
    frame.writtenSlots.add(spi);
    setSlot(frame, spi, spillSlot(reg));
    return;
  }
  const types = scrubbed(frame.stack[spi]!.types);
  for (let i = 7; i >= 8 - size; i--) types[i] = STACK_SPILL;
  // mark_stack_slot_misc
  for (let i = 0; i < 8 - size; i++) {
    const keeps = types[i] === STACK_ZERO || (allowPtrLeaks && types[i] === STACK_INVALID);
    if (!keeps) types[i] = STACK_MISC;
  }
  setSlot(frame, spi, { types, spilled: reg });
}

export function writeStack(env: Env, pointer: Reg, off: number, access: Access): void {
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
  const before = frame.stack[spi]!;
  if (!env.allowPtrLeaks && size !== 8 && isSpill(before) && before.spilled.type !== 'scalar') {
    reject('EACCES', 'attempt to corrupt spilled pointer on stack');
  }
  noteStackUse(env, frame.subprog, off);
  destroyDynptrs(env, frame, spi);
  if (env.isBpfCapable && reg !== undefined && isStart && reg.type === 'scalar') {
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
    saveRegister(frame, spi, spilled, size, env.allowPtrLeaks);
    noteStackAccess(env, pointer.frame, spi);
  } else if (env.isBpfCapable && reg === undefined && isStart && imm !== undefined) {
    saveRegister(frame, spi, scalarConst(BigInt(imm)), size, env.allowPtrLeaks);
    noteStackAccess(env, pointer.frame, spi);
  } else if (reg?.isPointer) {
    if (size !== 8) reject('EACCES', 'invalid size of register spill');
    if (frame !== env.frame && reg.type === 'fp') {
      reject('EINVAL', 'cannot spill pointers to stack into stack frame of the caller');
    }
    saveRegister(frame, spi, reg, 8, env.allowPtrLeaks);
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
      slot.object !== undefined || isSpill(slot) || slot.types.includes(STACK_SPILL)
        ? scrubbed(slot.types)
        : slot.types.slice();
    for (let i = 0; i < size; i++) types[byteOf(off + i)] = type;
    if (size === 8) frame.writtenSlots.add(spi);
    setSlot(frame, spi, plainSlot(types));
  }
}

function noteStackAccess(env: Env, frame: number, spi: number): void {
  const node = env.keepNode();
  node.stackFrame = frame;
  node.stackSlot = spi;
}

/** check_stack_write_var_off: every byte that may be written is no longer what it was. */
function writeStackVariable(env: Env, pointer: Reg, off: number, access: Access): void {
  const { size, value, imm } = access;
  const frame = env.state.frames[pointer.frame]!;
  const min = Number(pointer.smin) + off;
  const end = Number(pointer.smax) + off + size;
  const isZero = imm === 0 || (value >= 0 && env.frame.regs[value]!.isNull);
  let usedZero = false;
  noteStackUse(env, frame.subprog, min);
  for (let spi = slotOf(end - 1); spi <= slotOf(min); spi++) destroyDynptrs(env, frame, spi);
  for (let spi = slotOf(end - 1); spi <= slotOf(min); spi++) {
    const slot = frame.stack[spi]!;
    const spilledZero = isZero && isSpill(slot) && slot.spilled.isNull;
    const types = slot.types.slice();
    let isChanged = false;
    for (let i = 0; i < 8; i++) {
      const at = -(spi * 8) - 1 - i;
      if (at < min || at >= end) continue;
      if (!env.allowPtrLeaks && types[i] !== STACK_MISC && types[i] !== STACK_ZERO) {
        reject('EINVAL', `spilled ptr in range of var-offset stack write; insn ${env.insn}, ptr off: ${at}`);
      }
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

export function readStack(env: Env, pointer: Reg, off: number, access: Access): void {
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
  if ((type === STACK_INVALID && !env.allowUninitStack) || type >= STACK_DYNPTR) {
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
  noteStackUse(env, frame.subprog, off);
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
    if (value < 0) {
      if (isPointerValue(env, spilled)) reject('EACCES', `leaking pointer from stack off ${off}`);
      return;
    }
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
  const frame = env.state.frames[pointer.frame]!;
  setLoaded(env, access, stackBytes(frame, min, end));
  noteStackUse(env, frame.subprog, min);
}

/** check_stack_range_initialized for [min, end); `clobber` where the helper writes. */
export function checkStackInitialized(
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
  if (clobber) {
    for (let spi = slotOf(end - 1); spi <= slotOf(min); spi++) {
      if (frame.stack[spi]!.object?.is === 'dynptr') {
        const at = Math.max(min, -(spi + 1) * 8);
        reject('EACCES', `potential write to dynptr at off=${at} disallowed`);
      }
    }
  }
  if (isHelper && !pointer.isConst && !env.bypassSpecV1) {
    reject(
      'EACCES',
      `R${regno} indirect variable offset stack access prohibited for !root, var_off=${tnumString(pointer.varOff)}`,
    );
  }
  for (let spi = slotOf(min); spi >= slotOf(end - 1); spi--) {
    const slot = frame.stack[spi]!;
    const hidesPointer = !env.allowPtrLeaks && isSpill(slot) && slot.spilled.type !== 'scalar';
    let isTouched = false;
    let types: readonly number[] = slot.types;
    for (let i = 7; i >= 0; i--) {
      const at = -(spi * 8) - 1 - i;
      if (at < min || at >= end) continue;
      if (
        (types[i] === STACK_INVALID && !env.allowUninitStack) ||
        types[i]! >= STACK_DYNPTR ||
        (hidesPointer && types[i] === STACK_SPILL)
      ) {
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
    if (count === 8) frame.writtenSlots.add(spi);
    setSlot(frame, spi, plainSlot(types));
  }
}
