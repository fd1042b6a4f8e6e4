/** A position in a text the user wrote. Line and column count from 1; `length` is in UTF-16 units. */
export interface Position {
  readonly file: string;
  readonly line: number;
  readonly column: number;
  readonly length: number;
  /** The whole source line, for the caret. */
  readonly sourceLine: string;
}

export interface TraplineErrorOptions {
  readonly position?: Position | undefined;
  readonly hint?: string | undefined;
  /** The full log (a verifier's, say), shown on request only. */
  readonly log?: string | undefined;
  readonly cause?: unknown;
}

/** Every error that Trapline throws on purpose: a string `code`, a short message in the user's own names. */
export class TraplineError extends Error {
  readonly code: string;
  readonly position: Position | undefined;
  readonly hint: string | undefined;
  readonly log: string | undefined;

  constructor(code: string, message: string, options: TraplineErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = 'TraplineError';
    this.code = code;
    this.position = options.position;
    this.hint = options.hint;
    this.log = options.log;
  }
}

/**
 * `file:line:column: ERROR: message`, the source line, a caret and the hint, as bpftrace prints them.
 * The last newline is left to the caller.
 */
export function formatDiagnostic(error: TraplineError, severity: 'ERROR' | 'WARNING' = 'ERROR'): string {
  if (!(error instanceof Error)) throw new TraplineError('EINVAL', 'formatDiagnostic(): error is no error');
  const { position, hint } = error;
  const lines: string[] = [];
  if (position === undefined) {
    lines.push(`${severity}: ${error.message}`);
  } else {
    lines.push(`${position.file}:${position.line}:${position.column}: ${severity}: ${error.message}`);
    lines.push(position.sourceLine);
    const lead = position.sourceLine.slice(0, position.column - 1).replace(/[^\t]/g, ' ');
    lines.push(lead + '~'.repeat(Math.max(1, position.length)));
  }
  if (hint !== undefined) lines.push(`HINT: ${hint}`);
  return lines.join('\n');
}
