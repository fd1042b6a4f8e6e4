/** Dynptr arguments (process_dynptr_func, mark_stack_slots_dynptr, unmark_stack_slots_dynptr of kernel/bpf/verifier.c). */
import type { CallMeta } from './call-meta.ts';
import { destroyDynptrs, dynptrSlot, invalidateSlices } from './dynptr-slots.ts';
import type { Env } from './env.ts';
import { reject } from './error.ts';
import { markSlotRead } from './liveness.ts';
import { acquireReference, releaseReference } from './refs.ts';
import type { Reg } from './reg.ts';
import type { DynptrKind } from './reg-type.ts';
import { stackBounds } from './stack.ts';
import { type DynptrSlot, type Frame, SLOT_INVALID } from './state.ts';

export type DynptrUse = 'init' | 'uninit' | 'release';

/** stack_slot_obj_get_spi: the slot of the lowest address; undefined where the offset is no place for `slots` slots. */
export function objectSlot(reg: Reg, kind: string, slots: number): number {
  if (!reg.isConst) reject('EINVAL', `${kind} has to be at a constant offset`);
  const off = reg.off + Number(reg.smin);
  const spi = (-off - 1) >> 3;
  if (off % 8 !== 0 || spi + 1 < slots) reject('EINVAL', `cannot pass in ${kind} at an offset=${off}`);
  return spi;
}

/** The dynptr a register points to, where it is initialised. */
export function dynptrAt(env: Env, reg: Reg): DynptrSlot | undefined {
  if (reg.type === 'dynptr_ptr') {
    return {
      is: 'dynptr',
      kind: reg.dynptr ?? 'local',
      isFirst: true,
      id: reg.dynptrId,
      refObjId: reg.refObjId,
    };
  }
  const spi = objectSlot(reg, 'dynptr', 2);
  const { stack } = env.state.frames[reg.frame]!;
  const first = stack[spi]?.object;
  const second = stack[spi - 1]?.object;
  if (first?.is !== 'dynptr' || !first.isFirst || second?.is !== 'dynptr' || second.id !== first.id)
    return undefined;
  return first;
}

/** One argument. `kind` is what an uninitialised one becomes; a clone shares its origin's reference. */
export function checkDynptrArg(
  env: Env,
  regno: number,
  use: DynptrUse,
  meta: CallMeta,
  kind: DynptrKind = 'local',
  cloneOf?: DynptrSlot,
): void {
  const reg = env.frame.regs[regno]!;
  if (reg.type !== 'fp' && reg.type !== 'dynptr_ptr') {
    reject('EINVAL', `arg#${regno - 1} expected pointer to stack or const struct bpf_dynptr`);
  }
  if (use === 'uninit') {
    if (reg.type === 'dynptr_ptr') reject('EINVAL', 'Dynptr has to be an uninitialized dynptr');
    try {
      objectSlot(reg, 'dynptr', 2);
    } catch (error) {
      if (error instanceof Error) error.message += '\nDynptr has to be an uninitialized dynptr';
      throw error;
    }
    markDynptr(env, reg, regno, kind, cloneOf);
    return;
  }
  if (use === 'release') {
    if (reg.type === 'dynptr_ptr') reject('EINVAL', 'cannot release unowned const bpf_dynptr');
    const spi = objectSlot(reg, 'dynptr', 2);
    const object = env.state.frames[reg.frame]!.stack[spi]?.object;
    if (object === undefined || object.refObjId === 0)
      reject('EINVAL', `arg ${regno} is an unacquired reference`);
  }
  const found = dynptrAt(env, reg);
  if (found === undefined) reject('EINVAL', `Expected an initialized dynptr as arg #${regno - 1}`);
  if (use === 'release' && found.kind !== 'ringbuf')
    reject('EINVAL', `Expected a dynptr of type ringbuf as arg #${regno - 1}`);
  if (reg.type === 'fp') {
    const spi = objectSlot(reg, 'dynptr', 2);
    markSlotRead(env.state, reg.frame, spi);
    markSlotRead(env.state, reg.frame, spi - 1);
  }
  meta.dynptrReg = regno;
}

function markDynptr(
  env: Env,
  reg: Reg,
  regno: number,
  kind: DynptrKind,
  cloneOf: DynptrSlot | undefined,
): void {
  stackBounds(env, reg, regno, reg.off, 8, false, true);
  stackBounds(env, reg, regno, reg.off + 8, 8, false, true);
  const frame = env.state.frames[reg.frame]!;
  const spi = objectSlot(reg, 'dynptr', 2);
  destroyDynptrs(env, frame, spi);
  destroyDynptrs(env, frame, spi - 1);
  const id = env.newId();
  const refObjId = kind === 'ringbuf' ? (cloneOf?.refObjId ?? acquireReference(env)) : 0;
  for (const isFirst of [true, false]) {
    const at = isFirst ? spi : spi - 1;
    frame.stack[at] = dynptrSlot({ is: 'dynptr', kind, isFirst, id, refObjId });
    frame.writtenSlots.add(at);
  }
}

function invalidate(frame: Frame, spi: number): void {
  for (const at of [spi, spi - 1]) {
    frame.stack[at] = SLOT_INVALID;
    frame.writtenSlots.add(at);
  }
}

/** unmark_stack_slots_dynptr: of a released dynptr; its clones go too. */
export function releaseDynptr(env: Env, regno: number): void {
  const reg = env.frame.regs[regno]!;
  const spi = objectSlot(reg, 'dynptr', 2);
  const frame = env.state.frames[reg.frame]!;
  const object = frame.stack[spi]!.object as DynptrSlot;
  if (object.refObjId === 0) {
    invalidate(frame, spi);
    invalidateSlices(env, object.id);
    return;
  }
  releaseReference(env, object.refObjId);
  for (const [at, slot] of frame.stack.entries()) {
    const other = slot.object;
    if (other?.is !== 'dynptr' || !other.isFirst || other.refObjId !== object.refObjId) continue;
    invalidate(frame, at);
    invalidateSlices(env, other.id);
  }
}
