/** `-F EVENTS: EXPRESSION`: event filters (src/kernel/trace/filter) on a file's events. */
import { checkArgument, stringOf } from '../../arguments.ts';
import { TraplineError } from '../../errors.ts';
import { KernelError } from '../../kernel/errno.ts';
import { createEventFilter } from '../../kernel/trace/filter/event-filter.ts';
import { RingBuffer } from '../../kernel/trace/ring-buffer/ring-buffer.ts';
import { TraceEventCall } from '../../kernel/trace/trace-event.ts';
import type { EventFilter } from '../../kernel/trace/trace-event-file.ts';
import { Tracing } from '../../kernel/trace/tracing.ts';
import type { TraceEvent, TraceEvents } from '../events.ts';
import { aTraceEvents } from '../events.ts';
import type { FileEvent } from '../trace-dat/event-format.ts';

/** A file as a system whose records are looked at: CPUs, symbols, and the task of the event in hand. */
class FileTracing {
  readonly tracing: Tracing;
  task = { pid: 0, tgid: 0, comm: '', cpu: 0 };

  constructor({ dat, symbols }: TraceEvents) {
    this.tracing = new Tracing({
      arch: {
        ncpu: Math.max(1, dat.cpus),
        now: () => 0n,
        current: () => this.task,
        lookupSymbol: (name) =>
          [...symbols]
            .filter((one) => one.name === name)
            .map((one) => ({ ...one, size: 1, module: undefined })),
        lookupAddress: (address) => {
          const found = symbols.find(address);
          if (found === undefined) return undefined;
          return { ...found, size: Number(symbols.sizeAt(found.address)), module: undefined };
        },
        hasModule: () => false,
        functions: () => [],
        armProbe: () => {
          throw new KernelError('EOPNOTSUPP', 'a file has nothing to probe');
        },
      },
      createBuffer: (_ncpu, sizeKb, now) => new RingBuffer(1, sizeKb, now),
      bufferSizeKb: 1,
    });
  }
}

/**
 * Whether an event is to be shown. `text` is `EVENTS: EXPRESSION`, or EVENTS alone: regular expressions, separated by commas, of events,
 * systems, or `SYSTEM/EVENT`. An event without the field that is asked for is not. Throws a TraplineError EINVAL with the
 * place where no event's filter can be made of the expression, ENOENT where no event has such a name.
 */
export function eventFilter(events: TraceEvents, text: string): (event: TraceEvent) => boolean {
  checkArgument('eventFilter()', 'events', events, aTraceEvents);
  checkArgument('eventFilter()', 'text', text, stringOf('a string: a filter, EVENT:EXPRESSION'));
  const colon = text.indexOf(':');
  const names = (colon < 0 ? text : text.slice(0, colon)).trim();
  const expression = colon < 0 ? '' : text.slice(colon + 1).trim();
  const wanted = [...events.events.values()].filter((event) => named(names, event));
  if (wanted.length === 0) throw new TraplineError('ENOENT', `-F ${text}: the file has no such event`);
  if (expression === '') {
    const ids = new Set(wanted.map(({ id }) => id));
    return ({ event }) => event !== undefined && ids.has(event.id);
  }
  const file = new FileTracing(events);
  const filters = new Map<number, EventFilter>();
  let refusal: KernelError | undefined;
  for (const event of wanted) {
    try {
      filters.set(event.id, createEventFilter(file.tracing.globalTrace, signedCall(event), expression));
    } catch (error) {
      if (!(error instanceof KernelError)) throw error;
      refusal ??= error;
    }
  }
  if (filters.size === 0) throw explained(file.tracing, expression, refusal as KernelError);
  return (event) => {
    const filter = event.event === undefined ? undefined : filters.get(event.event.id);
    if (filter === undefined) return false;
    const { pid, comm, cpu, ts, data } = event;
    file.task = { pid, tgid: pid, comm, cpu };
    return filter.match({ cpu, ts, data });
  };
}

function named(names: string, { system, name }: FileEvent): boolean {
  return names.split(',').some((one) => {
    const [first = '', second] = one.trim().split('/');
    if (second !== undefined) return matches(first, system) && matches(second, name);
    return matches(first, system) || matches(first, name);
  });
}

function matches(pattern: string, text: string): boolean {
  try {
    return new RegExp(`^(?:${pattern})$`).test(text);
  } catch (error) {
    throw new TraplineError('EINVAL', `-F ${pattern}: ${(error as Error).message}`);
  }
}

function signedCall({ system, name, id, fields }: FileEvent): TraceEventCall {
  const own = fields.filter(({ common }) => !common);
  const call = new TraceEventCall({ class: { system }, name, fields: own, printFmt: '' });
  call.id = id;
  return call;
}

function explained(tracing: Tracing, expression: string, refusal: KernelError): TraplineError {
  const log = tracing.globalTrace.errorLog.show();
  const entry = /: error: ([^\n]*)\n {2}Command: [^\n]*\n( *)\^\n/.exec(log);
  const column = Math.max(1, (entry?.[2]?.length ?? 0) - '  Command: '.length + 1);
  return new TraplineError('EINVAL', entry?.[1] ?? refusal.message, {
    cause: refusal,
    position: { file: '-F', line: 1, column, length: 1, sourceLine: expression },
  });
}
