/**
 * Arms sites: plans each, has the agent try the cheapest way, goes on to the next when one fails, and escalates later
 * when calls turn out to come past a replaced binding.
 */

import type { SiteEvent, SiteSpec } from '../agent/protocol.ts';
import type { ArmedNotice, ArmItem, BindItem, EditItem, Location } from '../agent/worker/requests.ts';
import { type Candidate, type Plan, planSite } from '../arch/v8/arm.ts';
import {
  BREAK_LIMIT,
  calibrate,
  deoptimizeMs,
  hitMs,
  NEXT_HIT_MS,
  type TargetCost,
} from '../arch/v8/arm-cost.ts';
import { changedTexts, type InstrumentEdit, instrument } from '../arch/v8/instrument.ts';
import { lineSite } from '../arch/v8/instrument-line.ts';
import { type FittedEdit, fitLiveEdit, lostTexts } from '../arch/v8/live-edit-fit.ts';
import { LineTable } from '../arch/v8/symbols-lines.ts';
import type { ArmReport, ArmWay, FunctionSymbol } from '../arch/v8/types.ts';
import { TraplineError } from '../errors.ts';
import { argumentText, functionText, offsetIn } from './armer-text.ts';
import type { AgentConnection } from './connection.ts';
import type { ArmOptions } from './session.ts';
import { isDebuggable, type LoadedScript, scriptPath, type TextSpace } from './text-space.ts';

/** A site that is to be armed: a function's entry, or a line in it. */
export interface ArmSite {
  readonly spec: SiteSpec;
  readonly symbol: FunctionSymbol;
  readonly events: readonly SiteEvent[];
  readonly reads: number;
  readonly line: { readonly line: number; readonly column: number } | undefined;
}

/** Time that the calls of an escape window may take; each passes the breakpoint. */
const WINDOW_BUDGET_MS = 10;
const WINDOW_HITS = 50;
/** Throwing optimized code away is part of every binding below this. */
const CHEAP_DEOPTIMIZE_MS = 50;
/** When a breakpoint probe is tried to be optimized, in ms after it was armed, and every time again (kick_kprobe_optimizer). */
const OPTIMIZE_MS = [1000, 3000, 10_000, 30_000];

interface PlannedEdit {
  readonly item: EditItem;
  readonly edited: EditedScript;
  /** Indexes of the functions that V8 would lose by this edit. */
  readonly lost: ReadonlySet<number>;
}

/** How often a group of sites whose edit V8 refuses is halved: each try may stop the process. */
const HALVINGS = 2;
/** How long may be looked for sites of one script that V8 can follow together. */
const PLAN_MS = 3000;

interface Job {
  readonly site: ArmSite;
  readonly script: LoadedScript;
  readonly plan: Plan;
  readonly options: ArmOptions;
  candidates: readonly Candidate[];
  readonly editCandidate: Candidate | undefined;
  readonly failures: string[];
  armed: Candidate | undefined;
  /** Its binding is replaced, or waits to be. */
  bound: boolean;
  /** Nothing of its binding is still to come. */
  settled: boolean;
  /** It is armed by a breakpoint. */
  broken: boolean;
  pauseMs: number;
  note: string | undefined;
  escaped: number | undefined;
  rateLimit: number | undefined;
  readonly deoptimize: BindItem['deoptimize'];
  /** How often an optimization was tried. */
  tries: number;
  /** V8's live edit loses it, whatever else is edited. */
  unfit: boolean;
}

/** A script's text as it is now, and the sites in it. */
interface EditedScript {
  readonly text: string;
  /** Texts by which it goes back, ending with the original one. */
  readonly back: readonly string[];
  readonly jobs: ReadonlyMap<number, Job>;
}

/** V8's number of the main context: the first one that is made. Hooks are globals of this one only. */
const MAIN_CONTEXT = 1;

const LOST = "V8's live edit cannot follow the change: its text is dense, or its line long";

export class Armer {
  readonly #connection: AgentConnection;
  readonly #text: TextSpace;
  readonly #prefix: string;
  /** Optimized code takes a variable that is never assigned for a constant, and does not notice when a debugger assigns it. */
  readonly #foldsBindings: boolean;
  readonly #report: (report: ArmReport) => void;
  readonly #jobs = new Map<number, Job>();
  /** Sites that are in the edited text of each script. */
  readonly #edits = new Map<string, EditedScript>();
  readonly #lines = new Map<string, { text: string; table: LineTable }>();
  #work: Promise<unknown> = Promise.resolve();
  #planUntil = 0;

  constructor(
    connection: AgentConnection,
    text: TextSpace,
    prefix: string,
    nodeVersion: string,
    report: (report: ArmReport) => void,
  ) {
    this.#connection = connection;
    this.#text = text;
    this.#prefix = prefix;
    this.#foldsBindings = Number(/\d+/.exec(nodeVersion)?.[0]) < 26;
    this.#report = report;
  }

  async arm(sites: readonly ArmSite[], options: ArmOptions): Promise<ArmReport[]> {
    const target = await this.#target();
    const places = await this.#places(sites, options);
    const jobs = places.map((site) => this.#plan(site, options, target));
    shareEdits(jobs);
    const failed = await this.#run(jobs);
    if (failed.length === jobs.length && failed[0] !== undefined) {
      throw this.#refusal(failed[0]);
    }
    return jobs.map((job) => this.#reportOf(job));
  }

  /** Compiled-in sites by the script's path: the inspector has urls where the registry may have paths. */
  #compiledIn = new Map<string, { readonly url: string; readonly forms: readonly number[] }>();

  /**
   * Functions that were found by the files of a prepared process, but have no site that serves, are looked up again
   * among the debugger's scripts: by url and index.
   */
  async #places(sites: readonly ArmSite[], { way }: ArmOptions): Promise<ArmSite[]> {
    const scripts = (await this.#connection.request('compiledIn')) ?? [];
    this.#compiledIn = new Map(scripts.map((script) => [scriptPath(script.url), script]));
    const places: ArmSite[] = [];
    for (const site of sites) places.push((await this.#debuggable(site, way)) ?? site);
    return places;
  }

  #form({ info }: LoadedScript, { index }: FunctionSymbol): number | undefined {
    return this.#compiledIn.get(scriptPath(info.url))?.forms[index];
  }

  async #debuggable(site: ArmSite, way: ArmOptions['way']): Promise<ArmSite | undefined> {
    const { symbol, line, events } = site;
    const script = this.#text.get(symbol.scriptId);
    if (script === undefined || isDebuggable(symbol)) return undefined;
    const form = this.#form(script, symbol) ?? 0;
    const served = form > 1 || (form === 1 && events.every((event) => event === 'entry'));
    if (served && line === undefined && (way === 'auto' || way === 'nop')) return undefined;
    const path = scriptPath(script.info.url);
    const info = (await this.#connection.request('scripts')).find(({ url }) => scriptPath(url) === path);
    if (info === undefined) return undefined;
    const { source } = await this.#connection.request('source', { scriptId: info.scriptId });
    const found = this.#text.add(info, source).symbols[symbol.index];
    return found === undefined ? undefined : { ...site, symbol: found };
  }

  #deoptimize(estimateMs: number, maxPauseMs: number): BindItem['deoptimize'] {
    if (!this.#foldsBindings || estimateMs > maxPauseMs) return 'never';
    return estimateMs <= CHEAP_DEOPTIMIZE_MS ? 'now' : 'later';
  }

  async #target(): Promise<TargetCost> {
    return calibrate(await this.#connection.request('cost'));
  }

  #plan(site: ArmSite, options: ArmOptions, target: TargetCost): Job {
    const { symbol, line, events } = site;
    const script = this.#text.get(symbol.scriptId);
    if (script === undefined)
      throw new TraplineError('EINVAL', `${site.spec.name}: its script is not loaded any more`);
    const { info, source, symbols } = script;
    if (isDebuggable(symbol) && info.executionContextId !== MAIN_CONTEXT) {
      const message = `${site.spec.name} cannot be armed: it runs in a context of its own (vm.createContext)`;
      throw new TraplineError('EARM', message, {
        hint: 'functions of vm.runInThisContext and of modules can be probed',
      });
    }
    const plan = planSite(
      { symbol, line: line !== undefined, events },
      {
        target,
        script: { length: source.length, functions: symbols.length },
        compiledIn: this.#form(script, symbol),
        debuggable: isDebuggable(symbol),
        commonJs: !info.isModule && scriptPath(info.url).startsWith('/'),
        source,
      },
    );
    const { way } = options;
    const candidates = plan.candidates.filter((candidate) => way === 'auto' || candidate.way === way);
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
      note: undefined,
      escaped: undefined,
      rateLimit: undefined,
      deoptimize: this.#deoptimize(deoptimizeMs(target), options.maxPauseMs),
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
          items.push(this.#item(job, (job.armed as Candidate).way as Exclude<ArmWay, 'edit'>));
        } catch (error) {
          this.#reject(job, error);
        }
      }
      // what the agent tells of a binding may come before its answer
      for (const { kind, site } of items.flatMap((item) => (item.kind === 'edit' ? [] : [item]))) {
        const job = this.#jobs.get(site);
        if (kind === 'bind' && job !== undefined) job.bound = true;
      }
      const results = items.length === 0 ? [] : await this.#connection.request('arm', { items });
      for (const { kind, sites, ok, pauseMs, reason } of results) {
        for (const number of sites) {
          const job = this.#jobs.get(number);
          if (job === undefined) continue;
          job.pauseMs = Math.max(job.pauseMs, pauseMs);
          if (ok) {
            done.add(job);
            job.bound = kind === 'bind';
            job.broken = kind === 'break';
            if (job.broken) this.#kickOptimizer(job);
          } else {
            if (kind === 'bind') job.bound = false;
            this.#reject(job, new Error(reason));
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
    const planned = this.#editItem(jobs);
    if (planned === undefined) return [];
    const { item, edited, lost } = planned;
    if (lost.size > 0)
      return await this.#editApart(
        jobs.filter(({ armed }) => armed !== undefined),
        group,
        lost,
      );
    const [result] = await this.#connection.request('arm', { items: [item] });
    if (result === undefined || !result.ok) {
      const left = group.filter(({ armed }) => armed !== undefined);
      // one function that cannot be edited now refuses the whole edit
      if (left.length > 1 && halvings > 0) return await this.#editHalves(left, halvings - 1);
      for (const job of left) this.#reject(job, new Error(result?.reason ?? 'no answer'));
      return [];
    }
    this.#edits.set(item.scriptId, edited);
    for (const job of edited.jobs.values()) {
      job.pauseMs = Math.max(job.pauseMs, result.pauseMs);
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
    for (const job of this.#jobs.values()) {
      if (!job.broken || job.script.info.scriptId !== scriptId) continue;
      const [set] = await this.#connection.request('arm', { items: [this.#item(job, 'break')] });
      if (set?.ok === true) continue;
      job.broken = false;
      this.#reject(job, new Error(set?.reason ?? 'no answer'));
      this.#report(this.#reportOf(job));
    }
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
        this.#reject(job, new Error(LOST));
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
      if (!job.broken || this.#connection.closed) return;
      job.tries++;
      const before = job.armed;
      job.candidates = [editCandidate];
      this.#run([job])
        .then((failed) => {
          if (failed.length === 0) {
            job.note = 'optimized';
            this.#report(this.#reportOf(job));
            return;
          }
          job.armed = before;
          this.#kickOptimizer(job);
        })
        .catch(() => undefined);
    }, delay);
    timer.unref();
  }

  #reject(job: Job, error: unknown): void {
    const message = error instanceof Error ? error.message : String(error);
    job.failures.push(`${job.armed?.way}: ${message}`);
    job.armed = undefined;
  }

  #item(job: Job, way: Exclude<ArmWay, 'edit'>): ArmItem {
    const { site, script } = job;
    const { symbol } = site;
    const number = site.spec.site;
    switch (way) {
      case 'property': {
        const { binding } = symbol;
        if (binding.via !== 'property') throw new Error('no property leads to it');
        const { key, accessor } = binding;
        const { scriptId, url } = script.info;
        return {
          kind: 'property',
          site: number,
          file: scriptPath(url),
          text: functionText(script.source, symbol),
          key,
          accessor,
          scriptId,
        };
      }
      case 'bind': {
        const { binding } = symbol;
        if (binding.via === 'none') throw new Error('no name leads to it');
        const window = symbol.isGenerator
          ? 1
          : Math.max(1, Math.min(WINDOW_HITS, Math.floor(WINDOW_BUDGET_MS / NEXT_HIT_MS)));
        const item: BindItem = {
          kind: 'bind',
          site: number,
          at: this.#location(script, symbol, symbol.entry),
          text: functionText(script.source, symbol),
          target: binding,
          args: argumentText(symbol),
          isGenerator: symbol.isGenerator,
          ends: site.events.some((event) => event !== 'entry'),
          window,
          deoptimize: job.deoptimize,
          verify: this.#foldsBindings && !symbol.isGenerator,
        };
        return item;
      }
      case 'break': {
        const at = this.#location(script, symbol, this.#offset(job));
        job.rateLimit = BREAK_LIMIT;
        const firstMs = hitMs(script.source);
        return { kind: 'break', site: number, at, args: argumentText(symbol), firstMs, nextMs: NEXT_HIT_MS };
      }
      case 'nop': {
        const ends = site.events.some((event) => event !== 'entry');
        const { url = '' } = this.#compiledIn.get(scriptPath(script.info.url)) ?? {};
        return { kind: 'nop', site: number, url, index: symbol.index, ends };
      }
    }
  }

  /** Where a line site goes; the function's entry for others. */
  #offset({ site, script }: Job): number {
    const { symbol, line } = site;
    if (line === undefined) return symbol.entry;
    const found = lineSite(script.source, script.info.isModule, symbol, line.line, line.column, script.map);
    if (found === undefined) {
      throw new TraplineError('ENOENT', `no statement of ${symbol.name} is at or behind line ${line.line}`);
    }
    return found.offset;
  }

  /** In the text that the script has now. */
  #location({ info, source }: LoadedScript, symbol: FunctionSymbol, offset: number): Location {
    const { scriptId } = info;
    const text = this.#edits.get(scriptId)?.text ?? source;
    let known = this.#lines.get(scriptId);
    if (known?.text !== text) {
      known = { text, table: new LineTable(text) };
      this.#lines.set(scriptId, known);
    }
    const at = text === source ? offset : offsetIn(text, source, symbol, offset);
    const { line, column } = known.table.position(at);
    return { scriptId, lineNumber: line, columnNumber: column };
  }

  /** One edit of a script for all its sites, those that are in it already included. */
  #editItem(jobs: readonly Job[]): PlannedEdit | undefined {
    const { script } = jobs[0]!;
    const { scriptId, isModule } = script.info;
    const all = new Map(this.#edits.get(scriptId)?.jobs ?? []);
    for (const job of jobs) all.set(job.site.spec.site, job);
    const edits: InstrumentEdit[] = [];
    for (const [site, job] of all) {
      const { symbol, events, reads, line } = job.site;
      try {
        edits.push({ symbol, site, events, reads, ...(line === undefined ? {} : { at: this.#offset(job) }) });
      } catch (error) {
        this.#reject(job, error);
        all.delete(site);
      }
    }
    const rough = instrument(script.source, edits, { prefix: this.#prefix }, isModule);
    const now = this.#edits.get(scriptId);
    const from = now?.text ?? script.source;
    const indexes = edits.map(({ symbol }) => symbol.index);
    let fit: FittedEdit;
    try {
      fit = fitLiveEdit(script.info, script.source, from, rough.source, indexes);
    } catch (error) {
      for (const job of jobs) this.#reject(job, error);
      return undefined;
    }
    const result = { ...rough, source: fit.source };
    for (const { site, reason } of result.refused) {
      const job = all.get(site);
      all.delete(site);
      if (job !== undefined) this.#reject(job, new Error(reason));
    }
    for (const { site, note } of result.notes) {
      const job = all.get(site);
      if (job !== undefined) job.note = note;
    }
    if (!jobs.some(({ site }) => all.has(site.spec.site))) return undefined;
    const direct = now === undefined || lostTexts(script.info, fit.source, script.source).size === 0;
    const back = direct ? [script.source] : [now.text, ...now.back];
    const item: EditItem = {
      kind: 'edit',
      scriptId,
      sites: [...all.keys()],
      replaces: [...all].filter(([, job]) => job.bound || job.broken).map(([site]) => site),
      original: script.source,
      edited: result.source,
      back,
      texts: changedTexts(result, script.source),
    };
    return { item, edited: { text: result.source, back, jobs: all }, lost: fit.lost };
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
    job.pauseMs = Math.max(job.pauseMs, notice.pauseMs);
    if (notice.state === 'limited') {
      job.note = `about ${notice.missed} hits missed: all breakpoint probes together are limited to ${job.rateLimit} a second`;
      this.#report(this.#reportOf(job));
      return;
    }
    if (!job.bound) return;
    job.settled = notice.state === 'settled' || notice.state === 'failed';
    if (notice.state === 'failed') {
      // its breakpoint counts until the next way replaces it
      this.#reject(job, new Error(notice.reason ?? 'no reason given'));
      void this.#escalate(job);
      return;
    }
    const { escaped, state, holders = 0 } = notice;
    if (state === 'escaping') {
      job.escaped = escaped;
      void this.#escalate(job);
      return;
    }
    if (escaped !== undefined) job.escaped = escaped;
    if (holders > 0) job.note = `${holders} other reference${holders === 1 ? '' : 's'} replaced`;
    this.#report(this.#reportOf(job));
  }

  /** To the next way that is allowed; the binding goes back as soon as that one is in place. */
  async #escalate(job: Job): Promise<void> {
    const before = job.armed;
    // a breakpoint does not see fewer calls than a binding that some come past, but each costs the application more
    if (before?.way === 'bind') job.candidates = job.candidates.filter(({ way }) => way === 'edit');
    const failed = await this.#run([job]).catch(() => [job]);
    if (failed.length === 0) {
      if (before?.way === 'bind') job.note = `${job.escaped} calls had come past its binding`;
      job.escaped = undefined;
      job.bound = false;
      this.#report(this.#reportOf(job));
      return;
    }
    job.armed = before;
    if (before?.way !== 'bind') job.bound = false;
    if (before?.way !== 'bind') return this.#report(this.#reportOf(job));
    // the answer to this is one more notice, with the final count
    job.note = `calls come past its binding; not edited: ${job.failures.join('; ')}`;
    await this.#connection.request('closeWindow', { sites: [job.site.spec.site] }).catch(() => undefined);
  }

  #reportOf(job: Job): ArmReport {
    const { site, armed, pauseMs, escaped, note, failures } = job;
    const notes = [note, armed === undefined ? `not armed: ${failures.join('; ')}` : undefined].filter(
      Boolean,
    );
    return {
      name: site.spec.name,
      way: armed?.way ?? 'break',
      estimateMs: armed?.estimateMs ?? 0,
      pauseMs,
      ...(escaped === undefined ? {} : { escaped }),
      ...(job.rateLimit === undefined ? {} : { rateLimit: job.rateLimit }),
      ...(notes.length === 0 ? {} : { note: notes.join('; ') }),
    };
  }

  #refusal(job: Job): TraplineError {
    const { site, plan, options, failures } = job;
    const { maxPauseMs, way } = options;
    const reasons = [...failures];
    for (const [excluded, reason] of plan.excluded) {
      if (way === 'auto' || excluded === way) reasons.push(`${excluded}: ${reason}`);
    }
    const tooLong = plan.candidates
      .filter((candidate) => candidate.estimateMs > maxPauseMs && (way === 'auto' || candidate.way === way))
      .map(({ estimateMs }) => Math.ceil(estimateMs));
    const hint =
      tooLong.length > 0 ? `--max-pause ${Math.min(...tooLong)} allows the shortest of them` : undefined;
    const code = tooLong.length > 0 && failures.length === tooLong.length ? 'EMAXPAUSE' : 'EARM';
    const message = `${site.spec.name} cannot be armed: ${reasons.join('; ')}`;
    return new TraplineError(code, message, { hint });
  }
}

/**
 * Where a script is edited for one function, the others of it join: the stop is the same. Not those that may have
 * suspended calls, which V8 does not let be edited.
 */
function shareEdits(jobs: readonly Job[]): void {
  const edited = new Set(
    jobs.filter(({ candidates }) => candidates[0]?.way === 'edit').map(({ script }) => script),
  );
  for (const job of jobs) {
    const { isAsync, isGenerator } = job.site.symbol;
    if (!edited.has(job.script) || isAsync || isGenerator) continue;
    const edit = job.candidates.find(({ way }) => way === 'edit');
    if (edit === undefined || job.candidates[0]?.way === 'property') continue;
    job.candidates = [edit, ...job.candidates.filter((candidate) => candidate !== edit)];
  }
}
