/**
 * Throws away what V8 has compiled of JavaScript: optimized code and baseline code. It is made again from the bytecode, of
 * functions that are still hot.
 *
 * Of some functions: a breakpoint in one does that, for its baseline code, in one walk of the heap, and for all optimized code
 * that is its own or has it inlined. Of all:
 *
 * A breakpoint on calls of a native function does that, since such a function may be inlined anywhere: one walk of the heap for
 * the baseline code, and one for the function's closures. The function is one that nobody calls, and the breakpoint goes at once.
 * Where there is no such function, switching precise call counts on and off throws optimized code away, in three walks and one.
 */

import { editLeavesStaleCode } from '../../arch/v8/stale-code.ts';
import type { Location } from './requests.ts';
import type { MainSession } from './session.ts';

export class CompiledCode {
  readonly #session: MainSession;
  /** The native function; null: there is none. */
  #place: string | null | undefined;
  #breakpoint: string | undefined;
  /** The breakpoint is there, or on its way. */
  #placing = false;

  constructor(session: MainSession) {
    this.#session = session;
  }

  /** Before those below: finds the function, once. */
  async prepare(): Promise<void> {
    if (this.#place !== undefined) return;
    const { objectId } = await this.#session.callRaw('arming', 'nativePlace', [], false);
    this.#place = objectId ?? null;
  }

  /** Baseline code goes too, in two walks of the heap; known once `prepare` has run. */
  get byBreakpoint(): boolean {
    return typeof this.#place === 'string';
  }

  /**
   * Posts at once what throws the code away: what is posted next comes behind it, in the same stop. The debugger has to be enabled.
   * Never rejects.
   */
  async discard(): Promise<void> {
    if (!(await (this.#placed() ?? this.#count()))) await this.#count();
  }

  /** As discard(), of functions by places in them; false where that failed. Never rejects. */
  async discardAt(places: readonly Location[]): Promise<boolean> {
    const params = (location: Location): object => ({ location, condition: 'false' });
    const set = places.map((place) => this.#session.post('Debugger.setBreakpoint', params(place)));
    const replies = await Promise.allSettled(set);
    const removed = replies.map((reply) => {
      if (reply.status === 'rejected') return undefined;
      const { breakpointId } = reply.value as { breakpointId: string };
      return this.#session.post('Debugger.removeBreakpoint', { breakpointId });
    });
    await Promise.allSettled(removed);
    return replies.every(({ status }) => status === 'fulfilled');
  }

  /**
   * To be posted together with an edit, in front of it: V8 would walk the heap for each function of the script that has baseline
   * code, and some versions leave optimized code behind that ends the process. Those get it done in any case.
   */
  async discardForEdit(): Promise<void> {
    const done = this.#placed();
    if (done !== undefined ? await done : !editLeavesStaleCode(process.versions.v8)) return;
    await this.#count();
  }

  /** By the breakpoint, and whether that was done; undefined where there is no function for it, or the breakpoint is there still. */
  #placed(): Promise<boolean> | undefined {
    if (typeof this.#place !== 'string' || this.#placing) return undefined;
    this.#placing = true;
    const params = { objectId: this.#place, condition: 'false' };
    return this.#session.post('Debugger.setBreakpointOnFunctionCall', params).then(
      (reply) => {
        this.#breakpoint = (reply as { breakpointId: string }).breakpointId;
        return true;
      },
      () => {
        this.#placing = false;
        return false;
      },
    );
  }

  /** By precise call counts, which optimized code does not keep. */
  async #count(): Promise<boolean> {
    const counts = { callCount: true, detailed: false };
    await Promise.allSettled([
      this.#session.post('Profiler.enable'),
      this.#session.post('Profiler.startPreciseCoverage', counts),
      this.#session.post('Profiler.stopPreciseCoverage'),
      this.#session.post('Profiler.disable'),
    ]);
    return true;
  }

  /** Behind those: takes the breakpoint away, which stops nothing. */
  async release(): Promise<void> {
    const breakpointId = this.#breakpoint;
    if (breakpointId === undefined) return;
    this.#breakpoint = undefined;
    await this.#session.post('Debugger.removeBreakpoint', { breakpointId }).catch(() => undefined);
    this.#placing = false;
  }
}
