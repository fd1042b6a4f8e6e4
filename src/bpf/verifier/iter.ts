/** Open-coded iterators (process_iter_arg, process_iter_next_call of kernel/bpf/verifier.c). */
import type { KernelKfunc } from '../helpers/kfunc.ts';
import { objectSlot } from './dynptr.ts';
import { destroyDynptrs } from './dynptr-slots.ts';
import { type Env, pushState } from './env.ts';
import { reject } from './error.ts';
import { markSlotRead } from './liveness.ts';
import { findPreviousEntry, widenScalars } from './prune.ts';
import { acquireReference, releaseReference } from './refs.ts';
import { NOT_INIT, ZERO } from './reg.ts';
import { stackBounds } from './stack.ts';
import { type IterSlot, SLOT_INVALID, STACK_ITER, type StackSlot, type VerifierState } from './state.ts';

export type IterUse = 'new' | 'next' | 'destroy';

/** Eight-byte slots of each iterator (`struct bpf_iter_*`). */
const SLOTS: Readonly<Record<string, number>> = {
  num: 1,
  bits: 2,
  task: 3,
  css: 3,
  css_task: 1,
  task_vma: 1,
};

const ITER_TYPES: readonly number[] = new Array<number>(8).fill(STACK_ITER);
const slot = (object: IterSlot): StackSlot => ({ types: ITER_TYPES, spilled: NOT_INIT, object });

const inRcu = (env: Env): boolean => env.state.rcuLock || !env.state.isSleepable;

export interface IterPlace {
  frame: number;
  spi: number;
}

export function checkIterArg(
  env: Env,
  kfunc: KernelKfunc,
  regno: number,
  name: string,
  use: IterUse,
): IterPlace {
  const reg = env.frame.regs[regno]!;
  if (reg.type !== 'fp') reject('EINVAL', `arg#${regno - 1} expected pointer to an iterator on stack`);
  const slots = SLOTS[name] ?? 1;
  const spi = objectSlot(reg, `iter_${name}`, slots);
  const frame = env.state.frames[reg.frame]!;
  if (use === 'new') {
    for (let i = 0; i < slots; i++) {
      if (frame.stack[spi - i]?.types.includes(STACK_ITER) === true)
        reject('EINVAL', `expected uninitialized iter_${name} as arg #${regno - 1}`);
    }
    for (let i = 0; i < slots; i++) {
      stackBounds(env, reg, regno, reg.off + i * 8, 8, false, true);
      destroyDynptrs(env, frame, spi - i);
    }
    const refObjId = acquireReference(env);
    const isProtected = kfunc.flags.includes('rcu_protected');
    const trust = !isProtected ? 'trusted' : inRcu(env) ? 'rcu' : 'untrusted';
    for (let i = 0; i < slots; i++) {
      frame.stack[spi - i] = slot({
        is: 'iter',
        name,
        isFirst: i === 0,
        state: 'active',
        depth: 0,
        refObjId: i === 0 ? refObjId : 0,
        trust,
      });
      frame.writtenSlots.add(spi - i);
    }
    return { frame: reg.frame, spi };
  }
  for (let i = 0; i < slots; i++) {
    const object = frame.stack[spi - i]?.object;
    const isWhole = frame.stack[spi - i]?.types.every((type) => type === STACK_ITER) === true;
    if (object?.is === 'iter' && object.trust === 'untrusted')
      reject('EPROTO', `expected an RCU CS when using ${kfunc.name}`);
    if (object?.is !== 'iter' || !isWhole || object.name !== name || object.isFirst !== (i === 0))
      reject('EINVAL', `expected an initialized iter_${name} as arg #${regno - 1}`);
    markSlotRead(env.state, reg.frame, spi - i);
  }
  if (use === 'destroy') {
    const { refObjId } = frame.stack[spi]!.object as IterSlot;
    releaseReference(env, refObjId);
    for (let i = 0; i < slots; i++) {
      frame.stack[spi - i] = SLOT_INVALID;
      frame.writtenSlots.add(spi - i);
    }
  }
  return { frame: reg.frame, spi };
}

function setIter(state: VerifierState, { frame, spi }: IterPlace, change: Partial<IterSlot>): void {
  const { stack } = state.frames[frame]!;
  const old = stack[spi]!;
  stack[spi] = { ...old, object: { ...(old.object as IterSlot), ...change } };
}

/** One more element is followed later; here there was none. */
export function nextIteration(env: Env, place: IterPlace): void {
  const { state } = env;
  const object = state.frames[place.frame]!.stack[place.spi]!.object as IterSlot;
  const result = state.frame.regs[0]!;
  if (object.state === 'active') {
    const previous = findPreviousEntry(env, state.parent?.parent, env.insn);
    const more = pushState(env, env.insn + 1);
    setIter(more, place, { state: 'active', depth: object.depth + 1 });
    if (previous !== undefined) widenScalars(previous, more);
    const some = result.copy();
    some.nullable = false;
    if (some.refObjId === 0) some.id = 0;
    more.frame.regs[0] = some;
  }
  setIter(state, place, { state: 'drained' });
  state.frame.regs[0] = ZERO;
}
