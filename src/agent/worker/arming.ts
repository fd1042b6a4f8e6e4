/**
 * Arming with an undo log. Each action on the target is entered in the log before it is taken and struck out when it is
 * undone, so that everything can be put back at any moment: when the tracer says so, and when its socket drops.
 */

import type { BreakSlice, HookNotice } from '../arming/arming.ts';
import type {
  ArmedNotice,
  ArmItem,
  ArmResult,
  BindItem,
  BreakItem,
  EditItem,
  NopItem,
  PropertyItem,
  RestoreReport,
} from './requests.ts';
import type { Scripts } from './scripts.ts';
import { InspectorError, type MainSession } from './session.ts';

/** The main thread has to come to an asked-for pause within this time; a paused one is let go at the latest then. */
const PAUSE_WATCHDOG_MS = 2000;
const EDIT_TRIES = 6;
const EDIT_RETRY_MS = 30;
/** A breakpoint whose function is hardly called is removed after this long; its binding is replaced by then or not. */
const WINDOW_MS = 250;
/** When a binding is looked at again. */
const VERIFY_MS = 1000;
/** How long the tracer may take to put a live edit in the place of a binding that calls come past. */
const ESCAPE_MS = 1500;
/** A text has to go back: it is tried for this long, then its hooks stay behind, inert. */
const RESTORE_MS = 5000;
/** Share of the main thread's time that breakpoint probes may take, and the slice it is measured in. */
const BREAK_SHARE = 0.1;
const BREAK_SLICE_MS = 250;
/** A breakpoint with this share of a slice's hits is removed while they are off. */
const HOT_SHARE = 0.1;

/** `this` of the frame; before super() there is none. */
const SELF = '(()=>{try{return this}catch{}})()';

interface CallFrame {
  readonly callFrameId: string;
  readonly scopeChain: readonly { type: string; object: { objectId?: string } }[];
}

interface BindLog {
  readonly item: BindItem;
  breakpoint: string | undefined;
  bound: boolean;
  constant: boolean;
  pauseMs: number;
  /** The window after the first call; a pause; a second window; nothing more to come. */
  phase: 'window' | 'pause' | 'verify' | 'settled';
  told: boolean;
  deoptimized: boolean;
  timer: NodeJS.Timeout | undefined;
}

interface BreakLog {
  readonly item: BreakItem;
  breakpoint: string | undefined;
  /** Hits that came while breakpoints were off, by their rate before. */
  missed: number;
}

export interface ArmingEvents {
  onArmed(notice: ArmedNotice): void;
  onWarning(message: string): void;
}

const delay = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

export class WorkerArming {
  readonly #session: MainSession;
  readonly #events: ArmingEvents;
  /** Handles of the agent and of the rebinding half, once a program is loaded. */
  readonly #agent: string;
  readonly #main: string;
  readonly #scripts: Scripts;
  #hookName = '';
  // the undo log
  readonly #binds = new Map<number, BindLog>();
  readonly #nops = new Map<number, NopItem>();
  readonly #properties = new Map<number, PropertyItem>();
  readonly #edits = new Map<string, EditItem>();
  readonly #breaks = new Map<number, BreakLog>();
  /** Runs while the breakpoints of the session are off: their budget is used up. */
  #breakTimer: NodeJS.Timeout | undefined;
  #closed = false;
  readonly #failures: string[] = [];
  #restored = { functions: 0, bytes: 0 };
  #work: Promise<unknown> = Promise.resolve();
  #onPaused: ((frames: readonly CallFrame[]) => Promise<void>) | undefined;

  constructor(session: MainSession, scripts: Scripts, agent: string, main: string, events: ArmingEvents) {
    this.#session = session;
    this.#scripts = scripts;
    this.#agent = agent;
    this.#main = main;
    this.#events = events;
    session.on(
      'Debugger.paused',
      (message) => void this.#paused(message.params as { callFrames: CallFrame[] }),
    );
  }

  /** One thing at a time: notices of hooks and requests of the tracer both change the target. */
  #serial<T>(operation: () => Promise<T>): Promise<T> {
    const result = this.#work.then(operation, operation);
    this.#work = result.catch(() => undefined);
    return result;
  }

  arm(items: readonly ArmItem[]): Promise<ArmResult[]> {
    return this.#serial(async () => {
      const results: ArmResult[] = [];
      if (this.#closed) throw new InspectorError('the session ends');
      for (const item of items) {
        if (item.kind === 'nop') results.push(await this.#guard(item, [item.site], () => this.#nop(item)));
      }
      for (const item of items) {
        if (item.kind === 'property')
          results.push(await this.#guard(item, [item.site], () => this.#property(item)));
      }
      // edits before breakpoints: an edit drops those of its script
      for (const item of items) {
        if (item.kind === 'edit') results.push(await this.#guard(item, item.sites, () => this.#edit(item)));
      }
      const binds = items.filter((item) => item.kind === 'bind');
      if (binds.length > 0) results.push(...(await this.#bindAll(binds)));
      for (const item of items) {
        if (item.kind === 'break')
          results.push(await this.#guard(item, [item.site], () => this.#break(item)));
      }
      return results;
    });
  }

  async #guard(
    item: ArmItem,
    sites: readonly number[],
    operation: () => Promise<number>,
  ): Promise<ArmResult> {
    try {
      return { kind: item.kind, sites, ok: true, pauseMs: await operation() };
    } catch (error) {
      return { kind: item.kind, sites, ok: false, pauseMs: 0, reason: reasonOf(error) };
    }
  }

  // compiled-in sites

  async #nop(item: NopItem): Promise<number> {
    this.#nops.set(item.site, item);
    const { value, ms } = await this.#session.stopping('arm site', () =>
      this.#session.call(this.#main, 'armSite', item),
    );
    if (value === true) return ms;
    this.#nops.delete(item.site);
    throw new InspectorError('no site is compiled in there');
  }

  // property

  async #property(item: PropertyItem): Promise<number> {
    const found = await this.#session.stopping('find property', () =>
      this.#session.call(this.#main, 'find', item),
    );
    if (found.value !== true) throw new InspectorError('no property of its module leads to it');
    if (item.scriptId !== undefined && !(await this.#isAt(item)))
      throw new InspectorError('another function is there');
    this.#properties.set(item.site, item);
    const bound = await this.#session.stopping('replace property', () =>
      this.#session.call(this.#main, 'bindProperty', item.site),
    );
    if (bound.value !== true) {
      this.#properties.delete(item.site);
      throw new InspectorError('the property is frozen');
    }
    return Math.max(found.ms, bound.ms);
  }

  /** V8's own word for where a function is, which needs no debugger. */
  async #isAt(item: PropertyItem): Promise<boolean> {
    const candidate = await this.#session.callRaw(this.#main, 'candidate', [{ value: item.site }], false);
    if (candidate.objectId === undefined) return false;
    const { internalProperties = [] } = (await this.#session.post('Runtime.getProperties', {
      objectId: candidate.objectId,
      ownProperties: true,
    })) as { internalProperties?: { name: string; value?: { value?: { scriptId?: string } } }[] };
    const location = internalProperties.find(({ name }) => name === '[[FunctionLocation]]');
    return location?.value?.value?.scriptId === item.scriptId;
  }

  // bind

  async #bindAll(items: readonly BindItem[]): Promise<ArmResult[]> {
    await this.#prepareHooks(items.map(({ site }) => site));
    await this.#session.call(this.#main, 'expect', items);
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
        deoptimized: false,
        timer: undefined,
      };
      this.#binds.set(item.site, log);
      try {
        const set = await this.#session.stopping('set breakpoint', () =>
          this.#setBreakpoint(item.at, this.#condition(item)),
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

  /** What conditions call: the hook for all of them, and each site's own. */
  async #prepareHooks(sites: readonly number[]): Promise<void> {
    await this.#scripts.enable();
    if (this.#hookName === '') this.#hookName = String(await this.#session.call(this.#main, 'hookName'));
    await this.#session.call(this.#main, 'installHook');
    await this.#session.call(this.#agent, 'installHooks', sites, []);
  }

  #condition({ site, target, args }: BindItem): string {
    const hook = `globalThis[${JSON.stringify(this.#hookName)}]`;
    const value = `${this.#hookName}v`;
    const name = target.via === 'variable' ? target.name : target.className;
    const get = name === undefined ? 'undefined' : `()=>${name}`;
    const set =
      target.via === 'variable' && !target.constant ? `(${value})=>{${target.name}=${value}}` : 'undefined';
    return `${hook}(${site},${get},${set},()=>{debugger},${SELF},()=>[${args}])`;
  }

  async #setBreakpoint(location: object, condition: string): Promise<string> {
    const reply = await this.#session.post('Debugger.setBreakpoint', { location, condition });
    return (reply as { breakpointId: string }).breakpointId;
  }

  #removeBreakpoint(log: { breakpoint: string | undefined }): Promise<unknown> {
    const { breakpoint } = log;
    log.breakpoint = undefined;
    if (breakpoint === undefined) return Promise.resolve();
    return this.#session.post('Debugger.removeBreakpoint', { breakpointId: breakpoint });
  }

  /**
   * A hook of the main thread speaks; it waits for `acknowledge`, so that a breakpoint whose every hit is dear is gone
   * before the function is called again.
   */
  onHook(notice: HookNotice, acknowledge: () => void): void {
    if (this.#breaks.has(notice.site)) {
      this.#limit();
      acknowledge();
      return;
    }
    const log = this.#binds.get(notice.site);
    if (log === undefined) {
      acknowledge();
      return;
    }
    const { state } = notice;
    const once = log.item.window <= 1 && (state === 'bound' || state === 'const');
    if (once || state === 'settled' || state === 'drop')
      void this.#removeBreakpoint(log).catch(() => undefined);
    acknowledge();
    if (state === 'drop') return;
    void this.#serial(() => this.#advance(log, notice)).catch((error) => this.#fail(log, reasonOf(error)));
  }

  async #advance(log: BindLog, { state }: HookNotice): Promise<void> {
    const { site } = log.item;
    if (!this.#binds.has(site) || log.phase === 'settled' || log.phase === 'pause') return;
    if (state === 'missed') return this.#unreached(log);
    if (state === 'settled') return this.#settle(log);
    if (state === 'escaping') return this.#tellEscapes(log);
    if (state === 'const') {
      log.constant = true;
      await this.#setConstant(log, false);
    }
    log.bound = true;
    const scopes = await this.#scopesOf(site);
    const walk = await this.#session.stopping('replace holders', () =>
      this.#session.callRaw(this.#main, 'replaceHolders', [{ value: [site] }, ...scopes], true),
    );
    log.pauseMs = Math.max(log.pauseMs, walk.ms);
    if (log.item.deoptimize === 'now' && log.item.target.via === 'variable') {
      log.deoptimized = true;
      await this.#deoptimize();
    }
    this.#events.onArmed({ site, state: 'bound', pauseMs: log.pauseMs, holders: Number(walk.value.value) });
    if (log.breakpoint === undefined) return this.#settle(log);
    log.timer = setTimeout(
      () => void this.#serial(() => this.#windowOver(log)).catch(() => undefined),
      WINDOW_MS,
    );
  }

  async #windowOver(log: BindLog): Promise<void> {
    if (log.phase === 'settled') return;
    const status = await this.#status(log);
    if (status.escaped > 0 && log.breakpoint !== undefined) this.#tellEscapes(log, status);
    else await this.#settle(log);
  }

  /** A second window, now that the code that calls the function is hot again; open until it has been called. */
  async #verify(log: BindLog): Promise<void> {
    const { item } = log;
    if (log.phase !== 'pause' || !this.#binds.has(item.site)) return;
    log.phase = 'verify';
    log.told = false;
    await this.#session.call(this.#main, 'newWindow', item.site);
    const set = await this.#session.stopping('set breakpoint', () =>
      this.#setBreakpoint(item.at, this.#condition(item)),
    );
    log.breakpoint = set.value;
    const look = async (): Promise<void> => {
      if (log.phase !== 'verify') return;
      const { hits } = await this.#status(log);
      if (hits > 1) await this.#windowOver(log);
      else log.timer = setTimeout(() => void this.#serial(look).catch(() => undefined), VERIFY_MS);
    };
    log.timer = setTimeout(() => void this.#serial(look).catch(() => undefined), WINDOW_MS);
  }

  async #status({ item }: BindLog): Promise<{ hits: number; escaped: number; holders: number }> {
    const status = await this.#session.call(this.#main, 'status', item.site);
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
    clearTimeout(log.timer);
    if (log.item.deoptimize !== 'never' && !log.deoptimized && log.item.target.via === 'variable') {
      log.deoptimized = true;
      await this.#deoptimize();
      await this.#session.call(this.#main, 'newWindow', log.item.site);
      log.timer = setTimeout(
        () => void this.#serial(() => this.#windowOver(log)).catch(() => undefined),
        WINDOW_MS,
      );
      return;
    }
    log.told = true;
    const { hits, escaped, holders } = known ?? (await this.#status(log));
    const { site } = log.item;
    this.#events.onArmed({ site, state: 'escaping', pauseMs: log.pauseMs, calls: hits, escaped, holders });
    log.timer = setTimeout(() => void this.closeWindow([site]).catch(() => undefined), ESCAPE_MS);
  }

  /**
   * Code that V8 optimized while nobody had ever assigned the binding has the function in it as a constant. Precise call
   * counts are not kept by optimized code, so that switching them on throws all of it away.
   */
  async #deoptimize(): Promise<void> {
    await this.#session.stopping('deoptimize', async () => {
      const done = [
        this.#session.post('Profiler.enable'),
        this.#session.post('Profiler.startPreciseCoverage', { callCount: true, detailed: false }),
        this.#session.post('Profiler.stopPreciseCoverage'),
        this.#session.post('Profiler.disable'),
      ];
      await Promise.all(done);
    });
  }

  closeWindow(sites: readonly number[]): Promise<void> {
    return this.#serial(async () => {
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
    await this.#removeBreakpoint(log);
    if (log.item.verify && !log.deoptimized && !again && log.bound) {
      log.phase = 'pause';
      log.timer = setTimeout(
        () => void this.#serial(() => this.#verify(log)).catch(() => undefined),
        VERIFY_MS,
      );
    }
    const { site } = log.item;
    const status = await this.#status(log);
    this.#events.onArmed({
      site,
      state: 'settled',
      pauseMs: log.pauseMs,
      calls: status.hits,
      escaped: status.escaped,
      holders: status.holders,
    });
    await this.#idle();
  }

  /** Its breakpoint goes on counting calls until something else is in place, or nothing has been for a while. */
  #unreached(log: BindLog): void {
    log.phase = 'settled';
    clearTimeout(log.timer);
    const reason = 'the binding is not reached from inside the function';
    this.#events.onArmed({ site: log.item.site, state: 'failed', pauseMs: log.pauseMs, reason });
    const close = async (): Promise<void> => {
      await this.#removeBreakpoint(log);
      await this.#idle();
    };
    log.timer = setTimeout(() => void this.#serial(close).catch(() => undefined), ESCAPE_MS);
  }

  async #fail(log: BindLog, reason: string): Promise<void> {
    if (log.phase === 'settled') return;
    log.phase = 'settled';
    clearTimeout(log.timer);
    await this.#removeBreakpoint(log).catch(() => undefined);
    this.#events.onArmed({ site: log.item.site, state: 'failed', pauseMs: log.pauseMs, reason });
  }

  /** Scopes of the original, as objects whose properties are its variables. No pause is needed to read them. */
  async #scopesOf(site: number): Promise<{ objectId: string }[]> {
    const original = await this.#session.callRaw(
      this.#main,
      'constant',
      [{ value: site }, { value: true }],
      false,
    );
    if (original.objectId === undefined) return [];
    type Property = { name: string; value?: { objectId?: string; description?: string } };
    const properties = async (
      objectId: string,
    ): Promise<{ result: Property[]; internalProperties?: Property[] }> =>
      (await this.#session.post('Runtime.getProperties', { objectId, ownProperties: true })) as {
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

  // constants: a real pause, for two round trips inside this process

  async #setConstant(log: BindLog, original: boolean): Promise<void> {
    const { target, site } = log.item;
    if (target.via !== 'variable') return;
    let done: string | undefined;
    const paused = this.#nextPause(async (frames) => {
      const value = await this.#session.callRaw(
        this.#main,
        'constant',
        [{ value: site }, { value: original }],
        false,
      );
      done = await this.#assign(frames[0], target.name, value.objectId);
    });
    await this.#session.post('Debugger.setSkipAllPauses', { skip: false });
    try {
      await this.#session.call(this.#main, 'enterScope', site);
      await paused;
    } finally {
      await this.#session.post('Debugger.setSkipAllPauses', { skip: true });
    }
    const pauseMs = Number(await this.#session.call(this.#main, 'scopeMs', site));
    this.#session.note('replace constant', pauseMs);
    log.pauseMs = Math.max(log.pauseMs, pauseMs);
    if (done !== undefined) throw new InspectorError(done);
    if (!original && (await this.#session.call(this.#main, 'constantDone', site)) !== true) {
      throw new InspectorError('the constant could not be replaced');
    }
  }

  async #assign(
    frame: CallFrame | undefined,
    name: string,
    objectId: string | undefined,
  ): Promise<string | undefined> {
    if (frame === undefined || objectId === undefined) return 'no frame to assign in';
    let reason = `no variable ${name} in scope`;
    for (const [scopeNumber, scope] of frame.scopeChain.entries()) {
      if (scope.type === 'global' || scope.object.objectId === undefined) continue;
      const { result } = (await this.#session.post('Runtime.getProperties', {
        objectId: scope.object.objectId,
        ownProperties: true,
      })) as { result: { name: string }[] };
      if (!result.some((property) => property.name === name)) continue;
      try {
        const newValue = { objectId };
        const { callFrameId } = frame;
        await this.#session.post('Debugger.setVariableValue', {
          scopeNumber,
          variableName: name,
          newValue,
          callFrameId,
        });
        return undefined;
      } catch (error) {
        reason = reasonOf(error);
      }
    }
    return reason;
  }

  #nextPause(action: (frames: readonly CallFrame[]) => Promise<void>): Promise<void> {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#onPaused = undefined;
        void this.#session.post('Debugger.resume').catch(() => undefined);
        reject(new InspectorError('the main thread did not come to the pause in time'));
      }, PAUSE_WATCHDOG_MS);
      this.#onPaused = async (frames) => {
        this.#onPaused = undefined;
        try {
          await action(frames);
          resolve();
        } catch (error) {
          reject(error as Error);
        } finally {
          clearTimeout(timer);
        }
      };
    });
  }

  /** Every pause ends here: the one that was asked for after its action, any other (a `debugger` statement) at once. */
  async #paused({ callFrames }: { callFrames: readonly CallFrame[] }): Promise<void> {
    try {
      await this.#onPaused?.(callFrames);
    } finally {
      await this.#session.post('Debugger.resume').catch(() => undefined);
    }
  }

  // edit

  async #edit(item: EditItem): Promise<number> {
    await this.#scripts.enable();
    const before = this.#edits.get(item.scriptId);
    await this.#session.call(this.#agent, 'installHooks', item.sites, item.texts);
    this.#edits.set(item.scriptId, before === undefined ? item : { ...item, original: before.original });
    try {
      // breakpoints go with the old text: of these sites no call counts twice
      const quiet = item.replaces.filter((site) => this.#binds.get(site)?.bound === true);
      const ms = await this.#setSource(item.scriptId, item.edited, quiet);
      await this.#undoBindings((site) => item.replaces.includes(site));
      await this.#undoBreaks((site) => item.replaces.includes(site));
      if (quiet.length > 0) await this.#session.call(this.#agent, 'enable', quiet);
      return ms;
    } catch (error) {
      if (before === undefined) this.#edits.delete(item.scriptId);
      else this.#edits.set(item.scriptId, before);
      const added = item.sites.filter(
        (site) => !before?.sites.includes(site) && !item.replaces.includes(site),
      );
      await this.#session.call(this.#agent, 'removeHooks', added);
      throw error;
    }
  }

  /**
   * `quiet` are sites that are armed in another way too until that is undone: off from the edit on, in the same batch,
   * so that no call counts twice.
   */
  async #setSource(
    scriptId: string,
    scriptSource: string,
    quiet: readonly number[] = [],
    patienceMs = EDIT_TRIES * EDIT_RETRY_MS,
  ): Promise<number> {
    let status = '';
    let longest = 0;
    const since = performance.now();
    for (let attempt = 0; attempt < EDIT_TRIES || performance.now() - since < patienceMs; attempt++) {
      if (attempt > 0) await delay(EDIT_RETRY_MS * Math.min(attempt, EDIT_TRIES));
      const { value, ms } = await this.#session.stopping('live edit', async () => {
        const off = quiet.length === 0 ? undefined : this.#session.call(this.#agent, 'disable', quiet);
        const edit = this.#session.post('Debugger.setScriptSource', { scriptId, scriptSource });
        await off;
        return await edit;
      });
      longest = Math.max(longest, ms);
      const reply = value as {
        status?: string;
        exceptionDetails?: { exception?: { description?: string }; text?: string };
      };
      status = reply.status ?? 'Ok';
      if (status === 'Ok' && reply.exceptionDetails === undefined) return longest;
      if (quiet.length > 0) await this.#session.call(this.#agent, 'enable', quiet);
      if (status === 'CompileError' || reply.exceptionDetails !== undefined) {
        const { exception, text } = reply.exceptionDetails ?? {};
        throw new InspectorError(
          `the edited text does not compile: ${exception?.description ?? text ?? status}`,
        );
      }
    }
    throw new InspectorError(`V8 refuses the edit: ${status}`);
  }

  // break

  async #break(item: BreakItem): Promise<number> {
    await this.#prepareHooks([item.site]);
    const bind = this.#binds.get(item.site);
    if (bind !== undefined && !bind.bound) {
      clearTimeout(bind.timer);
      await this.#removeBreakpoint(bind).catch(() => undefined);
    }
    const before = this.#breaks.get(item.site);
    if (before !== undefined) await this.#removeBreakpoint(before).catch(() => undefined);
    const log: BreakLog = { item, breakpoint: undefined, missed: before?.missed ?? 0 };
    this.#breaks.set(item.site, log);
    await this.#session.call(this.#main, 'expectBreak', item.site, item.firstMs, item.nextMs);
    try {
      return await this.#setBreak(log);
    } catch (error) {
      this.#breaks.delete(item.site);
      throw error;
    }
  }

  async #setBreak(log: BreakLog): Promise<number> {
    const { site, at, args } = log.item;
    const hook = `globalThis[${JSON.stringify(this.#hookName)}]`;
    const condition = `${hook}(${site},undefined,undefined,undefined,${SELF},()=>[${args}])`;
    const { value, ms } = await this.#session.stopping('set breakpoint', () =>
      this.#setBreakpoint(at, condition),
    );
    log.breakpoint = value;
    return ms;
  }

  /**
   * Breakpoint probes have used up their share of the main thread's time, all together: they are switched off until the
   * next slice. That is done at once and walks no heap, but each call still passes the place, which takes microseconds, and
   * is not optimized: those hit most are removed too, which makes the pause the longer the longer it takes to set them
   * again. Bindings that wait for their first call wait so long too. What is missed is known by the rate before only.
   */
  #limit(): void {
    if (this.#breakTimer !== undefined) return;
    const off = this.#session.post('Debugger.setBreakpointsActive', { active: false });
    const since = performance.now();
    this.#breakTimer = setTimeout(() => undefined, BREAK_SLICE_MS);
    void this.#serial(async () => {
      await off;
      const slice = (await this.#session.call(this.#main, 'breakSlice')) as BreakSlice;
      const all = slice.hits.reduce((sum, [, hits]) => sum + hits, 0);
      const hot: BreakLog[] = [];
      for (const [site, hits] of slice.hits) {
        const log = this.#breaks.get(site);
        if (log === undefined || hits < all * HOT_SHARE) continue;
        await this.#removeBreakpoint(log);
        hot.push(log);
      }
      const tookMs = Math.max(1, slice.tookMs);
      const setMs = hot.length * (this.#session.longest.get('set breakpoint') ?? 0);
      const waitMs = Math.max(BREAK_SLICE_MS, (slice.spentMs + setMs) / BREAK_SHARE) - tookMs;
      clearTimeout(this.#breakTimer);
      this.#breakTimer = setTimeout(() => this.#activate(slice, hot, tookMs, since), Math.max(1, waitMs));
    }).catch((error) => this.#activationFailed(error));
  }

  #activate(slice: BreakSlice, hot: readonly BreakLog[], tookMs: number, since: number): void {
    void this.#serial(async () => {
      this.#breakTimer = undefined;
      if (this.#closed) return;
      for (const log of hot) {
        if (this.#breaks.get(log.item.site) === log && log.breakpoint === undefined)
          await this.#setBreak(log);
      }
      await this.#session.call(this.#main, 'newBreakSlice');
      await this.#session.post('Debugger.setBreakpointsActive', { active: true });
      for (const [site, hits] of slice.hits) {
        const log = this.#breaks.get(site);
        if (log === undefined) continue;
        log.missed += Math.round(((performance.now() - since) * hits) / tookMs);
        this.#events.onArmed({ site, state: 'limited', pauseMs: 0, missed: log.missed });
      }
    }).catch((error) => this.#activationFailed(error));
  }

  #activationFailed(error: unknown): void {
    this.#breakTimer = undefined;
    this.#events.onWarning(`breakpoint probes are off: ${reasonOf(error)}`);
  }

  async #undoBreaks(chosen: (site: number) => boolean): Promise<number[]> {
    const sites: number[] = [];
    for (const [site, log] of this.#breaks) {
      if (!chosen(site)) continue;
      this.#breaks.delete(site);
      await this.#attempt(`breakpoint of site ${site}`, () => this.#removeBreakpoint(log));
      await this.#session.call(this.#main, 'undo', [site]);
      this.#restored.functions++;
      sites.push(site);
    }
    return sites;
  }

  // undo

  /** Puts back some sites: bindings, properties, breakpoints. An edited script only goes as a whole. */
  disarm(sites: readonly number[]): Promise<void> {
    return this.#serial(() => this.#undo(new Set(sites)));
  }

  /** Everything, for good: what is asked for from here on is refused. */
  restore(): Promise<RestoreReport> {
    return this.#serial(async () => {
      this.#closed = true;
      clearTimeout(this.#breakTimer);
      await this.#undo(undefined);
      return {
        functionsRestored: this.#restored.functions,
        bytesRestored: this.#restored.bytes,
        pausesMs: [...this.#session.pauses],
        failures: [...this.#failures],
      };
    });
  }

  async #undo(only: ReadonlySet<number> | undefined): Promise<void> {
    const chosen = (site: number): boolean => only?.has(site) ?? true;
    const breaks = await this.#undoBreaks(chosen);
    const sites = [...breaks, ...(await this.#undoBindings(chosen))];
    if (sites.length > 0) {
      await this.#attempt('hooks', () => this.#session.call(this.#agent, 'removeHooks', sites));
    }
    for (const [scriptId, item] of this.#edits) {
      if (only !== undefined && !item.sites.some(chosen)) continue;
      const restored = await this.#attempt(`source of script ${scriptId}`, async () => {
        for (const text of item.back) await this.#setSource(scriptId, text, [], RESTORE_MS);
        this.#edits.delete(scriptId);
        await this.#session.call(this.#agent, 'removeHooks', item.sites);
        this.#restored.functions += item.sites.length;
        this.#restored.bytes += Buffer.byteLength(item.original);
      });
      if (!restored && this.#closed) await this.#session.call(this.#main, 'keepHooks', item.sites);
    }
    await this.#idle();
  }

  /** Bindings and properties; returns the sites that had one. */
  async #undoBindings(chosen: (site: number) => boolean): Promise<number[]> {
    const sites: number[] = [];
    let stale = false;
    for (const [site, log] of this.#binds) {
      if (!chosen(site)) continue;
      clearTimeout(log.timer);
      log.phase = 'settled';
      await this.#attempt(`breakpoint of site ${site}`, () => this.#removeBreakpoint(log));
      if (log.constant && log.bound) {
        await this.#attempt(`constant of site ${site}`, () => this.#setConstant(log, true));
      }
      sites.push(site);
      stale ||= log.bound && log.item.deoptimize === 'now' && log.item.target.via === 'variable';
      this.#binds.delete(site);
    }
    for (const log of [this.#nops, this.#properties]) {
      for (const site of log.keys()) {
        if (!chosen(site)) continue;
        sites.push(site);
        log.delete(site);
      }
    }
    if (sites.length === 0) return sites;
    await this.#attempt('bindings', async () => {
      const { value } = await this.#session.stopping('undo', () =>
        this.#session.call(this.#main, 'undo', sites),
      );
      this.#restored.functions += Number(value);
      // optimized code that has the wrapper as a constant: harmless, but not as it was
      if (stale) await this.#deoptimize();
    });
    return sites;
  }

  async #attempt(what: string, operation: () => Promise<unknown>): Promise<boolean> {
    try {
      await operation();
      return true;
    } catch (error) {
      this.#failures.push(`${what}: ${reasonOf(error)}`);
      this.#events.onWarning(`could not restore the ${what}: ${reasonOf(error)}`);
      return false;
    }
  }

  /** Nothing needs the debugger any more: it goes. */
  async #idle(): Promise<void> {
    for (const log of this.#binds.values())
      if (log.breakpoint !== undefined || log.constant || log.phase === 'pause') return;
    if (this.#breaks.size > 0 || this.#edits.size > 0) return;
    if (this.#hookName !== '') await this.#session.call(this.#main, 'removeHook');
    await this.#scripts.disable();
  }
}

function reasonOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
