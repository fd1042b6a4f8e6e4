import { TraplineError, type TraplineErrorOptions } from '../errors.ts';

/** Error numbers of Linux (include/uapi/asm-generic/errno{-base,}.h) that the tracing core answers with. */
export const ERRNO = {
  EPERM: 1,
  ENOENT: 2,
  ESRCH: 3,
  EINTR: 4,
  EIO: 5,
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
  ENOSPC: 28,
  EDOM: 33,
  ERANGE: 34,
  ENAMETOOLONG: 36,
  ENOTEMPTY: 39,
  EILSEQ: 84,
  EOVERFLOW: 75,
  EOPNOTSUPP: 95,
  EADDRNOTAVAIL: 99,
  ESTALE: 116,
  ENOTSUPP: 524,
} as const;

export type ErrnoCode = keyof typeof ERRNO;

/** A refusal that the kernel expresses as `-errno`: `code` is its name, `errno` the negative number. */
export class KernelError extends TraplineError {
  readonly errno: number;

  constructor(code: ErrnoCode, message: string, options: TraplineErrorOptions = {}) {
    super(code, message, options);
    this.name = 'KernelError';
    this.errno = -ERRNO[code];
  }
}
