/** Requests of the tracer to the agent's worker: method → [params, result]. Frames as in ../protocol.ts. */

import type { ScriptInfo } from '../../arch/v8/types.ts';
import type { TypesMode } from '../../arch/v8/typescript.ts';
import type { MemoryLayout, PlacedMap } from '../../bpf/index.ts';
import type { PropertyPath } from '../../kernel/trace/js-kfuncs.ts';
import type { PrintkCall, ProgramImage, ReadFault, SiteSpec, SiteStats } from '../protocol.ts';

/** What the injected text hands to the worker. */
export interface WorkerConfig {
  readonly folder: string;
  readonly socket: string;
  readonly token: string;
  /** Property of globalThis that holds the main thread's half until the worker has fetched it. */
  readonly key: string;
  /** Close the inspector's port when the tracer has not asked for it by the end. */
  readonly closeInspector: boolean;
  /** The tracer's process id, where this process sees it. */
  readonly tracer: number | undefined;
}

/** What the main thread says when the application has started a worker thread. */
export interface WorkerNotice {
  readonly worker: true;
}

/** What a program printed; undefined: more than can be told. */
export interface PrintNotice {
  readonly print: PrintkCall | undefined;
}

export interface TargetInfo {
  readonly pid: number;
  readonly nodeVersion: string;
  readonly v8Version: string;
  readonly title: string;
  readonly argv: readonly string[];
  readonly cwd: string;
  readonly heapUsedBytes: number;
  readonly prepared: boolean;
  /** Decimal: CLOCK_REALTIME − CLOCK_MONOTONIC, in nanoseconds. */
  readonly monotonicToRealtimeNs: string;
}

export interface LoadParams {
  readonly layout: MemoryLayout;
  readonly programs: readonly ProgramImage[];
  /** Programs that run on the worker as well as, or instead of, the main thread. */
  readonly paths: readonly PropertyPath[];
  readonly usesAsyncId: boolean;
}

/** A place in the text that V8 runs; lines and columns from 0. */
export interface Location {
  readonly scriptId: string;
  readonly lineNumber: number;
  readonly columnNumber: number;
}

/** Replace a property that reaches the function: no debugger. */
export interface PropertyItem {
  readonly kind: 'property';
  readonly site: number;
  /** File name of the CommonJS module whose exports lead to the function. */
  readonly file: string;
  /** The function's text: what its toString() answers. */
  readonly text: string;
  readonly key: string;
  readonly accessor: 'get' | 'set' | undefined;
  /** Where V8 says the function is: its parameter list's start. Undefined when the script's ID is not known. */
  readonly scriptId: string | undefined;
}

/** Replace the function's binding at the first natural call. */
export interface BindItem {
  readonly kind: 'bind';
  readonly site: number;
  readonly at: Location;
  /** The function's text, of the wrapped function itself. */
  readonly text: string;
  readonly target:
    | { readonly via: 'variable'; readonly name: string; readonly constant: boolean }
    | {
        readonly via: 'property';
        readonly key: string;
        readonly isStatic: boolean;
        readonly className: string | undefined;
        readonly accessor: 'get' | 'set' | undefined;
      };
  /** Text of the arguments in the function's scope: `a, b` or `...arguments`. */
  readonly args: string;
  readonly isGenerator: boolean;
  /** Its programs are told how calls end too: they begin with the call after the one that replaces the binding. */
  readonly ends: boolean;
  /** Hits of the breakpoint after which it is removed; few where a hit is dear. */
  readonly window: number;
  /**
   * Optimized code may have the old function as a constant. `now`: V8 is made to throw such code away as soon as the
   * binding is replaced; `later`: when calls turn out to come past it; `never`: that would take too long.
   */
  readonly deoptimize: 'now' | 'later' | 'never';
  /** Places in the functions that read the variable, one each: such code is theirs. Undefined: all code has to be thrown away. */
  readonly readers: readonly Location[] | undefined;
  /** All of it may be: where throwing away what the readers have is not enough. */
  readonly deoptimizeAll: boolean;
  /** Look again after a second whether calls come past the binding, by the code that is hot then. */
  readonly verify: boolean;
}

/** Replace the text of a script. All edits of one script in one. */
export interface EditItem {
  readonly kind: 'edit';
  readonly scriptId: string;
  readonly sites: readonly number[];
  /** Sites among them whose bindings were replaced before and go back once the edit is made. */
  readonly replaces: readonly number[];
  readonly original: string;
  readonly edited: string;
  /** Texts to set one after the other to come from `edited` to `original`, so that V8 follows each step. */
  readonly back: readonly string[];
  /**
   * V8 refuses to change async functions and generators with a call under way: the text in which only these stay edited, and
   * their sites. Undefined where it would be the whole edit or nothing.
   */
  readonly suspending: { readonly text: string; readonly sites: readonly number[] } | undefined;
  /** No single stop of the main thread may be longer, in ms, to have it put back either. */
  readonly maxPauseMs: number;
  /** Old and new text of each function edited, for toString(). */
  readonly texts: readonly { readonly edited: string; readonly original: string }[];
}

/** Switch on a site that trapline/register compiled in. */
export interface NopItem {
  readonly kind: 'nop';
  readonly site: number;
  readonly url: string;
  /** FunctionSymbol.index. */
  readonly index: number;
  /** The call's end is wanted too. */
  readonly ends: boolean;
}

/** A breakpoint whose condition runs the entry programs. */
export interface BreakItem {
  readonly kind: 'break';
  readonly site: number;
  readonly at: Location;
  /** V8 may take the next place it has: not one from here on. Undefined: any of the function. */
  readonly until: Location | undefined;
  readonly args: string;
  /** What its first hit and each further one cost the main thread, in ms: breakpoints share a budget. */
  readonly firstMs: number;
  readonly nextMs: number;
}

/** Run the programs of a site on an event of the process: `http:server_request_start`, or `raw:CHANNEL`. */
export interface EventItem {
  readonly kind: 'event';
  readonly site: number;
  readonly event: string;
}

/** An event that the application defines: the types of its fields, by name. */
export interface EventInfo {
  readonly system: string;
  readonly name: string;
  readonly types: Readonly<Record<string, string>>;
}

export type ArmItem = NopItem | PropertyItem | BindItem | EditItem | BreakItem | EventItem;

export interface ArmResult {
  readonly kind: ArmItem['kind'];
  readonly sites: readonly number[];
  readonly ok: boolean;
  /** Longest stop of the main thread so far, in ms. */
  readonly pauseMs: number;
  /** For so much of it, it waited for a processor that other programs used. */
  readonly waitedMs?: number;
  readonly reason?: string;
}

/** Progress of a bind or break item after `arm` has been answered. */
export interface ArmedNotice {
  readonly site: number;
  /**
   * `bound`: the binding is replaced; `escaping`: calls come past it, and are counted by the breakpoint for a while;
   * `settled`: the window is over; `failed`: something else has to be tried; `limited`: a breakpoint was away for a while.
   */
  readonly state: 'bound' | 'escaping' | 'settled' | 'failed' | 'limited';
  readonly pauseMs: number;
  readonly calls?: number;
  readonly escaped?: number;
  readonly holders?: number;
  /** Hits of a breakpoint that came while it was away, estimated from their rate. */
  readonly missed?: number;
  readonly reason?: string;
}

/** What the cost model wants to know of this very process. */
export interface CostReport {
  readonly heapBytes: number;
  readonly debuggerEnabled: boolean;
  /** How long enabling the debugger stopped the main thread, in ms, but for what that waited for a processor; undefined before. */
  readonly enableMs?: number | undefined;
  /** How long enabling it once more did; undefined where that was not asked for, or could not be done any more. */
  readonly walkMs?: number | undefined;
  /** Programs that want a processor, for each there is, over the last minute. */
  readonly busy: number;
}

export interface RestoreReport {
  readonly functionsRestored: number;
  readonly bytesRestored: number;
  readonly pausesMs: readonly number[];
  readonly failures: readonly RestoreFailure[];
}

/** Something that stays as the session made it. */
export interface RestoreFailure {
  /** `the edited text`, `the replaced binding`, … */
  readonly what: string;
  /** Sites that it belongs to; empty where it belongs to the whole session. */
  readonly sites: readonly number[];
  readonly reason: string;
}

/** What stops of the main thread may take, in ms. */
export interface StopLimits {
  readonly maxPauseMs: number;
  /** What throwing all compiled code away takes, by the cost model. */
  readonly discardMs: number;
}

/** A script with compiled-in sites. By function: 0 none, 1 entry only, 2 and 3 ends too. */
export interface CompiledIn {
  readonly url: string;
  readonly forms: readonly number[];
  /** Its file is TypeScript, which the process's Node runs in this way. */
  readonly types?: TypesMode | undefined;
}

export interface Methods {
  hello: [{ token: string }, TargetInfo];
  closeInspector: [undefined, boolean];
  /** Enables the debugger, once. */
  scripts: [undefined, readonly ScriptInfo[]];
  /** Files of the CommonJS modules in require.cache; no debugger is needed for that. */
  modules: [undefined, readonly string[]];
  /** Undefined where V8 has collected the script meanwhile. */
  source: [{ scriptId: string }, { source: string | undefined }];
  /** Events that the application defines. */
  definedEvents: [undefined, readonly EventInfo[]];
  /** The channels of node:diagnostics_channel that exist; V8 collects garbage for that. */
  channels: [undefined, readonly string[]];
  /** A value that an expression has in the global scope, by value: for the registry of trapline/register. */
  evaluate: [{ expression: string }, unknown];
  /** Scripts with compiled-in sites. Undefined: not prepared. */
  compiledIn: [undefined, readonly CompiledIn[] | undefined];
  /** The JavaScript that the process's Node makes of a TypeScript file; undefined where it cannot. No turn of the main thread. */
  withoutTypes: [{ path: string; types: TypesMode }, string | undefined];
  /** Files that were prepared (`-c`) and have not been loaded, or with another text. */
  unloaded: [undefined, readonly string[]];
  load: [LoadParams, undefined];
  /** More programs behind those of `load`, on its maps; `paths` is the whole table. */
  addPrograms: [{ programs: readonly ProgramImage[]; paths: readonly PropertyPath[] }, undefined];
  /** More maps behind those of `load`, in the reserve of its layout. */
  addMaps: [{ maps: readonly PlacedMap[] }, undefined];
  setSites: [{ sites: readonly SiteSpec[] }, undefined];
  enable: [{ sites: readonly number[] }, undefined];
  disable: [{ sites: readonly number[] }, undefined];
  stopTimers: [undefined, undefined];
  /** Makes hooks reachable in another context (`vm.createContext`); false where that cannot be done. */
  reach: [{ contextId: number }, boolean];
  /** In several steps: other requests are answered meanwhile. */
  arm: [{ items: readonly ArmItem[]; limits: StopLimits }, readonly ArmResult[]];
  /** Removes the breakpoints of bindings that calls come past: there is nothing better to put in their place. */
  closeWindow: [{ sites: readonly number[] }, undefined];
  disarm: [{ sites: readonly number[] }, undefined];
  runOnce: [{ program: number }, undefined];
  startInterval: [{ program: number; periodNs: number; cookie: number }, undefined];
  startProfile: [{ program: number; periodNs: number; cookie: number }, undefined];
  readMap: [{ index: number }, readonly { key: string; values: readonly string[] }[]];
  /** 0 or -errno; base64. */
  updateMap: [{ index: number; key: string; value: string; flags: number }, number];
  deleteKey: [{ index: number; key: string }, number];
  clearMap: [{ index: number }, undefined];
  zeroMap: [{ index: number }, undefined];
  faults: [undefined, readonly ReadFault[]];
  siteStats: [undefined, readonly SiteStats[]];
  stacks: [{ after: number }, readonly { id: number; frames: string[] }[]];
  flush: [undefined, undefined];
  /** `walk`: measure a walk of the heap, unless that has been done. */
  cost: [{ readonly walk: boolean }, CostReport];
  detach: [undefined, RestoreReport];
}

export type Method = keyof Methods;
