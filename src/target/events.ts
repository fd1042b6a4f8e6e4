/** What a process has of events, for those who name them. */

export { fieldText, matchEvents } from '../kernel/tracepoint/event-list.ts';
export { type EventDescription, RUNTIME_EVENTS } from '../kernel/tracepoint/runtime-events.ts';
export type { EventPlace, ProcessEvents } from './session.ts';
