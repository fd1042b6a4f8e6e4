/**
 * Events of the Node runtime in the own process, without a session: the same events with the same fields as a tracer of the process
 * has them (src/kernel/tracepoint/runtime-events.ts), by the same sources (src/agent/events).
 */

import { createRequire } from 'node:module';
import type { AgentMain, CallObserver, Emit, Interception } from '../agent/agent-main.ts';
import { SOURCES } from '../agent/events/events.ts';
import { type Stop, Tools } from '../agent/events/tools.ts';
import { eventsOf } from '../kernel/tracepoint/event-list.ts';
import { ownProperty } from '../kernel/tracepoint/property.ts';
import { type EventDescription, type EventField, eventKey } from '../kernel/tracepoint/runtime-events.ts';
import {
  defineTracepoint,
  type TracepointFields,
  type TracepointFunction,
} from '../kernel/tracepoint/trace-event.ts';

let isDefined = false;

/**
 * Defines the runtime's events (`http:server_request_start`, `gc:gc`, …: docs/trace-events.md lists them) for the tracing folders of this
 * process. Calling it again does nothing. While an event is off the runtime is not asked for anything. Throws a TraplineError EEXIST
 * where the application has defined one of that name.
 */
export function defineRuntimeEvents(): void {
  if (isDefined) return;
  isDefined = true;
  const require = createRequire(import.meta.url);
  const tools = new Tools({ intercept, property: ownProperty } as unknown as AgentMain, require);
  for (const event of eventsOf(process.version, [])) define(event, tools);
}

function define(event: EventDescription, tools: Tools): void {
  const { system, name, fields } = event;
  const source = SOURCES[eventKey(event)];
  if (source === undefined) return;
  const types = Object.fromEntries(fields.map((field) => [field.name, field.type])) as TracepointFields;
  let stop: Stop | undefined;
  const emit: Emit = (_, ...values) => tracepoint(valuesOf(fields, values) as never);
  const tracepoint: TracepointFunction<TracepointFields> = defineTracepoint(system, name, types, {
    regfunc: () => {
      stop = tools.start(source, emit);
    },
    unregfunc: () => {
      stop?.();
      stop = undefined;
    },
  });
}

function valuesOf(fields: readonly EventField[], values: readonly unknown[]): Record<string, unknown> {
  const made: Record<string, unknown> = {};
  for (const { name, type, arg, path } of fields) {
    let value = values[arg];
    for (const key of path) value = ownProperty(value, key);
    made[name] = type === 'string' && typeof value !== 'string' ? '' : value;
  }
  return made;
}

/** A function of Node's with somebody who hears of its calls. It looks as it did: properties, name and length are the original's. */
function intercept(original: unknown, isAsync: boolean): Interception {
  let observer: CallObserver = {};
  const tell = (what: keyof CallObserver, ...args: [unknown, unknown[], unknown?, unknown?]): void => {
    try {
      (observer[what] as CallObserver['exit'])?.(args[0], args[1], args[2], args[3]);
    } catch {
      // nothing of ours may reach the application
    }
  };
  const wrapper = new Proxy(original as (...args: unknown[]) => unknown, {
    apply(target, self, args) {
      tell('entry', self, args);
      let value: unknown;
      try {
        value = Reflect.apply(target, self, args);
      } catch (error) {
        tell('exit', self, args, undefined, error);
        throw error;
      }
      if (!isAsync) tell('exit', self, args, value);
      else if (observer.settle !== undefined && value instanceof Promise)
        value.then(
          (result) => tell('settle', self, args, result),
          (error) => tell('settle', self, args, undefined, error),
        );
      return value;
    },
  });
  return {
    wrapper,
    tell: (next) => {
      observer = next;
    },
    stop: () => {
      observer = {};
    },
  };
}
