import { BpfError, ERRNO, type ErrnoName } from '../errors.ts';

/** A relocation that cannot be applied: the object does not load. `code` is ECORE, `errno` what libbpf returns, negated. */
export class CoreReloError extends BpfError {
  readonly errno: number;
  readonly errnoName: ErrnoName;

  constructor(
    message: string,
    errno: ErrnoName = 'EINVAL',
    options: { hint?: string; cause?: unknown } = {},
  ) {
    super('ECORE', message, options);
    this.name = 'CoreReloError';
    this.errnoName = errno;
    this.errno = ERRNO[errno];
  }
}

/**
 * How many members, parameters and enumerators may be looked at for one program. Real ones take thousands; types made to
 * be compared with each other in all combinations would take for ever.
 */
export class Budget {
  #left = 4_000_000;

  spend(steps = 1): void {
    this.#left -= steps;
    if (this.#left < 0) throw new CoreReloError('comparing the types takes too long', 'E2BIG');
  }
}
