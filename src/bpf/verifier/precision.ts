/**
 * Which scalars have to be exact (mark_chain_precision, backtrack_insn). A state that was found safe covers another with any other
 * value in a scalar, unless that value decided something later: a branch, an address, a size. Then the walk back from there
 * marks it as precise in every checkpoint that it came through.
 */

import * as isa from '../isa.ts';
import { calledFunction, callsBack, kfuncCallsBack } from './cfg.ts';
import type { Env } from './env.ts';
import { SlotSet } from './slot-set.ts';
import { type HistoryNode, isSpill, type VerifierState } from './state.ts';

const ARGS = 0b111110;

/** Registers and slots that are looked for, by frame (`struct backtrack_state`). */
class Backtrack {
  frame: number;
  readonly regs: number[] = [];
  readonly slots: SlotSet[] = [];

  constructor(frame: number) {
    this.frame = frame;
    for (let i = 0; i <= frame; i++) {
      this.regs.push(0);
      this.slots.push(new SlotSet());
    }
  }

  get isEmpty(): boolean {
    for (let i = 0; i <= this.frame; i++) {
      if (this.regs[i] !== 0 || !this.slots[i]!.isEmpty) return false;
    }
    return true;
  }

  has(regno: number): boolean {
    return (this.regs[this.frame]! & (1 << regno)) !== 0;
  }

  add(regno: number): void {
    // The frame pointer is never looked for.
    if (regno !== 10) this.regs[this.frame]! |= 1 << regno;
  }

  remove(regno: number): void {
    this.regs[this.frame]! &= ~(1 << regno);
  }

  hasSlot(frame: number, spi: number): boolean {
    return frame <= this.frame && this.slots[frame]!.has(spi);
  }

  addSlot(frame: number, spi: number): void {
    if (frame <= this.frame) this.slots[frame]!.add(spi);
  }

  removeSlot(frame: number, spi: number): void {
    this.slots[frame]!.remove(spi);
  }

  enter(): void {
    this.frame++;
    this.regs[this.frame] = 0;
    this.slots[this.frame] = new SlotSet();
  }

  /** Leaves a function backwards, to its call. */
  leave(): void {
    this.frame--;
  }
}

/** Registers that held one id at a comparison are one value: needing one is needing all (bt_sync_linked_regs). */
function syncLinked(bt: Backtrack, node: HistoryNode): void {
  const { linked } = node;
  if (linked === undefined) return;
  const any = linked.some(([frame, reg, spi]) =>
    reg >= 0 ? frame <= bt.frame && (bt.regs[frame]! & (1 << reg)) !== 0 : bt.hasSlot(frame, spi),
  );
  if (!any) return;
  for (const [frame, reg, spi] of linked) {
    if (frame > bt.frame) continue;
    if (reg >= 0) bt.regs[frame]! |= 1 << reg;
    else bt.addSlot(frame, spi);
  }
}

/** Steps back over one instruction; false when it cannot be followed. `next` is the instruction executed after it. */
function stepBack(env: Env, bt: Backtrack, node: HistoryNode, next: number): boolean {
  syncLinked(bt, node);
  const ok = stepBackInsn(env, bt, node, next);
  syncLinked(bt, node);
  return ok;
}

function stepBackInsn(env: Env, bt: Backtrack, node: HistoryNode, next: number): boolean {
  const insn = env.insns[node.insn]!;
  const cls = isa.BPF_CLASS(insn.code);
  const isX = isa.BPF_SRC(insn.code) === isa.BPF_X;
  switch (cls) {
    case isa.BPF_ALU:
    case isa.BPF_ALU64: {
      const op = isa.BPF_OP(insn.code);
      if (!bt.has(insn.dst) || op === isa.BPF_END || op === isa.BPF_NEG) return true;
      if (op === isa.BPF_MOV) bt.remove(insn.dst);
      if (isX) bt.add(insn.src);
      return true;
    }
    case isa.BPF_LD:
      if (isa.BPF_MODE(insn.code) !== isa.BPF_IMM && next !== node.insn + 1) return stepBackEarly(bt);
      if (!bt.has(insn.dst)) return true;
      bt.remove(insn.dst);
      return isa.BPF_MODE(insn.code) === isa.BPF_IMM;
    case isa.BPF_LDX:
      return stepBackLoad(bt, insn, node);
    case isa.BPF_ST:
    case isa.BPF_STX:
      return stepBackStore(bt, insn, node);
    default:
      return stepBackJump(env, bt, node, next);
  }
}

function stepBackLoad(bt: Backtrack, insn: isa.Insn, node: HistoryNode): boolean {
  if (!bt.has(insn.dst)) return true;
  bt.remove(insn.dst);
  if (node.stackFrame >= 0) bt.addSlot(node.stackFrame, node.stackSlot);
  return true;
}

function stepBackStore(bt: Backtrack, insn: isa.Insn, node: HistoryNode): boolean {
  const isAtomic = isa.BPF_CLASS(insn.code) === isa.BPF_STX && isa.BPF_MODE(insn.code) === isa.BPF_ATOMIC;
  if (isAtomic && insn.imm === isa.BPF_LOAD_ACQ) return stepBackLoad(bt, insn, node);
  if (isAtomic && insn.imm !== isa.BPF_STORE_REL) {
    const loaded = insn.imm === isa.BPF_CMPXCHG ? 0 : (insn.imm & isa.BPF_FETCH) !== 0 ? insn.src : -1;
    if (node.stackFrame >= 0 && bt.hasSlot(node.stackFrame, node.stackSlot)) return false;
    if (loaded >= 0 && bt.has(loaded)) {
      bt.remove(loaded);
      if (node.stackFrame >= 0) bt.addSlot(node.stackFrame, node.stackSlot);
    }
    return true;
  }
  // The address is never a scalar that is looked for.
  if (bt.has(insn.dst)) return false;
  if (node.stackFrame < 0 || !bt.hasSlot(node.stackFrame, node.stackSlot)) return true;
  bt.removeSlot(node.stackFrame, node.stackSlot);
  if (isa.BPF_CLASS(insn.code) === isa.BPF_STX) bt.add(insn.src);
  return true;
}

function stepBackJump(env: Env, bt: Backtrack, node: HistoryNode, next: number): boolean {
  const insn = env.insns[node.insn]!;
  const op = isa.BPF_OP(insn.code);
  if (isa.BPF_CLASS(insn.code) === isa.BPF_JMP && op === isa.BPF_CALL)
    return stepBackCall(env, bt, insn, node.insn, next);
  if (isa.BPF_CLASS(insn.code) === isa.BPF_JMP && op === isa.BPF_EXIT) {
    if ((bt.regs[bt.frame]! & ARGS) !== 0) return false;
    // A callback goes back to the call of its helper, a function behind its call; only the latter's r0 is seen.
    const caller = next > 0 ? env.insns[next - 1] : undefined;
    const isFunction =
      caller?.code === (isa.BPF_JMP | isa.BPF_CALL) &&
      caller.src === isa.BPF_PSEUDO_CALL &&
      !isCallbackCall(env, next);
    const needsR0 = isFunction && bt.has(0);
    bt.remove(0);
    bt.enter();
    if (needsR0) bt.add(0);
    return true;
  }
  if (isa.BPF_SRC(insn.code) === isa.BPF_X && op !== isa.BPF_JA) {
    // What is known about one operand came from the other.
    if (bt.has(insn.dst) || bt.has(insn.src)) {
      bt.add(insn.dst);
      bt.add(insn.src);
    }
  }
  return true;
}

/** A call of a helper that calls a function of the program (calls_callback). */
export function isCallbackCall(env: Env, at: number): boolean {
  const insn = env.insns[at];
  return insn !== undefined && (callsBack(insn) || kfuncCallsBack(env, insn));
}

const TAIL_CALL = 12;

/** Back into a function that a tail call, or a load outside of the packet, ended: its result comes from nothing. */
function stepBackEarly(bt: Backtrack): boolean {
  if ((bt.regs[bt.frame]! & ARGS) !== 0) return false;
  bt.remove(0);
  bt.enter();
  return true;
}

function stepBackCall(env: Env, bt: Backtrack, insn: isa.Insn, at: number, next: number): boolean {
  const isGlobal =
    insn.src === isa.BPF_PSEUDO_CALL && env.globals.has(env.subprogAt(calledFunction(insn, at)));
  if (insn.src === isa.BPF_PSEUDO_CALL && !isGlobal) {
    // Backwards out of the function: its arguments are the caller's registers.
    const mask = bt.regs[bt.frame]!;
    if ((mask & ~ARGS) !== 0 || !bt.slots[bt.frame]!.isEmpty || bt.frame === 0) return false;
    bt.leave();
    bt.regs[bt.frame]! |= mask & ARGS;
    return true;
  }
  if (insn.src === 0 && insn.imm === TAIL_CALL && next !== at + 1) return stepBackEarly(bt);
  if ((callsBack(insn) || kfuncCallsBack(env, insn)) && next !== at + 1) {
    // Out of a callback, whose arguments come from the helper.
    const mask = bt.regs[bt.frame]!;
    if ((mask & ~ARGS) !== 0 || !bt.slots[bt.frame]!.isEmpty || bt.frame === 0) return false;
    bt.leave();
    return true;
  }
  bt.remove(0);
  return (bt.regs[bt.frame]! & ARGS) === 0;
}

/** mark_all_scalars_precise: where the walk back got lost. */
function markAllPrecise(state: VerifierState): void {
  for (let at: VerifierState | undefined = state.parent; at !== undefined; at = at.parent) {
    for (const frame of at.frames) {
      for (let i = 0; i < 10; i++) {
        if (frame.regs[i]!.type === 'scalar') frame.preciseRegs |= 1 << i;
      }
      for (let spi = 0; spi < frame.stack.length; spi++) {
        if (isSpill(frame.stack[spi]!) && frame.stack[spi]!.spilled.type === 'scalar') {
          frame.preciseSlots.add(spi);
        }
      }
    }
  }
}

/** Marks in one checkpoint; what is precise there already, or no scalar, needs no further walk. */
function markState(state: VerifierState, bt: Backtrack): void {
  for (let at = Math.min(bt.frame, state.curframe); at >= 0; at--) {
    const frame = state.frames[at]!;
    for (let i = 0; i < 10 && bt.regs[at] !== 0; i++) {
      const bit = 1 << i;
      if ((bt.regs[at]! & bit) === 0) continue;
      if (frame.regs[i]!.type !== 'scalar' || (frame.preciseRegs & bit) !== 0) bt.regs[at]! &= ~bit;
      else frame.preciseRegs |= bit;
    }
    const slots = bt.slots[at]!;
    for (let spi = 0, end = slots.length; spi < end; spi++) {
      if (!slots.has(spi)) continue;
      const slot = frame.stack[spi];
      const isScalar = slot !== undefined && isSpill(slot) && slot.spilled.type === 'scalar';
      if (!isScalar || frame.preciseSlots.has(spi)) slots.remove(spi);
      else frame.preciseSlots.add(spi);
    }
  }
}

function walk(env: Env, bt: Backtrack, start: HistoryNode | undefined, from: number): void {
  let next = from;
  let node = start;
  let state: VerifierState | undefined = env.state;
  while (!bt.isEmpty) {
    for (; node !== undefined; node = node.prev) {
      if (!stepBack(env, bt, node, next)) {
        markAllPrecise(env.state);
        return;
      }
      if (bt.isEmpty) return;
      next = node.insn;
    }
    state = state.parent;
    if (state === undefined) {
      // Something set it that the walk did not see (a store through a pointer into the stack).
      markAllPrecise(env.state);
      return;
    }
    markState(state, bt);
    node = state.history;
  }
}

/** mark_chain_precision: the value of a register before the current instruction decides something. */
export function markPrecise(env: Env, regno: number): void {
  if (env.frame.regs[regno]!.type !== 'scalar') return;
  const bt = new Backtrack(env.state.curframe);
  bt.add(regno);
  walk(env, bt, env.node.prev, env.insn);
}

/** The same for registers and slots of an older state that covers the current one (propagate_precision). */
export function propagatePrecision(env: Env, old: VerifierState): void {
  const bt = new Backtrack(env.state.curframe);
  for (let at = old.curframe; at >= 0; at--) {
    const frame = old.frames[at]!;
    bt.regs[at] = frame.preciseRegs & frame.readRegs;
    bt.slots[at] = frame.preciseSlots.and(frame.readSlots);
  }
  walk(env, bt, env.state.history, env.insn);
}
