/** Replacing a constant: from a real pause in its scope, for two round trips inside this process. */

import { type ArmContext, reasonOf } from './arm-context.ts';
import type { BindItem } from './requests.ts';
import { InspectorError } from './session.ts';

/** The main thread has to come to an asked-for pause within this time; a paused one is let go at the latest then. */
const PAUSE_WATCHDOG_MS = 2000;

interface CallFrame {
  readonly callFrameId: string;
  readonly scopeChain: readonly { type: string; object: { objectId?: string } }[];
}

export class Constants {
  readonly #context: ArmContext;
  #onPaused: ((frames: readonly CallFrame[]) => Promise<void>) | undefined;

  constructor(context: ArmContext) {
    this.#context = context;
    context.session.on(
      'Debugger.paused',
      (message) => void this.#paused(message.params as { callFrames: CallFrame[] }),
    );
  }

  /** Puts the wrapper, or the original again, into the variable. Returns how long that stopped the main thread, in ms. */
  async set({ target, site }: BindItem, original: boolean): Promise<number> {
    if (target.via !== 'variable') return 0;
    let done: string | undefined;
    const paused = this.#nextPause(async (frames) => {
      const value = await this.#context.session.callRaw(
        this.#context.main,
        'constant',
        [{ value: site }, { value: original }],
        false,
      );
      done = await this.#assign(frames[0], target.name, value.objectId);
    });
    await this.#context.session.post('Debugger.setSkipAllPauses', { skip: false });
    try {
      await this.#context.session.call(this.#context.main, 'enterScope', site);
      await paused;
    } finally {
      await this.#context.session.post('Debugger.setSkipAllPauses', { skip: true });
    }
    const pauseMs = Number(await this.#context.session.call(this.#context.main, 'scopeMs', site));
    this.#context.session.note('replace constant', pauseMs);
    if (done !== undefined) throw new InspectorError(done);
    if (!original && (await this.#context.session.call(this.#context.main, 'constantDone', site)) !== true) {
      throw new InspectorError('the constant could not be replaced');
    }
    return pauseMs;
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
      const { result } = (await this.#context.session.post('Runtime.getProperties', {
        objectId: scope.object.objectId,
        ownProperties: true,
      })) as { result: { name: string }[] };
      if (!result.some((property) => property.name === name)) continue;
      try {
        const newValue = { objectId };
        const { callFrameId } = frame;
        await this.#context.session.post('Debugger.setVariableValue', {
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
        void this.#context.session.post('Debugger.resume').catch(() => undefined);
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
      await this.#context.session.post('Debugger.resume').catch(() => undefined);
    }
  }
}
