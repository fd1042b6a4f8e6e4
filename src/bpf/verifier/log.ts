/** How states are written in the log (kernel/bpf/log.c: print_verifier_state). */

import { structName } from './btf-types.ts';
import type { Env } from './env.ts';
import { isPacket, NOT_INIT, type Reg } from './reg.ts';
import { S32_MAX, S32_MIN, S64_MAX, S64_MIN, U32_MAX } from './reg-bounds.ts';
import { F_NON_OWN } from './reg-type.ts';
import {
  type Frame,
  isSpill,
  STACK_INVALID,
  STACK_MISC,
  STACK_SPILL,
  STACK_ZERO,
  type StackSlot,
} from './state.ts';
import { s64, tnumString, U64_MAX } from './tnum.ts';

/** What is written in decimal: 16 bits, signed or unsigned (SNUM_MAX_DECIMAL, UNUM_MAX_DECIMAL). */
const SIGNED_MAX = 0x7fffn;
const UNSIGNED_MAX = 0xffffn;

/** Small numbers in decimal, others in hexadecimal. */
function number(value: bigint, bits = 64, unsigned = false): string {
  if (unsigned ? value <= UNSIGNED_MAX : value <= SIGNED_MAX && value >= -SIGNED_MAX - 1n) return `${value}`;
  return `0x${BigInt.asUintN(bits, value).toString(16)}`;
}

/** Ranges that say something; equal ones together: `smin=umin=1,smax=umax=255`. */
function ranges(reg: Reg): string[] {
  const all: [string, bigint, boolean][] = [
    ['smin', reg.smin, reg.smin === S64_MIN],
    ['smax', reg.smax, reg.smax === S64_MAX],
    ['umin', reg.umin, reg.umin === 0n],
    ['umax', reg.umax, reg.umax === U64_MAX],
    ['smin32', BigInt(reg.s32min), reg.s32min === S32_MIN],
    ['smax32', BigInt(reg.s32max), reg.s32max === S32_MAX],
    ['umin32', BigInt(reg.u32min), reg.u32min === 0],
    ['umax32', BigInt(reg.u32max), reg.u32max === U32_MAX],
  ];
  const left = all.filter(([, , omitted]) => !omitted);
  const texts: string[] = [];
  while (left.length > 0) {
    const value = left[0]![1];
    const names: string[] = [];
    for (let i = 0; i < left.length; ) {
      if (left[i]![1] === value) names.push(left.splice(i, 1)[0]![0]);
      else i++;
    }
    texts.push(
      `${names.join('=')}=${number(value, names[0]!.endsWith('32') ? 32 : 64, names[0]!.startsWith('u'))}`,
    );
  }
  if (reg.varOff.mask !== 0n && reg.varOff.mask !== U64_MAX) texts.push(`var_off=${tnumString(reg.varOff)}`);
  return texts;
}

/** print_reg_state */
export function regString(env: Env, reg: Reg, frameno: number): string {
  if (reg.type === 'scalar' && reg.isConst) return number(s64(reg.varOff.value));
  if (reg.type === 'fp') {
    const frame = reg.frame === frameno ? '' : `[${reg.frame}]`;
    if (reg.isConst) return `fp${frame}${number(s64(reg.varOff.value) + BigInt(reg.off))}`;
  }
  if (reg.type === 'arena') return reg.typeName;
  const parts: string[] = [];
  if (reg.type === 'dynptr_ptr') parts.push(`id=${reg.dynptrId}`);
  if (reg.id !== 0) {
    const sign = reg.off < 0 ? '' : '+';
    parts.push(reg.addConst ? `id=${reg.id}${sign}${reg.off}` : `id=${reg.id}`);
  }
  if (reg.refObjId !== 0) parts.push(`ref_obj_id=${reg.refObjId}`);
  if ((reg.flags & F_NON_OWN) !== 0) parts.push('non_own_ref');
  const spec = env.maps[reg.map];
  if (spec !== undefined) {
    if (spec.name !== '') parts.push(`map=${spec.name}`);
    parts.push(`ks=${spec.keySize}`, `vs=${spec.valueSize}`);
  }
  if (reg.type !== 'scalar' && reg.off !== 0) parts.push(`off=${number(BigInt(reg.off))}`);
  if (isPacket(reg)) parts.push(`r=${number(BigInt(reg.range))}`);
  if (reg.type === 'mem') parts.push(`sz=${number(BigInt(reg.memSize), 64, true)}`);
  if (reg.type === 'dynptr_ptr') parts.push(`type=${reg.dynptr}`);
  if (!reg.isConst) parts.push(...ranges(reg));
  else if (reg.varOff.value !== 0n) parts.push(`imm=${number(s64(reg.varOff.value))}`);
  return `${reg.typeName}${reg.type === 'ptr_' ? structName(reg) : ''}(${parts.join(',')})`;
}

const TYPE_CHARS: Readonly<Record<number, string>> = {
  [STACK_INVALID]: '?',
  [STACK_SPILL]: 'r',
  [STACK_MISC]: 'm',
  [STACK_ZERO]: '0',
};

/** `fp-16=dynptr_ringbuf(id=1,ref_id=2)`, `fp-8=iter_num(ref_id=1,state=active,depth=0)`: at the slot of the lowest address. */
function objectString(slot: NonNullable<StackSlot['object']>): string | undefined {
  if (!slot.isFirst) return undefined;
  if (slot.is === 'iter')
    return `iter_${slot.name}(ref_id=${slot.refObjId},state=${slot.state},depth=${slot.depth})`;
  const ref = slot.refObjId === 0 ? '' : `,ref_id=${slot.refObjId}`;
  return `dynptr_${slot.kind}(id=${slot.id}${ref})`;
}

function slotString(env: Env, slot: StackSlot, frameno: number): string {
  if (isSpill(slot)) {
    const upper = slot.types.slice(0, 7).filter((type) => type !== STACK_SPILL);
    return upper.map((type) => TYPE_CHARS[type]).join('') + regString(env, slot.spilled, frameno);
  }
  return slot.types.map((type) => TYPE_CHARS[type]).join('');
}

export interface StateStringOptions {
  /** Only these registers and slots (bit masks). */
  readonly regs?: number;
  readonly slots?: bigint;
  readonly marks?: boolean;
}

/** `R1=ctx() R10=fp0 fp-8=mmmmmmmm`, of one frame. */
export function stateString(env: Env, frame: Frame, options: StateStringOptions = {}): string {
  const { regs = -1, slots = -1n, marks = true } = options;
  const texts: string[] = [];
  for (const [i, reg] of frame.regs.entries()) {
    if (reg === NOT_INIT || reg.type === 'not_init' || (regs & (1 << i)) === 0) continue;
    const written = marks && (frame.writtenRegs & (1 << i)) !== 0 ? '_w' : '';
    texts.push(`R${i}${written}=${regString(env, reg, frame.frameno)}`);
  }
  for (const [spi, slot] of frame.stack.entries()) {
    if (slot.types.every((type) => type === STACK_INVALID) || ((slots >> BigInt(spi)) & 1n) === 0n) continue;
    const written = marks && frame.writtenSlots.has(spi) ? '_w' : '';
    if (slot.object !== undefined) {
      const text = objectString(slot.object);
      if (text !== undefined) texts.push(`fp${-(spi + 1) * 8}${written}=${text}`);
      continue;
    }
    texts.push(`fp${-(spi + 1) * 8}${written}=${slotString(env, slot, frame.frameno)}`);
  }
  if (env.state.refs.length > 0) texts.push(`refs=${env.state.refs.map(({ id }) => id).join(',')}`);
  if (frame.isCallback) texts.push('cb');
  if (frame.isAsync) texts.push('async_cb');
  const prefix = frame.frameno > 0 ? `frame${frame.frameno}: ` : '';
  return prefix + texts.join(' ');
}
