/** Has the agent arm jobs, each by the first of its ways and by the next one where that fails; a script is edited once for all of its. */

import type { ArmItem, ArmResult } from '../agent/worker/requests.ts';
import type { Candidate } from '../arch/v8/arm.ts';
import type { ArmReport, ArmWay } from '../arch/v8/types.ts';
import { TraplineError } from '../errors.ts';
import type { ArmItems } from './armer-items.ts';
import { type Job, paused, reject, reportOf } from './armer-job.ts';
import type { ArmPlanner } from './armer-plan.ts';
import type { AgentConnection } from './connection.ts';

/** How often a group of sites whose edit V8 refuses is halved: each try may stop the process. */
const HALVINGS = 2;
/** How long may be looked for sites of one script that V8 can follow together. */
const PLAN_MS = 3000;

const LOST = "V8's live edit cannot follow the change: its text is dense, or its line long";

export interface RunnerEvents {
  readonly report: (report: ArmReport) => void;
  /** A job is armed by a breakpoint. */
  readonly onBroken: (job: Job) => void;
}

export class ArmRunner {
  readonly #connection: AgentConnection;
  readonly #items: ArmItems;
  readonly #planner: ArmPlanner;
  readonly #jobs: ReadonlyMap<number, Job>;
  readonly #events: RunnerEvents;
  #work: Promise<unknown> = Promise.resolve();
  #planUntil = 0;
  #ended = false;

  /** `jobs`: all of the session, by site. */
  constructor(
    connection: AgentConnection,
    items: ArmItems,
    planner: ArmPlanner,
    jobs: ReadonlyMap<number, Job>,
    events: RunnerEvents,
  ) {
    this.#connection = connection;
    this.#items = items;
    this.#planner = planner;
    this.#jobs = jobs;
    this.#events = events;
  }

  get ended(): boolean {
    return this.#ended;
  }

  /** What is under way gives up at its next step. */
  end(): void {
    this.#ended = true;
  }

  #goOn(): void {
    if (this.#ended) throw new TraplineError('EGONE', 'the session has ended');
  }

  /** Tries candidates until every job is armed or has none left; returns those that failed. */
  async run(jobs: readonly Job[]): Promise<Job[]> {
    const result = this.#work.then(() => this.#runNow(jobs));
    this.#work = result.catch(() => undefined);
    return await result;
  }

  async #runNow(jobs: readonly Job[]): Promise<Job[]> {
    const failed: Job[] = [];
    let pending = [...jobs];
    while (pending.length > 0) {
      this.#goOn();
      const edits = new Map<string, Job[]>();
      const others: Job[] = [];
      for (const job of pending) {
        const [candidate, ...rest] = job.candidates;
        job.candidates = rest;
        job.armed = candidate;
        if (candidate === undefined) failed.push(job);
        else if (candidate.way !== 'edit') others.push(job);
        else {
          const { scriptId } = job.script.info;
          edits.set(scriptId, [...(edits.get(scriptId) ?? []), job]);
        }
      }
      const done = new Set<Job>();
      // edits first: where breakpoints go depends on the text
      for (const group of edits.values()) {
        this.#planUntil = performance.now() + PLAN_MS;
        for (const job of await this.#edit(group)) done.add(job);
      }
      const items: ArmItem[] = [];
      for (const job of others) {
        try {
          items.push(this.#items.item(job, (job.armed as Candidate).way as Exclude<ArmWay, 'edit'>));
        } catch (error) {
          reject(job, error);
        }
      }
      // what the agent tells of a binding may come before its answer
      for (const { kind, site } of items.flatMap((item) => (item.kind === 'edit' ? [] : [item]))) {
        const job = this.#jobs.get(site);
        if (kind === 'bind' && job !== undefined) job.bound = true;
      }
      const results = items.length === 0 ? [] : await this.#armItems(items, pending);
      for (const { kind, sites, ok, pauseMs, waitedMs, reason } of results) {
        for (const number of sites) {
          const job = this.#jobs.get(number);
          if (job === undefined) continue;
          paused(job, pauseMs, waitedMs);
          if (ok) {
            done.add(job);
            job.bound = kind === 'bind';
            job.broken = kind === 'break';
            if (job.broken) this.#events.onBroken(job);
          } else {
            if (kind === 'bind') job.bound = false;
            reject(job, new Error(reason));
          }
        }
      }
      pending = pending.filter((job) => !done.has(job) && !failed.includes(job));
    }
    return failed;
  }

  /**
   * Returns the jobs that are armed then. V8 says `Ok` to an edit that reaches nothing: functions that it would lose are not
   * edited together with the others, and one that it loses even alone is refused before anything stops.
   */
  async #edit(group: readonly Job[], halvings = HALVINGS): Promise<readonly Job[]> {
    const jobs = this.#withWaiting(group);
    this.#goOn();
    const planned = this.#items.editItem(jobs);
    if (planned === undefined) return [];
    const { item, edited, lost } = planned;
    if (lost.size > 0)
      return await this.#editApart(
        jobs.filter(({ armed }) => armed !== undefined),
        group,
        lost,
      );
    const [result] = await this.#armItems([item], jobs);
    if (result === undefined || !result.ok) {
      const left = group.filter(({ armed }) => armed !== undefined);
      // one function that cannot be edited now refuses the whole edit
      if (left.length > 1 && halvings > 0) return await this.#editHalves(left, halvings - 1);
      for (const job of left) reject(job, new Error(result?.reason ?? 'no answer'));
      return [];
    }
    this.#items.edits.set(item.scriptId, edited);
    for (const job of edited.jobs.values()) {
      paused(job, result.pauseMs, result.waitedMs);
      job.bound = false;
      job.broken = false;
      job.rateLimit = undefined;
      job.armed = job.editCandidate;
    }
    await this.#breakAgain(item.scriptId);
    return group.filter(({ site }) => edited.jobs.has(site.spec.site));
  }

  /** The edit took all breakpoints of its script away: those that are no part of it go to where their place is now. */
  async #breakAgain(scriptId: string): Promise<void> {
    const broken = [...this.#jobs.values()].filter(
      (job) => job.broken && job.script.info.scriptId === scriptId,
    );
    if (broken.length === 0) return;
    const items: ArmItem[] = [];
    const impossible = new Map<Job, unknown>();
    for (const job of broken) {
      try {
        items.push(this.#items.item(job, 'break'));
      } catch (error) {
        impossible.set(job, error);
      }
    }
    const results = items.length === 0 ? [] : await this.#armItems(items, broken);
    const set = new Map(results.map((result) => [result.sites[0] as number, result]));
    for (const job of broken) {
      const result = set.get(job.site.spec.site);
      if (result?.ok === true) continue;
      job.broken = false;
      reject(job, impossible.get(job) ?? new Error(result?.reason ?? 'no answer'));
      this.#events.report(reportOf(job));
    }
  }

  #armItems(items: readonly ArmItem[], jobs: readonly Job[]): Promise<readonly ArmResult[]> {
    const maxPauseMs = Math.min(...jobs.map(({ options }) => options.maxPauseMs));
    return this.#connection.request('arm', {
      items,
      limits: { maxPauseMs, discardMs: this.#planner.discardMs },
    });
  }

  /** First those that V8 can follow together, then the others. */
  async #editApart(
    jobs: readonly Job[],
    group: readonly Job[],
    lost: ReadonlySet<number>,
  ): Promise<readonly Job[]> {
    const isLost = (job: Job): boolean => lost.has(job.site.symbol.index);
    const wanted = group.filter((job) => jobs.includes(job));
    if (wanted.length <= 1 || performance.now() > this.#planUntil) {
      for (const job of wanted) {
        job.unfit = true;
        reject(job, new Error(LOST));
      }
      return [];
    }
    const good = wanted.filter((job) => !isLost(job));
    const bad = wanted.filter(isLost);
    if (good.length === 0 || bad.length === 0) return await this.#editHalves(wanted, HALVINGS);
    const done = await this.#edit(good);
    return [...done, ...(await this.#edit(bad))];
  }

  async #editHalves(group: readonly Job[], halvings: number): Promise<readonly Job[]> {
    const middle = group.length >> 1;
    const done = await this.#edit(group.slice(0, middle), halvings);
    return [...done, ...(await this.#edit(group.slice(middle), halvings))];
  }

  /** Bindings of a script that wait for their breakpoint, which an edit of the script takes away: they are edited too. */
  #withWaiting(jobs: readonly Job[]): Job[] {
    const all = new Set(jobs);
    for (const job of this.#jobs.values()) {
      const waits = (job.bound && !job.settled) || job.broken;
      if (waits && !job.unfit && job.script === jobs[0]?.script) all.add(job);
    }
    return [...all];
  }
}
