/**
 * bpf_fastcall: compilers spill registers around calls that clobber few, on stack that nothing else uses. Where the call is inlined the
 * kernel drops the spills, and their stack does not count (mark_fastcall_patterns, check_fastcall_stack_contract,
 * remove_fastcall_spills_fills of kernel/bpf/verifier.c).
 */
import { kernelProto } from '../helpers/kernel-protos.ts';
import type { Insn } from '../isa.ts';
import * as isa from '../isa.ts';
import { JUMP_TARGET } from './cfg.ts';
import type { Env } from './env.ts';
import type { Subprog } from './subprog.ts';

const CALL = isa.BPF_JMP | isa.BPF_CALL;
const SPILL = isa.BPF_STX | isa.BPF_MEM | isa.BPF_DW;
const FILL = isa.BPF_LDX | isa.BPF_MEM | isa.BPF_DW;
const CALLER_SAVED = 0b111111;
/** Lower than any offset: the stack of this function is used in another way. */
const BROKEN = -0x8000;

const GET_SMP_PROCESSOR_ID = 8;
/** Kernel functions that become no call. */
const INLINED: ReadonlySet<string> = new Set(['bpf_cast_to_kern_ctx', 'bpf_rdonly_cast']);

/** Registers that a call overwrites, and whether it is inlined; undefined: all, as far as is known. */
function clobbers(env: Env, call: Insn): { mask: number; isInlined: boolean } | undefined {
  let returns = false;
  let args = 0;
  let isInlined = false;
  if (call.src === 0) {
    const proto = kernelProto(call.imm);
    if (proto === undefined) return undefined;
    returns = proto.ret !== 'void';
    args = proto.args.length;
    isInlined = call.imm === GET_SMP_PROCESSOR_ID;
  } else if (call.src === isa.BPF_PSEUDO_KFUNC_CALL) {
    const kernel = env.kfuncs.get(call.imm)?.kernel;
    if (kernel === undefined) return undefined;
    returns = kernel.ret !== 'void';
    args = kernel.args.length;
    isInlined = INLINED.has(kernel.name);
  } else return undefined;
  const mask = (returns ? 1 : 0) | (((1 << args) - 1) << 1);
  return { mask, isInlined };
}

/** Registers that are saved before the call at `at` and restored behind it. */
function markCall(env: Env, subprog: Subprog, at: number, lowest: number): void {
  const { insns, points } = env;
  const call = clobbers(env, insns[at]!);
  if (call === undefined || call.mask === CALLER_SAVED) return;
  let expected = ~call.mask & CALLER_SAVED;
  let off = lowest;
  let i = 1;
  for (; i <= 6; i++, off += 8) {
    if (at - i < 0 || at + i >= insns.length) break;
    if ((points[at - i + 1]! & JUMP_TARGET) !== 0 || (points[at + i]! & JUMP_TARGET) !== 0) break;
    const spill = insns[at - i]!;
    const fill = insns[at + i]!;
    if (spill.code !== SPILL || fill.code !== FILL || spill.dst !== 10 || fill.src !== 10) break;
    if (spill.src !== fill.dst || ((1 << spill.src) & expected) === 0) break;
    if (spill.off !== off || fill.off !== off) break;
    expected &= ~(1 << spill.src);
    env.fastcallPattern.add(at - i).add(at + i);
  }
  if (i === 1) return;
  if (call.isInlined) env.fastcallPairs.set(at, i - 1);
  else subprog.keepsFastcallStack = true;
  subprog.fastcallOff = Math.min(subprog.fastcallOff, off);
}

export function markFastcalls(env: Env): void {
  const { insns } = env;
  for (const subprog of env.subprogs) {
    let lowest = 0;
    for (let i = subprog.start; i < subprog.end; i++) {
      const { code, dst, off } = insns[i]!;
      if (code === SPILL && dst === 10 && off < lowest) lowest = off;
    }
    if (lowest === 0) continue;
    for (let i = subprog.start + 1; i < subprog.end; i++) {
      if (insns[i]!.code === CALL && insns[i - 1]!.code === SPILL) markCall(env, subprog, i, lowest);
    }
  }
}

/** An access of the current instruction to the stack of function `n`, from `off` on: other uses of that stack end the agreement. */
export function noteStackUse(env: Env, n: number, off: number): void {
  const subprog = env.subprogs[n]!;
  if (subprog.fastcallOff <= off || env.fastcallPattern.has(env.insn)) return;
  subprog.fastcallOff = BROKEN;
  for (let i = subprog.start; i < subprog.end; i++) {
    env.fastcallPattern.delete(i);
    env.fastcallPairs.delete(i);
  }
}

/** Stack that inlined calls no longer need. */
export function dropFastcallStack(env: Env): void {
  if (env.fastcallPairs.size === 0) return;
  for (const subprog of env.subprogs) {
    if (subprog.keepsFastcallStack) continue;
    for (const at of env.fastcallPairs.keys())
      if (at >= subprog.start && at < subprog.end) subprog.stackDepth = -subprog.fastcallOff;
  }
}
