/**
 * What arming costs: estimates of the longest single stop of the main thread, in milliseconds. The figures are measured
 * (bench/pause.mjs prints them beside the stops); docs/arming says where V8 spends them.
 */

import type { ArmWay } from './types.ts';

export interface TargetCost {
  readonly heapBytes: number;
  /** The inspector's debugger is enabled already. */
  readonly debuggerEnabled: boolean;
}

export interface ScriptCost {
  /** Source length in UTF-16 units. */
  readonly length: number;
  readonly functions: number;
}

const MB = 1e6;

/** Enabling walks the heap once, for bytecode that has no source positions yet. */
export const enableMs = ({ heapBytes, debuggerEnabled }: TargetCost): number =>
  debuggerEnabled ? 0 : 8 + (0.35 * heapBytes) / MB;

/** Setting a breakpoint walks it for the function's closures and their baseline code. */
export const breakpointMs = ({ heapBytes }: TargetCost): number => 1.5 + (0.35 * heapBytes) / MB;

/** Throwing all optimized code away, by way of precise call counts: three walks of the heap. */
export const deoptimizeMs = ({ heapBytes }: TargetCost): number => 5 + (1.0 * heapBytes) / MB;

/** Evaluating in a frame for the first time parses the whole script anew, for its scopes. */
export const hitMs = ({ length }: ScriptCost): number => 0.5 + (0.09 * length) / 1000;

/** Once more: V8 has kept the scopes, whatever the script's size. */
export const NEXT_HIT_MS = 0.12;

/** Hits a second that keep a breakpoint probe below a tenth of the main thread's time. */
export const BREAK_LIMIT = Math.floor(100 / NEXT_HIT_MS);

/** A live edit compiles, compares functions pairwise, and walks the heap several times. */
export const editMs = ({ heapBytes }: TargetCost, { functions }: ScriptCost): number =>
  15 + (3.5 * heapBytes) / MB + 25e-6 * functions * functions;

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
