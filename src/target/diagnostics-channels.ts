/** Channels of node:diagnostics_channel as raw tracepoints of the own process. */

import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { aFunction, aString, checkArgument } from '../arguments.ts';
import { getRawEvent, type RawEventMap, registerRawEvent } from '../kernel/tracepoint/raw-event.ts';
import {
  type DefineTracepointOptions,
  defineTracepoint,
  type TracepointArgs,
  type TracepointFields,
  type TracepointFunction,
} from '../kernel/tracepoint/trace-event.ts';
import { Tracepoint } from '../kernel/tracepoint/tracepoint.ts';

/** The parts of a TracingChannel (`tracing:NAME:start`, ...). */
export const TRACING_CHANNEL_EVENTS = ['start', 'end', 'asyncStart', 'asyncEnd', 'error'] as const;

/**
 * The raw tracepoint of a channel, whose arguments are the message and the channel's name. It subscribes while it has functions.
 * The name is the channel's.
 */
export function channelTracepoint(channel: string): RawEventMap {
  checkArgument('channelTracepoint()', 'channel', channel, aString);
  const known = getRawEvent(channel);
  if (known !== undefined) return known;
  const onMessage = (message: unknown, name: string | symbol): void => tp.call(message, String(name));
  const tp = new Tracepoint<readonly unknown[]>(channel, {
    regfunc: () => subscribe(channel, onMessage),
    unregfunc: () => void unsubscribe(channel, onMessage),
  });
  return registerRawEvent(tp, 2);
}

/** The raw tracepoints of a TracingChannel, by what happens. */
export function tracingChannelTracepoints(
  name: string,
): Record<(typeof TRACING_CHANNEL_EVENTS)[number], RawEventMap> {
  checkArgument('tracingChannelTracepoints()', 'name', name, aString);
  const all = TRACING_CHANNEL_EVENTS.map((event) => [event, channelTracepoint(`tracing:${name}:${event}`)]);
  return Object.fromEntries(all) as Record<(typeof TRACING_CHANNEL_EVENTS)[number], RawEventMap>;
}

/**
 * A trace event for a channel: `values` makes the fields of a message, and runs only while the event is wanted. Undefined: this
 * message is none of its. Errors of defineTracepoint().
 */
export function defineChannelEvent<const F extends TracepointFields>(
  system: string,
  name: string,
  channel: string,
  fields: F,
  values: (message: never) => TracepointArgs<F> | undefined,
  options: DefineTracepointOptions = {},
): TracepointFunction<F> {
  checkArgument('defineChannelEvent()', 'channel', channel, aString);
  checkArgument('defineChannelEvent()', 'values', values, aFunction);
  const onMessage = (message: unknown): void => {
    const made = values(message as never);
    if (made !== undefined) event(made);
  };
  const event: TracepointFunction<F> = defineTracepoint(system, name, fields, {
    regfunc: () => {
      options.regfunc?.();
      subscribe(channel, onMessage);
    },
    unregfunc: () => {
      unsubscribe(channel, onMessage);
      options.unregfunc?.();
    },
  });
  return event;
}
