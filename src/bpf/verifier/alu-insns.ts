/** Arithmetic instructions (check_alu_op of kernel/bpf/verifier.c). */
import type { Insn } from '../isa.ts';
import * as isa from '../isa.ts';
import { scalarOp } from './alu.ts';
import type { Env } from './env.ts';
import { reject } from './error.ts';
import { pointerOp } from './pointers.ts';
import { markPrecise } from './precision.ts';
import { pointer, type Reg, scalarConst, UNKNOWN } from './reg.ts';
import {
  checkWritable,
  isPointerValue,
  readReg,
  setReg,
  updateReg,
  withScalarId,
  writeReg,
} from './reg-access.ts';
import { sanitizeScalars } from './sanitize.ts';

/** `off` of a move that casts between address spaces. */
const BPF_ADDR_SPACE_CAST = 1;

const ALU_MAX_OP = isa.BPF_END;

/** check_alu_op */
export function checkAlu(env: Env, insn: Insn): void {
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
  // Any arithmetic will do with pointers that are 32 bits of anything.
  if (dst.type === 'arena' || src.type === 'arena') {
    if (!is32) env.arena32.add(env.insn);
    return dst.type === 'arena' ? dst : src;
  }
  if (dst.isPointer && src.isPointer) {
    // Their distance is a number that root may have.
    if (op === isa.BPF_SUB && env.allowPtrLeaks) return UNKNOWN;
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
  sanitizeScalars(env, insn);
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
  if (isPointerValue(env, reg)) reject('EACCES', `R${insn.dst} pointer arithmetic prohibited`);
  // Negation and byte order: nothing is followed through them.
  writeReg(env, insn.dst, isNeg && !is64 ? UNKNOWN.copy().coerce(4) : UNKNOWN);
}

/** Pointers into an arena as user space has them, and back. */
function checkAddrSpaceCast(env: Env, insn: Insn): void {
  if (insn.imm !== 1 && insn.imm !== 1 << 16)
    reject('EINVAL', 'addr_space_cast insn can only convert between address space 1 and 0');
  if (env.arena < 0) {
    reject('EINVAL', 'addr_space_cast insn can only be used in a program that has an associated arena');
  }
  readReg(env, insn.src);
  writeReg(env, insn.dst, insn.imm === 1 ? pointer('arena') : UNKNOWN);
}

function checkMov(env: Env, insn: Insn, is64: boolean, isX: boolean): void {
  if (!isX) {
    if (insn.src !== 0 || insn.off !== 0) reject('EINVAL', 'BPF_MOV uses reserved fields');
    checkWritable(insn.dst);
    setReg(env, insn.dst, scalarConst(is64 ? BigInt(insn.imm) : BigInt(insn.imm >>> 0)));
    return;
  }
  if (is64 && insn.off === BPF_ADDR_SPACE_CAST) {
    checkAddrSpaceCast(env, insn);
    return;
  }
  const extendOk = insn.off === 0 || insn.off === 8 || insn.off === 16 || (is64 && insn.off === 32);
  if (insn.imm !== 0 || !extendOk) reject('EINVAL', 'BPF_MOV uses reserved fields');
  let src = readReg(env, insn.src);
  checkWritable(insn.dst);
  if (insn.off !== 0 && src.isPointer) {
    if (isPointerValue(env, src)) reject('EACCES', `R${insn.src} sign-extension part of pointer`);
    setReg(env, insn.dst, is64 ? UNKNOWN : UNKNOWN.copy().coerce(4));
    return;
  }
  if (is64 && insn.off === 0) {
    src = linkCopy(env, insn.src, src);
    setReg(env, insn.dst, src);
    return;
  }
  if (src.isPointer) {
    if (isPointerValue(env, src)) reject('EACCES', `R${insn.src} partial copy of pointer`);
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
