/** verifyProgram(): follows every path of a program (bpf_check, do_check_common of kernel/bpf/verifier.c). */

import { insnList } from '../argument-shapes.ts';
import { aList, checkArgument, having } from '../arguments.ts';
import { printInsn } from '../asm/disasm.ts';
import type { Insn } from '../isa.ts';
import * as isa from '../isa.ts';
import { checkArenaLoads, lowerArena, programArena } from './arena-insns.ts';
import { checkCfg, checkInsns, checkSubprogs, JUMP_POINT, PRUNE_POINT } from './cfg.ts';
import { checkDebugInfo, checkFuncInfo } from './debug-info.ts';
import { Env } from './env.ts';
import { Rejection, reject, VerifierError } from './error.ts';
import { dropFastcallStack, markFastcalls } from './fastcall.ts';
import { globalState } from './globals.ts';
import { checkInsn } from './insns.ts';
import { stateString } from './log.ts';
import { memoryKind } from './memory.ts';
import { checkProgramType, prepareGlobals } from './prepare.ts';
import { finishPath, isStateVisited } from './prune.ts';
import { pointer } from './reg.ts';
import { checkStackDepth } from './stack-depth.ts';
import { Frame, VerifierState } from './state.ts';
import type { MemoryKind, ProgramInput, VerifiedProgram } from './types.ts';

/** Follows the current state to the end of its path. */
function followPath(env: Env, from: number): void {
  let at: number | undefined = from;
  let previous = -1;
  while (at !== undefined) {
    if (at >= env.insns.length) reject('EFAULT', `invalid insn idx ${at} insn_cnt ${env.insns.length}`);
    env.insn = at;
    env.insnProcessed++;
    if (env.insnProcessed > env.maxInsns) {
      reject('E2BIG', `BPF program is too large. Processed ${env.insnProcessed} insn`);
    }
    if ((env.points[at]! & PRUNE_POINT) !== 0 && isStateVisited(env)) {
      if (env.logLevel > 0) env.log(previous >= 0 ? `from ${previous} to ${at}: safe` : `${at}: safe`);
      return;
    }
    env.seen[at] = 1;
    const { history } = env.state;
    const isKept = (env.points[at]! & JUMP_POINT) !== 0;
    env.state.history = {
      insn: at,
      prev: history,
      isKept,
      kept: (history?.kept ?? 0) + (isKept ? 1 : 0),
      stackFrame: -1,
      stackSlot: -1,
      linked: undefined,
    };
    previous = at;
    at = env.logLevel === 0 ? checkInsn(env, at) : checkInsnLogged(env, at);
  }
}

/** Column of the states behind instructions. */
const STATE_COLUMN = 40;

function checkInsnLogged(env: Env, at: number): number | undefined {
  const insn = env.insns[at]!;
  const code = insn.code.toString(16).padStart(2, '0');
  const text = `${at}: (${code}) ${printInsn(insn, env.insns[at + 1], { kfuncName: (id) => env.kfuncs.get(id)?.name })}`;
  const { frame } = env;
  const stack = frame.stack.slice();
  const line = env.logLines.length;
  env.log(text);
  env.scratched = 0;
  const next = checkInsn(env, at);
  if (env.logLevel < 2) return next;
  const changedRegs = env.scratched;
  let changedSlots = 0n;
  for (let i = 0; i < frame.stack.length; i++)
    if (frame.stack[i] !== stack[i]) changedSlots |= 1n << BigInt(i);
  if (env.frame !== frame) {
    env.log(stateString(env, env.frame));
  } else if (changedRegs !== 0 || changedSlots !== 0n) {
    const state = stateString(env, frame, { regs: changedRegs, slots: changedSlots });
    if (state !== '') env.logLines[line] = `${text.padEnd(STATE_COLUMN - 2)}; ${state}`;
  }
  return next;
}

/** init_func_state of the program: r1 is the context. */
function initialState(env: Env): VerifierState {
  const state = new VerifierState();
  state.isSleepable = env.isSleepable;
  const frame = new Frame(-1, 0, 0);
  frame.regs[1] = pointer('ctx');
  state.frames.push(frame);
  return state;
}

/** Follows every path from the start of a function (do_check_common). */
function checkFrom(env: Env, state: VerifierState, start: number): void {
  env.state = state;
  env.explored.clear();
  let at = start;
  if (env.logLevel > 0) env.log(`${start}: ${stateString(env, env.frame)}`);
  for (;;) {
    followPath(env, at);
    finishPath(env.state);
    const next = env.pending.pop();
    if (next === undefined) return;
    env.state = next.state;
    // A path that was safe tells nothing about a later one's failure.
    if (env.logLevel === 1) env.logLines.length = 0;
    const from = env.state.history?.insn ?? -1;
    at = next.insn;
    if (env.logLevel > 0) {
      env.log('');
      env.log(`from ${from} to ${at}: ${stateString(env, env.frame, { marks: false })}`);
    }
  }
}

function checkProgram(env: Env): void {
  checkProgramType(env);
  checkFuncInfo(env);
  checkSubprogs(env);
  checkDebugInfo(env);
  prepareGlobals(env);
  checkInsns(env);
  checkCfg(env);
  markFastcalls(env);
  checkFrom(env, initialState(env), 0);
  // Global functions that something calls, each by itself (do_check_subprogs).
  const done = new Set<number>();
  for (let again = true; again; ) {
    again = false;
    for (const n of [...env.calledGlobals].sort((a, b) => a - b)) {
      if (done.has(n)) continue;
      done.add(n);
      again = true;
      const func = env.globals.get(n)!;
      env.log(`Validating ${func.name}() func#${n}...`);
      checkFrom(env, globalState(env, n, func), env.subprogs[n]!.start);
      env.log(`Func#${n} ('${func.name}') is safe for any args that match its prototype`);
    }
  }
}

function summaryLine(env: Env): string {
  return (
    `processed ${env.insnProcessed} insns (limit ${env.maxInsns}) max_states_per_insn ${env.maxStatesPerInsn} ` +
    `total_states ${env.totalStates} peak_states ${env.peakStates} mark_read 0`
  );
}

/** fixup_kfunc_call: calls of nothing, which weak kernel functions become, are for dead code. */
function checkDeadKfuncs(env: Env): void {
  for (let i = 0; i < env.insns.length; i++) {
    const { code, src, imm, off } = env.insns[i]!;
    if (code !== (isa.BPF_JMP | isa.BPF_CALL) || src !== isa.BPF_PSEUDO_KFUNC_CALL) continue;
    if (imm === 0 && off === 0 && env.seen[i] !== 0)
      reject('EINVAL', 'invalid kernel function call not eliminated in verifier pass');
  }
}

/** Runs one pass; gives the error or the depth of stack. */
function run(env: Env): { rejection: Rejection } | { stackDepth: number } {
  try {
    checkProgram(env);
    env.insn = -1;
    dropFastcallStack(env);
    const stackDepth = checkStackDepth(env);
    checkArenaLoads(env);
    checkDeadKfuncs(env);
    return { stackDepth };
  } catch (error) {
    if (error instanceof Rejection) return { rejection: error };
    throw error;
  }
}

/**
 * Proves that a program is safe: it terminates, reads nothing that was not written, stays inside of memory it may use, gives helpers
 * what they ask for and releases what it took. Throws VerifierError with the reason, whose `log` shows the path that led there.
 */
export function verifyProgram(input: ProgramInput): VerifiedProgram {
  checkArgument(
    'verifyProgram()',
    'input',
    input,
    having('a program: { name, type, insns, maps }', 'name', 'type', 'insns', 'maps'),
  );
  checkArgument('verifyProgram()', 'input.insns', input.insns, insnList);
  checkArgument('verifyProgram()', 'input.maps', input.maps, aList);
  const { logLevel = 0 } = input;
  let env = new Env(input, logLevel);
  let result = run(env);
  if ('rejection' in result) {
    const at = env.insn;
    // Once more writing down what happens, unless it would be a million lines.
    if (logLevel === 0 && env.insnProcessed <= env.maxInsns) {
      env = new Env(input, 1);
      const again = run(env);
      if ('rejection' in again) result = again;
    }
    if ('rejection' in result) {
      env.log(result.rejection.message);
      env.log(summaryLine(env));
      throw new VerifierError(input.name, result.rejection, at, env.logLines.join('\n'));
    }
  }
  env.log(summaryLine(env));
  return {
    name: input.name,
    type: input.type,
    insns: lowerArena(env, withAddresses(env)),
    maps: input.maps,
    arena: programArena(env),
    ctxReads: env.ctxReads,
    kfuncsUsed: [...env.kfuncsUsed],
    helpersUsed: [...env.helpersUsed],
    stackDepth: (result as { stackDepth: number }).stackDepth,
    exceptionCallback: env.exceptionCallback < 0 ? undefined : env.subprogs[env.exceptionCallback]!.start,
    subprogs: env.subprogs.map(({ start }) => start),
    verifiedInsns: env.insnProcessed,
    memoryKinds: memoryKinds(env),
    reachable: reachable(env),
    log: env.logLines.join('\n'),
  };
}

/** The instructions, loads of kernel symbols being loads of numbers. */
function withAddresses({ insns, ksyms }: Env): readonly Insn[] {
  if (ksyms.size === 0) return insns;
  const list = insns.slice();
  for (const [at, { address }] of ksyms) {
    list[at] = { ...insns[at]!, src: 0, imm: Number(BigInt.asIntN(32, address)) };
    list[at + 1] = { ...insns[at + 1]!, imm: Number(BigInt.asIntN(32, address >> 32n)) };
  }
  return list;
}

function reachable({ seen, insns }: Env): boolean[] {
  const list: boolean[] = [];
  for (let i = 0; i < seen.length; i++) {
    list.push(seen[i] !== 0 || (i > 0 && seen[i - 1] !== 0 && isSecondSlot(insns, i)));
  }
  return list;
}

function memoryKinds(env: Env): Map<number, MemoryKind> {
  const kinds = new Map<number, MemoryKind>();
  for (let at = 0; at < env.pointerKind.length; at++) {
    const kind = env.pointerKind[at]!;
    if (kind !== 0) kinds.set(at, memoryKind(kind));
  }
  return kinds;
}

const isSecondSlot = (insns: readonly Insn[], i: number): boolean =>
  insns[i]!.code === 0 && isa.isLdImm64(insns[i - 1]!);
