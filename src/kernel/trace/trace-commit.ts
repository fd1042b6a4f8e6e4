import { recordStack, recordUserStack } from './stack-trace.ts';
import { entryPid, type TraceRecord } from './trace-entry.ts';
import type { TraceEventCall } from './trace-event.ts';
import {
  EVENT_FILE_FL_ENABLED,
  EVENT_FILE_FL_SOFT_DISABLED,
  EVENT_FILE_FL_TRIGGER_COND,
  EVENT_FILE_FL_TRIGGER_MODE,
  type EventTrigger,
  type TraceEventFile,
} from './trace-event-file.ts';
import { recordToBuffer } from './trace-record.ts';

/**
 * An event has happened: filters, triggers and buffers of every instance that has it enabled
 * (trace_trigger_soft_disabled(), trace_event_buffer_commit(), kernel/trace/trace.c). `record` carries the time of the
 * global clock; an instance with another clock asks it.
 */
export function commitEvent(call: TraceEventCall, record: TraceRecord, counted?: Counted): void {
  for (const file of call.files) {
    if ((file.flags & EVENT_FILE_FL_ENABLED) !== 0) commitToFile(file, record, counted);
  }
}

/** Triggers that have seen the event where it happened (hit-plan.ts): they are not run again. */
export type Counted = ReadonlySet<EventTrigger>;

function commitToFile(file: TraceEventFile, record: TraceRecord, counted: Counted | undefined): void {
  const { flags } = file;
  if ((flags & EVENT_FILE_FL_TRIGGER_COND) === 0) {
    if ((flags & EVENT_FILE_FL_TRIGGER_MODE) !== 0) runTriggers(file, undefined);
    if ((file.flags & EVENT_FILE_FL_SOFT_DISABLED) !== 0) return;
  }
  if (ignoredByPid(file, entryPid(record.data))) return;
  let post: EventTrigger[] = [];
  const { snapshots } = file.tr;
  const conditional = (flags & EVENT_FILE_FL_TRIGGER_COND) !== 0;
  const early = conditional && reservesFirst(file);
  if (early) toBuffer(file, record, false);
  if (conditional) post = runTriggers(file, record, counted);
  const discard =
    (file.flags & EVENT_FILE_FL_SOFT_DISABLED) !== 0 ||
    (file.filter !== undefined && !file.filter.match(record));
  if (!early && !discard) toBuffer(file, record, file.tr.snapshots !== snapshots);
  for (const trigger of post) trigger.trigger(record, file);
}

/**
 * Whether the record has its place in the buffer before triggers run, as it has in the kernel: a snapshot then holds it, and what a
 * trigger records comes behind it. Not where a filter, or a trigger that switches the event itself, may yet discard it.
 */
function reservesFirst(file: TraceEventFile): boolean {
  if ((file.flags & EVENT_FILE_FL_SOFT_DISABLED) !== 0 || file.filter !== undefined) return false;
  return !file.triggers.some(({ target }) => target === file);
}

function toBuffer({ tr }: TraceEventFile, record: TraceRecord, snapshot: boolean): void {
  if (!recordToBuffer(tr, record, snapshot)) return;
  if (tr.options.has('stacktrace')) recordStack(tr, record);
  if (tr.options.has('userstacktrace')) recordUserStack(tr, record);
}

/** event_triggers_call(): runs what can run now, answers with those to run behind the commit. */
export function runTriggers(
  file: TraceEventFile,
  record: TraceRecord | undefined,
  counted?: Counted,
): EventTrigger[] {
  const post: EventTrigger[] = [];
  for (const trigger of [...file.triggers]) {
    if (trigger.paused || counted?.has(trigger)) continue;
    if (record === undefined) {
      trigger.trigger(undefined, file);
      continue;
    }
    if (trigger.filter !== undefined && !trigger.filter.match(record)) continue;
    if (trigger.post) post.push(trigger);
    else trigger.trigger(record, file);
  }
  return post;
}

/** trace_event_ignore_this_pid() */
function ignoredByPid(file: TraceEventFile, pid: number): boolean {
  const { pids, notracePids } = file.tr;
  return (pids !== undefined && !pids.has(pid)) || (notracePids?.has(pid) ?? false);
}

/** update_cond_flag() (kernel/trace/trace_events_trigger.c): call it after `file.triggers` has changed. */
export function updateTriggerFlags(file: TraceEventFile): void {
  const needsRecord = file.triggers.some(
    (trigger) => trigger.filter !== undefined || trigger.post || trigger.needsRecord,
  );
  if (needsRecord) file.flags |= EVENT_FILE_FL_TRIGGER_COND;
  else file.flags &= ~EVENT_FILE_FL_TRIGGER_COND;
  file.call.consumersChanged();
}
