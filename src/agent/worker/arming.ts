/**
 * Arming with an undo log. Each action on the target is entered in the log before it is taken and struck out when it is
 * undone, so that everything can be put back at any moment: when the tracer says so, and when its socket drops. Each way to
 * arm keeps its part of the log.
 */

import type { UndoReport } from '../arming/arming.ts';
import type { HookNotice } from '../arming/notice.ts';
import { ArmContext, type ArmingEvents, reasonOf } from './arm-context.ts';
import { Bindings } from './bindings.ts';
import { Breakpoints } from './breakpoints.ts';
import { Breaks } from './breaks.ts';
import { Edits } from './edits.ts';
import type { EventSources } from './events.ts';
import { Properties } from './properties.ts';
import type { ArmItem, ArmResult, RestoreReport, StopLimits } from './requests.ts';
import type { Scripts } from './scripts.ts';
import { type MainSession, NO_STOP } from './session.ts';

/** The tracer may ask for more at once, and enabling the debugger again walks the heap. */
const REST_MS = 500;
/** How often a walk is tried to be measured, and the share of it that may have been spent waiting: that is not known exactly. */
const WALKS = 3;
const MOST_WAITED = 0.3;

/** Sites that are undone in one stop. */
const AT_ONCE = 200;

function inPieces(sites: readonly number[]): number[][] {
  const pieces: number[][] = [];
  for (let from = 0; from < sites.length; from += AT_ONCE) pieces.push(sites.slice(from, from + AT_ONCE));
  return pieces;
}

export class WorkerArming {
  readonly #context: ArmContext;
  readonly #properties: Properties;
  readonly #bindings: Bindings;
  readonly #edits: Edits;
  readonly #breaks: Breaks;
  readonly #sources: EventSources;

  constructor(session: MainSession, scripts: Scripts, events: ArmingEvents, sources: EventSources) {
    this.#sources = sources;
    const context = new ArmContext(session, scripts, events, () => this.#idle());
    this.#context = context;
    this.#properties = new Properties(context);
    const breakpoints = new Breakpoints(context);
    this.#bindings = new Bindings(context, breakpoints);
    this.#breaks = new Breaks(context, breakpoints, (sites) => this.#bindings.giveUp(sites));
    this.#edits = new Edits(context, {
      isBound: (site) => this.#bindings.isBound(site),
      undo: async (chosen) => {
        await this.#undoBindings(chosen);
        await this.#breaks.undo(chosen);
      },
    });
  }

  enable(sites: readonly number[], on: boolean): Promise<undefined> {
    return this.#edits.enable(sites, on);
  }

  /** What comes up meanwhile, the session's end too, has its turn between two stops. */
  async arm(items: readonly ArmItem[], limits: StopLimits): Promise<ArmResult[]> {
    this.#context.arming++;
    clearTimeout(this.#resting);
    try {
      const results = await this.#context.serial(() => this.#armAtOnce(items));
      const properties = items.filter((item) => item.kind === 'property');
      results.push(...(await this.#properties.replace(properties)));
      // edits before breakpoints: an edit drops those of its script
      for (const item of items) {
        if (item.kind !== 'edit') continue;
        const edit = () => this.#guard(item, item.sites, () => this.#edits.edit(item));
        results.push(await this.#context.serial(edit));
      }
      const binds = items.filter((item) => item.kind === 'bind');
      results.push(...(await this.#bindings.add(binds, limits)));
      const breaks = items.filter((item) => item.kind === 'break');
      results.push(...(await this.#breaks.add(breaks, limits)));
      return results;
    } finally {
      this.#context.arming--;
      this.#rest();
    }
  }

  async #armAtOnce(items: readonly ArmItem[]): Promise<ArmResult[]> {
    this.#context.goOn();
    const results: ArmResult[] = [];
    for (const item of items) {
      if (item.kind === 'nop')
        results.push(await this.#guard(item, [item.site], () => this.#properties.nop(item)));
    }
    for (const item of items) {
      if (item.kind === 'event')
        results.push(await this.#guard(item, [item.site], () => this.#sources.start(item)));
    }
    return results;
  }

  async #guard(
    item: ArmItem,
    sites: readonly number[],
    operation: () => Promise<number>,
  ): Promise<ArmResult> {
    try {
      this.#context.goOn();
      const { session } = this.#context;
      session.longestNow = NO_STOP;
      const pauseMs = await operation();
      const { waitedMs } = session.longestNow;
      return { kind: item.kind, sites, ok: true, pauseMs, waitedMs };
    } catch (error) {
      return { kind: item.kind, sites, ok: false, pauseMs: 0, reason: reasonOf(error) };
    }
  }

  /**
   * A hook of the main thread speaks; it waits for `acknowledge`, so that a breakpoint whose every hit is dear is gone
   * before the function is called again.
   */
  onHook(notice: HookNotice, acknowledge: () => void): void {
    if (!this.#breaks.has(notice.site)) {
      this.#bindings.onHook(notice, acknowledge);
      return;
    }
    this.#breaks.limit();
    acknowledge();
  }

  /** Counters of sites are about to be read. */
  async beforeStats(): Promise<void> {
    if (this.#bindings.size > 0)
      await this.#context.session.errand('tell unseen', this.#context.main, 'tellUnseen');
  }

  /** How long one walk of the heap takes; undefined: not measured. */
  walkMs: number | undefined;
  #walks = 0;

  /** Measures it once: where nothing is armed that needs the debugger, and the main thread did not wait for a processor meanwhile. */
  measureWalk(): Promise<void> {
    return this.#context.step(async () => {
      while (this.walkMs === undefined && this.#walks < WALKS) {
        if (this.#needsDebugger) return;
        this.#walks++;
        const walk = await this.#context.scripts.walk('walk the heap');
        if (walk !== undefined && walk.waitedMs <= MOST_WAITED * walk.ms)
          this.walkMs = walk.ms - walk.waitedMs;
      }
    });
  }

  get #needsDebugger(): boolean {
    return this.#context.arming > 0 || this.#bindings.busy || this.#breaks.size > 0;
  }

  closeWindow(sites: readonly number[]): Promise<void> {
    return this.#bindings.closeWindow(sites);
  }

  /** Puts back some sites: bindings, properties, breakpoints. An edited script only goes as a whole. */
  disarm(sites: readonly number[]): Promise<void> {
    return this.#context.serial(() => this.#undo(new Set(sites)));
  }

  /** Everything, for good: what is asked for from here on is refused. */
  restore(): Promise<RestoreReport> {
    this.#context.closed = true;
    clearTimeout(this.#resting);
    return this.#context.serial(async () => {
      this.#breaks.close();
      await this.#undo(undefined);
      // a request to arm that gives up at its next step only now leaves it in place
      await this.#removeHook();
      return {
        functionsRestored: this.#context.restored.functions,
        bytesRestored: this.#context.restored.bytes,
        pausesMs: [...this.#context.session.pauses],
        failures: [...this.#context.failures],
      };
    });
  }

  async #undo(only: ReadonlySet<number> | undefined): Promise<void> {
    const chosen = (site: number): boolean => only?.has(site) ?? true;
    const kept = await this.#sources.stop(chosen);
    if (kept.length > 0) {
      const reason = 'what holds it takes no other value any more';
      this.#context.fail(`events ${kept}`, { what: 'the source of the event', sites: kept, reason });
    }
    const breaks = await this.#breaks.undo(chosen);
    const sites = [...breaks, ...(await this.#undoBindings(chosen))];
    for (const some of inPieces(sites)) {
      await this.#context.attempt('what its calls go through', some, `hooks ${some}`, () =>
        this.#context.session.errand('remove hooks', this.#context.agent, 'removeHooks', some),
      );
    }
    await this.#edits.undo(only);
    await this.#idle();
  }

  /** Bindings and properties; returns the sites that had one. */
  async #undoBindings(chosen: (site: number) => boolean): Promise<number[]> {
    const { sites, stale } = await this.#bindings.take(chosen);
    sites.push(...this.#properties.take(chosen));
    if (sites.length === 0) return sites;
    for (const some of inPieces(sites)) {
      await this.#context.attempt('the replaced binding', some, `bindings ${some}`, async () => {
        const { value } = await this.#context.session.errand<UndoReport>('undo', 'arming', 'undo', some);
        const { count, kept } = value;
        this.#context.restored.functions += count;
        for (const site of kept) {
          const reason = 'what holds it takes no other value any more (it was frozen meanwhile)';
          this.#context.fail(`binding ${site}`, { what: 'the replaced binding', sites: [site], reason });
        }
      });
    }
    await this.#context.attempt('the compiled code', sites, 'compiled code', () =>
      this.#bindings.undoCode(stale, this.#edits.size > 0),
    );
    return sites;
  }

  #resting: NodeJS.Timeout | undefined;

  /**
   * The debugger goes a while after the last arming, where nothing needs it: each `await` of the process is slower with it, and
   * V8 notes who waits for which promise (../arming/waiters.ts).
   */
  #rest(): void {
    clearTimeout(this.#resting);
    if (this.#context.closed) return;
    this.#resting = setTimeout(() => {
      void this.#context.step(() => this.#idle()).catch(() => undefined);
    }, REST_MS);
    this.#resting.unref();
  }

  /** Nothing needs the debugger any more: it goes. Edited texts stay without it; to change them again it is enabled anew. */
  async #idle(): Promise<void> {
    if (this.#needsDebugger) return;
    await this.#removeHook();
    await this.#context.scripts.disable();
  }

  async #removeHook(): Promise<void> {
    const { session, main, hookName } = this.#context;
    if (hookName === '') return;
    const remove = () => session.call(main, 'removeHook');
    if (await this.#context.attempt('what conditions call', [], 'hook', remove)) this.#context.hookName = '';
  }
}
