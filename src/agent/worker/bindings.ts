/** Replacing bindings at the first natural call, and knowing what comes past them. */

import type { HookNotice } from '../arming/notice.ts';
import { type ArmContext, reasonOf, SELF } from './arm-context.ts';
import { BindWindows, type Stale } from './bind-windows.ts';
import type { Breakpoints, WantedBreakpoint } from './breakpoints.ts';
import type { ArmResult, BindItem, StopLimits } from './requests.ts';

/** What is to be done for a binding: what its hook has told, its window's time is over, or the time between two. */
type Due = HookNotice['state'] | 'over' | 'again';

export interface BindLog {
  readonly item: BindItem;
  readonly limits: StopLimits;
  breakpoint: string | undefined;
  bound: boolean;
  constant: boolean;
  pauseMs: number;
  /** The window after the first call; a pause; a second window; nothing more to come. */
  phase: 'window' | 'pause' | 'verify' | 'settled';
  told: boolean;
  /** Calls have escaped in a window before: the next one is over only when a call has shown whether they still do. */
  suspect: boolean;
  /** All compiled code was thrown away; that of the functions that read the variable was. */
  deoptimized: boolean;
  readersDone: boolean;
  /** Calls that came past the binding before the code that made them was thrown away. */
  escapedBefore: number;
  timer: NodeJS.Timeout | undefined;
}

/** So many times as long as bindings held the main thread up, it is let alone before the next ones have their turn. */
const REST_SHARE = 3;

export class Bindings {
  readonly #context: ArmContext;
  readonly #breakpoints: Breakpoints;
  readonly #windows: BindWindows;
  // the undo log
  readonly #binds = new Map<number, BindLog>();
  /** Those that come up while others have their turn are dealt with together. */
  #due: [BindLog, Due][] = [];
  #asked = false;
  #restUntil = 0;

  constructor(context: ArmContext, breakpoints: Breakpoints) {
    this.#context = context;
    this.#breakpoints = breakpoints;
    this.#windows = new BindWindows(context, {
      later: (log, due, ms) => {
        log.timer = setTimeout(() => this.#ask(log, due), ms);
      },
      open: (logs) => this.#open(logs),
    });
  }

  get size(): number {
    return this.#binds.size;
  }

  isBound(site: number): boolean {
    return this.#binds.get(site)?.bound === true;
  }

  /** Whether one of them needs the debugger still. */
  get busy(): boolean {
    for (const log of this.#binds.values())
      if (log.breakpoint !== undefined || log.constant || log.phase === 'pause' || log.phase === 'verify')
        return true;
    return false;
  }

  /** Other breakpoints take the place of those that wait for the first call. */
  async giveUp(sites: readonly number[]): Promise<void> {
    const waiting = sites.map((site) => this.#binds.get(site)).filter((log) => log?.bound === false);
    await Promise.allSettled(
      waiting.map((log) => {
        clearTimeout((log as BindLog).timer);
        return this.#context.removeBreakpoint(log as BindLog);
      }),
    );
  }

  /** Not to be called inside a step. */
  async add(items: readonly BindItem[], limits: StopLimits): Promise<ArmResult[]> {
    const { session, agent, main } = this.#context;
    const results: ArmResult[] = [];
    const wanted = items.map((item): WantedBreakpoint & { readonly item: BindItem } => {
      const { site } = item;
      const log = newBindLog(item, limits);
      this.#binds.set(site, log);
      return {
        item,
        ...this.#place(log),
        placed: (breakpoint, ms, waitedMs) => {
          log.breakpoint = breakpoint;
          log.pauseMs = ms;
          results.push({ kind: 'bind', sites: [site], ok: true, pauseMs: ms, waitedMs });
        },
        failed: (error) => {
          if (this.#isOurs(log)) this.#binds.delete(site);
          results.push({ kind: 'bind', sites: [site], ok: false, pauseMs: 0, reason: reasonOf(error) });
        },
      };
    });
    await this.#breakpoints.set(wanted, limits, (batch) => {
      const all = batch.map(({ item }) => item);
      const sites = all.map(({ site }) => site);
      return Promise.all([session.call(agent, 'installHooks', sites, []), session.call(main, 'expect', all)]);
    });
    return results;
  }

  #isOurs(log: BindLog): boolean {
    return this.#binds.get(log.item.site) === log;
  }

  #place(log: BindLog): Pick<WantedBreakpoint, 'at' | 'condition' | 'wanted'> {
    return {
      at: log.item.at,
      condition: () => this.#condition(log.item),
      wanted: () => this.#isOurs(log),
    };
  }

  #condition({ site, target, args }: BindItem): string {
    const hook = `globalThis[${JSON.stringify(this.#context.hookName)}]`;
    const value = `${this.#context.hookName}v`;
    const name = target.via === 'variable' ? target.name : target.className;
    const get = name === undefined ? 'undefined' : `()=>${name}`;
    const set =
      target.via === 'variable' && !target.constant ? `(${value})=>{${target.name}=${value}}` : 'undefined';
    return `${hook}(${site},${get},${set},()=>{debugger},${SELF},()=>[${args}])`;
  }

  /**
   * A hook of the main thread speaks; it waits for `acknowledge`, so that a breakpoint whose every hit is dear is gone
   * before the function is called again.
   */
  onHook(notice: HookNotice, acknowledge: () => void): void {
    const log = this.#binds.get(notice.site);
    if (log === undefined) {
      acknowledge();
      return;
    }
    const { state } = notice;
    const once = log.item.window <= 1 && (state === 'bound' || state === 'const');
    // what is posted before the hook goes on is dispatched before the next call: none comes between two of these
    const far = state === 'drop' || state === 'crowded';
    if (state === 'crowded' && this.#windows.mayDeoptimize(log))
      void this.#windows.startAnew([log], true, true).catch(() => undefined);
    else if (once || state === 'settled' || far) void this.#windows.close([log]).catch(() => undefined);
    acknowledge();
    if (!far) this.#ask(log, state);
  }

  #ask(log: BindLog, due: Due): void {
    this.#due.push([log, due]);
    if (this.#asked) return;
    this.#asked = true;
    const restMs = this.#restUntil - performance.now();
    const work = (): void => void this.#context.step(() => this.#work()).catch(() => undefined);
    if (restMs <= 0) work();
    else setTimeout(work, restMs);
  }

  async #work(): Promise<void> {
    this.#asked = false;
    const due = this.#due;
    this.#due = [];
    const { pauses } = this.#context.session;
    const before = pauses.length;
    const of = (state: Due, ...phases: BindLog['phase'][]): BindLog[] => {
      const logs = due.filter(
        ([log, what]) => what === state && this.#isOurs(log) && phases.includes(log.phase),
      );
      return [...new Set(logs.map(([log]) => log))];
    };
    const windows = this.#windows;
    const OPEN = ['window', 'verify'] as const;
    const steps: [logs: () => BindLog[], act: (logs: BindLog[]) => Promise<void>][] = [
      [() => of('const', ...OPEN), (logs) => windows.constants(logs)],
      [() => [...of('const', ...OPEN), ...of('bound', ...OPEN)], (logs) => windows.replaced(logs)],
      [() => of('missed', ...OPEN), (logs) => windows.unreached(logs)],
      [() => of('escaping', ...OPEN), (logs) => windows.tellEscapes(logs)],
      [() => of('settled', ...OPEN), (logs) => windows.settle(logs)],
      [() => of('over', ...OPEN), (logs) => windows.over(logs)],
      [() => of('again', 'pause'), (logs) => windows.verify(logs)],
      [() => of('window', 'verify'), async (logs) => this.#open(logs)],
    ];
    for (const [logs, act] of steps) {
      const chosen = logs();
      if (chosen.length === 0) continue;
      this.#context.goOn();
      await act(chosen).catch((error) => windows.fail(chosen, reasonOf(error)));
    }
    const stopped = pauses.slice(before).reduce((sum, ms) => sum + ms, 0);
    this.#restUntil = performance.now() + REST_SHARE * stopped;
  }

  /** Second windows: their breakpoints once more. */
  #open(logs: readonly BindLog[]): void {
    const closed = logs.filter(({ breakpoint }) => breakpoint === undefined);
    const wanted = closed.map((log): WantedBreakpoint => {
      return {
        ...this.#place(log),
        wanted: () => this.#isOurs(log) && log.phase === 'verify' && log.breakpoint === undefined,
        placed: (breakpoint) => {
          log.breakpoint = breakpoint;
          log.suspect = true;
          this.#windows.lookAgain(log);
        },
        failed: () => this.#ask(log, 'over'),
      };
    });
    const [first] = closed;
    if (first !== undefined) void this.#breakpoints.set(wanted, first.limits, () => Promise.resolve());
  }

  undoCode(stale: Stale, edited: boolean): Promise<void> {
    return this.#windows.undoCode(stale, edited);
  }

  closeWindow(sites: readonly number[]): Promise<void> {
    return this.#context.step(async () => {
      const logs = sites.map((site) => this.#binds.get(site)).filter((log) => log !== undefined);
      await this.#windows.settle(logs);
    });
  }

  /** Strikes sites out of the log, their breakpoints removed and their constants restored, for the caller to undo the rest. */
  async take(chosen: (site: number) => boolean): Promise<{ sites: number[]; stale: Stale }> {
    const logs = [...this.#binds.values()].filter(({ item }) => chosen(item.site));
    for (const log of logs) {
      clearTimeout(log.timer);
      log.phase = 'settled';
    }
    await Promise.all(
      logs.map((log) => {
        const { site } = log.item;
        return this.#context.attempt('its breakpoint', [site], `breakpoint ${site}`, () =>
          this.#context.removeBreakpoint(log),
        );
      }),
    );
    for (const { item, constant, bound } of logs) {
      const { site } = item;
      if (constant && bound) {
        await this.#context.attempt('its replaced constant', [site], `constant ${site}`, () =>
          this.#windows.putBack(item),
        );
      }
      this.#binds.delete(site);
    }
    const stale: Stale = { all: false, places: [] };
    for (const { bound, deoptimized, item } of logs) {
      const { deoptimize, target, readers } = item;
      if (!bound || deoptimize !== 'now' || target.via !== 'variable') continue;
      if (deoptimized || readers === undefined) stale.all = true;
      else stale.places.push(...readers);
    }
    return { sites: logs.map(({ item }) => item.site), stale };
  }
}

function newBindLog(item: BindItem, limits: StopLimits): BindLog {
  return {
    item,
    limits,
    breakpoint: undefined,
    bound: false,
    constant: false,
    pauseMs: 0,
    phase: 'window',
    told: false,
    suspect: false,
    deoptimized: false,
    readersDone: false,
    escapedBefore: 0,
    timer: undefined,
  };
}
