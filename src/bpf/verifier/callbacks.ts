/** Functions of the program that a helper or kfunc calls (push_callback_call and set_*_callback_state of kernel/bpf/verifier.c). */
import type { CallMeta } from './call-meta.ts';
import { type Env, pushState } from './env.ts';
import { reject } from './error.ts';
import { enterFrame } from './funcs.ts';
import { graphNode } from './graph.ts';
import { markPrecise } from './precision.ts';
import { NOT_INIT, pointer, type Reg, UNKNOWN } from './reg.ts';
import { Frame, VerifierState } from './state.ts';

function mapPointer(type: 'map_ptr' | 'map_key' | 'map_value', map: number): Reg {
  const reg = pointer(type);
  reg.map = map;
  return reg;
}

function structPointer(env: Env, name: string): Reg {
  const reg = pointer('ptr_');
  reg.btf = env.targetBtf;
  reg.btfId = env.targetBtf?.btf.byName(name, 'STRUCT') ?? 0;
  return reg;
}

/** What the callback of a helper gets. */
function setArguments(env: Env, helper: string, caller: Frame, callee: Frame, meta: CallMeta): void {
  switch (helper) {
    case 'loop':
      callee.regs[1] = UNKNOWN;
      callee.regs[2] = caller.regs[3]!;
      break;
    case 'for_each_map_elem':
      callee.regs[1] = caller.regs[1]!;
      callee.regs[2] = mapPointer('map_key', meta.map);
      callee.regs[3] = mapPointer('map_value', meta.map);
      callee.regs[4] = caller.regs[3]!;
      break;
    case 'find_vma':
      callee.regs[1] = caller.regs[1]!;
      callee.regs[2] = structPointer(env, 'vm_area_struct');
      callee.regs[3] = caller.regs[4]!;
      break;
    case 'user_ringbuf_drain': {
      const reg = pointer('dynptr_ptr');
      reg.dynptr = 'local';
      reg.dynptrId = env.newId();
      callee.regs[1] = reg;
      callee.regs[2] = caller.regs[3]!;
      break;
    }
    case 'rbtree_add_impl':
      callee.regs[1] = graphNode(env, meta.root!, true);
      callee.regs[2] = graphNode(env, meta.root!, true);
      break;
    case 'timer_set_callback':
    case 'wq_set_callback_impl': {
      const { map } = caller.regs[1]!;
      callee.regs[1] = mapPointer('map_ptr', map);
      callee.regs[2] = mapPointer('map_key', map);
      callee.regs[3] = mapPointer('map_value', map);
      callee.callbackRange = [0, 0];
      break;
    }
    default:
  }
}

/** Called at once, some rounds, or later and apart (timers, workqueues): then the state starts anew. */
export function enterCallback(env: Env, helper: string, meta: CallMeta): void {
  const start = env.subprogs[meta.subprog]?.start;
  if (start === undefined) reject('EINVAL', 'callback is not a function of the program');
  const isAsync = helper === 'timer_set_callback' || helper === 'wq_set_callback_impl';
  env.callbackSubprogs.add(meta.subprog);
  if (isAsync) {
    env.asyncSubprogs.add(meta.subprog);
    // A world of its own: no locks, references or frames of the program.
    const state = new VerifierState();
    state.isSleepable = helper === 'wq_set_callback_impl';
    const callee = new Frame(-1, 0, meta.subprog, true);
    setArguments(env, helper, env.frame, callee, meta);
    callee.isAsync = true;
    callee.asyncEntries = env.frame.asyncEntries + 1;
    callee.callbackOf = helper;
    state.frames.push(callee);
    env.pending.push({ state, insn: start });
    return;
  }
  if (helper === 'loop') {
    const rounds = env.frame.regs[1]!;
    markPrecise(env, 1);
    if (rounds.type === 'scalar' && BigInt(env.frame.callbackRounds) >= rounds.umax) {
      env.frame.callbackRounds = 0;
      return;
    }
  }
  const inside = pushState(env, start);
  inside.callbackDepth++;
  const caller = inside.frame;
  const callee = enterFrame(env, inside, env.insn, start, true);
  callee.callbackOf = helper;
  callee.writtenRegs = 0b111111;
  for (let i = 0; i <= 5; i++) callee.regs[i] = NOT_INIT;
  setArguments(env, helper, caller, callee, meta);
  caller.callbackRounds++;
  env.frame.callbackRounds = 0;
}
