/**
 * Time that what is looked at has had to itself: bounds in it hold on a machine that is busy with something else, and wide bounds on
 * the clock would hide what they are to show.
 */

import { readdirSync, readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';

/** How long each thread of a process has waited for a processor so far, in ms; none where the kernel does not tell. */
function queuedMs(pid: number): Map<string, number> {
  const found = new Map<string, number>();
  try {
    for (const tid of readdirSync(`/proc/${pid}/task`)) {
      const text = readFileSync(`/proc/${pid}/task/${tid}/schedstat`, 'latin1');
      found.set(tid, Number(text.split(' ')[1]) / 1e6 || 0);
    }
  } catch {
    // it has ended meanwhile
  }
  return found;
}

/** Processes of a script, by its file name and its first argument. */
export function processesOf(script: string, argument: string): number[] {
  const pids = readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number);
  return pids.filter((pid) => {
    try {
      const argv = readFileSync(`/proc/${pid}/cmdline`, 'latin1').split('\0');
      return argv[1]?.endsWith(script) === true && argv[2] === argument;
    } catch {
      return false;
    }
  });
}

/** From its making on. */
export class OwnTime {
  readonly #begin = performance.now();
  readonly #pids: () => readonly number[];
  readonly #first = new Map<string, number>();
  #waitedMs = 0;

  /** `pids`: whose doing it is. This process, which looks, is one of them. */
  constructor(pids: () => readonly number[]) {
    this.#pids = () => [process.pid, ...pids()];
    for (const pid of this.#pids()) for (const [tid, ms] of queuedMs(pid)) this.#first.set(tid, ms);
  }

  /** The time on the clock, but for what the thread has waited for a processor that has waited longest. */
  get ms(): number {
    for (const pid of this.#pids()) {
      for (const [tid, ms] of queuedMs(pid)) {
        const first = this.#first.get(tid) ?? 0;
        this.#first.set(tid, first);
        this.#waitedMs = Math.max(this.#waitedMs, ms - first);
      }
    }
    return performance.now() - this.#begin - this.#waitedMs;
  }

  /** Whether the condition comes true within so much of it. */
  async within(ms: number, condition: () => boolean | Promise<boolean>): Promise<boolean> {
    for (;;) {
      if (await condition()) return this.ms <= ms;
      if (this.ms > ms) return false;
      await sleep(10);
    }
  }
}
