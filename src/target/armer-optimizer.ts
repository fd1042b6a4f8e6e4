/** The delayed optimizer (kick_kprobe_optimizer): a breakpoint that stands where a live edit was refused for the moment. */

import type { ArmReport } from '../arch/v8/types.ts';
import { type Job, reportOf } from './armer-job.ts';
import type { ArmRunner } from './armer-run.ts';
import type { AgentConnection } from './connection.ts';

/** When a breakpoint probe is tried to be optimized, in ms after it was armed, and every time again. */
const OPTIMIZE_MS = [1000, 3000, 10_000, 30_000];

export class ArmOptimizer {
  readonly #connection: AgentConnection;
  readonly #runner: ArmRunner;
  readonly #report: (report: ArmReport) => void;
  readonly #timers = new Set<NodeJS.Timeout>();

  constructor(connection: AgentConnection, runner: ArmRunner, report: (report: ArmReport) => void) {
    this.#connection = connection;
    this.#runner = runner;
    this.#report = report;
  }

  end(): void {
    for (const timer of this.#timers) clearTimeout(timer);
    this.#timers.clear();
  }

  /** It becomes a live edit as soon as V8 lets it. */
  kick(job: Job): void {
    const { editCandidate, options, tries } = job;
    if (
      options.way !== 'auto' ||
      editCandidate === undefined ||
      job.unfit ||
      editCandidate.estimateMs > options.maxPauseMs
    )
      return;
    const delay = OPTIMIZE_MS[Math.min(tries, OPTIMIZE_MS.length - 1)];
    const timer = setTimeout(() => {
      this.#timers.delete(timer);
      if (!job.broken || this.#connection.closed) return;
      job.tries++;
      const before = job.armed;
      job.candidates = [editCandidate];
      this.#runner
        .run([job])
        .then((failed) => {
          if (failed.length === 0) {
            job.note = 'optimized';
            this.#report(reportOf(job));
            return;
          }
          job.armed = before;
          if (!this.#runner.ended) this.kick(job);
        })
        .catch(() => undefined);
    }, delay);
    timer.unref();
    this.#timers.add(timer);
  }
}
