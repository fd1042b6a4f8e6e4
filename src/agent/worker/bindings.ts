/** Replacing bindings at the first natural call, and knowing what comes past them. */

import type { HookNotice } from '../arming/arming.ts';
import { type ArmContext, reasonOf, SELF } from './arm-context.ts';
import { Constants } from './constants.ts';
import type { ArmResult, BindItem } from './requests.ts';

/** A breakpoint whose function is hardly called is removed after this long; its binding is replaced by then or not. */
const WINDOW_MS = 250;
/** When a binding is looked at again. */
const VERIFY_MS = 1000;
/** How long the tracer may take to put a live edit in the place of a binding that calls come past. */
const ESCAPE_MS = 1500;

interface BindLog {
  readonly item: BindItem;
  breakpoint: string | undefined;
  bound: boolean;
  constant: boolean;
  pauseMs: number;
  /** The window after the first call; a pause; a second window; nothing more to come. */
  phase: 'window' | 'pause' | 'verify' | 'settled';
  told: boolean;
  /** Calls have escaped in a window before: the next one is over only when a call has shown whether they still do. */
  suspect: boolean;
  deoptimized: boolean;
  /** Calls that came past the binding before the code that made them was thrown away. */
  escapedBefore: number;
  timer: NodeJS.Timeout | undefined;
}

export class Bindings {
  readonly #context: ArmContext;
  readonly #constants: Constants;
  // the undo log
  readonly #binds = new Map<number, BindLog>();

  constructor(context: ArmContext) {
    this.#context = context;
    this.#constants = new Constants(context);
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

  /** Another breakpoint takes the place of the one that waits for the first call. */
  async giveUp(site: number): Promise<void> {
    const bind = this.#binds.get(site);
    if (bind === undefined || bind.bound) return;
    clearTimeout(bind.timer);
    await this.#context.removeBreakpoint(bind).catch(() => undefined);
  }

  async add(items: readonly BindItem[]): Promise<ArmResult[]> {
    await this.#context.prepareHooks(items.map(({ site }) => site));
    await this.#context.session.call(this.#context.main, 'expect', items);
    await this.#context.code.prepare();
    const results: ArmResult[] = [];
    for (const item of items) {
      const log: BindLog = {
        item,
        breakpoint: undefined,
        bound: false,
        constant: false,
        pauseMs: 0,
        phase: 'window',
        told: false,
        suspect: false,
        deoptimized: false,
        escapedBefore: 0,
        timer: undefined,
      };
      this.#binds.set(item.site, log);
      try {
        this.#context.goOn();
        const set = await this.#context.session.stopping('set breakpoint', () =>
          this.#context.setBreakpoint(item.at, this.#condition(item)),
        );
        log.breakpoint = set.value;
        log.pauseMs = set.ms;
        results.push({ kind: 'bind', sites: [item.site], ok: true, pauseMs: set.ms });
      } catch (error) {
        this.#binds.delete(item.site);
        results.push({ kind: 'bind', sites: [item.site], ok: false, pauseMs: 0, reason: reasonOf(error) });
      }
    }
    return results;
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
    if (state === 'crowded' && this.#mayDeoptimize(log))
      void this.#startAnew(log, true).catch(() => undefined);
    else if (once || state === 'settled' || far) void this.#close(log).catch(() => undefined);
    acknowledge();
    if (far) return;
    void this.#context
      .step(() => this.#advance(log, notice))
      .catch((error) => this.#fail(log, reasonOf(error)));
  }

  /** Takes the breakpoint away; what escapes from there on is estimated. */
  async #close(log: BindLog): Promise<void> {
    await Promise.all([
      this.#context.removeBreakpoint(log),
      this.#context.session.call(this.#context.main, 'leaveWindow', log.item.site),
    ]);
  }

  #mayDeoptimize({ deoptimized, item }: BindLog): boolean {
    return item.deoptimize !== 'never' && !deoptimized && item.target.via === 'variable';
  }

  /** Escapes are counted anew, from when the references and the code are gone that led past the wrapper. */
  async #startAnew(log: BindLog, deoptimize: boolean): Promise<void> {
    if (deoptimize) log.deoptimized = true;
    // posted in this order
    const thrownAway = deoptimize ? this.deoptimize() : undefined;
    const escaped = this.#context.session.call(this.#context.main, 'newWindow', log.item.site);
    await Promise.all([thrownAway, escaped]);
    log.suspect ||= Number(await escaped) > 0;
  }

  async #advance(log: BindLog, { state }: HookNotice): Promise<void> {
    const { site } = log.item;
    if (!this.#binds.has(site) || log.phase === 'settled' || log.phase === 'pause') return;
    if (state === 'window') return this.#openWindow(log);
    if (state === 'missed') return this.#unreached(log);
    if (state === 'settled') return this.#settle(log);
    if (state === 'escaping') return this.#tellEscapes(log);
    if (state === 'const') {
      log.constant = true;
      log.pauseMs = Math.max(log.pauseMs, await this.#constants.set(log.item, false));
    }
    log.bound = true;
    const scopes = await this.#scopesOf(site);
    const walk = await this.#context.session.stopping('replace holders', () =>
      this.#context.session.callRaw(
        this.#context.main,
        'replaceHolders',
        [{ value: [site] }, ...scopes],
        true,
      ),
    );
    log.pauseMs = Math.max(log.pauseMs, walk.ms);
    await this.#startAnew(log, log.item.deoptimize === 'now' && this.#mayDeoptimize(log));
    this.#context.events.onArmed({
      site,
      state: 'bound',
      pauseMs: log.pauseMs,
      holders: Number(walk.value.value),
    });
    if (log.breakpoint === undefined) return this.#settle(log);
    this.#lookAgain(log, WINDOW_MS);
  }

  #lookAgain(log: BindLog, ms: number): void {
    log.timer = setTimeout(
      () => void this.#context.step(() => this.#windowOver(log)).catch(() => undefined),
      ms,
    );
  }

  async #windowOver(log: BindLog): Promise<void> {
    if (log.phase === 'settled') return;
    const status = await this.#status(log);
    if (log.breakpoint === undefined) await this.#settle(log);
    else if (status.escaped > 0) await this.#tellEscapes(log, status);
    else if (log.suspect && status.hits <= 1) this.#lookAgain(log, VERIFY_MS);
    else await this.#settle(log);
  }

  /** A second window, now that the code that calls the function is hot again; open until it has been called. */
  async #verify(log: BindLog): Promise<void> {
    const { item } = log;
    if (log.phase !== 'pause' || !this.#binds.has(item.site)) return;
    log.phase = 'verify';
    log.told = false;
    // code that V8 was still optimizing while all was thrown away has the old function in it too
    log.deoptimized = false;
    await this.#context.session.call(this.#context.main, 'reopenWindow', item.site);
  }

  async #openWindow(log: BindLog): Promise<void> {
    const { item } = log;
    if (log.phase !== 'verify' || log.breakpoint !== undefined || !this.#binds.has(item.site)) return;
    const set = await this.#context.session.stopping('set breakpoint', () =>
      this.#context.setBreakpoint(item.at, this.#condition(item)),
    );
    log.breakpoint = set.value;
    log.suspect = true;
    this.#lookAgain(log, WINDOW_MS);
  }

  async #status({ item }: BindLog): Promise<{ hits: number; escaped: number; holders: number }> {
    const status = await this.#context.session.call(this.#context.main, 'status', item.site);
    return (status ?? { hits: 0, escaped: 0, holders: 0 }) as {
      hits: number;
      escaped: number;
      holders: number;
    };
  }

  /** The tracer decides: a live edit, or to leave it at the number (`closeWindow`). */
  async #tellEscapes(
    log: BindLog,
    known?: { hits: number; escaped: number; holders: number },
  ): Promise<void> {
    if (log.told) return;
    const { hits, escaped, holders } = known ?? (await this.#status(log));
    // told before a new window began
    if (escaped === 0) return;
    clearTimeout(log.timer);
    if (this.#mayDeoptimize(log)) {
      // in the first window each of them was counted; what came past between the two was not
      if (log.phase === 'verify') log.escapedBefore += escaped;
      await this.#startAnew(log, true);
      this.#lookAgain(log, WINDOW_MS);
      return;
    }
    log.told = true;
    const { site } = log.item;
    this.#context.events.onArmed({
      site,
      state: 'escaping',
      pauseMs: log.pauseMs,
      calls: hits,
      escaped,
      holders,
    });
    log.timer = setTimeout(() => void this.closeWindow([site]).catch(() => undefined), ESCAPE_MS);
  }

  /**
   * Code that V8 optimized while nobody had ever assigned the binding has the function in it as a constant. The debugger has to be
   * enabled. What throws the code away is posted at once.
   */
  async deoptimize(): Promise<void> {
    const { code, session } = this.#context;
    await session.stopping('deoptimize', () => code.discard());
    await code.release();
  }

  closeWindow(sites: readonly number[]): Promise<void> {
    return this.#context.step(async () => {
      for (const site of sites) {
        const log = this.#binds.get(site);
        if (log !== undefined) await this.#settle(log);
      }
    });
  }

  /** The window is over: how many calls came past the wrapper while it was open. */
  async #settle(log: BindLog): Promise<void> {
    clearTimeout(log.timer);
    const again = log.phase === 'verify';
    if (log.phase === 'settled') return;
    log.phase = 'settled';
    await this.#close(log);
    if (log.item.verify && !again && log.bound) {
      log.phase = 'pause';
      log.timer = setTimeout(
        () => void this.#context.step(() => this.#verify(log)).catch(() => undefined),
        VERIFY_MS,
      );
    }
    const { site } = log.item;
    const status = await this.#status(log);
    this.#context.events.onArmed({
      site,
      state: 'settled',
      pauseMs: log.pauseMs,
      calls: status.hits,
      escaped: status.escaped + log.escapedBefore,
      holders: status.holders,
    });
    await this.#context.idle();
  }

  /** Its breakpoint goes on counting calls until something else is in place, or nothing has been for a while. */
  #unreached(log: BindLog): void {
    log.phase = 'settled';
    clearTimeout(log.timer);
    const reason = 'the binding is not reached from inside the function';
    this.#context.events.onArmed({ site: log.item.site, state: 'failed', pauseMs: log.pauseMs, reason });
    const close = async (): Promise<void> => {
      await this.#context.removeBreakpoint(log);
      await this.#context.idle();
    };
    log.timer = setTimeout(() => void this.#context.step(close).catch(() => undefined), ESCAPE_MS);
  }

  async #fail(log: BindLog, reason: string): Promise<void> {
    if (log.phase === 'settled') return;
    log.phase = 'settled';
    clearTimeout(log.timer);
    await this.#context.removeBreakpoint(log).catch(() => undefined);
    this.#context.events.onArmed({ site: log.item.site, state: 'failed', pauseMs: log.pauseMs, reason });
  }

  /** Scopes of the original, as objects whose properties are its variables. No pause is needed to read them. */
  async #scopesOf(site: number): Promise<{ objectId: string }[]> {
    const original = await this.#context.session.callRaw(
      this.#context.main,
      'constant',
      [{ value: site }, { value: true }],
      false,
    );
    if (original.objectId === undefined) return [];
    type Property = { name: string; value?: { objectId?: string; description?: string } };
    const properties = async (
      objectId: string,
    ): Promise<{ result: Property[]; internalProperties?: Property[] }> =>
      (await this.#context.session.post('Runtime.getProperties', { objectId, ownProperties: true })) as {
        result: Property[];
        internalProperties?: Property[];
      };
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

  /** Strikes sites out of the log, their breakpoints removed and their constants restored, for the caller to undo the rest. */
  async take(chosen: (site: number) => boolean): Promise<{ sites: number[]; stale: boolean }> {
    const sites: number[] = [];
    let stale = false;
    for (const [site, log] of this.#binds) {
      if (!chosen(site)) continue;
      clearTimeout(log.timer);
      log.phase = 'settled';
      await this.#context.attempt('its breakpoint', [site], `breakpoint ${site}`, () =>
        this.#context.removeBreakpoint(log),
      );
      if (log.constant && log.bound) {
        await this.#context.attempt('its replaced constant', [site], `constant ${site}`, () =>
          this.#constants.set(log.item, true),
        );
      }
      sites.push(site);
      stale ||= log.bound && log.item.deoptimize === 'now' && log.item.target.via === 'variable';
      this.#binds.delete(site);
    }
    return { sites, stale };
  }
}
