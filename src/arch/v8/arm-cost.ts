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
  /** What walking this process's heap takes, as a multiple of what it took where the figures were measured. */
  readonly pace?: number;
  /** Programs that want a processor, for each there is: V8 collects garbage with several threads, which wait for theirs then. */
  readonly busy?: number;
}

/** What was measured in the process so far, in ms: stops that walk its heap. */
export interface MeasuredCost {
  readonly heapBytes: number;
  readonly debuggerEnabled: boolean;
  readonly enableMs?: number | undefined;
  readonly busy?: number | undefined;
}

export interface ScriptCost {
  /** Source length in UTF-16 units. */
  readonly length: number;
  readonly functions: number;
}

const MB = 1e6;

const LEAST_PACE = 0.7;
const MOST_PACE = 1.5;
/** Of the enabling's time so much is chance, and no larger in a larger heap. */
const CHANCE_MS = 20;

/** Enabling walks the heap once, for bytecode that has no source positions yet. */
const enabling = (heapBytes: number): number => 17 + (0.22 * heapBytes) / MB;

/** How much longer a collection takes when processors are wanted by others: half of one taken is as good as none. */
const crowded = (busy = 0): number => 1 + 0.17 * Math.max(0, busy - 0.5);

/**
 * The model's unknown is how fast this process, on this machine, beside what else it does, walks its heap: enabling the
 * debugger has just shown it, once. Half of that (as an exponent) was chance where it was compared with later stops.
 */
export function calibrate({ heapBytes, debuggerEnabled, enableMs, busy = 0 }: MeasuredCost): TargetCost {
  const ratio = enableMs === undefined ? 1 : (enableMs + CHANCE_MS) / (enabling(heapBytes) + CHANCE_MS);
  return {
    heapBytes,
    debuggerEnabled,
    pace: Math.min(MOST_PACE, Math.max(LEAST_PACE, Math.sqrt(ratio))),
    busy,
  };
}

export const enableMs = ({ heapBytes, debuggerEnabled, pace = 1 }: TargetCost): number =>
  debuggerEnabled ? 0 : pace * enabling(heapBytes);

/** Setting a breakpoint walks it for the function's closures and their baseline code. */
export const breakpointMs = ({ heapBytes, pace = 1 }: TargetCost): number =>
  pace * (1.5 + (0.35 * heapBytes) / MB);

/** Throwing all optimized code away, by way of precise call counts: three walks of the heap. */
export const deoptimizeMs = ({ heapBytes, pace = 1 }: TargetCost): number =>
  pace * (5 + (1.0 * heapBytes) / MB);

/** Evaluating in a frame for the first time parses the whole script anew, for its scopes. */
export const hitMs = ({ length }: Pick<ScriptCost, 'length'>): number => 0.5 + (0.09 * length) / 1000;

/** Once more: V8 has kept the scopes, whatever the script's size. */
export const NEXT_HIT_MS = 0.12;

/** Hits a second that keep a breakpoint probe below a tenth of the main thread's time. */
export const BREAK_LIMIT = Math.floor(100 / NEXT_HIT_MS);

/** A live edit compiles, compares functions pairwise, collects garbage twice, and walks the heap. */
export const editMs = ({ heapBytes, pace = 1, busy }: TargetCost, { functions }: ScriptCost): number =>
  pace * (20 + (3.6 * crowded(busy) * heapBytes) / MB) + 12e-6 * functions * functions;

/** The longest stop of one way, the debugger's own included. */
export function estimateMs(way: ArmWay, target: TargetCost, script: ScriptCost): number {
  switch (way) {
    case 'nop':
    case 'property':
      return 1;
    case 'bind':
      return Math.max(enableMs(target), breakpointMs(target), hitMs(script));
    case 'edit':
      return Math.max(enableMs(target), editMs(target, script));
    case 'break':
      return Math.max(enableMs(target), breakpointMs(target), hitMs(script));
  }
}
