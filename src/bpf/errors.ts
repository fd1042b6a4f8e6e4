/**
 * Errors of the eBPF machine. This folder imports nothing from outside, so `BpfError` is not a `TraplineError`, but has
 * the same shape: a string `code`, a one-line message, a hint and a log that is shown on request only.
 */
export interface BpfErrorOptions {
  readonly hint?: string | undefined;
  readonly log?: string | undefined;
  readonly cause?: unknown;
}

export class BpfError extends Error {
  readonly code: string;
  readonly position: undefined = undefined;
  readonly hint: string | undefined;
  readonly log: string | undefined;

  constructor(code: string, message: string, options: BpfErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = 'BpfError';
    this.code = code;
    this.hint = options.hint;
    this.log = options.log;
  }
}

/** Error numbers that helpers and maps return, negated (include/uapi/asm-generic/errno-base.h). */
export const ERRNO = {
  EPERM: 1,
  ENOENT: 2,
  ESRCH: 3,
  E2BIG: 7,
  EAGAIN: 11,
  ENOMEM: 12,
  EACCES: 13,
  EFAULT: 14,
  EBUSY: 16,
  EEXIST: 17,
  EINVAL: 22,
  ENOSPC: 28,
  ERANGE: 34,
  ENOTSUPP: 524,
} as const;

export type ErrnoName = keyof typeof ERRNO;
