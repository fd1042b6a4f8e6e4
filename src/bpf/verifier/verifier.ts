/** verifyProgram(): follows every path of a program (bpf_check, do_check of kernel/bpf/verifier.c). */
import { printInsn } from '../asm/disasm.ts';
import type { Insn } from '../isa.ts';
import * as isa from '../isa.ts';
import { mayLoadAbsolute } from '../prog-types/index.ts';
import { checkAlu } from './alu-insns.ts';
import { checkConditionalJump } from './branch.ts';
import { checkHelperCall, clearCallerSaved, leaveEarly } from './calls.ts';
import {
  calledFunction,
  checkCfg,
  checkInsns,
  checkSubprogs,
  isMayGoto,
  JUMP_POINT,
  PRUNE_POINT,
} from './cfg.ts';
import { checkDebugInfo, checkFuncInfo } from './debug-info.ts';
import { checkWritable, Env, pushState, readReg, setReg } from './env.ts';
import { Rejection, reject, VerifierError } from './error.ts';
import { checkExit, checkThrow } from './exits.ts';
import { dropFastcallStack, markFastcalls } from './fastcall.ts';
import { checkFuncCall } from './funcs.ts';
import { globalState } from './globals.ts';
import { checkKfuncCall } from './kfuncs.ts';
import { stateString } from './log.ts';
import {
  checkAtomic,
  checkAtomicPointer,
  checkMemAccess,
  checkPlainPointer,
  checkPointerKind,
  memoryKind,
} from './memory.ts';
import { checkProgramType, prepareGlobals } from './prepare.ts';
import { findPreviousEntry, finishPath, isStateVisited, widenScalars } from './prune.ts';
import { checkSections, leakedReferences } from './refs.ts';
import { pointer, scalarConst, UNKNOWN } from './reg.ts';
import { checkStackDepth } from './stack-depth.ts';
import { Frame, VerifierState } from './state.ts';
import type { MemoryKind, ProgramInput, VerifiedProgram } from './types.ts';

/** check_ld_abs: the packet through the context in r6; a fault ends the program. */
function checkLdAbs(env: Env, insn: Insn): void {
  const mode = isa.BPF_MODE(insn.code);
  if (!mayLoadAbsolute(env.input.type))
    reject('EINVAL', 'BPF_LD_[ABS|IND] instructions not allowed for this program type');
  const isWide = isa.sizeBytes(insn.code) === 8;
  if (insn.dst !== 0 || insn.off !== 0 || isWide || (mode === isa.BPF_ABS && insn.src !== 0))
    reject('EINVAL', 'BPF_LD_[ABS|IND] uses reserved fields');
  readReg(env, 6);
  const leaked = leakedReferences(env.state);
  if (leaked !== undefined)
    reject('EINVAL', `${leaked}\nBPF_LD_[ABS|IND] cannot be mixed with socket references`);
  checkSections(env, 'BPF_LD_[ABS|IND]');
  const skb = env.frame.regs[6]!;
  if (skb.type !== 'ctx') reject('EINVAL', 'at the time of BPF_LD_ABS|IND R6 != pointer to skb');
  if (mode === isa.BPF_IND) readReg(env, insn.src);
  checkPlainPointer(skb, 6);
  clearCallerSaved(env);
  setReg(env, 0, UNKNOWN);
}

/** check_ld_imm */
function checkLdImm(env: Env, insn: Insn, at: number): void {
  checkWritable(insn.dst);
  const second = env.insns[at + 1]!;
  switch (insn.src) {
    case isa.BPF_PSEUDO_MAP_IDX: {
      const reg = pointer('map_ptr');
      reg.map = insn.imm;
      setReg(env, insn.dst, reg);
      return;
    }
    case isa.BPF_PSEUDO_MAP_IDX_VALUE: {
      const reg = pointer('map_value');
      reg.map = insn.imm;
      reg.off = second.imm;
      setReg(env, insn.dst, reg);
      return;
    }
    case isa.BPF_PSEUDO_FUNC: {
      const reg = pointer('func');
      reg.memSize = env.subprogs.findIndex((one) => one.start === calledFunction(insn, at));
      setReg(env, insn.dst, reg);
      return;
    }
    case isa.BPF_PSEUDO_BTF_ID:
      setReg(env, insn.dst, env.ksyms.get(at)!.reg);
      return;
    default:
      setReg(env, insn.dst, scalarConst(isa.ldImm64Value(insn, second)));
  }
}

const ATOMIC_OPS: ReadonlySet<number> = new Set([
  isa.BPF_ADD,
  isa.BPF_ADD | isa.BPF_FETCH,
  isa.BPF_AND,
  isa.BPF_AND | isa.BPF_FETCH,
  isa.BPF_OR,
  isa.BPF_OR | isa.BPF_FETCH,
  isa.BPF_XOR,
  isa.BPF_XOR | isa.BPF_FETCH,
  isa.BPF_XCHG,
  isa.BPF_CMPXCHG,
]);

function checkLoad(env: Env, insn: Insn, aligned = false): void {
  const reg = readReg(env, insn.src);
  checkWritable(insn.dst);
  const isSigned = isa.BPF_MODE(insn.code) === isa.BPF_MEMSX;
  checkPointerKind(env, reg);
  checkMemAccess(env, {
    regno: insn.src,
    off: insn.off,
    size: isa.sizeBytes(insn.code),
    write: false,
    value: insn.dst,
    isSigned,
    aligned,
  });
  if (aligned) checkAtomicPointer(reg, insn.src, 'loads from');
}

function checkStore(env: Env, insn: Insn): void {
  const isRegister = isa.BPF_CLASS(insn.code) === isa.BPF_STX;
  const isAtomic = isRegister && isa.BPF_MODE(insn.code) === isa.BPF_ATOMIC;
  if (isAtomic && insn.imm === isa.BPF_LOAD_ACQ) {
    checkLoad(env, insn, true);
    return;
  }
  const isRelease = isAtomic && insn.imm === isa.BPF_STORE_REL;
  if (isAtomic && !isRelease) {
    if (!ATOMIC_OPS.has(insn.imm))
      reject(
        'EINVAL',
        `BPF_ATOMIC uses invalid atomic opcode ${(insn.imm & 0xff).toString(16).padStart(2, '0')}`,
      );
    readReg(env, insn.src);
    const address = readReg(env, insn.dst);
    if (insn.imm === isa.BPF_CMPXCHG) readReg(env, 0);
    checkPointerKind(env, address);
    checkAtomic(env, insn);
    return;
  }
  if (isRegister ? insn.imm !== 0 && !isRelease : insn.src !== 0) {
    reject('EINVAL', `${isRegister ? 'BPF_STX' : 'BPF_ST'} uses reserved fields`);
  }
  if (isRegister) readReg(env, insn.src);
  const reg = readReg(env, insn.dst);
  checkPointerKind(env, reg);
  checkMemAccess(env, {
    regno: insn.dst,
    off: insn.off,
    size: isa.sizeBytes(insn.code),
    write: true,
    value: isRegister ? insn.src : -1,
    imm: isRegister ? undefined : insn.imm,
    aligned: isRelease,
  });
  if (isRelease) checkAtomicPointer(reg, insn.dst, 'stores into');
}

/** A jump-class instruction; gives the next instruction, or undefined when the path is at its end. */
function checkJump(env: Env, insn: Insn, at: number): number | undefined {
  const op = isa.BPF_OP(insn.code);
  const is32 = isa.BPF_CLASS(insn.code) === isa.BPF_JMP32;
  env.jmpsProcessed++;
  switch (op) {
    case isa.BPF_CALL: {
      const isKfunc = insn.src === isa.BPF_PSEUDO_KFUNC_CALL;
      if (isa.BPF_SRC(insn.code) !== isa.BPF_K || is32 || (!isKfunc && insn.off !== 0) || insn.dst !== 0) {
        reject('EINVAL', 'BPF_CALL uses reserved fields');
      }
      env.savedArgs = env.frame.regs.slice(0, 6);
      if (env.state.lock !== undefined && !mayCallLocked(env, insn))
        reject('EINVAL', 'function calls are not allowed while holding a lock');
      if (insn.src === isa.BPF_PSEUDO_CALL) return checkFuncCall(env, insn, at);
      if (isKfunc) {
        if (checkKfuncCall(env, insn)) return checkThrow(env);
      } else if (insn.src === 0) return checkHelperCall(env, insn);
      else reject('EINVAL', 'BPF_CALL uses reserved fields');
      return at + 1;
    }
    case isa.BPF_JA: {
      const unused = is32 ? insn.off : insn.imm;
      if (isa.BPF_SRC(insn.code) !== isa.BPF_K || insn.src !== 0 || insn.dst !== 0 || unused !== 0) {
        reject('EINVAL', 'BPF_JA uses reserved fields');
      }
      return at + isa.jumpOffset(insn) + 1;
    }
    case isa.BPF_EXIT:
      if (
        isa.BPF_SRC(insn.code) !== isa.BPF_K ||
        insn.imm !== 0 ||
        insn.src !== 0 ||
        insn.dst !== 0 ||
        is32
      ) {
        reject('EINVAL', 'BPF_EXIT uses reserved fields');
      }
      return checkExit(env);
    case isa.BPF_JCOND:
      if (!isMayGoto(insn) || insn.dst !== 0 || insn.imm !== 0)
        reject('EINVAL', `invalid may_goto imm ${insn.imm}`);
      return checkMayGoto(env, insn, at);
    default:
      return checkConditionalJump(env, insn, at);
  }
}

function checkMayGoto(env: Env, insn: Insn, at: number): number {
  const previous = findPreviousEntry(env, env.state.parent, at);
  const on = pushState(env, at + 1);
  on.mayGotoDepth++;
  if (previous !== undefined) widenScalars(previous, on);
  return at + insn.off + 1;
}

/** While a lock is held: giving it back, functions of the program, and what works on the locked graph. */
function mayCallLocked(env: Env, insn: Insn): boolean {
  if (insn.src === isa.BPF_PSEUDO_CALL) return true;
  if (insn.src === 0) return insn.imm === SPIN_UNLOCK;
  return /^bpf_(list|rbtree|refcount_acquire)_/.test(env.kfuncs.get(insn.imm)?.name ?? '');
}
const SPIN_UNLOCK = 94;

/** One instruction; the next one, or undefined at the end of a path. */
function checkInsn(env: Env, at: number): number | undefined {
  const insn = env.insns[at]!;
  switch (isa.BPF_CLASS(insn.code)) {
    case isa.BPF_ALU:
    case isa.BPF_ALU64:
      checkAlu(env, insn);
      return at + 1;
    case isa.BPF_LDX:
      checkLoad(env, insn);
      return at + 1;
    case isa.BPF_ST:
    case isa.BPF_STX:
      checkStore(env, insn);
      return at + 1;
    case isa.BPF_LD:
      if (isa.BPF_MODE(insn.code) !== isa.BPF_IMM) {
        checkLdAbs(env, insn);
        return leaveEarly(env, scalarConst(0n));
      }
      checkLdImm(env, insn, at);
      return at + 2;
    default:
      return checkJump(env, insn, at);
  }
}

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
    insns: withAddresses(env),
    maps: input.maps,
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
