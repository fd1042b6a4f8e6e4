/**
 * Arms sites: plans each, has the agent try the cheapest way, goes on to the next when one fails, and escalates later
 * when calls turn out to come past a replaced binding.
 */

import { setTimeout as sleep } from 'node:timers/promises';
import type { ArmedNotice, ArmItem, ArmResult, BindItem } from '../agent/worker/requests.ts';
import { type Candidate, isProperty, planSite } from '../arch/v8/arm.ts';
import {
  breakpointMs,
  calibrate,
  deoptimizeMs,
  editMs,
  enableMs,
  queryMs,
  type TargetCost,
} from '../arch/v8/arm-cost.ts';
import { exportKey, forgetText, mayHold } from '../arch/v8/exports.ts';
import type { InstrumentNaming } from '../arch/v8/instrument.ts';
import { type Reader, readersOf } from '../arch/v8/readers.ts';
import { scopesMs } from '../arch/v8/scope-cost.ts';
import type { ArmReport, ArmWay, FunctionSymbol } from '../arch/v8/types.ts';
import { TraplineError } from '../errors.ts';
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
import type { AgentConnection } from './connection.ts';
import type { ArmOptions } from './session.ts';
import {
  isCommonJs,
  isDebuggable,
  isListed,
  type LoadedScript,
  scriptPath,
  type TextSpace,
} from './text-space.ts';

/** Throwing optimized code away is part of every binding below this. */
const CHEAP_DEOPTIMIZE_MS = 50;
/** When a breakpoint probe is tried to be optimized, in ms after it was armed, and every time again (kick_kprobe_optimizer). */
const OPTIMIZE_MS = [1000, 3000, 10_000, 30_000];

/** How often a group of sites whose edit V8 refuses is halved: each try may stop the process. */
const HALVINGS = 2;
/** How long may be looked for sites of one script that V8 can follow together. */
const PLAN_MS = 3000;

/** Sites at once up to which the texts of all scripts are searched for other references to their functions. */
const MOST_EXPORTS = 50;

/** Functions up to which each that reads a replaced variable is made to lose its compiled code, a stop each. */
const MOST_READERS = 4;

/** V8's number of the main context: the first one that is made. */
const MAIN_CONTEXT = 1;

/** Bindings that turn out to need another way within this time get it together. */
const GATHER_MS = 20;

const LOST = "V8's live edit cannot follow the change: its text is dense, or its line long";

function allow(ms: number, maxPauseMs: number, what: string): void {
  if (ms <= maxPauseMs) return;
  const message = `${what} would stop the process for about ${Math.round(ms)} ms`;
  throw new TraplineError('EMAXPAUSE', message, { hint: `--max-pause ${Math.ceil(ms)} allows it` });
}

export class Armer {
  readonly #connection: AgentConnection;
  readonly #text: TextSpace;
  readonly #items: ArmItems;
  readonly #report: (report: ArmReport) => void;
  readonly #jobs = new Map<number, Job>();
  #work: Promise<unknown> = Promise.resolve();
  #planUntil = 0;
  #ended = false;

  constructor(
    connection: AgentConnection,
    text: TextSpace,
    naming: InstrumentNaming,
    report: (report: ArmReport) => void,
  ) {
    this.#connection = connection;
    this.#text = text;
    this.#items = new ArmItems(naming);
    this.#report = report;
  }

  /** Nothing is armed any more from here on, nor in another way: what is under way gives up at its next step. */
  end(): void {
    this.#ended = true;
    for (const timer of this.#optimizers) clearTimeout(timer);
    this.#optimizers.clear();
  }

  #goOn(): void {
    if (this.#ended) throw new TraplineError('EGONE', 'the session has ended');
  }

  readonly #optimizers = new Set<NodeJS.Timeout>();

  async arm(sites: readonly ArmSite[], options: ArmOptions): Promise<ArmReport[]> {
    const places = await this.#places(sites, options);
    const exported = await this.#exported(places, options);
    await this.#reach(places);
    const few = places.length <= MOST_EXPORTS;
    const plan = (target: TargetCost): Job[] =>
      places.map((site) => this.#plan(site, options, target, exported.get(site), few));
    let jobs = plan(await this.#target());
    // an edit's estimate is many walks of the heap
    if (jobs.some(wantsEdit)) jobs = plan(await this.#target(true));
    shareEdits(jobs);
    let failed = await this.#run(jobs);
    if (failed.some(({ site }) => !isDebuggable(site.symbol)))
      [jobs, failed] = await this.#again(jobs, failed);
    // bindings that were not reached are armed in another way
    if (jobs.some((job) => job.armed === undefined && !failed.includes(job))) await this.#escalated;
    if (failed.length === jobs.length && failed[0] !== undefined) {
      throw refusal(failed[0]);
    }
    return jobs.map((job) => reportOf(job));
  }

  /**
   * Functions that were found by the files of a prepared process, but have no site that serves, are looked up again
   * among the debugger's scripts: by url and index.
   */
  async #places(sites: readonly ArmSite[], options: ArmOptions): Promise<ArmSite[]> {
    const scripts = (await this.#connection.request('compiledIn')) ?? [];
    this.#items.compiledIn = new Map(scripts.map((script) => [scriptPath(script.url), script]));
    const places: ArmSite[] = [];
    for (const site of sites) places.push((await this.#debuggable(site, options)) ?? site);
    return places;
  }

  /** Hooks are globals of the main context; in others they have to be made so before anything calls them. */
  async #reach(sites: readonly ArmSite[]): Promise<void> {
    const reached = new Set<number>([MAIN_CONTEXT]);
    for (const { spec, symbol } of sites) {
      const contextId = this.#text.get(symbol.scriptId)?.info.executionContextId ?? MAIN_CONTEXT;
      if (!isDebuggable(symbol) || reached.has(contextId)) continue;
      if (!(await this.#connection.request('reach', { contextId }))) {
        const message = `${spec.name} cannot be armed: its context (vm.createContext) takes no globals, or has gone`;
        throw new TraplineError('EARM', message, {
          hint: 'functions of vm.runInThisContext and of modules can be probed',
        });
      }
      reached.add(contextId);
    }
  }

  /** Functions of CommonJS modules that are reached by their exports only, each with its key there. */
  async #exported(sites: readonly ArmSite[], { way }: ArmOptions): Promise<Map<ArmSite, string>> {
    const found = new Map<ArmSite, string>();
    if (sites.length > MOST_EXPORTS || (way !== 'auto' && way !== 'property')) return found;
    for (const site of sites) {
      const script = this.#text.get(site.symbol.scriptId);
      if (script === undefined || site.line !== undefined) continue;
      if (!isDebuggable(site.symbol) || !isCommonJs(script.info)) continue;
      const key = exportKey(script.source, site.symbol);
      if (key !== undefined) found.set(site, key);
    }
    if (found.size === 0) {
      forgetText();
      return found;
    }
    const others = (await this.#connection.request('scripts')).filter(isListed);
    const keys = new Set(found.values());
    for (const info of others) {
      const text = this.#text.textOf(info) ?? (await this.#connection.request('source', info)).source;
      if (text === undefined) continue;
      for (const key of keys) {
        const own = [...found].some(([{ symbol }, by]) => by === key && symbol.scriptId === info.scriptId);
        if (!own && mayHold(text, info.isModule, key)) keys.delete(key);
      }
      if (keys.size === 0) break;
    }
    for (const [site, key] of found) if (!keys.has(key)) found.delete(site);
    forgetText();
    return found;
  }

  #form({ info }: LoadedScript, { index }: FunctionSymbol): number | undefined {
    return this.#items.compiledIn.get(scriptPath(info.url))?.forms[index];
  }

  async #debuggable(site: ArmSite, options: ArmOptions): Promise<ArmSite | undefined> {
    const { way } = options;
    const { symbol, line, events } = site;
    const script = this.#text.get(symbol.scriptId);
    if (script === undefined || isDebuggable(symbol)) return undefined;
    const form = this.#form(script, symbol) ?? 0;
    const served = form > 1 || (form === 1 && events.every((event) => event === 'entry'));
    if (served && line === undefined && (way === 'auto' || way === 'nop')) return undefined;
    const byProperty = !this.#items.compiledIn.has(scriptPath(script.info.url)) && isProperty(symbol);
    if (byProperty && line === undefined && (way === 'auto' || way === 'property')) return undefined;
    return await this.#inDebugger(site, options);
  }

  /** The same function among the debugger's scripts. */
  async #inDebugger(site: ArmSite, { maxPauseMs }: ArmOptions): Promise<ArmSite | undefined> {
    const { symbol } = site;
    const script = this.#text.get(symbol.scriptId) as LoadedScript;
    await this.allowDebugger(maxPauseMs);
    const path = scriptPath(script.info.url);
    const info = (await this.#connection.request('scripts')).find(({ url }) => scriptPath(url) === path);
    if (info === undefined) return undefined;
    const { source } = await this.#connection.request('source', { scriptId: info.scriptId });
    if (source === undefined) return undefined;
    const { symbols } = this.#text.add(info, source);
    const isSame = ({ name, params }: FunctionSymbol): boolean =>
      name === symbol.name && String(params) === String(symbol.params);
    // a file may not be what was loaded: then its name has to tell
    const at = symbols[symbol.index];
    const alike = at !== undefined && isSame(at) ? [at] : symbols.filter(isSame);
    const [found] = alike;
    return found === undefined || alike.length > 1 ? undefined : { ...site, symbol: found };
  }

  /** Properties that did not lead to what the files of their modules promised: by the debugger's other ways. */
  async #again(jobs: readonly Job[], failed: readonly Job[]): Promise<[Job[], Job[]]> {
    const others = new Map<Job, Job>();
    const target = await this.#target();
    for (const job of failed) {
      if (isDebuggable(job.site.symbol)) continue;
      try {
        const site = await this.#inDebugger(job.site, job.options);
        if (site === undefined) throw new Error('V8 has no script of that name');
        await this.#reach([site]);
        const next = this.#plan(site, job.options, target, undefined);
        next.candidates = next.candidates.filter(({ way }) => way !== 'nop');
        next.failures.push(...job.failures);
        others.set(job, next);
      } catch (error) {
        job.failures.push(error instanceof Error ? error.message : String(error));
      }
    }
    const still = await this.#run([...others.values()]);
    const lost = failed.filter((job) => !others.has(job));
    return [jobs.map((job) => others.get(job) ?? job), [...lost, ...still]];
  }

  /** Asking for scripts enables the debugger, which walks the heap. Errors: EMAXPAUSE. */
  async allowDebugger(maxPauseMs: number): Promise<void> {
    const ms = enableMs(await this.#target());
    allow(ms, maxPauseMs, "looking for functions needs V8's debugger: enabling it");
  }

  /** Refuses with EMAXPAUSE where asking V8 for objects would stop the process for longer. */
  async allowQuery(maxPauseMs: number): Promise<void> {
    const ms = queryMs(await this.#target());
    allow(ms, maxPauseMs, 'looking for channels needs a garbage collection: it');
  }

  #deoptimize(estimateMs: number, maxPauseMs: number): BindItem['deoptimize'] {
    if (estimateMs > maxPauseMs) return 'never';
    return estimateMs <= CHEAP_DEOPTIMIZE_MS ? 'now' : 'later';
  }

  /** `walk`: measures a walk of the heap, once, by a stop that is no longer than enabling the debugger was. */
  async #target(walk = false): Promise<TargetCost> {
    const target = calibrate(await this.#connection.request('cost', { walk }));
    this.#discardMs = deoptimizeMs(target);
    return target;
  }

  #discardMs = 0;

  /** An edit is ruled out by the heap alone: its script's text need not be looked through. */
  #tooLong(target: TargetCost, { length }: string, { way, maxPauseMs }: ArmOptions): boolean {
    return way !== 'edit' && editMs(target, { length, scopesMs: () => 0 }) > maxPauseMs;
  }

  readonly #scopes = new WeakMap<LoadedScript, number>();

  #scopesMs(script: LoadedScript): number {
    const known = this.#scopes.get(script) ?? scopesMs(script.source, script.symbols);
    this.#scopes.set(script, known);
    return known;
  }

  readonly #readersOf = new WeakMap<FunctionSymbol, { readonly readers: readonly Reader[] | undefined }>();

  /** Undefined: code of all functions has to be thrown away where that of a variable's readers has to. */
  #readers(script: LoadedScript, symbol: FunctionSymbol): readonly Reader[] | undefined {
    const { binding } = symbol;
    // a classic script's variables are those of others, too
    const own = script.info.isModule || isCommonJs(script.info);
    if (binding.via !== 'variable' || !own || !isDebuggable(symbol)) return undefined;
    const { source, symbols, info } = script;
    const known = this.#readersOf.get(symbol) ?? {
      readers: readersOf(source, symbols, symbol, binding.name, info.isModule, MOST_READERS),
    };
    this.#readersOf.set(symbol, known);
    return known.readers;
  }

  #plan(
    site: ArmSite,
    options: ArmOptions,
    target: TargetCost,
    exportedAs: string | undefined,
    few = true,
  ): Job {
    const { symbol, line, events } = site;
    const script = this.#text.get(symbol.scriptId);
    if (script === undefined)
      throw new TraplineError('EINVAL', `${site.spec.name}: its script is not loaded any more`);
    const { info, source } = script;
    const readers = few ? this.#readers(script, symbol) : undefined;
    const allMs = deoptimizeMs(target);
    const codeMs = readers === undefined ? allMs : breakpointMs(target);
    const deoptimize = this.#deoptimize(codeMs, options.maxPauseMs);
    const plan = planSite(
      { symbol, line: line !== undefined, events },
      {
        target,
        script: {
          length: source.length,
          scopesMs: () => (this.#tooLong(target, source, options) ? 0 : this.#scopesMs(script)),
        },
        compiledIn: this.#form(script, symbol),
        debuggable: isDebuggable(symbol),
        commonJs: isCommonJs(info),
        exportedAs,
        deoptimizeMs: deoptimize === 'never' ? 0 : codeMs,
      },
    );
    const { way, breakpoints = true } = options;
    const candidates = plan.candidates.filter(
      (candidate) => (way === 'auto' && (breakpoints || candidate.way !== 'break')) || candidate.way === way,
    );
    const job: Job = {
      site,
      script,
      plan,
      options,
      candidates: [],
      editCandidate: plan.candidates.find(({ way: by }) => by === 'edit'),
      failures: [],
      armed: undefined,
      bound: false,
      settled: false,
      broken: false,
      pauseMs: 0,
      waitedMs: 0,
      note: undefined,
      missed: 0,
      escaped: undefined,
      rateLimit: undefined,
      exportedAs,
      deoptimize,
      deoptimizeAll: allMs <= options.maxPauseMs,
      readers,
      tries: 0,
      unfit: false,
    };
    const allowed = candidates.filter(({ estimateMs }) => estimateMs <= options.maxPauseMs);
    for (const { way: dear, estimateMs } of candidates) {
      if (estimateMs <= options.maxPauseMs) continue;
      job.failures.push(`${dear}: would stop the process for about ${Math.round(estimateMs)} ms`);
    }
    job.candidates = allowed;
    this.#jobs.set(site.spec.site, job);
    return job;
  }

  /** Tries candidates until every job is armed or has none left; returns those that failed. */
  async #run(jobs: readonly Job[]): Promise<Job[]> {
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
            if (job.broken) this.#kickOptimizer(job);
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
    const items = broken.map((job) => this.#items.item(job, 'break'));
    const set = new Map(
      (await this.#armItems(items, broken)).map((result) => [result.sites[0] as number, result]),
    );
    for (const job of broken) {
      const result = set.get(job.site.spec.site);
      if (result?.ok === true) continue;
      job.broken = false;
      reject(job, new Error(result?.reason ?? 'no answer'));
      this.#report(reportOf(job));
    }
  }

  #armItems(items: readonly ArmItem[], jobs: readonly Job[]): Promise<readonly ArmResult[]> {
    const maxPauseMs = Math.min(...jobs.map(({ options }) => options.maxPauseMs));
    return this.#connection.request('arm', { items, limits: { maxPauseMs, discardMs: this.#discardMs } });
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

  /** A breakpoint that stands where a live edit was refused for the moment becomes one as soon as V8 lets it. */
  #kickOptimizer(job: Job): void {
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
      this.#optimizers.delete(timer);
      if (!job.broken || this.#connection.closed) return;
      job.tries++;
      const before = job.armed;
      job.candidates = [editCandidate];
      this.#run([job])
        .then((failed) => {
          if (failed.length === 0) {
            job.note = 'optimized';
            this.#report(reportOf(job));
            return;
          }
          job.armed = before;
          if (!this.#ended) this.#kickOptimizer(job);
        })
        .catch(() => undefined);
    }, delay);
    timer.unref();
    this.#optimizers.add(timer);
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
    if (this.#ended) return;
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
    const failed = new Set(await this.#run(jobs).catch(() => jobs));
    if (this.#ended) return;
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
