/** kprobes: probes on functions and statements, after kernel/kprobes.c. See README.md and docs/kprobes.md. */
export type { KprobeArch, KprobeDemands, KprobeSlot, OptimizeOutcome, TextSymbol } from './arch.ts';
export { KprobeBlacklist, type KprobeBlacklistEntry } from './blacklist.ts';
export * from './flags.ts';
export { KprobeHandlers } from './handler.ts';
export {
  Kprobe,
  type KprobeInit,
  type KprobePostHandler,
  type KprobePreHandler,
  kprobeDisabled,
  kprobeFtrace,
  kprobeGone,
  kprobeOptimized,
  OptimizedKprobe,
} from './kprobe.ts';
export { Kprobes } from './kprobes.ts';
export {
  type AnyKretprobe,
  Kretprobe,
  type KretprobeEvent,
  type KretprobeHandler,
  type KretprobeInit,
  KretprobeInstance,
} from './kretprobe.ts';
export { PtRegs } from './pt-regs.ts';
