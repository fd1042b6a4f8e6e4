import type { FilterStep } from './filter/predicate.ts';
import type { TraceArray } from './trace-array.ts';
import type { TraceRecord } from './trace-entry.ts';
import type { TraceEventCall } from './trace-event.ts';

/** EVENT_FILE_FL_* (include/linux/trace_events.h). */
export const EVENT_FILE_FL_ENABLED = 1 << 0;
export const EVENT_FILE_FL_RECORDED_CMD = 1 << 1;
export const EVENT_FILE_FL_RECORDED_TGID = 1 << 2;
export const EVENT_FILE_FL_FILTERED = 1 << 3;
export const EVENT_FILE_FL_NO_SET_FILTER = 1 << 4;
export const EVENT_FILE_FL_SOFT_MODE = 1 << 5;
export const EVENT_FILE_FL_SOFT_DISABLED = 1 << 6;
export const EVENT_FILE_FL_TRIGGER_MODE = 1 << 7;
export const EVENT_FILE_FL_TRIGGER_COND = 1 << 8;
export const EVENT_FILE_FL_PID_FILTER = 1 << 9;
export const EVENT_FILE_FL_WAS_ENABLED = 1 << 10;

/** A filter that is in force (`struct event_filter`). */
export interface EventFilter {
  /** What the `filter` file shows. */
  readonly text: string;
  /** Whether a record passes (filter_match_preds()). */
  match(record: TraceRecord): boolean;
  /** The same as a program, for sources that can run it. */
  readonly steps?: readonly FilterStep[];
}

/** A trigger on an event's file (`struct event_trigger_data`). */
export interface EventTrigger {
  /** `traceoff`, `hist`, ... */
  readonly name: string;
  readonly filter: EventFilter | undefined;
  /** Has to see the record, so it cannot run when the event is soft disabled without one being made (EVENT_CMD_FL_NEEDS_REC). */
  readonly needsRecord: boolean;
  /** Runs after the record is in the buffer (EVENT_CMD_FL_POST_TRIGGER): stacktrace. */
  readonly post: boolean;
  readonly paused?: boolean;
  /** It looks at the stack of the hit. */
  readonly wantsStack?: boolean;
  /** Events that it makes records of, with the stack of the hit: who wants theirs wants that one. */
  readonly feeds?: readonly TraceEventCall[];
  /** The event that it switches. */
  readonly target?: TraceEventFile;
  trigger(record: TraceRecord | undefined, file: TraceEventFile): void;
  /** Its line in the `trigger` file, without the newline. */
  print(): string;
}

/** An event in one instance (`struct trace_event_file`). */
export class TraceEventFile {
  readonly call: TraceEventCall;
  readonly tr: TraceArray;
  flags = 0;
  filter: EventFilter | undefined;
  /** In the order in which they run (the kernel's list). */
  readonly triggers: EventTrigger[] = [];
  /** Soft-mode references: triggers of other events that may enable this one. */
  smRef = 0;
  /** Trigger-mode references: triggers on this event. */
  tmRef = 0;

  constructor(call: TraceEventCall, tr: TraceArray) {
    this.call = call;
    this.tr = tr;
  }

  get enabled(): boolean {
    return (this.flags & EVENT_FILE_FL_ENABLED) !== 0 && (this.flags & EVENT_FILE_FL_SOFT_DISABLED) === 0;
  }

  /** What the `enable` file shows (event_enable_read()). */
  showEnable(): string {
    const on = this.enabled ? '1' : '0';
    return (this.flags & (EVENT_FILE_FL_SOFT_MODE | EVENT_FILE_FL_SOFT_DISABLED)) !== 0
      ? `${on}*\n`
      : `${on}\n`;
  }

  /**
   * __ftrace_event_enable_disable(): 1 enables, 0 disables; with `soft`, on behalf of a trigger. A refusal of the source
   * leaves everything as it was.
   */
  enable(on: boolean, soft = false): void {
    try {
      this.#enable(on, soft);
    } finally {
      this.call.consumersChanged();
    }
  }

  /** For good: the source stops, whoever wants the event. What triggers hold stays readable. */
  stop(): void {
    if ((this.flags & EVENT_FILE_FL_ENABLED) === 0) return;
    this.flags &= ~EVENT_FILE_FL_ENABLED;
    this.call.put(this);
  }

  #enable(on: boolean, soft: boolean): void {
    if (on) {
      if (soft) {
        if (this.smRef++ > 0) return;
        this.flags |= EVENT_FILE_FL_SOFT_MODE;
      } else {
        this.flags &= ~EVENT_FILE_FL_SOFT_DISABLED;
      }
      if ((this.flags & EVENT_FILE_FL_ENABLED) !== 0) return;
      // Soft mode comes with the source running and no record being made.
      if (soft) this.flags |= EVENT_FILE_FL_SOFT_DISABLED;
      try {
        this.call.get(this);
      } catch (error) {
        if (soft) {
          this.smRef--;
          this.flags &= ~(EVENT_FILE_FL_SOFT_MODE | EVENT_FILE_FL_SOFT_DISABLED);
        }
        throw error;
      }
      this.flags |= EVENT_FILE_FL_ENABLED | EVENT_FILE_FL_WAS_ENABLED;
      return;
    }
    let disable = true;
    if (soft) {
      if (this.smRef === 0 || --this.smRef > 0) return;
      disable = (this.flags & EVENT_FILE_FL_SOFT_DISABLED) !== 0;
      this.flags &= ~EVENT_FILE_FL_SOFT_MODE;
    } else {
      disable = (this.flags & EVENT_FILE_FL_SOFT_MODE) === 0;
    }
    if (disable && (this.flags & EVENT_FILE_FL_ENABLED) !== 0) {
      this.flags &= ~EVENT_FILE_FL_ENABLED;
      this.call.put(this);
    }
    if ((this.flags & EVENT_FILE_FL_SOFT_MODE) !== 0) this.flags |= EVENT_FILE_FL_SOFT_DISABLED;
    else this.flags &= ~EVENT_FILE_FL_SOFT_DISABLED;
  }
}
