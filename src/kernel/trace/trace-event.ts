import { checkArgument, having } from '../../arguments.ts';
import type { TraceArray } from './trace-array.ts';
import type { TraceRecord } from './trace-entry.ts';
import type { TraceEventFile } from './trace-event-file.ts';
import { COMMON_FIELDS, formatField, type TraceField } from './trace-field.ts';
import type { Tracing } from './tracing.ts';

/** TRACE_EVENT_FL_* (include/linux/trace_events.h). */
export const TRACE_EVENT_FL_CAP_ANY = 1 << 1;
export const TRACE_EVENT_FL_NO_SET_FILTER = 1 << 2;
export const TRACE_EVENT_FL_IGNORE_ENABLE = 1 << 3;
export const TRACE_EVENT_FL_TRACEPOINT = 1 << 4;
export const TRACE_EVENT_FL_DYNAMIC = 1 << 5;
export const TRACE_EVENT_FL_KPROBE = 1 << 6;
export const TRACE_EVENT_FL_FPROBE = 1 << 9;
export const TRACE_EVENT_FL_EPROBE = 1 << 8;

/** What several events of one kind share (`struct trace_event_class`). */
export interface TraceEventClass {
  /** The group: the folder below `events/`. */
  readonly system: string;
  /**
   * Starts or stops the source (`reg` with TRACE_REG_REGISTER and TRACE_REG_UNREGISTER): called when the first file
   * that needs the event is enabled, and when the last one is disabled. Refuses with a KernelError. `file` is the one that is
   * enabled or disabled, where it is a file.
   */
  reg?(call: TraceEventCall, register: boolean, file?: TraceEventFile): void;
}

export interface TraceEventCallOptions {
  readonly class: TraceEventClass;
  readonly name: string;
  /** The event's own fields, in the order of their offsets; the common ones are not among them. */
  readonly fields: readonly TraceField[];
  /** `print fmt` of the format file: C syntax, `"text %d", REC->field`. */
  readonly printFmt: string;
  readonly flags?: number;
  /** The module it belongs to: a package or file, for `:mod:`. */
  readonly module?: string;
  /**
   * The text behind `name: ` in the trace file; `tr` is the instance that is read, for its options (symbols.ts has ipText()).
   * Without it the print fmt is evaluated. A byte string (byte-string.ts).
   */
  readonly print?: (record: TraceRecord, tracing: Tracing, tr: TraceArray) => string;
  /** Who defined it (a TraceKprobe, a SynthEvent ...). */
  readonly data?: unknown;
}

/** A named event with typed fields (`struct trace_event_call`). Registered with `Tracing.events`. */
export class TraceEventCall {
  readonly class: TraceEventClass;
  readonly name: string;
  readonly fields: readonly TraceField[];
  readonly printFmt: string;
  readonly flags: number;
  readonly module: string | undefined;
  readonly print: ((record: TraceRecord, tracing: Tracing, tr: TraceArray) => string) | undefined;
  readonly data: unknown;
  /** `event.type`: the number in its records; 0 before it is registered. */
  id = 0;
  /** Who else refers to a dynamic event, a trigger say: it cannot be removed (`refcnt`). */
  refs = 0;
  /** One file an instance. */
  readonly files: TraceEventFile[] = [];
  /** Called when what is done with its records may have changed: the source may filter and count by itself (hit-plan.ts). */
  readonly watchers = new Set<() => void>();
  /** Users of the source: enabled files, perf events, programs. `class.reg` is called at the first and after the last. */
  #users = 0;
  #telling = false;

  constructor(options: TraceEventCallOptions) {
    checkArgument(
      'new TraceEventCall()',
      'options',
      options,
      having('an event: { class, name, fields, printFmt }', 'class', 'name', 'fields', 'printFmt'),
    );
    this.class = options.class;
    this.name = options.name;
    this.fields = options.fields;
    this.printFmt = options.printFmt;
    this.flags = options.flags ?? 0;
    this.module = options.module;
    this.print = options.print;
    this.data = options.data;
  }

  get system(): string {
    return this.class.system;
  }

  get users(): number {
    return this.#users;
  }

  /** trace_find_event_field(): an own field, or a common one. */
  field(name: string): TraceField | undefined {
    return (
      this.fields.find((field) => field.name === name) ?? COMMON_FIELDS.find((field) => field.name === name)
    );
  }

  get(file?: TraceEventFile): void {
    if (this.#users === 0) this.class.reg?.(this, true, file);
    this.#users++;
  }

  put(file?: TraceEventFile): void {
    if (this.#users === 0) return;
    this.#users--;
    if (this.#users === 0) this.class.reg?.(this, false, file);
  }

  /** A filter, a trigger or a flag of one of its files is another now. */
  consumersChanged(): void {
    // Events may be made of each other's records.
    if (this.#telling) return;
    this.#telling = true;
    for (const watcher of this.watchers) watcher();
    this.#telling = false;
  }

  /** The `format` file. */
  format(): string {
    const lines = [`name: ${this.name}`, `ID: ${this.id}`, 'format:', ...COMMON_FIELDS.map(formatField), ''];
    lines.push(...this.fields.map(formatField), '', `print fmt: ${this.printFmt}`, '');
    return lines.join('\n');
  }
}
