import type { ScriptInfo } from '../../arch/v8/types.ts';
import { InspectorError, type MainSession } from './session.ts';

/** The scripts V8 knows, from the debugger; enabling it walks the heap, so once. */
export class Scripts {
  readonly #session: MainSession;
  readonly #scripts = new Map<string, ScriptInfo>();
  #enabled: Promise<unknown> | undefined;

  constructor(session: MainSession) {
    this.#session = session;
    session.on('Debugger.scriptParsed', (message) => this.#parsed(message.params as ScriptInfo));
  }

  #parsed({ scriptId, url, isModule, length, sourceMapURL, executionContextId, hash }: ScriptInfo): void {
    this.#scripts.set(scriptId, {
      scriptId,
      url,
      isModule: isModule ?? false,
      length,
      sourceMapURL: sourceMapURL ?? '',
      executionContextId,
      hash,
    });
  }

  get enabled(): boolean {
    return this.#enabled !== undefined;
  }

  enable(): Promise<unknown> {
    this.#enabled ??= this.#enable('enable debugger');
    return this.#enabled;
  }

  #enable(what: string): Promise<{ ms: number; waitedMs: number }> {
    return this.#session.stopping(what, async () => {
      const enabled = this.#session.post('Debugger.enable');
      // `debugger` statements of the application stay without effect, as they are without a debugger
      const skip = this.#session.post('Debugger.setSkipAllPauses', { skip: true });
      await Promise.all([enabled, skip]);
    });
  }

  /**
   * Enables the debugger once more, for the time that takes: V8 has the hashes of the scripts by now, so that it is hardly
   * more than a walk of the heap. Breakpoints do not outlast that: there may be none.
   */
  async walk(what: string): Promise<{ ms: number; waitedMs: number } | undefined> {
    if (this.#enabled === undefined) return undefined;
    await this.#enabled;
    const again = async (): Promise<{ ms: number; waitedMs: number }> => {
      await this.#session.post('Debugger.disable');
      // told of anew, in V8's order
      this.#scripts.clear();
      return await this.#enable(what);
    };
    const enabled = again();
    this.#enabled = enabled;
    return await enabled;
  }

  async disable(): Promise<void> {
    if (this.#enabled === undefined) return;
    this.#enabled = undefined;
    // the debugger tells of all of them when it is enabled again
    this.#scripts.clear();
    await this.#session.post('Debugger.disable');
  }

  /** Whether V8 has a script still: one that nothing refers to is collected. */
  async has(scriptId: string): Promise<boolean> {
    await this.enable();
    return this.#scripts.has(scriptId);
  }

  async list(): Promise<ScriptInfo[]> {
    await this.enable();
    return [...this.#scripts.values()];
  }

  /** Undefined where V8 has collected the script: whoever knows its ID does not hold it. */
  async source(scriptId: string): Promise<string | undefined> {
    await this.enable();
    try {
      const reply = await this.#session.post('Debugger.getScriptSource', { scriptId });
      return (reply as { scriptSource: string }).scriptSource;
    } catch (error) {
      if (!(error instanceof InspectorError) || !error.message.includes('No script')) throw error;
      this.#scripts.delete(scriptId);
      return undefined;
    }
  }
}
