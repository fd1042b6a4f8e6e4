/**
 * Errors of the eBPF machine. This folder imports nothing from outside, so `BpfError` is not a `TraplineError`, but has
 * the same shape: a string `code`, a one-line message, a hint and a log that is shown on request only.
 */

/** A place in a text: line and column count from 1. */
export interface ErrorPosition {
  readonly file: string;
  readonly line: number;
  readonly column: number;
  readonly length: number;
  /** The whole line, for the caret. */
  readonly sourceLine: string;
}

export interface BpfErrorOptions {
  readonly position?: ErrorPosition | undefined;
  readonly hint?: string | undefined;
  readonly log?: string | undefined;
  readonly cause?: unknown;
}

export class BpfError extends Error {
  readonly code: string;
  readonly position: ErrorPosition | undefined;
  readonly hint: string | undefined;
  readonly log: string | undefined;

  constructor(code: string, message: string, options: BpfErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = 'BpfError';
    this.code = code;
    this.position = options.position;
    this.hint = options.hint;
    this.log = options.log;
  }
}

/** Error numbers that helpers and maps return, negated (include/uapi/asm-generic/errno-base.h). */
export const ERRNO = {
  EPERM: 1,
  ENOENT: 2,
  ESRCH: 3,
  EINTR: 4,
  ENXIO: 6,
  E2BIG: 7,
  EBADF: 9,
  EAGAIN: 11,
  ENOMEM: 12,
  EACCES: 13,
  EFAULT: 14,
  EBUSY: 16,
  EEXIST: 17,
  ENODEV: 19,
  ENOTDIR: 20,
  EISDIR: 21,
  EINVAL: 22,
  EMFILE: 24,
  ENOSPC: 28,
  EDOM: 33,
  ERANGE: 34,
  EDEADLK: 35,
  ENAMETOOLONG: 36,
  ENODATA: 61,
  ENOLINK: 67,
  EPROTO: 71,
  EOVERFLOW: 75,
  EBADFD: 77,
  EILSEQ: 84,
  EMSGSIZE: 90,
  EPROTONOSUPPORT: 93,
  EOPNOTSUPP: 95,
  EAFNOSUPPORT: 97,
  ESTALE: 116,
  ENOTSUPP: 524,
} as const;

export type ErrnoName = keyof typeof ERRNO;

/** `'EINVAL'` for 22 and -22. */
export function errnoName(value: number): string {
  const entry = Object.entries(ERRNO).find(([, number]) => number === Math.abs(value));
  return entry?.[0] ?? `errno ${Math.abs(value)}`;
}
