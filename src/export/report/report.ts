/** `trace-cmd report`: a file's events as lines. */
import { aBoolean, aFunction, checkArgument, having, optional, someOptions } from '../../arguments.ts';
import type { TraceEvent, TraceEvents } from '../events.ts';
import { aTraceEvents } from '../events.ts';
import { eventText, rawFields } from './text.ts';

const REPORT_OPTIONS = someOptions<ReportOptions>({
  latency: optional(aBoolean),
  nanoseconds: optional(aBoolean),
  raw: optional(aBoolean),
  tsDiff: optional(aBoolean),
  cpus: optional(having('a Set of CPUs', 'has')),
  filter: optional(aFunction),
});

export interface ReportOptions {
  /** `-l`: the columns for interrupts and preemption. */
  readonly latency?: boolean;
  /** `-t`: all nine places of a time. */
  readonly nanoseconds?: boolean;
  /** `-R`: fields in the place of the print format. */
  readonly raw?: boolean;
  /** `--ts-diff`: the distance to the line before. */
  readonly tsDiff?: boolean;
  /** Of these CPUs only. */
  readonly cpus?: ReadonlySet<number>;
  /** What to show; everything, when it is not given. */
  readonly filter?: (event: TraceEvent) => boolean;
}

/** The lines of a report, without newlines. Texts are byte strings. */
export function* reportLines(events: TraceEvents, options: ReportOptions = {}): IterableIterator<string> {
  checkArgument('reportLines()', 'events', events, aTraceEvents);
  checkArgument('reportLines()', 'options', options, REPORT_OPTIONS);
  const { dat } = events;
  yield `cpus=${dat.cpus}`;
  const text = dat.buffers.find((buffer) => buffer.text !== undefined)?.text;
  if (text !== undefined) {
    yield* text.replace(/\n$/, '').split('\n');
    return;
  }
  const widest = Math.max(...dat.buffers.map(({ name }) => name.length));
  const instances = dat.buffers.some(({ name }) => name !== '');
  const line = new EventLines(events, options);
  for (const event of events) {
    if (options.cpus !== undefined && !options.cpus.has(event.cpu)) continue;
    if (options.filter !== undefined && !options.filter(event)) continue;
    const { name } = event.buffer;
    const prefix = instances ? name.padStart(widest) + (name === '' ? '  ' : ': ') : '';
    if (event.lost !== 0)
      yield `${prefix}CPU:${event.cpu} [${event.lost > 0 ? `${event.lost} ` : ''}EVENTS DROPPED]`;
    yield (event.lost === 0 ? prefix : '') + line.of(event);
  }
}

/** trace_show_data() of trace-cmd: one line after the other, as each may show the distance to the last. */
class EventLines {
  readonly #events: TraceEvents;
  readonly #options: ReportOptions;
  readonly #inNs: boolean;
  #last: bigint | undefined;

  constructor(events: TraceEvents, options: ReportOptions) {
    this.#events = events;
    this.#options = options;
    this.#inNs = events.clockInNs;
  }

  of(record: TraceEvent): string {
    const { raw, latency, tsDiff } = this.#options;
    const { event, comm, pid, cpu, data } = record;
    const unknown = '[UNKNOWN EVENT]';
    let line = unknown;
    if (event !== undefined) {
      line = latency
        ? `${comm.slice(0, 8).padStart(8)}-${String(pid).padEnd(5)} ${String(cpu).padStart(3)}`
        : `${comm.padStart(16)}-${String(pid).padEnd(5)} [${String(cpu).padStart(3, '0')}]`;
    }
    if (latency) line += event === undefined ? unknown : latencyFlags(data);
    line += event === undefined ? unknown : this.#time(record.ts);
    if (tsDiff === true) line += ` ${this.#distance(record.ts).padEnd(8)}`;
    const name = event?.name ?? '(NULL)';
    line += ` ${name}: ${' '.repeat(Math.max(0, 20 - name.length))}`;
    line +=
      raw === true && event !== undefined ? rawFields(this.#events, record) : eventText(this.#events, record);
    return line.endsWith('\n') ? line.slice(0, -1) : line;
  }

  #time(ts: bigint): string {
    if (!this.#inNs) return `${String(ts).padStart(12)}:`;
    const places = this.#options.nanoseconds === true ? 9 : 6;
    const value = places === 9 ? ts : (ts + 500n) / 1000n;
    const unit = 10n ** BigInt(places);
    return ` ${String(value / unit).padStart(5)}.${String(value % unit).padStart(places, '0')}:`;
  }

  #distance(ts: bigint): string {
    const value = this.#inNs && this.#options.nanoseconds !== true ? (ts + 500n) / 1000n : ts;
    const text = this.#last === undefined ? '' : `(+${value - this.#last})`;
    this.#last = value;
    return text;
  }
}

const IRQS_OFF = 0x01;
const IRQS_NOSUPPORT = 0x02;
const NEED_RESCHED = 0x04;
const HARDIRQ = 0x08;
const SOFTIRQ = 0x10;

/** data_latency_format() of libtraceevent. */
function latencyFlags(data: Uint8Array): string {
  const flags = data[2] as number;
  const count = data[3] as number;
  const has = (flag: number): boolean => (flags & flag) !== 0;
  const irqs = has(IRQS_OFF) ? 'd' : has(IRQS_NOSUPPORT) ? 'X' : '.';
  const context = has(HARDIRQ) ? (has(SOFTIRQ) ? 'H' : 'h') : has(SOFTIRQ) ? 's' : '.';
  const digit = (value: number): string => (value === 0 ? '.' : value.toString(16));
  return irqs + (has(NEED_RESCHED) ? 'N' : '.') + context + digit(count & 0xf) + digit(count >> 4);
}
