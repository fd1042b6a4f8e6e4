import { BpfError, ERRNO, type ErrnoName } from '../errors.ts';
import { VerifierError } from '../verifier/error.ts';

/** -errno of an error that the machine threw; anything else is thrown on. */
export function errnoOf(error: unknown): number {
  if (error instanceof VerifierError) return -error.errno;
  if (error instanceof BpfError && error.code in ERRNO) return -ERRNO[error.code as ErrnoName];
  throw error;
}
