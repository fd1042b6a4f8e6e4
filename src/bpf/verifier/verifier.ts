/** verifyProgram(): follows every path of a program (bpf_check, do_check of kernel/bpf/verifier.c). */
import { printInsn } from '../asm/disasm.ts';
import type { Insn } from '../isa.ts';
import * as isa from '../isa.ts';
import { MAX_BPF_STACK } from '../layout.ts';
import { scalarOp } from './alu.ts';
import { checkConditionalJump } from './branch.ts';
import { checkFuncCall, checkHelperCall, checkKfuncCall, leaveFunction } from './calls.ts';
import { calledFunction, checkCfg, checkInsns, checkSubprogs, isMayGoto, PRUNE_POINT } from './cfg.ts';
import { checkWritable, Env, pushState, readReg, setReg, updateReg, withScalarId, writeReg } from './env.ts';
import { Rejection, reject, VerifierError } from './error.ts';
import { stateString } from './log.ts';
import { checkAtomic, checkMemAccess, checkPointerKind } from './memory.ts';
import { pointerOp } from './pointers.ts';
import { markPrecise } from './precision.ts';
import { findPreviousEntry, finishPath, isStateVisited, widenScalars } from './prune.ts';
import { NOT_INIT, pointer, type Reg, scalarConst, UNKNOWN } from './reg.ts';
import { Frame, VerifierState } from './state.ts';
import type { ProgramInput, VerifiedProgram } from './types.ts';

const ALU_MAX_OP = isa.BPF_END;

/** check_alu_op */
function checkAlu(env: Env, insn: Insn): void {
  const op = isa.BPF_OP(insn.code);
  const is64 = isa.BPF_CLASS(insn.code) === isa.BPF_ALU64;
  const isX = isa.BPF_SRC(insn.code) === isa.BPF_X;
  if (op > ALU_MAX_OP) reject('EINVAL', `invalid BPF_ALU opcode ${insn.code.toString(16)}`);
  if (op === isa.BPF_NEG || op === isa.BPF_END) {
    checkUnary(env, insn, op, is64);
    return;
  }
  if (op === isa.BPF_MOV) {
    checkMov(env, insn, is64, isX);
    return;
  }
  const isDivision = op === isa.BPF_DIV || op === isa.BPF_MOD;
  const offOk = insn.off === 0 || (isDivision && insn.off === 1);
  if (!offOk || (isX ? insn.imm !== 0 : insn.src !== 0)) reject('EINVAL', 'BPF_ALU uses reserved fields');
  const src = isX ? readReg(env, insn.src) : scalarConst(BigInt(insn.imm));
  const dst = readReg(env, insn.dst);
  if (isDivision && !isX && insn.imm === 0) reject('EINVAL', 'div by zero');
  const isShift = op === isa.BPF_LSH || op === isa.BPF_RSH || op === isa.BPF_ARSH;
  if (isShift && !isX && (insn.imm < 0 || insn.imm >= (is64 ? 64 : 32)))
    reject('EINVAL', `invalid shift ${insn.imm}`);
  checkWritable(insn.dst);
  setReg(env, insn.dst, arithmetic(env, insn, op, dst, src));
}

/** adjust_reg_min_max_vals: scalars, pointer and scalar, or two pointers. */
function arithmetic(env: Env, insn: Insn, op: number, dst: Reg, src: Reg): Reg {
  const is32 = isa.BPF_CLASS(insn.code) === isa.BPF_ALU;
  const isX = isa.BPF_SRC(insn.code) === isa.BPF_X;
  if (dst.isPointer && src.isPointer) {
    // Their distance is a number that root may have.
    if (op === isa.BPF_SUB) return UNKNOWN;
    reject('EACCES', `R${insn.dst} pointer ${OPERATORS[op >> 4]} pointer prohibited`);
  }
  if (src.isPointer) {
    markPrecise(env, insn.dst);
    return pointerOp(env, insn, op, src, dst, true);
  }
  if (dst.isPointer) {
    if (isX) markPrecise(env, insn.src);
    return pointerOp(env, insn, op, dst, src, false);
  }
  const result = dst.copy();
  scalarOp(result, src, op, is32);
  linkSum(result, dst, src, op, is32);
  return result;
}

const OPERATORS = ['+=', '-=', '*=', '/=', '|=', '&=', '<<=', '>>=', 'neg', '%=', '^=', '=', 's>>='];

/** `dst += constant` of a register with an id stays linked to the others (BPF_ADD_CONST). */
function linkSum(result: Reg, dst: Reg, src: Reg, op: number, is32: boolean): void {
  const canLink = op === isa.BPF_ADD && !is32 && dst.id !== 0 && src.isConst && !dst.addConst;
  if (canLink && src.smin >= -0x7fff_ffffn && src.smin <= 0x7fff_ffffn) {
    result.addConst = true;
    result.off = Number(src.smin);
    return;
  }
  result.id = 0;
  result.addConst = false;
  result.off = 0;
}

function checkUnary(env: Env, insn: Insn, op: number, is64: boolean): void {
  const isNeg = op === isa.BPF_NEG;
  const sizeOk = insn.imm === 16 || insn.imm === 32 || insn.imm === 64;
  const fieldsOk = isNeg
    ? insn.src === 0 && insn.off === 0 && insn.imm === 0
    : insn.src === 0 && insn.off === 0 && sizeOk && !(is64 && isa.BPF_SRC(insn.code) !== isa.BPF_TO_LE);
  if (!fieldsOk) reject('EINVAL', isNeg ? 'BPF_NEG uses reserved fields' : 'BPF_END uses reserved fields');
  const reg = readReg(env, insn.dst);
  if (reg.isPointer) reject('EACCES', `R${insn.dst} pointer arithmetic prohibited`);
  if (isNeg && reg.isConst) {
    const negated = -reg.varOff.value;
    writeReg(env, insn.dst, scalarConst(is64 ? negated : BigInt.asUintN(32, negated)));
  } else if (isNeg) {
    writeReg(env, insn.dst, is64 ? UNKNOWN : UNKNOWN.copy().coerce(4));
  } else {
    const size = insn.imm / 8;
    writeReg(env, insn.dst, size === 8 ? UNKNOWN : UNKNOWN.copy().coerce(size));
  }
}

function checkMov(env: Env, insn: Insn, is64: boolean, isX: boolean): void {
  if (!isX) {
    if (insn.src !== 0 || insn.off !== 0) reject('EINVAL', 'BPF_MOV uses reserved fields');
    checkWritable(insn.dst);
    setReg(env, insn.dst, scalarConst(is64 ? BigInt(insn.imm) : BigInt(insn.imm >>> 0)));
    return;
  }
  const extendOk = insn.off === 0 || insn.off === 8 || insn.off === 16 || (is64 && insn.off === 32);
  if (insn.imm !== 0 || !extendOk) reject('EINVAL', 'BPF_MOV uses reserved fields');
  let src = readReg(env, insn.src);
  checkWritable(insn.dst);
  if (insn.off !== 0 && src.isPointer) {
    reject('EACCES', `R${insn.src} sign-extension part of pointer`);
  }
  if (is64 && insn.off === 0) {
    src = linkCopy(env, insn.src, src);
    setReg(env, insn.dst, src);
    return;
  }
  if (src.isPointer) {
    // Half of an address is a number that says nothing.
    setReg(env, insn.dst, UNKNOWN.copy().coerce(4));
    return;
  }
  const bits = insn.off === 0 ? 32 : insn.off;
  const isSame = insn.off === 0 ? src.width <= 32 : src.umax < 1n << BigInt(bits - 1);
  if (isSame) src = linkCopy(env, insn.src, src);
  const copy = src.copy();
  if (insn.off !== 0) {
    if (is64) copy.signExtend(bits / 8);
    else copy.signExtend32(bits / 8);
  } else {
    copy.zext32().sync();
  }
  if (!isSame) {
    copy.id = 0;
    copy.addConst = false;
    copy.off = 0;
  }
  setReg(env, insn.dst, copy);
}

/** The source of a move and its copy share an id from now on. */
function linkCopy(env: Env, regno: number, src: Reg): Reg {
  const linked = withScalarId(env, src);
  if (linked !== src) updateReg(env, regno, linked);
  return linked;
}

/** check_ld_imm */
function checkLdImm(env: Env, insn: Insn, at: number): void {
  if (isa.BPF_MODE(insn.code) !== isa.BPF_IMM) {
    reject('EINVAL', 'BPF_LD_[ABS|IND] instructions are not allowed for this program type');
  }
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

function checkLoad(env: Env, insn: Insn): void {
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
  });
}

function checkStore(env: Env, insn: Insn): void {
  const isRegister = isa.BPF_CLASS(insn.code) === isa.BPF_STX;
  if (isRegister && isa.BPF_MODE(insn.code) === isa.BPF_ATOMIC) {
    if (!ATOMIC_OPS.has(insn.imm))
      reject(
        'EINVAL',
        `BPF_ATOMIC uses invalid atomic opcode ${(insn.imm & 0xff).toString(16).padStart(2, '0')}`,
      );
    readReg(env, insn.src);
    const address = readReg(env, insn.dst);
    if (insn.imm === isa.BPF_CMPXCHG) readReg(env, 0);
    if ((insn.imm & isa.BPF_FETCH) !== 0 && insn.imm !== isa.BPF_CMPXCHG) checkWritable(insn.src);
    checkPointerKind(env, address);
    checkAtomic(env, insn);
    return;
  }
  if (isRegister ? insn.imm !== 0 : insn.src !== 0) {
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
  });
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
      if (insn.src === isa.BPF_PSEUDO_CALL) return checkFuncCall(env, insn, at);
      if (isKfunc) checkKfuncCall(env, insn);
      else if (insn.src === 0) checkHelperCall(env, insn);
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

function checkExit(env: Env): number | undefined {
  const { state } = env;
  if (state.curframe > 0) return leaveFunction(env);
  if (state.refs.length > 0) {
    const lines = state.refs.map(({ id, insn }) => `Unreleased reference id=${id} alloc_insn=${insn}`);
    reject('EINVAL', lines.join('\n'));
  }
  readReg(env, 0);
  return undefined;
}

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
    env.state.history = {
      insn: at,
      prev: env.state.history,
      length: (env.state.history?.length ?? 0) + 1,
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
  const regs = frame.regs.slice();
  const stack = frame.stack.slice();
  const line = env.logLines.length;
  env.log(text);
  const next = checkInsn(env, at);
  if (env.logLevel < 2) return next;
  let changedRegs = 0;
  let changedSlots = 0n;
  for (let i = 0; i < 11; i++) if (frame.regs[i] !== regs[i]) changedRegs |= 1 << i;
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
function initialState(): VerifierState {
  const state = new VerifierState();
  const frame = new Frame(-1, 0, 0);
  frame.regs[1] = pointer('ctx');
  state.frames.push(frame);
  return state;
}

function checkProgram(env: Env): void {
  checkInsns(env);
  checkSubprogs(env);
  checkCfg(env);
  env.state = initialState();
  let at = 0;
  env.log(`0: ${stateString(env, env.frame)}`);
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

/** check_max_stack_depth: of the deepest chain of calls, each frame rounded up to 32 bytes. */
function checkStackDepth(env: Env): number {
  const depths = new Map<number, number>();
  const visit = (n: number, frames: number): number => {
    if (frames > 8) reject('E2BIG', `the call stack of ${frames} frames is too deep !`);
    const known = depths.get(n);
    if (known !== undefined) return known;
    const { start, end, stackDepth } = env.subprogs[n]!;
    const own = Math.ceil(Math.max(stackDepth, 1) / 32) * 32;
    let deepest = own;
    for (let i = start; i < end; i++) {
      const insn = env.insns[i]!;
      const isCall = insn.code === (isa.BPF_JMP | isa.BPF_CALL) && insn.src === isa.BPF_PSEUDO_CALL;
      const isFunc = isa.isLdImm64(insn) && insn.src === isa.BPF_PSEUDO_FUNC;
      if (isCall || isFunc) {
        const callee = env.subprogs.findIndex((one) => one.start === calledFunction(insn, i));
        const depth = own + visit(callee, frames + 1);
        if (depth > MAX_BPF_STACK) {
          reject('EACCES', `combined stack size of ${frames + 1} calls is ${depth}. Too large`);
        }
        deepest = Math.max(deepest, depth);
      }
      if (isa.isLdImm64(insn)) i++;
    }
    depths.set(n, deepest);
    return deepest;
  };
  return visit(0, 1);
}

function summaryLine(env: Env): string {
  return (
    `processed ${env.insnProcessed} insns (limit ${env.maxInsns}) max_states_per_insn ${env.maxStatesPerInsn} ` +
    `total_states ${env.totalStates} peak_states ${env.peakStates} mark_read 0`
  );
}

/** Runs one pass; gives the error or the depth of stack. */
function run(env: Env): { rejection: Rejection } | { stackDepth: number } {
  try {
    checkProgram(env);
    env.insn = -1;
    return { stackDepth: checkStackDepth(env) };
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
    insns: input.insns,
    maps: input.maps,
    ctxReads: env.ctxReads,
    kfuncsUsed: [...env.kfuncsUsed],
    helpersUsed: [...env.helpersUsed],
    stackDepth: (result as { stackDepth: number }).stackDepth,
    subprogs: env.subprogs.map(({ start }) => start),
    reachable: Array.from(
      env.seen,
      (seen, i) => seen !== 0 || (i > 0 && env.seen[i - 1] !== 0 && isSecondSlot(input.insns, i)),
    ),
    log: env.logLines.join('\n'),
  };
}

const isSecondSlot = (insns: readonly Insn[], i: number): boolean =>
  insns[i]!.code === 0 && isa.isLdImm64(insns[i - 1]!);

export { NOT_INIT };
