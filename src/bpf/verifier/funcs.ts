/** Functions of the program: calls, and the way back (check_func_call, prepare_func_exit of kernel/bpf/verifier.c). */
import type * as isa from '../isa.ts';
import { calledFunction } from './cfg.ts';
import type { Env } from './env.ts';
import { reject } from './error.ts';
import { checkGlobalArguments } from './globals.ts';
import { markPrecise } from './precision.ts';
import { findPreviousEntry, widenScalars } from './prune.ts';
import { NOT_INIT, type Reg, UNKNOWN } from './reg.ts';
import { forgetPackets, readReg, setReg } from './reg-access.ts';
import { S64_MAX, S64_MIN } from './reg-bounds.ts';
import { Frame, type VerifierState } from './state.ts';

export function enterFrame(
  env: Env,
  state: VerifierState,
  callsite: number,
  start: number,
  isCallback: boolean,
): Frame {
  if (state.isTooDeep) reject('E2BIG', `the call stack of ${state.frames.length + 1} frames is too deep`);
  const subprog = env.subprogAt(start);
  const frame = new Frame(callsite, state.frames.length, subprog, isCallback);
  state.frames.push(frame);
  return frame;
}

/** check_func_call of a function of the program; gives where to go on. */
export function checkFuncCall(env: Env, insn: isa.Insn, at: number): number {
  const caller = env.frame;
  const start = calledFunction(insn, at);
  const subprog = env.subprogAt(start);
  const global = env.globals.get(subprog);
  if (global !== undefined) {
    const { state } = env;
    if (state.lock !== undefined) {
      reject(
        'EINVAL',
        'global function calls are not allowed while holding a lock,\nuse static function instead',
      );
    }
    if (state.preemptLocks > 0) {
      reject(
        'EINVAL',
        'global function calls are not allowed with preemption disabled,\nuse static function instead',
      );
    }
    checkGlobalArguments(env, subprog, global);
    env.log(`Func#${subprog} ('${global.name}') is global and assumed valid.`);
    env.calledGlobals.add(subprog);
    for (let i = 0; i <= 5; i++) setReg(env, i, NOT_INIT);
    setReg(env, 0, UNKNOWN);
    if (env.movesPacket(subprog)) forgetPackets(env);
    return at + 1;
  }
  const callee = enterFrame(env, env.state, at, start, false);
  for (let i = 1; i <= 5; i++) callee.regs[i] = caller.regs[i]!;
  // Marks come along: reads of the arguments are reads of the caller's registers.
  callee.writtenRegs = (caller.writtenRegs & 0b111110) | 1;
  for (let i = 0; i <= 5; i++) caller.regs[i] = NOT_INIT;
  caller.writtenRegs |= 0b111111;
  return start;
}

/** verbose_invalid_scalar */
export function invalidScalar(
  reg: Reg,
  [min, max]: readonly [number, number],
  where: string,
  name: string,
): string {
  let text = `${where} the register ${name} has`;
  const known = reg.smin > S64_MIN || reg.smax < S64_MAX;
  if (reg.smin > S64_MIN) text += ` smin=${reg.smin}`;
  if (reg.smax < S64_MAX) text += ` smax=${reg.smax}`;
  if (!known) text += ' unknown scalar value';
  return `${text} should have been in [${min}, ${max}]`;
}

export const isWithin = (reg: Reg, [min, max]: readonly [number, number]): boolean =>
  reg.smin >= BigInt(min) && reg.smax <= BigInt(max);

/** prepare_func_exit: back in the caller; gives where to go on. */
export function leaveFunction(env: Env): number {
  const { state } = env;
  const callee = state.frames[state.curframe]!;
  const result = callee.regs[0]!;
  if (result.type === 'fp') reject('EINVAL', 'cannot return stack pointer to the caller');
  if (callee.isCallback) {
    if (result.type !== 'scalar') reject('EACCES', 'R0 not a scalar value');
    readReg(env, 0);
    markPrecise(env, 0);
    if (!isWithin(result, callee.callbackRange))
      reject('EINVAL', invalidScalar(result, callee.callbackRange, 'At callback return', 'R0'));
    state.frames.pop();
    const previous = findPreviousEntry(env, state, callee.callsite);
    if (previous !== undefined) widenScalars(previous, state);
    return callee.callsite;
  }
  // A function may leave r0 unset: then its caller cannot read it either.
  if (result.type !== 'not_init') readReg(env, 0);
  state.frames.pop();
  setReg(env, 0, result);
  return callee.callsite + 1;
}
