/** What the ways to arm have in common: the target's handles, one thing at a time, breakpoints, and what went wrong. */

import { CompiledCode } from './compiled-code.ts';
import type { ArmedNotice, Location, RestoreFailure } from './requests.ts';
import type { Scripts } from './scripts.ts';
import { InspectorError, type MainSession } from './session.ts';

export interface ArmingEvents {
  onArmed(notice: ArmedNotice): void;
  onWarning(message: string): void;
}

/** `this` of the frame in a breakpoint's condition; before super() there is none. */
export const SELF = '(()=>{try{return this}catch{}})()';

export class ArmContext {
  readonly session: MainSession;
  readonly scripts: Scripts;
  readonly code: CompiledCode;
  /** The parts on the main thread. */
  readonly agent = 'agent';
  readonly main = 'arming';
  readonly events: ArmingEvents;
  /** Disables the debugger when nothing needs it any more. */
  readonly idle: () => Promise<void>;
  /** The global that conditions call; empty before the first breakpoint. */
  hookName = '';
  /** Everything goes back: what is under way gives up at its next step, and nothing new begins. */
  closed = false;
  readonly #failures = new Map<string, RestoreFailure>();
  readonly restored = { functions: 0, bytes: 0 };
  /** Requests to arm that are under way, in several steps: the debugger stays. */
  arming = 0;
  #work: Promise<unknown> = Promise.resolve();

  constructor(session: MainSession, scripts: Scripts, events: ArmingEvents, idle: () => Promise<void>) {
    this.session = session;
    this.scripts = scripts;
    this.code = new CompiledCode(session);
    this.events = events;
    this.idle = idle;
  }

  /** One thing at a time: notices of hooks and requests of the tracer both change the target. */
  serial<T>(operation: () => Promise<T>): Promise<T> {
    const result = this.#work.then(operation, operation);
    this.#work = result.catch(() => undefined);
    return result;
  }

  /** A step of its own, by a notice or a timer: not taken any more once everything goes back. */
  step(operation: () => Promise<void>): Promise<void> {
    return this.serial(async () => {
      if (!this.closed) await operation();
    });
  }

  goOn(): void {
    if (this.closed) throw new InspectorError('the session ends');
  }

  /** What all conditions call. */
  async openHook(): Promise<void> {
    await this.scripts.enable();
    if (this.hookName === '') this.hookName = String(await this.session.call(this.main, 'hookName'));
    await this.session.call(this.main, 'installHook');
  }

  /** V8 takes the next place it has; `until` is the first that will not do. */
  async setBreakpoint(location: Location, condition: string, until?: Location): Promise<string> {
    const reply = (await this.session.post('Debugger.setBreakpoint', { location, condition })) as {
      breakpointId: string;
      actualLocation: Location;
    };
    const { breakpointId, actualLocation } = reply;
    if (until === undefined || isBefore(actualLocation, until)) return breakpointId;
    await this.removeBreakpoint({ breakpoint: breakpointId });
    throw new InspectorError('V8 has no place for a breakpoint in that statement');
  }

  removeBreakpoint(log: { breakpoint: string | undefined }): Promise<unknown> {
    const { breakpoint } = log;
    log.breakpoint = undefined;
    if (breakpoint === undefined) return Promise.resolve();
    return this.session.post('Debugger.removeBreakpoint', { breakpointId: breakpoint });
  }

  /** What is not restored so far: what failed once and succeeded later is not among it. */
  get failures(): readonly RestoreFailure[] {
    return [...this.#failures.values()];
  }

  /**
   * Puts something of some sites back. `key` tells it from everything else, for a later attempt at the same. At the session's
   * end its report tells of a failure; before, a warning does.
   */
  async attempt(
    what: string,
    sites: readonly number[],
    key: string,
    operation: () => Promise<unknown>,
  ): Promise<boolean> {
    try {
      await operation();
      this.unfail(key);
      return true;
    } catch (error) {
      this.fail(key, { what, sites, reason: reasonOf(error) });
      return false;
    }
  }

  /** What failed before has succeeded. */
  unfail(key: string): void {
    this.#failures.delete(key);
  }

  fail(key: string, failure: RestoreFailure): void {
    this.#failures.set(key, failure);
    const { what, reason } = failure;
    if (!this.closed) this.events.onWarning(`WARNING: ${what} is not restored yet: ${reason}`);
  }
}

function isBefore(a: Location, b: Location): boolean {
  return a.lineNumber < b.lineNumber || (a.lineNumber === b.lineNumber && a.columnNumber < b.columnNumber);
}

export function reasonOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
