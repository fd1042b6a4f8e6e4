/** What the armer knows of one site: how it may be armed, how it is, and what is said of it. */

import type { SiteEvent, SiteSpec } from '../agent/protocol.ts';
import type { BindItem } from '../agent/worker/requests.ts';
import type { Candidate, Plan } from '../arch/v8/arm.ts';
import { ENABLING } from '../arch/v8/arm-cost.ts';
import type { Reader } from '../arch/v8/readers.ts';
import type { ArmReport, FunctionSymbol } from '../arch/v8/types.ts';
import { TraplineError } from '../errors.ts';
import type { ArmOptions } from './session.ts';
import type { LoadedScript } from './text-space.ts';

/** A site that is to be armed: a function's entry, or a line in it. */
export interface ArmSite {
  readonly spec: SiteSpec;
  readonly symbol: FunctionSymbol;
  readonly events: readonly SiteEvent[];
  readonly reads: number;
  readonly line: { readonly line: number; readonly column: number } | undefined;
  /** V8's scripts of its file and text, where it was looked up among them: the function of one is meant. */
  readonly copies?: number;
}

export interface Job {
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
  /** The debugger was enabled to find its function. */
  readonly enabling: Enabling | undefined;
  pauseMs: number;
  waitedMs: number;
  note: string | undefined;
  /** Hits that its breakpoint has missed, as far as they were reported. */
  missed: number;
  escaped: number | undefined;
  rateLimit: number | undefined;
  /** Key of its module's exports that is the only way to it. */
  readonly exportedAs: string | undefined;
  readonly deoptimize: BindItem['deoptimize'];
  readonly deoptimizeAll: boolean;
  /** Functions that read the variable that leads to it; undefined where that is all code's matter. */
  readonly readers: readonly Reader[] | undefined;
  /** How often an optimization was tried. */
  tries: number;
  /** V8's live edit loses it, whatever else is edited. */
  unfit: boolean;
}

/** Enabling the debugger: estimated before, and as it was, but for waiting for a processor. */
export interface Enabling {
  readonly estimateMs: number;
  readonly pauseMs: number;
}

/** Less is not worth saying. */
const LEAST_WAIT_MS = 0.1;

/** Notes a stop of the process for a job: the longest counts, and what that waited for a processor. */
export function paused(job: Job, pauseMs: number, waitedMs = 0): void {
  if (pauseMs <= job.pauseMs) return;
  job.pauseMs = pauseMs;
  job.waitedMs = waitedMs;
}

export function reject(job: Job, error: unknown): void {
  const message = error instanceof Error ? error.message : String(error);
  job.failures.push(`${job.armed?.way}: ${message}`);
  job.armed = undefined;
}

export function reportOf(job: Job, missed?: number): ArmReport {
  const { site, armed, pauseMs, waitedMs, escaped, note, enabling } = job;
  const { name } = site.spec;
  if (armed === undefined) return { name, way: undefined, estimateMs: 0, pauseMs, note: whyNot(job) };
  const edit = job.plan.candidates.find(({ way }) => way === 'edit');
  const tooLong = escaped !== undefined && escaped > 0 && (edit?.estimateMs ?? 0) > job.options.maxPauseMs;
  return {
    name,
    way: armed.way,
    ...longestStop(armed, { pauseMs, waitedMs }, enabling),
    ...(escaped === undefined ? {} : { escaped }),
    ...(edit === undefined || !tooLong || job.options.way !== 'auto' ? {} : { editMs: edit.estimateMs }),
    ...(job.rateLimit === undefined ? {} : { rateLimit: job.rateLimit }),
    ...(missed === undefined ? {} : { missed }),
    ...(site.copies === undefined || site.copies === 1 ? {} : { copies: site.copies }),
    ...(note === undefined ? {} : { note }),
  };
}

/** Of arming, or of enabling the debugger before it: the estimate's and the one that was longest in fact. */
function longestStop(
  { estimateMs, longest }: Candidate,
  { pauseMs, waitedMs }: Pick<Job, 'pauseMs' | 'waitedMs'>,
  enabling: Enabling = { estimateMs: 0, pauseMs: 0 },
): Pick<ArmReport, 'estimateMs' | 'longest' | 'pauseMs' | 'waitedMs'> {
  const estimate =
    enabling.estimateMs > estimateMs
      ? { estimateMs: enabling.estimateMs, longest: ENABLING }
      : { estimateMs, longest };
  if (enabling.pauseMs > pauseMs) return { ...estimate, pauseMs: enabling.pauseMs };
  return { ...estimate, pauseMs, ...(waitedMs < LEAST_WAIT_MS ? {} : { waitedMs }) };
}

/** Every way that was tried or left out, with the reason. */
function whyNot({ plan, options, failures }: Job): string {
  const reasons = [...failures];
  for (const [excluded, reason] of plan.excluded) {
    if (options.way === 'auto' || excluded === options.way) reasons.push(`${excluded}: ${reason}`);
  }
  return [...new Set(reasons)].join('; ');
}

export function refusal(job: Job): TraplineError {
  const { site, plan, options, failures } = job;
  const { maxPauseMs, way } = options;
  const tooLong = plan.candidates
    .filter((candidate) => candidate.estimateMs > maxPauseMs && (way === 'auto' || candidate.way === way))
    .map(({ estimateMs }) => Math.ceil(estimateMs));
  const hint =
    tooLong.length > 0 ? `--max-pause ${Math.min(...tooLong)} allows the shortest of them` : undefined;
  const code = tooLong.length > 0 && failures.length === tooLong.length ? 'EMAXPAUSE' : 'EARM';
  const message = `${site.spec.name} cannot be armed: ${whyNot(job)}`;
  return new TraplineError(code, message, { hint });
}

/** Whether an edit is the first way that is not ruled out, be its stop allowed or not. */
export function wantsEdit({ plan, options: { way } }: Job): boolean {
  const [first] = plan.candidates.filter((candidate) => way === 'auto' || candidate.way === way);
  return first?.way === 'edit';
}

/**
 * Where a script is edited for one function, the others of it join: the stop is the same. Not those that may have
 * suspended calls, which V8 does not let be edited.
 */
export function shareEdits(jobs: readonly Job[]): void {
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
