import type { TraceRecord } from '../trace-entry.ts';
import type { EventFilter, EventTrigger, TraceEventFile } from '../trace-event-file.ts';

/** ETT_*: an event has one trigger of a type at most (of hists and of those that name other events, one of a kind). */
export type TriggerType =
  | 'trace_onoff'
  | 'snapshot'
  | 'stacktrace'
  | 'event_enable'
  | 'event_hist'
  | 'hist_enable';

/** Fires without end. */
export const UNLIMITED = -1n;

/** What all triggers have (`struct event_trigger_data`). */
export abstract class TriggerData implements EventTrigger {
  abstract readonly name: string;
  abstract readonly type: TriggerType;
  abstract readonly needsRecord: boolean;
  abstract readonly post: boolean;
  filter: EventFilter | undefined;
  /** The text behind `if`, as it was written. */
  filterText: string | undefined;
  paused = false;
  /** A `:count` was given, even one that stands for no limit. */
  counted = false;
  count = UNLIMITED;

  trigger(record: TraceRecord | undefined, file: TraceEventFile): void {
    if (this.counted && !this.takeCount()) return;
    this.fire(record, file);
  }

  protected abstract fire(record: TraceRecord | undefined, file: TraceEventFile): void;
  abstract print(): string;
  /** Gives back what the trigger holds, after it was taken from its event. */
  release(): void {}

  /** event_trigger_count(): whether it may fire once more; false leaves the count as it is. */
  protected takeCount(): boolean {
    if (this.count === 0n) return false;
    if (this.count !== UNLIMITED) this.count--;
    return true;
  }

  /** event_trigger_print() */
  protected printAs(name: string): string {
    const count = this.count === UNLIMITED ? 'unlimited' : `count=${this.count}`;
    return `${name}:${count}${this.filterText === undefined ? '' : ` if ${this.filterText}`}`;
  }
}
