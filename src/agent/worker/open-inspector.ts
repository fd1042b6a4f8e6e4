/** The inspector's port that was opened for this session: closed again, once. */

import type { MainSession } from './session.ts';

/** Between two looks whether the port is closed. */
const TURN_MS = 20;
/** So long the inspector's port may stay open because the event loop does not turn. */
const HELD_UP_MS = 500;

export class OpenInspector {
  readonly #session: MainSession;
  #isClosing = false;
  /** Settled when it is closed, if it is being closed. */
  closed = Promise.resolve();

  constructor(session: MainSession) {
    this.#session = session;
  }

  /** False where that has been asked for before. */
  async close(): Promise<boolean> {
    if (this.#isClosing) return false;
    this.#isClosing = true;
    const closing = await this.#session.errand<boolean>('ask to close', 'half', 'closeInspector');
    this.closed = this.#closeHeldUp();
    this.closed.catch(() => undefined);
    return closing.value;
  }

  /** An event loop that turns closes the port by itself, from an empty stack. One that does not is given HELD_UP_MS for it. */
  async #closeHeldUp(): Promise<void> {
    const since = performance.now();
    while (performance.now() - since < HELD_UP_MS) {
      await new Promise((resolve) => setTimeout(resolve, TURN_MS));
      if ((await this.#session.errand('is it closed', 'half', 'isClosed')).value === true) return;
    }
    await this.#session.call('half', 'closeHeldUp');
  }
}
