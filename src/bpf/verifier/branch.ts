/** Conditional jumps (check_cond_jmp_op): which sides are possible, and what is known on each. */

import type { Insn } from '../isa.ts';
import * as isa from '../isa.ts';
import { MAX_VAR_OFF_BIG } from './access.ts';
import { addRanges32, addRanges64 } from './alu.ts';
import { isTrusted } from './btf-access.ts';
import { type Env, pushState } from './env.ts';
import { reject } from './error.ts';
import { flipOp, isScalarBranchTaken, refineBranch } from './jumps.ts';
import { markPrecise } from './precision.ts';
import {
  AT_PKT_END,
  BEYOND_PKT_END,
  isPacketAny,
  type Reg,
  regConstValue,
  regIsConst,
  scalarConst,
  ZERO,
} from './reg.ts';
import { isPointerValue, readReg } from './reg-access.ts';
import { F_ALLOC } from './reg-type.ts';
import { pushSpeculative } from './sanitize.ts';
import { isSpill, mapRegs, type VerifierState } from './state.ts';
import { tnumAdd, tnumConst } from './tnum.ts';

/** Pointers that a comparison with 0 is decided for, as in reg_not_null. */
const NEVER_NULL: ReadonlySet<string> = new Set([
  'sock',
  'tcp_sock',
  'xdp_sock',
  'buf',
  'map_value',
  'map_key',
  'sock_common',
  'map_ptr',
]);

/** reg_not_null */
const isNotNull = (reg: Reg): boolean =>
  !reg.nullable &&
  // With any offset the sum may be 0.
  reg.smin > -MAX_VAR_OFF_BIG &&
  reg.smax < MAX_VAR_OFF_BIG &&
  (NEVER_NULL.has(reg.type) || reg.type === 'mem' || (reg.type === 'ptr_' && isTrusted(reg)));

/** is_branch_taken: decided, or undefined. A pointer that is not NULL is not 0. */
function isBranchTaken(a: Reg, b: Reg, op: number, is32: boolean): boolean | undefined {
  if (!a.isPointer && !b.isPointer) return isScalarBranchTaken(a, b, op, is32);
  if (isPacketAny(a) && isPacketAny(b) && !is32) return isPacketBranchTaken(a, b, op);
  const [ptr, constant, operation] = regIsConst(b, is32) ? [a, b, op] : [b, a, flipOp(op)];
  if (!regIsConst(constant, is32) || regConstValue(constant, is32) !== 0n) return undefined;
  if (!isNotNull(ptr) || is32) return undefined;
  if (operation === isa.BPF_JEQ) return false;
  return operation === isa.BPF_JNE ? true : undefined;
}

/** is_pkt_ptr_branch_taken: a second comparison with the packet's end. */
function isPacketBranchTaken(a: Reg, b: Reg, op: number): boolean | undefined {
  if (a.type !== 'pkt_end' && b.type !== 'pkt_end') return undefined;
  const [packet, operation] = b.type === 'pkt_end' ? [a, op] : [b, flipOp(op)];
  if (packet.range >= 0) return undefined;
  const isBeyond = packet.range === BEYOND_PKT_END;
  if (operation === isa.BPF_JLE || operation === isa.BPF_JGT)
    return isBeyond ? operation === isa.BPF_JGT : undefined;
  if (operation === isa.BPF_JLT || operation === isa.BPF_JGE)
    return isBeyond || packet.range === AT_PKT_END ? operation === isa.BPF_JGE : undefined;
  return undefined;
}

const MAX_PACKET_OFF = 0xffffn;

/** find_good_pkt_pointers: everything up to this pointer is inside of the packet. */
function findGoodPackets(state: VerifierState, ptr: Reg, isRightOpen: boolean): void {
  if (ptr.off < 0 || (ptr.off === 0 && isRightOpen)) return;
  if (ptr.umax > MAX_PACKET_OFF || ptr.umax + BigInt(ptr.off) > MAX_PACKET_OFF) return;
  const range = ptr.off + (isRightOpen ? 1 : 0);
  mapRegs(state, (reg) => {
    if (reg.type !== ptr.type || reg.id !== ptr.id || reg.range >= range) return reg;
    const copy = reg.copy();
    copy.range = range;
    return copy;
  });
}

function markPacketEnd(state: VerifierState, regno: number, isBeyond: boolean): void {
  const { regs } = state.frame;
  const reg = regs[regno]!;
  if (reg.type !== 'pkt') return;
  const copy = reg.copy();
  copy.range = isBeyond ? BEYOND_PKT_END : AT_PKT_END;
  regs[regno] = copy;
}

const isPacketStart = (reg: Reg): boolean =>
  reg.type === 'pkt' && reg.id === 0 && reg.off === 0 && reg.isConst && reg.varOff.value === 0n;

/** try_match_pkt_pointers: a comparison of a packet pointer with the end of what it points into. */
function matchPackets(insn: Insn, a: Reg, b: Reg, here: VerifierState, there: VerifierState): boolean {
  if (isa.BPF_SRC(insn.code) !== isa.BPF_X || isa.BPF_CLASS(insn.code) === isa.BPF_JMP32) return false;
  const isForward = (a.type === 'pkt' && b.type === 'pkt_end') || (a.type === 'pkt_meta' && isPacketStart(b));
  const isBackward =
    (a.type === 'pkt_end' && b.type === 'pkt') || (isPacketStart(a) && b.type === 'pkt_meta');
  if (!isForward && !isBackward) return false;
  const op = isForward ? isa.BPF_OP(insn.code) : flipOp(isa.BPF_OP(insn.code));
  const [ptr, regno] = isForward ? [a, insn.dst] : [b, insn.src];
  switch (op) {
    case isa.BPF_JGT:
      findGoodPackets(here, ptr, false);
      markPacketEnd(there, regno, true);
      return true;
    case isa.BPF_JLT:
      findGoodPackets(there, ptr, true);
      markPacketEnd(here, regno, false);
      return true;
    case isa.BPF_JGE:
      findGoodPackets(here, ptr, true);
      markPacketEnd(there, regno, false);
      return true;
    case isa.BPF_JLE:
      findGoodPackets(there, ptr, false);
      markPacketEnd(here, regno, true);
      return true;
    default:
      return false;
  }
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
function markNull(state: VerifierState, ptr: Reg, isNull: boolean, onValue?: (reg: Reg) => void): void {
  const { id, refObjId } = ptr;
  if (isNull && refObjId !== 0 && refObjId === id) state.refs = state.refs.filter((ref) => ref.id !== id);
  mapRegs(state, (reg) => {
    if (!reg.nullable || reg.id !== id) return reg;
    if (isNull) return ZERO;
    const copy = reg.copy();
    copy.nullable = false;
    if (copy.type === 'map_value' && onValue !== undefined) onValue(copy);
    // A lock, and an inner map, is known by it.
    else if ((copy.flags & F_ALLOC) === 0) copy.id = 0;
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

/** mark_ptr_not_null_reg of a map's value: of a map in a map it is a map, of a socket map a socket. */
function valueOfInner(env: Env, reg: Reg): void {
  const spec = env.maps[reg.map];
  if (spec === undefined) return;
  if (spec.type === 'array_of_maps' || spec.type === 'hash_of_maps') {
    reg.type = 'map_ptr';
    reg.mapUid = reg.id;
    reg.map = env.innerMap(reg.map);
    reg.id = 0;
  } else if (spec.type === 'xskmap') {
    reg.type = 'xdp_sock';
    reg.id = 0;
  } else if (spec.type === 'sockmap' || spec.type === 'sockhash') {
    reg.type = 'sock';
    reg.id = 0;
  } else if (
    spec.record?.fields.some(({ kind }) => kind === 'spin_lock' || kind === 'res_spin_lock') !== true
  ) {
    reg.id = 0;
  }
}

/** Follows one side now and keeps the other for later; gives the next instruction. */
export function checkConditionalJump(env: Env, insn: Insn, at: number): number {
  const op = isa.BPF_OP(insn.code);
  const is32 = isa.BPF_CLASS(insn.code) === isa.BPF_JMP32;
  const isX = isa.BPF_SRC(insn.code) === isa.BPF_X;
  if (op > isa.BPF_JSLE) reject('EINVAL', `invalid BPF_JMP/JMP32 opcode ${op.toString(16)}`);
  const dst = readReg(env, insn.dst);
  if (isX ? insn.imm !== 0 : insn.src !== 0) reject('EINVAL', 'BPF_JMP/JMP32 uses reserved fields');
  const src = isX ? readReg(env, insn.src) : scalarConst(BigInt(insn.imm));
  if (isX && !(isPacketAny(dst) && isPacketAny(src)) && isPointerValue(env, src))
    reject('EACCES', `R${insn.src} pointer comparison prohibited`);
  const target = at + insn.off + 1;

  if (dst.type === 'fp' || (isX && src.type === 'fp')) env.keepNode();
  const taken = isBranchTaken(dst, src, op, is32);
  if (taken !== undefined) {
    // Somebody else's state with other values would go the other way.
    if (dst.type === 'scalar') markPrecise(env, insn.dst);
    if (isX && src.type === 'scalar') markPrecise(env, insn.src);
    if (!env.bypassSpecV1) pushSpeculative(env, insn, taken ? at + 1 : target);
    return taken ? target : at + 1;
  }

  const first = dst.type === 'scalar' && dst.id !== 0 ? linkedPlaces(env.state, dst.id) : [];
  const hasSecond = isX && src.type === 'scalar' && src.id !== 0 && src.id !== dst.id;
  const places = hasSecond ? [...first, ...linkedPlaces(env.state, src.id)] : first;
  if (places.length > 1) env.keepNode().linked = places;

  const other = pushState(env, target);
  if (dst.type === 'scalar' && src.type === 'scalar') {
    const isSame = isX && insn.dst === insn.src;
    if (!isSame) {
      narrow(other, insn, dst, src, op, is32, true);
      narrow(env.state, insn, dst, src, op, is32, false);
    }
  } else if (!isX && !is32 && insn.imm === 0 && dst.nullable && (op === isa.BPF_JEQ || op === isa.BPF_JNE)) {
    const onValue = (reg: Reg): void => valueOfInner(env, reg);
    markNull(env.state, dst, op === isa.BPF_JNE, onValue);
    markNull(other, dst, op === isa.BPF_JEQ, onValue);
  } else if (isX && !is32 && (op === isa.BPF_JEQ || op === isa.BPF_JNE) && dst.isPointer && src.isPointer) {
    // Equal to a pointer that is not NULL: not NULL either.
    const equal = op === isa.BPF_JEQ ? other : env.state;
    const isPlain = dst.type !== 'ptr_' && src.type !== 'ptr_';
    const onValue = (reg: Reg): void => valueOfInner(env, reg);
    if (isPlain && dst.nullable && !src.nullable) markNull(equal, dst, false, onValue);
    else if (isPlain && src.nullable && !dst.nullable) markNull(equal, src, false, onValue);
  }
  const isNullCheck =
    !isX && !is32 && insn.imm === 0 && dst.nullable && (op === isa.BPF_JEQ || op === isa.BPF_JNE);
  if (!isNullCheck && !matchPackets(insn, dst, src, env.state, other) && isPointerValue(env, dst))
    reject('EACCES', `R${insn.dst} pointer comparison prohibited`);
  return at + 1;
}
