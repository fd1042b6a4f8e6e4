/** Events of the Node runtime in the own process, as static trace events. */

import type { IncomingMessage, ServerResponse } from 'node:http';
import { PerformanceObserver } from 'node:perf_hooks';
import { defineTracepoint } from '../kernel/tracepoint/trace-event.ts';
import { defineChannelEvent } from './diagnostics-channels.ts';

interface ServerMessage {
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
}

let isDefined = false;

/**
 * Defines http:server_request_start, http:server_response_finish and gc:gc. Calling it again does nothing. While an event is off
 * the runtime is not asked for anything.
 */
export function defineRuntimeEvents(): void {
  if (isDefined) return;
  isDefined = true;
  defineChannelEvent(
    'http',
    'server_request_start',
    'http.server.request.start',
    { method: 'string', url: 'string' },
    ({ request }: ServerMessage) => ({ method: request.method ?? '', url: request.url ?? '' }),
  );
  defineChannelEvent(
    'http',
    'server_response_finish',
    'http.server.response.finish',
    { status: 'u16', method: 'string', url: 'string' },
    ({ request, response }: ServerMessage) => ({
      status: response.statusCode,
      method: request.method ?? '',
      url: request.url ?? '',
    }),
  );
  defineGc();
}

/** Collections are told some time after they were. */
function defineGc(): void {
  const observer = new PerformanceObserver((list) => {
    for (const entry of list.getEntries()) {
      const { duration } = entry;
      const { detail } = entry as { detail?: { kind?: number; flags?: number } };
      const { kind = 0, flags = 0 } = detail ?? {};
      gc({ kind, flags, pause_ns: Math.round(duration * 1e6) });
    }
  });
  const gc = defineTracepoint(
    'gc',
    'gc',
    { kind: 'u32', flags: 'u32', pause_ns: 'u64' },
    { regfunc: () => observer.observe({ entryTypes: ['gc'] }), unregfunc: () => observer.disconnect() },
  );
}
