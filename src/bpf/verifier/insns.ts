/** One instruction in the current state: loads, stores, jumps, and who checks the others (do_check of kernel/bpf/verifier.c). */
import type { Insn } from '../isa.ts';
import * as isa from '../isa.ts';
import { mayLoadAbsolute } from '../prog-types/index.ts';
import { checkAlu } from './alu-insns.ts';
import { checkConditionalJump } from './branch.ts';
import { checkHelperCall, leaveEarly } from './calls.ts';
import { calledFunction, isMayGoto } from './cfg.ts';
import { type Env, pushState } from './env.ts';
import { reject } from './error.ts';
import { checkExit, checkThrow } from './exits.ts';
import { checkFuncCall } from './funcs.ts';
import { checkKfuncCall } from './kfuncs.ts';
import {
  checkAtomic,
  checkAtomicPointer,
  checkMemAccess,
  checkPlainPointer,
  checkPointerKind,
} from './memory.ts';
import { findPreviousEntry, widenScalars } from './prune.ts';
import { checkSections, leakedReferences } from './refs.ts';
import { pointer, scalarConst, UNKNOWN } from './reg.ts';
import { checkWritable, clearCallerSaved, readReg, setReg } from './reg-access.ts';

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
  if (insn.off !== 0) reject('EINVAL', 'BPF_LD_IMM64 uses reserved fields');
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
      // A user address, of which nothing is known but that.
      if (env.maps[insn.imm]!.type === 'arena') {
        setReg(env, insn.dst, UNKNOWN);
        return;
      }
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
        `BPF_ATOMIC uses invalid atomic opcode ${(insn.imm >>> 0).toString(16).padStart(2, '0')}`,
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
      if (!isMayGoto(insn) || insn.dst !== 0 || insn.imm !== 0 || insn.off === 0)
        reject('EINVAL', `invalid may_goto off ${insn.off} imm ${insn.imm}`);
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
export function checkInsn(env: Env, at: number): number | undefined {
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
