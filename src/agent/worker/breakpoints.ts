/**
 * Sets breakpoints, as many at a time as a short stop of the main thread allows. V8 walks the heap for each function that has
 * baseline code, to take it from the function's closures. Where there are many, all such code is thrown away in front of them, in
 * two walks: each breakpoint takes a fraction of a millisecond then.
 */

import type { ArmContext } from './arm-context.ts';
import type { Location, StopLimits } from './requests.ts';
import { InspectorError } from './session.ts';

/** A breakpoint that is to be set, and who hears of it. */
export interface WantedBreakpoint {
  readonly at: Location;
  /** A place from here on will not do. */
  readonly until?: Location | undefined;
  /** Asked for when its turn comes. */
  condition(): string;
  /** Whether it is still wanted when its turn comes. */
  wanted(): boolean;
  /** `ms`: how long the main thread stood still for it and those beside it, `waitedMs` of that waiting for a processor. */
  placed(breakpointId: string, ms: number, waitedMs: number): void;
  failed(error: unknown): void;
}

/** What one stop may take for breakpoints, beside throwing code away. */
const BATCH_MS = 20;
/** From so many on, throwing all baseline code away is less than a walk for each. */
const MANY = 4;
/** As long as nothing has been measured. */
const FIRST_AT_ONCE = 8;
const LEAST_EACH_MS = 0.05;
const MOST_AT_ONCE = 256;
/** Between two stops the process runs for at least as long as the first one was, and at most so long. */
const MOST_REST_MS = 100;

export class Breakpoints {
  readonly #context: ArmContext;
  /** What one took, in ms: behind the throwing away of code, and by itself, where it may take a walk. */
  readonly #eachMs = { behind: BATCH_MS / FIRST_AT_ONCE, alone: BATCH_MS };
  /** How many there were in the last stop of each kind. */
  readonly #atOnce = { behind: FIRST_AT_ONCE / 2, alone: 0.5 };
  #discardMs: number | undefined;

  constructor(context: ArmContext) {
    this.#context = context;
  }

  /**
   * Every stop is a step of its own: what comes up meanwhile has its turn in between. `prepare` posts what the conditions need. Not to
   * be called inside a step. Never rejects.
   */
  async set<T extends WantedBreakpoint>(
    all: readonly T[],
    limits: StopLimits,
    prepare: (batch: readonly T[]) => Promise<unknown>,
  ): Promise<void> {
    const queue = [...all];
    while (queue.length > 0) {
      let restMs = 0;
      await this.#context.serial(async () => {
        restMs = await this.#batch(queue, limits, prepare);
      });
      if (queue.length > 0) await new Promise((resolve) => setTimeout(resolve, restMs));
    }
  }

  /** Takes those from the queue that are set in one stop; returns how long that was. */
  async #batch<T extends WantedBreakpoint>(
    queue: T[],
    limits: StopLimits,
    prepare: (batch: readonly T[]) => Promise<unknown>,
  ): Promise<number> {
    if (this.#context.closed) {
      for (const wanted of queue.splice(0)) wanted.failed(new InspectorError('the session ends'));
      return 0;
    }
    const { session, code } = this.#context;
    await this.#context.openHook();
    await code.prepare();
    const { maxPauseMs } = limits;
    const discardMs = this.#discardMs ?? session.longest.get('deoptimize') ?? limits.discardMs;
    const discard = queue.length >= MANY && code.byBreakpoint && discardMs + BATCH_MS <= maxPauseMs;
    const kind = discard ? 'behind' : 'alone';
    const fit = Math.floor(Math.min(BATCH_MS, maxPauseMs) / this.#eachMs[kind]);
    const count = Math.max(1, Math.min(MOST_AT_ONCE, 2 * this.#atOnce[kind], fit));
    const taken = queue.splice(0, count);
    const batch = taken.filter((wanted) => wanted.wanted());
    for (const one of taken)
      if (!batch.includes(one)) one.failed(new InspectorError('it is not wanted any more'));
    if (batch.length === 0) return 0;
    const operations = async () => {
      const prepared = prepare(batch);
      const discarded = discard ? code.discard() : undefined;
      const posted = batch.map(({ at, until, condition }) =>
        this.#context.setBreakpoint(at, condition(), until),
      );
      const [[first], outcomes] = await Promise.all([
        Promise.allSettled([prepared]),
        Promise.allSettled(posted),
        discarded,
      ]);
      return { first, outcomes };
    };
    try {
      const { value, ms, waitedMs } = await session
        .stoppingTogether('set breakpoint', operations)
        .finally(() => (discard ? code.release() : undefined));
      this.#learn(ms - waitedMs, batch.length, discard ? discardMs : undefined);
      const { first, outcomes } = value;
      for (const [index, outcome] of outcomes.entries()) {
        const wanted = batch[index] as T;
        if (outcome.status === 'rejected') wanted.failed(outcome.reason);
        else if (first.status === 'fulfilled') wanted.placed(outcome.value, ms, waitedMs);
        else {
          await this.#context.removeBreakpoint({ breakpoint: outcome.value }).catch(() => undefined);
          wanted.failed(first.reason);
        }
      }
      return Math.min(ms, MOST_REST_MS);
    } catch (error) {
      for (const wanted of batch) wanted.failed(error);
      return 0;
    }
  }

  /** `discardMs` of the stop are taken for the throwing away of code; undefined: there was none. */
  #learn(ms: number, count: number, discardMs: number | undefined): void {
    this.#atOnce[discardMs === undefined ? 'alone' : 'behind'] = count;
    if (discardMs === undefined) {
      this.#eachMs.alone = Math.max(LEAST_EACH_MS, this.#eachMs.alone / 2, ms / count);
      return;
    }
    const forThem = this.#eachMs.behind * count;
    const known = this.#discardMs ?? Math.min(discardMs, ms);
    // what each of both took shows from stops with different shares of them
    this.#discardMs = (known + Math.max(0, ms - forThem)) / 2;
    this.#eachMs.behind = Math.max(
      LEAST_EACH_MS,
      (this.#eachMs.behind + Math.max(0, ms - known) / count) / 2,
    );
  }
}
