/**
 * What a comparison tells: whether it is decided (is_scalar_branch_taken), and what its operands' ranges become on each side
 * (reg_set_min_max, regs_refine_cond_op of kernel/bpf/verifier.c).
 */
import * as isa from '../isa.ts';
import { type Reg, regConstValue, regIsConst } from './reg.ts';
import {
  tnumAnd,
  tnumConst,
  tnumIntersect,
  tnumIsConst,
  tnumOr,
  tnumSubreg,
  tnumWithSubreg,
  U64_MAX,
} from './tnum.ts';

/** `!(x & y)`: the inverse of BPF_JSET, no instruction of its own. */
const NOT_JSET = isa.BPF_JSET | 1;

const FLIPPED: Readonly<Record<number, number>> = {
  [isa.BPF_JGE]: isa.BPF_JLE,
  [isa.BPF_JGT]: isa.BPF_JLT,
  [isa.BPF_JLE]: isa.BPF_JGE,
  [isa.BPF_JLT]: isa.BPF_JGT,
  [isa.BPF_JSGE]: isa.BPF_JSLE,
  [isa.BPF_JSGT]: isa.BPF_JSLT,
  [isa.BPF_JSLE]: isa.BPF_JSGE,
  [isa.BPF_JSLT]: isa.BPF_JSGT,
};

const INVERSE: Readonly<Record<number, number>> = {
  [isa.BPF_JEQ]: isa.BPF_JNE,
  [isa.BPF_JNE]: isa.BPF_JEQ,
  [isa.BPF_JSET]: NOT_JSET,
  [isa.BPF_JGE]: isa.BPF_JLT,
  [isa.BPF_JGT]: isa.BPF_JLE,
  [isa.BPF_JLE]: isa.BPF_JGT,
  [isa.BPF_JLT]: isa.BPF_JGE,
  [isa.BPF_JSGE]: isa.BPF_JSLT,
  [isa.BPF_JSGT]: isa.BPF_JSLE,
  [isa.BPF_JSLE]: isa.BPF_JSGT,
  [isa.BPF_JSLT]: isa.BPF_JSGE,
};

/** The operation with its operands exchanged. */
export const flipOp = (op: number): number => FLIPPED[op] ?? op;

type Taken = boolean | undefined;

function compare<T extends number | bigint>(min1: T, max1: T, min2: T, max2: T, op: number): Taken {
  switch (op) {
    case isa.BPF_JGT:
    case isa.BPF_JSGT:
      return min1 > max2 ? true : max1 <= min2 ? false : undefined;
    case isa.BPF_JGE:
    case isa.BPF_JSGE:
      return min1 >= max2 ? true : max1 < min2 ? false : undefined;
    case isa.BPF_JLT:
    case isa.BPF_JSLT:
      return max1 < min2 ? true : min1 >= max2 ? false : undefined;
    default:
      return max1 <= min2 ? true : min1 > max2 ? false : undefined;
  }
}

function rangesMeet(a: Reg, b: Reg, is32: boolean): boolean {
  if (a.u32min > b.u32max || a.u32max < b.u32min || a.s32min > b.s32max || a.s32max < b.s32min) return false;
  return is32 || !(a.umin > b.umax || a.umax < b.umin || a.smin > b.smax || a.smax < b.smin);
}

/** True or false when the jump always or never goes, for two scalars. */
export function isScalarBranchTaken(a: Reg, b: Reg, op: number, is32: boolean): Taken {
  const known1 = is32 ? tnumSubreg(a.varOff) : a.varOff;
  const known2 = is32 ? tnumSubreg(b.varOff) : b.varOff;
  switch (op) {
    case isa.BPF_JEQ:
    case isa.BPF_JNE: {
      const isEq = op === isa.BPF_JEQ;
      if (tnumIsConst(known1) && tnumIsConst(known2)) return (known1.value === known2.value) === isEq;
      if (!rangesMeet(a, b, is32)) return !isEq;
      // A bit that both know and that differs.
      const bothKnown = ~(known1.mask | known2.mask);
      if (((known1.value ^ known2.value) & bothKnown) !== 0n) return !isEq;
      return undefined;
    }
    case isa.BPF_JSET: {
      const [bits, mask] = tnumIsConst(known2) ? [known1, known2] : [known2, known1];
      if (!tnumIsConst(mask)) return undefined;
      if ((bits.value & mask.value) !== 0n) return true;
      return ((bits.mask | bits.value) & mask.value) === 0n ? false : undefined;
    }
    case isa.BPF_JSGT:
    case isa.BPF_JSGE:
    case isa.BPF_JSLT:
    case isa.BPF_JSLE:
      return is32
        ? compare(a.s32min, a.s32max, b.s32min, b.s32max, op)
        : compare(a.smin, a.smax, b.smin, b.smax, op);
    default:
      return is32
        ? compare(a.u32min, a.u32max, b.u32min, b.u32max, op)
        : compare(a.umin, a.umax, b.umin, b.umax, op);
  }
}

const larger = (a: bigint, b: bigint): bigint => (a > b ? a : b);
const smaller = (a: bigint, b: bigint): bigint => (a < b ? a : b);

function refineEqual(a: Reg, b: Reg, is32: boolean): void {
  const u32min = Math.max(a.u32min, b.u32min);
  const u32max = Math.min(a.u32max, b.u32max);
  const s32min = Math.max(a.s32min, b.s32min);
  const s32max = Math.min(a.s32max, b.s32max);
  Object.assign(a, { u32min, u32max, s32min, s32max });
  Object.assign(b, { u32min, u32max, s32min, s32max });
  if (is32) {
    const sub = tnumIntersect(tnumSubreg(a.varOff), tnumSubreg(b.varOff));
    a.varOff = tnumWithSubreg(a.varOff, sub);
    b.varOff = tnumWithSubreg(b.varOff, sub);
    return;
  }
  const range = {
    umin: larger(a.umin, b.umin),
    umax: smaller(a.umax, b.umax),
    smin: larger(a.smin, b.smin),
    smax: smaller(a.smax, b.smax),
    varOff: tnumIntersect(a.varOff, b.varOff),
  };
  Object.assign(a, range);
  Object.assign(b, range);
}

/** A constant at an edge of the range moves that edge. */
function refineNotEqual(a: Reg, b: Reg, is32: boolean): void {
  const [reg, constant] = regIsConst(b, is32) ? [a, b] : [b, a];
  if (!regIsConst(constant, is32)) return;
  const value = regConstValue(constant, is32);
  if (is32) {
    const unsigned = Number(value);
    if (reg.u32min === unsigned) reg.u32min++;
    if (reg.u32max === unsigned) reg.u32max--;
    if (reg.s32min === (unsigned | 0)) reg.s32min++;
    if (reg.s32max === (unsigned | 0)) reg.s32max--;
    return;
  }
  if (reg.umin === value) reg.umin++;
  if (reg.umax === value) reg.umax--;
  const signed = BigInt.asIntN(64, value);
  if (reg.smin === signed) reg.smin++;
  if (reg.smax === signed) reg.smax--;
}

function refineBits(a: Reg, b: Reg, isSet: boolean, is32: boolean): void {
  const [reg, constant] = regIsConst(b, is32) ? [a, b] : [b, a];
  if (!regIsConst(constant, is32)) return;
  const value = regConstValue(constant, is32);
  const known = is32 ? tnumSubreg(reg.varOff) : reg.varOff;
  // "Any of these bits" says something about one only when there is just one.
  if (isSet && (value === 0n || (value & (value - 1n)) !== 0n)) return;
  const refined = isSet ? tnumOr(known, tnumConst(value)) : tnumAnd(known, tnumConst(U64_MAX & ~value));
  reg.varOff = is32 ? tnumWithSubreg(reg.varOff, refined) : refined;
}

/** Narrows both for the case that `a op b` holds. */
function refine(a: Reg, b: Reg, op: number, is32: boolean): void {
  switch (op) {
    case isa.BPF_JGE:
    case isa.BPF_JGT:
    case isa.BPF_JSGE:
    case isa.BPF_JSGT:
      refine(b, a, flipOp(op), is32);
      return;
    case isa.BPF_JEQ:
      refineEqual(a, b, is32);
      return;
    case isa.BPF_JNE:
      refineNotEqual(a, b, is32);
      return;
    case isa.BPF_JSET:
    case NOT_JSET:
      refineBits(a, b, op === isa.BPF_JSET, is32);
      return;
    case isa.BPF_JLE:
    case isa.BPF_JLT: {
      const strict = op === isa.BPF_JLT ? 1 : 0;
      if (is32) {
        a.u32max = Math.min(a.u32max, b.u32max - strict);
        b.u32min = Math.max(a.u32min + strict, b.u32min);
      } else {
        a.umax = smaller(a.umax, b.umax - BigInt(strict));
        b.umin = larger(a.umin + BigInt(strict), b.umin);
      }
      return;
    }
    case isa.BPF_JSLE:
    case isa.BPF_JSLT: {
      const strict = op === isa.BPF_JSLT ? 1 : 0;
      if (is32) {
        a.s32max = Math.min(a.s32max, b.s32max - strict);
        b.s32min = Math.max(a.s32min + strict, b.s32min);
      } else {
        a.smax = smaller(a.smax, b.smax - BigInt(strict));
        b.smin = larger(a.smin + BigInt(strict), b.smin);
      }
      return;
    }
  }
}

/** The two scalars, narrowed for the side where the jump goes (`taken`) or does not. Gives fresh copies. */
export function refineBranch(a: Reg, b: Reg, op: number, is32: boolean, taken: boolean): [Reg, Reg] {
  const left = a.copy();
  const right = b.copy();
  refine(left, right, taken ? op : INVERSE[op]!, is32);
  return [left.sync(), right.sync()];
}
