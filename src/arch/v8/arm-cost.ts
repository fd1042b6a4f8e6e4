/**
 * What arming costs: estimates of the longest single stop of the main thread, in milliseconds. The figures are measured
 * (bench/pause.mjs prints them beside the stops); docs/performance.md says what they are for. No estimate has the time that a thread
 * waits for a processor.
 */

import type { ArmWay } from './types.ts';

export interface TargetCost {
  readonly heapBytes: number;
  /** The inspector's debugger is enabled already. */
  readonly debuggerEnabled: boolean;
  /** One walk of this process's heap, in ms. */
  readonly walkMs: number;
  /** Programs that want a processor, for each there is. */
  readonly busy?: number;
}

/** What was measured in the process so far, in ms: stops that walk its heap. */
export interface MeasuredCost {
  readonly heapBytes: number;
  readonly debuggerEnabled: boolean;
  /** Enabling the debugger, the first time: also by the scripts that it tells of. */
  readonly enableMs?: number | undefined;
  /** Enabling it once more: hardly anything but the walk. */
  readonly walkMs?: number | undefined;
  readonly busy?: number | undefined;
}

export interface ScriptCost {
  /** Source length in UTF-16 units. */
  readonly length: number;
  /** What comparing its scopes takes, in ms (scope-cost.ts); asked for when an edit is a way. */
  readonly scopesMs: () => number;
}

const MB = 1e6;

/** A heap of small objects. */
const WALK_MS_PER_MB = 0.22;
/** Enabling the debugger tells of the scripts, with a hash of each: the first time, and again. */
const TELL_MS = 17;
const TELL_AGAIN_MS = 3;
const LEAST_MS_PER_MB = 0.03;
/** More than that is not the heap's. */
const MOST_MS_PER_MB = 0.5;
/** How much a clean measurement counts against what the heap's size lets expect (as an exponent). */
const TRUST = 0.7;
const LEAST_PACE = 0.7;
const MOST_PACE = 1.5;
/** Of the first enabling's time so much is chance, and no larger in a larger heap. */
const CHANCE_MS = 20;

/**
 * The model's unknown is how long one walk of this heap takes, on this machine, beside what else it does: by the number of its objects
 * rather than by its size. Enabling the debugger walks it once; the first time the scripts are most of that in a small
 * process, so only half of what it differs by is believed (as an exponent).
 */
export function calibrate(measured: MeasuredCost): TargetCost {
  const { heapBytes, debuggerEnabled, enableMs, walkMs, busy = 0 } = measured;
  const expected = (WALK_MS_PER_MB * heapBytes) / MB;
  let walk = expected;
  if (walkMs !== undefined) {
    const least = (LEAST_MS_PER_MB * heapBytes) / MB;
    const most = (MOST_MS_PER_MB * heapBytes) / MB;
    const own = Math.min(most, Math.max(least, walkMs - TELL_AGAIN_MS));
    walk = own ** TRUST * expected ** (1 - TRUST);
  } else if (enableMs !== undefined) {
    const ratio = (enableMs + CHANCE_MS) / (TELL_MS + expected + CHANCE_MS);
    walk = expected * Math.min(MOST_PACE, Math.max(LEAST_PACE, Math.sqrt(ratio)));
  }
  return { heapBytes, debuggerEnabled, walkMs: walk, busy };
}

export const enableMs = ({ debuggerEnabled, walkMs }: TargetCost): number =>
  debuggerEnabled ? 0 : TELL_MS + walkMs;

/** Setting a breakpoint walks the heap for the closures of a function that has baseline code; other functions take nothing. */
export const breakpointMs = ({ walkMs }: TargetCost): number => 1.5 + 1.3 * walkMs;

/** Throwing all compiled code away: two walks. */
export const deoptimizeMs = ({ walkMs }: TargetCost): number => 2 + 2.3 * walkMs;

/** Evaluating in a frame for the first time parses the whole script anew, for its scopes. */
export const hitMs = ({ length }: Pick<ScriptCost, 'length'>): number => 0.5 + (0.09 * length) / 1000;

/** Once more: V8 has kept the scopes, whatever the script's size. */
export const NEXT_HIT_MS = 0.12;

/**
 * Asking for all objects of a class: V8 collects garbage, several times over, before it looks. Even a small process waits for that
 * (77 ms of 8 MB, 92 of 25, 200 of 150, 400 of 400).
 */
export const queryMs = ({ walkMs }: TargetCost): number => 70 + 4 * walkMs;

/** Hits a second that keep a breakpoint probe below a tenth of the main thread's time. */
export const BREAK_LIMIT = Math.floor(100 / NEXT_HIT_MS);

/** Marking each object in a hash table and looking all of them up there, in walks; those of throwing compiled code away are among them. */
const EDIT_WALKS = 23;
/** From this heap on, that table is much larger than caches are. */
const LARGE_BYTES = 100e6;
/** With others on the processors less of the table is in their caches. A plain walk does not suffer so. */
const crowded = (heapBytes: number, busy = 0): number =>
  1 + 0.17 * Math.max(0, busy - 0.5) * Math.min(1, heapBytes / LARGE_BYTES);
/** Both texts are parsed, the new one compiled. */
const EDIT_MS_PER_CHARACTER = 0.1e-3;

/**
 * A live edit compiles the whole script, compares scopes, and looks for its functions among all objects that can be reached, which V8
 * finds out by a marking of its own, on the main thread.
 */
export const editMs = ({ heapBytes, walkMs, busy }: TargetCost, { length, scopesMs }: ScriptCost): number =>
  35 + EDIT_WALKS * crowded(heapBytes, busy) * walkMs + EDIT_MS_PER_CHARACTER * length + scopesMs();

/** One stop of the main thread. */
export interface Stop {
  /** As users know it. */
  readonly what: string;
  readonly ms: number;
}

export const ENABLING = 'enabling the debugger';

export const longestOf = (stops: readonly [Stop, ...Stop[]]): Stop =>
  stops.reduce((longest, stop) => (stop.ms > longest.ms ? stop : longest));

/** Each stop of one way, the debugger's own included. `bind`: without throwing code away, which not every binding needs. */
export function stopsOf(way: ArmWay, target: TargetCost, script: ScriptCost): [Stop, ...Stop[]] {
  if (way === 'nop' || way === 'property') return [{ what: 'a piece of the agent', ms: 1 }];
  const enabling = { what: ENABLING, ms: enableMs(target) };
  if (way === 'edit') return [enabling, { what: 'the edit', ms: editMs(target, script) }];
  return [
    enabling,
    { what: 'setting a breakpoint', ms: breakpointMs(target) },
    { what: "a breakpoint's first hit", ms: hitMs(script) },
  ];
}
