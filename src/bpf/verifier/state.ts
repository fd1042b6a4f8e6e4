/**
 * The verifier's state at one instruction: frames with registers and stack (`struct bpf_verifier_state`, `struct bpf_func_state`).
 * Registers and slots are shared between states and never changed in place; only the arrays and marks belong to one state.
 */
import { MAX_BPF_STACK, MAX_CALL_FRAMES } from '../isa.ts';
import { NOT_INIT, pointer, type Reg } from './reg.ts';
import type { DynptrKind } from './reg-type.ts';
import { SlotSet } from './slot-set.ts';

/** enum bpf_stack_slot_type, of one byte. */
export const STACK_INVALID = 0;
export const STACK_SPILL = 1;
export const STACK_MISC = 2;
export const STACK_ZERO = 3;
/** Half of a dynptr, a part of an iterator: `StackSlot.object` says which. */
export const STACK_DYNPTR = 4;
export const STACK_ITER = 5;

/** What the kernel keeps in a slot of a dynptr (two slots). */
export interface DynptrSlot {
  readonly is: 'dynptr';
  readonly kind: DynptrKind;
  readonly isFirst: boolean;
  readonly id: number;
  readonly refObjId: number;
}

/** An open-coded iterator, of one or more slots; the lowest-numbered one has the state. */
export interface IterSlot {
  readonly is: 'iter';
  /** `iter_num` */
  readonly name: string;
  readonly isFirst: boolean;
  readonly state: 'active' | 'drained';
  readonly depth: number;
  readonly refObjId: number;
  /** Valid in an RCU section only, or no longer at all. */
  readonly trust: 'trusted' | 'rcu' | 'untrusted';
}

/** Eight bytes of stack. `types[7]` is the lowest address, as in the kernel. */
export interface StackSlot {
  readonly types: readonly number[];
  /** What was spilled; NOT_INIT unless `types[7]` is STACK_SPILL. */
  readonly spilled: Reg;
  readonly object?: DynptrSlot | IterSlot | undefined;
}

const allBytes = (type: number): number[] => new Array<number>(8).fill(type);
export const SLOT_INVALID: StackSlot = { types: allBytes(STACK_INVALID), spilled: NOT_INIT };
export const SLOT_MISC: StackSlot = { types: allBytes(STACK_MISC), spilled: NOT_INIT };
export const SLOT_ZERO: StackSlot = { types: allBytes(STACK_ZERO), spilled: NOT_INIT };
const SPILL_TYPES = allBytes(STACK_SPILL);
export const spillSlot = (reg: Reg): StackSlot => ({ types: SPILL_TYPES, spilled: reg });

export const isSpill = (slot: StackSlot): boolean => slot.types[7] === STACK_SPILL;

const SLOTS = MAX_BPF_STACK / 8;

/** One function's activation. */
export class Frame {
  /** The call instruction that made it; -1 for the program. */
  readonly callsite: number;
  readonly frameno: number;
  /** Index of its function. */
  readonly subprog: number;
  /** The callback of a helper (bpf_loop): its exit goes back to the helper's call. */
  readonly isCallback: boolean;
  /** What a callback may return. */
  callbackRange: readonly [number, number] = [0, 1];
  /** The helper or kfunc that calls it back. */
  callbackOf = '';
  /** Called later, apart from the program (timers, workqueues). */
  isAsync = false;
  /** How often callbacks that run later were entered to get here (async_entry_cnt). */
  asyncEntries = 0;
  /** The program's exception callback. */
  isException = false;
  /** Rounds of the callback of a helper that this function is calling, on this path. */
  callbackRounds = 0;
  regs: Reg[];
  /** By slot: 0 is fp-8. */
  stack: StackSlot[];

  // Marks. "Written" since the parent state; "read" and "precise" are set on checkpoints by states that come behind.
  writtenRegs = 0;
  readRegs = 0;
  preciseRegs = 0;
  writtenSlots: SlotSet;
  readSlots: SlotSet;
  preciseSlots: SlotSet;

  /** `from`: the frame that this one is a copy of. */
  constructor(callsite: number, frameno: number, subprog: number, isCallback = false, from?: Frame) {
    this.callsite = callsite;
    this.frameno = frameno;
    this.subprog = subprog;
    this.isCallback = isCallback;
    if (from !== undefined) {
      this.regs = from.regs.slice();
      this.stack = from.stack.slice();
      this.writtenSlots = from.writtenSlots.copy();
      this.readSlots = from.readSlots.copy();
      this.preciseSlots = from.preciseSlots.copy();
      return;
    }
    this.regs = new Array<Reg>(10).fill(NOT_INIT);
    const fp = pointer('fp');
    fp.frame = frameno;
    this.regs.push(fp);
    this.stack = [];
    this.writtenSlots = new SlotSet();
    this.readSlots = new SlotSet();
    this.preciseSlots = new SlotSet();
  }

  copy(): Frame {
    const copy = new Frame(this.callsite, this.frameno, this.subprog, this.isCallback, this);
    copy.callbackRange = this.callbackRange;
    copy.callbackOf = this.callbackOf;
    copy.isAsync = this.isAsync;
    copy.asyncEntries = this.asyncEntries;
    copy.isException = this.isException;
    copy.callbackRounds = this.callbackRounds;
    copy.writtenRegs = this.writtenRegs;
    copy.readRegs = this.readRegs;
    copy.preciseRegs = this.preciseRegs;
    return copy;
  }

  /** Slot `spi`; growing the stack to it (grow_stack_state). */
  grow(slots: number): void {
    const wanted = Math.min(slots, SLOTS);
    while (this.stack.length < wanted) this.stack.push(SLOT_INVALID);
  }
}

/** A resource that has to be released (`struct bpf_reference_state`). */
export interface Reference {
  readonly id: number;
  readonly insn: number;
  /** The frame of a callback that took it; 0 outside of callbacks. */
  readonly callback?: number;
}

/** One executed instruction of the path since the parent state, newest first (the kernel's jmp_history). */
export interface HistoryNode {
  readonly insn: number;
  readonly prev: HistoryNode | undefined;
  /** One that the kernel keeps: the end of a jump, an access to a spilled register, registers of one id; and how many up to this one. */
  isKept: boolean;
  kept: number;
  /** A load or store of a spilled register: frame and slot. */
  stackFrame: number;
  stackSlot: number;
  /** Registers and slots that held one scalar id at this comparison: `[frame, reg or -1, slot or -1]`. */
  linked: readonly (readonly [number, number, number])[] | undefined;
}

export class VerifierState {
  frames: Frame[] = [];
  refs: readonly Reference[] = [];
  parent: VerifierState | undefined = undefined;
  history: HistoryNode | undefined = undefined;
  /** Paths that still have to be followed from here, for checkpoints. */
  branches = 1;
  insn = 0;
  /** How often helpers' callbacks were entered on this path. */
  callbackDepth = 0;
  mayGotoDepth = 0;
  /** The lock that is held: where (map or allocated object) and the id of the pointer it was reached by. */
  lock: { readonly key: string; readonly id: number } | undefined = undefined;
  rcuLock = false;
  preemptLocks = 0;
  /** Followed only because a processor might run it ahead (unprivileged programs). */
  speculative = false;
  isSleepable = false;
  /** The checkpoint that is the entry of the loop that this one is in, for loops that converge (callbacks, may_goto). */
  loopEntry: VerifierState | undefined = undefined;
  dfsDepth = 0;
  hits = 0;
  misses = 0;

  get frame(): Frame {
    return this.frames[this.frames.length - 1]!;
  }

  get curframe(): number {
    return this.frames.length - 1;
  }

  copy(): VerifierState {
    const copy = new VerifierState();
    for (const frame of this.frames) copy.frames.push(frame.copy());
    copy.refs = this.refs;
    copy.parent = this.parent;
    copy.history = this.history;
    copy.branches = this.branches;
    copy.insn = this.insn;
    copy.callbackDepth = this.callbackDepth;
    copy.mayGotoDepth = this.mayGotoDepth;
    copy.lock = this.lock;
    copy.rcuLock = this.rcuLock;
    copy.preemptLocks = this.preemptLocks;
    copy.speculative = this.speculative;
    copy.isSleepable = this.isSleepable;
    copy.loopEntry = this.loopEntry;
    copy.dfsDepth = this.dfsDepth;
    copy.hits = this.hits;
    copy.misses = this.misses;
    return copy;
  }

  get isTooDeep(): boolean {
    return this.frames.length >= MAX_CALL_FRAMES;
  }
}

/** Changes every register and spilled register of a state for which `change` gives another. */
export function mapRegs(state: VerifierState, change: (reg: Reg) => Reg): void {
  for (const frame of state.frames) {
    const { regs, stack } = frame;
    for (let i = 0; i < 10; i++) {
      const reg = regs[i]!;
      if (reg === NOT_INIT) continue;
      const changed = change(reg);
      if (changed !== reg) regs[i] = changed;
    }
    for (let i = 0; i < stack.length; i++) {
      const slot = stack[i]!;
      if (slot.spilled === NOT_INIT || !isSpill(slot)) continue;
      const changed = change(slot.spilled);
      if (changed !== slot.spilled) stack[i] = { types: slot.types, spilled: changed };
    }
  }
}
