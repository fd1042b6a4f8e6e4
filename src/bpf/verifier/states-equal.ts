/** Whether a state that was found safe covers another one (states_equal, regsafe, stacksafe of kernel/bpf/verifier.c). */
import type { Env } from './env.ts';
import { type Reg, UNKNOWN } from './reg.ts';
import {
  type Frame,
  isSpill,
  STACK_INVALID,
  STACK_MISC,
  STACK_SPILL,
  STACK_ZERO,
  type StackSlot,
  type VerifierState,
} from './state.ts';
import { tnumIn } from './tnum.ts';

/** How closely states have to agree (enum exact_level). */
type Level = 'not_exact' | 'exact' | 'range_within';

/** check_ids: ids may differ between the states as long as the same ones belong together. */
export class IdMap {
  private readonly olds: number[] = [];
  private readonly news: number[] = [];
  private next = -1;

  check(old: number, now: number): boolean {
    if ((old === 0) !== (now === 0)) return false;
    if (old === 0) return true;
    const { olds, news } = this;
    for (let i = 0; i < olds.length; i++) {
      if (olds[i] === old) return news[i] === now;
      if (news[i] === now) return false;
    }
    olds.push(old);
    news.push(now);
    return true;
  }

  /** Scalars without an id are unique: each gets one of its own. */
  checkScalar(old: number, now: number): boolean {
    if (old === 0 && now === 0) return true;
    return this.check(old === 0 ? this.next-- : old, now === 0 ? this.next-- : now);
  }
}

function rangeWithin(old: Reg, now: Reg): boolean {
  return (
    old.umin <= now.umin &&
    old.umax >= now.umax &&
    old.smin <= now.smin &&
    old.smax >= now.smax &&
    old.u32min <= now.u32min &&
    old.u32max >= now.u32max &&
    old.s32min <= now.s32min &&
    old.s32max >= now.s32max
  );
}

export const sameRange = (old: Reg, now: Reg): boolean =>
  rangeWithin(old, now) &&
  rangeWithin(now, old) &&
  old.varOff.value === now.varOff.value &&
  old.varOff.mask === now.varOff.mask;

/** Everything but ranges and ids. */
const sameKind = (old: Reg, now: Reg): boolean =>
  old.type === now.type &&
  old.nullable === now.nullable &&
  old.ringbuf === now.ringbuf &&
  old.off === now.off &&
  old.map === now.map &&
  old.memSize === now.memSize &&
  old.frame === now.frame &&
  old.flags === now.flags &&
  old.range === now.range &&
  old.btfId === now.btfId &&
  old.btf === now.btf &&
  old.dynptr === now.dynptr;

export function sameExactly(old: Reg, now: Reg, ids: IdMap): boolean {
  return (
    sameKind(old, now) &&
    old.addConst === now.addConst &&
    sameRange(old, now) &&
    ids.check(old.id, now.id) &&
    ids.check(old.refObjId, now.refObjId)
  );
}

/** regsafe: whatever is safe with `old` is safe with `now`. `isPrecise` and `isRead` are the old state's marks. */
export function regSafe(
  old: Reg,
  now: Reg,
  ids: IdMap,
  level: Level,
  isRead: boolean,
  isPrecise: boolean,
  exploreAll: boolean,
): boolean {
  // Registers are not changed: the same object is the same, but for ids, of which other registers may know something else.
  if (old === now && (old.id | old.refObjId | old.dynptrId) === 0) return true;
  if (level === 'exact') return sameExactly(old, now, ids);
  const lax = level === 'not_exact';
  if (lax && !isRead) return true;
  if (old.type === 'not_init') return lax || now.type === 'not_init';
  if (old.type !== now.type || old.nullable !== now.nullable) return false;
  switch (old.type) {
    case 'scalar':
      if (exploreAll) return sameExactly(old, now, ids);
      if (lax && !isPrecise) return true;
      if (old.addConst !== now.addConst || (old.addConst && old.off !== now.off)) return false;
      if (old === now && old.id === 0) return true;
      return rangeWithin(old, now) && tnumIn(old.varOff, now.varOff) && ids.checkScalar(old.id, now.id);
    case 'pkt':
    case 'pkt_meta':
      if (old.range < 0 || now.range < 0 ? old.range !== now.range : old.range > now.range) return false;
      return (
        old.off === now.off &&
        ids.check(old.id, now.id) &&
        rangeWithin(old, now) &&
        tnumIn(old.varOff, now.varOff)
      );
    case 'arena':
      return true;
    case 'map_key':
    case 'map_value':
    case 'mem':
    case 'tp_buffer':
    case 'buf':
      return (
        sameKind(old, now) &&
        rangeWithin(old, now) &&
        tnumIn(old.varOff, now.varOff) &&
        ids.check(old.id, now.id) &&
        ids.check(old.refObjId, now.refObjId) &&
        ids.check(old.dynptrId, now.dynptrId)
      );
    default:
      return sameExactly(old, now, ids);
  }
}

/** A spilled 64-bit scalar, or eight bytes of anything, as the register a load of them gives (scalar_reg_for_stack). */
export function scalarOf(slot: StackSlot, allowUninit: boolean): Reg | undefined {
  if (slot.types[0] === STACK_SPILL && slot.types[7] === STACK_SPILL) {
    return slot.spilled.type === 'scalar' ? slot.spilled : undefined;
  }
  const isMisc = slot.types.every((type) => type === STACK_MISC || (allowUninit && type === STACK_INVALID));
  return isMisc ? UNKNOWN : undefined;
}

/** Dynptrs and iterators: how far an iterator came does not matter. */
export function sameObject(
  old: NonNullable<StackSlot['object']>,
  now: StackSlot['object'],
  ids: IdMap,
): boolean {
  if (now === undefined || !ids.check(old.refObjId, now.refObjId) || old.isFirst !== now.isFirst)
    return false;
  if (old.is === 'dynptr') return now.is === 'dynptr' && old.kind === now.kind && ids.check(old.id, now.id);
  return now.is === 'iter' && old.name === now.name && old.state === now.state && old.trust === now.trust;
}

function slotSafe(
  env: Env,
  old: StackSlot,
  now: StackSlot | undefined,
  ids: IdMap,
  level: Level,
  isPrecise: boolean,
): boolean {
  if (old === now && old.object === undefined && old.spilled.id === 0 && old.spilled.refObjId === 0)
    return true;
  if (level !== 'not_exact') {
    for (let i = 0; i < 8; i++) if (now === undefined || old.types[i] !== now.types[i]) return false;
  }
  const oldScalar = scalarOf(old, env.allowUninitStack);
  const nowScalar = now === undefined ? undefined : scalarOf(now, env.allowUninitStack);
  const isAllInvalid = old.types.every((type) => type === STACK_INVALID);
  if (!isAllInvalid && oldScalar !== undefined && nowScalar !== undefined) {
    return regSafe(oldScalar, nowScalar, ids, level, true, isPrecise && isSpill(old), env.exploreAluLimits);
  }
  for (let i = 0; i < 8; i++) {
    const type = old.types[i]!;
    if (type === STACK_INVALID || (env.allowUninitStack && type === STACK_MISC)) continue;
    if (now === undefined) return false;
    const nowType = now.types[i]!;
    if (type === STACK_MISC && nowType === STACK_ZERO) continue;
    if (type !== nowType) return false;
  }
  if (old.object !== undefined && !sameObject(old.object, now?.object, ids)) return false;
  if (!isSpill(old) || now === undefined) return true;
  return regSafe(old.spilled, now.spilled, ids, level, true, isPrecise, env.exploreAluLimits);
}

function frameSafe(env: Env, old: Frame, now: Frame, ids: IdMap, level: Level): boolean {
  if (old.callbackRounds > now.callbackRounds) return false;
  for (let i = 0; i < 10; i++) {
    const bit = 1 << i;
    const isRead = (old.readRegs & bit) !== 0;
    if (
      !regSafe(
        old.regs[i]!,
        now.regs[i]!,
        ids,
        level,
        isRead,
        (old.preciseRegs & bit) !== 0,
        env.exploreAluLimits,
      )
    )
      return false;
  }
  for (let spi = 0; spi < old.stack.length; spi++) {
    if (level === 'not_exact' && !old.readSlots.has(spi)) continue;
    const isPrecise = old.preciseSlots.has(spi);
    if (!slotSafe(env, old.stack[spi]!, now.stack[spi], ids, level, isPrecise)) return false;
  }
  return true;
}

export function sameCallsites(old: VerifierState, now: VerifierState): boolean {
  if (old.frames.length !== now.frames.length) return false;
  return old.frames.every((frame, i) => frame.callsite === now.frames[i]!.callsite);
}

export function statesEqual(env: Env, old: VerifierState, now: VerifierState, level: Level): boolean {
  if (!sameCallsites(old, now) || old.refs.length !== now.refs.length) return false;
  if (old.speculative && !now.speculative) return false;
  if (
    old.rcuLock !== now.rcuLock ||
    old.preemptLocks !== now.preemptLocks ||
    old.isSleepable !== now.isSleepable
  )
    return false;
  const ids = new IdMap();
  if (old.lock?.key !== now.lock?.key || !ids.check(old.lock?.id ?? 0, now.lock?.id ?? 0)) return false;
  if (
    !old.refs.every((ref, i) => ids.check(ref.id, now.refs[i]!.id) && ref.callback === now.refs[i]!.callback)
  )
    return false;
  return old.frames.every((frame, i) => frameSafe(env, frame, now.frames[i]!, ids, level));
}
