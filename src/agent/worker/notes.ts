/** Takes V8's notes of who waited for a promise off finished calls: ../arming/waiters.ts says what they are. */

import { OWN_MARK } from '../protocol.ts';
import type { ArmContext } from './arm-context.ts';

/** Awaits each element of the array that it is called on, and empties it. V8's notes hold this call then, and nothing with it. */
const AWAIT_ALL = `async function(){${OWN_MARK}this.push(0);for(let i=0;i<this.length;i++)await this[i];this.length=0}`;

/** The debugger has to be enabled: without it nothing is noted anew. Stops the main thread by a walk of its heap. */
export async function takeNotes({ session, main }: ArmContext): Promise<void> {
  const { objectId: prototype } = await session.callRaw(main, 'promisePrototype', [], false);
  if (prototype === undefined) return;
  const { value: found } = await session.stopping('find promises', () =>
    session.post('Runtime.queryObjects', { prototypeObjectId: prototype }),
  );
  const all = (found as { objects: { objectId: string } }).objects.objectId;
  try {
    let from: unknown = 0;
    while (typeof from === 'number') {
      const step: { value: { value?: unknown } } = await session.stopping('look at promises', () =>
        session.callRaw(main, 'lookForWaited', [{ objectId: all }, { value: from }], true),
      );
      from = step.value.value;
    }
    const { objectId: waited } = await session.callRaw(main, 'waited', [], false);
    if (waited === undefined) return;
    await session.stopping('await promises', () =>
      session.post('Runtime.callFunctionOn', {
        objectId: waited,
        functionDeclaration: AWAIT_ALL,
        awaitPromise: true,
        silent: true,
      }),
    );
    await session.post('Runtime.releaseObject', { objectId: waited });
  } finally {
    await session.post('Runtime.releaseObject', { objectId: all });
    await session.post('Runtime.releaseObject', { objectId: prototype });
  }
}
