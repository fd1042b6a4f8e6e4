import type { MainSession } from './session.ts';

/** Makes the hooks of a session reachable in contexts of `vm.createContext` (src/agent/arming/contexts.ts). */
export class WorkerContexts {
  readonly #session: MainSession;
  readonly #reached = new Map<number, Promise<boolean>>();

  constructor(session: MainSession) {
    this.#session = session;
  }

  /** False where the context is gone, or does not take globals. Stops the main thread for well below a millisecond. */
  reach(contextId: number): Promise<boolean> {
    let reached = this.#reached.get(contextId);
    if (reached === undefined) {
      reached = this.#reach(contextId).catch(() => false);
      this.#reached.set(contextId, reached);
    }
    return reached;
  }

  async #reach(contextId: number): Promise<boolean> {
    const key = JSON.stringify(await this.#session.call('arming', 'contextKey'));
    // an error that V8 makes: the constructor of the context may be the application's
    const expression = `(()=>{try{null.x}catch(e){e[${key}]=globalThis;e.stack}})()`;
    const { value } = await this.#session.stopping('reach context', async () => {
      // posted in one go: nothing of the application runs in between
      const opened = this.#session.call('arming', 'openContext');
      const asked = this.#session.post('Runtime.evaluate', { contextId, expression, silent: true });
      const closed = this.#session.call('arming', 'closeContext');
      await Promise.allSettled([opened, asked]);
      return await closed;
    });
    return value === true;
  }
}
