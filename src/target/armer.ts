/**
 * Arms sites: plans each, has the agent try the cheapest way, goes on to the next when one fails, and escalates later
 * when calls turn out to come past a replaced binding.
 */

import { setTimeout as sleep } from 'node:timers/promises';
import type { ArmedNotice } from '../agent/worker/requests.ts';
import type { TargetCost } from '../arch/v8/arm-cost.ts';
import type { InstrumentNaming } from '../arch/v8/instrument.ts';
import type { ArmReport } from '../arch/v8/types.ts';
import { ArmItems } from './armer-items.ts';
import {
  type ArmSite,
  type Job,
  paused,
  refusal,
  reject,
  reportOf,
  shareEdits,
  wantsEdit,
} from './armer-job.ts';
import { ArmOptimizer } from './armer-optimizer.ts';
import { ArmPlaces, MOST_EXPORTS } from './armer-places.ts';
import { ArmPlanner } from './armer-plan.ts';
import { ArmRunner } from './armer-run.ts';
import type { AgentConnection } from './connection.ts';
import type { ArmOptions } from './session.ts';
import { isDebuggable, type TextSpace } from './text-space.ts';

/** Bindings that turn out to need another way within this time get it together. */
const GATHER_MS = 20;

export class Armer {
  readonly #connection: AgentConnection;
  readonly #planner: ArmPlanner;
  readonly #places: ArmPlaces;
  readonly #runner: ArmRunner;
  readonly #optimizer: ArmOptimizer;
  readonly #report: (report: ArmReport) => void;
  readonly #jobs = new Map<number, Job>();
  readonly #warn: (message: string) => void;
  readonly #warned = new Set<string>();

  constructor(
    connection: AgentConnection,
    text: TextSpace,
    naming: InstrumentNaming,
    report: (report: ArmReport) => void,
    warn: (message: string) => void,
  ) {
    this.#warn = warn;
    const items = new ArmItems(naming);
    this.#connection = connection;
    this.#planner = new ArmPlanner(connection, text, items, naming.v8);
    this.#places = new ArmPlaces(connection, text, items, this.#planner);
    const onBroken = (job: Job): void => this.#optimizer.kick(job);
    this.#runner = new ArmRunner(connection, items, this.#planner, this.#jobs, { report, onBroken });
    this.#optimizer = new ArmOptimizer(connection, this.#runner, report);
    this.#report = report;
  }

  /** Nothing is armed any more from here on, nor in another way: what is under way gives up at its next step. */
  end(): void {
    this.#runner.end();
    this.#optimizer.end();
  }

  /** Refuses with EMAXPAUSE where listing the debugger's scripts would stop the process for longer. */
  allowDebugger(maxPauseMs: number): Promise<void> {
    return this.#planner.allowDebugger(maxPauseMs);
  }

  /** The same for asking V8 for objects. */
  allowQuery(maxPauseMs: number): Promise<void> {
    return this.#planner.allowQuery(maxPauseMs);
  }

  async arm(sites: readonly ArmSite[], options: ArmOptions): Promise<ArmReport[]> {
    const places = await this.#places.find(sites, options);
    const exported = await this.#places.exported(places, options);
    await this.#places.reach(places);
    const few = places.length <= MOST_EXPORTS;
    const plan = (target: TargetCost): Job[] =>
      places.map((site) => this.#plan(site, options, target, exported.get(site), few));
    let jobs = plan(await this.#planner.target());
    // an edit's estimate is many walks of the heap
    if (jobs.some(wantsEdit)) jobs = plan(await this.#planner.target(true));
    shareEdits(jobs);
    this.#warnOfEdits(jobs);
    let failed = await this.#runner.run(jobs);
    if (failed.some(({ site }) => !isDebuggable(site.symbol)))
      [jobs, failed] = await this.#again(jobs, failed);
    // bindings that were not reached are armed in another way
    if (jobs.some((job) => job.armed === undefined && !failed.includes(job))) await this.#escalated;
    if (failed.length === jobs.length && failed[0] !== undefined) {
      throw refusal(failed[0]);
    }
    return jobs.map((job) => reportOf(job));
  }

  #warnOfEdits(jobs: readonly Job[]): void {
    for (const { script, candidates } of jobs) {
      const { scriptId, url } = script.info;
      if (candidates[0]?.way !== 'edit' || this.#warned.has(scriptId)) continue;
      const hazard = this.#planner.editHazard(script);
      if (hazard === undefined) continue;
      this.#warned.add(scriptId);
      this.#warn(
        `WARNING: ${url}: edited as --arm edit or --unsafe asks for, though ${hazard} or end the process, now or after this: no other way to arm does`,
      );
    }
  }

  #plan(...args: Parameters<ArmPlanner['plan']>): Job {
    const job = this.#planner.plan(...args);
    this.#jobs.set(job.site.spec.site, job);
    return job;
  }

  /** Properties that did not lead to what the files of their modules promised: by the debugger's other ways. */
  async #again(jobs: readonly Job[], failed: readonly Job[]): Promise<[Job[], Job[]]> {
    const others = new Map<Job, Job>();
    const target = await this.#planner.target();
    for (const job of failed) {
      if (isDebuggable(job.site.symbol)) continue;
      try {
        const site = await this.#places.inDebugger(job.site, job.options);
        if (site === undefined) throw new Error('V8 has no script of that name');
        await this.#places.reach([site]);
        const next = this.#plan(site, job.options, target, undefined);
        next.candidates = next.candidates.filter(({ way }) => way !== 'nop');
        next.failures.push(...job.failures);
        others.set(job, next);
      } catch (error) {
        job.failures.push(error instanceof Error ? error.message : String(error));
      }
    }
    const still = await this.#runner.run([...others.values()]);
    const lost = failed.filter((job) => !others.has(job));
    return [jobs.map((job) => others.get(job) ?? job), [...lost, ...still]];
  }

  /** Progress of a binding: done, or past it, or not possible. */
  onNotice(notice: ArmedNotice): void {
    const job = this.#jobs.get(notice.site);
    if (job === undefined) return;
    paused(job, notice.pauseMs);
    if (notice.state === 'limited') {
      const { missed = 0 } = notice;
      job.note = `about ${missed} hits missed: all breakpoint probes together are limited to ${job.rateLimit} a second`;
      this.#report(reportOf(job, missed - job.missed));
      job.missed = missed;
      return;
    }
    if (!job.bound) return;
    job.settled = notice.state === 'settled' || notice.state === 'failed';
    if (notice.state === 'failed') {
      // its breakpoint counts until the next way replaces it
      reject(job, new Error(notice.reason ?? 'no reason given'));
      this.#escalate(job);
      return;
    }
    const { escaped, state, holders = 0 } = notice;
    if (state === 'escaping') {
      job.escaped = escaped;
      this.#escalate(job);
      return;
    }
    if (escaped !== undefined) job.escaped = escaped;
    if (holders > 0) job.note = `${holders} other reference${holders === 1 ? '' : 's'} replaced`;
    this.#report(reportOf(job));
  }

  #escalating = new Set<Job>();
  #escalated: Promise<void> | undefined;

  /** To the next way that is allowed; the binding goes back as soon as that one is in place. Those that come up together go together. */
  #escalate(job: Job): void {
    if (this.#runner.ended) return;
    this.#escalating.add(job);
    if (this.#escalating.size > 1) return;
    const before = this.#escalated;
    this.#escalated = (async () => {
      await sleep(GATHER_MS);
      await before;
      const jobs = [...this.#escalating];
      this.#escalating = new Set();
      await this.#escalateNow(jobs).catch(() => undefined);
    })();
  }

  async #escalateNow(jobs: readonly Job[]): Promise<void> {
    const before = new Map(jobs.map((job) => [job, job.armed]));
    const wasBound = (job: Job): boolean => before.get(job)?.way === 'bind';
    for (const job of jobs) {
      // a breakpoint does not see fewer calls than a binding that some come past, but each costs the application more
      if (wasBound(job)) job.candidates = job.candidates.filter(({ way }) => way === 'edit');
    }
    const failed = new Set(await this.#runner.run(jobs).catch(() => jobs));
    if (this.#runner.ended) return;
    const lost: number[] = [];
    for (const job of jobs) {
      if (!failed.has(job)) {
        if (wasBound(job))
          job.note = `${job.escaped} call${job.escaped === 1 ? '' : 's'} had come past its binding`;
        job.escaped = undefined;
        job.bound = false;
        this.#report(reportOf(job));
        continue;
      }
      job.armed = before.get(job);
      if (!wasBound(job)) {
        job.bound = false;
        this.#report(reportOf(job));
        continue;
      }
      // the answer to this is one more notice, with the final count
      job.note = `calls come past its binding; not edited: ${job.failures.join('; ')}`;
      lost.push(job.site.spec.site);
    }
    if (lost.length > 0)
      await this.#connection.request('closeWindow', { sites: lost }).catch(() => undefined);
  }
}
