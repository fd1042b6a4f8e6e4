/** Errors on standard error, as every command tells them. */
import { formatDiagnostic, TraplineError } from '../errors.ts';

/** How a position in a text is shown; the language's own for scripts. */
export type ShowError = (error: TraplineError) => string;

export function complain(error: unknown, usage: string, show: ShowError = formatDiagnostic): void {
  if (!(error instanceof TraplineError)) {
    const { syscall } = (error ?? {}) as NodeJS.ErrnoException;
    // what the system refused is no fault of ours: where it happened tells nobody anything
    const text =
      error instanceof Error && syscall === undefined ? (error.stack ?? error.message) : reasonOf(error);
    process.stderr.write(`ERROR: ${text}\n`);
    return;
  }
  process.stderr.write(`${show(error)}\n`);
  if (error.log !== undefined && process.argv.some((arg) => /^-\w*v|^--verbose$/.test(arg))) {
    process.stderr.write(`${error.log}\n`);
  }
  if (error.code === 'EUSAGE') process.stderr.write(`Usage: ${usage}\n`);
}

/** What a command exits with behind an error: as programs that Ctrl-C ends, where it was that. */
export function failureCode(error: unknown): number {
  return error instanceof TraplineError && error.code === 'EINTR' ? 130 : 1;
}

const reasonOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));

/**
 * What has been written arrives: a pipe takes only what its reader has room for, and what the stream still holds would be lost
 * at exit. A reader that has gone is no error.
 */
export function written(stream: NodeJS.WriteStream): Promise<void> {
  if (stream.writableLength === 0 || stream.destroyed) return Promise.resolve();
  return new Promise((resolve) => {
    stream.on('error', () => resolve());
    stream.on('close', () => resolve());
    stream.write('', () => resolve());
  });
}

/** What is said where `what` takes no more. */
export function cannotWrite(what: string, error: unknown): string {
  return `cannot write ${what}: ${systemReason(error)}`;
}

/** A system error's message without its code in front and the call behind. */
export function systemReason(error: unknown): string {
  return reasonOf(error).replace(/^\w+: |, \w+( '.*')?$/g, '');
}
