/** Matchers in the form that `expect.extend()` of vitest, jest and others takes. */
import {
  type CheckResult,
  checkEntries,
  checkEntry,
  checkLoads,
  checkPacket,
  checkRejected,
  checkReturns,
  type Equals,
  type Loadable,
  type LoadCheckOptions,
  sameValue,
  type Verdict,
} from './checks.ts';
import type { ProgramRun } from './fixture.ts';

/** What a framework gives matchers as `this`. */
interface MatcherContext {
  readonly equals?: (a: unknown, b: unknown) => boolean;
}

const equalsOf =
  ({ equals }: MatcherContext): Equals =>
  (a, b) =>
    sameValue(a, b) || equals?.(a, b) === true;

/** `expect.extend(bpfMatchers)` */
export const bpfMatchers = {
  /** An object, its bytes or a fixture: it loads. */
  toLoad(received: Loadable, options?: LoadCheckOptions): CheckResult {
    return checkLoads(received, options);
  },
  /** The verifier or the loader refuses it, with these words. */
  toReject(received: Loadable, message?: string | RegExp, options?: LoadCheckOptions): CheckResult {
    return checkRejected(received, message, options);
  },
  /** A run returned a number, or `XDP_DROP`. */
  toReturn(received: Pick<ProgramRun, 'retval'>, value: number | Verdict): CheckResult {
    return checkReturns(received, value);
  },
  /** A run left this packet. */
  toLeavePacket(received: ProgramRun, packet: Uint8Array): CheckResult {
    return checkPacket(received, packet);
  },
  /** A map has a key, with this value where one is given. */
  toHaveEntry(this: MatcherContext, received: unknown, key: unknown, ...value: [] | [unknown]): CheckResult {
    return checkEntry(received, key, value, equalsOf(this));
  },
  /** A map has exactly these entries. */
  toHaveEntries(
    this: MatcherContext,
    received: unknown,
    entries: readonly (readonly [unknown, unknown])[],
  ): CheckResult {
    return checkEntries(received, entries, equalsOf(this));
  },
} as const;

/** The matchers as methods of `expect()`, for module augmentation. */
export interface BpfMatchers<R = void> {
  toLoad(options?: LoadCheckOptions): R;
  toReject(message?: string | RegExp, options?: LoadCheckOptions): R;
  toReturn(value: number | Verdict): R;
  toLeavePacket(packet: Uint8Array): R;
  toHaveEntry(key: unknown, ...value: [] | [unknown]): R;
  toHaveEntries(entries: readonly (readonly [unknown, unknown])[]): R;
}
