/** Conditional jumps (check_cond_jmp_op): which sides are possible, and what is known on each. */

import type { Insn } from '../isa.ts';
import * as isa from '../isa.ts';
import { addRanges32, addRanges64 } from './alu.ts';
import { type Env, pushState, readReg } from './env.ts';
import { reject } from './error.ts';
import { flipOp, isScalarBranchTaken, refineBranch } from './jumps.ts';
import { markPrecise } from './precision.ts';
import { type Reg, regConstValue, regIsConst, scalarConst, ZERO } from './reg.ts';
import { isSpill, mapRegs, type VerifierState } from './state.ts';
import { tnumAdd, tnumConst } from './tnum.ts';

/** Pointers that a comparison with 0 is decided for, as in reg_not_null. */
const NEVER_NULL: ReadonlySet<string> = new Set(['map_key', 'map_value', 'map_ptr', 'mem']);

/** is_branch_taken: decided, or undefined. A pointer that is not NULL is not 0. */
function isBranchTaken(a: Reg, b: Reg, op: number, is32: boolean): boolean | undefined {
  if (!a.isPointer && !b.isPointer) return isScalarBranchTaken(a, b, op, is32);
  const [ptr, constant, operation] = regIsConst(b, is32) ? [a, b, op] : [b, a, flipOp(op)];
  if (!regIsConst(constant, is32) || regConstValue(constant, is32) !== 0n) return undefined;
  if (!NEVER_NULL.has(ptr.type) || ptr.nullable || is32) return undefined;
  if (operation === isa.BPF_JEQ) return false;
  return operation === isa.BPF_JNE ? true : undefined;
}

/** Frame, register, slot: where a value is. */
type Place = readonly [number, number, number];

/** collect_linked_regs: everything that has this id. */
function linkedPlaces(state: VerifierState, id: number): Place[] {
  const places: Place[] = [];
  for (const [f, frame] of state.frames.entries()) {
    for (let i = 0; i < 10; i++) {
      if (frame.regs[i]!.type === 'scalar' && frame.regs[i]!.id === id) places.push([f, i, -1]);
    }
    for (const [spi, slot] of frame.stack.entries()) {
      if (isSpill(slot) && slot.spilled.type === 'scalar' && slot.spilled.id === id)
        places.push([f, -1, spi]);
    }
  }
  return places;
}

/** What `reg` is, when `known`, linked to it, has turned out to be what it is (sync_linked_regs). */
function relink(reg: Reg, known: Reg): Reg {
  if ((!reg.addConst && !known.addConst) || (reg.addConst === known.addConst && reg.off === known.off)) {
    const same = known.copy();
    same.addConst = reg.addConst;
    same.off = reg.off;
    return same;
  }
  const delta = BigInt((reg.addConst ? reg.off : 0) - (known.addConst ? known.off : 0));
  const sum = known.copy();
  const constant = scalarConst(delta);
  addRanges32(sum, constant);
  addRanges64(sum, constant);
  sum.varOff = tnumAdd(known.varOff, tnumConst(delta));
  sum.addConst = reg.addConst;
  sum.off = reg.off;
  return sum.sync();
}

function syncLinked(state: VerifierState, known: Reg): void {
  if (known.type !== 'scalar' || known.id === 0) return;
  mapRegs(state, (reg) =>
    reg !== known && reg.type === 'scalar' && reg.id === known.id ? relink(reg, known) : reg,
  );
}

/** mark_ptr_or_null_regs: all copies of a pointer that was compared with NULL. */
function markNull(state: VerifierState, ptr: Reg, isNull: boolean): void {
  const { id, refObjId } = ptr;
  if (isNull && refObjId !== 0 && refObjId === id) state.refs = state.refs.filter((ref) => ref.id !== id);
  mapRegs(state, (reg) => {
    if (!reg.nullable || reg.id !== id) return reg;
    if (isNull) return ZERO;
    const copy = reg.copy();
    copy.nullable = false;
    copy.id = 0;
    return copy;
  });
}

/** The scalars of a comparison on one side. */
function narrow(
  state: VerifierState,
  insn: Insn,
  a: Reg,
  b: Reg,
  op: number,
  is32: boolean,
  taken: boolean,
): void {
  const { frame } = state;
  const [left, right] = refineBranch(a, b, op, is32, taken);
  const isX = isa.BPF_SRC(insn.code) === isa.BPF_X;
  frame.regs[insn.dst] = left;
  if (isX) {
    frame.regs[insn.src] = right;
    syncLinked(state, right);
  }
  syncLinked(state, left);
}

/** Follows one side now and keeps the other for later; gives the next instruction. */
export function checkConditionalJump(env: Env, insn: Insn, at: number): number {
  const op = isa.BPF_OP(insn.code);
  const is32 = isa.BPF_CLASS(insn.code) === isa.BPF_JMP32;
  const isX = isa.BPF_SRC(insn.code) === isa.BPF_X;
  if (op > isa.BPF_JSLE) reject('EINVAL', `invalid BPF_JMP/JMP32 opcode ${op.toString(16)}`);
  if (isX ? insn.imm !== 0 : insn.src !== 0) reject('EINVAL', 'BPF_JMP/JMP32 uses reserved fields');
  const dst = readReg(env, insn.dst);
  const src = isX ? readReg(env, insn.src) : scalarConst(BigInt(insn.imm));
  const target = at + insn.off + 1;

  const taken = isBranchTaken(dst, src, op, is32);
  if (taken !== undefined) {
    // Somebody else's state with other values would go the other way.
    if (dst.type === 'scalar') markPrecise(env, insn.dst);
    if (isX && src.type === 'scalar') markPrecise(env, insn.src);
    return taken ? target : at + 1;
  }

  const places = new Map<string, Place>();
  for (const reg of [dst, isX ? src : ZERO]) {
    if (reg.type !== 'scalar' || reg.id === 0) continue;
    for (const place of linkedPlaces(env.state, reg.id)) places.set(place.join(), place);
  }
  if (places.size > 1) env.node.linked = [...places.values()];

  const other = pushState(env, target);
  if (dst.type === 'scalar' && src.type === 'scalar') {
    const isSame = isX && insn.dst === insn.src;
    if (!isSame) {
      narrow(other, insn, dst, src, op, is32, true);
      narrow(env.state, insn, dst, src, op, is32, false);
    }
  } else if (!isX && !is32 && insn.imm === 0 && dst.nullable && (op === isa.BPF_JEQ || op === isa.BPF_JNE)) {
    markNull(env.state, dst, op === isa.BPF_JNE);
    markNull(other, dst, op === isa.BPF_JEQ);
  } else if (isX && !is32 && (op === isa.BPF_JEQ || op === isa.BPF_JNE) && dst.isPointer && src.isPointer) {
    // Equal to a pointer that is not NULL: not NULL either.
    const equal = op === isa.BPF_JEQ ? other : env.state;
    if (dst.nullable && !src.nullable) markNull(equal, dst, false);
    else if (src.nullable && !dst.nullable) markNull(equal, src, false);
  }
  return at + 1;
}
