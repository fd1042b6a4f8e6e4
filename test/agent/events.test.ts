import { expect, test } from 'vitest';
import type { AgentMain } from '../../src/agent/agent-main.ts';
import { SOURCES } from '../../src/agent/events/events.ts';
import { Tools } from '../../src/agent/events/tools.ts';
import { eventKey, RUNTIME_EVENTS } from '../../src/kernel/tracepoint/runtime-events.ts';

test('every event that is described has a source, and the other way round', () => {
  expect(Object.keys(SOURCES).sort()).toEqual(RUNTIME_EVENTS.map(eventKey).sort());
});

test('a source that cannot be started leaves nothing behind', async () => {
  const builtin = (id: string): unknown => process.getBuiltinModule(id);
  const { channel } = await import('node:diagnostics_channel');
  const tools = new Tools({} as AgentMain, builtin);
  const start = (): unknown =>
    tools.start(
      (_, { channel: subscribe }) => {
        subscribe.call(tools, 'events.half', () => {});
        expect(channel('events.half').hasSubscribers).toBe(true);
        throw new Error('no more');
      },
      () => {},
    );
  expect(start).toThrow('no more');
  expect(channel('events.half').hasSubscribers).toBe(false);
});
