/**
 * What unprivileged programs may not do because a processor runs ahead of a comparison (sanitize_ptr_alu, sanitize_check_bounds of
 * kernel/bpf/verifier.c): pointer sums have to have a mask that holds on every path.
 */
import * as isa from '../isa.ts';
import { MAX_BPF_STACK } from '../isa.ts';
import { type Env, pushState } from './env.ts';
import { Rejection, reject } from './error.ts';
import { checkMapAccess } from './map-access.ts';
import { type Reg, UNKNOWN } from './reg.ts';
import { tnumString } from './tnum.ts';

const NEG_VALUE = 1;
const IMMEDIATE = 2;
const SANITIZE_SRC = 4;
const SANITIZE_DST = 8;
const NON_POINTER = 16;

const ERROR = 'pointer arithmetic with it prohibited for !root';

const canSkip = (env: Env, insn: isa.Insn): boolean =>
  env.bypassSpecV1 || isa.BPF_SRC(insn.code) === isa.BPF_K;

/** update_alu_sanitation_state; false where paths differ. */
function update(env: Env, state: number, limit: number): boolean {
  const known = env.aluState.get(env.insn);
  if (known !== undefined && known.state !== 0 && (known.state !== state || known.limit !== limit))
    return false;
  env.aluState.set(env.insn, { state, limit });
  return true;
}

const operator = (insn: isa.Insn): string => (isa.BPF_OP(insn.code) === isa.BPF_ADD ? 'add' : 'sub');

function refusePaths(insn: isa.Insn): never {
  reject('EACCES', `R${insn.dst} tried to ${operator(insn)} from different maps, paths or scalars, ${ERROR}`);
}

/** sanitize_val_alu: an instruction that adds numbers on one path may not add pointers on another. */
export function sanitizeScalars(env: Env, insn: isa.Insn): void {
  const op = isa.BPF_OP(insn.code);
  if ((op !== isa.BPF_ADD && op !== isa.BPF_SUB) || canSkip(env, insn)) return;
  if (!update(env, NON_POINTER, 0)) refusePaths(insn);
}

interface Window {
  toLeft: boolean;
  limit: number;
  state: number;
}

/** retrieve_ptr_limit: how far the pointer may move; undefined for kinds without. */
function limitOf(env: Env, ptr: Reg, toLeft: boolean): { limit: number; max: number } | undefined {
  if (ptr.type === 'fp') {
    const at = Number(BigInt.asIntN(32, ptr.varOff.value)) + ptr.off;
    return { limit: -at >>> 0, max: MAX_BPF_STACK + (toLeft ? 1 : 0) };
  }
  if (ptr.type === 'map_value') {
    const from = Number(BigInt.asUintN(32, toLeft ? ptr.smin : ptr.umax));
    return { limit: (from + ptr.off) >>> 0, max: env.maps[ptr.map]!.valueSize };
  }
  return undefined;
}

/** sanitize_ptr_alu before the sum; gives what sanitizeAfter() needs. */
export function sanitizeBefore(
  env: Env,
  insn: isa.Insn,
  ptr: Reg,
  offset: Reg,
  isSwapped: boolean,
): Window | undefined {
  const op = isa.BPF_OP(insn.code);
  if ((op !== isa.BPF_ADD && op !== isa.BPF_SUB) || canSkip(env, insn)) return undefined;
  const isNeg = offset.smin < 0n;
  const window: Window = { toLeft: false, limit: 0, state: 0 };
  if (!env.state.speculative) {
    if (!offset.isConst && offset.smin < 0n !== offset.smax < 0n) {
      reject('EACCES', `R${insn.src} has unknown scalar with mixed signed bounds, ${ERROR}`);
    }
    window.toLeft = (op === isa.BPF_ADD && isNeg) || (op === isa.BPF_SUB && !isNeg);
    window.limit = takeLimit(env, insn, ptr, window.toLeft);
    window.state =
      (isNeg ? NEG_VALUE : 0) | (offset.isConst ? IMMEDIATE : 0) | (isSwapped ? SANITIZE_DST : SANITIZE_SRC);
    if (!offset.isConst) env.exploreAluLimits = true;
  }
  if (offset.isConst) return window;
  // The sum as it is with the offset masked to nothing.
  const { frame } = env;
  const before = frame.regs[insn.dst]!;
  if (isSwapped) frame.regs[insn.dst] = ptr;
  pushState(env, env.insn + 1, true);
  frame.regs[insn.dst] = before;
  return window;
}

function takeLimit(env: Env, insn: isa.Insn, ptr: Reg, toLeft: boolean): number {
  const found = limitOf(env, ptr, toLeft);
  if (found === undefined) {
    reject('EACCES', `R${insn.dst} has pointer with unsupported alu operation, ${ERROR}`);
  }
  if (found.limit >= found.max)
    reject('EACCES', `R${insn.dst} tried to ${operator(insn)} beyond pointer bounds, ${ERROR}`);
  return found.limit;
}

/** The same behind it, and sanitize_check_bounds. */
export function sanitizeAfter(env: Env, insn: isa.Insn, result: Reg, window: Window | undefined): void {
  if (env.bypassSpecV1) return;
  checkBounds(env, insn.dst, result);
  if (window === undefined || env.state.speculative) return;
  const limit = takeLimit(env, insn, result, window.toLeft);
  if (!update(env, window.state, Math.abs(window.limit - limit))) refusePaths(insn);
}

function checkBounds(env: Env, regno: number, reg: Reg): void {
  if (reg.type === 'fp') {
    const off = reg.off + Number(BigInt.asIntN(64, reg.varOff.value));
    if (!reg.isConst) {
      reject(
        'EACCES',
        `R${regno} variable stack access prohibited for !root, var_off=${tnumString(reg.varOff)} off=${off}`,
      );
    }
    if (off >= 0 || off < -MAX_BPF_STACK)
      reject(
        'EACCES',
        `R${regno} stack pointer arithmetic goes out of range, prohibited for !root; off=${off}`,
      );
  } else if (reg.type === 'map_value') {
    try {
      checkMapAccess(env, reg, regno, reg.off, 1, false, true);
    } catch (error) {
      if (!(error instanceof Rejection)) throw error;
      const text = `R${regno} pointer arithmetic of map value goes out of range, prohibited for !root`;
      reject('EACCES', `${error.message}\n${text}`);
    }
  }
}

/** sanitize_speculative_path at a comparison: the side that is not taken, of which nothing is known. */
export function pushSpeculative(env: Env, insn: isa.Insn, next: number): void {
  const state = pushState(env, next, true);
  const { frame } = state;
  frame.regs[insn.dst] = UNKNOWN;
  frame.writtenRegs |= 1 << insn.dst;
  if (isa.BPF_SRC(insn.code) === isa.BPF_X) {
    frame.regs[insn.src] = UNKNOWN;
    frame.writtenRegs |= 1 << insn.src;
  }
}
