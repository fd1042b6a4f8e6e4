/** The end of a function and of the program: leaks, and what may be returned (check_return_code of kernel/bpf/verifier.c). */
import { returnRange } from '../prog-types/index.ts';
import { attachedProto } from './btf-ctx.ts';
import type { Env } from './env.ts';
import { reject } from './error.ts';
import { invalidScalar, isWithin, leaveFunction } from './funcs.ts';
import { lsmRange } from './lsm.ts';
import { markPrecise } from './precision.ts';
import { isPointerValue, readReg } from './reg-access.ts';

/** Resources that the ending function may not keep: all at the program's end, those of its own in a callback. */
function checkLeaks(env: Env, isThrow: boolean): void {
  const { state } = env;
  const { frame } = state;
  if (!isThrow && state.curframe > 0 && !frame.isCallback) return;
  const inCallback = frame.isCallback && !frame.isAsync;
  const left = state.refs.filter((ref) => isThrow || !inCallback || ref.callback === frame.frameno);
  if (left.length === 0) return;
  reject('EINVAL', left.map(({ id, insn }) => `Unreleased reference id=${id} alloc_insn=${insn}`).join('\n'));
}

function checkLocks(env: Env): void {
  const { state } = env;
  const { frame } = state;
  if (state.curframe > 0 && !frame.isCallback) return;
  if (frame.callbackOf.startsWith('rbtree')) return;
  if (state.lock !== undefined) reject('EINVAL', 'bpf_spin_unlock is missing');
  if (state.rcuLock) reject('EINVAL', 'bpf_rcu_read_unlock is missing');
}

/** BPF_EXIT; gives the next instruction, or undefined at the end of a path. */
export function checkExit(env: Env): number | undefined {
  const { state } = env;
  checkLocks(env);
  if (state.preemptLocks > 0 && state.curframe === 0) {
    const are = state.preemptLocks === 1 ? ' is' : '(s) are';
    reject('EINVAL', `${state.preemptLocks} bpf_preempt_enable${are} missing`);
  }
  checkLeaks(env, false);
  if (state.curframe > 0) return leaveFunction(env);
  checkReturn(env, 0);
  return undefined;
}

/** bpf_throw: the whole program ends. */
export function checkThrow(env: Env): undefined {
  const { state } = env;
  if (env.exceptionCallback < 0) checkReturn(env, 1, true);
  if (state.lock !== undefined) reject('EINVAL', 'bpf_throw cannot be used inside bpf_spin_lock-ed region');
  if (state.rcuLock) reject('EINVAL', 'bpf_throw cannot be used inside bpf_rcu_read_lock-ed region');
  if (state.preemptLocks > 0)
    reject('EINVAL', 'bpf_throw cannot be used inside bpf_preempt_disable-ed region');
  checkLeaks(env, true);
  return undefined;
}

/** Values a program may return; undefined: any. */
function rangeOf(env: Env): readonly [number, number] | undefined {
  const { type, attachType, targetBtf } = env.input;
  if (type === 'lsm') return lsmRange(env.input, attachedProto(env.input)?.proto);
  if (type === 'tracing' && attachType === undefined) return undefined;
  if (type === 'raw_tracepoint' || targetBtf === null) return undefined;
  return returnRange(type, attachType);
}

function isVoidTarget(env: Env): boolean {
  const { type, targetBtf } = env.input;
  if (type !== 'lsm' && type !== 'struct_ops') return false;
  const found = attachedProto(env.input);
  const proto = found === undefined ? undefined : targetBtf?.type(found.proto);
  return env.input.attachType === 'lsm_mac' && proto?.kind === 'FUNC_PROTO' && proto.type === 0;
}

/** check_return_code */
function checkReturn(env: Env, regno: number, isThrow = false): void {
  const { frame } = env.state;
  // What the exception callback returns is the program's result.
  const isSubprog =
    frame.subprog !== 0 &&
    frame.subprog !== env.exceptionCallback &&
    env.globals.has(frame.subprog) &&
    !isThrow;
  if (!isSubprog && isVoidTarget(env)) return;
  const reg = readReg(env, regno);
  if (isPointerValue(env, reg)) reject('EACCES', `R${regno} leaks addr as return value`);
  let range: readonly [number, number] | undefined;
  let where = 'At program exit';
  if (frame.isAsync && !isThrow) {
    where = 'At async callback return';
    range = [0, 0];
  } else if (isSubprog) {
    if (reg.type !== 'scalar') {
      reject('EINVAL', `At subprogram exit the register R${regno} is not a scalar value (${reg.typeName})`);
    }
    return;
  } else {
    range = rangeOf(env);
  }
  if (range === undefined) return;
  if (reg.type !== 'scalar') {
    reject('EINVAL', `${where} the register R${regno} is not a known value (${reg.typeName})`);
  }
  markPrecise(env, regno);
  const is32 = env.input.type === 'lsm';
  const fits = is32 ? reg.s32min >= range[0] && reg.s32max <= range[1] : isWithin(reg, range);
  if (!fits) reject('EINVAL', invalidScalar(reg, range, where, `R${regno}`));
}
