/** Reading and writing registers of the current frame (check_reg_arg of kernel/bpf/verifier.c). */
import type { Env } from './env.ts';
import { reject } from './error.ts';
import { markRegRead } from './liveness.ts';
import { isPacketAny, NOT_INIT, type Reg, UNKNOWN } from './reg.ts';
import { mapRegs } from './state.ts';

/** is_pointer_value: an address that an unprivileged program may not give away. */
export const isPointerValue = (env: Env, reg: Reg): boolean => !env.allowPtrLeaks && reg.type !== 'scalar';

/** mark_reg_invalid: what a pointer becomes when what it pointed to is gone. */
export const invalidReg = (env: Env): Reg => (env.allowPtrLeaks ? UNKNOWN : NOT_INIT);

/** clear_all_pkt_pointers: the packet may have moved. */
export function forgetPackets(env: Env): void {
  const gone = invalidReg(env);
  mapRegs(env.state, (reg) => {
    const isSlice = reg.type === 'mem' && (reg.dynptr === 'skb' || reg.dynptr === 'xdp');
    return isPacketAny(reg) || isSlice ? gone : reg;
  });
}

/** A register of the current frame, which is written (and not read) by this instruction. */
export function setReg(env: Env, regno: number, reg: Reg): void {
  const { frame } = env;
  frame.regs[regno] = reg;
  frame.writtenRegs |= 1 << regno;
  env.scratched |= 1 << regno;
}

/** Replaces what is known about a register without its value being written. */
export function updateReg(env: Env, regno: number, reg: Reg): void {
  env.frame.regs[regno] = reg;
}

/** check_reg_arg(SRC_OP): the register, which has to be initialised. */
export function readReg(env: Env, regno: number): Reg {
  if (regno > 10) reject('EINVAL', `R${regno} is invalid`);
  const reg = env.frame.regs[regno]!;
  env.scratched |= 1 << regno;
  if (reg === NOT_INIT || reg.type === 'not_init') reject('EACCES', `R${regno} !read_ok`);
  if (regno !== 10) markRegRead(env.state, env.state.curframe, regno);
  return reg;
}

/** check_reg_arg(DST_OP): the register becomes an unknown scalar. */
export function writeReg(env: Env, regno: number, reg: Reg = UNKNOWN): void {
  checkWritable(regno);
  setReg(env, regno, reg);
}

export function checkWritable(regno: number): void {
  if (regno > 10) reject('EINVAL', `R${regno} is invalid`);
  if (regno === 10) reject('EACCES', 'frame pointer is read only');
}

/** assign_scalar_id_before_mov: gives a scalar that is about to be copied an id; returns it. */
export function withScalarId(env: Env, reg: Reg): Reg {
  if (reg.type !== 'scalar' || reg.isConst) return reg;
  if (reg.id !== 0 && !reg.addConst) return reg;
  const copy = reg.copy();
  copy.addConst = false;
  copy.off = 0;
  copy.id = env.newId();
  return copy;
}

/** r0 to r5 have nothing for the caller after a call. */
export function clearCallerSaved(env: Env): void {
  for (let i = 0; i <= 5; i++) setReg(env, i, NOT_INIT);
}
