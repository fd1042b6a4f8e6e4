import { formatDiagnostic, TraplineError } from '../errors.ts';
import type { SourceText, Span } from './position.ts';
import type { ScriptPosition } from './script.ts';

/** A script that does not compile: itself the first error, with all of them in `errors`, in source order. */
export class ScriptError extends TraplineError {
  readonly errors: readonly TraplineError[];

  constructor(errors: readonly TraplineError[]) {
    const first = errors[0]!;
    super(first.code, first.message, { position: first.position, hint: first.hint, cause: first.cause });
    this.name = 'ScriptError';
    this.errors = errors;
  }
}

/** Every diagnostic of an error, as the user reads them. */
export function formatErrors(error: TraplineError): string {
  const errors = error instanceof ScriptError ? error.errors : [error];
  return errors.map((each) => formatDiagnostic(each)).join('\n');
}

/** Stops a pass that cannot go on; the errors are in the Diagnostics. */
export class Bailout extends Error {}

/** Collects what the passes complain about. */
export class Diagnostics {
  readonly source: SourceText;
  readonly errors: TraplineError[] = [];
  readonly warnings: { message: string; position: ScriptPosition; hint?: string }[] = [];
  readonly #seen = new Set<string>();

  constructor(source: SourceText) {
    this.source = source;
  }

  /** Adds an error; the same message at the same place is kept once. */
  error(span: Span, message: string, hint?: string, code = 'SCRIPT_ERROR'): void {
    const key = `${span.start}:${message}`;
    if (this.#seen.has(key)) return;
    this.#seen.add(key);
    this.errors.push(new TraplineError(code, message, { position: this.source.position(span), hint }));
  }

  /** Adds an error and stops. */
  fatal(span: Span, message: string, hint?: string, code?: string): never {
    this.error(span, message, hint, code);
    throw new Bailout(message);
  }

  /** Runs a pass; undefined when it gave up or anything is wrong so far. */
  attempt<T>(pass: () => T): T | undefined {
    try {
      const result = pass();
      return this.errors.length === 0 ? result : undefined;
    } catch (error) {
      if (error instanceof Bailout) return undefined;
      throw error;
    }
  }

  warning(span: Span, message: string, hint?: string): void {
    const key = `${span.start}:${message}`;
    if (this.#seen.has(key)) return;
    this.#seen.add(key);
    const position = this.source.scriptPosition(span);
    this.warnings.push(hint === undefined ? { message, position } : { message, position, hint });
  }

  /** Throws what was collected, in source order. */
  throwIfAny(): void {
    if (this.errors.length === 0) return;
    const at = (error: TraplineError): number =>
      (error.position?.line ?? 0) * 1e6 + (error.position?.column ?? 0);
    throw new ScriptError([...this.errors].sort((a, b) => at(a) - at(b)));
  }
}
