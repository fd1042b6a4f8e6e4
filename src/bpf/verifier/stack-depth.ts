/** How much stack the deepest chain of calls needs (check_max_stack_depth of kernel/bpf/verifier.c). */
import * as isa from '../isa.ts';
import { MAX_BPF_STACK, MAX_CALL_FRAMES } from '../isa.ts';
import { calledFunction } from './cfg.ts';
import type { Env } from './env.ts';
import { reject } from './error.ts';

/** Frames as a JIT lays them out (round_up_stack_depth). */
const FRAME_ALIGN = 16;
/** Stack of the frames before one that makes tail calls. */
const MAX_TAIL_CALL_STACK = 256;
const CALL = isa.BPF_JMP | isa.BPF_CALL;

interface Callee {
  readonly at: number;
  readonly subprog: number;
  readonly isCall: boolean;
}

interface Shape {
  readonly callees: Callee[];
  readonly throwsAt: number;
  readonly tailCalls: boolean;
}

function shapeOf(env: Env, n: number): Shape {
  const { start, end } = env.subprogs[n]!;
  const callees: Callee[] = [];
  let throwsAt = -1;
  let tailCalls = false;
  for (let i = start; i < end; i++) {
    const insn = env.insns[i]!;
    const isCall = insn.code === CALL && insn.src === isa.BPF_PSEUDO_CALL;
    const isFunc = isa.isLdImm64(insn) && insn.src === isa.BPF_PSEUDO_FUNC;
    if (isCall || isFunc) callees.push({ at: i, subprog: env.subprogAt(calledFunction(insn, i)), isCall });
    if (insn.code === CALL && insn.src === 0 && insn.imm === 12) tailCalls = true;
    if (insn.code === CALL && insn.src === isa.BPF_PSEUDO_KFUNC_CALL) {
      if (throwsAt < 0 && env.kfuncs.get(insn.imm)?.name === 'bpf_throw') throwsAt = i;
    }
    if (isa.isLdImm64(insn)) i++;
  }
  return { callees, throwsAt, tailCalls };
}

/** Gives the depth of the deepest chain from the program. */
export function checkStackDepth(env: Env): number {
  const shapes = env.subprogs.map((_, n) => shapeOf(env, n));
  // What is left to check below a function depends on its callers' depth: remember the deepest it was reached with.
  const reached = new Map<number, { depth: number; frames: number; inCallback: boolean }>();
  let deepest = 0;
  const visit = (n: number, before: number, frames: number, inCallback: boolean): void => {
    const shape = shapes[n]!;
    const isCallback = inCallback || env.callbackSubprogs.has(n);
    const known = reached.get(n);
    if (
      known !== undefined &&
      known.depth >= before &&
      known.frames >= frames &&
      (known.inCallback || !isCallback)
    ) {
      return;
    }
    reached.set(n, { depth: before, frames, inCallback: isCallback });
    if (n !== 0 && shape.tailCalls && before >= MAX_TAIL_CALL_STACK) {
      const text = `tail_calls are not allowed when call stack of previous frames is ${before} bytes. Too large`;
      reject('EACCES', text);
    }
    const own = Math.ceil(env.subprogs[n]!.stackDepth / FRAME_ALIGN) * FRAME_ALIGN;
    const depth = before + own;
    if (depth > MAX_BPF_STACK)
      reject('EACCES', `combined stack size of ${frames} calls is ${depth}. Too large`);
    deepest = Math.max(deepest, depth);
    if (shape.throwsAt >= 0 && isCallback) {
      reject(
        'EINVAL',
        `bpf_throw kfunc (insn ${shape.throwsAt}) cannot be called from callback subprog ${n}`,
      );
    }
    for (const { at, subprog, isCall } of shape.callees) {
      const isAsync = env.asyncSubprogs.has(subprog) || subprog === env.exceptionCallback;
      if (isAsync && !isCall) continue;
      if (subprog === env.exceptionCallback) reject('EINVAL', `insn ${at} cannot call exception cb directly`);
      if (frames >= MAX_CALL_FRAMES) reject('E2BIG', `the call stack of ${frames} frames is too deep !`);
      visit(subprog, depth, frames + 1, isCallback);
    }
  };
  for (let n = 0; n < env.subprogs.length; n++) {
    // The exception callback is a root too, and a callback.
    const isRoot = n === 0 || env.asyncSubprogs.has(n) || n === env.exceptionCallback;
    if (isRoot) visit(n, 0, 1, n === env.exceptionCallback);
  }
  return Math.max(deepest, FRAME_ALIGN);
}
