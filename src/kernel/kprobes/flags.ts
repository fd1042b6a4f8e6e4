/** Status flags of a probe (include/linux/kprobes.h). */

/** The probed script is gone; the probe can only be unregistered. */
export const KPROBE_FLAG_GONE = 1;
/** Registered, but its handlers are not called. */
export const KPROBE_FLAG_DISABLED = 2;
/** The optimizer replaced the trap by rewritten code, or is about to. */
export const KPROBE_FLAG_OPTIMIZED = 4;
/** Sits on a site that was compiled in when the script loaded. */
export const KPROBE_FLAG_FTRACE = 8;
/** The probed address is the entry of a function. */
export const KPROBE_FLAG_ON_FUNC_ENTRY = 16;

/** Most bytes of `Kretprobe.dataSize`. */
export const KRETPROBE_MAX_DATA_SIZE = 4096;

/** `Kretprobe.maxactive` where the user gives none. The kernel's is twice the CPUs, at least 10: too few for async calls. */
export const KRETPROBE_DEFAULT_MAXACTIVE = 4096;

/** Pause between a probe's registration and its optimization, in ms (the kernel's five jiffies at 250 Hz). */
export const OPTIMIZE_DELAY = 20;
