/** Replacing the text of scripts while they run. */

import { type ArmContext, reasonOf } from './arm-context.ts';
import { takeNotes } from './notes.ts';
import type { EditItem } from './requests.ts';
import { InspectorError } from './session.ts';

const EDIT_TRIES = 6;
const EDIT_RETRY_MS = 30;
/** A text has to go back: it is tried for this long, then its hooks stay behind, inert. */
const RESTORE_MS = 5000;
/** Each try stops the main thread; the time between two is at least so many times that. */
const RESTORE_SHARE = 4;
/** After so many refusals the notes that V8 has on promises are taken over (notes.ts). */
const REFUSALS = 2;
/** And at least so often: whether a function is on the stack when V8 looks is chance, and on a crowded machine a try takes seconds. */
const LEAST_TRIES = REFUSALS + 5;
/** How much longer than an edit that stops the main thread: V8 collects garbage until there is none. */
const NOTES_SHARE = 3;

/** Between two edits the process runs for so many times as long as the first one stopped it, and at most so long. */
const REST_SHARE = 1.5;
const MOST_REST_MS = 1000;

const delay = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

interface SetSourceReply {
  readonly status?: string;
  readonly exceptionDetails?: {
    readonly exception?: { readonly description?: string };
    readonly text?: string;
  };
}

/** The ways that an edit takes the place of. */
export interface Replaced {
  /** Sites whose wrappers are in place. */
  isBound(site: number): boolean;
  undo(chosen: (site: number) => boolean): Promise<void>;
}

export class Edits {
  readonly #context: ArmContext;
  readonly #replaced: Replaced;
  // the undo log
  readonly #edits = new Map<string, EditItem>();
  /** Sites that the tracer has switched off. */
  readonly #off = new Set<number>();

  constructor(context: ArmContext, replaced: Replaced) {
    this.#context = context;
    this.#replaced = replaced;
  }

  get size(): number {
    return this.#edits.size;
  }

  async enable(sites: readonly number[], on: boolean): Promise<undefined> {
    for (const site of sites) {
      if (on) this.#off.delete(site);
      else this.#off.add(site);
    }
    const method = on ? 'enable' : 'disable';
    await this.#context.session.errand(`${method} sites`, this.#context.agent, method, sites);
    return undefined;
  }

  /** The handing over is done, or did not happen; the tracer may have switched sites off meanwhile. */
  async #enableAgain(sites: readonly number[]): Promise<void> {
    const wanted = sites.filter((site) => !this.#off.has(site));
    if (wanted.length > 0) await this.#context.session.call(this.#context.agent, 'enable', wanted);
  }

  async edit(item: EditItem): Promise<number> {
    await this.#context.scripts.enable();
    const before = this.#edits.get(item.scriptId);
    await this.#context.session.call(this.#context.agent, 'installHooks', item.sites, item.texts);
    this.#edits.set(item.scriptId, before === undefined ? item : { ...item, original: before.original });
    // breakpoints go with the old text: of these sites no call counts twice
    const bound = item.replaces.filter((site) => this.#replaced.isBound(site));
    let ms: number;
    try {
      ms = await this.#setSource(item.scriptId, item.edited, bound);
    } catch (error) {
      if (before === undefined) this.#edits.delete(item.scriptId);
      else this.#edits.set(item.scriptId, before);
      const added = item.sites.filter(
        (site) => !before?.sites.includes(site) && !item.replaces.includes(site),
      );
      await this.#context.session.call(this.#context.agent, 'removeHooks', added);
      throw error;
    }
    await this.#replaced.undo((site) => item.replaces.includes(site));
    await this.#enableAgain(bound);
    return ms;
  }

  /**
   * `bound` are sites whose bindings are replaced too until that is undone. From before the edit on, a call of theirs is told
   * once, by the wrapper or by the text: V8 may refuse the edit, and calls go on meanwhile.
   */
  async #setSource(
    scriptId: string,
    scriptSource: string,
    bound: readonly number[] = [],
    undoing?: { readonly maxPauseMs: number; readonly patienceMs?: number },
  ): Promise<number> {
    let status = '';
    let longest = 0;
    /** Without what it waited for a processor. */
    let longestOwn = 0;
    const patienceMs =
      undoing === undefined ? EDIT_TRIES * EDIT_RETRY_MS : (undoing.patienceMs ?? RESTORE_MS);
    const since = performance.now();
    const tries = undoing === undefined ? EDIT_TRIES : LEAST_TRIES;
    await this.#context.code.prepare();
    for (let attempt = 0; attempt < tries || performance.now() - since < patienceMs; attempt++) {
      if (undoing === undefined) this.#context.goOn();
      if (attempt > 0) {
        const share = undoing === undefined ? 0 : RESTORE_SHARE * longest;
        await delay(Math.max(share, EDIT_RETRY_MS * Math.min(attempt, EDIT_TRIES)));
      }
      if (attempt === REFUSALS && undoing !== undefined && NOTES_SHARE * longestOwn <= undoing.maxPauseMs) {
        // the calls that V8 takes for running may have ended long ago
        await takeNotes(this.#context).catch(() => undefined);
      }
      await this.#rest();
      const passed = bound.filter((site) => !this.#off.has(site));
      const { session, agent, code } = this.#context;
      const {
        value: reply,
        ms,
        waitedMs,
      } = await session
        .stoppingTogether('live edit', async () => {
          const off = passed.length === 0 ? undefined : session.call(agent, 'passWrappers', passed);
          const discarded = code.discardForEdit();
          const edit = session.post('Debugger.setScriptSource', { scriptId, scriptSource });
          const [answer] = await Promise.all([edit, off, discarded]);
          return answer as SetSourceReply;
        })
        .finally(() => code.release());
      this.#goOnAt = performance.now() + Math.min(MOST_REST_MS, REST_SHARE * ms);
      longest = Math.max(longest, ms);
      longestOwn = Math.max(longestOwn, ms - waitedMs);
      status = reply.status ?? 'Ok';
      if (status === 'Ok' && reply.exceptionDetails === undefined) return longest;
      await this.#enableAgain(bound);
      if (status === 'CompileError' || reply.exceptionDetails !== undefined) {
        const { exception, text } = reply.exceptionDetails ?? {};
        throw new InspectorError(
          `the edited text does not compile: ${exception?.description ?? text ?? status}`,
        );
      }
    }
    throw new InspectorError(`V8 refuses the edit: ${status}`);
  }

  /** When the process has run for long enough since the last edit: with many scripts it would do nothing but stop. */
  #goOnAt = 0;

  async #rest(): Promise<void> {
    const ms = this.#goOnAt - performance.now();
    if (ms > 0) await delay(ms);
  }

  /** Scripts with a chosen site, as a whole; all of them without a choice. */
  async undo(only: ReadonlySet<number> | undefined): Promise<void> {
    for (const [scriptId, item] of this.#edits) {
      if (only !== undefined && !item.sites.some((site) => only.has(site))) continue;
      const key = `text ${scriptId}`;
      try {
        // no function of a script is left that V8 has collected: an earlier text of a live edit's, for one
        const texts = (await this.#context.scripts.has(scriptId)) ? item.back : [];
        for (const text of texts) await this.#setSource(scriptId, text, [], item);
        this.#edits.delete(scriptId);
        await this.#removeHooks(item.sites);
        this.#context.restored.bytes += Buffer.byteLength(item.original);
        this.#context.unfail(key);
      } catch (error) {
        const sites = await this.#undoOthers(item).catch(() => item.sites);
        this.#context.fail(key, { what: 'the edited text', sites, reason: reasonOf(error) });
        if (this.#context.closed) await this.#context.session.call(this.#context.main, 'keepHooks', sites);
      }
    }
  }

  /** All but the functions that may have calls under way; the sites that stay. */
  async #undoOthers(item: EditItem): Promise<readonly number[]> {
    const { scriptId, suspending } = item;
    if (suspending === undefined || !this.#context.closed) return item.sites;
    await this.#setSource(scriptId, suspending.text, [], {
      maxPauseMs: 0,
      patienceMs: EDIT_TRIES * EDIT_RETRY_MS,
    });
    await this.#removeHooks(item.sites.filter((site) => !suspending.sites.includes(site)));
    return suspending.sites;
  }

  async #removeHooks(sites: readonly number[]): Promise<void> {
    await this.#context.session.call(this.#context.agent, 'removeHooks', sites);
    this.#context.restored.functions += sites.length;
  }
}
