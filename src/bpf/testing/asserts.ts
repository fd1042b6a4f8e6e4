/** The same checks as functions that throw, for node:test and everything else without matchers. */
import {
  type CheckResult,
  checkEntries,
  checkEntry,
  checkLoads,
  checkPacket,
  checkRejected,
  checkReturns,
  type Loadable,
  type LoadCheckOptions,
  type Verdict,
} from './checks.ts';
import type { ProgramRun } from './fixture.ts';

/** As `assert.AssertionError`: test runners show `actual` and `expected`. */
export class BpfAssertionError extends Error {
  readonly code = 'ERR_ASSERTION';
  readonly actual: unknown;
  readonly expected: unknown;
  readonly operator: string;

  constructor(operator: string, { message, actual, expected }: CheckResult) {
    super(message());
    this.name = 'AssertionError';
    this.operator = operator;
    this.actual = actual;
    this.expected = expected;
  }
}

function demand(operator: string, result: CheckResult): void {
  if (!result.pass) throw new BpfAssertionError(operator, result);
}

export function assertLoads(source: Loadable, options?: LoadCheckOptions): void {
  demand('assertLoads', checkLoads(source, options));
}

export function assertRejected(
  source: Loadable,
  message?: string | RegExp,
  options?: LoadCheckOptions,
): void {
  demand('assertRejected', checkRejected(source, message, options));
}

export function assertReturns(run: Pick<ProgramRun, 'retval'>, value: number | Verdict): void {
  demand('assertReturns', checkReturns(run, value));
}

export function assertPacket(run: ProgramRun, packet: Uint8Array): void {
  demand('assertPacket', checkPacket(run, packet));
}

export function assertEntry(map: unknown, key: unknown, ...value: [] | [unknown]): void {
  demand('assertEntry', checkEntry(map, key, value));
}

export function assertEntries(map: unknown, entries: readonly (readonly [unknown, unknown])[]): void {
  demand('assertEntries', checkEntries(map, entries));
}
