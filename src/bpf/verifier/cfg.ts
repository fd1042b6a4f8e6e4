/**
 * The program's shape, before any state is followed: opcodes and fields, functions, jump targets, reachability, prune points
 * (resolve_pseudo_ldimm64, check_subprogs, check_cfg of kernel/bpf/verifier.c).
 */

import type { Insn } from '../isa.ts';
import * as isa from '../isa.ts';
import type { MapSpec } from '../maps/map-spec.ts';
import { checkArenaValue, useArena } from './arena.ts';
import { COMPLEXITY_LIMIT_INSNS, type Env } from './env.ts';
import { reject } from './error.ts';
import { exceptionCallback } from './exceptions.ts';
import { kernelSymbol } from './ksyms.ts';
import { checkMapProgram } from './map-rules.ts';
import type { Subprog } from './subprog.ts';

/** Bits of `Env.points`. */
export const PRUNE_POINT = 1;
export const FORCE_CHECKPOINT = 2;
/** A jump goes here. */
export const JUMP_TARGET = 4;
/** Paths come here from elsewhere than from the instruction before: part of a path's history. */
export const JUMP_POINT = 8;

/** BPF_MAX_VAR_OFF */
const MAX_VALUE_OFFSET = 1 << 29;

const CALL = isa.BPF_JMP | isa.BPF_CALL;
const EXIT = isa.BPF_JMP | isa.BPF_EXIT;
const JA = isa.BPF_JMP | isa.BPF_JA;
const JA32 = isa.BPF_JMP32 | isa.BPF_JA;

export const isMayGoto = (insn: Insn): boolean =>
  insn.code === (isa.BPF_JMP | isa.BPF_JCOND) && insn.src === isa.BPF_MAY_GOTO;

/** Helpers that call a function of the program, as often as they like (is_callback_calling_function). */
export const callsBack = (insn: Insn): boolean =>
  insn.code === CALL && insn.src === 0 && CALLBACK_HELPERS.has(insn.imm);

/** bpf_rbtree_add */
export const kfuncCallsBack = (env: Env, insn: Insn): boolean =>
  insn.code === CALL &&
  insn.src === isa.BPF_PSEUDO_KFUNC_CALL &&
  env.kfuncs.get(insn.imm)?.kernel?.args.includes('func') === true &&
  env.kfuncs.get(insn.imm)?.name !== 'bpf_wq_set_callback_impl';

/** Sets a function of the program to be called later (is_async_callback_calling_insn). */
const setsCallback = (env: Env, insn: Insn): boolean =>
  (insn.src === 0 && insn.imm === TIMER_SET_CALLBACK) ||
  (insn.src === isa.BPF_PSEUDO_KFUNC_CALL && env.kfuncs.get(insn.imm)?.name === 'bpf_wq_set_callback_impl');
const TIMER_SET_CALLBACK = 170;

/** for_each_map_elem, loop, find_vma, user_ringbuf_drain */
const CALLBACK_HELPERS: ReadonlySet<number> = new Set([164, 181, 180, 209]);

const isPseudoCall = (insn: Insn): boolean => insn.code === CALL && insn.src === isa.BPF_PSEUDO_CALL;
const isPseudoFunc = (insn: Insn): boolean => isa.isLdImm64(insn) && insn.src === isa.BPF_PSEUDO_FUNC;

/** Where the function of a call or of a function pointer starts. */
export const calledFunction = (insn: Insn, at: number): number => at + insn.imm + 1;

const VALID_OPCODES: ReadonlySet<number> = validOpcodes();

/** bpf_opcode_in_insntable */
function validOpcodes(): Set<number> {
  const valid = new Set<number>([isa.BPF_LD_IMM64, CALL, EXIT, JA, JA32, isa.BPF_JMP | isa.BPF_JCOND]);
  for (const cls of [isa.BPF_ALU, isa.BPF_ALU64]) {
    for (let op = isa.BPF_ADD; op <= isa.BPF_ARSH; op += 0x10) {
      valid.add(cls | op | isa.BPF_K);
      if (op !== isa.BPF_NEG) valid.add(cls | op | isa.BPF_X);
    }
    valid.add(cls | isa.BPF_END | isa.BPF_TO_LE);
  }
  valid.add(isa.BPF_ALU | isa.BPF_END | isa.BPF_TO_BE);
  for (const cls of [isa.BPF_JMP, isa.BPF_JMP32]) {
    for (let op = isa.BPF_JEQ; op <= isa.BPF_JSLE; op += 0x10) {
      if (op === isa.BPF_CALL || op === isa.BPF_EXIT) continue;
      valid.add(cls | op | isa.BPF_K);
      valid.add(cls | op | isa.BPF_X);
    }
  }
  for (const size of [isa.BPF_B, isa.BPF_H, isa.BPF_W, isa.BPF_DW]) {
    valid.add(isa.BPF_LDX | isa.BPF_MEM | size);
    valid.add(isa.BPF_STX | isa.BPF_MEM | size);
    valid.add(isa.BPF_ST | isa.BPF_MEM | size);
    if (size !== isa.BPF_DW) {
      valid.add(isa.BPF_LDX | isa.BPF_MEMSX | size);
      valid.add(isa.BPF_LD | isa.BPF_ABS | size);
      valid.add(isa.BPF_LD | isa.BPF_IND | size);
    }
  }
  valid.add(isa.BPF_STX | isa.BPF_ATOMIC | isa.BPF_W);
  valid.add(isa.BPF_STX | isa.BPF_ATOMIC | isa.BPF_DW);
  return valid;
}

/** Load-acquire and store-release have all sizes. */
const isOrdered = (imm: number): boolean => imm === isa.BPF_LOAD_ACQ || imm === isa.BPF_STORE_REL;

/** Opcodes, and the fields that have to be zero. */
export function checkInsns(env: Env): void {
  const { insns } = env;
  if (!env.isBpfCapable && insns.length > 4096)
    reject('E2BIG', `the program has ${insns.length} instructions`);
  if (insns.length === 0) reject('EINVAL', 'the program has no instructions');
  if (insns.length > COMPLEXITY_LIMIT_INSNS) reject('E2BIG', `the program has ${insns.length} instructions`);
  for (let i = 0; i < insns.length; i++) {
    env.insn = i;
    const insn = insns[i]!;
    const cls = isa.BPF_CLASS(insn.code);
    const mode = isa.BPF_MODE(insn.code);
    if (isa.isLdImm64(insn)) {
      checkLdImm64(env, i);
      i++;
      continue;
    }
    if (cls === isa.BPF_LDX && ((mode !== isa.BPF_MEM && mode !== isa.BPF_MEMSX) || insn.imm !== 0)) {
      reject('EINVAL', 'BPF_LDX uses reserved fields');
    }
    const isShort = cls === isa.BPF_STX && mode === isa.BPF_ATOMIC && isOrdered(insn.imm);
    if (!isShort && !VALID_OPCODES.has(insn.code))
      reject('EINVAL', `unknown opcode ${insn.code.toString(16).padStart(2, '0')}`);
  }
}

/** map_direct_value_addr: what a map has at an address of its value. */
function checkValueOffset(spec: MapSpec, off: number): void {
  if (off >>> 0 >= MAX_VALUE_OFFSET) reject('EINVAL', `direct value offset of ${off >>> 0} is not allowed`);
  if (spec.type === 'arena') {
    checkArenaValue(spec, off);
    return;
  }
  if (spec.type !== 'array') reject('EINVAL', 'no direct value access support for this map type');
  if (spec.maxEntries !== 1 || off >= spec.valueSize) {
    reject(
      spec.maxEntries === 1 ? 'EINVAL' : 'ENOTSUPP',
      `invalid access to map value pointer, value_size=${spec.valueSize} off=${off}`,
    );
  }
}

function checkLdImm64(env: Env, i: number): void {
  const insn = env.insns[i]!;
  const second = env.insns[i + 1];
  if (second === undefined || second.code !== 0 || second.dst !== 0 || second.src !== 0 || second.off !== 0) {
    reject('EINVAL', 'invalid bpf_ld_imm64 insn');
  }
  switch (insn.src) {
    case 0:
    case isa.BPF_PSEUDO_FUNC:
      break;
    case isa.BPF_PSEUDO_MAP_IDX:
    case isa.BPF_PSEUDO_MAP_IDX_VALUE: {
      if (insn.src === isa.BPF_PSEUDO_MAP_IDX && second.imm !== 0)
        reject('EINVAL', 'unrecognized bpf_ld_imm64 insn');
      const spec = env.maps[insn.imm];
      if (spec === undefined) reject('EBADF', `fd ${insn.imm} is not pointing to valid bpf_map`);
      checkMapProgram(env, spec);
      if (insn.src === isa.BPF_PSEUDO_MAP_IDX_VALUE) checkValueOffset(spec, second.imm);
      if (spec.type === 'arena') useArena(env, insn.imm);
      break;
    }
    case isa.BPF_PSEUDO_BTF_ID:
      env.ksyms.set(i, kernelSymbol(env, insn, second));
      break;
    case isa.BPF_PSEUDO_MAP_FD:
    case isa.BPF_PSEUDO_MAP_VALUE:
      // Descriptors are bpf(2)'s, which puts the positions of maps in their place.
      if (insn.src === isa.BPF_PSEUDO_MAP_FD && second.imm !== 0)
        reject('EINVAL', 'unrecognized bpf_ld_imm64 insn');
      reject('EBADF', `fd ${insn.imm} is not pointing to valid bpf_map`);
      break;
    default:
      reject('EINVAL', 'unrecognized bpf_ld_imm64 insn');
  }
}

/** add_subprog_and_kfunc, check_subprogs: functions, and that no jump leaves its own. */
export function checkSubprogs(env: Env): void {
  const { insns } = env;
  const starts = new Set<number>([0]);
  for (let i = 0; i < insns.length; i++) {
    const insn = insns[i]!;
    const isKfunc = insn.code === CALL && insn.src === isa.BPF_PSEUDO_KFUNC_CALL;
    if (!isPseudoCall(insn) && !isPseudoFunc(insn) && !isKfunc) continue;
    env.insn = i;
    if (!env.isBpfCapable) {
      reject(
        'EPERM',
        'loading/calling other bpf or kernel functions are allowed for CAP_BPF and CAP_SYS_ADMIN',
      );
    }
    if (isKfunc) continue;
    const target = calledFunction(insn, i);
    if (target < 0 || target >= insns.length) reject('EINVAL', 'call to invalid destination');
    starts.add(target);
  }
  const callback = exceptionCallback(env.input);
  if (callback !== undefined && callback.insn > 0 && callback.insn < insns.length) starts.add(callback.insn);
  const sorted = [...starts].sort((a, b) => a - b);
  env.subprogs = sorted.map(
    (start, n): Subprog => ({
      start,
      end: sorted[n + 1] ?? insns.length,
      stackDepth: 0,
      fastcallOff: 0,
      keepsFastcallStack: false,
    }),
  );
  for (const [n, { start, end }] of env.subprogs.entries()) {
    env.log(`func#${n} @${start}`);
    for (let i = start; i < end; i++) {
      const insn = insns[i]!;
      env.insn = i;
      if (isa.isLdImm64(insn)) {
        i++;
        if (i >= end) reject('EINVAL', 'last insn is not an exit or jmp');
        continue;
      }
      if (isJump(insn)) {
        // An int in the kernel, which wraps around.
        const target = (i + isa.jumpOffset(insn) + 1) | 0;
        if (target < start || target >= end)
          reject('EINVAL', `jump out of range from insn ${i} to ${target}`);
      }
      if (i === end - 1 && insn.code !== EXIT && insn.code !== JA && insn.code !== JA32) {
        reject('EINVAL', 'last insn is not an exit or jmp');
      }
    }
  }
}

/** Calls and exits are none, whatever else their opcodes say. */
function isJump({ code }: Insn): boolean {
  const cls = isa.BPF_CLASS(code);
  const op = isa.BPF_OP(code);
  return (cls === isa.BPF_JMP || cls === isa.BPF_JMP32) && op !== isa.BPF_CALL && op !== isa.BPF_EXIT;
}

const stepsIterator = (env: Env, insn: Insn): boolean =>
  env.kfuncs.get(insn.imm)?.kernel?.flags.includes('iter_next') === true;

/** check_cfg: every instruction is reachable; sets prune points. */
export function checkCfg(env: Env): void {
  const { insns } = env;
  const points = new Uint8Array(insns.length);
  if (!env.isBpfCapable) checkBackEdges(env);
  const visited = new Uint8Array(insns.length);
  const stack = [0];
  const callback = exceptionCallback(env.input)?.insn ?? 0;
  if (callback > 0 && callback < insns.length) {
    stack.push(callback);
    visited[callback] = 1;
  }
  const go = (from: number, to: number): void => {
    if (to < 0 || to >= insns.length) reject('EINVAL', `jump out of range from insn ${from} to ${to}`);
    if (visited[to] === 0) {
      visited[to] = 1;
      stack.push(to);
    }
  };
  const branch = (from: number, to: number): void => {
    go(from, to);
    points[to]! |= PRUNE_POINT | JUMP_POINT | JUMP_TARGET;
  };
  // visit_func_call_insn
  const visitCall = (at: number, next: number, callee: number | undefined): void => {
    if (callee !== undefined) {
      points[at]! |= PRUNE_POINT;
      branch(at, callee);
    }
    go(at, next);
    points[next]! |= PRUNE_POINT | JUMP_POINT;
  };
  visited[0] = 1;
  for (let i = stack.pop(); i !== undefined; i = stack.pop()) {
    const insn = insns[i]!;
    env.insn = i;
    if (isa.isLdImm64(insn)) {
      if (isPseudoFunc(insn)) visitCall(i, i + 2, calledFunction(insn, i));
      else go(i, i + 2);
    } else if (insn.code === EXIT) {
      // nothing behind it
    } else if (insn.code === CALL) {
      const isLoop = callsBack(insn) || kfuncCallsBack(env, insn);
      // Rounds of a callback have to converge here.
      if (isLoop) points[i]! |= PRUNE_POINT | FORCE_CHECKPOINT | JUMP_POINT;
      // What sets a callback pushes a state each time.
      if (setsCallback(env, insn)) points[i]! |= PRUNE_POINT;
      if (insn.src === isa.BPF_PSEUDO_KFUNC_CALL && stepsIterator(env, insn)) {
        points[i]! |= PRUNE_POINT | FORCE_CHECKPOINT;
      }
      visitCall(i, i + 1, isPseudoCall(insn) ? calledFunction(insn, i) : undefined);
    } else if (insn.code === JA || insn.code === JA32) {
      branch(i, i + isa.jumpOffset(insn) + 1);
    } else if (isJump(insn)) {
      points[i]! |= PRUNE_POINT;
      if (isMayGoto(insn)) points[i]! |= FORCE_CHECKPOINT;
      branch(i, i + insn.off + 1);
      go(i, i + 1);
    } else {
      go(i, i + 1);
    }
  }
  for (let i = 0; i < insns.length; i++) {
    env.insn = i;
    if (isa.isLdImm64(insns[i]!)) {
      if (visited[i] === 0) reject('EINVAL', `unreachable insn ${i}`);
      if (visited[i + 1] !== 0) reject('EINVAL', `jump into the middle of ldimm64 insn ${i}`);
      i++;
    } else if (visited[i] === 0) {
      reject('EINVAL', `unreachable insn ${i}`);
    }
  }
  env.points = points;
}

/** Without privileges there are no loops: the depth-first walk of check_cfg, which meets each edge once. */
function checkBackEdges(env: Env): void {
  const { insns } = env;
  const DISCOVERED = 1;
  const EXPLORED = 2;
  const marks = new Uint8Array(insns.length);
  const edges = (i: number): number[] => {
    const insn = insns[i]!;
    if (isa.isLdImm64(insn)) return [i + 2];
    if (insn.code === EXIT) return [];
    if (insn.code === JA || insn.code === JA32) return [i + isa.jumpOffset(insn) + 1];
    return isJump(insn) ? [i + 1, i + insn.off + 1] : [i + 1];
  };
  const stack: { at: number; next: number }[] = [{ at: 0, next: 0 }];
  marks[0] = DISCOVERED;
  for (let top = stack.at(-1); top !== undefined; top = stack.at(-1)) {
    const to = edges(top.at)[top.next++];
    if (to === undefined) {
      marks[top.at] = EXPLORED;
      stack.pop();
      continue;
    }
    env.insn = top.at;
    if (to < 0 || to >= insns.length) reject('EINVAL', `jump out of range from insn ${top.at} to ${to}`);
    if (marks[to] === DISCOVERED) reject('EINVAL', `back-edge from insn ${top.at} to ${to}`);
    if (marks[to] === 0) {
      marks[to] = DISCOVERED;
      stack.push({ at: to, next: 0 });
    }
  }
}
