/** The `error_log` file (tracing_log_err(), kernel/trace/trace.c): the last eight errors of an instance. */
const TRACING_LOG_ERRS_MAX = 8;

interface LoggedError {
  readonly timeNs: bigint;
  readonly location: string;
  readonly message: string;
  readonly command: string;
  readonly position: number;
}

export class ErrorLog {
  readonly #errors: LoggedError[] = [];

  /** `position` counts characters of `command` from 0. */
  log(timeNs: bigint, location: string, message: string, command: string, position: number): void {
    if (this.#errors.length === TRACING_LOG_ERRS_MAX) this.#errors.shift();
    this.#errors.push({ timeNs, location, message, command, position });
  }

  clear(): void {
    this.#errors.length = 0;
  }

  /** tracing_err_log_seq_show() */
  show(): string {
    let text = '';
    for (const { timeNs, location, message, command, position } of this.#errors) {
      const seconds = timeNs / 1_000_000_000n;
      const micros = (timeNs % 1_000_000_000n) / 1000n;
      text += `[${String(seconds).padStart(5)}.${String(micros).padStart(6, '0')}] ${location}: error: ${message}\n`;
      text += `  Command: ${command}\n${' '.repeat('  Command: '.length + position)}^\n`;
    }
    return text;
  }
}
