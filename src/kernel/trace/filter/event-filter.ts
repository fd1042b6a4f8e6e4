/** Filters of events and subsystems: create_filter() and apply_*_filter() of kernel/trace/trace_events_filter.c. */

import { KernelError } from '../../errno.ts';
import { readable, toByteString } from '../byte-string.ts';
import { strip, trimEnd } from '../c-text.ts';
import type { TraceArray } from '../trace-array.ts';
import type { TraceEventCall } from '../trace-event.ts';
import { EVENT_FILE_FL_FILTERED, type EventFilter, type TraceEventFile } from '../trace-event-file.ts';
import type { Tracing } from '../tracing.ts';
import { FILTER_ERRORS, FilterParseError } from './filter-errors.ts';
import { type FilterEngine, filterMatcher } from './filter-program.ts';
import { parseFilter } from './parse.ts';

const LOCATION = 'event filter parse error';

/** What a `filter` file shows and whether records are held against it: after an error the text tells it and all pass. */
interface FilterState {
  readonly filter: EventFilter | undefined;
  readonly text: string;
}

const states = new WeakMap<TraceEventFile, FilterState>();

/** Subsystems are one for all instances: what their `filter` files show, when it is not the usual text. */
const systemTexts = new WeakMap<Tracing, Map<string, string>>();

/**
 * create_event_filter(): a filter for an event's records. Refuses with a KernelError when the text is wrong, and then logs the error in
 * the instance. `text` is shown as it is given.
 */
export function createEventFilter(
  tr: TraceArray,
  call: TraceEventCall,
  text: string,
  engine?: FilterEngine,
): EventFilter {
  try {
    return parsedFilter(tr.tracing, call, toByteString(text), engine);
  } catch (error) {
    if (!(error instanceof FilterParseError)) throw error;
    logFilterError(tr, toByteString(text), error);
    throw refusal(error);
  }
}

function parsedFilter(
  tracing: Tracing,
  call: TraceEventCall,
  bytes: string,
  engine?: FilterEngine,
): EventFilter {
  const steps = parseFilter(tracing, call, bytes);
  return { text: readable(bytes), match: filterMatcher(tracing, steps, engine), steps };
}

function refusal(error: FilterParseError): KernelError {
  return new KernelError(error.errno, error.message);
}

/** append_filter_err(): logs the error; answers with what the `filter` file shows. */
function logFilterError(tr: TraceArray, bytes: string, error: FilterParseError): string {
  const now = tr.tracing.arch.now('local') ?? 0n;
  const { reason } = error;
  if (reason === undefined) {
    tr.errorLog.log(now, LOCATION, FILTER_ERRORS.ERRNO, readable(bytes), 0);
    return `${bytes}\nError: (0)\n`;
  }
  tr.errorLog.log(now, LOCATION, FILTER_ERRORS[reason], readable(bytes), error.position & 0xffff);
  const within = Math.min(error.position, bytes.length);
  const width = within === 0 ? 0 : within + 1;
  return `${bytes}\n${'^'.padStart(width)}\nparse_error: ${FILTER_ERRORS[reason]}\n`;
}

/** print_event_filter(): the content of an event's `filter` file. */
export function showEventFilter(file: TraceEventFile): string {
  const state = states.get(file);
  if (state === undefined) return file.filter === undefined ? 'none\n' : `${file.filter.text}\n`;
  return `${readable(state.text)}\n`;
}

function setFilter(file: TraceEventFile, state: FilterState | undefined): void {
  file.filter = state?.filter;
  if (state?.filter === undefined) file.flags &= ~EVENT_FILE_FL_FILTERED;
  else file.flags |= EVENT_FILE_FL_FILTERED;
  if (state === undefined) states.delete(file);
  else states.set(file, state);
  file.call.consumersChanged();
}

/**
 * apply_event_filter(): a write to an event's `filter` file; `0` removes it. A filter that is wrong replaces the old one all the same:
 * it filters nothing and its text shows the error.
 */
export function applyEventFilter(file: TraceEventFile, text: string): void {
  const bytes = trimEnd(toByteString(text));
  if (strip(bytes) === '0') {
    setFilter(file, undefined);
    return;
  }
  try {
    setFilter(file, { filter: parsedFilter(file.tr.tracing, file.call, bytes), text: bytes });
  } catch (error) {
    if (!(error instanceof FilterParseError)) throw error;
    setFilter(file, { filter: undefined, text: logFilterError(file.tr, bytes, error) });
    throw refusal(error);
  }
}

const DEFAULT_SYSTEM_MESSAGE = `### global filter ###
# Use this to set filters for multiple events.
# Only events with the given fields will be affected.
# If no events are modified, an error message will be displayed here
`;

/** print_subsystem_event_filter() */
export function showSystemFilter(tr: TraceArray, system: string): string {
  const text = systemTexts.get(tr.tracing)?.get(system);
  return text === undefined ? DEFAULT_SYSTEM_MESSAGE : `${readable(text)}\n`;
}

/** apply_subsystem_event_filter(): every event of the subsystem gets the filter, or the message that it does not fit. ENODEV. */
export function applySystemFilter(tr: TraceArray, system: string, text: string): void {
  const files = tr.files.filter((file) => file.call.system === system);
  if (files.length === 0) throw new KernelError('ENODEV', `the subsystem ${system} has no events`);
  const bytes = trimEnd(toByteString(text));
  const texts = systemTexts.get(tr.tracing) ?? new Map<string, string>();
  systemTexts.set(tr.tracing, texts);
  texts.delete(system);
  if (strip(bytes) === '0') {
    for (const file of files) setFilter(file, undefined);
    return;
  }
  for (const file of files.reverse()) {
    try {
      setFilter(file, { filter: parsedFilter(tr.tracing, file.call, bytes), text: bytes });
    } catch (error) {
      if (!(error instanceof FilterParseError)) throw error;
      const unfit = new FilterParseError(error.errno, 'BAD_SUBSYS_FILTER');
      setFilter(file, { filter: undefined, text: logFilterError(tr, bytes, unfit) });
    }
  }
}
