/** Contexts of tracing programs (kernel/trace/bpf_trace.c: *_prog_is_valid_access). */
import type { CtxResult } from './fields.ts';

type Access = (off: number, size: number, write: boolean) => CtxResult;

/** MAX_BPF_FUNC_ARGS words. */
export const TRACING_CTX_SIZE = 96;
/** PERF_MAX_TRACE_SIZE */
export const TRACEPOINT_CTX_SIZE = 8192;
/** struct pt_regs of x86-64. */
export const PT_REGS_SIZE = 168;
export const PERF_EVENT_CTX_SIZE = 184;
/** U16_MAX */
export const SYSCALL_CTX_SIZE = 65535;

const aligned =
  (from: number, end: number): Access =>
  (off, size, write) =>
    !write && off >= from && off < end && off % size === 0 && off + size <= end ? 'scalar' : undefined;

export const kprobeAccess = aligned(0, PT_REGS_SIZE);
/** The common fields of an event's head are not for programs. */
export const tracepointAccess = aligned(8, TRACEPOINT_CTX_SIZE);
export const rawTracepointAccess = aligned(0, TRACING_CTX_SIZE);

export const rawTracepointWritableAccess: Access = (off, size, write) => {
  if (off === 0) return size === 8 && !write ? { type: 'tp_buffer' } : undefined;
  return rawTracepointAccess(off, size, write);
};

/** Registers whole, sample_period and addr in parts too. */
export const perfEventAccess: Access = (off, size, write) => {
  if (write || off < 0 || off >= PERF_EVENT_CTX_SIZE || off % size !== 0) return undefined;
  return off >= PT_REGS_SIZE || size === 8 ? 'scalar' : undefined;
};

export const syscallAccess: Access = (off, size) =>
  off >= 0 && off < SYSCALL_CTX_SIZE && off % size === 0 ? 'scalar' : undefined;
