/**
 * The tracing program type (kernel/trace/bpf_trace.c): which context fields and kfuncs a kprobe program may use, and what its reads
 * of the context mean for a site. Which helpers it may call is in src/bpf/prog-types/helpers.ts.
 */
import { type Insn, isLdImm64, ldImm64Value } from '../../bpf/isa.ts';
import type { MapSpec } from '../../bpf/maps/map-layout.ts';
import type { ContextAccess, ProgramInput, VerifiedProgram } from '../../bpf/verifier/types.ts';
import { JS_KFUNC_DECLS, JS_KFUNCS } from './js-kfuncs.ts';
import {
  ARG_REGS,
  HANDLE_SLOT_MASK,
  HANDLE_TAG,
  PT_REGS,
  PT_REGS_SIZE,
  READS,
  referenceOf,
} from './pt-regs.ts';

/** kprobe_prog_is_valid_access: aligned reads within `struct pt_regs`; nothing is written. */
export const kprobeContext: ContextAccess = {
  size: PT_REGS_SIZE,
  access(off, size, write) {
    if (write || off < 0 || off + size > PT_REGS_SIZE) return undefined;
    return off % size === 0 ? 'scalar' : undefined;
  },
};

export { JS_KFUNC_DECLS };

/** A kprobe program, ready for verifyProgram(). */
export function kprobeProgram(name: string, insns: readonly Insn[], maps: readonly MapSpec[]): ProgramInput {
  return { name, type: 'kprobe', insns, maps, ctx: kprobeContext, kfuncs: JS_KFUNC_DECLS };
}

const OFFSET_READS: ReadonlyMap<number, number> = new Map<number, number>([
  ...ARG_REGS.map((reg, n): [number, number] => [PT_REGS[reg], 1 << n]),
  [PT_REGS.r10, READS.this],
  [PT_REGS.ax, READS.retval],
  [PT_REGS.r11, READS.error],
  [PT_REGS.r12, READS.argc],
  [PT_REGS.ip, READS.ip],
  [PT_REGS.bx, READS.cookie],
]);

/** The READS mask of a program: what a site has to convert before it runs (convert_ctx_access). */
export function readsOf(program: Pick<VerifiedProgram, 'ctxReads' | 'kfuncsUsed' | 'insns'>): number {
  let reads = registersOf(program);
  if (program.kfuncsUsed.some((decl) => decl.id === JS_KFUNCS.js_arg.id)) reads |= READS.allArgs;
  return reads | referenceReads(program.insns);
}

/** What its helpers read of the hit's registers besides, whatever its own context is. */
export function helperReads({ helpersUsed }: Pick<VerifiedProgram, 'helpersUsed'>): number {
  const cookie = helpersUsed.includes('get_attach_cookie') ? READS.cookie : 0;
  return helpersUsed.includes('get_func_ip') ? cookie | READS.ip : cookie;
}

/** Of readsOf(): what it reads as registers, and does not only refer to. */
export function registersOf({ ctxReads }: Pick<VerifiedProgram, 'ctxReads'>): number {
  let reads = 0;
  for (const off of ctxReads) reads |= OFFSET_READS.get(off & ~7) ?? 0;
  return reads;
}

/** What the register references among a program's constants ask for. */
function referenceReads(insns: readonly Insn[]): number {
  let reads = 0;
  for (const [i, insn] of insns.entries()) {
    if (!isLdImm64(insn) || insn.src !== 0) continue;
    const value = ldImm64Value(insn, insns[i + 1]!);
    const slot = value - HANDLE_TAG;
    if (slot <= 0n || slot > BigInt(HANDLE_SLOT_MASK)) continue;
    const what = referenceOf(Number(slot));
    if (what === undefined) continue;
    reads |= READS.raw;
    if (typeof what === 'number') reads |= what < ARG_REGS.length ? 1 << what : READS.allArgs;
    else reads |= OFFSET_READS.get(PT_REGS[what]) ?? 0;
  }
  return reads;
}
