/**
 * Throws away what V8 has compiled of JavaScript, all of it: optimized code and baseline code. It is made again from the bytecode, of
 * functions that are still hot.
 *
 * A breakpoint on calls of a native function does that, since such a function may be inlined anywhere: one walk of the heap for
 * the baseline code, and one for the function's closures. The function is one that nobody calls, and the breakpoint goes at once.
 * Where there is no such function, switching precise call counts on and off throws optimized code away, in three walks and one.
 */

import { editLeavesStaleCode } from '../../arch/v8/stale-code.ts';
import type { MainSession } from './session.ts';

export class CompiledCode {
  readonly #session: MainSession;
  readonly #main: string;
  /** The native function; null: there is none. */
  #place: string | null | undefined;
  #breakpoint: string | undefined;

  constructor(session: MainSession, main: string) {
    this.#session = session;
    this.#main = main;
  }

  /** Before `discard`: finds the function, once. */
  async prepare(): Promise<void> {
    if (this.#place !== undefined) return;
    const { objectId } = await this.#session.callRaw(this.#main, 'nativePlace', [], false);
    this.#place = objectId ?? null;
  }

  /**
   * Posts what throws the code away, in front of what is posted next: a part of the same stop. The debugger has to be enabled.
   * False where that cannot be done in this way; never rejects.
   */
  async discard(): Promise<boolean> {
    if (typeof this.#place !== 'string') return false;
    try {
      const params = { objectId: this.#place, condition: 'false' };
      const reply = await this.#session.post('Debugger.setBreakpointOnFunctionCall', params);
      this.#breakpoint = (reply as { breakpointId: string }).breakpointId;
      return true;
    } catch {
      this.#place = null;
      return false;
    }
  }

  /**
   * To be posted together with the edit, in front of it: V8 would walk the heap for each function of the script that has baseline
   * code, and some versions leave optimized code behind that ends the process. Those get it done in any case.
   */
  async discardForEdit(): Promise<void> {
    if (typeof this.#place === 'string') await this.discard();
    else if (editLeavesStaleCode(process.versions.v8))
      await Promise.all([...this.#startCounts(), ...this.#stopCounts()]);
  }

  #startCounts(): Promise<unknown>[] {
    const counts = { callCount: true, detailed: false };
    return [
      this.#session.post('Profiler.enable'),
      this.#session.post('Profiler.startPreciseCoverage', counts),
    ];
  }

  #stopCounts(): Promise<unknown>[] {
    return [this.#session.post('Profiler.stopPreciseCoverage'), this.#session.post('Profiler.disable')];
  }

  /** Behind `discard`: takes the breakpoint away, which stops nothing. */
  async release(): Promise<void> {
    const breakpointId = this.#breakpoint;
    this.#breakpoint = undefined;
    if (breakpointId !== undefined) await this.#session.post('Debugger.removeBreakpoint', { breakpointId });
  }

  /** Where `discard` cannot: optimized code goes, because it keeps no call counts. Two stops. */
  async deoptimize(what: string): Promise<void> {
    await this.#session.stopping(what, () => Promise.all(this.#startCounts()));
    await this.#session.stopping(what, () => Promise.all(this.#stopCounts()));
  }
}
