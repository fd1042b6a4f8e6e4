import { BpfError, ERRNO, type ErrnoName } from '../errors.ts';

/** Thrown inside of the verifier where a check fails; verifyProgram() makes a VerifierError of it. */
export class Rejection extends Error {
  readonly errno: ErrnoName;

  constructor(errno: ErrnoName, message: string) {
    super(message);
    this.errno = errno;
  }
}

/** Refuses the program. */
export function reject(errno: ErrnoName, message: string): never {
  throw new Rejection(errno, message);
}

/**
 * A program that the verifier refused. `message` is one line; `summary` is what the kernel's verifier says; `log` the whole log, the
 * instructions and states of the path that led there included.
 */
export class VerifierError extends BpfError {
  readonly summary: string;
  /** What BPF_PROG_LOAD would return, negated. */
  readonly errno: number;
  readonly errnoName: ErrnoName;
  /** The instruction at which the check failed; -1 when it was none in particular. */
  readonly insn: number;

  constructor(program: string, rejection: Rejection, insn: number, log: string) {
    const where = insn < 0 ? '' : ` at instruction ${insn}`;
    super('VERIFIER', `program ${program} refused${where}: ${rejection.message}`, { log });
    this.name = 'VerifierError';
    this.summary = rejection.message;
    this.errno = ERRNO[rejection.errno];
    this.errnoName = rejection.errno;
    this.insn = insn;
  }
}
