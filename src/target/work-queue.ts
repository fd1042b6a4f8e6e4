/** Changes of a process, one after the other, whose refusals are told later: files are written at once. */

import { TraplineError } from '../errors.ts';

export class WorkQueue {
  readonly #onRefused: (what: string, error: TraplineError) => void;
  #work: Promise<void> = Promise.resolve();
  #refusals: TraplineError[] = [];

  constructor(onRefused: (what: string, error: TraplineError) => void) {
    this.#onRefused = onRefused;
  }

  /** In the order of the calls. */
  add(what: string, change: () => Promise<void>): void {
    this.#work = this.#work.then(change).catch((reason: unknown) => {
      const error =
        reason instanceof TraplineError
          ? reason
          : new TraplineError('EARM', reason instanceof Error ? reason.message : String(reason));
      this.#refusals.push(error);
      this.#onRefused(what, error);
    });
  }

  /** Everything that was asked for has been done, or was refused: the refusals since the last call. */
  async settled(): Promise<readonly TraplineError[]> {
    for (let work: Promise<void> | undefined; work !== this.#work; ) {
      work = this.#work;
      await work;
    }
    const refusals = this.#refusals;
    this.#refusals = [];
    return refusals;
  }
}
