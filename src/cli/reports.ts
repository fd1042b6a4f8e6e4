import type { ArmReport } from '../arch/v8/types.ts';
import { formatDiagnostic, TraplineError } from '../errors.ts';
import type { DetachReport, NotRestored } from '../target/session.ts';

const ms = (value: number) => `${value < 10 ? value.toFixed(2) : value.toFixed(0)} ms`;

/** What `-v` says of a probe: its way, the estimate and the pause that was measured. */
export function armLine(report: ArmReport): string {
  const {
    name,
    way,
    estimateMs,
    pauseMs,
    longest,
    waitedMs = 0,
    rateLimit,
    escaped,
    copies = 1,
    note,
  } = report;
  if (way === undefined) return armWarning(report) ?? name;
  const waited = waitedMs < 1 ? '' : `, ${ms(waitedMs)} of it waiting for a processor`;
  const parts = [`estimated ${ms(estimateMs)}`, `paused ${ms(pauseMs)}${waited}`];
  if (longest !== undefined && estimateMs > 1) parts.push(`longest by ${longest}`);
  // an edit that came later has no such limit
  if (rateLimit !== undefined && way === 'break') parts.push(`at most ${rateLimit} hits a second`);
  if (escaped !== undefined) parts.push(`${escaped} call${escaped === 1 ? '' : 's'} escaped`);
  if (copies > 1) parts.push(oneOf(copies));
  if (note !== undefined) parts.push(note);
  return `${name}: ${way} (${parts.join(', ')})`;
}

const oneOf = (copies: number) =>
  `V8 has ${copies} scripts of its file, which may have been loaded again: the calls of one count`;

/** What has to be said of a probe also without `-v`: that it is slow, or that it does not see every call. */
export function armWarning({
  name,
  way,
  escaped = 0,
  editMs,
  copies = 1,
  note,
}: ArmReport): string | undefined {
  if (way === undefined)
    return `WARNING: ${name}: its calls are not counted, no way to arm it is left: ${note}`;
  if (way === 'break') {
    return `WARNING: ${name}: armed by a breakpoint, each hit costs the process about 0.1 ms`;
  }
  if (copies > 1) return `WARNING: ${name}: ${oneOf(copies)}`;
  if (escaped === 0) return undefined;
  const edit =
    editMs === undefined ? '' : `: --max-pause ${Math.ceil(editMs)} allows an edit, which counts them`;
  return `WARNING: ${name}: ${escaped} call${escaped === 1 ? '' : 's'} came by a reference that is not probed${edit}`;
}

/** Warnings of a wildcard's functions: so many are said, the others are counted. */
const WARNINGS = 3;

/** Says the first warnings as they come, each once, and how many more there were when it is asked. */
export class ArmWarnings {
  readonly #texts = new Set<string>();
  #more = 0;
  /** By the probe's name: hits that its breakpoint missed, and its limit. */
  readonly #missed = new Map<string, { hits: number; limit: number }>();

  /** The warning of a report, where it is to be said. */
  of(report: ArmReport): string | undefined {
    const { name, missed = 0, rateLimit = 0 } = report;
    if (missed > 0) {
      const hits = missed + (this.#missed.get(name)?.hits ?? 0);
      this.#missed.set(name, { hits, limit: rateLimit });
    }
    const text = armWarning(report);
    if (text === undefined || this.#texts.has(text)) return undefined;
    this.#texts.add(text);
    if (this.#texts.size <= WARNINGS) return text;
    this.#more++;
    return undefined;
  }

  /** What is to be said at the end of probes that did not see each hit, since it was asked last. */
  missed(): string[] {
    const all = [...this.#missed].sort(([, a], [, b]) => b.hits - a.hits);
    this.#missed.clear();
    const lines = all
      .slice(0, WARNINGS)
      .map(([name, { hits, limit }]) => `WARNING: ${name}: ${missedHits(hits)}: ${limited(limit)}`);
    const rest = all.slice(WARNINGS);
    if (rest.length > 0) {
      const hits = rest.reduce((sum, [, { hits }]) => sum + hits, 0);
      lines.push(`WARNING: of ${rest.length} more probe${rest.length === 1 ? '' : 's'} ${missedHits(hits)}`);
    }
    return lines;
  }

  /** What was left out since it was asked last. */
  more(): string | undefined {
    const count = this.#more;
    this.#more = 0;
    if (count === 0) return undefined;
    return `WARNING: ${count} more warning${count === 1 ? '' : 's'} of how probes are armed: -v shows all`;
  }
}

const missedHits = (hits: number) => `hits were missed, about ${hits} by the rate of those that were counted`;

const limited = (rate: number) => `breakpoints together are limited to ${rate} hits a second`;

/** What `-v` says when all probes are in place. */
export function countingLine(sinceMs: number): string {
  return `All probes count, from ${ms(sinceMs)} after "Attaching" on`;
}

/** At most so many functions are named. */
const NAMES = 5;

/** What is said, and makes the exit code 1, where a process is not as it was before. */
export function notRestored(pid: number, { what, functions, reason }: NotRestored): string {
  const more = functions.length > NAMES ? ` and ${functions.length - NAMES} more` : '';
  const whose = functions.length === 0 ? '' : ` of ${functions.slice(0, NAMES).join(', ')}${more}`;
  const message = `process ${pid} is not as it was: ${what}${whose} could not be put back: ${reason}`;
  return formatDiagnostic(new TraplineError('ENOTRESTORED', message, { hint: hintOf(reason, functions) }));
}

function hintOf(reason: string, functions: readonly string[]): string {
  const off = functions.length === 0 ? '' : 'its probes are off and the program goes on; ';
  if (/BlockedByActive/.test(reason)) {
    return `${off}a call that is under way holds its text: restart the process to be rid of it`;
  }
  return `${off}restart the process to be rid of it`;
}

/** What `-v` says at the end: what was put back, and how long the event loop stopped. */
export function detachLines(pid: number, report: DetachReport): string {
  const { functionsRestored, bytesRestored, longestPauseMs, pausesMs } = report;
  const restored = `restored ${functionsRestored} function${functionsRestored === 1 ? '' : 's'}, ${bytesRestored} bytes of source`;
  if (pausesMs.length === 0) return `process ${pid}: ${restored}; no pause`;
  const sorted = [...pausesMs].sort((a, b) => a - b);
  const at = (share: number) => ms(sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))]!);
  const count = `${sorted.length} pause${sorted.length === 1 ? '' : 's'}`;
  return `process ${pid}: ${restored}; ${count}: p50 ${at(0.5)}, p99 ${at(0.99)}, longest ${ms(longestPauseMs)}`;
}
