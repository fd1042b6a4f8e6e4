/** Dynptrs on the stack: two slots each (mark_stack_slots_dynptr, destroy_if_dynptr_stack_slot of kernel/bpf/verifier.c). */
import type { Env } from './env.ts';
import { reject } from './error.ts';
import { NOT_INIT } from './reg.ts';
import { invalidReg } from './reg-access.ts';
import { type DynptrSlot, type Frame, mapRegs, SLOT_INVALID, STACK_DYNPTR, type StackSlot } from './state.ts';

const DYNPTR_TYPES: readonly number[] = new Array<number>(8).fill(STACK_DYNPTR);

export const dynptrSlot = (object: DynptrSlot): StackSlot => ({
  types: DYNPTR_TYPES,
  spilled: NOT_INIT,
  object,
});

/** Slices of a dynptr are gone with it. */
export function invalidateSlices(env: Env, id: number): void {
  const gone = invalidReg(env);
  mapRegs(env.state, (reg) => (reg.type === 'mem' && reg.dynptrId === id ? gone : reg));
}

/** Before slot `spi` is overwritten: a dynptr that it is part of is gone. One that holds a resource may not go. */
export function destroyDynptrs(env: Env, frame: Frame, spi: number): void {
  const object = frame.stack[spi]?.object;
  if (object?.is !== 'dynptr') return;
  const first = object.isFirst ? spi : spi + 1;
  if (object.kind === 'ringbuf') reject('EINVAL', 'cannot overwrite referenced dynptr');
  for (const one of [first, first - 1]) {
    frame.stack[one] = SLOT_INVALID;
    frame.writtenSlots.add(one);
  }
  invalidateSlices(env, object.id);
}
