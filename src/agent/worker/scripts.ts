import type { ScriptInfo } from '../../arch/v8/types.ts';
import type { MainSession } from './session.ts';

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
    this.#enabled ??= this.#session.stopping('enable debugger', async () => {
      const enabled = this.#session.post('Debugger.enable');
      // `debugger` statements of the application stay without effect, as they are without a debugger
      const skip = this.#session.post('Debugger.setSkipAllPauses', { skip: true });
      await Promise.all([enabled, skip]);
    });
    return this.#enabled;
  }

  async disable(): Promise<void> {
    if (this.#enabled === undefined) return;
    this.#enabled = undefined;
    // the debugger tells of all of them when it is enabled again
    this.#scripts.clear();
    await this.#session.post('Debugger.disable');
  }

  async list(): Promise<ScriptInfo[]> {
    await this.enable();
    return [...this.#scripts.values()];
  }

  async source(scriptId: string): Promise<string> {
    await this.enable();
    const reply = (await this.#session.post('Debugger.getScriptSource', { scriptId })) as {
      scriptSource: string;
    };
    return reply.scriptSource;
  }
}
