import { setImmediate as turn } from 'node:timers/promises';
import { runInThisContext } from 'node:vm';
import { afterEach, describe, expect, test } from 'vitest';
import type { InjectConfig, Injection, InjectStep } from '../../src/agent/inject/config.ts';
import { agentTexts } from '../../src/target/agent-text.ts';
import { unless } from '../support/skip.ts';

/** Longer than an event loop is waited for. */
const LONG_MS = 40;

const config: InjectConfig = {
  token: 'token',
  tracer: process.pid,
  key: 'trapline.test',
  nonce: 'test',
  closeInspector: false,
};

function inject(): Injection {
  const { inject: text, half } = agentTexts();
  const make = runInThisContext(text) as (config: InjectConfig, half: unknown) => Injection;
  return make(config, runInThisContext(half));
}

function block(): void {
  const until = performance.now() + LONG_MS;
  while (performance.now() < until);
}

afterEach(() => {
  Reflect.deleteProperty(process, 'permission');
});

/** The first piece asks for that. */
function onPermission(called: () => void): void {
  const get = (): undefined => {
    called();
    return undefined;
  };
  Object.defineProperty(process, 'permission', { get, configurable: true });
}

// where the process is under permissions itself, the property is Node's
describe(
  'pieces of the injection',
  unless('permission' in process ? 'this process runs with --permission' : undefined),
  () => {
    test('one is done in a later turn of the event loop, never by the message that asks for it', async () => {
      let pieces = 0;
      onPermission(() => {
        pieces++;
      });
      const injection = inject();
      expect(injection.later()).toBeNull();
      expect(pieces).toBe(0);
      await turn();
      await turn();
      await turn();
      expect(pieces).toBe(1);
      expect(injection.later()).toMatchObject({ ms: expect.any(Number), result: undefined });
      injection.abort();
    });

    test('where the event loop does not turn, it is done by a message', () => {
      let pieces = 0;
      onPermission(() => {
        pieces++;
      });
      const injection = inject();
      injection.later();
      block();
      expect(injection.later()).toMatchObject({ result: undefined });
      expect(pieces).toBe(1);
      injection.abort();
    });

    test('a message that comes in the middle of one does not begin the next', async () => {
      const inner: (InjectStep | null)[] = [];
      const injection = inject();
      onPermission(() => {
        block();
        inner.push(injection.later());
      });
      injection.later();
      await turn();
      await turn();
      await turn();
      expect(inner).toEqual([null]);
      expect(injection.later()).toMatchObject({ result: undefined });
      injection.abort();
    });
  },
);
