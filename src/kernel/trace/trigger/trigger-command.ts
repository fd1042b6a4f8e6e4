/** What trigger commands share (kernel/trace/trace_events_trigger.c). */

import { KernelError } from '../../errno.ts';
import { readable } from '../byte-string.ts';
import { isDigit, skipSpaces, Tokens } from '../c-text.ts';
import { createEventFilter } from '../filter/event-filter.ts';
import { kstrtoull } from '../kstrto.ts';
import { updateTriggerFlags } from '../trace-commit.ts';
import { EVENT_FILE_FL_TRIGGER_MODE, type TraceEventFile } from '../trace-event-file.ts';
import { TriggerData } from './trigger-data.ts';

/** A command that a `trigger` file takes (`struct event_command`). Texts are byte strings. */
export interface TriggerCommand {
  readonly name: string;
  /** `param` is what stands behind the name and its colon; undefined when nothing does. */
  parse(file: TraceEventFile, remove: boolean, param: string | undefined): void;
  /** The `trigger` file was opened with O_TRUNC. */
  unregAll?(file: TraceEventFile): void;
}

export function invalid(message: string): KernelError {
  return new KernelError('EINVAL', message);
}

/** Triggers of an event that are of this tracing core. */
export function triggersOf(file: TraceEventFile): TriggerData[] {
  return file.triggers.filter((trigger) => trigger instanceof TriggerData);
}

/**
 * event_trigger_separate_filter(): `PARAM if FILTER`. Where a parameter is optional it is one when it begins with a digit; all else is
 * taken for the filter.
 */
export function separateFilter(
  text: string | undefined,
  required: boolean,
): { param: string | undefined; filter: string | undefined } {
  if (text === undefined) {
    if (required) throw invalid('the trigger needs a parameter');
    return { param: undefined, filter: undefined };
  }
  if (!required && !isDigit(text[0])) return { param: undefined, filter: text };
  const tokens = new Tokens(text);
  const param = tokens.next(' \t');
  const filter = skipSpaces(tokens.rest ?? '');
  return { param, filter: filter === '' ? undefined : filter };
}

/** event_trigger_parse_num(): the count in front of a colon. EINVAL, ERANGE. */
export function parseCount(param: string | undefined, trigger: TriggerData): void {
  if (param === undefined) return;
  const number = new Tokens(param).next(':') ?? '';
  if (number === '') throw invalid('the count is empty');
  const count = kstrtoull(number);
  if (typeof count === 'string') throw new KernelError(count, `${readable(number)} is no count`);
  trigger.count = BigInt.asIntN(64, count);
}

/** set_trigger_filter(): `if FILTER`. What the filter's parser refuses is in the error log. */
export function setTriggerFilter(file: TraceEventFile, text: string | undefined, trigger: TriggerData): void {
  if (text === undefined) return;
  const tokens = new Tokens(text);
  const word = tokens.next(' \t');
  if (word !== 'if' || tokens.rest === undefined) throw invalid('a filter begins with "if"');
  const filter = readable(tokens.rest);
  trigger.filter = createEventFilter(file.tr, file.call, filter);
  trigger.filterText = filter;
}

/** trace_event_trigger_enable_disable(): the event has to run for its triggers, in soft mode. */
export function enableTriggerMode(file: TraceEventFile, on: boolean): void {
  if (on) {
    if (file.tmRef++ > 0) return;
    file.flags |= EVENT_FILE_FL_TRIGGER_MODE;
    try {
      file.enable(true, true);
    } catch (error) {
      file.tmRef--;
      file.flags &= ~EVENT_FILE_FL_TRIGGER_MODE;
      throw error;
    }
  } else {
    if (file.tmRef === 0 || --file.tmRef > 0) return;
    file.flags &= ~EVENT_FILE_FL_TRIGGER_MODE;
    file.enable(false, true);
  }
}

/** Puts a trigger on an event: in front of the others, or behind them (hists). A refusal of the event's source undoes it. */
export function addTrigger(file: TraceEventFile, trigger: TriggerData, behind = false): void {
  if (behind) file.triggers.push(trigger);
  else file.triggers.unshift(trigger);
  updateTriggerFlags(file);
  try {
    enableTriggerMode(file, true);
  } catch (error) {
    file.triggers.splice(file.triggers.indexOf(trigger), 1);
    updateTriggerFlags(file);
    throw error;
  }
}

/** Takes a trigger from an event. */
export function removeTrigger(file: TraceEventFile, trigger: TriggerData): void {
  const at = file.triggers.indexOf(trigger);
  if (at < 0) return;
  file.triggers.splice(at, 1);
  enableTriggerMode(file, false);
  updateTriggerFlags(file);
  trigger.release();
}

/** clear_event_triggers(): an event or its instance goes. */
export function clearEventTriggers(file: TraceEventFile): void {
  for (const trigger of triggersOf(file)) removeTrigger(file, trigger);
}
