/** What runs later: bpf_timer and bpf_wq of one thread. Times are nanoseconds of the machine's monotonic clock. */

interface Entry {
  readonly at: bigint;
  readonly order: number;
  readonly run: () => void;
}

/** The longest that setTimeout() takes. */
const MAX_DELAY_MS = 0x7fff_ffff;

type Timeout = { unref?(): void };
const host = globalThis as unknown as {
  setTimeout(action: () => void, ms: number): Timeout;
  clearTimeout(timeout: Timeout): void;
};

export class TimerQueue {
  readonly #now: () => bigint;
  readonly #isVirtual: boolean;
  /** What is virtual time ahead of the clock. */
  #ahead = 0n;
  #order = 0;
  readonly #entries = new Map<object, Entry>();
  #wake: Timeout | undefined;
  #running: object | undefined;

  constructor(now: () => bigint, kind: 'real' | 'virtual') {
    this.#now = now;
    this.#isVirtual = kind === 'virtual';
  }

  get now(): bigint {
    return this.#now() + this.#ahead;
  }

  /** How many wait. */
  get pending(): number {
    return this.#entries.size;
  }

  /** Whose callback runs now. */
  get running(): object | undefined {
    return this.#running;
  }

  isPending(owner: object): boolean {
    return this.#entries.has(owner);
  }

  /** Replaces what `owner` waits for. */
  schedule(owner: object, at: bigint, run: () => void): void {
    this.#entries.set(owner, { at, order: this.#order++, run });
    this.#arm();
  }

  /** False where it did not wait. */
  cancel(owner: object): boolean {
    return this.#entries.delete(owner);
  }

  /** Lets `ns` nanoseconds pass at once and runs what falls due, in order; how many ran. */
  advance(ns: bigint): number {
    const end = this.now + ns;
    let count = 0;
    for (let next = this.#next(); next !== undefined && next[1].at <= end; next = this.#next()) {
      if (next[1].at > this.now) this.#ahead += next[1].at - this.now;
      this.#fire(next);
      // A timer that starts itself with 0 nanoseconds.
      if (++count > 1_000_000) break;
    }
    if (end > this.now) this.#ahead += end - this.now;
    return count;
  }

  #next(): [object, Entry] | undefined {
    let first: [object, Entry] | undefined;
    for (const one of this.#entries) {
      const isSooner =
        first === undefined ||
        one[1].at < first[1].at ||
        (one[1].at === first[1].at && one[1].order < first[1].order);
      if (isSooner) first = one;
    }
    return first;
  }

  #fire([owner, entry]: [object, Entry]): void {
    this.#entries.delete(owner);
    const outer = this.#running;
    this.#running = owner;
    try {
      entry.run();
    } finally {
      this.#running = outer;
    }
  }

  #arm(): void {
    if (this.#isVirtual || this.#wake !== undefined) return;
    const next = this.#next();
    if (next === undefined) return;
    const ms = Math.max(0, Math.min(MAX_DELAY_MS, Math.ceil(Number(next[1].at - this.now) / 1e6)));
    this.#wake = host.setTimeout(() => {
      this.#wake = undefined;
      const { now } = this;
      try {
        for (let due = this.#next(); due !== undefined && due[1].at <= now; due = this.#next())
          this.#fire(due);
      } finally {
        this.#arm();
      }
    }, ms);
    // A timer of a program does not keep a process alive.
    this.#wake.unref?.();
  }
}
