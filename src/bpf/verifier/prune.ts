/**
 * State pruning (is_state_visited of kernel/bpf/verifier.c): a path ends where a state that was found safe covers the current one; an exact
 * repetition on the same path is an infinite loop.
 */
import { BPF_CALL, BPF_JMP, BPF_PSEUDO_KFUNC_CALL } from '../isa.ts';
import { FORCE_CHECKPOINT, isMayGoto } from './cfg.ts';
import type { Env } from './env.ts';
import { reject } from './error.ts';
import { markRegRead, markSlotRead } from './liveness.ts';
import { stateString } from './log.ts';
import { isCallbackCall, propagatePrecision } from './precision.ts';
import { UNKNOWN } from './reg.ts';
import { isSpill, type VerifierState } from './state.ts';
import { IdMap, sameCallsites, sameExactly, sameRange, statesEqual } from './states-equal.ts';

const CALL = BPF_JMP | BPF_CALL;

/** Entries of its history that a path may have between two checkpoints, about. */
const MAX_HISTORY = 40;

/** iter_active_depths_differ */
function iterDepthsDiffer(old: VerifierState, now: VerifierState): boolean {
  return old.frames.some((frame, f) =>
    frame.stack.some(({ object }, spi) => {
      if (object?.is !== 'iter' || object.state !== 'active') return false;
      const other = now.frames[f]?.stack[spi]?.object;
      return other?.is === 'iter' && other.depth !== object.depth;
    }),
  );
}

/** The iterator that an iter_next call at hand is about to step. */
function isActiveIter({ frame, frames }: VerifierState): boolean {
  const reg = frame.regs[1]!;
  const object = frames[reg.frame]?.stack[(-(reg.off + Number(reg.smin)) - 1) >> 3]?.object;
  return object?.is === 'iter' && object.state === 'active';
}

/** Whatever the older state's continuation reads is read by the current one's (propagate_liveness). */
function propagateLiveness(old: VerifierState, now: VerifierState): void {
  for (let at = 0; at < old.frames.length; at++) {
    const frame = old.frames[at]!;
    for (let i = 0; i < 10; i++) {
      if ((frame.readRegs & (1 << i)) !== 0) markRegRead(now, at, i);
    }
    const { readSlots } = frame;
    for (let spi = 0, end = readSlots.length; spi < end; spi++) {
      if (readSlots.has(spi)) markSlotRead(now, at, spi);
    }
  }
}

/** get_loop_entry: the topmost checkpoint of the loops that a state is in. */
function loopEntryOf(state: VerifierState): VerifierState | undefined {
  let top = state.loopEntry;
  while (top?.loopEntry !== undefined && top !== top.loopEntry) top = top.loopEntry;
  return top;
}

function updateLoopEntry(state: VerifierState, head: VerifierState): void {
  const from = loopEntryOf(state) ?? state;
  const to = loopEntryOf(head) ?? head;
  if (to.branches > 0 && to.dfsDepth <= from.dfsDepth) state.loopEntry = head;
}

/** update_branch_counts: one path from here is done. */
export function finishPath(state: VerifierState): void {
  for (let at: VerifierState | undefined = state; at !== undefined; at = at.parent) {
    at.branches--;
    if (at.branches === 0 && at.parent !== undefined && at.loopEntry !== undefined) {
      updateLoopEntry(at.parent, at.loopEntry);
    }
    if (at.branches > 0) return;
  }
}

/** find_prev_entry: an earlier state of the same path at this instruction. */
export function findPreviousEntry(
  env: Env,
  state: VerifierState | undefined,
  insn: number,
): VerifierState | undefined {
  if (state === undefined) return undefined;
  return env.explored
    .at(insn, env.state)
    ?.findLast((old) => old.branches > 0 && sameCallsites(old, state) && old.dfsDepth < state.dfsDepth);
}

/**
 * widen_imprecise_scalars: what changes from one round of a loop to the next and decides nothing becomes unknown, so that the
 * rounds' states agree.
 */
export function widenScalars(old: VerifierState, now: VerifierState): void {
  const ids = new IdMap();
  for (let at = old.curframe; at >= 0; at--) {
    const before = old.frames[at]!;
    const frame = now.frames[at]!;
    for (let i = 0; i < 10; i++) {
      const a = before.regs[i]!;
      const b = frame.regs[i]!;
      if (a.type !== 'scalar' || b.type !== 'scalar' || (before.preciseRegs & (1 << i)) !== 0) continue;
      if (!sameExactly(a, b, ids)) frame.regs[i] = UNKNOWN;
    }
    for (let spi = 0; spi < Math.min(before.stack.length, frame.stack.length); spi++) {
      const a = before.stack[spi]!;
      const b = frame.stack[spi]!;
      if (!isSpill(a) || !isSpill(b) || a.spilled.type !== 'scalar' || b.spilled.type !== 'scalar') continue;
      if (before.preciseSlots.has(spi)) continue;
      if (!sameExactly(a.spilled, b.spilled, ids)) frame.stack[spi] = { types: b.types, spilled: UNKNOWN };
    }
  }
}

/** states_maybe_looping: a repetition has the same values in every register. */
function maybeLooping(old: VerifierState, now: VerifierState): boolean {
  if (old.frames.length !== now.frames.length) return false;
  const before = old.frame.regs;
  const { regs } = now.frame;
  return before.every(
    (reg, i) => reg === regs[i] || (reg.type === regs[i]!.type && sameRange(reg, regs[i]!)),
  );
}

/**
 * Called before an instruction that is a prune point. True: the current state is covered, the path ends. Otherwise the state may
 * have become a checkpoint.
 */
export function isStateVisited(env: Env): boolean {
  const { state, insn } = env;
  const isForced = (env.points[insn]! & FORCE_CHECKPOINT) !== 0;
  // Side paths that end soon would otherwise take all checkpoints, and walks back along the main one never end.
  const force = isForced || (state.history?.kept ?? 0) > MAX_HISTORY;
  const jumps = env.jmpsProcessed - env.prevJmpsProcessed;
  const insns = env.insnProcessed - env.prevInsnProcessed;
  let add = force || (jumps >= 2 && insns >= 8);
  const olds = env.explored.at(insn, state);
  if (olds !== undefined) {
    const convergesHere = isCallbackCall(env, insn);
    const mayGoto = isMayGoto(env.insns[insn]!);
    const stepsIterator = isIterNext(env, insn);
    env.maxStatesPerInsn = Math.max(env.maxStatesPerInsn, olds.length);
    // Those that stay move to the end of the list.
    let kept = olds.length;
    for (let i = olds.length - 1; i >= 0; i--) {
      const old = olds[i]!;
      let isHit = false;
      if (old.branches > 0) {
        if (old.frame.isAsync && old.frame.asyncEntries !== state.frame.asyncEntries) {
          // Another entry into the callback: no sign of a loop, and the first has not come to its end yet.
        } else if (
          mayGoto &&
          old.mayGotoDepth !== state.mayGotoDepth &&
          statesEqual(env, old, state, 'range_within')
        ) {
          updateLoopEntry(state, old);
          isHit = true;
        } else if (stepsIterator) {
          isHit = statesEqual(env, old, state, 'range_within') && isActiveIter(state);
          if (isHit) updateLoopEntry(state, old);
        } else if (mayGoto && old.mayGotoDepth !== state.mayGotoDepth) {
          // Another round: no sign of an infinite loop.
        } else if (convergesHere) {
          isHit = statesEqual(env, old, state, 'range_within');
          if (isHit) updateLoopEntry(state, old);
        } else if (
          old.mayGotoDepth === state.mayGotoDepth &&
          old.callbackDepth === state.callbackDepth &&
          maybeLooping(old, state) &&
          !iterDepthsDiffer(old, state) &&
          statesEqual(env, old, state, 'exact')
        ) {
          env.log(`cur state: ${stateString(env, state.frame)}`);
          env.log(`old state: ${stateString(env, old.frame)}`);
          reject('EINVAL', `infinite loop detected at insn ${insn}`);
        }
        if (!isHit && !force && jumps < 20 && insns < 100) add = false;
      } else {
        const entry = loopEntryOf(old);
        const inLoop = entry !== undefined && entry.branches > 0;
        isHit = statesEqual(env, old, state, inLoop ? 'range_within' : 'not_exact');
        if (isHit && inLoop) updateLoopEntry(state, entry);
      }
      if (isHit) {
        old.hits++;
        olds.splice(i + 1, kept - i - 1);
        propagateLiveness(old, state);
        propagatePrecision(env, old);
        return true;
      }
      if (add) old.misses++;
      const patience = isForced && old.branches > 0 ? 64 : 3;
      if (old.misses > old.hits * patience + patience) {
        env.peakStates--;
        continue; // not useful: forget it
      }
      olds[--kept] = old;
    }
    if (kept > 0) olds.splice(0, kept);
  }
  if (add) addCheckpoint(env);
  return false;
}

/** is_iter_next_insn */
export function isIterNext(env: Env, at: number): boolean {
  const insn = env.insns[at]!;
  if (insn.code !== CALL || insn.src !== BPF_PSEUDO_KFUNC_CALL) return false;
  return env.kfuncs.get(insn.imm)?.kernel?.flags.includes('iter_next') === true;
}

function addCheckpoint(env: Env): void {
  const { state, insn } = env;
  env.prevJmpsProcessed = env.jmpsProcessed;
  env.prevInsnProcessed = env.insnProcessed;
  env.totalStates++;
  env.peakStates++;
  const checkpoint = state.copy();
  checkpoint.insn = insn;
  checkpoint.branches = 1;
  checkpoint.hits = 0;
  checkpoint.misses = 0;
  checkpoint.loopEntry = undefined;
  for (const frame of checkpoint.frames) {
    frame.readRegs = 0;
    frame.readSlots.clear();
    frame.preciseRegs = 0;
    frame.preciseSlots.clear();
  }
  state.parent = checkpoint;
  state.history = undefined;
  state.dfsDepth = checkpoint.dfsDepth + 1;
  for (const frame of state.frames) {
    frame.writtenRegs = 0;
    frame.writtenSlots.clear();
  }
  env.explored.add(checkpoint);
}
