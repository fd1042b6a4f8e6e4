import type { Tracee } from './tracee.ts';

/** The processes that are traced together, in their order; some may have gone meanwhile. */
export class Tracees {
  readonly all: Tracee[] = [];
  readonly #gone = new Set<Tracee>();

  get alive(): readonly Tracee[] {
    return this.all.filter((tracee) => !this.#gone.has(tracee));
  }

  isGone(tracee: Tracee): boolean {
    return this.#gone.has(tracee);
  }

  /** Answers whether it was the last one. */
  lose(tracee: Tracee): boolean {
    this.#gone.add(tracee);
    return this.#gone.size === this.all.length;
  }
}
