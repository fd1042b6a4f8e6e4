/** Replacing the text of scripts while they run. */

import type { ArmContext } from './arm-context.ts';
import type { EditItem } from './requests.ts';
import { InspectorError } from './session.ts';

const EDIT_TRIES = 6;
const EDIT_RETRY_MS = 30;
/** A text has to go back: it is tried for this long, then its hooks stay behind, inert. */
const RESTORE_MS = 5000;

const delay = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

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
    await this.#context.session.call(this.#context.agent, on ? 'enable' : 'disable', sites);
    return undefined;
  }

  /** Sites that were quiet for a moment run their programs again, unless the tracer has switched them off meanwhile. */
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
    const quiet = item.replaces.filter((site) => this.#replaced.isBound(site));
    let ms: number;
    try {
      ms = await this.#setSource(item.scriptId, item.edited, quiet);
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
    await this.#enableAgain(quiet);
    return ms;
  }

  /**
   * `quiet` are sites whose bindings are replaced too until that is undone: from the edit on, in the same batch, their
   * wrappers count nothing, so that no call counts twice and none is left out.
   */
  async #setSource(
    scriptId: string,
    scriptSource: string,
    quiet: readonly number[] = [],
    undoing = false,
  ): Promise<number> {
    let status = '';
    let longest = 0;
    const patienceMs = undoing ? RESTORE_MS : EDIT_TRIES * EDIT_RETRY_MS;
    const since = performance.now();
    for (let attempt = 0; attempt < EDIT_TRIES || performance.now() - since < patienceMs; attempt++) {
      if (!undoing) this.#context.goOn();
      if (attempt > 0) await delay(EDIT_RETRY_MS * Math.min(attempt, EDIT_TRIES));
      const passed = quiet.filter((site) => !this.#off.has(site));
      const { value, ms } = await this.#context.session.stopping('live edit', async () => {
        const off =
          passed.length === 0
            ? undefined
            : this.#context.session.call(this.#context.agent, 'passWrappers', passed);
        const edit = this.#context.session.post('Debugger.setScriptSource', { scriptId, scriptSource });
        const [reply] = await Promise.all([edit, off]);
        return reply;
      });
      longest = Math.max(longest, ms);
      const reply = value as {
        status?: string;
        exceptionDetails?: { exception?: { description?: string }; text?: string };
      };
      status = reply.status ?? 'Ok';
      if (status === 'Ok' && reply.exceptionDetails === undefined) return longest;
      await this.#enableAgain(quiet);
      if (status === 'CompileError' || reply.exceptionDetails !== undefined) {
        const { exception, text } = reply.exceptionDetails ?? {};
        throw new InspectorError(
          `the edited text does not compile: ${exception?.description ?? text ?? status}`,
        );
      }
    }
    throw new InspectorError(`V8 refuses the edit: ${status}`);
  }

  /** Scripts with a chosen site, as a whole; all of them without a choice. */
  async undo(only: ReadonlySet<number> | undefined): Promise<void> {
    for (const [scriptId, item] of this.#edits) {
      if (only !== undefined && !item.sites.some((site) => only.has(site))) continue;
      const restored = await this.#context.attempt(`source of script ${scriptId}`, async () => {
        for (const text of item.back) await this.#setSource(scriptId, text, [], true);
        this.#edits.delete(scriptId);
        await this.#context.session.call(this.#context.agent, 'removeHooks', item.sites);
        this.#context.restored.functions += item.sites.length;
        this.#context.restored.bytes += Buffer.byteLength(item.original);
      });
      if (!restored && this.#context.closed)
        await this.#context.session.call(this.#context.main, 'keepHooks', item.sites);
    }
  }
}
