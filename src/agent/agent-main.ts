import type { MemoryLayout } from '../bpf/index.ts';
import type { PropertyPath } from '../kernel/trace/js-kfuncs.ts';
import type { CompiledImage, PrintkCall, ReadFault, SiteSpec, SiteStats } from './protocol.ts';

/**
 * The agent on the traced main thread. One bundled script evaluates to a function that makes it; the worker calls its
 * methods through `Runtime.callFunctionOn` with JSON arguments. No method throws into the application.
 */
export interface AgentMain {
  /** The shared memory that the worker reads maps and rings from. */
  readonly memory: WebAssembly.Memory;

  /** Names of globals this agent may define while edits are in place; unguessable per session, all non-enumerable. */
  readonly prefix: string;

  setPaths(paths: readonly PropertyPath[]): void;
  /** Compiles and instantiates. Returns nothing or throws before anything changed. */
  load(programs: readonly CompiledImage[]): void;

  /** Defines sites, or replaces the programs of existing ones (also while they are being hit). */
  setSites(sites: readonly SiteSpec[]): void;
  /** Compiles what sites of functions in sloppy or strict mode need; otherwise the first of them does. */
  prepareSites(sloppy: boolean): void;
  enable(sites: readonly number[]): void;
  disable(sites: readonly number[]): void;
  /** Enabled, while the texts of functions with wrappers are edited: a call is told once, by whichever sees it first. Until enable(). */
  passWrappers(sites: readonly number[]): void;
  /** Calls of a site that nobody told: they count as missed. */
  addMissed(site: number, calls: number): void;
  /** A call that put a site in place that tells how calls end: none of its programs sees it. */
  addUnseen(site: number): void;

  /**
   * The function that stands in for `original` at a site: same name, length, prototype, properties, `this`,
   * `new.target`, result and error; its text through Function.prototype.toString is the original's. Wrapping a wrapper of
   * the same site returns it. Used by property and binding arming.
   */
  wrap(site: number, original: unknown): unknown;
  /** The original behind a wrapper, or the value itself. */
  unwrap(value: unknown): unknown;

  /** What calls a site's entry programs with values of the agent's own sources; not a function that the application is given. */
  emitter(site: number): Emit;
  /** As wrap(), for a function of the agent's to hear of the calls; `wrapper` is the original where that cannot be. */
  intercept(original: unknown, isAsync: boolean): Interception;
  /** A property without running the application's code; undefined where it cannot be read so. */
  property(value: unknown, key: string): unknown;

  /**
   * Hooks that instrumented text calls, as global functions `<prefix><site>e/r/t/s/b` (see README.md). Returns when they exist.
   * `texts` gives, for an edited function's new text, the old one: what its toString() has to answer.
   */
  installHooks(sites: readonly number[], texts: readonly { edited: string; original: string }[]): void;
  removeHooks(sites: readonly number[]): void;
  /** The global of another context (`vm.createContext`), where hooks are to exist, too; false where it does not take them. */
  addGlobal(other: object): boolean;

  /** Runs a program once on this thread (profile samples), outside of any site. */
  run(program: number): void;

  /** Starts or stops following asynchronous contexts for js_asyncid(). */
  trackAsync(on: boolean): void;

  siteStats(): SiteStats[];
  /** Calls of a site so far, those missed too. */
  calls(site: number): number;
  /** New stacks since `after`: their frames, innermost first, one string a frame (`name (file:line:column)`). */
  stacks(after: number): { id: number; frames: string[] }[];
  /** Failed reads by path index since the last call. */
  faults(): ReadFault[];

  /** Disables everything, removes hooks and patched intrinsics, turns wrappers still held by somebody into plain calls. */
  dispose(): void;
}

/** Runs the programs of a site on an event with these values. */
export type Emit = (self: undefined, ...values: unknown[]) => void;

/** Who hears of the calls of an intercepted function. What `entry` puts into `args` the function gets. */
export interface CallObserver {
  readonly entry?: (self: unknown, args: unknown[]) => void;
  /** Of a function that is not asynchronous. `error` is what was thrown. */
  readonly exit?: (self: unknown, args: unknown[], value: unknown, error: unknown) => void;
  /** The promise of an asynchronous one is settled. */
  readonly settle?: (self: unknown, args: unknown[], value: unknown, error: unknown) => void;
}

export interface Interception {
  readonly wrapper: unknown;
  /** Who hears of calls from now on. */
  tell(observer: CallObserver): void;
  /** Calls of the wrapper pass unseen from then on. */
  stop(): void;
}

/** What the injector hands to the factory. Memory and layout are made (and initialised) by the worker when a script loads. */
export interface AgentOptions {
  readonly memory: WebAssembly.Memory;
  readonly layout: MemoryLayout;
  readonly prefix: string;
  /** `process.getBuiltinModule`, or the same by another way. */
  readonly require: (id: string) => unknown;
  /** Told of bpf_trace_printk(). */
  readonly print?: (call: PrintkCall) => void;
}

/** The default export of main/bundle-entry.ts. */
export type CreateAgent = (options: AgentOptions) => AgentMain;
