/**
 * The windows in which a binding's breakpoint shows what comes past it: one behind the first call, and one later. Every step is
 * taken for all bindings whose turn it is together: most of what a step costs the main thread it costs once.
 */

import type { BindStatus } from '../arming/bound.ts';
import { type ArmContext, reasonOf } from './arm-context.ts';
import type { BindLog } from './bindings.ts';
import { Constants } from './constants.ts';
import type { BindItem, Location } from './requests.ts';
import type { CallArgument } from './session.ts';

/** A breakpoint whose function is hardly called is removed after this long; its binding is replaced by then or not. */
const WINDOW_MS = 250;
/** When a binding is looked at again. */
const VERIFY_MS = 1000;
/** How long the tracer may take to put a live edit in the place of a binding that calls come past. */
const ESCAPE_MS = 1500;

/** What other references are looked for at once, in how many sites' scopes. */
const HOLDERS_AT_ONCE = 64;

/** Where more places are concerned, all code is thrown away, if it may be: each place costs a walk of the heap. */
const MANY_PLACES = 8;

/** What has to be thrown away again: optimized code has the wrapper as a constant by now, harmless, but not as it was. */
export interface Stale {
  all: boolean;
  readonly places: Location[];
}

export interface WindowTimes {
  /** The binding's timer: its window is over, or is to be opened again. */
  later(log: BindLog, due: 'over' | 'again', ms: number): void;
  /** Sets their breakpoints. */
  open(logs: readonly BindLog[]): void;
}

type Status = Pick<BindStatus, 'hits' | 'escaped' | 'holders'>;

export class BindWindows {
  readonly #context: ArmContext;
  readonly #constants: Constants;
  readonly #times: WindowTimes;

  constructor(context: ArmContext, times: WindowTimes) {
    this.#context = context;
    this.#constants = new Constants(context);
    this.#times = times;
  }

  /** Replaces constants, one by one: each takes a pause in its scope. */
  async constants(logs: readonly BindLog[]): Promise<void> {
    for (const log of logs) {
      this.#context.goOn();
      log.constant = true;
      try {
        log.pauseMs = Math.max(log.pauseMs, await this.#constants.set(log.item, false));
      } catch (error) {
        await this.fail([log], reasonOf(error));
      }
    }
  }

  async putBack(item: BindItem): Promise<void> {
    await this.#constants.set(item, true);
  }

  /** The wrappers are in place: so are they for what other references lead to the functions. */
  async replaced(all: readonly BindLog[]): Promise<void> {
    const logs = all.filter(({ phase }) => phase !== 'settled');
    for (const log of logs) log.bound = true;
    const held = logs.filter(({ item }) => item.target.via === 'variable');
    const holders = new Map<number, number>();
    for (let from = 0; from < held.length; from += HOLDERS_AT_ONCE)
      await this.#replaceHolders(held.slice(from, from + HOLDERS_AT_ONCE), holders);
    const stale = logs.filter((log) => log.item.deoptimize === 'now' && this.mayDeoptimize(log));
    if (stale.length > 0) await this.startAnew(stale, true);
    const others = logs.filter((log) => !stale.includes(log));
    if (others.length > 0) await this.startAnew(others, false);
    for (const log of logs) {
      const { site } = log.item;
      const count = holders.get(site) ?? 0;
      this.#context.events.onArmed({ site, state: 'bound', pauseMs: log.pauseMs, holders: count });
      if (log.breakpoint !== undefined) this.lookAgain(log);
    }
    await this.settle(logs.filter(({ breakpoint }) => breakpoint === undefined));
  }

  async #replaceHolders(logs: readonly BindLog[], holders: Map<number, number>): Promise<void> {
    const sites = logs.map(({ item }) => item.site);
    const scopes = await Promise.all(sites.map((site) => this.#scopesOf(site)));
    const scripts = new Set(logs.map(({ item }) => item.at.scriptId));
    const args: CallArgument[] = [{ value: sites }, { value: scripts.size }, ...scopes.flat()];
    const { session, main } = this.#context;
    const { value, ms } = await session.stopping('replace holders', () =>
      session.callRaw(main, 'replaceHolders', args, true),
    );
    for (const log of logs) log.pauseMs = Math.max(log.pauseMs, ms);
    for (const [site, count] of value.value as [number, number][]) holders.set(site, count);
  }

  /** The window's time, from now on. */
  lookAgain(log: BindLog, ms = WINDOW_MS): void {
    this.#times.later(log, 'over', ms);
  }

  /** The time of windows is over. */
  async over(logs: readonly BindLog[]): Promise<void> {
    const escaped: [BindLog, Status][] = [];
    const done: BindLog[] = [];
    for (const [log, status] of await this.#statuses(logs)) {
      if (log.breakpoint === undefined) done.push(log);
      else if (status.escaped > 0) escaped.push([log, status]);
      else if (log.suspect && status.hits <= 1) this.lookAgain(log, VERIFY_MS);
      else done.push(log);
    }
    await this.#tellEscapes(escaped);
    await this.settle(done);
  }

  /** A second window, now that the code that calls the function is hot again; open until it has been called. */
  async verify(logs: readonly BindLog[]): Promise<void> {
    for (const log of logs) {
      log.phase = 'verify';
      log.told = false;
      // code that V8 was still optimizing while all was thrown away has the old function in it too
      log.deoptimized = log.readersDone = false;
    }
    const { session, main } = this.#context;
    await session.call(main, 'reopenWindow', sitesOf(logs));
  }

  async tellEscapes(logs: readonly BindLog[]): Promise<void> {
    await this.#tellEscapes(await this.#statuses(logs));
  }

  /** The tracer decides: a live edit, or to leave it at the number (`closeWindow`). */
  async #tellEscapes(all: readonly (readonly [BindLog, Status])[]): Promise<void> {
    // those told before a new window began have none
    const escaping = all.filter(([{ told }, { escaped }]) => !told && escaped > 0);
    for (const [{ timer }] of escaping) clearTimeout(timer);
    const stale = escaping.filter(([log]) => this.mayDeoptimize(log));
    if (stale.length > 0) {
      for (const [log, { escaped }] of stale) {
        // in the first window each of them was counted; what came past between the two was not
        if (log.phase === 'verify') log.escapedBefore += escaped;
      }
      const logs = stale.map(([log]) => log);
      await this.startAnew(logs, true);
      for (const log of logs) this.lookAgain(log);
    }
    for (const [log, { hits, escaped, holders }] of escaping) {
      if (stale.some(([other]) => other === log)) continue;
      log.told = true;
      const { site } = log.item;
      const state = 'escaping';
      this.#context.events.onArmed({ site, state, pauseMs: log.pauseMs, calls: hits, escaped, holders });
      const close = () => this.#context.step(() => this.settle([log]));
      log.timer = setTimeout(() => void close().catch(() => undefined), ESCAPE_MS);
    }
  }

  mayDeoptimize({ deoptimized, readersDone, item }: BindLog): boolean {
    if (item.deoptimize === 'never' || item.target.via !== 'variable') return false;
    return (item.readers !== undefined && !readersDone) || (item.deoptimizeAll && !deoptimized);
  }

  /**
   * Escapes are counted anew, from when the references and the code are gone that led past the wrappers. `atOnce`: in one stop, posted
   * before this returns.
   */
  async startAnew(logs: readonly BindLog[], deoptimize: boolean, atOnce = false): Promise<void> {
    const { session, main } = this.#context;
    // posted in this order
    const thrownAway = deoptimize ? this.#throwAway(logs, atOnce) : undefined;
    if (!atOnce) await thrownAway;
    const [escaped] = await Promise.all([session.call(main, 'newWindow', sitesOf(logs)), thrownAway]);
    for (const [index, count] of (escaped as number[]).entries())
      if (count > 0) (logs[index] as BindLog).suspect = true;
  }

  async #throwAway(logs: readonly BindLog[], atOnce: boolean): Promise<void> {
    const some = logs.filter(({ item, readersDone }) => item.readers !== undefined && !readersDone);
    const places = some.flatMap(({ item }) => item.readers ?? []);
    const isMany = places.length > MANY_PLACES && some.every(({ item }) => item.deoptimizeAll);
    if (some.length === logs.length && !isMany) {
      for (const log of some) log.readersDone = true;
      if ((await this.#throwAwayAt(places, atOnce)) || !some.some(({ item }) => item.deoptimizeAll)) return;
    }
    for (const log of logs) log.deoptimized = log.readersDone = true;
    await this.#throwAllAway();
  }

  /** Code of functions by places in them, a stop each or all at once; false where that failed. */
  async #throwAwayAt(places: readonly Location[], atOnce: boolean): Promise<boolean> {
    const { code, session } = this.#context;
    let done = true;
    for (const some of atOnce ? [places] : places.map((place) => [place])) {
      if (some.length === 0) continue;
      const { value } = await session.stopping('deoptimize', () => code.discardAt(some));
      done &&= value;
    }
    return done;
  }

  /** `edited`: places in texts may not be where they were. */
  async undoCode({ all, places }: Stale, edited: boolean): Promise<void> {
    if (!all && places.length === 0) return;
    await this.#context.scripts.enable();
    const byPlaces = !all && !edited && places.length <= MANY_PLACES;
    if (!byPlaces || !(await this.#throwAwayAt(places, false))) await this.#throwAllAway();
  }

  /**
   * Code that V8 optimized while nobody had ever assigned the binding has the function in it as a constant. The debugger has to be
   * enabled. What throws the code away is posted at once.
   */
  async #throwAllAway(): Promise<void> {
    const { code, session } = this.#context;
    await session.stopping('deoptimize', () => code.discard());
    await code.release();
  }

  /** Takes breakpoints away; what escapes from there on is estimated. */
  async close(logs: readonly BindLog[]): Promise<void> {
    const { session, main } = this.#context;
    await Promise.all([
      ...logs.map((log) => this.#context.removeBreakpoint(log)),
      session.call(main, 'leaveWindow', sitesOf(logs)),
    ]);
  }

  /** Windows are over: how many calls came past the wrappers while they were open. */
  async settle(all: readonly BindLog[]): Promise<void> {
    const logs = all.filter(({ phase }) => phase !== 'settled');
    if (logs.length === 0) return;
    const again = logs.filter(({ phase, item, bound }) => phase !== 'verify' && item.verify && bound);
    for (const log of logs) {
      clearTimeout(log.timer);
      log.phase = 'settled';
    }
    await this.close(logs);
    for (const log of again) {
      log.phase = 'pause';
      this.#times.later(log, 'again', VERIFY_MS);
    }
    for (const [log, { hits, escaped, holders }] of await this.#statuses(logs)) {
      this.#context.events.onArmed({
        site: log.item.site,
        state: 'settled',
        pauseMs: log.pauseMs,
        calls: hits,
        escaped: escaped + log.escapedBefore,
        holders,
      });
    }
    await this.#context.idle();
  }

  async #statuses(logs: readonly BindLog[]): Promise<[BindLog, Status][]> {
    if (logs.length === 0) return [];
    const { session, main } = this.#context;
    const all = (await session.call(main, 'status', sitesOf(logs))) as (Status | null)[];
    return logs.map((log, index) => [log, all[index] ?? { hits: 0, escaped: 0, holders: 0 }]);
  }

  /** Their breakpoints go on counting calls until something else is in place, or nothing has been for a while. */
  async unreached(logs: readonly BindLog[]): Promise<void> {
    const reason = 'the binding is not reached from inside the function';
    for (const log of logs) {
      log.phase = 'settled';
      clearTimeout(log.timer);
      const { site } = log.item;
      this.#context.events.onArmed({ site, state: 'failed', pauseMs: log.pauseMs, reason });
      const close = async (): Promise<void> => {
        await this.#context.removeBreakpoint(log);
        await this.#context.idle();
      };
      log.timer = setTimeout(() => void this.#context.step(close).catch(() => undefined), ESCAPE_MS);
    }
  }

  async fail(logs: readonly BindLog[], reason: string): Promise<void> {
    for (const log of logs) {
      if (log.phase === 'settled') continue;
      log.phase = 'settled';
      clearTimeout(log.timer);
      await this.#context.removeBreakpoint(log).catch(() => undefined);
      const { site } = log.item;
      this.#context.events.onArmed({ site, state: 'failed', pauseMs: log.pauseMs, reason });
    }
  }

  /** Scopes of the original, as objects whose properties are its variables. No pause is needed to read them. */
  async #scopesOf(site: number): Promise<{ objectId: string }[]> {
    const { session, main } = this.#context;
    const args = [{ value: site }, { value: true }];
    const original = await session.callRaw(main, 'constant', args, false);
    if (original.objectId === undefined) return [];
    type Property = { name: string; value?: { objectId?: string; description?: string } };
    type Properties = { result: Property[]; internalProperties?: Property[] };
    const properties = async (objectId: string): Promise<Properties> =>
      (await session.post('Runtime.getProperties', { objectId, ownProperties: true })) as Properties;
    const { internalProperties = [] } = await properties(original.objectId);
    const list = internalProperties.find(({ name }) => name === '[[Scopes]]')?.value?.objectId;
    if (list === undefined) return [];
    const { result } = await properties(list);
    const scopes: { objectId: string }[] = [];
    for (const { value } of result) {
      if (value?.objectId !== undefined && value.description !== 'Global')
        scopes.push({ objectId: value.objectId });
    }
    return scopes;
  }
}

const sitesOf = (logs: readonly BindLog[]): number[] => logs.map(({ item }) => item.site);
